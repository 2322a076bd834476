// Package catalog is a game's numbers: event types and their bounds, the XP curve, bosses, items, level rewards, modifiers, boards
// with their windows, fairness limits. One versioned file holds them and nothing in code does. It knows no player, no
// state and no clock.
package catalog

import (
	"errors"
	"time"
)

// Catalog is one version of a game. Parse checks it as a whole, so its readers need not.
type Catalog struct {
	Version   int                  `yaml:"version"`   // grows with every change; written on every ledger row
	Name      string               `yaml:"name"`      // what the game is called
	Zone      string               `yaml:"zone"`      // IANA name; where the game's days and weeks begin, and what the times of modifiers mean; default UTC
	Events    map[string]EventType `yaml:"events"`    // what a client may send; the built-in types are mentioned only to bound them
	XP        Curve                `yaml:"xp"`        // the XP that reaches each level
	Rewards   Rewards              `yaml:"rewards"`   // what reaching a level brings
	Bosses    map[string]Worth     `yaml:"bosses"`    // what a kill is worth
	Items     map[string]Item      `yaml:"items"`     // a name, or a family such as "eco-*"
	Modifiers map[string]Modifier  `yaml:"modifiers"` // such as a weekend of twice the XP
	Boards    map[string]Board     `yaml:"boards"`    // the rankings
	Seasons   []Season             `yaml:"seasons"`   // in order, not overlapping
	Fairness  Fairness             `yaml:"fairness"`  // the limits at the gate, and what is done about who is outside of what is honest
	Privacy   Privacy              `yaml:"privacy"`   // how player data is treated
}

// EventType says what an event of this type carries. The types xp_gained, score_submitted, boss_killed and item_acquired
// have an effect of their own and their fields must be declared as they are used (see Parse); score_submitted may carry further
// optional ones, for boards to keep. Further types are worth what is declared here. Of the types with an effect of their own, what
// an event is worth follows from its data, and the type only limits it: by required_level, cooldown, once and daily.
type EventType struct {
	Fields  map[string]Field `yaml:"fields"`  // what its data holds, by name
	Every   Duration         `yaml:"every"`   // least time between two events of this type by one player; 0: none
	Rate    Rate             `yaml:"rate"`    // of this type at the gate, for each player, beside burst and sustained
	Sources map[string]int64 `yaml:"sources"` // of xp_gained: the most XP of a day, by the event's source; 1 to 2^53-1
	Worth   `yaml:",inline"`
}

// Worth is what an event brings a player, and when it does. What comes too early, or once too often, or to whom it is not for yet
// is worth nothing, and the ledger says why. Time is the event's effective one, days and weeks are the catalog's.
type Worth struct {
	XP            int64            `yaml:"xp"`             // before modifiers; of a boss or an item beside what else it brings
	Items         map[string]int64 `yaml:"items"`          // granted with it, by name; families are named by one of their items
	Claim         bool             `yaml:"claim"`          // the items wait in the mailbox, rather than being granted at once
	RequiredLevel int              `yaml:"required_level"` // the least level of the player before the event; 0: any
	Cooldown      Duration         `yaml:"cooldown"`       // least time between two that are worth something; 0: none
	Once          string           `yaml:"once"`           // only the first is worth something, of each day, week, season or ever; empty: all are
	Daily         int64            `yaml:"daily"`          // the most XP of one day, after modifiers; 0: no limit
}

// Field is one member of an event's data. Its type and its length are a matter of form, checked at the gate; Min, Max and Enum
// are what an honest game can send, checked behind the queue.
type Field struct {
	Type     string   `yaml:"type"`     // integer (the default), string or boolean
	Min      *int64   `yaml:"min"`      // of an integer: the least an honest game can send
	Max      *int64   `yaml:"max"`      // and the most
	Enum     []string `yaml:"enum"`     // of a string: the words an honest game can send
	Length   int      `yaml:"length"`   // of a string, in characters, at most; 0: only what an event may weigh
	Optional bool     `yaml:"optional"` // it need not be there
}

// Curve is the XP that reaches each level, level 1 first. It starts at 0 and rises strictly. Either the table is given, or
// it is generated; after Parse, Table always holds it and Generate is nil.
type Curve struct {
	Table    []int64   `yaml:"table"`    // XP by level, level 1 first
	Generate *Generate `yaml:"generate"` // a table made from three numbers, instead of table
}

