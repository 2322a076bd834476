package catalog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
)

func local(t testing.TB, zone, text string) time.Time {
	t.Helper()
	in, err := time.LoadLocation(zone)
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	return at.In(in)
}

func TestPeriod(t *testing.T) {
	t.Parallel()
	c, err := catalog.Parse([]byte(smallest + `seasons:
  - {id: s01, starts: 2026-01-01, ends: 2026-04-01}
  - {id: s02, starts: 2026-05-01T12:00, ends: 2026-07-01}
`))
	require.NoError(t, err)
	for _, test := range []struct{ zone, at, day, week, season string }{
		{"UTC", "2025-12-31T23:59:59.999Z", "2025-12-31", "2026-W01", ""}, // before the first season, in the ISO year after
		{"UTC", "2026-01-01T00:00:00Z", "2026-01-01", "2026-W01", "s01"},
		{"UTC", "2026-04-15T00:00:00Z", "2026-04-15", "2026-W16", "s01"}, // between two: the former one lasts
		{"UTC", "2026-05-01T11:59:59.999Z", "2026-05-01", "2026-W18", "s01"},
		{"UTC", "2026-05-01T12:00:00Z", "2026-05-01", "2026-W18", "s02"},
		{"UTC", "2027-01-03T23:59:59Z", "2027-01-03", "2026-W53", "s02"}, // a year of 53 weeks, after the last season
		{"UTC", "2027-01-04T00:00:00Z", "2027-01-04", "2027-W01", "s02"},
		{"Europe/Berlin", "2025-12-31T22:59:59Z", "2025-12-31", "2026-W01", ""},
		{"Europe/Berlin", "2025-12-31T23:00:00Z", "2026-01-01", "2026-W01", "s01"},
		{"Europe/Berlin", "2026-05-01T10:00:00Z", "2026-05-01", "2026-W18", "s02"}, // noon of clocks in summer
		{"Europe/Berlin", "2026-05-01T09:59:59Z", "2026-05-01", "2026-W18", "s01"},
		{"Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29", "2026-W13", "s01"}, // a day of 23 hours
		{"Europe/Berlin", "2026-03-29T21:59:59Z", "2026-03-29", "2026-W13", "s01"},
		{"Europe/Berlin", "2026-03-29T22:00:00Z", "2026-03-30", "2026-W14", "s01"},
		{"Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25", "2026-W43", "s02"}, // and one of 25
		{"Europe/Berlin", "2026-10-25T22:59:59Z", "2026-10-25", "2026-W43", "s02"},
		{"Pacific/Kiritimati", "2026-01-01T10:00:00Z", "2026-01-02", "2026-W01", "s01"},
		{"America/New_York", "2026-01-01T04:59:59Z", "2025-12-31", "2026-W01", ""},
	} {
		at := local(t, test.zone, test.at)
		for of, want := range map[string]string{"day": test.day, "week": test.week, "season": test.season, "ever": "ever"} {
			require.Equal(t, want, c.Period(of, at), "%s of %s in %s", of, test.at, test.zone)
		}
	}
}

func TestLocation(t *testing.T) {
	t.Parallel()
	c := parsed(t)
	require.Equal(t, "Europe/Berlin", c.Location().String())
	c.Zone = "Mars/Olympus"
	require.Equal(t, time.UTC, c.Location())
}

