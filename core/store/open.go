package store

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// What holds where Options says nothing.
const (
	DefaultMaxConns = 32
	DefaultPatience = 30 * time.Second
)

// wire bounds one exchange with MySQL, whatever the context says. A server that went away without a word is noticed by it.
const wire = 30 * time.Second

// Options is what a database's URL does not say. The zero value is a database without TLS and with the defaults.
type Options struct {
	// TLS is how connections to MySQL are encrypted, nil for not at all; SQLite has none. Without a ServerName the server
	// must prove to be the URL's host.
	TLS *tls.Config
	// MaxConns is how many connections to MySQL may be open at once, 0 for DefaultMaxConns.
	MaxConns int
	// Patience is how long a statement, rows and all, or the begin of a transaction may take when its context has no
	// deadline; 0 is DefaultPatience. A deadline of the context holds alone.
	Patience time.Duration
	// Registerer takes database_retries_total and what the pool of connections does, go_sql_…; nil for nobody. It takes those of
	// one database.
	Registerer prometheus.Registerer
}

// TLS reads a setting: empty or "false" for no TLS, "true" for a server whose certificate the system's authorities vouch
// for, "skip-verify" for encryption with whoever answers, otherwise the path of a PEM file with the authorities to trust.
func TLS(setting string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch setting {
	case "", "false":
		return nil, nil
	case "true":
	case "skip-verify":
		config.InsecureSkipVerify = true
	default:
		text, err := os.ReadFile(setting)
		if err != nil {
			return nil, fmt.Errorf("neither true, false, skip-verify nor a file of CA certificates: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("no CA certificate in %s", setting)
		}
	}
	return config, nil
}

// Open opens the database of a URL with the zero Options.
func Open(rawURL string) (*DB, error) { return Options{}.Open(rawURL) }

// Open opens the database of a URL: mysql://user:password@host:port/name, or sqlite:PATH where the program links the driver
// named "sqlite". It connects when first used.
func (o Options) Open(rawURL string) (*DB, error) {
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	scheme, rest, _ := strings.Cut(rawURL, ":")
	switch scheme {
	case "mysql":
		dsn, err := o.mysqlDSN(rawURL)
		if err != nil {
			return nil, err
		}
		connector, err := mysql.NewConnector(dsn)
		if err != nil {
			return nil, fmt.Errorf("open mysql: %w", err)
		}
		pool := sql.OpenDB(connector)
		pool.SetMaxOpenConns(o.MaxConns)
		pool.SetMaxIdleConns(o.MaxConns)
		pool.SetConnMaxLifetime(5 * time.Minute)
		return o.database(pool, MySQL), nil
	case "sqlite":
		pool, err := sql.Open("sqlite", "file:"+rest+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
		if err != nil {
			return nil, fmt.Errorf("open sqlite: %w", err)
		}
		pool.SetMaxOpenConns(8)
		pool.SetMaxIdleConns(8)
		return o.database(pool, SQLite), nil
	}
	return nil, fmt.Errorf("database URL: scheme %q is neither mysql nor sqlite", scheme)
}

func (o Options) database(pool *sql.DB, dialect Dialect) *DB {
	retries := promauto.With(o.Registerer).NewCounterVec(prometheus.CounterOpts{
		Name: "database_retries_total", Help: "Transactions run again because the database broke them off, by cause.",
	}, []string{"cause"})
	causes := []string{deadlock, lockWait}
	if dialect == SQLite {
		causes = []string{busy}
	}
	for _, cause := range causes {
		retries.WithLabelValues(cause) // a rate needs the 0 before the first
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(collectors.NewDBStatsCollector(pool, "liveops"))
	}
	return &DB{
		Queries: Queries{Dialect: dialect, on: pool, patience: o.Patience},
		pool:    pool,
		turn:    make(chan struct{}, 1),
		retries: retries,
	}
}

func (o Options) mysqlDSN(rawURL string) (*mysql.Config, error) {
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
	c.Timeout, c.ReadTimeout, c.WriteTimeout = 5*time.Second, wire, wire
	if o.TLS != nil {
		c.TLS = o.TLS.Clone()
		if c.TLS.ServerName == "" {
			c.TLS.ServerName = u.Hostname() // the driver would not know it behind a socket
		}
	}
	return c, nil
}
