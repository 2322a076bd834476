package mailbox_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/mailbox"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// open gives a mailbox and the means to move its clock.
func open(db *store.DB) (*mailbox.Mailbox, func(time.Time)) {
	var now atomic.Pointer[time.Time]
	now.Store(&noon)
	return &mailbox.Mailbox{DB: db, Now: func() time.Time { return *now.Load() }}, func(t time.Time) { now.Store(&t) }
}

func mail(player, id string) mailbox.Mail {
	return mailbox.Mail{
		PlayerID: player, ID: id, Source: mailbox.FromWindow, Board: "daily", Window: "2026-11-22", Rank: 2, TiedRank: 1,
		XP: 70, Items: map[string]int64{"axe": 1, "gem": 3},
	}
}

func claim(t *testing.T, m *mailbox.Mailbox, player, id string, at time.Time) (claimed mailbox.Mail, fresh bool, err error) {
	t.Helper()
	err = m.DB.Tx(t.Context(), func(tx *store.Tx) (err error) {
		claimed, fresh, err = m.Claim(t.Context(), tx, player, id, at)
		return err
	})
	return claimed, fresh, err
}

// ids are those of a list.
func ids(mails []mailbox.Mail) []string {
	list := []string{}
	for _, m := range mails {
		list = append(list, m.ID)
	}
	return list
}

func TestAMailIsKeptAsItWasSent(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, at := open(db)
		at(noon.Add(123*time.Millisecond + 456*time.Microsecond))
		want := mail("ada", "reward~1")
		nothing := mail("Ada", "REWARD~1") // another player's
		nothing.Items = nil
		sent, err := m.Send(t.Context(), []mailbox.Mail{want, nothing}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, 2, sent)
		want.SentAt, want.ExpiresAt = noon.Add(123*time.Millisecond), noon.Add(time.Hour+123*time.Millisecond)
		got, err := m.Get(t.Context(), "ada", "reward~1")
		require.NoError(t, err)
		require.Equal(t, want, got)
		list, next, err := m.List(t.Context(), mailbox.Filter{Player: "Ada", Limit: 10})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Equal(t, []string{"REWARD~1"}, ids(list))
		require.Empty(t, list[0].Items)

		for _, id := range []string{"", "reward~2", "REWARD~1", "\xff", strings.Repeat("x", 65)} {
			_, err = m.Get(t.Context(), "ada", id)
			require.ErrorIs(t, err, fault.MailNotFound)
			_, _, err = claim(t, m, "ada", id, noon)
			require.ErrorIs(t, err, fault.MailNotFound)
		}
	})
}

func TestAMailSentAgainStaysAsItIs(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, at := open(db)
		sent, err := m.Send(t.Context(), nil, time.Hour)
		require.NoError(t, err)
		require.Zero(t, sent)
		sent, err = m.Send(t.Context(), []mailbox.Mail{mail("ada", "a"), mail("bob", "a"), mail("ada", "a")}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, 2, sent)
		before, err := m.Get(t.Context(), "ada", "a")
		require.NoError(t, err)
		_, fresh, err := claim(t, m, "bob", "a", noon)
		require.NoError(t, err)
		require.True(t, fresh)

		at(noon.Add(30 * time.Minute))
		other := mail("ada", "a")
		other.XP = 9999
		sent, err = m.Send(t.Context(), []mailbox.Mail{mail("cyd", "a"), other, mail("bob", "a")}, 3*time.Hour)
		require.NoError(t, err)
		require.Equal(t, 1, sent)
		after, err := m.Get(t.Context(), "ada", "a")
		require.NoError(t, err)
		require.Equal(t, before, after)
		claimed, err := m.Get(t.Context(), "bob", "a")
		require.NoError(t, err)
		require.Equal(t, mailbox.Claimed, claimed.State(m.Now()))
	})
}

// A sender that is cut between two transactions sends the rest when it comes again.
func TestSendingIsCut(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, at := open(db)
		mails := make([]mailbox.Mail, 2500)
		for i := range mails {
			mails[i] = mail(fmt.Sprintf("p%04d", i), "a")
		}
		mails[2100].Items = map[string]int64{"\xff": 1} // no JSON
		sent, err := m.Send(t.Context(), mails, time.Hour)
		require.Error(t, err)
		require.Equal(t, 2000, sent)
		at(noon.Add(time.Minute))
		mails[2100].Items = nil
		rand.Shuffle(len(mails), func(i, j int) { mails[i], mails[j] = mails[j], mails[i] })
		sent, err = m.Send(t.Context(), mails, time.Hour)
		require.NoError(t, err)
		require.Equal(t, 500, sent)
		for player, want := range map[string]time.Time{"p0000": noon, "p1999": noon, "p2000": noon.Add(time.Minute), "p2499": noon.Add(time.Minute)} {
			got, err := m.Get(t.Context(), player, "a")
			require.NoError(t, err)
			require.Equal(t, want, got.SentAt, player)
		}
	})
}

