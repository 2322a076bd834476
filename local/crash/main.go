// Command crash kills a running system in every way there is and then counts: every event that was answered 202 must have
// had its effect exactly once.
//
//	go run ./local/crash --for 3m --seed 7 [--bus servicebus] [--games FILE]
//
// Two Functions hosts with their handlers, MySQL and Redis run as processes of their own, on servers that nobody else uses;
// the broker is in this process, where they take it for Azure Service Bus. Eight clients send the events of chess games in
// shuffled order, each event at least twice, and try again after every error. Meanwhile a killer sends SIGKILL to handlers,
// to hosts and to MySQL, restarts MySQL, has Redis come back empty and cuts connections, and the broker refuses, detaches
// links and drops connections, before or after it has done what it was asked: now and then whatever it is, and for seconds
// everything that is sent. At the end the sums of the ledger, the balances and the boards must be what a naive computation
// over the answered events comes to, and what a rebuild comes to.
//
// It ends with 1 when they are not, and knows nothing of how the system goes about it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"
	_ "time/tzdata" // boards name IANA zones

	"golang.org/x/sync/errgroup"

	"liveops"
	"liveops/core/bus"
	"liveops/handler/app"
	"liveops/local/oracle"
	"liveops/local/server"
	"liveops/local/servicebus"
)

// replicas is how many pods there are, since what one of them does late meets what another did meanwhile.
const replicas = 2

// patience is how long the system may take to settle once nothing is broken any more.
const patience = 4 * time.Minute

