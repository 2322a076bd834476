package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/signing"
	"liveops/core/tracing"
)

// future is how far ahead of the gateway's clock a trusted sender may date an event.
const future = 5 * time.Minute

// Statuses of one event of a request.
const (
	StatusAccepted  = "accepted"
	StatusDuplicate = "duplicate"
	StatusRejected  = "rejected"
	StatusThrottled = "throttled"
)

// Gateway takes signed events in. It answers 202 for an event only after the broker confirmed it.
type Gateway struct {
	Catalog func() *catalog.Catalog
	Gate    *gate.Gate
	Bus     bus.Publisher
	Queue   string
	Now     func() time.Time
	Log     *slog.Logger
}

// Submission is a request whose signature is verified, with its body not yet looked at.
type Submission struct {
	Key     signing.Key
	Request signing.Request
	Route   string // scope of the idempotency key
	Batch   bool   // the body is {"events": […]} instead of one event
}

// Result is what became of one event, in the order of the request.
type Result struct {
	EventID    string        `json:"event_id"`
	Status     string        `json:"status"`
	Code       fault.Code    `json:"code,omitempty"`
	RetryAfter int64         `json:"retry_after,omitempty"` // seconds
	DecisionID string        `json:"decision_id,omitempty"`
	Errors     []fault.Field `json:"errors,omitempty"`
}

// Accept passes a submission through the gate and publishes what may pass: of the events that their players' rates have room for,
// those among the first ones that the rate of the key has room for. The answer is stored under the idempotency key
// and given again, byte for byte, to a repeat of the request, which replayed tells apart. With an error the answer holds
// nothing but headers that belong on the problem.
func (g *Gateway) Accept(ctx context.Context, s Submission) (answer gate.Answer, replayed bool, err error) {
	items, unreadable := g.read(s)
	players, slots := byPlayer(items, s.Key.Player)

	pass, err := g.Gate.Enter(ctx, gate.Entry{
		KeyID: s.Key.ID, KeyClass: string(s.Key.Class), Nonce: s.Request.Nonce, Scope: s.Route, IdempotencyKey: s.Request.IdempotencyKey,
		Fingerprint: signing.Fingerprint(s.Request), Players: players, Sent: len(items),
		Session: s.Key.Class == signing.Session, Generation: s.Key.Generation,
	})
	if err != nil {
		return gate.Answer{}, false, err
	}
	if pass.Replay != nil {
		return *pass.Replay, true, nil
	}
	leaving := gate.Leaving{}
	defer func() {
		// The lease is given back, or the answer stored, even when the caller is gone. When Redis cannot be told, the lease
		// runs out by itself, and a repeat of the request does no harm.
		if left := g.Gate.Leave(context.WithoutCancel(ctx), pass, leaving); left != nil {
			g.Log.LogAttrs(ctx, slog.LevelWarn, "leave the gate", slog.String("error", left.Error()))
		}
	}()
	if !pass.Key.Admits(0) {
		return gate.Answer{Header: RateHeaders(limits(pass))}, false, KeyExceeded(pass.Key)
	}
	if unreadable != nil {
		return gate.Answer{}, false, unreadable
	}

	results, admitted := rule(items, slots, pass)
	if len(admitted) == 0 && !repeats(results) {
		return gate.Answer{Header: RateHeaders(limits(pass))}, false, nothing(s.Batch, results, items, pass)
	}
	if err := g.publish(ctx, s, admitted); err != nil {
		return gate.Answer{}, false, err
	}
	answer, err = accepted(results, RateHeaders(limits(pass)))
	if err != nil {
		return gate.Answer{}, false, err
	}
	leaving = gate.Leaving{Answer: &answer, Accepted: identities(admitted)}
	return answer, false, nil
}

// item is one event of a request on its way through the gate.
type item struct {
	event event.Event
	err   error
	first int // where the same identity stands earlier in the request; -1: nowhere
}

