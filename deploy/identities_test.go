package deploy_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

var identityRules = []rule{
	{"every service has its Deployment, account and secrets", servicesComplete, []seed{
		{"bicep/system.json", `"gateway": {`, `"gate": {`, `Deployments: "gate" is missing`},
		{"ServiceAccount/fairness", "name: fairness", "name: fair", `ServiceAccounts: "fairness" is missing`},
		{"Job/migrate", "name: migrate\n  namespace", "name: migration\n  namespace", `Jobs: "migrate" is missing`},
		{"SecretProviderClass/migrate", "name: migrate", "name: migration", `SecretProviderClasses: "migrate" is missing`},
		{"Deployment/gateway", "serviceAccountName: gateway", "serviceAccountName: fairness", `runs as "fairness"`},
		{"Deployment/gateway", "secretProviderClass: gateway", "secretProviderClass: migrate", `mounts the secrets of "migrate"`},
		{"Deployment/gateway", `azure.workload.identity/use: "true"`, `azure.workload.identity/use: "false"`, "azure.workload.identity/use"},
		{"Service/gateway", "namespace: liveops", "namespace: default", `is in "default"`},
	}},
	{"identities are those that Bicep made", identitiesMade, []seed{
		{"ServiceAccount/fairness", "{CLIENT_ID_FAIRNESS}", "{CLIENT_ID_GATEWAY}", "CLIENT_ID_FAIRNESS"},
		{"SecretProviderClass/fairness", "{CLIENT_ID_FAIRNESS}", "{CLIENT_ID_GATEWAY}", "CLIENT_ID_FAIRNESS"},
		{"SecretProviderClass/migrate", "{CLIENT_ID_MIGRATE}", "{CLIENT_ID_GATEWAY}", "CLIENT_ID_MIGRATE"},
		{"TriggerAuthentication/servicebus", "{CLIENT_ID_KEDA}", "{CLIENT_ID_GATEWAY}", "CLIENT_ID_KEDA"},
		{"SecretProviderClass/gateway", "{KEY_VAULT_SERVICES}", "{KEY_VAULT_SCHEMA}", "KEY_VAULT_SERVICES"},
		{"SecretProviderClass/migrate", "{KEY_VAULT_SCHEMA}", "{KEY_VAULT_SERVICES}", "KEY_VAULT_SCHEMA"},
		{"SecretProviderClass/migrate", "tenantId: ", "tenantId: x", "AZURE_TENANT_ID"},
		{"SecretProviderClass/migrate", `usePodIdentity: "false"`, `usePodIdentity: "true"`, "usePodIdentity"},
		{"Job/migrate", "/liveops:", "/liveops:latest #", "does not name a version"},
		{"Deployment/gateway", "image: ", "image: docker.io/", "ACR_LOGIN_SERVER"},
		{"Job/migrate", "/liveops:", "/liveops:other-", "another image"},
	}},
	{"no name stands where a value of azure.env should", placeholdersReplaced, []seed{
		{"deploy/base/azure/replacements.yaml", "spec.podIdentity.identityId", "spec.podIdentity.identityOwner\n        options: {create: true}", "CLIENT_ID_KEDA"},
		{"deploy/overlays/prod/host.yaml", "/spec/rules/0/host", "/spec/rules/0/hosts", "HOST"},
		{"deploy/monitoring/azure/replacements.yaml", ".env.[name=REDIS_HOST].value", ".env.[name=REDIS_HOST].values\n        options: {create: true}", "REDIS_HOST"},
		{"deploy/monitoring/charts/azure/replacements.yaml", "index: 3", "index: 4", "AZURE_TENANT_ID"},
		{"deploy/overlays/prod/charts/cluster.yaml", "/spec/destination/name", "/spec/destination/names", "CLUSTER"},
	}},
	{"azure.env is Bicep's output", azureEnvComplete, []seed{
		{"deploy/overlays/prod/azure/azure.env", "ACR_LOGIN_SERVER=", "ACR=", `"ACR_LOGIN_SERVER" is missing`},
		{"bicep/main.bicep", "'REDIS_HOST=$", "'REDIS=$", `"REDIS" is missing`},
		{"bicep/main.bicep", "  'CLIENT_ID_KEDA=${clientIds.keda}'\n  'MYSQL_ADDRESS=${databaseAddress}/32'\n", "  'MYSQL_ADDRESS=${databaseAddress}/32'\n  'CLIENT_ID_KEDA=${clientIds.keda}'\n", "another order"},
		{"deploy/overlays/prod/azure/azure.env", "={CLIENT_ID_MIGRATE}", "={CLIENT_ID_KEDA}", "CLIENT_ID_KEDA has the value of CLIENT_ID_MIGRATE"},
		{"deploy/overlays/prod/azure/azure.env", "={MYSQL_ADDRESS}", "=10.42.5.4", "MYSQL_ADDRESS"},
		{"deploy/overlays/prod/azure/azure.env", "={LOKI_ADDRESS}", "=loki", "LOKI_ADDRESS"},
		{"deploy/overlays/prod/azure/azure.env", "={SERVICEBUS_NAMESPACE}\n", "=other\n", "SERVICEBUS_FQDN"},
		{"deploy/overlays/prod/azure/azure.env", "certificates/liveops-tls", "certificates/tls", "TLS_CERT_URI"},
		{"deploy/overlays/prod/azure/azure.env", "={KEY_VAULT_SCHEMA}", "=a-name-that-is-too-long-for-it", "KEY_VAULT_SCHEMA"},
	}},
	{"Bicep federates the accounts of the cluster", accountsFederated, []seed{
		{"bicep/modules/identities.bicep", "${account.namespace}:", "default:", "subject"},
		{"bicep/modules/identities.bicep", "api://AzureADTokenExchange", "api://Azure", "audiences"},
		{"bicep/main.bicep", "name: 'migrate', namespace: system.namespace", "name: 'migrate', namespace: 'liveops'", "name: 'migrate', namespace: system.namespace"},
		{"bicep/main.bicep", "serviceAccounts: ['keda-operator']", "serviceAccounts: ['keda']", "keda-operator"},
		{"bicep/main.bicep", "'id-${base}'", "'identity-${base}'", "id-${base}"},
	}},
}

