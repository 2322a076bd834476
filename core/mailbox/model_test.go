package mailbox_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/fault"
	"liveops/core/mailbox"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// Any letters, sent and claimed and purged in any order and again: the mailbox holds what a list kept by hand does.
func TestAgainstAListKeptByHand(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		m, at := open(db)
		now := noon
		var runs atomic.Int64
		rapid.Check(t, func(r *rapid.T) {
			run := runs.Add(1)
			now = now.Add(10_000 * time.Hour) // so that what other runs left is purged, or has no time of ours
			at(now)
			_, err := m.Purge(t.Context(), now, 1_000_000)
			require.NoError(r, err)
			byHand := map[[2]string]mailbox.Mail{}
			player := rapid.Custom(func(t *rapid.T) string {
				return fmt.Sprintf("r%d-%c", run, rapid.SampledFrom([]rune("ab")).Draw(t, "player"))
			})
			id := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("m%d", rapid.IntRange(1, 6).Draw(t, "id")) })
			r.Repeat(map[string]func(*rapid.T){
				"wait": func(t *rapid.T) {
					now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hours")) * time.Hour)
					at(now)
				},
				"send": func(r *rapid.T) {
					wait := time.Duration(rapid.IntRange(0, 5).Draw(r, "wait")) * time.Hour
					var mails []mailbox.Mail
					want := 0
					for range rapid.IntRange(0, 4).Draw(r, "mails") {
						one := mail(player.Draw(r, "to"), id.Draw(r, "as"))
						one.XP, one.EventID = rapid.Int64Range(0, 9).Draw(r, "xp"), rapid.SampledFrom([]string{"", "x", "y"}).Draw(r, "of")
						mails = append(mails, one)
						key := [2]string{one.PlayerID, one.ID}
						if _, known := byHand[key]; !known {
							one.SentAt, one.ExpiresAt = now, now.Add(wait)
							byHand[key] = one
							want++
						}
					}
					sent, err := m.Send(t.Context(), mails, wait)
					require.NoError(r, err)
					require.Equal(r, want, sent)
				},
				"claim": func(r *rapid.T) {
					key := [2]string{player.Draw(r, "by"), id.Draw(r, "which")}
					held, known := byHand[key]
					claimed, fresh, err := claim(t, m, key[0], key[1], now)
					switch {
					case !known:
						require.ErrorIs(r, err, fault.MailNotFound)
						return
					case !held.WithdrawnAt.IsZero():
						require.ErrorIs(r, err, fault.MailWithdrawn)
						return
					case held.ClaimedAt.IsZero() && !now.Before(held.ExpiresAt):
						require.ErrorIs(r, err, fault.MailExpired)
						return
					}
					require.NoError(r, err)
					require.Equal(r, held.ClaimedAt.IsZero(), fresh)
					if fresh {
						held.ClaimedAt = now
						byHand[key] = held
					}
					require.Equal(r, held, claimed)
				},
				"withdraw": func(r *rapid.T) {
					whose, of := player.Draw(r, "whose"), rapid.SampledFrom([]string{"x", "y"}).Draw(r, "of")
					for key, held := range byHand {
						if held.PlayerID == whose && held.EventID == of && held.ClaimedAt.IsZero() && held.WithdrawnAt.IsZero() && now.Before(held.ExpiresAt) {
							held.WithdrawnAt = now
							byHand[key] = held
						}
					}
					withdraw(t, m, whose, of, now)
				},
				"purge": func(r *rapid.T) {
					before := now.Add(-time.Duration(rapid.IntRange(0, 4).Draw(r, "hours")) * time.Hour)
					want := 0
					for key, held := range byHand {
						end := held.ExpiresAt
						if !held.ClaimedAt.IsZero() {
							end = held.ClaimedAt
						}
						if end.Before(before) {
							delete(byHand, key)
							want++
						}
					}
					n, err := m.Purge(t.Context(), before, 100)
					require.NoError(r, err)
					require.Equal(r, want, n)
				},
				"": func(r *rapid.T) {
					p := player.Draw(r, "whose")
					state := rapid.SampledFrom([]mailbox.State{"", mailbox.Waiting, mailbox.Claimed, mailbox.Expired, mailbox.Withdrawn}).Draw(r, "state")
					want := []mailbox.Mail{}
					for _, held := range byHand {
						if held.PlayerID == p && (state == "" || held.State(now) == state) {
							want = append(want, held)
						}
					}
					slices.SortFunc(want, func(a, b mailbox.Mail) int { return cmp.Or(b.SentAt.Compare(a.SentAt), strings.Compare(b.ID, a.ID)) })
					limit := rapid.IntRange(1, 3).Draw(r, "limit")
					got := []mailbox.Mail{}
					for after := ""; ; {
						list, next, err := m.List(t.Context(), mailbox.Filter{Player: p, State: state, After: after, Limit: limit})
						require.NoError(r, err)
						got = append(got, list...)
						if after = next; after == "" {
							break
						}
					}
					require.Equal(r, want, got)
				},
			})
		})
	})
}
