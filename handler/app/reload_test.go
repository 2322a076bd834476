package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
)

// A catalog that is wrong never comes into force: it is refused and counted, the log says where it is wrong, and the running one serves on.
func TestABadCatalogIsRefused(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../core/catalog/testdata/bad/*.yaml")
	require.NoError(t, err)
	require.Greater(t, len(files), 60)
	bad := map[string][]string{game + strings.Repeat("#", catalog.MaxSize): {"at most 524288 are read"}}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		golden, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".txt")
		require.NoError(t, err)
		problems := strings.Split(strings.TrimSpace(string(golden)), "\n")
		bad[string(text)] = problems
	}
	e := newEnvironment(t)
	c := e.running(t)
	count := func(result string) int { return int(testutil.ToFloat64(c.app.reloads.WithLabelValues(result))) }
	running := c.app.catalog.Load()
	for text, problems := range bad {
		refused, logged := count("refused"), len(e.log.String())
		e.play(t, text)
		for range 3 { // looked at again and again, refused once
			c.app.reloadCatalog(t.Context())
		}
		require.Equal(t, refused+1, count("refused"))
		require.Same(t, running, c.app.catalog.Load())

		lines := strings.Split(strings.TrimSpace(e.log.String()[logged:]), "\n")
		require.Len(t, lines, 1)
		var line struct {
			Msg   string `json:"msg"`
			Error string `json:"error"`
		}
		require.NoError(t, json.Unmarshal([]byte(lines[0]), &line))
		require.Equal(t, "reload the catalog: the running one stays", line.Msg)
		for _, problem := range problems {
			require.Contains(t, line.Error, problem)
		}
	}
	require.Zero(t, count("loaded"))
	require.Equal(t, 1, gauge(t, c.app, "catalog_version"))
	e.play(t, game)
	c.app.reloadCatalog(t.Context())
	require.Equal(t, len(bad), count("refused"))
}
