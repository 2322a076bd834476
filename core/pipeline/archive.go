package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"liveops/core/catalog"
	"liveops/core/journal"
	"liveops/core/leaderboard"
	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/season"
	"liveops/core/store"
)

// Archive closes the windows that ended, keeps their final standings and has their winners rewarded. Between that it restores what Redis lost, hides and shows
// players where that was cut, purges recorded events and mails that were kept for long enough, erases players who asked for it, and looks for drift: it compares, a few
// players a tick and over time all of them, their balances with the ledger and their entries in Redis with those in SQL.
type Archive struct {
	Catalog  func() *catalog.Catalog
	Restore  *Restore
	Windows  *season.Windows
	Ledger   *progression.Ledger
	Ranking  *leaderboard.Ranking
	Journal  *journal.Journal
	Mailbox  *mailbox.Mailbox
	Erasures *Erasures
	Metrics  *Metrics
	Log      *slog.Logger

	compared atomic.Pointer[string] // the player after whom the next sample begins; nil: not begun
}

// Sweep handles one tick of the timer: it lays out the windows ahead, takes every window that is due one or more steps
// on, restores what Redis lost, finishes hiding players, purges, erases players, and compares a sample. A tick that is missed, doubled or cut costs
// delay and nothing else.
func (a *Archive) Sweep(ctx context.Context) (Outcome, error) {
	added, err := a.Windows.Materialise(ctx, a.Catalog())
	if err != nil {
		return nil, err
	}
	report, err := a.Windows.Sweep(ctx)
	a.Metrics.WindowCloses.Add(float64(report.Closed + report.Frozen + report.Archived + report.Rewarded + report.Purged))
	a.Metrics.WindowFailures.Add(float64(report.Failed))
	err = errors.Join(err, a.tellMismatches(ctx, report.Done), a.tellCondition(ctx))
	restored := errors.Join(a.Restore.Run(ctx), a.Ranking.Resume(ctx))
	events, mails, unpurged := a.purge(ctx)
	erased, unerased := a.Erasures.Run(ctx)
	compared, failed := a.compare(ctx)
	return append(Outcome{
		slog.Int("windows_added", added), slog.Int("windows_closed", report.Closed),
		slog.Int("windows_frozen", report.Frozen), slog.Int("windows_archived", report.Archived),
		slog.Int("windows_rewarded", report.Rewarded), slog.Int("windows_purged", report.Purged),
		slog.Int("events_purged", events), slog.Int("mails_purged", mails), slog.Int("players_erased", erased),
		slog.Int("windows_failed", report.Failed),
	}, compared...), errors.Join(err, restored, unpurged, unerased, failed)
}

// tellMismatches tells how much of what is archived by now was served otherwise before.
func (a *Archive) tellMismatches(ctx context.Context, done []season.Window) error {
	sum, compared := int64(0), false
	for _, w := range done {
		h, err := a.Windows.Archive(ctx, w.Board, w.ID)
		if err != nil {
			return err
		}
		if h.Mismatches == nil {
			continue
		}
		sum, compared = sum+*h.Mismatches, true
		if *h.Mismatches > 0 {
			a.Log.Warn("archive mismatch", slog.String("board", w.Board), slog.String("window", w.ID),
				slog.Int64("entries", *h.Mismatches), slog.Int64("of", h.Entries))
		}
	}
	if compared {
		a.Metrics.ArchiveMismatch.Set(float64(sum))
	}
	return nil
}

// tellCondition tells how the windows stand after a sweep, also after one that failed.
func (a *Archive) tellCondition(ctx context.Context) error {
	c, err := a.Windows.Condition(ctx)
	if err != nil {
		return err
	}
	for state, n := range c.Windows {
		a.Metrics.Windows.WithLabelValues(string(state)).Set(float64(n))
	}
	a.Metrics.WindowOverdue.Set(c.Overdue.Seconds())
	ends := 0.0
	if !c.SeasonEnds.IsZero() {
		ends = float64(c.SeasonEnds.UnixMilli()) / 1000
	}
	a.Metrics.SeasonEnds.Set(ends)
	return nil
}

// purgeTick is how many recorded events one tick purges at most, and how many mails: more than are recorded in two at 300 events a
// second.
const purgeTick = 20_000

