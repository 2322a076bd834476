// Package journal keeps accepted events as they came, for a while, so that a policy can be tried on them before it is in
// force. It knows nothing of what became of them.
package journal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"liveops/core/event"
	"liveops/core/store"
)

// Journal is the recorded events. It owns the table journal, whose key begins with the time an event was received, so that
// a stretch of time is one range of it, and what is purged is its beginning.
type Journal struct {
	DB *store.DB
}

const (
	pageSize     = 500     // events read at a time
	statementMax = 4 << 20 // bytes of events in a statement: what the smallest usual packet of a server takes, four times over
)

// Record keeps events. One that is recorded again, in this batch or later, changes nothing.
func (j *Journal) Record(ctx context.Context, events []event.Accepted) error {
	table := store.Table{
		Name: "journal", Columns: []string{"received_at", "player_id", "event_id", "body"}, Key: []string{"received_at", "player_id", "event_id"},
	}
	// In one order everywhere, so that two replicas with the same batch wait for each other instead of deadlocking.
	sorted := slices.SortedFunc(slices.Values(events), func(a, b event.Accepted) int {
		return cmp.Or(cmp.Compare(a.ReceivedAt.UnixMilli(), b.ReceivedAt.UnixMilli()), strings.Compare(a.PlayerID, b.PlayerID), strings.Compare(a.ID, b.ID))
	})
	var rows [][]any
	size := 0
	write := func() error {
		if err := table.InsertMissing(ctx, j.DB.Queries, rows); err != nil {
			return fmt.Errorf("record %d events: %w", len(events), err)
		}
		rows, size = rows[:0], 0
		return nil
	}
	for _, e := range sorted {
		body, err := e.Encode()
		if err != nil {
			return fmt.Errorf("record an event: %w", err)
		}
		if size+len(body) > statementMax && len(rows) > 0 {
			if err := write(); err != nil {
				return err
			}
		}
		rows, size = append(rows, []any{e.ReceivedAt.UnixMilli(), e.PlayerID, e.ID, body}), size+len(body)
	}
	return write()
}

// Each calls fn for every event that was received in [from, to), to the millisecond, in the order in which they were
// received, and of one millisecond by player and event id. It reads them in pages and holds no connection while fn works. Events
// recorded meanwhile are seen when they come after those that fn had. An error of fn ends it.
func (j *Journal) Each(ctx context.Context, from, to time.Time, fn func(event.Accepted) error) error {
	// The key of the event before the page. No player is named "".
	at, player, id := from.UnixMilli(), "", ""
	for {
		var page []event.Accepted
		// The first two conditions are the range of the key; the third leaves out what the page before had of one millisecond.
		query := `SELECT received_at, player_id, event_id, body FROM journal WHERE received_at >= ? AND received_at < ?
			AND (received_at > ? OR player_id > ? OR (player_id = ? AND event_id > ?))
			ORDER BY received_at, player_id, event_id LIMIT ?`
		args := []any{at, to.UnixMilli(), at, player, player, id, pageSize}
		err := j.DB.Each(ctx, query, args, func(scan func(...any) error) error {
			var body []byte
			if err := scan(&at, &player, &id, &body); err != nil {
				return err
			}
			e, err := event.DecodeAccepted(body)
			page = append(page, e)
			return err
		})
		if err != nil {
			return fmt.Errorf("read recorded events: %w", err)
		}
		for _, e := range page {
			if err := fn(e); err != nil {
				return err
			}
		}
		if len(page) < pageSize {
			return nil
		}
	}
}

// Purge deletes events that were received before an instant, the oldest first and at most limit of them, and says how many it
// deleted: fewer than limit when none is left.
func (j *Journal) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	oldest := "received_at < ? ORDER BY received_at, player_id, event_id LIMIT ?"
	query := "DELETE FROM journal WHERE " + oldest
	if j.DB.Dialect == store.SQLite {
		query = "DELETE FROM journal WHERE rowid IN (SELECT rowid FROM journal WHERE " + oldest + ")"
	}
	n, err := j.DB.Exec(ctx, query, before.UnixMilli(), limit)
	if err != nil {
		return 0, fmt.Errorf("purge recorded events: %w", err)
	}
	return int(n), nil
}
