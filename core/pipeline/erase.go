package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"liveops/core/erasure"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/journal"
	"liveops/core/leaderboard"
	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/session"
	"liveops/core/store"
)

// erasuresTick is how many players one tick erases at most.
const erasuresTick = 20

// Erasures erases players. What others rely on stays, under an alias: the ledger with its sums, places in rankings and archives, and
// what operators did. The rest is deleted. docs/decisions/0026-player-data.md goes through it table by table.
//
// It is done in passes. One pass goes over everything, and any instruction of it may be the last: the next tick does what is left. Later
// passes, for a day, find what was on its way when the one before came: events in queues, rows of an archive that was being made, a
// ranking that another process wrote late.
type Erasures struct {
	DB       *store.DB
	Requests *erasure.Requests
	Ledger   *progression.Ledger
	Players  *progression.Cache
	Windows  *season.Windows
	Entries  leaderboard.Entries
	Ranking  *leaderboard.Ranking
	Rejected *rejected.Store
	Records  *fairness.Records
	States   fairness.RedisStates
	Gate     *gate.Gate
	Metrics  *Metrics
	Log      *slog.Logger
}

// Run makes the passes that are due, and gives the number of players who are erased by now and were not before. No error of it and
// no line of its log names a player.
func (e *Erasures) Run(ctx context.Context) (erased int, err error) {
	due, err := e.Requests.Due(ctx, erasuresTick)
	if err != nil {
		return 0, err
	}
	var problems []error
	for _, player := range due {
		result, err := e.run(ctx, player)
		if err != nil {
			result = erasureFailed
			problems = append(problems, nameless(err, player))
			problems = append(problems, nameless(e.Requests.Postpone(ctx, player), player))
		}
		if result == "" {
			continue
		}
		e.Metrics.Erasures.WithLabelValues(result).Inc()
		e.Log.Info("erasure", slog.String("result", result))
		if result == erasureErased {
			erased++
		}
	}
	return erased, errors.Join(problems...)
}

// run makes one pass, if it is still due.
func (e *Erasures) run(ctx context.Context, player string) (result string, err error) {
	begun, last, err := e.Requests.Begin(ctx, player)
	if err != nil || !begun {
		return "", err
	}
	left, err := e.pass(ctx, player, last)
	if err != nil {
		return "", err
	}
	first, forgotten, err := e.Requests.Passed(ctx, player, left, last)
	switch {
	case err != nil:
		return "", err
	case left:
		return erasureLeft, nil
	case first:
		return erasureErased, nil
	case forgotten:
		return erasureForgotten, nil
	}
	return erasureRepeated, nil
}

// pass erases what there is. Rankings come before sanctions: whoever is hidden is so until he has no entry. left says that
// there are entries that an archive is waiting for.
func (e *Erasures) pass(ctx context.Context, player string, last bool) (left bool, err error) {
	alias := erasure.Alias()
	var erased []leaderboard.Erased
	err = e.DB.Tx(ctx, func(tx *store.Tx) error {
		// The order of the locks is that of a batch of events: player, windows, entries.
		if err := e.Ledger.Hold(ctx, tx, player); err != nil {
			return err
		}
		windows, err := e.Windows.Load(ctx, tx.Queries, true)
		if err != nil {
			return err
		}
		var taking []leaderboard.Window
		for _, w := range windows.All() {
			taking = append(taking, leaderboard.Window{Board: w.Board, ID: w.ID})
		}
		erased, left, err = e.Entries.Erase(ctx, tx, player, alias, taking)
		return err
	})
	if err != nil {
		return false, err
	}
	if err := e.Ranking.Erase(ctx, player, erased); err != nil {
		return false, err
	}
	if _, err := e.Ledger.Erase(ctx, player, alias); err != nil {
		return false, err
	}
	for _, rows := range [][]store.Personal{receipt.Personal(), mailbox.Personal(), journal.Personal()} {
		if err := e.delete(ctx, player, rows); err != nil {
			return false, err
		}
	}
	if _, err := e.Windows.Erase(ctx, player, alias); err != nil {
		return false, err
	}
	if _, err := e.Rejected.Erase(ctx, player); err != nil {
		return false, err
	}
	if !left { // or his ban would be over before the archive left him out
		if _, err := e.Records.Erase(ctx, player, alias); err != nil {
			return false, err
		}
	}
	if last { // until then keys that were revoked stay so
		if err := e.delete(ctx, player, session.Personal()); err != nil {
			return false, err
		}
	}
	// After SQL: nobody fills any of it in again from there.
	return left, errors.Join(e.Players.Forget(ctx, []string{player}), e.States.Erase(ctx, player), e.Gate.Erase(ctx, player))
}

func (e *Erasures) delete(ctx context.Context, player string, from []store.Personal) error {
	for _, rows := range from {
		if _, err := rows.Delete(ctx, e.DB, player); err != nil {
			return fmt.Errorf("erase rows of kind %s: %w", rows.Kind, err)
		}
	}
	return nil
}

// nameless is an error that does not name a player: a database may tell the key that it is unhappy with.
func nameless(err error, player string) error {
	if err == nil || !strings.Contains(err.Error(), player) {
		return err
	}
	text := strings.ReplaceAll(err.Error(), player, "(player)")
	if fault.KindOf(err) == fault.Unavailable {
		return fault.CodeOf(err).Errorf("erase a player: %s", text)
	}
	return errors.New(text)
}
