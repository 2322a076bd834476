package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"

	"liveops"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/signing"
	"liveops/local/clock"
	"liveops/local/replay"
	"liveops/local/sample"
	"liveops/local/stack"
)

type devCommand struct {
	Listen  string `help:"Where the gateway listens, host:port." default:"127.0.0.1:8080"`
	Metrics string `help:"Where /metrics, /healthz and /readyz are served too." placeholder:"HOST:PORT"`
	Data    string `help:"Directory of the database and the secrets; a temporary one when not given." type:"path" placeholder:"DIR"`
	Catalog string `help:"The game; that of examples/arena when not given." type:"existingfile" placeholder:"FILE" xor:"game"`

	Bus       string `help:"How messages travel: memory, in this process, or servicebus, over AMQP as they do in production." enum:"memory,servicebus" default:"memory"`
	BusListen string `help:"Where --bus servicebus listens for other programs too; any free port of 127.0.0.1 when not given." placeholder:"HOST:PORT"`
	BusAdmin  string `help:"Where --bus servicebus tells over HTTPS how many messages wait, as KEDA asks." placeholder:"HOST:PORT"`

	Clock       time.Time `help:"Run on a clock that stands still at this time, RFC 3339, until it is moved." placeholder:"TIME"`
	ClockListen string    `help:"Where --clock is read and moved; any free port of 127.0.0.1 when not given." placeholder:"HOST:PORT"`

	Demo    bool `help:"Play a sample of the arena game and show what came of it." xor:"game"`
	Verbose bool `help:"Print the log lines of every request and invocation."`
}

// Help implements kong's longer help.
func (devCommand) Help() string {
	return `Everything runs in this process: the Functions host, the handler, an in-memory broker,
an in-memory Redis, SQLite. It is for development: messages under way do not outlive it.
Ctrl-C stops it.

With --bus servicebus the host and the handler take the broker for Azure Service
Bus, and so does any other client of it that is given the connection string.

With --clock time stands still, for all of it, until it is moved: by liveops replay
--follow-clock, along with the events, or by hand. GET /clock tells what time it is and
when the next window ends; a move waits until everything accepted is in effect and runs
the timer functions that came due. Time does not go back, nor behind what the database
in --data has seen.

Examples:
  liveops dev --demo
  liveops dev --listen 127.0.0.1:9000 --data ./data --catalog game.yaml
  liveops dev --bus servicebus --bus-listen 127.0.0.1:5672 --bus-admin 127.0.0.1:5671
  liveops dev --clock 2022-11-01T00:00:00Z --clock-listen 127.0.0.1:8081 --catalog chess.yaml
  curl -d '{"to": "2022-11-02T00:00:00Z"}' http://127.0.0.1:8081/clock`
}

// Validate implements kong's check of the flags.
func (c devCommand) Validate() error {
	if c.Bus != stack.ServiceBus && c.BusListen+c.BusAdmin != "" {
		return errors.New("--bus-listen and --bus-admin go with --bus servicebus")
	}
	if c.Clock.IsZero() && c.ClockListen != "" {
		return errors.New("--clock-listen goes with --clock")
	}
	if !c.Clock.IsZero() && c.Demo {
		return errors.New("--demo plays on a clock that runs, without --clock")
	}
	return nil
}

