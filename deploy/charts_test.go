package deploy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var chartRules = []rule{
	{"charts and images of the monitoring are pinned", chartsPinned, []seed{
		{"charts/Application/loki-prod", "targetRevision: ", "targetRevision: ^6 #", "targetRevision"},
		{"charts/Application/loki-prod", "targetRevision: ", "targetRevision: HEAD #", "targetRevision"},
		{"charts/Application/loki-prod", "releaseName: loki", "releaseName: logs", "releaseName"},
		{"charts/Application/loki-prod", "https://grafana.github.io/helm-charts", "https://charts.example.com", "sourceRepos"},
		{"charts/Application/loki-prod", "name: liveops-prod", "name: liveops-dev", "destination"},
		{"charts/Application/loki-prod", "project: monitoring", "project: default", "project"},
		{"monitoring/Deployment/redis-exporter", "redis_exporter:v", "redis_exporter:latest #", "redis_exporter:latest"},
		{"charts/Application/alloy-prod", "tag: v", "tag: v1.0.0 #", "v1.0.0"},
		{mysqlScript, "alloyVersion=", "alloyVersion=1.0.0-1 #", "1.0.0-1"},
		{"deploy/overlays/prod/charts/kustomization.yaml", "nameSuffix: -prod", "nameSuffix: -dev", "alloy-dev"},
	}},
	{"an environment is named in what it tells", environmentTold, []seed{
		{"charts/Application/alloy-prod", "value: prod", "value: dev", "ENVIRONMENT"},
		{"charts/Application/alloy-prod", "value: mysql.", "value: db.", "MYSQL_HOST"},
		{"charts/Application/kube-prometheus-stack-prod", "environment: prod", "environment: dev", "externalLabels"},
		{clusterAlloy, `environment = sys.env("ENVIRONMENT")`, `env = sys.env("ENVIRONMENT")`, "environment = "},
		{"monitoring/Ingress/grafana", "host: grafana.", "host: g.", "root_url"},
	}},
	{"what is sent in the cluster reaches a Service", addressesServed, []seed{
		{clusterAlloy, "http://loki.monitoring:3100", "http://loki-gateway.monitoring:80", "loki-gateway.monitoring:80"},
		{clusterAlloy, "tempo.monitoring:4317", "tempo.monitoring:4316", "tempo.monitoring:4316"},
		{clusterAlloy, "kube-prometheus-stack-prometheus.monitoring", "prometheus.monitoring", "prometheus.monitoring:9090"},
		{"deploy/monitoring/charts/kube-prometheus-stack.yaml", "http://tempo.monitoring:3200", "http://tempo.monitoring:3100", "tempo.monitoring:3100"},
		{"ConfigMap/settings", "http://alloy.monitoring:4318", "http://alloy.monitoring:4317", "alloy.monitoring:4317"},
		{"charts/Application/alloy-prod", "name: otlp-http\n            port: 4318", "name: otlp-http\n            port: 4319", "alloy.monitoring:4318"},
		{clusterAlloy, `"0.0.0.0:4318"`, `"0.0.0.0:4319"`, "0.0.0.0:4318"},
		{"monitoring/Ingress/grafana", "name: kube-prometheus-stack-grafana", "name: grafana", "backend"},
	}},
	{"Prometheus takes what Alloy scrapes, and our rules", prometheusTakes, []seed{
		{"charts/Application/kube-prometheus-stack-prod", "enableRemoteWriteReceiver: true", "enableRemoteWriteReceiver: false", "enableRemoteWriteReceiver"},
		{"charts/Application/kube-prometheus-stack-prod", "serviceMonitorSelector:", "serviceMonitorSelectors:", "serviceMonitorSelector"},
		{"charts/Application/kube-prometheus-stack-prod", "ruleSelectorNilUsesHelmValues: false", "ruleSelectorNilUsesHelmValues: true", "ruleSelectorNilUsesHelmValues"},
		{"charts/Application/kube-prometheus-stack-prod", "- exemplar-storage", "- native-histograms", "exemplar-storage"},
		{"charts/Application/kube-prometheus-stack-prod", "defaultRules:\n          create: false", "defaultRules:\n          create: true", "defaultRules"},
		{"charts/Application/kube-prometheus-stack-prod", "label: grafana_dashboard", "label: dashboard", "grafana_dashboard"},
		{"charts/Application/alloy-prod", "key: cluster.alloy", "key: config.alloy", "cluster.alloy"},
		{"charts/Application/alloy-prod", "mountPath: /etc/windows", "mountPath: /etc/win", "/etc/windows"},
	}},
}

