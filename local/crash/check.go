package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"

	"liveops/core/catalog"
	"liveops/core/leaderboard"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/local/oracle"
)

// check compares what is in effect with what must be.
type check struct {
	site    *site
	api     *api
	answers *answers

	missing, double int
	count           int
	problems        []string       // in words, the first of each kind
	kinds           map[string]int // how many there are of each
}

// shown is how many problems of a kind are kept in words.
const shown = 5

// problem notes what is wrong. Kind is what all like it begin with.
func (c *check) problem(kind, format string, args ...any) {
	if c.kinds == nil {
		c.kinds = map[string]int{}
	}
	c.count++
	if c.kinds[kind]++; c.kinds[kind] <= shown {
		c.problems = append(c.problems, kind+fmt.Sprintf(format, args...))
	}
}

// differ notes every key that two maps do not agree on.
func differ[K ~string, V any](c *check, what string, want, got map[K]V) {
	keys := slices.Sorted(maps.Keys(want))
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, known := want[k]; !known {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		w, wanted := want[k]
		g, there := got[k]
		if wanted != there || !reflect.DeepEqual(w, g) {
			c.problem(what, " of %s: %v, must be %v", k, g, w)
		}
	}
}

// run makes all comparisons. The error is about the checking itself.
func (c *check) run(ctx context.Context, log string) error {
	rules, err := oracle.ReadCatalog(c.site.catalog())
	if err != nil {
		return err
	}
	var counted []oracle.Event
	for _, id := range slices.Sorted(maps.Keys(c.answers.taken)) {
		counted = append(counted, c.answers.sent[id])
	}
	want := rules.Compute(counted, c.site.now())
	for _, look := range []func() error{
		func() error { return c.ledger(ctx, want, rules) },
		func() error { return c.receipts(ctx, counted) },
		func() error { return c.rejected(ctx) },
		func() error { return c.players(ctx, want, rules) },
		func() error { return c.boards(ctx, want, rules) },
		func() error { return c.log(log) },
	} {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// ledger compares the sums of the ledger, the balances and the oracle, player by player, and finds every event's root row.
func (c *check) ledger(ctx context.Context, want oracle.Outcome, rules oracle.Catalog) error {
	roots := map[string]int{}
	summed, held := map[string]int64{}, map[string]int64{} // XP by player, items by player and item
	rows, highest := map[string]int64{}, map[string]int64{}
	err := c.site.db.Each(ctx, "SELECT player_id, event_id, kind, item_id, delta, entry_no FROM ledger", nil, func(scan func(...any) error) error {
		var player, event, kind, item string
		var delta, number int64
		if err := scan(&player, &event, &kind, &item, &delta, &number); err != nil {
			return err
		}
		rows[player]++
		highest[player] = max(highest[player], number)
		if kind == progression.Root {
			roots[player+"."+event]++
			summed[player] += delta
		} else {
			held[player+" "+item] += delta
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id := range c.answers.taken {
		if roots[id] == 0 {
			c.missing++
			c.problem("missing from the ledger", ": %s, which was answered 202", id)
		}
	}
	for id, n := range roots {
		if _, sent := c.answers.sent[id]; !sent {
			c.problem("never sent", ": %s, which is in the ledger", id)
		}
		if n > 1 {
			c.double += n - 1
			c.problem("double in the ledger", ": %s, %d times", id, n)
		}
	}

	xp, level, entries := map[string]int64{}, map[string]int{}, map[string]int64{}
	err = c.site.db.Each(ctx, "SELECT player_id, xp, level, entries FROM player", nil, func(scan func(...any) error) error {
		var player string
		var x, n int64
		var l int
		err := scan(&player, &x, &l, &n)
		xp[player], level[player], entries[player] = x, l, n
		return err
	})
	if err != nil {
		return err
	}
	levels := map[string]int{}
	for player, x := range want.XP {
		levels[player] = rules.Level(x)
	}
	differ(c, "XP", want.XP, xp)
	differ(c, "the sum of the ledger's XP", want.XP, summed)
	differ(c, "the level", levels, level)
	differ(c, "the number of ledger rows", rows, entries)
	differ(c, "the highest number of a ledger row", rows, highest)

	items := map[string]int64{}
	err = c.site.db.Each(ctx, "SELECT player_id, item_id, quantity FROM item", nil, func(scan func(...any) error) error {
		var player, item string
		var quantity int64
		err := scan(&player, &item, &quantity)
		items[player+" "+item] = quantity
		return err
	})
	if err != nil {
		return err
	}
	wanted := map[string]int64{}
	for player, all := range want.Items {
		for item, quantity := range all {
			wanted[player+" "+item] = quantity
		}
	}
	differ(c, "the item", wanted, items)
	differ(c, "the sum of the ledger's item", wanted, held)
	return nil
}

// receipts looks for the receipt of everything that granted something, which in this game all but scores do.
func (c *check) receipts(ctx context.Context, counted []oracle.Event) error {
	want, got := map[string]bool{}, map[string]bool{}
	for _, e := range counted {
		if e.Type != "score_submitted" {
			want[e.Key()] = true
		}
	}
	err := c.site.db.Each(ctx, "SELECT player_id, event_id FROM receipt WHERE token <> ''", nil, func(scan func(...any) error) error {
		var player, event string
		err := scan(&player, &event)
		got[player+"."+event] = true
		return err
	})
	differ(c, "the receipt", want, got)
	return err
}

// rejected says what was set aside and not released, which nothing of a fair game is.
func (c *check) rejected(ctx context.Context) error {
	return c.site.db.Each(ctx, "SELECT stage, message_id, code, detail FROM rejected WHERE id NOT IN (SELECT id FROM rejected_release)", nil, func(scan func(...any) error) error {
		var stage, message, code, detail string
		err := scan(&stage, &message, &code, &detail)
		c.problem("rejected", " by %s: %s: %s: %s", stage, message, code, detail)
		return err
	})
}

// looks is how many players are read through the API.
const looks = 500

// players reads players through the API, which answers from a cache, twice.
func (c *check) players(ctx context.Context, want oracle.Outcome, rules oracle.Catalog) error {
	type state struct {
		XP    int64 `json:"xp"`
		Level int   `json:"level"`
		Items []struct {
			Item     string `json:"item"`
			Quantity int64  `json:"quantity"`
		} `json:"items"`
	}
	all := slices.Sorted(maps.Keys(want.XP))
	for i := 0; i < len(all); i += 1 + len(all)/looks {
		player := all[i]
		for range 2 {
			var got state
			if err := c.api.get(ctx, "/v1/players/"+player, &got); err != nil {
				return err
			}
			items := map[string]int64{}
			for _, held := range got.Items {
				items[held.Item] = held.Quantity
			}
			if x := want.XP[player]; got.XP != x || got.Level != rules.Level(x) || !maps.Equal(items, want.Items[player]) {
				c.problem("the player as read", " %s: %+v, must have %d XP and %v", player, got, x, want.Items[player])
			}
		}
	}
	return nil
}

// boards reads every board through the API, and once more after a rebuild of its window.
func (c *check) boards(ctx context.Context, want oracle.Outcome, rules oracle.Catalog) error {
	game, err := catalog.Load(c.site.catalog())
	if err != nil {
		return err
	}
	rdb, err := store.OpenRedis(c.site.cache.URL)
	if err != nil {
		return err
	}
	defer rdb.Close() //nolint:errcheck // nothing is lost with an idle pool
	ranking := &leaderboard.Ranking{Redis: rdb, DB: c.site.db, Entries: leaderboard.Entries{Boards: game.Board}}
	if _, err := ranking.Epoch(ctx); err != nil { // or the system would rebuild what was rebuilt here
		return err
	}
	for _, board := range slices.Sorted(maps.Keys(rules.Boards)) {
		for _, cadence := range rules.Boards[board].Windows {
			order := want.Order(board, cadence)
			read, window, err := c.api.board(ctx, board, cadence)
			if err != nil {
				return err
			}
			c.ranks(board+" "+window, order, read)
			if err := ranking.Rebuild(ctx, board, window); err != nil {
				return err
			}
			if read, _, err = c.api.board(ctx, board, cadence); err != nil {
				return err
			}
			c.ranks(board+" "+window+", rebuilt", order, read)
		}
	}
	return nil
}

// ranks compares two orders and shows where they first differ.
func (c *check) ranks(board string, want, got []oracle.Entry) {
	if len(want) != len(got) {
		c.problem(board, " has %d entries, must have %d", len(got), len(want))
	}
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			c.problem(board, " at %d: %+v, must be %+v", i+1, got[i], want[i])
			return
		}
	}
}

// log looks for what no process may have said.
func (c *check) log(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, word := range []string{"DATA RACE", "panic: "} {
		if at := bytes.Index(text, []byte(word)); at >= 0 {
			c.problem("a process said ", "%s", text[at:min(at+3000, len(text))])
		}
	}
	return nil
}

// print shows the problems.
func (c *check) print(to io.Writer) {
	for _, p := range c.problems {
		_, _ = fmt.Fprintln(to, "WRONG:", p)
	}
	for _, kind := range slices.Sorted(maps.Keys(c.kinds)) {
		if left := c.kinds[kind] - shown; left > 0 {
			_, _ = fmt.Fprintf(to, "WRONG: %s: and %d more\n", kind, left)
		}
	}
}