// Run serves until ctx ends, which is no error.
func (c devCommand) Run(ctx context.Context, t *terminal) error {
	for _, listen := range []string{c.Listen, c.Metrics, c.BusListen, c.BusAdmin, c.ClockListen} {
		if err := free(ctx, listen); err != nil {
			return err
		}
	}
	arena := c.Catalog == ""
	if !arena {
		if _, err := catalog.Load(c.Catalog); err != nil { // here, because the host would start the handler three times over it
			return err
		}
	}
	if c.Data == "" {
		dir, err := os.MkdirTemp("", "liveops-dev-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
		c.Data = dir
	} else if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	if arena {
		text, err := liveops.Examples.ReadFile("examples/arena/catalog.yaml")
		if err != nil {
			return err
		}
		c.Catalog = filepath.Join(c.Data, "arena.yaml")
		if err := os.WriteFile(c.Catalog, text, 0o600); err != nil {
			return err
		}
	}
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelInfo
	}
	system, err := stack.Start(ctx, stack.Options{
		Listen: c.Listen, MetricsAddr: c.Metrics, Data: c.Data, Catalog: c.Catalog, Version: version,
		Bus: c.Bus, BusListen: c.BusListen, BusAdmin: c.BusAdmin, Clock: c.Clock,
		Log: slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	err = c.serve(ctx, t, system, arena)
	stopped := system.Stop()
	if ctx.Err() != nil { // what that cut short has not failed
		t.out.printf("\nstopped\n")
		return stopped
	}
	return err
}

// free says whether an address can be listened on, so that a taken one is found before anything is started.
func free(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

// serve says where everything is, plays the demo when asked to, and waits for the end of ctx or of the system.
func (c devCommand) serve(ctx context.Context, t *terminal, system *stack.Stack, arena bool) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { stop(fmt.Errorf("the system ended: %w", system.Wait())) }()

	key := system.Secrets.Key(signing.Server)
	me := client{url: system.URL, key: &key}
	secret := filepath.Join(c.Data, key.ID+".secret")
	t.out.printf("gateway   %s\nsecret    %s\n", system.URL, secret)
	if n := system.Namespace; n != nil {
		t.out.printf("bus       %s\n", n.ConnectionString)
		if n.AdminURL != "" {
			t.out.printf("bus admin %s, under the same key; its certificate is %s\n", n.AdminURL, n.Certificate)
		}
	}
	if !c.Clock.IsZero() {
		url, end, err := serveClock(ctx, c.ClockListen, system)
		if err != nil {
			return err
		}
		defer end()
		t.out.printf("clock     %s, it stands at %s\n", url, system.Now().Format(time.RFC3339Nano))
	}
	if c.Demo {
		if err := demo(ctx, t, me, system); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	if arena {
		if err := me.invite(ctx, t.out, system.Now()); err != nil {
			return err
		}
	}
	t.out.printf("\nliveops sign, replay, top and verify work with --url %s --secret-file %s\nServing. Ctrl-C stops.\n", system.URL, secret)
	<-ctx.Done()
	return context.Cause(ctx)
}

// serveClock lets a clock be read and moved, on a listener of its own, until end is called.
func serveClock(ctx context.Context, address string, world clock.World) (url string, end func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{
		Handler: clock.Handler(world), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

// invite prints the line that sends a first event.
func (c client) invite(ctx context.Context, to *printer, now time.Time) error {
	body, err := json.Marshal(event.Event{
		ID: "first-" + signing.NewNonce()[:10], Type: event.XPGained, PlayerID: "you", OccurredAt: now.UTC().Truncate(time.Millisecond),
		Data: map[string]any{"amount": 25, "source": "match"},
	}, json.Deterministic(true))
	if err != nil {
		return err
	}
	line, err := c.curl(ctx, body, now)
	if err != nil {
		return err
	}
	to.printf("\nSend an event of your own (the signature is good for five minutes, once):\n\n%s\n", line)
	return nil
}

// demo plays the sample game through the public API and prints what it came to.
func demo(ctx context.Context, t *terminal, me client, system *stack.Stack) error {
	var game bytes.Buffer
	if err := sample.Generate(&game, sample.Options{Seed: 1, Events: 1500, Until: time.Now()}); err != nil {
		return err
	}
	events, err := replay.Read(&game)
	if err != nil {
		return err
	}
	t.out.printf("\nPlaying %d events of two days in the arena …\n\n", len(events))
	if _, err := me.play(t, len(events), event.MaxBatch, 4, func(p *replay.Player) (*replay.Report, error) {
		return p.Play(ctx, events)
	}); err != nil {
		return err
	}
	for !system.Idle() { // accepted is not yet ranked
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := me.boards(ctx, t.out); err != nil {
		return err
	}
	for _, e := range slices.Backward(events) {
		if e.Type != event.BossKilled {
			continue
		}
		receipt, err := me.receipt(ctx, e)
		if problem, is := errors.AsType[*replay.Problem](err); is && problem.Code == string(fault.ReceiptNotFound) {
			continue // over Service Bus a kill may come before the level that it requires
		}
		if err != nil {
			return err
		}
		return me.player(ctx, t.out, e, receipt)
	}
	return nil
}

// receipt is that of an event.
func (c client) receipt(ctx context.Context, e event.Event) (string, error) {
	var issued struct {
		Receipt string `json:"receipt"`
	}
	err := c.do(ctx, http.MethodGet, "/v1/receipts/"+e.PlayerID+"/"+e.ID, nil, &issued)
	return issued.Receipt, err
}

// boards prints the top ten of every board, in its longest window.
func (c client) boards(ctx context.Context, to *printer) error {
	var list struct {
		Boards []struct {
			Board   string `json:"board"`
			Windows []struct {
				ID string `json:"id"`
			} `json:"windows"`
		} `json:"boards"`
	}
	if err := c.do(ctx, http.MethodGet, "/v1/leaderboards", nil, &list); err != nil {
		return err
	}
	for _, b := range list.Boards {
		if len(b.Windows) == 0 {
			continue
		}
		text, err := c.top(ctx, b.Board, b.Windows[len(b.Windows)-1].ID, 10)
		if err != nil {
			return err
		}
		to.printf("\n")
		if err := printRanking(to, text); err != nil {
			return err
		}
	}
	return nil
}

// player prints the progress of the player who killed a boss, and the receipt of the kill.
func (c client) player(ctx context.Context, to *printer, kill event.Event, receipt string) error {
	var player struct {
		XP    int64 `json:"xp"`
		Level int   `json:"level"`
		Next  int64 `json:"next_level_xp"`
		Items []struct {
			Item     string `json:"item"`
			Quantity int64  `json:"quantity"`
		} `json:"items"`
	}
	if err := c.do(ctx, http.MethodGet, "/v1/players/"+kill.PlayerID, nil, &player); err != nil {
		return err
	}
	to.printf("\n%s: level %d, %d XP", kill.PlayerID, player.Level, player.XP)
	if player.Next > 0 {
		to.printf(" (next level at %d)", player.Next)
	}
	to.printf("\n")
	to.table(tabwriter.AlignRight, func(row func(string, ...any)) {
		for _, i := range player.Items {
			row("%d\t%s\t", i.Quantity, i.Item)
		}
	})
	boss, _ := kill.Text("boss")
	to.printf("\nThe receipt for killing %s:\n%s\n", boss, receipt)
	return c.verify(ctx, to, receipt)
}
