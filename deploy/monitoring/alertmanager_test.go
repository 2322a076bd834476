package monitoring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const mounted = "/etc/alertmanager/" // what is not configured but mounted

// configuration writes the configuration for a machine where what is mounted lies in dir, and deadman is the dead man's switch. Debian's
// Alertmanager does not know url_file of a webhook, which came with 0.26; the URL stands in its place.
func configuration(t *testing.T, dir, deadman string, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile("alertmanager/alertmanager.yaml")
	require.NoError(t, err)
	config := string(text)
	for i := 0; i < len(changes); i += 2 {
		change := regexp.MustCompile(changes[i])
		require.Regexp(t, change, config)
		config = change.ReplaceAllString(config, changes[i+1])
	}
	urlFile := "url_file: " + mounted + "secrets/deadman-url"
	require.Equal(t, 1, strings.Count(config, urlFile))
	config = strings.ReplaceAll(strings.ReplaceAll(config, urlFile, "url: "+deadman), mounted, dir+"/")
	require.NoError(t, os.CopyFS(filepath.Join(dir, "config"), os.DirFS("alertmanager")))
	path := filepath.Join(dir, "alertmanager.yaml")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	return path
}

func TestAlertmanagerTakesTheConfiguration(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(program(t, "amtool"), "check-config", configuration(t, t.TempDir(), "http://deadman.example.com")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "1 templates")
}

func TestAlertsReachWhoTheyAreFor(t *testing.T) {
	t.Parallel()
	amtool, config := program(t, "amtool"), configuration(t, t.TempDir(), "http://deadman.example.com")
	receiver := map[string]string{"critical": "oncall", "warning": "alerts", alwaysFires: "deadman"}
	routes := func(t *testing.T, want string, labels ...string) {
		t.Helper()
		arguments := append([]string{"config", "routes", "test", "--config.file=" + config, "--verify.receivers=" + want}, labels...)
		out, err := exec.Command(amtool, arguments...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	for name, alert := range alerts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			routes(t, receiver[alert.Labels["severity"]], "alertname="+name, "environment=prod",
				"severity="+alert.Labels["severity"], "component="+alert.Labels["component"])
		})
	}
	routes(t, "alerts", "alertname=OfSomebodyElse")
}

// a post is what Slack or the dead man's switch is sent.
type post struct {
	path string
	body string
}

// receiver stands for Slack and the dead man's switch.
type receiver struct {
	*httptest.Server
	mutex sync.Mutex
	posts []post
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := new(receiver)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mutex.Lock()
		defer r.mutex.Unlock()
		r.posts = append(r.posts, post{request.URL.Path, string(body)})
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(r.Close)
	return r
}

// got tells whether a post to the path held all the words.
func (r *receiver) got(path string, words ...string) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.ContainsFunc(r.posts, func(p post) bool {
		return p.path == path && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(p.body, word) })
	})
}

// alertmanager starts one that tells the receiver at once, and gives its address. There is nobody to take mail.
func alertmanager(t *testing.T, r *receiver) string {
	t.Helper()
	path, dir := program(t, "alertmanager", "prometheus-alertmanager"), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "secrets"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secrets", "slack-url"), []byte(r.URL+"/slack"), 0o600))
	config := configuration(t, dir, r.URL+"/deadman",
		`group_(wait|interval): \w+`, "group_$1: 100ms", `(?m)^    email_configs:\n(      .*\n)+`, "")
	port, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	address := port.Addr().String()
	require.NoError(t, port.Close())
	ctx, stop := context.WithCancel(t.Context())
	process := exec.CommandContext(ctx, path, "--config.file="+config, "--storage.path="+dir, "--web.listen-address="+address,
		"--web.external-url=https://alertmanager.example.com", "--cluster.listen-address=")
	var log bytes.Buffer
	process.Stdout, process.Stderr = &log, &log
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		stop()
		_ = process.Wait() // it was killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
	url := "http://" + address
	require.Eventually(t, func() bool {
		answer, err := http.Get(url + "/-/ready")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond, "Alertmanager does not answer")
	return url
}

// firing is an alert as Prometheus sends it, and as the API gives it.
type firing struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Status      *struct {
		State       string   `json:"state"`
		InhibitedBy []string `json:"inhibitedBy"`
	} `json:"status,omitempty"`
}

