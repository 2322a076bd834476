// Package stack runs the whole system in one process, on one machine: the application of handler/app behind the Functions
// host of local/host, on an in-memory broker, an in-process Redis and SQLite unless real ones are named. The broker is called
// directly, or over AMQP as Azure Service Bus is in production. Its clock is the real one, or one that stands still until it is
// moved. It is for development and tests, and knows nothing of the game but the path of its catalog, and how long its windows
// take late events.
package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	_ "modernc.org/sqlite" // the driver named "sqlite"

	"liveops"
	"liveops/core/bus"
	"liveops/core/store"
	"liveops/handler/app"
	"liveops/local/host"
)

// Options say what to run. Data and Catalog are required.
type Options struct {
	Listen      string            // host:port of the gateway
	MetricsAddr string            // host:port of /metrics; empty: nowhere
	Data        string            // directory of the database and the secrets, which must exist
	Catalog     string            // path of the game's catalog
	DBURL       string            // instead of SQLite in Data
	RedisURL    string            // instead of an in-process Redis
	Bus         string            // how the broker is reached: Direct, the default, or ServiceBus
	BusListen   string            // with ServiceBus, host:port of its endpoint; empty: any free port of 127.0.0.1
	BusAdmin    string            // with ServiceBus, host:port of its management endpoint; empty: nowhere
	Settings    map[string]string // on top of the ones made here, as in local.settings.json
	Version     string
	Now         func() time.Time // the clock; nil: time.Now
	Clock       time.Time        // instead of Now: the clock stands there until Move moves it; with the in-process Redis only
	Log         *slog.Logger
}

// How the broker is reached: by calls within this process, or over AMQP, in production's code and by a connection each of
// the application and the host.
const (
	Direct     = "memory"
	ServiceBus = "servicebus"
)

// The queues of the system.
const (
	eventsQueue      = "events"
	progressionQueue = "progression"
)

