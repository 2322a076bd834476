package progression_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// naive is the game played by hand for one player, one event and one piece at a time. Instead of counting it remembers everything.
type naive struct {
	catalog *catalog.Catalog
	done    map[string]*deed // by event id
	order   []*deed
	xp      int64
	level   int
	items   map[string]int64
	mails   map[string]string // by what they are for, what is in them
}

// deed is an event and what it did.
type deed struct {
	id       string
	at       time.Time
	xp       int64
	modifier string
	limited  map[string]counted // by what limits it; only of what was worth something
	moved    []move
	reversed bool
}

// counted is what a limit counts of an event, as far as the catalog of then had it.
type counted struct {
	cooldown  bool
	once, day string // periods
	xp        int64
}

type move struct {
	item  string
	delta int64
}

func (n *naive) begin(id string, at time.Time) *deed {
	d := &deed{id: id, at: at, limited: map[string]counted{}}
	n.done[id] = d
	n.order = append(n.order, d)
	return d
}

func (n *naive) play(e event.Accepted) {
	if n.done[e.ID] != nil {
		return
	}
	d := n.begin(e.ID, e.At)
	number := func(field string) int64 { return int64(e.Data[field].(float64)) }
	own := n.catalog.Events[e.Type].Worth
	switch e.Type {
	case "xp_gained":
		if number("amount") <= 0 {
			n.gain(d, number("amount"))
			return
		}
		source := e.Data["source"].(string)
		limits := map[string]catalog.Worth{"event:xp_gained": own, "source:" + source: {Daily: n.catalog.Events["xp_gained"].Sources[source]}}
		n.gain(d, max(0, n.worth(d, e.Type, number("amount"), false, limits)))
	case "boss_killed":
		boss := e.Data["boss"].(string)
		worth := n.catalog.Bosses[boss]
		n.bring(d, e.Type, worth, map[string]catalog.Worth{"event:boss_killed": own, "boss:" + boss: worth}, "item:", "boss boss:"+boss, nil)
	case "item_acquired":
		item, quantity := e.Data["item"].(string), number("quantity")
		if quantity <= 0 {
			n.take(d, "item:"+item, item, quantity)
			n.gain(d, 0)
			return
		}
		worth, _ := n.catalog.Item(item)
		limits := map[string]catalog.Worth{"event:item_acquired": own, "item:" + item: worth.Worth}
		n.bring(d, e.Type, worth.Worth, limits, "worth:item:", "item item:"+item, func() { n.take(d, "item:"+item, item, quantity) })
	case "logged_in":
		n.bring(d, e.Type, own, map[string]catalog.Worth{"event:logged_in": own}, "item:", "event event:logged_in", nil)
	case "reward_granted":
		for item, quantity := range sorted(e.Data["items"].(map[string]any)) {
			n.take(d, "item:"+item, item, int64(quantity.(float64)))
		}
		n.gain(d, number("xp"))
	default:
		n.gain(d, 0)
	}
}

// bring gives what an entry of the catalog is worth, and before that what first does, if nothing stands in the way.
func (n *naive) bring(d *deed, kind string, w catalog.Worth, limits map[string]catalog.Worth, prefix, mail string, first func()) {
	xp := n.worth(d, kind, w.XP, len(w.Items) > 0 || first != nil, limits)
	if xp < 0 { // refused
		n.gain(d, 0)
		return
	}
	if first != nil {
		first()
	}
	if w.Claim {
		n.send(d, mail, w.Items)
	} else {
		for item, quantity := range sorted(w.Items) {
			n.take(d, prefix+item, item, quantity)
		}
	}
	n.gain(d, xp)
}

