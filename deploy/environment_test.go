package deploy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"math/big"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"liveops/core/catalog"
	"liveops/handler/app"
)

// secretsMount is where the Secrets Store CSI driver mounts the secrets.
const secretsMount = "/mnt/secrets"

// leftOut are the variables of the handler that no pod is given, and why.
var leftOut = map[string]string{
	"SERVICEBUS":                 "a connection string is a secret; the namespace is reached by identity",
	"AZURE_SERVICEBUS_NAMESPACE": "SERVICEBUS__fullyQualifiedNamespace tells the host as well",
}

// hostVariables are those that something other than the handler reads. POD_NAMESPACE is none of them: with it the host takes
// itself for one of Azure's own (contract §15.17).
var hostVariables = map[string]string{
	"AzureWebJobsScriptRoot":                             "contract §8.2: where host.json is",
	"HOME":                                               "contract §9: whose data/ the host writes to",
	"FUNCTIONS_WORKER_RUNTIME":                           "contract §8.2: custom",
	"ASPNETCORE_URLS":                                    "contract §8.2: where the host listens",
	"DOTNET_RUNNING_IN_CONTAINER":                        "contract §9: without it the host does not look for a bundle in the image",
	"DOTNET_EnableDiagnostics":                           "contract §8.2: for a read-only root file system",
	"DOTNET_GCHeapHardLimitPercent":                      ".NET: the host's share of the memory",
	"GOMEMLIMIT":                                         "Go: the handler's share of the memory",
	"AzureWebJobsSecretStorageType":                      "contract §8.1: where the host keeps its keys",
	"AzureWebJobsStorage__accountName":                   "contract §7: the leases that let a timer run once",
	"AzureFunctionsWebHost__hostid":                      "contract §8.2: whose leases they are",
	"AzureFunctionsJobHost__Logging__Console__IsEnabled": "contract §8.2: the host's log on stdout",
	"AzureFunctionsJobHost__logging__fileLoggingMode":    "contract §8.2: for a read-only root file system",
	"AzureFunctionsJobHost__fileWatchingEnabled":         "contract §8.2: for a read-only root file system",
}

// allowList is contract §8.1: the functions that a pod runs.
var allowList = regexp.MustCompile(`^AzureFunctionsJobHost__functions__(\d+)$`)

// asked calls read with an environment that has nothing, and tells which variables it asks for. Any may be given as NAME_FILE.
func asked(read func(getenv func(string) string)) []string {
	names := map[string]bool{}
	read(func(name string) string {
		names[name] = true
		return ""
	})
	var known []string
	for name := range names {
		if names[name+"_FILE"] {
			known = append(known, name)
		}
	}
	slices.Sort(known)
	return known
}

// handlerVariables are the variables that the handler knows.
var handlerVariables = sync.OnceValue(func() []string {
	return asked(func(getenv func(string) string) { _, _ = app.ReadConfig(getenv) })
})

// migrateVariables are those that `handler migrate` knows.
var migrateVariables = sync.OnceValue(func() []string {
	return asked(func(getenv func(string) string) { _ = app.Migrate(context.Background(), getenv, io.Discard) })
})

// instance is one set of the handler's environment.
type instance struct {
	name, where string
	env         map[string]string
}

// instances are the services of the overlay and, with the same image, those of compose.yaml.
func (a *assets) instances() []instance {
	all := a.pods()
	for _, name := range a.composed() {
		env := maps.Clone(a.image.env)
		maps.Copy(env, a.local.Services[name].Environment)
		all = append(all, instance{name, "compose.yaml: services." + name + ".environment", env})
	}
	return all
}

// composed are the services of compose.yaml that are services of the system.
func (a *assets) composed() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(a.local.Services)) {
		if s := a.local.Services[name]; strings.Contains(s.Image, "liveops") && len(s.Entrypoint) == 0 {
			names = append(names, name)
		}
	}
	return names
}

