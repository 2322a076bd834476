package progression_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
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

var (
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at   = noon.Add(-3 * time.Second)
)

// game is small enough to follow by hand: levels at 0, 100, 300, 600 and 1000 XP.
func game() *catalog.Catalog {
	return &catalog.Catalog{
		Version: 7,
		XP:      catalog.Curve{Table: []int64{0, 100, 300, 600, 1000}},
		Rewards: catalog.Rewards{Levels: map[int]catalog.Reward{
			2: {Items: map[string]int64{"gem": 1}},
			3: {Items: map[string]int64{"gem": 5, "axe": 1}},
			5: {Items: map[string]int64{"crown": 1}},
		}},
		Bosses: map[string]catalog.Worth{
			"rat":   {XP: 10, Items: map[string]int64{"tail": 2}},
			"hydra": {XP: 250, Items: map[string]int64{"gem": 2, "fang": 9}, RequiredLevel: 2},
		},
		Items:  map[string]catalog.Item{"gem": {Stack: 7}, "axe": {}, "crown": {Stack: 1}, "tail": {}, "fang": {}, "eco-*": {Stack: 3}},
		Events: map[string]catalog.EventType{"logged_in": {Worth: catalog.Worth{XP: 3}}},
	}
}

func ledgerOn(db *store.DB, c *catalog.Catalog) *progression.Ledger {
	return &progression.Ledger{
		DB:      db,
		Catalog: func() *catalog.Catalog { return c },
		Now:     func() time.Time { return noon },
	}
}

func did(player, id, kind string, data map[string]any) event.Accepted {
	return event.Accepted{
		Event: event.Event{ID: id, Type: kind, PlayerID: player, OccurredAt: at, Data: data},
		At:    at, ReceivedAt: at, KeyID: "server",
	}
}

func gained(player, id string, amount int64) event.Accepted {
	return did(player, id, event.XPGained, map[string]any{"amount": float64(amount), "source": "quest"})
}

func killed(player, id, boss string) event.Accepted {
	return did(player, id, event.BossKilled, map[string]any{"boss": boss})
}

func acquired(player, id, item string, quantity int64) event.Accepted {
	return did(player, id, event.ItemAcquired, map[string]any{"item": item, "quantity": float64(quantity)})
}

func scored(player, id string) event.Accepted {
	return did(player, id, event.ScoreSubmitted, map[string]any{"board": "daily", "score": 5.0})
}

func noDrift(t *testing.T, l *progression.Ledger) {
	t.Helper()
	drifts, err := l.Drift(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, drifts)
}

type (
	holdings = []progression.Holding
	notes    = []progression.Note
)

