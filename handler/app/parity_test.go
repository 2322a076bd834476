package app

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"liveops"
	"liveops/core/event"
	"liveops/handler/web"
)

// served is what the handler answers, as it registered it.
type served struct {
	routes   []web.Route
	bindings map[string]string // of queue functions, by name; "" for a timer function
	maxBody  int
	deadline time.Duration
}

// trigger is one binding of a function.json.
type trigger struct {
	Type, Direction, Name, AuthLevel, Route      string
	Methods                                      []string
	QueueName, Connection, Cardinality, Schedule string
	DataType                                     string
	UseMonitor                                   *bool
	RunOnStartup                                 bool
}

// parity compares the files that the Functions host reads with what the handler serves, and lists every difference.
func parity(repository fs.FS, s served) []string {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	folders, err := fs.ReadDir(repository, "functions")
	if err != nil {
		return []string{err.Error()}
	}
	http := map[string]trigger{}
	seen := map[string]bool{}
	for _, folder := range folders {
		name := folder.Name()
		var file struct{ Bindings []trigger }
		if err := readJSON(repository, path.Join("functions", name, "function.json"), &file); err != nil || len(file.Bindings) == 0 {
			problem("%s: no function.json with a binding: %v", name, err)
			continue
		}
		in := file.Bindings[0]
		if in.Direction != "in" {
			problem("%s: the first binding is not the trigger", name)
		}
		binding, registered := s.bindings[name]
		switch in.Type {
		case "httpTrigger":
			http[name] = in
			out := trigger{Type: "http", Direction: "out", Name: "res"}
			if len(file.Bindings) != 2 || fmt.Sprint(file.Bindings[1]) != fmt.Sprint(out) {
				problem("%s: a request is only handed through with one output, http", name)
			}
			if in.AuthLevel != "anonymous" {
				problem("%s: the host would ask for a key of its own", name)
			}
			continue
		case "serviceBusTrigger":
			if binding == "" || binding != in.Name {
				problem("%s: the handler reads binding %q, the function has %q", name, binding, in.Name)
			}
			if in.Cardinality != "many" || in.DataType != "binary" {
				problem("%s: the handler reads batches of binary messages", name)
			}
			queue := map[string]string{"fairness": "%EVENTS_QUEUE%", "progression": "%PROGRESSION_QUEUE%"}[name]
			if in.QueueName != queue || in.Connection != "SERVICEBUS" {
				problem("%s: reads queue %s of %s, the handler publishes to %s of SERVICEBUS", name, in.QueueName, in.Connection, queue)
			}
		case "timerTrigger":
			if binding != "" {
				problem("%s: the handler expects a queue", name)
			}
			schedule := map[string]string{"archive": "*/30 * * * * *", "redrive": "0 * * * * *"}[name]
			if in.Name != "timer" || in.Schedule != schedule || in.UseMonitor == nil || *in.UseMonitor || in.RunOnStartup {
				problem("%s: not the timer it should be", name)
			}
		default:
			problem("%s: trigger %q", name, in.Type)
		}
		if !registered {
			problem("%s: no function of the handler has this name", name)
		}
		if len(file.Bindings) != 1 {
			problem("%s: output bindings mangle messages", name)
		}
		seen[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.bindings)) {
		if !seen[name] {
			problem("%s: has no folder", name)
		}
	}

	used := map[string]bool{}
	for _, r := range s.routes {
		methods := []string{r.Method}
		if r.Method == "GET" {
			methods = append(methods, "HEAD")
		}
		var takers []string
		for name, in := range http {
			if !matches(in.Route, sample(r.Pattern)) {
				continue
			}
			takers = append(takers, name)
			for _, method := range methods {
				if !slices.Contains(in.Methods, strings.ToLower(method)) {
					problem("%s: the host answers %s %s itself", name, method, r.Pattern)
				}
			}
			if first := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.Pattern, "/v1"), "/"), "/")[0]; first != name {
				problem("%s: serves %s, which is named otherwise", name, r.Pattern)
			}
		}
		if len(takers) != 1 {
			problem("%s %s: served by %d functions", r.Method, r.Pattern, len(takers))
		}
		for _, name := range takers {
			used[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(http)) {
		if !used[name] {
			problem("%s: serves no route", name)
		}
		// Behind /v1 every wrong method and address gets a problem document, which only the handler writes.
		all := []string{"get", "head", "post", "put", "patch", "delete", "options"}
		if in := http[name]; strings.HasPrefix(in.Route, "v1/") && fmt.Sprint(in.Methods) != fmt.Sprint(all) {
			problem("%s: the host answers some methods itself", name)
		}
	}
	return append(problems, hostParity(repository, s)...)
}

