package season_test

import (
	"archive/zip"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/season"
)

func utc(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	return at.UTC()
}

func calendar(t testing.TB, zone string, seasons ...catalog.Season) *season.Calendar {
	t.Helper()
	c, err := season.NewCalendar("arena", catalog.Board{Zone: zone}, seasons)
	require.NoError(t, err)
	return c
}

func TestCalendarAt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		zone, cadence, at, id, starts, ends string
	}{
		"utc day":                            {"UTC", season.Daily, "2022-11-22T12:00:00Z", "2022-11-22", "2022-11-22T00:00:00Z", "2022-11-23T00:00:00Z"},
		"utc day, first ms":                  {"UTC", season.Daily, "2022-11-22T00:00:00Z", "2022-11-22", "2022-11-22T00:00:00Z", "2022-11-23T00:00:00Z"},
		"utc day, last ms":                   {"UTC", season.Daily, "2022-11-21T23:59:59.999Z", "2022-11-21", "2022-11-21T00:00:00Z", "2022-11-22T00:00:00Z"},
		"no zone is utc":                     {"", season.Daily, "2022-11-22T12:00:00Z", "2022-11-22", "2022-11-22T00:00:00Z", "2022-11-23T00:00:00Z"},
		"leap day":                           {"UTC", season.Daily, "2024-02-29T12:00:00Z", "2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"},
		"local date behind utc":              {"America/New_York", season.Daily, "2022-11-22T04:59:59.999Z", "2022-11-21", "2022-11-21T05:00:00Z", "2022-11-22T05:00:00Z"},
		"local date ahead of utc":            {"Asia/Tokyo", season.Daily, "2022-11-21T15:00:00Z", "2022-11-22", "2022-11-21T15:00:00Z", "2022-11-22T15:00:00Z"},
		"day of 25 hours":                    {"America/New_York", season.Daily, "2022-11-06T12:00:00Z", "2022-11-06", "2022-11-06T04:00:00Z", "2022-11-07T05:00:00Z"},
		"day of 23 hours":                    {"America/New_York", season.Daily, "2022-03-13T12:00:00Z", "2022-03-13", "2022-03-13T05:00:00Z", "2022-03-14T04:00:00Z"},
		"day of 24 and a half hours":         {"Australia/Lord_Howe", season.Daily, "2022-04-02T18:00:00Z", "2022-04-03", "2022-04-02T13:00:00Z", "2022-04-03T13:30:00Z"},
		"Sao Paulo, midnight skipped":        {"America/Sao_Paulo", season.Daily, "2018-11-04T03:00:00Z", "2018-11-04", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		"Sao Paulo, day before skip":         {"America/Sao_Paulo", season.Daily, "2018-11-04T02:59:59.999Z", "2018-11-03", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"},
		"Sao Paulo, 23:00 twice":             {"America/Sao_Paulo", season.Daily, "2018-02-18T02:30:00Z", "2018-02-17", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"},
		"Cairo, midnight skipped":            {"Africa/Cairo", season.Daily, "2023-04-27T22:00:00Z", "2023-04-28", "2023-04-27T22:00:00Z", "2023-04-28T21:00:00Z"},
		"Cairo, day before skip":             {"Africa/Cairo", season.Daily, "2023-04-27T21:59:59.999Z", "2023-04-27", "2023-04-26T22:00:00Z", "2023-04-27T22:00:00Z"},
		"Cairo, 23:00 twice":                 {"Africa/Cairo", season.Daily, "2023-10-26T21:30:00Z", "2023-10-26", "2023-10-25T21:00:00Z", "2023-10-26T22:00:00Z"},
		"Beirut, midnight skipped":           {"Asia/Beirut", season.Daily, "2022-03-26T22:00:00Z", "2022-03-27", "2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z"},
		"Beirut, midnight twice":             {"Asia/Beirut", season.Daily, "2022-10-29T21:30:00Z", "2022-10-29", "2022-10-28T21:00:00Z", "2022-10-29T22:00:00Z"},
		"Havana, midnight twice":             {"America/Havana", season.Daily, "2022-11-06T04:30:00Z", "2022-11-06", "2022-11-06T04:00:00Z", "2022-11-07T05:00:00Z"},
		"Havana, second midnight":            {"America/Havana", season.Daily, "2022-11-06T05:00:00Z", "2022-11-06", "2022-11-06T04:00:00Z", "2022-11-07T05:00:00Z"},
		"Havana, midnight skipped":           {"America/Havana", season.Daily, "2022-03-13T05:00:00Z", "2022-03-13", "2022-03-13T05:00:00Z", "2022-03-14T04:00:00Z"},
		"St John's, a minute past midnight":  {"America/St_Johns", season.Daily, "2006-10-29T02:30:00Z", "2006-10-29", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z"},
		"St John's, the date before again":   {"America/St_Johns", season.Daily, "2006-10-29T02:40:00Z", "2006-10-29", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z"},
		"Apia, before the date that was not": {"Pacific/Apia", season.Daily, "2011-12-30T09:59:59.999Z", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		"Apia, behind the date that was not": {"Pacific/Apia", season.Daily, "2011-12-30T10:00:00Z", "2011-12-31", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		"last day of a leap year, far ahead": {"America/New_York", season.Daily, "2040-12-31T12:00:00Z", "2040-12-31", "2040-12-31T05:00:00Z", "2041-01-01T05:00:00Z"},
		"week":                               {"UTC", season.Weekly, "2022-11-22T12:00:00Z", "2022-W47", "2022-11-21T00:00:00Z", "2022-11-28T00:00:00Z"},
		"week on its Sunday":                 {"UTC", season.Weekly, "2022-11-27T23:59:59.999Z", "2022-W47", "2022-11-21T00:00:00Z", "2022-11-28T00:00:00Z"},
		"week on its Monday":                 {"UTC", season.Weekly, "2022-11-28T00:00:00Z", "2022-W48", "2022-11-28T00:00:00Z", "2022-12-05T00:00:00Z"},
		"week 53":                            {"UTC", season.Weekly, "2021-01-03T12:00:00Z", "2020-W53", "2020-12-28T00:00:00Z", "2021-01-04T00:00:00Z"},
		"week 1 behind week 53":              {"UTC", season.Weekly, "2021-01-04T00:00:00Z", "2021-W01", "2021-01-04T00:00:00Z", "2021-01-11T00:00:00Z"},
		"week 1 in the old year":             {"UTC", season.Weekly, "2024-12-30T00:00:00Z", "2025-W01", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z"},
		"week 52 in the new year":            {"UTC", season.Weekly, "2022-01-01T12:00:00Z", "2021-W52", "2021-12-27T00:00:00Z", "2022-01-03T00:00:00Z"},
		"week of 169 hours":                  {"America/New_York", season.Weekly, "2022-11-03T12:00:00Z", "2022-W44", "2022-10-31T04:00:00Z", "2022-11-07T05:00:00Z"},
		"week across the date that was not":  {"Pacific/Apia", season.Weekly, "2011-12-30T12:00:00Z", "2011-W52", "2011-12-26T10:00:00Z", "2012-01-01T10:00:00Z"},
		"week with a skipped midnight":       {"Asia/Amman", season.Weekly, "2022-02-27T12:00:00Z", "2022-W08", "2022-02-20T22:00:00Z", "2022-02-27T21:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ok := calendar(t, test.zone).At(test.cadence, utc(t, test.at))
			require.True(t, ok)
			require.Equal(t, season.Window{
				Board: "arena", ID: test.id, Cadence: test.cadence, Starts: utc(t, test.starts), Ends: utc(t, test.ends), State: season.Open,
			}, w)
		})
	}
}

func TestCalendarAllTime(t *testing.T) {
	t.Parallel()
	w, ok := calendar(t, "Asia/Tokyo").At(season.AllTime, utc(t, "2022-11-22T12:00:00Z"))
	require.True(t, ok)
	require.Equal(t, season.Window{Board: "arena", ID: "all_time", Cadence: "all_time", Starts: utc(t, "1970-01-01T00:00:00Z"), State: season.Open}, w)
	require.True(t, w.Contains(utc(t, "9999-12-31T23:59:59.999Z")))
	_, bounded := w.Left(utc(t, "2022-11-22T12:00:00Z"))
	require.False(t, bounded)
}

func TestCalendarNovemberInNewYork(t *testing.T) {
	t.Parallel()
	c := calendar(t, "America/New_York")
	at := utc(t, "2022-11-01T04:00:00Z")
	var ids []string
	var hours int
	for at.Before(utc(t, "2022-12-01T05:00:00Z")) {
		w, ok := c.At(season.Daily, at)
		require.True(t, ok)
		require.Equal(t, at, w.Starts)
		length := w.Ends.Sub(w.Starts)
		if w.ID == "2022-11-06" {
			require.Equal(t, 25*time.Hour, length)
		} else {
			require.Equal(t, 24*time.Hour, length, w.ID)
		}
		hours += int(length.Hours())
		ids = append(ids, w.ID)
		at = w.Ends
	}
	require.Equal(t, utc(t, "2022-12-01T05:00:00Z"), at)
	require.Len(t, ids, 30)
	require.Equal(t, "2022-11-01", ids[0])
	require.Equal(t, "2022-11-30", ids[29])
	require.Equal(t, 721, hours)
}

func TestCalendarSeasons(t *testing.T) {
	t.Parallel()
	c := calendar(t, "America/New_York",
		catalog.Season{ID: "s02", Starts: "2022-12-01", Ends: "2023-03-12T02:30"}, // 02:30 does not exist on that day
		catalog.Season{ID: "s01", Starts: "2022-11-01", Ends: "2022-11-06T01:30"}, // 01:30 exists twice
	)
	s01 := season.Window{Board: "arena", ID: "s01", Cadence: season.Season, Starts: utc(t, "2022-11-01T04:00:00Z"), Ends: utc(t, "2022-11-06T05:30:00Z"), State: season.Open}
	s02 := season.Window{Board: "arena", ID: "s02", Cadence: season.Season, Starts: utc(t, "2022-12-01T05:00:00Z"), Ends: utc(t, "2023-03-12T07:00:00Z"), State: season.Open}
	require.Equal(t, []season.Window{s01, s02}, c.Seasons())

	for at, want := range map[string]string{
		"2022-11-01T03:59:59.999Z": "", "2022-11-01T04:00:00Z": "s01", "2022-11-06T05:29:59.999Z": "s01", "2022-11-06T05:30:00Z": "",
		"2022-12-01T05:00:00Z": "s02", "2023-03-12T06:59:59.999Z": "s02", "2023-03-12T07:00:00Z": "",
	} {
		w, ok := c.At(season.Season, utc(t, at))
		require.Equal(t, want != "", ok, at)
		require.Equal(t, want, w.ID, at)
	}
}

func TestCalendarRefuses(t *testing.T) {
	t.Parallel()
	_, err := season.NewCalendar("arena", catalog.Board{Zone: "Mars/Olympus"}, nil)
	require.ErrorContains(t, err, "board arena")
	_, err = season.NewCalendar("arena", catalog.Board{}, []catalog.Season{{ID: "s01", Starts: "soon", Ends: "2022-01-01"}})
	require.ErrorContains(t, err, "season s01: starts")
	_, err = season.NewCalendar("arena", catalog.Board{}, []catalog.Season{{ID: "s01", Starts: "2022-01-01", Ends: "2022-13-01"}})
	require.ErrorContains(t, err, "season s01: ends")
	_, ok := calendar(t, "UTC").At("hourly", utc(t, "2022-11-22T12:00:00Z"))
	require.False(t, ok)
}

// zones are ordinary ones and the odd: midnight skipped or doubled, half hours, date line crossed, backward summers.
func zones() []string {
	return strings.Fields(`UTC America/New_York America/Sao_Paulo America/Havana America/St_Johns America/Santiago America/Asuncion
		America/Scoresbysund America/Nuuk Atlantic/Azores Europe/London Europe/Berlin Europe/Dublin Europe/Istanbul Europe/Moscow
		Africa/Cairo Africa/Casablanca Africa/Monrovia Asia/Amman Asia/Beirut Asia/Damascus Asia/Gaza Asia/Kathmandu Asia/Kolkata
		Asia/Pyongyang Asia/Tehran Asia/Tokyo Australia/Lord_Howe Antarctica/Troll Pacific/Apia Pacific/Auckland Pacific/Chatham
		Pacific/Enderbury Pacific/Fiji Pacific/Kiritimati Pacific/Kwajalein Pacific/Marquesas Pacific/Tongatapu`)
}

func TestWindowsTileTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(zones()).Draw(t, "zone")
		location, err := time.LoadLocation(zone)
		require.NoError(t, err)
		c, err := season.NewCalendar("arena", catalog.Board{Zone: zone}, nil)
		require.NoError(t, err)
		cadence := rapid.SampledFrom([]string{season.Daily, season.Weekly}).Draw(t, "cadence")
		year := rapid.IntRange(1970, 2100).Draw(t, "year")
		longest := 26 * time.Hour
		if cadence == season.Weekly {
			longest = 8 * 24 * time.Hour
		}

		w, ok := c.At(cadence, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		require.True(t, ok)
		for w.Starts.Year() <= year {
			require.True(t, w.Starts.Before(w.Ends), w)
			require.LessOrEqual(t, w.Ends.Sub(w.Starts), longest, w)
			inside := w.Starts.Add(time.Duration(rapid.Int64Range(0, w.Ends.Sub(w.Starts).Milliseconds()-1).Draw(t, "inside")) * time.Millisecond)
			for _, at := range []time.Time{w.Starts, inside, w.Ends.Add(-time.Millisecond)} {
				again, ok := c.At(cadence, at)
				require.True(t, ok)
				require.Equal(t, w, again, "%s", at)
			}
			if cadence == season.Daily {
				// By the clocks on the wall it is that day, or they were set back across midnight and show the one before again.
				require.Equal(t, w.ID, w.Starts.In(location).Format(time.DateOnly))
				require.LessOrEqual(t, inside.In(location).Format(time.DateOnly), w.ID)
				require.Less(t, w.Starts.Add(-time.Millisecond).In(location).Format(time.DateOnly), w.ID)
			} else {
				require.Equal(t, time.Monday, w.Starts.In(location).Weekday(), w)
			}
			next, ok := c.At(cadence, w.Ends)
			require.True(t, ok)
			require.Equal(t, w.Ends, next.Starts)
			require.Less(t, w.ID, next.ID)
			w = next
		}
	})
}

// everyZone lists the zones of the IANA database that Go comes with, which is the one in time/tzdata. Of those that are one under
// several names, links and backward ones, the first stands for all: their rules are the same bytes.
func everyZone(t *testing.T) []string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	require.NoError(t, err)
	defer archive.Close()
	var zones []string
	rules := map[[2]uint64]bool{}
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if same := [2]uint64{uint64(f.CRC32), f.UncompressedSize64}; !rules[same] {
			rules[same] = true
			zones = append(zones, f.Name)
		}
	}
	require.Greater(t, len(archive.File), 500)
	require.Greater(t, len(zones), 300)
	return zones
}

// TestWindowsTileTimeEverywhere walks through ten years of days and weeks of every zone there is.
func TestWindowsTileTimeEverywhere(t *testing.T) {
	t.Parallel()
	zones := everyZone(t)
	for part := range 4 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			for i := part; i < len(zones); i += 4 {
				c := calendar(t, zones[i])
				for _, cadence := range []string{season.Daily, season.Weekly} {
					tiles(t, c, cadence, zones[i])
				}
			}
		})
	}
}

func tiles(t *testing.T, c *season.Calendar, cadence, zone string) {
	t.Helper()
	at, end := utc(t, "2020-01-01T00:00:00Z"), utc(t, "2030-01-01T00:00:00Z")
	w, ok := c.At(cadence, at)
	n := 0
	for ; ok && w.Starts.Before(end); n++ {
		if !w.Starts.Before(w.Ends) || w.Ends.Sub(w.Starts) > 8*24*time.Hour {
			require.Fail(t, "a window is empty or too long", "%s: %v", zone, w)
		}
		if last, _ := c.At(cadence, w.Ends.Add(-time.Millisecond)); last != w {
			require.Fail(t, "the last millisecond is another's", "%s: %v, %v", zone, w, last)
		}
		next, found := c.At(cadence, w.Ends)
		if !found || !next.Starts.Equal(w.Ends) || next.ID <= w.ID {
			require.Fail(t, "the next window does not begin where this one ends", "%s: %v, %v", zone, w, next)
		}
		w, ok = next, found
	}
	days := end.Sub(at).Hours() / 24
	if cadence == season.Weekly {
		days /= 7
	}
	require.InDelta(t, days, n, 2, zone)
}