// Generate makes a table of Levels levels: the step to level 2 is First, every further step is the one before times
// Percent / 100, rounded down, and never less than 1.
type Generate struct {
	Levels  int   `yaml:"levels"`  // how many levels there are
	First   int64 `yaml:"first"`   // XP from level 1 to level 2
	Percent int64 `yaml:"percent"` // each further step, of the step before
}

// Rewards are granted when something is reached. What a window brings stands with its board.
type Rewards struct {
	Levels map[int]Reward `yaml:"levels"` // by the level reached
	Claim  Duration       `yaml:"claim"`  // how long a reward waits in the mailbox to be claimed; default 720h
}

// Reward is what a level brings.
type Reward struct {
	Items map[string]int64 `yaml:"items"` // by name; families are named by one of their items
	Claim bool             `yaml:"claim"` // they wait in the mailbox, rather than being granted at once
}

// Item is a thing a player can hold. Its Worth is what an item_acquired of it brings beside the item itself, whatever the quantity.
type Item struct {
	Stack    int64       `yaml:"stack"`    // the most of one item a player may hold; 0: no limit
	Slots    int         `yaml:"slots"`    // of a family: how many different items of it a player may hold; 0: no limit
	Overflow string      `yaml:"overflow"` // what becomes of what does not fit: reject (the default; the ledger says so), mailbox or convert
	Convert  *Conversion `yaml:"convert"`  // with overflow convert
	Worth    `yaml:",inline"`
}

// What becomes of what does not fit.
const (
	Reject  = "reject"  // it is not granted
	Mailbox = "mailbox" // it waits to be claimed
	Convert = "convert" // something else is granted, see Conversion
)

// Conversion is what is granted in place of each one that does not fit. It is another item, which does not convert itself.
type Conversion struct {
	Item     string `yaml:"item"`     // its name
	Quantity int64  `yaml:"quantity"` // for each one that does not fit
}

// Modifier changes the XP of events whose effective time lies within it: to Percent of what they would bring, rounded down. Of several
// that are in force at once the greatest counts. What windows bring is not changed.
type Modifier struct {
	Starts  string   `yaml:"starts"`  // 2006-01-02 or 2006-01-02T15:04, in the catalog's zone
	Ends    string   `yaml:"ends"`    // exclusive
	Percent int64    `yaml:"percent"` // 0 to 1000; 200 doubles
	Types   []string `yaml:"types"`   // event types; none: all
}

// Privacy is how player data is treated.
type Privacy struct {
	Grace Duration `yaml:"grace"` // how long an erasure that was asked for can be cancelled; default 720h
}

// Board is one ranking.
//
// A board with From is fed by another board: every score submitted to that one counts here too, under this board's operator
// and windows, and none is submitted here directly.
type Board struct {
	From     string   `yaml:"from"`     // the board whose scores count here too; empty: it takes scores of its own
	Operator string   `yaml:"operator"` // best, latest or sum
	Order    string   `yaml:"order"`    // desc or asc
	Zone     string   `yaml:"zone"`     // IANA name; boundaries of its windows are midnight there
	Windows  []string `yaml:"windows"`  // daily, weekly, season, all_time
	Public   bool     `yaml:"public"`   // may be read unsigned
	Min      *int64   `yaml:"min"`      // a score an honest game can send
	Max      *int64   `yaml:"max"`      // and the most of it
	Velocity Velocity `yaml:"velocity"` // the most points an honest player can gather; 0: not limited

	Metadata map[string]string `yaml:"metadata"` // told with the board: a title, an icon
	Entry    []string          `yaml:"entry"`    // further fields of score_submitted that an entry keeps, of the score it stands for
	Size     int               `yaml:"size"`     // how many entries of a window Redis holds, the best ones; 0: all of them
	Age      Duration          `yaml:"age"`      // how old an answer of a read may be; 0: not at all

	Rewards    map[string][]Tier `yaml:"rewards"`      // of a window when it is archived, by cadence; the first tier that fits a place
	HallOfFame int               `yaml:"hall_of_fame"` // how many places of an archived window are remembered for ever; default 3
	Retention  Duration          `yaml:"retention"`    // how long after its end a window's archive keeps the other places; 0: for ever
}

// Tier is what the places up to a rank bring: an absolute one, or one in percent of the entries, rounded up.
type Tier struct {
	Rank    int64            `yaml:"rank" json:"rank,omitzero"`       // places up to this one; or else percent
	Percent int64            `yaml:"percent" json:"percent,omitzero"` // places up to so many percent of the entries; or else rank
	XP      int64            `yaml:"xp" json:"xp,omitzero"`           // what the place brings
	Items   map[string]int64 `yaml:"items" json:"items,omitempty"`    // and these
	Claim   bool             `yaml:"claim" json:"claim,omitzero"`     // it waits in the mailbox, rather than being granted at once
}

