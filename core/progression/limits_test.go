package progression_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// A game without limits pays for none: what is counted is neither read nor written.
func TestWithoutLimitsNothingIsCounted(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		_, err := db.Exec(t.Context(), "DROP TABLE tally")
		require.NoError(t, err)
		c := game()
		c.Bosses["hydra"] = catalog.Worth{XP: 1}
		l := ledgerOn(db, c)
		apply(t, l, gained("p", "e1", 100))
		apply(t, l, killed("p", "e2", "hydra"))
		apply(t, l, acquired("p", "e3", "axe", 1))

		c.Bosses["hydra"] = catalog.Worth{XP: 1, Daily: 5}
		apply(t, l, killed("p", "e2", "hydra")) // a repeat looks into nothing either
		_, err = l.Apply(t.Context(), []event.Accepted{killed("p", "e4", "hydra")}, nil)
		require.Error(t, err)
	})
}

// Many players, limits, families and conversions in one batch, beyond what one statement takes.
func TestABatchBeyondOneStatement(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := game()
		c.Events["xp_gained"] = catalog.EventType{
			Worth: catalog.Worth{Daily: 7, Once: "day", Cooldown: catalog.Duration(time.Second)}, Sources: map[string]int64{"quest": 5},
		}
		c.Items["eco-*"] = catalog.Item{Slots: 1}
		l := ledgerOn(db, c)
		const players = 700
		for round := range 2 {
			var batch []event.Accepted
			for i := range players {
				player := fmt.Sprintf("p%03d", i)
				batch = append(batch, gained(player, fmt.Sprintf("x%d", round), 9), acquired(player, fmt.Sprintf("i%d", round), fmt.Sprintf("eco-%d", round), 1))
			}
			_, err := l.Apply(t.Context(), batch, nil)
			require.NoError(t, err)
		}
		for i := range players {
			state, err := l.Player(t.Context(), fmt.Sprintf("p%03d", i))
			require.NoError(t, err)
			require.EqualValues(t, 5, state.XP)
			require.Equal(t, holdings{{Item: "eco-0", Quantity: 1}}, state.Items)
		}
		noDrift(t, l)
	})
}

// A source is a text of any length that the catalog has; what is counted of it needs a name that fits its column.
func TestASourceWithALongName(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		long := strings.Repeat("ü", 300)
		c := game()
		c.Events["xp_gained"] = catalog.EventType{Sources: map[string]int64{long: 5, long + "!": 6}}
		l := ledgerOn(db, c)
		for i, source := range []string{long, long + "!", long, "other"} {
			e := gained("p", fmt.Sprint("e", i), 9)
			e.Data["source"] = source
			apply(t, l, e)
		}
		state, err := l.Player(t.Context(), "p")
		require.NoError(t, err)
		require.EqualValues(t, 5+6+0+9, state.XP)
	})
}

// A batch that is cut leaves no count behind.
func TestWhatIsCutIsNotCounted(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := game()
		c.Bosses["rat"] = catalog.Worth{XP: 10, Once: "ever", Daily: 10}
		l := ledgerOn(db, c)
		_, err := l.Apply(t.Context(), []event.Accepted{killed("p", "e1", "rat")}, func(*store.Tx, []*progression.Effect) error { return fault.Unexpected })
		require.ErrorIs(t, err, fault.Unexpected)
		apply(t, l, killed("p", "e2", "rat"))
		effects, err := l.Apply(t.Context(), []event.Accepted{killed("p", "e1", "rat")}, nil)
		require.NoError(t, err)
		require.Equal(t, notes{{Code: fault.OnceOnly, Ref: "boss:rat", Amount: 10}}, effects[0].Notes)
	})
}

// What is worth nothing at last uses nothing up: here the type's day is over before the boss's week begins.
func TestWhatIsCutToNothingUsesNothingUp(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := game()
		c.Events["boss_killed"] = catalog.EventType{Worth: catalog.Worth{Daily: 10}}
		c.Bosses = map[string]catalog.Worth{"rat": {XP: 10}, "hydra": {XP: 50, Once: "week"}}
		l := ledgerOn(db, c)
		apply(t, l, killed("p", "e1", "rat"))
		apply(t, l, killed("p", "e2", "hydra"))
		c.Events["boss_killed"] = catalog.EventType{}
		effects, err := l.Apply(t.Context(), []event.Accepted{killed("p", "e3", "hydra")}, nil)
		require.NoError(t, err)
		require.EqualValues(t, 50, effects[0].XP)
	})
}
