package deploy_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"liveops/handler/app"
)

// The emulator of Service Bus takes no more.
const (
	emulatorDeliveries = 10
	emulatorWindow     = 5 * time.Minute
)

// duplicateWindow is how long the broker must remember the ids of messages: the time that local/stack plays with.
const duplicateWindow = 10 * time.Minute

var queueRules = []rule{
	{"queues are as the code reckons with", queuesAsReckoned, []seed{
		{"bicep/system.json", `"lockDuration": "PT1M"`, `"lockDuration": "PT2M"`, "lockDuration is PT2M; app.LockDuration is 1m0s"},
		{"bicep/system.json", `"maxDeliveryCount": 100`, `"maxDeliveryCount": 10`, "maxDeliveryCount is 10; app.MaxDeliveryCount is 100"},
		{"bicep/system.json", `TimeWindow": "PT10M"`, `TimeWindow": "PT1M"`, "PT1M"},
		{"bicep/system.json", `"events": { "lock`, `"event": { "lock`, `"events" is missing`},
		{"bicep/system.json", `"sends": ["progression"]`, `"sends": ["progress"]`, `"progress", which is not among the queues`},
	}},
	{"services have the roles that their functions need", rolesNeeded, []seed{
		{"bicep/system.json", `"fairness": { "sends": ["progression"], "receives": ["events"] }`, `"fairness": { "sends": [], "receives": ["events"] }`, `services.fairness.sends: "progression" is missing`},
		{"bicep/system.json", `"progression": { "sends": []`, `"progression": { "sends": ["events"]`, `services.progression.sends: "events" should not be there`},
		{"bicep/system.json", `"receives": ["events"] }`, `"receives": [] }`, `services.fairness.receives: "events" is missing`},
		{"Deployment/leaderboard", "value: redrive", "value: archive", `services.leaderboard.receives: "events" should not be there`},
	}},
	{"Bicep takes the queues from system.json", queuesInBicep, []seed{
		{"bicep/modules/servicebus.bicep", "lockDuration: queue.value.lockDuration", "lockDuration: 'PT5M'", "lockDuration: 'PT5M'"},
		{"bicep/modules/servicebus.bicep", "maxDeliveryCount: queue.value.maxDeliveryCount", "maxDeliveryCount: 10", "maxDeliveryCount: 10"},
		{"bicep/modules/servicebus.bicep", "requiresDuplicateDetection: true", "requiresDuplicateDetection: false", "requiresDuplicateDetection: false"},
		{"bicep/modules/servicebus.bicep", "deadLetteringOnMessageExpiration: true", "", "deadLetteringOnMessageExpiration is not set"},
		{"bicep/modules/servicebus.bicep", "requiresSession: false", "requiresSession: true", "requiresSession: true"},
		{"bicep/modules/servicebus.bicep", "service.value.sends", "service.value.receives", "service.value.sends"},
		{"bicep/modules/servicebus.bicep", "for queue in items(system.queues)", "for queue in []", "items(system.queues)"},
		{"bicep/modules/servicebus.bicep", "loadJsonContent('../system.json')", "{}", "loadJsonContent('../system.json')"},
	}},
	{"the emulator's queues are Azure's, within its limits", queuesInCompose, []seed{
		{"deploy/compose/servicebus.json", `"LockDuration": "PT1M"`, `"LockDuration": "PT5M"`, "LockDuration"},
		{"deploy/compose/servicebus.json", `"MaxDeliveryCount": 10`, `"MaxDeliveryCount": 5`, "MaxDeliveryCount"},
		{"deploy/compose/servicebus.json", `"Name": "progression"`, `"Name": "progress"`, `"progression" is missing`},
	}},
}

// iso8601 reads a duration such as PT1M30S.
func iso8601(text string) (time.Duration, error) {
	rest, ok := strings.CutPrefix(text, "PT")
	if !ok {
		return 0, fmt.Errorf("%q is not a duration such as PT1M", text)
	}
	return time.ParseDuration(strings.ToLower(rest))
}

