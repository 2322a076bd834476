package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// conduct is what a player does: he sends an event, makes a mistake, and reads what became of the event. @ stands for him, # for the
// event's id.
type conduct struct {
	event   string // type and data
	mistake func(c *client, player string)
	reads   []string
}

// conducts hold every event type of the arena.
var conducts = []conduct{
	{
		event: `"xp_gained","data":{"amount":20,"source":"match"}`,
		mistake: func(c *client, player string) {
			c.told(http.StatusUnauthorized, signing.Server, "/v1/events", arenaEvent("forged", player, `"login_bonus","data":{}`), func(r *http.Request) {
				r.Header.Set(signing.HeaderNonce, signing.NewNonce()) // the signature is of another
			})
		},
		reads: []string{"/v1/players/@", "/v1/receipts/@/#"},
	},
	{
		event: `"score_submitted","data":{"board":"arena-score","score":%d}`,
		mistake: func(c *client, player string) { // the fairness rules drop it, and block him
			c.told(http.StatusAccepted, signing.Server, "/v1/events", arenaEvent("unfair", player, `"score_submitted","data":{"board":"arena-score","score":90000}`), nil)
		},
		reads: []string{
			"/v1/leaderboards/arena-score/players/@", "/v1/leaderboards/arena-score/players/@/around", "/v1/leaderboards/arena-score?viewer=@",
			"/v1/leaderboards/arena-score/players?id=@,nobody",
		},
	},
	{
		event: `"boss_killed","data":{"boss":"gate-warden"}`,
		mistake: func(c *client, player string) {
			c.told(http.StatusUnprocessableEntity, signing.Server, "/v1/events", arenaEvent("wrong", player, `"boss_killed","data":{"boss":"`+player+`"}`), nil)
			c.told(http.StatusUnprocessableEntity, signing.Server, "/v1/events", arenaEvent("wrong", player, `"score_submitted","data":{"board":"`+player+`","score":1}`), nil)
		},
		reads: []string{"/v1/players/@/ledger", "/v1/leaderboards/arena-score/players/@"},
	},
	{
		event: `"item_acquired","data":{"item":"gold","quantity":5}`,
		mistake: func(c *client, player string) {
			c.told(http.StatusUnprocessableEntity, signing.Client, "/v1/events", arenaEvent("wrong", player, `"item_acquired","data":{"item":"gold","`+player+`":"x"}`), nil)
			c.told(http.StatusUnprocessableEntity, signing.Client, "/v1/events", arenaEvent("wrong", player, `"`+player+`","data":{}`), nil)
		},
		reads: []string{"/v1/players/@/inventory", "/v1/leaderboards/@"},
	},
	{
		event: `"match_finished","data":{"map":"harbor","seconds":120,"won":true}`,
		mistake: func(c *client, player string) {
			for _, queue := range []string{"events", "progression"} {
				require.NoError(c.t, c.app.bus.Publish(c.t.Context(), queue, []bus.Message{{ID: player, Body: []byte(player)}}))
			}
		},
		reads: []string{"/v1/players/@/events/#", "/v1/players/@/events/nothing"},
	},
	{
		event: `"tutorial_completed","data":{"chapter":1}`,
		mistake: func(c *client, player string) {
			c.told(http.StatusUnauthorized, signing.Server, "/v1/events", arenaEvent("stranger", player, `"login_bonus","data":{}`), func(r *http.Request) {
				r.Header.Set(signing.HeaderKey, player)
			})
		},
		reads: []string{"/v1/leaderboards/trophies/rank?score=7&viewer=@", "/v1/leaderboards/arena-score?cursor=@"},
	},
	{
		event: `"login_bonus","data":{}`,
		mistake: func(c *client, player string) {
			c.told(http.StatusNotFound, "", "/"+player, "", nil)
			c.told(http.StatusMethodNotAllowed, "", "/v1/players/"+player, "", func(r *http.Request) { r.Method = strings.ToUpper(player) })
			c.told(http.StatusBadRequest, signing.Server, "/v1/events", `{"`+player, nil)
		},
		reads: []string{"/v1/players/@/mailbox", "/v1/receipts/@/nothing"},
	},
	{
		event: `"raid_won","data":{"raid":"@"}`,
		mistake: func(c *client, player string) {
			c.told(http.StatusForbidden, signing.Session, "/v1/events", arenaEvent("other", player, `"login_bonus","data":{}`), nil) // of ada's
		},
		reads: []string{"/v1/players/@/export", "/v1/players/@/erasure"},
	},
}

