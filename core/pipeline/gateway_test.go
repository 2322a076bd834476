package pipeline_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/pipeline"
	"liveops/core/signing"
	"liveops/core/store/storetest"
	"liveops/core/tracing"
)

// statuses are the results of an answer, in order.
func statuses(t *testing.T, body []byte) []string {
	t.Helper()
	var read struct {
		Results []struct{ Status string } `json:"results"`
	}
	require.NoError(t, json.Unmarshal(body, &read))
	var list []string
	for _, r := range read.Results {
		list = append(list, r.Status)
	}
	return list
}

func TestGatewayAnswersEveryEvent(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		_, _, err := p.gateway.Accept(t.Context(), submission("before", false, xpText("old", "dan", 5)))
		require.NoError(t, err)
		until := noon.Add(time.Hour)
		require.NoError(t, p.gate.Block(t.Context(), "eve", gate.Block{Reason: "impossible-value", Until: until, DecisionID: "d1"}))

		body := batchText(
			xpText("a", "ada", 5), xpText("a", "ada", 6), xpText("b", "bob", 5), xpText("c", "bob", 5), xpText("d", "bob", 5),
			xpText("e", "bob", 5), xpText("f", "bob", 5), xpText("g", "bob", 5), xpText("g", "bob", 5),
			xpText("old", "dan", 5), xpText("x", "eve", 5), text("z", "eve", "nonsense", noon, `{}`), `{"event_id":"y","player_id":"fay"}`, `17`)
		s := submission("k", true, body)
		const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		answer, replayed, err := p.gateway.Accept(tracing.Continue(t.Context(), traceparent), s)
		require.NoError(t, err)
		require.False(t, replayed)
		require.Equal(t, 202, answer.Status)
		require.Equal(t, map[string]string{"Content-Type": "application/json"}, answer.Header)
		require.JSONEq(t, `{"accepted":6,"results":[
			{"event_id":"a","status":"accepted"},
			{"event_id":"a","status":"duplicate"},
			{"event_id":"b","status":"accepted"},
			{"event_id":"c","status":"accepted"},
			{"event_id":"d","status":"accepted"},
			{"event_id":"e","status":"accepted"},
			{"event_id":"f","status":"accepted"},
			{"event_id":"g","status":"throttled","code":"rate-limited","retry_after":1},
			{"event_id":"g","status":"throttled","code":"rate-limited","retry_after":1},
			{"event_id":"old","status":"duplicate"},
			{"event_id":"x","status":"rejected","code":"player-blocked","decision_id":"d1"},
			{"event_id":"z","status":"rejected","code":"player-blocked","decision_id":"d1"},
			{"event_id":"y","status":"rejected","code":"event-invalid","errors":[
				{"pointer":"/type","code":"field-missing","detail":"required"},
				{"pointer":"/occurred_at","code":"field-missing","detail":"required, RFC 3339"},
				{"pointer":"/data","code":"field-missing","detail":"required, an object"}]},
			{"event_id":"","status":"rejected","code":"event-invalid","errors":[{"pointer":"","code":"field-type","detail":"must be an object"}]}
		]}`, string(answer.Body))

		queued := p.queued(t, "events")
		var ids []string
		for _, m := range queued[1:] {
			ids = append(ids, m.ID)
			require.Equal(t, "application/json", m.ContentType)
			require.Equal(t, map[string]string{"traceparent": traceparent}, m.Properties)
		}
		require.Equal(t, []string{"ada.a", "bob.b", "bob.c", "bob.d", "bob.e", "bob.f"}, ids)
		e, err := event.DecodeAccepted(queued[1].Body)
		require.NoError(t, err)
		amount, _ := e.Int("amount")
		require.Equal(t, int64(5), amount, "of two events with one identity the first counts")
		require.Equal(t, "k-server", e.KeyID)
	})
}

func TestGatewayReplaysByteForByte(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		s := submission("k", false, xpText("a", "ada", 5))
		first, replayed, err := p.gateway.Accept(t.Context(), s)
		require.NoError(t, err)
		require.False(t, replayed)
		require.JSONEq(t, `{"accepted":1,"results":[{"event_id":"a","status":"accepted"}]}`, string(first.Body))
		require.Equal(t, map[string]string{
			"Content-Type":     "application/json",
			"RateLimit-Policy": `"burst";q=5;w=1, "sustained";q=100;w=60`,
			"RateLimit":        `"burst";r=4;t=1, "sustained";r=99;t=1`,
		}, first.Header)
		for _, nonce := range []string{s.Request.Nonce, signing.NewNonce()} {
			s.Request.Nonce = nonce
			again, replayed, err := p.gateway.Accept(t.Context(), s)
			require.NoError(t, err)
			require.True(t, replayed)
			require.Equal(t, first, again)
		}
		require.Len(t, p.queued(t, "events"), 1)

		// Under another idempotency key it is a duplicate, which is a success too.
		again, replayed, err := p.gateway.Accept(t.Context(), submission("other", false, xpText("a", "ada", 5)))
		require.NoError(t, err)
		require.False(t, replayed)
		require.JSONEq(t, `{"accepted":0,"results":[{"event_id":"a","status":"duplicate"}]}`, string(again.Body))
		require.Len(t, p.queued(t, "events"), 1)
	})
}

