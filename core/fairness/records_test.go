package fairness

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func denied(player, id string) Decision {
	return decide(event.Event{PlayerID: player, ID: id}, []Finding{
		{Rule: "score-velocity", Version: 2, Mode: "enforce", Verdict: Deny, Measure: "points", Window: 10_000, Limit: 9007199254740991, Observed: 9007199254740992},
		{Rule: "impossible-value", Version: 1, Mode: "shadow", Verdict: Deny, Measure: "/data/source", Text: "日本 '\""},
	}, noon())
}

func TestDecisionsAreKeptOnceWithTheirEvidence(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		d := Decisions{DB: db}
		allowed := decide(event.Event{PlayerID: "p", ID: "fine"}, nil, noon())
		one, two := denied("p", "1"), denied("p", "2")
		require.NoError(t, d.Record(t.Context(), []Decision{two, allowed, one, two}))
		later := one
		later.At, later.Verdict = noon().Add(time.Hour), Flag
		require.NoError(t, d.Record(t.Context(), []Decision{later}))
		for _, want := range []Decision{one, two} {
			got, err := d.Get(t.Context(), want.ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		_, err := d.Get(t.Context(), allowed.ID)
		require.ErrorIs(t, err, fault.DecisionNotFound)
		require.NoError(t, d.Record(t.Context(), nil))
	})
}

func TestEvidenceOfManyFindingsFits(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		findings := make([]Finding, 1000)
		for i := range findings {
			findings[i] = Finding{Rule: "impossible-value", Mode: "enforce", Verdict: Deny, Measure: fmt.Sprintf("/data/%064d", i)}
		}
		d := decide(event.Event{PlayerID: "p", ID: "1"}, findings, noon())
		require.NoError(t, (&Decisions{DB: db}).Record(t.Context(), []Decision{d}))
		got, err := (&Decisions{DB: db}).Get(t.Context(), d.ID)
		require.NoError(t, err)
		require.Len(t, got.Evidence, 16)
	})
}

func block(player, decision string, minutes int) Block {
	return Block{PlayerID: player, DecisionID: decision, Reason: "score-velocity", At: noon(), Until: noon().Add(time.Duration(minutes) * time.Minute)}
}

func TestTheLaterBlockStays(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		b := Blocks{DB: db}
		require.NoError(t, b.Record(t.Context(), []Block{block("p", "1", 10), block("q", "2", 20), block("q", "3", 10), block("r", "4", 1)}))
		require.NoError(t, b.Record(t.Context(), []Block{block("p", "5", 11), block("q", "6", 19), block("r", "7", 1)}))
		active := func(at time.Duration) []Block {
			got, err := b.Active(t.Context(), noon().Add(at))
			require.NoError(t, err)
			return got
		}
		require.Equal(t, []Block{block("p", "5", 11), block("q", "2", 20), block("r", "4", 1)}, active(0))
		require.Equal(t, []Block{block("p", "5", 11), block("q", "2", 20)}, active(time.Minute), "at its end a block is over")
		require.Equal(t, []Block{block("q", "2", 20)}, active(20*time.Minute-time.Millisecond))
		require.Empty(t, active(20*time.Minute))
		require.NoError(t, b.Record(t.Context(), nil))
	})
}

func TestReplicasRecordAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		const replicas, n = 6, 40
		var wg sync.WaitGroup
		failures := make([]error, 2*replicas)
		for r := range replicas {
			var blocks []Block
			var decisions []Decision
			for i := range n {
				i = (i*7 + r*11) % n // another order each
				blocks = append(blocks, block(fmt.Sprint("player", i), fmt.Sprint(r), 1+(r+i)%replicas))
				decisions = append(decisions, denied("p", fmt.Sprint(i)))
			}
			wg.Go(func() { failures[2*r] = (&Blocks{DB: db}).Record(t.Context(), blocks) })
			wg.Go(func() { failures[2*r+1] = (&Decisions{DB: db}).Record(t.Context(), decisions) })
		}
		wg.Wait()
		for _, err := range failures {
			require.NoError(t, err)
		}
		active, err := (&Blocks{DB: db}).Active(t.Context(), noon())
		require.NoError(t, err)
		require.Len(t, active, n)
		for _, b := range active {
			require.Equal(t, noon().Add(replicas*time.Minute), b.Until, b.PlayerID)
		}
	})
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	db, err := store.Open("mysql://user:password@127.0.0.1:1/none")
	require.NoError(t, err)
	require.ErrorIs(t, (&Decisions{DB: db}).Record(t.Context(), []Decision{denied("p", "1")}), fault.Unavailable)
	_, err = (&Decisions{DB: db}).Get(t.Context(), "1")
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, (&Blocks{DB: db}).Record(t.Context(), []Block{block("p", "1", 1)}), fault.Unavailable)
	_, err = (&Blocks{DB: db}).Active(t.Context(), noon())
	require.ErrorIs(t, err, fault.Unavailable)
}
