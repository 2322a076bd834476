package host_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/local/host"
)

// child is the handler of child-process tests: the test binary under another name.
func child(mode string) {
	switch mode {
	case "crash":
		fmt.Fprintln(os.Stderr, "one\ntwo\nthree\nfatal: no database")
		os.Exit(3)
	case "mute": // never listens
		select {}
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-term
		_ = os.WriteFile(os.Getenv("HOST_TEST_TERM"), []byte("signal"), 0o600)
	}()
	fmt.Println("listening")
	fmt.Fprintln(os.Stderr, "Warning: low on coffee")
	fmt.Fprint(os.Stderr, "something odd")
	fmt.Fprintln(os.Stderr)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	mux.HandleFunc("/api/exit/{code}", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		os.Exit(code)
	})
	mux.HandleFunc("/api/hang", func(_ http.ResponseWriter, r *http.Request) { select {} })
	mux.HandleFunc("/api/about", func(w http.ResponseWriter, _ *http.Request) {
		dir, _ := os.Getwd()
		_ = json.NewEncoder(w).Encode(map[string]any{
			"pid": os.Getpid(), "dir": dir, "args": os.Args[1:], "port": os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"),
			"legacy port": os.Getenv("FUNCTIONS_HTTPWORKER_PORT"), "id": os.Getenv("FUNCTIONS_CUSTOMHANDLER_WORKER_ID"),
			"legacy id": os.Getenv("FUNCTIONS_HTTPWORKER_ID"), "root": os.Getenv("FUNCTIONS_APP_ROOT_PATH"), "mode": os.Getenv("HOST_TEST_CHILD"),
		})
	})
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"), mux)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(4)
}

// spawn runs a host whose handler is the test binary in this mode.
func spawn(t *testing.T, mode, handler, rest string) (files map[string]string, options host.Options, dir, term string) {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	dir, err = filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Symlink(executable, filepath.Join(dir, "handler")))
	term = filepath.Join(dir, "terminated")
	files = map[string]string{
		"host.json": hostJSON(strings.Join(append([]string{proxied}, strings.Fields(handler)...), ","), rest),
		"exit":      httpFunction("exit/{code}"), "about": httpFunction("about"), "hang": httpFunction("hang"),
	}
	return files, host.Options{Handler: host.Command(dir, "HOST_TEST_CHILD="+mode, "HOST_TEST_TERM="+term), Drain: time.Second}, dir, term
}

type about struct {
	PID  int    `json:"pid"`
	Dir  string `json:"dir"`
	Args []string
	Port string `json:"port"`
	ID   string `json:"id"`
	Root string `json:"root"`
}

// about asks the child, again while the one before is on its way out: the kernel takes connections until it is gone.
func (r *rig) about() about {
	r.t.Helper()
	var got answer
	require.Eventually(r.t, func() bool {
		got = r.do("GET", "/api/about", nil)
		return got.status == 200
	}, patience, time.Millisecond, "%s", r.log)
	var a about
	require.NoError(r.t, json.Unmarshal([]byte(got.body), &a))
	return a
}

// Contract §2.1: the environment, the arguments with %VAR%, the working directory; §1.1: an unresolved %x% is removed; §2.3:
// stdout is Information, stderr Warning or Error; §2.2: any status is ready.
func TestChildIsStartedAsTheHostWould(t *testing.T) {
	t.Parallel()
	files, options, dir, _ := spawn(t, "serve", "", "")
	files["host.json"] = `{"version":"2.0","customHandler":{"enableProxyingHttpRequest":true,"description":{"defaultExecutablePath":"handler",
		"arguments":["serve","--port=%FUNCTIONS_CUSTOMHANDLER_PORT%","[%NOT_SET_ANYWHERE%]"],"defaultWorkerPath":"script","workerArguments":["last"]}}}`
	r := start(t, files, options)
	got := r.about()
	require.Equal(t, []string{"serve", "--port=" + got.Port, "[]", "script", "last"}, got.Args)
	require.Equal(t, dir, got.Dir)
	require.Equal(t, dir, got.Root)
	require.Len(t, got.ID, 36)
	require.Contains(t, r.do("GET", "/api/about", nil).body, fmt.Sprintf("%q:%q", "legacy port", got.Port))
	require.Contains(t, r.do("GET", "/api/about", nil).body, fmt.Sprintf("%q:%q", "legacy id", got.ID))
	const category = " category=Host.Function.Console"
	require.Contains(t, r.log.String(), "level=INFO msg=listening"+category)
	require.Contains(t, r.log.String(), `level=WARN msg="Warning: low on coffee"`+category)
	require.Contains(t, r.log.String(), `level=ERROR msg="something odd"`+category)
	require.NoError(t, r.stop())
	require.ErrorIs(t, syscall.Kill(got.PID, 0), syscall.ESRCH, "the child is gone")
}