func TestModified(t *testing.T) {
	t.Parallel()
	c, err := catalog.Parse([]byte(smallest + `events: {quest: {xp: 10}}
modifiers:
  all-half: {starts: 2026-10-24, ends: 2026-10-27, percent: 50}
  double: {starts: 2026-10-25T02:30, ends: 2026-10-26, percent: 200, types: [xp_gained]}
  none: {starts: 2026-11-01, ends: 2026-11-02, percent: 0}
  one-again: {starts: 2026-10-25, ends: 2026-10-26, percent: 200}
`))
	require.NoError(t, err)
	for _, test := range []struct {
		zone, at, eventType string
		xp, want            int64
		by                  string
	}{
		{"UTC", "2026-10-23T23:59:59.999Z", "quest", 11, 11, ""},
		{"UTC", "2026-10-24T00:00:00Z", "quest", 11, 5, "all-half"}, // rounded down
		{"UTC", "2026-10-25T02:29:59.999Z", "xp_gained", 11, 22, "one-again"},
		{"UTC", "2026-10-25T02:30:00Z", "xp_gained", 11, 22, "double"}, // of two alike, the first by name
		{"UTC", "2026-10-25T02:30:00Z", "quest", 11, 22, "one-again"},  // of several, the greatest
		{"UTC", "2026-10-25T23:59:59.999Z", "xp_gained", 1, 2, "double"},
		{"UTC", "2026-10-26T00:00:00Z", "xp_gained", 1, 0, "all-half"},
		{"UTC", "2026-10-27T00:00:00Z", "xp_gained", 1, 1, ""},
		{"UTC", "2026-11-01T12:00:00Z", "xp_gained", event.MaxInteger, 0, "none"},
		{"Europe/Berlin", "2026-10-24T22:00:00Z", "quest", 11, 22, "one-again"},
		{"Europe/Berlin", "2026-10-25T00:29:59Z", "xp_gained", 11, 22, "one-again"},
		{"Europe/Berlin", "2026-10-25T00:30:00Z", "xp_gained", 11, 22, "double"},
		{"Europe/Berlin", "2026-10-25T01:15:00Z", "xp_gained", 11, 22, "one-again"}, // clocks show 02:15 once more
		{"Europe/Berlin", "2026-10-25T22:59:59Z", "xp_gained", 11, 22, "double"},
		{"Europe/Berlin", "2026-10-25T23:00:00Z", "xp_gained", 11, 5, "all-half"},
	} {
		xp, by := c.Modified(test.eventType, local(t, test.zone, test.at), test.xp)
		require.Equal(t, test.want, xp, "%+v", test)
		require.Equal(t, test.by, by, "%+v", test)
	}
}

func TestModifiedStaysWithinBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		percents := rapid.SliceOfN(rapid.Int64Range(0, 1000), 1, 5).Draw(t, "percents")
		greatest, running := int64(0), false
		day := rapid.IntRange(1, 9).Draw(t, "day")
		for i, percent := range percents {
			starts := rapid.IntRange(1, 8).Draw(t, "starts")
			ends := rapid.IntRange(starts+1, 9).Draw(t, "ends")
			fmt.Fprintf(&text, "  m%d: {starts: 2026-11-0%d, ends: 2026-11-0%d, percent: %d}\n", i, starts, ends, percent)
			if starts <= day && day < ends {
				greatest, running = max(greatest, percent), true
			}
		}
		c, err := catalog.Parse([]byte(smallest + "modifiers:\n" + text.String()))
		require.NoError(t, err)
		xp := rapid.Int64Range(0, event.MaxInteger).Draw(t, "xp")
		got, by := c.Modified("xp_gained", time.Date(2026, 11, day, 12, 0, 0, 0, c.Location()), xp)
		require.GreaterOrEqual(t, got, int64(0))
		require.LessOrEqual(t, got, 10*int64(event.MaxInteger))
		require.Equal(t, running, by != "")
		if !running {
			greatest = 100
		}
		require.Equal(t, xp*greatest/100, got)
	})
}

// What the ledger and the tallies are told by must fit their columns, of 96 characters.
func TestNamesFitTheLedger(t *testing.T) {
	t.Parallel()
	item := strings.Repeat("i", event.MaxID)
	c, err := catalog.Parse([]byte("version: 1\nname: n\nxp: {generate: {levels: 10000, first: 1, percent: 100}}\nitems: {" + item + ": {}}\n"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(fmt.Sprintf("level:%d:item:%s:convert", len(c.XP.Table), item)), 96)
	_, err = catalog.Parse([]byte(smallest + "items: {" + item + "i: {}}\n"))
	require.Error(t, err)
}
