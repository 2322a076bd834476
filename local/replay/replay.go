// Package replay plays recorded events into a gateway as a game server would: signed, in batches, each player's in order,
// waiting as told when it is too fast. It knows the public HTTP API and nothing behind it.
package replay

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"liveops/core/event"
	"liveops/core/signing"
)

// Player plays recordings. URL and Key are required. It is safe for concurrent use.
type Player struct {
	URL         string           // of the gateway, without a path
	Key         signing.Key      // active, with a secret
	Batch       int              // events a request, at most event.MaxBatch; 0: event.MaxBatch
	Concurrency int              // requests at a time; 0: 4
	Retries     int              // how often a request is sent again that was not answered, or with 409, 429, 502, 503 or 504
	Client      *http.Client     // nil: http.DefaultClient
	Now         func() time.Time // what requests are dated by; nil: time.Now
	Progress    func(done int)   // called after every request, concurrently, with the number of events it settled; may be nil
}

// Read reads NDJSON events, passing over empty lines. An unreadable line is an error that names it.
func Read(r io.Reader) ([]event.Event, error) {
	var events []event.Event
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 2*event.MaxSize) // so that what is over the limit of an event is mostly refused as an event
	n := 1
	for ; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		e, err := event.Decode(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		events = append(events, e)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: longer than any event may be", n)
	} else if err != nil {
		return nil, err
	}
	return events, nil
}

// Restamp moves a recording in time so that its last event happens at end, to the millisecond. The distances between
// events stay.
func Restamp(events []event.Event, end time.Time) {
	var last time.Time
	for _, e := range events {
		if e.OccurredAt.After(last) {
			last = e.OccurredAt
		}
	}
	shift := end.Truncate(time.Millisecond).Sub(last)
	for i := range events {
		events[i].OccurredAt = events[i].OccurredAt.Add(shift)
	}
}

// Play sends all events and reports what became of them. It stops at the first request that cannot succeed; the report then
// covers what was settled before.
func (p *Player) Play(ctx context.Context, events []event.Event) (*Report, error) {
	now := p.Now
	if now == nil {
		now = time.Now
	}
	return p.timed(now, func(s *sender) error {
		lanes, err := p.lanes(events, p.concurrency())
		if err != nil {
			return err
		}
		return p.run(ctx, lanes, s)
	})
}

// timed reports what was sent through a sender whose requests are dated by now.
func (p *Player) timed(now func() time.Time, play func(*sender) error) (*Report, error) {
	report := &Report{Rejected: map[string]int{}}
	s := &sender{
		url: strings.TrimSuffix(p.URL, "/") + "/v1/events/batch", key: p.Key, retries: p.Retries,
		http: cmp.Or(p.Client, http.DefaultClient), watch: watch{now: now}, report: report,
	}
	started := time.Now()
	err := play(s)
	report.Elapsed = time.Since(started)
	return report, err
}

// run runs the lanes side by side until each has ended.
func (p *Player) run(ctx context.Context, lanes []*lane, s *sender) error {
	progress := p.Progress
	if progress == nil {
		progress = func(int) {}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range lanes {
		group.Go(func() error { return l.run(ctx, s, progress) })
	}
	return group.Wait()
}

func (p *Player) concurrency() int { return cmp.Or(max(0, p.Concurrency), 4) }

func (p *Player) batch() int { return cmp.Or(min(max(0, p.Batch), event.MaxBatch), event.MaxBatch) }

// lanes deals the events out to n lanes by player, so that one lane, which has one request under way at a time, keeps a
// player's order.
func (p *Player) lanes(events []event.Event, n int) ([]*lane, error) {
	lanes := make([]*lane, n)
	for i := range lanes {
		lanes[i] = &lane{limit: p.batch(), now: time.Now, held: map[string]*hold{}}
	}
	for i, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i+1, err)
		}
		l := lanes[spread(e.PlayerID)%uint32(len(lanes))]
		l.waiting = append(l.waiting, queued{player: e.PlayerID, text: text})
	}
	return lanes, nil
}
