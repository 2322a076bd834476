package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// Prometheus starts a prometheus on a configuration file, with its data and its log in dir.
func (p Programs) Prometheus(ctx context.Context, dir, config string, options ...string) (*Server, error) {
	return p.web(ctx, dir, config, "prometheus", []string{"prometheus"}, append([]string{"--storage.tsdb.path=" + filepath.Join(dir, "prometheus", "data")}, options...))
}

// Alertmanager starts an alertmanager on a configuration file, alone in its cluster, with its data and its log in dir.
func (p Programs) Alertmanager(ctx context.Context, dir, config string) (*Server, error) {
	return p.web(ctx, dir, config, "alertmanager", []string{"alertmanager", "prometheus-alertmanager"}, // Debian's name
		[]string{"--storage.path=" + filepath.Join(dir, "alertmanager", "data"), "--cluster.listen-address="})
}

// web starts a program of Prometheus' family, which all take the same options and tell in the same way when they are ready.
func (p Programs) web(ctx context.Context, dir, config, name string, programs, options []string) (*Server, error) {
	program := p.Find(programs...)
	if program == "" {
		return nil, errors.New("no " + name + " on PATH")
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	own := filepath.Join(dir, name)
	if err := os.Mkdir(own, 0o700); err != nil {
		return nil, err
	}
	arguments := append([]string{"--config.file=" + config, "--web.listen-address=127.0.0.1:" + port, "--log.level=warn"}, options...)
	s := &Server{
		Version: name + " " + version(ctx, program, `version (\d+\.\d+)`), URL: "http://127.0.0.1:" + port, log: filepath.Join(own, "log"),
		command: func() *exec.Cmd { return exec.Command(program, arguments...) }, //nolint:gosec,noctx // found above; ends by Kill or Stop
	}
	s.ready = func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/-/ready", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close() //nolint:errcheck // the status says it all
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", response.Status)
		}
		return nil
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}
