package fairness

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// desk is records with a clock that is moved by hand.
type desk struct {
	*Records
	clock atomic.Int64 // since noon
}

func newDesk(db *store.DB) *desk {
	d := &desk{}
	d.Records = &Records{DB: db, Now: func() time.Time { return noon().Add(time.Duration(d.clock.Load())) }}
	return d
}

func (d *desk) at(after time.Duration) { d.clock.Store(int64(after)) }

func of(player string, d Decision) Decision {
	findings := d.Evidence
	return decide(event.Event{PlayerID: player, ID: d.EventID}, findings, d.At)
}

func denied(player, id string) Decision {
	d := decide(event.Event{PlayerID: player, ID: id}, []Finding{
		{Rule: "score-velocity", Version: 2, Mode: "enforce", Verdict: Deny, Measure: "points", Window: 10_000, Limit: 9007199254740991, Observed: 9007199254740992},
		{Rule: "impossible-value", Version: 1, Mode: "shadow", Verdict: Deny, Measure: "/data/source", Text: "日本 '\""},
	}, noon())
	d.CatalogVersion = 7
	return d
}

func record(t *testing.T, d *desk, decisions ...Decision) Recorded {
	t.Helper()
	recorded, err := d.Record(t.Context(), decisions, strict())
	require.NoError(t, err)
	return recorded
}

// everything is every row of what Records owns.
func everything(t *testing.T, db *store.DB) []string {
	t.Helper()
	var rows []string
	for _, table := range []store.Table{
		decisionTable(), conductTable(), sanctionTable(), caseTable(), actionTable(),
	} {
		query := "SELECT " + strings.Join(table.Columns, ", ") + " FROM " + table.Name + " ORDER BY " + table.Columns[0] + ", " + table.Columns[1]
		require.NoError(t, db.Each(t.Context(), query, nil, func(scan func(...any) error) error {
			values, into := make([]string, len(table.Columns)), make([]any, len(table.Columns))
			for i := range values {
				into[i] = &values[i]
			}
			err := scan(into...)
			rows = append(rows, table.Name+": "+strings.Join(values, " | "))
			return err
		}))
	}
	return rows
}

func TestDecisionsAreKeptOnceWithTheirEvidence(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		allowed := decide(event.Event{PlayerID: "p", ID: "fine"}, nil, noon())
		one, two := denied("p", "1"), denied("p", "2")
		first := record(t, d, two, allowed, one, two)
		require.ElementsMatch(t, []Decision{one, two}, first.New)
		require.Equal(t, 1, first.Blocked, "two denies at once are one block")
		require.Equal(t, []string{"p"}, first.Players)
		before := everything(t, db)

		later := one
		later.At, later.Verdict = noon().Add(time.Hour), Flag
		again := record(t, d, later, two)
		require.Equal(t, Recorded{Players: []string{"p"}}, again)
		require.Equal(t, before, everything(t, db))
		for _, want := range []Decision{one, two} {
			got, err := d.Decision(t.Context(), want.ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		_, err := d.Decision(t.Context(), allowed.ID)
		require.ErrorIs(t, err, fault.DecisionNotFound)
		require.Equal(t, Recorded{}, record(t, d, allowed))
		require.Equal(t, Recorded{}, record(t, d))
	})
}

func TestEvidenceOfManyFindingsFits(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		findings := make([]Finding, 1000)
		for i := range findings {
			findings[i] = Finding{Rule: "impossible-value", Mode: "enforce", Verdict: Deny, Measure: fmt.Sprintf("/data/%064d", i), Text: strings.Repeat("x", 64)}
		}
		d := decide(event.Event{PlayerID: "p", ID: "1"}, findings, noon())
		desk := newDesk(db)
		record(t, desk, d)
		got, err := desk.Decision(t.Context(), d.ID)
		require.NoError(t, err)
		require.Len(t, got.Evidence, 16)
	})
}