func TestAMailIsClaimedOnceAndInTime(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, at := open(db)
		_, err := m.Send(t.Context(), []mailbox.Mail{mail("ada", "a"), mail("ada", "b"), mail("bob", "a")}, time.Hour)
		require.NoError(t, err)
		last := noon.Add(time.Hour - time.Millisecond)
		claimed, fresh, err := claim(t, m, "ada", "a", last.Add(999*time.Microsecond))
		require.NoError(t, err)
		require.True(t, fresh)
		require.Equal(t, last, claimed.ClaimedAt)
		_, _, err = claim(t, m, "ada", "b", noon.Add(time.Hour))
		require.ErrorIs(t, err, fault.MailExpired)
		require.ErrorIs(t, err, fault.Gone)
		for _, again := range []time.Time{noon, noon.Add(1000 * time.Hour)} { // long after it would have expired
			same, fresh, err := claim(t, m, "ada", "a", again)
			require.NoError(t, err)
			require.False(t, fresh)
			require.Equal(t, claimed, same)
		}

		// Whoever gives what it brings and fails leaves it waiting.
		cut := errors.New("cut")
		err = m.DB.Tx(t.Context(), func(tx *store.Tx) error {
			_, fresh, err := m.Claim(t.Context(), tx, "bob", "a", noon)
			require.NoError(t, err)
			require.True(t, fresh)
			return cut
		})
		require.ErrorIs(t, err, cut)
		waiting, err := m.Get(t.Context(), "bob", "a")
		require.NoError(t, err)
		require.Equal(t, mailbox.Waiting, waiting.State(noon))

		at(noon.Add(time.Hour))
		for state, want := range map[mailbox.State][]string{
			"": {"b", "a"}, mailbox.Waiting: {}, mailbox.Claimed: {"a"}, mailbox.Expired: {"b"},
		} {
			list, _, err := m.List(t.Context(), mailbox.Filter{Player: "ada", State: state, Limit: 10})
			require.NoError(t, err)
			require.Equal(t, want, ids(list), state)
		}
	})
}

func TestOneOfManyClaims(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, _ := open(db)
		var sending, claiming sync.WaitGroup
		for range 4 {
			sending.Go(func() {
				mails := []mailbox.Mail{mail("ada", "a"), mail("bob", "a"), mail("cyd", "a"), mail("ada", "b")}
				rand.Shuffle(len(mails), func(i, j int) { mails[i], mails[j] = mails[j], mails[i] })
				if _, err := m.Send(t.Context(), mails, time.Hour); err != nil {
					t.Errorf("send: %v", err)
				}
			})
		}
		sending.Wait()
		var times atomic.Int64
		for i := range 8 {
			claiming.Go(func() {
				_, fresh, err := claim(t, m, "ada", "a", noon.Add(time.Duration(i)*time.Millisecond))
				if err != nil {
					t.Errorf("claim: %v", err)
				}
				if fresh {
					times.Add(1)
				}
			})
		}
		claiming.Wait()
		require.EqualValues(t, 1, times.Load())
		list, _, err := m.List(t.Context(), mailbox.Filter{Player: "ada", Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []string{"b", "a"}, ids(list))
	})
}

func TestPages(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, at := open(db)
		var want []string
		for i := range 7 {
			at(noon.Add(time.Duration(i/3) * time.Second)) // some at the same time
			id := fmt.Sprintf("m%d", i)
			_, err := m.Send(t.Context(), []mailbox.Mail{mail("ada", id), mail("bob", "x"+id)}, time.Hour)
			require.NoError(t, err)
			want = append([]string{id}, want...)
		}
		for limit := -1; limit < 9; limit++ {
			var got []string
			for after := ""; ; {
				list, next, err := m.List(t.Context(), mailbox.Filter{Player: "ada", After: after, Limit: limit})
				require.NoError(t, err)
				require.LessOrEqual(t, len(list), max(1, limit))
				got = append(got, ids(list)...)
				if after = next; after == "" {
					break
				}
			}
			require.Equal(t, want, got, limit)
		}
		for _, after := range []string{"x", "1.", ".m1", "1", "m1.1", "9999999999999999999.m1"} {
			_, _, err := m.List(t.Context(), mailbox.Filter{Player: "ada", After: after, Limit: 1})
			require.ErrorIs(t, err, fault.MalformedCursor, after)
		}
	})
}

