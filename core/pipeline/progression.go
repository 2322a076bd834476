package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/tracing"
)

// Progression gives events their effect: once, whatever is repeated or cut.
type Progression struct {
	Catalog  func() *catalog.Catalog
	Ledger   *progression.Ledger
	Players  *progression.Cache
	Mailbox  *mailbox.Mailbox
	Receipts func() *receipt.Keys // those in force
	Windows  *season.Windows
	Entries  leaderboard.Entries
	Ranking  *leaderboard.Ranking
	Rejected rejector
	Metrics  *Metrics
	Now      func() time.Time
	Log      *slog.Logger
}

// Apply handles one batch of the queue "progression". One SQL transaction holds the whole effect: ledger, balances, items,
// mails, receipts and leaderboard entries. After the commit the players' cached states are dropped and the rankings written from the
// rows as they then are, also for events that had their effect before, so that a repeat repairs what a crash left out.
func (p *Progression) Apply(ctx context.Context, batch []bus.Message) (Outcome, error) {
	events, trace, aside := decode("progression", batch)
	var scores []leaderboard.Score
	var rows []leaderboard.Row
	effects, err := p.Ledger.Apply(ctx, events, func(tx *store.Tx, effects []*progression.Effect) error {
		var err error
		if scores, err = p.scores(ctx, tx, effects); err != nil {
			return err
		}
		// No note is added from here on, so the receipts are signed while the database works.
		var issued []receipt.Issued
		var signing errgroup.Group
		signing.Go(func() (err error) {
			issued, err = sign(p.Receipts(), effects)
			return err
		})
		rows, err = p.Entries.Merge(ctx, tx, scores)
		if err := cmp.Or(signing.Wait(), err); err != nil {
			return err
		}
		if err := receipt.Store(ctx, tx, issued); err != nil {
			return err
		}
		return p.Mailbox.SendIn(ctx, tx, mails(effects), p.Catalog().Rewards.Claim.Std())
	})
	if err != nil {
		return nil, err
	}
	fresh := p.countApplied(effects)
	if err := p.Players.Forget(ctx, players(events)); err != nil {
		return nil, err
	}
	if err := p.Ranking.Project(ctx, rows); err != nil {
		return nil, err
	}
	p.countRanked(effects, trace, scores, rows)
	if err := p.Rejected.Put(ctx, aside); err != nil {
		return nil, err
	}
	p.countHandled(len(effects)-fresh, aside)
	tell(ctx, p.Log, "applied", trace, events, func(i int) []slog.Attr {
		e := effects[i]
		return []slog.Attr{slog.Bool("fresh", e.Fresh), slog.Int64("xp", e.XP), slog.Int("grants", len(e.Grants)), slog.Int("notes", len(e.Notes))}
	})
	return Outcome{
		slog.Int("applied", fresh), slog.Int("repeated", len(effects)-fresh),
		slog.Int("invalid", len(aside)), slog.Int("ranked", len(rows)),
	}, nil
}

// players lists the players of a batch, each once.
func players(events []event.Accepted) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.PlayerID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// scores finds the windows that each submitted score counts in. A fresh score that counts in none is noted in the ledger.
func (p *Progression) scores(ctx context.Context, tx *store.Tx, effects []*progression.Effect) ([]leaderboard.Score, error) {
	windows, err := p.Windows.Load(ctx, tx.Queries, true)
	if err != nil {
		return nil, err
	}
	current, calendars := p.Catalog(), map[string]*season.Calendar{}
	scores := make([]leaderboard.Score, 0, 4*len(effects)) // mostly enough
	for _, effect := range effects {
		e := effect.Event
		if e.Type != event.ScoreSubmitted {
			continue
		}
		submitted, _ := e.Text("board")
		points, ok := e.Int("score")
		if !ok { // the gateway lets none in, but it may have had another catalog
			if effect.Fresh {
				effect.Notes = append(effect.Notes, progression.Note{Code: fault.FieldType, Ref: "score"})
			}
			continue
		}
		for _, board := range current.Fed(submitted) {
			open := taking(windows, board, e)
			if effect.Fresh {
				closed, err := missed(current, calendars, board, e, open)
				if err != nil {
					return nil, err
				}
				if closed > 0 {
					effect.Notes = append(effect.Notes, progression.Note{Code: fault.WindowClosed, Ref: board, Amount: closed})
				}
			}
			metadata, err := kept(current.Boards[board].Entry, e.Event)
			if err != nil {
				return nil, err
			}
			for _, w := range open {
				scores = append(scores, leaderboard.Score{
					Board: board, Window: w.ID, Player: e.PlayerID, Score: points,
					At: e.At, Seq: e.Seq, EventID: e.ID, Metadata: metadata, Fresh: effect.Fresh,
				})
			}
		}
	}
	return scores, nil
}

