package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"liveops/core/bus"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/local/server"
	"liveops/local/servicebus"
	"liveops/local/wire"
)

// The queues of the system.
const (
	eventsQueue      = "events"
	progressionQueue = "progression"
)

// start is the time of the system under test when it begins: an evening on which no day, week or season ends.
var start = time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC)

// key signs the requests of the test: as a game server's, or an operator's.
func key(class signing.Class) signing.Key {
	return signing.Key{ID: string(class), Class: class, Secrets: []signing.Secret{signing.Secret(secret(class))}}
}

func secret(class signing.Class) string { return strings.Repeat(string(class), 32) }

// site is what a system under test stands on: servers of its own, a broker in this process that it takes for Azure Service
// Bus, and between it and each of them a wire.
type site struct {
	dir        string
	sql, cache *server.Server
	memory     *bus.Memory
	endpoint   *servicebus.Server // in front of memory
	lives      *lives
	db         *store.DB // past the wire
	shift      time.Duration

	toSQL, toCache, toBroker *wire.Wire

	livesURL string
	closers  []func()
}

// opening is how a site is made.
type opening struct {
	dir      string // of everything; whoever the SQL server runs as is let in
	durable  bool
	lock     time.Duration // how long a message is held
	most     int           // deliveries of a message before it is a dead letter
	remember time.Duration // how long the broker knows a message id
	catalog  []byte
	serve    func(*bus.Memory) servicebus.Broker // what the endpoint speaks for; nil: the broker
}

// open starts the servers and brings the database's schema up to date.
func (o opening) open(ctx context.Context) (s *site, err error) {
	s = &site{dir: o.dir, lives: &lives{}, shift: time.Until(start)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	programs := server.Programs{Dirs: server.Path(), Durable: o.durable}
	if s.sql, err = programs.SQL(ctx, o.dir); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.sql.Kill)
	if s.cache, err = programs.Redis(ctx, o.dir); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.cache.Kill)
	if err := s.database(ctx); err != nil {
		return s, err
	}
	var queues []bus.Queue
	for _, name := range []string{eventsQueue, progressionQueue} {
		queues = append(queues, bus.Queue{Name: name, LockDuration: o.lock, MaxDeliveryCount: o.most, DuplicateWindow: o.remember})
	}
	s.memory = bus.NewMemory(time.Now, queues...)
	var served servicebus.Broker = s.memory
	if o.serve != nil {
		served = o.serve(s.memory)
	}
	s.endpoint = servicebus.New(served, servicebus.Options{})
	s.closers = append(s.closers, func() { _ = s.endpoint.Close() })
	brokerURL, err := listen(ctx, "tcp", s.endpoint.Serve)
	if err != nil {
		return s, err
	}
	web := &http.Server{Handler: s.lives, ReadHeaderTimeout: time.Minute}
	s.closers = append(s.closers, func() { _ = web.Close() })
	if s.livesURL, err = listen(ctx, "http", web.Serve); err != nil {
		return s, err
	}
	for _, lay := range []struct {
		wire **wire.Wire
		to   string
	}{{&s.toSQL, s.sql.URL}, {&s.toCache, s.cache.URL}, {&s.toBroker, brokerURL}} {
		if *lay.wire, err = wire.New(lay.to); err != nil {
			return s, err
		}
		s.closers = append(s.closers, (*lay.wire).Close)
	}
	if err := os.WriteFile(s.catalog(), o.catalog, 0o600); err != nil {
		return s, err
	}
	return s, stage(s.root())
}

// database makes and migrates the database.
func (s *site) database(ctx context.Context) error {
	admin, err := store.Open(s.sql.URL)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // nothing is lost with an idle pool
	if _, err := admin.Exec(ctx, "CREATE DATABASE liveops CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return err
	}
	if s.db, err = store.Open(s.sql.URL + "liveops"); err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = s.db.Close() })
	_, err = s.db.Migrate(ctx)
	return err
}

// listen serves on loopback and gives the URL.
func listen(ctx context.Context, scheme string, serve func(net.Listener) error) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = serve(listener) }() // until its server is closed
	return scheme + "://" + listener.Addr().String(), nil
}

// close ends everything, the last first.
func (s *site) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

func (s *site) root() string    { return filepath.Join(s.dir, "wwwroot") }
func (s *site) catalog() string { return filepath.Join(s.dir, "catalog.yaml") }

// now is the time of the system under test.
func (s *site) now() time.Time { return time.Now().Add(s.shift) }

// env is the environment of the children: what the handler reads in production, and where this process is.
func (s *site) env() map[string]string {
	return map[string]string{
		"DB_URL": s.toSQL.URL + "liveops", "REDIS_URL": s.toCache.URL, "BUS_KIND": "servicebus",
		envServiceBus:  s.endpoint.ConnectionString(strings.TrimPrefix(s.toBroker.URL, "tcp://")),
		"EVENTS_QUEUE": eventsQueue, "PROGRESSION_QUEUE": progressionQueue, "CATALOG_FILE": s.catalog(),
		"HMAC_SECRET":    secret(signing.Server),
		"HMAC_KEYS":      `[{"id": "admin", "class": "admin", "state": "active", "secrets": ["` + secret(signing.Admin) + `"]}]`,
		"RECEIPT_SECRET": strings.Repeat("r", 32), "ARCHIVE_SECRET": strings.Repeat("a", 32), "CURSOR_SECRET": strings.Repeat("c", 32), "SESSION_SECRET": strings.Repeat("s", 32),
		"METRICS_ADDR": "off", "REDIS_ONE_NODE": "true", "BATCH_HOLD": "1s", "LOG_LEVEL": "warn", "FUNCTIONS_WORKER_RUNTIME": "custom",
		envRoot: s.root(), envLives: s.livesURL, envShift: s.shift.String(),
	}
}

// schedule has a timer of the staged system fire at other times.
func (s *site) schedule(function, cron string) error {
	file := filepath.Join(s.root(), function, "function.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text = regexp.MustCompile(`"schedule": "[^"]*"`).ReplaceAll(text, []byte(`"schedule": "`+cron+`"`))
	return os.WriteFile(file, text, 0o600) //nolint:gosec // the name is ours
}

// waiting is how many messages are not yet handled. Dead letters that the redrive has not yet taken are among them.
func (s *site) waiting() int {
	n := 0
	for _, queue := range []string{eventsQueue, progressionQueue} {
		c, _ := s.memory.Counts(queue) // both are there
		n += c.Active + c.Locked + c.Deferred + c.Scheduled + c.Dead
	}
	return n
}

// await asks until the answer is yes, for a bounded time.
func await(ctx context.Context, what string, patience time.Duration, yes func() bool) error {
	deadline := time.Now().Add(patience)
	for !yes() {
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s still not: %s", patience, what)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
