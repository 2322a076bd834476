package bicep_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/store"
)

// fakeAz is an az whose vaults are directories and whose secrets are files. It records its arguments, a line a call.
const fakeAz = `#!/bin/bash
set -euo pipefail
printf '%s\n' "$*" >>"$AZ/calls"
command="$1 $2 ${3-}"
declare -A o
while [[ $# -gt 0 ]]; do if [[ $1 == --* ]]; then o[${1#--}]=$2; shift; fi; shift; done
file="$AZ/${o[vault-name]-}/${o[name]-}"
case $command in
'keyvault secret list') [[ -d $AZ/${o[vault-name]} ]] && ls "$AZ/${o[vault-name]}" ;;
'keyvault secret show') cat "$file" && echo ;;
'keyvault secret set') cp "${o[file]}" "$file" ;;
'keyvault certificate list') ls "$AZ/${o[vault-name]}" ;;
'keyvault certificate create') cp "${o[policy]#@}" "$file" ;;
'redis list --query') echo /redis/id ;;
'redis list-keys --ids') cat "$AZ/${o[query]}" ;;
'redis regenerate-keys --ids') key=${o[key-type]}; echo "renewed/$RANDOM$RANDOM+=" >"$AZ/${key,}Key" ;;
*) echo "unknown: $command" >&2; exit 1 ;;
esac
`

// azure is a subscription made of files.
type azure struct {
	t   *testing.T
	dir string
	env string
}

func newAzure(t *testing.T) azure {
	t.Helper()
	a := azure{t: t, dir: t.TempDir()}
	for _, vault := range []string{"kv-services-x", "kv-schema-x", "kv-monitoring-x", "kv-ingress-x", "bin"} {
		require.NoError(t, os.Mkdir(filepath.Join(a.dir, vault), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "bin", "az"), []byte(fakeAz), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "primaryKey"), []byte("a+b/c=\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "secondaryKey"), []byte("d+e/f=\n"), 0o600))
	a.env = filepath.Join(a.dir, "azure.env")
	require.NoError(t, os.WriteFile(a.env, []byte(`KEY_VAULT_SERVICES=kv-services-x
KEY_VAULT_SCHEMA=kv-schema-x
KEY_VAULT_MONITORING=kv-monitoring-x
MYSQL_HOST=mysql.liveops-dev.internal
REDIS_HOST=redis-x.redis.cache.windows.net
TLS_CERT_URI=https://kv-ingress-x.vault.azure.net/certificates/liveops-tls
`), 0o600))
	return a
}

// run runs the script and gives what it printed, which holds no value of any secret, and neither do the arguments of az.
func (a azure) run(args ...string) (string, error) {
	a.t.Helper()
	return a.pipe("", args...)
}

// pipe runs the script with a standard input.
func (a azure) pipe(input string, args ...string) (string, error) {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), "./secrets.sh", append(args, a.env)...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "AZ="+a.dir, "PATH="+filepath.Join(a.dir, "bin")+":"+os.Getenv("PATH"), "TMPDIR="+a.dir)
	before := a.values()
	out, err := cmd.CombinedOutput()
	calls, readErr := os.ReadFile(filepath.Join(a.dir, "calls"))
	require.NoError(a.t, readErr)
	for _, values := range []map[string]string{before, a.values()} {
		for name, value := range values {
			for part := range strings.SplitSeq(value, ",") {
				if len(part) >= 6 {
					require.NotContains(a.t, string(out), part, "%s is printed", name)
					require.NotContains(a.t, string(calls), part, "%s is an argument", name)
				}
			}
		}
	}
	left, globErr := filepath.Glob(filepath.Join(a.dir, "tmp.*"))
	require.NoError(a.t, globErr)
	require.Empty(a.t, left, "files are left behind")
	return string(out), err
}

func (a azure) must(args ...string) string {
	a.t.Helper()
	out, err := a.run(args...)
	require.NoError(a.t, err, out)
	return out
}

// values is every secret by its path.
func (a azure) values() map[string]string {
	a.t.Helper()
	values := map[string]string{}
	for _, pattern := range []string{"kv-services-x/*", "kv-schema-x/*", "kv-monitoring-x/*", "*Key"} {
		paths, err := filepath.Glob(filepath.Join(a.dir, pattern))
		require.NoError(a.t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(a.t, err)
			name, err := filepath.Rel(a.dir, path)
			require.NoError(a.t, err)
			values[name] = strings.TrimSuffix(string(text), "\n")
		}
	}
	return values
}

