package host_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"liveops/local/host"
)

var settings = env("EVENTS_QUEUE", "events", "PROGRESSION_QUEUE", "progression")

// The repository's own functions load, and are what the design lists.
func TestRepository(t *testing.T) {
	t.Parallel()
	app, err := host.Load(host.Layout(os.DirFS("../..")), settings)
	require.NoError(t, err)
	got := map[string]string{}
	for _, f := range app.Functions {
		got[f.Name] = f.Trigger + " " + f.Route + f.Queue + f.Schedule
		if f.Queue != "" {
			require.True(t, f.Many)
			require.Equal(t, "binary", f.DataType)
			require.Equal(t, "messages", f.Binding)
		}
	}
	require.Equal(t, map[string]string{
		"events":       "httpTrigger v1/events/{*rest}",
		"players":      "httpTrigger v1/players/{*rest}",
		"leaderboards": "httpTrigger v1/leaderboards/{*rest}",
		"receipts":     "httpTrigger v1/receipts/{*rest}",
		"keys":         "httpTrigger v1/keys/{*rest}",
		"operations":   "httpTrigger v1/operations/{*rest}",
		"time":         "httpTrigger v1/time",
		"healthz":      "httpTrigger healthz",
		"readyz":       "httpTrigger readyz",
		"fairness":     "serviceBusTrigger events",
		"progression":  "serviceBusTrigger progression",
		"archive":      "timerTrigger */30 * * * * *",
		"redrive":      "timerTrigger 0 * * * * *",
	}, got)

	_, err = host.Load(host.Layout(os.DirFS("../..")), env())
	require.ErrorContains(t, err, "'%EVENTS_QUEUE%' does not resolve to a value")
	require.ErrorContains(t, err, "'%PROGRESSION_QUEUE%' does not resolve to a value")
}

