package main

import (
	"context"
)

type migrateCommand struct {
	database
}

// Help implements kong's longer help.
func (migrateCommand) Help() string {
	return `Run it before a new version of the handler: that one is not ready on an older schema. It does nothing where
nothing is missing.

Examples:
  DB_URL=mysql://liveops:password@db:3306/liveops liveops migrate
  liveops migrate --db sqlite:/var/lib/liveops/liveops.db`
}

// Run migrates.
func (c migrateCommand) Run(ctx context.Context, t *terminal) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing is lost with an idle pool
	applied, err := db.Migrate(ctx)
	for _, name := range applied {
		t.out.printf("applied %s\n", name)
	}
	if err == nil && len(applied) == 0 {
		t.out.printf("the schema is up to date\n")
	}
	return err
}
