// Package app is the application behind the Functions host: it reads the configuration, opens what the services stand on,
// wires the stages and ties them to the routes. It holds no rule of the game and none of the host's protocol.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/extra/redisprometheus/v9"
	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"liveops/core/bus"
	"liveops/core/bus/servicebus"
	"liveops/core/catalog"
	"liveops/core/erasure"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/journal"
	"liveops/core/leaderboard"
	"liveops/core/mailbox"
	"liveops/core/pipeline"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/session"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/handler/azfunc"
	"liveops/handler/logging"
	"liveops/handler/web"
)

// Deadlines. An invocation ends before the queue's lock and the host's functionTimeout do; a request before a client loses
// its patience.
const (
	invocationDeadline = 45 * time.Second
	requestDeadline    = 10 * time.Second
	exportDeadline     = 3 * time.Minute // a load balancer of Azure cuts a connection after four
	drain              = 10 * time.Second
)

// redisPatience is how long a read waits for Redis, or for a ranking that is being rebuilt, before it goes on without.
const redisPatience = time.Second

// What the queues must be set to, whoever makes them, and the hold that goes with it: an outage of a dependency lasts at
// least azfunc.Outlasts(DefaultHold, MaxDeliveryCount) before it makes the first dead letter. docs/decisions/0016-outages.md
// has the calculation.
const (
	LockDuration     = time.Minute
	MaxDeliveryCount = 100
	DefaultHold      = 30 * time.Second // of BATCH_HOLD
)

// maxInvocation bounds what the host may send in one invocation, in bytes: a batch of host.json's maxMessageBatchSize, each
// message an event of the largest size, in base64 and with its metadata.
const maxInvocation = 32 << 20

// Options is what the program decides and the environment does not. The zero value is production's.
type Options struct {
	Version string
	Bus     Bus              // the in-memory broker for BUS_KIND=memory
	Now     func() time.Time // the clock; nil: time.Now
	Log     *slog.Logger     // nil: handler/logging on stdout, which the host keeps apart from errors
}

// Bus is a broker as the stages use it.
type Bus interface {
	bus.Publisher
	bus.Receiver
	bus.Peeker
}

// App is the wired application.
type App struct {
	config      Config
	options     Options
	gathered    *prometheus.Registry
	registry    prometheus.Registerer // of gathered, under the label of the service
	tracer      trace.Tracer
	traces      *sdktrace.TracerProvider // nil: none are kept
	unproven    *prometheus.CounterVec   // reason
	trusting    prometheus.Counter
	refusing    prometheus.Counter
	limiting    *prometheus.CounterVec // result
	reloads     *prometheus.CounterVec // result
	keysRefused *prometheus.CounterVec // keys
	catalog     atomic.Pointer[catalog.Catalog]
	running     []byte // the text of the catalog in force
	refused     []byte // the text of CATALOG_FILE that was refused last
	keyring     atomic.Pointer[signing.Keyring]
	started     atomic.Bool           // everything the stages rely on is there
	obstacle    atomic.Pointer[error] // why it is not, at the last look

	db       *store.DB
	redis    *redis.Client
	bus      Bus
	verifier *signing.Verifier
	gate     *gate.Gate
	local    *gate.Local
	rejected *rejected.Store
	records  *fairness.Records
	receipts atomic.Pointer[receipt.Keys]
	sealer   *season.Sealer
	ledger   *progression.Ledger
	players  *progression.Cache
	mailbox  *mailbox.Mailbox
	windows  *season.Windows
	ranking  *leaderboard.Ranking
	erasures *erasure.Requests

	aged        aged        // answers of reads that may be old
	openWindows openWindows // of the boards

	edge        http.Handler // the routes
	gateway     *pipeline.Gateway
	fairness    *pipeline.Fairness
	progression *pipeline.Progression
	rewards     *pipeline.Rewards
	reversals   *pipeline.Reversals
	archive     *pipeline.Archive
	backlog     *pipeline.Backlog
	redrive     *pipeline.Redrive
	release     *pipeline.Release
	cases       *pipeline.Cases
	sanctions   *pipeline.Sanctions
	sessions    *pipeline.Sessions
	exports     *pipeline.Exports
}