// purge lets go of events and mails that were kept for long enough.
func (a *Archive) purge(ctx context.Context) (events, mails int, err error) {
	now := a.Windows.Now()
	events, err = a.Journal.Purge(ctx, now.Add(-a.Catalog().Fairness.Record.Std()), purgeTick)
	mails, failed := a.Mailbox.Purge(ctx, now.Add(-mailbox.Retention), purgeTick)
	return events, mails, errors.Join(err, failed)
}

// What one tick compares, at most. The entries are counted as if every player were in every window.
const (
	samplePlayers = 100
	sampleEntries = 4000
)

// compare looks for drift among the next players: of balances, which it tells and leaves to people, for there is no saying
// which side is right; and of entries in Redis, which are only a projection, so that it rebuilds their window.
func (a *Archive) compare(ctx context.Context) (Outcome, error) {
	windows, err := a.taking(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for drift: %w", err)
	}
	from := a.compared.Load()
	if from == nil {
		anywhere, err := a.Ledger.Anywhere(ctx)
		if err != nil {
			return nil, fmt.Errorf("look for drift: %w", err)
		}
		from = &anywhere
	}
	sample, err := a.Ledger.Sample(ctx, *from, max(1, min(samplePlayers, sampleEntries/max(1, len(windows)))))
	if err != nil {
		return nil, fmt.Errorf("look for drift: %w", err)
	}
	drifted := map[string]bool{}
	for _, d := range sample.Drifts {
		drifted[d.PlayerID] = true
		a.Log.Warn("balance drift", slog.String("player_id", d.PlayerID), slog.String("item", d.Item),
			slog.Int64("balance", d.Balance), slog.Int64("ledger", d.Ledger))
	}
	a.Metrics.LedgerDrift.Set(float64(len(drifted)))
	outcome := Outcome{slog.Int("players_compared", len(sample.Players)), slog.Int("players_drifted", len(drifted))}

	entries, drifts, err := a.Ranking.Compare(ctx, windows, sample.Players)
	if err != nil {
		return outcome, fmt.Errorf("look for drift: %w", err)
	}
	a.compared.Store(&sample.Next)
	if len(drifts) > 0 {
		// Another sweep may have archived a window meanwhile, and dropped it from Redis.
		if windows, err = a.taking(ctx); err != nil {
			return outcome, fmt.Errorf("look for drift: %w", err)
		}
		drifts = slices.DeleteFunc(drifts, func(d leaderboard.Drift) bool {
			return !slices.Contains(windows, leaderboard.Window{Board: d.Board, ID: d.Window})
		})
	}
	a.Metrics.LeaderboardDrift.Set(float64(len(drifts)))
	outcome = append(outcome, slog.Int("entries_compared", entries), slog.Int("entries_drifted", len(drifts)))
	return outcome, a.rebuild(ctx, drifts)
}

// taking lists the windows that take entries by now, but not those that lie ahead.
func (a *Archive) taking(ctx context.Context) ([]leaderboard.Window, error) {
	set, err := a.Windows.Load(ctx, a.Windows.DB.Queries, false)
	if err != nil {
		return nil, err
	}
	var windows []leaderboard.Window
	now := a.Windows.Now()
	for board := range a.Catalog().Boards {
		ids := map[string]bool{}
		for _, at := range []time.Time{now, now.Add(-a.Windows.Grace())} { // the second finds those that are closing
			for _, w := range set.At(board, at) {
				if !ids[w.ID] {
					ids[w.ID] = true
					windows = append(windows, leaderboard.Window{Board: w.Board, ID: w.ID})
				}
			}
		}
	}
	return windows, nil
}

// rebuild makes the windows anew in which entries drifted.
func (a *Archive) rebuild(ctx context.Context, drifts []leaderboard.Drift) error {
	var problems []error
	for len(drifts) > 0 {
		n := 1
		for n < len(drifts) && drifts[n].Board == drifts[0].Board && drifts[n].Window == drifts[0].Window {
			n++
		}
		board, window := drifts[0].Board, drifts[0].Window
		a.Log.Warn("ranking drift", slog.String("board", board), slog.String("window", window), slog.Int("entries", n),
			slog.String("player_id", drifts[0].Player))
		if err := a.Ranking.Rebuild(ctx, board, window); err != nil {
			problems = append(problems, fmt.Errorf("window %s of board %s: %w", window, board, err))
		}
		drifts = drifts[n:]
	}
	return errors.Join(problems...)
}

