package progression

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"liveops/core/event"
	"liveops/core/fault"
)

// maxPage is the most rows of one List or Inventory.
const maxPage = 1000

// Filter is what List and Inventory list.
type Filter struct {
	Player string
	Item   string // List: only entries of this item; empty: of all, and of XP
	Type   string // List: only entries of events of this type; empty: of all
	Prefix string // Inventory: only items whose ids begin so, such as those of a family
	After  string // the next of the page before; empty: from the beginning
	Limit  int    // 1 to 1000; outside of that it is moved to the nearer end
}

// List gives entries of a player's ledger, newest first, and the After of the next page, empty at the end. A player without any event has
// none. An After that List did not give is fault.MalformedCursor.
func (l *Ledger) List(ctx context.Context, f Filter) (entries []Entry, next string, err error) {
	where, args := "player_id = ?", []any{f.Player}
	if f.After != "" {
		text, err := open(entryCursor, f.After)
		if err != nil {
			return nil, "", err
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strconv.FormatInt(number, 10) != text {
			return nil, "", notOurs()
		}
		where, args = where+" AND entry_no < ?", append(args, number)
	}
	if f.Item != "" {
		where, args = where+" AND item_id = ?", append(args, f.Item)
	}
	if f.Type != "" {
		where, args = where+" AND event_type = ?", append(args, f.Type)
	}
	limit := min(max(f.Limit, 1), maxPage)
	entries, err = l.entries(ctx, where+" ORDER BY entry_no DESC LIMIT ?", append(args, limit+1)...) // one more says whether there is a next page
	if err != nil || len(entries) <= limit {
		return entries, "", err
	}
	return entries[:limit], seal(entryCursor, strconv.FormatInt(entries[limit-1].Number, 10)), nil
}

// Inventory gives what a player holds, in order of item, and the After of the next page, empty at the end. A player without any event holds
// nothing. An After that Inventory did not give is fault.MalformedCursor.
func (l *Ledger) Inventory(ctx context.Context, f Filter) (held []Holding, next string, err error) {
	where, args := "player_id = ? AND quantity > 0", []any{f.Player}
	if f.After != "" {
		item, err := open(itemCursor, f.After)
		if err != nil {
			return nil, "", err
		}
		if !event.ValidID(item) {
			return nil, "", notOurs()
		}
		where, args = where+" AND item_id > ?", append(args, item)
	}
	if f.Prefix != "" {
		where, args = where+" AND item_id >= ? AND item_id < ?", append(args, f.Prefix, f.Prefix+past)
	}
	limit := min(max(f.Limit, 1), maxPage)
	query := "SELECT item_id, quantity FROM item WHERE " + where + " ORDER BY item_id LIMIT ?"
	err = l.DB.Each(ctx, query, append(args, limit+1), func(scan func(...any) error) error {
		var h Holding
		err := scan(&h.Item, &h.Quantity)
		held = append(held, h)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("read inventory: %w", err)
	}
	if len(held) <= limit {
		return held, "", nil
	}
	return held[:limit], seal(itemCursor, held[limit-1].Item), nil
}

// What a cursor begins with, so that one of another list is not taken.
const (
	entryCursor = "entry:"
	itemCursor  = "item:"
)

func seal(of, place string) string { return base64.RawURLEncoding.EncodeToString([]byte(of + place)) }

// open gives the place in a list that a cursor stands for.
func open(of, cursor string) (string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	place, is := strings.CutPrefix(string(raw), of)
	if err != nil || !is || seal(of, place) != cursor { // base64 reads past line ends
		return "", notOurs()
	}
	return place, nil
}

func notOurs() error { return fault.MalformedCursor.Errorf("the cursor was not issued here") }
