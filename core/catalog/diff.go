package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Change is one thing that another version of a game changes for its players, or for those who write its clients.
type Change struct {
	Path    string `json:"path"`    // of the place, as in a Problem, or of what holds all that the text is about
	Text    string `json:"text"`    // one sentence, without a full stop
	Warning bool   `json:"warning"` // it is worth a second look: it may be meant, and cannot be taken back for who was there before
}

// Section is the part of the file that the change is in, such as boards.
func (c Change) Section() string {
	section, _, _ := strings.Cut(c.Path, ".")
	section, _, _ = strings.Cut(section, "[")
	return section
}

// Follows says whether a system that runs catalog a would take b.
func Follows(a, b *Catalog) bool { return b.Version > a.Version }

// Compare tells what changes when b comes after a, in the order of the file. Both are as Parse gave them, so that it is of no account
// how something was written, or whether a default was. It is empty when nothing but comments and order differ.
func Compare(a, b *Catalog) []Change {
	c := comparison{a: a, b: b, words: phrases()}
	c.structure("", "the game", reflect.ValueOf(*a), reflect.ValueOf(*b))
	if len(c.changes) > 0 && a.Version == b.Version {
		c.changes = slices.Insert(c.changes, 0, refused(a, b))
	}
	return c.changes
}

// comparison walks two catalogs side by side.
type comparison struct {
	a, b    *Catalog
	words   map[string]phrase
	changes []Change
}

func (c *comparison) say(path string, warning bool, format string, args ...any) {
	c.changes = append(c.changes, Change{Path: path, Text: fmt.Sprintf(format, args...), Warning: warning})
}

func refused(a, b *Catalog) Change {
	return Change{Path: "version", Warning: true, Text: fmt.Sprintf("version %d is not above %d: a running system would refuse it", b.Version, a.Version)}
}

// structure compares the keys of two structs, also those of an embedded one.
func (c *comparison) structure(path, subject string, before, after reflect.Value) {
	for _, field := range reflect.VisibleFields(before.Type()) {
		if field.Anonymous {
			continue
		}
		owner := before.Type()
		if len(field.Index) > 1 {
			owner = owner.FieldByIndex(field.Index[:1]).Type
		}
		key := field.Tag.Get("yaml")
		c.value(owner.Name()+"."+key, join(path, key), subject, before.FieldByIndex(field.Index), after.FieldByIndex(field.Index))
	}
}

// value compares what two catalogs have at a place: a type and its key.
func (c *comparison) value(place, path, subject string, before, after reflect.Value) {
	if reflect.DeepEqual(before.Interface(), after.Interface()) {
		return
	}
	switch place {
	case "Catalog.version":
		if Follows(c.a, c.b) {
			c.say(path, false, "version %d follows version %d", c.b.Version, c.a.Version)
		} else {
			c.changes = append(c.changes, refused(c.a, c.b))
		}
		return
	case "Catalog.xp":
		c.curve(c.a.XP, c.b.XP)
		return
	case "Catalog.seasons":
		c.seasons()
		return
	}
	switch {
	case leaf(before.Type()):
		c.words[place].tell(c, path, subject, "", before, after)
	case before.Kind() == reflect.Map:
		c.members(place, path, subject, before, after)
	default:
		c.structure(path, subject, before, after)
	}
}

// members compares the entries of two mappings.
func (c *comparison) members(place, path, subject string, before, after reflect.Value) {
	keys := map[string]reflect.Value{}
	for _, of := range []reflect.Value{before, after} {
		for _, key := range of.MapKeys() {
			keys[fmt.Sprint(key.Interface())] = key
		}
	}
	order := slices.SortedFunc(maps.Keys(keys), func(a, b string) int { // levels by number
		m, _ := strconv.Atoi(a)
		n, _ := strconv.Atoi(b)
		return cmp.Or(cmp.Compare(m, n), cmp.Compare(a, b))
	})
	for _, key := range order {
		at, was, is := join(path, key), before.MapIndex(keys[key]), after.MapIndex(keys[key])
		switch {
		case leaf(before.Type().Elem()):
			if !was.IsValid() || !is.IsValid() || !reflect.DeepEqual(was.Interface(), is.Interface()) {
				c.words[place].tell(c, at, subject, key, was, is)
			}
		case !was.IsValid():
			c.appears(at, named(place, subject, key), is.Interface())
		case !is.IsValid():
			c.goes(place, at, named(place, subject, key), key, was.Interface())
		default:
			c.structure(at, named(place, subject, key), was, is)
		}
	}
}