func arenaEvent(id, player, event string) string {
	return fmt.Sprintf(`{"event_id":"%s-%s","player_id":%q,"occurred_at":%q,"type":%s}`, id, player, player, noon.Format("2006-01-02T15:04:05Z"), event)
}

// told sends what must be answered with a status. change makes the mistakes that no signature covers.
func (c *client) told(status int, class signing.Class, target, body string, change func(*http.Request)) {
	c.t.Helper()
	r := request(c.t, class, http.MethodPost, target, []byte(body))
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	require.Equal(c.t, status, w.Code, "%s: %s", body, w.Body)
}

// live has the players of some numbers, who behave alike, do what they do.
func (c *client) live(which, from, to int) {
	c.t.Helper()
	how := conducts[which]
	var events []string
	for i := from; i < to; i++ {
		player := fmt.Sprintf("player-%d", i)
		event := strings.ReplaceAll(how.event, "@", player)
		if strings.Contains(event, "%d") {
			event = fmt.Sprintf(event, 1000+i%20_000)
		}
		events = append(events, arenaEvent("event", player, event))
	}
	c.told(http.StatusAccepted, signing.Server, "/v1/events/batch", `{"events":[`+strings.Join(events, ",")+`]}`, nil)
	c.drain()
	player := fmt.Sprintf("player-%d", from)
	for _, read := range how.reads {
		path := strings.NewReplacer("@", player, "#", "event-"+player).Replace(read)
		c.handler.ServeHTTP(httptest.NewRecorder(), request(c.t, signing.Server, http.MethodGet, path, nil))
	}
	how.mistake(c, player)
	c.drain()
}

// drain brings everything that waits in the queues to its end.
func (c *client) drain() {
	c.t.Helper()
	for _, stage := range [][2]string{{"events", "fairness"}, {"progression", "progression"}} {
		for {
			backlog, err := c.app.bus.Backlog(c.t.Context(), stage[0])
			require.NoError(c.t, err)
			if backlog.Messages == 0 {
				break
			}
			batch, err := c.app.bus.Receive(c.t.Context(), stage[0], 256)
			require.NoError(c.t, err)
			bodies := make([][]byte, len(batch))
			for i, d := range batch {
				bodies[i] = d.Body
			}
			require.Equal(c.t, http.StatusOK, c.invoke(stage[1], bodies...))
			for _, d := range batch {
				require.NoError(c.t, c.app.bus.Complete(c.t.Context(), stage[0], d))
			}
		}
	}
}

// tick runs the timer functions.
func (c *client) tick() {
	c.t.Helper()
	for _, function := range []string{"archive", "redrive"} {
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, request(c.t, "", http.MethodPost, "/"+function, []byte("{}")))
		require.Equal(c.t, http.StatusOK, w.Code, function)
	}
}

// series lists the names and labels of everything that is exposed, in order.
func (c *client) series() []string {
	c.t.Helper()
	families, err := c.app.gathered.Gather()
	require.NoError(c.t, err)
	var all []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += fmt.Sprintf(" %s=%q", l.GetName(), l.GetValue())
			}
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// The series are the same after many players as after ten, whatever these send and ask for. CARDINALITY_PLAYERS says how many are many.
func TestCardinality(t *testing.T) {
	t.Parallel()
	const few, together = 10, 200
	many := 5_000
	if text := os.Getenv("CARDINALITY_PLAYERS"); text != "" {
		var err error
		many, err = strconv.Atoi(text)
		require.NoError(t, err)
		require.Greater(t, many, few)
	}
	e := newEnvironment(t)
	e.settings["CATALOG_FILE"] = "../../examples/arena/catalog.yaml"
	if db, rdb := storetest.BestURLs(t); db != "" {
		e.settings["DB_URL"], e.settings["REDIS_URL"], e.settings["REDIS_ONE_NODE"] = db, rdb, "true"
		opened, err := store.Open(db)
		require.NoError(t, err)
		_, err = opened.Migrate(t.Context())
		require.NoError(t, err)
		require.NoError(t, opened.Close())
	}
	c := e.running(t)
	for i := range few {
		c.live(i%len(conducts), i, i+1)
	}
	c.tick()
	after := c.series()

	for i, from := 0, few; from < many; i, from = i+1, from+together {
		c.live(i%len(conducts), from, min(from+together, many))
	}
	c.tick()
	require.Equal(t, after, c.series())
	require.InDelta(t, many, testutil.ToFloat64(c.app.progression.Metrics.ProgressionEvents.WithLabelValues("applied")), 0, "of each player one")
}