// read decodes and checks a submission's events. The error is about the body as a whole.
func (g *Gateway) read(s Submission) ([]item, error) {
	var decoded []event.Item
	var err error
	if s.Batch {
		decoded, err = event.DecodeBatch(s.Request.Body)
	} else {
		var e event.Event
		if e, err = event.Decode(s.Request.Body); err == nil {
			decoded = []event.Item{{Event: e}}
		}
	}
	if err != nil {
		return nil, err
	}
	current, now := g.Catalog(), g.Now()
	seen := make(map[string]int, len(decoded))
	items := make([]item, len(decoded))
	for i, d := range decoded {
		items[i] = item{event: d.Event, err: d.Err, first: -1}
		switch {
		case s.Key.Player != "" && d.Event.PlayerID != s.Key.Player && event.ValidPlayerID(d.Event.PlayerID):
			items[i].err = &fault.Error{
				Code: fault.OutOfScope, Detail: "the key speaks for another player",
				Fields: []fault.Field{{Pointer: "/player_id", Code: fault.OutOfScope}},
			}
		case d.Err == nil:
			items[i].err = current.Check(d.Event)
		}
		if items[i].err == nil && s.Key.Class == signing.Server && d.Event.OccurredAt.After(now.Add(future)) {
			items[i].err = &fault.Error{
				Code: fault.InFuture, Detail: "occurred_at is more than 5 minutes ahead of the server's clock",
				Fields: []fault.Field{{Pointer: "/occurred_at", Code: fault.InFuture}},
			}
		}
		if items[i].err != nil {
			continue
		}
		if first, twice := seen[d.Event.Identity()]; twice {
			items[i].first = first
		} else {
			seen[d.Event.Identity()] = i
		}
	}
	return items, nil
}

// slot says where an item's ruling is found: its player's, and its place among the player's events; -1 where there is none.
type slot struct{ player, event int }

// byPlayer groups the events that the gate must rule on, in order of first appearance. A player whose events are all bad is
// among them without any: he may be blocked, which comes before what is wrong with an event, and where the gate keeps a
// request depends on its players, who must be the same for the same bytes whatever the catalog and the clock say. The request of a
// session's key is about its player, only, whatever it sends.
func byPlayer(items []item, only string) (players []gate.Player, slots []slot) {
	index := map[string]int{}
	if only != "" {
		players, index[only] = []gate.Player{{ID: only}}, 0
	}
	slots = make([]slot, len(items))
	for i, it := range items {
		slots[i] = slot{-1, -1}
		if !event.ValidPlayerID(it.event.PlayerID) || only != "" && it.event.PlayerID != only {
			continue
		}
		p, known := index[it.event.PlayerID]
		if !known {
			p = len(players)
			index[it.event.PlayerID] = p
			players = append(players, gate.Player{ID: it.event.PlayerID})
		}
		slots[i].player = p
		if it.err != nil || it.first >= 0 {
			continue
		}
		slots[i].event = len(players[p].Events)
		players[p].Events = append(players[p].Events, gate.Event{ID: it.event.ID, Type: it.event.Type})
	}
	return players, slots
}

// rule turns the gate's rulings into results and gives the events that may pass.
func rule(items []item, slots []slot, pass gate.Pass) ([]Result, []event.Event) {
	results := make([]Result, len(items))
	var admitted []event.Event
	for i, it := range items {
		results[i] = Result{EventID: it.event.ID}
		r := &results[i]
		var ruling gate.Ruling
		if slots[i].player >= 0 {
			ruling = pass.Players[slots[i].player]
		}
		switch {
		case ruling.Blocked != nil:
			r.Status, r.Code, r.DecisionID = StatusRejected, fault.PlayerBlocked, ruling.Blocked.DecisionID
		case it.err != nil:
			f := fault.Of(it.err)
			r.Status, r.Code, r.Errors = StatusRejected, f.Code, f.Fields
		case it.first >= 0: // its fate is the first one's, so that nobody takes a throttled event for done
			*r = results[it.first]
			if r.Status == StatusAccepted {
				r.Status = StatusDuplicate
			}
		default:
			switch verdict := ruling.Events[slots[i].event]; {
			case verdict == gate.Duplicate:
				r.Status = StatusDuplicate
			case verdict == gate.Throttled:
				r.Status, r.Code, r.RetryAfter = StatusThrottled, fault.RateExceeded, seconds(ruling.RetryAfter)
			case !pass.Key.Admits(i): // the player was charged in the same trip, which cannot be helped
				r.Status, r.Code, r.RetryAfter = StatusThrottled, fault.RateExceeded, seconds(pass.Key.RetryAfter)
			case verdict == gate.Admitted:
				r.Status = StatusAccepted
				admitted = append(admitted, it.event)
			}
		}
	}
	return results, admitted
}