func TestLayout(t *testing.T) {
	t.Parallel()
	repository := fstest.MapFS{
		"host.json": {}, "functions/a/function.json": {}, "functions/b/function.json": {}, "core/x.go": {}, "functions/b/sample.dat": {},
	}
	layout := host.Layout(repository)
	require.NoError(t, fstest.TestFS(layout, "host.json", "a/function.json", "b/function.json", "b/sample.dat"))
	_, err := fs.Stat(layout, "core/x.go")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Contract §1.1, host.json: "Every key can be overridden by environment"; §8.1: the allow-list functions__N.
func TestOverrides(t *testing.T) {
	t.Parallel()
	files := root(map[string]string{
		"host.json": hostJSON("", `"functions":["a","b"]`), "a": httpFunction("a"), "b": httpFunction("b"), "c": httpFunction("c"),
	})
	names := func(getenv func(string) string) string {
		app, err := host.Load(files, getenv)
		require.NoError(t, err)
		var names []string
		for _, f := range app.Functions {
			names = append(names, f.Name+":"+f.Route)
		}
		return strings.Join(names, " ")
	}
	require.Equal(t, "a:api/a b:api/b", names(env()))
	require.Equal(t, "b:api/b c:api/c", names(env("AzureFunctionsJobHost__functions__0", "c")))
	require.Equal(t, "a:x/a b:x/b", names(env("AzureFunctionsJobHost__extensions__http__routePrefix", "x")))
	require.Equal(t, "b:api/b", names(env("AzureWebJobs__a__Disabled", "true")))

	_, err := host.Load(files, env("AzureFunctionsJobHost__functions__1", "d"))
	require.ErrorContains(t, err, `"d", which is not there`)
	_, err = host.Load(files, env("AzureFunctionsJobHost__customHandler__port", "x"))
	require.ErrorContains(t, err, "not an integer")
	_, err = host.Load(files, env("AzureFunctionsJobHost__customHandler__enableProxyingHttpRequest", "yes"))
	require.ErrorContains(t, err, "not true or false")
	_, err = host.Load(files, env("AzureFunctionsJobHost__functionTimeout", "5 minutes"))
	require.ErrorContains(t, err, "functionTimeout")
}

// What the real host refuses, and what is not simulated, does not load.
func TestRefusals(t *testing.T) {
	t.Parallel()
	good := hostJSON("", "")
	description := `"description":{"defaultExecutablePath":"handler"}`
	bindings := func(text string) string { return `{"bindings":[` + text + `]}` }
	trigger := `{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous"}`
	for name, c := range map[string]struct{ host, function, want string }{
		"no host.json":              {"", "", "read host.json"},
		"broken host.json":          {"{", "", "read host.json"},
		"version":                   {strings.Replace(good, "2.0", "1.0", 1), "", "only \"2.0\" is known"},
		"no custom handler":         {`{"version":"2.0"}`, "", "customHandler is missing"},
		"§1.1 missing description":  {`{"version":"2.0","customHandler":{}}`, "", "Missing worker Description."},
		"§1.1 empty executable":     {`{"version":"2.0","customHandler":{"description":{}}}`, "", "defaultExecutablePath is empty"},
		"§1.1 type None":            {`{"version":"2.0","customHandler":{` + description + `,"type":"None"}}`, "", "type \"None\""},
		"misspelt key":              {`{"version":"2.0","customHandler":{` + description + `,"enableProxyHttpRequest":true}}`, "", "enableProxyHttpRequest"},
		"misspelt description key":  {`{"version":"2.0","customHandler":{"description":{"defaultExecutable":"x"}}}`, "", "defaultExecutable"},
		"§1.1 legacy httpWorker":    {`{"version":"2.0","httpWorker":{}}`, "", "httpWorker"},
		"§1.1 port 0":               {hostJSON(`"port":0`, ""), "", "Unable to bind to port 0"},
		"§1.3 routes":               {hostJSON(`"http":{"routes":[]}`, ""), "", "http.routes"},
		"§1.4 profile":              {hostJSON("", `"configurationProfile":"mcp-custom-handler"`), "", "configurationProfile"},
		"timeout":                   {hostJSON("", `"functionTimeout":"2m"`), "", "functionTimeout"},
		"§6.1 old names":            {hostJSON("", `"extensions":{"serviceBus":{"messageHandlerOptions":{}}}`), "", "messageHandlerOptions"},
		"§6.1 wait over 2:30":       {hostJSON("", `"extensions":{"serviceBus":{"maxBatchWaitTime":"00:02:31"}}`), "", "maxBatchWaitTime"},
		"§6.1 min over max":         {hostJSON("", `"extensions":{"serviceBus":{"minMessageBatchSize":9,"maxMessageBatchSize":8}}`), "", "minMessageBatchSize"},
		"broken function.json":      {good, "[", "read function.json"},
		"misspelt binding property": {good, bindings(strings.Replace(trigger, "authLevel", "authlevels", 1)), "authlevels"},
		"unknown trigger":           {good, bindings(`{"type":"blobTrigger","direction":"in","name":"b"}`), "'blobTrigger' are not registered"},
		"no trigger":                {good, bindings(`{"type":"http","direction":"out","name":"res"}`), "no trigger binding"},
		"two triggers":              {good, bindings(trigger + "," + strings.Replace(trigger, "req", "req2", 1)), "multiple trigger"},
		"names twice":               {good, bindings(trigger + `,{"type":"http","direction":"out","name":"req"}`), "used twice"},
		"direction":                 {good, bindings(strings.Replace(trigger, `"in"`, `"out"`, 1)), "direction"},
		"service bus output":        {good, bindings(trigger + `,{"type":"serviceBus","direction":"out","name":"o"}`), "publish from the handler"},
		"keys":                      {good, bindings(strings.Replace(trigger, "anonymous", "function", 1)), "authLevel"},
		"built-in route":            {hostJSON("", `"extensions":{"http":{"routePrefix":""}}`), httpFunction("admin/x"), "built in routes"},
		"leading slash":             {good, httpFunction("/x"), "begins with a slash"},
		"unresolved setting":        {good, strings.Replace(queueFunction(""), "orders", "%NOPE%", 1), "'%NOPE%' does not resolve to a value"},
		"no queue":                  {good, strings.Replace(queueFunction(""), "orders", "", 1), "queueName is missing"},
		"topic":                     {good, queueFunction(`,"topicName":"t"`), "topics"},
		"sessions":                  {good, queueFunction(`,"isSessionsEnabled":true`), "sessions"},
		"cardinality":               {good, queueFunction(`,"cardinality":"two"`), "cardinality"},
		"dataType":                  {good, queueFunction(`,"dataType":"stream"`), "dataType"},
		"§9 no bundle":              {strings.Replace(good, "[4.38.0]", "", 1), queueFunction(""), "extensionBundle"},
		"schedule":                  {good, timerFunction("every minute", ""), "schedule"},
		"a timer with http output":  {good, strings.Replace(timerFunction("0 * * * * *", ""), "]}", `,{"type":"http","direction":"out","name":"res"}]}`, 1), "without an httpTrigger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := root(map[string]string{})
			if c.host != "" {
				files = root(map[string]string{"host.json": c.host})
			}
			if c.function != "" {
				files["f/function.json"] = &fstest.MapFile{Data: []byte(c.function)}
			}
			_, err := host.Load(files, env())
			require.ErrorContains(t, err, c.want)
		})
	}
	bad := root(map[string]string{"host.json": good, "1f": httpFunction("x")})
	_, err := host.Load(bad, env())
	require.ErrorContains(t, err, "not a valid function name")

	two := root(map[string]string{"host.json": `{"version":"1"}`, "a": "{}", "b": "["})
	_, err = host.Load(two, env())
	require.Len(t, strings.Split(err.Error(), "\n"), 4, "all problems at once")
}
