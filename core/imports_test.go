// Package core_test holds the arrows of the architecture: who may import whom. A new arrow is a line in the table below.
package core_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// base is what every domain may build on.
var base = []string{"core/fault", "core/event", "core/catalog", "core/bus", "core/store"}

// allowed lists, for each package of core, the packages of this module it may import outside of tests.
var allowed = map[string][]string{
	"core/fault":          {},
	"core/tracing":        {"core/fault"},
	"core/event":          {"core/fault"},
	"core/catalog":        {"core/fault", "core/event"},
	"core/bus":            {"core/fault"},
	"core/bus/servicebus": {"core/bus", "core/fault"},
	"core/store":          {"core/fault", "core/tracing"},
	"core/merkle":         {},

	"core/signing":     base,
	"core/gate":        base,
	"core/fairness":    base,
	"core/journal":     base,
	"core/rejected":    base,
	"core/progression": base,
	"core/mailbox":     base,
	"core/receipt":     base,
	"core/session":     base,
	"core/leaderboard": base,
	"core/erasure":     base,
	"core/season":      append(slices.Clone(base), "core/merkle"),

	"core/pipeline": append(slices.Clone(base), "core/tracing", "core/signing", "core/gate", "core/fairness", "core/journal", "core/rejected",
		"core/progression", "core/mailbox", "core/receipt", "core/session", "core/leaderboard", "core/season", "core/erasure"),
}

// drivers names the only packages that may import a driver, outside of tests and of packages ending in "test".
var drivers = map[string][]string{
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus":    {"core/bus/servicebus"},
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity":                {"core/bus/servicebus"},
	"github.com/Azure/go-amqp":                                        {"core/bus/servicebus"},
	"github.com/go-sql-driver/mysql":                                  {"core/store"},
	"go.opentelemetry.io/otel/sdk/trace":                              {"handler/app"},
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp": {"handler/app"},
	"github.com/redis/go-redis/v9":                                    {"core/store", "core/gate", "core/fairness", "core/progression", "core/leaderboard", "handler/app"},
	"github.com/redis/go-redis/extra/redisprometheus/v9":              {"handler/app"},
	"github.com/alicebob/miniredis/v2":                                {"local/stack"},
	"modernc.org/sqlite":                                              {"local/stack"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, patterns ...string) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, patterns...)...).Output()
	require.NoError(t, err)
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			require.NoError(t, err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestArrows(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "liveops/...") {
		name := strings.TrimPrefix(p.ImportPath, "liveops/")
		if strings.HasSuffix(name, "test") {
			continue
		}
		rule, known := allowed[name]
		if strings.HasPrefix(name, "core/") {
			require.True(t, known, "%s is not in the table of arrows", name)
		}
		for _, imported := range p.Imports {
			own, ours := strings.CutPrefix(imported, "liveops/")
			if only, driver := drivers[imported]; driver {
				require.Contains(t, only, name, "%s imports the driver %s", name, imported)
			}
			if !ours {
				continue
			}
			require.False(t, strings.HasSuffix(own, "test"), "%s imports the test package %s", name, own)
			if known {
				require.Contains(t, rule, own, "%s imports %s", name, own)
			}
			if strings.HasPrefix(name, "handler") {
				require.False(t, strings.HasPrefix(own, "local/") || strings.HasPrefix(own, "cmd/"), "%s imports %s", name, own)
			}
		}
	}
}

func TestProductionLinksNoStandIn(t *testing.T) {
	t.Parallel()
	deps := list(t, "liveops/handler")[0].Deps
	require.Contains(t, deps, "github.com/go-sql-driver/mysql")
	for _, standIn := range []string{"modernc.org/sqlite", "github.com/alicebob/miniredis/v2", "github.com/stretchr/testify/require", "gonum.org/v1/plot"} {
		require.NotContains(t, deps, standIn)
	}
	for _, d := range deps {
		require.False(t, strings.HasPrefix(d, "liveops/local"), "the handler links %s", d)
	}
}
