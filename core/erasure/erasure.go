// Package erasure keeps who asked to be forgotten, until when that can be taken back, and how far it is. It knows no other table
// than its own, and erases nothing itself.
package erasure

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"liveops/core/fault"
	"liveops/core/store"
)

const (
	// Repeat is how long after an erasure the next pass looks for what was on its way when the one before came.
	Repeat = time.Hour
	// Last is how long an erasure is repeated. It is longer than anything that names a player lives in Redis or is on its way in a
	// queue. The pass after that, if it finds nothing more, forgets the id too.
	Last = 25 * time.Hour
	// Retry is how long a pass that failed waits.
	Retry = 5 * time.Minute
)

// MaxReason is how long a reason may be, in characters.
const MaxReason = 500

// State is how far an erasure is.
type State string

// The states.
const (
	None    State = "none"    // nobody asked, it was cancelled, or it was done and is forgotten
	Waiting State = "waiting" // it can be cancelled until it is due, and then until a sweep begins it
	Erasing State = "erasing" // it began; it cannot be cancelled any more
	Erased  State = "erased"  // it is done, and repeated for a day
)

// Request is somebody's wish that a player be forgotten. Of one that began, Actor and Reason are forgotten.
type Request struct {
	PlayerID    string
	State       State
	RequestedAt time.Time
	DueAt       time.Time
	Actor       string // the id of the key that asked
	Reason      string
	ErasedAt    time.Time // zero: not yet
}

// Requests is everybody's requests. It owns the table erasure, in which a row ends with the last pass. All instants are UTC with
// milliseconds. It is safe for concurrent use.
type Requests struct {
	DB    *store.DB
	Now   func() time.Time
	Grace func() time.Duration // how long a request waits
}

const prefix = "erased~"

// Alias is a new name for somebody who is erased. It is no player's id: events, reads and writes of players refuse it.
func Alias() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // it never fails
	return prefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// Ask asks for a player to be erased after the grace. A request that is there stays as it is. A player of whom nothing is known
// may be erased too: what is on its way may name him.
func (r *Requests) Ask(ctx context.Context, player, actor, reason string) (Request, error) {
	now := r.Now()
	due := now.Add(r.Grace())
	table := store.Table{
		Name: "erasure", Columns: []string{"player_id", "requested_at", "due_at", "actor", "reason", "next_at"}, Key: []string{"player_id"},
	}
	row := []any{player, now.UnixMilli(), due.UnixMilli(), actor, reason, due.UnixMilli()}
	if err := table.InsertMissing(ctx, r.DB.Queries, [][]any{row}); err != nil {
		return Request{}, fmt.Errorf("ask for an erasure: %w", err)
	}
	return r.Get(ctx, player)
}

// Get gives a player's request. Its State is None where there is none, and that is no error.
func (r *Requests) Get(ctx context.Context, player string) (Request, error) {
	q := Request{PlayerID: player, State: None}
	var requested, due, begun, erased int64
	query := "SELECT requested_at, due_at, actor, reason, COALESCE(begun_at, 0), COALESCE(erased_at, 0) FROM erasure WHERE player_id = ?"
	err := r.DB.Row(ctx, query, []any{player}, &requested, &due, &q.Actor, &q.Reason, &begun, &erased)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return q, nil
	case err != nil:
		return Request{}, fmt.Errorf("read an erasure: %w", err)
	}
	q.State, q.RequestedAt, q.DueAt = Waiting, time.UnixMilli(requested).UTC(), time.UnixMilli(due).UTC()
	if begun != 0 {
		q.State = Erasing
	}
	if erased != 0 {
		q.State, q.ErasedAt = Erased, time.UnixMilli(erased).UTC()
	}
	return q, nil
}

