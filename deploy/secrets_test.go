package deploy_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

var secretRules = []rule{
	{"pods mount the secrets that they read, and no others", secretsRead, []seed{
		{"SecretProviderClass/gateway", "objectName: hmac-keys", "objectName: hmac-key", `"hmac-keys" is missing`},
		{"SecretProviderClass/migrate", `"{objectType: secret, objectName: db-ca}"`, "\"{objectType: secret, objectName: db-ca}\"\n        - \"{objectType: secret, objectName: db-ca-key}\"", `"db-ca-key" should not be there`},
		{"ConfigMap/settings", "HMAC_KEYS_FILE: /mnt/secrets/hmac-keys", "HMAC_KEYS_FILE: /mnt/secrets/hmac-secret", `"hmac-keys" should not be there`},
		{"Deployment/gateway", "mountPath: /mnt/secrets", "mountPath: /secrets", "not mounted at /mnt/secrets"},
		{"Deployment/gateway", "driver: secrets-store.csi.k8s.io", "driver: secrets.csi.k8s.io", "the driver is"},
		{"SecretProviderClass/gateway", "objectType: secret, objectName: db-url", "objectType: cert, objectName: db-url", "not a secret by its own name"},
	}},
	{"bicep/secrets.sh makes the secrets that are read, and no others", secretsMade, []seed{
		{"bicep/secrets.sh", "for name in hmac-secret session-secret", "for name in hmac-secret sessions-secret", `"session-secret" is missing`},
		{"bicep/secrets.sh", "for name in hmac-secret", "for name in hmac-secret hmac-old", `"hmac-old" should not be there`},
		{"bicep/secrets.sh", `missing "$schema" db-url`, `missing "$schema" url`, `"db-url" is missing`},
		{"bicep/secrets.sh", "given=(slack-url", "given=(slack", `vault monitoring: "slack-url" is missing`},
		{"bicep/secrets.sh", `missing "$monitoring" redis-passwords`, `missing "$monitoring" redis-password`, `"redis-password" should not be there`},
		{"bicep/mysql/server.sh", "secret mysql-tls-cert", "secret mysql-cert", `"mysql-cert" is missing`},
		{"bicep/secrets.sh", "databaseURL services", "databaseURL service", `account "service"`},
	}},
}

// secretFiles are the secrets whose files a pod's environment names.
func (a *assets) secretFiles(pod podTemplate) []string {
	var files []string
	for _, value := range a.environmentOf(pod) {
		if name, ok := strings.CutPrefix(value, secretsMount+"/"); ok {
			files = append(files, name)
		}
	}
	return files
}

func secretsRead(a *assets, r *report) {
	for _, w := range a.workloads() {
		for _, c := range a.secretClasses {
			if c.Metadata.Name != w.Metadata.Name {
				continue
			}
			have, err := c.names()
			if err != nil {
				r.add(c.at("parameters.objects"), "%v", err)
			}
			r.same(c.at("parameters.objects"), a.secretFiles(w.pod), have)
		}
		for _, v := range w.pod.Spec.Volumes {
			for _, c := range w.pod.Spec.Containers {
				if v.CSI != nil && v.CSI.Driver != "secrets-store.csi.k8s.io" {
					r.add(w.at("volumes."+v.Name), "the driver is %q, not secrets-store.csi.k8s.io", v.CSI.Driver)
				}
				if v.CSI != nil && !slices.Contains(c.VolumeMounts, volumeMount{Name: v.Name, MountPath: secretsMount, ReadOnly: true}) {
					r.add(w.at("volumeMounts"), "the volume %s is not mounted at %s, read-only", v.Name, secretsMount)
				}
			}
		}
	}
}

var (
	madeSingly   = regexp.MustCompile(`(?:missing|put) "\$(services|schema|monitoring)" ([a-z][a-z-]*)`)
	given        = regexp.MustCompile(`(?m)^readonly given=\(([a-z -]+)\)$`)
	madeInALoop  = regexp.MustCompile(`for name in ([a-z -]+); do missing "\$(services|schema)" "\$name"`)
	readByScript = regexp.MustCompile(`get "\$(services|schema)" ([a-z][a-z-]*)`)
	readByMySQL  = regexp.MustCompile(`\(secret ([a-z-]+)\)`)
	urlOf        = regexp.MustCompile(`databaseURL ([a-z]+)\b`)
	accountOf    = regexp.MustCompile(`(?m)^\s*account ([a-z]+) % SSL `)
)

func secretsMade(a *assets, r *report) {
	script, mysql := a.files["bicep/secrets.sh"], a.files["bicep/mysql/server.sh"]
	made, read := map[string][]string{}, map[string][]string{}
	for _, m := range madeSingly.FindAllStringSubmatch(script, -1) {
		made[m[1]] = append(made[m[1]], m[2])
	}
	for _, m := range madeInALoop.FindAllStringSubmatch(script, -1) {
		made[m[2]] = append(made[m[2]], strings.Fields(m[1])...)
	}
	for _, m := range given.FindAllStringSubmatch(script, -1) {
		made["monitoring"] = append(made["monitoring"], strings.Fields(m[1])...)
	}
	for _, c := range a.monitoring.secretClasses {
		names, _ := c.names()
		read["monitoring"] = append(read["monitoring"], names...)
	}
	for _, c := range a.secretClasses {
		names, _ := c.names()
		vault := "services"
		if c.Metadata.Name == migrate {
			vault = "schema"
		}
		read[vault] = append(read[vault], names...)
	}
	for _, m := range readByMySQL.FindAllStringSubmatch(mysql, -1) {
		read["schema"] = append(read["schema"], m[1])
	}
	for _, m := range readByScript.FindAllStringSubmatch(script, -1) {
		read[m[1]] = append(read[m[1]], m[2])
	}
	for _, vault := range slices.Sorted(maps.Keys(read)) {
		r.same("bicep/secrets.sh: secrets of the vault "+vault, read[vault], made[vault])
	}

	accounts := map[string]bool{}
	for _, m := range accountOf.FindAllStringSubmatch(mysql, -1) {
		accounts[m[1]] = true
	}
	for _, m := range urlOf.FindAllStringSubmatch(script, -1) {
		if !accounts[m[1]] {
			r.add("bicep/secrets.sh: databaseURL", "bicep/mysql/server.sh makes no account %q that must use TLS", m[1])
		}
	}
}
