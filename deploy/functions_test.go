package deploy_test

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"

	"liveops/local/host"
)

// probes are the functions that every service runs; each other one runs in one service.
var probes = []string{"healthz", "readyz"}

var functionRules = []rule{
	{"every function runs in exactly one service, the probes in all", functionsPlaced, []seed{
		{"Deployment/gateway", "value: keys", "value: key", `services with the function "keys": []`},
		{"Deployment/gateway", "value: keys", "value: key", `"key", which functions/ does not have`},
		{"Deployment/fairness", "value: fairness\n", "value: progression\n", `services with the function "progression": [fairness progression]`},
		{"Deployment/fairness", "value: readyz", "value: healthz", `the function "readyz" is missing`},
		{"Deployment/leaderboard", "functions__2", "functions__7", "the numbers of AzureFunctionsJobHost__functions__N are [0 1 3 4 7], not 0 to 4"},
		{"compose.yaml", "functions__3: leaderboards", "functions__3: archive", `services with the function "leaderboards": []`},
	}},
	{"every service is a host of its own", hostIDs, []seed{
		{"Deployment/gateway", "value: liveops-gateway", "value: liveops-fairness", "also that of"},
		{"Deployment/gateway", "value: liveops-gateway", "value: LiveOps", "lower-case"},
		{"Deployment/gateway", "value: liveops-gateway", "value: liveops-gateway-of-the-whole-of-the-game", "32"},
	}},
	{"the host loads the functions of every service", hostLoads, []seed{
		{"ConfigMap/settings", "  PROGRESSION_QUEUE: progression\n", "", "PROGRESSION_QUEUE"},
		{"functions/fairness/function.json", `"dataType": "binary"`, `"dataTypes": "binary"`, "dataTypes"},
		{"host.json", `"extensions"`, `"functionTimeout": "2m", "extensions"`, "functionTimeout"},
	}},
	{"triggers find what they read by their service's settings", triggersFind, []seed{
		{"ConfigMap/settings", "EVENTS_QUEUE: events", "EVENTS_QUEUE: progression", `fairness reads the queue "progression", and its ScaledObject looks at "events"`},
		{"ScaledObject/progression", "name: progression\n  triggers", "name: leaderboard\n  triggers", `progression reads the queue "progression", and its ScaledObject looks at ""`},
		{"functions/fairness/function.json", `"connection": "SERVICEBUS"`, `"connection": "BUS"`, "BUS__fullyQualifiedNamespace"},
		{"ScaledObject/fairness", "queueName: events", "queueName: progression", `its ScaledObject looks at "progression"`},
		{"Deployment/leaderboard", "AzureWebJobsStorage__accountName", "AzureWebJobsStorage", "run in every replica"},
		{"Deployment/gateway", "name: GOMEMLIMIT", "name: AzureWebJobsStorage__accountName", "the service has no timer"},
		{"deploy/base/azure/replacements.yaml", "data.STORAGE_ACCOUNT", "data.KEY_VAULT_SCHEMA", "STORAGE_ACCOUNT"},
	}},
}

// names are the functions of functions/.
func (a *assets) functionNames() []string {
	var names []string
	for file := range a.files {
		if strings.HasPrefix(file, "functions/") && path.Base(file) == "function.json" {
			names = append(names, path.Base(path.Dir(file)))
		}
	}
	slices.Sort(names)
	return names
}

// functions are those that an instance is told to run, by their numbers.
func (i instance) functions() map[int]string {
	list := map[int]string{}
	for name, value := range i.env {
		if m := allowList.FindStringSubmatch(name); m != nil {
			n, _ := strconv.Atoi(m[1])
			list[n] = value
		}
	}
	return list
}

