package deploy_test

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var imageRules = []rule{
	{"the image holds the functions, the handler and the bundle", imageHolds, []seed{
		{"Dockerfile", "cp -R functions/. host.json", "cp -R functions host.json", "functions/. host.json"},
		{"Dockerfile", "-o /wwwroot/handler", "-o /wwwroot/bin/handler", "-o /wwwroot/handler"},
		{"host.json", `"defaultExecutablePath": "handler"`, `"defaultExecutablePath": "worker"`, "-o /wwwroot/worker"},
		{"Dockerfile", "AzureWebJobsScriptRoot=/home/site/wwwroot", "AzureWebJobsScriptRoot=/home/site", "/wwwroot/ of another stage should come to /home/site/"},
		{"Dockerfile", "COPY --from=bundle /FuncExtensionBundles/ /FuncExtensionBundles/", "COPY --from=bundle /FuncExtensionBundles/ /Bundles/", "/FuncExtensionBundles/"},
		{"Dockerfile", "COPY host.json .", "COPY host.json .\nARG BUNDLE_VERSION={BUNDLE}", "a second time"},
		{"host.json", `"version": "[`, `"version": "[4.*, `, "exact version"},
	}},
	{"the image starts the host, and nothing around it", imageStarts, []seed{
		{"Dockerfile", `CMD ["/azure`, `CMD ["/bin/sh", "/azure`, "CMD"},
		{"Dockerfile", `CMD ["/azure-functions-host/Microsoft.Azure.WebJobs.Script.WebHost"]`, `CMD /azure-functions-host/Microsoft.Azure.WebJobs.Script.WebHost`, "CMD"},
		{"Dockerfile", "FUNCTIONS_WORKER_RUNTIME=custom", "FUNCTIONS_WORKER_RUNTIME=dotnet", "FUNCTIONS_WORKER_RUNTIME"},
		{"Dockerfile", "DOTNET_RUNNING_IN_CONTAINER=true", "DOTNET_RUNNING_IN_CONTAINER=false", "DOTNET_RUNNING_IN_CONTAINER"},
		{"Dockerfile", "    HOME=/home ", "    HOME=/root ", "/root/data"},
		{"Dockerfile", "azure-functions/base:4.", "azure-functions/base:", "names no version"},
	}},
}

// image is what the last stage of the Dockerfile says.
type image struct {
	base     string // the image that it begins from
	env      map[string]string
	uid, gid int
	expose   []string
	command  []string // what is started: ENTRYPOINT and CMD
	copies   []copied
}

// copied is a COPY. Its stage is empty when it is from the repository.
type copied struct {
	stage   string
	sources []string
	to      string
}

func (c copied) String() string { return fmt.Sprintf("%s:%v to %s", c.stage, c.sources, c.to) }

// readDockerfile reads the instructions that the rules need. It knows no here-documents, and no quotes in ENV.
func readDockerfile(text string) (image, error) {
	var i image
	arguments := map[string]string{}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(strings.Join(lines, "\n"), "\\\n", " "), "\n") {
		instruction, rest, _ := strings.Cut(line, " ")
		words := strings.Fields(rest)
		switch instruction {
		case "ARG":
			if name, value, ok := strings.Cut(rest, "="); ok {
				arguments["${"+name+"}"] = value
			}
		case "FROM":
			i = image{base: words[0], env: map[string]string{}}
			if value, ok := arguments[words[0]]; ok {
				i.base = value
			}
		case "ENV":
			for _, word := range words {
				name, value, ok := strings.Cut(word, "=")
				if !ok {
					return i, fmt.Errorf("ENV %s is not NAME=VALUE", word)
				}
				i.env[name] = value
			}
		case "USER":
			uid, gid, _ := strings.Cut(rest, ":")
			i.uid, _ = strconv.Atoi(uid)
			i.gid, _ = strconv.Atoi(gid)
		case "EXPOSE":
			i.expose = append(i.expose, words...)
		case "COPY":
			c := copied{}
			for len(words) > 0 && strings.HasPrefix(words[0], "--") {
				if stage, ok := strings.CutPrefix(words[0], "--from="); ok {
					c.stage = stage
				}
				words = words[1:]
			}
			if len(words) < 2 {
				return i, fmt.Errorf("COPY %s names no source", rest)
			}
			c.sources, c.to = words[:len(words)-1], words[len(words)-1]
			i.copies = append(i.copies, c)
		case "CMD", "ENTRYPOINT":
			var command []string
			if err := json.Unmarshal([]byte(rest), &command); err != nil {
				command = []string{"/bin/sh", "-c", rest}
			}
			i.command = append(i.command, command...)
		}
	}
	return i, nil
}

