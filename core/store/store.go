// Package store opens the places where state is kept: the SQL database, which is the truth, and Redis, which is a
// projection of it. It knows connections, transactions, dialects and migrations. It knows no table but its own
// schema_version: every other table belongs to the domain package whose type says so.
package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"liveops/core/fault"
	"liveops/core/tracing"
)

// txTries bounds how often a transaction is run when the database broke a deadlock or a lock wait at its cost.
const txTries = 8

// DB is the SQL database: MySQL 8, MariaDB or SQLite. All times are stored as UTC milliseconds since 1970, all ids compare
// byte by byte.
type DB struct {
	Queries
	pool    *sql.DB
	turn    chan struct{}          // SQLite has one writer; waiting here is fairer than its busy timeout
	retries *prometheus.CounterVec // cause
}

// Queries is what a DB and a Tx have in common. Errors of its methods are faults: a database out of reach is
// fault.Unavailable, sql.ErrNoRows stays what it is. No method waits for ever: where its context has no deadline,
// Options.Patience is one.
type Queries struct {
	Dialect  Dialect
	patience time.Duration
	on       interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

// Tx is one transaction.
type Tx struct{ Queries }

// Close closes every connection.
func (db *DB) Close() error { return db.pool.Close() }

// Ping asks whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := db.patient(ctx)
	defer cancel()
	return unavailable(db.pool.PingContext(ctx))
}

// Tx runs fn in a transaction: committed when fn returns nil, rolled back with fn's error otherwise. When the database breaks a deadlock or
// a lock wait at its cost, fn is run again, so fn must not change anything outside of tx before it returns.
// MySQL runs it at READ COMMITTED; what must not change meanwhile is locked by reading it with Dialect.ForUpdate.
func (db *DB) Tx(ctx context.Context, fn func(tx *Tx) error) error {
	if db.Dialect == SQLite {
		if err := db.enter(ctx); err != nil {
			return err
		}
		defer func() { <-db.turn }()
	}
	var options *sql.TxOptions
	if db.Dialect == MySQL {
		options = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	for try := 1; ; try++ {
		err := db.once(ctx, options, fn)
		cause := contended(err)
		if cause == "" {
			return err
		}
		if try == txTries {
			return unavailable(err)
		}
		select {
		case <-ctx.Done():
			return unavailable(err)
		case <-time.After(time.Duration(try) * time.Duration(2+rand.IntN(8)) * time.Millisecond):
			db.retries.WithLabelValues(cause).Inc()
		}
	}
}

// Snapshot runs fn in a transaction that only reads: all its statements see the database as of one moment, whatever is
// committed meanwhile. It waits for nobody and keeps nobody waiting.
func (db *DB) Snapshot(ctx context.Context, fn func(q Queries) error) error {
	options := &sql.TxOptions{ReadOnly: true}
	if db.Dialect == MySQL {
		options.Isolation = sql.LevelRepeatableRead
	}
	return db.once(ctx, options, func(tx *Tx) error { return fn(tx.Queries) })
}

// enter waits until no other transaction runs.
func (db *DB) enter(ctx context.Context) error {
	ctx, cancel := db.patient(ctx)
	defer cancel()
	select {
	case db.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

func (db *DB) once(ctx context.Context, options *sql.TxOptions, fn func(tx *Tx) error) error {
	tx, end, err := db.begin(ctx, options)
	if err != nil {
		return unavailable(err)
	}
	defer end()
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing, after a failure fn's error says more
	if err := fn(&Tx{Queries{Dialect: db.Dialect, on: tx, patience: db.patience}}); err != nil {
		return err
	}
	_, done := db.span(ctx, "COMMIT")
	err = unavailable(tx.Commit())
	done(err)
	return err
}

// begin starts a transaction, which lives until end is called. Only the start of it has to be patient: the context of a
// transaction must outlive its statements, of which nobody knows how many follow.
func (db *DB) begin(ctx context.Context, options *sql.TxOptions) (tx *sql.Tx, end func(), err error) {
	if _, bounded := ctx.Deadline(); bounded {
		tx, err = db.pool.BeginTx(ctx, options)
		return tx, func() {}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	alarm := time.AfterFunc(db.patience, func() { cancel(context.DeadlineExceeded) })
	tx, err = db.pool.BeginTx(ctx, options)
	alarm.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
		cancel(nil)
		return nil, nil, err
	}
	return tx, func() { cancel(nil) }, nil
}

// patient gives a context without a deadline one.
func (q Queries) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, q.patience)
}

// Exec runs a statement that returns no rows and gives the number of rows it found.
func (q Queries) Exec(ctx context.Context, query string, args ...any) (found int64, err error) {
	ctx, cancel := q.patient(ctx)
	defer cancel()
	ctx, end := q.span(ctx, query)
	defer func() { end(err) }()
	result, err := q.on.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, unavailable(err)
	}
	return result.RowsAffected()
}