// The same bytes are the same request, also when the clock or the catalog would by now judge one of its events otherwise.
func TestGatewayReplaysWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		ahead := text("b", "bob", event.XPGained, noon.Add(5*time.Minute+time.Second), `{"amount":5,"source":"match"}`)
		s := submission("k", true, batchText(xpText("a", "ada", 5), ahead))
		first, _, err := p.gateway.Accept(t.Context(), s)
		require.NoError(t, err)
		require.Contains(t, string(first.Body), `"code":"occurred-at-in-future"`)
		p.at(noon.Add(2 * time.Second))
		again, replayed, err := p.gateway.Accept(t.Context(), s)
		require.NoError(t, err)
		require.True(t, replayed)
		require.Equal(t, first, again)

		alone := submission("k2", false, text("c", "cyd", event.XPGained, noon.Add(5*time.Minute+3*time.Second), `{"amount":5,"source":"match"}`))
		_, _, err = p.gateway.Accept(t.Context(), alone)
		require.ErrorIs(t, err, fault.InFuture)
		p.at(noon.Add(4 * time.Second))
		_, _, err = p.gateway.Accept(t.Context(), alone)
		require.ErrorIs(t, err, fault.NonceReplayed, "a refused request cannot be sent again by somebody else")
	})
}

func TestGatewayStoresNothingWhenTheBrokerIsDown(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		for _, op := range []string{"publish", "published"} {
			p := newPath(t, nil, rdb)
			down := fault.BusUnavailable.Wrap(errDown, "down")
			p.bus.Fail(func(is, _ string) error {
				if is == op {
					return down
				}
				return nil
			})
			s := submission("k-"+op, true, batchText(xpText("a-"+op, "ada", 5), xpText("b-"+op, "bob", 5)))
			answer, replayed, err := p.gateway.Accept(t.Context(), s)
			require.ErrorIs(t, err, fault.Unavailable)
			require.False(t, replayed)
			require.Zero(t, answer.Status)

			p.bus.Fail(nil)
			s.Request.Nonce = signing.NewNonce()
			answer, replayed, err = p.gateway.Accept(t.Context(), s)
			require.NoError(t, err)
			require.False(t, replayed, "nothing was stored under the idempotency key")
			require.Equal(t, []string{"accepted", "accepted"}, statuses(t, answer.Body), "nothing was marked as seen")
			want := 2
			if op == "published" {
				want = 4 // the broker had them; duplicate detection and the ledger sort it out
			}
			require.Len(t, p.queued(t, "events"), want)
		}
	})
}

// A gateway that dies between the broker's confirmation and the gate leaves a lease behind. When it has run out, the repeat
// publishes again, and the event counts once.
func TestGatewayDiesAfterPublishing(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	p.layOut(t)
	p.bus.Fail(func(op, _ string) error {
		if op == "published" {
			server.SetError("LOADING gone")
		}
		return nil
	})
	s := submission("k", false, xpText("a", "ada", 5))
	answer, _, err := p.gateway.Accept(t.Context(), s)
	require.NoError(t, err, "the broker has the event: the client may know")
	require.Equal(t, 202, answer.Status)
	server.SetError("")
	p.bus.Fail(nil)

	s.Request.Nonce = signing.NewNonce()
	_, _, err = p.gateway.Accept(t.Context(), s)
	require.ErrorIs(t, err, fault.IdempotencyInFlight)
	p.at(noon.Add(31 * time.Second))
	s.Request.Nonce = signing.NewNonce()
	again, replayed, err := p.gateway.Accept(t.Context(), s)
	require.NoError(t, err)
	require.False(t, replayed)
	require.Equal(t, []string{"accepted"}, statuses(t, again.Body))
	require.Len(t, p.queued(t, "events"), 2)

	p.settle(t)
	require.Equal(t, []string{"player: ada | 5 | 1 | 1"}, p.rows(t, "player"))
	require.Len(t, p.rows(t, "ledger"), 1)
}