// handler is where the host finds the handler.
func (i image) handler(hostJSON string) string {
	var file struct {
		CustomHandler struct {
			Description struct{ DefaultExecutablePath string }
		}
	}
	_ = json.Unmarshal([]byte(hostJSON), &file)
	return path.Join(i.env["AzureWebJobsScriptRoot"], file.CustomHandler.Description.DefaultExecutablePath)
}

// bundleVersion is the version of the extension bundle, as host.json has it.
func bundleVersion(files map[string]string) string {
	var file struct{ ExtensionBundle struct{ Version string } }
	_ = json.Unmarshal([]byte(files["host.json"]), &file)
	return file.ExtensionBundle.Version
}

func imageHolds(a *assets, r *report) {
	const file, made, bundles = "Dockerfile", "/wwwroot/", "/FuncExtensionBundles/"
	root := a.image.env["AzureWebJobsScriptRoot"] + "/"
	for source, to := range map[string]string{made: root, bundles: bundles} { // bundles is where the host looks first (contract §9)
		if !slices.ContainsFunc(a.image.copies, func(c copied) bool {
			return c.stage != "" && c.to == to && slices.Equal(c.sources, []string{source})
		}) {
			r.add(file+": COPY", "%s of another stage should come to %s: %v", source, to, a.image.copies)
		}
	}
	executable := path.Base(a.image.handler(a.files["host.json"]))
	r.lacks(a, file, "the script root has functions/ beside host.json, and the handler where that says", "cp -R functions/. host.json ", "-o "+made+executable+" ")

	version := bundleVersion(a.files)
	if !regexp.MustCompile(`^\[\d+\.\d+\.\d+\]$`).MatchString(version) {
		r.add("host.json: extensionBundle", "%q is not an exact version such as [4.38.0]: the host would look for a newer one", version)
	}
	if version = strings.Trim(version, "[]"); strings.Contains(a.files[file], version) {
		r.add(file, "has the version of the bundle, %s, a second time: it is read from host.json", version)
	}
}

func imageStarts(a *assets, r *report) {
	const file = "Dockerfile"
	if want := []string{"/azure-functions-host/Microsoft.Azure.WebJobs.Script.WebHost"}; !slices.Equal(a.image.command, want) {
		r.add(file+": CMD", "%q, not %q: a shell would keep SIGTERM to itself", a.image.command, want)
	}
	for name, value := range map[string]string{"FUNCTIONS_WORKER_RUNTIME": "custom", "DOTNET_RUNNING_IN_CONTAINER": "true"} {
		if a.image.env[name] != value {
			r.add(file+": ENV", "%s is %q, not %q: %s", name, a.image.env[name], value, hostVariables[name])
		}
	}
	if data := path.Join(a.image.env["HOME"], "data"); !slices.Contains(writable, data) {
		r.add(file+": ENV", "HOME makes the host write to %s, which no pod lets it", data)
	}
	if !regexp.MustCompile(`:\d+\.\d+\.\d+|@sha256:`).MatchString(a.image.base) {
		r.add(file+": FROM", "%s names no version", a.image.base)
	}
}