func queuesAsReckoned(a *assets, r *report) {
	where := "bicep/system.json: queues"
	for _, p := range a.pods() {
		r.same(where, []string{p.env["EVENTS_QUEUE"], p.env["PROGRESSION_QUEUE"]}, slices.Collect(maps.Keys(a.system.Queues)))
	}
	for name, q := range a.system.Queues {
		if lock, err := iso8601(q.LockDuration); err != nil || lock != app.LockDuration {
			r.add(where+"."+name, "lockDuration is %s; app.LockDuration is %s", q.LockDuration, app.LockDuration)
		}
		if q.MaxDeliveryCount != app.MaxDeliveryCount {
			r.add(where+"."+name, "maxDeliveryCount is %d; app.MaxDeliveryCount is %d", q.MaxDeliveryCount, app.MaxDeliveryCount)
		}
		if window, err := iso8601(q.DuplicateDetectionHistoryTimeWindow); err != nil || window != duplicateWindow {
			r.add(where+"."+name, "duplicateDetectionHistoryTimeWindow is %s, not %s", q.DuplicateDetectionHistoryTimeWindow, duplicateWindow)
		}
	}
	for name, s := range a.system.Services {
		for _, queue := range slices.Concat(s.Sends, s.Receives) {
			if _, ok := a.system.Queues[queue]; !ok {
				r.add("bicep/system.json: services."+name, "names %q, which is not among the queues", queue)
			}
		}
	}
}

// queuesOf are what functions do with the queues, beside what their triggers read. Functions that are not named do nothing.
var queuesOf = map[string]struct{ sends, receives []string }{
	"events":     {sends: []string{"events"}},
	"fairness":   {sends: []string{"progression"}},
	"redrive":    {sends: []string{"events", "progression"}, receives: []string{"events", "progression"}},
	"operations": {sends: []string{"events", "progression"}, receives: []string{"events", "progression"}}, // releases, and redrives at once
}

func rolesNeeded(a *assets, r *report) {
	for _, p := range a.pods() {
		loaded, err := a.loadHost(p)
		if err != nil {
			continue // hostLoads tells
		}
		var sends, receives []string
		for _, f := range loaded.Functions {
			sends = append(sends, queuesOf[f.Name].sends...)
			receives = append(receives, queuesOf[f.Name].receives...)
			if f.Queue != "" {
				receives = append(receives, f.Queue)
			}
		}
		where, has := "bicep/system.json: services."+p.name, a.system.Services[p.name]
		r.same(where+".sends", sends, has.Sends)
		r.same(where+".receives", receives, has.Receives)
	}
}

// queuesInBicep reads the text: Bicep's compiler is not needed to see where a value comes from.
func queuesInBicep(a *assets, r *report) {
	const file = "bicep/modules/servicebus.bicep"
	text := a.files[file]
	for _, property := range []string{"lockDuration", "maxDeliveryCount", "duplicateDetectionHistoryTimeWindow"} {
		from(r, file, text, property, "queue.value."+property)
	}
	for property, value := range map[string]string{"requiresDuplicateDetection": "true", "requiresSession": "false", "deadLetteringOnMessageExpiration": "true"} {
		from(r, file, text, property, value)
	}
	r.lacks(a, file, "queues and roles come from bicep/system.json",
		"var system = loadJsonContent('../system.json')", "for queue in items(system.queues)", "name: queue.key",
		"map(items(system.services), service => map(service.value.sends, ", "map(items(system.services), service => map(service.value.receives, ")
}

// from reports lines of a Bicep file that give a property another value.
func from(r *report, file, text, property, value string) {
	lines := regexp.MustCompile(`(?m)^\s*`+property+`:\s*([^\s/]+)`).FindAllStringSubmatch(text, -1)
	if len(lines) == 0 {
		r.add(file, "%s is not set; it should be %s", property, value)
	}
	for _, line := range lines {
		if line[1] != value {
			r.add(file, "%s: %s should be %s", property, line[1], value)
		}
	}
}

func queuesInCompose(a *assets, r *report) {
	const file = "deploy/compose/servicebus.json"
	r.same(file, slices.Collect(maps.Keys(a.system.Queues)), slices.Collect(maps.Keys(a.local.queues)))
	for name, q := range a.local.queues {
		azure := a.system.Queues[name]
		if q.LockDuration != azure.LockDuration {
			r.add(file, "queue %s: LockDuration is %s, in bicep/system.json %s", name, q.LockDuration, azure.LockDuration)
		}
		if want := min(azure.MaxDeliveryCount, emulatorDeliveries); q.MaxDeliveryCount != want {
			r.add(file, "queue %s: MaxDeliveryCount is %d, not %d", name, q.MaxDeliveryCount, want)
		}
		got, err := iso8601(q.DuplicateDetectionHistoryTimeWindow)
		want, _ := iso8601(azure.DuplicateDetectionHistoryTimeWindow)
		if want = min(want, emulatorWindow); err != nil || got != want {
			r.add(file, "queue %s: DuplicateDetectionHistoryTimeWindow is %s, not %s", name, q.DuplicateDetectionHistoryTimeWindow, want)
		}
	}
}