func TestGatewayOneRequestAtATime(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		publishing, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
		p.bus.Fail(func(op, _ string) error {
			if op == "publish" {
				close(publishing)
				<-release
			}
			return nil
		})
		s := submission("k", false, xpText("a", "ada", 5))
		go func() {
			_, _, err := p.gateway.Accept(t.Context(), s)
			done <- err
		}()
		<-publishing
		second := s
		second.Request.Nonce = signing.NewNonce()
		_, _, err := p.gateway.Accept(t.Context(), second)
		require.ErrorIs(t, err, fault.IdempotencyInFlight)
		require.Equal(t, time.Second, fault.Of(err).RetryAfter)
		close(release)
		require.NoError(t, <-done)
		require.Len(t, p.queued(t, "events"), 1)
	})
}

func TestGatewayTakesNothing(t *testing.T) {
	t.Parallel()
	bad := text("bad", "ada", event.XPGained, noon, `{"amount":0.5,"source":"match"}`)
	many := make([]string, 6)
	for i := range many {
		many[i] = xpText(fmt.Sprintf("m%d", i), "bob", 5)
	}
	for name, test := range map[string]struct {
		batch   bool
		body    string
		code    fault.Code
		after   time.Duration
		results []string // of a batch
		extra   []string // further members
		rate    bool
	}{
		"malformed":               {body: `{`, code: fault.MalformedJSON},
		"malformed batch":         {batch: true, body: `{"events":`, code: fault.MalformedJSON},
		"bad event":               {body: bad, code: fault.EventInvalid, rate: true},
		"unreadable event":        {body: `[]`, code: fault.EventInvalid},
		"batch of bad events":     {batch: true, body: batchText(bad, `{}`), code: fault.NothingTaken, results: []string{"rejected", "rejected"}, rate: true},
		"blocked":                 {body: xpText("a", "eve", 5), code: fault.PlayerBlocked, extra: []string{"blocked_until", "decision_id"}},
		"blocked, bad event":      {body: text("a", "eve", "nonsense", noon, `{}`), code: fault.PlayerBlocked, extra: []string{"blocked_until", "decision_id"}},
		"blocked batch":           {batch: true, body: batchText(xpText("a", "eve", 5)), code: fault.PlayerBlocked, results: []string{"rejected"}, extra: []string{"blocked_until", "decision_id"}},
		"blocked, the same twice": {batch: true, body: batchText(xpText("a", "eve", 5), xpText("a", "eve", 5)), code: fault.PlayerBlocked, results: []string{"rejected", "rejected"}, extra: []string{"blocked_until", "decision_id"}},
		"blocked and bad":         {batch: true, body: batchText(xpText("a", "eve", 5), bad), code: fault.NothingTaken, results: []string{"rejected", "rejected"}},
		"throttled":               {body: many[5], code: fault.RateExceeded, after: 200 * time.Millisecond, rate: true},
		"throttled batch":         {batch: true, body: batchText(many[5], many[5]), code: fault.RateExceeded, after: 200 * time.Millisecond, results: []string{"throttled", "throttled"}, rate: true},
		"throttled and bad":       {batch: true, body: batchText(many[5], bad), code: fault.RateExceeded, after: 200 * time.Millisecond, results: []string{"throttled", "rejected"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, _ := storetest.Miniredis(t)
			p := newPath(t, nil, rdb)
			require.NoError(t, p.gate.Block(t.Context(), "eve", gate.Block{Reason: "x", Until: noon.Add(time.Hour), DecisionID: "d1"}))
			_, _, err := p.gateway.Accept(t.Context(), submission("fill", true, batchText(many[:5]...)))
			require.NoError(t, err)

			s := submission("k", test.batch, test.body)
			answer, replayed, err := p.gateway.Accept(t.Context(), s)
			require.ErrorIs(t, err, test.code)
			require.False(t, replayed)
			require.Zero(t, answer.Status)
			require.Equal(t, test.rate, answer.Header["RateLimit"] != "")
			f := fault.Of(err)
			require.Equal(t, test.after, f.RetryAfter)
			results, _ := f.Extra["results"].([]pipeline.Result)
			var got []string
			for _, r := range results {
				got = append(got, r.Status)
			}
			require.Equal(t, test.results, got)
			for _, name := range test.extra {
				require.NotEmpty(t, f.Extra[name], name)
			}
			if test.code == fault.PlayerBlocked {
				require.Equal(t, "d1", f.Extra["decision_id"])
				require.Equal(t, "2026-11-22T13:00:00Z", f.Extra["blocked_until"])
			}
			require.Len(t, p.queued(t, "events"), 5, "nothing of it was published")

			// Nothing is stored, but the nonce is used up, and that is said before anything about the body.
			s.Request.Nonce = signing.NewNonce()
			_, replayed, err = p.gateway.Accept(t.Context(), s)
			require.ErrorIs(t, err, test.code)
			require.False(t, replayed)
			_, _, err = p.gateway.Accept(t.Context(), s)
			require.ErrorIs(t, err, fault.NonceReplayed)
		})
	}
}