// named is what a sentence calls an entry of a mapping.
func named(place, subject, key string) string {
	switch place {
	case "EventType.fields":
		return "the field " + key + " of " + subject
	case "Catalog.bosses":
		return "the boss " + key
	case "Catalog.items":
		if strings.HasSuffix(key, "*") {
			return "the family " + key
		}
		return "the item " + key
	case "Catalog.modifiers":
		return "the modifier " + key
	case "Catalog.boards":
		return "the board " + key
	case "Rewards.levels":
		return "level " + key
	case "Fairness.rules":
		return "the rule " + key
	}
	return key
}

// appears tells of an entry that is new.
func (c *comparison) appears(path, subject string, entry any) {
	switch is := entry.(type) {
	case EventType:
		c.say(path, false, "%s is a new event type%s", subject, worth(", worth ", is.Worth))
	case Field:
		if is.Optional {
			c.say(path, false, "%s is new, and optional", subject)
		} else {
			c.say(path, true, "%s is new and required: events of clients that do not send it are refused", subject)
		}
	case Worth:
		c.say(path, false, "%s is new%s", subject, worth(", worth ", is))
	case Item:
		c.say(path, false, "%s is new, %s of each", subject, limit(is.Stack))
	case Modifier:
		c.say(path, false, "%s is new: %d %% of the XP of %s, from %s to %s", subject, is.Percent, of(is.Types), is.Starts, is.Ends)
	case Board:
		c.say(path, false, "%s is new, by the %s score, with %s windows: scores count from now on", subject, is.Operator, list(is.Windows))
	case Reward:
		c.say(path, false, "%s brings %s: not to who has passed it already", subject, grants(is.Items))
	default:
		c.say(path, false, "%s is new", subject)
	}
}

// goes tells of an entry that is no more.
func (c *comparison) goes(place, path, subject, key string, entry any) {
	switch place {
	case "Catalog.events":
		c.say(path, true, "%s is gone: events of clients that still send it are refused", subject)
	case "EventType.fields":
		c.say(path, true, "%s is gone: events of clients that still send it are refused", subject)
	case "Catalog.bosses":
		c.say(path, true, "%s is gone: kills of it are refused", subject)
	case "Catalog.items":
		if _, known := c.b.Item(key); known {
			c.say(path, true, "%s is gone as such, and one of a family from now on", subject)
			return
		}
		c.say(path, true, "%s is gone: who holds it keeps it, and nobody gets more", subject)
	case "Catalog.boards":
		c.say(path, true, "%s is gone: scores for it are refused, and only a key still reads its windows, which end and are archived as ever", subject)
	case "Catalog.modifiers":
		m, _ := entry.(Modifier)
		c.say(path, false, "%s is gone: it was to last from %s to %s", subject, m.Starts, m.Ends)
	case "Rewards.levels":
		c.say(path, false, "%s brings nothing any more", subject)
	default:
		c.say(path, false, "%s is gone", subject)
	}
}

// curve tells which levels take more XP, or less, and what that does to players.
func (c *comparison) curve(before, after Curve) {
	const path = "xp.table"
	both := min(len(before.Table), len(after.Table))
	for from := 0; from < both; {
		way, to := cmp.Compare(after.Table[from], before.Table[from]), from+1
		for to < both && cmp.Compare(after.Table[to], before.Table[to]) == way {
			to++
		}
		if way != 0 {
			c.stretch(path, from, to, way)
		}
		from = to
	}
	if n := len(before.Table); n < len(after.Table) {
		c.say(path, false, "levels %d to %d are new: level %d is reached with %d XP, and who has so many is on level %d at once",
			n+1, len(after.Table), n+1, after.Table[n], after.Level(after.Table[n]))
	} else if n > len(after.Table) {
		c.say(path, true, "levels %d to %d are gone: who is there stays, and nobody else gets there", len(after.Table)+1, n)
	}
}

