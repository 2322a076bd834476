// Package mailbox keeps what was sent to players for them to claim: what each mail brings, where it comes from, and how long it
// waits. A mail is marked as claimed in the transaction of whoever gives what it brings. The mailbox knows no ledger, no
// catalog and no queue, and does not judge who may claim.
package mailbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/store"
)

// Retention is how long a mail is kept, to be looked at, after it was claimed or expired.
const Retention = 90 * 24 * time.Hour

const (
	chunk   = 1000 // mails sent in one transaction
	maxList = 1000 // mails of one List
)

// FromWindow is the source of a mail that a place in an archived window brought.
const FromWindow = "window"

// State is how far a mail is, at an instant.
type State string

// The states. A mail is in exactly one of them.
const (
	Waiting   State = "waiting"
	Claimed   State = "claimed"   // in time; it stays so
	Withdrawn State = "withdrawn" // while it waited, because the event that sent it was reversed; it stays so
	Expired   State = "expired"   // and never claimed
)

// Mail is something that one player may claim, once. PlayerID and ID are its identity.
type Mail struct {
	PlayerID string
	ID       string // of the event that grants what the mail brings: 1 to 64 characters

	Source   string // FromWindow, or what an event's mail comes from, up to 16 characters
	EventID  string // of the event that sent it; empty: none did
	Ref      string // what of the event it is for, up to 96 characters
	Board    string
	Window   string // its id
	Rank     int64
	TiedRank int64

	XP    int64
	Items map[string]int64

	SentAt      time.Time
	ExpiresAt   time.Time // exclusive
	ClaimedAt   time.Time // zero: it was not claimed
	WithdrawnAt time.Time // zero: it was not withdrawn
}

// State gives the mail's state at an instant. Nothing needs to happen for a mail to expire.
func (m Mail) State(at time.Time) State {
	switch {
	case !m.ClaimedAt.IsZero():
		return Claimed
	case !m.WithdrawnAt.IsZero():
		return Withdrawn
	case at.Before(m.ExpiresAt):
		return Waiting
	}
	return Expired
}

// Filter is what List lists.
type Filter struct {
	Player string
	State  State  // as of now; empty: in any
	After  string // the next of the page before; empty: from the newest
	Limit  int    // 1 to 1000; outside of that it is moved to the nearer end
}

// Mailbox is all players' mail. It owns the table mail. All instants are UTC with milliseconds. It is safe for concurrent use.
type Mailbox struct {
	DB  *store.DB
	Now func() time.Time
}

// Send sends the mails now, each to wait for so long, and gives the number of those that were not there before. A mail that is there stays as
// it is, its expiry too, so that sending again, after whatever cut, sends what is missing. Two that send the same mail
// at the same time may both count it.
func (m *Mailbox) Send(ctx context.Context, mails []Mail, wait time.Duration) (sent int, err error) {
	for some := range slices.Chunk(inOrder(mails), chunk) {
		keys := make([]any, 0, 2*len(some))
		for _, mail := range some {
			keys = append(keys, mail.PlayerID, mail.ID)
		}
		var known int
		err := m.DB.Tx(ctx, func(tx *store.Tx) error {
			query := "SELECT COUNT(*) FROM mail WHERE (player_id, mail_id) IN " + tx.Dialect.In(len(some), 2)
			if err := tx.Row(ctx, query, keys, &known); err != nil {
				return err
			}
			return m.SendIn(ctx, tx, some, wait)
		})
		if err != nil {
			return sent, fmt.Errorf("send %d mails: %w", len(mails), err)
		}
		sent += len(some) - known
	}
	return sent, nil
}

// SendIn sends the mails as Send does, as part of a transaction. Whoever also locks rows of the players does that first.
func (m *Mailbox) SendIn(ctx context.Context, tx *store.Tx, mails []Mail, wait time.Duration) error {
	now := m.Now()
	var rows [][]any
	for _, mail := range inOrder(mails) {
		items, err := json.Marshal(mail.Items, json.Deterministic(true))
		if err != nil {
			return err
		}
		rows = append(rows, []any{
			mail.PlayerID, mail.ID, mail.Source, mail.EventID, mail.Ref, mail.Board, mail.Window, mail.Rank, mail.TiedRank, mail.XP, string(items),
			now.UnixMilli(), now.Add(wait).UnixMilli(),
		})
	}
	if err := table().InsertMissing(ctx, tx.Queries, rows); err != nil {
		return fmt.Errorf("send mails: %w", err)
	}
	return nil
}

