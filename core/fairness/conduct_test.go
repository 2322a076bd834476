package fairness

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
)

func strict() catalog.Fairness {
	return catalog.Fairness{
		Block: catalog.Duration(10 * time.Minute),
		Escalation: catalog.Escalation{
			Factor: 3, Most: catalog.Duration(2 * time.Hour), Memory: catalog.Duration(24 * time.Hour), Throttles: 3, Within: catalog.Duration(time.Minute),
		},
		Suspicion: catalog.Suspicion{HalfLife: catalog.Duration(time.Hour), Case: 10},
		Shadow:    catalog.Duration(5 * time.Hour),
	}
}

// found is a decision with one finding, at an instant after noon.
func found(id string, after time.Duration, verdict Verdict, points int) Decision {
	return decide(event.Event{PlayerID: "p", ID: id}, []Finding{{Rule: "score-velocity", Mode: enforce, Verdict: verdict, Points: points}}, noon().Add(after))
}

// observed is the same by a rule in shadow mode.
func observed(id string, after time.Duration, verdict Verdict, points int) Decision {
	return decide(event.Event{PlayerID: "p", ID: id}, []Finding{{Rule: "score-velocity", Mode: "shadow", Verdict: verdict, Points: points}}, noon().Add(after))
}

// TestBlocksGrow gives a player denies and says for each when the block ends, in minutes after noon; 0: it makes none.
func TestBlocksGrow(t *testing.T) {
	t.Parallel()
	const m, h = time.Minute, time.Hour
	type deny struct {
		at    time.Duration
		until time.Duration
	}
	for name, denies := range map[string][]deny{
		"once":                      {{0, 10 * m}},
		"within the block":          {{0, 10 * m}, {5 * m, 0}, {10*m - 1, 0}},
		"decided before the block":  {{m, 11 * m}, {0, 0}},
		"at the end":                {{0, 10 * m}, {10 * m, 40 * m}},
		"by the factor, to the top": {{0, 10 * m}, {10 * m, 40 * m}, {40 * m, 130 * m}, {130 * m, 250 * m}, {250 * m, 370 * m}},
		"just not forgotten":        {{0, 10 * m}, {10*m + 24*h - 1, 10*m + 24*h - 1 + 30*m}},
		"forgotten":                 {{0, 10 * m}, {10*m + 24*h, 20*m + 24*h}},
		"begun anew":                {{0, 10 * m}, {10 * m, 40 * m}, {48 * h, 48*h + 10*m}, {49 * h, 49*h + 30*m}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c Conduct
			for i, d := range denies {
				var to Consequence
				c, to = c.After(found(fmt.Sprint(i), d.at, Deny, 0), strict())
				if d.until == 0 {
					require.Zero(t, to, i)
				} else {
					require.Equal(t, Consequence{BlockUntil: noon().Add(d.until)}, to, i)
				}
			}
		})
	}
}

func TestALiftedBlockMakesTheNextNoLonger(t *testing.T) {
	t.Parallel()
	c, _ := Conduct{}.After(found("1", 0, Deny, 0), strict())
	c, _ = c.After(found("2", 10*time.Minute, Deny, 0), strict())
	c = c.lifted(noon().Add(15 * time.Minute))
	_, to := c.After(found("late", 14*time.Minute, Deny, 0), strict())
	require.Zero(t, to, "it belongs to the block that was lifted")
	_, to = c.After(found("3", 15*time.Minute, Deny, 0), strict())
	require.Equal(t, noon().Add(45*time.Minute), to.BlockUntil, "the second, again")
	require.Equal(t, Conduct{BlockedUntil: noon()}, Conduct{BlockedUntil: noon()}.lifted(noon().Add(1)), "what is over stays over")
}

func TestManyThrottledEventsBlock(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, test := range map[string]struct {
		at     []time.Duration
		blocks []int // which of them block
	}{
		"as many as allowed":     {[]time.Duration{0, 0, 0}, nil},
		"one more":               {[]time.Duration{0, 0, 0, 0}, []int{3}},
		"out of order":           {[]time.Duration{3 * s, 2 * s, s, 0}, []int{3}},
		"as fast as forgiven":    {[]time.Duration{0, 0, 0, 20 * s, 40 * s, 60 * s}, nil},
		"a little faster":        {[]time.Duration{0, 0, 0, 20 * s, 39 * s}, []int{4}},
		"long after":             {[]time.Duration{0, 0, 0, 3600 * s, 3600 * s, 3600 * s, 3600 * s}, []int{6}},
		"empty after a block":    {[]time.Duration{0, 0, 0, 0, 600 * s, 600 * s, 600 * s}, []int{3}},
		"in a block they are it": {[]time.Duration{0, 0, 0, 0, s, s, s, s, s}, []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c Conduct
			var blocks []int
			for i, at := range test.at {
				var to Consequence
				c, to = c.After(found(fmt.Sprint(i), at, Throttle, 0), strict())
				if !to.BlockUntil.IsZero() {
					blocks = append(blocks, i)
					require.Equal(t, noon().Add(at+10*time.Minute), to.BlockUntil)
				}
			}
			require.Equal(t, test.blocks, blocks)
		})
	}
	never := strict()
	never.Escalation.Throttles = 0
	c, to := Conduct{}.After(found("1", 0, Throttle, 0), never)
	require.Zero(t, c)
	require.Zero(t, to)
}

