package monitoring_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/signing"
	"liveops/core/store/storetest"
	"liveops/local/monitoring"
	"liveops/local/replay"
	"liveops/local/sample"
	"liveops/local/server"
	"liveops/local/stack"
)

// assets is what operators see, from here.
var assets = filepath.Join("..", "..", "deploy", "monitoring")

// Labels of targets that Alloy finds in Kubernetes, and of those whose addresses it is told.
var (
	inCluster = []string{"environment", "namespace", "service", "pod", "container", "endpoint"}
	outside   = []string{"environment"}
)

// jobs are those that expose something but run nowhere but in Azure. What queries want of them is listed in testdata.
var jobs = []string{"alloy", "ingress-nginx", "keda-operator", "kube-state-metrics", "kubelet", "loki", "tempo", "windows"}

// TestNames holds every query of the dashboards and the rules to what the system and its exporters expose.
func TestNames(t *testing.T) {
	t.Parallel()
	rules, err := monitoring.Rules(filepath.Join(assets, "rules"))
	require.NoError(t, err)
	dashboards, err := monitoring.Dashboards(filepath.Join(assets, "dashboards"))
	require.NoError(t, err)
	require.NotEmpty(t, dashboards)
	var queries []monitoring.Query
	for _, r := range rules {
		queries = append(queries, r.Query())
	}
	for _, d := range dashboards {
		of, err := d.Queries()
		require.NoError(t, err)
		queries = append(queries, of...)
	}

	exposed := monitoring.NewExposed(rules)
	db, rdb := servers(t)
	exposeSystem(t, exposed, db, rdb)
	exposeExporters(t, exposed, db, rdb)
	for _, job := range jobs {
		list, err := os.ReadFile(filepath.Join("testdata", job+".txt"))
		require.NoError(t, err)
		require.NoError(t, exposed.List(monitoring.Job{Names: []string{job}, Target: outside}, bytes.NewReader(list)))
	}
	wrong := exposed.Unused(queries)
	for _, q := range queries {
		wrong = append(wrong, exposed.Check(q)...)
	}
	require.Empty(t, wrong, "%s", strings.Join(wrong, "\n"))
}

// TestPlaybooksByPanel finds every alert on a panel that shows what it is about, and no alert there that is never raised.
func TestPlaybooksByPanel(t *testing.T) {
	t.Parallel()
	rules, err := monitoring.Rules(filepath.Join(assets, "rules"))
	require.NoError(t, err)
	raised := map[string]bool{}
	for _, r := range rules {
		if r.Alert != "" {
			raised[r.Alert] = true
		}
	}
	dashboards, err := monitoring.Dashboards(filepath.Join(assets, "dashboards"))
	require.NoError(t, err)
	shown := map[string]bool{}
	for _, d := range dashboards {
		for _, p := range d.Panels {
			for _, name := range regexp.MustCompile(`/docs/playbooks/(\w+)\.md`).FindAllStringSubmatch(p.Description, -1) {
				shown[name[1]] = true
			}
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(raised)), slices.Sorted(maps.Keys(shown)))
}

// servers gives the URLs of a MySQL and a Redis, without which their exporters have little to say.
func servers(t *testing.T) (db, rdb string) {
	t.Helper()
	db, rdb = storetest.BestURLs(t)
	if db == "" {
		t.Skip("no SQL and Redis servers: TEST_MYSQL_URL and TEST_REDIS_URL are not set")
	}
	return db, rdb
}

// exposeSystem runs the whole system, makes it do something of everything, and reads its metrics.
func exposeSystem(t *testing.T, exposed *monitoring.Exposed, db, rdb string) {
	t.Helper()
	port, err := server.FreePort()
	require.NoError(t, err)
	system, err := stack.Start(t.Context(), stack.Options{
		Listen: "127.0.0.1:0", MetricsAddr: "127.0.0.1:" + port, Data: t.TempDir(), DBURL: db, RedisURL: rdb, Version: "test",
		Catalog: filepath.Join("..", "..", "examples", "arena", "catalog.yaml"), Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, system.Stop()) })

	var game bytes.Buffer
	require.NoError(t, sample.Generate(&game, sample.Options{Seed: 1, Events: 500, Until: time.Now()}))
	events, err := replay.Read(&game)
	require.NoError(t, err)
	key := system.Secrets.Key(signing.Server)
	_, err = (&replay.Player{URL: system.URL, Key: key, Retries: 5}).Play(t.Context(), events)
	require.NoError(t, err)
	ask := func(key signing.Key, method, path, body string, status int) {
		request, err := http.NewRequestWithContext(t.Context(), method, system.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", signing.NewNonce())
		require.NoError(t, signing.SignHTTP(request, key, []byte(body), time.Now(), signing.NewNonce()))
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, status, response.StatusCode, "%s %s", method, path)
	}
	stranger := key
	stranger.Secrets = []signing.Secret{signing.Secret(strings.Repeat("x", 32))}
	ask(key, http.MethodGet, "/v1/leaderboards", "", http.StatusOK)
	ask(key, http.MethodGet, "/v1/leaderboards/arena-score", "", http.StatusOK)
	ask(stranger, http.MethodGet, "/v1/leaderboards", "", http.StatusUnauthorized)
	ask(key, http.MethodPost, "/v1/events", `{"event_id": "refused", "type": "unknown"}`, http.StatusUnprocessableEntity)

	require.Eventually(t, system.Idle, time.Minute, 5*time.Millisecond)
	require.NoError(t, system.Trigger(t.Context(), "archive"))
	require.NoError(t, system.Trigger(t.Context(), "redrive"))

	scrape(t, exposed, monitoring.Job{
		Names: []string{"gateway", "fairness", "leaderboard", "progression"}, Target: inCluster,
		Closed: []string{"delivery", "fate", "function", "keys", "mode", "outcome", "queue", "result", "rule", "state", "verdict"},
	}, "http://127.0.0.1:"+port+"/metrics")
}

