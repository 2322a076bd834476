package deploy_test

import (
	"slices"
	"strconv"
)

const (
	hookAnnotation   = "argocd.argoproj.io/hook"
	deleteAnnotation = "argocd.argoproj.io/hook-delete-policy"
	waveAnnotation   = "argocd.argoproj.io/sync-wave"
)

var migrationRules = []rule{
	{"the migration leans on nothing that the sync brings", migrationFirst, []seed{
		{"Job/migrate", "hook: PreSync", "hook: Sync", "Job/migrate: argocd.argoproj.io/hook"},
		{"ServiceAccount/migrate", "hook: PreSync", "hook: PostSync", "ServiceAccount/migrate: argocd.argoproj.io/hook"},
		{"SecretProviderClass/migrate", `sync-wave: "0"`, `sync-wave: "1"`, "SecretProviderClass/migrate: argocd.argoproj.io/sync-wave"},
		{"NetworkPolicy/migrate", "hook: PreSync", "hook: Sync", "before the sync"},
		{"Job/migrate", "hook-delete-policy: BeforeHookCreation", "hook-delete-policy: HookFailed", "BeforeHookCreation"},
		{"Job/migrate", "- migrate\n        env", "- rebuild\n        env", "command"},
		{"host.json", `"defaultExecutablePath": "handler"`, `"defaultExecutablePath": "worker"`, "command"},
		{"ServiceAccount/gateway", "annotations:", "annotations:\n    argocd.argoproj.io/hook: PreSync", "ServiceAccount/gateway: argocd.argoproj.io/hook"},
		{"compose.yaml", "entrypoint: [/home/site/wwwroot/handler, migrate]", "entrypoint: [/handler, migrate]", "compose.yaml"},
	}},
}

func migrationFirst(a *assets, r *report) {
	command := []string{a.image.handler(a.files["host.json"]), "migrate"}
	for _, j := range a.jobs {
		needed := []string{"Job " + j.Metadata.Name, "ServiceAccount " + j.Spec.Template.Spec.ServiceAccountName}
		for _, v := range j.Spec.Template.Spec.Volumes {
			if v.CSI != nil {
				needed = append(needed, "SecretProviderClass "+v.CSI.VolumeAttributes.SecretProviderClass)
			}
		}
		var early []networkPolicy
		for _, p := range a.policies {
			if p.Metadata.Annotations[hookAnnotation] == "PreSync" {
				early = append(early, p)
				needed = append(needed, "NetworkPolicy "+p.Metadata.Name)
			}
		}
		r.same("NetworkPolicies before the sync", a.designed(j.Metadata.Name), arrows(workload{j.object, j.Spec.Template}, early))
		for _, o := range a.objects {
			hook, isNeeded := o.Metadata.Annotations[hookAnnotation], slices.Contains(needed, o.Kind+" "+o.Metadata.Name)
			switch {
			case isNeeded && hook != "PreSync":
				r.add(o.at(hookAnnotation), "is %q, not PreSync: the migration would wait for what comes after it", hook)
			case !isNeeded && hook != "":
				r.add(o.at(hookAnnotation), "is %q: the migration needs no hook but its own, and what is a hook is not kept in sync", hook)
			case isNeeded && o.Kind != "Job" && wave(o) >= wave(j.object):
				r.add(o.at(waveAnnotation), "is %d, not below that of the migration, %d", wave(o), wave(j.object))
			case isNeeded && o.Metadata.Annotations[deleteAnnotation] != "BeforeHookCreation":
				r.add(o.at(deleteAnnotation), "should be BeforeHookCreation: a Job is never run a second time")
			}
		}
		for _, c := range j.Spec.Template.Spec.Containers {
			if !slices.Equal(c.Command, command) || len(c.Args) > 0 {
				r.add(j.at("command"), "%v, not %v, the handler of the image", slices.Concat(c.Command, c.Args), command)
			}
		}
	}
	if got := a.local.Services[migrate].Entrypoint; !slices.Equal(got, command) {
		r.add("compose.yaml: services.migrate.entrypoint", "%v, not %v", got, command)
	}
}

func wave(o object) int {
	n, _ := strconv.Atoi(o.Metadata.Annotations[waveAnnotation])
	return n
}
