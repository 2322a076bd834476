package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asProgram makes the test's own binary run as the handler.
const asProgram = "HANDLER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is the handler with these settings and no other.
func program(t *testing.T, settings ...string) (command *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	command = exec.CommandContext(t.Context(), self)
	command.Env = append(settings, asProgram+"=1")
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	command.Stdout, command.Stderr = stdout, stderr
	return command, stdout, stderr
}

func TestExitsWithWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arguments []string
		settings  []string
		want      []string
	}{
		"no port":         {nil, nil, []string{"error: FUNCTIONS_CUSTOMHANDLER_PORT is not set"}},
		"no settings":     {nil, []string{"FUNCTIONS_CUSTOMHANDLER_PORT=" + freePort(t)}, []string{"error: configuration:", "DB_URL is not set", "CURSOR_SECRET is not set"}},
		"migrate what":    {[]string{"migrate"}, nil, []string{"error: configuration:", "DB_URL is not set"}},
		"an unknown verb": {[]string{"rebuild"}, nil, []string{`error: ["rebuild"]: the only argument there is, is migrate`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command, stdout, stderr := program(t, test.settings...)
			command.Args = append(command.Args, test.arguments...)
			require.Error(t, command.Run())
			require.Equal(t, 1, command.ProcessState.ExitCode())
			require.Empty(t, stdout.String())
			for _, want := range test.want {
				require.Contains(t, stderr.String(), want)
			}
		})
	}
}

// The host takes exit 0 for the end of all work, and 200 for a restart that was asked for. Nothing here can be reached, and
// the handler lives all the same: its dependencies may come later than it does.
func TestLivesWithoutDependenciesAndEndsOnSignal(t *testing.T) {
	t.Parallel()
	port, secret := freePort(t), strings.Repeat("s", 32)
	command, stdout, stderr := program(t, "FUNCTIONS_CUSTOMHANDLER_PORT="+port, "METRICS_ADDR=off",
		"DB_URL=mysql://liveops:hush@127.0.0.1:1/liveops", "REDIS_URL=redis://:hush@127.0.0.1:1", "CATALOG_FILE=../examples/arena/catalog.yaml",
		"SERVICEBUS=Endpoint=sb://127.0.0.1/;SharedAccessKeyName=k;SharedAccessKey=hush",
		"HMAC_SECRET=h"+secret, "RECEIPT_SECRET=r"+secret, "ARCHIVE_SECRET=a"+secret, "CURSOR_SECRET=c"+secret, "SESSION_SECRET=s"+secret)
	require.NoError(t, command.Start())
	status := func(path string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	require.Eventually(t, func() bool { return status("/healthz") == http.StatusOK }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, status("/readyz"))
	require.NoError(t, command.Process.Signal(syscall.SIGTERM))
	require.Error(t, command.Wait())
	require.Equal(t, 200, command.ProcessState.ExitCode(), "%s%s", stdout, stderr)
	require.Empty(t, stderr.String(), "the host takes every line there for an error")
	require.Contains(t, stdout.String(), `"msg":"start"`)
	require.NotContains(t, stdout.String(), "hush")
}

// The program of production carries nothing that only stands in for production.
func TestLinksNoStandIn(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "azservicebus")
	for _, standIn := range []string{"sqlite", "miniredis", "liveops/local", "storetest", "bustest", "testify"} {
		require.NotContains(t, string(out), standIn)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
