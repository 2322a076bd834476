package playbooks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"liveops/local/playbooks"
)

// tree is what commands may name.
type tree struct {
	objects  map[string][]string // Kind/name, by namespace
	labels   []string            // key=value of pods
	names    []*regexp.Regexp    // of what the templates make
	types    string              // the templates
	queues   []string
	secrets  []string
	machine  string // what makes MySQL's VM
	schema   []string
	targets  []string
	apps     []string
	routes   []string
	host     string
	commands map[string]bool // those that are allowed: whether a page has them
}

// What others make in the cluster: the add-ons of AKS, and the operator of Prometheus for each Prometheus and Alertmanager.
var others = map[string][]string{
	"kube-system":        {"Deployment/keda-operator"},
	"app-routing-system": {"Deployment/nginx"},
	"monitoring":         {"Service/prometheus-operated", "Service/alertmanager-operated"},
}

// The labels of their pods.
var otherLabels = []string{
	"app=keda-operator",
	"app.kubernetes.io/name=alloy", "app.kubernetes.io/name=alertmanager", "app.kubernetes.io/name=prometheus",
	"app.kubernetes.io/name=loki", "app.kubernetes.io/name=tempo",
}

var kinds = map[string]string{
	"pod": "Pod", "pods": "Pod", "node": "Node", "nodes": "Node", "events": "Event", "hpa": "HorizontalPodAutoscaler",
	"deployment": "Deployment", "job": "Job", "scaledobject": "ScaledObject", "triggerauthentication": "TriggerAuthentication",
	"ingress": "Ingress", "service": "Service", "servicemonitor": "ServiceMonitor", "networkpolicy": "NetworkPolicy",
}

// azTypes says what an az command is about, by the words it begins with.
var azTypes = map[string]string{
	"aks get-credentials":              "Microsoft.ContainerService/managedClusters",
	"aks show":                         "Microsoft.ContainerService/managedClusters",
	"keyvault certificate import":      "Microsoft.KeyVault/vaults",
	"keyvault secret list-versions":    "Microsoft.KeyVault/vaults",
	"network nsg rule list":            "Microsoft.Network/networkSecurityGroups",
	"network vpn-connection list":      "Microsoft.Network/connections",
	"redis force-reboot":               "Microsoft.Cache/redis",
	"redis list":                       "Microsoft.Cache/redis",
	"redis show":                       "Microsoft.Cache/redis",
	"servicebus namespace show":        "Microsoft.ServiceBus/namespaces",
	"servicebus queue show":            "Microsoft.ServiceBus/namespaces/queues",
	"storage account show":             "Microsoft.Storage/storageAccounts",
	"vm boot-diagnostics get-boot-log": "Microsoft.Compute/virtualMachines",
	"vm get-instance-view":             "Microsoft.Compute/virtualMachines",
	"vm redeploy":                      "Microsoft.Compute/virtualMachines",
	"vm restart":                       "Microsoft.Compute/virtualMachines",
	"vm run-command invoke":            "Microsoft.Compute/virtualMachines",
	"vm show":                          "Microsoft.Compute/virtualMachines",
	"vm start":                         "Microsoft.Compute/virtualMachines",
}

// sub lists which commands of a program are allowed, here and, after vm:, on MySQL's machine. What reads comes first, what changes
// something is worth a thought.
var sub = []string{
	"kubectl get", "kubectl describe", "kubectl logs", "kubectl top", "kubectl port-forward", "kubectl rollout status",
	"kubectl rollout restart", "kubectl cordon", "kubectl delete",
	"argocd app get", "argocd app history", "argocd app sync",
	"amtool alert query", "amtool silence query", "amtool alert add", "amtool silence add", "amtool silence expire",
	"git log", "git diff", "go test", "make", "curl", "bicep/secrets.sh", "kubelogin",
	"vm:systemctl status", "vm:systemctl is-active", "vm:systemctl list-timers", "vm:systemctl start", "vm:systemctl restart",
	"vm:journalctl", "vm:mysql SELECT", "vm:mysql SHOW", "vm:mysql KILL", "vm:mysql PURGE", "vm:curl", "vm:openssl x509", "vm:mount",
	"vm:xfs_growfs", "vm:df", "vm:free", "vm:ss", "vm:top", "vm:tail", "vm:head", "vm:grep", "vm:sleep",
}