// given are the secrets that the script cannot make.
var given = map[string]string{
	"slack-url": "https://hooks.slack.com/services/T0/B0/x", "smtp-password": "a password, with a comma",
	"deadman-url": "https://deadman.example.com/x", "grafana-client-secret": "of-the-application",
}

// give gives the script the secrets that it cannot make.
func (a azure) give() {
	a.t.Helper()
	for name, value := range given {
		out, err := a.pipe(value, "--give", name)
		require.NoError(a.t, err, out)
		require.Equal(a.t, "kv-monitoring-x/"+name+"\n", out)
		require.Equal(a.t, value, a.values()["kv-monitoring-x/"+name])
	}
}

func TestSecretsThatAreGiven(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	first := a.must()
	for name := range given {
		require.Contains(t, first, "kv-monitoring-x/"+name+" is missing: ./secrets.sh --give "+name+" "+a.env+"\n")
		require.NotContains(t, a.values(), "kv-monitoring-x/"+name)
	}
	a.give()
	require.Empty(t, a.must())

	made := a.values()
	for _, wrong := range [][]string{{"--give", "slack-url"}, {"--give", "hmac-secret"}, {"--give", "nothing"}, {"--give"}} {
		input := ""
		if len(wrong) > 1 && wrong[1] != "slack-url" {
			input = "a value\n"
		}
		_, err := a.pipe(input, wrong...)
		require.Error(t, err, "%v", wrong)
	}
	require.Equal(t, made, a.values())

	_, err := a.pipe("https://hooks.slack.com/services/T0/B0/another\n", "--give", "slack-url")
	require.NoError(t, err)
	require.Equal(t, "https://hooks.slack.com/services/T0/B0/another", a.values()["kv-monitoring-x/slack-url"])
}

// TestRedisPasswords reads what redis_exporter does: the password of its address.
func TestRedisPasswords(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	a.must()
	for range 2 {
		options, err := redis.ParseURL(a.values()["kv-services-x/redis-url"])
		require.NoError(t, err)
		var passwords map[string]string
		require.NoError(t, json.Unmarshal([]byte(a.values()["kv-monitoring-x/redis-passwords"]), &passwords))
		require.Equal(t, map[string]string{"rediss://redis-x.redis.cache.windows.net:6380": options.Password}, passwords)
		a.must("--rotate", "redis-url")
	}
}

func TestSecretsAreMadeOnce(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	a.give()
	a.must()
	made := a.values()

	random := regexp.MustCompile(`^[A-Za-z0-9_-]{64}$`)
	seen := map[string]bool{}
	for _, name := range []string{
		"kv-services-x/hmac-secret", "kv-services-x/session-secret", "kv-services-x/receipt-secret", "kv-services-x/archive-secret",
		"kv-services-x/cursor-secret", "kv-schema-x/mysql-services-password", "kv-schema-x/mysql-schema-password", "kv-schema-x/mysql-exporter-password",
	} {
		require.Regexp(t, random, made[name], name)
		require.False(t, seen[made[name]], "%s is that of another", name)
		seen[made[name]] = true
	}
	require.Equal(t, "[]", made["kv-services-x/hmac-keys"])
	require.Equal(t, made["kv-schema-x/db-ca"], made["kv-services-x/db-ca"])
	for _, name := range []string{"kv-schema-x/db-ca-key", "kv-schema-x/mysql-tls-cert", "kv-schema-x/mysql-tls-key"} {
		require.Contains(t, made, name)
	}
	require.FileExists(t, filepath.Join(a.dir, "kv-ingress-x", "liveops-tls"))

	require.Empty(t, a.must(), "nothing is made twice")
	require.Equal(t, made, a.values())

	require.NoError(t, os.Remove(filepath.Join(a.dir, "kv-services-x", "cursor-secret")))
	require.Equal(t, "kv-services-x/cursor-secret\n", a.must())
}

