package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/local/server"
)

// TestMain makes the test binary itself the program when asked to, so that its process can be signalled and killed.
func TestMain(m *testing.M) {
	if dirs := os.Getenv("SERVERS_IN"); dirs != "" {
		runtime.LockOSThread()
		os.Exit(machine{dirs: filepath.SplitList(dirs), env: os.Environ(), stdout: os.Stdout, stderr: os.Stderr}.run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func bare(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	m := machine{dirs: []string{t.TempDir()}, env: []string{"PATH=" + os.Getenv("PATH")}, stdout: &out, stderr: &errs}
	code = m.run(args)
	return code, out.String(), errs.String()
}

const nothing = "backends covered: sqlite, miniredis (no mariadbd or mysqld on PATH; no redis-server on PATH)\n"

func TestTheCommandsExitCodeIsKept(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -KILL $$": 137} {
		code, stdout, stderr := bare(t, "--", "sh", "-c", script)
		require.Equal(t, want, code, script)
		require.Equal(t, nothing, stdout)
		require.Empty(t, stderr)
	}
}

func TestTheCommandsOutputComesFirst(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := bare(t, "sh", "-c", "echo out; echo err >&2; echo [$TEST_MYSQL_URL$TEST_REDIS_URL$TEST_SERVERS]")
	require.Zero(t, code)
	require.Equal(t, "out\n[]\n"+nothing, stdout)
	require.Equal(t, "err\n", stderr)
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	code, _, stderr := bare(t)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "which command?")
	code, _, stderr = bare(t, "--what", "--", "true")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "-what")
	code, _, stderr = bare(t, "--", "/no/such/program")
	require.Equal(t, 127, code)
	require.Contains(t, stderr, "/no/such/program")
}

func TestRequire(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := bare(t, "--require", "--", "echo", "ran")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Equal(t, "servers: required, and missing: no mariadbd or mysqld on PATH; no redis-server on PATH\n", stderr)
}

func TestServersThatAreGivenAreUsed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := machine{env: append(os.Environ(), "TEST_MYSQL_URL=mysql://db/", "TEST_REDIS_URL=redis://cache"), stdout: &out, stderr: io.Discard}
	require.Zero(t, m.run([]string{"--require", "--", "sh", "-c", "echo $TEST_MYSQL_URL $TEST_REDIS_URL $TEST_SERVERS"}))
	require.Equal(t, "mysql://db/ redis://cache required\nbackends covered: sqlite, miniredis, TEST_MYSQL_URL as given, TEST_REDIS_URL as given\n", out.String())
}

func TestAServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ls, err := exec.LookPath("ls") // it does not understand what it is told, says so and ends
	require.NoError(t, err)
	require.NoError(t, os.Symlink(ls, filepath.Join(dir, "redis-server")))
	var out bytes.Buffer
	m := machine{dirs: []string{dir}, env: []string{"PATH=" + os.Getenv("PATH")}, stdout: &out, stderr: io.Discard}
	require.Zero(t, m.run([]string{"--", "true"}))
	require.Contains(t, out.String(), "(no mariadbd or mysqld on PATH; redis ? does not start: ")
	require.Contains(t, out.String(), "--port")
}

// redis gives a directory with nothing but redis-server in it, so that no SQL server is started.
func redis(t *testing.T) string {
	t.Helper()
	program := server.Programs{Dirs: server.Path()}.Find("redis-server")
	if program == "" {
		t.Skip("no redis-server on PATH")
	}
	dir := t.TempDir()
	require.NoError(t, os.Symlink(program, filepath.Join(dir, "redis-server")))
	return dir
}

// started runs the program as a process of its own, until its command has printed $TEST_REDIS_URL.
func started(t *testing.T, script string) (cmd *exec.Cmd, address string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd = exec.CommandContext(t.Context(), self, "--", "sh", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(), "SERVERS_IN=" + redis(t)}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "redis://")
	require.True(t, ok, line)
	require.True(t, open(address))
	return cmd, address
}

func open(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestASignalReachesTheCommandAndServersEndAfterIt(t *testing.T) {
	t.Parallel()
	cmd, address := started(t, `trap 'kill $!; exit 9' TERM; echo $TEST_REDIS_URL; sleep 60 & wait`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	require.Equal(t, 9, cmd.ProcessState.ExitCode())
	require.False(t, open(address))
}

func TestServersDoNotOutliveAKilledRun(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process of its parent's death")
	}
	cmd, address := started(t, "echo $TEST_REDIS_URL; exec sleep 2")
	require.NoError(t, cmd.Process.Kill())
	require.Eventually(t, func() bool { return !open(address) }, 10*time.Second, 10*time.Millisecond)
}