func planted(t *testing.T) *tree {
	t.Helper()
	tr := &tree{objects: map[string][]string{}, commands: map[string]bool{}}
	for _, name := range sub {
		tr.commands[name] = false
	}
	for name := range azTypes {
		tr.commands["az "+name] = false
	}
	tr.labels = slices.Clone(otherLabels)
	for namespace, objects := range others {
		tr.objects[namespace] = slices.Clone(objects)
	}
	tr.render(t, "deploy/overlays/prod")
	tr.render(t, "deploy/overlays/prod/monitoring")
	tr.readTemplates(t)

	var system struct {
		Queues map[string]any `json:"queues"`
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "bicep/system.json")), &system))
	tr.queues = slices.Collect(maps.Keys(system.Queues))
	tr.secrets = all("(?m)^\\| `([a-z-]+)` \\|", read(t, "docs/deploy.md")) // the table that says how each is rotated
	tr.machine = read(t, "bicep/mysql/cloud-init.yaml") + read(t, "bicep/mysql/server.sh")
	tr.targets = all(`(?m)^([a-z0-9-]+):`, read(t, "Makefile"))
	tr.routes = all(`Pattern: "(/[^"{]*)"`, read(t, "handler/app/routes.go"))
	tr.host = "https://" + all(`path: /spec/rules/0/host, value: (\S+)\}`, read(t, "deploy/overlays/prod/host.yaml"))[0]
	for _, app := range glob(t, "deploy/argocd/apps/*.yaml") {
		tr.apps = append(tr.apps, all(`(?m)^  name: (\S+)$`, app)...)
	}
	for _, migration := range glob(t, "core/store/migrations/*.sql") {
		tr.schema = append(tr.schema, all(`\b([a-z]\w*)\b`, migration)...)
	}
	return tr
}

// glob reads the files of a pattern.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, files, pattern)
	texts := make([]string, len(files))
	for i, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		texts[i] = string(text)
	}
	return texts
}

// render adds the objects of an overlay, and the labels of its pods.
func (tr *tree) render(t *testing.T, overlay string) {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, overlay))
	require.NoError(t, err)
	for _, resource := range built.Resources() {
		namespace := resource.GetNamespace()
		if namespace == "" {
			namespace = "liveops" // Argo CD says so
		}
		tr.objects[namespace] = append(tr.objects[namespace], resource.GetKind()+"/"+resource.GetName())
		if labels, err := resource.GetFieldValue("spec.template.metadata.labels"); err == nil {
			if labels, ok := labels.(map[string]any); ok {
				for key, value := range labels {
					tr.labels = append(tr.labels, fmt.Sprintf("%s=%v", key, value))
				}
			}
		}
	}
}

var (
	madeName  = regexp.MustCompile(`'([a-z-]*\$\{[^']*)'`)
	madeByOne = regexp.MustCompile(`(?s)module \w+ '(modules/[\w-]+\.bicep)'[^{]*\{\s*name: '[^']*'\s*params: \{\s*name: '([^']*)'`)
)

// readTemplates finds the names that the templates give in prod.
func (tr *tree) readTemplates(t *testing.T) {
	t.Helper()
	text := read(t, "bicep/main.bicep")
	add := func(name string) {
		name = strings.NewReplacer("${base}", "liveops-prod", "${name}", "liveops", "${environment}", "prod", "${unique}", "UNIQUE",
			"${take(unique, 12)}", "UNIQUE").Replace(name)
		if !strings.Contains(name, "$") {
			tr.names = append(tr.names, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(name), "UNIQUE", "[0-9a-z]+")+"$"))
		}
	}
	for _, found := range madeName.FindAllStringSubmatch(text, -1) {
		add(found[1])
	}
	for _, module := range madeByOne.FindAllStringSubmatch(text, -1) {
		for _, found := range madeName.FindAllStringSubmatch(read(t, "bicep/"+module[1]), -1) {
			add(strings.ReplaceAll(found[1], "${name}", module[2]))
		}
	}
	for _, module := range glob(t, "bicep/modules/*.bicep") {
		tr.types += module
	}
}

