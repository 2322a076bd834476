package deploy_test

import (
	"fmt"
	"slices"
	"strconv"
)

// servicePorts are where the services are reached within the cluster.
var servicePorts = map[string]int{"gateway": 8080, "fairness": 8081, "leaderboard": 8082, "progression": 8083}

var portRules = []rule{
	{"ports agree from the image to the scrape", portsAgree, []seed{
		{"Dockerfile", "EXPOSE 8080", "EXPOSE 80", "EXPOSE"},
		{"Dockerfile", "http://+:8080", "http://+:80", "ASPNETCORE_URLS"},
		{"ConfigMap/settings", "METRICS_ADDR: :9464", "METRICS_ADDR: :9090", "METRICS_ADDR"},
		{"Deployment/gateway", "containerPort: 8080", "containerPort: 80", "containerPort"},
		{"Deployment/gateway", "name: metrics", "name: metric", "containerPort"},
		{"Service/fairness", "port: 8081", "port: 8080", "fairness: ports"},
		{"Service/fairness", "targetPort: metrics", "targetPort: scrape", "fairness: ports"},
		{"ServiceMonitor/liveops", "port: metrics", "port: http", "ServiceMonitor"},
		{"compose.yaml", "127.0.0.1:8082:8080", "127.0.0.1:8082:8082", "compose.yaml"},
		{"bicep/system.json", `"metrics": 9464`, `"metrics": 9465`, "9465"},
	}},
	{"Bicep's network opens the ports of system.json", portsInBicep, []seed{
		{"bicep/modules/network.bicep", "'${ports.mysql}', '9100'", "'3307', '9100'", "${ports.mysql}"},
		{"bicep/modules/network.bicep", "'${ports.amqp}', ", "", "${ports.amqp}"},
		{"bicep/secrets.sh", ":3306/liveops", ":3307/liveops", ":3306/liveops"},
		{"bicep/system.json", `"redis": 6380`, `"redis": 6379`, ":6379/0"},
	}},
}

func portsAgree(a *assets, r *report) {
	p := a.system.Ports
	r.same("Dockerfile: EXPOSE", []string{strconv.Itoa(p.Host), strconv.Itoa(p.Metrics)}, a.image.expose)
	if want := fmt.Sprintf("http://+:%d", p.Host); a.image.env["ASPNETCORE_URLS"] != want {
		r.add("Dockerfile: ENV", "ASPNETCORE_URLS is %q, not %q", a.image.env["ASPNETCORE_URLS"], want)
	}
	for _, d := range a.deployments {
		if want, got := ":"+strconv.Itoa(p.Metrics), a.environmentOf(d.Spec.Template)["METRICS_ADDR"]; got != want {
			r.add(d.at("env"), "METRICS_ADDR is %q, not %q", got, want)
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			if want := []containerPort{{"http", p.Host}, {"metrics", p.Metrics}}; !slices.Equal(c.Ports, want) {
				r.add(d.at("containerPort"), "%v, not %v", c.Ports, want)
			}
		}
	}
	for _, s := range a.services {
		want := fmt.Sprintf("[{http %d http} {metrics %d metrics}]", servicePorts[s.Metadata.Name], p.Metrics)
		if got := fmt.Sprint(s.Spec.Ports); got != want {
			r.add(s.at("ports"), "%s, not %s (name, port, targetPort)", got, want)
		}
	}
	for _, m := range a.monitors {
		for _, e := range m.Spec.Endpoints {
			if e.Port != "metrics" || e.Path != "" && e.Path != "/metrics" {
				r.add(m.at("endpoints"), "scrapes %q %s, not /metrics of the port metrics", e.Port, e.Path)
			}
		}
	}
	for _, name := range a.composed() {
		want := []string{fmt.Sprintf("127.0.0.1:%d:%d", servicePorts[name], p.Host)}
		if got := a.local.Services[name].Ports; !slices.Equal(got, want) {
			r.add("compose.yaml: services."+name+".ports", "%v, not %v", got, want)
		}
	}
}

func portsInBicep(a *assets, r *report) {
	p := a.system.Ports
	r.lacks(a, "bicep/modules/network.bicep", "the ports of bicep/system.json",
		"var ports = loadJsonContent('../system.json').ports",
		"['${ports.mysql}', '9100', '9104', '12345']",
		"['${ports.https}', '${ports.amqp}', '${ports.redis}']",
		"destinationPortRange: '${ports.loki}'")
	r.lacks(a, "bicep/secrets.sh", "the ports of bicep/system.json", fmt.Sprintf("@%%s:%d/liveops", p.MySQL), fmt.Sprintf("@%%s:%d/0", p.Redis))
}
