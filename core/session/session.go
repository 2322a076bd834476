// Package session knows which generation the keys of a player's sessions are in, and who revoked the ones before. It knows no key: how
// one is derived, and what it may do, is decided elsewhere.
package session

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"liveops/core/fault"
	"liveops/core/store"
)

// How long the key of a session lives.
const (
	MinLife     = time.Minute
	DefaultLife = time.Hour
	MaxLife     = 24 * time.Hour
)

// maxReason is how long a reason may be, in characters.
const maxReason = 1000

// Generations is the generations of all players. It owns the tables session, which has the players whose keys were ever revoked, and
// session_revocation, to which rows are only ever added. It is safe for concurrent use.
type Generations struct {
	DB  *store.DB
	Now func() time.Time
}

// Order names a revocation that somebody wants. The same order of an actor is done once.
type Order struct {
	Actor  string // the id of his key
	Key    string // one for each order of an actor, from the Idempotency-Key header
	Reason string // up to 1000 characters
}

// Revocation is the end of the generations before one.
type Revocation struct {
	Player     string
	Generation int64 // that began then
	At         time.Time
	Actor      string
	Reason     string
}

// Current gives the generation that a player's keys are in; 0 as long as none was revoked.
func (g *Generations) Current(ctx context.Context, player string) (int64, error) {
	var generation int64
	err := g.DB.Row(ctx, `SELECT generation FROM session WHERE player_id = ?`, []any{player}, &generation)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("read the generation of a player's keys: %w", err)
	}
	return generation, nil
}

// Revoke begins another generation of a player's keys. The same order again, however late, gives the same revocation and does nothing;
// the same key with another order is fault.IdempotencyReused. A reason that is too long is fault.RequestInvalid.
func (g *Generations) Revoke(ctx context.Context, player string, o Order) (Revocation, error) {
	if utf8.RuneCountInString(o.Reason) > maxReason || !utf8.ValidString(o.Reason) {
		return Revocation{}, &fault.Error{
			Code: fault.RequestInvalid, Detail: "the request breaks the rules listed in errors",
			Fields: []fault.Field{{Pointer: "/reason", Code: fault.FieldRange, Detail: fmt.Sprintf("has at most %d characters", maxReason)}},
		}
	}
	var done Revocation
	err := g.DB.Tx(ctx, func(tx *store.Tx) error {
		generation, err := lock(ctx, tx, player)
		if err != nil {
			return err
		}
		var known bool
		if done, known, err = o.recorded(ctx, tx.Queries, player); err != nil || known {
			return err
		}
		r := Revocation{
			Player: player, Generation: generation + 1, At: g.Now().UTC().Truncate(time.Millisecond), Actor: o.Actor, Reason: o.Reason,
		}
		update := `UPDATE session SET generation = ?, revoked_at = ? WHERE player_id = ?`
		if _, err := tx.Exec(ctx, update, r.Generation, r.At.UnixMilli(), player); err != nil {
			return err
		}
		if err := r.insert(ctx, tx, o.id()); err != nil {
			return err
		}
		done, _, err = o.recorded(ctx, tx.Queries, player) // the same key may have been used for somebody else meanwhile
		return err
	})
	if err != nil {
		return Revocation{}, fmt.Errorf("revoke a player's keys: %w", err)
	}
	return done, nil
}

// Since gives the generations that began at an instant or later. Keys that were made MaxLife before it have expired anyway.
func (g *Generations) Since(ctx context.Context, at time.Time) (map[string]int64, error) {
	recent := map[string]int64{}
	query := `SELECT player_id, generation FROM session WHERE revoked_at >= ?`
	err := g.DB.Each(ctx, query, []any{at.UnixMilli()}, func(scan func(...any) error) error {
		var player string
		var generation int64
		if err := scan(&player, &generation); err != nil {
			return err
		}
		recent[player] = generation
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list revoked generations: %w", err)
	}
	return recent, nil
}

// lock gives a player's generation, which nobody else changes before the end of the transaction.
func lock(ctx context.Context, tx *store.Tx, player string) (generation int64, err error) {
	table := store.Table{Name: "session", Columns: []string{"player_id", "generation", "revoked_at"}, Key: []string{"player_id"}}
	if err := table.InsertMissing(ctx, tx.Queries, [][]any{{player, 0, 0}}); err != nil {
		return 0, err
	}
	err = tx.Row(ctx, `SELECT generation FROM session WHERE player_id = ?`+tx.Dialect.ForUpdate(), []any{player}, &generation)
	return generation, err
}

// id is the same for the same key of the same actor.
func (o Order) id() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", o.Actor, o.Key))
	return hex.EncodeToString(sum[:16])
}

const revocationColumns = "revocation_id, player_id, generation, revoked_at, actor, reason"

// recorded finds the revocation on record of an order, which must be about the same player and for the same reason.
func (o Order) recorded(ctx context.Context, q store.Queries, player string) (r Revocation, known bool, err error) {
	var id string
	var at int64
	query := `SELECT ` + revocationColumns + ` FROM session_revocation WHERE revocation_id = ?`
	err = q.Row(ctx, query, []any{o.id()}, &id, &r.Player, &r.Generation, &at, &r.Actor, &r.Reason)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Revocation{}, false, nil
	case err != nil:
		return Revocation{}, false, err
	case r.Player != player || r.Reason != o.Reason:
		return Revocation{}, false, fault.IdempotencyReused.Errorf("the idempotency key belongs to another order, use a new one")
	}
	r.At = time.UnixMilli(at).UTC()
	return r, true, nil
}

func (r Revocation) insert(ctx context.Context, tx *store.Tx, id string) error {
	table := store.Table{Name: "session_revocation", Columns: strings.Split(revocationColumns, ", "), Key: []string{"revocation_id"}}
	return table.InsertMissing(ctx, tx.Queries, [][]any{{id, r.Player, r.Generation, r.At.UnixMilli(), r.Actor, r.Reason}})
}
