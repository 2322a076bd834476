package deploy_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	monitoring   = "monitoring" // the namespace, the vault and the identity
	clusterAlloy = "deploy/monitoring/alloy/cluster.alloy"
	vmAlloy      = "deploy/monitoring/alloy/vm.alloy"
	mysqlScript  = "bicep/mysql/server.sh"
	stack        = "kube-prometheus-stack"
	operator     = stack + "-prometheus-operator"
)

var monitoringRules = []rule{
	{"NetworkPolicies of the monitoring allow exactly its arrows", monitoringArrows, []seed{
		{"monitoring/NetworkPolicy/default-deny", "  - Ingress\n", "", `"any other pod ← anywhere" should not be there`},
		{"monitoring/NetworkPolicy/dns", "k8s-app: kube-dns", "k8s-app: dns", `"loki → pods k8s-app=kube-dns of namespace kube-system UDP 53" is missing`},
		{"monitoring/NetworkPolicy/kubernetes", "      - prometheus\n", "", `"prometheus → anywhere TCP 443" is missing`},
		{"monitoring/NetworkPolicy/kubernetes", "      - prometheus\n", "      - prometheus\n      - redis-exporter\n", `"redis-exporter → anywhere TCP 443" should not be there`},
		{"monitoring/NetworkPolicy/alloy", "port: 9464", "port: 9465", `"alloy → namespace liveops TCP 9464" is missing`},
		{"monitoring/NetworkPolicy/alloy", "port: 4318", "port: 4317", `"alloy ← namespace liveops TCP 4318" is missing`},
		{"monitoring/NetworkPolicy/alloy", "cidr: {MYSQL_ADDRESS}", "cidr: 10.0.0.0/8", `"alloy → 10.0.0.0/8 TCP 9104" should not be there`},
		{"monitoring/NetworkPolicy/loki", "cidr: {MYSQL_ADDRESS}", "cidr: 10.42.0.0/16", `"loki ← {MYSQL_ADDRESS} TCP 3100" is missing`},
		{"monitoring/NetworkPolicy/alertmanager", "port: 587", "port: 25", `TCP 587" is missing`},
		{"monitoring/NetworkPolicy/grafana", "namespaceSelector:\n        matchLabels:\n          kubernetes.io/metadata.name: app-routing-system", "namespaceSelector: {}", `"grafana ← namespace  TCP 3000" should not be there`},
		{"monitoring/NetworkPolicy/storage", "      - tempo\n", "", `"tempo → {PRIVATE_ENDPOINTS_CIDR} TCP 443" is missing`},
		{"monitoring/NetworkPolicy/redis-exporter", "port: 6380", "port: 6379", `TCP 6379" should not be there`},
	}},
	{"what is scraped has the jobs that rules and dashboards name", jobsScraped, []seed{
		{clusterAlloy, `job_name   = "mysqld"`, `job_name   = "mysql"`, `"mysqld" is missing`},
		{clusterAlloy, `"keda-operator"` + "\n", `"keda"` + "\n", `"keda-operator" is missing`},
		{"monitoring/ServiceMonitor/redis", "replacement: redis", "replacement: redis-exporter", `"redis-exporter" should not be there`},
		{"monitoring/ServiceMonitor/tempo", "jobLabel: app.kubernetes.io/name", "jobLabel: name", `"tempo" is missing`},
		{"deploy/monitoring/charts/kube-prometheus-stack.yaml", "replacement: prometheus}", "replacement: prom}", `"prometheus" is missing`},
		{"deploy/monitoring/rules/monitoring.yaml", `absent(up{job="redis"})`, `absent(up{job="redis-exporter"})`, `nothing is scraped as "redis-exporter"`},
		{"deploy/monitoring/dashboards/hybrid.json", `job=\"windows\"`, `job=\"win\"`, `nothing is scraped as "win"`},
	}},
	{"every Service with a port metrics is scraped", servicesScraped, []seed{
		{"ServiceMonitor/liveops", "port: metrics", "port: http", "Service/gateway"},
		{"monitoring/ServiceMonitor/redis", "app.kubernetes.io/name: redis-exporter", "app.kubernetes.io/name: redis", "Service/redis-exporter"},
		{"monitoring/Service/redis-exporter", "app.kubernetes.io/name: redis-exporter\n  name", "app.kubernetes.io/name: exporter\n  name", "Service/redis-exporter"},
	}},
	{"secrets of the monitoring are mounted where they are read", monitoringSecrets, []seed{
		{"deploy/monitoring/alertmanager/alertmanager.yaml", "secrets/slack-url", "secrets/slack", `"slack" is missing`},
		{"monitoring/SecretProviderClass/alertmanager", "objectName: deadman-url", "objectName: webhook-url", `"deadman-url" is missing`},
		{"monitoring/SecretProviderClass/grafana", "grafana-client-secret", "grafana-secret", `"grafana-secret" should not be there`},
		{"monitoring/Deployment/redis-exporter", "/mnt/secrets/redis-passwords", "/mnt/secrets/redis-url", `"redis-url" is missing`},
		{"monitoring/Deployment/redis-exporter", "secretProviderClass: redis-exporter", "secretProviderClass: grafana", "mounts the secrets of grafana"},
		{"charts/Application/kube-prometheus-stack-prod", "mountPath: /etc/alertmanager/secrets", "mountPath: /etc/alertmanager/secret", "/etc/alertmanager/secrets"},
		{"charts/Application/kube-prometheus-stack-prod", "configSecret: alertmanager-liveops", "configSecret: alertmanager", "there is no Secret alertmanager"},
		{"charts/Application/kube-prometheus-stack-prod", "secretProviderClass: grafana", "secretProviderClass: alertmanager", "mounts the secrets of alertmanager"},
	}},
	{"identities of the monitoring are those that Bicep made", monitoringIdentities, []seed{
		{"monitoring/SecretProviderClass/grafana", "{CLIENT_ID_MONITORING}", "{CLIENT_ID_GATEWAY}", "CLIENT_ID_MONITORING"},
		{"monitoring/SecretProviderClass/grafana", "{KEY_VAULT_MONITORING}", "{KEY_VAULT_SERVICES}", "KEY_VAULT_MONITORING"},
		{"charts/Application/tempo-prod", "{CLIENT_ID_MONITORING}", "{CLIENT_ID_GATEWAY}", "CLIENT_ID_MONITORING"},
		{"charts/Application/tempo-prod", `azure.workload.identity/use: "true"`, `azure.workload.identity/use: "false"`, "azure.workload.identity/use"},
		{"charts/Application/loki-prod", "{STORAGE_ACCOUNT_MONITORING}", "{STORAGE_ACCOUNT}", "STORAGE_ACCOUNT_MONITORING"},
		{"charts/Application/tempo-prod", "container_name: tempo", "container_name: traces", "traces"},
		{"bicep/main.bicep", "'redis-exporter', 'tempo'", "'tempo'", `"redis-exporter" is missing`},
		{"bicep/main.bicep", "containers: ['loki', 'tempo']", "containers: ['loki']", "tempo"},
	}},
	{"what is not in the cluster is found, and finds Loki", onPremises, []seed{
		{"monitoring/Service/loki-on-premises", "{LOKI_ADDRESS}", "10.0.0.1", "LOKI_ADDRESS"},
		{"monitoring/Service/loki-on-premises", "externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster", "externalTrafficPolicy"},
		{"monitoring/Service/loki-on-premises", `azure-load-balancer-internal: "true"`, `azure-load-balancer-internal: "false"`, "azure-load-balancer-internal"},
		{"monitoring/Service/loki-on-premises", "port: 3100", "port: 80", "port: is 80"},
		{"bicep/modules/mysql-vm.bicep", "LOKI_URL=http://${lokiAddress}", "LOKI=http://${lokiAddress}", "LOKI_URL"},
		{"bicep/modules/mysql-vm.bicep", "alloy/vm.alloy", "alloy/cluster.alloy", "vm.alloy"},
		{vmAlloy, `"/var/log/mysql/slow.log"`, `"/var/log/mysql/mysql-slow.log"`, "/var/log/mysql/mysql-slow.log"},
		{mysqlScript, "metric mysql_backup_last_success_timestamp_seconds", "metric mysql_backup_timestamp_seconds", "mysql_backup_last_success_timestamp_seconds"},
		{mysqlScript, "$ADDRESS:12345", "$ADDRESS:12346", "12345"},
	}},
	{"logs have few labels", logLabels, []seed{
		{clusterAlloy, `"container", "level"]`, `"container", "level", "pod"]`, `"pod" should not be there`},
		{vmAlloy, `"service", "container", "level"]`, `"service", "level"]`, `"container" is missing`},
	}},
}

