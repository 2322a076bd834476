package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// The migrations, in order of their names: NNNN_what.sql, one statement each, because MySQL's DDL is not transactional.
// They are written for MySQL; what only MySQL reads stands in /*! */, which SQLite takes for a comment. A file that ends in
// .sqlite.sql is for SQLite only: there an index is a statement of its own.
//
// A migration only adds, so that programs which do not know it go on, and come back when a deployment is rolled back. One that
// they must not run on has .breaking in its name.
//
//go:embed migrations/*.sql
var migrations embed.FS

const schemaVersion = `CREATE TABLE IF NOT EXISTS schema_version (
	version VARCHAR(100) NOT NULL PRIMARY KEY,
	applied_at BIGINT NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */`

// ErrNewerSchema says that the database has a breaking migration that this program does not know.
var ErrNewerSchema = errors.New("which this program does not know and must not run on: it belongs to a newer version")

const breaking = ".breaking"

// Migrate brings the schema to the newest version this program knows and gives the names of what it applied. It refuses a
// schema that a newer program broke with, ErrNewerSchema. Each file must be repeatable on its own (IF NOT EXISTS), because the program may
// die between a statement and the row that records it. ADD COLUMN is: neither MySQL nor SQLite has an IF NOT EXISTS for it, so a
// column that is there already is taken for added. So is an index, for which MySQL has none either.
func (db *DB) Migrate(ctx context.Context) ([]string, error) {
	if _, err := db.Exec(ctx, schemaVersion); err != nil {
		return nil, fmt.Errorf("create schema_version: %w", err)
	}
	pending, err := db.Pending(ctx)
	if err != nil {
		return nil, err
	}
	for i, name := range pending {
		statement, err := migrations.ReadFile("migrations/" + name + ".sql")
		if err != nil {
			return nil, err
		}
		if _, err := db.Exec(ctx, string(statement)); err != nil && !exists(err) {
			return pending[:i], fmt.Errorf("migration %s: %w", name, err)
		}
		applied := Table{Name: "schema_version", Columns: []string{"version", "applied_at"}, Key: []string{"version"}}
		if err := applied.InsertMissing(ctx, db.Queries, [][]any{{name, time.Now().UnixMilli()}}); err != nil {
			return pending[:i], fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return pending, nil
}

// exists says whether a statement failed because it would add a column or an index that a table has.
func exists(err error) bool {
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		return refused.Number == 1060 || refused.Number == 1061
	}
	text := err.Error() // SQLite has no code for it
	return strings.Contains(text, "duplicate column name") || strings.Contains(text, "index") && strings.Contains(text, "already exists")
}

// Pending lists the migrations this program knows and the database lacks. A database that has a breaking one this program
// does not know is ErrNewerSchema; others that it does not know only add.
func (db *DB) Pending(ctx context.Context) ([]string, error) {
	applied := map[string]bool{}
	err := db.Each(ctx, "SELECT version FROM schema_version", nil, func(scan func(...any) error) error {
		var version string
		err := scan(&version)
		applied[version] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read schema_version (has `liveops migrate` run?): %w", err)
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var pending []string
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "migrations/"), ".sql")
		if !applied[name] && (db.Dialect == SQLite || !strings.HasSuffix(name, ".sqlite")) {
			pending = append(pending, name)
		}
		delete(applied, name)
	}
	for unknown := range applied {
		if strings.Contains(unknown, breaking) {
			return nil, fmt.Errorf("the database has migration %q, %w", unknown, ErrNewerSchema)
		}
	}
	return pending, nil
}