func TestGatewayKeepsToTheRatesOfTypes(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		xp := p.game.Events[event.XPGained]
		xp.Rate = catalog.Rate{Events: 1, Per: catalog.Duration(30 * time.Second)}
		p.game.Events[event.XPGained] = xp
		answer, _, err := p.gateway.Accept(t.Context(), submission("k", true, batchText(
			xpText("a", "ada", 5), xpText("b", "ada", 5), text("c", "ada", event.ScoreSubmitted, noon, `{"board":"points","score":5}`))))
		require.NoError(t, err)
		require.Equal(t, `"burst";q=5;w=1, "sustained";q=100;w=60, "events.xp_gained";q=1;w=30`, answer.Header["RateLimit-Policy"])
		require.Equal(t, `"burst";r=3;t=1, "sustained";r=98;t=2, "events.xp_gained";r=0;t=30`, answer.Header["RateLimit"])
		require.JSONEq(t, `{"accepted":2,"results":[
			{"event_id":"a","status":"accepted"},
			{"event_id":"b","status":"throttled","code":"rate-limited","retry_after":30},
			{"event_id":"c","status":"accepted"}]}`, string(answer.Body))
		require.Len(t, p.queued(t, "events"), 2)
	})
}

// The first events of a request that its key has room for may pass, whoever they are of. Where there is room for none, nothing is
// stored, and the request may come again.
func TestGatewayKeepsToTheRateOfTheKey(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		p.game.Fairness.Keys = map[string]catalog.Rate{"server": {Events: 6, Per: catalog.Duration(time.Minute)}}
		_, _, err := p.gateway.Accept(t.Context(), submission("before", false, xpText("old", "ada", 5)))
		require.NoError(t, err)

		body := batchText(xpText("a", "ada", 5), xpText("b", "bob", 5), `17`, xpText("c", "ada", 5), xpText("d", "bob", 5),
			xpText("e", "cyd", 5), xpText("a", "ada", 5), xpText("old", "ada", 5), `18`)
		s := submission("k", true, body)
		answer, _, err := p.gateway.Accept(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, []string{"accepted", "accepted", "rejected", "accepted", "accepted", "throttled", "duplicate", "duplicate", "rejected"}, statuses(t, answer.Body))
		require.Contains(t, string(answer.Body), `{"event_id":"e","status":"throttled","code":"rate-limited","retry_after":40}`)
		require.Equal(t, `"key";q=6;w=60`, answer.Header["RateLimit-Policy"], "not whose of the players")
		require.Equal(t, `"key";r=0;t=60`, answer.Header["RateLimit"])
		require.Len(t, p.queued(t, "events"), 5)

		s.Request.Nonce = signing.NewNonce()
		again, replayed, err := p.gateway.Accept(t.Context(), s)
		require.NoError(t, err)
		require.True(t, replayed, "a stored answer needs no room")
		require.Equal(t, answer, again)

		for _, more := range []pipeline.Submission{
			submission("one", false, xpText("f", "ada", 5)), submission("many", true, batchText(xpText("f", "ada", 5), xpText("f", "bob", 5))),
			submission("bad", false, `{`),
		} {
			for range 2 { // the lease was given back
				more.Request.Nonce = signing.NewNonce()
				answer, _, err = p.gateway.Accept(t.Context(), more)
				require.ErrorIs(t, err, fault.RateExceeded)
				require.Equal(t, `"key";r=0;t=60`, answer.Header["RateLimit"])
				require.Positive(t, fault.Of(err).RetryAfter)
				require.Zero(t, answer.Status)
			}
		}
		require.Len(t, p.queued(t, "events"), 5)
		p.at(noon.Add(10 * time.Second))
		first := submission("one", false, xpText("f", "ada", 5))
		answer, _, err = p.gateway.Accept(t.Context(), first)
		require.NoError(t, err)
		require.Contains(t, answer.Header["RateLimit"], `"burst";r=4;t=1, "sustained"`)
		require.Contains(t, answer.Header["RateLimit"], `, "key";r=0;t=60`)
	})
}