// monitored are the pods of the namespace by their name, the label that policies select them by.
var monitored = []string{"alloy", "prometheus", "alertmanager", "grafana", "kube-state-metrics", operator, "loki", "tempo", "redis-exporter"}

func monitoringArrows(a *assets, r *report) {
	const public, dns = "0.0.0.0/0 except 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16", "pods k8s-app=kube-dns of namespace kube-system"
	ports, mysql, endpoints := a.system.Ports, a.azure.values["MYSQL_ADDRESS"], a.azure.values["PRIVATE_ENDPOINTS_CIDR"]
	tcp := func(ports ...int) []string {
		return names(ports, func(port int) string { return fmt.Sprint("TCP ", port) })
	}
	gossip := append(tcp(9094), "UDP 9094")
	in := map[string]map[string][]string{ // to whom, from whom, at which ports
		"alloy":              {"namespace " + a.system.Namespace: tcp(ports.OTLP), "alloy": tcp(12345)},
		"prometheus":         {"alloy": tcp(9090), "grafana": tcp(9090)},
		"alertmanager":       {"prometheus": tcp(9093), "alloy": tcp(9093), "grafana": tcp(9093), "alertmanager": gossip},
		"grafana":            {"namespace app-routing-system": tcp(3000), "alloy": tcp(3000)},
		"kube-state-metrics": {"alloy": tcp(8080)},
		operator:             {"alloy": tcp(8080)},
		"loki":               {"alloy": tcp(ports.Loki), "grafana": tcp(ports.Loki), mysql: tcp(ports.Loki)},
		"tempo":              {"alloy": tcp(4317, 3200), "grafana": tcp(3200)},
		"redis-exporter":     {"alloy": tcp(9121)},
	}
	out := map[string]map[string][]string{
		"alloy": {
			"namespace " + a.system.Namespace: tcp(ports.Metrics), "namespace kube-system": tcp(8080), "namespace app-routing-system": tcp(10254),
			mysql: tcp(9100, 9104, 12345), "10.0.0.0/8": tcp(9182), "172.16.0.0/12": tcp(9182), "192.168.0.0/16": tcp(9182),
			"anywhere": tcp(ports.HTTPS, 9100, 10250),
		},
		"prometheus":         {"anywhere": tcp(ports.HTTPS)},
		"alertmanager":       {public: tcp(ports.HTTPS, 587)},
		"grafana":            {"anywhere": tcp(ports.HTTPS)},
		"kube-state-metrics": {"anywhere": tcp(ports.HTTPS)},
		operator:             {"anywhere": tcp(ports.HTTPS)},
		"loki":               {endpoints: tcp(ports.HTTPS), public: tcp(ports.HTTPS)},
		"tempo":              {endpoints: tcp(ports.HTTPS), public: tcp(ports.HTTPS)},
		"redis-exporter":     {endpoints: tcp(ports.Redis)},
		stranger:             {},
	}
	for to, froms := range in { // who is in the namespace must be let out too
		for from, ports := range froms {
			if slices.Contains(monitored, from) {
				out[from][to] = append(out[from][to], ports...)
			}
		}
	}
	for _, name := range append(slices.Clone(monitored), stranger) {
		var want, got []string
		for _, way := range []struct {
			arrow string
			ends  map[string][]string
		}{{" ← ", in[name]}, {" → ", out[name]}} {
			for end, ports := range way.ends {
				for _, port := range ports {
					want = append(want, name+way.arrow+end+" "+port)
				}
			}
		}
		want = append(want, name+" → "+dns+" UDP 53", name+" → "+dns+" TCP 53")
		w := workload{object: object{Metadata: metadata{Name: name, Namespace: monitoring}}}
		w.pod.Metadata.Labels = map[string]string{"app.kubernetes.io/name": name}
		for _, arrow := range arrows(w, a.monitoring.policies) {
			got = append(got, pods(arrow)...)
		}
		r.same("NetworkPolicies of "+monitoring, want, got)
	}
}