func hostParity(repository fs.FS, s served) []string {
	var problems []string
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("host.json: "+format, args...))
	}
	var host struct {
		Version         string
		FunctionTimeout string
		ExtensionBundle struct{ ID, Version string }
		CustomHandler   struct {
			Description                 struct{ DefaultExecutablePath string }
			EnableProxyingHTTPRequest   bool
			EnableForwardingHTTPRequest bool
		}
		Extensions struct {
			HTTP       struct{ RoutePrefix *string }
			ServiceBus struct {
				MaxMessageBatchSize  int
				AutoCompleteMessages bool
				PrefetchCount        int
			}
		}
	}
	if err := readJSON(repository, "host.json", &host); err != nil {
		return []string{err.Error()}
	}
	if host.Version != "2.0" || host.CustomHandler.Description.DefaultExecutablePath != "handler" {
		problem("does not start the handler")
	}
	if !host.CustomHandler.EnableProxyingHTTPRequest || host.CustomHandler.EnableForwardingHTTPRequest {
		problem("forwarding re-encodes queries and drops chunked bodies: signatures would break")
	}
	if prefix := host.Extensions.HTTP.RoutePrefix; prefix == nil || *prefix != "" {
		problem("the routes would begin with a prefix")
	}
	var hours, minutes, seconds int
	if _, err := fmt.Sscanf(host.FunctionTimeout, "%d:%d:%d", &hours, &minutes, &seconds); err != nil {
		problem("functionTimeout %q", host.FunctionTimeout)
	}
	timeout := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute + time.Duration(seconds)*time.Second
	if timeout < s.deadline+5*time.Second { // the handler answers a second after its deadline
		problem("functionTimeout %s kills the handler before its own deadline", timeout)
	}
	if !regexp.MustCompile(`^\[\d+\.\d+\.\d+\]$`).MatchString(host.ExtensionBundle.Version) || host.ExtensionBundle.ID != "Microsoft.Azure.Functions.ExtensionBundle" {
		problem("the extension bundle is not pinned")
	}
	bus := host.Extensions.ServiceBus
	const envelope, metadata = 1 << 10, 2 << 10 // what an accepted event has beside the event, and what the host tells of a message
	if bus.MaxMessageBatchSize < 1 || bus.MaxMessageBatchSize*((event.MaxSize+envelope)*4/3+metadata) > s.maxBody {
		problem("a batch of %d messages does not fit the %d bytes that the handler reads", bus.MaxMessageBatchSize, s.maxBody)
	}
	if !bus.AutoCompleteMessages || bus.PrefetchCount != 0 {
		problem("nobody would complete messages, or their locks would end in a buffer")
	}
	return problems
}

func readJSON(repository fs.FS, name string, into any) error {
	text, err := fs.ReadFile(repository, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// sample is an address that a pattern of the handler takes.
func sample(pattern string) string {
	return regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(strings.TrimPrefix(pattern, "/"), "x")
}

// matches says whether a route template of the host takes an address.
func matches(template, address string) bool {
	want, got := strings.Split(template, "/"), strings.Split(address, "/")
	for i, part := range want {
		if strings.HasPrefix(part, "{*") {
			return i == len(want)-1
		}
		if i >= len(got) || !strings.HasPrefix(part, "{") && !strings.EqualFold(part, got[i]) {
			return false
		}
	}
	return len(want) == len(got)
}

// registered asks the handler which functions it has, and what each wants to find in an invocation.
func registered(t *testing.T) served {
	t.Helper()
	e := newEnvironment(t)
	a := e.app(t)
	server := a.functions()
	s := served{routes: a.routes(), bindings: map[string]string{}, maxBody: int(server.MaxBody), deadline: server.Deadline}
	handler := server.Handler()
	families, err := a.gathered.Gather()
	require.NoError(t, err)
	missing := regexp.MustCompile(`no data for the binding \\"(\w+)\\"`)
	for _, family := range families {
		if family.GetName() != "function_duration_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			name := m.GetLabel()[0].GetValue()
			before := len(e.log.String())
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+name, strings.NewReader(`{"Data":{}}`)))
			s.bindings[name] = ""
			if found := missing.FindStringSubmatch(e.log.String()[before:]); found != nil {
				s.bindings[name] = found[1]
			}
		}
	}
	return s
}