// inOrder sorts mails, so that all who send lock in the same order, and drops repeats.
func inOrder(mails []Mail) []Mail {
	return slices.CompactFunc(slices.SortedStableFunc(slices.Values(mails), compare), same)
}

func table() store.Table {
	return store.Table{
		Name: "mail", Key: []string{"player_id", "mail_id"},
		Columns: []string{
			"player_id", "mail_id", "source", "event_id", "ref", "board", "window_id", "position", "tied_position", "xp", "items",
			"sent_at", "expires_at",
		},
	}
}

func compare(a, b Mail) int {
	return cmp.Or(strings.Compare(a.PlayerID, b.PlayerID), strings.Compare(a.ID, b.ID))
}

func same(a, b Mail) bool { return compare(a, b) == 0 }

// List gives a player's mails, newest first, and the After of the next page, empty at the end. An After that List did not give is
// fault.MalformedCursor.
func (m *Mailbox) List(ctx context.Context, f Filter) (mails []Mail, next string, err error) {
	where, args := "player_id = ?", []any{f.Player}
	if f.After != "" {
		sent, id, err := parse(f.After)
		if err != nil {
			return nil, "", err
		}
		where += " AND (sent_at < ? OR (sent_at = ? AND mail_id < ?))"
		args = append(args, sent, sent, id)
	}
	switch f.State {
	case Waiting:
		where += " AND claimed_at IS NULL AND withdrawn_at IS NULL AND expires_at > ?"
		args = append(args, m.Now().UnixMilli())
	case Expired:
		where += " AND claimed_at IS NULL AND withdrawn_at IS NULL AND expires_at <= ?"
		args = append(args, m.Now().UnixMilli())
	case Claimed:
		where += " AND claimed_at IS NOT NULL"
	case Withdrawn:
		where += " AND claimed_at IS NULL AND withdrawn_at IS NOT NULL"
	}
	limit := min(max(f.Limit, 1), maxList)
	where += " ORDER BY sent_at DESC, mail_id DESC LIMIT ?"
	mails, err = read(ctx, m.DB.Queries, where, append(args, limit+1)...) // one more says whether there is a next page
	if err != nil {
		return nil, "", fmt.Errorf("list mails: %w", err)
	}
	if len(mails) <= limit {
		return mails, "", nil
	}
	last := mails[limit-1]
	return mails[:limit], strconv.FormatInt(last.SentAt.UnixMilli(), 10) + "." + last.ID, nil
}

// Get gives one mail, or fault.MailNotFound.
func (m *Mailbox) Get(ctx context.Context, player, id string) (Mail, error) {
	return get(ctx, m.DB.Queries, player, id, "")
}

// Claim marks a mail as claimed at an instant, as part of the transaction that gives what it brings, and gives it as it then is. fresh says
// whether it was waiting until now: one that was claimed before stays as it is, and that is no error. One that had
// expired by then is fault.MailExpired, one that was withdrawn fault.MailWithdrawn, one that is not there fault.MailNotFound.
//
// It locks the mail's row. Whoever also locks a row of the player's does that first.
func (m *Mailbox) Claim(ctx context.Context, tx *store.Tx, player, id string, at time.Time) (mail Mail, fresh bool, err error) {
	mail, err = get(ctx, tx.Queries, player, id, tx.Dialect.ForUpdate())
	if err != nil {
		return Mail{}, false, err
	}
	switch mail.State(at) {
	case Claimed:
		return mail, false, nil
	case Withdrawn:
		return Mail{}, false, fault.MailWithdrawn.Errorf("the mail was withdrawn at %s", mail.WithdrawnAt.Format(time.RFC3339))
	case Expired:
		return Mail{}, false, fault.MailExpired.Errorf("the mail could be claimed until %s", mail.ExpiresAt.Format(time.RFC3339))
	}
	mail.ClaimedAt = at.UTC().Truncate(time.Millisecond)
	_, err = tx.Exec(ctx, "UPDATE mail SET claimed_at = ? WHERE player_id = ? AND mail_id = ?", mail.ClaimedAt.UnixMilli(), player, id)
	if err != nil {
		return Mail{}, false, fmt.Errorf("claim mail: %w", err)
	}
	return mail, true, nil
}