func functionsPlaced(a *assets, r *report) {
	place := func(where string, instances []instance) {
		services := map[string][]string{}
		for _, i := range instances {
			list := i.functions()
			numbers := slices.Sorted(maps.Keys(list))
			for at, n := range numbers {
				if at != n { // with a gap the host takes what is before it
					r.add(i.where, "the numbers of AzureFunctionsJobHost__functions__N are %v, not 0 to %d", numbers, len(numbers)-1)
					break
				}
			}
			for _, name := range list {
				services[name] = append(services[name], i.name)
				if !slices.Contains(a.functionNames(), name) {
					r.add(i.where, "the service runs %q, which functions/ does not have", name)
				}
			}
			for _, name := range probes {
				if !slices.Contains(slices.Collect(maps.Values(list)), name) {
					r.add(i.where, "the function %q is missing, which the kubelet asks", name)
				}
			}
		}
		for _, name := range a.functionNames() {
			if in := slices.Sorted(slices.Values(services[name])); !slices.Contains(probes, name) && len(in) != 1 {
				r.add(where, "services with the function %q: %v; there should be one", name, in)
			}
		}
	}
	pods := a.pods()
	place("deploy/base/services", pods)
	place("compose.yaml", a.instances()[len(pods):])
}

func hostIDs(a *assets, r *report) {
	valid := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]string{}
	for _, p := range a.pods() {
		id := p.env["AzureFunctionsWebHost__hostid"]
		if !valid.MatchString(id) || len(id) > 32 {
			r.add(p.where, "AzureFunctionsWebHost__hostid is %q; it should have at most 32 lower-case letters, digits and single dashes", id)
		}
		if other, ok := seen[id]; ok {
			r.add(p.where, "AzureFunctionsWebHost__hostid is %q, also that of %s: they would take each other's leases", id, other)
		}
		seen[id] = p.name
	}
}

// scriptRoot is what the image has beside host.json.
func (a *assets) scriptRoot() fstest.MapFS {
	root := fstest.MapFS{}
	for file, text := range a.files {
		if file == "host.json" || strings.HasPrefix(file, "functions/") {
			root[strings.TrimPrefix(file, "functions/")] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return root
}

func (a *assets) loadHost(i instance) (*host.App, error) {
	return host.Load(a.scriptRoot(), func(name string) string { return i.env[name] })
}

func hostLoads(a *assets, r *report) {
	for _, i := range a.instances() {
		if _, err := a.loadHost(i); err != nil {
			r.add(i.where, "the host refuses it: %v", err)
		}
	}
}

func triggersFind(a *assets, r *report) {
	for _, p := range a.pods() {
		loaded, err := a.loadHost(p)
		if err != nil {
			continue // hostLoads tells
		}
		timers := false
		for _, f := range loaded.Functions {
			timers = timers || f.Trigger == "timerTrigger"
			if f.Trigger != "serviceBusTrigger" {
				continue
			}
			if scaler := a.scaledBy(p.name); scaler != f.Queue {
				r.add(p.where, "%s reads the queue %q, and its ScaledObject looks at %q", f.Name, f.Queue, scaler)
			}
			setting := a.connection(f.Name) + "__fullyQualifiedNamespace"
			if p.env[setting] != a.azure.values["SERVICEBUS_FQDN"] {
				r.add(p.where, "%s is %q, not SERVICEBUS_FQDN: the connection of functions/%s/function.json finds no namespace", setting, p.env[setting], f.Name)
			}
		}
		const account = "AzureWebJobsStorage__accountName"
		switch value := p.env[account]; {
		case timers && value == "":
			r.add(p.where, "%s is not set: without leases the timers run in every replica", account)
		case timers && value != a.azure.values["STORAGE_ACCOUNT"]:
			r.add(p.where, "%s is %q, not STORAGE_ACCOUNT of %s", account, value, a.azure.file)
		case !timers && value != "":
			r.add(p.where, "%s is set, and the service has no timer and no role there", account)
		}
	}
}

// scaledBy is the queue whose depth scales a Deployment.
func (a *assets) scaledBy(deployment string) string {
	for _, s := range a.scaledObjects {
		for _, t := range s.Spec.Triggers {
			if s.Spec.ScaleTargetRef.Name == deployment {
				queue, _ := t.Metadata["queueName"].(string)
				return queue
			}
		}
	}
	return ""
}

// connection is the setting by which a trigger finds the namespace.
func (a *assets) connection(function string) string {
	var file struct{ Bindings []struct{ Connection string } }
	_ = json.Unmarshal([]byte(a.files["functions/"+function+"/function.json"]), &file)
	for _, b := range file.Bindings {
		if b.Connection != "" {
			return b.Connection
		}
	}
	return ""
}
