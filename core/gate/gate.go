// Package gate decides in Redis about a request whose signature is proven: was its nonce used, is it a repeat of an earlier
// one, is the player blocked, has he sent too much. It costs one round trip for a request about one player and two for a
// batch of many. It knows ids, fingerprints and instants only: not what an event says, nor what comes of it. Nothing may
// depend on it for correctness: what Redis loses is decided again behind the queue, where the ledger is.
package gate

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
)

// MaxAnswer is the largest answer, in bytes of its headers and body, that is kept for a repeat.
const MaxAnswer = 1 << 20

// maxSeen is how many event ids are remembered of a player: the sustained rate of some minutes. A forgotten one costs work
// behind the queue, nothing else.
const maxSeen = 5_000

// sessionFor is how long the generation of a player's keys is kept.
const sessionFor = 24 * time.Hour

// Gate keeps its state in Redis, under these keys. Each has a time to live. The keys of one script share a hash tag,
// unless OneNode says that they need not.
//
//	gate:{slot}:nonce:<key id>:<nonce>  string  the token of the request that used the nonce; NonceFor
//	gate:{slot}:request:<digest>        hash    a request under an idempotency key, see request.lua; AnswerFor
//	gate:{player}:block                 hash    the block and the ban of a player; until both end
//	gate:{player}:rate                  hash    policy name → when its whole quota is there again, µs, and now → the latest
//	                                            instant that was ruled by, µs; until a minute later
//	gate:{player}:seen                  zset    event id → until when it counts as seen, ms; SeenFor, at most 5,000
//	gate:{player}:session               string  the generation of the keys of the player's sessions; a day
//	gate:{k.<key id>}:rate              hash    the same as of a player, of a signing key that has a rate
//
// The slot of a request about one player is the player, so that all six are in one place; of any other request it is "r."
// and a digest of key id, scope and idempotency key, or of key id and nonce where there is no idempotency key. So the
// same idempotency key may be used once for every player, and a nonce too. Neither weakens anything: the same bytes
// always come to the same slot.
//
// Leases, blocks, rates and seen ids are compared with Now, not with the clock of Redis, whose times to live only clean up
// behind them. The clocks of replicas should therefore agree to well below the lease. A clock that is fast by d takes over a
// lease and ends a block d too early, and gives out what a player would regain in d; the slow ones make him wait for it. Rates
// forgive 5 seconds: within those, the latest clock a player met counts, and never more than his rates gets through. A clock
// that is faster than that gives out the whole quota whenever it comes after another one. A nonce lives by the clock of Redis
// alone: no replica's clock can shorten it.
//
// It is safe for concurrent use.
type Gate struct {
	Redis     redis.UniversalClient
	OneNode   bool                    // Redis is no cluster: one script may take the keys of many players, which is cheaper
	Catalog   func() *catalog.Catalog // the rates in force: of players, event types and keys
	Now       func() time.Time        // nil: time.Now
	NonceFor  time.Duration           // twice the skew a signature may have; 0: 10 min
	LeaseFor  time.Duration           // the longest an execution takes before another may try; 0: 30 s
	AnswerFor time.Duration           // 0: 24 h
	SeenFor   time.Duration           // 0: 1 h

	// Generation is asked for the generation of the keys of a player's sessions when Redis does not have it, so that a Redis that
	// was lost revives no key. It is needed where sessions sign requests.
	Generation func(ctx context.Context, player string) (int64, error)
}

// Entry is a request that asks to come in.
type Entry struct {
	KeyID          string   // of the key that signed it
	KeyClass       string   // decides on the key's rate when there is none for its id
	Nonce          string   //
	Scope          string   // the route; idempotency keys of different routes have nothing to do with each other
	IdempotencyKey string   // "": a read, which has no lease and no stored answer
	Fingerprint    [32]byte // what must be equal for two requests under one idempotency key to be the same
	Players        []Player // whom it is about, each once
	Sent           int      // how many events it sends, good and bad; at least 1 is charged to the key
	Session        bool     // the key is one of a session of the only player
	Generation     int64    // of that key
}

// Player is a player and his events, in order and without repeats.
type Player struct {
	ID     string
	Events []Event
}

// Event is what the gate knows of an event.
type Event struct {
	ID   string
	Type string // decides which rate it falls under beside those of every event
}

// Pass is what Enter found. Either Replay is set, or the request is to be executed and then to Leave.
type Pass struct {
	Replay  *Answer    // the stored answer of the same request: send it, do nothing
	Key     *Allowance // nil: the key has no limit
	Players []Ruling   // one for each player of the entry, in order; none when the key admits nothing

	request, token string // the key under which a lease is held, and by which token; "" without a lease
}