func TestDecisionsAreListed(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		var all []Decision
		for i := range 6 {
			player, verdict := fmt.Sprint("p", i%2), []Verdict{Deny, Flag, Throttle}[i%3]
			one := of(player, found(fmt.Sprint(i), time.Duration(i/2)*time.Minute, verdict, 0)) // two at each instant
			all = append(all, one)
		}
		record(t, d, all...)
		list := func(f DecisionFilter) string {
			var ids []string
			for {
				page, next, err := d.Decisions(t.Context(), f)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page), f.Limit)
				for _, one := range page {
					ids = append(ids, one.EventID)
				}
				if next == "" {
					break
				}
				require.Len(t, page, f.Limit)
				f.After = next
			}
			return strings.Join(ids, "")
		}
		for _, limit := range []int{1, 2, 4, 1000} {
			everyone := list(DecisionFilter{Limit: limit})
			require.Len(t, everyone, 6)
			require.ElementsMatch(t, []byte("45"), []byte(everyone[:2]), "newest first")
			require.ElementsMatch(t, []byte("01"), []byte(everyone[4:]))
			require.Equal(t, "420", list(DecisionFilter{Limit: limit, Player: "p0"}))
			require.Equal(t, "41", list(DecisionFilter{Limit: limit, Verdict: Flag}))
			require.Equal(t, "4", list(DecisionFilter{Limit: limit, Verdict: Flag, Player: "p0"}))
			require.Equal(t, "2", list(DecisionFilter{Limit: limit, Player: "p0", From: noon().Add(time.Minute), To: noon().Add(2 * time.Minute)}))
			require.Equal(t, "420", list(DecisionFilter{Limit: limit, Player: "p0", Rule: "score-velocity"}))
			require.Empty(t, list(DecisionFilter{Limit: limit, Rule: "population"}))
		}
		for _, cursor := range []string{"x", "1.x", "1." + strings.Repeat("g", 32), "." + strings.Repeat("a", 32)} {
			_, _, err := d.Decisions(t.Context(), DecisionFilter{After: cursor})
			require.ErrorIs(t, err, fault.MalformedCursor)
		}
	})
}

func TestConsequencesAreOnRecord(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		deny, shadow := of("eve", found("1", 0, Deny, 5)), of("sly", found("2", 0, Shadow, 0))
		got := record(t, d, deny, shadow, of("dan", found("3", 0, Flag, 10)), of("ann", observed("4", 0, Deny, 100)))
		require.Equal(t, []any{1, 2, 4}, []any{got.Blocked, got.Cases, len(got.New)})
		require.Equal(t, []string{"eve", "sly"}, got.Players)
		inForce, err := d.InForce(t.Context(), "eve", "sly", "dan", "ann", "bob")
		require.NoError(t, err)
		sly, err := d.Conduct(t.Context(), "sly")
		require.NoError(t, err)
		want := map[string][]Sanction{
			"eve": {{PlayerID: "eve", Kind: Block, DecisionID: deny.ID, Reason: "score-velocity", Actor: Automatic, Starts: noon(), Until: noon().Add(10 * time.Minute)}},
			"sly": {{PlayerID: "sly", Kind: ShadowBan, DecisionID: shadow.ID, CaseID: sly.Case, Reason: "score-velocity", Actor: Automatic, Starts: noon(), Until: noon().Add(5 * time.Hour)}},
		}
		require.Equal(t, want, inForce)
		cases, _, err := d.Cases(t.Context(), CaseFilter{Limit: 10, Player: "dan", State: CaseOpen})
		require.NoError(t, err)
		require.Len(t, cases, 1)
		require.InDelta(t, 10, cases[0].Points, 0)
		actions, err := d.Actions(t.Context(), cases[0].ID)
		require.NoError(t, err)
		require.Len(t, actions, 1)
		require.Equal(t, []any{ActionOpen, Automatic, "score-velocity"}, []any{actions[0].Kind, actions[0].Actor, actions[0].Text})

		// A sanction is over at its end, and a player who was denied after it is out for longer.
		d.at(10 * time.Minute)
		inForce, err = d.InForce(t.Context(), "eve", "sly")
		require.NoError(t, err)
		require.Equal(t, map[string][]Sanction{"sly": want["sly"]}, inForce)
		record(t, d, of("eve", found("5", 10*time.Minute, Deny, 0)))
		inForce, err = d.InForce(t.Context(), "eve")
		require.NoError(t, err)
		require.Equal(t, noon().Add(40*time.Minute), inForce["eve"][0].Until)

		// A throttled event that makes a block is found by it when it comes again.
		var burst []Decision
		for i := range 4 {
			burst = append(burst, of("bob", found(fmt.Sprint("t", i), 0, Throttle, 0)))
		}
		require.Equal(t, []string{"bob"}, record(t, d, burst...).Players)
		require.Equal(t, Recorded{Players: []string{"bob"}}, record(t, d, burst...))
		require.Empty(t, record(t, d, of("amy", found("t", 0, Throttle, 0))).Players)
		banned, err := d.Sanctioned(t.Context(), Ban, ShadowBan)
		require.NoError(t, err)
		require.Equal(t, []string{"sly"}, banned)
	})
}