// worth is the XP that comes of xp, or -1 when it is refused and so is all that comes with it.
func (n *naive) worth(d *deed, kind string, xp int64, more bool, limits map[string]catalog.Worth) int64 {
	local := d.at.In(n.catalog.Location())
	clock := local.Format("2006-01-02T15:04:05")
	percent, modifier := int64(-1), ""
	for name, m := range n.catalog.Modifiers {
		inForce := m.Starts <= clock && clock < m.Ends && (len(m.Types) == 0 || slices.Contains(m.Types, kind))
		if inForce && (m.Percent > percent || m.Percent == percent && name < modifier) {
			percent, modifier = m.Percent, name
		}
	}
	if xp == 0 && !more {
		return 0
	}
	if percent >= 0 && xp > 0 {
		xp = xp * percent / 100
	} else {
		modifier = ""
	}
	for limit, w := range limits {
		latest := time.Time{}
		for _, before := range n.order {
			if c := before.limited[limit]; c.cooldown && before.at.After(latest) {
				latest = before.at
			}
			if w.Once != "" && before.limited[limit].once == period(n.catalog, w.Once, d.at) {
				return -1
			}
		}
		if n.level < w.RequiredLevel || d.at.Sub(latest).Abs() < w.Cooldown.Std() {
			return -1
		}
	}
	d.modifier = modifier
	for limit, w := range limits {
		if w.Daily == 0 {
			continue
		}
		left := w.Daily
		for _, before := range n.order {
			if c := before.limited[limit]; c.day == period(n.catalog, "day", d.at) {
				left -= c.xp
			}
		}
		xp = min(xp, max(0, left))
	}
	if xp > 0 || more {
		for limit, w := range limits {
			c := counted{cooldown: w.Cooldown > 0, once: period(n.catalog, w.Once, d.at), xp: xp}
			if w.Daily > 0 {
				c.day = period(n.catalog, "day", d.at)
			}
			d.limited[limit] = c
		}
	}
	return xp
}