// Served lists the windows that are not archived, those ahead too, for the rankings to hide players in.
func Served(windows *season.Windows) func(context.Context) ([]leaderboard.Window, error) {
	return func(ctx context.Context) ([]leaderboard.Window, error) {
		served, err := windows.Served(ctx, time.UnixMilli(math.MaxInt64))
		list := make([]leaderboard.Window, len(served))
		for i, w := range served {
			list[i] = leaderboard.Window{Board: w.Board, ID: w.ID}
		}
		return list, err
	}
}

// Standings gives the archive a window's entries in ranking order, each with its ranks. Hidden players have none and leave no
// gap. An archive never changes: who is hidden after it was made stays in it, and who is shown again does not come into it.
type Standings struct {
	Entries  leaderboard.Entries
	DB       *store.DB
	Rankings Rankings // nil: Redis serves nothing
	Log      *slog.Logger
}

// Rankings is where ranks were served from until the archive answers.
type Rankings interface {
	// Agree gives how many of some rows, at most 1000, stand otherwise in the ranking of a window, where they are the rows from
	// the index from on, from 0, of its final order. compared is false when it does not hold that stretch whole.
	Agree(ctx context.Context, board, window string, from int64, rows []leaderboard.Row) (mismatches int64, compared bool, err error)

	// Drop removes what there is of a window. What is gone already is no error.
	Drop(ctx context.Context, board, window string) error
}

// EachStanding streams the final standings of a window from SQL, and compares them with the rankings as far as these are
// there: what is wrong with them is told, and holds up no archive.
func (s Standings) EachStanding(
	ctx context.Context, q store.Queries, board, window string, each func(season.Standing) error,
) (mismatches *int64, err error) {
	c := comparison{Standings: s, board: board, window: window, on: s.Rankings != nil}
	var rank, tied, last int64
	err = s.Entries.Each(ctx, q, board, window, func(row leaderboard.Row) error {
		rank++
		if rank == 1 || row.Score != last {
			tied, last = rank, row.Score
		}
		c.add(ctx, row)
		return each(season.Standing{
			Rank: rank, TiedRank: tied, Player: row.Player, Score: row.Score, AchievedAt: row.AchievedAt, EventID: row.EventID, Metadata: row.Metadata,
		})
	})
	if err != nil {
		return nil, err
	}
	return c.end(ctx), nil
}

// Forget removes some of the entries of an archived window, and after the last of them its ranking. It is part of a step that is taken
// again until it succeeded, or the ranking of whoever is cut off would stay in Redis for ever.
func (s Standings) Forget(ctx context.Context, board, window string) (left bool, err error) {
	left, err = s.Entries.Forget(ctx, s.DB, board, window)
	if err != nil || left || s.Rankings == nil {
		return left, err
	}
	return false, s.Rankings.Drop(ctx, board, window)
}

// comparePage is how many rows are compared in one round trip.
const comparePage = 1000

// comparison holds what is archived against what was served, a page at a time. The first page that cannot be compared ends it.
type comparison struct {
	Standings
	board, window string
	on            bool
	from          int64 // the index of the first of rows
	rows          []leaderboard.Row
	mismatches    int64
}

func (c *comparison) add(ctx context.Context, row leaderboard.Row) {
	if !c.on {
		return
	}
	if c.rows = append(c.rows, row); len(c.rows) == comparePage {
		c.page(ctx)
	}
}

func (c *comparison) page(ctx context.Context) {
	mismatches, compared, err := c.Rankings.Agree(ctx, c.board, c.window, c.from, c.rows)
	if err != nil || !compared {
		c.on = false
		at := []any{slog.String("board", c.board), slog.String("window", c.window), slog.Int64("from", c.from)}
		if err != nil {
			at = append(at, slog.String("error", err.Error()))
		}
		c.Log.Warn("an archive is not compared with the ranking", at...)
		return
	}
	c.mismatches += mismatches
	c.from += int64(len(c.rows))
	c.rows = c.rows[:0]
}

// end compares what is left and gives how many rows stood otherwise, nil when not all were compared.
func (c *comparison) end(ctx context.Context) *int64 {
	if c.on && len(c.rows) > 0 {
		c.page(ctx)
	}
	if !c.on {
		return nil
	}
	return &c.mismatches
}