// A request whose only event that could pass lies behind what its key has room for is over the rate of the key.
func TestGatewayTakesNothingBehindTheRateOfTheKey(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, nil, rdb)
	p.game.Fairness.Keys = map[string]catalog.Rate{"k-server": {Events: 1, Per: catalog.Duration(time.Minute)}}
	_, _, err := p.gateway.Accept(t.Context(), submission("k", true, batchText(`17`, xpText("a", "ada", 5))))
	require.ErrorIs(t, err, fault.RateExceeded)
	require.Equal(t, time.Minute, fault.Of(err).RetryAfter)
	results, _ := fault.Of(err).Extra["results"].([]pipeline.Result)
	require.Len(t, results, 2)
	require.Empty(t, p.queued(t, "events"))
}

func TestGatewayTellsABannedPlayerWhy(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		require.NoError(t, p.gate.Block(t.Context(), "eve", gate.Block{Reason: "impossible-value", Until: noon.Add(48 * time.Hour), DecisionID: "d1"}))
		require.NoError(t, p.gate.Block(t.Context(), "eve", gate.Block{Reason: "sold the account", Until: noon.Add(time.Hour), Ban: true}))
		_, _, err := p.gateway.Accept(t.Context(), submission("k", false, xpText("a", "eve", 5)))
		require.ErrorIs(t, err, fault.PlayerBlocked)
		require.Equal(t, map[string]any{"blocked_until": "2026-11-22T13:00:00Z", "reason": "sold the account"}, fault.Of(err).Extra)
	})
}

func TestGatewayChecksTheKeyOfARequestFirst(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		p := newPath(t, nil, rdb)
		_, _, err := p.gateway.Accept(t.Context(), submission("k", false, xpText("a", "ada", 5)))
		require.NoError(t, err)
		// Another body for the same player under the same key, however bad it is and however blocked he is.
		require.NoError(t, p.gate.Block(t.Context(), "ada", gate.Block{Until: noon.Add(time.Hour), DecisionID: "d"}))
		_, _, err = p.gateway.Accept(t.Context(), submission("k", false, text("b", "ada", "nonsense", noon, `{}`)))
		require.ErrorIs(t, err, fault.IdempotencyReused)
		// Another route has keys of its own.
		other := submission("k", false, xpText("b", "ada", 5))
		other.Route = "POST /v1/other"
		_, _, err = p.gateway.Accept(t.Context(), other)
		require.ErrorIs(t, err, fault.PlayerBlocked)
	})
}

func TestEffectiveTime(t *testing.T) {
	t.Parallel()
	long := noon.Add(-48 * time.Hour)
	for name, test := range map[string]struct {
		class    signing.Class
		occurred time.Time
		at       time.Time
		code     fault.Code
	}{
		"a server is believed":            {signing.Server, long, long, ""},
		"a server, just not the future":   {signing.Server, noon.Add(5 * time.Minute), noon.Add(5 * time.Minute), ""},
		"a server, the future":            {signing.Server, noon.Add(5*time.Minute + time.Millisecond), time.Time{}, fault.InFuture},
		"a client is not":                 {signing.Client, long, noon, ""},
		"a client, whatever it claims of": {signing.Client, noon.Add(24 * time.Hour), noon, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, _ := storetest.Miniredis(t)
			p := newPath(t, nil, rdb)
			p.at(noon.Add(999 * time.Microsecond)) // what is not a whole millisecond is cut off
			s := submission("k", false, text("a", "ada", event.XPGained, test.occurred, `{"amount":5,"source":"match"}`))
			s.Key = key(test.class)
			_, _, err := p.gateway.Accept(t.Context(), s)
			if test.code != "" {
				require.ErrorIs(t, err, test.code)
				require.Empty(t, p.queued(t, "events"))
				return
			}
			require.NoError(t, err)
			e, err := event.DecodeAccepted(p.queued(t, "events")[0].Body)
			require.NoError(t, err)
			require.Equal(t, test.at, e.At)
			require.Equal(t, noon, e.ReceivedAt)
			require.Equal(t, test.occurred, e.OccurredAt)
		})
	}
}

func TestGatewayWithoutRedis(t *testing.T) {
	t.Parallel()
	p := newPath(t, nil, deadRedis(t))
	_, _, err := p.gateway.Accept(t.Context(), submission("k", false, xpText("a", "ada", 5)))
	require.ErrorIs(t, err, fault.RedisUnavailable)
	require.Empty(t, p.queued(t, "events"), "fails closed")
}