func TestScenarios(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		batches [][]event.Accepted
		want    progression.State
		kinds   []string // of all entries, in the order of the events below
		notes   notes    // of all entries
	}{
		"first event": {
			batches: [][]event.Accepted{{gained("p", "e1", 40)}},
			want:    progression.State{XP: 40, Level: 1, Version: 1},
			kinds:   []string{"xp"},
		},
		"worth nothing, but on record": {
			batches: [][]event.Accepted{{scored("p", "e1")}},
			want:    progression.State{XP: 0, Level: 1, Version: 1},
			kinds:   []string{"xp"},
		},
		"declared type": {
			batches: [][]event.Accepted{{did("p", "e1", "logged_in", map[string]any{}), did("p", "e2", "logged_in", map[string]any{})}},
			want:    progression.State{XP: 6, Level: 1, Version: 2},
			kinds:   []string{"xp", "xp"},
		},
		"repeated in the batch and later": {
			batches: [][]event.Accepted{
				{gained("p", "e1", 40), gained("p", "e1", 40), gained("p", "e2", 2)},
				{gained("p", "e2", 2), gained("p", "e1", 40)},
			},
			want:  progression.State{XP: 42, Level: 1, Version: 2},
			kinds: []string{"xp", "xp"},
		},
		"of two bodies the first counts": {
			batches: [][]event.Accepted{{gained("p", "e1", 40), gained("p", "e1", 90)}, {acquired("p", "e1", "axe", 5)}},
			want:    progression.State{XP: 40, Level: 1, Version: 1},
			kinds:   []string{"xp"},
		},
		"exactly at the level": {
			batches: [][]event.Accepted{{gained("p", "e1", 99)}, {gained("p", "e2", 1)}},
			want:    progression.State{XP: 100, Level: 2, Version: 3, Items: holdings{{"gem", 1}}},
			kinds:   []string{"xp", "xp", "level:2:item:gem"},
		},
		"several levels at once, rewarded in order": {
			batches: [][]event.Accepted{{gained("p", "e1", 5000)}},
			want:    progression.State{XP: 5000, Level: 5, Version: 5, Items: holdings{{"axe", 1}, {"crown", 1}, {"gem", 6}}},
			kinds:   []string{"xp", "level:2:item:gem", "level:3:item:axe", "level:3:item:gem", "level:5:item:crown"},
		},
		"boss": {
			batches: [][]event.Accepted{{killed("p", "e1", "rat"), killed("p", "e2", "rat")}},
			want:    progression.State{XP: 20, Level: 1, Version: 4, Items: holdings{{"tail", 4}}},
			kinds:   []string{"xp", "item:tail", "xp", "item:tail"},
		},
		"boss above the level": {
			batches: [][]event.Accepted{{killed("p", "e1", "hydra")}},
			want:    progression.State{Level: 1, Version: 1},
			kinds:   []string{"xp"},
			notes:   notes{{Code: fault.LevelTooLow, Ref: "boss:hydra", Amount: 250}},
		},
		"boss at the level reached just before": {
			batches: [][]event.Accepted{{gained("p", "e1", 100), killed("p", "e2", "hydra")}},
			want:    progression.State{XP: 350, Level: 3, Version: 7, Items: holdings{{"axe", 1}, {"fang", 9}, {"gem", 7}}},
			kinds:   []string{"xp", "level:2:item:gem", "xp", "item:fang", "item:gem", "level:3:item:axe", "level:3:item:gem"},
			notes:   notes{{Code: fault.StackFull, Ref: "level:3:item:gem", Amount: 1}},
		},
		"stack overflows, then is full": {
			batches: [][]event.Accepted{{acquired("p", "e1", "gem", 5), acquired("p", "e2", "gem", 5)}, {acquired("p", "e3", "gem", 1)}},
			want:    progression.State{Level: 1, Version: 5, Items: holdings{{"gem", 7}}},
			kinds:   []string{"xp", "item:gem", "xp", "item:gem", "xp"},
			notes: notes{
				{Code: fault.StackFull, Ref: "item:gem", Amount: 3},
				{Code: fault.StackFull, Ref: "item:gem", Amount: 1},
			},
		},
		"each item of a family has its own stack": {
			batches: [][]event.Accepted{{acquired("p", "e1", "eco-a00", 2), acquired("p", "e2", "eco-b00", 4)}},
			want:    progression.State{Level: 1, Version: 4, Items: holdings{{"eco-a00", 2}, {"eco-b00", 3}}},
			kinds:   []string{"xp", "item:eco-a00", "xp", "item:eco-b00"},
			notes:   notes{{Code: fault.StackFull, Ref: "item:eco-b00", Amount: 1}},
		},
		"xp taken away: not below zero, and no level twice": {
			batches: [][]event.Accepted{{gained("p", "e1", 120), gained("p", "e2", -150), gained("p", "e3", 130)}},
			want:    progression.State{XP: 130, Level: 2, Version: 4, Items: holdings{{"gem", 1}}},
			kinds:   []string{"xp", "level:2:item:gem", "xp", "xp"},
			notes:   notes{{Code: fault.BalanceLimit, Ref: "xp", Amount: -30}},
		},
		"an item used up": {
			batches: [][]event.Accepted{{acquired("p", "e1", "axe", 2)}, {acquired("p", "e2", "axe", -3)}},
			want:    progression.State{Level: 1, Version: 4},
			kinds:   []string{"xp", "item:axe", "xp", "item:axe"},
			notes:   notes{{Code: fault.BalanceLimit, Ref: "item:axe", Amount: -1}},
		},
		"as much xp as there can be": {
			batches: [][]event.Accepted{{gained("p", "e1", event.MaxInteger), gained("p", "e2", event.MaxInteger)}},
			want:    progression.State{XP: event.MaxInteger, Level: 5, Version: 6, Items: holdings{{"axe", 1}, {"crown", 1}, {"gem", 6}}},
			kinds:   []string{"xp", "level:2:item:gem", "level:3:item:axe", "level:3:item:gem", "level:5:item:crown", "xp"},
			notes:   notes{{Code: fault.BalanceLimit, Ref: "xp", Amount: event.MaxInteger}},
		},
		"event ids are the player's own": {
			batches: [][]event.Accepted{{gained("q", "e1", 1000), gained("p", "e1", 1), gained("P", "e1", 300), gained("p", "E1", 2)}},
			want:    progression.State{XP: 3, Level: 1, Version: 2},
			kinds:   []string{"xp"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
				l := ledgerOn(db, game())
				var kinds []string
				var noted notes
				seen := map[string]bool{}
				for _, batch := range test.batches {
					effects, err := l.Apply(t.Context(), batch, nil)
					require.NoError(t, err)
					require.Len(t, effects, len(batch))
					for i, effect := range effects {
						require.Equal(t, batch[i], effect.Event)
						require.Equal(t, !seen[batch[i].Identity()], effect.Fresh)
						seen[batch[i].Identity()] = true
						if effect.Fresh && effect.Event.PlayerID == "p" && effect.Event.ID[0] == 'e' {
							entries, err := l.Entries(t.Context(), "p", effect.Event.ID)
							require.NoError(t, err)
							for _, entry := range entries {
								kinds = append(kinds, entry.Kind)
								noted = append(noted, entry.Notes...)
							}
						}
					}
				}
				state, err := l.Player(t.Context(), "p")
				require.NoError(t, err)
				want := test.want
				want.PlayerID, want.UpdatedAt = "p", noon
				require.Equal(t, want, state)
				require.Equal(t, test.kinds, kinds)
				require.Equal(t, test.notes, noted)
				noDrift(t, l)
			})
		})
	}
}