// Row scans the only row of a query, or returns sql.ErrNoRows.
func (q Queries) Row(ctx context.Context, query string, args []any, into ...any) error {
	found := false
	err := q.Each(ctx, query, args, func(scan func(...any) error) error {
		found = true
		return scan(into...)
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// Each calls fn for every row of a query, in order. scan reads the columns of the row.
func (q Queries) Each(ctx context.Context, query string, args []any, fn func(scan func(into ...any) error) error) (err error) {
	ctx, cancel := q.patient(ctx)
	defer cancel()
	ctx, end := q.span(ctx, query)
	defer func() { end(err) }()
	rows, err := q.on.QueryContext(ctx, query, args...)
	if err != nil {
		return unavailable(err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err below says it
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return unavailable(rows.Err())
}

// span is that of a statement. The statement itself stays out of it: it is as long as its batch.
func (q Queries) span(ctx context.Context, query string) (context.Context, func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {} // the summary is not worth making
	}
	name := summary(query)
	return tracing.Start(ctx, name, trace.SpanKindClient,
		attribute.String("db.system.name", q.Dialect.String()), attribute.String("db.query.summary", name))
}

var target = regexp.MustCompile(`(?i)\b(?:FROM|INTO|UPDATE|TABLE)\s+([a-z_]+)`)

// summary is a statement's verb and its first table, such as "INSERT ledger".
// https://opentelemetry.io/docs/specs/semconv/database/database-spans/#generating-a-summary-of-the-query
func summary(query string) string {
	verb, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	if table := target.FindStringSubmatch(query); table != nil {
		return verb + " " + table[1]
	}
	return verb
}

// unavailable makes a fault.Unavailable of every error of a database or its connection but those that are answers: no
// rows, a fault already. A statement the database refuses stays internal: it is our mistake.
func unavailable(err error) error {
	var refused *mysql.MySQLError
	var sqlite interface{ Code() int }
	switch {
	case err == nil, errors.Is(err, sql.ErrNoRows), fault.KindOf(err) != fault.Internal:
		return err
	case contended(err) != "":
	case errors.As(err, &refused) && !serverDown(refused.Number):
		return err
	case errors.As(err, &sqlite) && !sqliteDown(sqlite.Code()):
		return err
	}
	return fault.DatabaseUnavailable.Wrap(err, "the database does not answer, try again")
}

// Why a database breaks a transaction off and asks to try again.
const (
	deadlock = "deadlock"
	lockWait = "lock_wait"
	busy     = "busy" // SQLite's: busy or locked
)

// contended is one of the causes above, or empty for every other error.
func contended(err error) string {
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		switch refused.Number {
		case 1213:
			return deadlock
		case 1205:
			return lockWait
		}
		return ""
	}
	var sqlite interface{ Code() int }
	if errors.As(err, &sqlite) && (sqlite.Code()&0xff == 5 || sqlite.Code()&0xff == 6) {
		return busy
	}
	return ""
}

// serverDown lists what MySQL says when it, not the statement, is in the way: too many connections, shutting down,
// read-only, killed.
func serverDown(number uint16) bool {
	switch number {
	case 1040, 1053, 1077, 1129, 1203, 1290, 1317, 1836, 1927, 3024, 3168:
		return true
	}
	return false
}

// sqliteDown lists what SQLite says when the file is in the way: I/O error, full, cannot open, interrupted.
func sqliteDown(code int) bool {
	switch code & 0xff {
	case 9, 10, 13, 14:
		return true
	}
	return false
}