var selectedByName = regexp.MustCompile(`^(.*)pods app\.kubernetes\.io/name(?:=| In \[)([a-z -]+?)\]? of own namespace (.*)$`)

// pods gives an arrow for each of the pods that one leads to.
func pods(arrow string) []string {
	m := selectedByName.FindStringSubmatch(arrow)
	if m == nil {
		return []string{arrow}
	}
	return names(strings.Fields(m[2]), func(name string) string { return m[1] + name + " " + m[3] })
}

var (
	alloyJob     = regexp.MustCompile(`job_name\s*=\s*"([^"]+)"|replacement\s*=\s*"([^"]+)"\s*target_label\s*=\s*"job"`)
	queriedJobs  = regexp.MustCompile(`\bjob\s*=~?\s*\\?"([^"\\$]+)\\?"`)
	fixedJobs    = []string{"node", "mysqld", "windows", "redis", "kube-state-metrics", "keda-operator", "ingress-nginx", "alloy", "prometheus", "alertmanager", "loki", "tempo"}
	jobsOfCharts = []string{"kube-state-metrics"} // its chart says so itself
)

func jobsScraped(a *assets, r *report) {
	got := slices.Clone(jobsOfCharts)
	for _, m := range alloyJob.FindAllStringSubmatch(a.files[clusterAlloy], -1) {
		got = append(got, m[1]+m[2])
	}
	for _, m := range a.monitoring.monitors {
		if m.Spec.JobLabel != "" {
			got = append(got, m.Spec.Selector.MatchLabels[m.Spec.JobLabel])
		}
		for _, e := range m.Spec.Endpoints {
			got = append(got, jobOf(e.Relabelings)...)
		}
	}
	for _, name := range []string{"prometheus", "alertmanager"} {
		for _, c := range a.charts {
			relabelings, _ := c.value(name, "serviceMonitor", "relabelings").([]any)
			for _, one := range relabelings {
				if labels, ok := one.(map[string]any); ok && labels["targetLabel"] == "job" {
					got = append(got, fmt.Sprint(labels["replacement"]))
				}
			}
		}
	}
	r.same("jobs that are scraped", fixedJobs, got)
	for name, text := range a.files {
		if !strings.HasPrefix(name, "deploy/monitoring/rules/") && !strings.HasPrefix(name, "deploy/monitoring/dashboards/") || strings.Contains(name, "/tests/") {
			continue
		}
		for _, m := range queriedJobs.FindAllStringSubmatch(text, -1) {
			for job := range strings.SplitSeq(m[1], "|") {
				if !slices.Contains(fixedJobs, job) {
					r.add(name, "nothing is scraped as %q", job)
				}
			}
		}
	}
}

