package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/pipeline"
	"liveops/core/season"
	"liveops/core/signing"
	"liveops/handler/azfunc"
	"liveops/handler/web"
)

// smallBody bounds the bodies of routes that take no events, in bytes.
const smallBody = 32 << 10

// functions ties the queue and timer functions of functions/ to their stages.
func (a *App) functions() *azfunc.Server {
	server := &azfunc.Server{
		Log: a.options.Log, Registerer: a.registry, Tracer: a.tracer, Now: a.options.Now, HTTP: a.edge,
		Deadline: invocationDeadline, Hold: a.config.Hold, Drain: drain, MaxBody: maxInvocation,
	}
	server.Queue("fairness", "messages", a.stage(a.fairness.Judge))
	server.Queue("progression", "messages", a.stage(a.progression.Apply))
	server.Timer("archive", func(ctx context.Context) (azfunc.Outcome, error) {
		outcome, err := a.archive.Sweep(ctx)
		return azfunc.Outcome(outcome), err
	})
	server.Timer("redrive", func(ctx context.Context) (azfunc.Outcome, error) {
		waiting, unmeasured := a.backlog.Run(ctx) // before letters are taken; it holds up none
		outcome, err := a.redrive.Run(ctx)
		return azfunc.Outcome(append(waiting, outcome...)), errors.Join(err, unmeasured)
	})
	return server
}

// stage gives a pipeline stage its batches.
func (a *App) stage(run func(context.Context, []bus.Message) (pipeline.Outcome, error)) func(context.Context, []azfunc.Message) (azfunc.Outcome, error) {
	return func(ctx context.Context, batch []azfunc.Message) (azfunc.Outcome, error) {
		if !a.started.Load() {
			return nil, a.notStarted()
		}
		messages := make([]bus.Message, len(batch))
		for i, m := range batch {
			messages[i] = bus.Message{ID: m.ID, Body: m.Body, Properties: m.Properties}
		}
		outcome, err := run(ctx, messages)
		return azfunc.Outcome(outcome), err
	}
}

