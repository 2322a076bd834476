// Package rejected keeps what was taken in and had no effect: messages that are no event, events judged unfair, dead
// letters. Each is kept with its reason and its bytes as they came, so that an operator can read it and send it
// again, and with who did. It knows nothing of why a stage rejects, nor of how a message is sent.
package rejected

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"liveops/core/fault"
	"liveops/core/store"
)

const (
	maxMessageID = 128     // characters
	maxDetail    = 1000    // characters
	maxList      = 1000    // rejections of one List
	maxStatement = 4 << 20 // bytes of bodies in one statement: servers refuse packets over 16 to 64 MiB
)

// Rejection is one message that had no effect. PlayerID and EventID are empty where the message could not be read. ID,
// FirstAt, LastAt, Times and Release are set by the store.
type Rejection struct {
	ID        string // 32 characters
	Stage     string // fairness, progression or redrive
	Queue     string // only for Put, of a stage that serves several: an event has the same MessageID on each of them
	MessageID string
	PlayerID  string
	EventID   string
	Code      fault.Code
	Detail    string // for operators
	Body      []byte // as it came; List leaves it out
	FirstAt   time.Time
	LastAt    time.Time
	Times     int // how often it was rejected
	Release   Release
}

// Release says that a rejected message was sent on its way again. The zero value: it was not.
type Release struct {
	Queue string // where it was sent
	At    time.Time
	By    string // the id of the operator's key, or the stage that did it by itself
}

// State is how far an operator is with a rejection.
type State string

// The states.
const (
	Open     State = "open"
	Released State = "released"
)

// Filter is what List lists.
type Filter struct {
	After string // the next of the page before; empty: from the newest
	Limit int    // 1 to 1000; outside of that it is moved to the nearer end
	Stage string // empty: of every stage
	State State  // empty: in either
}

// Store is the rejected store. It owns the tables rejected and rejected_release. A release is a row of its own, so that
// nothing a stage writes can undo it.
type Store struct {
	DB  *store.DB
	Now func() time.Time
}

const (
	columns = "r.id, r.stage, r.message_id, r.player_id, r.event_id, r.code, r.detail, r.first_at, r.last_at, r.times, " +
		"COALESCE(s.queue, ''), COALESCE(s.released_at, 0), COALESCE(s.released_by, '')"
	source = " FROM rejected r LEFT JOIN rejected_release s ON s.id = r.id"
)

func table() store.Table {
	return store.Table{
		Name:    "rejected",
		Columns: []string{"id", "stage", "message_id", "player_id", "event_id", "code", "detail", "first_at", "last_at", "times", "body"},
		Key:     []string{"id"},
		Keep:    []string{"first_at", "times"},
	}
}

