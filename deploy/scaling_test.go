package deploy_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// serviceBusScaler is the metadata that KEDA's azure-servicebus knows for a queue that is reached by identity. It ignores what it
// does not know, such as the misspelt name of a limit.
var serviceBusScaler = map[string]*regexp.Regexp{
	"queueName":              regexp.MustCompile(`^[a-z0-9-]+$`),
	"namespace":              regexp.MustCompile(`^[a-zA-Z0-9-]+$`), // the short name: KEDA adds the domain
	"messageCount":           regexp.MustCompile(`^[1-9][0-9]*$`),
	"activationMessageCount": regexp.MustCompile(`^[0-9]+$`),
}

var scalingRules = []rule{
	{"one autoscaler decides on the replicas of each Deployment", oneAutoscaler, []seed{
		{"Deployment/gateway", "spec:\n  selector", "spec:\n  replicas: 2\n  selector", "Deployment/gateway: replicas"},
		{"ScaledObject/fairness", "scaleTargetRef:\n    name: fairness", "scaleTargetRef:\n    name: fair", "no Deployment fair"},
		{"HorizontalPodAutoscaler/leaderboard", "kind: Deployment\n    name: leaderboard", "kind: Deployment\n    name: gateway", "gateway has 2 autoscalers"},
		{"HorizontalPodAutoscaler/gateway", "maxReplicas: ", "maxReplicas: 0 #", "scales from"},
		{"ScaledObject/progression", "maxReplicaCount: ", "maxReplicaCount: 0 #", "scales from"},
		{"ScaledObject/progression", "    replicas: ", "    replicas: 1000 #", "fallback"},
		{"HorizontalPodAutoscaler/leaderboard", "minReplicas: ", "minReplicas: 0 #", "at least one"},
	}},
	{"KEDA's azure-servicebus finds what it asks for", kedaSatisfied, []seed{
		{"ScaledObject/fairness", "queueName: events", "queue: events", `"queue", which azure-servicebus does not know`},
		{"ScaledObject/fairness", "queueName: events", "queue: events", "queueName is"},
		{"ScaledObject/fairness", "messageCount: ", "messageCount: 1000 #", "messageCount is 1000, not a string"},
		{"ScaledObject/fairness", "messageCount: ", "messageCount: many #", "messageCount is many, not a string of the form"},
		{"ScaledObject/fairness", "activationMessageCount", "activationCount", `"activationCount", which azure-servicebus does not know`},
		{"deploy/base/azure/replacements.yaml", "data.SERVICEBUS_NAMESPACE", "data.SERVICEBUS_FQDN", "namespace is"},
		{"ScaledObject/fairness", "type: azure-servicebus", "type: azure-queue", "azure-queue"},
		{"ScaledObject/fairness", "name: servicebus", "name: bus", "no TriggerAuthentication bus"},
		{"ScaledObject/fairness", "  triggers:\n", "  triggers:\n  - type: cron\n", "2 triggers"},
		{"TriggerAuthentication/servicebus", "provider: azure-workload", "provider: azure", "azure-workload"},
	}},
	{"MySQL has connections for every replica there may be", connectionsSuffice, []seed{
		{"ConfigMap/settings", `DB_MAX_CONNS: "`, `DB_MAX_CONNS: "9`, "maxConnections"},
		{"HorizontalPodAutoscaler/gateway", "maxReplicas: ", "maxReplicas: 1000 #", "maxConnections"},
		{"bicep/system.json", `"maxConnections": `, `"maxConnections": 1, "was": `, "maxConnections"},
		{"Deployment/gateway", "maxSurge: ", "maxSurge: 1000 #", "maxConnections"},
		{"Deployment/gateway", "maxSurge: ", "maxSurplus: ", "a number for maxSurge"},
		{"bicep/mysql/server.sh", "max_connections = $MAX_CONNECTIONS", "max_connections = 151", "another limit"},
		{"bicep/modules/mysql-vm.bicep", "${system.mysql.maxConnections}", "151", "MAX_CONNECTIONS"},
	}},
}

// bounds are what an autoscaler says of a Deployment.
type bounds struct {
	where        string
	target       scaleTarget
	least, most  int
	otherwise    int // replicas while KEDA cannot tell
	scalesOnWork bool
}

func (a *assets) bounds() []bounds {
	var all []bounds
	for _, h := range a.autoscalers {
		all = append(all, bounds{where: h.at("spec"), target: h.Spec.ScaleTargetRef, least: h.Spec.MinReplicas, most: h.Spec.MaxReplicas})
	}
	for _, s := range a.scaledObjects {
		all = append(all, bounds{s.at("spec"), s.Spec.ScaleTargetRef, s.Spec.MinReplicaCount, s.Spec.MaxReplicaCount, s.Spec.Fallback.Replicas, true})
	}
	return all
}

