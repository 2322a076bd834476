package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/local/clock"
	"liveops/local/oracle"
	"liveops/local/replay"
	"liveops/local/stack"
)

// eve is the evening on which the tests' clocks stand.
var eve = time.Date(2022, 11, 5, 20, 0, 0, 0, time.UTC)

// witness is a system's clock with a look at the windows after every move.
type witness struct {
	*system
	t     *testing.T
	looks []string // at which instants the states changed, and to what
	last  map[string]string
}

func (w *witness) Move(ctx context.Context, to time.Time) (clock.Reading, error) {
	r, err := w.system.Move(ctx, to)
	if err == nil {
		w.look(r.Now)
	}
	return r, err
}

// look notes the days of a board whose state is not what it was.
func (w *witness) look(now time.Time) {
	w.t.Helper()
	query := `SELECT window_id, state FROM board_window WHERE board = 'points' AND cadence = 'daily' AND starts_at <= ? ORDER BY window_id`
	require.NoError(w.t, w.db.Each(w.t.Context(), query, []any{now.UnixMilli()}, func(scan func(...any) error) error {
		var id, state string
		err := scan(&id, &state)
		if w.last[id] != state {
			w.looks = append(w.looks, fmt.Sprintf("%s %s %s", now.Format("02T15:04:05"), id, state))
			w.last[id] = state
		}
		return err
	}))
}

// TestTimeTravel plays days of games on a clock that moves along with them: every window closes at its end and is archived
// when its grace is over, with what happened in it and nothing else, while the next one is played.
func TestTimeTravel(t *testing.T) {
	t.Parallel()
	eachBus(t, func(t *testing.T, b backend) {
		games := oracle.MakeUp(90, 12)
		oracle.EndAt(games, eve.Add(50*time.Hour))
		for games[0].Ended < eve.UnixMilli() {
			games = games[1:]
		}
		events := oracle.Events(games)
		recording, err := replay.Read(ndjson(t, events))
		require.NoError(t, err)

		s := start(t, b.standing(eve), "chess", time.Time{})
		w := &witness{system: s, t: t, last: map[string]string{}}
		w.look(eve)
		until := time.Date(2022, 11, 8, 0, 10, 0, 0, time.UTC)
		report, err := s.player().Follow(t.Context(), recording, w, until)
		require.NoError(t, err)
		require.Equal(t, len(events), report.Accepted)
		require.Zero(t, report.Retried)
		require.Equal(t, []string{
			"05T20:00:00 2022-11-05 open",
			"06T00:00:00 2022-11-05 closing", "06T00:00:00 2022-11-06 open", "06T00:10:00 2022-11-05 rewarded",
			"07T00:00:00 2022-11-06 closing", "07T00:00:00 2022-11-07 open", "07T00:10:00 2022-11-06 rewarded",
			"08T00:00:00 2022-11-07 closing", "08T00:00:00 2022-11-08 open", "08T00:10:00 2022-11-07 rewarded",
		}, w.looks)
		reading, err := s.Clock(t.Context())
		require.NoError(t, err)
		require.Equal(t, clock.Reading{Now: until, Next: time.Date(2022, 11, 9, 0, 0, 0, 0, time.UTC)}, reading)
		s.requireDays(t, events, "2022-11-05", "2022-11-06", "2022-11-07")
		s.noneDead(t)
		require.Zero(t, s.rows(t, "rejected"))
	})
}

