package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a catalog's zones must not depend on what the machine has installed
	"unicode/utf8"

	"liveops/core/event"
	"liveops/core/fault"
)

const (
	maxLevels   = 10_000
	maxRate     = 1_000_000  // events of one rate
	maxLength   = 1024       // characters of a string field
	maxMetadata = 16         // values told with a board
	maxValue    = 256        // characters of one of them
	maxEntry    = 4          // fields an entry keeps
	maxKept     = 64         // characters of one of them
	minSize     = 100        // entries of a limited window in Redis
	maxSize     = 10_000_000 // the same
	maxTiers    = 100
	maxPlaces   = 1000 // of a hall of fame
	maxSlots    = 100_000
	maxPercent  = 1000 // of a modifier
	maxTypes    = 100  // that a modifier names
	maxGrowth   = 1000 // percent, of a step of the curve
	maxCooldown = 366 * 24 * time.Hour
)

// builtin is what the event types with an effect of their own carry.
func builtin() map[string]map[string]Field {
	return map[string]map[string]Field{
		event.XPGained: {"amount": {Type: "integer"}, "source": {Type: "string"}},
		event.ScoreSubmitted: {
			"board": {Type: "string"}, "score": {Type: "integer"}, event.WindowID: {Type: "string", Length: event.MaxID, Optional: true},
		},
		event.BossKilled:   {"boss": {Type: "string"}},
		event.ItemAcquired: {"item": {Type: "string"}, "quantity": {Type: "integer"}},
	}
}

func defaultFairness() Fairness {
	return Fairness{
		Burst:     Rate{Events: 20, Per: Duration(time.Second)},
		Sustained: Rate{Events: 300, Per: Duration(time.Minute)},
		Block:     Duration(10 * time.Minute),
		Escalation: Escalation{
			Factor: 3, Most: Duration(720 * time.Hour), Memory: Duration(720 * time.Hour), Throttles: 30, Within: Duration(10 * time.Minute),
		},
		Suspicion: Suspicion{HalfLife: Duration(72 * time.Hour), Case: 10},
		Shadow:    Duration(24 * time.Hour),
		Baseline:  Baseline{Period: Duration(24 * time.Hour), Periods: 28},
		Rules:     Rules(),
		Grace:     Duration(10 * time.Minute),
	}
}

// Rules is the rules of the ladder as they are where a catalog does not say otherwise.
func Rules() map[string]Rule {
	return map[string]Rule{
		string(fault.ImpossibleValue): {Mode: "enforce", Verdict: "deny", Points: 5},
		string(fault.MinimumInterval): {Mode: "enforce", Verdict: "throttle"},
		string(fault.ScoreVelocity):   {Mode: "enforce", Verdict: "deny", Points: 5},
		string(fault.OwnHistory):      {Mode: "enforce", Verdict: "flag", Points: 2, Limit: 6, After: 20},
		string(fault.Population):      {Mode: "enforce", Verdict: "flag", Points: 2, Limit: 3.5, After: 500},
		string(fault.RegularTiming):   {Mode: "enforce", Verdict: "flag", Points: 5, Limit: 0.05, After: 50},
	}
}

// Verdicts is those that a rule leaves to the catalog. Only hard rules deny: statistics may flag or shadow.
func Verdicts(rule string) []string {
	switch fault.Code(rule) {
	case fault.ImpossibleValue:
		return []string{"deny"}
	case fault.MinimumInterval:
		return []string{"throttle"}
	case fault.ScoreVelocity:
		return []string{"deny", "flag"}
	}
	return []string{"flag", "shadow"}
}

// validation checks a catalog that was read and fills in what was not said.
type validation struct {
	*Catalog
	lines    map[string]int
	problems []Problem
	unread   int // how many of the problems are places that could not be read
}

// problem notes what is wrong at a path, once, and not when the place or what holds it could not be read in the first place.
func (v *validation) problem(path, format string, args ...any) {
	for i, known := range v.problems {
		rest, within := strings.CutPrefix(path, known.Path)
		if within && (rest == "" || i < v.unread && (rest[0] == '.' || rest[0] == '[')) {
			return
		}
	}
	v.problems = append(v.problems, Problem{Path: path, Line: v.line(path), Text: fmt.Sprintf(format, args...)})
}

