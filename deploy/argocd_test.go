package deploy_test

import (
	"slices"
	"strings"
)

var argoRules = []rule{
	{"Argo CD delivers every overlay, within what its project allows", argoDelivers, []seed{
		{"deploy/argocd/apps/prod.yaml", "path: deploy/overlays/prod", "path: deploy/overlays/production", "deploy/overlays/prod"},
		{"deploy/argocd/apps/prod.yaml", "project: liveops", "project: default", "project"},
		{"deploy/argocd/apps/prod.yaml", "name: liveops-prod\n    namespace", "name: liveops-dev\n    namespace", "destination"},
		{"deploy/argocd/apps/prod.yaml", "manifests.git", "manifest.git", "repoURL"},
		{"deploy/argocd/apps/monitoring-prod.yaml", "path: deploy/overlays/prod/monitoring", "path: deploy/overlays/dev/monitoring", "no Application has the path deploy/overlays/prod/monitoring"},
		{"deploy/argocd/apps/monitoring-prod.yaml", "project: monitoring", "project: liveops", `project: is "liveops"`},
		{"deploy/argocd/apps/monitoring-prod.yaml", "name: liveops-prod", "name: liveops-dev", "destination"},
		{"deploy/argocd/apps/charts-prod.yaml", "namespace: argocd\n  syncPolicy", "namespace: monitoring\n  syncPolicy", "destination"},
		{"deploy/argocd/apps/charts-prod.yaml", "path: deploy/overlays/prod/charts", "path: deploy/monitoring/charts", "no Application has the path deploy/overlays/prod/charts"},
		{"deploy/argocd/monitoring.yaml", "kind: PrometheusRule", "kind: PrometheusRules", `"monitoring.coreos.com/PrometheusRule" is not allowed`},
		{"deploy/argocd/monitoring.yaml", "kind: Namespace, name: monitoring", "kind: Node", `"Namespace" is missing`},
		{"deploy/argocd/monitoring.yaml", `["*-prod"]`, `["*-dev"]`, "monitoring: syncWindows"},
		{"deploy/argocd/project.yaml", "kind: ScaledObject", "kind: ScaledJob", `"keda.sh/ScaledObject" is missing`},
		{"deploy/argocd/project.yaml", "kind: ScaledObject", "kind: ScaledJob", `"keda.sh/ScaledJob" should not be there`},
		{"deploy/argocd/project.yaml", "kind: Namespace", "kind: '*'", `"*" should not be there`},
		{"deploy/argocd/project.yaml", "destinations:\n", "destinations:\n    - {name: '*', namespace: '*'}\n", "every"},
		{"deploy/argocd/project.yaml", "applications: [liveops-prod]", "applications: [liveops-dev]", "syncWindows"},
		{"deploy/argocd/apps/dev.yaml", "prune: true", "prune: false", "liveops-dev"},
		{"deploy/argocd/root.yaml", "path: deploy/argocd", "path: deploy/argo", "deploy/argo"},
	}},
}

func argoDelivers(a *assets, r *report) {
	overlay, cluster := "deploy/overlays/"+a.environment, "liveops-"+a.environment
	wanted := map[string]struct { // by path
		project string
		destination
	}{
		overlay:                 {"liveops", destination{Name: cluster, Namespace: a.system.Namespace}},
		overlay + "/monitoring": {"monitoring", destination{Name: cluster, Namespace: "monitoring"}},
		overlay + "/charts":     {"default", destination{Server: "https://kubernetes.default.svc", Namespace: "argocd"}},
	}
	found := map[string]bool{}
	for _, app := range a.argo.applications {
		source, project := app.Spec.Source, a.argo.projects[app.Spec.Project]
		if !a.hasFolder(source.Path) {
			r.add(app.at("source.path"), "there is no %s", source.Path)
		}
		if !slices.Contains(a.argo.projects["liveops"].Spec.SourceRepos, source.RepoURL) {
			r.add(app.at("source.repoURL"), "%s is not among sourceRepos of deploy/argocd/project.yaml", source.RepoURL)
		}
		if auto := app.Spec.SyncPolicy.Automated; auto == nil || !auto.Prune || !auto.SelfHeal {
			r.add(app.at("syncPolicy.automated"), "should prune and heal: otherwise the cluster is not what the repository says")
		}
		want, ok := wanted[source.Path]
		if !ok {
			continue
		}
		found[source.Path] = true
		if app.Spec.Destination != want.destination || want.project != "default" && !slices.Contains(project.Spec.Destinations, want.destination) {
			r.add(app.at("destination"), "is %v; it and one of the project's should be %v", app.Spec.Destination, want.destination)
		}
		if app.Spec.Project != want.project {
			r.add(app.at("project"), "is %q, not %q", app.Spec.Project, want.project)
		}
	}
	for path := range wanted {
		if !found[path] {
			r.add("deploy/argocd/apps", "no Application has the path %s", path)
		}
	}
	for _, project := range a.argo.projects {
		for _, d := range project.Spec.Destinations {
			if strings.Contains(d.Name+d.Namespace+d.Server, "*") {
				r.add(project.at("destinations"), "%v allows every cluster or namespace", d)
			}
		}
	}
	services, monitoring := a.argo.projects["liveops"], a.argo.projects["monitoring"]
	r.same(services.at("namespaceResourceWhitelist"), kinds(a.objects), names(services.Spec.NamespaceResourceWhitelist, groupKind.String))
	r.same(services.at("clusterResourceWhitelist"), []string{"Namespace"}, names(services.Spec.ClusterResourceWhitelist, func(k groupKind) string { return k.Kind }))
	for _, kind := range kinds(a.monitoring.objects) { // and what the charts bring
		if !slices.Contains(names(monitoring.Spec.NamespaceResourceWhitelist, groupKind.String), kind) {
			r.add(monitoring.at("namespaceResourceWhitelist"), "%q is not allowed", kind)
		}
	}
	r.same(monitoring.at("clusterResourceWhitelist"), []string{"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"},
		names(monitoring.Spec.ClusterResourceWhitelist, func(k groupKind) string { return k.Kind }))
	windows(services, "liveops-prod", r)
	windows(monitoring, "*-prod", r)
}

// windows reports a project whose applications of production follow at any time.
func windows(p project, applications string, r *report) {
	for _, w := range p.Spec.SyncWindows {
		if w.Kind == "allow" && slices.Contains(w.Applications, applications) && w.Schedule != "" && w.Duration != "" {
			return
		}
	}
	r.add(p.at("syncWindows"), "none of kind allow is for %s: production would follow at any time", applications)
}

func (k groupKind) String() string { return k.Group + "/" + k.Kind }

// kinds are the kinds of objects, each with its group.
func kinds(objects []object) []string {
	return names(objects, func(o object) string {
		group, _, ok := strings.Cut(o.APIVersion, "/")
		if !ok {
			group = ""
		}
		return groupKind{group, o.Kind}.String()
	})
}

func (a *assets) hasFolder(path string) bool {
	for file := range a.files {
		if strings.HasPrefix(file, path+"/") {
			return true
		}
	}
	return false
}
