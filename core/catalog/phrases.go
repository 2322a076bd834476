package catalog

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// phrase is how a change of one key is told: of a value that becomes another one, of one that was not there or was 0, and of one that is
// no more. {who} is what the key is of, {key} the entry of a mapping, {old} and {new} the values. Where only Changes is given it tells all three.
type phrase struct {
	changes, appears, goes string
	warning                bool                // each change is worth a second look
	word                   func(string) string // how a value is told, where it is not as it is
	lowered                string              // what is added when a number is lowered, or when there is one where none was
}

// tell adds the sentence. Of an entry of a mapping that is not there a value is the zero one.
func (p phrase) tell(c *comparison, path, subject, key string, before, after reflect.Value) {
	sentence := p.changes
	switch {
	case p.appears != "" && absent(before) && (!before.IsValid() || after.IsValid()):
		sentence = p.appears
	case p.goes != "" && absent(after):
		sentence = p.goes
	}
	if before.Kind() == reflect.Slice && before.Type().Elem().Kind() == reflect.String {
		was, _ := before.Interface().([]string)
		is, _ := after.Interface().([]string)
		if slices.Equal(slices.Sorted(slices.Values(was)), slices.Sorted(slices.Values(is))) {
			return // another order of a set
		}
	}
	replace := []string{"{who}", subject, "{key}", key}
	if strings.Contains(sentence, "{old}") {
		replace = append(replace, "{old}", p.told(before))
	}
	if strings.Contains(sentence, "{new}") {
		replace = append(replace, "{new}", p.told(after))
	}
	sentence = strings.NewReplacer(replace...).Replace(cmp.Or(sentence, path+" is {new} instead of {old}"))
	if p.lowered != "" && after.CanInt() && after.Int() != 0 && (before.Int() == 0 || after.Int() < before.Int()) {
		sentence += p.lowered
	}
	c.say(path, p.warning, "%s", sentence)
}

func absent(v reflect.Value) bool { return !v.IsValid() || v.IsZero() }

func (p phrase) told(v reflect.Value) string {
	if p.word != nil {
		return p.word(text(v))
	}
	return text(v)
}