// routes is the public HTTP API. The first segment after /v1 is the name of the function in functions/ that the host
// proxies it through.
func (a *App) routes() []web.Route {
	everyone := []signing.Class{signing.Server, signing.Client, signing.Session}
	operators := []signing.Class{signing.Admin}
	trusted := []signing.Class{signing.Server, signing.Admin}
	return []web.Route{
		{Method: "POST", Pattern: "/v1/events", Handler: a.events(false)},
		{Method: "POST", Pattern: "/v1/events/batch", Handler: a.events(true)},

		{Method: "GET", Pattern: "/v1/players/{player}", Handler: a.signed(everyone, a.player)},
		{Method: "GET", Pattern: "/v1/players/{player}/events/{event}", Handler: a.signed(everyone, a.playerEvent)},
		{Method: "GET", Pattern: "/v1/players/{player}/inventory", Handler: a.signed(everyone, a.inventory)},
		{Method: "GET", Pattern: "/v1/players/{player}/ledger", Handler: a.signed(everyone, a.listEntries)},
		{Method: "GET", Pattern: "/v1/players/{player}/mailbox", Handler: a.signed(everyone, a.listMails)},
		{Method: "POST", Pattern: "/v1/players/{player}/mailbox/{mail}/claim", Handler: a.once(everyone, a.claimMail)},
		{Method: "GET", Pattern: "/v1/players/{player}/export", Handler: a.exported(a.exportPlayer)},
		{Method: "GET", Pattern: "/v1/players/{player}/erasure", Handler: a.signed(trusted, a.showErasure)},
		{Method: "POST", Pattern: "/v1/players/{player}/erasure", Handler: a.signed(trusted, a.erasePlayer)},
		{Method: "POST", Pattern: "/v1/players/{player}/erasure/cancel", Handler: a.signed(trusted, a.cancelErasure)},

		{Method: "GET", Pattern: "/v1/leaderboards", Handler: a.signed(everyone, a.boards)},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}", Handler: a.public(everyone, a.reads(a.page))},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/players", Handler: a.public(everyone, a.reads(a.lookup))},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/players/{player}", Handler: a.public(everyone, a.reads(a.ranked))},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/players/{player}/around", Handler: a.public(everyone, a.reads(a.around))},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/rank", Handler: a.public(everyone, a.reads(a.rankOf))},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/archives", Handler: a.public(everyone, a.archives)},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/archives/{window}", Handler: a.public(everyone, a.reads(a.archived))},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/archives/{window}/players/{player}", Handler: a.public(everyone, a.proof)},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/archives/{window}/export", Handler: a.exported(a.export)},
		{Method: "GET", Pattern: "/v1/leaderboards/{board}/hall-of-fame", Handler: a.public(everyone, a.hallOfFame)},

		{Method: "GET", Pattern: "/v1/receipts/{player}/{event}", Handler: a.signed(everyone, a.receipt)},
		{Method: "GET", Pattern: "/v1/receipts/keys", Handler: a.publicKeys},
		{Method: "POST", Pattern: "/v1/receipts/verify", Handler: a.signed(everyone, a.verifyReceipt)},

		{Method: "POST", Pattern: "/v1/keys/session", Handler: a.mintSession()},
		{Method: "POST", Pattern: "/v1/keys/session/revoke", Handler: a.signed([]signing.Class{signing.Server, signing.Admin}, a.revokeSessions)},

		{Method: "GET", Pattern: "/v1/operations/rejected", Handler: a.signed(operators, a.listRejected)},
		{Method: "GET", Pattern: "/v1/operations/rejected/{id}", Handler: a.signed(operators, a.showRejected)},
		{Method: "POST", Pattern: "/v1/operations/rejected/{id}/release", Handler: a.signed(operators, a.releaseRejected)},
		{Method: "POST", Pattern: "/v1/operations/dead-letters/redrive", Handler: a.signed(operators, a.redriveDeadLetters)},

		{Method: "GET", Pattern: "/v1/operations/decisions", Handler: a.signed(operators, a.listDecisions)},
		{Method: "GET", Pattern: "/v1/operations/decisions/{id}", Handler: a.signed([]signing.Class{signing.Server, signing.Admin}, a.showDecision)},
		{Method: "GET", Pattern: "/v1/operations/cases", Handler: a.signed(operators, a.listCases)},
		{Method: "GET", Pattern: "/v1/operations/cases/{id}", Handler: a.signed(operators, a.showCase)},
		{Method: "POST", Pattern: "/v1/operations/cases", Handler: a.signed(operators, a.openCase)},
		{Method: "POST", Pattern: "/v1/operations/cases/{id}/comment", Handler: a.signed(operators, a.comment)},
		{Method: "POST", Pattern: "/v1/operations/cases/{id}/clear", Handler: a.signed(operators, a.decide(fairness.ActionClear))},
		{Method: "POST", Pattern: "/v1/operations/cases/{id}/shadow-ban", Handler: a.signed(operators, a.impose(fairness.ActionShadowBan))},
		{Method: "POST", Pattern: "/v1/operations/cases/{id}/ban", Handler: a.signed(operators, a.impose(fairness.ActionBan))},
		{Method: "POST", Pattern: "/v1/operations/cases/{id}/unban", Handler: a.signed(operators, a.decide(fairness.ActionUnban))},

		{Method: "POST", Pattern: "/v1/operations/players/{player}/events/{event}/reverse", Handler: a.signed(operators, a.reverse)},

		{Method: "GET", Pattern: "/v1/operations/windows", Handler: a.signed(operators, a.listWindows)},
		{Method: "GET", Pattern: "/v1/operations/windows/{board}/{window}", Handler: a.signed(operators, a.showWindow)},
		{Method: "POST", Pattern: "/v1/operations/windows/{board}/{window}/close", Handler: a.signed(operators, a.orderWindow(season.ActionClose))},
		{Method: "POST", Pattern: "/v1/operations/windows/{board}/{window}/extend", Handler: a.signed(operators, a.orderWindow(season.ActionExtend))},
		{Method: "POST", Pattern: "/v1/operations/windows/{board}/{window}/rebuild", Handler: a.signed(operators, a.orderWindow(season.ActionRebuild))},

		{Method: "GET", Pattern: "/v1/time", Handler: a.time},
		{Method: "GET", Pattern: "/healthz", Handler: a.healthz, Quiet: true},
		{Method: "GET", Pattern: "/readyz", Handler: a.readyz, Quiet: true},
	}
}

// caller is who asks, proven by a signature. The zero value asks unsigned.
type caller struct {
	key     signing.Key
	request signing.Request
}

// entry is the caller's request as the gate knows it, about the only player it speaks for, where there is one.
func (c caller) entry() gate.Entry {
	e := gate.Entry{KeyID: c.key.ID, KeyClass: string(c.key.Class), Nonce: c.request.Nonce}
	if c.key.Class == signing.Session {
		e.Session, e.Generation, e.Players = true, c.key.Generation, []gate.Player{{ID: c.key.Player}}
	}
	return e
}

// speaksFor says whether the caller may ask about a player as somebody who is that player.
func (c caller) speaksFor(player string) bool { return c.key.Player == "" || c.key.Player == player }

// trusted says whether the caller may see and ask for more than a game client.
func (c caller) trusted() bool { return c.key.Class == signing.Server }

