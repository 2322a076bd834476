package fairness

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/store"
)

// retention is how long what is known of a player is kept after his last event: longer than a catalog's longest interval
// of 24 hours, and than anything stays on a queue.
const retention = 25 * time.Hour

//go:embed judge.lua
var judgeText string

// judge measures a player's events. See judge.lua for its keys, arguments and result.
var judge = redis.NewScript(judgeText)

// Ladder judges events by the rules of the catalog. It owns the Redis keys fairness:{player}, one hash for each player.
//
// What it knows of a player is bounded: the last 512 verdicts, 64 instants for each event type with an interval, 512
// scores in two hours for each board with a velocity (of more, the older are joined, and may leave the hour too early).
// When Redis loses it, events are judged with less history, and an
// event that is delivered again may be judged anew.
type Ladder struct {
	Redis   redis.UniversalClient
	Catalog func() *catalog.Catalog
	Now     func() time.Time
}

// Judge gives one decision for each event, in the order given. A player's events are judged in that order, each against
// those that counted before it; what was denied or throttled does not count, and neither do later events (by effective
// time) for the points of a window. An event that was judged before changes nothing and gets the same decision, whatever
// the catalog says by now; only one that no rule had a limit for is not remembered.
//
// It takes one exchange with Redis, which is fault.Unavailable when it does not answer; then judge the batch again.
func (l *Ladder) Judge(ctx context.Context, batch []event.Accepted) ([]Decision, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	now := strconv.FormatInt(l.Now().UnixMilli(), 10)
	calls, err := calls(batch, l.Catalog(), now)
	if err != nil {
		return nil, err
	}
	if err := l.exchange(ctx, calls); err != nil {
		return nil, store.RedisError("judge events", err)
	}
	decisions := make([]Decision, len(batch))
	for _, c := range calls {
		found, err := c.found.Slice()
		if err != nil {
			return nil, store.RedisError("judge events", err)
		}
		if len(found) != len(c.events) {
			return nil, fmt.Errorf("judge events: %d answers for %d events", len(found), len(c.events))
		}
		for i, n := range c.events {
			text, known := found[i].(string)
			if !known {
				text = now
			}
			if decisions[n], err = decision(batch[n].Event, text); err != nil {
				return nil, err
			}
		}
	}
	return decisions, nil
}

// call is the events of one player.
type call struct {
	key     string
	ids     []any
	events  []int // their places in the batch
	args    []any
	limited bool       // whether any rule has a limit for any of them
	found   *redis.Cmd // for each event what was found; nil: nothing, and nothing to remember
}

// calls gathers what there is to ask about each player.
func calls(batch []event.Accepted, c *catalog.Catalog, now string) ([]*call, error) {
	var calls []*call
	players := make(map[string]*call, len(batch))
	for n, e := range batch {
		p, ok := players[e.PlayerID]
		if !ok {
			p = &call{key: "fairness:{" + e.PlayerID + "}", args: []any{now, retention.Milliseconds()}}
			players[e.PlayerID] = p
			calls = append(calls, p)
		}
		limits, findings := ask(e, c)
		p.events, p.ids = append(p.events, n), append(p.ids, e.ID)
		p.limited = p.limited || len(limits) > 0
		p.args = append(p.args, e.ID, e.At.UnixMilli(), len(limits))
		for i, limit := range limits {
			text, err := json.Marshal(findings[i])
			if err != nil {
				return nil, fmt.Errorf("write a finding: %w", err)
			}
			finding := string(text)
			if limit.by != byKnown {
				finding = strings.TrimSuffix(finding, "0}")
			}
			drops := 0
			if findings[i].acts().drops() {
				drops = 1
			}
			p.args = append(p.args, limit.by, limit.of, limit.points, limit.window.Milliseconds(), limit.limit, drops, finding)
		}
	}
	return calls, nil
}

// exchange asks about every player in one pipeline: by the script, or, where no rule has a limit, only for what is
// remembered. Where a server does not know the script yet, everything is sent again with its text: what was judged by then
// stays as it is.
func (l *Ladder) exchange(ctx context.Context, calls []*call) error {
	send := func(run func(ctx context.Context, on redis.Scripter, keys []string, args ...any) *redis.Cmd) error {
		_, err := l.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, c := range calls {
				if c.limited {
					c.found = run(ctx, pipe, []string{c.key}, c.args...)
				} else {
					c.found = pipe.Do(ctx, append([]any{"HMGET", c.key}, c.ids...)...)
				}
			}
			return nil
		})
		return err
	}
	err := send(judge.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = send(judge.Eval)
	}
	return err
}

// decision reads what the script found on an event, now or when it first came.
func decision(e event.Event, found string) (Decision, error) {
	lines := strings.Split(found, "\n")
	at, err := strconv.ParseInt(lines[0], 10, 64)
	if err != nil {
		return Decision{}, fmt.Errorf("read the judgement of %s: %w", e.Identity(), err)
	}
	var findings []Finding
	for _, line := range lines[1:] {
		var f Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			return Decision{}, fmt.Errorf("read the judgement of %s: %w", e.Identity(), err)
		}
		findings = append(findings, f)
	}
	return decide(e, findings, time.UnixMilli(at).UTC()), nil
}