// Stack is a running system.
type Stack struct {
	URL       string // of the gateway
	DBURL     string
	Secrets   Secrets
	Bus       *bus.Memory          // the broker itself, however it is reached
	Namespace *Namespace           // the way to it by ServiceBus; else nil
	Redis     *miniredis.Miniredis // nil when a real one was named

	now    func() time.Time
	still  *still // nil: the clock runs by itself
	host   *host.Host
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Start starts a system and returns when it is ready: the windows are laid out, and every dependency answers. It ends with
// Stop, or with an error that Wait gives.
func Start(ctx context.Context, o Options) (*Stack, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Bus = cmp.Or(o.Bus, Direct); o.Bus != Direct && o.Bus != ServiceBus {
		return nil, fmt.Errorf("a bus is %s or %s, not %q", Direct, ServiceBus, o.Bus)
	}
	s := &Stack{DBURL: o.DBURL, done: make(chan struct{})}
	if !o.Clock.IsZero() {
		if o.RedisURL != "" {
			return nil, errors.New("keys in a Redis of its own run out on real time: Clock goes with the in-process Redis only")
		}
		s.still = newStill(o.Clock)
		o.Now = s.still.clock.Now
	}
	s.now = o.Now
	var err error
	if s.Secrets, err = loadSecrets(o.Data); err != nil {
		return nil, err
	}
	if s.DBURL == "" {
		s.DBURL = "sqlite:" + filepath.Join(o.Data, "liveops.db")
	}
	if err := migrate(ctx, s.DBURL); err != nil {
		return nil, err
	}
	s.Bus = bus.NewMemory(o.Now, queue(eventsQueue), queue(progressionQueue))
	settings, err := s.settings(o)
	if err != nil {
		return nil, err
	}
	functions, err := host.Load(host.Layout(liveops.Functions), func(name string) string { return settings[name] })
	if err != nil {
		return nil, err
	}
	if o.RedisURL == "" {
		s.Redis = miniredis.NewMiniRedis()
		if err := s.Redis.Start(); err != nil {
			return nil, err
		}
		settings["REDIS_URL"] = "redis://" + s.Redis.Addr()
	}
	if s.still != nil {
		if err := s.still.open(ctx, o, s.DBURL); err != nil {
			s.close()
			return nil, err
		}
		s.Redis.SetTime(s.Now())
		s.Redis.ClockTTL(true)
	}
	if o.Bus == ServiceBus {
		if s.Namespace, err = openNamespace(ctx, o, s.Bus, s.Secrets.ServiceBus); err != nil {
			s.close()
			return nil, err
		}
		settings["BUS_KIND"], settings["SERVICEBUS"] = "servicebus", s.Namespace.ConnectionString
	}
	s.run(ctx, o, functions)
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// queue is a queue set as in production, so that an outage lasts here what it may last there.
func queue(name string) bus.Queue {
	return bus.Queue{
		Name: name, LockDuration: app.LockDuration, MaxDeliveryCount: app.MaxDeliveryCount, DuplicateWindow: 10 * time.Minute,
	}
}

// settings is the environment that the application sees, the same names as in production.
func (s *Stack) settings(o Options) (map[string]string, error) {
	keys, err := json.Marshal(s.Secrets.Keys)
	if err != nil {
		return nil, err
	}
	metrics := o.MetricsAddr
	if metrics == "" {
		metrics = "off"
	}
	settings := map[string]string{
		"DB_URL": s.DBURL, "REDIS_URL": o.RedisURL, "BUS_KIND": "memory", "CATALOG_FILE": o.Catalog,
		"EVENTS_QUEUE": eventsQueue, "PROGRESSION_QUEUE": progressionQueue, "SERVICEBUS": "in-memory",
		"HMAC_KEYS": string(keys), "RECEIPT_SECRET": s.Secrets.Receipt, "ARCHIVE_SECRET": s.Secrets.Archive, "CURSOR_SECRET": s.Secrets.Cursor, "SESSION_SECRET": s.Secrets.Session,
		"METRICS_ADDR": metrics, "REDIS_ONE_NODE": "true", "FUNCTIONS_WORKER_RUNTIME": "custom",
	}
	maps.Copy(settings, o.Settings)
	return settings, nil
}

// run starts the Functions host with the application in it.
func (s *Stack) run(ctx context.Context, o Options, functions *host.App) {
	application := app.Options{Version: o.Version, Bus: s.Bus, Now: o.Now, Log: o.Log}
	var receiver bus.Receiver = s.Bus
	if s.Namespace != nil {
		application.Bus, receiver = nil, s.Namespace.host
	}
	var lives sync.WaitGroup // the host does not wait for a handler that it kills
	handler := host.InProcess(func(ctx context.Context, getenv func(string) string) error {
		lives.Add(1)
		defer lives.Done()
		err := app.Run(ctx, getenv, application)
		if err == nil {
			return host.ExitCode(200) // what the handler's own main answers to a shutdown
		}
		return err
	})
	options := host.Options{Handler: handler, Bus: receiver, Listen: o.Listen, Now: o.Now, Log: o.Log}
	if s.still != nil {
		options.After = func(time.Duration) <-chan time.Time { return nil } // Move runs the timer functions
	}
	s.host = host.New(functions, options)
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(s.done)
		s.err = s.host.Run(ctx)
		lives.Wait()
		s.close()
	}()
	if s.Redis != nil && s.still == nil {
		go s.expire()
	}
}

// close ends what the host and the application stood on.
func (s *Stack) close() {
	if s.Namespace != nil {
		s.Namespace.close()
	}
	if s.Redis != nil {
		s.Redis.Close()
	}
	if s.still != nil {
		s.still.close()
	}
}

// ready waits until /readyz says so.
func (s *Stack) ready(ctx context.Context) error {
	select {
	case <-s.host.Ready():
		s.URL = "http://" + reachable(s.host.Addr())
	case <-s.done:
		return errors.New("the system ended before it was ready")
	}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close() // the status says it all
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return errors.New("the system ended before it was ready")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// expire lets keys of the in-process Redis run out, which it does not do by itself.
func (s *Stack) expire() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
			s.Redis.FastForward(time.Second)
		}
	}
}

// reachable is an address under which this machine reaches a listener: one on all interfaces is also on loopback.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return a.String()
}

// Trigger runs a timer function now and waits for its outcome.
func (s *Stack) Trigger(ctx context.Context, function string) error {
	return s.host.Trigger(ctx, function)
}

// Idle says whether every accepted message was handled. Dead letters count as handled.
func (s *Stack) Idle() bool {
	all, _ := s.underWay()
	return all == 0
}

// underWay counts the messages that are not handled yet, and those among them that wait for their time. It looks at the queues
// in the order in which messages pass them, so that none is missed.
func (s *Stack) underWay() (all, scheduled int) {
	for _, queue := range []string{eventsQueue, progressionQueue} {
		counts, _ := s.Bus.Counts(queue) // the only error is that there is no such queue
		all += counts.Active + counts.Locked + counts.Deferred + counts.Scheduled
		scheduled += counts.Scheduled
	}
	return all, scheduled
}

// Wait waits for the system's end.
func (s *Stack) Wait() error {
	<-s.done
	return s.err
}

// Stop ends the system, letting what is under way finish.
func (s *Stack) Stop() error {
	s.cancel()
	return s.Wait()
}

func migrate(ctx context.Context, url string) error {
	db, err := store.Open(url)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing is lost with an idle pool
	if _, err := db.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}
