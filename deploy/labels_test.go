package deploy_test

import (
	"maps"
	"slices"
)

// component is the label that tells which service something belongs to.
const component = "app.kubernetes.io/component"

var labelRules = []rule{
	{"selectors select exactly their own", selectorsSelect, []seed{
		{"Deployment/gateway", "component: gateway\n      app.kubernetes.io/name: liveops\n  strategy", "component: fairness\n      app.kubernetes.io/name: liveops\n  strategy", "Deployment/gateway: selector"},
		{"Deployment/gateway", "      labels:\n        app.kubernetes.io/component: gateway", "      labels:\n        app.kubernetes.io/component: gate", `app.kubernetes.io/component is "gate"`},
		{"Service/gateway", "selector:\n    app.kubernetes.io/component: gateway\n", "selector:\n", "Service/gateway: selector"},
		{"Service/gateway", "selector:\n    app.kubernetes.io/component: gateway", "selector:\n    app.kubernetes.io/component: gate", `"gateway" is missing`},
		{"PodDisruptionBudget/fairness", "selector:\n    matchLabels:\n      app.kubernetes.io/component: fairness\n", "selector:\n    matchLabels:\n", `"gateway" should not be there`},
		{"PodDisruptionBudget/fairness", "selector:", "select:", `"fairness" is missing`},
		{"PodDisruptionBudget/fairness", "  name: fairness", "  name: progression", "PodDisruptionBudgets"},
		{"ServiceMonitor/liveops", "matchLabels:\n      app.kubernetes.io/name: liveops", "matchLabels:\n      app.kubernetes.io/name: live", `"progression" is missing`},
		{"ServiceMonitor/liveops", "honorLabels: true", "honorLabels: false", "honorLabels"},
		{"ServiceMonitor/liveops", "jobLabel: app.kubernetes.io/component", "jobLabel: component", "jobLabel"},
		{"Deployment/gateway", "matchLabelKeys:\n        - app.kubernetes.io/component\n", "matchLabelKeys:\n", "topologySpreadConstraints"},
		{"Deployment/gateway", "topologyKey: topology.kubernetes.io/zone", "topologyKey: topology.kubernetes.io/region", `"topology.kubernetes.io/zone" is missing`},
	}},
	{"what is referred to is there", referencesResolve, []seed{
		{"Deployment/gateway", "serviceAccountName: gateway", "serviceAccountName: gate", "no ServiceAccount gate"},
		{"Deployment/gateway", "secretProviderClass: gateway", "secretProviderClass: gate", "no SecretProviderClass gate"},
		{"Deployment/gateway", "name: settings-", "name: options-", "no ConfigMap options-"},
		{"Deployment/gateway", "configMap:\n          name: catalog", "configMap:\n          name: game", "no ConfigMap game"},
		{"Deployment/gateway", "- mountPath: /tmp\n          name: tmp", "- mountPath: /tmp\n          name: temp", `"temp" is missing`},
		{"Deployment/gateway", "- mountPath: /tmp\n          name: tmp", "- mountPath: /tmp\n          name: data", `"tmp" should not be there`},
		{"Job/migrate", "serviceAccountName: migrate", "serviceAccountName: migration", "no ServiceAccount migration"},
	}},
}

// selected are the workloads whose pods a selector selects.
func (a *assets) selected(s selector) []string {
	var names []string
	for _, w := range a.workloads() {
		if s.selects(w.pod.Metadata.Labels) {
			names = append(names, w.Metadata.Name)
		}
	}
	return names
}

func selectorsSelect(a *assets, r *report) {
	for _, d := range a.deployments {
		r.same(d.at("selector")+": pods", []string{d.Metadata.Name}, a.selected(d.Spec.Selector))
		labels := d.Spec.Template.Metadata.Labels
		var over []string
		for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
			over = append(over, c.TopologyKey)
			own := selector{MatchLabels: maps.Clone(c.LabelSelector.MatchLabels), MatchExpressions: c.LabelSelector.MatchExpressions}
			if own.MatchLabels == nil {
				own.MatchLabels = map[string]string{}
			}
			for _, key := range c.MatchLabelKeys {
				if key != "pod-template-hash" { // Kubernetes adds it
					own.MatchLabels[key] = labels[key]
				}
			}
			r.same(d.at("topologySpreadConstraints")+": pods", []string{d.Metadata.Name}, a.selected(own))
		}
		r.same(d.at("topologySpreadConstraints"), []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"}, over)
	}
	for _, s := range a.services {
		r.same(s.at("selector")+": pods", []string{s.Metadata.Name}, a.selected(selector{MatchLabels: s.Spec.Selector}))
	}
	for _, b := range a.budgets {
		var pods []string
		if b.Spec.Selector != nil {
			pods = a.selected(*b.Spec.Selector)
		}
		r.same(b.at("selector")+": pods", []string{b.Metadata.Name}, pods)
	}
	r.same("PodDisruptionBudgets", a.system.services(), names(a.budgets, func(b budget) string { return b.Metadata.Name }))
	var watched []string
	for _, m := range a.monitors {
		for _, e := range m.Spec.Endpoints {
			if !e.HonorLabels {
				r.add(m.at("endpoints.honorLabels"), "should be true: the label service of our series would be exported_service")
			}
		}
		for _, s := range a.services {
			if m.Spec.Selector.selects(s.Metadata.Labels) {
				watched = append(watched, s.Metadata.Name)
				if s.Metadata.Labels[m.Spec.JobLabel] != s.Metadata.Name {
					r.add(m.at("jobLabel"), "the label %q of Service/%s is %q, not its name", m.Spec.JobLabel, s.Metadata.Name, s.Metadata.Labels[m.Spec.JobLabel])
				}
			}
		}
	}
	r.same("ServiceMonitors: Services", a.system.services(), watched)
	for _, w := range a.workloads() {
		if got := w.pod.Metadata.Labels[component]; got != w.Metadata.Name {
			r.add(w.at("template.metadata.labels"), "%s is %q, not %q", component, got, w.Metadata.Name)
		}
	}
}

func referencesResolve(a *assets, r *report) {
	there := map[string]bool{}
	for _, o := range a.objects {
		there[o.Kind+" "+o.Metadata.Name] = true
	}
	for _, w := range a.workloads() {
		exists := func(field, kind, name string) {
			if !there[kind+" "+name] {
				r.add(w.at(field), "there is no %s %s", kind, name)
			}
		}
		spec := w.pod.Spec
		exists("serviceAccountName", "ServiceAccount", spec.ServiceAccountName)
		var volumes, mounts []string
		for _, v := range spec.Volumes {
			volumes = append(volumes, v.Name)
			if v.CSI != nil {
				exists("volumes."+v.Name, "SecretProviderClass", v.CSI.VolumeAttributes.SecretProviderClass)
			}
			if v.ConfigMap != nil {
				exists("volumes."+v.Name, "ConfigMap", v.ConfigMap.Name)
			}
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			for _, m := range c.VolumeMounts {
				mounts = append(mounts, m.Name)
			}
			for _, from := range c.EnvFrom {
				exists("envFrom", "ConfigMap", from.ConfigMapRef.Name)
			}
		}
		r.same(w.at("volumes"), mounts, volumes)
	}
}
