package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

var repository = filepath.Join("..", "..")

// container is what compose.yaml says of one.
type container struct {
	Image       string
	Entrypoint  []string
	Environment map[string]string
	ReadOnly    bool `yaml:"read_only"`
	Tmpfs       []string
	Ports       []string
	CapDrop     []string `yaml:"cap_drop"`
}

func composed(t *testing.T) map[string]container {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "compose.yaml"))
	require.NoError(t, err)
	var file struct{ Services map[string]container }
	require.NoError(t, yaml.Unmarshal(text, &file))
	return file.Services
}

type queue struct {
	LockDuration                        string
	MaxDeliveryCount                    int
	DuplicateDetectionHistoryTimeWindow string
}

// system is bicep/system.json, what Azure and the cluster agree on.
type system struct {
	Queues   map[string]queue
	Services map[string]any
}

func agreed(t *testing.T) system {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "bicep", "system.json"))
	require.NoError(t, err)
	var s system
	require.NoError(t, json.Unmarshal(text, &s))
	return s
}

// functions are those of a container's allow-list.
func (c container) functions() []string {
	var list []string
	for name, function := range c.Environment {
		if strings.HasPrefix(name, "AzureFunctionsJobHost__functions__") {
			list = append(list, function)
		}
	}
	return list
}

func TestComposeRunsTheServicesOfProduction(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir(filepath.Join(repository, "functions"))
	require.NoError(t, err)
	in := map[string][]string{}
	for _, folder := range folders {
		in[folder.Name()] = nil
	}
	containers := composed(t)
	for service := range agreed(t).Services {
		c, ok := containers[service]
		require.True(t, ok, "compose.yaml has no %s", service)
		require.True(t, c.ReadOnly, service)
		require.Equal(t, []string{"ALL"}, c.CapDrop, service)
		require.Len(t, c.Ports, 1, service)
		require.True(t, strings.HasPrefix(c.Ports[0], "127.0.0.1:") && strings.HasSuffix(c.Ports[0], ":8080"), "%s: %s", service, c.Ports[0])
		for _, function := range c.functions() {
			require.Contains(t, in, function, "%s runs a function that is not there", service)
			in[function] = append(in[function], service)
		}
	}
	for function, services := range in {
		if function == "healthz" || function == "readyz" {
			require.Len(t, services, len(agreed(t).Services), "%s is a probe and runs in every service", function)
		} else {
			require.Len(t, services, 1, "%s must run in one service", function)
		}
	}
}

// TestEmulatorHasTheQueuesOfProduction holds the emulator to the queues as far as it can have them: it refuses to start with
// more than ten deliveries or a window of more than five minutes.
func TestEmulatorHasTheQueuesOfProduction(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repository, "deploy", "compose", "servicebus.json"))
	require.NoError(t, err)
	var file struct {
		UserConfig struct {
			Namespaces []struct {
				Name   string
				Queues []struct {
					Name       string
					Properties struct {
						queue
						RequiresDuplicateDetection bool
					}
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(text, &file))
	require.Len(t, file.UserConfig.Namespaces, 1)
	namespace := file.UserConfig.Namespaces[0]
	require.Equal(t, "sbemulatorns", namespace.Name, "the emulator has no other")
	wanted := agreed(t).Queues
	require.Len(t, namespace.Queues, len(wanted))
	for _, q := range namespace.Queues {
		want, ok := wanted[q.Name]
		require.True(t, ok, q.Name)
		require.Equal(t, queue{want.LockDuration, min(want.MaxDeliveryCount, 10), "PT5M"}, q.Properties.queue, q.Name)
		require.True(t, q.Properties.RequiresDuplicateDetection, q.Name)
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	listen, err := address("http://+:8080")
	require.NoError(t, err)
	require.Equal(t, ":8080", listen)
	for _, url := range []string{"", "http://+:80;https://+:443", "http://localhost:8080", "http://+"} {
		_, err := address(url)
		require.ErrorContains(t, err, "ASPNETCORE_URLS", url)
	}
}

func TestFindBundle(t *testing.T) {
	t.Parallel()
	bundles := t.TempDir()
	version := filepath.Join(bundles, "Example.Bundle", "4.1.0")
	require.NoError(t, os.MkdirAll(version, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(version, "bundle.json"), nil, 0o600))
	inside := []string{"DOTNET_RUNNING_IN_CONTAINER=true", "HOME=/home"}
	for _, c := range []struct {
		range_, problem string
		env             []string
	}{
		{range_: "[4.1.0]", env: inside},
		{range_: "[4.2.0]", env: inside, problem: "not in the image"},
		{range_: "[4.*, 5.0.0)", env: inside, problem: "no single version"},
		{range_: "[4.1.0]", env: inside[:1], problem: "HOME must be set"},
		{range_: "[4.1.0]", env: inside[1:], problem: "DOTNET_RUNNING_IN_CONTAINER"},
	} {
		root := t.TempDir()
		text := `{"extensionBundle": {"id": "Example.Bundle", "version": "` + c.range_ + `"}}`
		require.NoError(t, os.WriteFile(filepath.Join(root, "host.json"), []byte(text), 0o600))
		err := findBundle(root, bundles, func(name string) string {
			i := slices.IndexFunc(c.env, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
			if i < 0 {
				return ""
			}
			return strings.TrimPrefix(c.env[i], name+"=")
		})
		if c.problem == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.problem)
		}
	}
}
