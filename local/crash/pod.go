package main

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pod is the Functions host with its handler, as the conductor sees them: one group of processes, started again whenever
// it ends, as by the kubelet.
type pod struct {
	name   string
	env    map[string]string // on top of this process's own
	log    *os.File
	starts atomic.Int64

	mu      sync.Mutex
	current *os.Process // nil between two lives
}

// run keeps the pod alive until ctx ends, and then ends it.
func (p *pod) run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		cmd := exec.Command(self) //nolint:gosec,noctx // this program; it ends with ctx, in peace
		cmd.Env = append(os.Environ(), envRole+"=pod", envName+"="+p.name)
		for name, value := range p.env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		cmd.Stdout, cmd.Stderr = p.log, p.log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		p.set(cmd.Process)
		p.starts.Add(1)
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
		_ = cmd.Wait() // its log says why
		stop()
		p.set(nil)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // a handler must not outlive its pod
		if ctx.Err() == nil {
			_ = pause(ctx, 100*time.Millisecond)
		}
	}
	return nil
}

func (p *pod) set(process *os.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = process
}

// kill ends the host and its handler at once. It says whether there was a pod.
func (p *pod) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current != nil && syscall.Kill(-p.current.Pid, syscall.SIGKILL) == nil
}
