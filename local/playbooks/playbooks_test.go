package playbooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/local/playbooks"
)

const root = "../.."

// headings are those of every page but the first, in order.
var headings = []string{
	"What it means", "How bad", "Look here", "Causes", "Do this", "Over when", "Leave alone", "Note down",
}

func pages(t *testing.T) []playbooks.Page {
	t.Helper()
	pages, err := playbooks.Read(root)
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	return pages
}

// alerts are the pages but the first one.
func alerts(t *testing.T) []playbooks.Page {
	t.Helper()
	return slices.DeleteFunc(pages(t), func(p playbooks.Page) bool { return p.Name == playbooks.Start })
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}

// all gives everything that a pattern's first group finds.
func all(pattern, text string) []string {
	var found []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

func TestPagesHaveOneForm(t *testing.T) {
	t.Parallel()
	for _, page := range alerts(t) {
		t.Run(page.Name, func(t *testing.T) {
			t.Parallel()
			require.Regexp(t, `\A# `+page.Name+`\n\nSeverity (critical|warning|none), component (gateway|path|season|mysql|redis|cluster|monitoring)\. [A-Z]`, page.Text)
			require.Equal(t, headings, all(`(?m)^## (.*)$`, page.Text))
			for _, section := range strings.Split(page.Text, "\n## ")[1:] {
				_, body, _ := strings.Cut(section, "\n")
				require.NotEmpty(t, strings.TrimSpace(body), "%s", section)
			}
			require.Regexp(t, `\n## Look here\n\nDashboard: `, page.Text)
			require.NotEmpty(t, page.Blocks("promql"))
			require.Zero(t, strings.Count(page.Text, "```")%2)
			require.Len(t, all("(?m)^( *)```", page.Text),
				2*(len(page.Blocks("promql"))+len(page.Blocks("logql"))+len(page.Blocks("sh"))), "a block of another language")
		})
	}
}

func TestLinksResolve(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		for _, link := range all(`\]\(([^)]+)\)`, page.Text) {
			require.FileExists(t, filepath.Join(root, "docs/playbooks", link), page.Name)
		}
	}
}

// TestTheIndexIsWhole compares the first page with the others: each alert once, in the row of its component and the column of its
// severity.
func TestTheIndexIsWhole(t *testing.T) {
	t.Parallel()
	index := map[string]string{}
	start := pages(t)[slices.IndexFunc(pages(t), func(p playbooks.Page) bool { return p.Name == playbooks.Start })]
	_, table, _ := strings.Cut(start.Text, "## By component")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for i, severity := range []string{"critical", "warning"} {
			for _, name := range all(`\[(\w+)\]`, cells[i+2]) {
				require.NotContains(t, index, name)
				index[name] = severity + " " + strings.TrimSpace(cells[1])
			}
		}
	}
	for _, name := range all(`(?m)^\[(\w+)\]\(\w+\.md\) has severity none and component monitoring\.$`, table) {
		index[name] = "none monitoring"
	}
	pageOf := map[string]string{}
	for _, page := range alerts(t) {
		severity := all(`\n\nSeverity (\w+),`, page.Text)[0]
		pageOf[page.Name] = severity + " " + all(`, component (\w+)\.`, page.Text)[0]
	}
	require.Equal(t, pageOf, index)
}

// program gives the path of a program that a complete run must have.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		require.NotEqual(t, "required", os.Getenv("TEST_SERVERS"), "%s is missing", name)
		t.Skip(name + " is missing")
	}
	return path
}