// Ruling is what a player may do.
type Ruling struct {
	Blocked    *Block        // nil: not blocked
	Events     []Verdict     // one for each event of the player, in order
	Limits     []Limit       // burst, sustained and those of the types of the events, after this request; none when blocked
	RetryAfter time.Duration // when something is throttled: until those of it would pass that pass where every rate is whole
}

// Verdict is what becomes of one event.
type Verdict uint8

// The verdicts.
const (
	Refused   Verdict = iota // the player is blocked
	Admitted                 // charged to the player's rates
	Duplicate                // accepted before, costs nothing
	Throttled                // over a rate, costs nothing
)

// Limit is where a player stands with one rate, as the RateLimit headers tell it.
type Limit struct {
	Policy    string // burst, sustained, or events. and a type
	Quota     int
	Window    time.Duration
	Remaining int
	Reset     time.Duration // until the whole quota is there again
}

// Answer is an HTTP answer kept for a repeat of its request, the body byte for byte.
type Answer struct {
	Status int
	Header map[string]string // those worth repeating
	Body   []byte
}

// Leaving is what came of a request.
type Leaving struct {
	Answer   *Answer  // nil: nothing is stored, and the request may be tried again at once
	Accepted []Player // events to remember as seen
}

// Block keeps a player out.
type Block struct {
	Reason     string
	Until      time.Time // exclusive, to the millisecond
	DecisionID string
	Ban        bool // set by an operator; it stands beside an automatic block and is told instead of it
}

// Fault is what the player, or who speaks for him, is told. Why a block came is not, but for a ban: an operator's words are meant
// for him, a rule's name would tell how far he may go.
func (b Block) Fault() *fault.Error {
	until := b.Until.UTC().Format(time.RFC3339)
	f := fault.PlayerBlocked.Errorf("the player is blocked until %s", until)
	f.Extra = map[string]any{"blocked_until": until}
	if b.DecisionID != "" {
		f.Extra["decision_id"] = b.DecisionID
	}
	if b.Ban {
		f.Extra["reason"] = b.Reason
	}
	return f
}

// Enter lets a request in, once. A repeat of a finished one gets the stored answer, whether its nonce is new or not.
// Otherwise it is an error, and no player is charged: fault.NonceReplayed, fault.IdempotencyInFlight while the first one is
// being executed (until LeaseFor is over), fault.IdempotencyReused when the idempotency key belongs to another
// fingerprint, fault.SessionRevoked when the player's keys are of a later generation, fault.RedisUnavailable. The generation of a
// player's keys is asked for when Redis does not have it, once a day, which costs another round trip.
//
// A blocked player or a throttled event is no error: the rulings say so. A player's events are ruled on in order: one passes
// when all rates it falls under have room, and is charged to all of them; otherwise it is charged to none, and a later one of
// another type may pass.
//
// A key's rate is charged in the same round trip, before it is known whether the request enters: a repeat costs the key, too.
// The events that the key has no room for may be charged to their players all the same. After an error of Redis the rates may
// have been charged and the nonce used.
func (g *Gate) Enter(ctx context.Context, e Entry) (Pass, error) {
	game := g.Catalog()
	rates, err := newRates(game, e.Players)
	if err != nil {
		return Pass{}, err
	}
	for _, p := range e.Players {
		if !event.ValidPlayerID(p.ID) {
			return Pass{}, errors.New("enter: no player can have that id") // it would break out of its hash tag
		}
	}
	key, limited, err := keyPolicy(game.Fairness, e.KeyID, e.KeyClass)
	if err != nil {
		return Pass{}, err
	}
	if e.Session && len(e.Players) != 1 {
		return Pass{}, fmt.Errorf("enter: a session's key speaks for one player, not for %d", len(e.Players))
	}
	if strings.ContainsAny(e.KeyID, "{}") {
		return Pass{}, errors.New("enter: no key can have that id")
	}
	now, token := clock(g.Now), rand.Text()
	pass := Pass{token: token}
	fingerprint := ""
	nonce, request := e.keys()
	if e.IdempotencyKey != "" {
		fingerprint, pass.request = string(e.Fingerprint[:]), request
	}
	first := call{enterScript, []string{nonce, request}, []any{
		now.UnixMilli(), token, cmp.Or(g.NonceFor, 10*time.Minute).Milliseconds(),
		fingerprint, cmp.Or(g.LeaseFor, 30*time.Second).Milliseconds(), g.answerFor().Milliseconds(),
	}}
	together := len(e.Players) == 1 || g.OneNode
	if together {
		all := rates.call(e.Players, now)
		first = call{enterAllScript, append(first.keys, all.keys...), append(first.args, all.args...)}
	}
	if e.Session {
		first = first.ofSession(e)
	}
	calls, sent := []call{first}, max(1, e.Sent)
	if limited {
		calls = append(calls, keyCall(key, e.KeyID, sent, now))
	}
	answers, err := g.run(ctx, "enter", calls...)
	if err == nil && e.Session {
		answers[0], err = g.tell(ctx, first, e.Players[0].ID, answers[0])
	}
	if err != nil {
		if limited { // the key's part may have failed alone
			g.giveUp(ctx, pass)
		}
		return Pass{}, err
	}
	outcome, ok := answers[0].([]any)
	if !ok || len(outcome) == 0 {
		return Pass{}, fmt.Errorf("enter: the script answered %T", answers[0])
	}
	switch outcome[0] {
	case "revoked":
		return Pass{}, fault.SessionRevoked.Errorf("the keys of the player's sessions were revoked")
	case "nonce":
		return Pass{}, fault.NonceReplayed.Errorf("the nonce was used before; sign the request again with a new one")
	case "flying":
		return Pass{}, fault.IdempotencyInFlight.Errorf("a request with this idempotency key is being executed").After(time.Second)
	case "reused":
		return Pass{}, fault.IdempotencyReused.Errorf("the idempotency key was used for a request with another method, path, query or body")
	case "replay":
		answer, err := storedAnswer(outcome[1])
		return Pass{Replay: answer}, err
	}
	if limited {
		if pass.Key, err = key.allowance(answers[1], sent); err != nil {
			return Pass{}, fmt.Errorf("enter: %w", err)
		}
	}
	if !pass.Key.Admits(0) {
		return pass, nil
	}
	answers = outcome[1:]
	if !together {
		calls = make([]call, len(e.Players))
		for i := range e.Players {
			calls[i] = rates.call(e.Players[i:i+1], now)
		}
		if answers, err = g.run(ctx, "enter", calls...); err != nil {
			g.giveUp(ctx, pass)
			return Pass{}, err
		}
	}
	var rulings []any
	for _, answer := range answers {
		some, _ := answer.([]any)
		rulings = append(rulings, some...)
	}
	if len(rulings) != len(e.Players) {
		return Pass{}, fmt.Errorf("enter: %d rulings on %d players", len(rulings), len(e.Players))
	}
	pass.Players = make([]Ruling, len(e.Players))
	for i, p := range e.Players {
		if pass.Players[i], err = rates.ruling(p, rulings[i]); err != nil {
			return Pass{}, fmt.Errorf("enter: %w", err)
		}
	}
	return pass, nil
}

