package deploy_test

import (
	"maps"
	"slices"
)

// writable are the folders that the host writes to.
var writable = []string{"/tmp", "/home/data", "/azure-functions-host/Secrets"}

// hostDrain is how many seconds the host lets invocations finish (contract §2.5).
const hostDrain = 10

var podRules = []rule{
	{"pods have no privilege that they do not need", podsHardened, []seed{
		{"Deployment/gateway", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"},
		{"Deployment/gateway", "runAsUser: 10001", "runAsUser: 1000", "USER of the Dockerfile"},
		{"Dockerfile", "USER 10001:10001", "USER 1000:1000", "USER of the Dockerfile"},
		{"Deployment/gateway", "type: RuntimeDefault", "type: Unconfined", "seccompProfile"},
		{"Deployment/gateway", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "automountServiceAccountToken"},
		{"Deployment/gateway", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"},
		{"Deployment/gateway", "allowPrivilegeEscalation: false", "privileged: true", "securityContext.privileged"},
		{"Deployment/gateway", "            cpu: ", "            gpu: ", "resources.requests.cpu"},
		{"Deployment/gateway", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"},
		{"Deployment/gateway", "            - ALL", "            - CHOWN", "capabilities"},
		{"monitoring/Deployment/redis-exporter", "runAsNonRoot: true", "runAsNonRoot: false", "monitoring/redis-exporter/deployment.yaml"},
		{"monitoring/Deployment/redis-exporter", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"},
		{"Job/migrate", "            - ALL", "            - ALL\n            add: [CHOWN]", "capabilities"},
		{"Job/migrate", "limits:\n            memory: ", "limits:\n            cpu: ", "limits"},
		{"Deployment/gateway", "            memory: ", "            memory: 4Gi #", "requests"},
	}},
	{"exactly what the host writes to is writable", foldersWritable, []seed{
		{"Deployment/gateway", "mountPath: /home/data", "mountPath: /home", `"/home/data" is missing`},
		{"Deployment/gateway", "mountPath: /etc/liveops\n          name: catalog\n          readOnly: true", "mountPath: /etc/liveops\n          name: catalog", `"/etc/liveops" should not be there`},
		{"Deployment/gateway", "sizeLimit: ", "limit: ", "sizeLimit"},
		{"Deployment/gateway", "mountPath: /etc/liveops\n          name: catalog\n", "mountPath: /etc/liveops\n          name: catalog\n          subPath: catalog.yaml\n", "subPath"},
		{"compose.yaml", "/home/data, ", "", `"/home/data" is missing`},
	}},
	{"probes ask the handler through the host", probesAsk, []seed{
		{"Deployment/gateway", "path: /readyz", "path: /ready", "startupProbe asks /ready"},
		{"Deployment/gateway", "path: /healthz\n            port: http", "path: /healthz\n            port: metrics", "livenessProbe asks /healthz of the port metrics"},
		{"Deployment/gateway", "path: /healthz", "path: /readyz", "would restart every replica"},
		{"Deployment/gateway", "readinessProbe:", "readyProbe:", "readinessProbe is missing"},
		{"functions/readyz/function.json", `"route": "readyz"`, `"route": "ready"`, "startupProbe asks /readyz"},
	}},
	{"pods end when the host has drained", podsDrain, []seed{
		{"Deployment/gateway", "terminationGracePeriodSeconds: ", "terminationGracePeriodSeconds: 10 #", "terminationGracePeriodSeconds"},
		{"Deployment/gateway", "seconds: ", "seconds: 1000 #", "terminationGracePeriodSeconds"},
		{"Deployment/gateway", "preStop:", "postStart:", "preStop"},
	}},
}

func podsHardened(a *assets, r *report) {
	for _, w := range slices.Concat(a.workloads(), a.monitoring.workloads()) {
		s := w.pod.Spec.SecurityContext
		should := func(ok bool, field, be string) {
			if !ok {
				r.add(w.at(field), "should be %s", be)
			}
		}
		should(s.RunAsNonRoot, "securityContext.runAsNonRoot", "true")
		should(w.part != "" || a.image.uid != 0 && s.RunAsUser == a.image.uid && s.RunAsGroup == a.image.gid, "securityContext.runAsUser and runAsGroup", "those of USER of the Dockerfile")
		should(s.SeccompProfile.Type == "RuntimeDefault", "securityContext.seccompProfile", "RuntimeDefault")
		token := w.pod.Spec.AutomountServiceAccountToken
		should(token != nil && !*token, "automountServiceAccountToken", "false")
		for _, c := range slices.Concat(w.pod.Spec.InitContainers, w.pod.Spec.Containers) {
			s := c.SecurityContext
			should(s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation, "securityContext.allowPrivilegeEscalation", "false")
			should(!s.Privileged, "securityContext.privileged", "false")
			should(s.ReadOnlyRootFilesystem, "securityContext.readOnlyRootFilesystem", "true")
			should(slices.Equal(s.Capabilities.Drop, []string{"ALL"}) && len(s.Capabilities.Add) == 0, "securityContext.capabilities", "none: drop [ALL]")
			limit, request := c.Resources.Limits["memory"], c.Resources.Requests["memory"]
			should(limit != "", "resources.limits.memory", "set")
			should(limit == request, "resources.requests.memory", "the limit: memory that was not asked for is taken back by killing")
			should(c.Resources.Requests["cpu"] != "", "resources.requests.cpu", "set")
		}
	}
}

func foldersWritable(a *assets, r *report) {
	for _, w := range a.workloads() {
		want := writable
		if w.Kind == "Job" { // no host
			want = nil
		}
		var got []string
		for _, c := range w.pod.Spec.Containers {
			for _, m := range c.VolumeMounts {
				if m.SubPath != "" {
					r.add(w.at("volumeMounts."+m.Name), "has a subPath, through which no change arrives in a running pod")
				}
				if !m.ReadOnly {
					got = append(got, m.MountPath)
				}
			}
		}
		r.same(w.at("volumeMounts: writable"), want, got)
		for _, v := range w.pod.Spec.Volumes {
			if v.EmptyDir != nil && v.EmptyDir.SizeLimit == "" {
				r.add(w.at("volumes."+v.Name), "has no sizeLimit, and may fill the node's disk")
			}
		}
	}
	for _, name := range a.composed() {
		r.same("compose.yaml: services."+name+".tmpfs", writable, a.local.Services[name].TmpFS)
	}
}

func probesAsk(a *assets, r *report) {
	for _, d := range a.deployments {
		routes := map[string]bool{}
		if loaded, err := a.loadHost(instance{env: a.environmentOf(d.Spec.Template)}); err == nil { // hostLoads tells
			for _, f := range loaded.Functions {
				routes["/"+f.Route] = slices.Contains(probes, f.Name)
			}
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			kinds := map[string]*probe{"startupProbe": c.StartupProbe, "readinessProbe": c.ReadinessProbe, "livenessProbe": c.LivenessProbe}
			for _, kind := range slices.Sorted(maps.Keys(kinds)) {
				p := kinds[kind]
				switch {
				case p == nil:
					r.add(d.at(kind), "%s is missing", kind)
				case !routes[p.HTTPGet.Path] || p.HTTPGet.Port != "http":
					r.add(d.at(kind), "%s asks %s of the port %s, not a route of %v of the port http", kind, p.HTTPGet.Path, p.HTTPGet.Port, probes)
				case kind == "livenessProbe" && p.HTTPGet.Path == "/readyz":
					r.add(d.at(kind), "asks /readyz: an outage of MySQL or Redis would restart every replica")
				}
			}
		}
	}
}

func podsDrain(a *assets, r *report) {
	for _, d := range a.deployments {
		spec := d.Spec.Template.Spec
		for _, c := range spec.Containers {
			wait := c.Lifecycle.PreStop.Sleep.Seconds
			if wait == 0 {
				r.add(d.at("lifecycle.preStop"), "should sleep until no proxy sends requests here any more")
			}
			if spec.TerminationGracePeriodSeconds <= wait+hostDrain {
				r.add(d.at("terminationGracePeriodSeconds"), "is %d, not more than preStop's %d and the host's %d", spec.TerminationGracePeriodSeconds, wait, hostDrain)
			}
		}
	}
}
