package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"liveops/core/store"
)

// Migrate brings the schema up to date and tells out what was applied. Of the environment it reads DB_URL and DB_TLS alone,
// since whoever may change the schema need know no other secret. It may be repeated, and run beside itself.
func Migrate(ctx context.Context, getenv func(string) string, out io.Writer) error {
	s := &source{getenv: getenv}
	url := s.databaseURL()
	options := store.Options{TLS: s.databaseTLS(), MaxConns: 1}
	if err := errors.Join(s.problems...); err != nil {
		return fmt.Errorf("configuration:\n%w", err)
	}
	db, err := options.Open(url)
	if err != nil {
		return fmt.Errorf("DB_URL: %w", err)
	}
	defer db.Close() //nolint:errcheck // nothing is lost with an idle pool
	applied, err := db.Migrate(ctx)
	for _, name := range applied {
		_, _ = fmt.Fprintf(out, "applied %s\n", name)
	}
	if err == nil && len(applied) == 0 {
		_, _ = fmt.Fprintln(out, "the schema is up to date")
	}
	return err
}