func TestParity(t *testing.T) {
	t.Parallel()
	s := registered(t)
	require.Equal(t, map[string]string{"archive": "", "fairness": "messages", "progression": "messages", "redrive": ""}, s.bindings)
	require.Empty(t, parity(liveops.Functions, s))
}

// The comparison must see what is wrong on either side.
func TestParityCanFail(t *testing.T) {
	t.Parallel()
	right := registered(t)
	const fairness, players, archive = "functions/fairness/function.json", "functions/players/function.json", "functions/archive/function.json"
	type files = fstest.MapFS
	replace := func(name, old, replacement string) func(t *testing.T, f files, s *served) {
		return func(t *testing.T, f files, _ *served) {
			t.Helper()
			require.Contains(t, string(f[name].Data), old)
			f[name] = &fstest.MapFile{Data: []byte(strings.Replace(string(f[name].Data), old, replacement, 1))}
		}
	}
	add := func(method, pattern string) func(t *testing.T, f files, s *served) {
		return func(_ *testing.T, _ files, s *served) {
			s.routes = append(slices.Clone(s.routes), web.Route{Method: method, Pattern: pattern})
		}
	}
	without := func(prefix string) func(t *testing.T, f files, s *served) {
		return func(_ *testing.T, _ files, s *served) {
			s.routes = slices.DeleteFunc(slices.Clone(s.routes), func(r web.Route) bool { return strings.HasPrefix(r.Pattern, prefix) })
		}
	}
	for name, test := range map[string]struct {
		spoil func(t *testing.T, f files, s *served)
		want  string
	}{
		"a function without a folder": {func(_ *testing.T, f files, _ *served) { delete(f, fairness) }, "fairness: has no folder"},
		"a folder without a function": {func(_ *testing.T, _ files, s *served) { delete(s.bindings, "redrive") }, "redrive: no function"},
		"an empty folder":             {func(_ *testing.T, f files, _ *served) { f["functions/empty/readme"] = &fstest.MapFile{} }, "empty: no function.json"},
		"a folder of another name": {func(_ *testing.T, f files, _ *served) {
			f["functions/judge/function.json"] = f[fairness]
			delete(f, fairness)
		}, "judge: no function"},
		"another binding":                {replace(fairness, `"messages"`, `"message"`), `reads binding "messages"`},
		"one message at a time":          {replace(fairness, `"many"`, `"one"`), "fairness: the handler reads batches"},
		"text messages":                  {replace(fairness, `"binary"`, `"string"`), "fairness: the handler reads batches"},
		"another queue":                  {replace(fairness, `%EVENTS_QUEUE%`, `%PROGRESSION_QUEUE%`), "fairness: reads queue"},
		"another connection":             {replace(fairness, `SERVICEBUS`, `BUS`), "fairness: reads queue"},
		"an output binding":              {replace(fairness, `}`, `},{"type":"serviceBus","direction":"out","name":"out"}`), "fairness: output bindings"},
		"a queue that is a timer":        {replace(fairness, `serviceBusTrigger`, `timerTrigger`), "fairness: the handler expects a queue"},
		"a timer that is a queue":        {replace(archive, `timerTrigger`, `serviceBusTrigger`), `archive: the handler reads binding ""`},
		"another schedule":               {replace(archive, `*/30`, `*/31`), "archive: not the timer"},
		"a monitored timer":              {replace(archive, `"useMonitor": false`, `"useMonitor": true`), "archive: not the timer"},
		"an unknown trigger":             {replace(archive, `timerTrigger`, `blobTrigger`), `archive: trigger "blobTrigger"`},
		"a route without a function":     {add("GET", "/v1/guilds/{guild}"), "GET /v1/guilds/{guild}: served by 0"},
		"a function without a route":     {without("/v1/players"), "players: serves no route"},
		"a route elsewhere":              {replace(players, `v1/players/`, `v2/players/`), "GET /v1/players/{player}: served by 0"},
		"a route that takes one segment": {replace(players, `{*rest}`, `{player}`), "GET /v1/players/{player}/events/{event}: served by 0"},
		"a route that takes everything":  {replace(players, `v1/players/{*rest}`, `v1/{*rest}`), "POST /v1/events: served by 2"},
		"a method that the host refuses": {replace("functions/events/function.json", `"post", `, ``), "events: the host answers POST /v1/events itself"},
		"a method that gets no problem":  {replace(players, `"put", `, ``), "players: the host answers some methods itself"},
		"a probe by HEAD":                {replace("functions/healthz/function.json", `, "head"`, ``), "healthz: the host answers HEAD /healthz itself"},
		"the host's own keys":            {replace(players, `"anonymous"`, `"function"`), "players: the host would ask for a key"},
		"no output":                      {replace(players, `"direction": "out"`, `"direction": "in"`), "players: a request is only handed through"},
		"forwarding":                     {replace("host.json", `enableProxyingHttpRequest`, `enableForwardingHttpRequest`), "signatures would break"},
		"a prefix":                       {replace("host.json", `"routePrefix": ""`, `"routePrefix": "api"`), "begin with a prefix"},
		"the default prefix":             {replace("host.json", `"routePrefix"`, `"prefix"`), "begin with a prefix"},
		"a timeout below the deadline":   {replace("host.json", `00:02:00`, `00:00:45`), "before its own deadline"},
		"a bundle that moves":            {replace("host.json", `[4.38.0]`, `[4.*, 5.0.0)`), "not pinned"},
		"a batch beyond what is read":    {replace("host.json", `"maxMessageBatchSize": 500`, `"maxMessageBatchSize": 1000`), "does not fit"},
		"a handler that reads less":      {func(_ *testing.T, _ files, s *served) { s.maxBody = 16 << 20 }, "does not fit"},
		"nobody completes":               {replace("host.json", `"autoCompleteMessages": true`, `"autoCompleteMessages": false`), "nobody would complete"},
		"another executable":             {replace("host.json", `"handler"`, `"worker"`), "does not start the handler"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := files{}
			require.NoError(t, fs.WalkDir(liveops.Functions, ".", func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				text, err := fs.ReadFile(liveops.Functions, name)
				f[name] = &fstest.MapFile{Data: text}
				return err
			}))
			s := right
			s.bindings = maps.Clone(right.bindings)
			test.spoil(t, f, &s)
			require.Contains(t, strings.Join(parity(f, s), "\n"), test.want)
		})
	}
}