// keyed refuses a request that changes something and has no idempotency key.
func (c caller) keyed() error {
	if c.request.IdempotencyKey == "" {
		return fault.IdempotencyMissing.Errorf("send an Idempotency-Key header, a new one for every new request")
	}
	return nil
}

// verify reads the body and checks the signature and the key's scope.
func (a *App) verify(r *http.Request, limit int64, classes []signing.Class) (caller, error) {
	var body []byte
	var err error
	if r.Method == http.MethodPost {
		if body, err = web.Body(r, limit); err != nil {
			return caller{}, err
		}
	}
	request, err := signing.FromHTTP(r, body)
	if err != nil {
		return caller{}, err
	}
	key, err := a.verifier.Verify(request)
	if err != nil {
		return caller{}, err
	}
	web.RecordOf(r.Context()).KeyID = key.Name()
	if !slices.Contains(classes, key.Class) {
		return caller{}, fault.OutOfScope.Errorf("a key of class %s may not do this", key.Class)
	}
	c := caller{key: key, request: request}
	if player := r.PathValue("player"); player != "" && !c.speaksFor(player) && !isRanking(r) {
		return caller{}, fault.OutOfScope.Errorf("the key speaks for another player")
	}
	return c, nil
}

// isRanking says whether a request reads a leaderboard. Places are for all players to see, so a session's key asks about any.
func isRanking(r *http.Request) bool { return strings.HasPrefix(r.Pattern, "GET /v1/leaderboards/") }

// bounded gives a handler the request's deadline. One that misses it because a dependency is slow answers like one that is
// down. Whoever was not proven is counted.
func (a *App) bounded(deadline time.Duration, next web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, stop := context.WithTimeout(r.Context(), deadline)
		defer stop()
		err := next(w, r.WithContext(ctx))
		if errors.Is(err, fault.Unauthenticated) {
			a.unproven.WithLabelValues(string(fault.CodeOf(err))).Inc()
		}
		if errors.Is(err, context.DeadlineExceeded) && fault.KindOf(err) == fault.Internal {
			return fault.DeadlinePassed.Wrap(err, "the request could not be done in time, send it again")
		}
		return err
	}
}

// handler answers a proven caller.
type handler func(w http.ResponseWriter, r *http.Request, c caller) error

// signed lets in requests signed with a key of one of the classes, each once, at the rate of the key. A game client's key reads
// nothing about a player who is banned, and the key of a banned player's session nothing at all.
func (a *App) signed(classes []signing.Class, next handler) web.Handler {
	return a.signedWithin(requestDeadline, classes, next)
}

// exported is signed, by a key that is trusted, for answers that are as long as a window.
func (a *App) exported(next handler) web.Handler {
	return a.signedWithin(exportDeadline, []signing.Class{signing.Server, signing.Admin}, next)
}

func (a *App) signedWithin(deadline time.Duration, classes []signing.Class, next handler) web.Handler {
	return a.bounded(deadline, func(w http.ResponseWriter, r *http.Request) error {
		c, err := a.verify(r, smallBody, classes)
		if err != nil {
			return err
		}
		entry := c.entry()
		if player := r.PathValue("player"); c.key.Class == signing.Client && event.ValidPlayerID(player) {
			entry.Players = []gate.Player{{ID: player}}
		}
		pass, err := a.enter(r, entry)
		if err != nil {
			return err
		}
		if err := admit(w, pass); err != nil {
			return err
		}
		for _, ruling := range pass.Players {
			if ruling.Blocked != nil && ruling.Blocked.Ban {
				return ruling.Blocked.Fault()
			}
		}
		return next(w, r, c)
	})
}

// once lets in requests that change something of a player's, signed with a key of one of the classes and sent under an idempotency
// key: while the gate knows it, a repeat gets the answer of the first, byte for byte. A fault is not kept, so that what could not
// be done is tried again. A blocked player is kept out whoever speaks for him, as he is from sending events.
func (a *App) once(classes []signing.Class, next func(r *http.Request, player string) (any, error)) web.Handler {
	return a.bounded(requestDeadline, func(w http.ResponseWriter, r *http.Request) error {
		c, err := a.verify(r, smallBody, classes)
		if err != nil {
			return err
		}
		if err := c.keyed(); err != nil {
			return err
		}
		player, err := playerID(r)
		if err != nil {
			return err
		}
		entry := c.entry()
		entry.Scope, entry.IdempotencyKey = r.Pattern, c.request.IdempotencyKey
		entry.Fingerprint, entry.Players = signing.Fingerprint(c.request), []gate.Player{{ID: player}}
		pass, err := a.enter(r, entry)
		if err != nil {
			return err
		}
		if pass.Replay != nil {
			return reply(w, *pass.Replay, true)
		}
		answer, err := a.execute(w, pass, func() (any, error) { return next(r, player) })
		// As in the gateway: the lease is given back, or the answer stored, even when the caller is gone.
		a.warn("leave the gate", a.gate.Leave(context.WithoutCancel(r.Context()), pass, gate.Leaving{Answer: answer}))
		if err != nil {
			return err
		}
		return reply(w, *answer, false)
	})
}

