package pipeline_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// BenchmarkProgression measures new events going through the stage behind the queue "progression", in batches of 1, 50 and 500,
// on real servers. Each batch is followed by its floor: the very rows that it wrote, written once more to copies of the tables by a bare
// loop of multi-row statements in one transaction. "of-floor" is the speed of the one over the speed of the other.
func BenchmarkProgression(b *testing.B) {
	sql, cache := os.Getenv("TEST_MYSQL_URL"), os.Getenv("TEST_REDIS_URL")
	if sql == "" || cache == "" {
		b.Skip("needs real servers: TEST_MYSQL_URL and TEST_REDIS_URL")
	}
	for _, size := range []int{1, 50, 500} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newPath(b, storetest.MySQL(b, sql), storetest.Redis(b, cache))
			text, err := os.ReadFile(filepath.Join("..", "..", "examples", "chess", "catalog.yaml"))
			require.NoError(b, err)
			p.game, err = catalog.Parse(text)
			require.NoError(b, err)
			p.layOut(b)
			games := &games{random: rand.New(rand.NewPCG(21, 22))}
			for range 5 { // most players are known, and have rows nearly everywhere
				_, err := p.progression.Apply(b.Context(), batch(b, games.play(2000)...))
				require.NoError(b, err)
			}
			floor := newFloor(b, p.db)
			var took, least time.Duration
			for b.Loop() {
				events := games.play(size)
				messages := batch(b, events...)
				began := time.Now()
				_, err := p.progression.Apply(b.Context(), messages)
				took += time.Since(began)
				require.NoError(b, err)
				floor.read(b, events)
				began = time.Now()
				floor.write(b)
				least += time.Since(began)
			}
			b.ReportMetric(float64(b.N*size)/took.Seconds(), "events/s")
			b.ReportMetric(float64(b.N*size)/least.Seconds(), "floor/s")
			b.ReportMetric(least.Seconds()/took.Seconds(), "of-floor")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// games makes the events of a chess server: after a game, each side gains XP, submits a rating and points, and may have won an
// opening or, in few moves, a scalp.
type games struct {
	random *rand.Rand
	events []event.Accepted
	n      int
}

// play gives the next n events.
func (g *games) play(n int) []event.Accepted {
	for len(g.events) < n {
		player, at := fmt.Sprintf("player-%04d", g.random.IntN(2000)), noon.Add(time.Duration(g.n)*time.Millisecond)
		did := func(kind string, data map[string]any) {
			g.n++
			g.events = append(g.events, accepted(player, fmt.Sprintf("0192e4a0-7c1f-7000-8000-%012x", g.n), kind, at, data))
		}
		won := g.random.Float64() < 0.45
		amount, points := 10.0, 0.0
		if won {
			amount, points = 35, 2
		}
		did(event.XPGained, map[string]any{"amount": amount, "source": "match"})
		did(event.ScoreSubmitted, map[string]any{"board": "rating", "score": float64(1000 + g.random.IntN(1000))})
		did(event.ScoreSubmitted, map[string]any{"board": "points", "score": points})
		if won {
			did(event.ItemAcquired, map[string]any{"item": fmt.Sprintf("eco-%c%02d", 'a'+g.random.IntN(5), g.random.IntN(100)), "quantity": 1.0})
		}
		if won && g.random.Float64() < 0.2 {
			did(event.BossKilled, map[string]any{"boss": "swift-mate"})
		}
	}
	events := g.events[:n:n]
	g.events = g.events[n:]
	return events
}

// floor writes the rows of a batch once more, into copies of their tables.
type floor struct {
	db     *store.DB
	tables []*copied
}

// copied is the copy of one table.
type copied struct {
	store.Table
	original string
	by       []string        // what names the rows of a batch: an event or a player
	seen     map[uint64]bool // hashes of the rows that earlier batches wrote, where rows change
	rows     [][]any         // of the last batch, in the order of the key
}

// newFloor copies the tables as they are.
func newFloor(b *testing.B, db *store.DB) *floor {
	ofEvent, ofPlayer := []string{"player_id", "event_id"}, []string{"player_id"}
	f := &floor{db: db}
	for _, t := range []*copied{
		{original: "ledger", by: ofEvent, Table: store.Table{Columns: []string{
			"player_id", "event_id", "kind", "entry_no", "event_type", "item_id", "delta", "balance",
			"level_before", "level_after", "catalog_version", "effective_at", "recorded_at", "modifier", "notes",
		}, Key: []string{"player_id", "event_id", "kind"}}},
		{original: "player", by: ofPlayer, Table: store.Table{Columns: []string{
			"player_id", "xp", "level", "entries", "created_at", "updated_at",
		}, Key: []string{"player_id"}}},
		{original: "item", by: ofPlayer, Table: store.Table{Columns: []string{
			"player_id", "item_id", "quantity",
		}, Key: []string{"player_id", "item_id"}}},
		{original: "receipt", by: ofEvent, Table: store.Table{Columns: []string{
			"player_id", "event_id", "receipt_id", "token", "issued_at",
		}, Key: []string{"player_id", "event_id"}}},
		{original: "entry", by: ofPlayer, Table: store.Table{Columns: []string{
			"board", "window_id", "player_id", "score", "total", "standing", "achieved_at", "seq", "event_id", "version",
		}, Key: []string{"board", "window_id", "player_id"}}},
	} {
		t.Name = "copy_of_" + t.original
		for _, query := range []string{
			"CREATE TABLE " + t.Name + " LIKE " + t.original, "INSERT INTO " + t.Name + " SELECT * FROM " + t.original,
		} {
			_, err := db.Exec(b.Context(), query)
			require.NoError(b, err)
		}
		if len(t.by) == 1 {
			t.seen = map[uint64]bool{}
			t.read(b, db, "", nil)
		}
		f.tables = append(f.tables, t)
	}
	return f
}

// read finds the rows that the events wrote.
func (f *floor) read(b *testing.B, events []event.Accepted) {
	for _, t := range f.tables {
		var args []any
		for _, e := range events {
			args = append(args, []any{e.PlayerID, e.ID}[:len(t.by)]...)
		}
		t.read(b, f.db, " WHERE ("+strings.Join(t.by, ", ")+") IN "+f.db.Dialect.In(len(events), len(t.by)), args)
	}
}

func (t *copied) read(b *testing.B, db *store.DB, where string, args []any) {
	t.rows = nil
	query := "SELECT " + strings.Join(t.Columns, ", ") + " FROM " + t.original + where + " ORDER BY " + strings.Join(t.Key, ", ")
	require.NoError(b, db.Each(b.Context(), query, args, func(scan func(...any) error) error {
		row, into := make([]any, len(t.Columns)), make([]any, len(t.Columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := scan(into...); err != nil {
			return err
		}
		for i, value := range row {
			if text, is := value.([]byte); is {
				row[i] = string(text)
			}
		}
		if t.seen != nil {
			hash := fnv.New64a()
			fmt.Fprint(hash, row...)
			if t.seen[hash.Sum64()] {
				return nil
			}
			t.seen[hash.Sum64()] = true
		}
		t.rows = append(t.rows, row)
		return nil
	}))
}

func (f *floor) write(b *testing.B) {
	require.NoError(b, f.db.Tx(b.Context(), func(tx *store.Tx) error {
		for _, t := range f.tables {
			write := t.Insert
			if t.seen != nil {
				write = t.Upsert
			}
			if err := write(b.Context(), tx.Queries, t.rows); err != nil {
				return err
			}
		}
		return nil
	}))
}