func period(c *catalog.Catalog, of string, at time.Time) string {
	local := at.In(c.Location())
	year, month, day := local.Date()
	switch of {
	case "day":
		return fmt.Sprint("day ", year, month, day)
	case "week": // the Monday of it
		monday := time.Date(year, month, day-(int(local.Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
		return monday.Format(time.DateOnly)
	case "season":
		name := "season "
		for _, s := range c.Seasons {
			if s.Starts <= local.Format("2006-01-02T15:04") {
				name = "season " + s.ID
			}
		}
		return name
	}
	return of
}

// gain moves XP a point at a time, and rewards the levels on the way; also those that a new catalog has below.
func (n *naive) gain(d *deed, xp int64) {
	for ; xp > 0; xp-- {
		n.xp++
		d.xp++
	}
	for ; xp < 0 && n.xp > 0; xp++ {
		n.xp--
		d.xp--
	}
	for n.level < len(n.catalog.XP.Table) && n.xp >= n.catalog.XP.Table[n.level] {
		n.level++
		kind, reward := fmt.Sprintf("level:%d", n.level), n.catalog.Rewards.Levels[n.level]
		if reward.Claim {
			n.send(d, "level "+kind, reward.Items)
			continue
		}
		for item, quantity := range sorted(reward.Items) {
			n.take(d, kind+":item:"+item, item, quantity)
		}
	}
}

func (n *naive) send(d *deed, what string, items map[string]int64) {
	if len(items) > 0 {
		n.mails[d.id+" "+what] = fmt.Sprint(items)
	}
}

// take gives items one by one.
func (n *naive) take(d *deed, kind, item string, quantity int64) {
	i, _ := n.catalog.Item(item)
	free := n.items[item] > 0 || i.Slots == 0 || n.different(item) < i.Slots
	lost := int64(0)
	for ; quantity > 0; quantity-- {
		if free && (i.Stack == 0 || n.items[item] < i.Stack) {
			n.move(d, item, 1)
		} else {
			lost++
		}
	}
	for ; quantity < 0 && n.items[item] > 0; quantity++ {
		n.move(d, item, -1)
	}
	switch {
	case lost > 0 && i.Overflow == "mailbox":
		n.send(d, "overflow "+kind, map[string]int64{item: lost})
	case lost > 0 && i.Overflow == "convert":
		n.take(d, kind+":convert", i.Convert.Item, lost*i.Convert.Quantity)
	}
}

func (n *naive) move(d *deed, item string, delta int64) {
	n.items[item] += delta
	d.moved = append(d.moved, move{item, delta})
}

// different counts the items held of the family of an item.
func (n *naive) different(item string) int {
	of := func(item string) string {
		best := ""
		for name := range n.catalog.Items {
			if name == item {
				return item
			}
			if prefix, is := strings.CutSuffix(name, "*"); is && strings.HasPrefix(item, prefix) && len(prefix) > len(best) {
				best = prefix
			}
		}
		return best
	}
	count := 0
	for held, quantity := range n.items {
		if quantity > 0 && of(held) == of(item) {
			count++
		}
	}
	return count
}

// reverse undoes what an event did, in the order it was done.
func (n *naive) reverse(id string) {
	d := n.done[id]
	if d.reversed {
		return
	}
	d.reversed = true
	undo := n.begin(progression.ReversalID(id), noon)
	for _, m := range d.moved {
		if n.items[m.item]-m.delta >= 0 {
			n.move(undo, m.item, -m.delta)
		}
	}
	n.gain(undo, -d.xp)
}

func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

var itemNames = []string{"axe", "gem", "map", "hat-a", "hat-b", "hat-old-a", "hat-old-b", "hat-x"}

func loot(t *rapid.T, label string) map[string]int64 {
	return rapid.MapOfN(rapid.SampledFrom(itemNames), rapid.Int64Range(1, 4), 0, 3).Draw(t, label)
}

// limits draws those of a Worth.
func limits(t *rapid.T, label string) catalog.Worth {
	return catalog.Worth{
		RequiredLevel: rapid.SampledFrom([]int{0, 0, 0, 2, 3}).Draw(t, label+" level"),
		Cooldown:      catalog.Duration(rapid.SampledFrom([]time.Duration{0, 0, time.Minute, 7 * time.Hour, 48 * time.Hour}).Draw(t, label+" cooldown")),
		Once:          rapid.SampledFrom([]string{"", "", "", "day", "week", "season", "ever"}).Draw(t, label+" once"),
		Daily:         rapid.SampledFrom([]int64{0, 0, 30, 100}).Draw(t, label+" daily"),
	}
}

func worth(t *rapid.T, label string) catalog.Worth {
	w := limits(t, label)
	w.XP, w.Items = rapid.Int64Range(0, 150).Draw(t, label+" xp"), loot(t, label+" loot")
	w.Claim = rapid.Bool().Draw(t, label+" claim")
	return w
}

func anyCatalog(t *rapid.T) *catalog.Catalog {
	c := &catalog.Catalog{
		Version:   rapid.IntRange(1, 9).Draw(t, "version"),
		Zone:      rapid.SampledFrom([]string{"UTC", "America/New_York", "Asia/Tokyo"}).Draw(t, "zone"),
		XP:        catalog.Curve{Table: []int64{0}},
		Rewards:   catalog.Rewards{Levels: map[int]catalog.Reward{}},
		Bosses:    map[string]catalog.Worth{"rat": worth(t, "rat"), "hydra": worth(t, "hydra")},
		Items:     map[string]catalog.Item{},
		Modifiers: map[string]catalog.Modifier{},
		Events: map[string]catalog.EventType{
			"logged_in": {Worth: worth(t, "login")},
			"xp_gained": {
				Worth:   limits(t, "xp"),
				Sources: rapid.MapOf(rapid.SampledFrom([]string{"quest", "match"}), rapid.Int64Range(1, 200)).Draw(t, "sources"),
			},
			"boss_killed": {Worth: limits(t, "kills")}, "item_acquired": {Worth: limits(t, "items")},
		},
		Seasons: []catalog.Season{{ID: "s1", Starts: "2026-10-31T12:00", Ends: "2026-11-01"}, {ID: "s2", Starts: "2026-11-02", Ends: "2026-12-01"}},
	}
	for _, step := range rapid.SliceOfN(rapid.Int64Range(1, 60), 0, 8).Draw(t, "steps") {
		c.XP.Table = append(c.XP.Table, c.XP.Table[len(c.XP.Table)-1]+step)
		c.Rewards.Levels[len(c.XP.Table)] = catalog.Reward{Items: loot(t, "reward"), Claim: rapid.Bool().Draw(t, "claim")}
	}
	for _, item := range []string{"axe", "gem", "map", "hat-x", "hat-*", "hat-old-*"} {
		i := catalog.Item{Stack: rapid.Int64Range(0, 12).Draw(t, "stack"), Overflow: rapid.SampledFrom([]string{"", "reject", "mailbox"}).Draw(t, "overflow")}
		if item != "map" && item != "hat-old-*" && rapid.Bool().Draw(t, "converts") {
			became := rapid.SampledFrom([]string{"map", "hat-old-a"}).Draw(t, "becomes")
			i.Overflow, i.Convert = "convert", &catalog.Conversion{Item: became, Quantity: rapid.Int64Range(1, 3).Draw(t, "each")}
		}
		if strings.HasSuffix(item, "*") {
			i.Slots = rapid.IntRange(0, 2).Draw(t, "slots")
		}
		if rapid.Bool().Draw(t, "worth something") {
			i.Worth = worth(t, item)
		}
		c.Items[item] = i
	}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"m1", "m2", "m3"}), rapid.ID).Draw(t, "modifiers") {
		ends := []string{"2026-10-31", "2026-10-31T22:00", "2026-11-01T01:30", "2026-11-02", "2026-11-03T09:00"}
		from := rapid.IntRange(0, len(ends)-2).Draw(t, "starts")
		c.Modifiers[name] = catalog.Modifier{
			Starts: ends[from], Ends: rapid.SampledFrom(ends[from+1:]).Draw(t, "ends"), Percent: rapid.Int64Range(0, 300).Draw(t, "percent"),
			Types: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"xp_gained", "boss_killed", "logged_in"}), rapid.ID).Draw(t, "types"),
		}
	}
	return c
}

