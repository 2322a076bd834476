package main

import (
	"fmt"

	"liveops/core/store"
)

// database says which database to work on, past the API.
type database struct {
	DB    string `name:"db" help:"The database, mysql://user:password@host:port/name or sqlite:PATH." env:"DB_URL" required:"" placeholder:"URL"`
	DBTLS string `name:"db-tls" help:"TLS to MySQL: true, skip-verify or the path of a CA file." env:"DB_TLS" placeholder:"HOW"`
}

// open opens it. The driver of SQLite is linked with local/stack.
func (d database) open() (*store.DB, error) {
	secure, err := store.TLS(d.DBTLS)
	if err != nil {
		return nil, fmt.Errorf("--db-tls: %w", err)
	}
	return store.Options{TLS: secure}.Open(d.DB)
}
