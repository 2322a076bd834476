package deploy_test

import (
	"slices"
	"strings"
)

var ingressRules = []rule{
	{"the Ingress leads to every public route and nowhere else", ingressLeads, []seed{
		{"Ingress/liveops", "path: /v1/leaderboards", "path: /v1/boards", "/v1/leaderboards leads to gateway, not leaderboard"},
		{"Ingress/liveops", "path: /v1\n", "path: /v1/events\n", "/v1/players leads to nothing, not gateway"},
		{"Ingress/liveops", "path: /v1\n", "path: /\n", "/admin leads to gateway"},
		{"Ingress/liveops", "pathType: Prefix", "pathType: Exact", "Prefix"},
		{"Ingress/liveops", "name: gateway", "name: gate", "no Service gate"},
		{"Ingress/liveops", "name: http", "name: web", "no port web"},
		{"functions/time/function.json", "v1/time", "time", "/time leads to nothing"},
	}},
	{"the Ingress answers by TLS", ingressEncrypts, []seed{
		{"Ingress/liveops", "hosts:\n    - ", "hosts:\n    - other.", `"other.`},
		{"Ingress/liveops", "secretName: keyvault-liveops", "secretName: liveops-tls", "keyvault-liveops"},
		{"Ingress/liveops", "tls-cert-keyvault-uri: https", "tls-cert-uri: https", "TLS_CERT_URI"},
		{"Ingress/liveops", "ingressClassName: webapprouting.kubernetes.azure.com", "ingressClassName: nginx", "ingressClassName"},
		{"bicep/main.bicep", "certificates/liveops-tls'", "certificates/tls'", "liveops-tls"},
		{"bicep/modules/aks.bicep", "webAppRouting: { enabled: true }", "webAppRouting: { enabled: false }", "webAppRouting"},
	}},
}

// below says whether a path is at or below another one, as pathType Prefix does.
func below(path, prefix string) bool {
	return strings.HasPrefix(strings.TrimSuffix(path, "/")+"/", strings.TrimSuffix(prefix, "/")+"/")
}

// leads is the service that a path leads to: that of the longest prefix.
func (i ingress) leads(path string) string {
	service, longest := "nothing", -1
	for _, rule := range i.Spec.Rules {
		for _, p := range rule.HTTP.Paths {
			if below(path, p.Path) && len(p.Path) > longest {
				service, longest = p.Backend.Service.Name, len(p.Path)
			}
		}
	}
	return service
}

func ingressLeads(a *assets, r *report) {
	for _, i := range a.ingresses {
		for _, rule := range i.Spec.Rules {
			for _, p := range rule.HTTP.Paths {
				if p.PathType != "Prefix" {
					r.add(i.at(p.Path), "pathType is %q, not Prefix", p.PathType)
				}
				a.reaches(r, i.at(p.Path), p.Backend.Service.Name, p.Backend.Service.Port.Name)
			}
		}
		for _, private := range []string{"/", "/admin", "/healthz", "/readyz", "/runtime", "/metrics"} {
			if service := i.leads(private); service != "nothing" {
				r.add(i.at("rules"), "%s leads to %s: it is not public", private, service)
			}
		}
		for _, p := range a.pods() {
			loaded, err := a.loadHost(p)
			if err != nil {
				continue // hostLoads tells
			}
			for _, f := range loaded.Functions {
				if f.Trigger != "httpTrigger" || slices.Contains(probes, f.Name) {
					continue
				}
				route := "/" + strings.TrimSuffix(f.Route, "/{*rest}")
				if service := i.leads(route); service != p.name {
					r.add(i.at("rules"), "%s leads to %s, not %s, which runs the function %s", route, service, p.name, f.Name)
				}
			}
		}
	}
}

// reaches reports a service or port that is not there.
func (a *assets) reaches(r *report, where, name, port string) {
	for _, s := range a.services {
		if s.Metadata.Name != name {
			continue
		}
		for _, p := range s.Spec.Ports {
			if p.Name == port {
				return
			}
		}
		r.add(where, "Service/%s has no port %s", name, port)
		return
	}
	r.add(where, "there is no Service %s", name)
}

func ingressEncrypts(a *assets, r *report) {
	for _, i := range a.ingresses {
		var served, covered []string
		for _, rule := range i.Spec.Rules {
			served = append(served, rule.Host)
		}
		for _, t := range i.Spec.TLS {
			covered = append(covered, t.Hosts...)
			if want := "keyvault-" + i.Metadata.Name; t.SecretName != want { // the add-on makes this one
				r.add(i.at("tls.secretName"), "is %q, not %q", t.SecretName, want)
			}
		}
		r.same(i.at("tls.hosts"), served, covered)
		a.is(r, i.at("kubernetes.azure.com/tls-cert-keyvault-uri"), i.Metadata.Annotations["kubernetes.azure.com/tls-cert-keyvault-uri"], "TLS_CERT_URI")
		if i.Spec.IngressClassName != "webapprouting.kubernetes.azure.com" {
			r.add(i.at("ingressClassName"), "is %q, not that of the add-on", i.Spec.IngressClassName)
		}
	}
	r.lacks(a, "bicep/main.bicep", "the certificate that azure.env names", "certificates/liveops-tls'")
	r.lacks(a, "bicep/modules/aks.bicep", "the add-on that has the class", "webAppRouting: { enabled: true }")
}
