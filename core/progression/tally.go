package progression

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/store"
)

// tally is the name of what is counted of a player, for the limits of the catalog.
type tally struct{ player, subject, period string }

func (t tally) compare(o tally) int {
	return cmp.Or(strings.Compare(t.player, o.player), strings.Compare(t.subject, o.subject), strings.Compare(t.period, o.period))
}

// maxSubject is the width of the column, in characters.
const maxSubject = 96

// subject names what is counted, and of which entry of the catalog. The name of a source may be of any length.
func subject(what, ref string) string {
	name := what + ":" + ref
	if len(name) <= maxSubject {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return what + "~" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// tallies are those that the events of a batch look into. A tally that is not there is not in amounts either.
type tallies struct {
	amounts map[tally]int64
	changed map[tally]bool
}

func (t *tallies) set(key tally, amount int64) {
	t.amounts[key] = amount
	t.changed[key] = true
}

// readTallies reads what the limits of the offers look into. Without limits it asks for nothing. Their rows need no lock: whoever changes
// them holds the player's.
func readTallies(ctx context.Context, tx *store.Tx, c *catalog.Catalog, batch []event.Accepted, offers []offer, zone func() *time.Location) (*tallies, error) {
	t := &tallies{amounts: map[tally]int64{}, changed: map[tally]bool{}}
	var wanted []tally
	for i, e := range batch {
		for _, l := range offers[i].limits {
			local := func() time.Time { return e.At.In(zone()) }
			wanted = append(wanted, l.tallied(c, &Effect{Event: e}, local)...)
		}
	}
	for some := range slices.Chunk(sorted(wanted), chunk) {
		var args []any
		for _, k := range some {
			args = append(args, k.player, k.subject, k.period)
		}
		query := "SELECT player_id, subject, period, amount FROM tally WHERE (player_id, subject, period) IN " + tx.Dialect.In(len(some), 3)
		err := tx.Each(ctx, query, args, func(scan func(...any) error) error {
			var k tally
			var amount int64
			err := scan(&k.player, &k.subject, &k.period, &amount)
			t.amounts[k] = amount
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read tallies: %w", err)
		}
	}
	return t, nil
}

// write records the tallies that changed.
func (t *tallies) write(ctx context.Context, tx *store.Tx) error {
	var rows [][]any
	for _, k := range slices.SortedFunc(maps.Keys(t.changed), tally.compare) {
		rows = append(rows, []any{k.player, k.subject, k.period, t.amounts[k]})
	}
	key := []string{"player_id", "subject", "period"}
	table := store.Table{Name: "tally", Columns: append(slices.Clone(key), "amount"), Key: key}
	if err := table.Upsert(ctx, tx.Queries, rows); err != nil {
		return fmt.Errorf("write tallies: %w", err)
	}
	return nil
}