// stretch tells of levels, of which all take more XP than before (way 1), or all less (-1). From and to are places in the table.
func (c *comparison) stretch(path string, from, to, way int) {
	before, after := c.a.XP, c.b.XP
	which := fmt.Sprintf("level %d takes", from+1)
	if to > from+1 {
		which = fmt.Sprintf("levels %d to %d take", from+1, to)
	}
	how := "more"
	if way < 0 {
		how = "less"
	}
	example := fmt.Sprintf("%d instead of %d", after.Table[from], before.Table[from])
	if to > from+1 {
		example = fmt.Sprintf("level %d %s, level %d %d instead of %d", from+1, example, to, after.Table[to-1], before.Table[to-1])
	}
	if way > 0 {
		c.say(path, false, "%s %s XP, %s: players keep the levels they have", which, how, example)
		return
	}
	xp := after.Table[from]
	c.say(path, true, "%s %s XP, %s: players rise, from %d XP on to level %d instead of %d", which, how, example, xp, after.Level(xp), before.Level(xp))
}

// seasons compares the lists by the seasons' ids.
func (c *comparison) seasons() {
	find := func(in []Season, id string) (Season, int) {
		i := slices.IndexFunc(in, func(s Season) bool { return s.ID == id })
		if i < 0 {
			return Season{}, -1
		}
		return in[i], i
	}
	last := ""
	for _, s := range c.a.Seasons {
		last = max(last, s.ID)
		if _, at := find(c.b.Seasons, s.ID); at < 0 {
			c.say("seasons", true, "the season %s is gone: its windows that exist already end as they would have", s.ID)
		}
	}
	for i, s := range c.b.Seasons {
		path := fmt.Sprintf("seasons[%d]", i)
		was, at := find(c.a.Seasons, s.ID)
		switch {
		case at < 0:
			c.say(path, s.ID < last, "the season %s is new, from %s to %s", s.ID, s.Starts, s.Ends)
		case was != s:
			c.say(path, true, "the season %s lasts from %s to %s instead of from %s to %s: its windows that exist already keep their times", s.ID, s.Starts, s.Ends, was.Starts, was.Ends)
		}
	}
}

// leaf says whether values of a type are told as a whole.
func leaf(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[Rate](), reflect.TypeFor[*Conversion](), reflect.TypeFor[[]Tier]():
		return true
	}
	return t.Kind() != reflect.Struct && t.Kind() != reflect.Map
}

// text is a value in a sentence.
func text(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case string:
		return cmp.Or(value, `""`)
	case *int64:
		if value == nil {
			return "anything"
		}
		return strconv.FormatInt(*value, 10)
	case Rate:
		return fmt.Sprintf("%d events in %s", value.Events, value.Per)
	case *Conversion:
		return fmt.Sprintf("%d %s", value.Quantity, value.Item)
	case []string:
		return list(value)
	case []Tier:
		var tiers []string
		for _, t := range value {
			tiers = append(tiers, tier(t))
		}
		return cmp.Or(strings.Join(tiers, "; "), "nothing")
	}
	return fmt.Sprint(v.Interface())
}

func tier(t Tier) string {
	places := fmt.Sprintf("up to rank %d: ", t.Rank)
	if t.Percent > 0 {
		places = fmt.Sprintf("the best %d %%: ", t.Percent)
	}
	return places + worth("", Worth{XP: t.XP, Items: t.Items, Claim: t.Claim})
}

// worth is what something brings, and what it takes to get it, after a word; nothing when it brings nothing.
func worth(after string, w Worth) string {
	var parts []string
	if w.XP > 0 {
		parts = append(parts, fmt.Sprintf("%d XP", w.XP))
	}
	if len(w.Items) > 0 {
		parts = append(parts, grants(w.Items))
	}
	if len(parts) == 0 {
		return ""
	}
	told := after + strings.Join(parts, " and ")
	if w.Claim {
		told += " in the mailbox"
	}
	if w.RequiredLevel > 0 {
		told += fmt.Sprintf(", from level %d on", w.RequiredLevel)
	}
	if w.Once != "" {
		told += ", once " + every(w.Once)
	}
	if w.Cooldown > 0 {
		told += fmt.Sprintf(", at most every %s", w.Cooldown)
	}
	return told
}

func grants(items map[string]int64) string {
	var parts []string
	for name, quantity := range ordered(items) {
		parts = append(parts, fmt.Sprintf("%d %s", quantity, name))
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing")
}

func list(words []string) string { return cmp.Or(strings.Join(words, ", "), "none") }

func of(types []string) string {
	if len(types) == 0 {
		return "all events"
	}
	return list(types)
}

func limit(most int64) string {
	if most == 0 {
		return "any number"
	}
	return fmt.Sprintf("at most %d", most)
}

func every(period string) string {
	if period == Ever {
		return "for ever"
	}
	return "each " + period
}
