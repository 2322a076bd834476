package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"liveops/core/store"
)

// patience is how long a server may take to answer.
const patience = 90 * time.Second

// server is one that was started here.
type server struct {
	version string // such as redis 7.0
	url     string
	ca      string // the file of the CA that vouches for it; empty: nobody does
	process *os.Process
	ended   chan struct{}
}

// stop kills the server: nothing it holds is of any use.
func (s *server) stop() {
	_ = s.process.Kill() // it may have ended already
	<-s.ended
}

// find gives the first of the programs that is in one of the machine's directories.
func (m machine) find(names ...string) string {
	for _, name := range names {
		for _, dir := range m.dirs {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path
			}
		}
	}
	return ""
}

func (m machine) startRedis(ctx context.Context, dir string) (*server, error) {
	program := m.find("redis-server")
	if program == "" {
		return nil, errors.New("no redis-server on PATH")
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "redis")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	s := &server{version: "redis " + version(ctx, program, `v=(\d+\.\d+)`), url: "redis://127.0.0.1:" + port}
	cmd := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--dir", data, //nolint:gosec,noctx // found above; stopped by stop
		"--save", "", "--appendonly", "no", "--databases", "10000")
	return s, s.start(ctx, cmd, filepath.Join(data, "log"), func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
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
	})
}

func (m machine) startSQL(ctx context.Context, dir string) (*server, error) {
	program := m.find("mariadbd", "mysqld")
	if program == "" {
		return nil, errors.New("no mariadbd or mysqld on PATH")
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	banner := version(ctx, program, `(.*)`)
	s := &server{url: "mysql://root@127.0.0.1:" + port + "/"}
	data := filepath.Join(dir, "sql")
	u := unprivileged()
	if err := u.directories(dir, data, filepath.Join(data, "tmp")); err != nil {
		return nil, err
	}
	log, files, scratch := filepath.Join(dir, "sql.log"), filepath.Join(data, "data"), filepath.Join(data, "tmp")

	var install *exec.Cmd
	if strings.Contains(banner, "MariaDB") {
		s.version = "mariadb " + version(ctx, program, `Ver (\d+\.\d+)`)
		installer := m.find("mariadb-install-db", "mysql_install_db")
		if installer == "" {
			return nil, errors.New("mariadbd without mariadb-install-db on PATH")
		}
		install = exec.CommandContext(ctx, installer, "--no-defaults", "--datadir="+files, "--tmpdir="+scratch, //nolint:gosec // found above
			"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	} else {
		s.version = "mysql " + version(ctx, program, `Ver (\d+\.\d+)`)
		install = exec.CommandContext(ctx, program, "--no-defaults", "--initialize-insecure", "--datadir="+files, "--tmpdir="+scratch) //nolint:gosec // found above
		install.Args = append(install.Args, u.options...)
	}
	u.lend(install)
	install.Dir = data
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: make a data directory: %w: %s", s.version, err, tail(out))
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
	s.ca = proof.ca
	cmd := exec.Command(program, append([]string{ //nolint:gosec,noctx // found above; stopped by stop
		"--no-defaults", "--datadir=" + files, "--tmpdir=" + scratch, "--socket=" + filepath.Join(data, "socket"),
		"--pid-file=" + filepath.Join(data, "pid"), "--port=" + port, "--bind-address=127.0.0.1", "--skip-name-resolve",
		"--init-file=" + init, "--max-connections=500", "--skip-log-bin", "--loose-mysqlx=OFF", "--performance-schema=OFF",
		"--ssl-ca=" + proof.ca, "--ssl-cert=" + proof.certificate, "--ssl-key=" + proof.key,
		// What makes a database survive a crash is only in the way here.
		"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--loose-sync-frm=OFF", "--skip-innodb-doublewrite",
		"--innodb-buffer-pool-size=64M",
	}, u.options...)...)
	u.lend(cmd)
	cmd.Dir = data
	db, err := store.Open(s.url)
	if err != nil {
		return nil, err
	}
	defer db.Close() //nolint:errcheck // only a question
	return s, s.start(ctx, cmd, log, db.Ping)
}

// start runs the server until it answers.
func (s *server) start(ctx context.Context, cmd *exec.Cmd, logFile string, ready func(context.Context) error) error {
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the server has its own handle
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", s.version, err)
	}
	s.process, s.ended = cmd.Process, make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says why
		close(s.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-every.C:
			continue
		case <-s.ended:
		case <-ctx.Done():
			s.stop()
		}
		said, _ := os.ReadFile(logFile)
		return fmt.Errorf("%s does not start: %w: %s", s.version, err, tail(said))
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

func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return "", err
	}
	defer listener.Close() //nolint:errcheck // nothing was accepted
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}

// tail is the end of what a program said, on one line.
func tail(text []byte) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-3):], []byte(" | ")))
}
