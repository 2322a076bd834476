package progression_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func reverse(t *testing.T, l *progression.Ledger, o progression.Order) (*progression.Effect, error) {
	t.Helper()
	return l.Reverse(t.Context(), o, nil)
}

func TestAReversalIsOnRecord(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		apply(t, l, killed("p", "e1", "rat"))
		apply(t, l, acquired("p", "e2", "tail", -1))
		order := progression.Order{Player: "p", EventID: "e1", Actor: "liz", Reason: "a bug"}
		_, err := l.Reversal(t.Context(), "p", "e1")
		require.ErrorIs(t, err, fault.EventNotFound)
		effect, err := reverse(t, l, order)
		require.NoError(t, err)
		require.Equal(t, notes{{Code: fault.BalanceLimit, Ref: "item:tail", Amount: -1}}, effect.Notes)
		again, err := reverse(t, l, progression.Order{Player: "p", EventID: "e1", Actor: "joe", Reason: "another"})
		require.NoError(t, err)
		require.False(t, again.Fresh)
		kept, err := l.Reversal(t.Context(), "p", "e1")
		require.NoError(t, err)
		require.Equal(t, progression.Reversal{Order: order, ID: progression.ReversalID("e1"), At: noon}, kept)
		entries, err := l.Entries(t.Context(), "p", kept.ID)
		require.NoError(t, err)
		require.Len(t, entries, 2)
		require.Equal(t, []any{"xp", int64(-10), int64(0)}, []any{entries[0].Kind, entries[0].Delta, entries[0].Balance})
		require.Equal(t, []any{"item:tail", int64(-1), int64(0), event.EventReversed}, []any{entries[1].Kind, entries[1].Delta, entries[1].Balance, entries[1].EventType})
		noDrift(t, l)
	})
}

func TestWhatCannotBeReversed(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		apply(t, l, killed("p", "e1", "rat"))
		good := progression.Order{Player: "p", EventID: "e1", Actor: "liz", Reason: "a bug"}
		_, err := reverse(t, l, good)
		require.NoError(t, err)
		for name, test := range map[string]struct {
			change func(*progression.Order)
			want   fault.Code
		}{
			"unknown event":   {func(o *progression.Order) { o.EventID = "e9" }, fault.EventNotFound},
			"unknown player":  {func(o *progression.Order) { o.Player = "nobody" }, fault.EventNotFound},
			"a reversal":      {func(o *progression.Order) { o.EventID = progression.ReversalID("e1") }, fault.NotReversible},
			"no actor":        {func(o *progression.Order) { o.Actor = "" }, fault.RequestInvalid},
			"no reason":       {func(o *progression.Order) { o.Reason = "" }, fault.RequestInvalid},
			"too long a name": {func(o *progression.Order) { o.Actor = strings.Repeat("ü", 129) }, fault.RequestInvalid},
			"too much reason": {func(o *progression.Order) { o.Reason = strings.Repeat("ü", 513) }, fault.RequestInvalid},
		} {
			o := good
			test.change(&o)
			_, err := reverse(t, l, o)
			require.ErrorIs(t, err, test.want, name)
		}
		_, err = l.Player(t.Context(), "nobody")
		require.ErrorIs(t, err, fault.PlayerNotFound, "asking makes nobody a player")
		apply(t, l, killed("p", "e2", "rat"))
		_, err = reverse(t, l, progression.Order{Player: "p", EventID: "e2", Actor: strings.Repeat("ü", 128), Reason: strings.Repeat("ü", 512)})
		require.NoError(t, err)
	})
}

// What is given back fits whatever the stack is by now, and XP given back may reach a level for the first time.
func TestWhatWasTakenIsGivenBack(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		apply(t, l, acquired("p", "e1", "gem", 7))
		apply(t, l, acquired("p", "e2", "gem", -3))
		apply(t, l, acquired("p", "e3", "gem", 3))
		apply(t, l, gained("p", "e4", 60))
		apply(t, l, gained("p", "e5", -50))
		apply(t, l, gained("p", "e6", 60))
		for _, id := range []string{"e2", "e5"} {
			_, err := reverse(t, l, progression.Order{Player: "p", EventID: id, Actor: "liz", Reason: "a bug"})
			require.NoError(t, err)
		}
		state, err := l.Player(t.Context(), "p")
		require.NoError(t, err)
		require.EqualValues(t, 120, state.XP)
		require.Equal(t, 2, state.Level)
		require.Equal(t, holdings{{Item: "gem", Quantity: 10}}, state.Items)
		entries, err := l.Entries(t.Context(), "p", progression.ReversalID("e5"))
		require.NoError(t, err)
		require.Equal(t, notes{{Code: fault.StackFull, Ref: "level:2:item:gem", Amount: 1}}, entries[0].Notes)
		noDrift(t, l)
	})
}

func TestNoClientCanSendTheIDsMadeHere(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("b", event.MaxID)
	seen := map[string]bool{}
	for _, id := range []string{
		progression.ReversalID("a"), progression.ReversalID(longest), progression.MailID("a", "level", "level:2"), progression.MailID("a", "item", "item:gem"),
		progression.MailID("a", "overflow", "item:gem"), progression.MailID(longest, "overflow", longest), progression.MailID("b", "level", "level:2"),
	} {
		require.False(t, event.ValidID(id))
		require.LessOrEqual(t, len(id), event.MaxID)
		require.NotContains(t, id, ".")
		require.False(t, seen[id])
		seen[id] = true
	}
}
