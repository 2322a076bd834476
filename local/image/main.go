// Command image stands in for the Functions host in images that are built where the real one cannot be had. It has the real
// one's name and place in the image and is set up in the same way, by the environment alone; beyond that it is local/host.
// The test beside it runs such an image.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/bus/servicebus"
	"liveops/local/host"
)

const (
	bundles  = "/FuncExtensionBundles" // where the host looks for an extension bundle first
	farewell = 5 * time.Second         // how long closing the connection to the queues may take
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

// run serves the script root until ctx ends.
func run(ctx context.Context, getenv func(string) string) error {
	if runtime := getenv("FUNCTIONS_WORKER_RUNTIME"); runtime != "custom" {
		return fmt.Errorf("FUNCTIONS_WORKER_RUNTIME is %q: the host would look for functions of that language", runtime)
	}
	listen, err := address(getenv("ASPNETCORE_URLS"))
	if err != nil {
		return err
	}
	root := getenv("AzureWebJobsScriptRoot")
	functions, err := host.Load(os.DirFS(root), getenv)
	if err != nil {
		return err
	}
	if err := findBundle(root, bundles, getenv); err != nil {
		return err
	}
	queues, err := servicebus.Open(servicebus.Config{ConnectionString: getenv("SERVICEBUS")})
	if err != nil {
		return err
	}
	err = host.New(functions, host.Options{
		Handler: host.Command(root), Bus: queues, Listen: listen, Log: slog.New(slog.NewTextHandler(os.Stdout, nil)),
	}).Run(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	return cmp.Or(err, queues.Close(closing))
}

// address is where a URL such as http://+:8080 has the host listen.
func address(url string) (string, error) {
	port := regexp.MustCompile(`^http://\+(:\d+)$`).FindStringSubmatch(url)
	if port == nil {
		return "", fmt.Errorf("ASPNETCORE_URLS: %q is not http://+:PORT", url)
	}
	return port[1], nil
}

// findBundle looks for the one version of the extension bundle that host.json allows, which the real host would otherwise
// download, and looks there only in a container (contract §9).
func findBundle(root, bundles string, getenv func(string) string) error {
	text, err := os.ReadFile(filepath.Join(root, "host.json"))
	if err != nil {
		return err
	}
	var file struct {
		Bundle struct {
			ID      string `json:"id"`
			Version string `json:"version"`
		} `json:"extensionBundle"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return fmt.Errorf("read host.json: %w", err)
	}
	version := regexp.MustCompile(`^\[(\d+\.\d+\.\d+)\]$`).FindStringSubmatch(file.Bundle.Version)
	if version == nil {
		return fmt.Errorf("host.json: %q names no single version of the extension bundle", file.Bundle.Version)
	}
	if getenv("DOTNET_RUNNING_IN_CONTAINER") != "true" || getenv("HOME") == "" {
		return fmt.Errorf("DOTNET_RUNNING_IN_CONTAINER and HOME must be set: the host would not look into %s", bundles)
	}
	if _, err := os.Stat(filepath.Join(bundles, file.Bundle.ID, version[1], "bundle.json")); err != nil {
		return fmt.Errorf("the extension bundle is not in the image: %w", err)
	}
	return nil
}