// Format prints no field: fmt would find the secrets of the configuration.
func (*App) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "application") }

// Run serves until ctx ends, then drains. It listens where the Functions host told it to.
func Run(ctx context.Context, getenv func(string) string, options Options) error {
	listener, err := azfunc.Listen(ctx, getenv(azfunc.PortVariable)) // before anything slow: the host waits for it
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // the server closes it too
	config, err := ReadConfig(getenv)
	if err != nil {
		return fmt.Errorf("configuration:\n%w", err)
	}
	a, err := New(config, options)
	if err != nil {
		return err
	}
	defer a.Close()
	return a.serve(ctx, listener, getenv)
}

// New opens the stores, which connect when first used, and wires everything. It reads top to bottom like the flow.
func New(config Config, options Options) (*App, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Log == nil {
		options.Log = logging.New(os.Stdout, config.LogLevel, options.Now)
	}
	a := &App{config: config, options: options, gathered: prometheus.NewRegistry()}
	a.registry = prometheus.WrapRegistererWith(prometheus.Labels{"service": config.ServiceName}, a.gathered)
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	promauto.With(a.registry).NewGauge(prometheus.GaugeOpts{
		Name: "build_info", Help: "1, with the version that runs.", ConstLabels: prometheus.Labels{"version": options.Version},
	}).Set(1)
	a.unproven = promauto.With(a.registry).NewCounterVec(prometheus.CounterOpts{
		Name: "signature_failures_total", Help: "Requests whose sender was not proven, by what was wrong.",
	}, []string{"reason"})
	a.trusting = promauto.With(a.registry).NewCounter(prometheus.CounterOpts{
		Name: "unchecked_nonces_total", Help: "Signed reads let in without a look at their nonce because Redis did not answer.",
	})
	a.refusing = promauto.With(a.registry).NewCounter(prometheus.CounterOpts{
		Name: "gate_refusals_without_redis_total", Help: "Signed requests refused because Redis, which knows what came before, did not answer.",
	})
	for _, reason := range fault.Unauthenticated.Codes() {
		a.unproven.WithLabelValues(string(reason)) // a rate needs the 0 before the first
	}
	a.limiting = promauto.With(a.registry).NewCounterVec(prometheus.CounterOpts{
		Name: "rate_limits_in_process_total", Help: "Signed reads that this process limited by itself because Redis did not answer, by result.",
	}, []string{"result"})
	for _, result := range []string{limitAdmitted, limitThrottled} {
		a.limiting.WithLabelValues(result)
	}
	a.keysRefused = promauto.With(a.registry).NewCounterVec(prometheus.CounterOpts{
		Name: "keys_refused_total", Help: "Looks at changed keys that found some that cannot be used, by what the keys are for.",
	}, []string{"keys"})
	for _, keys := range []string{keysOfRequests, keysOfReceipts} {
		a.keysRefused.WithLabelValues(keys)
	}
	if err := a.firstCatalog(); err != nil {
		return nil, fmt.Errorf("CATALOG_FILE: %w", err)
	}
	var err error
	if a.tracer, err = a.openTraces(context.Background()); err != nil {
		return nil, err
	}
	if err := a.open(); err != nil {
		a.Close()
		return nil, err
	}
	queues := []string{config.EventsQueue, config.ProgressionQueue}
	metrics := pipeline.NewMetrics(a.registry, queues...)
	current := a.catalog.Load

	a.verifier = &signing.Verifier{Keys: a.keyring.Load, Skew: config.Skew, Now: options.Now}
	a.gate = &gate.Gate{
		Redis: a.redis, Catalog: current, Now: options.Now, NonceFor: 2 * config.Skew,
		OneNode: config.RedisOneNode,
	}
	a.local = &gate.Local{Catalog: current, Now: options.Now}
	a.rejected = &rejected.Store{DB: a.db, Now: options.Now}
	a.ledger = &progression.Ledger{DB: a.db, Catalog: current, Now: options.Now}
	a.players = &progression.Cache{Redis: a.redis, Ledger: a.ledger}
	a.mailbox = &mailbox.Mailbox{DB: a.db, Now: options.Now}
	entries := leaderboard.Entries{Boards: func(name string) (catalog.Board, bool) { return current().Board(name) }}
	if a.ranking, err = leaderboard.NewRanking(a.redis, a.db, entries, config.CursorSecret); err != nil {
		a.Close()
		return nil, fmt.Errorf("CURSOR_SECRET: %w", err)
	}
	a.ranking.Patience = redisPatience
	a.ranking.SQLReads = promauto.With(a.registry).NewCounter(prometheus.CounterOpts{
		Name: "leaderboard_sql_reads_total", Help: "Reads of rankings that SQL answered because Redis could not.",
	})
	a.rewards = &pipeline.Rewards{
		Catalog: current, Ledger: a.ledger, Players: a.players, Receipts: a.receipts.Load, Mailbox: a.mailbox, Metrics: metrics, Now: options.Now,
	}
	a.reversals = &pipeline.Reversals{Ledger: a.ledger, Players: a.players, Receipts: a.receipts.Load, Mailbox: a.mailbox, Metrics: metrics}
	a.windows = &season.Windows{
		DB: a.db, Now: options.Now, Grace: func() time.Duration { return current().Fairness.Grace.Std() }, Catalog: current,
		Standings: pipeline.Standings{Entries: entries, DB: a.db, Rankings: a.ranking, Log: options.Log}, Rewards: a.rewards, Sealer: a.sealer, Owner: owner(),
	}
	a.ranking.Served = pipeline.Served(a.windows)

	a.gateway = &pipeline.Gateway{
		Catalog: current, Gate: a.gate, Bus: a.bus, Queue: config.EventsQueue, Now: options.Now, Log: options.Log,
	}
	a.records = &fairness.Records{DB: a.db, Now: options.Now}
	a.sessions = &pipeline.Sessions{Generations: &session.Generations{DB: a.db, Now: options.Now}, Gate: a.gate, Now: options.Now}
	a.gate.Generation = a.sessions.Generations.Current
	a.sanctions = &pipeline.Sanctions{Records: a.records, Gate: a.gate, Rankings: a.ranking}
	recorded := &journal.Journal{DB: a.db}
	a.fairness = &pipeline.Fairness{
		Catalog: current,
		Ladder: &fairness.Ladder{
			States: fairness.RedisStates{Redis: a.redis}, Baselines: fairness.StoredBaselines{Redis: a.redis, DB: a.db}, Catalog: current, Now: options.Now,
		},
		Records: a.records, Sanctions: a.sanctions, Rejected: a.rejected, Journal: recorded,
		Bus: a.bus, Queue: config.ProgressionQueue, Metrics: metrics, Log: options.Log,
	}
	a.progression = &pipeline.Progression{
		Catalog: current, Ledger: a.ledger, Players: a.players, Mailbox: a.mailbox, Receipts: a.receipts.Load, Windows: a.windows, Entries: entries,
		Ranking: a.ranking, Rejected: a.rejected, Metrics: metrics, Now: options.Now, Log: options.Log,
	}
	states := fairness.RedisStates{Redis: a.redis}
	a.exports = &pipeline.Exports{DB: a.db, Entries: entries, Gate: a.gate, States: states, Now: options.Now}
	a.erasures = &erasure.Requests{DB: a.db, Now: options.Now, Grace: func() time.Duration { return current().Privacy.Grace.Std() }}
	a.archive = &pipeline.Archive{
		Catalog: current, Windows: a.windows, Ledger: a.ledger, Ranking: a.ranking, Journal: recorded, Mailbox: a.mailbox, Metrics: metrics, Log: options.Log,
		Restore: &pipeline.Restore{
			Catalog: current, Windows: a.windows, Ranking: a.ranking, Sanctions: a.sanctions, Sessions: a.sessions, Now: options.Now, Log: options.Log,
		},
		Erasures: &pipeline.Erasures{
			DB: a.db, Requests: a.erasures, Ledger: a.ledger, Players: a.players, Windows: a.windows, Entries: entries, Ranking: a.ranking,
			Rejected: a.rejected, Records: a.records, States: states, Gate: a.gate, Metrics: metrics, Log: options.Log,
		},
	}
	a.backlog = &pipeline.Backlog{Bus: a.bus, Queues: queues, Metrics: metrics, Now: options.Now}
	a.redrive = &pipeline.Redrive{
		Bus: a.bus, Queues: queues, Rejected: a.rejected, Metrics: metrics,
	}
	a.release = &pipeline.Release{
		Rejected: a.rejected, Records: a.records, Sanctions: a.sanctions, Bus: a.bus, Queue: config.ProgressionQueue, Origins: a.redrive.Queues,
	}
	a.cases = &pipeline.Cases{Records: a.records, Sanctions: a.sanctions, Metrics: metrics}
	a.edge = web.Router{Routes: a.routes(), Log: options.Log, Registerer: a.registry, Tracer: a.tracer}.Handler()
	return a, nil
}