func TestPurge(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, _ := open(db)
		for i, wait := range []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour, 9 * time.Hour} {
			_, err := m.Send(t.Context(), []mailbox.Mail{mail("ada", fmt.Sprint("m", i)), mail("bob", fmt.Sprint("m", i))}, wait)
			require.NoError(t, err)
		}
		_, _, err := claim(t, m, "bob", "m3", noon.Add(30*time.Minute)) // claimed is over, however long it could have been
		require.NoError(t, err)
		purge := func(before time.Duration, limit, want int) {
			t.Helper()
			n, err := m.Purge(t.Context(), noon.Add(before), limit)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		left := func(player string) []string {
			list, _, err := m.List(t.Context(), mailbox.Filter{Player: player, Limit: 10})
			require.NoError(t, err)
			return ids(list)
		}
		purge(30*time.Minute, 10, 0)
		purge(time.Hour, 10, 1)
		require.Equal(t, []string{"m2", "m1", "m0"}, left("bob"))
		purge(3*time.Hour, 1, 1)
		purge(3*time.Hour, 10, 3)
		require.Equal(t, []string{"m3", "m2"}, left("ada"))
		require.Equal(t, []string{"m2"}, left("bob"))
		_, _, err = claim(t, m, "ada", "m0", noon)
		require.ErrorIs(t, err, fault.MailNotFound)
	})
}

func TestADatabaseOutOfReach(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	require.NoError(t, db.Close())
	m, _ := open(db)
	_, err := m.Send(t.Context(), []mailbox.Mail{mail("ada", "a")}, time.Hour)
	require.ErrorIs(t, err, fault.DatabaseUnavailable)
	_, _, err = m.List(t.Context(), mailbox.Filter{Player: "ada"})
	require.ErrorIs(t, err, fault.DatabaseUnavailable)
	_, err = m.Get(t.Context(), "ada", "a")
	require.ErrorIs(t, err, fault.DatabaseUnavailable)
	_, err = m.Purge(t.Context(), noon, 1)
	require.ErrorIs(t, err, fault.DatabaseUnavailable)
}

func withdraw(t *testing.T, m *mailbox.Mailbox, player, eventID string, at time.Time) {
	t.Helper()
	require.NoError(t, m.DB.Tx(t.Context(), func(tx *store.Tx) error { return m.Withdraw(t.Context(), tx, player, eventID, at) }))
}

// Only what waits is withdrawn, and of the one event of the one player.
func TestMailsOfAnEventAreWithdrawn(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, at := open(db)
		of := func(player, id, eventID string) mailbox.Mail {
			one := mail(player, id)
			one.Source, one.EventID, one.Ref = "level", eventID, "level:5"
			return one
		}
		send := func(wait time.Duration, mails ...mailbox.Mail) {
			t.Helper()
			require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error { return m.SendIn(t.Context(), tx, mails, wait) }))
		}
		send(time.Hour, of("ada", "expired", "x"))
		send(9*time.Hour, of("ada", "waiting", "x"), of("ada", "waiting", "x"), of("ada", "claimed", "x"), of("ada", "other", "y"), of("bob", "waiting", "x"))
		send(99*time.Hour, of("ada", "waiting", "x")) // again: it stays as it was
		_, _, err := claim(t, m, "ada", "claimed", noon)
		require.NoError(t, err)
		later := noon.Add(2 * time.Hour)
		at(later)
		withdraw(t, m, "ada", "x", later)
		withdraw(t, m, "ada", "x", later.Add(time.Hour))
		withdraw(t, m, "ada", "never", later)

		want := of("ada", "waiting", "x")
		want.SentAt, want.ExpiresAt, want.WithdrawnAt = noon, noon.Add(9*time.Hour), later
		got, err := m.Get(t.Context(), "ada", "waiting")
		require.NoError(t, err)
		require.Equal(t, want, got)
		sent, err := m.OfEvent(t.Context(), "ada", "x")
		require.NoError(t, err)
		require.Equal(t, []string{"claimed", "expired", "waiting"}, ids(sent))
		for state, want := range map[mailbox.State][]string{
			mailbox.Waiting: {"other"}, mailbox.Claimed: {"claimed"}, mailbox.Expired: {"expired"}, mailbox.Withdrawn: {"waiting"},
		} {
			list, _, err := m.List(t.Context(), mailbox.Filter{Player: "ada", State: state, Limit: 10})
			require.NoError(t, err)
			require.Equal(t, want, ids(list), state)
			require.Equal(t, state, list[0].State(later))
		}
		_, _, err = claim(t, m, "ada", "waiting", later)
		require.ErrorIs(t, err, fault.MailWithdrawn)
		require.ErrorIs(t, err, fault.Gone)
		_, fresh, err := claim(t, m, "bob", "waiting", later)
		require.NoError(t, err)
		require.True(t, fresh)
	})
}