func oneAutoscaler(a *assets, r *report) {
	scaled := map[string]int{}
	for _, b := range a.bounds() {
		scaled[b.target.Name]++
		if !slices.ContainsFunc(a.deployments, func(d deployment) bool { return d.Metadata.Name == b.target.Name }) || b.target.Kind != "" && b.target.Kind != "Deployment" {
			r.add(b.where+".scaleTargetRef", "there is no Deployment %s", b.target.Name)
		}
		if b.least > b.most || b.most < 1 {
			r.add(b.where, "scales from %d to %d", b.least, b.most)
		}
		if b.least < 1 && !b.scalesOnWork {
			r.add(b.where, "should keep at least one replica: nothing would wake the service")
		}
		if b.scalesOnWork && (b.otherwise < 1 || b.otherwise > b.most) {
			r.add(b.where+".fallback", "is %d replicas, with at most %d allowed", b.otherwise, b.most)
		}
	}
	for _, d := range a.deployments {
		if d.Spec.Replicas != nil {
			r.add(d.at("replicas"), "should be left to the autoscaler: Argo CD would put it back at every sync")
		}
		if n := scaled[d.Metadata.Name]; n != 1 {
			r.add(d.at("replicas"), "%s has %d autoscalers, not one", d.Metadata.Name, n)
		}
	}
}

func kedaSatisfied(a *assets, r *report) {
	for _, s := range a.scaledObjects {
		if len(s.Spec.Triggers) != 1 {
			r.add(s.at("triggers"), "%d triggers, not one", len(s.Spec.Triggers))
		}
		for _, t := range s.Spec.Triggers {
			if t.Type != "azure-servicebus" {
				r.add(s.at("triggers.type"), "is %q, not azure-servicebus", t.Type)
			}
			for name := range t.Metadata {
				if serviceBusScaler[name] == nil {
					r.add(s.at("triggers.metadata"), "has %q, which azure-servicebus does not know", name)
				}
			}
			for name, form := range serviceBusScaler {
				if text, ok := t.Metadata[name].(string); !ok || !form.MatchString(text) {
					r.add(s.at("triggers.metadata"), "%s is %v, not a string of the form %s", name, t.Metadata[name], form)
				}
			}
			namespace, _ := t.Metadata["namespace"].(string)
			a.is(r, s.at("triggers.metadata.namespace"), namespace, "SERVICEBUS_NAMESPACE")
			at := slices.IndexFunc(a.authentications, func(x triggerAuthentication) bool { return x.Metadata.Name == t.AuthenticationRef.Name })
			if at < 0 || t.AuthenticationRef.Kind != "" && t.AuthenticationRef.Kind != "TriggerAuthentication" {
				r.add(s.at("triggers.authenticationRef"), "there is no TriggerAuthentication %s", t.AuthenticationRef.Name)
			} else if identity := a.authentications[at].Spec.PodIdentity; identity.Provider != "azure-workload" || identity.IdentityID == "" {
				r.add(a.authentications[at].at("podIdentity"), "should have the provider azure-workload, not %q, and an identityId", identity.Provider)
			}
		}
	}
}

// migrations is how many connections the migration takes.
const migrations = 1

func connectionsSuffice(a *assets, r *report) {
	sum := migrations
	for _, d := range a.deployments {
		each, _ := strconv.Atoi(a.environmentOf(d.Spec.Template)["DB_MAX_CONNS"])
		surge := d.Spec.Strategy.RollingUpdate.MaxSurge
		if each == 0 || surge == nil {
			r.add(d.at("spec"), "DB_MAX_CONNS and a number for maxSurge are needed to tell the connections it takes")
			continue
		}
		for _, b := range a.bounds() {
			if b.target.Name == d.Metadata.Name {
				sum += (b.most + *surge) * each
			}
		}
	}
	if most := a.system.MySQL.MaxConnections; sum >= most {
		r.add("overlay "+a.environment, "the replicas there may be take %d connections, and mysql.maxConnections of bicep/system.json is %d: lower DB_MAX_CONNS or the bounds", sum, most)
	}
	if !strings.Contains(a.files["bicep/modules/mysql-vm.bicep"], `MAX_CONNECTIONS=${system.mysql.maxConnections}\n`) {
		r.add("bicep/modules/mysql-vm.bicep", "MAX_CONNECTIONS does not come from bicep/system.json")
	}
	r.lacks(a, "bicep/mysql/server.sh", "MySQL has another limit", "max_connections = $MAX_CONNECTIONS")
}