// Contract §2.5: "SIGKILL … The host never sends SIGTERM to the handler", after at most 10 s (here 1 s) for what runs.
func TestChildIsKilledNeverTerminated(t *testing.T) {
	t.Parallel()
	files, options, _, term := spawn(t, "serve", "", "")
	r := start(t, files, options)
	pid := r.about().PID
	r.next()
	broken := make(chan error, 1)
	go func() {
		response, err := http.Get(r.url + "/api/hang")
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode >= 500 {
				err = fmt.Errorf("status %d", response.StatusCode)
			}
		}
		broken <- err
	}()
	require.Eventually(t, func() bool { return strings.Contains(r.log.String(), "listening") }, patience, time.Millisecond)
	began := time.Now()
	require.NoError(t, r.stop())
	require.Less(t, time.Since(began), 5*time.Second)
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "the child is gone")
	require.NoFileExists(t, term)
	require.Error(t, <-broken)
}

// Contract §2.4: 0 → nothing; later invocations fail with connection refused.
func TestExitZeroIsNotRestarted(t *testing.T) {
	t.Parallel()
	files, options, _, _ := spawn(t, "serve", "", "")
	r := start(t, files, options)
	r.do("GET", "/api/exit/0", nil)
	require.Error(t, r.next().Err)
	require.Eventually(t, func() bool { return strings.Contains(r.log.String(), "exited with 0") }, patience, time.Millisecond)
	began := time.Now()
	require.Equal(t, 502, r.do("GET", "/api/about", nil).status)
	require.ErrorIs(t, r.next().Err, syscall.ECONNREFUSED)
	// Contract §5.2: up to 10 attempts, 50, 100, 200, 250, 250 … ms: about 1.85 s in all.
	require.GreaterOrEqual(t, time.Since(began), 1800*time.Millisecond)
	require.Equal(t, 200, r.do("GET", "/", nil).status, "the host itself stays up")
	require.NoError(t, r.stop())
}

// Contract §2.4: 200 → intentional restart, not counted.
func TestExit200IsRestartedAndNotCounted(t *testing.T) {
	t.Parallel()
	files, options, _, _ := spawn(t, "serve", "", "")
	r := start(t, files, options)
	before := r.about()
	for range 4 {
		r.do("GET", "/api/exit/200", nil)
		now := r.about()
		require.NotEqual(t, before.PID, now.PID)
		require.NotEqual(t, before.ID, now.ID)
		before = now
	}
	require.NoError(t, r.stop())
}

// Contract §2.4: other → restart immediately; third error → the host stops.
func TestThirdCrashStopsTheHost(t *testing.T) {
	t.Parallel()
	files, options, _, _ := spawn(t, "serve", "", "")
	r := start(t, files, options)
	for range 2 {
		r.do("GET", "/api/exit/3", nil)
		r.about()
	}
	r.do("GET", "/api/exit/3", nil)
	select {
	case <-r.ended:
		require.ErrorContains(t, r.err, "exceeded http worker restart retry count")
		require.ErrorContains(t, r.err, "code 3")
	case <-time.After(patience):
		require.Fail(t, "the host runs on", r.log.String())
	}
}

// Contract §2.3: the last three stderr lines are attached to the exit exception.
func TestCrashAtStart(t *testing.T) {
	t.Parallel()
	files, options, _, _ := spawn(t, "crash", "", "")
	r := launch(t, files, options)
	<-r.ended
	require.ErrorContains(t, r.err, "two, three, fatal: no database")
	require.NotContains(t, r.err.Error(), "one,")
	require.Equal(t, 3, strings.Count(r.log.String(), `msg="handler failed"`))
}

// Contract §2.2: not ready within initializationTimeout → the worker-error path; §1.1: not there at all → the same.
func TestNeverReady(t *testing.T) {
	t.Parallel()
	files, options, _, _ := spawn(t, "mute", `"initializationTimeout":"00:00:00.1"`, "")
	r := launch(t, files, options)
	<-r.ended
	require.ErrorContains(t, r.err, "initializing HttpWorker timed out")

	files, _, dir, _ := spawn(t, "mute", "", "")
	require.NoError(t, os.Remove(filepath.Join(dir, "handler")))
	files["host.json"] = strings.Replace(files["host.json"], `"handler"`, `"no-such-handler-on-the-path"`, 1)
	r = launch(t, files, host.Options{Handler: host.Command(dir)})
	<-r.ended
	require.ErrorContains(t, r.err, "executable file not found")
}

// Contract §2.5: functionTimeout → the invocation fails and the host restarts the single handler process, which is not
// counted as an error.
func TestFunctionTimeoutKillsTheChild(t *testing.T) {
	t.Parallel()
	files, options, _, term := spawn(t, "serve", "", `"functionTimeout":"00:00:00.3"`)
	r := start(t, files, options)
	pid := r.about().PID
	r.next()
	for range 4 {
		require.Equal(t, 500, r.do("GET", "/api/hang", nil).status)
		require.ErrorIs(t, r.next().Err, host.ErrTimeout)
		now := r.about().PID
		r.next()
		require.NotEqual(t, pid, now)
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
		pid = now
	}
	require.NoFileExists(t, term)
	require.NoError(t, r.stop())
}