func TestABlockIsLiftedByItsDecisionOnly(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		first, same := of("eve", found("1", 0, Deny, 0)), of("eve", found("2", time.Minute, Deny, 0))
		record(t, d, first, same)
		for _, id := range []string{same.ID, denied("q", "1").ID} {
			player, err := d.LiftBlock(t.Context(), id)
			require.NoError(t, err)
			require.Empty(t, player)
		}
		d.at(2 * time.Minute)
		for range 2 {
			player, err := d.LiftBlock(t.Context(), first.ID)
			require.NoError(t, err)
			require.Equal(t, "eve", player)
			inForce, err := d.InForce(t.Context(), "eve")
			require.NoError(t, err)
			require.Empty(t, inForce)
			d.at(3 * time.Minute)
		}
		c, err := d.Conduct(t.Context(), "eve")
		require.NoError(t, err)
		require.Equal(t, Conduct{BlockedUntil: noon().Add(2 * time.Minute)}, c)

		// The next block is another's, and as long as the first.
		record(t, d, of("eve", found("3", 3*time.Minute, Deny, 0)))
		player, err := d.LiftBlock(t.Context(), first.ID)
		require.NoError(t, err)
		require.Empty(t, player)
		inForce, err := d.InForce(t.Context(), "eve")
		require.NoError(t, err)
		require.Equal(t, noon().Add(13*time.Minute), inForce["eve"][0].Until)
	})
}

