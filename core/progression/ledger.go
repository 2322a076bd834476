package progression

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
)

const (
	chunk  = 1000 // keys that one SELECT names
	unions = 400  // families that one SELECT reads; SQLite takes no more than 500
	past   = "~"  // sorts after every character of an id
)

// Ledger keeps the tables player, ledger, item, tally and reversal, and is their only writer. The ledger only grows; a player's rows in it
// are numbered without a gap. It is safe for concurrent use, also by several processes.
type Ledger struct {
	DB      *store.DB
	Catalog func() *catalog.Catalog // the version in force
	Now     func() time.Time
}

// State is where a player stands. Version grows with every change, so that a cache can tell the newer of two.
type State struct {
	PlayerID  string
	XP        int64
	Level     int
	Items     []Holding `json:",omitempty"` // in order of item, none empty
	Version   int64
	UpdatedAt time.Time
}

// Holding is how many of one item a player has.
type Holding struct {
	Item     string
	Quantity int64
}

// Entry is one row of the ledger: a change of one balance by one event. Item is empty on the root row.
type Entry struct {
	EventID        string
	Kind           string
	Number         int64 // position among the player's entries, from 1
	EventType      string
	Item           string
	Delta          int64
	Balance        int64 // after it, of the XP or the item
	LevelBefore    int
	LevelAfter     int
	CatalogVersion int
	Modifier       string // that made the XP what it is, on the root row; empty: none did
	EffectiveAt    time.Time
	RecordedAt     time.Time
	Notes          []Note // of the whole event, on its root row
}

// account is a player's row while it is locked.
type account struct {
	progress
	entries int64
	items   map[string]int64 // as far as read
	slots   map[string]int   // how many different items are held, of the families that were asked for
}

// change grants or takes items, and gives the grant.
func (a *account) change(c *catalog.Catalog, kind, item string, delta int64) Grant {
	before := a.items[item]
	a.items[item] += delta
	if len(a.slots) > 0 && (before == 0 || a.items[item] == 0) {
		family := c.Family(item)
		if n, counted := a.slots[family]; counted && before == 0 {
			a.slots[family] = n + 1
		} else if counted {
			a.slots[family] = n - 1
		}
	}
	return Grant{Kind: kind, Item: item, Quantity: delta, Balance: a.items[item]}
}

// full says whether the player holds as many different items of an item's family as there are slots. All he holds of it were read.
func (a *account) full(c *catalog.Catalog, item string, slots int) bool {
	of := c.Family(item)
	if of == "" {
		return false
	}
	n, counted := a.slots[of]
	if !counted {
		for held, quantity := range a.items {
			if quantity > 0 && strings.HasPrefix(held, of) && c.Family(held) == of {
				n++
			}
		}
		if a.slots == nil {
			a.slots = map[string]int{}
		}
		a.slots[of] = n
	}
	return n >= slots
}

// key is an event's identity, or a player's item.
type key struct{ player, id string }

func (k key) compare(o key) int {
	return cmp.Or(strings.Compare(k.player, o.player), strings.Compare(k.id, o.id))
}