// OfEvent gives the mails that an event of a player sent, in order of id; none once they are purged.
func (m *Mailbox) OfEvent(ctx context.Context, player, eventID string) ([]Mail, error) {
	mails, err := read(ctx, m.DB.Queries, ofEvent, player, eventID)
	if err != nil {
		return nil, fmt.Errorf("read mails of an event: %w", err)
	}
	return mails, nil
}

// Withdraw takes back those mails of an event that wait at an instant, as part of the transaction that takes back the event's effect. Nobody can
// claim them any more. What was claimed or expired before stays as it is.
//
// It locks the mails' rows. Whoever also locks a row of the player's does that first.
func (m *Mailbox) Withdraw(ctx context.Context, tx *store.Tx, player, eventID string, at time.Time) error {
	mails, err := read(ctx, tx.Queries, ofEvent+tx.Dialect.ForUpdate(), player, eventID)
	if err != nil {
		return fmt.Errorf("read mails to withdraw: %w", err)
	}
	args := []any{at.UnixMilli(), player}
	for _, mail := range mails {
		if mail.State(at) == Waiting {
			args = append(args, mail.ID)
		}
	}
	n := len(args) - 2
	if n == 0 {
		return nil
	}
	query := "UPDATE mail SET withdrawn_at = ? WHERE player_id = ? AND mail_id IN " + tx.Dialect.In(n, 1)
	if _, err := tx.Exec(ctx, query, args...); err != nil {
		return fmt.Errorf("withdraw mails: %w", err)
	}
	return nil
}

const ofEvent = "player_id = ? AND event_id = ? ORDER BY mail_id"

// Purge deletes mails that were claimed or expired before an instant, or would have expired had they not been withdrawn, the earliest first and at most limit of them, and says how many
// it deleted: fewer than limit when none is left.
func (m *Mailbox) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	ended := "ended_at < ? ORDER BY ended_at LIMIT ?"
	query := "DELETE FROM mail WHERE " + ended
	if m.DB.Dialect == store.SQLite {
		query = "DELETE FROM mail WHERE rowid IN (SELECT rowid FROM mail WHERE " + ended + ")"
	}
	var purged int64
	err := m.DB.Tx(ctx, func(tx *store.Tx) (err error) { // not alone: so it holds no gap that a claim would wait for
		purged, err = tx.Exec(ctx, query, before.UnixMilli(), limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purge mails: %w", err)
	}
	return int(purged), nil
}

// get gives one mail. lock is what ends the query.
func get(ctx context.Context, q store.Queries, player, id, lock string) (Mail, error) {
	found, err := read(ctx, q, "player_id = ? AND mail_id = ?"+lock, player, id)
	switch {
	case err != nil:
		return Mail{}, fmt.Errorf("read mail: %w", err)
	case len(found) == 0:
		return Mail{}, fault.MailNotFound.Errorf("the player has no such mail")
	}
	return found[0], nil
}

func read(ctx context.Context, q store.Queries, where string, args ...any) ([]Mail, error) {
	var mails []Mail
	query := `SELECT player_id, mail_id, source, event_id, ref, board, window_id, position, tied_position, xp, items, sent_at, expires_at,
		COALESCE(claimed_at, 0), COALESCE(withdrawn_at, 0) FROM mail WHERE ` + where
	err := q.Each(ctx, query, args, func(scan func(...any) error) error {
		var m Mail
		var items []byte
		var sent, expires, claimed, withdrawn int64
		err := scan(&m.PlayerID, &m.ID, &m.Source, &m.EventID, &m.Ref, &m.Board, &m.Window, &m.Rank, &m.TiedRank, &m.XP, &items, &sent, &expires,
			&claimed, &withdrawn)
		if err != nil {
			return err
		}
		m.SentAt, m.ExpiresAt = time.UnixMilli(sent).UTC(), time.UnixMilli(expires).UTC()
		if claimed != 0 {
			m.ClaimedAt = time.UnixMilli(claimed).UTC()
		}
		if withdrawn != 0 {
			m.WithdrawnAt = time.UnixMilli(withdrawn).UTC()
		}
		mails = append(mails, m)
		return json.Unmarshal(items, &mails[len(mails)-1].Items)
	})
	return mails, err
}

// parse reads an After.
func parse(cursor string) (sent int64, id string, err error) {
	text, id, _ := strings.Cut(cursor, ".")
	sent, err = strconv.ParseInt(text, 10, 64)
	if err != nil || id == "" {
		return 0, "", fault.MalformedCursor.Errorf("the cursor was not issued here")
	}
	return sent, id, nil
}
