package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/signing"
	"liveops/core/store/storetest"
	"liveops/local/server"
	"liveops/local/servicebus"
)

// image is one that was built, of the Dockerfile and a base image in which this package's program is the host.
type image struct {
	root   string // its file system
	config struct {
		User         string
		Env          []string
		Entrypoint   []string
		Cmd          []string
		ExposedPorts map[string]any
		Labels       map[string]string
	}
}

// built gives the image whose file system and `buildah inspect` the environment names.
func built(t *testing.T) *image {
	t.Helper()
	root, inspected := os.Getenv("IMAGE_ROOT"), os.Getenv("IMAGE_INSPECT")
	if root == "" {
		t.Skip("needs an image: .ci/check-image builds one")
	}
	text, err := os.ReadFile(inspected)
	require.NoError(t, err)
	i := &image{root: root}
	require.NoError(t, json.Unmarshal(text, &struct{ OCIv1 any }{&struct{ Config any }{&i.config}}))
	return i
}

const scriptRoot = "/home/site/wwwroot"

func TestImageIsSetUp(t *testing.T) {
	t.Parallel()
	i := built(t)
	require.Equal(t, "10001:10001", i.config.User)
	require.Empty(t, i.config.Entrypoint)
	require.Equal(t, []string{"/azure-functions-host/Microsoft.Azure.WebJobs.Script.WebHost"}, i.config.Cmd, "no shell around the host")
	require.Subset(t, i.config.Env, []string{
		"AzureWebJobsScriptRoot=" + scriptRoot, "HOME=/home", "FUNCTIONS_WORKER_RUNTIME=custom", "ASPNETCORE_URLS=http://+:8080",
		"DOTNET_RUNNING_IN_CONTAINER=true", "DOTNET_EnableDiagnostics=0", "AzureWebJobsSecretStorageType=files",
		"AzureFunctionsJobHost__Logging__Console__IsEnabled=true", "AzureFunctionsJobHost__logging__fileLoggingMode=never",
		"AzureFunctionsJobHost__fileWatchingEnabled=false",
	})
	names := map[string]bool{}
	for _, pair := range i.config.Env {
		name, _, _ := strings.Cut(pair, "=")
		require.False(t, names[name], "%s is set twice", name)
		names[name] = true
	}
	require.Len(t, i.config.ExposedPorts, 2)
	require.Contains(t, i.config.ExposedPorts, "8080/tcp")
	require.Contains(t, i.config.ExposedPorts, "9464/tcp")
	for label, value := range map[string]string{
		"title": "liveops", "version": os.Getenv("IMAGE_VERSION"), "revision": os.Getenv("IMAGE_REVISION"), "source": os.Getenv("IMAGE_SOURCE"),
	} {
		require.NotEmpty(t, value, label)
		require.Equal(t, value, i.config.Labels["org.opencontainers.image."+label], label)
	}
	require.NotEmpty(t, i.config.Labels["org.opencontainers.image.description"])
}

// TestImageHoldsNothingElse compares every file of the image with what belongs there.
func TestImageHoldsNothingElse(t *testing.T) {
	t.Parallel()
	i := built(t)
	wanted := []string{i.config.Cmd[0], scriptRoot + "/handler", scriptRoot + "/host.json", scriptRoot + "/catalog.yaml"}
	folders, err := os.ReadDir(filepath.Join(repository, "functions"))
	require.NoError(t, err)
	for _, folder := range folders {
		wanted = append(wanted, scriptRoot+"/"+folder.Name()+"/function.json")
	}
	bundle, err := os.ReadFile(os.Getenv("IMAGE_BUNDLE"))
	require.NoError(t, err)
	for name := range strings.Lines(string(bundle)) {
		wanted = append(wanted, bundles+"/"+strings.TrimSpace(name))
	}
	var found []string
	require.NoError(t, filepath.WalkDir(i.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		found = append(found, strings.TrimPrefix(path, i.root))
		require.NotZero(t, info.Mode()&0o004, "%s cannot be read by the user of the image", path)
		require.Zero(t, info.Mode()&0o022, "%s can be written by others than root", path)
		require.Zero(t, info.Sys().(*syscall.Stat_t).Uid, "%s does not belong to root", path)
		return nil
	}))
	slices.Sort(wanted)
	slices.Sort(found)
	require.Equal(t, wanted, found)

	handler, err := os.Stat(i.root + scriptRoot + "/handler")
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), handler.Mode())
	require.LessOrEqual(t, handler.Size(), int64(40_000_000))
	info, err := buildinfo.ReadFile(i.root + scriptRoot + "/handler")
	require.NoError(t, err)
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	require.Equal(t, "0", settings["CGO_ENABLED"])
	require.Equal(t, "true", settings["-trimpath"])
	t.Logf("the handler has %.1f MB", float64(handler.Size())/1e6)
}

// enter makes the file system of an image read-only but for some directories, in a mount namespace of its own, and becomes
// the command. $1 is the root, $2 the directories.
const enter = `set -e
root=$1 directories=$2
shift 2
for directory in /dev /proc $directories; do mkdir -p "$root$directory"; done
mount --bind "$root" "$root"
mount --bind /dev "$root/dev"
mount --bind /proc "$root/proc"
for directory in $directories; do mount -t tmpfs -o nosuid,nodev,noexec,size=64m,mode=1777 tmpfs "$root$directory"; done
mount -o remount,bind,ro "$root"
exec env -i "$@"`

