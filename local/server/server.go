// Package server starts private servers for tests: of SQL, Redis, Prometheus and Alertmanager, out of the programs that the machine
// has. A server can be killed and started again where it was. It knows nothing of what is kept in them.
package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"liveops/core/store"
)

// patience is how long a server may take to answer.
const patience = 90 * time.Second

// Programs says where the servers' programs are looked for, and how they run.
type Programs struct {
	Dirs []string
	// Durable makes a commit outlive the death of the SQL server and of the machine. Otherwise what makes a database survive
	// a crash is left out, because it is only in the way of tests.
	Durable bool
}

// Path is the directories of PATH and those where servers are installed beside it.
func Path() []string {
	return append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin")
}

// Find gives the first of the programs that is in one of the directories, "" when none is.
func (p Programs) Find(names ...string) string {
	for _, name := range names {
		for _, dir := range p.Dirs {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path
			}
		}
	}
	return ""
}

// Server is a running server. It ends with this process, however that ends, where the system can see to it. Its methods
// must not be called at the same time.
type Server struct {
	Version string // such as redis 7.0
	URL     string // the same for all its lives
	CA      string // the file of the CA that vouches for it; empty: nobody does

	command func() *exec.Cmd // its next life
	ready   func(ctx context.Context) error
	log     string
	process *os.Process
	ended   chan struct{}
}

// Kill ends the server at once, in the middle of anything.
func (s *Server) Kill() {
	_ = s.process.Kill() // it may have ended already
	<-s.ended
}

// Stop asks the server to end and waits until it has; when ctx ends first, it is killed.
func (s *Server) Stop(ctx context.Context) {
	_ = s.process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.Kill()
	}
}

// Start starts a server that ended once more, on the same port, and waits until it answers: an SQL server with the data
// it had, a Redis with none.
func (s *Server) Start(ctx context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the server has its own handle
	cmd := s.command()
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", s.Version, err)
	}
	ended := make(chan struct{})
	s.process, s.ended = cmd.Process, ended
	go func() {
		_ = cmd.Wait() // its log says why
		close(ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-every.C:
			continue
		case <-s.ended:
		case <-ctx.Done():
			s.Kill()
		}
		said, _ := os.ReadFile(s.log)
		return fmt.Errorf("%s does not start: %w: %s", s.Version, err, tail(said))
	}
}