// open makes what the services stand on.
func (a *App) open() (err error) {
	keyring, err := signing.NewKeyring(a.config.Keys, a.config.SessionSecrets...)
	if err != nil {
		return err
	}
	a.keyring.Store(keyring)
	receipts, err := receipt.NewKeys(a.config.ReceiptKeys[0], a.config.ReceiptKeys[1:]...)
	if err != nil {
		return fmt.Errorf("RECEIPT_SECRET: %w", err)
	}
	a.receipts.Store(receipts)
	if a.sealer, err = season.NewSealer(a.config.ArchiveKeys[0], a.config.ArchiveKeys[1:]...); err != nil {
		return fmt.Errorf("ARCHIVE_SECRET: %w", err)
	}
	database := store.Options{TLS: a.config.DBTLS, MaxConns: a.config.DBMaxConns, Registerer: a.registry}
	if a.db, err = database.Open(a.config.DBURL); err != nil {
		return fmt.Errorf("DB_URL: %w", err)
	}
	if a.redis, err = store.OpenRedis(a.config.RedisURL); err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	a.registry.MustRegister(redisprometheus.NewCollector("redis", "", a.redis)) // redis_pool_…
	switch {
	case a.config.BusKind == "servicebus":
		a.bus, err = servicebus.Open(servicebus.Config{ConnectionString: a.config.ServiceBus, Namespace: a.config.Namespace})
	case a.options.Bus != nil:
		a.bus = a.options.Bus
	default:
		err = errors.New("BUS_KIND=memory: this program has no broker of its own, `liveops dev` has")
	}
	return err
}