// Reaches says whether a place, from 1, among so many entries is within the tier.
func (t Tier) Reaches(rank, entries int64) bool {
	if t.Rank > 0 {
		return rank <= t.Rank
	}
	return (rank-1)*100 < entries*t.Percent // rank ≤ ⌈entries × percent / 100⌉
}

// Velocity is the physical maximum of points in sliding windows.
type Velocity struct {
	Per10s int64 `yaml:"per_10s"` // points in 10 seconds
	Per60s int64 `yaml:"per_60s"` // points in a minute
	Per1h  int64 `yaml:"per_1h"`  // points in an hour
}

// Season is a named stretch of local time; each board reads the two in its own zone.
type Season struct {
	ID     string `yaml:"id"`     // such as s07
	Starts string `yaml:"starts"` // 2006-01-02 or 2006-01-02T15:04
	Ends   string `yaml:"ends"`   // exclusive
}

// Fairness is the policy: the limits at the gate, the rules behind the queue, and what their verdicts lead to.
type Fairness struct {
	Burst      Rate            `yaml:"burst"`      // of each player, default 20 events in 1s
	Sustained  Rate            `yaml:"sustained"`  // of each player, default 300 events in 60s
	Keys       map[string]Rate `yaml:"keys"`       // of each signing key, events and signed reads: by its id, or else by its class (server, client, session)
	Block      Duration        `yaml:"block"`      // how long a first deny blocks the player; default 10m
	Escalation Escalation      `yaml:"escalation"` // how blocks grow, and when throttling becomes one
	Suspicion  Suspicion       `yaml:"suspicion"`  // when findings become a case
	Shadow     Duration        `yaml:"shadow"`     // how long the verdict shadow hides a player; default 24h
	Baseline   Baseline        `yaml:"baseline"`   // what the rule population compares with
	Rules      map[string]Rule `yaml:"rules"`      // by the rule's code; see Rules for their defaults
	Record     Duration        `yaml:"record"`     // how long events are kept for `liveops simulate`, as they came; 0, the default: not at all
	Grace      Duration        `yaml:"grace"`      // how long after a window's end late events still count in it; default 10m
}

// Rate allows Events in any stretch of Per, regained evenly. The zero value of an optional one is no limit.
type Rate struct {
	Events int      `yaml:"events"` // so many of them
	Per    Duration `yaml:"per"`    // in any stretch of this length
}

// Escalation makes a repeated block longer, and many throttled events a block.
type Escalation struct {
	Factor    int      `yaml:"factor"`    // a further block lasts this many times the one before; default 3
	Most      Duration `yaml:"most"`      // the longest; default 720h
	Memory    Duration `yaml:"memory"`    // whoever was out of blocks for this long begins anew; default 720h
	Throttles int      `yaml:"throttles"` // more throttled events than this Within block like a deny; 0: none do; default 30
	Within    Duration `yaml:"within"`    // default 10m
}

// Suspicion sums the points of a player's enforced findings. Points lose half their worth in each HalfLife.
type Suspicion struct {
	HalfLife Duration `yaml:"half_life"` // default 72h
	Case     int      `yaml:"case"`      // so many points open a case; default 10
}

// Baseline is the population that a score is compared with: a few scores of each player and period that ended.
type Baseline struct {
	Period  Duration `yaml:"period"`  // default 24h
	Periods int      `yaml:"periods"` // how many of them count at most; default 28
}

// Rule configures one rule of the ladder.
type Rule struct {
	Mode    string  `yaml:"mode"`    // enforce, shadow (evaluated and counted, never acts) or off
	Verdict string  `yaml:"verdict"` // where the rule leaves a choice
	Points  int     `yaml:"points"`  // what an enforced finding adds to the suspicion of the player
	Limit   float64 `yaml:"limit"`   // of a statistic: how far from the ordinary is too far
	After   int     `yaml:"after"`   // of a statistic: how much must be known before it judges
}

// Duration is a time.Duration written like 90s or 24h, never below zero.
type Duration time.Duration

// Std is the same length of time for the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes it as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes it as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 90s, 1h30m, 250ms or 0.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed < 0 {
		return errors.New("must be a length of time such as 90s or 24h")
	}
	*d = Duration(parsed)
	return nil
}