// jobOf are the jobs that relabelings set.
func jobOf(relabelings []relabeling) []string {
	var jobs []string
	for _, l := range relabelings {
		if l.TargetLabel == "job" {
			jobs = append(jobs, l.Replacement)
		}
	}
	return jobs
}

func servicesScraped(a *assets, r *report) {
	for _, o := range []overlay{a.overlay, a.monitoring} {
		for _, s := range o.services {
			scraped := false
			for _, m := range o.monitors {
				for _, e := range m.Spec.Endpoints {
					scraped = scraped || e.Port == "metrics" && m.Spec.Selector.selects(s.Metadata.Labels)
				}
			}
			for _, p := range s.Spec.Ports {
				if p.Name == "metrics" && !scraped {
					r.add(s.at("ports"), "%s has a port metrics that no ServiceMonitor is for", s.name)
				}
			}
		}
	}
}

func monitoringSecrets(a *assets, r *report) {
	classes := map[string][]string{}
	for _, c := range a.monitoring.secretClasses {
		have, err := c.names()
		if err != nil {
			r.add(c.at("parameters.objects"), "%v", err)
		}
		classes[c.Metadata.Name] = have
	}
	read := map[string][]string{}
	files := func(text, folder string) []string {
		var names []string
		for _, m := range regexp.MustCompile(folder+`/([a-z-]+)`).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		return names
	}
	const config = "deploy/monitoring/alertmanager/alertmanager.yaml"
	read["alertmanager"] = files(a.files[config], "/etc/alertmanager/secrets")
	for _, d := range a.monitoring.deployments {
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, e := range c.Env {
				read[d.Metadata.Name] = append(read[d.Metadata.Name], files(e.Value, secretsMount)...)
			}
		}
		for _, v := range d.Spec.Template.Spec.Volumes {
			if v.CSI != nil && v.CSI.VolumeAttributes.SecretProviderClass != d.Metadata.Name {
				r.add(d.at("volumes."+v.Name), "mounts the secrets of %s", v.CSI.VolumeAttributes.SecretProviderClass)
			}
		}
	}
	for _, c := range a.charts {
		if c.Spec.Source.Chart != stack {
			continue
		}
		env, _ := c.value("grafana", "env").(map[string]any)
		for _, value := range env {
			read["grafana"] = append(read["grafana"], files(fmt.Sprint(value), secretsMount)...)
		}
		spec := c.value("alertmanager", "alertmanagerSpec")
		mounts := fmt.Sprint(c.value("alertmanager", "alertmanagerSpec", "volumeMounts"))
		if !strings.Contains(mounts, "mountPath:/etc/alertmanager/secrets ") {
			r.add(c.at("alertmanagerSpec.volumeMounts"), "%s does not mount /etc/alertmanager/secrets", mounts)
		}
		for name, text := range map[string]string{"alertmanager": fmt.Sprint(spec), "grafana": fmt.Sprint(c.value("grafana", "extraSecretMounts"))} {
			if m := regexp.MustCompile(`secretProviderClass:([a-z-]+)`).FindStringSubmatch(text); m == nil || m[1] != name {
				r.add(c.at(name), "mounts the secrets of %s", strings.Join(m[min(1, len(m)):], ""))
			}
		}
		secret := fmt.Sprint(c.value("alertmanager", "alertmanagerSpec", "configSecret"))
		if !slices.ContainsFunc(a.monitoring.objects, func(o object) bool { return o.Kind == "Secret" && o.Metadata.Name == secret }) {
			r.add(c.at("alertmanagerSpec.configSecret"), "there is no Secret %s", secret)
		}
	}
	for name := range classes {
		r.same("SecretProviderClass "+name, read[name], classes[name])
	}
	r.same("SecretProviderClasses", slices.Collect(maps.Keys(read)), slices.Collect(maps.Keys(classes)))
}