// phrases is how changes are told, by the type and the key. It has every key whose values are compared as a whole.
func phrases() map[string]phrase {
	return map[string]phrase{
		"Catalog.name": {changes: "the game is called {new} instead of {old}"},
		"Catalog.zone": {changes: "days and weeks begin at midnight of {new} instead of {old}: limits of the running ones may count anew, and modifiers move", warning: true},

		"EventType.every": {
			changes: "{who} may be sent every {new} instead of every {old}", appears: "{who} may be sent every {new}, no longer at any time",
			goes: "{who} may be sent at any time, no longer every {old} only",
		},
		"EventType.rate": {
			changes: "{who} may be sent {new} instead of {old}", appears: "{who} may be sent {new}, no longer without a rate of its own",
			goes: "{who} has no rate of its own any more, it was {old}",
		},
		"EventType.sources": {
			changes: "{who} from {key} brings at most {new} XP a day instead of {old}", appears: "{who} from {key} brings at most {new} XP a day, it was not limited",
			goes: "{who} from {key} is not limited any more, it was to {old} XP a day",
		},

		"Worth.xp":    {changes: "{who} is worth {new} XP instead of {old}", appears: "{who} is worth {new} XP, no longer none", goes: "{who} is worth no XP any more, it was {old}"},
		"Worth.items": {changes: "{who} brings {new} {key} instead of {old}", appears: "{who} brings {new} {key} too", goes: "{who} brings no {key} any more, it was {old}"},
		"Worth.claim": {appears: "what {who} brings waits in the mailbox, and is no longer granted at once", goes: "what {who} brings is granted at once, and no longer waits in the mailbox"},
		"Worth.required_level": {
			changes: "{who} is worth something from level {new} on instead of {old}", appears: "{who} is worth something from level {new} on, no longer from any",
			goes: "{who} is worth something from any level on, no longer from {old} only",
		},
		"Worth.cooldown": {
			changes: "{who} is worth something every {new} instead of every {old}", appears: "{who} is worth something every {new}, no longer at any time",
			goes: "{who} is worth something at any time, no longer every {old} only",
		},
		"Worth.once": {
			changes: "{who} is worth something once {new} instead of once {old}", appears: "{who} is worth something only once {new}: what came before this version may not count",
			goes: "{who} is worth something each time, no longer only once {old}",
			word: every,
		},
		"Worth.daily": {
			changes: "{who} brings at most {new} XP a day instead of {old}", appears: "{who} brings at most {new} XP a day, it was not limited",
			goes: "{who} is not limited by the day any more, it was to {old} XP",
		},

		"Field.type": {changes: "{who} is of type {new} instead of {old}: events with the former are refused", warning: true},
		"Field.min": {
			changes: "{who} may be {new} or more instead of {old}: who sends less is outside of what is honest", appears: "{who} may be {new} or more: who sends less is outside of what is honest",
			goes: "{who} has no least any more, it was {old}",
		},
		"Field.max": {
			changes: "{who} may be up to {new} instead of {old}: who sends more is outside of what is honest", appears: "{who} may be up to {new}: who sends more is outside of what is honest",
			goes: "{who} has no most any more, it was {old}",
		},
		"Field.enum": {
			changes: "{who} may be {new} instead of {old}: who sends another is outside of what is honest", appears: "{who} may be {new} only: who sends another is outside of what is honest",
			goes: "{who} may be any string, no longer {old} only",
		},
		"Field.length": {
			changes: "{who} may have {new} characters instead of {old}: longer ones are refused", appears: "{who} may have {new} characters: longer ones are refused",
			goes: "{who} may be of any length, no longer of {old} characters",
		},
		"Field.optional": {appears: "{who} may be left out", goes: "{who} is required: events without it are refused", warning: true},

		"Rewards.claim": {changes: "a reward waits {new} in the mailbox instead of {old}; those that wait already keep their time"},
		"Reward.items":  {changes: "{who} brings {new} {key} instead of {old}", appears: "{who} brings {new} {key} too: not to who has passed it already", goes: "{who} brings no {key} any more, it was {old}"},
		"Reward.claim":  {appears: "what {who} brings waits in the mailbox, and is no longer granted at once", goes: "what {who} brings is granted at once, and no longer waits in the mailbox"},

		"Item.stack": {
			changes: "a player may hold {new} of {who} instead of {old}", appears: "a player may hold {new} of {who}, no longer any number",
			goes: "a player may hold any number of {who}, no longer {old}", lowered: ": who holds more keeps it and gets none until there is room",
		},
		"Item.slots": {
			changes: "a player may hold {new} different items of {who} instead of {old}", appears: "a player may hold {new} different items of {who}, no longer any number",
			goes: "a player may hold any number of different items of {who}, no longer {old}", lowered: ": who holds more keeps them and gets no other",
		},
		"Item.overflow": {changes: "what does not fit of {who}: {new} instead of {old}"},
		"Item.convert": {
			changes: "what does not fit of {who} becomes {new} each instead of {old}", appears: "what does not fit of {who} becomes {new} each", goes: "what does not fit of {who} does not become {old} any more",
		},

		"Modifier.starts":  {changes: "{who} starts {new} instead of {old}: events that were counted already stay as they are"},
		"Modifier.ends":    {changes: "{who} ends {new} instead of {old}: events that were counted already stay as they are"},
		"Modifier.percent": {changes: "{who} makes of XP {new} % instead of {old} %"},
		"Modifier.types":   {changes: "{who} is for {new} instead of {old}", appears: "{who} is for {new}, no longer for all events", goes: "{who} is for all events, no longer for {old}"},

		"Board.from": {
			changes: "{who} takes the scores of {new} instead of {old}", appears: "{who} takes the scores of {new}, and none are submitted to it any more",
			goes: "{who} takes scores of its own, no longer those of {old}", warning: true,
		},
		"Board.operator": {changes: "{who} keeps the {new} score instead of the {old} one: scores of before and after do not compare", warning: true},
		"Board.order":    {changes: "{who} ranks in order {new} instead of {old}: scores of before and after do not compare", warning: true},
		"Board.zone":     {changes: "windows of {who} end at midnight of {new} instead of {old}; those that exist already keep their times", warning: true},
		"Board.windows":  {changes: "{who} has {new} windows instead of {old}: those that exist already end as they would have, and new ones are empty", warning: true},
		"Board.public":   {appears: "{who} may be read unsigned", goes: "{who} is read with a key only: unsigned reads are refused", warning: true},
		"Board.min": {
			changes: "a score of {who} may be {new} or more instead of {old}: who sends less is outside of what is honest",
			appears: "a score of {who} may be {new} or more: who sends less is outside of what is honest", goes: "scores of {who} have no least any more, it was {old}",
		},
		"Board.max": {
			changes: "a score of {who} may be up to {new} instead of {old}: who sends more is outside of what is honest",
			appears: "a score of {who} may be up to {new}: who sends more is outside of what is honest", goes: "scores of {who} have no most any more, it was {old}",
		},
		"Velocity.per_10s": velocity("10 seconds"),
		"Velocity.per_60s": velocity("60 seconds"),
		"Velocity.per_1h":  velocity("an hour"),
		"Board.metadata":   {changes: "{who} tells {new} as its {key} instead of {old}", appears: "{who} tells {new} as its {key}", goes: "{who} tells no {key} any more, it was {old}"},
		"Board.entry":      {changes: "entries of {who} keep {new} instead of {old}; those that are there stay as they are", appears: "entries of {who} keep {new} from now on", goes: "entries of {who} keep no {old} any more"},
		"Board.size":       {changes: "Redis holds the best {new} of {who} instead of {old}", appears: "Redis holds the best {new} of {who}, no longer all", goes: "Redis holds all of {who}, no longer the best {old}"},
		"Board.age":        {changes: "what is read of {who} may be {new} old instead of {old}", appears: "what is read of {who} may be {new} old", goes: "what is read of {who} is never old, it could be by {old}"},
		"Board.rewards":    {changes: "{key} windows of {who} bring {new} instead of {old}", appears: "{key} windows of {who} bring {new}", goes: "{key} windows of {who} bring nothing any more, it was {old}"},
		"Board.hall_of_fame": {
			changes: "{new} places of a window of {who} are remembered for ever instead of {old}", goes: "no place of a window of {who} is remembered for ever, it was {old}",
		},
		"Board.retention": {
			changes: "an archive of {who} keeps its other places {new} instead of {old}", appears: "an archive of {who} keeps its other places {new}, no longer for ever",
			goes: "an archive of {who} keeps its other places for ever, no longer {old}", warning: true,
		},

		"Fairness.burst":     {changes: "a player may send {new} in a burst instead of {old}"},
		"Fairness.sustained": {changes: "a player may send {new} in the long run instead of {old}"},
		"Fairness.keys": {
			changes: "the key or class {key} may send {new} instead of {old}", appears: "the key or class {key} may send {new}, it was not limited",
			goes: "the key or class {key} is not limited any more, it was to {old}",
		},
		"Fairness.block":       {changes: "a first block lasts {new} instead of {old}"},
		"Escalation.factor":    {changes: "a further block lasts {new} times the one before instead of {old}"},
		"Escalation.most":      {changes: "a block lasts {new} at most instead of {old}"},
		"Escalation.memory":    {changes: "blocks are forgotten after {new} instead of {old}"},
		"Escalation.throttles": {changes: "more than {new} throttled events block instead of {old}", appears: "more than {new} throttled events block, no longer none", goes: "throttled events do not block any more, more than {old} did"},
		"Escalation.within":    {changes: "throttled events are counted over {new} instead of {old}"},
		"Suspicion.half_life":  {changes: "points of suspicion are worth half after {new} instead of {old}"},
		"Suspicion.case":       {changes: "{new} points of suspicion open a case instead of {old}"},
		"Fairness.shadow":      {changes: "the verdict shadow hides a player for {new} instead of {old}"},
		"Baseline.period":      {changes: "scores are compared with everybody's by periods of {new} instead of {old}"},
		"Baseline.periods":     {changes: "scores are compared with everybody's of {new} periods instead of {old}"},
		"Rule.mode":            {changes: "{who} is in mode {new} instead of {old}"},
		"Rule.verdict":         {changes: "{who} gives the verdict {new} instead of {old}"},
		"Rule.points":          {changes: "a finding of {who} adds {new} points instead of {old}"},
		"Rule.limit":           {changes: "{who} has the limit {new} instead of {old}"},
		"Rule.after":           {changes: "{who} judges after {new} instead of {old}"},
		"Fairness.record":      {changes: "events are kept for {new} as they came instead of {old}", appears: "events are kept for {new} as they came, no longer not at all", goes: "events are not kept as they came any more, it was for {old}"},
		"Fairness.grace":       {changes: "late events count for {new} after a window's end instead of {old}"},

		"Privacy.grace": {changes: "an erasure can be cancelled for {new} instead of {old}; those that were asked for keep their time", goes: "an erasure cannot be cancelled any more, it could for {old}"},
	}
}

func velocity(per string) phrase {
	return phrase{
		changes: "{who} takes at most {new} points in " + per + " instead of {old}", appears: "{who} takes at most {new} points in " + per + ", it was not limited",
		goes: "{who} is not limited in " + per + " any more, it was to {old} points",
	}
}