// Put keeps rejections. The same message of the same queue rejected by the same stage is one rejection: a repeat counts up
// Times, moves LastAt and replaces the reason.
func (s *Store) Put(ctx context.Context, rejections []Rejection) error {
	if len(rejections) == 0 {
		return nil
	}
	now := s.Now().UnixMilli()
	byID := make(map[string][]any, len(rejections))
	for _, r := range rejections {
		id := ID(r)
		byID[id] = []any{
			id, r.Stage, clip(r.MessageID, maxMessageID), r.PlayerID, r.EventID, string(r.Code), clip(r.Detail, maxDetail), now, now, 0,
			append([]byte{}, r.Body...), // not nil, which would be NULL
		}
	}
	rows := make([][]any, 0, len(byID))
	for _, row := range byID {
		rows = append(rows, row)
	}
	// In one order everywhere, so that two replicas with the same batch wait for each other instead of deadlocking.
	slices.SortFunc(rows, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) }) //nolint:forcetypeassert // set above
	err := s.DB.Tx(ctx, func(tx *store.Tx) error {
		for chunk := range chunks(rows) {
			if err := table().Upsert(ctx, tx.Queries, chunk); err != nil {
				return err
			}
			ids := make([]any, len(chunk))
			for i, row := range chunk {
				ids[i] = row[0]
			}
			if _, err := tx.Exec(ctx, "UPDATE rejected SET times = times + 1 WHERE id IN "+tx.Dialect.In(len(ids), 1), ids...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep %d rejected messages: %w", len(rows), err)
	}
	return nil
}

// chunks cuts rows so that the bodies of a chunk fit one statement.
func chunks(rows [][]any) func(yield func([][]any) bool) {
	return func(yield func([][]any) bool) {
		start, size := 0, 0
		for i, row := range rows {
			body := len(row[len(row)-1].([]byte)) //nolint:forcetypeassert // Put makes the rows
			if i > start && (size+body > maxStatement || i-start == 1000) {
				if !yield(rows[start:i]) {
					return
				}
				start, size = i, 0
			}
			size += body
		}
		yield(rows[start:])
	}
}

// List gives rejections without their bodies, newest first by FirstAt, and the After of the next page, empty at the end.
// An After that List did not give is fault.MalformedCursor.
func (s *Store) List(ctx context.Context, f Filter) ([]Rejection, string, error) {
	query, args := "SELECT "+columns+source+" WHERE 1 = 1", []any{}
	if f.After != "" {
		at, id, err := parse(f.After)
		if err != nil {
			return nil, "", err
		}
		query += " AND (r.first_at < ? OR r.first_at = ? AND r.id < ?)"
		args = append(args, at, at, id)
	}
	if f.Stage != "" {
		query += " AND r.stage = ?"
		args = append(args, f.Stage)
	}
	switch f.State {
	case Open:
		query += " AND s.id IS NULL"
	case Released:
		query += " AND s.id IS NOT NULL"
	}
	limit := min(max(f.Limit, 1), maxList)
	query += " ORDER BY r.first_at DESC, r.id DESC LIMIT ?"
	args = append(args, limit+1) // one more says whether there is a next page
	var list []Rejection
	err := s.DB.Each(ctx, query, args, func(scan func(...any) error) error {
		r, err := read(scan)
		list = append(list, r)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list rejected messages: %w", err)
	}
	if len(list) <= limit {
		return list, "", nil
	}
	last := list[limit-1]
	return list[:limit], strconv.FormatInt(last.FirstAt.UnixMilli(), 10) + "." + last.ID, nil
}

// Get gives one rejection with its body, or fault.RejectedNotFound.
func (s *Store) Get(ctx context.Context, id string) (Rejection, error) {
	found := Rejection{}
	err := s.DB.Each(ctx, "SELECT "+columns+", r.body"+source+" WHERE r.id = ?", []any{id}, func(scan func(...any) error) error {
		var body []byte
		r, err := read(scan, &body)
		r.Body = body
		found = r
		return err
	})
	switch {
	case err != nil:
		return Rejection{}, fmt.Errorf("read rejected message: %w", err)
	case found.ID == "":
		return Rejection{}, fault.RejectedNotFound.Errorf("there is no rejected message with this id")
	}
	return found, nil
}

// MarkReleased records that a rejection was sent to a queue, now and by the key with that id, and gives the rejection as it
// then is. The first mark stays: a repeat changes nothing. An id that is nobody's is fault.RejectedNotFound.
func (s *Store) MarkReleased(ctx context.Context, id, queue, by string) (Rejection, error) {
	if _, err := s.Get(ctx, id); err != nil {
		return Rejection{}, err
	}
	if err := s.mark(ctx, []string{id}, queue, by); err != nil {
		return Rejection{}, err
	}
	return s.Get(ctx, id)
}

// MarkBatchReleased records of rejections as they were Put that they were sent to a queue, now and by the stage or the key
// with that id. The first mark of each stays. It is one statement.
func (s *Store) MarkBatchReleased(ctx context.Context, rejections []Rejection, queue, by string) error {
	ids := make([]string, len(rejections))
	for i, r := range rejections {
		ids[i] = ID(r)
	}
	slices.Sort(ids) // for the order of the locks, as in Put
	return s.mark(ctx, slices.Compact(ids), queue, by)
}

func (s *Store) mark(ctx context.Context, ids []string, queue, by string) error {
	releases := store.Table{
		Name: "rejected_release", Columns: []string{"id", "queue", "released_at", "released_by"}, Key: []string{"id"},
	}
	now := s.Now().UnixMilli()
	rows := make([][]any, len(ids))
	for i, id := range ids {
		rows[i] = []any{id, queue, now, by}
	}
	if err := releases.InsertMissing(ctx, s.DB.Queries, rows); err != nil {
		return fmt.Errorf("mark %d rejected messages as released: %w", len(ids), err)
	}
	return nil
}

func read(scan func(...any) error, more ...any) (Rejection, error) {
	var r Rejection
	var first, last, released int64
	err := scan(append([]any{
		&r.ID, &r.Stage, &r.MessageID, &r.PlayerID, &r.EventID, &r.Code, &r.Detail, &first, &last, &r.Times,
		&r.Release.Queue, &released, &r.Release.By,
	}, more...)...)
	r.FirstAt, r.LastAt = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
	if released != 0 {
		r.Release.At = time.UnixMilli(released).UTC()
	}
	return r, err
}

// ID is the id that a rejection is kept under: the same for every delivery of a message to a stage. A message without an id is
// known by its bytes.
func ID(r Rejection) string {
	h := sha256.New()
	h.Write([]byte(r.Stage + "\n" + r.MessageID + "\n"))
	if r.Queue != "" {
		h.Write([]byte(r.Queue + "\n"))
	}
	if r.MessageID == "" {
		h.Write(r.Body)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func parse(cursor string) (at int64, id string, err error) {
	text, id, _ := strings.Cut(cursor, ".")
	at, err = strconv.ParseInt(text, 10, 64)
	if raw, bad := hex.DecodeString(id); err != nil || bad != nil || len(raw) != 16 {
		return 0, "", fault.MalformedCursor.Errorf("the cursor was not issued here")
	}
	return at, id, nil
}

// clip makes text fit a column: valid UTF-8, at most limit characters.
func clip(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for i := range text {
		if limit == 0 {
			return text[:i]
		}
		limit--
	}
	return text
}