// placeholder is what a page leaves to its reader.
var placeholder = regexp.MustCompile(`^[A-Z]+$`)

// allow notes that a page has a command.
func (tr *tree) allow(name string) error {
	if _, allowed := tr.commands[name]; !allowed {
		return fmt.Errorf("%s is not allowed", strings.TrimPrefix(name, "vm:"))
	}
	tr.commands[name] = true
	return nil
}

func (tr *tree) unused() []string {
	var names []string
	for name, used := range tr.commands {
		if !used {
			names = append(names, name)
		}
	}
	return names
}

// line is a command line: what is no flag, and the flags with their values.
type line struct {
	words []string
	flags map[string]string
}

// split takes words apart. Of the flags, those in valued have a value, and others must be among plain.
func split(words []string, valued, plain string) (line, error) {
	l := line{flags: map[string]string{}}
	for i := 0; i < len(words); i++ {
		flag, value, joined := strings.Cut(words[i], "=")
		switch {
		case !strings.HasPrefix(flag, "-"):
			l.words = append(l.words, words[i])
		case slices.Contains(strings.Fields(valued), flag):
			if !joined {
				if i++; i == len(words) {
					return l, fmt.Errorf("flag %s has no value", flag)
				}
				value = words[i]
			}
			l.flags[flag] = value
		case slices.Contains(strings.Fields(plain), flag) && !joined:
			l.flags[flag] = ""
		default:
			return l, fmt.Errorf("flag %s is not known here", flag)
		}
	}
	return l, nil
}

// begins takes the first n words off.
func (l *line) begins(n int) string {
	n = min(n, len(l.words))
	name := strings.Join(l.words[:n], " ")
	l.words = l.words[n:]
	return name
}

// fits says what is wrong with a command.
func (tr *tree) fits(words []string) error {
	rest := words[1:]
	switch words[0] {
	case "liveops":
		return nil // cmd/liveops has its parser
	case "kubectl":
		return tr.kubectl(rest)
	case "az":
		return tr.az(rest)
	case "argocd":
		l := line{words: rest}
		if err := tr.allow("argocd " + l.begins(2)); err != nil {
			return err
		}
		return one("application", l.words, tr.apps)
	case "amtool":
		l := line{words: rest}
		return tr.allow("amtool " + l.begins(2))
	case "make":
		l := line{words: rest}
		for _, word := range l.words {
			if environment, set := strings.CutPrefix(word, "ENV="); set {
				if err := one("environment", []string{environment}, []string{"dev", "staging", "prod"}); err != nil {
					return err
				}
			} else if err := one("target", []string{word}, tr.targets); err != nil {
				return err
			}
		}
		return tr.allow("make")
	case "bicep/secrets.sh":
		return tr.makesSecrets(rest)
	case "curl":
		return errors.Join(tr.allow("curl"), tr.address(rest[len(rest)-1]))
	case "git":
		l := line{words: rest}
		if err := tr.allow("git " + l.begins(1)); err != nil {
			return err
		}
		return folders(l.words)
	case "go":
		l := line{words: rest}
		if err := tr.allow("go " + l.begins(1)); err != nil {
			return err
		}
		return folders([]string{strings.TrimSuffix(strings.TrimPrefix(l.words[0], "./"), "/...")})
	default:
		return tr.allow(words[0])
	}
}

// one holds names to those that there are.
func one(what string, names, there []string) error {
	if len(names) == 0 {
		return fmt.Errorf("no %s is named", what)
	}
	for _, name := range names {
		if !slices.Contains(there, name) && !placeholder.MatchString(name) {
			return fmt.Errorf("there is no %s %s", what, name)
		}
	}
	return nil
}