// Apply gives each event of the batch its effect, in the order of the batch, and returns one Effect per event in that order.
//
// An event has its effect exactly once, however often, in whatever order and by however many workers at the same time it is
// applied, and wherever one of them is cut. All of a batch happens in one transaction or not at all. It first locks the rows
// of its players, in one order for everybody, so that nobody else can apply an event of theirs between the look into the
// ledger and the write; the ledger's primary key (player, event, kind) would refuse the write if somebody did. A repeat, in
// the batch or from an earlier one, comes back with Fresh unset. Identity alone decides: of two different events with the
// same identity the first wins and the other is a repeat.
//
// also, if not nil, runs inside the transaction with all the effects before anything is written, and may append Notes to
// fresh ones. What it returns as an error undoes everything. The database may break a deadlock by running the transaction
// again, so also must not change anything outside of tx that a second run does not replace.
//
// A database out of reach is fault.Unavailable; the batch can then be applied again as it is.
func (l *Ledger) Apply(ctx context.Context, batch []event.Accepted, also func(tx *store.Tx, effects []*Effect) error) ([]*Effect, error) {
	var effects []*Effect
	err := l.DB.Tx(ctx, func(tx *store.Tx) error {
		rules, now := l.Catalog(), l.Now().UnixMilli()
		accounts, err := lock(ctx, tx, batch, now)
		if err != nil {
			return err
		}
		known, err := applied(ctx, tx, batch)
		if err != nil {
			return err
		}
		zone, offers := sync.OnceValue(rules.Location), make([]offer, len(batch))
		for i, e := range batch {
			if !known[key{e.PlayerID, e.ID}] {
				offers[i] = offered(rules, e.Event)
			}
		}
		counts, err := readTallies(ctx, tx, rules, batch, offers, zone)
		if err != nil {
			return err
		}
		var wishes [][]wish
		effects, wishes = advanceAll(rules, accounts, known, batch, offers, zone, counts)
		if err := readItems(ctx, tx, rules, accounts, effects, wishes); err != nil {
			return err
		}
		for i, effect := range effects {
			effect.settle(rules, wishes[i], accounts[effect.Event.PlayerID])
		}
		if also != nil {
			if err := also(tx, effects); err != nil {
				return err
			}
		}
		if err := write(ctx, tx, accounts, effects, now); err != nil {
			return err
		}
		return counts.write(ctx, tx)
	})
	if err != nil {
		return nil, fmt.Errorf("apply %d events: %w", len(batch), err)
	}
	return effects, nil
}