// execute does what the gate let in, unless the key is over its rate or the player is blocked.
func (a *App) execute(w http.ResponseWriter, pass gate.Pass, do func() (any, error)) (*gate.Answer, error) {
	if err := admit(w, pass); err != nil {
		return nil, err
	}
	if blocked := pass.Players[0].Blocked; blocked != nil {
		return nil, blocked.Fault()
	}
	done, err := do()
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(done, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return &gate.Answer{Status: http.StatusOK, Header: map[string]string{"Content-Type": "application/json"}, Body: body}, nil
}

// admit tells the rate of a request's key, and refuses a request that is over it.
func admit(w http.ResponseWriter, pass gate.Pass) error {
	if pass.Key == nil {
		return nil
	}
	setHeader(w, pipeline.RateHeaders([]gate.Limit{pass.Key.Limit}))
	if !pass.Key.Admits(0) {
		return pipeline.KeyExceeded(pass.Key)
	}
	return nil
}

// reply sends an answer that the gate keeps, or kept.
func reply(w http.ResponseWriter, answer gate.Answer, replayed bool) error {
	setHeader(w, answer.Header)
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	w.WriteHeader(answer.Status)
	_, err := w.Write(answer.Body)
	return err
}

func setHeader(w http.ResponseWriter, header map[string]string) {
	for name, value := range header {
		w.Header().Set(name, value)
	}
}

// What comes of a read that this process limits by itself.
const (
	limitAdmitted  = "admitted"
	limitThrottled = "throttled"
)

// enter asks the gate about a request that sends no events. While Redis does not answer, a read may come twice: its signature
// and its time still hold, it changes nothing, and SQL has what it asks for. This process then limits its key.
func (a *App) enter(r *http.Request, e gate.Entry) (gate.Pass, error) {
	ctx, stop := context.WithTimeout(r.Context(), redisPatience)
	defer stop()
	pass, err := a.gate.Enter(ctx, e)
	if !errors.Is(err, fault.RedisUnavailable) {
		return pass, err
	}
	if r.Method != http.MethodGet {
		a.refusing.Inc()
		return gate.Pass{}, err
	}
	a.trusting.Inc()
	if pass.Key, err = a.local.Take(e.KeyID, e.KeyClass, 1); err != nil {
		return gate.Pass{}, err
	}
	if !pass.Key.Admits(0) {
		a.limiting.WithLabelValues(limitThrottled).Inc()
		return pass, nil
	}
	a.limiting.WithLabelValues(limitAdmitted).Inc()
	if e.Session {
		generation, err := a.sessions.Generations.Current(r.Context(), e.Players[0].ID)
		if err != nil {
			return gate.Pass{}, err
		}
		if e.Generation < generation {
			return gate.Pass{}, fault.SessionRevoked.Errorf("the keys of the player's sessions were revoked")
		}
	}
	for _, p := range e.Players {
		ban, err := a.sanctions.Ban(r.Context(), p.ID)
		if err != nil {
			return gate.Pass{}, err
		}
		pass.Players = append(pass.Players, gate.Ruling{Blocked: ban})
	}
	return pass, nil
}

// public is signed, but lets unsigned requests in when the board allows it. Nobody needs a key to learn that there is no such board, and
// nobody reads without one what is left of a board that the catalog has no more: it may not have been public.
func (a *App) public(classes []signing.Class, next handler) web.Handler {
	signed := a.signed(classes, next)
	unsigned := a.bounded(requestDeadline, func(w http.ResponseWriter, r *http.Request) error { return next(w, r, caller{}) })
	return func(w http.ResponseWriter, r *http.Request) error {
		board, known := a.catalog.Load().Boards[r.PathValue("board")]
		switch {
		case r.Header.Get(signing.HeaderSignature) != "" || known && !board.Public:
			return signed(w, r)
		case !known:
			return fault.BoardNotFound.Errorf("there is no board %q", r.PathValue("board"))
		}
		return unsigned(w, r)
	}
}

// timestamp is how the API writes instants.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// limit reads ?limit=: 1 to 100, for trusted callers to 1000.
func limit(r *http.Request, c caller, otherwise int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return otherwise, nil
	}
	most := 100
	if c.trusted() {
		most = 1000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, &fault.Error{
			Code: fault.MalformedRequest, Detail: "limit is a number from 1 to " + strconv.Itoa(most),
			Fields: []fault.Field{{Pointer: "/limit", Code: fault.FieldRange}},
		}
	}
	return n, nil
}