func chartsPinned(a *assets, r *report) {
	project := a.argo.projects[monitoring]
	versioned := regexp.MustCompile(`^v?\d+\.\d+\.\d+$`)
	for _, c := range a.charts {
		source := c.Spec.Source
		if !versioned.MatchString(source.TargetRevision) {
			r.add(c.at("targetRevision"), "%s is not one version", source.TargetRevision)
		}
		if !slices.Contains(project.Spec.SourceRepos, source.RepoURL) {
			r.add(c.at("repoURL"), "%s is not among sourceRepos of deploy/argocd/monitoring.yaml", source.RepoURL)
		}
		if source.Helm.ReleaseName != source.Chart || c.Metadata.Name != source.Chart+"-"+a.environment {
			r.add(c.at("releaseName"), "is %q, and %q the Application's, not those of the chart %s in %s", source.Helm.ReleaseName, c.Metadata.Name, source.Chart, a.environment)
		}
		if want := (destination{Name: "liveops-" + a.environment, Namespace: monitoring}); c.Spec.Destination != want || !slices.Contains(project.Spec.Destinations, want) {
			r.add(c.at("destination"), "is %v; it and one of the project's should be %v", c.Spec.Destination, want)
		}
		if c.Spec.Project != monitoring || c.Metadata.Namespace != "argocd" {
			r.add(c.at("project"), "is %q in %q, not %q in \"argocd\"", c.Spec.Project, c.Metadata.Namespace, monitoring)
		}
	}
	for _, w := range a.monitoring.workloads() {
		for _, c := range w.pod.Spec.Containers {
			if _, tag, _ := strings.Cut(c.Image, ":"); !versioned.MatchString(tag) {
				r.add(w.at("image"), "%s does not name a version", c.Image)
			}
		}
	}
	vm := regexp.MustCompile(`alloyVersion=(\S+)`).FindStringSubmatch(a.files[mysqlScript])
	if tag := a.valued("alloy", "image", "tag"); vm == nil || tag != "v"+strings.TrimSuffix(vm[1], "-1") {
		r.add(mysqlScript, "installs Alloy %v, and the cluster runs %s", vm, tag)
	}
}

// valued is a value of the chart as text.
func (a *assets) valued(chart string, path ...string) string {
	for _, c := range a.charts {
		if c.Spec.Source.Chart == chart {
			return fmt.Sprint(c.value(path...))
		}
	}
	return ""
}

func environmentTold(a *assets, r *report) {
	env := a.valued("alloy", "alloy", "extraEnv")
	for name, value := range map[string]string{"ENVIRONMENT": a.environment, "MYSQL_HOST": a.azure.values["MYSQL_HOST"]} {
		if pair := "map[name:" + name + " value:" + value + "]"; !strings.Contains(env, pair) {
			r.add("deploy/overlays/"+a.environment+"/charts", "Alloy gets %s, not %s", env, pair)
		}
	}
	if got := a.valued(stack, "prometheus", "prometheusSpec", "externalLabels", "environment"); got != a.environment {
		r.add("deploy/overlays/"+a.environment+"/charts", "externalLabels name the environment %s", got)
	}
	r.lacks(a, clusterAlloy, "rules and dashboards tell environments apart by it", `environment = sys.env("ENVIRONMENT")`)
	for _, i := range a.monitoring.ingresses {
		for _, rule := range i.Spec.Rules {
			if url := a.valued(stack, "grafana", "grafana.ini", "server", "root_url"); url != "https://"+rule.Host {
				r.add(i.at("host"), "is %s, and root_url of Grafana %s", rule.Host, url)
			}
		}
	}
}