func TestPointsOpenACase(t *testing.T) {
	t.Parallel()
	var c Conduct
	var to Consequence
	c, to = c.After(found("1", 0, Flag, 5), strict())
	require.Zero(t, to)
	c, to = c.After(found("2", 5*time.Minute, Flag, 5), strict())
	require.Equal(t, Consequence{Case: true}, to, "9.7 are 10")
	require.Len(t, c.Case, 32)
	open := c.Case
	c, to = c.After(found("3", 6*time.Minute, Flag, 50), strict())
	require.Zero(t, to, "there is one")
	require.Equal(t, open, c.Case)

	cleared := c.cleared(noon().Add(time.Hour))
	require.Equal(t, Conduct{BlockedUntil: noon().Add(time.Hour), Case: open}, cleared)

	slow := Conduct{}
	for i := range 100 { // 5 points an hour are never 10, but for rounding after some hours
		slow, to = slow.After(found(fmt.Sprint(i), time.Duration(i)*2*time.Hour, Flag, 5), strict())
		require.Zero(t, to)
	}
	require.InDelta(t, 20.0/3, slow.Points, 1e-9)
}

func TestTheVerdictShadowHidesAndOpensACase(t *testing.T) {
	t.Parallel()
	c, to := Conduct{}.After(found("1", 0, Shadow, 0), strict())
	require.Equal(t, Consequence{ShadowUntil: noon().Add(5 * time.Hour), Case: true}, to)
	_, to = c.After(found("2", time.Hour, Shadow, 0), strict())
	require.Equal(t, Consequence{ShadowUntil: noon().Add(6 * time.Hour)}, to)
}

// Of one event a rule's points count once, however many of its limits were broken.
func TestPointsOfAnEvent(t *testing.T) {
	t.Parallel()
	d := decide(event.Event{PlayerID: "p", ID: "1"}, []Finding{
		{Rule: "score-velocity", Mode: enforce, Verdict: Deny, Points: 5},
		{Rule: "score-velocity", Mode: enforce, Verdict: Deny, Points: 5},
		{Rule: "population", Mode: enforce, Verdict: Flag, Points: 2},
		{Rule: "own-history", Mode: "shadow", Verdict: Flag, Points: 100},
	}, noon())
	c, _ := Conduct{}.After(d, strict())
	require.InDelta(t, 7, c.Points, 0)
}

func anyDecision(t *rapid.T) Decision {
	verdict := rapid.SampledFrom([]Verdict{Flag, Shadow, Throttle, Deny}).Draw(t, "verdict")
	after := time.Duration(rapid.Int64Range(0, int64(100*time.Hour)).Draw(t, "after"))
	id := rapid.StringMatching(`[a-z]{8}`).Draw(t, "id")
	return found(id, after, verdict, rapid.IntRange(0, 10).Draw(t, "points"))
}

func TestPointsFadeTheSameInSteps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := Conduct{Points: rapid.Float64Range(0, 1e6).Draw(t, "points"), PointsAt: noon()}
		first := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "first"))
		second := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "second"))
		halfLife := time.Duration(rapid.Int64Range(int64(time.Minute), int64(8760*time.Hour)).Draw(t, "half-life"))
		once := c.PointsOn(noon().Add(first+second), halfLife)
		step := Conduct{Points: c.PointsOn(noon().Add(first), halfLife), PointsAt: noon().Add(first)}
		require.InDelta(t, once, step.PointsOn(noon().Add(first+second), halfLife), 1e-9*(1+c.Points))
		require.InDelta(t, once/2, c.PointsOn(noon().Add(first+second+halfLife), halfLife), 1e-9*(1+c.Points))
	})
}

func TestPointsAddUpInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		decisions := rapid.SliceOfN(rapid.Custom(anyDecision), 1, 20).Draw(t, "decisions")
		after := func(decisions []Decision) (c Conduct) {
			for _, d := range decisions {
				c, _ = c.After(d, strict())
			}
			return c
		}
		one, other := after(decisions), after(rapid.Permutation(decisions).Draw(t, "order"))
		require.InDelta(t, one.Points, other.Points, 1e-9*(1+math.Abs(one.Points)))
		require.Equal(t, one.PointsAt, other.PointsAt)
	})
}

func TestConductKeepsItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy, c := strict(), Conduct{}
		policy.Escalation.Factor = rapid.IntRange(1, 100).Draw(t, "factor")
		policy.Escalation.Most = catalog.Duration(rapid.Int64Range(int64(policy.Block), int64(8760*time.Hour)).Draw(t, "most"))
		cases := 0
		for _, d := range rapid.SliceOfN(rapid.Custom(anyDecision), 1, 40).Draw(t, "decisions") {
			before := c
			if rapid.IntRange(0, 3).Draw(t, "mode") == 0 {
				quiet := observed(d.EventID, d.At.Sub(noon()), d.Verdict, 1000)
				after, to := c.After(quiet, policy)
				require.Equal(t, before, after, "a rule in shadow mode changes nothing")
				require.Zero(t, to)
				continue
			}
			var to Consequence
			c, to = c.After(d, policy)
			if !to.BlockUntil.IsZero() {
				length := to.BlockUntil.Sub(d.At)
				require.GreaterOrEqual(t, length, policy.Block.Std())
				require.LessOrEqual(t, length, policy.Escalation.Most.Std())
				require.False(t, d.At.Before(before.BlockedUntil), "no block begins in a block")
				require.Zero(t, c.Throttled)
				_, again := c.After(d, policy)
				require.Zero(t, again.BlockUntil, "a repeat belongs to the block")
			}
			require.False(t, c.BlockedUntil.Before(before.BlockedUntil))
			require.LessOrEqual(t, c.Throttled, 3.0)
			if to.Case {
				cases++
			}
		}
		require.LessOrEqual(t, cases, 1, "one that is open is enough")
	})
}