// line is where the path is written, or else where that is written which should hold it.
func (v *validation) line(path string) int {
	for path != "" {
		if line, ok := v.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

func (v *validation) run() {
	if v.Version < 1 {
		v.problem("version", "required, 1 or more")
	}
	if v.Name == "" {
		v.problem("name", "required, what the game is called")
	}
	v.Zone = orElse(v.Zone, "UTC")
	v.zone("zone", v.Zone)
	v.curve()
	v.events()
	v.items()
	for name, boss := range ordered(v.Bosses) {
		path := "bosses." + name
		v.name(path, name)
		v.worth(path, boss)
	}
	for level, reward := range ordered(v.Rewards.Levels) {
		path := fmt.Sprintf("rewards.levels.%d", level)
		if level < 2 || level > len(v.XP.Table) {
			v.problem(path, "no level that can be reached: the curve has levels 1 to %d and everybody starts at 1", len(v.XP.Table))
		}
		v.grants(path+".items", reward.Items)
		v.claim(path, reward.Claim, reward.Items)
	}
	v.lasting("rewards.claim", v.Rewards.Claim, time.Minute, 100*year)
	v.seasons()
	v.modifiers()
	v.boards()
	v.fairness()
	v.lasting("privacy.grace", v.Privacy.Grace, 0, year)
}

// items checks what a player can hold, and fills in what becomes of what does not fit.
func (v *validation) items() {
	for name, item := range ordered(v.Items) {
		path := "items." + name
		_, family := strings.CutSuffix(name, "*")
		if !event.ValidID(strings.TrimSuffix(name, "*")) {
			v.problem(path, "an item's name must be 1 to %d of A-Z a-z 0-9 _ -, a family's end in one *", event.MaxID)
		}
		v.between(path+".stack", item.Stack, 0, event.MaxInteger)
		v.between(path+".slots", int64(item.Slots), 0, maxSlots)
		if item.Slots != 0 && !family {
			v.problem(path+".slots", "is for families; limit how many a player may hold of one item by stack")
		}
		item.Overflow = orElse(item.Overflow, Reject)
		v.oneOf(path+".overflow", item.Overflow, overflows()...)
		if item.Overflow != Reject && item.Stack == 0 && item.Slots == 0 {
			v.problem(path+".overflow", "everything fits: give a stack, leave it out, or of a family give slots")
		}
		v.conversion(path+".convert", item)
		v.worth(path, item.Worth)
		v.Items[name] = item
	}
}

func (v *validation) conversion(path string, item Item) {
	switch {
	case item.Convert == nil && item.Overflow == Convert:
		v.problem(path, "required with overflow convert: say which item and quantity is granted instead")
	case item.Convert == nil:
	case item.Overflow != Convert:
		v.problem(path, "goes with overflow convert; write that, or leave it out")
	default:
		v.between(path+".quantity", item.Convert.Quantity, 1, event.MaxInteger)
		target, known := v.Item(item.Convert.Item)
		switch {
		case !known || !event.ValidID(item.Convert.Item):
			v.problem(path+".item", "no such item; declare it under items, or name one of a family")
		case target.Overflow == Convert: // a family's own items too
			v.problem(path+".item", "converts itself; name an item with another overflow")
		}
	}
}

// worth checks what brings a player something.
func (v *validation) worth(path string, w Worth) {
	v.between(path+".xp", w.XP, 0, event.MaxInteger)
	v.grants(path+".items", w.Items)
	v.claim(path, w.Claim, w.Items)
	v.limits(path, w)
}

// limits checks when it does.
func (v *validation) limits(path string, w Worth) {
	v.between(path+".required_level", int64(w.RequiredLevel), 0, int64(len(v.XP.Table)))
	v.lasting(path+".cooldown", w.Cooldown, 0, maxCooldown)
	if w.Once != "" {
		v.oneOf(path+".once", w.Once, periods()...)
	}
	if w.Once == "season" && len(v.Seasons) == 0 {
		v.problem(path+".once", "season needs seasons, and the catalog has none; list them under seasons")
	}
	v.between(path+".daily", w.Daily, 0, event.MaxInteger)
}

func (v *validation) claim(path string, claim bool, items map[string]int64) {
	if claim && len(items) == 0 {
		v.problem(path+".claim", "needs items: only they can wait in the mailbox")
	}
}

// limited checks what an event type with an effect of its own says of what it is worth: nothing that follows from the data, and nothing at all
// of a score, which brings nothing by itself.
func (v *validation) limited(path, name string, w Worth) {
	refuse := func(text string, keys map[string]bool) {
		for key, said := range keys {
			if said {
				v.problem(path+key, "%s", text)
			}
		}
	}
	worth := map[string]bool{".xp": w.XP != 0, ".items": w.Items != nil, ".claim": w.Claim}
	if name != event.ScoreSubmitted {
		refuse("only for types declared here: what "+name+" is worth follows from its data", worth)
		v.limits(path, w)
		return
	}
	const nothing = "a score brings nothing by itself; leave it out"
	refuse(nothing, worth)
	refuse(nothing, map[string]bool{".required_level": w.RequiredLevel != 0, ".cooldown": w.Cooldown != 0, ".once": w.Once != "", ".daily": w.Daily != 0})
}

// sources checks the limits by source of xp_gained.
func (v *validation) sources(path, name string, t EventType) {
	if name != event.XPGained {
		if t.Sources != nil {
			v.problem(path, "is for %s, the only type with a source", event.XPGained)
		}
		return
	}
	enum := t.Fields["source"].Enum
	for source, daily := range ordered(t.Sources) {
		at := path + "." + source
		v.name(at, source)
		v.between(at, daily, 1, event.MaxInteger)
		if len(enum) > 0 && !slices.Contains(enum, source) {
			v.problem(at, "must be one of the field's enum: %s", strings.Join(enum, ", "))
		}
	}
}

func (v *validation) modifiers() {
	for name, m := range ordered(v.Modifiers) {
		path := "modifiers." + name
		v.name(path, name)
		v.times(path, m.Starts, m.Ends)
		if _, said := v.lines[path+".percent"]; !said {
			v.problem(path+".percent", "required, of what events bring otherwise: 200 doubles, 0 is nothing")
		}
		v.between(path+".percent", m.Percent, 0, maxPercent)
		if len(m.Types) > maxTypes {
			v.problem(path+".types", "at most %d types; leave it out for all", maxTypes)
		}
		v.distinct(path+".types", m.Types)
		for i, t := range m.Types {
			at := fmt.Sprintf("%s.types[%d]", path, i)
			if _, known := v.Events[t]; !known {
				v.problem(at, "no such event type; declare it under events")
			}
			if t == event.ScoreSubmitted {
				v.problem(at, "a score brings no XP; leave it out")
			}
		}
	}
}

// times checks a stretch of local time.
func (v *validation) times(path, from, to string) (starts time.Time) {
	starts, err := clockTime(from)
	if err != nil {
		v.problem(path+".starts", "must be like 2026-11-22 or 2026-11-22T18:00")
	}
	ends, err := clockTime(to)
	if err != nil {
		v.problem(path+".ends", "must be like 2026-11-22 or 2026-11-22T18:00")
	} else if !ends.After(starts) {
		v.problem(path+".ends", "must be after starts")
	}
	return starts
}

func (v *validation) events() {
	builtin := builtin()
	if v.Events == nil {
		v.Events = map[string]EventType{}
	}
	for name := range builtin {
		if _, ok := v.Events[name]; !ok {
			v.Events[name] = EventType{}
		}
	}
	for name, t := range ordered(v.Events) {
		path := "events." + name
		own, isBuiltin := builtin[name]
		v.name(path, name)
		if name == event.RewardGranted || name == event.EventReversed {
			v.problem(path, "is not sent by clients; use another name")
		}
		if isBuiltin {
			v.limited(path, name, t.Worth)
		} else {
			v.worth(path, t.Worth)
		}
		fields := maps.Clone(own)
		if fields == nil {
			fields = map[string]Field{}
		}
		for member, field := range ordered(t.Fields) {
			at := path + ".fields." + member
			v.name(at, member)
			known, isOwn := own[member]
			switch {
			case isOwn:
				field.Type = orElse(field.Type, known.Type)
				if field.Type != known.Type {
					v.problem(at+".type", "is %s in every game; write that, or leave it out", known.Type)
				}
				if field.Optional && !known.Optional {
					v.problem(at+".optional", "is required in every game; leave it out")
				}
				field.Optional = known.Optional
			case name == event.ScoreSubmitted:
				if !field.Optional {
					v.problem(at+".optional", "must be true: a score is a score without it")
				}
			case isBuiltin:
				v.problem(at, "%s has the fields %s and no other; leave it out", name, strings.Join(slices.Sorted(maps.Keys(own)), ", "))
				continue
			}
			field.Type = orElse(field.Type, "integer")
			v.field(at, field)
			fields[member] = field
		}
		t.Fields = fields
		v.sources(path+".sources", name, t)
		v.Events[name] = t
	}
}

func (v *validation) field(path string, f Field) {
	v.oneOf(path+".type", f.Type, types()...)
	if f.Type == "integer" {
		v.bounds(path, f.Min, f.Max)
	} else if f.Min != nil || f.Max != nil {
		v.problem(path, "min and max are for integers; leave them out")
	}
	v.between(path+".length", int64(f.Length), 0, maxLength)
	if f.Length != 0 && f.Type != "string" {
		v.problem(path+".length", "is for strings; write type: string, or leave it out")
	}
	switch {
	case len(f.Enum) == 0:
	case f.Type != "string":
		v.problem(path+".enum", "is for strings; write type: string, or leave it out")
	default:
		v.distinct(path+".enum", f.Enum)
	}
}

func (v *validation) curve() {
	table, g := v.XP.Table, v.XP.Generate
	switch {
	case table != nil && g != nil:
		v.problem("xp", "give either table or generate, not both")
	case g != nil:
		v.generate(*g)
	case len(table) == 0:
		v.problem("xp.table", "required, unless the curve is generated")
	case len(table) > maxLevels:
		v.problem("xp.table", "at most %d levels", maxLevels)
	case table[0] != 0:
		v.problem("xp.table[0]", "must be 0: level 1 is reached with no XP")
	}
	if g == nil {
		for i := 1; i < len(table); i++ {
			if table[i] <= table[i-1] || table[i] > event.MaxInteger {
				v.problem(fmt.Sprintf("xp.table[%d]", i), "must be above the level before, %d, up to 2^53-1", table[i-1])
			}
		}
	}
	v.XP.Generate = nil
}

func (v *validation) generate(g Generate) {
	before := len(v.problems)
	v.between("xp.generate.levels", int64(g.Levels), 1, maxLevels)
	v.between("xp.generate.first", g.First, 1, event.MaxInteger)
	v.between("xp.generate.percent", g.Percent, 1, maxGrowth)
	if len(v.problems) > before {
		return
	}
	v.XP.Table = []int64{0}
	for step := g.First; len(v.XP.Table) < g.Levels; step = max(1, step*g.Percent/100) { // step × 1000 < 2^63
		reached := v.XP.Table[len(v.XP.Table)-1] + step
		if reached > event.MaxInteger {
			v.problem("xp.generate", "level %d would take more than 2^53-1 XP: give fewer levels, or a lower first or percent", len(v.XP.Table)+1)
			return
		}
		v.XP.Table = append(v.XP.Table, reached)
	}
}

func (v *validation) grants(path string, items map[string]int64) {
	for name, quantity := range ordered(items) {
		at := path + "." + name
		v.between(at, quantity, 1, event.MaxInteger)
		if _, ok := v.Item(name); !ok || !event.ValidID(name) {
			v.problem(at, "no such item; declare it under items, or name one of a family")
		}
	}
}

func (v *validation) seasons() {
	var before Season
	for i, s := range v.Seasons {
		path := fmt.Sprintf("seasons[%d]", i)
		v.name(path+".id", s.ID)
		if s.ID != "" && (s.ID[0] >= '0' && s.ID[0] <= '9' || slices.Contains(windows(), s.ID)) {
			v.problem(path+".id", "would be taken for another window: start with a letter, and do not use %s", strings.Join(windows(), ", "))
		}
		if s.ID <= before.ID {
			v.problem(path+".id", "must sort after %q: ids sort as the seasons follow each other", before.ID)
		}
		starts := v.times(path, s.Starts, s.Ends)
		if end, err := before.ClockTime(before.Ends); err == nil && starts.Before(end) {
			v.problem(path+".starts", "must not be before the end of %s: seasons stand in order and do not overlap", before.ID)
		}
		before = s
	}
}

// The words that a catalog has for what it chooses.
func windows() []string   { return []string{"daily", "weekly", "season", "all_time"} }
func operators() []string { return []string{"best", "latest", "sum"} }
func orders() []string    { return []string{"desc", "asc"} }
func types() []string     { return []string{"integer", "string", "boolean"} }
func overflows() []string { return []string{Reject, Mailbox, Convert} }
func periods() []string   { return []string{"day", "week", "season", Ever} }
func modes() []string     { return []string{"enforce", "shadow", "off"} }

func (v *validation) boards() {
	for name, b := range ordered(v.Boards) {
		path := "boards." + name
		v.name(path, name)
		b.Operator, b.Order, b.Zone = orElse(b.Operator, "best"), orElse(b.Order, "desc"), orElse(b.Zone, "UTC")
		v.oneOf(path+".operator", b.Operator, operators()...)
		v.oneOf(path+".order", b.Order, orders()...)
		v.zone(path+".zone", b.Zone)
		if len(b.Windows) == 0 {
			v.problem(path+".windows", "required, at least one of %s", strings.Join(windows(), ", "))
		}
		for i, window := range b.Windows {
			v.oneOf(fmt.Sprintf("%s.windows[%d]", path, i), window, windows()...)
		}
		v.distinct(path+".windows", b.Windows)
		if slices.Contains(b.Windows, "season") && len(v.Seasons) == 0 {
			v.problem(path+".windows", "season needs seasons, and the catalog has none; list them under seasons")
		}
		v.bounds(path, b.Min, b.Max)
		v.between(path+".velocity.per_10s", b.Velocity.Per10s, 0, event.MaxInteger)
		v.between(path+".velocity.per_60s", b.Velocity.Per60s, 0, event.MaxInteger)
		v.between(path+".velocity.per_1h", b.Velocity.Per1h, 0, event.MaxInteger)
		if source, ok := v.Boards[b.From]; b.From != "" {
			switch {
			case !ok:
				v.problem(path+".from", "no such board; declare it under boards")
			case b.From == name || source.From != "":
				v.problem(path+".from", "must be a board that scores are submitted to, one without from")
			}
			if b.Min != nil || b.Max != nil || b.Velocity != (Velocity{}) {
				v.problem(path, "min, max and velocity belong to the board the scores are submitted to; write them there")
			}
		}
		v.told(path, b)
		v.kept(path, b)
		v.prizes(path, b)
		if _, said := v.lines[path+".hall_of_fame"]; !said {
			b.HallOfFame = 3
		}
		v.Boards[name] = b
	}
}

// told checks what is told with a board, and how readily.
func (v *validation) told(path string, b Board) {
	if len(b.Metadata) > maxMetadata {
		v.problem(path+".metadata", "at most %d values", maxMetadata)
	}
	for key, value := range ordered(b.Metadata) {
		v.name(path+".metadata."+key, key)
		if utf8.RuneCountInString(value) > maxValue {
			v.problem(path+".metadata."+key, "at most %d characters", maxValue)
		}
	}
	if b.Size != 0 {
		v.between(path+".size", int64(b.Size), minSize, maxSize)
	}
	v.lasting(path+".age", b.Age, 0, time.Minute)
}

// kept checks the fields that an entry keeps. They are small: a number, a truth, a word of a list or a short string.
func (v *validation) kept(path string, b Board) {
	path += ".entry"
	v.distinct(path, b.Entry)
	if len(b.Entry) > maxEntry {
		v.problem(path, "at most %d fields", maxEntry)
	}
	own, fields := builtin()[event.ScoreSubmitted], v.Events[event.ScoreSubmitted].Fields
	for i, name := range b.Entry {
		field, known := fields[name]
		if _, isOwn := own[name]; isOwn || !known {
			v.problem(fmt.Sprintf("%s[%d]", path, i), "must be a further field of score_submitted, declared under events")
		}
		long := slices.ContainsFunc(field.Enum, func(word string) bool { return utf8.RuneCountInString(word) > maxKept })
		if field.Type == "string" && (long || len(field.Enum) == 0 && (field.Length < 1 || field.Length > maxKept)) {
			v.problem(fmt.Sprintf("%s[%d]", path, i), "must be small: give the field an enum or a length, of at most %d characters", maxKept)
		}
	}
}

// prizes checks what places bring.
func (v *validation) prizes(path string, b Board) {
	v.between(path+".hall_of_fame", int64(b.HallOfFame), 0, maxPlaces)
	v.lasting(path+".retention", b.Retention, 0, 100*year)
	for cadence, tiers := range ordered(b.Rewards) {
		at := path + ".rewards." + cadence
		if cadence == "all_time" || !slices.Contains(b.Windows, cadence) {
			v.problem(at, "must be a cadence of the board whose windows end")
		}
		if len(tiers) > maxTiers {
			v.problem(at, "at most %d tiers", maxTiers)
		}
		for i, tier := range tiers {
			at := fmt.Sprintf("%s[%d]", at, i)
			switch {
			case (tier.Rank == 0) == (tier.Percent == 0):
				v.problem(at, "give either rank or percent")
			case tier.Rank != 0:
				v.between(at+".rank", tier.Rank, 1, event.MaxInteger)
			default:
				v.between(at+".percent", tier.Percent, 1, 100)
			}
			v.between(at+".xp", tier.XP, 0, event.MaxInteger)
			v.grants(at+".items", tier.Items)
			if tier.XP == 0 && len(tier.Items) == 0 {
				v.problem(at, "must bring xp or items")
			}
		}
	}
}

func (v *validation) fairness() {
	f := &v.Fairness
	v.rate("fairness.burst", f.Burst)
	v.rate("fairness.sustained", f.Sustained)
	for name, r := range ordered(f.Keys) {
		v.name("fairness.keys."+name, name)
		v.rate("fairness.keys."+name, r)
	}
	for name, t := range ordered(v.Events) {
		v.lasting("events."+name+".every", t.Every, 0, 24*time.Hour)
		if t.Rate != (Rate{}) {
			v.rate("events."+name+".rate", t.Rate)
		}
	}
	v.lasting("fairness.block", f.Block, time.Second, year)
	v.between("fairness.escalation.factor", int64(f.Escalation.Factor), 1, 100)
	v.lasting("fairness.escalation.most", f.Escalation.Most, time.Duration(f.Block), year)
	v.lasting("fairness.escalation.memory", f.Escalation.Memory, 0, year)
	v.between("fairness.escalation.throttles", int64(f.Escalation.Throttles), 0, maxRate)
	v.lasting("fairness.escalation.within", f.Escalation.Within, time.Second, 24*time.Hour)
	v.lasting("fairness.suspicion.half_life", f.Suspicion.HalfLife, time.Minute, year)
	v.between("fairness.suspicion.case", int64(f.Suspicion.Case), 1, maxRate)
	v.lasting("fairness.shadow", f.Shadow, time.Minute, year)
	v.lasting("fairness.baseline.period", f.Baseline.Period, time.Minute, 7*24*time.Hour)
	v.between("fairness.baseline.periods", int64(f.Baseline.Periods), 1, 100)
	v.lasting("fairness.record", f.Record, 0, year)
	v.lasting("fairness.grace", f.Grace, 0, 24*time.Hour)
	v.rules()
}

const year = 365 * 24 * time.Hour

func (v *validation) rate(path string, r Rate) {
	v.between(path+".events", int64(r.Events), 1, maxRate)
	v.lasting(path+".per", r.Per, time.Millisecond, 24*time.Hour)
	if r.Events > 0 && time.Duration(r.Per)/time.Duration(r.Events) < time.Microsecond {
		v.problem(path, "at most one event a microsecond: fewer events, or a longer per")
	}
}

// rules fills in what a catalog left out of a rule that it names. Whatever is written wins, a 0 too.
func (v *validation) rules() {
	rules := Rules()
	for name, rule := range ordered(v.Fairness.Rules) {
		path := "fairness.rules." + name
		standard, known := rules[name]
		if !known {
			v.problem(path, "no such rule; there are %s", strings.Join(slices.Sorted(maps.Keys(rules)), ", "))
			continue
		}
		said := func(key string) bool { _, there := v.lines[path+"."+key]; return there }
		rule.Mode, rule.Verdict = orElse(rule.Mode, standard.Mode), orElse(rule.Verdict, standard.Verdict)
		if !said("points") {
			rule.Points = standard.Points
		}
		if !said("limit") {
			rule.Limit = standard.Limit
		}
		if !said("after") {
			rule.After = standard.After
		}
		v.oneOf(path+".mode", rule.Mode, modes()...)
		v.oneOf(path+".verdict", rule.Verdict, Verdicts(name)...)
		v.between(path+".points", int64(rule.Points), 0, 1000)
		switch {
		case standard.Limit == 0:
			if rule.Limit != 0 || rule.After != 0 {
				v.problem(path, "limit and after are for statistics; leave them out, this rule's limits stand with the events and boards")
			}
		case rule.Limit <= 0 || rule.Limit > 1000:
			v.problem(path+".limit", "must be above 0, up to 1000")
		}
		if standard.After != 0 {
			v.between(path+".after", int64(rule.After), 10, maxRate)
		}
		rules[name] = rule
	}
	v.Fairness.Rules = rules
}

func (v *validation) zone(path, name string) {
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		v.problem(path, "no such time zone; use a name like Europe/Berlin")
	}
}

func (v *validation) name(path, name string) {
	if !event.ValidID(name) {
		v.problem(path, "a name must be 1 to %d of A-Z a-z 0-9 _ -", event.MaxID)
	}
}

func (v *validation) between(path string, n, least, most int64) {
	switch {
	case n >= least && n <= most:
	case most == event.MaxInteger:
		v.problem(path, "must be from %d to 2^53-1", least)
	default:
		v.problem(path, "must be from %d to %d", least, most)
	}
}

func (v *validation) bounds(path string, least, most *int64) {
	for key, bound := range map[string]*int64{".min": least, ".max": most} {
		if bound != nil && (*bound > event.MaxInteger || *bound < -event.MaxInteger) {
			v.problem(path+key, "must be from -(2^53-1) to 2^53-1")
		}
	}
	if least != nil && most != nil && *least > *most {
		v.problem(path+".max", "must not be below min")
	}
}

func (v *validation) lasting(path string, d Duration, least, most time.Duration) {
	if time.Duration(d) < least || time.Duration(d) > most {
		v.problem(path, "must be from %s to %s", least, most)
	}
}

func (v *validation) oneOf(path, value string, known ...string) {
	if !slices.Contains(known, value) {
		v.problem(path, "must be one of %s", strings.Join(known, ", "))
	}
}

func (v *validation) distinct(path string, values []string) {
	for i, value := range values {
		switch at := fmt.Sprintf("%s[%d]", path, i); {
		case value == "":
			v.problem(at, "must not be empty")
		case slices.Contains(values[:i], value):
			v.problem(at, "named twice; leave one out")
		}
	}
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
