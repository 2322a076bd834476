package store

import (
	"context"
	"slices"
	"strings"
)

// Dialect is where MySQL and SQLite differ.
type Dialect uint8

// The dialects. MariaDB speaks MySQL's.
const (
	MySQL Dialect = iota
	SQLite
)

// String is the dialect's name in OpenTelemetry's list of database systems.
func (d Dialect) String() string {
	if d == SQLite {
		return "sqlite"
	}
	return "mysql"
}

// maxParams keeps a statement below the placeholder limits (65,535 in MySQL, 32,766 in SQLite) and packets moderate.
const maxParams = 16_000

// ForUpdate ends a SELECT whose rows must not change until the transaction ends. SQLite needs none: its transactions
// exclude each other.
func (d Dialect) ForUpdate() string {
	if d == SQLite {
		return ""
	}
	return " FOR UPDATE"
}

// ForShare ends a SELECT whose rows others may read but not change until the transaction ends.
func (d Dialect) ForShare() string {
	if d == SQLite {
		return ""
	}
	return " LOCK IN SHARE MODE"
}

// In is the right side of "(a, b) IN", or "a IN" for width 1, for n tuples, n ≥ 1.
func (d Dialect) In(n, width int) string {
	one := "?"
	if width > 1 {
		one = tuple(width)
	}
	list := strings.TrimSuffix(strings.Repeat(one+",", n), ",")
	if d == SQLite && width > 1 {
		return "(SELECT * FROM (VALUES " + list + "))" // a bare VALUES of several rows is never looked up by index
	}
	return "(" + list + ")"
}

func tuple(width int) string {
	return "(" + strings.TrimSuffix(strings.Repeat("?,", width), ",") + ")"
}

// Table says how rows are written to a table.
type Table struct {
	Name    string
	Columns []string
	Key     []string // the primary or unique key
	Keep    []string // columns an upsert leaves as they are when the row exists
}

// Insert adds rows in multi-row statements. A row whose key exists is an error, and nothing of its statement was added.
func (t Table) Insert(ctx context.Context, q Queries, rows [][]any) error {
	return t.write(ctx, q, rows, "")
}

// InsertMissing adds the rows whose key does not exist and leaves, and locks, those that do.
func (t Table) InsertMissing(ctx context.Context, q Queries, rows [][]any) error {
	if q.Dialect == SQLite {
		return t.write(ctx, q, rows, " ON CONFLICT ("+strings.Join(t.Key, ", ")+") DO NOTHING")
	}
	return t.write(ctx, q, rows, " ON DUPLICATE KEY UPDATE "+t.Key[0]+" = "+t.Name+"."+t.Key[0])
}

// Upsert adds rows, replacing the columns of those that exist but for Key and Keep.
func (t Table) Upsert(ctx context.Context, q Queries, rows [][]any) error {
	kept := map[string]bool{}
	for _, c := range slices.Concat(t.Key, t.Keep) {
		kept[c] = true
	}
	var sets []string
	for _, c := range t.Columns {
		switch {
		case kept[c]:
		case q.Dialect == SQLite:
			sets = append(sets, c+" = excluded."+c)
		default:
			sets = append(sets, c+" = VALUES("+c+")")
		}
	}
	if q.Dialect == SQLite {
		return t.write(ctx, q, rows, " ON CONFLICT ("+strings.Join(t.Key, ", ")+") DO UPDATE SET "+strings.Join(sets, ", "))
	}
	return t.write(ctx, q, rows, " ON DUPLICATE KEY UPDATE "+strings.Join(sets, ", "))
}

func (t Table) write(ctx context.Context, q Queries, rows [][]any, ending string) error {
	width := len(t.Columns)
	for len(rows) > 0 {
		n := min(len(rows), maxParams/width)
		args := make([]any, 0, n*width)
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		values := strings.TrimSuffix(strings.Repeat(tuple(width)+",", n), ",")
		query := "INSERT INTO " + t.Name + " (" + strings.Join(t.Columns, ", ") + ") VALUES " + values + ending
		if _, err := q.Exec(ctx, query, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