// requireDays holds the archives of days, and the boards without end, to what the oracle makes of the events. The week of eve is over.
func (s *system) requireDays(t *testing.T, events []oracle.Event, days ...string) {
	t.Helper()
	catalog, err := oracle.ReadCatalog(filepath.Join("..", "..", "examples", "chess", "catalog.yaml"))
	require.NoError(t, err)
	for board := range catalog.Boards {
		for _, day := range days {
			at, err := time.Parse(time.DateOnly, day)
			require.NoError(t, err)
			want := catalog.Compute(events, at).Order(board, "daily")
			require.NotEmpty(t, want, "a day without games shows nothing")
			archive := s.page(t, "/v1/leaderboards/"+board+"/archives/"+day+"?limit=1000")
			require.Equal(t, "rewarded", archive.Window.State)
			require.Equal(t, want, archive.Entries, "%s on %s", board, day)
		}
		require.Equal(t, catalog.Compute(events, eve).Order(board, "all_time"), s.pages(t, board, "all_time", 1000))
		var archives int
		require.NoError(t, s.db.Row(t.Context(), `SELECT COUNT(*) FROM archive WHERE board = ? AND window_id LIKE '2022-__-__'`, []any{board}, &archives))
		require.Equal(t, len(days), archives)
	}
	want := catalog.Compute(events, eve)
	for _, e := range want.Order("points", "weekly")[:3] {
		want.XP[e.PlayerID] += 50 // what the week brought, which is over too
	}
	xp, _ := s.balances(t)
	require.Equal(t, want.XP, xp)
}

// TestTimeTravelAtOnce moves over several boundaries in one move: the same windows are closed as one by one.
func TestTimeTravelAtOnce(t *testing.T) {
	t.Parallel()
	to := eve.Add(80 * time.Hour)
	closed := func(t *testing.T, b backend, move func(s *system) error) (windows []string) {
		t.Helper()
		s := start(t, b.standing(eve), "chess", time.Time{})
		_, statuses := s.post(t, scoreEvent("a", "ada", "points", 2, eve), scoreEvent("b", "bob", "rating", 1500, eve.Add(-time.Minute)))
		require.Equal(t, []string{"accepted", "accepted"}, statuses)
		require.NoError(t, move(s))
		query := `SELECT board_window.board, board_window.window_id, state, COALESCE(entries, -1), COALESCE(sequence, 0), COALESCE(top_player, '') FROM board_window
			LEFT JOIN archive ON archive.board = board_window.board AND archive.window_id = board_window.window_id
			ORDER BY board_window.board, board_window.window_id`
		require.NoError(t, s.db.Each(t.Context(), query, nil, func(scan func(...any) error) error {
			var board, id, state, winner string
			var entries, sequence int
			err := scan(&board, &id, &state, &entries, &sequence, &winner)
			windows = append(windows, fmt.Sprintf("%s %s %s %d %d %s", board, id, state, entries, sequence, winner))
			return err
		}))
		return windows
	}
	eachBackend(t, func(t *testing.T, b backend) {
		oneByOne := closed(t, backend{}, func(s *system) error {
			_, err := s.player().Follow(t.Context(), nil, s, to)
			return err
		})
		atOnce := closed(t, b, func(s *system) error {
			_, err := s.Move(t.Context(), to)
			return err
		})
		require.Equal(t, oneByOne, atOnce)
		text := strings.Join(atOnce, "\n")
		for _, want := range []string{"points 2022-11-05 rewarded", "points 2022-11-08 rewarded", "points 2022-W44 rewarded", "rating 2022-11-09 open"} {
			require.Contains(t, text, want)
		}
	})
}