var address = regexp.MustCompile(`\b([a-z][a-z-]*\.monitoring:\d+)\b`)

// addressesServed knows the Services of the charts: each has the name of its release, of the stack with its part.
func addressesServed(a *assets, r *report) {
	served := []string{
		stack + "-prometheus.monitoring:9090", stack + "-alertmanager.monitoring:9093",
		"loki.monitoring:3100", "tempo.monitoring:3200", "tempo.monitoring:4317", "alloy.monitoring:12345",
	}
	for _, c := range a.charts {
		ports, _ := c.value("alloy", "extraPorts").([]any)
		for _, port := range ports {
			if p, ok := port.(map[string]any); ok {
				served = append(served, fmt.Sprintf("alloy.monitoring:%v", p["port"]))
			}
		}
	}
	check := func(where, text string) {
		for _, m := range address.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(served, m[1]) {
				r.add(where, "no Service answers at %s", m[1])
			}
		}
	}
	check(clusterAlloy, a.files[clusterAlloy])
	for _, c := range a.charts {
		check(c.file, c.text)
	}
	for _, m := range a.configMaps {
		check(m.at("data"), m.Data["OTEL_EXPORTER_OTLP_ENDPOINT"])
	}
	r.lacks(a, clusterAlloy, "its Service leads there", `endpoint = "0.0.0.0:`+strconv.Itoa(a.system.Ports.OTLP)+`"`)
	for _, i := range a.monitoring.ingresses {
		for _, rule := range i.Spec.Rules {
			for _, p := range rule.HTTP.Paths {
				if p.Backend.Service.Name != stack+"-grafana" || p.Backend.Service.Port.Name != "http-web" {
					r.add(i.at("backend"), "%v is not the Service of Grafana", p.Backend.Service)
				}
			}
		}
	}
}

func prometheusTakes(a *assets, r *report) {
	should := func(chart, be string, path ...string) {
		if got := a.valued(chart, path...); got != be {
			r.add("deploy/monitoring/charts/"+chart+".yaml: "+strings.Join(path, "."), "is %s, not %s", got, be)
		}
	}
	spec := func(key, be string) { should(stack, be, "prometheus", "prometheusSpec", key) }
	spec("enableRemoteWriteReceiver", "true")
	spec("enableFeatures", "[exemplar-storage]")
	spec("ruleSelectorNilUsesHelmValues", "false")
	spec("ruleNamespaceSelector", "map[matchLabels:map[kubernetes.io/metadata.name:monitoring]]")
	for _, selector := range []string{"serviceMonitorSelector", "podMonitorSelector", "probeSelector", "scrapeConfigSelector"} {
		spec(selector, "map[matchLabels:map[scraped-by:prometheus]]") // an empty one selects everything
	}
	for _, m := range a.monitoring.monitors {
		if m.Metadata.Labels["scraped-by"] != "" {
			r.add(m.at("labels"), "Prometheus would scrape it a second time")
		}
	}
	should(stack, "false", "defaultRules", "create")
	should(stack, "grafana_dashboard", "grafana", "sidecar", "dashboards", "label")
	should("alloy", "map[create:false key:cluster.alloy name:alloy]", "alloy", "configMap")
	mounts, folder := a.valued("alloy", "alloy", "mounts", "extra"), regexp.MustCompile(`files = \["(/[^"]*)/`).FindStringSubmatch(a.files[clusterAlloy])
	if folder == nil || !strings.Contains(mounts, "mountPath:"+folder[1]+" ") {
		r.add("deploy/monitoring/charts/alloy.yaml: mounts", "%s does not mount %v", mounts, folder)
	}
}