// TestQueriesAreValid has promtool parse every query, as if it were recorded.
func TestQueriesAreValid(t *testing.T) {
	t.Parallel()
	var rules strings.Builder
	rules.WriteString("groups:\n- name: pages\n  rules:\n")
	for _, page := range pages(t) {
		for i, block := range page.Blocks("promql") {
			fmt.Fprintf(&rules, "  - record: page:%s:%d\n    expr: |\n      %s\n", page.Name, i,
				strings.ReplaceAll(strings.TrimSpace(block.Text), "\n", "\n      "))
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, []byte(rules.String()), 0o600))
	out, err := exec.CommandContext(t.Context(), program(t, "promtool"), "check", "rules", "--lint=none", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestLogQueriesFit holds queries of logs to the labels that logs have, to the names of fields that the code writes, and to its
// messages.
func TestLogQueriesFit(t *testing.T) {
	t.Parallel()
	code := written(t)
	for _, page := range pages(t) {
		for _, block := range page.Blocks("logql") {
			require.NoError(t, code.fits(block.Text), "%s: %s", page.Name, block.Text)
		}
	}
	for query, want := range map[string]string{
		`{namespace="liveops"} | json | msg="nothing says so"`: "no code writes the message",
		`{namespace="liveops"} | json | colour="red"`:          "no code writes the field colour",
		`{pod="x"} | json`: "pod is no label of logs",
		`{namespace="liveops", service="billing"} | json`:              "there is no service billing",
		`{namespace="liveops"} | json | function="bill"`:               "there is no function bill",
		`{namespace="liveops" | json`:                                  "no stream is selected",
		`{namespace="liveops"} | json | line_format "{{.colour}}"`:     "no code writes the field colour",
		`max_over_time({namespace="liveops"} | json | unwrap big [5m]`: "a bracket is not closed",
	} {
		require.ErrorContains(t, code.fits(query), want)
	}
}

// TestCommandsFit checks every command but those of liveops, which cmd/liveops checks, against what is in the tree.
func TestCommandsFit(t *testing.T) {
	t.Parallel()
	tree := planted(t)
	for _, page := range pages(t) {
		commands, err := playbooks.Commands(root, "/home/ann", pages(t), page)
		require.NoError(t, err)
		for _, command := range commands {
			require.NoError(t, tree.fits(command.Words), "%s: %q", page.Name, command.Words)
		}
	}
	require.Empty(t, tree.unused(), "allowed, and on no page")
}

func TestMistakesInCommandsAreFound(t *testing.T) {
	t.Parallel()
	tree := planted(t)
	shell := playbooks.NewShell(root, "/home/ann")
	_, err := shell.Run("env=prod\n. deploy/overlays/$env/azure/azure.env\nurl=https://liveops.example.com")
	require.NoError(t, err)
	vm := "az vm run-command invoke -g rg-liveops-prod -n vm-liveops-prod-mysql --command-id RunShellScript --scripts "
	for line, want := range map[string]string{
		"kubectl -n liveops drain deployment/gateway":                                                 "kubectl drain is not allowed",
		"kubectl -n liveops logs deployment/billing":                                                  "there is no Deployment billing in liveops",
		"kubectl -n game get pods":                                                                    "there is no namespace game",
		"kubectl get pods":                                                                            "no namespace",
		"kubectl -n liveops get widgets":                                                              "widgets is no kind",
		"kubectl -n liveops rollout undo deployment/gateway":                                          "kubectl rollout undo is not allowed",
		"kubectl -n liveops get pods -l app.kubernetes.io/component=billing":                          "no pod has the label",
		"kubectl -n liveops get pods --colour":                                                        "flag --colour",
		"kubectl -n liveops rollout restart deployment gateway billing":                               "there is no Deployment billing",
		"kubectl -n monitoring port-forward service/prometheus 9090":                                  "there is no Service prometheus",
		"az vm delete -g rg-liveops-prod -n vm-liveops-prod-mysql":                                    "az vm delete is not allowed",
		"az vm start -g rg-liveops -n vm-liveops-prod-mysql":                                          "there is no group rg-liveops",
		"az vm start -g rg-liveops-prod -n vm-liveops-prod-db":                                        "no module makes vm-liveops-prod-db",
		"az vm start -n vm-liveops-prod-mysql":                                                        "without a group",
		"az redis show -g rg-liveops-prod -n ${REDIS_HOST}":                                           "no module makes redis-liveops-prod-",
		"az keyvault secret list-versions --vault-name kv-x -n hmac-secret":                           "no module makes kv-x",
		"az keyvault secret list-versions --vault-name $KEY_VAULT_SCHEMA -n x":                        "there is no secret x",
		"az servicebus queue show -g rg-liveops-prod --namespace-name $SERVICEBUS_NAMESPACE -n mails": "there is no queue mails",
		vm + "'systemctl restart mariadb'":                                                            "there is no unit mariadb",
		vm + "'journalctl -u liveops-mysql@tidy'":                                                     "there is no unit liveops-mysql@tidy",
		vm + "'df -h /srv/mysql'":                                                                     "nothing makes /srv/mysql",
		vm + "'rm -rf /var/lib/mysql'":                                                                "rm is not allowed",
		vm + `'mysql liveops -e "SELECT code FROM refused"'`:                                          "refused is no name of the schema",
		vm + `'mysql liveops -e "DELETE FROM rejected"'`:                                              "only SELECT",
		vm + `'mysql -e "DROP DATABASE liveops"'`:                                                     "DROP is not allowed",
		"make undeploy ENV=prod":                                                                      "there is no target undeploy",
		"make deploy ENV=production":                                                                  "there is no environment production",
		"argocd app sync liveops":                                                                     "there is no application liveops",
		"argocd app delete liveops-prod":                                                              "argocd app delete is not allowed",
		"curl -sS $url/v1/clock":                                                                      "there is no route /v1/clock",
		"curl -sS https://example.com/v1/time":                                                        "there is no host https://example.com",
		"bicep/secrets.sh --rotate db-password deploy/overlays/prod/azure/azure.env":                  "there is no secret db-password",
		"bicep/secrets.sh --forget redis-url deploy/overlays/prod/azure/azure.env":                    "bicep/secrets.sh does not know --forget",
		"go test ./deployment/...":                                                                    "there is no folder deployment",
		"amtool silence import x":                                                                     "amtool silence import is not allowed",
		"rm -rf build":                                                                                "rm is not allowed",
	} {
		commands, err := shell.Run(line)
		require.NoError(t, err, line)
		require.Len(t, commands, 1, line)
		require.ErrorContains(t, tree.fits(commands[0].Words), want, line)
	}
}

// TestFlagsOfAmtool asks amtool itself which flags its commands have.
func TestFlagsOfAmtool(t *testing.T) {
	t.Parallel()
	path := program(t, "amtool")
	for _, page := range pages(t) {
		commands, err := playbooks.Commands(root, "/home/ann", pages(t), page)
		require.NoError(t, err)
		for _, command := range commands {
			if command.Words[0] != "amtool" {
				continue
			}
			help, err := exec.CommandContext(t.Context(), path, command.Words[1], command.Words[2], "--help").CombinedOutput()
			require.NoError(t, err, "%s", help)
			for _, word := range command.Words {
				if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") {
					require.Regexp(t, regexp.QuoteMeta(flag)+`\b`, string(help), page.Name)
				}
			}
		}
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	words := func(script string) ([][]string, error) {
		commands, err := playbooks.NewShell(root, "/home/ann").Run(script)
		var words [][]string
		for _, command := range commands {
			words = append(words, command.Words)
		}
		return words, err
	}
	for script, want := range map[string][][]string{
		"a b   c # and no more":           {{"a", "b", "c"}},
		"a |\n b && c; d":                 {{"a"}, {"b"}, {"c"}, {"d"}},
		"a \\\n  b":                       {{"a", "b"}},
		`a 'b $c "d"' "e \"f\""`:          {{"a", `b $c "d"`, `e "f"`}},
		"a ''":                            {{"a", ""}},
		"x=1\na $x \"$x 2\" ${x}":         {{"a", "1", "1 2", "1"}},
		"x='b c'\na $x \"$x\"":            {{"a", "b", "c", "b c"}},
		"x=cache.example.com\na ${x%%.*}": {{"a", "cache"}},
		"f() { a -s \"$1\" b; }\nf 'c d'": {{"a", "-s", "c d", "b"}},
		"a > file":                        {{"a"}},
		"a $HOME/b":                       {{"a", "/home/ann/b"}},
	} {
		got, err := words(script)
		require.NoError(t, err, script)
		require.Equal(t, want, got, script)
	}
	for script, want := range map[string]string{
		"a $x":     "$x is not set",
		"a $(b)":   "more of a shell",
		"a `b`":    "more of a shell",
		"a 'b":     "not closed",
		`a "b`:     "not closed",
		"a < file": "more of a shell",
	} {
		_, err := words(script)
		require.ErrorContains(t, err, want, script)
	}
}
