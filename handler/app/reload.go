package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"liveops/core/catalog"
)

// What comes of a changed catalog file.
const (
	reloadLoaded  = "loaded"
	reloadRefused = "refused"
)

// firstCatalog loads the catalog that the application starts with.
func (a *App) firstCatalog() error {
	a.reloads = promauto.With(a.registry).NewCounterVec(prometheus.CounterOpts{
		Name: "catalog_reloads_total", Help: "Changed catalog files, by result.",
	}, []string{"result"})
	for _, result := range []string{reloadLoaded, reloadRefused} {
		a.reloads.WithLabelValues(result)
	}
	promauto.With(a.registry).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "catalog_version", Help: "The version of the catalog in force.",
	}, func() float64 {
		if game := a.catalog.Load(); game != nil {
			return float64(game.Version)
		}
		return 0
	})
	text, err := os.ReadFile(a.config.CatalogFile)
	if err != nil {
		return err
	}
	game, err := catalog.Parse(text)
	if err != nil {
		return fmt.Errorf("catalog %s: %w", a.config.CatalogFile, err)
	}
	a.running = text
	a.catalog.Store(game)
	return nil
}

// reloadCatalog looks whether the catalog file changed and lets its new version serve. One that cannot be used is refused once,
// one that cannot be prepared for is tried again at the next look. It is not for concurrent use.
func (a *App) reloadCatalog(ctx context.Context) {
	// The bytes tell, not the time of the file: a mount changes by a link to another one.
	text, err := os.ReadFile(a.config.CatalogFile)
	if err != nil {
		a.refuseCatalog(err)
		return
	}
	if bytes.Equal(text, a.running) {
		a.refused = nil
		return
	}
	if bytes.Equal(text, a.refused) {
		return
	}
	game, err := catalog.Parse(text)
	if running := a.catalog.Load().Version; err == nil && game.Version <= running {
		err = fmt.Errorf("version %d is not above the running one, %d", game.Version, running)
	}
	if err != nil {
		a.refused = text
		a.refuseCatalog(fmt.Errorf("catalog %s: %w", a.config.CatalogFile, err))
		return
	}
	ctx, stop := context.WithTimeout(ctx, requestDeadline)
	defer stop()
	if _, err := a.windows.Materialise(ctx, game); err != nil { // no score may meet a board before its windows are there
		a.warn("reload the catalog: the running one stays until the new one's windows can be made", err)
		return
	}
	a.running, a.refused = text, nil
	a.catalog.Store(game)
	a.reloads.WithLabelValues(reloadLoaded).Inc()
	a.options.Log.Info("reload the catalog: another version is in force", slog.Int("catalog_version", game.Version))
}

func (a *App) refuseCatalog(err error) {
	a.reloads.WithLabelValues(reloadRefused).Inc()
	a.warn("reload the catalog: the running one stays", err)
}