// pods are the services of the overlay.
func (a *assets) pods() []instance {
	var all []instance
	for _, d := range a.deployments {
		all = append(all, instance{d.Metadata.Name, d.at("env"), a.environmentOf(d.Spec.Template)})
	}
	return all
}

// environmentOf is what a pod's first container finds: the image's, the ConfigMaps', its own.
func (a *assets) environmentOf(pod podTemplate) map[string]string {
	env := maps.Clone(a.image.env)
	for _, c := range pod.Spec.Containers[:min(1, len(pod.Spec.Containers))] {
		for _, from := range c.EnvFrom {
			for _, m := range a.configMaps {
				if m.Metadata.Name == from.ConfigMapRef.Name {
					maps.Copy(env, m.Data)
				}
			}
		}
		for _, v := range c.Env {
			env[v.Name] = v.Value
		}
	}
	return env
}

var environmentRules = []rule{
	{"every variable of the handler is set or left out on purpose", variablesSet, []seed{
		{"ConfigMap/settings", "  BATCH_HOLD: ", "  # ", "BATCH_HOLD is not set"},
		{"ConfigMap/settings", "CURSOR_SECRET_FILE", "CURSOR_SECRETS_FILE", "CURSOR_SECRET is not set"},
		{"ConfigMap/settings", "BUS_KIND: servicebus", "SERVICEBUS: Endpoint=sb://x", "SERVICEBUS is set, and should not be: a connection string"},
	}},
	{"what is set is read, and what the host must be told is set", variablesKnown, []seed{
		{"ConfigMap/settings", "LOG_LEVEL: ", "LOGLEVEL: ", `nothing reads LOGLEVEL`},
		{"ConfigMap/settings", "DB_URL_FILE", "DB_URLS_FILE", `nothing reads DB_URLS_FILE`},
		{"Deployment/fairness", "name: GOMEMLIMIT", "name: POD_NAMESPACE", `nothing reads POD_NAMESPACE`},
		{"Deployment/gateway", "hostid", "hostId", "nothing reads AzureFunctionsWebHost__hostId"},
		{"Job/migrate", "DB_URL_FILE", "REDIS_URL_FILE", "nothing reads REDIS_URL_FILE"},
		{"Dockerfile", "DOTNET_EnableDiagnostics", "DOTNET_Diagnostics", "nothing reads DOTNET_Diagnostics"},
		{"Dockerfile", "DOTNET_EnableDiagnostics", "DOTNET_Diagnostics", "nothing sets DOTNET_EnableDiagnostics"},
		{"compose.yaml", "REDIS_ONE_NODE", "REDIS_NODE", "nothing reads REDIS_NODE"},
	}},
	{"the handler starts with what it is given", handlerStarts, []seed{
		{"ConfigMap/settings", "BATCH_HOLD: ", "BATCH_HOLD: 60s #", "BATCH_HOLD"},
		{"ConfigMap/settings", "/mnt/secrets/redis-url", "/mnt/secrets/redis", "REDIS_URL_FILE"},
		{"SecretProviderClass/gateway", "objectName: cursor-secret", "objectName: cursor", "CURSOR_SECRET_FILE"},
		{"ConfigMap/settings", "DB_TLS: /mnt/secrets/db-ca", `DB_TLS: "false"`, "MySQL is reached without TLS"},
		{"ConfigMap/settings", "BUS_KIND: servicebus", "BUS_KIND: memory", `BUS_KIND is "memory"`},
		{"ConfigMap/settings", "EVENTS_QUEUE: events", "EVENTS_QUEUE: event", `EVENTS_QUEUE is "event"`},
		{"deploy/base/azure/replacements.yaml", "data.SERVICEBUS_FQDN", "data.SERVICEBUS_NAMESPACE", "SERVICEBUS_FQDN"},
		{"ConfigMap/settings", "/etc/liveops/catalog.yaml", "/etc/liveops/game.yaml", "no volume has /etc/liveops/game.yaml"},
		{"examples/arena/catalog.yaml", "\nversion: ", "\nversion: one #", "the catalog"},
		{"compose.yaml", "local-only-local-only-local-only-hmac", "short", "HMAC_SECRET"},
	}},
	{"the migration starts with what it is given", migrationStarts, []seed{
		{"Job/migrate", "/mnt/secrets/db-ca", "/mnt/secrets/ca", "DB_TLS"},
		{"Job/migrate", "DB_URL_FILE", "DB_URL", "DB_URL"},
		{"Job/migrate", "name: DB_TLS", "name: DB_SSL", "DB_TLS is not set"},
		{"SecretProviderClass/migrate", "objectName: db-url", "objectName: url", "DB_URL_FILE"},
	}},
	{"the README lists exactly the handler's variables", readmeLists, []seed{
		{"README.md", "| `BATCH_HOLD` |", "| `HOLD` |", `"BATCH_HOLD" is missing`},
		{"README.md", "| `BATCH_HOLD` |", "| `HOLD` |", `"HOLD" should not be there`},
	}},
}

