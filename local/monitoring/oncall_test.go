package monitoring_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// oncall stands for the chat, and for who listens to the Watchdog: it is posted what Alertmanager says.
type oncall struct {
	url string

	mu     sync.Mutex
	titles map[string][]string // by channel
	beats  int                 // of the Watchdog
}

func listen(t *testing.T) *oncall {
	t.Helper()
	o := &oncall{titles: map[string][]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /chat", func(_ http.ResponseWriter, r *http.Request) {
		var message struct {
			Channel     string
			Attachments []struct{ Title string }
		}
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&message))
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, a := range message.Attachments {
			o.titles[message.Channel] = append(o.titles[message.Channel], a.Title)
		}
	})
	mux.HandleFunc("POST /deadman", func(http.ResponseWriter, *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.beats++
	})
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	o.url = web.URL
	return o
}

// heard is all that the channel of those who are woken was told, a line each, and how often the Watchdog was heard.
func (o *oncall) heard() (all string, beats int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.titles["#liveops-oncall"], "\n"), o.beats
}

// hears waits until that channel was told of each alert that it has this status.
func (o *oncall) hears(t *testing.T, status string, alerts ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		all, _ := o.heard()
		for _, alert := range alerts {
			require.Regexp(c, `(?m)^`+status+`( \(\d+\))? `+alert+` in dev$`, all)
		}
	}, patience, 100*time.Millisecond)
}

// heardOnly asserts that nobody was woken by any other alert.
func (o *oncall) heardOnly(t *testing.T, alerts ...string) {
	t.Helper()
	all, _ := o.heard()
	for _, title := range strings.Split(all, "\n") {
		require.Regexp(t, ` (`+strings.Join(alerts, "|")+`) in dev$`, title)
	}
}

// configuration writes deploy/monitoring/alertmanager for an Alertmanager that goes fast and tells this one, and gives its path.
func (o *oncall) configuration(t *testing.T) string {
	t.Helper()
	source, dir := filepath.Join("..", "..", "deploy", "monitoring", "alertmanager"), t.TempDir()
	templates, err := filepath.Abs(source)
	require.NoError(t, err)
	for name, secret := range map[string]string{"slack-url": o.url + "/chat", "deadman-url": o.url + "/deadman", "smtp-password": "none"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600))
	}
	var c map[string]any
	read(t, filepath.Join(source, "alertmanager.yaml"), &c)
	visit(c, func(m map[string]any) {
		shorten(t, m, "group_wait", "group_interval", "repeat_interval")
		for key, value := range m {
			if text, is := value.(string); is {
				m[key] = strings.Replace(text, "/etc/alertmanager/secrets", dir, 1)
			}
		}
		if m["url_file"] != nil { // Debian's Alertmanager is too old for it
			delete(m, "url_file")
			m["url"] = o.url + "/deadman"
		}
		delete(m, "email_configs") // nobody takes mail here
	})
	c["templates"] = []string{filepath.Join(templates, "*.tmpl")}
	path := filepath.Join(dir, "alertmanager.yaml")
	write(t, path, c)
	return path
}

// visit calls see with every mapping of a YAML document.
func visit(node any, see func(map[string]any)) {
	switch node := node.(type) {
	case map[string]any:
		see(node)
		for _, value := range node {
			visit(value, see)
		}
	case []any:
		for _, value := range node {
			visit(value, see)
		}
	}
}