// Cancel takes back a request that waits. Where none does, because none was made, it was cancelled, or it began, it is
// fault.ErasureNotFound.
func (r *Requests) Cancel(ctx context.Context, player string) error {
	n, err := r.DB.Exec(ctx, "DELETE FROM erasure WHERE player_id = ? AND begun_at IS NULL", player)
	if err != nil {
		return fmt.Errorf("cancel an erasure: %w", err)
	}
	if n == 0 {
		return fault.ErasureNotFound.Errorf("no erasure of the player waits")
	}
	return nil
}

// Due lists at most limit players with whom a pass is due, who waits longest first.
func (r *Requests) Due(ctx context.Context, limit int) ([]string, error) {
	var players []string
	query := "SELECT player_id FROM erasure WHERE next_at <= ? ORDER BY next_at, player_id LIMIT ?"
	err := r.DB.Each(ctx, query, []any{r.Now().UnixMilli(), limit}, func(scan func(...any) error) error {
		var player string
		err := scan(&player)
		players = append(players, player)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list erasures: %w", err)
	}
	return players, nil
}

// Begin begins a pass, and says whether there is one to make: a request that was cancelled meanwhile has none. From the first one
// on it cannot be cancelled. A pass that is cut is begun again. last says that it is the last one, if it leaves nothing.
func (r *Requests) Begin(ctx context.Context, player string) (begun, last bool, err error) {
	now := r.Now()
	n, err := r.DB.Exec(ctx, "UPDATE erasure SET begun_at = COALESCE(begun_at, ?), actor = '', reason = '' WHERE player_id = ? AND next_at <= ?",
		now.UnixMilli(), player, now.UnixMilli())
	if err != nil {
		return false, false, fmt.Errorf("begin an erasure: %w", err)
	}
	if n == 0 {
		return false, false, nil
	}
	q, err := r.Get(ctx, player)
	return q.State != None, q.State == Erased && !now.Before(q.ErasedAt.Add(Last)), err
}

// Passed records that a pass came to its end, which was the last if Begin said so. left says that it could not erase everything
// yet. first is whether it was the first that could, and forgotten whether it was the last and the id is forgotten.
func (r *Requests) Passed(ctx context.Context, player string, left, last bool) (first, forgotten bool, err error) {
	now := r.Now()
	err = r.DB.Tx(ctx, func(tx *store.Tx) error {
		first, forgotten = false, false
		var erased int64
		query := "SELECT COALESCE(erased_at, 0) FROM erasure WHERE player_id = ?" + tx.Dialect.ForUpdate()
		err := tx.Row(ctx, query, []any{player}, &erased)
		switch {
		case errors.Is(err, sql.ErrNoRows): // another sweep forgot it
			return nil
		case err != nil:
			return err
		case left:
			_, err = tx.Exec(ctx, "UPDATE erasure SET next_at = ? WHERE player_id = ?", now.Add(Retry).UnixMilli(), player)
			return err
		case last:
			forgotten = true
			_, err = tx.Exec(ctx, "DELETE FROM erasure WHERE player_id = ?", player)
			return err
		}
		first = erased == 0
		_, err = tx.Exec(ctx, "UPDATE erasure SET erased_at = COALESCE(erased_at, ?), next_at = ? WHERE player_id = ?",
			now.UnixMilli(), now.Add(Repeat).UnixMilli(), player)
		return err
	})
	if err != nil {
		return false, false, fmt.Errorf("record an erasure: %w", err)
	}
	return first, forgotten, nil
}

// Postpone lets a pass that failed wait, so that it holds up no other.
func (r *Requests) Postpone(ctx context.Context, player string) error {
	_, err := r.DB.Exec(ctx, "UPDATE erasure SET next_at = ? WHERE player_id = ? AND begun_at IS NOT NULL", r.Now().Add(Retry).UnixMilli(), player)
	if err != nil {
		return fmt.Errorf("postpone an erasure: %w", err)
	}
	return nil
}

// Personal tells what of the domain is about a player.
func Personal() []store.Personal {
	return []store.Personal{{
		Kind: "erasure", Table: "erasure", Key: []string{"player_id"},
		Columns: []string{"requested_at time", "due_at time", "actor", "reason", "begun_at time", "erased_at time"},
	}}
}