// tell asks for the generation of a player's keys when the script said that Redis does not have it, and runs the script
// again with it.
func (g *Gate) tell(ctx context.Context, session call, player string, answer any) (any, error) {
	outcome, _ := answer.([]any)
	if len(outcome) == 0 || outcome[0] != "generation" {
		return answer, nil
	}
	generation, err := g.Generation(ctx, player)
	if err != nil {
		return nil, err
	}
	session.args = slices.Clone(session.args)
	session.args[len(session.args)-1] = generation
	answers, err := g.run(ctx, "enter", session)
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// giveUp gives back the lease of a request that did not get in after all. If this does not succeed either, the lease runs out.
func (g *Gate) giveUp(ctx context.Context, pass Pass) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = g.Leave(ctx, pass, Leaving{})
}

// Leave ends what Enter let in, in one round trip: the answer is stored for repeats, or the lease given up, and the accepted
// events are remembered. A lease that ran out and was taken over is left alone. Call it with a context that outlives the
// client's. An answer over MaxAnswer is an error and counts as none.
func (g *Gate) Leave(ctx context.Context, pass Pass, l Leaving) error {
	var calls []call
	var tooLarge error
	if pass.request != "" {
		if size := l.Answer.size(); size > MaxAnswer {
			tooLarge = fmt.Errorf("leave: an answer of %d bytes is not kept", size)
			l.Answer = nil
		}
		if l.Answer == nil {
			calls = append(calls, call{releaseScript, []string{pass.request}, []any{pass.token}})
		} else {
			calls = append(calls, call{
				storeScript,
				[]string{pass.request},
				append([]any{pass.token, g.answerFor().Milliseconds()}, l.Answer.fields()...),
			})
		}
	}
	accepted := slices.DeleteFunc(slices.Clone(l.Accepted), func(p Player) bool { return len(p.Events) == 0 })
	if g.OneNode && len(accepted) > 0 {
		calls = append(calls, g.seenCall(accepted))
	} else {
		for i := range accepted {
			calls = append(calls, g.seenCall(accepted[i:i+1]))
		}
	}
	if len(calls) == 0 {
		return nil
	}
	if _, err := g.run(ctx, "leave", calls...); err != nil {
		return err
	}
	return tooLarge
}

