// Servers runs a command beside private, throw-away SQL and Redis servers, where the machine has the programs:
//
//	go run ./local/servers [--require] [--durable] -- COMMAND [ARGUMENT…]
//
// It looks for redis-server and for mariadbd or mysqld on PATH, in /usr/sbin and in /usr/local/sbin, starts them in a
// temporary directory on free loopback ports, and tells the command where with TEST_MYSQL_URL and TEST_REDIS_URL; a variable
// that is set already is left as it is. The SQL server takes plain and TLS connections, and TEST_MYSQL_CA is the file of the
// CA that vouches for it. Servers ends with the command's exit code, and its last line says which backends the command could
// use. With --require a missing server is a failure, and the command finds TEST_SERVERS=required. With --durable the SQL server
// writes every commit to disk, as in production; without it tests are faster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"liveops/local/server"
)

func main() {
	runtime.LockOSThread() // the servers die with the thread that started them
	os.Exit(machine{dirs: server.Path(), env: os.Environ(), stdout: os.Stdout, stderr: os.Stderr}.run(os.Args[1:]))
}

// machine is what a run finds around it.
type machine struct {
	dirs           []string // where programs are looked for
	env            []string
	stdout, stderr io.Writer
}

// run gives the exit code: the command's own, 128 + n when signal n ended it, 127 when it could not be started, 2 for a
// wrong command line and 1 when a required server is missing.
func (m machine) run(args []string) int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	flags := flag.NewFlagSet("servers", flag.ContinueOnError)
	flags.SetOutput(m.stderr)
	require := flags.Bool("require", false, "fail when a server is missing")
	durable := flags.Bool("durable", false, "write every commit to disk")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() == 0 {
		m.complain("which command? usage: servers [--require] [--durable] -- COMMAND [ARGUMENT…]")
		return 2
	}
	dir, err := os.MkdirTemp("", "liveops-servers-")
	if err != nil {
		m.complain(err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is in the temporary directory

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	early := make(chan os.Signal, 1)
	started := make(chan struct{})
	go func() { // until the command runs, a signal means to stop
		defer close(early)
		select {
		case s := <-signals:
			early <- s
			cancel()
		case <-started:
		}
	}()
	covered, missing := []string{"sqlite", "miniredis"}, []string{}
	env, programs := m.env, server.Programs{Dirs: m.dirs, Durable: *durable}
	for _, kind := range []struct {
		variable string
		start    func(ctx context.Context, dir string) (*server.Server, error)
	}{
		{"TEST_MYSQL_URL", programs.SQL},
		{"TEST_REDIS_URL", programs.Redis},
	} {
		if given(env, kind.variable) {
			covered = append(covered, kind.variable+" as given")
			continue
		}
		s, err := kind.start(ctx, dir)
		if err != nil {
			missing = append(missing, err.Error())
			continue
		}
		defer s.Kill() // nothing it holds is of any use
		covered = append(covered, s.Version)
		env = append(env, kind.variable+"="+s.URL)
		if s.CA != "" {
			env = append(env, "TEST_MYSQL_CA="+s.CA)
		}
	}
	if *require {
		env = append(env, "TEST_SERVERS=required")
	}
	close(started)
	summary := "backends covered: " + strings.Join(covered, ", ")
	if len(missing) > 0 {
		summary += " (" + strings.Join(missing, "; ") + ")"
	}
	if s, ok := <-early; ok {
		return 128 + int(s.(syscall.Signal))
	}
	if *require && len(missing) > 0 {
		m.complain("required, and missing:", strings.Join(missing, "; "))
		return 1
	}
	code := m.command(flags.Args(), env, signals)
	_, _ = fmt.Fprintln(m.stdout, summary)
	return code
}

// command runs the command to its end, passing signals on.
func (m machine) command(args, env []string, signals <-chan os.Signal) int {
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // running it is the purpose; it ends by itself or by a signal
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, m.stdout, m.stderr
	if err := cmd.Start(); err != nil {
		m.complain(err)
		return 127
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have ended just now
		case err := <-ended:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return 0
			case !errors.As(err, &exit):
				m.complain(err)
				return 1
			}
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return 128 + int(status.Signal())
			}
			return exit.ExitCode()
		}
	}
}

func (m machine) complain(about ...any) {
	_, _ = fmt.Fprintln(m.stderr, append([]any{"servers:"}, about...)...)
}

func given(env []string, variable string) bool {
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, variable+"="); ok && value != "" {
			return true
		}
	}
	return false
}