// TestReplicasRecordAtOnce has replicas record overlapping batches. What a player's decisions have led to is what they lead to in some
// order, and each counts once.
func TestReplicasRecordAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		const replicas, players = 6, 12
		decisions := []Decision{
			found("1", 0, Deny, 4), found("2", 9*time.Minute, Deny, 4), found("3", 11*time.Minute, Deny, 1), found("4", 70*time.Minute, Shadow, 2),
		}
		ends := map[string]bool{} // of any order
		var permute func(c Conduct, left []Decision)
		describe := func(c Conduct) string {
			return fmt.Sprintf("%.9f %v %d %v %s", c.Points, c.PointsAt, c.Blocks, c.BlockedUntil, c.Case)
		}
		var player string
		permute = func(c Conduct, left []Decision) {
			if len(left) == 0 {
				ends[describe(c)] = true
			}
			for i, d := range left {
				after, _ := c.After(of(player, d), strict())
				rest := append(append([]Decision{}, left[:i]...), left[i+1:]...)
				permute(after, rest)
			}
		}
		var wg sync.WaitGroup
		failures := make([]error, replicas)
		var recorded, cases atomic.Int64
		d := newDesk(db)
		for r := range replicas {
			wg.Go(func() {
				for i := range len(decisions) * players { // another order each
					i = (i*7 + r*11) % (len(decisions) * players)
					one := of(fmt.Sprint("p", i%players), decisions[i/players])
					other := of(fmt.Sprint("p", (i+5)%players), decisions[(i/players+r)%len(decisions)])
					got, err := d.Record(t.Context(), []Decision{one, other}, strict())
					if err != nil {
						failures[r] = err
						return
					}
					recorded.Add(int64(len(got.New)))
					cases.Add(int64(got.Cases))
				}
			})
		}
		wg.Wait()
		for _, err := range failures {
			require.NoError(t, err)
		}
		require.EqualValues(t, len(decisions)*players, recorded.Load(), "each was new once")
		require.EqualValues(t, players, cases.Load())
		for i := range players {
			player = fmt.Sprint("p", i)
			clear(ends)
			permute(Conduct{}, decisions)
			c, err := d.Conduct(t.Context(), player)
			require.NoError(t, err)
			require.Contains(t, ends, describe(c))
			open, _, err := d.Cases(t.Context(), CaseFilter{Player: player, Limit: 10})
			require.NoError(t, err)
			require.Len(t, open, 1)
			require.Equal(t, c.Case, open[0].ID)
			inForce, err := d.InForce(t.Context(), player)
			require.NoError(t, err)
			require.Equal(t, c.BlockedUntil, inForce[player][0].Until)
		}
	})
}

func order(key string, kind ActionKind, text string) Order {
	return Order{Actor: "ops", Key: key, Kind: kind, Text: text}
}

func TestAnOperatorWorksOnACase(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		record(t, d, of("eve", found("1", 0, Deny, 5)), of("eve", found("2", 0, Shadow, 5)))
		eve, err := d.Conduct(t.Context(), "eve")
		require.NoError(t, err)
		id := eve.Case
		require.NotEmpty(t, id)
		d.at(time.Minute)
		kinds := func() string {
			inForce, err := d.InForce(t.Context(), "eve")
			require.NoError(t, err)
			var kinds []string
			for _, s := range inForce["eve"] {
				kinds = append(kinds, string(s.Kind))
			}
			return strings.Join(kinds, " ")
		}
		require.Equal(t, "block shadow-ban", kinds())

		// Every order is done once, whenever it comes again.
		var done []Action
		steps := []struct {
			order Order
			state CaseState
			kinds string
		}{
			{order("1", ActionComment, "looks odd"), CaseOpen, "block shadow-ban"},
			{order("2", ActionBan, "cheats"), CaseClosed, "ban block shadow-ban"},
			{order("3", ActionUnban, "does not"), CaseClosed, "block"},
			{Order{Actor: "ops", Key: "4", Kind: ActionShadowBan, Text: "or does", For: time.Hour}, CaseClosed, "block shadow-ban"},
			{order("5", ActionClear, "no"), CaseCleared, "shadow-ban"}, // an operator's own stays
			{Order{Actor: "ops", Key: "6", Kind: ActionBan, Text: "yes", Until: noon().Add(3 * time.Hour)}, CaseClosed, "ban shadow-ban"},
			{order("7", ActionUnban, "once more"), CaseClosed, ""},
		}
		for _, step := range steps {
			a, err := d.Act(t.Context(), id, step.order)
			require.NoError(t, err)
			done = append(done, a)
			require.Equal(t, step.kinds, kinds(), step.order.Kind)
			found, err := d.Case(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, step.state, found.State)
		}
		require.Equal(t, Forever, done[1].Until)
		require.Equal(t, noon().Add(61*time.Minute), done[3].Until)
		require.Equal(t, noon().Add(3*time.Hour), done[5].Until)
		before := everything(t, db)
		d.at(100 * time.Hour)
		for i := range steps {
			again, err := d.Act(t.Context(), id, steps[len(steps)-1-i].order)
			require.NoError(t, err)
			require.Equal(t, done[len(steps)-1-i], again)
		}
		require.Equal(t, before, everything(t, db))
		actions, err := d.Actions(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, actions, 8)
		c, err := d.Conduct(t.Context(), "eve")
		require.NoError(t, err)
		require.Equal(t, Conduct{BlockedUntil: noon().Add(time.Minute)}, c)
	})
}