// folders holds what looks like a path of the repository to those that there are.
func folders(words []string) error {
	for _, word := range words {
		if strings.HasPrefix(word, "-") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, word)); err != nil {
			return fmt.Errorf("there is no folder %s", word)
		}
	}
	return nil
}

func (tr *tree) kubectl(words []string) error {
	l, err := split(words, "-n -l -o --tail --sort-by", "--previous")
	if err != nil {
		return err
	}
	verb := l.begins(1)
	if verb == "rollout" {
		verb += " " + l.begins(1)
	}
	if err := tr.allow("kubectl " + verb); err != nil {
		return err
	}
	namespace, named := l.flags["-n"]
	if !named {
		return clusterWide(verb, l.words)
	}
	there, known := tr.objects[namespace]
	if !known {
		return fmt.Errorf("there is no namespace %s", namespace)
	}
	if label, selected := l.flags["-l"]; selected && !slices.Contains(tr.labels, label) {
		return fmt.Errorf("no pod has the label %s", label)
	}
	switch {
	case verb == "logs" && len(l.words) == 0 && l.flags["-l"] != "":
		return nil
	case len(l.words) == 0:
		return errors.New("nothing is named")
	case verb == "port-forward": // the port
		l.words = l.words[:1]
	case verb == "logs" && len(l.words) == 1 && placeholder.MatchString(l.words[0]):
		return nil
	case verb == "delete" && l.words[0] != "pod":
		return errors.New("only pods are deleted: others are made by Argo CD")
	}
	return exist(namespace, there, l.words)
}

// clusterWide holds what names no namespace to nodes.
func clusterWide(verb string, words []string) error {
	if verb == "cordon" {
		return one("node", words, nil)
	}
	if len(words) == 0 || kinds[words[0]] != "Node" {
		return errors.New("no namespace is named")
	}
	return nil
}

// exist holds the objects of a command, as KIND/NAME, KIND,KIND or KIND NAME NAME, to those that there are.
func exist(namespace string, there, words []string) error {
	kindOf, names := words[0], words[1:]
	if kind, name, joined := strings.Cut(words[0], "/"); joined {
		kindOf, names = kind, append(names, name)
	}
	for _, kind := range strings.Split(kindOf, ",") {
		known := kinds[kind]
		if known == "" {
			return fmt.Errorf("%s is no kind that is looked at", kind)
		}
		for _, name := range names {
			if !slices.Contains(there, known+"/"+name) && !placeholder.MatchString(name) {
				return fmt.Errorf("there is no %s %s in %s", known, name, namespace)
			}
		}
	}
	return nil
}

func (tr *tree) az(words []string) error {
	l, err := split(words, "-g -n -o -f --query --vault-name --namespace-name --nsg-name --command-id --scripts --reboot-type", "")
	if err != nil {
		return err
	}
	name := strings.Join(l.words, " ")
	if err := tr.allow("az " + name); err != nil {
		return err
	}
	if !strings.Contains(tr.types, "'"+azTypes[name]+"@") {
		return fmt.Errorf("no template makes a %s", azTypes[name])
	}
	group, named := l.flags["-g"]
	switch {
	case !named && !strings.HasPrefix(name, "keyvault "):
		return errors.New("az without a group")
	case named && group != "rg-liveops-prod":
		return fmt.Errorf("there is no group %s", group)
	}
	made := []string{"--vault-name", "--namespace-name", "--nsg-name"}
	switch {
	case name == "servicebus queue show":
		if err := one("queue", []string{l.flags["-n"]}, tr.queues); err != nil {
			return err
		}
	case strings.HasPrefix(name, "keyvault "):
		if err := one("secret", []string{l.flags["-n"]}, tr.secrets); err != nil {
			return err
		}
	default:
		made = append(made, "-n")
	}
	for _, flag := range made {
		if value, given := l.flags[flag]; given && !tr.makes(value) {
			return fmt.Errorf("no module makes %s", value)
		}
	}
	if script, given := l.flags["--scripts"]; given && script != "" {
		return tr.onMachine(script)
	}
	return nil
}