// command is a command in a container of the image: as the user of the image, with nothing to write but what c names, in
// the environment of the image, of c and of env, the last of which counts. The network is this machine's.
func (i *image) command(t *testing.T, c container, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	require.True(t, c.ReadOnly)
	chroot, err := exec.LookPath("chroot")
	require.NoError(t, err)
	all := []string{"--mount", "sh", "-c", enter, "sh", i.root, strings.Join(c.Tmpfs, " ")}
	all = append(all, i.config.Env...)
	for _, variables := range []map[string]string{c.Environment, env} {
		for name, value := range variables {
			all = append(all, name+"="+value)
		}
	}
	all = append(all, chroot, "--userspec="+i.config.User, "--groups=", i.root)
	return exec.CommandContext(context.WithoutCancel(t.Context()), "unshare", append(all, args...)...)
}

// start runs what the image runs until the test ends, and gives the URL of its host. At SIGTERM it must end in peace.
func (i *image) start(t *testing.T, name string, c container, env map[string]string) (url string) {
	t.Helper()
	port, err := server.FreePort()
	require.NoError(t, err)
	with := map[string]string{"ASPNETCORE_URLS": "http://+:" + port, "METRICS_ADDR": "off"}
	for variable, value := range env {
		with[variable] = value
	}
	cmd, log := i.command(t, c, with, i.config.Cmd...), &output{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: %s", name, log)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case err := <-ended:
			require.NoError(t, err, "%s did not end in peace: %s", name, log)
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			require.FailNow(t, name+" did not end at SIGTERM")
		}
	})
	url = "http://127.0.0.1:" + port
	require.Eventually(t, func() bool {
		response, err := http.Get(url + "/readyz")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond, "%s is not ready: %s", name, log)

	process := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
	executable, err := os.Readlink(process + "/exe")
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(executable, i.root+i.config.Cmd[0]), "no shell around the host: %s", executable)
	status, err := os.ReadFile(process + "/status")
	require.NoError(t, err)
	require.Contains(t, string(status), "Uid:\t10001\t10001\t10001\t10001\n")
	require.Contains(t, string(status), "CapEff:\t0000000000000000\n")
	require.ErrorIs(t, os.WriteFile(process+"/root"+scriptRoot+"/probe", nil, 0o600), syscall.EROFS)
	return url
}

// output is what a container printed.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String implements fmt.Stringer.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// broker serves the two queues over AMQP and gives the connection string.
func broker(t *testing.T) string {
	t.Helper()
	memory := bus.NewMemory(time.Now, bus.Queue{Name: "events", DuplicateWindow: 10 * time.Minute}, bus.Queue{Name: "progression", DuplicateWindow: 10 * time.Minute})
	endpoint := servicebus.New(memory, servicebus.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- endpoint.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, endpoint.Close())
		require.NoError(t, <-served)
	})
	return endpoint.ConnectionString(listener.Addr().String())
}

// TestImageServes runs the containers of compose.yaml, on servers of this machine: the schema is made by the image, and an event
// goes through the gateway, fairness and progression, each with its own functions, to a place on a leaderboard.
func TestImageServes(t *testing.T) {
	t.Parallel()
	i := built(t)
	db, redis := storetest.BestURLs(t)
	require.NotEmpty(t, db, "needs MySQL and Redis servers")
	containers := composed(t)

	for _, says := range []string{"applied 0001", "the schema is up to date"} {
		migrate := containers["migrate"]
		out, err := i.command(t, migrate, map[string]string{"DB_URL": db}, migrate.Entrypoint...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), says)
	}

	env := map[string]string{"DB_URL": db, "REDIS_URL": redis, "SERVICEBUS": broker(t)}
	urls := map[string]string{}
	for service := range agreed(t).Services {
		urls[service] = i.start(t, service, containers[service], env)
	}
	c := client{key: signing.Key{ID: "server", Class: signing.Server, Secrets: []signing.Secret{signing.Secret(containers["gateway"].Environment["HMAC_SECRET"])}}}
	status, text := c.send(t, http.MethodGet, urls["gateway"]+"/healthz", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"version":"`+os.Getenv("IMAGE_VERSION")+`"`)
	status, _ = c.send(t, http.MethodGet, urls["gateway"]+"/v1/leaderboards", "")
	require.Equal(t, http.StatusNotFound, status, "the gateway has no function for leaderboards")

	for _, event := range []string{`"type":"xp_gained","data":{"amount":10,"source":"match"}`, `"type":"score_submitted","data":{"board":"arena-score","score":1200}`} {
		body := fmt.Sprintf(`{"event_id":%q,"player_id":"katsu","occurred_at":%q,%s}`, uuid.NewString(), time.Now().UTC().Format(time.RFC3339), event)
		status, text := c.send(t, http.MethodPost, urls["gateway"]+"/v1/events", body)
		require.Equal(t, http.StatusAccepted, status, text)
	}
	c.eventually(t, urls["gateway"]+"/v1/players/katsu", `"xp":10`)
	c.eventually(t, urls["leaderboard"]+"/v1/leaderboards/arena-score?window=all_time", `"score":1200`)
	response, err := http.Post(urls["gateway"]+"/v1/events", "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusUnauthorized, response.StatusCode, "unsigned")
}

// client signs requests as the game server.
type client struct{ key signing.Key }

func (c client) send(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", signing.NewNonce())
	}
	require.NoError(t, signing.SignHTTP(request, c.key, []byte(body), time.Now(), signing.NewNonce()))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, errors.Join(err, response.Body.Close()))
	return response.StatusCode, string(text)
}

// eventually reads until the answer holds what it should.
func (c client) eventually(t *testing.T, url, holds string) {
	t.Helper()
	var text string
	require.Eventually(t, func() bool {
		_, text = c.send(t, http.MethodGet, url, "")
		return strings.Contains(text, holds)
	}, time.Minute, 50*time.Millisecond, "%s: %s", url, holds)
}