func TestEffectAndEntriesSayTheSame(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		effects, err := l.Apply(t.Context(), []event.Accepted{gained("p", "e1", 100), killed("p", "e2", "hydra")}, nil)
		require.NoError(t, err)
		require.Equal(t, &progression.Effect{
			Event: killed("p", "e2", "hydra"), Fresh: true,
			XP: 250, XPBefore: 100, XPAfter: 350, LevelBefore: 2, LevelAfter: 3,
			Grants: []progression.Grant{
				{Kind: "item:fang", Item: "fang", Quantity: 9, Balance: 9},
				{Kind: "item:gem", Item: "gem", Quantity: 2, Balance: 3},
				{Kind: "level:3:item:axe", Item: "axe", Quantity: 1, Balance: 1},
				{Kind: "level:3:item:gem", Item: "gem", Quantity: 4, Balance: 7},
			},
			Notes:          notes{{Code: fault.StackFull, Ref: "level:3:item:gem", Amount: 1}},
			CatalogVersion: 7,
		}, effects[1])

		entries, err := l.Entries(t.Context(), "p", "e2")
		require.NoError(t, err)
		row := func(kind string, number int64, item string, delta, balance int64, said notes) progression.Entry {
			return progression.Entry{
				EventID: "e2", Kind: kind, Number: number, EventType: event.BossKilled, Item: item, Delta: delta, Balance: balance,
				LevelBefore: 2, LevelAfter: 3, CatalogVersion: 7, EffectiveAt: at, RecordedAt: noon, Notes: said,
			}
		}
		require.Equal(t, []progression.Entry{
			row("xp", 3, "", 250, 350, effects[1].Notes),
			row("item:fang", 4, "fang", 9, 9, notes{}),
			row("item:gem", 5, "gem", 2, 3, notes{}),
			row("level:3:item:axe", 6, "axe", 1, 1, notes{}),
			row("level:3:item:gem", 7, "gem", 4, 7, notes{}),
		}, entries)

		entries, err = l.Entries(t.Context(), "p", "never")
		require.NoError(t, err)
		require.Empty(t, entries)
		_, err = l.Player(t.Context(), "nobody")
		require.ErrorIs(t, err, fault.PlayerNotFound)
	})
}

func TestNewCatalog(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		current := game()
		l := ledgerOn(db, nil)
		l.Catalog = func() *catalog.Catalog { return current }
		apply := func(e event.Accepted) *progression.Effect {
			effects, err := l.Apply(t.Context(), []event.Accepted{e}, nil)
			require.NoError(t, err)
			return effects[0]
		}
		apply(gained("p", "e1", 150))

		current = game()
		current.Version, current.XP.Table = 8, []int64{0, 1000, 2000} // steeper: the level stays
		effect := apply(gained("p", "e2", 1000))
		require.Equal(t, 8, effect.CatalogVersion)
		require.Equal(t, 2, effect.LevelAfter)
		require.Empty(t, effect.Grants)

		current = game()
		current.Version, current.XP.Table = 9, []int64{0, 10, 20} // easier: any event brings the level up to date
		effect = apply(scored("p", "e3"))
		require.Equal(t, 3, effect.LevelAfter)
		require.Equal(t, "level:3:item:axe", effect.Grants[0].Kind)

		current.Items["gem"] = catalog.Item{Stack: 2} // 6 are held: kept, and no more
		require.Empty(t, apply(acquired("p", "e4", "gem", 1)).Grants)
		state, err := l.Player(t.Context(), "p")
		require.NoError(t, err)
		require.Equal(t, holdings{{Item: "axe", Quantity: 1}, {Item: "gem", Quantity: 6}}, state.Items)
		noDrift(t, l)
	})
}