func variablesSet(a *assets, r *report) {
	known := handlerVariables()
	for name := range leftOut {
		if !slices.Contains(known, name) {
			r.add("environment_test.go: leftOut", "the handler knows no %s any more", name)
		}
	}
	for _, p := range a.pods() {
		for _, name := range known {
			set := p.env[name] != "" || p.env[name+"_FILE"] != ""
			reason, out := leftOut[name]
			switch {
			case !set && !out:
				r.add(p.where, "%s is not set: give it in deploy/base/settings.env, or say in leftOut why not", name)
			case set && out:
				r.add(p.where, "%s is set, and should not be: %s", name, reason)
			}
		}
	}
}

func variablesKnown(a *assets, r *report) {
	told := map[string]bool{}
	check := func(where string, env map[string]string, known []string) {
		for _, name := range slices.Sorted(maps.Keys(env)) {
			told[name] = true
			if !slices.Contains(known, name) && !slices.Contains(known, strings.TrimSuffix(name, "_FILE")) && hostVariables[name] == "" && !allowList.MatchString(name) {
				r.add(where, "nothing reads %s: neither the handler nor, by hostVariables, the host", name)
			}
		}
	}
	for _, i := range a.instances() {
		check(i.where, i.env, handlerVariables())
	}
	for _, j := range a.jobs {
		check(j.at("env"), a.environmentOf(j.Spec.Template), migrateVariables())
	}
	for _, name := range slices.Sorted(maps.Keys(hostVariables)) {
		if !told[name] {
			r.add("Dockerfile or deploy/base", "nothing sets %s (%s)", name, hostVariables[name])
		}
	}
}

// handlerStarts gives the handler the environment as it is, with files of the secrets that are mounted.
func handlerStarts(a *assets, r *report) {
	for _, d := range a.deployments {
		where, env := d.at("env"), a.environmentOf(d.Spec.Template)
		config, err := a.readConfig(d.Spec.Template, env)
		if err != nil {
			r.add(where, "the handler refuses it: %v", err)
			continue
		}
		if config.BusKind != "servicebus" {
			r.add(where, "BUS_KIND is %q, not servicebus", config.BusKind)
		}
		if config.Namespace != a.azure.values["SERVICEBUS_FQDN"] {
			r.add(where, "the Service Bus namespace is %q, not SERVICEBUS_FQDN of %s, %q", config.Namespace, a.azure.file, a.azure.values["SERVICEBUS_FQDN"])
		}
		if config.DBTLS == nil {
			r.add(where, "MySQL is reached without TLS: DB_TLS must be the path of db-ca")
		}
		for name, queue := range map[string]string{"EVENTS_QUEUE": config.EventsQueue, "PROGRESSION_QUEUE": config.ProgressionQueue} {
			if _, ok := a.system.Queues[queue]; !ok {
				r.add(where, "%s is %q, a queue that bicep/system.json does not have", name, queue)
			}
		}
		text, ok := a.mounted(d.Spec.Template, config.CatalogFile)
		if !ok {
			r.add(where, "CATALOG_FILE: no volume has %s", config.CatalogFile)
		} else if _, err := catalog.Parse([]byte(text)); err != nil {
			r.add(where, "CATALOG_FILE: the handler refuses the catalog: %v", err)
		}
	}
	for _, name := range a.composed() {
		env := a.local.Services[name].Environment
		if _, err := app.ReadConfig(func(name string) string { return env[name] }); err != nil {
			r.add("compose.yaml: services."+name, "the handler refuses it: %v", err)
		}
	}
}

