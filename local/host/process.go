package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Handler is how the custom handler runs: InProcess or Command.
type Handler interface {
	// start begins one life with these settings of the host added to the environment.
	start(app *App, added map[string]string, log *slog.Logger) (*process, error)
}

// process is one life of a handler, however it runs.
type process struct {
	kill func()        // ends it at once, in the middle of anything; safe to repeat
	done chan struct{} // closed when it is over; code and why are set before
	code int
	why  error
}

// ExitCode is the error with which an in-process handler ends like a process with this code. Without one, nil is 0 and any
// other error 1.
type ExitCode int

// Error implements error.
func (c ExitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// InProcess runs the handler as a function of this program. It listens on 127.0.0.1 at the port that getenv gives for
// FUNCTIONS_CUSTOMHANDLER_PORT and serves until ctx ends. Where the host kills the process, ctx ends, requests under way
// are cut off, and after a second without its return the next life begins beside it.
func InProcess(run func(ctx context.Context, getenv func(string) string) error) Handler {
	return inProcess(run)
}

type inProcess func(ctx context.Context, getenv func(string) string) error

func (run inProcess) start(app *App, added map[string]string, _ *slog.Logger) (*process, error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{kill: cancel, done: make(chan struct{})}
	getenv := func(name string) string {
		if value, ok := added[name]; ok {
			return value
		}
		return app.getenv(name)
	}
	go func() {
		defer close(p.done)
		defer cancel()
		defer func() {
			if r := recover(); r != nil {
				p.code, p.why = 2, fmt.Errorf("panic: %v", r)
			}
		}()
		p.why = run(ctx, getenv)
		var code ExitCode
		switch {
		case errors.As(p.why, &code):
			p.code = int(code)
		case p.why != nil:
			p.code = 1
		}
	}()
	return p, nil
}

// Command runs the executable that host.json describes as a child process, as the host would. dir is the script root on
// disk. The child inherits the environment of this process, with env (NAME=value) added.
func Command(dir string, env ...string) Handler { return command{dir: dir, env: env} }

type command struct {
	dir string
	env []string
}

func (c command) start(app *App, added map[string]string, log *slog.Logger) (*process, error) {
	d := app.handler.Description
	environment := slices.Concat(os.Environ(), c.env)
	root, err := filepath.Abs(c.dir)
	if err != nil {
		return nil, err
	}
	added["FUNCTIONS_APP_ROOT_PATH"] = root
	for name, value := range added {
		environment = append(environment, name+"="+value)
	}
	getenv := func(name string) string {
		for _, pair := range slices.Backward(environment) {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		return ""
	}
	within := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(root, path)
	}
	executable := substitute(d.DefaultExecutablePath, getenv)
	if !filepath.IsAbs(executable) {
		beside := filepath.Join(within(d.WorkerDirectory), executable)
		if _, err := os.Stat(beside); err == nil {
			executable = beside
		}
	}
	arguments := slices.Clone(d.Arguments)
	if d.DefaultWorkerPath != "" {
		arguments = append(arguments, d.DefaultWorkerPath)
	}
	arguments = append(arguments, d.WorkerArguments...)
	for i := range arguments {
		arguments[i] = substitute(arguments[i], getenv)
	}

	child := exec.CommandContext(context.Background(), executable, arguments...) //nolint:gosec // host.json names it
	child.Dir = within(d.WorkingDirectory)
	child.Env = environment
	child.WaitDelay = time.Second // a grandchild may hold the pipes open
	errorsOnly := d.UseStdErrorStreamForErrorsOnly == nil || *d.UseStdErrorStreamForErrorsOnly
	console := log.With(slog.String("category", "Host.Function.Console"))
	var last tail
	stdout := &lines{each: func(line string) { console.Info(line) }}
	stderr := &lines{each: func(line string) {
		last.add(line)
		console.Log(context.Background(), stderrLevel(line, errorsOnly), line)
	}}
	child.Stdout, child.Stderr = stdout, stderr
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("start the handler: %w", err)
	}
	p := &process{kill: func() { _ = child.Process.Kill() }, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		err := child.Wait()
		stdout.flush()
		stderr.flush()
		p.code = child.ProcessState.ExitCode() // -1 when a signal ended it
		if err != nil {
			p.why = fmt.Errorf("%s exited with %w%s", filepath.Base(executable), err, last.text())
		}
	}()
	return p, nil
}

// stderrLevel is the level of a line on stderr (contract §2.3).
func stderrLevel(line string, errorsOnly bool) slog.Level {
	line = strings.ToLower(line)
	if strings.Contains(line, "warn") {
		return slog.LevelWarn
	}
	if errorsOnly {
		return slog.LevelError
	}
	for _, word := range []string{"error", "fail", "severe", "unhandled exception"} {
		if strings.Contains(line, word) {
			return slog.LevelError
		}
	}
	return slog.LevelInfo
}

// lines cuts what is written to it into lines.
type lines struct {
	each    func(string)
	pending []byte
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.pending = append(l.pending, p...)
	for {
		line, rest, found := bytes.Cut(l.pending, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.each(strings.TrimSuffix(string(line), "\r"))
		l.pending = rest
	}
}

func (l *lines) flush() {
	if len(l.pending) > 0 {
		l.each(string(l.pending))
		l.pending = nil
	}
}

// tail keeps the last three lines, which the host attaches to the reason of an exit.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	t.lines = t.lines[max(0, len(t.lines)-3):]
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return ": " + strings.Join(t.lines, ", ")
}
