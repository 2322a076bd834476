package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/season"
	"liveops/core/store"
)

type rebuildCommand struct {
	Board  string `help:"Only the windows of this board." placeholder:"NAME"`
	Window string `help:"Only the window of this id, of every board that has one." placeholder:"ID"`
	database
	Redis   string `help:"Redis, redis:// or rediss://." env:"REDIS_URL" required:"" placeholder:"URL"`
	Catalog string `help:"The game." env:"CATALOG_FILE" required:"" type:"existingfile" placeholder:"FILE"`
}

// Help implements kong's longer help.
func (rebuildCommand) Help() string {
	return `Makes the rankings in Redis anew from the database: of every window that is open, closing or frozen. Archived
windows are served from the database. The system may run meanwhile; reads of a window wait for its rebuild
or are asked to come again.

Examples:
  DB_URL=mysql://liveops:password@db:3306/liveops REDIS_URL=redis://redis:6379 CATALOG_FILE=game.yaml liveops rebuild
  liveops rebuild --board arena-score --window 2026-W47 --db sqlite:liveops.db --redis redis://127.0.0.1:6379 --catalog game.yaml`
}

// Run rebuilds one window after the other and says of each how many entries it has.
func (c rebuildCommand) Run(ctx context.Context, t *terminal) error {
	game, err := catalog.Load(c.Catalog)
	if err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing is lost with an idle pool
	rdb, err := store.OpenRedis(c.Redis)
	if err != nil {
		return err
	}
	defer rdb.Close() //nolint:errcheck // nor here
	if missing, err := db.Pending(ctx); err != nil {
		return err
	} else if len(missing) > 0 {
		return fmt.Errorf("the database lacks %s: run liveops migrate", strings.Join(missing, ", "))
	}
	windows := &season.Windows{DB: db}
	ranking := &leaderboard.Ranking{Redis: rdb, DB: db, Entries: leaderboard.Entries{Boards: game.Board}}
	chosen, err := c.choose(ctx, game, windows)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		t.out.printf("there is no window to rebuild\n")
	}
	if _, err := ranking.Epoch(ctx); err != nil { // or the running system would not take what is made here
		return err
	}
	for _, w := range chosen {
		if err := ranking.Rebuild(ctx, w.Board, w.ID); err != nil {
			return fmt.Errorf("%s, %s: %w", w.Board, w.ID, err)
		}
		entries, err := ranking.Count(ctx, w.Board, w.ID)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", w.Board, w.ID, err)
		}
		// A window that was archived meanwhile has no use for it any more, and nobody else would remove it.
		if now, err := windows.Get(ctx, w.Board, w.ID); err == nil && now.State.Final() {
			if err := ranking.Drop(ctx, w.Board, w.ID); err != nil {
				return fmt.Errorf("%s, %s: %w", w.Board, w.ID, err)
			}
		}
		t.out.printf("%s, %s (%s): %d entries\n", w.Board, w.ID, w.State, entries)
	}
	return nil
}

// choose lists the windows that are served from Redis and were asked for, without those of a season far ahead, which have
// no entries. To ask for one that is not served from Redis is an error.
func (c rebuildCommand) choose(ctx context.Context, game *catalog.Catalog, windows *season.Windows) ([]season.Window, error) {
	boards := slices.Sorted(maps.Keys(game.Boards))
	if c.Board != "" {
		if _, known := game.Boards[c.Board]; !known {
			return nil, fault.BoardNotFound.Errorf("there is no board %q in %s, there are %s", c.Board, c.Catalog, strings.Join(boards, ", "))
		}
		boards = []string{c.Board}
	}
	var chosen []season.Window
	archived := false
	for _, board := range boards {
		all, err := windows.List(ctx, board, math.MaxInt32)
		if err != nil {
			return nil, err
		}
		for _, w := range all {
			switch {
			case c.Window != "" && w.ID != c.Window:
			case w.State.Final():
				archived = true
			case c.Window == "" && time.Until(w.Starts) > 24*time.Hour:
			default:
				chosen = append(chosen, w)
			}
		}
	}
	switch {
	case c.Window == "" || len(chosen) > 0:
		return chosen, nil
	case archived:
		return nil, fmt.Errorf("window %s is archived: its ranks come from the database", c.Window)
	}
	return nil, fault.WindowNotFound.Errorf("%s: no window %q", strings.Join(boards, ", "), c.Window)
}