// exposeExporters runs the exporters of production, Prometheus and Alertmanager, and reads what they expose.
func exposeExporters(t *testing.T, exposed *monitoring.Exposed, db, rdb string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	mysql, err := url.Parse(db)
	require.NoError(t, err)
	password, _ := mysql.User.Password()
	account := file("my.cnf", fmt.Sprintf("[client]\nhost = %s\nport = %s\nuser = %s\npassword = %s\n",
		mysql.Hostname(), mysql.Port(), mysql.User.Username(), password))
	source := fmt.Sprintf("DATA_SOURCE_NAME=%s@tcp(%s)/", mysql.User, mysql.Host) // which versions before 0.15 read
	options, err := redis.ParseURL(rdb)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	require.Error(t, client.Do(t.Context(), "NO-SUCH-COMMAND").Err(), "Redis counts its errors from the first on")

	rule := file("rule.yaml", "groups: [{name: one, rules: [{record: one, expr: vector(1)}]}]\n") // it tells of rules that there are

	for _, program := range []struct {
		names []string // of the program
		args  []string
		env   string
		job   monitoring.Job
		ready string // what it exposes when it reaches what it looks at
	}{
		{
			names: []string{"prometheus-node-exporter", "node_exporter"},
			args:  []string{"--collector.textfile.directory=" + filepath.Dir(file("vm.prom", written(t)))},
			job:   monitoring.Job{Names: []string{"node"}, Target: outside}, ready: "node_textfile_scrape_error 0",
		},
		{
			names: []string{"prometheus-mysqld-exporter", "mysqld_exporter"}, args: []string{"--config.my-cnf=" + account}, env: source,
			job: monitoring.Job{Names: []string{"mysqld"}, Target: outside}, ready: "mysql_up 1",
		},
		{
			names: []string{"prometheus-redis-exporter", "redis_exporter"}, args: []string{"--redis.addr=" + rdb},
			job: monitoring.Job{Names: []string{"redis"}, Target: inCluster}, ready: "redis_up 1",
		},
		{
			names: []string{"prometheus"}, args: []string{"--config.file=" + file("prometheus.yaml", "rule_files: ["+rule+"]\n"), "--storage.tsdb.path=" + filepath.Join(dir, "tsdb")},
			job: monitoring.Job{Names: []string{"prometheus"}, Target: inCluster}, ready: "prometheus_ready 1",
		},
		{
			names: []string{"alertmanager", "prometheus-alertmanager"},
			args: []string{
				"--config.file=" + file("alertmanager.yaml", "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"),
				"--storage.path=" + filepath.Join(dir, "alertmanager"), "--cluster.listen-address=",
			},
			job: monitoring.Job{Names: []string{"alertmanager"}, Target: inCluster}, ready: "alertmanager_config_last_reload_successful 1",
		},
	} {
		address := exporter(t, program.names, program.args, program.env, program.ready)
		scrape(t, exposed, program.job, address)
	}
}

// written is what the scripts of the MySQL VM leave for its exporter to pick up.
func written(t *testing.T) string {
	t.Helper()
	scripts, err := filepath.Glob(filepath.Join("..", "..", "bicep", "mysql", "*"))
	require.NoError(t, err)
	var text strings.Builder
	for _, script := range scripts {
		script, err := os.ReadFile(script)
		require.NoError(t, err)
		for _, metric := range regexp.MustCompile(`\bmysql_\w+_timestamp_seconds\b`).FindAllString(string(script), -1) {
			if line := metric + " 0\n"; !strings.Contains(text.String(), line) {
				text.WriteString(line)
			}
		}
	}
	return text.String()
}

// exporter runs a program for as long as the test, and gives the address of its metrics.
func exporter(t *testing.T, names, args []string, env, ready string) string {
	t.Helper()
	program := server.Programs{Dirs: server.Path()}.Find(names...)
	if program == "" {
		if os.Getenv("TEST_SERVERS") == "required" {
			require.FailNow(t, "no "+names[0]+" on PATH, and TEST_SERVERS=required")
		}
		t.Skip("no " + names[0] + " on PATH")
	}
	port, err := server.FreePort()
	require.NoError(t, err)
	var said bytes.Buffer
	command := exec.CommandContext(t.Context(), program, append(args, "--web.listen-address=127.0.0.1:"+port)...)
	command.Stdout, command.Stderr = &said, &said
	command.Env = append(os.Environ(), env)
	require.NoError(t, command.Start())
	reached := false
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended already
		_ = command.Wait()
		if !reached {
			t.Log(said.String())
		}
	})
	address := "http://127.0.0.1:" + port + "/metrics"
	require.Eventually(t, func() bool {
		answer, err := get(t, address)
		return err == nil && strings.Contains(answer, "\n"+ready+"\n")
	}, time.Minute, 50*time.Millisecond, "%s does not say %s", names[0], ready)
	reached = true
	return address
}

func scrape(t *testing.T, exposed *monitoring.Exposed, job monitoring.Job, address string) {
	t.Helper()
	answer, err := get(t, address)
	require.NoError(t, err)
	require.NoError(t, exposed.Scraped(job, strings.NewReader(answer)))
}

func get(t *testing.T, address string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