// TestTheClockRules: what a clock that stands still lets happen, and what it does not.
func TestTheClockRules(t *testing.T) {
	t.Parallel()
	eachBus(t, func(t *testing.T, b backend) {
		s := start(t, b.standing(eve), "chess", time.Time{})
		move := func(to time.Time) {
			t.Helper()
			reading, err := s.Move(t.Context(), to)
			require.NoError(t, err)
			require.Equal(t, to, reading.Now)
		}
		enter := func(nonce string) int {
			answer, _ := s.send(t, signing.Server, http.MethodGet, "/v1/leaderboards", nil, func(r *http.Request) {
				require.NoError(t, signing.SignHTTP(r, s.Secrets.Key(signing.Server), nil, s.Now(), nonce))
			})
			return answer.StatusCode
		}
		require.Equal(t, http.StatusOK, enter("nonce-nonce-nonce-1"))
		require.Equal(t, http.StatusUnauthorized, enter("nonce-nonce-nonce-1"))

		// A player is blocked for cheating, for as long as the catalog says.
		_, statuses := s.post(t, xpEvent("unfair", "eve", 36, eve))
		require.Equal(t, []string{"accepted"}, statuses)
		_, err := s.Move(t.Context(), eve.Add(-time.Millisecond))
		require.ErrorIs(t, err, clock.ErrBack)
		require.True(t, s.Idle(), "a move waits for what was accepted, also when it is refused")
		blocked := func() int {
			answer, _ := s.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(xpEvent("fair", "eve", 10, eve)), nil)
			return answer.StatusCode
		}
		require.Equal(t, http.StatusForbidden, blocked())

		move(eve.Add(10*time.Minute - time.Millisecond))
		require.Equal(t, http.StatusUnauthorized, enter("nonce-nonce-nonce-1"), "kept for twice the skew")
		require.Equal(t, http.StatusForbidden, blocked())
		move(eve.Add(10 * time.Minute))
		require.Equal(t, http.StatusOK, enter("nonce-nonce-nonce-1"))
		require.Equal(t, http.StatusAccepted, blocked())
		move(eve.Add(10 * time.Minute))

		response, text := s.send(t, signing.Server, http.MethodGet, "/v1/leaderboards", nil, func(r *http.Request) {
			require.NoError(t, signing.SignHTTP(r, s.Secrets.Key(signing.Server), nil, time.Now(), signing.NewNonce()))
		})
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
		require.Contains(t, string(text), fmt.Sprintf(`"server_time":%d`, s.Now().Unix()))

		// What is scheduled waits for the clock, and no move waits for it.
		require.NoError(t, s.Bus.Publish(t.Context(), "events", []bus.Message{{ID: "later", Body: []byte("{}"), ScheduledAt: eve.Add(time.Hour)}}))
		move(eve.Add(time.Hour - time.Millisecond))
		require.Zero(t, s.rejected(t, "later"))
		move(eve.Add(time.Hour))
		s.quiet(t)
		require.Equal(t, 1, s.rejected(t, "later"))
	})
}

// rejected counts what is kept of a message.
func (s *system) rejected(t *testing.T, id string) int {
	t.Helper()
	var n int
	require.NoError(t, s.db.Row(t.Context(), `SELECT COUNT(*) FROM rejected WHERE message_id = ?`, []any{id}, &n))
	return n
}

// TestRatesOnTheClock: a burst that was used up is there again when the clock says so.
func TestRatesOnTheClock(t *testing.T) {
	t.Parallel()
	s := start(t, backend{}.standing(eve), "arena", time.Time{})
	var events []string
	for i := range 21 {
		events = append(events, fmt.Sprintf(`{"event_id":"x%d","type":"xp_gained","player_id":"ada","occurred_at":%q,"data":{"amount":25,"source":"match"}}`, i, eve.Format(time.RFC3339)))
	}
	_, statuses := s.post(t, events...)
	require.Equal(t, append(repeated("accepted", 20), "throttled"), statuses)
	response, _ := s.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(events[20]), nil)
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
	_, err := s.Move(t.Context(), eve.Add(time.Second))
	require.NoError(t, err)
	_, statuses = s.post(t, events[20])
	require.Equal(t, []string{"accepted"}, statuses)
}

func repeated(text string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = text
	}
	return list
}

// TestMoveWaits: a move is not done before everything accepted is in effect, and where that does not come about, time stays.
func TestMoveWaits(t *testing.T) {
	t.Parallel()
	s := start(t, backend{}.standing(eve), "chess", time.Time{})
	s.Bus.Fail(func(op, queue string) error {
		if op == "receive" && queue == "progression" {
			return errors.New("nobody takes it")
		}
		return nil
	})
	s.Bus.Wake()
	_, statuses := s.post(t, scoreEvent("a", "ada", "points", 2, eve))
	require.Equal(t, []string{"accepted"}, statuses)
	short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	_, err := s.Move(short, eve.Add(5*time.Hour))
	require.ErrorContains(t, err, "1 messages are still under way")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, eve, s.Now())

	moved := make(chan error, 1)
	go func() {
		_, err := s.Move(t.Context(), eve.Add(5*time.Hour))
		moved <- err
	}()
	s.Bus.Fail(nil)
	require.NoError(t, <-moved)
	require.Len(t, s.entries(t, "/v1/leaderboards/points/archives/2022-11-05"), 1)
}