// makes says whether the templates make something of a name. NAME in it is the part that the reader looks up.
func (tr *tree) makes(name string) bool {
	name = strings.ReplaceAll(name, "NAME", "0")
	return slices.ContainsFunc(tr.names, func(made *regexp.Regexp) bool { return made.MatchString(name) })
}

func (tr *tree) makesSecrets(words []string) error {
	if len(words) != 3 {
		return errors.New("bicep/secrets.sh wants an action, a name and a file")
	}
	if words[0] != "--rotate" && words[0] != "--retire" {
		return fmt.Errorf("bicep/secrets.sh does not know %s", words[0])
	}
	return errors.Join(one("secret", words[1:2], tr.secrets), tr.allow("bicep/secrets.sh"), folders(words[2:]))
}

var local = regexp.MustCompile(`^http://127\.0\.0\.1:(\d+)(/.*)$`)

// address holds a URL to the routes, or to what a forwarded port shows.
func (tr *tree) address(url string) error {
	if path, ours := strings.CutPrefix(url, tr.host); ours {
		return one("route", []string{path}, tr.routes)
	}
	found := local.FindStringSubmatch(url)
	if found == nil {
		return fmt.Errorf("there is no host %s", url)
	}
	paths := map[string][]string{"8080": tr.routes, "9464": {"/metrics"}, "9090": {"/-/healthy"}, "9104": {"/metrics"}}
	return one("route", []string{found[2]}, paths[found[1]])
}

// onMachine checks a script for MySQL's machine.
func (tr *tree) onMachine(script string) error {
	commands, err := playbooks.NewShell(root, "/root").Run(script)
	if err != nil {
		return err
	}
	for _, command := range commands {
		if err := tr.machineCommand(command.Words); err != nil {
			return err
		}
	}
	return nil
}

func (tr *tree) machineCommand(words []string) error {
	for _, word := range words[1:] {
		if strings.HasPrefix(word, "/") && !tr.hasPath(word) {
			return fmt.Errorf("nothing makes %s", word)
		}
	}
	switch words[0] {
	case "systemctl":
		l, err := split(words[1:], "", "--no-pager --no-block")
		if err != nil {
			return err
		}
		if err := tr.allow("vm:systemctl " + l.begins(1)); err != nil {
			return err
		}
		return tr.units(l.words)
	case "journalctl":
		for i, word := range words {
			if word == "-u" {
				if err := tr.units(words[i+1 : i+2]); err != nil {
					return err
				}
			}
		}
		return tr.allow("vm:journalctl")
	case "mysql":
		return tr.statement(words[1:])
	case "curl":
		return errors.Join(tr.allow("vm:curl"), tr.address(words[len(words)-1]))
	case "openssl":
		return tr.allow("vm:openssl " + words[1])
	default:
		return tr.allow("vm:" + words[0])
	}
}

// Paths that Ubuntu and its packages make.
var packaged = []string{"/", "/tmp", "/var/log/mysql/error.log"}

func (tr *tree) hasPath(path string) bool {
	return slices.Contains(packaged, path) || strings.Contains(tr.machine, path) ||
		strings.Contains(tr.machine, filepath.Dir(path)) && strings.Contains(tr.machine, "/"+filepath.Base(path))
}

func (tr *tree) units(names []string) error {
	for _, name := range names {
		instance, templated := strings.CutPrefix(name, "liveops-mysql@")
		started := regexp.MustCompile(`systemctl restart ` + regexp.QuoteMeta(name) + `\b|packages: .*\b` + regexp.QuoteMeta(name) + `\b[,\]]`)
		if templated && !strings.Contains(tr.machine, "liveops-mysql@"+instance+".timer") || !templated && !started.MatchString(tr.machine) {
			return fmt.Errorf("there is no unit %s", name)
		}
	}
	return nil
}