// migrate is the workload beside the services.
const migrate = "migrate"

func names[T, N any](list []T, name func(T) N) []N {
	var all []N
	for _, one := range list {
		all = append(all, name(one))
	}
	return all
}

func servicesComplete(a *assets, r *report) {
	services := a.system.services()
	withMigrate := append(slices.Clone(services), migrate)
	r.same("Deployments", services, names(a.deployments, func(d deployment) string { return d.Metadata.Name }))
	r.same("Services", services, names(a.services, func(s service) string { return s.Metadata.Name }))
	r.same("Jobs", []string{migrate}, names(a.jobs, func(j job) string { return j.Metadata.Name }))
	r.same("ServiceAccounts", withMigrate, names(a.accounts, func(o object) string { return o.Metadata.Name }))
	r.same("SecretProviderClasses", withMigrate, names(a.secretClasses, func(c secretClass) string { return c.Metadata.Name }))
	for _, w := range a.workloads() {
		if account := w.pod.Spec.ServiceAccountName; account != w.Metadata.Name {
			r.add(w.at("serviceAccountName"), "runs as %q, not as an account of its own name", account)
		}
		for _, v := range w.pod.Spec.Volumes {
			if v.CSI != nil && v.CSI.VolumeAttributes.SecretProviderClass != w.Metadata.Name {
				r.add(w.at("volumes."+v.Name), "mounts the secrets of %q, not those of its own name", v.CSI.VolumeAttributes.SecretProviderClass)
			}
		}
	}
	for _, d := range a.deployments {
		if d.Spec.Template.Metadata.Labels["azure.workload.identity/use"] != "true" {
			r.add(d.at("template.metadata.labels"), `azure.workload.identity/use should be "true": without it the pod gets no token for Azure`)
		}
	}
	for _, o := range a.objects {
		if o.Metadata.Namespace != a.system.Namespace {
			r.add(o.at("metadata.namespace"), "is in %q, not in the namespace of bicep/system.json, %q", o.Metadata.Namespace, a.system.Namespace)
		}
	}
}

// is reports a value that is not that of a key of azure.env.
func (a *assets) is(r *report, where, value, key string) {
	if want := a.azure.values[key]; value != want || want == "" {
		r.add(where, "is %q; %s of %s is %q", value, key, a.azure.file, want)
	}
}

func clientID(workload string) string { return "CLIENT_ID_" + strings.ToUpper(workload) }

func identitiesMade(a *assets, r *report) {
	for _, o := range a.accounts {
		if o.Metadata.Name != migrate { // its pod asks Azure for nothing; the CSI driver asks for it
			a.is(r, o.at("azure.workload.identity/client-id"), o.Metadata.Annotations["azure.workload.identity/client-id"], clientID(o.Metadata.Name))
		}
	}
	for _, c := range a.secretClasses {
		p, vault := c.Spec.Parameters, "KEY_VAULT_SERVICES"
		if c.Metadata.Name == migrate {
			vault = "KEY_VAULT_SCHEMA"
		}
		a.is(r, c.at("parameters.clientID"), p.ClientID, clientID(c.Metadata.Name))
		a.is(r, c.at("parameters.keyvaultName"), p.KeyvaultName, vault)
		a.is(r, c.at("parameters.tenantId"), p.TenantID, "AZURE_TENANT_ID")
		if c.Spec.Provider != "azure" || p.UsePodIdentity != "false" {
			r.add(c.at("spec"), `provider is %q and usePodIdentity %q, not "azure" and "false"`, c.Spec.Provider, p.UsePodIdentity)
		}
	}
	for _, t := range a.authentications {
		a.is(r, t.at("podIdentity.identityId"), t.Spec.PodIdentity.IdentityID, "CLIENT_ID_KEDA")
	}
	first := ""
	for _, w := range a.workloads() {
		for _, c := range w.pod.Spec.Containers {
			repository, tag, _ := strings.Cut(c.Image, ":")
			a.is(r, w.at("image"), strings.TrimSuffix(repository, "/liveops"), "ACR_LOGIN_SERVER")
			if tag == "" || tag == "latest" {
				r.add(w.at("image"), "%s does not name a version", c.Image)
			}
			if first == "" {
				first = c.Image
			}
			if c.Image != first {
				r.add(w.at("image"), "%s is another image than %s", c.Image, first)
			}
		}
	}
}