func repeats(results []Result) bool {
	for _, r := range results {
		if r.Status == StatusDuplicate {
			return true
		}
	}
	return false
}

func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// nothing is the fault of a request of which no event was taken: the event's own when it was sent alone.
func nothing(batch bool, results []Result, items []item, pass gate.Pass) error {
	blocked := len(pass.Players) == 1 && pass.Players[0].Blocked != nil
	if !batch && !blocked && items[0].err != nil {
		return items[0].err
	}
	f := fault.NothingTaken.Errorf("none of the %d events was accepted, results says why", len(results))
	var wait time.Duration
	for _, ruling := range pass.Players {
		wait = max(wait, ruling.RetryAfter)
	}
	switch throttled := slices.ContainsFunc(results, func(r Result) bool { return r.Status == StatusThrottled }); {
	case blocked:
		f = pass.Players[0].Blocked.Fault()
	case wait > 0:
		f = fault.RateExceeded.Errorf("too many events of the player in too short a time, try again later").After(wait)
	case throttled:
		f = KeyExceeded(pass.Key)
	}
	if batch {
		if f.Extra == nil {
			f.Extra = map[string]any{}
		}
		f.Extra["results"] = results
	}
	return f
}

// KeyExceeded is the fault of a request that is over the rate of its key.
func KeyExceeded(a *gate.Allowance) *fault.Error {
	return fault.RateExceeded.Errorf("too many events and reads under this key in too short a time, try again later").After(a.RetryAfter)
}

// publish sends the admitted events on their way and returns when the broker has them all.
func (g *Gateway) publish(ctx context.Context, s Submission, admitted []event.Event) error {
	if len(admitted) == 0 {
		return nil
	}
	now := g.Now().UTC().Truncate(time.Millisecond)
	events := make([]event.Accepted, len(admitted))
	trace, request := map[string]string{}, tracing.Traceparent(ctx)
	for i, e := range admitted {
		at := now
		if s.Key.Class == signing.Server {
			at = e.OccurredAt
		}
		events[i] = event.Accepted{Event: e, At: at, ReceivedAt: now, KeyID: s.Key.ID}
		if request != "" {
			trace[e.Identity()] = request
		}
	}
	out, err := messages(events, trace)
	if err != nil {
		return err
	}
	return publish(ctx, g.Bus, g.Queue, out)
}

// accepted is the answer 202.
func accepted(results []Result, header map[string]string) (gate.Answer, error) {
	count := 0
	for _, r := range results {
		if r.Status == StatusAccepted {
			count++
		}
	}
	body, err := json.Marshal(struct {
		Accepted int      `json:"accepted"`
		Results  []Result `json:"results"`
	}{count, results})
	if err != nil {
		return gate.Answer{}, err
	}
	header["Content-Type"] = "application/json"
	return gate.Answer{Status: 202, Header: header, Body: body}, nil
}

// limits are those a request fell under: its player's and its key's. Those of several players are left out, because the
// headers could not say whose they are.
func limits(pass gate.Pass) []gate.Limit {
	var list []gate.Limit
	if len(pass.Players) == 1 {
		list = pass.Players[0].Limits
	}
	if pass.Key != nil {
		list = append(list, pass.Key.Limit)
	}
	return list
}

// RateHeaders are those of draft-ietf-httpapi-ratelimit-headers, a member for each limit; none where there is no limit.
func RateHeaders(limits []gate.Limit) map[string]string {
	header := map[string]string{}
	if len(limits) == 0 {
		return header
	}
	var policies, states []string
	for _, l := range limits {
		policies = append(policies, fmt.Sprintf("%q;q=%d;w=%d", l.Policy, l.Quota, seconds(l.Window)))
		states = append(states, fmt.Sprintf("%q;r=%d;t=%d", l.Policy, l.Remaining, seconds(l.Reset)))
	}
	header["RateLimit-Policy"], header["RateLimit"] = strings.Join(policies, ", "), strings.Join(states, ", ")
	return header
}

// identities lists the events by player, for the gate to remember.
func identities(events []event.Event) []gate.Player {
	items := make([]item, len(events))
	for i, e := range events {
		items[i] = item{event: e, first: -1}
	}
	players, _ := byPlayer(items, "")
	return players
}