func TestOrdersAreRefused(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		opened, fresh, err := d.Open(t.Context(), "eve", order("1", ActionOpen, "reported"))
		require.NoError(t, err)
		require.True(t, fresh)
		before := everything(t, db)
		for pointer, o := range map[string]Order{
			"/reason": order("2", ActionBan, " "), "/text": order("2", ActionComment, strings.Repeat("ü", 1001)),
			"/until": {Actor: "ops", Key: "2", Kind: ActionBan, Text: "x", Until: noon()},
			"/for":   {Actor: "ops", Key: "2", Kind: ActionBan, Text: "x", For: -1},
		} {
			_, err := d.Act(t.Context(), opened.CaseID, o)
			require.ErrorIs(t, err, fault.RequestInvalid)
			require.Equal(t, pointer, fault.Of(err).Fields[0].Pointer)
		}
		for _, o := range []Order{
			{Actor: "ops", Key: "2", Kind: ActionBan, Text: "x", For: 1, Until: noon().Add(1)},
			{Actor: "ops", Key: "2", Kind: ActionBan, Text: "x", Until: Forever.Add(1)},
			{Actor: "ops", Key: "2", Kind: ActionClear, Text: "x", For: 1},
		} {
			_, err := d.Act(t.Context(), opened.CaseID, o)
			require.ErrorIs(t, err, fault.RequestInvalid)
		}
		_, err = d.Act(t.Context(), strings.Repeat("0", 32), order("2", ActionComment, "x"))
		require.ErrorIs(t, err, fault.CaseNotFound)
		_, err = d.Case(t.Context(), "nobody")
		require.ErrorIs(t, err, fault.CaseNotFound)
		_, _, err = d.Open(t.Context(), "no player", order("2", ActionOpen, "x"))
		require.ErrorIs(t, err, fault.RequestInvalid)
		_, _, err = d.Open(t.Context(), "eve", order("1", ActionOpen, "something else"))
		require.ErrorIs(t, err, fault.IdempotencyReused)
		_, _, err = d.Open(t.Context(), "bob", order("1", ActionOpen, "reported"))
		require.ErrorIs(t, err, fault.IdempotencyReused)
		require.Equal(t, before, withoutBystanders(everything(t, db)))

		longest := order("3", ActionComment, strings.Repeat("ü", 1000))
		a, err := d.Act(t.Context(), opened.CaseID, longest)
		require.NoError(t, err)
		require.Equal(t, longest.Text, a.Text)
		_, err = d.Act(t.Context(), opened.CaseID, order("3", ActionClear, longest.Text))
		require.ErrorIs(t, err, fault.IdempotencyReused)
		other := longest
		other.Actor = "another"
		_, err = d.Act(t.Context(), opened.CaseID, other)
		require.NoError(t, err, "keys of different actors have nothing to do with each other")
	})
}

// withoutBystanders leaves out the conduct of a player against whom there is nothing.
func withoutBystanders(rows []string) []string {
	var kept []string
	for _, row := range rows {
		if !strings.HasPrefix(row, "conduct: bob") {
			kept = append(kept, row)
		}
	}
	return kept
}