func TestAlsoSeesAllAndAddsNotes(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		closed := progression.Note{Code: fault.WindowClosed, Ref: "daily", Amount: 1}
		also := func(_ *store.Tx, effects []*progression.Effect) error {
			for _, e := range effects {
				e.Notes = append(e.Notes, closed)
			}
			return nil
		}
		effects, err := l.Apply(t.Context(), []event.Accepted{scored("p", "e1"), scored("p", "e1")}, also)
		require.NoError(t, err)
		require.True(t, effects[0].Fresh)
		require.False(t, effects[1].Fresh)
		_, err = l.Apply(t.Context(), []event.Accepted{scored("p", "e1")}, also)
		require.NoError(t, err)

		entries, err := l.Entries(t.Context(), "p", "e1")
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Equal(t, notes{closed}, entries[0].Notes)
	})
}

// Whatever cuts a batch before its commit leaves nothing behind, and the batch can come again.
func TestCutInTheMiddle(t *testing.T) {
	t.Parallel()
	batch := []event.Accepted{gained("p", "e2", 500), acquired("new", "e1", "gem", 3)}
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		_, err := l.Apply(t.Context(), []event.Accepted{gained("p", "e1", 50)}, nil)
		require.NoError(t, err)

		broken := errors.New("the receipts cannot be written")
		_, err = l.Apply(t.Context(), batch, func(tx *store.Tx, effects []*progression.Effect) error {
			require.True(t, effects[0].Fresh)
			_, err := tx.Exec(t.Context(), "UPDATE player SET xp = 9 WHERE player_id = ?", "p")
			require.NoError(t, err)
			return broken
		})
		require.ErrorIs(t, err, broken)

		ctx, cancel := context.WithCancel(t.Context())
		_, err = l.Apply(ctx, batch, func(*store.Tx, []*progression.Effect) error {
			cancel()
			return nil
		})
		require.ErrorIs(t, err, context.Canceled)
		_, err = l.Apply(ctx, batch, nil)
		require.ErrorIs(t, err, context.Canceled)

		state, err := l.Player(t.Context(), "p")
		require.NoError(t, err)
		require.Equal(t, progression.State{PlayerID: "p", XP: 50, Level: 1, Version: 1, UpdatedAt: noon}, state)
		_, err = l.Player(t.Context(), "new")
		require.ErrorIs(t, err, fault.PlayerNotFound)
		noDrift(t, l)

		effects, err := l.Apply(t.Context(), batch, nil)
		require.NoError(t, err)
		require.True(t, effects[0].Fresh)
		require.True(t, effects[1].Fresh)
		require.Equal(t, int64(550), effects[0].XPAfter)
		noDrift(t, l)
	})
}

func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		require.NoError(t, db.Close())
		_, err := l.Apply(t.Context(), []event.Accepted{gained("p", "e1", 50)}, nil)
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = l.Player(t.Context(), "p")
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = l.Entries(t.Context(), "p", "e1")
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = l.Drift(t.Context(), 1)
		require.ErrorIs(t, err, fault.Unavailable)
	})
}

func TestDriftIsSeen(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		_, err := l.Apply(t.Context(), []event.Accepted{
			gained("a", "e1", 50), acquired("b", "e1", "axe", 3), acquired("c", "e1", "axe", 3), gained("d", "e1", 4),
		}, nil)
		require.NoError(t, err)
		noDrift(t, l)
		for _, statement := range []string{
			"UPDATE player SET xp = 51 WHERE player_id = 'a'",
			"UPDATE item SET quantity = 2 WHERE player_id = 'b'",
			"DELETE FROM item WHERE player_id = 'c'",
		} {
			_, err := db.Exec(t.Context(), statement)
			require.NoError(t, err)
		}
		want := []progression.Drift{
			{PlayerID: "a", Balance: 51, Ledger: 50},
			{PlayerID: "b", Item: "axe", Balance: 2, Ledger: 3},
			{PlayerID: "c", Item: "axe", Balance: 0, Ledger: 3},
		}
		drifts, err := l.Drift(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, want, drifts)
		drifts, err = l.Drift(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, want[:2], drifts)
	})
}

