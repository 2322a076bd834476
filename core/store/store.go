// Package store opens the places where state is kept: the SQL database, which is the truth, and Redis, which is a
// projection of it. It knows connections, transactions, dialects and migrations. It knows no table but its own
// schema_version: every other table belongs to the domain package whose type says so.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"liveops/core/fault"
)

// txTries bounds how often a transaction is run when the database broke a deadlock or a lock wait at its cost.
const txTries = 8

// DB is the SQL database: MySQL 8, MariaDB or SQLite. All times are stored as UTC milliseconds since 1970, all ids compare
// byte by byte.
type DB struct {
	Queries
	pool   *sql.DB
	single sync.Mutex // SQLite has one writer; waiting here is fairer than its busy timeout
}

// Queries is what a DB and a Tx have in common. Errors of its methods are faults: a database out of reach is
// fault.Unavailable, sql.ErrNoRows stays what it is.
type Queries struct {
	Dialect Dialect
	on      interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

// Tx is one transaction.
type Tx struct{ Queries }

// Open opens the database of a URL: mysql://user:password@host:port/name, or sqlite:PATH where the program links the driver
// named "sqlite". It connects when first used.
func Open(rawURL string) (*DB, error) {
	scheme, rest, _ := strings.Cut(rawURL, ":")
	switch scheme {
	case "mysql":
		dsn, err := mysqlDSN(rawURL)
		if err != nil {
			return nil, err
		}
		connector, err := mysql.NewConnector(dsn)
		if err != nil {
			return nil, fmt.Errorf("open mysql: %w", err)
		}
		pool := sql.OpenDB(connector)
		pool.SetMaxOpenConns(32)
		pool.SetMaxIdleConns(32)
		pool.SetConnMaxLifetime(5 * time.Minute)
		return newDB(pool, MySQL), nil
	case "sqlite":
		pool, err := sql.Open("sqlite", "file:"+rest+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
		if err != nil {
			return nil, fmt.Errorf("open sqlite: %w", err)
		}
		pool.SetMaxOpenConns(8)
		pool.SetMaxIdleConns(8)
		return newDB(pool, SQLite), nil
	}
	return nil, fmt.Errorf("database URL: scheme %q is neither mysql nor sqlite", scheme)
}

func newDB(pool *sql.DB, dialect Dialect) *DB {
	return &DB{Queries: Queries{Dialect: dialect, on: pool}, pool: pool}
}

func mysqlDSN(rawURL string) (*mysql.Config, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("database URL: not a URL") // the parse error would quote the password
	}
	c := mysql.NewConfig()
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.Net, c.Addr = "tcp", u.Host
	if socket := u.Query().Get("socket"); socket != "" {
		c.Net, c.Addr = "unix", socket
	}
	c.DBName = strings.TrimPrefix(u.Path, "/")
	c.Collation = "utf8mb4_bin"
	c.InterpolateParams = true    // one round trip a statement
	c.ClientFoundRows = true      // an update that changes nothing still found its row
	c.Logger = &mysql.NopLogger{} // what it would print comes back as an error too
	c.RejectReadOnly = true       // after a failover, reconnect instead of failing on the replica
	c.Timeout, c.ReadTimeout, c.WriteTimeout = 5*time.Second, 30*time.Second, 30*time.Second
	return c, nil
}

// Close closes every connection.
func (db *DB) Close() error { return db.pool.Close() }

// Ping asks whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return unavailable(db.pool.PingContext(ctx)) }

// Tx runs fn in a transaction: committed when fn returns nil, rolled back with fn's error otherwise. When the database breaks a deadlock or
// a lock wait at its cost, fn is run again, so fn must not change anything outside of tx before it returns.
// MySQL runs it at READ COMMITTED; what must not change meanwhile is locked by reading it with Dialect.ForUpdate.
func (db *DB) Tx(ctx context.Context, fn func(tx *Tx) error) error {
	if db.Dialect == SQLite {
		db.single.Lock()
		defer db.single.Unlock()
	}
	for try := 1; ; try++ {
		err := db.once(ctx, fn)
		if !contended(err) {
			return err
		}
		if try == txTries {
			return unavailable(err)
		}
		select {
		case <-ctx.Done():
			return unavailable(err)
		case <-time.After(time.Duration(try) * time.Duration(2+rand.IntN(8)) * time.Millisecond):
		}
	}
}

func (db *DB) once(ctx context.Context, fn func(tx *Tx) error) error {
	var options *sql.TxOptions
	if db.Dialect == MySQL {
		options = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	tx, err := db.pool.BeginTx(ctx, options)
	if err != nil {
		return unavailable(err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing, after a failure fn's error says more
	if err := fn(&Tx{Queries{Dialect: db.Dialect, on: tx}}); err != nil {
		return err
	}
	return unavailable(tx.Commit())
}

// Exec runs a statement that returns no rows and gives the number of rows it found.
func (q Queries) Exec(ctx context.Context, query string, args ...any) (int64, error) {
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
func (q Queries) Each(ctx context.Context, query string, args []any, fn func(scan func(into ...any) error) error) error {
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

// unavailable makes a fault.Unavailable of every error of a database or its connection but those that are answers: no
// rows, a fault already. A statement the database refuses stays internal: it is our mistake.
func unavailable(err error) error {
	var refused *mysql.MySQLError
	var sqlite interface{ Code() int }
	switch {
	case err == nil, errors.Is(err, sql.ErrNoRows), fault.KindOf(err) != fault.Internal:
		return err
	case contended(err):
	case errors.As(err, &refused) && !serverDown(refused.Number):
		return err
	case errors.As(err, &sqlite) && !sqliteDown(sqlite.Code()):
		return err
	}
	return fault.DatabaseUnavailable.Wrap(err, "the database does not answer, try again")
}

// contended says that the database rolled the transaction back and asks to try again.
func contended(err error) bool {
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		return refused.Number == 1213 || refused.Number == 1205 // deadlock, lock wait
	}
	var sqlite interface{ Code() int }
	return errors.As(err, &sqlite) && (sqlite.Code()&0xff == 5 || sqlite.Code()&0xff == 6) // busy, locked
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