// taking gives the windows of a board that an event's time lies in and that take entries; of these only the one it names, where it
// names one.
func taking(windows season.Set, board string, e event.Accepted) []season.Window {
	open := windows.At(board, e.At)
	named, names := e.Data[event.WindowID]
	return slices.DeleteFunc(open, func(w season.Window) bool { return names && w.ID != named })
}

// kept gives the fields of an event that the entries of a board keep, as a JSON object in their order; "" where it has none. What is
// not as small as the catalog has it, because the gateway had another one, is left out.
func kept(fields []string, e event.Event) (string, error) {
	var members []string
	for _, field := range fields {
		value, has := e.Data[field]
		if n, is := e.Int(field); is {
			value = n
		}
		switch value.(type) {
		case string, bool, int64:
		default:
			has = false
		}
		if !has {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("keep field %s of a score: %w", field, err)
		}
		members = append(members, strconv.Quote(field)+":"+string(text))
	}
	object := "{" + strings.Join(members, ",") + "}"
	if len(members) == 0 || utf8.RuneCountInString(object) > leaderboard.MaxMetadata {
		return "", nil
	}
	return object, nil
}

// missed counts the windows of a board that an event would count in and that are closed to it: the one it names, or those that its
// time lies in. Between two seasons there is no season window, so none is missed. The calendar is only asked where a cadence
// has no open window.
func missed(c *catalog.Catalog, calendars map[string]*season.Calendar, board string, e event.Accepted, open []season.Window) (int64, error) {
	if _, names := e.Data[event.WindowID]; names {
		return int64(1 - min(1, len(open))), nil
	}
	var closed int64
	for _, cadence := range c.Boards[board].Windows {
		if slices.ContainsFunc(open, func(w season.Window) bool { return w.Cadence == cadence }) {
			continue
		}
		calendar, known := calendars[board]
		if !known {
			var err error
			if calendar, err = season.NewCalendar(board, c.Boards[board], c.Seasons); err != nil {
				return 0, err
			}
			calendars[board] = calendar
		}
		if _, is := calendar.At(cadence, e.At); is {
			closed++
		}
	}
	return closed, nil
}

// countApplied counts what the commit did, and gives the number of fresh effects. It comes before anything that may fail:
// when the batch comes again, its effects are no longer fresh.
func (p *Progression) countApplied(effects []*progression.Effect) int {
	fresh, receipts := counted(effects)
	p.Metrics.ProgressionEvents.WithLabelValues(eventApplied).Add(float64(fresh))
	p.Metrics.ReceiptsIssued.Add(float64(receipts))
	return fresh
}

// countRanked counts what became visible in the rankings.
func (p *Progression) countRanked(effects []*progression.Effect, trace map[string]string, scores []leaderboard.Score, rows []leaderboard.Row) {
	ranked := map[[2]string]bool{}
	for _, s := range scores {
		if s.Fresh {
			ranked[[2]string{s.Player, s.EventID}] = true
		}
	}
	for _, effect := range effects {
		if e := effect.Event; effect.Fresh && ranked[[2]string{e.PlayerID, e.ID}] {
			own := tracing.Continue(context.Background(), trace[e.Identity()]) // not that of the batch
			tracing.Observe(own, p.Metrics.EventToRank, p.Now().Sub(e.ReceivedAt).Seconds())
		}
	}
	p.Metrics.LeaderboardUpdates.Add(float64(len(rows)))
}

// countHandled counts what had no effect, once the whole batch is done with.
func (p *Progression) countHandled(repeated int, aside []rejected.Rejection) {
	p.Metrics.ProgressionEvents.WithLabelValues(eventRepeated).Add(float64(repeated))
	p.Metrics.ProgressionEvents.WithLabelValues(eventInvalid).Add(float64(len(aside)))
	for _, r := range aside {
		p.Metrics.Dropped.WithLabelValues(string(r.Code)).Inc()
	}
}