// Redis starts a redis-server that keeps nothing on disk, with its log in dir.
func (p Programs) Redis(ctx context.Context, dir string) (*Server, error) {
	program := p.Find("redis-server")
	if program == "" {
		return nil, errors.New("no redis-server on PATH")
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "redis")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	s := &Server{
		Version: "redis " + version(ctx, program, `v=(\d+\.\d+)`), URL: "redis://127.0.0.1:" + port, log: filepath.Join(data, "log"),
		command: func() *exec.Cmd {
			return exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--dir", data, //nolint:gosec,noctx // found above; ends by Kill or Stop
				"--save", "", "--appendonly", "no", "--databases", "10000")
		},
		ready: func(ctx context.Context) error { return ping(ctx, "127.0.0.1:"+port) },
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// ping asks a Redis whether it is there.
func ping(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only a question
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && answer != "+PONG\r\n" {
		err = fmt.Errorf("it answers %q", answer)
	}
	return err
}

// SQL starts a mariadbd or mysqld on a new data directory in dir, which it gives to the account that the server runs as.
// The user root needs no password.
func (p Programs) SQL(ctx context.Context, dir string) (*Server, error) {
	program := p.Find("mariadbd", "mysqld")
	if program == "" {
		return nil, errors.New("no mariadbd or mysqld on PATH")
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	banner := version(ctx, program, `(.*)`)
	s := &Server{URL: "mysql://root@127.0.0.1:" + port + "/", log: filepath.Join(dir, "sql.log")}
	data := filepath.Join(dir, "sql")
	u := unprivileged()
	if err := u.directories(dir, data, filepath.Join(data, "tmp")); err != nil {
		return nil, err
	}
	files, scratch := filepath.Join(data, "data"), filepath.Join(data, "tmp")

	var install *exec.Cmd
	if strings.Contains(banner, "MariaDB") {
		s.Version = "mariadb " + version(ctx, program, `Ver (\d+\.\d+)`)
		installer := p.Find("mariadb-install-db", "mysql_install_db")
		if installer == "" {
			return nil, errors.New("mariadbd without mariadb-install-db on PATH")
		}
		install = exec.CommandContext(ctx, installer, "--no-defaults", "--datadir="+files, "--tmpdir="+scratch, //nolint:gosec // found above
			"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	} else {
		s.Version = "mysql " + version(ctx, program, `Ver (\d+\.\d+)`)
		install = exec.CommandContext(ctx, program, "--no-defaults", "--initialize-insecure", "--datadir="+files, "--tmpdir="+scratch) //nolint:gosec // found above
		install.Args = append(install.Args, u.options...)
	}
	u.lend(install)
	install.Dir = data
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: make a data directory: %w: %s", s.Version, err, tail(out))
	}
	// MySQL makes root@localhost only, which is not 127.0.0.1 when names are not resolved.
	init := filepath.Join(data, "init.sql")
	grant := "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\nGRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
	if err := os.WriteFile(init, []byte(grant), 0o644); err != nil { //nolint:gosec // the server's user reads it
		return nil, err
	}
	proof, err := identify(data)
	if err != nil {
		return nil, err
	}
	s.CA = proof.ca
	arguments := slices.Concat([]string{
		"--no-defaults", "--datadir=" + files, "--tmpdir=" + scratch, "--socket=" + filepath.Join(data, "socket"),
		"--pid-file=" + filepath.Join(data, "pid"), "--port=" + port, "--bind-address=127.0.0.1", "--skip-name-resolve",
		"--init-file=" + init, "--max-connections=500", "--skip-log-bin", "--loose-mysqlx=OFF", "--performance-schema=OFF",
		"--ssl-ca=" + proof.ca, "--ssl-cert=" + proof.certificate, "--ssl-key=" + proof.key, "--innodb-buffer-pool-size=64M",
	}, p.durability(), u.options)
	s.command = func() *exec.Cmd {
		cmd := exec.Command(program, arguments...) //nolint:gosec,noctx // found above; ends by Kill or Stop
		u.lend(cmd)
		cmd.Dir = data
		return cmd
	}
	s.ready = func(ctx context.Context) error {
		db, err := store.Open(s.URL)
		if err != nil {
			return err
		}
		defer db.Close() //nolint:errcheck // only a question
		return db.Ping(ctx)
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// durability is the options that decide what a commit is worth. A server that is as in production has memory for a window of a
// million entries too.
func (p Programs) durability() []string {
	if p.Durable { // the servers' own defaults, spelled out
		return []string{"--innodb-flush-log-at-trx-commit=1", "--innodb-doublewrite=ON", "--innodb-buffer-pool-size=1G"}
	}
	return []string{
		"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--loose-sync-frm=OFF", "--skip-innodb-doublewrite",
	}
}

// version asks a program for its version and cuts out what the pattern says, or gives "?".
func version(ctx context.Context, program, pattern string) string {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if found := regexp.MustCompile(pattern).FindSubmatch(out); err == nil && found != nil {
		return string(found[1])
	}
	return "?"
}

// FreePort finds a port below those that the kernel gives to clients, so that nobody has it when a server comes back after
// a pause.
func FreePort() (string, error) {
	for {
		port := strconv.Itoa(12_000 + rand.IntN(20_000))
		listener, err := net.Listen("tcp", "127.0.0.1:"+port) //nolint:noctx // returns at once
		if err == nil {
			return port, listener.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", err
		}
	}
}

// tail is the end of what a program said, on one line.
func tail(text []byte) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-3):], []byte(" | ")))
}