func TestOneCaseOfAPlayerIsOpen(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		const operators = 5
		var wg sync.WaitGroup
		actions, failures := make([]Action, 2*operators), make([]error, 2*operators)
		var opened atomic.Int64
		for i := range 2 * operators { // each twice
			wg.Go(func() {
				a, fresh, err := d.Open(t.Context(), "eve", order(fmt.Sprint(i%operators), ActionOpen, fmt.Sprint("reason ", i%operators)))
				actions[i], failures[i] = a, err
				if fresh {
					opened.Add(1)
				}
			})
		}
		wg.Wait()
		for i := range actions {
			require.NoError(t, failures[i])
			require.Equal(t, actions[0].CaseID, actions[i].CaseID)
			require.Equal(t, actions[i], actions[(i+operators)%(2*operators)])
		}
		require.EqualValues(t, 1, opened.Load())
		list, _, err := d.Cases(t.Context(), CaseFilter{Player: "eve", Limit: 10})
		require.NoError(t, err)
		require.Len(t, list, 1)
		log, err := d.Actions(t.Context(), actions[0].CaseID)
		require.NoError(t, err)
		require.Len(t, log, operators)

		record(t, d, of("eve", found("1", 0, Shadow, 100)))
		list, next, err := d.Cases(t.Context(), CaseFilter{Limit: 1})
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Empty(t, next, "the rules open no second one")

		// When it has ended, the next one is another; and a list goes on.
		d.at(time.Hour)
		_, err = d.Act(t.Context(), list[0].ID, order("c", ActionClear, "fine"))
		require.NoError(t, err)
		got := record(t, d, of("eve", found("2", time.Hour, Shadow, 0)))
		require.Equal(t, 1, got.Cases)
		list, next, err = d.Cases(t.Context(), CaseFilter{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, CaseOpen, list[0].State)
		list, next, err = d.Cases(t.Context(), CaseFilter{Limit: 1, After: next})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Equal(t, actions[0].CaseID, list[0].ID)
		require.Equal(t, "ops", list[0].EndedBy)

		// What is done about the old one leaves the points of the new one alone.
		record(t, d, of("eve", found("3", time.Hour, Flag, 3)))
		_, err = d.Act(t.Context(), list[0].ID, order("d", ActionBan, "late"))
		require.NoError(t, err)
		c, err := d.Conduct(t.Context(), "eve")
		require.NoError(t, err)
		require.InDelta(t, 3, c.Points, 0)
		require.NotEmpty(t, c.Case)
	})
}

// An operator's word stands against the rules, and what was decided before it does not come back.
func TestAnOperatorsWordStands(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := newDesk(db)
		opened, _, err := d.Open(t.Context(), "eve", order("1", ActionOpen, "reported"))
		require.NoError(t, err)
		short := Order{Actor: "ops", Key: "2", Kind: ActionShadowBan, Text: "for a while", For: time.Hour}
		_, err = d.Act(t.Context(), opened.CaseID, short)
		require.NoError(t, err)
		record(t, d, of("eve", found("1", 0, Shadow, 0)))
		inForce, err := d.InForce(t.Context(), "eve")
		require.NoError(t, err)
		require.Equal(t, noon().Add(time.Hour), inForce["eve"][0].Until)

		d.at(10 * time.Minute)
		_, err = d.Act(t.Context(), opened.CaseID, order("3", ActionUnban, "enough"))
		require.NoError(t, err)
		record(t, d, of("eve", found("2", 9*time.Minute, Shadow, 0)))
		inForce, err = d.InForce(t.Context(), "eve")
		require.NoError(t, err)
		require.Empty(t, inForce)
		record(t, d, of("eve", found("3", 10*time.Minute, Shadow, 0)))
		inForce, err = d.InForce(t.Context(), "eve")
		require.NoError(t, err)
		require.Len(t, inForce["eve"], 1)

		_, banned, err := d.Banned(t.Context(), "eve")
		require.NoError(t, err)
		require.False(t, banned)
		_, err = d.Act(t.Context(), opened.CaseID, order("4", ActionBan, "for good"))
		require.NoError(t, err)
		ban, banned, err := d.Banned(t.Context(), "eve")
		require.NoError(t, err)
		require.True(t, banned)
		require.Equal(t, Sanction{PlayerID: "eve", Kind: Ban, CaseID: opened.CaseID, Reason: "for good", Actor: "ops", Starts: noon().Add(10 * time.Minute), Until: Forever}, ban)
	})
}

