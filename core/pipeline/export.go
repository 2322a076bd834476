package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/erasure"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/journal"
	"liveops/core/leaderboard"
	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/session"
	"liveops/core/store"
)

// ExportFormat is the version of what Export writes. It grows when a kind or a member goes or changes its meaning.
const ExportFormat = 1

// Exports tells players what is held on them.
type Exports struct {
	DB      *store.DB
	Entries leaderboard.Entries
	Gate    *gate.Gate
	States  fairness.RedisStates
	Now     func() time.Time
}

// Personal tells all rows of all tables that are about a player, but for entries.
func Personal() []store.Personal {
	return slices.Concat(
		progression.Personal(), receipt.Personal(), mailbox.Personal(), leaderboard.Personal(), season.Personal(),
		rejected.Personal(), journal.Personal(), fairness.Personal(), session.Personal(), erasure.Personal(),
	)
}

// Write writes everything that is held on a player as lines of JSON, each an object with a kind and its data: first "header", then one for
// each record, and last "end" with the number of records by kind, by which a file that was cut is known. It holds some records in
// memory at a time and is of no single moment. Of whom nothing is held is fault.PlayerNotFound, and nothing is written.
func (e *Exports) Write(ctx context.Context, player string, to io.Writer) error {
	out := lines{to: to, counts: map[string]int{}}
	out.header = []store.Member{{Name: "player_id", Value: player}, {Name: "exported_at", Value: e.Now().UTC()}, {Name: "format", Value: int64(ExportFormat)}}
	for _, rows := range Personal() {
		err := rows.Each(ctx, e.DB.Queries, player, func(row []store.Member) error { return out.record(rows.Kind, row) })
		if err != nil {
			return fmt.Errorf("export %s: %w", rows.Kind, err)
		}
	}
	err := e.Entries.Held(ctx, e.DB.Queries, player, func(r leaderboard.Row) error {
		return out.record("entry", []store.Member{
			{Name: "board", Value: r.Board},
			{Name: "window_id", Value: r.Window},
			{Name: "score", Value: r.Score},
			{Name: "total", Value: r.Total},
			{Name: "achieved_at", Value: r.AchievedAt},
			{Name: "seq", Value: r.Seq},
			{Name: "event_id", Value: r.EventID},
			{Name: "metadata", Value: store.JSON(r.Metadata)},
		})
	})
	if err != nil {
		return fmt.Errorf("export entries: %w", err)
	}
	held, err := e.Gate.Held(ctx, player)
	if err != nil {
		return fmt.Errorf("export what the gate holds: %w", err)
	}
	for _, key := range held {
		fields, err := json.Marshal(key.Fields, json.Deterministic(true))
		if err != nil {
			return err
		}
		if err := out.record("gate", []store.Member{{Name: "key", Value: key.Key}, {Name: "fields", Value: store.JSON(fields)}}); err != nil {
			return err
		}
	}
	state, err := e.States.Held(ctx, player)
	if err != nil {
		return fmt.Errorf("export what is known of his play: %w", err)
	}
	if state != nil {
		if err := out.record("play_statistics", []store.Member{{Name: "state", Value: state}}); err != nil {
			return err
		}
	}
	if len(out.counts) == 0 {
		return fault.PlayerNotFound.Errorf("nothing is held on this player")
	}
	counts, err := json.Marshal(out.counts, json.Deterministic(true))
	if err != nil {
		return err
	}
	return out.write("end", []store.Member{{Name: "counts", Value: store.JSON(counts)}})
}

// lines writes an export. The header waits for the first record.
type lines struct {
	to     io.Writer
	header []store.Member
	counts map[string]int
}

func (l *lines) record(kind string, members []store.Member) error {
	if len(l.counts) == 0 {
		if err := l.write("header", l.header); err != nil {
			return err
		}
	}
	l.counts[kind]++
	return l.write(kind, members)
}

func (l *lines) write(kind string, members []store.Member) error {
	var line bytes.Buffer
	line.WriteString(`{"kind":"` + kind + `","data":{`)
	sep := ""
	for _, m := range members {
		value := m.Value
		switch v := value.(type) {
		case nil:
			continue
		case time.Time:
			value = v.Format("2006-01-02T15:04:05.000Z")
		case store.JSON:
			if len(v) == 0 {
				continue
			}
			text := jsontext.Value(v)
			if text.Compact() == nil {
				value = text
			} else {
				value = string(v)
			}
		}
		text, err := json.Marshal(value, jsontext.AllowInvalidUTF8(true))
		if err != nil {
			return fmt.Errorf("export %s: %w", m.Name, err)
		}
		line.WriteString(sep + `"` + m.Name + `":`)
		line.Write(text)
		sep = ","
	}
	line.WriteString("}}\n")
	_, err := l.to.Write(line.Bytes())
	return err
}