// Block puts a player on the block list. It may be repeated, and come late: a block that ends no later than the one in
// place changes nothing, and one that is over does nothing. Bans are compared with bans, and automatic blocks with automatic
// ones: neither shortens the other. A block must end; for one that should not, choose a distant end.
func (g *Gate) Block(ctx context.Context, player string, b Block) error {
	if !event.ValidPlayerID(player) || b.Until.IsZero() {
		return errors.New("block: a player and an end are needed")
	}
	left := b.Until.Sub(clock(g.Now)).Milliseconds()
	if left <= 0 {
		return nil
	}
	_, err := g.run(ctx, "block", call{
		blockScript,
		[]string{playerKey(player, "block")},
		[]any{b.Until.UnixMilli(), left, b.Reason, b.DecisionID, blockFields(b.Ban)},
	})
	return err
}

// Unblock lifts a player's ban, or else his automatic block, and leaves the other. It may be repeated.
func (g *Gate) Unblock(ctx context.Context, player string, ban bool) error {
	kind := blockFields(ban)
	return store.RedisError("unblock", g.Redis.HDel(ctx, playerKey(player, "block"), kind+"until", kind+"reason", kind+"decision").Err())
}

// Revoke lets no key of a player's sessions in that is of an earlier generation. It may be repeated, and come late: a generation
// that is no later than the one in place changes nothing.
func (g *Gate) Revoke(ctx context.Context, generations map[string]int64) error {
	var calls []call
	for player, generation := range generations {
		if !event.ValidPlayerID(player) {
			return errors.New("revoke: no player can have that id")
		}
		calls = append(calls, call{revokeScript, []string{playerKey(player, "session")}, []any{generation, sessionFor.Milliseconds()}})
	}
	if len(calls) == 0 {
		return nil
	}
	_, err := g.run(ctx, "revoke", calls...)
	return err
}

// blockFields is what stands before the names of the fields of a ban, or of an automatic block.
func blockFields(ban bool) string {
	if ban {
		return "ban."
	}
	return ""
}

func clock(now func() time.Time) time.Time {
	if now == nil {
		return time.Now()
	}
	return now()
}

func (g *Gate) answerFor() time.Duration { return cmp.Or(g.AnswerFor, 24*time.Hour) }

// keys are where a request's nonce and its idempotency key are kept.
func (e Entry) keys() (nonce, request string) {
	name := digest(e.KeyID, e.Scope, e.IdempotencyKey)
	slot := "r." + name // a player's id has no dot
	switch {
	case len(e.Players) == 1:
		slot = e.Players[0].ID
	case e.IdempotencyKey == "":
		slot = "r." + digest(e.KeyID, e.Nonce)
	}
	return "gate:{" + slot + "}:nonce:" + e.KeyID + ":" + e.Nonce, "gate:{" + slot + "}:request:" + name
}

// digest makes a short name of fixed length out of texts without line feeds.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func playerKey(player, what string) string { return "gate:{" + player + "}:" + what }

func (g *Gate) seenCall(players []Player) call {
	now, seenFor := clock(g.Now), cmp.Or(g.SeenFor, time.Hour)
	c := call{script: seenScript, args: []any{now.UnixMilli(), now.Add(seenFor).UnixMilli(), seenFor.Milliseconds(), maxSeen}}
	for _, p := range players {
		c.keys = append(c.keys, playerKey(p.ID, "seen"))
		c.args = p.appendEvents(c.args)
	}
	return c
}

// appendEvents adds the events as scripts read them: how many, then their ids.
func (p Player) appendEvents(args []any) []any {
	args = append(args, len(p.Events))
	for _, e := range p.Events {
		args = append(args, e.ID)
	}
	return args
}

func (a *Answer) size() int {
	if a == nil {
		return 0
	}
	size := len(a.Body)
	for name, value := range a.Header {
		size += len(name) + len(value)
	}
	return size
}

// fields are the answer as request.lua's record has it.
func (a *Answer) fields() []any {
	fields := []any{"s", a.Status, "b", a.Body}
	if a.Body == nil {
		fields[3] = ""
	}
	for name, value := range a.Header {
		fields = append(fields, "h:"+name, value)
	}
	return fields
}

func storedAnswer(record any) (*Answer, error) {
	fields, err := texts(record)
	if err != nil {
		return nil, fmt.Errorf("read a stored answer: %w", err)
	}
	answer := &Answer{Header: map[string]string{}}
	for i := 0; i+1 < len(fields); i += 2 {
		name, header := strings.CutPrefix(fields[i], "h:")
		switch {
		case header:
			answer.Header[name] = fields[i+1]
		case name == "s":
			if answer.Status, err = strconv.Atoi(fields[i+1]); err != nil {
				return nil, fmt.Errorf("read a stored answer: %w", err)
			}
		case name == "b":
			answer.Body = []byte(fields[i+1])
		}
	}
	return answer, nil
}
