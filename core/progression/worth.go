package progression

import (
	"slices"
	"time"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

// offer is what an event is worth under a catalog to whoever nothing stands in the way of.
type offer struct {
	xp     int64 // before any modifier
	wishes []wish
	mail   Mail    // instead of wishes; without a Source there is none
	kind   string  // what the kinds of the mail's items begin with
	limits []limit // all of them must let it through
	fixed  bool    // no modifier changes the XP
	notes  []Note
}

// limit is what stands in the way of an offer, on behalf of one entry of the catalog.
type limit struct {
	ref      string // names the entry in notes and tallies
	level    int
	cooldown time.Duration
	once     string
	daily    int64
}

// offered is what the event asks for by its type. What takes something away is neither limited nor modified.
func offered(c *catalog.Catalog, e event.Event) offer {
	var o offer
	switch e.Type {
	case event.XPGained:
		amount, ok := e.Int("amount")
		if !ok {
			o.note(fault.FieldType, "amount", 0)
		}
		if o.xp = amount; amount > 0 {
			declared := c.Events[e.Type]
			o.limit("event:"+e.Type, declared.Worth)
			if len(declared.Sources) > 0 {
				source, _ := e.Text("source")
				o.limit("source:"+source, catalog.Worth{Daily: declared.Sources[source]})
			}
		}

	case event.BossKilled:
		name, _ := e.Text("boss")
		boss, ok := c.Bosses[name]
		if !ok {
			o.note(fault.BossUnknown, ref("boss", name), 0)
			return o
		}
		o.limit("event:"+e.Type, c.Events[e.Type].Worth)
		o.limit("boss:"+name, boss)
		o.bring(boss, "item:", Mail{Source: FromBoss, Ref: "boss:" + name})

	case event.ItemAcquired:
		name, _ := e.Text("item")
		quantity, ok := e.Int("quantity")
		if !ok {
			o.note(fault.FieldType, "quantity", 0)
		}
		o.wishes = []wish{{kind: "item:" + name, item: name, quantity: quantity}}
		if item, known := c.Item(name); known && event.ValidID(name) && quantity > 0 {
			o.limit("event:"+e.Type, c.Events[e.Type].Worth)
			o.limit("item:"+name, item.Worth)
			o.bring(item.Worth, "worth:item:", Mail{Source: FromItem, Ref: "item:" + name})
		}

	case event.RewardGranted: // it was promised, and is not limited any more
		o.fixed = true
		o.rewarded(e)

	case event.ScoreSubmitted: // ranked, not rewarded

	default:
		declared, ok := c.Events[e.Type]
		if !ok {
			o.note(fault.TypeUnknown, e.Type, 0)
		}
		o.limit("event:"+e.Type, declared.Worth)
		o.bring(declared.Worth, "item:", Mail{Source: FromEvent, Ref: "event:" + e.Type})
	}
	return o
}

func (o *offer) note(code fault.Code, ref string, amount int64) {
	o.notes = append(o.notes, Note{Code: code, Ref: ref, Amount: amount})
}

// limit adds what an entry of the catalog limits, if it does.
func (o *offer) limit(ref string, w catalog.Worth) {
	if w.RequiredLevel > 0 || w.Cooldown > 0 || w.Once != "" || w.Daily > 0 {
		o.limits = append(o.limits, limit{ref: ref, level: w.RequiredLevel, cooldown: w.Cooldown.Std(), once: w.Once, daily: w.Daily})
	}
}

// bring adds what an entry of the catalog is worth: the items at once, or by mail.
func (o *offer) bring(w catalog.Worth, kind string, mail Mail) {
	o.xp += w.XP
	if w.Claim && len(w.Items) > 0 {
		o.mail, o.kind = mail, kind
		o.mail.Items = w.Items
		return
	}
	o.wishes = append(o.wishes, bundle(kind, w.Items)...)
}

// take gives the XP that the offer brings at a time in the catalog's zone, after modifiers and limits, and whether the rest of it is taken
// too. Only what was worth something at last counts towards limits.
func (e *Effect) take(c *catalog.Catalog, o offer, local func() time.Time, t *tallies) (xp int64, taken bool) {
	xp = o.xp
	nothing := func() bool { return xp == 0 && len(o.wishes) == 0 && o.mail.Source == "" }
	if nothing() {
		return 0, true
	}
	modifier := ""
	if xp > 0 && !o.fixed && len(c.Modifiers) > 0 {
		xp, modifier = c.Modified(e.Event.Type, local(), min(xp, event.MaxInteger))
	}
	for _, l := range o.limits {
		if code := l.refuses(c, e, local, t); code != "" {
			e.note(code, l.ref, xp)
			return 0, false
		}
	}
	e.Modifier = modifier
	for _, l := range o.limits {
		if l.daily == 0 || xp <= 0 {
			continue
		}
		if left := max(0, l.daily-t.amounts[l.day(c, e, local())]); xp > left {
			e.note(fault.DailyCap, l.ref, xp-left)
			xp = left
		}
	}
	if nothing() {
		return 0, true
	}
	for _, l := range o.limits {
		l.count(c, e, xp, local, t)
	}
	return xp, true
}

// refuses gives the reason why an event is worth nothing; "" when it is worth something.
func (l limit) refuses(c *catalog.Catalog, e *Effect, local func() time.Time, t *tallies) fault.Code {
	if e.LevelBefore < l.level {
		return fault.LevelTooLow
	}
	if l.cooldown > 0 {
		latest, is := t.amounts[l.latest(e)]
		if apart := e.Event.At.UnixMilli() - latest; is && max(apart, -apart) < l.cooldown.Milliseconds() {
			return fault.CoolingDown
		}
	}
	if l.once != "" && t.amounts[l.first(c, e, local())] > 0 {
		return fault.OnceOnly
	}
	return ""
}

// count remembers that an event was worth something, and this much XP.
func (l limit) count(c *catalog.Catalog, e *Effect, xp int64, local func() time.Time, t *tallies) {
	if l.cooldown > 0 {
		latest, is := t.amounts[l.latest(e)]
		if at := e.Event.At.UnixMilli(); !is || at > latest {
			t.set(l.latest(e), at)
		}
	}
	if l.once != "" {
		t.set(l.first(c, e, local()), 1)
	}
	if l.daily > 0 && xp > 0 {
		day := l.day(c, e, local())
		t.set(day, min(event.MaxInteger, t.amounts[day]+xp))
	}
}

// tallied lists the tallies that the limit looks into for an event.
func (l limit) tallied(c *catalog.Catalog, e *Effect, local func() time.Time) []tally {
	var keys []tally
	if l.cooldown > 0 {
		keys = append(keys, l.latest(e))
	}
	if l.once != "" {
		keys = append(keys, l.first(c, e, local()))
	}
	if l.daily > 0 {
		keys = append(keys, l.day(c, e, local()))
	}
	return keys
}

// latest is the tally of the effective time, in ms since 1970, of the latest event that was worth something.
func (l limit) latest(e *Effect) tally {
	return tally{e.Event.PlayerID, subject("latest", l.ref), ""}
}

// first is the tally of whether something of a period was worth something, 1 if so.
func (l limit) first(c *catalog.Catalog, e *Effect, local time.Time) tally {
	return tally{e.Event.PlayerID, subject("once", l.ref), c.Period(l.once, local)}
}

// day is the tally of the XP of a day.
func (l limit) day(c *catalog.Catalog, e *Effect, local time.Time) tally {
	return tally{e.Event.PlayerID, subject("daily", l.ref), c.Period("day", local)}
}

// named says whether the catalog has an item that needs more than its own stack to be known: of a family with slots, or that converts.
func named(c *catalog.Catalog) bool {
	for _, item := range c.Items {
		if item.Slots > 0 || item.Convert != nil {
			return true
		}
	}
	return false
}

// sorted lists the tallies in the order of the table's key.
func sorted(keys []tally) []tally {
	slices.SortFunc(keys, tally.compare)
	return slices.Compact(keys)
}