func migrationStarts(a *assets, r *report) {
	stopped, stop := context.WithCancel(context.Background())
	stop() // when the configuration is read, that is enough
	for _, j := range a.jobs {
		env := a.environmentOf(j.Spec.Template)
		for _, name := range migrateVariables() {
			if env[name] == "" && env[name+"_FILE"] == "" {
				r.add(j.at("env"), "%s is not set", name)
			}
		}
		err := a.withSecrets(j.Spec.Template, env, func(getenv func(string) string) error { return app.Migrate(stopped, getenv, io.Discard) })
		if !errors.Is(err, context.Canceled) {
			r.add(j.at("env"), "handler migrate refuses it: %v", err)
		}
	}
}

func (a *assets) readConfig(pod podTemplate, env map[string]string) (config app.Config, err error) {
	err = a.withSecrets(pod, env, func(getenv func(string) string) error {
		config, err = app.ReadConfig(getenv)
		return err
	})
	return config, err
}

// withSecrets calls do with an environment in whose paths the secrets are, as the pod's SecretProviderClass mounts them.
func (a *assets) withSecrets(pod podTemplate, env map[string]string, do func(getenv func(string) string) error) error {
	dir, err := os.MkdirTemp("", "secrets")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, v := range pod.Spec.Volumes {
		for _, c := range a.secretClasses {
			if v.CSI == nil || v.CSI.VolumeAttributes.SecretProviderClass != c.Metadata.Name {
				continue
			}
			names, err := c.names()
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(sample(name)), 0o600); err != nil {
					return err
				}
			}
		}
	}
	return do(func(name string) string {
		if file, ok := strings.CutPrefix(env[name], secretsMount+"/"); ok {
			return filepath.Join(dir, file)
		}
		return env[name]
	})
}

// sample is a secret of the form that bicep/secrets.sh gives it.
func sample(name string) string {
	switch name {
	case "db-url":
		return "mysql://services:sample@mysql.internal:3306/liveops"
	case "redis-url":
		return "rediss://:sample@redis.internal:6380/0"
	case "hmac-keys":
		return "[]"
	case "db-ca":
		return authority()
	default:
		return strings.Repeat(name[:1], 64)
	}
}

var authority = sync.OnceValue(func() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
})

// mounted is the content of a file that a pod has of a ConfigMap.
func (a *assets) mounted(pod podTemplate, file string) (string, bool) {
	for _, c := range pod.Spec.Containers {
		for _, mount := range c.VolumeMounts {
			for _, v := range pod.Spec.Volumes {
				if mount.Name != v.Name || v.ConfigMap == nil || mount.MountPath != path.Dir(file) {
					continue
				}
				for _, m := range a.configMaps {
					if text, ok := m.Data[path.Base(file)]; ok && m.Metadata.Name == v.ConfigMap.Name {
						return text, true
					}
				}
			}
		}
	}
	return "", false
}

func readmeLists(a *assets, r *report) {
	_, section, _ := strings.Cut(a.files["README.md"], "\n## Configuration\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for row := range strings.Lines(section) {
		if cells := strings.Split(row, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`([A-Za-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				listed = append(listed, name[1])
			}
		}
	}
	known := slices.DeleteFunc(slices.Clone(handlerVariables()), func(name string) bool {
		return name == "SERVICEBUS__fullyQualifiedNamespace" // the host's, which the row of SERVICEBUS explains
	})
	r.same("README.md: Configuration", known, listed)
}