func monitoringIdentities(a *assets, r *report) {
	for _, c := range a.monitoring.secretClasses {
		p := c.Spec.Parameters
		a.is(r, c.at("parameters.clientID"), p.ClientID, "CLIENT_ID_MONITORING")
		a.is(r, c.at("parameters.keyvaultName"), p.KeyvaultName, "KEY_VAULT_MONITORING")
		a.is(r, c.at("parameters.tenantId"), p.TenantID, "AZURE_TENANT_ID")
		if c.Spec.Provider != "azure" || p.UsePodIdentity != "false" {
			r.add(c.at("spec"), `provider is %q and usePodIdentity %q, not "azure" and "false"`, c.Spec.Provider, p.UsePodIdentity)
		}
	}
	accounts := names(a.monitoring.accounts, func(o object) string { return o.Metadata.Name })
	containers := []string{}
	for _, c := range a.charts {
		text := func(path ...string) string { return fmt.Sprint(c.value(path...)) }
		labels, account, container := []string{"podLabels"}, "", ""
		switch c.Spec.Source.Chart {
		case "loki":
			labels, account, container = []string{"loki", "podLabels"}, text("loki", "storage", "azure", "accountName"), text("loki", "storage", "bucketNames", "chunks")
		case "tempo":
			account, container = text("tempo", "storage", "trace", "azure", "storage_account_name"), text("tempo", "storage", "trace", "azure", "container_name")
		case stack:
			accounts = append(accounts, text("alertmanager", "serviceAccount", "name"), text("grafana", "serviceAccount", "name"))
			continue
		default:
			continue
		}
		accounts, containers = append(accounts, text("serviceAccount", "name")), append(containers, container)
		a.is(r, c.at("azure.workload.identity/client-id"), text("serviceAccount", "annotations", "azure.workload.identity/client-id"), "CLIENT_ID_MONITORING")
		a.is(r, c.at("storage account"), account, "STORAGE_ACCOUNT_MONITORING")
		if text(append(labels, "azure.workload.identity/use")...) != "true" {
			r.add(c.at(strings.Join(labels, ".")), `azure.workload.identity/use should be "true": without it the pod gets no token for Azure`)
		}
	}
	listed := func(pattern string) []string {
		var all []string
		if m := regexp.MustCompile(pattern).FindStringSubmatch(a.files["bicep/main.bicep"]); m != nil {
			for _, name := range regexp.MustCompile(`'([a-z-]+)'`).FindAllStringSubmatch(m[1], -1) {
				all = append(all, name[1])
			}
		}
		return all
	}
	r.same("bicep/main.bicep: accounts of the identity monitoring", accounts, listed(`name: 'monitoring', namespace: 'monitoring', serviceAccounts: \[(.*)\]`))
	r.same("bicep/main.bicep: containers of the storage account", containers, listed(`(?s)module monitoringStorage .*?containers: \[([^\]]*)\]`))
}