// statement checks what is asked of MySQL: of our tables only reads, and by names of the schema.
func (tr *tree) statement(words []string) error {
	l, err := split(words, "-e", "")
	if err != nil {
		return err
	}
	sql := l.flags["-e"]
	verb, _, _ := strings.Cut(sql, " ")
	if len(l.words) > 0 {
		if err := one("database", l.words, []string{"liveops"}); err != nil {
			return err
		}
		if verb != "SELECT" {
			return errors.New("only SELECT is allowed in liveops")
		}
		bare := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(sql, "")
		for _, name := range all(`(?:^|[^.\w])(?:\w\.)?([a-z]\w+)\b`, bare) {
			if !slices.Contains(tr.schema, name) {
				return fmt.Errorf("%s is no name of the schema", name)
			}
		}
	}
	return tr.allow("vm:mysql " + verb)
}

// code is what the handler writes to its log.
type code struct {
	texts, fields, functions, services []string
}

// Labels of logs; what else is asked for is a field of the line, or the trace that is stored beside it.
var logLabels = []string{"namespace", "service", "container", "level"}

func written(t *testing.T) *code {
	t.Helper()
	var c code
	for _, dir := range []string{"handler", "core"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			c.texts = append(c.texts, all(`"((?:[^"\\]|\\.)*)"`, string(text))...)
			c.fields = append(c.fields, all(`slog\.\w+\("([a-z_]+)"`, string(text))...)
			return err
		}))
	}
	c.fields = append(c.fields, "msg")
	functions, err := os.ReadDir(filepath.Join(root, "functions"))
	require.NoError(t, err)
	for _, function := range functions {
		c.functions = append(c.functions, function.Name())
	}
	var system struct {
		Services map[string]any `json:"services"`
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "bicep/system.json")), &system))
	c.services = slices.Collect(maps.Keys(system.Services))
	return &c
}

var (
	stream  = regexp.MustCompile(`(?:^|[^{])\{([^{}]*)\}`)
	matcher = regexp.MustCompile(`(\w+) *(?:=~|!=|!~|=) *"([^"]*)"`)
	stage   = regexp.MustCompile(`\| *(\w+) *(=~|!=|!~|=|>=|<=|>|<) *("[^"]*"|\S+)`)
)

// fits says what is wrong with a query of logs.
func (c *code) fits(query string) error {
	for _, pair := range []string{"()", "[]"} {
		if strings.Count(query, pair[:1]) != strings.Count(query, pair[1:]) {
			return errors.New("a bracket is not closed")
		}
	}
	selected := stream.FindStringSubmatch(query)
	if selected == nil {
		return errors.New("no stream is selected")
	}
	for _, one := range matcher.FindAllStringSubmatch(selected[1], -1) {
		if !slices.Contains(logLabels, one[1]) {
			return fmt.Errorf("%s is no label of logs", one[1])
		}
		if one[1] == "service" {
			if err := each("service", one[2], c.services); err != nil {
				return err
			}
		}
	}
	var fields []string
	for _, found := range stage.FindAllStringSubmatch(query, -1) {
		fields = append(fields, found[1])
		value := strings.Trim(found[3], `"`)
		var err error
		switch {
		case found[1] == "msg":
			err = c.says(value)
		case found[1] == "function" && value != "":
			err = each("function", value, c.functions)
		}
		if err != nil {
			return err
		}
	}
	for _, pattern := range []string{`\bunwrap (\w+)`, `\{\{\.(\w+)\}\}`, `\bby \((\w+)\)`} {
		fields = append(fields, all(pattern, query)...)
	}
	for _, field := range fields {
		if !slices.Contains(c.fields, field) {
			return fmt.Errorf("no code writes the field %s", field)
		}
	}
	return nil
}

// says looks for a message in the code.
func (c *code) says(message string) error {
	pattern, err := regexp.Compile("^(?:" + message + ")$")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(c.texts, pattern.MatchString) {
		return fmt.Errorf("no code writes the message %q", message)
	}
	return nil
}

// each holds the alternatives of a pattern to what there is.
func each(what, pattern string, there []string) error {
	return one(what, strings.Split(pattern, "|"), there)
}