// lock makes the players of the batch exist and holds their rows until the transaction ends.
func lock(ctx context.Context, tx *store.Tx, batch []event.Accepted, now int64) (map[string]*account, error) {
	accounts := map[string]*account{}
	for _, e := range batch {
		accounts[e.PlayerID] = nil
	}
	ids := slices.Sorted(maps.Keys(accounts))
	var rows [][]any
	for _, id := range ids {
		rows = append(rows, []any{id, 0, 1, 0, now, now})
	}
	if err := players().InsertMissing(ctx, tx.Queries, rows); err != nil {
		return nil, fmt.Errorf("open players: %w", err)
	}
	for some := range slices.Chunk(ids, chunk) {
		var args []any
		for _, id := range some {
			args = append(args, id)
		}
		query := "SELECT player_id, xp, level, entries FROM player WHERE player_id IN " + tx.Dialect.In(len(some), 1) +
			" ORDER BY player_id" + tx.Dialect.ForUpdate()
		err := tx.Each(ctx, query, args, func(scan func(...any) error) error {
			var id string
			a := account{items: map[string]int64{}}
			if err := scan(&id, &a.xp, &a.level, &a.entries); err != nil {
				return err
			}
			accounts[id] = &a
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("lock players: %w", err)
		}
	}
	return accounts, nil
}

// applied tells which events of the batch the ledger has.
func applied(ctx context.Context, tx *store.Tx, batch []event.Accepted) (map[key]bool, error) {
	known := map[key]bool{}
	for some := range slices.Chunk(batch, chunk) {
		var args []any
		for _, e := range some {
			args = append(args, e.PlayerID, e.ID, Root)
		}
		query := "SELECT player_id, event_id FROM ledger WHERE (player_id, event_id, kind) IN " + tx.Dialect.In(len(some), 3)
		err := tx.Each(ctx, query, args, func(scan func(...any) error) error {
			var k key
			err := scan(&k.player, &k.id)
			known[k] = true
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for events in the ledger: %w", err)
		}
	}
	return known, nil
}

// advanceAll runs the rules over the batch, event after event, and leaves the accounts where they end up.
func advanceAll(
	rules *catalog.Catalog, accounts map[string]*account, known map[key]bool, batch []event.Accepted, offers []offer,
	zone func() *time.Location, counts *tallies,
) ([]*Effect, [][]wish) {
	effects, wishes := make([]*Effect, len(batch)), make([][]wish, len(batch))
	for i, e := range batch {
		k := key{e.PlayerID, e.ID}
		if known[k] {
			effects[i] = &Effect{Event: e}
			continue
		}
		known[k] = true
		a := accounts[e.PlayerID]
		local := func() time.Time { return e.At.In(zone()) }
		effects[i], wishes[i] = advance(rules, a.progress, e, offers[i], local, counts)
		a.progress = progress{xp: effects[i].XPAfter, level: effects[i].LevelAfter}
	}
	return effects, wishes
}

// readItems reads what the players hold of the items that are wished for, of those that these may become, and of families with slots
// everything. Their rows need no lock: whoever changes them holds the player's.
func readItems(ctx context.Context, tx *store.Tx, c *catalog.Catalog, accounts map[string]*account, effects []*Effect, wishes [][]wish) error {
	wanted, families := map[key]bool{}, map[key]bool{}
	more := named(c)
	for i, effect := range effects {
		for _, w := range wishes[i] {
			if !event.ValidID(w.item) {
				continue
			}
			player := effect.Event.PlayerID
			wanted[key{player, w.item}] = true
			if !more || w.quantity <= 0 {
				continue
			}
			item, _ := c.Item(w.item)
			if item.Slots > 0 {
				families[key{player, c.Family(w.item)}] = true
			}
			if item.Convert != nil {
				wanted[key{player, item.Convert.Item}] = true
				if became, _ := c.Item(item.Convert.Item); became.Slots > 0 {
					families[key{player, c.Family(item.Convert.Item)}] = true
				}
			}
		}
	}
	names, beginnings := slices.SortedFunc(maps.Keys(wanted), key.compare), slices.SortedFunc(maps.Keys(families), key.compare)
	for len(names) > 0 || len(beginnings) > 0 {
		var queries []string
		var args []any
		if n := min(chunk, len(names)); n > 0 {
			queries = append(queries, "SELECT player_id, item_id, quantity FROM item WHERE (player_id, item_id) IN "+tx.Dialect.In(n, 2))
			for _, k := range names[:n] {
				args = append(args, k.player, k.id)
			}
			names = names[n:]
		}
		for n := min(unions, len(beginnings)); n > 0; n-- {
			queries = append(queries, "SELECT player_id, item_id, quantity FROM item WHERE player_id = ? AND item_id >= ? AND item_id < ? AND quantity > 0")
			args = append(args, beginnings[0].player, beginnings[0].id, beginnings[0].id+past)
			beginnings = beginnings[1:]
		}
		err := tx.Each(ctx, strings.Join(queries, " UNION ALL "), args, func(scan func(...any) error) error {
			var k key
			var quantity int64
			if err := scan(&k.player, &k.id, &quantity); err != nil {
				return err
			}
			accounts[k.player].items[k.id] = quantity
			return nil
		})
		if err != nil {
			return fmt.Errorf("read items: %w", err)
		}
	}
	return nil
}

// write records the fresh effects and the balances they lead to.
func write(ctx context.Context, tx *store.Tx, accounts map[string]*account, effects []*Effect, now int64) error {
	var entries [][]any
	touched, items := map[string]bool{}, map[key]int64{}
	for _, e := range effects {
		if !e.Fresh {
			continue
		}
		player, a := e.Event.PlayerID, accounts[e.Event.PlayerID]
		touched[player] = true
		var notes any
		if len(e.Notes) > 0 {
			text, err := json.Marshal(e.Notes)
			if err != nil {
				return err
			}
			notes = string(text)
		}
		entry := func(kind, item string, delta, balance int64, modifier, notes any) {
			a.entries++
			entries = append(entries, []any{
				player, e.Event.ID, kind, a.entries, e.Event.Type, item, delta, balance,
				e.LevelBefore, e.LevelAfter, e.CatalogVersion, e.Event.At.UnixMilli(), now, modifier, notes,
			})
		}
		var modifier any
		if e.Modifier != "" {
			modifier = e.Modifier
		}
		entry(Root, "", e.XP, e.XPAfter, modifier, notes)
		for _, g := range e.Grants {
			entry(g.Kind, g.Item, g.Quantity, g.Balance, nil, nil)
			items[key{player, g.Item}] = g.Balance
		}
	}
	// Rows go into every table in the order of its key, here the first three columns: one order for all who write, and the
	// cheapest one.
	slices.SortFunc(entries, func(a, b []any) int {
		return cmp.Or(strings.Compare(a[0].(string), b[0].(string)), strings.Compare(a[1].(string), b[1].(string)),
			strings.Compare(a[2].(string), b[2].(string)))
	})
	ledger := store.Table{Name: "ledger", Columns: []string{
		"player_id", "event_id", "kind", "entry_no", "event_type", "item_id",
		"delta", "balance", "level_before", "level_after", "catalog_version", "effective_at", "recorded_at", "modifier", "notes",
	}}
	if err := ledger.Insert(ctx, tx.Queries, entries); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}

	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		a := accounts[id]
		rows = append(rows, []any{id, a.xp, a.level, a.entries, now, now})
	}
	if err := players().Upsert(ctx, tx.Queries, rows); err != nil {
		return fmt.Errorf("write players: %w", err)
	}

	rows = nil
	for _, k := range slices.SortedFunc(maps.Keys(items), key.compare) {
		rows = append(rows, []any{k.player, k.id, items[k]})
	}
	item := store.Table{Name: "item", Columns: []string{"player_id", "item_id", "quantity"}, Key: []string{"player_id", "item_id"}}
	if err := item.Upsert(ctx, tx.Queries, rows); err != nil {
		return fmt.Errorf("write items: %w", err)
	}
	return nil
}

