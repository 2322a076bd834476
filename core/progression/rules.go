// Package progression moves players forward: what an event is worth in XP, levels and items, and the ledger that gives
// every event its effect once. The rules are pure; the ledger is their only caller and keeps the result in SQL. It knows
// nothing of queues, receipts, rankings or HTTP, and does not judge whether an event is honest.
package progression

import (
	"maps"
	"slices"
	"strconv"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

// Root is the kind of the ledger row that every applied event has, exactly one. Its delta is the event's XP, often 0.
const Root = "xp"

// Effect is what one event did to its player. Unless Fresh, the event had its effect before and only Event is set.
type Effect struct {
	Event          event.Accepted
	Fresh          bool
	XP             int64 // XPAfter − XPBefore
	XPBefore       int64
	XPAfter        int64
	LevelBefore    int
	LevelAfter     int
	Grants         []Grant // in the order granted
	Notes          []Note  // what the event asked for and did not get
	CatalogVersion int
}

// Granted says whether the event changed anything the player owns.
func (e *Effect) Granted() bool { return e.XP != 0 || len(e.Grants) > 0 }

// Grant is a change of the quantity of one item. Its kind names it among the grants of its event: "item:gem", or
// "level:5:item:gem" for the reward of a level.
type Grant struct {
	Kind     string
	Item     string
	Quantity int64 // never 0
	Balance  int64 // after it
}

// Note is one thing that an event asked for and did not get, and why. Ref names it as a kind would ("xp", "item:gem",
// "level:5:item:gem", "boss:hydra"), or the field at fault; Amount is how much of it was left out.
type Note struct {
	Code   fault.Code `json:"code"`
	Ref    string     `json:"ref"`
	Amount int64      `json:"amount"`
}

func (e *Effect) note(code fault.Code, ref string, amount int64) {
	e.Notes = append(e.Notes, Note{Code: code, Ref: ref, Amount: amount})
}

// progress is what decides, beside the catalog, what an event is worth to a player.
type progress struct {
	xp    int64
	level int
}

// wish is an item to be granted before anybody has looked at the stack.
type wish struct {
	kind     string
	item     string
	quantity int64
}

// advance gives the effect of an event on a player, but for the items: those are wishes, because which stacks have to be
// read is only known afterwards. It never fails. What makes no sense under this catalog is worth nothing and noted; the
// event may have been accepted under another one.
//
// A level once reached stays, whether XP is taken away or a new curve is steeper: a level that could be reached again would
// be rewarded again.
func advance(c *catalog.Catalog, p progress, e event.Accepted) (*Effect, []wish) {
	effect := &Effect{Event: e, Fresh: true, XPBefore: p.xp, LevelBefore: p.level, CatalogVersion: c.Version}
	xp, wishes := effect.worth(c)

	effect.XP = fitting(p.xp, xp, event.MaxInteger)
	if effect.XP != xp {
		effect.note(fault.BalanceLimit, Root, xp-effect.XP)
	}
	effect.XPAfter = p.xp + effect.XP
	effect.LevelAfter = max(p.level, c.XP.Level(effect.XPAfter))
	for level := p.level + 1; level <= effect.LevelAfter; level++ {
		reward := c.Rewards.Levels[level].Items
		wishes = append(wishes, bundle("level:"+strconv.Itoa(level)+":item:", reward)...)
	}
	return effect, wishes
}

// worth is what the event asks for by its type.
func (e *Effect) worth(c *catalog.Catalog) (int64, []wish) {
	switch e.Event.Type {
	case event.XPGained:
		amount, ok := e.Event.Int("amount")
		if !ok {
			e.note(fault.FieldType, "amount", 0)
		}
		return amount, nil

	case event.BossKilled:
		name, _ := e.Event.Text("boss")
		boss, ok := c.Bosses[name]
		switch {
		case !ok:
			e.note(fault.BossUnknown, ref("boss", name), 0)
			return 0, nil
		case e.LevelBefore < boss.RequiredLevel:
			e.note(fault.LevelTooLow, ref("boss", name), boss.XP)
			return 0, nil
		}
		return boss.XP, bundle("item:", boss.Items)

	case event.ItemAcquired:
		item, _ := e.Event.Text("item")
		quantity, ok := e.Event.Int("quantity")
		if !ok {
			e.note(fault.FieldType, "quantity", 0)
		}
		return 0, []wish{{kind: "item:" + item, item: item, quantity: quantity}}

	case event.RewardGranted:
		return e.rewarded()

	case event.ScoreSubmitted: // ranked, not rewarded
		return 0, nil
	}
	declared, ok := c.Events[e.Event.Type]
	if !ok {
		e.note(fault.TypeUnknown, e.Event.Type, 0)
	}
	return declared.XP, nil
}

// bundle lists the items of a catalog entry in order of name, so that the same event always gives the same ledger.
func bundle(kind string, items map[string]int64) []wish {
	wishes := make([]wish, 0, len(items))
	for _, item := range slices.Sorted(maps.Keys(items)) {
		wishes = append(wishes, wish{kind: kind + item, item: item, quantity: items[item]})
	}
	return wishes
}

// settle grants the wishes as far as the stacks have room. held is what the player has of each item, and is kept up to date.
func (e *Effect) settle(c *catalog.Catalog, wishes []wish, held map[string]int64) {
	for _, w := range wishes {
		item, known := c.Item(w.item)
		if !known || !event.ValidID(w.item) { // a family such as "eco-*" knows names that are no ids
			e.note(fault.ItemUnknown, ref("item", w.item), w.quantity)
			continue
		}
		limit, code := item.Stack, fault.StackFull
		if limit <= 0 || limit > event.MaxInteger {
			limit, code = event.MaxInteger, fault.BalanceLimit
		}
		if w.quantity < 0 {
			code = fault.BalanceLimit
		}
		granted := fitting(held[w.item], w.quantity, limit)
		if granted != w.quantity {
			e.note(code, w.kind, w.quantity-granted)
		}
		if granted != 0 {
			held[w.item] += granted
			e.Grants = append(e.Grants, Grant{Kind: w.kind, Item: w.item, Quantity: granted, Balance: held[w.item]})
		}
	}
}

// fitting is the part of delta that keeps a balance between 0 and limit. A balance that is above, because a new catalog
// lowered the limit, is not cut but does not grow either. Balances lie between 0 and event.MaxInteger, so nothing here can
// overflow.
func fitting(balance, delta, limit int64) int64 {
	if delta < 0 {
		return max(delta, -balance)
	}
	return min(delta, max(0, limit-balance))
}

// ref names something from an event in a note, unless it is too long or too odd to be repeated.
func ref(what, name string) string {
	if !event.ValidID(name) {
		return what
	}
	return what + ":" + name
}
