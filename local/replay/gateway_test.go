package replay_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/signing"
	"liveops/local/replay"
)

func key() signing.Key {
	return signing.Key{ID: "studio", Class: signing.Server, Secrets: []signing.Secret{signing.Secret(strings.Repeat("s", 32))}}
}

// reply is what the gateway answers. The zero value accepts every event.
type reply struct {
	status  int // 0: 202
	header  http.Header
	body    any    // of an answer without results
	results []item // of an answer with results; nil: all accepted, where there is no body
	lost    bool   // the connection breaks instead of an answer
	after   time.Duration
}

type item struct {
	EventID    string `json:"event_id"`
	Status     string `json:"status"`
	Code       string `json:"code,omitempty"`
	RetryAfter int64  `json:"retry_after,omitempty"`
}

// request is what the gateway got.
type request struct {
	number int // from 1
	key    string
	nonce  string
	body   string
	at     time.Time
	sent   time.Time // by its timestamp
	events []event.Event
}

// gateway is a gateway over connections in memory, so that it runs in a bubble of synctest. It holds every request to the
// rules of the API, whatever it is told to answer.
type gateway struct {
	answer func(r request) reply
	ahead  time.Duration // of its clock

	t        require.TestingT
	verifier signing.Verifier
	server   *http.Server
	dialled  chan net.Conn
	closed   chan struct{}

	mu       sync.Mutex
	requests []request
	bodies   map[string]string // by idempotency key
	nonces   map[string]bool
	stored   map[string][]item // answers by idempotency key
	problems []string
}

func newGateway(t require.TestingT, answer func(request) reply) *gateway {
	ring, err := signing.NewKeyring([]signing.Key{key()})
	require.NoError(t, err)
	g := &gateway{
		answer: answer, t: t, dialled: make(chan net.Conn), closed: make(chan struct{}),
		bodies: map[string]string{}, nonces: map[string]bool{}, stored: map[string][]item{},
	}
	g.verifier = signing.Verifier{Keys: func() *signing.Keyring { return ring }, Now: func() time.Time { return time.Now().Add(g.ahead) }}
	g.server = &http.Server{Handler: http.HandlerFunc(g.serve)}
	go func() { _ = g.server.Serve(g) }()
	return g
}

// Accept, Close and Addr make it a listener.
func (g *gateway) Accept() (net.Conn, error) {
	select {
	case c := <-g.dialled:
		return c, nil
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *gateway) Close() error {
	close(g.closed)
	return nil
}

func (g *gateway) Addr() net.Addr { return &net.IPAddr{} }

// client reaches the gateway whatever the host in the URL.
func (g *gateway) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case g.dialled <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}}
}

// play plays events into the gateway and shuts it down. It fails when the gateway saw what it must not see.
func (g *gateway) play(ctx context.Context, p replay.Player, events []event.Event) (*replay.Report, error) {
	p.URL, p.Key, p.Client = "http://gateway.test/", key(), g.client()
	report, err := p.Play(ctx, events)
	p.Client.CloseIdleConnections()
	require.NoError(g.t, g.server.Close())
	require.Empty(g.t, g.problems)
	return report, err
}

func (g *gateway) problem(text string) { g.problems = append(g.problems, text) }

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client gave up
	}
	g.mu.Lock()
	got := g.read(r, body)
	if stored, again := g.stored[got.key]; again {
		g.mu.Unlock()
		send(w, http.StatusAccepted, map[string]any{"results": stored})
		return
	}
	g.mu.Unlock()

	out := g.judge(r, body, got)
	if out.after > 0 {
		select {
		case <-time.After(out.after):
		case <-r.Context().Done():
			return
		}
	}
	if out.status == 0 {
		out.status = http.StatusAccepted
	}
	if out.body == nil && out.results == nil && out.status == http.StatusAccepted {
		for _, e := range got.events {
			out.results = append(out.results, item{EventID: e.ID, Status: "accepted"})
		}
	}
	if out.results != nil && out.status == http.StatusAccepted {
		g.mu.Lock()
		g.stored[got.key] = out.results
		g.mu.Unlock()
	}
	if out.lost {
		panic(http.ErrAbortHandler)
	}
	for name, values := range out.header {
		w.Header()[name] = values
	}
	if out.results != nil {
		out.body = map[string]any{"code": "no-event-accepted", "results": out.results}
	}
	send(w, out.status, out.body)
}

// read notes a request and what is wrong with it.
func (g *gateway) read(r *http.Request, body []byte) request {
	got := request{
		number: len(g.requests) + 1, key: r.Header.Get("Idempotency-Key"), nonce: r.Header.Get("X-Liveops-Nonce"),
		body: string(body), at: time.Now(),
	}
	seconds, _ := strconv.ParseInt(r.Header.Get("X-Liveops-Timestamp"), 10, 64)
	got.sent = time.Unix(seconds, 0)
	if r.Method != http.MethodPost || r.URL.Path != "/v1/events/batch" || r.Header.Get("Content-Type") != "application/json" {
		g.problem("asked " + r.Method + " " + r.URL.Path)
	}
	if got.key == "" {
		g.problem("no idempotency key")
	}
	if before, used := g.bodies[got.key]; used && before != got.body {
		g.problem("an idempotency key with two bodies")
	}
	if g.nonces[got.nonce] {
		g.problem("a nonce used twice")
	}
	g.bodies[got.key], g.nonces[got.nonce] = got.body, true
	batch, err := event.DecodeBatch(body)
	if err != nil {
		g.problem(err.Error())
	}
	for _, e := range batch {
		if e.Err != nil {
			g.problem(e.Err.Error())
		}
		got.events = append(got.events, e.Event)
	}
	g.requests = append(g.requests, got)
	return got
}

// judge answers 401 as a gateway does, and otherwise what the test says.
func (g *gateway) judge(r *http.Request, body []byte, got request) reply {
	signed, err := signing.FromHTTP(r, body)
	if err == nil {
		_, err = g.verifier.Verify(signed)
	}
	if err != nil {
		f := fault.Of(err)
		document := map[string]any{"code": f.Code, "title": f.Code.Title(), "detail": f.Detail}
		for name, value := range f.Extra {
			document[name] = value
		}
		return reply{status: http.StatusUnauthorized, body: document}
	}
	if g.answer == nil {
		return reply{}
	}
	return g.answer(got)
}

func send(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	if text, raw := body.(string); raw {
		_, _ = io.WriteString(w, text)
		return
	}
	_ = json.NewEncoder(w).Encode(body)
}