func players() store.Table {
	return store.Table{
		Name:    "player",
		Columns: []string{"player_id", "xp", "level", "entries", "created_at", "updated_at"},
		Key:     []string{"player_id"},
		Keep:    []string{"created_at"},
	}
}

// Player gives where a player stands, as of one moment. One without any event is fault.PlayerNotFound.
func (l *Ledger) Player(ctx context.Context, id string) (State, error) {
	s := State{PlayerID: id}
	found := false
	query := `SELECT p.xp, p.level, p.entries, p.updated_at, COALESCE(i.item_id, ''), COALESCE(i.quantity, 0)
		FROM player p LEFT JOIN item i ON i.player_id = p.player_id AND i.quantity > 0
		WHERE p.player_id = ? ORDER BY i.item_id`
	err := l.DB.Each(ctx, query, []any{id}, func(scan func(...any) error) error {
		found = true
		var h Holding
		var updated int64
		if err := scan(&s.XP, &s.Level, &s.Version, &updated, &h.Item, &h.Quantity); err != nil {
			return err
		}
		s.UpdatedAt = time.UnixMilli(updated).UTC()
		if h.Item != "" {
			s.Items = append(s.Items, h)
		}
		return nil
	})
	if err != nil {
		return State{}, fmt.Errorf("read player: %w", err)
	}
	if !found {
		return State{}, fault.PlayerNotFound.Errorf("no event of the player has had an effect")
	}
	return s, nil
}

// Entries gives the ledger rows of one event, the root row first; none for an event without effect.
func (l *Ledger) Entries(ctx context.Context, player, eventID string) ([]Entry, error) {
	return l.entries(ctx, "player_id = ? AND event_id = ? ORDER BY entry_no", player, eventID)
}

func (l *Ledger) entries(ctx context.Context, where string, args ...any) ([]Entry, error) {
	var entries []Entry
	query := `SELECT event_id, kind, entry_no, event_type, item_id, delta, balance, level_before, level_after, catalog_version,
		COALESCE(modifier, ''), effective_at, recorded_at, COALESCE(notes, '[]') FROM ledger WHERE ` + where
	err := l.DB.Each(ctx, query, args, func(scan func(...any) error) error {
		var e Entry
		var effective, recorded int64
		var notes []byte
		if err := scan(&e.EventID, &e.Kind, &e.Number, &e.EventType, &e.Item, &e.Delta, &e.Balance, &e.LevelBefore, &e.LevelAfter,
			&e.CatalogVersion, &e.Modifier, &effective, &recorded, &notes); err != nil {
			return err
		}
		e.EffectiveAt, e.RecordedAt = time.UnixMilli(effective).UTC(), time.UnixMilli(recorded).UTC()
		err := json.Unmarshal(notes, &e.Notes)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return entries, nil
}
