// Package deploy_test reads all that is deployed together: the functions, the image, Bicep, Kustomize, Argo CD and the code's own
// numbers. A rule says what must hold between them. Beside it are mistakes that it must find, so that no rule is one that
// cannot fail.
package deploy_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// rule is something that must hold, and mistakes that break it.
type rule struct {
	name  string
	check func(*assets, *report)
	seeds []seed
}

// seed is a mistake: the first old is replaced by new, in a file of the repository or in an object that the overlay deploys,
// which is named as Kind/name, without the hash that Kustomize adds to one, and of the monitoring as monitoring/Kind/name or
// charts/Kind/name. The report must hold want. {KEY} is a value of
// azure.env, and a # at the end of new makes a comment of the value that was there: so both may change.
type seed struct{ in, old, new, want string }

// report gathers what is wrong: where, what is there, what should be.
type report []string

func (r *report) add(where, format string, args ...any) {
	*r = append(*r, where+": "+fmt.Sprintf(format, args...))
}

// same reports what is missing, and what is there and should not be.
func (r *report) same(where string, want, got []string) {
	for _, w := range want {
		if !slices.Contains(got, w) {
			r.add(where, "%q is missing", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			r.add(where, "%q should not be there", g)
		}
	}
}

// lacks reports phrases that a file should have and does not.
func (r *report) lacks(a *assets, file, why string, phrases ...string) {
	for _, phrase := range phrases {
		if !strings.Contains(a.files[file], phrase) {
			r.add(file, "%q is missing: %s", phrase, why)
		}
	}
}

var rules = slices.Concat(environmentRules, functionRules, queueRules, identityRules, secretRules, portRules, labelRules,
	networkRules, scalingRules, podRules, migrationRules, ingressRules, argoRules, imageRules, monitoringRules, chartRules)

var environments = []string{"dev", "staging", "prod"}

func TestAssets(t *testing.T) {
	t.Parallel()
	files := repository(t)
	for _, environment := range environments {
		t.Run(environment, func(t *testing.T) {
			t.Parallel()
			a, err := load(files, environment)
			require.NoError(t, err)
			for _, rule := range rules {
				t.Run(rule.name, func(t *testing.T) {
					t.Parallel()
					var r report
					rule.check(a, &r)
					require.Empty(t, strings.Join(r, "\n"))
				})
			}
		})
	}
}

func TestSeeded(t *testing.T) {
	t.Parallel()
	files := repository(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, rule.seeds, "a rule that nothing shows to fail")
			for _, seed := range rule.seeds {
				t.Run(seed.in+": "+seed.want, func(t *testing.T) {
					t.Parallel()
					seed.expand(files)
					a, err := plant(files, seed)
					require.NoError(t, err)
					var r report
					rule.check(a, &r)
					require.Contains(t, strings.Join(r, "\n"), seed.want)
				})
			}
		})
	}
}

// expand puts values in the place of their names.
func (s *seed) expand(files map[string]string) {
	pairs := []string{"{BUNDLE}", strings.Trim(bundleVersion(files), "[]")}
	for line := range strings.Lines(files["deploy/overlays/prod/azure/azure.env"]) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		pairs = append(pairs, "{"+key+"}", value)
	}
	values := strings.NewReplacer(pairs...)
	s.old, s.new, s.want = values.Replace(s.old), values.Replace(s.new), values.Replace(s.want)
}

// repository is every file that the rules read.
func repository(t *testing.T) map[string]string {
	t.Helper()
	files, err := readRepository()
	require.NoError(t, err)
	return files
}