// raise makes alerts of rules, which are named as Alert or Alert/label=value.
func raise(t *testing.T, rules map[string]rule, environment string, names ...string) []firing {
	t.Helper()
	var raised []firing
	for _, name := range names {
		alert, more, _ := strings.Cut(name, "/")
		require.Contains(t, rules, alert)
		labels := map[string]string{"alertname": alert, "environment": environment}
		for key, value := range rules[alert].Labels {
			labels[key] = value
		}
		if key, value, found := strings.Cut(more, "="); found {
			labels[key] = value
		}
		raised = append(raised, firing{Labels: labels, Annotations: rules[alert].Annotations})
	}
	return raised
}

func send(t *testing.T, url string, alerts []firing) {
	t.Helper()
	body, err := json.Marshal(alerts)
	require.NoError(t, err)
	answer, err := http.Post(url+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

func TestWhatFollowsFromAnAlertIsMuted(t *testing.T) {
	t.Parallel()
	r := receive(t)
	url, rules := alertmanager(t, r), alerts(t)
	follows := []string{
		"GatewayLatencyHigh", "GatewayErrorBudgetFastBurn", "GatewayErrorBudgetSlowBurn", "EventToRankSlow", "QueueAgeHigh", "FunctionFailing",
		"DeadLetters", "TimerStalled", "WindowCloseOverdue", "WindowCloseFailing", "ErasuresFailing", "PodsNotReady",
	}
	slowMySQL := []string{
		"MySQLCPUHigh", "MySQLConnectionsHigh", "MySQLSlowQueries", "MySQLDiskFilling", "MySQLCertificateExpires", "MySQLBackupOld",
	}
	fullRedis := []string{"RedisMemoryHigh", "RedisRejectsWrites"}
	cases := []struct {
		name        string
		told, muted []string
	}{
		{
			"the VM of MySQL is away",
			[]string{"MySQLUnreachable", "TargetDown/job=redis", "RedisMemoryHigh", "ArchiveMismatch", "LedgerDrift", "Watchdog"},
			slices.Concat([]string{"MySQLDown", "TargetDown/job=mysqld", "TargetDown/job=node"}, slowMySQL, follows),
		},
		{
			"MySQL is away",
			[]string{"MySQLDown", "TargetDown/job=node", "RedisMemoryHigh", "ArchiveMismatch", "LedgerDrift"},
			slices.Concat(slowMySQL, follows),
		},
		{
			"MySQL is away, and only warnings follow",
			[]string{"MySQLDown", "SignatureFailuresHigh"},
			[]string{"GatewayErrorBudgetSlowBurn", "DeadLetters", "WindowCloseFailing", "ErasuresFailing", "PodsNotReady"},
		},
		{
			"Redis is away",
			[]string{"RedisDown", "MySQLSlowQueries", "ArchiveMismatch", "LedgerDrift", "IngressCertificateExpires"},
			slices.Concat(fullRedis, follows),
		},
		{
			"both stores are away",
			[]string{"MySQLUnreachable", "RedisDown"},
			slices.Concat(slowMySQL, fullRedis, follows),
		},
		{
			"leaderboard is not seen",
			[]string{"NoData/service=leaderboard", "GatewayLatencyHigh/service=gateway", "QueueAgeHigh/queue=events"},
			[]string{"TimerStalled/function=archive", "GatewayLatencyHigh/service=leaderboard", "FunctionFailing/service=leaderboard", "PodRestarting/pod=gateway-1"},
		},
		{
			"gateway is not seen",
			[]string{"NoData/service=gateway", "TimerStalled/function=archive", "FunctionFailing/service=progression"},
			[]string{"GatewayErrorBudgetFastBurn/service=gateway"},
		},
		{
			"somebody is at the gateway and an archive",
			[]string{"GatewayErrorBudgetFastBurn", "ArchiveMismatch", "DeadLetters", "TargetDown/job=loki", "PodsNotReady"},
			[]string{"GatewayErrorBudgetSlowBurn", "SignatureFailuresHigh", "LeaderboardDrift", "WindowCloseFailing"},
		},
		{
			"nobody is woken",
			slices.Concat([]string{"GatewayErrorBudgetSlowBurn", "SignatureFailuresHigh", "DeadLetters", "MonitoringDegraded"}, slowMySQL, fullRedis),
			nil,
		},
	}
	var all []firing
	for _, c := range cases {
		all = append(all, raise(t, rules, c.name, slices.Concat(c.told, c.muted)...)...)
	}
	send(t, url, all)
	for _, c := range cases {
		var want []string
		for _, a := range raise(t, rules, c.name, c.muted...) {
			want = append(want, fmt.Sprint(a.Labels))
		}
		require.Eventually(t, func() bool {
			muted, unsettled := states(t, url, c.name)
			return unsettled == 0 && len(muted) >= len(want)
		}, 30*time.Second, 50*time.Millisecond, "%s: Alertmanager does not settle", c.name)
		muted, _ := states(t, url, c.name)
		require.ElementsMatch(t, want, muted, c.name)
		for _, a := range raise(t, rules, c.name, c.told...) {
			path, word := "/slack", a.Labels["alertname"]+" in "+c.name
			if a.Labels["severity"] == alwaysFires {
				path, word = "/deadman", c.name
			}
			require.Eventually(t, func() bool { return r.got(path, word) }, 30*time.Second, 50*time.Millisecond, "%s: %v is not told", c.name, a.Labels)
		}
	}
}

// states gives the labels of the alerts of an environment that are inhibited, and how many are not looked at yet.
func states(t *testing.T, url, environment string) (muted []string, unsettled int) {
	t.Helper()
	answer, err := http.Get(url + "/api/v2/alerts")
	require.NoError(t, err)
	defer answer.Body.Close()
	var alerts []firing
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&alerts))
	for _, a := range alerts {
		switch {
		case a.Labels["environment"] != environment:
		case a.Status.State == "unprocessed":
			unsettled++
		case len(a.Status.InhibitedBy) > 0:
			muted = append(muted, fmt.Sprint(a.Labels))
		}
	}
	return muted, unsettled
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	r := receive(t)
	url, rules := alertmanager(t, r), alerts(t)
	send(t, url, raise(t, rules, "prod", "QueueAgeHigh/queue=events", "TargetDown/job=loki", "Watchdog"))
	sent := func(path string, words ...string) {
		t.Helper()
		require.Eventually(t, func() bool { return r.got(path, words...) }, 30*time.Second, 50*time.Millisecond, "%v", words)
	}
	sent("/slack", `"#liveops-oncall"`, "FIRING (1) QueueAgeHigh in prod", rules["QueueAgeHigh"].Annotations["description"],
		rules["QueueAgeHigh"].Annotations["runbook_url"]+"|Playbook", rules["QueueAgeHigh"].Annotations["dashboard_url"]+"|Dashboard",
		"https://alertmanager.example.com/#/silences/new?filter=%7Balertname%3D%22QueueAgeHigh%22%2Ccomponent%3D%22path%22%2Cenvironment%3D%22prod%22%7D|Silence")
	sent("/slack", `"#liveops-alerts"`, "FIRING (1) TargetDown in prod", rules["TargetDown"].Annotations["runbook_url"]+"|Playbook")
	sent("/deadman", `"alertname":"Watchdog"`)
	require.False(t, r.got("/slack", "Watchdog"), "nobody is told that all is well")
	require.False(t, r.got("/slack", "TargetDown", "Dashboard"), "no link leads nowhere")
	require.False(t, r.got("/deadman", "QueueAgeHigh"))
}