// TestMoveAgain: a move whose timer function failed is an error, and the same move again makes up for it.
func TestMoveAgain(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		s := start(t, b.standing(eve), "chess", time.Time{})
		rename := func(from, to string) {
			require.NoError(t, s.db.Tx(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to)
				return err
			}))
		}
		rename("archive", "archive_elsewhere")
		midnight := time.Date(2022, 11, 6, 0, 10, 0, 0, time.UTC)
		_, err := s.Move(t.Context(), midnight)
		require.ErrorContains(t, err, "archive")
		require.Equal(t, midnight, s.Now())
		rename("archive_elsewhere", "archive")
		reading, err := s.Move(t.Context(), midnight)
		require.NoError(t, err)
		require.Equal(t, time.Date(2022, 11, 7, 0, 0, 0, 0, time.UTC), reading.Next)
		require.Equal(t, "rewarded", s.page(t, "/v1/leaderboards/points/archives/2022-11-05").Window.State)

		rename("journal", "journal_elsewhere") // which every tick purges
		_, err = s.Move(t.Context(), midnight.Add(29*time.Second))
		require.NoError(t, err, "no tick is due")
		_, err = s.Move(t.Context(), midnight.Add(30*time.Second))
		require.ErrorContains(t, err, "archive")
		rename("journal_elsewhere", "journal")
		_, err = s.Move(t.Context(), midnight.Add(30*time.Second))
		require.NoError(t, err)
	})
}

// TestRedriveOnTheClock: dead letters come back when the clock passes a tick of their timer.
func TestRedriveOnTheClock(t *testing.T) {
	t.Parallel()
	s := start(t, backend{}.standing(eve), "chess", time.Time{})
	held, release := make(chan struct{}), make(chan struct{})
	var met atomic.Bool
	s.Bus.Fail(func(op, queue string) error {
		if op == "receive" && queue == "events" && met.CompareAndSwap(false, true) { // the host's: the test comes later
			close(held)
			<-release
		}
		return nil
	})
	s.Bus.Wake()
	<-held
	_, statuses := s.post(t, xpEvent("x", "ada", 10, eve))
	require.Equal(t, []string{"accepted"}, statuses)
	letters, err := s.Bus.Receive(t.Context(), "events", 1)
	require.NoError(t, err)
	require.NoError(t, s.Bus.DeadLetter(t.Context(), "events", letters[0], "test", ""))
	close(release)

	_, err = s.Move(t.Context(), eve.Add(59*time.Second))
	require.NoError(t, err)
	counts, err := s.Bus.Counts("events")
	require.NoError(t, err)
	require.Equal(t, 1, counts.Dead, "its timer ticks at every full minute")
	_, err = s.Move(t.Context(), eve.Add(time.Minute))
	require.NoError(t, err)
	s.quiet(t)
	xp, _ := s.balances(t)
	require.Equal(t, map[string]int64{"ada": 10}, xp)
}

// TestClockThatCannotBe: a clock on which a part of the system would not run, or that would go back.
func TestClockThatCannotBe(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Clock, o.RedisURL = eve, "redis://127.0.0.1:1"
	_, err := stack.Start(t.Context(), o)
	require.ErrorContains(t, err, "in-process Redis only")

	o = options(t)
	o.Clock = eve
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{eve, ""},
		{eve, ""},
		{eve.Add(-time.Second), "the database: a clock does not go back: it has seen 2022-11-05T20:00:00Z"},
		{eve.Add(time.Hour), ""},
	} {
		o.Clock = c.at
		running, err := stack.Start(t.Context(), o)
		if c.want != "" {
			require.EqualError(t, err, c.want)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.at, running.Now())
		require.NoError(t, running.Stop())
		_, err = running.Move(t.Context(), c.at.Add(time.Hour))
		require.Error(t, err, "it has ended")
	}

	s := start(t, backend{}, "chess", eve)
	_, err = s.Move(t.Context(), eve.Add(time.Hour))
	require.ErrorContains(t, err, "runs on real time")
	_, err = s.Clock(t.Context())
	require.ErrorContains(t, err, "runs on real time")
}
