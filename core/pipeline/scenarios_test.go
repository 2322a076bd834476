package pipeline_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// scenario is a file of testdata/scenarios: a game, what ada does in it, and all that is on record of her in the end.
type scenario struct {
	What  string `yaml:"what"`
	Steps []step `yaml:"steps"`
	Then  string `yaml:"then"` // see path.told
}

// step is one thing that happens. At moves the clock first.
type step struct {
	At      string           `yaml:"at"`      // UTC, like 2026-11-22T12:00:00
	Catalog string           `yaml:"catalog"` // in force from now on
	Events  []map[string]any `yaml:"events"`  // one batch: id, type, at (now, if not given), and the data
	Claim   string           `yaml:"claim"`   // the mail with this ref
	Reverse string           `yaml:"reverse"` // the event with this id, or that claimed the mail with this ref
	Fails   fault.Code       `yaml:"fails"`   // with what the step is refused
}

func scenarios(t *testing.T) map[string]scenario {
	t.Helper()
	files, err := filepath.Glob("testdata/scenarios/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := map[string]scenario{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var s scenario
		require.NoError(t, yaml.UnmarshalWithOptions(text, &s, yaml.Strict()), file)
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = s
	}
	return all
}

// TestScenarios plays every scenario twice: a batch at a time, and with every event alone and all of a step again behind it.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios(t) {
		for _, alone := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/alone=%v", name, alone), func(t *testing.T) {
				t.Parallel()
				storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
					p := newPath(t, db, rdb)
					for _, one := range s.Steps {
						p.step(t, one, alone)
					}
					require.Equal(t, strings.TrimSpace(s.Then), strings.Join(p.told(t), "\n"), s.What)
					drifts, err := p.progression.Ledger.Drift(t.Context(), 10)
					require.NoError(t, err)
					require.Empty(t, drifts)
				})
			})
		}
	}
}

func (p *path) step(t *testing.T, s step, alone bool) {
	t.Helper()
	if s.At != "" {
		at, err := time.Parse("2006-01-02T15:04:05", s.At)
		require.NoError(t, err)
		p.at(at)
	}
	if s.Catalog != "" {
		var err error
		p.game, err = catalog.Parse([]byte(s.Catalog))
		require.NoError(t, err)
	}
	var events []event.Accepted
	for _, data := range s.Events {
		events = append(events, p.doing(t, maps.Clone(data)))
	}
	batches := [][]event.Accepted{events}
	if alone {
		batches = append(slices.Collect(slices.Chunk(events, 1)), events)
	}
	for _, b := range batches {
		_, err := p.progression.Apply(t.Context(), batch(t, b...))
		require.NoError(t, err)
	}
	var err error
	if s.Claim != "" {
		_, err = p.rewards.Claim(t.Context(), "ada", p.mailed(t, s.Claim))
	}
	if s.Reverse != "" {
		id := s.Reverse
		if strings.Contains(id, ":") {
			id = p.mailed(t, id)
		}
		_, err = p.reversals.Reverse(t.Context(), progression.Order{Player: "ada", EventID: id, Actor: "liz", Reason: "a refund"})
	}
	if s.Fails != "" {
		require.ErrorIs(t, err, s.Fails)
	} else {
		require.NoError(t, err)
	}
}

// doing makes an event of a step.
func (p *path) doing(t *testing.T, data map[string]any) event.Accepted {
	t.Helper()
	at := p.now()
	if text, given := data["at"].(string); given {
		var err error
		at, err = time.Parse("2006-01-02T15:04:05", text)
		require.NoError(t, err)
	}
	id, kind := data["id"].(string), data["type"].(string)
	for _, field := range []string{"at", "id", "type"} {
		delete(data, field)
	}
	for field, value := range data {
		switch value := value.(type) {
		case uint64:
			data[field] = float64(value)
		case int64:
			data[field] = float64(value)
		}
	}
	return accepted("ada", id, kind, at, data)
}

// mails are ada's, in the order of what they are for.
func (p *path) mails(t *testing.T) []mailbox.Mail {
	t.Helper()
	mails, _, err := p.rewards.Mailbox.List(t.Context(), mailbox.Filter{Player: "ada", Limit: 1000})
	require.NoError(t, err)
	slices.SortFunc(mails, func(a, b mailbox.Mail) int { return strings.Compare(a.Ref+a.EventID, b.Ref+b.EventID) })
	return mails
}

// mailed is the id of the first mail with a ref.
func (p *path) mailed(t *testing.T, ref string) string {
	t.Helper()
	for _, m := range p.mails(t) {
		if m.Ref == ref {
			return m.ID
		}
	}
	require.Fail(t, "no such mail", ref)
	return ""
}