// The sample names every setting that anything reads, no other, and cannot be used as it is.
func TestSampleSettings(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "local.settings.sample.json"))
	require.NoError(t, err)
	var sample struct{ Values map[string]string }
	require.NoError(t, json.Unmarshal(text, &sample))

	asked := map[string]bool{
		"FUNCTIONS_WORKER_RUNTIME": true, "AzureWebJobsStorage": true, // the host's own
	}
	_, refused := ReadConfig(func(name string) string {
		asked[name] = true
		return sample.Values[name]
	})
	for name := range asked {
		if base, is := strings.CutSuffix(name, "_FILE"); is && asked[base] {
			delete(asked, name) // each setting may come from a file
		}
	}
	folders, err := fs.Glob(liveops.Functions, "functions/*/function.json")
	require.NoError(t, err)
	for _, name := range folders {
		text, err := fs.ReadFile(liveops.Functions, name)
		require.NoError(t, err)
		for _, setting := range regexp.MustCompile(`%(\w+)%`).FindAllStringSubmatch(string(text), -1) {
			require.True(t, asked[setting[1]], "%s reads %s, which the handler does not", name, setting[1])
		}
	}
	require.True(t, asked["SERVICEBUS"])
	delete(asked, "SERVICEBUS")                 // a connection string; the sample shows the other way, SERVICEBUS__fullyQualifiedNamespace
	delete(asked, "AZURE_SERVICEBUS_NAMESPACE") // the same for the handler alone; the sample's serves the host as well
	require.Equal(t, slices.Sorted(maps.Keys(asked)), slices.Sorted(maps.Keys(sample.Values)))

	require.Error(t, refused)
	var settings []string
	for line := range strings.SplitSeq(refused.Error(), "\n") {
		setting, _, _ := strings.Cut(line, " ")
		settings = append(settings, strings.TrimSuffix(setting, ":"))
	}
	require.Equal(t, []string{"HMAC_SECRET", "SESSION_SECRET", "RECEIPT_SECRET", "ARCHIVE_SECRET", "CURSOR_SECRET"}, settings, "every placeholder of a secret is refused, and nothing else")
}