// owner names this process on leases: on Kubernetes the host name is the pod's.
func owner() string { return fmt.Sprintf("%s/%d", hostname(), os.Getpid()) }

// Close closes what New opened. Its log may then leave nothing out any more.
func (a *App) Close() {
	defer logging.Flush(a.options.Log) //nolint:errcheck // there is no other place to say it
	if a.db != nil {
		a.warn("close the database", a.db.Close())
	}
	if a.redis != nil {
		a.warn("close redis", a.redis.Close())
	}
	if closer, ok := a.bus.(interface{ Close(context.Context) error }); ok {
		ctx, stop := context.WithTimeout(context.Background(), drain)
		defer stop()
		a.warn("close the bus", closer.Close(ctx))
	}
	if a.traces != nil {
		ctx, stop := context.WithTimeout(context.Background(), drain)
		defer stop()
		a.warn("close the traces", a.traces.Shutdown(ctx))
	}
}

func (a *App) warn(what string, err error) {
	if err != nil {
		a.options.Log.Warn(what, slog.String("error", err.Error()))
	}
}

// serve runs the handler's server and the one for operations side by side: the host's port is loopback, so probes and
// scrapes from outside of the pod need a port of their own.
func (a *App) serve(ctx context.Context, listener net.Listener, getenv func(string) string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.functions().Serve(ctx, listener) })
	group.Go(func() error { return a.start(ctx) })
	group.Go(func() error { return a.watch(ctx, getenv) })
	if a.config.MetricsAddr != "off" {
		group.Go(func() error { return a.serveOperations(ctx) })
	}
	return group.Wait()
}

