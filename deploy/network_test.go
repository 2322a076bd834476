package deploy_test

import (
	"fmt"
	"slices"
	"strings"
)

var networkRules = []rule{
	{"NetworkPolicies allow exactly the arrows of the design", arrowsAllowed, []seed{
		{"NetworkPolicy/default-deny", "  - Ingress\n", "", `"any other pod ← anywhere" should not be there`},
		{"NetworkPolicy/default-deny", "podSelector: {}", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: liveops", `"any other pod ← anywhere" should not be there`},
		{"NetworkPolicy/dns", "podSelector: {}", "podSelector:\n    matchLabels:\n      app.kubernetes.io/component: gateway", `"any other pod → pods k8s-app=kube-dns of namespace kube-system UDP 53" is missing`},
		{"NetworkPolicy/dns", "k8s-app: kube-dns", "k8s-app: dns", `"gateway → pods k8s-app=kube-dns of namespace kube-system UDP 53" is missing`},
		{"NetworkPolicy/clients", "      - leaderboard\n", "", `"leaderboard ← namespace app-routing-system TCP 8080" is missing`},
		{"NetworkPolicy/clients", "      - leaderboard\n", "      - leaderboard\n      - fairness\n", `"fairness ← namespace app-routing-system TCP 8080" should not be there`},
		{"NetworkPolicy/clients", "port: 8080", "port: 80", `TCP 80" should not be there`},
		{"NetworkPolicy/metrics", "name: monitoring", "name: monitor", `"progression ← namespace monitoring TCP 9464" is missing`},
		{"NetworkPolicy/traces", "app.kubernetes.io/name: alloy", "app.kubernetes.io/name: tempo", `"fairness → pods app.kubernetes.io/name=alloy of namespace monitoring TCP 4318" is missing`},
		{"NetworkPolicy/traces", "port: 4318", "port: 4317", `TCP 4317" should not be there`},
		{"NetworkPolicy/mysql", "port: 3306", "port: 3306\n      endPort: 3399", `TCP 3306-3399" should not be there`},
		{"NetworkPolicy/mysql", "cidr: {MYSQL_ADDRESS}", "cidr: 10.0.0.0/8", `"gateway → {MYSQL_ADDRESS} TCP 3306" is missing`},
		{"NetworkPolicy/migrate", "cidr: {MYSQL_ADDRESS}", "cidr: 0.0.0.0/0", `"migrate → 0.0.0.0/0 TCP 3306" should not be there`},
		{"NetworkPolicy/azure", "        - 172.16.0.0/12\n", "", "except 10.0.0.0/8 192.168.0.0/16"},
		{"NetworkPolicy/azure", "  - ports:\n    - port: 6380\n      protocol: TCP\n", "  - ports:\n", `TCP 6380" is missing`},
		{"NetworkPolicy/azure", "port: 6380", "port: 6379", `TCP 6379" should not be there`},
		{"NetworkPolicy/metrics", "  - from:\n    - namespaceSelector:\n        matchLabels:\n          kubernetes.io/metadata.name: monitoring\n    ports", "  - ports", `"gateway ← anywhere TCP 9464" should not be there`},
	}},
}

// arrows are the ways that the policies leave open to a workload's pods and from them.
func arrows(w workload, policies []networkPolicy) []string {
	name := w.Metadata.Name
	var all []string
	isolatedIn, isolatedOut := false, false
	for _, p := range policies {
		if p.Metadata.Namespace != w.Metadata.Namespace || !p.Spec.PodSelector.selects(w.pod.Metadata.Labels) {
			continue
		}
		if slices.Contains(p.Spec.PolicyTypes, "Ingress") {
			isolatedIn = true
			for _, rule := range p.Spec.Ingress {
				all = append(all, ways(name+" ← ", rule.From, rule.Ports)...)
			}
		}
		if slices.Contains(p.Spec.PolicyTypes, "Egress") {
			isolatedOut = true
			for _, rule := range p.Spec.Egress {
				all = append(all, ways(name+" → ", rule.To, rule.Ports)...)
			}
		}
	}
	if !isolatedIn {
		all = append(all, name+" ← anywhere")
	}
	if !isolatedOut {
		all = append(all, name+" → anywhere")
	}
	return all
}

// ways are the pairs of peers and ports of one rule.
func ways(arrow string, peers []peer, ports []policyPort) []string {
	ends, doors := []string{"anywhere"}, []string{""}
	if len(peers) > 0 {
		ends = names(peers, peer.String)
	}
	if len(ports) > 0 {
		doors = names(ports, policyPort.String)
	}
	var all []string
	for _, end := range ends {
		for _, door := range doors {
			all = append(all, arrow+end+door)
		}
	}
	return all
}

func (p peer) String() string {
	switch {
	case p.IPBlock != nil && len(p.IPBlock.Except) > 0:
		return p.IPBlock.CIDR + " except " + strings.Join(p.IPBlock.Except, " ")
	case p.IPBlock != nil:
		return p.IPBlock.CIDR
	}
	text := "own namespace"
	if p.NamespaceSelector != nil {
		text = "namespace " + strings.TrimPrefix(p.NamespaceSelector.String(), "kubernetes.io/metadata.name=")
	}
	if p.PodSelector != nil {
		text = "pods " + p.PodSelector.String() + " of " + text
	}
	return text
}

func (p policyPort) String() string {
	if p.EndPort != 0 {
		return fmt.Sprintf(" %s %d-%d", p.Protocol, p.Port, p.EndPort)
	}
	return fmt.Sprintf(" %s %d", p.Protocol, p.Port)
}

// stranger is a pod that nothing here deploys.
const stranger = "any other pod"

// designed are the arrows there should be for a workload.
func (a *assets) designed(name string) []string {
	const dns = " → pods k8s-app=kube-dns of namespace kube-system "
	all := []string{name + dns + "UDP 53", name + dns + "TCP 53"}
	if name == stranger {
		return all
	}
	ports := a.system.Ports
	all = append(all, fmt.Sprintf("%s → %s TCP %d", name, a.azure.values["MYSQL_ADDRESS"], ports.MySQL))
	if name == migrate {
		return all
	}
	private, public := a.azure.values["PRIVATE_ENDPOINTS_CIDR"], "0.0.0.0/0 except 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"
	for _, way := range []struct {
		to   string
		port int
	}{{private, ports.Redis}, {private, ports.AMQP}, {private, ports.HTTPS}, {public, ports.AMQP}, {public, ports.HTTPS}} {
		all = append(all, fmt.Sprintf("%s → %s TCP %d", name, way.to, way.port))
	}
	all = append(all, fmt.Sprintf("%s ← namespace monitoring TCP %d", name, ports.Metrics))
	all = append(all, fmt.Sprintf("%s → pods app.kubernetes.io/name=alloy of namespace monitoring TCP %d", name, ports.OTLP))
	if name == "gateway" || name == "leaderboard" {
		all = append(all, fmt.Sprintf("%s ← namespace app-routing-system TCP %d", name, ports.Host))
	}
	return all
}

func arrowsAllowed(a *assets, r *report) {
	other := workload{object: object{Metadata: metadata{Name: stranger, Namespace: a.system.Namespace}}}
	for _, w := range append(a.workloads(), other) {
		r.same("NetworkPolicies", a.designed(w.Metadata.Name), arrows(w, a.policies))
	}
}
