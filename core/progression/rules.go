// Package progression moves players forward: what an event is worth in XP, levels and items, and the ledger that gives
// every event its effect once. The rules are pure; the ledger is their only caller and keeps the result in SQL. It knows
// nothing of queues, receipts, rankings or HTTP, and does not judge whether an event is honest.
package progression

import (
	"maps"
	"slices"
	"strconv"
	"time"

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
	Modifier       string // the one of the catalog that made the XP what it is; empty: none did
	LevelBefore    int
	LevelAfter     int
	Grants         []Grant // in the order granted
	Mails          []Mail  // to be sent with the effect
	Notes          []Note  // what the event asked for and did not get, or not at once
	CatalogVersion int
}

// Granted says whether the event changed anything the player owns, or is owed.
func (e *Effect) Granted() bool { return e.XP != 0 || len(e.Grants) > 0 || len(e.Mails) > 0 }

// Grant is a change of the quantity of one item. Its kind names it among the grants of its event: "item:gem"; "worth:item:gem" for what
// comes with an item acquired; "level:5:item:gem" for the reward of a level; and with ":convert" behind for what it became.
type Grant struct {
	Kind     string
	Item     string
	Quantity int64 // never 0
	Balance  int64 // after it
}

// Note is one thing that an event asked for and did not get, and why. Ref names it as a kind would ("xp", "item:gem",
// "level:5:item:gem"), or the limit that was in the way ("event:xp_gained", "source:quest", "boss:hydra", "item:gem"), or the field at fault;
// Amount is how much of it was left out.
type Note struct {
	Code   fault.Code `json:"code"`
	Ref    string     `json:"ref"`
	Amount int64      `json:"amount"`
}

func (e *Effect) note(code fault.Code, ref string, amount int64) {
	e.Notes = append(e.Notes, Note{Code: code, Ref: ref, Amount: amount})
}

// progress is what decides, beside the catalog and the tallies, what an event is worth to a player.
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
func advance(c *catalog.Catalog, p progress, e event.Accepted, o offer, local func() time.Time, t *tallies) (*Effect, []wish) {
	effect := &Effect{Event: e, Fresh: true, XPBefore: p.xp, LevelBefore: p.level, Notes: o.notes, CatalogVersion: c.Version}
	xp, taken := effect.take(c, o, local, t)
	var wishes []wish
	if taken {
		wishes = o.wishes
		if o.mail.Source != "" {
			effect.send(o.mail, o.kind)
		}
	}
	return effect, append(wishes, effect.move(c, xp)...)
}

// move changes the XP, as far as it can, and the level with it, and gives what the levels bring that are reached.
//
// A level once reached stays, whether XP is taken away or a new curve is steeper: a level that could be reached again would
// be rewarded again.
func (e *Effect) move(c *catalog.Catalog, xp int64) []wish {
	e.XP = fitting(e.XPBefore, xp, event.MaxInteger)
	if e.XP != xp {
		e.note(fault.BalanceLimit, Root, xp-e.XP)
	}
	e.XPAfter = e.XPBefore + e.XP
	e.LevelAfter = max(e.LevelBefore, c.XP.Level(e.XPAfter))
	var wishes []wish
	for level := e.LevelBefore + 1; level <= e.LevelAfter; level++ {
		reward, kind := c.Rewards.Levels[level], "level:"+strconv.Itoa(level)
		if reward.Claim && len(reward.Items) > 0 {
			e.send(Mail{Source: FromLevel, Ref: kind, Items: reward.Items}, kind+":item:")
			continue
		}
		wishes = append(wishes, bundle(kind+":item:", reward.Items)...)
	}
	return wishes
}

// bundle lists the items of a catalog entry in order of name, so that the same event always gives the same ledger.
func bundle(kind string, items map[string]int64) []wish {
	wishes := make([]wish, 0, len(items))
	for _, item := range slices.Sorted(maps.Keys(items)) {
		wishes = append(wishes, wish{kind: kind + item, item: item, quantity: items[item]})
	}
	return wishes
}

// settle grants the wishes as far as there is room, and keeps up to date what the player holds.
func (e *Effect) settle(c *catalog.Catalog, wishes []wish, a *account) {
	for _, w := range wishes {
		e.grant(c, w, a, true)
	}
}

// grant grants one wish as far as there is room. What does not fit becomes something else at most once.
func (e *Effect) grant(c *catalog.Catalog, w wish, a *account, convert bool) {
	item, known := c.Item(w.item)
	if !known || !event.ValidID(w.item) { // a family such as "eco-*" knows names that are no ids
		e.note(fault.ItemUnknown, ref("item", w.item), w.quantity)
		return
	}
	limit, code := item.Stack, fault.StackFull
	if limit <= 0 || limit > event.MaxInteger {
		limit, code = event.MaxInteger, fault.BalanceLimit
	}
	if w.quantity < 0 {
		code = fault.BalanceLimit
	}
	granted := fitting(a.items[w.item], w.quantity, limit)
	if w.quantity > 0 && item.Slots > 0 && a.items[w.item] == 0 && a.full(c, w.item, item.Slots) {
		granted, code = 0, fault.NoFreeSlot
	}
	if granted != 0 {
		e.Grants = append(e.Grants, a.change(c, w.kind, w.item, granted))
	}
	left := w.quantity - granted
	switch {
	case left == 0:
	case code != fault.BalanceLimit && item.Overflow == catalog.Mailbox:
		e.send(Mail{Source: FromOverflow, Ref: w.kind, Items: map[string]int64{w.item: left}}, "")
	case code != fault.BalanceLimit && item.Overflow == catalog.Convert && item.Convert != nil && convert:
		e.note(fault.Converted, w.kind, left)
		became := wish{kind: w.kind + ":convert", item: item.Convert.Item, quantity: times(left, item.Convert.Quantity)}
		e.grant(c, became, a, false)
	default:
		e.note(code, w.kind, left)
	}
}

// times multiplies two quantities from 0 to event.MaxInteger, up to there.
func times(a, b int64) int64 {
	if b > 0 && a > event.MaxInteger/b {
		return event.MaxInteger
	}
	return a * b
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