// start makes ready what the stages rely on, trying until the dependencies let it. Then it closes what ended while nothing ran;
// a window that cannot be closed is the timer's trouble and holds up no event. A schema of a newer program is refused.
func (a *App) start(ctx context.Context) error {
	for {
		err := a.prepare(ctx)
		if err == nil {
			break
		}
		if errors.Is(err, store.ErrNewerSchema) {
			return fmt.Errorf("start: %w", err)
		}
		a.obstacle.Store(&err)
		a.warn("start", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	a.started.Store(true)
	if _, err := a.archive.Sweep(ctx); err != nil && ctx.Err() == nil {
		a.warn("close what ended meanwhile: the next tick tries again", err)
	}
	return nil
}

// prepare asks for the schema of this program, lays out the windows, without which no event could be ranked, and brings back
// what Redis lost.
func (a *App) prepare(ctx context.Context) error {
	pending, err := a.db.Pending(ctx)
	if err != nil && fault.KindOf(err) == fault.Internal && !errors.Is(err, store.ErrNewerSchema) {
		return fault.DatabaseUnavailable.Wrap(err, "the schema cannot be read: run `liveops migrate`")
	}
	if err != nil {
		return err
	}
	if len(pending) > 0 {
		return fault.DatabaseUnavailable.Errorf("the database lacks %d migrations: run `liveops migrate`", len(pending))
	}
	if _, err := a.windows.Materialise(ctx, a.catalog.Load()); err != nil {
		return err
	}
	return a.archive.Restore.Run(ctx)
}

// watch reads the keys of requests and of receipts and the catalog again from time to time: a mounted secret and a mounted file change in place.
// What cannot be used is refused, and what runs stays.
func (a *App) watch(ctx context.Context, getenv func(string) string) error {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.reloadKeys(getenv)
			a.reloadReceiptKeys(getenv)
			a.reloadCatalog(ctx)
		}
	}
}

// What the keys are for that are read again.
const (
	keysOfRequests = "requests"
	keysOfReceipts = "receipts"
)

func (a *App) refuseKeys(keys string, err error) {
	a.keysRefused.WithLabelValues(keys).Inc()
	a.warn("reload keys of "+keys+": the running ones stay", err)
}

func (a *App) reloadKeys(getenv func(string) string) {
	s := &source{getenv: getenv}
	keys, sessions := s.signingKeys()
	keyring, err := signing.NewKeyring(keys, sessions...)
	if len(s.problems) > 0 {
		err = errors.Join(s.problems...) // what NewKeyring says of the keys is among them
	}
	if err != nil {
		a.refuseKeys(keysOfRequests, err)
		return
	}
	a.keyring.Store(keyring)
}

func (a *App) reloadReceiptKeys(getenv func(string) string) {
	s := &source{getenv: getenv}
	keys := s.receiptKeys()
	if err := errors.Join(s.problems...); err != nil {
		a.refuseKeys(keysOfReceipts, err)
		return
	}
	receipts, err := receipt.NewKeys(keys[0], keys[1:]...)
	if err != nil {
		a.refuseKeys(keysOfReceipts, err)
		return
	}
	a.receipts.Store(receipts)
}

func (a *App) serveOperations(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.MetricsAddr)
	if err != nil {
		return fmt.Errorf("METRICS_ADDR: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.gathered, promhttp.HandlerOpts{Registry: a.registry, EnableOpenMetrics: true}))
	mux.Handle("GET /healthz", a.edge)
	mux.Handle("GET /readyz", a.edge)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer stop()
		a.warn("stop the metrics listener", server.Shutdown(ctx))
	})
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