func onPremises(a *assets, r *report) {
	for _, s := range a.monitoring.services {
		if s.Metadata.Name != "loki-on-premises" {
			continue
		}
		const annotation = "service.beta.kubernetes.io/azure-load-balancer-"
		a.is(r, s.at("annotations"), s.Metadata.Annotations[annotation+"ipv4"], "LOKI_ADDRESS")
		if s.Metadata.Annotations[annotation+"internal"] != "true" {
			r.add(s.at("annotations"), "%sinternal is not true: Loki would have a public address", annotation)
		}
		if s.Spec.ExternalTrafficPolicy != "Local" {
			r.add(s.at("externalTrafficPolicy"), "is %q: the policy would not know who sends", s.Spec.ExternalTrafficPolicy)
		}
		for _, p := range s.Spec.Ports {
			if p.Port != a.system.Ports.Loki {
				r.add(s.at("port"), "is %d, not %d", p.Port, a.system.Ports.Loki)
			}
		}
	}
	r.lacks(a, "bicep/modules/mysql-vm.bicep", "where Alloy on the VM sends logs", "LOKI_URL=http://${lokiAddress}:${system.ports.loki}", "loadFileAsBase64('../../deploy/monitoring/alloy/vm.alloy')")
	r.lacks(a, vmAlloy, "server.sh sets it", `sys.env("LOKI_URL")`)
	r.lacks(a, mysqlScript, "rules ask for it", "metric mysql_certificate_expiry_timestamp_seconds ", "metric mysql_backup_last_success_timestamp_seconds ")
	r.lacks(a, mysqlScript, "Alloy in the cluster scrapes it there", "--server.http.listen-addr=$ADDRESS:12345")
	for _, m := range regexp.MustCompile(`"(/var/log/mysql/[a-z.-]+)"`).FindAllStringSubmatch(a.files[vmAlloy], -1) {
		r.lacks(a, mysqlScript, "Alloy reads it", " = "+m[1]+"\n")
	}
}

func logLabels(a *assets, r *report) {
	for _, file := range []string{clusterAlloy, vmAlloy} {
		var kept []string
		for _, m := range regexp.MustCompile(`(?s)stage\.label_keep \{\s*values = \[([^\]]*)\]`).FindAllStringSubmatch(a.files[file], -1) {
			for _, label := range regexp.MustCompile(`"([a-z]+)"`).FindAllStringSubmatch(m[1], -1) {
				kept = append(kept, label[1])
			}
		}
		r.same(file+": labels", []string{"namespace", "service", "container", "level"}, kept)
	}
}