// The ledger itself refuses a second effect: the lock only makes sure that it never has to.
func TestLedgerKeyIsTheProof(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		e := gained("p", "e1", 50)
		_, err := l.Apply(t.Context(), []event.Accepted{e}, func(tx *store.Tx, _ []*progression.Effect) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO ledger (player_id, event_id, kind, entry_no, event_type, item_id, delta, balance,
				level_before, level_after, catalog_version, effective_at, recorded_at) VALUES ('p', 'e1', 'xp', 99, 'xp_gained', '', 50, 50, 1, 1, 7, 0, 0)`)
			return err
		})
		require.Error(t, err)
		_, err = l.Player(t.Context(), "p")
		require.ErrorIs(t, err, fault.PlayerNotFound)
	})
}

// Many workers get the same events in different batches and orders: each event counts once, with one of them.
func TestConcurrentDeliveries(t *testing.T) {
	t.Parallel()
	const players, each, workers = 12, 25, 8
	var events []event.Accepted
	want := map[string]int64{}
	for p := range players {
		player := fmt.Sprintf("p%02d", p)
		for i := range each {
			id := strconv.Itoa(i)
			switch i % 3 {
			case 0:
				events = append(events, gained(player, id, int64(1+p*i)))
				want[player] += int64(1 + p*i)
			case 1:
				events = append(events, killed(player, id, "rat"))
				want[player] += 10
			default:
				events = append(events, acquired(player, id, "eco-a00", 1))
			}
		}
	}
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		fresh := make([]map[string]int, workers)
		failed := make([]error, workers)
		var wg sync.WaitGroup
		for w := range workers {
			fresh[w] = map[string]int{}
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(w), 1))
				own := append([]event.Accepted(nil), events...)
				random.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
				for len(own) > 0 {
					n := min(len(own), 1+random.IntN(40))
					effects, err := l.Apply(t.Context(), own[:n], nil)
					if err != nil {
						failed[w] = err
						return
					}
					for _, e := range effects {
						if e.Fresh {
							fresh[w][e.Event.Identity()]++
						}
					}
					own = own[n:]
				}
			})
		}
		wg.Wait()
		for _, err := range failed {
			require.NoError(t, err)
		}
		counted := map[string]int{}
		for _, f := range fresh {
			for id, n := range f {
				counted[id] += n
			}
		}
		require.Len(t, counted, players*each)
		for id, n := range counted {
			require.Equal(t, 1, n, id)
		}
		for player, xp := range want {
			state, err := l.Player(t.Context(), player)
			require.NoError(t, err)
			require.Equal(t, xp, state.XP, player)
			require.Equal(t, game().XP.Level(xp), state.Level, player)
			held := map[string]int64{}
			for _, h := range state.Items {
				held[h.Item] = h.Quantity
			}
			require.Equal(t, int64(16), held["tail"], player) // 8 rats
			require.Equal(t, int64(3), held["eco-a00"], player)
			var rows int64
			require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM ledger WHERE player_id = ?", []any{player}, &rows))
			require.Equal(t, rows, state.Version, player)
		}
		noDrift(t, l)
	})
}

func TestTimes(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		_, err := l.Apply(t.Context(), []event.Accepted{gained("p", "e1", 50)}, nil)
		require.NoError(t, err)
		later := noon.Add(time.Hour)
		l.Now = func() time.Time { return later }
		_, err = l.Apply(t.Context(), []event.Accepted{gained("p", "e2", 50)}, nil)
		require.NoError(t, err)
		l.Now = func() time.Time { return later.Add(time.Hour) }
		_, err = l.Apply(t.Context(), []event.Accepted{gained("p", "e2", 50)}, nil) // a repeat changes nothing
		require.NoError(t, err)

		state, err := l.Player(t.Context(), "p")
		require.NoError(t, err)
		require.Equal(t, later, state.UpdatedAt)
		require.Equal(t, int64(3), state.Version) // two events and the gem of level 2
		var created int64
		require.NoError(t, db.Row(t.Context(), "SELECT created_at FROM player WHERE player_id = 'p'", nil, &created))
		require.Equal(t, noon.UnixMilli(), created)
		entries, err := l.Entries(t.Context(), "p", "e2")
		require.NoError(t, err)
		require.Equal(t, later, entries[0].RecordedAt)
		require.Equal(t, at, entries[0].EffectiveAt)
	})
}