func placeholdersReplaced(a *assets, r *report) {
	words := append(slices.Clone(a.azure.keys), "HOST", "CLUSTER", "ENVIRONMENT", "GRAFANA_CLIENT_ID")
	word := regexp.MustCompile(`(?m)(- name:|\w+:|-|/) ?(` + strings.Join(words, "|") + `)(/.*)?$`)
	for _, o := range slices.Concat(a.objects, a.monitoring.objects, names(a.charts, func(c application) object { return c.object })) {
		for _, m := range word.FindAllStringSubmatch(o.text, -1) {
			if m[1] != "- name:" { // of a variable
				r.add(o.at(m[2]), "the name is deployed, not the value: no line of replacements.yaml or of the overlay leads there")
			}
		}
	}
}

// forms are what the values of azure.env look like.
var forms = map[string]*regexp.Regexp{
	"TENANT_ID|CLIENT_ID": regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	"KEY_VAULT":           regexp.MustCompile(`^[a-z][a-z0-9-]{2,23}$`),
	"STORAGE_ACCOUNT":     regexp.MustCompile(`^[a-z0-9]{3,24}$`),
	"_HOST|_FQDN|_SERVER": regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`),
	"TLS_CERT_URI":        regexp.MustCompile(`^https://[a-z0-9.-]+/certificates/liveops-tls$`),
}

func azureEnvComplete(a *assets, r *report) {
	_, output, _ := strings.Cut(a.files["bicep/main.bicep"], "output azureEnv array = [")
	output, _, _ = strings.Cut(output, "\n]")
	var keys []string
	for _, m := range regexp.MustCompile(`(?m)^\s*'([A-Z_]+)=`).FindAllStringSubmatch(output, -1) {
		keys = append(keys, m[1])
	}
	r.same(a.azure.file, keys, a.azure.keys)
	if len(*r) == 0 && !slices.Equal(keys, a.azure.keys) {
		r.add(a.azure.file, "the keys are in another order than in the output azureEnv of bicep/main.bicep")
	}
	owner := map[string]string{}
	for _, key := range a.azure.keys {
		value := a.azure.values[key]
		for names, form := range forms {
			if regexp.MustCompile(names).MatchString(key) && !form.MatchString(value) {
				r.add(a.azure.file, "%s is %q, not of the form %s", key, value, form)
			}
		}
		if other, taken := owner[value]; taken {
			r.add(a.azure.file, "%s has the value of %s, %q", key, other, value)
		}
		owner[value] = key
	}
	if loki, err := netip.ParseAddr(a.azure.values["LOKI_ADDRESS"]); err != nil || !loki.IsPrivate() {
		r.add(a.azure.file, "LOKI_ADDRESS is %q, not a private address", a.azure.values["LOKI_ADDRESS"])
	}
	for _, key := range []string{"MYSQL_ADDRESS", "PRIVATE_ENDPOINTS_CIDR"} {
		if prefix, err := netip.ParsePrefix(a.azure.values[key]); err != nil || !prefix.Addr().IsPrivate() || prefix.Masked() != prefix {
			r.add(a.azure.file, "%s is %q, not a private range of addresses", key, a.azure.values[key])
		}
	}
	if want := a.azure.values["SERVICEBUS_NAMESPACE"] + ".servicebus.windows.net"; a.azure.values["SERVICEBUS_FQDN"] != want {
		r.add(a.azure.file, "SERVICEBUS_FQDN is %q, not %q", a.azure.values["SERVICEBUS_FQDN"], want)
	}
}

func accountsFederated(a *assets, r *report) {
	const why = "an account of the cluster would stand for no identity"
	r.lacks(a, "bicep/modules/identities.bicep", why,
		"name: '${prefix}-${workload.name}'",
		"subject: 'system:serviceaccount:${account.namespace}:${account.name}'",
		"audiences: ['api://AzureADTokenExchange']")
	r.lacks(a, "bicep/main.bicep", why,
		"var serviceNames = objectKeys(system.services)",
		"map(serviceNames, service => { name: service, namespace: system.namespace, serviceAccounts: [service] })",
		"{ name: 'migrate', namespace: system.namespace, serviceAccounts: ['migrate'] }",
		"{ name: 'keda', namespace: 'kube-system', serviceAccounts: ['keda-operator'] }",
		"prefix: 'id-${base}'")
}
