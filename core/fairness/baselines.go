package fairness

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"

	"liveops/core/store"
)

// Baselines keeps what everybody scores.
type Baselines interface {
	// Count takes votes in. Those for a period of which anybody asked how it ended are lost.
	Count(ctx context.Context, votes map[Past]Histogram) error
	// Ended gives the votes of periods, the same ones whenever and by whomever they are asked for. Whoever asks first ends the
	// period. The histograms are not to be changed.
	Ended(ctx context.Context, wanted []Past) (map[Past]Histogram, error)
}

// Past is a period of a subject.
type Past struct {
	Subject string // an event type, or # and a board
	Start   int64  // minutes since 1970
	Width   int64  // minutes
}

// crowds remembers what the ended periods amount to. The zero value is ready.
type crowds struct {
	mu    sync.Mutex
	ended map[Past]Histogram
	sums  map[recent]crowd
}

// recent is as many of the periods before one as it takes to have enough votes, and not more than so many. So a game whose scores
// grow is compared with what they are, not with what they were.
type recent struct {
	Past
	periods int
	enough  int64
}

// remembers bounds the periods that are remembered: some hundred bins each.
const remembers = 4096

// look gives each view what everybody scored in the periods before its own, which is the same for all of them.
func (c *crowds) look(ctx context.Context, from Baselines, p *policy, views []*view) error {
	if !p.compared {
		return nil
	}
	crowds := map[subject]crowd{}
	for _, v := range views {
		if v.measured {
			crowds[v.subject] = crowd{}
		}
	}
	for s := range crowds {
		r := recent{Past{s.String(), views[0].period, p.width}, p.game.Fairness.Baseline.Periods, p.enough}
		known, err := c.of(ctx, from, r)
		if err != nil {
			return err
		}
		crowds[s] = known
	}
	for _, v := range views {
		v.crowd = crowds[v.subject]
	}
	return nil
}

func (c *crowds) of(ctx context.Context, from Baselines, r recent) (crowd, error) {
	c.mu.Lock()
	defer c.mu.Unlock() // the first of a period asks for all
	if known, ok := c.sums[r]; ok {
		return known, nil
	}
	if c.sums == nil || len(c.ended) > remembers || len(c.sums) > remembers {
		c.ended, c.sums = map[Past]Histogram{}, map[recent]crowd{}
	}
	var pasts, missing []Past
	for back := 1; back <= r.periods; back++ {
		past := Past{r.Subject, r.Start - int64(back)*r.Width, r.Width}
		pasts = append(pasts, past)
		if _, known := c.ended[past]; !known {
			missing = append(missing, past)
		}
	}
	found, err := from.Ended(ctx, missing)
	if err != nil {
		return crowd{}, err
	}
	maps.Copy(c.ended, found)
	sum := Histogram{}
	for _, past := range pasts {
		if sum.add(c.ended[past]); sum.votes() >= r.enough {
			break
		}
	}
	c.sums[r] = sum.crowd()
	return c.sums[r], nil
}

func (h Histogram) add(other Histogram) {
	for bin, votes := range other {
		h[bin] += votes
	}
}

// StoredBaselines counts the votes of running periods in Redis and keeps ended ones in SQL, in the table baseline, which it owns.
// Redis may lose running ones; then few had a say in them.
//
//	baseline:{subject}:width:start  hash  bin → votes, until the period has its row, or for 100 periods
type StoredBaselines struct {
	Redis redis.UniversalClient
	DB    *store.DB
}

func (p Past) key() string {
	return "baseline:{" + p.Subject + "}:" + strconv.FormatInt(p.Width, 10) + ":" + strconv.FormatInt(p.Start, 10)
}

// Count implements Baselines in one round trip.
func (b StoredBaselines) Count(ctx context.Context, votes map[Past]Histogram) error {
	if len(votes) == 0 {
		return nil
	}
	_, err := b.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for past, histogram := range votes {
			for bin, n := range histogram {
				pipe.HIncrBy(ctx, past.key(), strconv.Itoa(bin), n)
			}
			pipe.PExpire(ctx, past.key(), 100*time.Duration(past.Width)*time.Minute)
		}
		return nil
	})
	return store.RedisError("count votes", err)
}

// Ended implements Baselines. A period ends with its row: of several who end it, the first one's stays.
func (b StoredBaselines) Ended(ctx context.Context, wanted []Past) (map[Past]Histogram, error) {
	ended, err := b.read(ctx, wanted)
	if err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(slices.Clone(wanted), func(p Past) bool { _, there := ended[p]; return there })
	if len(missing) == 0 {
		return ended, nil
	}
	if err := b.end(ctx, missing); err != nil {
		return nil, err
	}
	more, err := b.read(ctx, missing)
	maps.Copy(ended, more)
	return ended, err
}

func baselineTable() store.Table {
	return store.Table{Name: "baseline", Columns: []string{"subject", "width", "starts", "votes"}, Key: []string{"subject", "width", "starts"}}
}

func (b StoredBaselines) read(ctx context.Context, wanted []Past) (map[Past]Histogram, error) {
	found := make(map[Past]Histogram, len(wanted))
	if len(wanted) == 0 {
		return found, nil
	}
	var args []any
	for _, past := range wanted {
		args = append(args, past.Subject, past.Width, past.Start)
	}
	query := "SELECT subject, width, starts, votes FROM baseline WHERE (subject, width, starts) IN " + b.DB.Dialect.In(len(wanted), 3)
	err := b.DB.Each(ctx, query, args, func(scan func(...any) error) error {
		var past Past
		var text string
		if err := scan(&past.Subject, &past.Width, &past.Start, &text); err != nil {
			return err
		}
		var votes Histogram
		err := json.Unmarshal([]byte(text), &votes)
		found[past] = votes
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read baselines: %w", err)
	}
	return found, nil
}

// end writes the votes of running periods down.
func (b StoredBaselines) end(ctx context.Context, pasts []Past) error {
	replies := make([]*redis.MapStringStringCmd, len(pasts))
	_, err := b.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, past := range pasts {
			replies[i] = pipe.HGetAll(ctx, past.key())
		}
		return nil
	})
	if err != nil {
		return store.RedisError("end baselines", err)
	}
	rows := make([][]any, len(pasts))
	for i, past := range pasts {
		votes := Histogram{}
		for bin, n := range replies[i].Val() {
			at, err := strconv.Atoi(bin)
			if err != nil {
				return fmt.Errorf("end baseline %s: %w", past.key(), err)
			}
			if votes[at], err = strconv.ParseInt(n, 10, 64); err != nil {
				return fmt.Errorf("end baseline %s: %w", past.key(), err)
			}
		}
		text, err := json.Marshal(votes, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("end baseline %s: %w", past.key(), err)
		}
		rows[i] = []any{past.Subject, past.Width, past.Start, string(text)}
	}
	// In one order everywhere, so that two replicas wait for each other instead of deadlocking.
	slices.SortFunc(rows, func(a, b []any) int {
		if c := strings.Compare(a[0].(string), b[0].(string)); c != 0 { //nolint:forcetypeassert // set above
			return c
		}
		return int(a[2].(int64) - b[2].(int64)) //nolint:forcetypeassert // set above; both are minutes
	})
	if err := baselineTable().InsertMissing(ctx, b.DB.Queries, rows); err != nil {
		return fmt.Errorf("end %d baselines: %w", len(rows), err)
	}
	_, err = b.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, past := range pasts {
			pipe.Del(ctx, past.key())
		}
		return nil
	})
	return store.RedisError("end baselines", err)
}