// told is all that is on record of ada: what she has, the ledger in order with its notes, the mails, and the receipts of all events. An id that
// was made here stands as what it was made of.
func (p *path) told(t *testing.T) []string {
	t.Helper()
	ids := []string{}
	for _, m := range p.mails(t) {
		ids = append(ids, m.ID, "claim("+m.EventID+" "+m.Ref+")")
	}
	state, err := p.progression.Ledger.Player(t.Context(), "ada")
	require.NoError(t, err)
	lines := []string{fmt.Sprintf("%d XP, level %d", state.XP, state.Level)}
	for _, h := range state.Items {
		lines = append(lines, fmt.Sprintf("has %d %s", h.Quantity, h.Item))
	}
	entries, _, err := p.progression.Ledger.List(t.Context(), progression.Filter{Player: "ada", Limit: 1000})
	require.NoError(t, err)
	slices.Reverse(entries)
	mails := strings.NewReplacer(ids...)
	for _, e := range entries {
		if e.Kind == progression.Root {
			ids = append(ids, progression.ReversalID(e.EventID), "reversal("+mails.Replace(e.EventID)+")")
		}
	}
	for _, e := range entries {
		line := fmt.Sprintf("%s: %s %+d = %d", e.EventID, e.Kind, e.Delta, e.Balance)
		if e.Kind == progression.Root && e.LevelAfter != e.LevelBefore {
			line += fmt.Sprintf(", level %d", e.LevelAfter)
		}
		if e.Modifier != "" {
			line += " by " + e.Modifier
		}
		lines = append(lines, line)
		for _, n := range e.Notes {
			lines = append(lines, fmt.Sprintf("%s: %s %s %d", e.EventID, n.Code, n.Ref, n.Amount))
		}
	}
	for _, m := range p.mails(t) {
		line := fmt.Sprintf("mail of %s, %s: %s %s", m.EventID, m.Source, m.Ref, m.State(p.now()))
		for _, item := range slices.Sorted(maps.Keys(m.Items)) {
			line += fmt.Sprintf(", %d %s", m.Items[item], item)
		}
		lines = append(lines, line)
	}
	require.NoError(t, p.db.Each(t.Context(), "SELECT event_id, token, COALESCE(reversed_at, 0) FROM receipt ORDER BY issued_at, event_id", nil,
		func(scan func(...any) error) error {
			var id, token string
			var reversed int64
			if err := scan(&id, &token, &reversed); err != nil {
				return err
			}
			claims, err := p.rewards.Receipts().Verify(token)
			line := fmt.Sprintf("receipt of %s: %+d XP, %d grants, %d mails", id, claims.XP, len(claims.Grants), len(claims.Mails))
			if claims.Reverses != "" {
				line += ", reverses " + claims.Reverses
			}
			if reversed != 0 {
				line += ", reversed"
			}
			lines = append(lines, line)
			return err
		}))
	replace := strings.NewReplacer(ids...)
	for i := range lines {
		lines[i] = replace.Replace(lines[i])
	}
	return lines
}

// TestEveryFeatureHasAScenario looks for every key of what the catalog says of progression in the catalogs of the scenarios.
func TestEveryFeatureHasAScenario(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	see := func(section string, value any) {
		v := reflect.ValueOf(value)
		for _, field := range reflect.VisibleFields(v.Type()) {
			if key := field.Tag.Get("yaml"); !v.FieldByIndex(field.Index).IsZero() {
				seen[section+"."+key] = true
			}
		}
	}
	for _, s := range scenarios(t) {
		for _, step := range s.Steps {
			if step.Catalog == "" {
				continue
			}
			c, err := catalog.Parse([]byte(step.Catalog))
			require.NoError(t, err)
			see("catalog", *c)
			for name, e := range c.Events {
				see("events", e)
				if e.Daily != 0 || e.Once != "" || e.Cooldown != 0 || e.RequiredLevel != 0 {
					seen["limits of "+name] = true
				}
			}
			for _, b := range c.Bosses {
				see("bosses", b)
			}
			for _, i := range c.Items {
				see("items", i)
				seen["overflow "+i.Overflow] = true
				if i.Convert != nil {
					see("convert", *i.Convert)
				}
			}
			for _, m := range c.Modifiers {
				see("modifiers", m)
			}
			for _, r := range c.Rewards.Levels {
				see("levels", r)
			}
			see("rewards", c.Rewards)
			for _, of := range []map[string]catalog.Worth{c.Bosses, worths(c)} {
				for _, w := range of {
					seen["once "+w.Once] = true
				}
			}
		}
	}
	want := []string{"catalog.zone", "events.sources", "limits of xp_gained", "limits of boss_killed", "limits of item_acquired"}
	for section, of := range map[string]any{
		"events": catalog.Worth{}, "bosses": catalog.Worth{}, "items": catalog.Item{}, "convert": catalog.Conversion{},
		"modifiers": catalog.Modifier{}, "levels": catalog.Reward{}, "rewards": catalog.Rewards{},
	} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(of)) {
			if key := field.Tag.Get("yaml"); key != ",inline" {
				want = append(want, section+"."+key)
			}
		}
	}
	want = append(want, "once day", "once week", "once season", "once ever", "overflow reject", "overflow mailbox", "overflow convert")
	for _, key := range want {
		require.True(t, seen[key], "no scenario has %s", key)
	}
}

// worths are what event types and items are worth.
func worths(c *catalog.Catalog) map[string]catalog.Worth {
	all := map[string]catalog.Worth{}
	for name, e := range c.Events {
		all["event "+name] = e.Worth
	}
	for name, i := range c.Items {
		all["item "+name] = i.Worth
	}
	return all
}
