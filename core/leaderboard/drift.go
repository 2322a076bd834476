package leaderboard

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"liveops/core/store"
)

//go:embed compare.lua
var compareLua string

var compareScript = redis.NewScript(projectionLua + compareLua)

// settleDefault is far longer than a transaction takes from its commit to its projection, and far shorter than a sweep may.
const settleDefault = 2 * time.Second

// Window names one window of a board.
type Window struct{ Board, ID string }

// Drift is an entry that Redis holds otherwise than SQL, or not at all.
type Drift struct{ Board, Window, Player string }

// Compare looks whether Redis holds the entries that some players have in some windows as SQL has them: version, score, time,
// player, metadata and whether others see him, or have it trimmed where it may be. It gives the number of entries it looked at and those that differ, in order of board, window and player.
//
// What is being written is no drift: an entry that differs is looked at again after Settle, and only one that neither side
// has touched meanwhile counts. A window that is being rebuilt is left out. An entry that only Redis has is not looked for.
func (r *Ranking) Compare(ctx context.Context, windows []Window, players []string) (int, []Drift, error) {
	var keys []place
	for _, w := range windows {
		for _, player := range players {
			keys = append(keys, place{w.Board, w.ID, player})
		}
	}
	first, entries, err := r.differing(ctx, keys)
	if err != nil || len(first) == 0 {
		return entries, nil, err
	}
	settle := r.Settle
	if settle <= 0 {
		settle = settleDefault
	}
	select {
	case <-ctx.Done():
		return entries, nil, fmt.Errorf("compare ranking: %w", ctx.Err())
	case <-time.After(settle):
	}
	second, _, err := r.differing(ctx, slices.Collect(maps.Keys(first)))
	if err != nil {
		return entries, nil, err
	}
	var drifts []Drift
	for _, key := range slices.SortedFunc(maps.Keys(second), place.compare) {
		if first[key] == second[key] {
			drifts = append(drifts, Drift{key.board, key.window, key.player})
		}
	}
	return entries, drifts, nil
}

// difference is what the two sides have of one entry that they disagree about.
type difference struct {
	version     int64  // in SQL, with the changes of the player's visibility
	held, score string // in Redis
}

// differing reads some entries from SQL and then from Redis, in one round trip. It gives those that are not the same, and the
// number of all.
func (r *Ranking) differing(ctx context.Context, keys []place) (map[place]difference, int, error) {
	slices.SortFunc(keys, place.compare)
	rows, err := r.Entries.read(ctx, r.DB.Queries, keys)
	if err != nil {
		return nil, 0, fmt.Errorf("compare ranking: %w", err)
	}
	hidden, err := r.visibilities(ctx, players(slices.Collect(maps.Values(rows))))
	if err != nil {
		return nil, 0, fmt.Errorf("compare ranking: %w", err)
	}
	byWindow := map[window][]Row{}
	for _, row := range rows {
		if w, err := r.window(row.Board, row.Window); err == nil {
			byWindow[w] = append(byWindow[w], row)
		}
	}
	if len(byWindow) == 0 {
		return nil, 0, nil
	}
	var calls []call
	for w, rows := range byWindow {
		for some := range slices.Chunk(rows, scriptRows) {
			c := call{window: w, rows: some}
			for _, row := range some {
				c.args = append(c.args, row.Player)
			}
			calls = append(calls, c)
		}
	}
	if err := r.exchange(ctx, compareScript, calls); err != nil {
		return nil, 0, store.RedisError("compare ranking", err)
	}
	differ, entries := map[place]difference{}, 0
	for _, c := range calls {
		reply, err := c.reply.StringSlice()
		if err != nil {
			return nil, 0, store.RedisError("compare ranking", err)
		}
		if len(reply) != 2+2*len(c.rows) {
			continue // it is being rebuilt
		}
		floor, err := parseFloor(reply[0], reply[1])
		if err != nil {
			return nil, 0, fmt.Errorf("compare ranking: %w", err)
		}
		entries += len(c.rows)
		for i, row := range c.rows {
			v := hidden[row.Player]
			d := difference{row.Version + v.changes, reply[2*i+2], reply[2*i+3]}
			if !c.holds(row, v, d, floor) {
				differ[place{row.Board, row.Window, row.Player}] = d
			}
		}
	}
	return differ, entries, nil
}

// holds says whether Redis has an entry as SQL has it. One that lies behind the floor is trimmed.
func (w window) holds(row Row, v visibility, has difference, floor *point) bool {
	want := w.appendRow(nil, row, v) // player, version, score, what the hash holds
	if floor != nil && !v.hidden && !row.point(w.order).before(*floor) {
		return has.held == fmt.Sprint(want[1]) && has.score == ""
	}
	order, _ := strconv.ParseFloat(fmt.Sprint(want[2]), 64)
	score, err := strconv.ParseFloat(has.score, 64)
	return err == nil && score == order && has.held == string(want[3].([]byte))
}

// Agree compares rows that SQL has side by side in the final order of a window, the first of them at the index from, with the rows
// that Redis shows there: nobody sees those of hidden players. It gives how many rows Redis has otherwise, another player or score, or not
// at all. Rows that Redis does not hold because of the board's size are not compared; compared is false when that is all of them, or when the
// projection is not complete, which is not waited for. One round trip, len(rows) ≤ MaxLimit. Whether Redis has more rows than
// SQL, Count tells.
func (r *Ranking) Agree(ctx context.Context, board, windowID string, from int64, rows []Row) (mismatches int64, compared bool, err error) {
	w, err := r.window(board, windowID)
	if err != nil {
		return 0, false, err
	}
	if len(rows) > MaxLimit {
		return 0, false, fmt.Errorf("compare ranking: %d rows, at most %d are compared at a time", len(rows), MaxLimit)
	}
	w.keeps = false
	reply, err := readScript.Run(ctx, r.Redis, w.keys()[:2], w.form, "", len(rows), "", index, from).Slice()
	if err != nil {
		return 0, false, store.RedisError("compare ranking", err)
	}
	if len(reply) == 0 {
		return 0, false, nil
	}
	held, err := w.parse(reply)
	if err != nil {
		return 0, false, err
	}
	n := len(held.rows)
	for i, row := range held.rows {
		if row.Player != rows[i].Player || row.Score != rows[i].Score {
			mismatches++
		}
	}
	if trimmed := from+int64(n) < held.count; !trimmed {
		return mismatches + int64(len(rows)-n), true, nil
	}
	return mismatches, n > 0 || len(rows) == 0, nil
}