func TestURLsAreWhatTheServicesRead(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	a.must()
	values := a.values()
	for vault, user := range map[string]string{"kv-services-x": "services", "kv-schema-x": "schema"} {
		u, err := url.Parse(values[vault+"/db-url"])
		require.NoError(t, err)
		password, _ := u.User.Password()
		require.Equal(t, user, u.User.Username())
		require.Equal(t, values["kv-schema-x/mysql-"+user+"-password"], password)
		require.Equal(t, "mysql.liveops-dev.internal:3306", u.Host)
		db, err := store.Open(u.String())
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
	options, err := redis.ParseURL(values["kv-services-x/redis-url"])
	require.NoError(t, err)
	require.Equal(t, "a+b/c=", options.Password)
	require.Equal(t, "redis-x.redis.cache.windows.net:6380", options.Addr)
	require.NotNil(t, options.TLSConfig)
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	a.must()
	verify := func() *x509.Certificate {
		values := a.values()
		roots := x509.NewCertPool()
		require.True(t, roots.AppendCertsFromPEM([]byte(values["kv-services-x/db-ca"])))
		block, _ := pem.Decode([]byte(values["kv-schema-x/mysql-tls-cert"]))
		certificate, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: "mysql.liveops-dev.internal"})
		require.NoError(t, err)
		_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: "elsewhere.internal"})
		require.Error(t, err)
		return certificate
	}
	first := verify()
	a.must("--rotate", "mysql-tls-cert")
	require.NotEqual(t, first.SerialNumber, verify().SerialNumber)
}

func TestRotation(t *testing.T) {
	t.Parallel()
	const again = "the next rotation waits for the old value to be retired"
	for name, rule := range map[string]struct {
		vault string
		once  bool // no more than two values at a time
	}{
		"hmac-secret":             {"kv-services-x", true},
		"session-secret":          {"kv-services-x", true},
		"receipt-secret":          {"kv-services-x", false},
		"archive-secret":          {"kv-services-x", false},
		"mysql-services-password": {"kv-schema-x", true},
		"mysql-schema-password":   {"kv-schema-x", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAzure(t)
			a.must()
			path := rule.vault + "/" + name
			old := a.values()[path]

			a.must("--rotate", name)
			list := strings.Split(a.values()[path], ",")
			require.Len(t, list, 2)
			require.Len(t, list[0], 64)
			require.NotEqual(t, old, list[0])
			require.Equal(t, old, list[1], "the old value goes on being taken")

			_, err := a.run("--rotate", name)
			require.Equal(t, rule.once, err != nil, again)
			first := strings.Split(a.values()[path], ",")[0]

			a.must("--retire", name)
			require.Equal(t, first, a.values()[path])
		})
	}
}

func TestRotationOfADatabasePasswordGoesOn(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	a.must()
	password := filepath.Join(a.dir, "kv-schema-x", "mysql-services-password")
	old := a.values()["kv-schema-x/mysql-services-password"]
	cut := strings.Repeat("n", 64) + "," + old // and no URL yet
	require.NoError(t, os.WriteFile(password, []byte(cut), 0o600))

	a.must("--rotate", "mysql-services-password")
	require.Equal(t, cut, a.values()["kv-schema-x/mysql-services-password"])
	require.Equal(t, "mysql://services:"+strings.Repeat("n", 64)+"@mysql.liveops-dev.internal:3306/liveops", a.values()["kv-services-x/db-url"])
	require.Contains(t, a.values()["kv-schema-x/db-url"], "mysql://schema:")
}

func TestRotationOfRedisTakesTheOtherKey(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	a.must()
	key := func() string {
		options, err := redis.ParseURL(a.values()["kv-services-x/redis-url"])
		require.NoError(t, err)
		return options.Password
	}
	for _, next := range []string{"secondaryKey", "primaryKey"} {
		before := a.values()
		inUse := key()
		a.must("--rotate", "redis-url")
		require.Equal(t, a.values()[next], key())
		require.NotEqual(t, before[next], key(), "the other key is made anew before it is taken")
		require.NotEqual(t, inUse, key())

		kept := key()
		a.must("--retire", "redis-url")
		require.Equal(t, kept, key())
		for _, name := range []string{"primaryKey", "secondaryKey"} {
			require.NotEqual(t, inUse, a.values()[name], "the old key is taken no more")
		}
	}
}

func TestSecretsRefuse(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	a.must()
	made := a.values()
	for _, args := range [][]string{
		{"--rotate", "db-ca"}, {"--rotate", "nothing"}, {"--rotate"}, {"--retire", "cursor-secret"}, {"--retire"}, {"extra"},
	} {
		_, err := a.run(args...)
		require.Error(t, err, "%v", args)
	}
	require.Equal(t, made, a.values())

	require.NoError(t, os.RemoveAll(filepath.Join(a.dir, "kv-schema-x")))
	_, err := a.run()
	require.Error(t, err, "a vault that cannot be listed lacks nothing")
	require.NoDirExists(t, filepath.Join(a.dir, "kv-schema-x"))
}