// The blocks of an older program are sanctions, and its decisions are decisions.
func TestOlderRowsAreMoved(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		exec := func(query string) {
			_, err := db.Exec(ctx, query)
			require.NoError(t, err)
		}
		exec("DELETE FROM schema_version WHERE version IN ('0032_decision', '0033_player_block', '0054_fairness_decision_moved', '0055_decision_gone', '0060_sanction_moved', '0061_player_block_gone')")
		exec("CREATE TABLE player_block (player_id VARCHAR(63), decision_id CHAR(32), reason VARCHAR(64), blocked_at BIGINT, until_at BIGINT)")
		exec("CREATE TABLE decision (decision_id CHAR(32), player_id VARCHAR(63), event_id VARCHAR(64), verdict VARCHAR(16), rule VARCHAR(64), rule_version INTEGER, mode VARCHAR(16), evidence TEXT, decided_at BIGINT)")
		one := denied("eve", "1")
		exec(fmt.Sprintf("INSERT INTO player_block VALUES ('eve', '%s', 'score-velocity', %d, %d)", one.ID, noon().UnixMilli(), noon().Add(time.Hour).UnixMilli()))
		exec(fmt.Sprintf("INSERT INTO decision VALUES ('%s', 'eve', '1', 'deny', 'score-velocity', 2, 'enforce', '[]', %d)", one.ID, noon().UnixMilli()))
		_, err := db.Migrate(ctx)
		require.NoError(t, err)
		d := newDesk(db)
		inForce, err := d.InForce(ctx, "eve")
		require.NoError(t, err)
		require.Equal(t, []Sanction{{PlayerID: "eve", Kind: Block, DecisionID: one.ID, Reason: "score-velocity", Actor: Automatic, Starts: noon(), Until: noon().Add(time.Hour)}}, inForce["eve"])
		moved, err := d.Decision(ctx, one.ID)
		require.NoError(t, err)
		require.Equal(t, Deny, moved.Verdict)
		_, err = db.Exec(ctx, "SELECT 1 FROM player_block")
		require.Error(t, err)
	})
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	db, err := store.Open("mysql://user:password@127.0.0.1:1/none")
	require.NoError(t, err)
	d := newDesk(db)
	for name, try := range map[string]func(ctx context.Context) error{
		"record": func(ctx context.Context) error {
			_, err := d.Record(ctx, []Decision{denied("p", "1")}, catalog.Fairness{})
			return err
		},
		"decision":   func(ctx context.Context) error { _, err := d.Decision(ctx, "1"); return err },
		"decisions":  func(ctx context.Context) error { _, _, err := d.Decisions(ctx, DecisionFilter{}); return err },
		"in force":   func(ctx context.Context) error { _, err := d.InForce(ctx, "p"); return err },
		"sanctioned": func(ctx context.Context) error { _, err := d.Sanctioned(ctx, Ban); return err },
		"banned":     func(ctx context.Context) error { _, _, err := d.Banned(ctx, "p"); return err },
		"lift":       func(ctx context.Context) error { _, err := d.LiftBlock(ctx, "1"); return err },
		"open": func(ctx context.Context) error {
			_, _, err := d.Open(ctx, "p", order("1", ActionOpen, "x"))
			return err
		},
		"act":     func(ctx context.Context) error { _, err := d.Act(ctx, "1", order("1", ActionBan, "x")); return err },
		"case":    func(ctx context.Context) error { _, err := d.Case(ctx, "1"); return err },
		"cases":   func(ctx context.Context) error { _, _, err := d.Cases(ctx, CaseFilter{}); return err },
		"actions": func(ctx context.Context) error { _, err := d.Actions(ctx, "1"); return err },
		"conduct": func(ctx context.Context) error { _, err := d.Conduct(ctx, "p"); return err },
	} {
		require.ErrorIs(t, try(t.Context()), fault.Unavailable, name)
	}
}
