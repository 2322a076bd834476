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
	project := a.argo.project
	path, found := "deploy/overlays/"+a.environment, false
	for _, app := range a.argo.applications {
		source := app.Spec.Source
		if !a.hasFolder(source.Path) {
			r.add(app.at("source.path"), "there is no %s", source.Path)
		}
		if !slices.Contains(project.Spec.SourceRepos, source.RepoURL) {
			r.add(app.at("source.repoURL"), "%s is not among sourceRepos of deploy/argocd/project.yaml", source.RepoURL)
		}
		if auto := app.Spec.SyncPolicy.Automated; auto == nil || !auto.Prune || !auto.SelfHeal {
			r.add(app.at("syncPolicy.automated"), "should prune and heal: otherwise the cluster is not what the repository says")
		}
		if source.Path != path {
			continue
		}
		found = true
		want := destination{Name: "liveops-" + a.environment, Namespace: a.system.Namespace}
		if app.Spec.Destination != want || !slices.Contains(project.Spec.Destinations, want) {
			r.add(app.at("destination"), "is %v; it and one of the project's should be %v", app.Spec.Destination, want)
		}
		if app.Spec.Project != project.Metadata.Name {
			r.add(app.at("project"), "is %q, not %q", app.Spec.Project, project.Metadata.Name)
		}
	}
	if !found {
		r.add("deploy/argocd/apps", "no Application has the path %s", path)
	}
	for _, d := range project.Spec.Destinations {
		if strings.Contains(d.Name+d.Namespace+d.Server, "*") {
			r.add(project.at("destinations"), "%v allows every cluster or namespace", d)
		}
	}
	var deployed []string
	for _, o := range a.objects {
		group, _, ok := strings.Cut(o.APIVersion, "/")
		if !ok {
			group = ""
		}
		deployed = append(deployed, group+"/"+o.Kind)
	}
	r.same(project.at("namespaceResourceWhitelist"), deployed, names(project.Spec.NamespaceResourceWhitelist, func(k groupKind) string { return k.Group + "/" + k.Kind }))
	r.same(project.at("clusterResourceWhitelist"), []string{"Namespace"}, names(project.Spec.ClusterResourceWhitelist, func(k groupKind) string { return k.Kind }))
	for _, w := range project.Spec.SyncWindows {
		if w.Kind == "allow" && slices.Contains(w.Applications, "liveops-prod") && w.Schedule != "" && w.Duration != "" {
			return
		}
	}
	r.add(project.at("syncWindows"), "none of kind allow is for liveops-prod: production would follow at any time")
}

func (a *assets) hasFolder(path string) bool {
	for file := range a.files {
		if strings.HasPrefix(file, path+"/") {
			return true
		}
	}
	return false
}