func main() {
	if code, ok := (child{os.Getenv}).run(); ok {
		os.Exit(code)
	}
	app.KeepStderrClean()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t := &trial{out: os.Stdout}
	if err := t.parse(os.Args[1:]); err != nil {
		os.Exit(2)
	}
	err := t.run(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

// trial is one run.
type trial struct {
	last  time.Duration // of the killing
	seed  uint64
	games string // file of recorded games; empty: made-up ones
	keep  bool   // leave the directory of the run
	out   io.Writer
}

func (t *trial) parse(args []string) error {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.DurationVar(&t.last, "for", 3*time.Minute, "how long things are broken")
	flags.Uint64Var(&t.seed, "seed", uint64(time.Now().Unix()), "decides what breaks, and when")
	flags.StringVar(&t.games, "games", "", "gzipped CSV of recorded games (made-up ones when not given)")
	flags.BoolVar(&t.keep, "keep", false, "leave logs and data behind")
	kind := flags.String("bus", "servicebus", "the broker: servicebus, which is an endpoint of this process that the Azure SDK takes for it")
	err := flags.Parse(args)
	if err == nil && *kind != "servicebus" {
		err = fmt.Errorf("there is no broker %q, only servicebus", *kind)
		_, _ = fmt.Fprintln(os.Stderr, "crash:", err)
	}
	return err
}

// events are those of the games, moved so that the last one happens when the system begins.
func (t *trial) events() ([]oracle.Event, error) {
	games := oracle.MakeUp(max(400, min(int(t.last.Seconds())*200, 9000)), 300) // more would not fit a season
	if t.games != "" {
		file, err := os.Open(t.games)
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // only read
		if games, err = oracle.ReadGames(file); err != nil {
			return nil, err
		}
	}
	oracle.EndAt(games, start)
	return oracle.Events(games), nil
}

// errWrong is the verdict against the system.
var errWrong = errors.New("not every event is in effect exactly once")

// run gives errWrong, or why there is no verdict.
func (t *trial) run(ctx context.Context) (err error) {
	began := time.Now()
	events, err := t.events()
	if err != nil {
		return err
	}
	game, err := liveops.Examples.ReadFile("examples/chess/catalog.yaml")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "liveops-crash-")
	if err != nil {
		return err
	}
	logFile := filepath.Join(dir, "pod.log")
	defer func() {
		if t.keep {
			t.say("logs and data are in %s", dir)
		} else {
			_ = os.RemoveAll(dir)
		}
	}()
	count := &tally{}
	s, err := opening{
		dir: dir, durable: true, catalog: game,
		// Locks and memory are short, so that much comes twice, and from far apart. What keeps failing soon becomes a
		// dead letter and comes back, and may be given up and be released.
		lock: 5 * time.Second, most: 4, remember: 5 * time.Second,
		serve: func(m *bus.Memory) servicebus.Broker { return &counting{Memory: m, tally: count} },
	}.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	t.say("seed %d, %s of crashes, %s, %s, %d events at hand", t.seed, t.last, s.sql.Version, s.cache.Version, len(events))

	if err := s.schedule("redrive", "*/5 * * * * *"); err != nil {
		return err
	}
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the children have handles of their own
	rng := rand.New(rand.NewPCG(t.seed, 0))
	l := &load{
		deal: newDeal(rng, events), tally: count, seed: t.seed, waiting: s.waiting,
		answers: &answers{sent: map[string]oracle.Event{}, taken: map[string]bool{}, status: map[string]int{}},
	}
	k := &killer{
		site: s, tally: count, rng: rng, say: t.say,
		flaw: flaw{tally: count, rng: rand.New(rand.NewPCG(t.seed, clients))}, // beside those of the clients
	}
	living, end := context.WithCancel(ctx)
	var pods errgroup.Group
	defer func() {
		end()
		err = cmp.Or(err, pods.Wait())
	}()
	for n := range replicas {
		port, err := server.FreePort()
		if err != nil {
			return err
		}
		p := &pod{name: strconv.Itoa(n + 1), env: s.env(), log: log}
		p.env["BATCH_HOLD"], p.env[envListen] = "300ms", "127.0.0.1:"+port
		k.pods, l.apis = append(k.pods, p), append(l.apis, newAPI("http://"+p.env[envListen], s.now))
		pods.Go(func() error { return p.run(living) })
	}
	for _, a := range l.apis {
		if err := a.get(ctx, "/readyz", new(any)); err != nil {
			return err
		}
	}
	t.say("%s: the system is ready", since(began))
	if err := t.crash(ctx, l, k); err != nil {
		return err
	}
	t.say("%s: every request is answered", since(began))
	for { // what is released is on the queues again
		if err := await(ctx, "every message is handled", patience, func() bool { return s.waiting() == 0 }); err != nil {
			return err
		}
		released, err := l.apis[0].release(ctx)
		if err != nil {
			return err
		}
		if count.released += released; released == 0 {
			break
		}
	}
	t.say("%s: every message is handled", since(began))
	c := &check{site: s, api: l.apis[0], answers: l.answers}
	if err := c.run(ctx, logFile); err != nil {
		return err
	}
	if n := count.unexpected.Load(); n > 0 {
		c.problem("answered as an internal error", ": %d requests", n)
	}
	c.print(t.out)
	t.table(l, k, c, since(began))
	if c.count > 0 {
		return errWrong
	}
	return nil
}

// crash lets the clients and the killer at the system, until the time is over and all clients have their answers.
func (t *trial) crash(ctx context.Context, l *load, k *killer) error {
	fresh, stop := context.WithTimeout(ctx, t.last)
	defer stop()
	bounded, stop := context.WithTimeoutCause(ctx, t.last+patience, errors.New("the clients did not get their answers in time"))
	defer stop()
	group, bounded := errgroup.WithContext(bounded)
	group.Go(func() error { return l.run(bounded, fresh) })
	group.Go(func() error { return k.run(fresh) })
	return group.Wait()
}

func (t *trial) say(format string, args ...any) { _, _ = fmt.Fprintf(t.out, format+"\n", args...) }

func since(began time.Time) string { return fmt.Sprintf("%.1fs", time.Since(began).Seconds()) }

// table prints the counts.
func (t *trial) table(l *load, k *killer, c *check, elapsed string) {
	count, taken, starts := l.tally, len(l.answers.taken), int64(0)
	for _, p := range k.pods {
		starts += p.starts.Load()
	}
	gated := l.answers.total("duplicate")
	repeats := l.answers.total("accepted") + gated - taken
	dropped := count.published.Load() - count.delivered.Load()
	again := count.forwarded.Load() - int64(taken)
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(n any, what string, args ...any) {
		_, _ = fmt.Fprintf(w, "%v\t %s\n", n, fmt.Sprintf(what, args...))
	}
	row(taken, "events answered 202")
	row(taken+repeats, "202 answers for them, in %d requests", count.requests.Load())
	row(count.retried.Load(), "requests tried again")
	row(count.handlerKills.Load(), "handler kills")
	row(count.podKills.Load(), "pod kills, %d pods started", starts)
	row(count.sqlKills.Load(), "MySQL kills")
	row(count.sqlStops.Load(), "MySQL restarts")
	row(count.cacheWipes.Load(), "Redis wipes")
	row(count.cuts.Load(), "connection cuts")
	fine := count.faults[servicebus.None].Load()
	refused, detached := count.faults[servicebus.Refuse].Load(), count.faults[servicebus.Detach].Load()
	before, after := count.faults[servicebus.Drop].Load(), count.faults[servicebus.DropAfter].Load()
	faults := refused + detached + before + after
	row(faults, "broker faults in %d operations: %d refused, %d links detached, %d connections dropped before the operation, %d after it",
		fine+faults, refused, detached, before, after)
	row(count.redelivered.Load(), "redeliveries")
	row(count.deadLetters.Load(), "dead letters, %d of them given up and released", count.released)
	row(int64(gated)+dropped+again, "duplicates absorbed: the clients sent %d, the rest came of redeliveries and lost confirmations", repeats)
	row(gated, "of them at the gate")
	row(dropped, "of them at the broker")
	row(again, "of them at the ledger")
	row(c.missing, "missing")
	row(c.double, "double")
	row(elapsed, "elapsed")
	_ = w.Flush() // a terminal that is gone reads nothing
}