// anyEvent happens within four days around the end of summer time in New York.
func anyEvent(run int64) *rapid.Generator[event.Accepted] {
	return rapid.Custom(func(t *rapid.T) event.Accepted {
		player := fmt.Sprintf("r%d-%c", run, rapid.SampledFrom([]rune("ab")).Draw(t, "player"))
		id := fmt.Sprintf("e%d", rapid.IntRange(1, 40).Draw(t, "id")) // some come with two bodies: the first counts
		var e event.Accepted
		switch rapid.IntRange(0, 6).Draw(t, "type") {
		case 0, 1:
			e = gained(player, id, rapid.Int64Range(-20, 120).Draw(t, "amount"))
			e.Data["source"] = rapid.SampledFrom([]string{"quest", "match", "gift"}).Draw(t, "source")
		case 2:
			e = killed(player, id, rapid.SampledFrom([]string{"rat", "hydra"}).Draw(t, "boss"))
		case 3:
			e = acquired(player, id, rapid.SampledFrom(itemNames).Draw(t, "item"), rapid.Int64Range(-3, 9).Draw(t, "quantity"))
		case 4:
			e = did(player, id, "logged_in", map[string]any{})
		case 5:
			won := progression.Reward{Board: "daily", Window: "w", Rank: 1, XP: rapid.Int64Range(0, 150).Draw(t, "won"), Items: loot(t, "prize")}
			e = won.Event(progression.RewardID("daily", id), player, at)
		default:
			e = scored(player, id)
		}
		minutes := rapid.IntRange(0, 4*24*60).Draw(t, "minutes")
		e.At = time.Date(2026, 10, 30, 20, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
		return e
	})
}

// modelled is a ledger and the players who are played by hand beside it.
type modelled struct {
	*progression.Ledger
	catalog *catalog.Catalog
	byHand  map[string]*naive
	mails   map[string]map[string]progression.Mail // of each player, by what they are for
}

func (m *modelled) player(id string) *naive {
	if m.byHand[id] == nil {
		m.byHand[id] = &naive{done: map[string]*deed{}, level: 1, items: map[string]int64{}, mails: map[string]string{}}
		m.mails[id] = map[string]progression.Mail{}
	}
	m.byHand[id].catalog = m.catalog
	return m.byHand[id]
}

// same compares an effect with what playing by hand has come to.
func (m *modelled) same(r *rapid.T, e *progression.Effect, n *naive) {
	d := n.done[e.Event.ID]
	require.Equal(r, d.xp, e.XP, "%+v", e)
	require.Equal(r, d.modifier, e.Modifier)
	require.Equal(r, n.xp, e.XPAfter)
	require.Equal(r, n.level, e.LevelAfter)
	moved := map[string]int64{}
	for _, one := range d.moved {
		moved[one.item] += one.delta
	}
	for _, g := range e.Grants {
		moved[g.Item] -= g.Quantity
	}
	for item, delta := range moved {
		require.Zero(r, delta, item)
	}
	for _, mail := range e.Mails {
		m.mails[e.Event.PlayerID][e.Event.ID+" "+mail.Source+" "+mail.Ref] = mail
	}
}

func (m *modelled) apply(t *testing.T, r *rapid.T, batch []event.Accepted) {
	t.Helper()
	if rapid.Bool().Draw(r, "cut") {
		cut := errors.New("cut")
		_, err := m.Apply(t.Context(), batch, func(*store.Tx, []*progression.Effect) error { return cut })
		require.ErrorIs(r, err, cut)
	}
	effects, err := m.Apply(t.Context(), batch, nil)
	require.NoError(r, err)
	for i, e := range batch {
		n := m.player(e.PlayerID)
		require.Equal(r, n.done[e.ID] == nil, effects[i].Fresh)
		n.play(e)
		if effects[i].Fresh {
			m.same(r, effects[i], n)
		}
	}
}

func (m *modelled) reverse(t *testing.T, r *rapid.T, player, id string) {
	t.Helper()
	n := m.player(player)
	repeated := n.done[id].reversed
	order := progression.Order{Player: player, EventID: id, Actor: "liz", Reason: "a test"}
	effect, err := m.Reverse(t.Context(), order, nil)
	require.NoError(r, err)
	require.Equal(r, !repeated, effect.Fresh)
	n.reverse(id)
	if effect.Fresh {
		m.same(r, effect, n)
	}
}

// Any catalog, any stream in batches of any size, redelivered in part or in whole, with batches that are cut before their
// commit, with mails that are claimed, events that are reversed and catalogs that change: what comes out is what playing by hand gives.
func TestAgainstPlayingByHand(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		var runs atomic.Int64
		rapid.Check(t, func(r *rapid.T) {
			m := &modelled{Ledger: ledgerOn(db, nil), byHand: map[string]*naive{}, mails: map[string]map[string]progression.Mail{}}
			m.Catalog = func() *catalog.Catalog { return m.catalog }
			m.catalog = anyCatalog(r)
			events := anyEvent(runs.Add(1))
			var batches [][]event.Accepted
			for range rapid.IntRange(1, 12).Draw(r, "steps") {
				var player, id, mail string
				for p, n := range sorted(m.byHand) {
					done := slices.DeleteFunc(slices.Sorted(maps.Keys(n.done)), func(id string) bool { return strings.HasPrefix(id, "reversal~") })
					if len(done) > 0 && (player == "" || rapid.Bool().Draw(r, "the other")) {
						player, id = p, rapid.SampledFrom(done).Draw(r, "event")
					}
				}
				if mails := slices.Sorted(maps.Keys(m.mails[player])); len(mails) > 0 {
					mail = rapid.SampledFrom(mails).Draw(r, "mail")
				}
				switch action := rapid.IntRange(0, 9).Draw(r, "action"); {
				case action == 9:
					m.catalog = anyCatalog(r)
				case action >= 7 && id != "":
					m.reverse(t, r, player, id)
				case action >= 5 && mail != "":
					reward := m.mails[player][mail]
					m.apply(t, r, []event.Accepted{progression.Reward{Items: reward.Items}.Event(reward.ID, player, noon)})
				case action == 4 && len(batches) > 0:
					m.apply(t, r, rapid.SampledFrom(batches).Draw(r, "again"))
				default:
					batches = append(batches, rapid.SliceOfN(events, 1, 20).Draw(r, "events"))
					m.apply(t, r, batches[len(batches)-1])
				}
			}
			for player, n := range m.byHand {
				state, err := m.Player(t.Context(), player)
				require.NoError(r, err)
				held, mails := map[string]int64{}, map[string]string{}
				for _, h := range state.Items {
					held[h.Item] = h.Quantity
				}
				maps.DeleteFunc(n.items, func(_ string, quantity int64) bool { return quantity == 0 })
				for what, mail := range m.mails[player] {
					mails[what] = fmt.Sprint(mail.Items)
				}
				require.Equal(r, n.xp, state.XP)
				require.Equal(r, n.level, state.Level)
				require.Equal(r, n.items, held)
				require.Equal(r, n.mails, mails)
				require.True(r, slices.IsSortedFunc(state.Items, func(a, b progression.Holding) int { return cmp.Compare(a.Item, b.Item) }))
			}
		})
		noDrift(t, ledgerOn(db, nil))
	})
}