var readRepository = sync.OnceValues(func() (map[string]string, error) {
	files := map[string]string{}
	root := os.DirFS("..")
	for _, top := range []string{"README.md", "Dockerfile", "compose.yaml", "host.json", "functions", "examples", "bicep", "deploy"} {
		err := fs.WalkDir(root, top, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(name, ".go") {
				return err
			}
			text, err := fs.ReadFile(root, name)
			files[name] = string(text)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
})

// production renders the overlay that mistakes are planted in, once.
var production = sync.OnceValues(func() ([]rendered, error) {
	files, err := readRepository()
	if err != nil {
		return nil, err
	}
	return render(files, "prod")
})

// plant loads the overlay of production with a mistake in it.
func plant(files map[string]string, s seed) (*assets, error) {
	objects, err := production()
	if err != nil {
		return nil, err
	}
	if text, ok := files[s.in]; ok {
		if !strings.Contains(text, s.old) {
			return nil, fmt.Errorf("%s has no %q any more", s.in, s.old)
		}
		files = maps.Clone(files)
		files[s.in] = strings.Replace(text, s.old, s.new, 1)
		for _, part := range parts {
			if !builtOf[part].MatchString(s.in) {
				continue
			}
			built, err := build(files, "prod", part)
			if err != nil {
				return nil, err
			}
			objects = slices.Concat(slices.DeleteFunc(slices.Clone(objects), func(o rendered) bool { return o.part == part }), built)
		}
		return assemble(files, "prod", objects)
	}
	for i, one := range objects {
		if path.Join(one.part, hash.ReplaceAllString(one.name, "")) != s.in {
			continue
		}
		if !strings.Contains(one.text, s.old) {
			return nil, fmt.Errorf("%s has no %q any more", s.in, s.old)
		}
		objects = slices.Clone(objects)
		objects[i].text = strings.Replace(one.text, s.old, s.new, 1)
		if objects[i].json, err = yaml.YAMLToJSON([]byte(objects[i].text)); err != nil {
			return nil, err
		}
		return assemble(files, "prod", objects)
	}
	return nil, fmt.Errorf("there is no %s, neither as a file nor in the overlay", s.in)
}

// load renders an overlay and reads everything beside it.
func load(files map[string]string, environment string) (*assets, error) {
	objects, err := render(files, environment)
	if err != nil {
		return nil, err
	}
	return assemble(files, environment, objects)
}

// hash is what Kustomize adds to the name of a ConfigMap, so that a change of it is a change of the pods.
var hash = regexp.MustCompile(`-[a-z0-9]{10}$`)

// builtOf are the files that each part is built of, but for those that rules read as they are.
var builtOf = map[string]*regexp.Regexp{
	"":           regexp.MustCompile(`^(deploy/base|deploy/overlays/prod(/azure)?/[^/]*$|examples)`),
	"monitoring": regexp.MustCompile(`^(deploy/monitoring/(azure/|redis-exporter/|[^/]*$)|deploy/base/azure/local|deploy/overlays/prod/(azure|monitoring)/)`),
	"charts":     regexp.MustCompile(`^(deploy/monitoring/charts|deploy/base/azure/local|deploy/overlays/prod/(azure|charts))/`),
}

// kustomized are the files that overlays are made of.
var kustomized = regexp.MustCompile(`^(deploy/(base|overlays|monitoring)|examples)/`)

// rendered is an object that an overlay deploys: which part it is of, its Kind/name, the file that it comes from, its YAML and the
// same as JSON.
type rendered struct {
	part, name, file, text string
	json                   []byte
}

// parts are the folders that Argo CD builds in an overlay: the services, the monitoring and its charts.
var parts = []string{"", "monitoring", "charts"}

// render builds the parts of an overlay as Argo CD does.
func render(files map[string]string, environment string) ([]rendered, error) {
	var objects []rendered
	for _, part := range parts {
		built, err := build(files, environment, part)
		if err != nil {
			return nil, err
		}
		objects = append(objects, built...)
	}
	return objects, nil
}

func build(files map[string]string, environment, part string) ([]rendered, error) {
	memory, dir := filesys.MakeFsInMemory(), path.Join("deploy/overlays", environment, part)
	for name, text := range files {
		if name == dir+"/kustomization.yaml" {
			text += "\nbuildMetadata: [originAnnotations]\n"
		}
		if !kustomized.MatchString(name) {
			continue
		}
		if err := memory.WriteFile("/"+name, []byte(text)); err != nil {
			return nil, err
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/"+dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize build %s: %w", dir, err)
	}
	var objects []rendered
	for _, resource := range built.Resources() {
		origin, err := resource.GetOrigin()
		if err != nil {
			return nil, err
		}
		objects = append(objects, rendered{
			part: part, name: resource.GetKind() + "/" + resource.GetName(), file: path.Join(dir, cmp.Or(origin.Path, origin.ConfiguredIn)),
		})
	}
	if err := built.RemoveOriginAnnotations(); err != nil {
		return nil, err
	}
	for i, resource := range built.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return nil, err
		}
		objects[i].text = string(text)
		if objects[i].json, err = resource.MarshalJSON(); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// decode reads YAML by the names that encoding/json finds the fields of Go by.
func decode(text string, into any) error {
	plain, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, into)
}
