package store

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// Personal tells which rows of a table are about a player, and how they are told to him. The domain that owns the table says so
// beside it.
type Personal struct {
	Kind   string   // what one of the rows is called
	Table  string   // or a join
	Player string   // the column of the player's id; "": player_id
	Key    []string // columns in whose order his rows are read, and that together no two of his rows share
	// Columns are those that are told, those of Key among them: a name, and what it is where that is not text: int, float, time (ms
	// since 1970, 0 and NULL are none), bytes or json.
	Columns []string
}

// Member is one column of a row that is told. Value is nil, a string, an int64, a float64, a time.Time, a []byte, or the JSON
// that a text holds as JSON.
type Member struct {
	Name  string
	Value any
}

// JSON is a Value that is JSON already.
type JSON []byte

const (
	personalPage   = 200  // rows that are read at a time: some may be of 32 KiB
	personalDelete = 1000 // rows deleted in one transaction
)

func (p Personal) player() string {
	if p.Player == "" {
		return "player_id"
	}
	return p.Player
}

// Each calls fn for every row about a player in order of Key. It reads them in pages and holds no connection while fn works. What
// changes meanwhile may be seen before or after.
func (p Personal) Each(ctx context.Context, q Queries, player string, fn func(row []Member) error) error {
	names := make([]string, len(p.Columns))
	for i, column := range p.Columns {
		names[i], _, _ = strings.Cut(column, " ")
	}
	key := strings.Join(p.Key, ", ")
	query := "SELECT " + strings.Join(append(names, p.Key...), ", ") + " FROM " + p.Table + " WHERE " + p.player() + " = ?"
	args := []any{player}
	for {
		var page [][]Member
		last := make([]any, len(p.Key))
		read := query
		if len(args) > 1 {
			read += " AND (" + key + ") > " + tuple(len(p.Key))
		}
		err := q.Each(ctx, read+" ORDER BY "+key+" LIMIT ?", append(args[:len(args):len(args)], personalPage), func(scan func(...any) error) error {
			row, err := p.scan(names, last, scan)
			page = append(page, row)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range page {
			if err := fn(row); err != nil {
				return err
			}
		}
		if len(page) < personalPage {
			return nil
		}
		args = append([]any{player}, last...)
	}
}

// scan reads a row, and its key into last.
func (p Personal) scan(names []string, last []any, scan func(...any) error) ([]Member, error) {
	into, row := make([]any, 0, len(names)+len(last)), make([]Member, len(names))
	for _, column := range p.Columns {
		switch _, as, _ := strings.Cut(column, " "); as {
		case "int", "time":
			into = append(into, new(sql.NullInt64))
		case "float":
			into = append(into, new(sql.NullFloat64))
		case "bytes", "json":
			into = append(into, new([]byte))
		default:
			into = append(into, new(sql.NullString))
		}
	}
	for range last {
		into = append(into, new(any))
	}
	if err := scan(into...); err != nil {
		return nil, err
	}
	for i, name := range names {
		row[i].Name = name[strings.LastIndexByte(name, '.')+1:]
		switch v := into[i].(type) {
		case *sql.NullInt64:
			switch {
			case strings.HasSuffix(p.Columns[i], " int") && v.Valid:
				row[i].Value = v.Int64
			case v.Int64 != 0:
				row[i].Value = time.UnixMilli(v.Int64).UTC()
			}
		case *sql.NullFloat64:
			row[i].Value = v.Float64
		case *sql.NullString:
			if v.Valid {
				row[i].Value = v.String
			}
		case *[]byte:
			switch {
			case *v == nil:
			case strings.HasSuffix(p.Columns[i], " json"):
				if len(*v) > 0 {
					row[i].Value = JSON(*v)
				}
			default:
				row[i].Value = *v
			}
		}
	}
	for i := range last {
		last[i] = *into[len(names)+i].(*any) //nolint:forcetypeassert // set above
	}
	return row, nil
}

// Delete deletes every row about a player, some in each transaction, and gives how many there were. It may be repeated.
func (p Personal) Delete(ctx context.Context, db *DB, player string) (int, error) {
	where := p.player() + " = ? LIMIT ?"
	query := "DELETE FROM " + p.Table + " WHERE " + where
	if db.Dialect == SQLite {
		query = "DELETE FROM " + p.Table + " WHERE rowid IN (SELECT rowid FROM " + p.Table + " WHERE " + where + ")"
	}
	for all := 0; ; {
		var n int64
		err := db.Tx(ctx, func(tx *Tx) (err error) {
			n, err = tx.Exec(ctx, query, player, personalDelete)
			return err
		})
		all += int(n)
		if err != nil || n < personalDelete {
			return all, err
		}
	}
}
