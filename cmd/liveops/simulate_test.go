package main

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/journal"
	"liveops/core/store"
	"liveops/core/store/storetest"
	"liveops/local/cheat"
	"liveops/local/replay"
	"liveops/local/simulate"
)

// cheated is a sample with cheats in it, and the file that says who they are.
func cheated(t *testing.T) (events, labels string) {
	t.Helper()
	labels = filepath.Join(t.TempDir(), "labels.csv")
	o := command(t, "", "sample", "--players", "60", "--events", "4000", "--until", "2026-11-22T18:00:00Z", "--cheats", "0.1", "--labels", labels)
	requireDone(t, o)
	return o.out, labels
}

// stricter is the arena with longer intervals.
func stricter(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(arena)
	require.NoError(t, err)
	return write(t, strings.Replace(string(text), "every: 45s", "every: 10m", 1))
}

func TestSampleWithCheats(t *testing.T) {
	t.Parallel()
	text, path := cheated(t)
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	labels, err := cheat.ReadLabels(file)
	require.NoError(t, err)
	require.Len(t, labels, 6)
	events, err := replay.Read(strings.NewReader(text))
	require.NoError(t, err)
	game, err := arenaCatalog()
	require.NoError(t, err)
	plays := map[string]bool{}
	for _, e := range events {
		require.NoError(t, game.Check(e), "the gate lets it through")
		plays[e.PlayerID] = true
	}
	for player := range labels {
		require.True(t, plays[player])
	}
	again, _ := cheated(t)
	require.Equal(t, text, again)
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	events, labels := cheated(t)
	policy, drawn := stricter(t), filepath.Join(t.TempDir(), "limits.svg")
	o := command(t, events, "simulate", "--policy", policy, "--events", "-", "--labels", labels, "--plot", drawn, "--examples", "2")
	requireDone(t, o)
	for _, want := range []string{
		"candidate  arena 1, " + policy, "current    arena 1, examples/arena/catalog.yaml\n", "refused while blocked",
		"labels: 1 dirty, 1 impossible, 1 injection, 1 macro, 1 ramp, 1 speed\n", "\nany ", "example  of ",
	} {
		require.Contains(t, o.out, want)
	}
	require.Regexp(t, `(?m)^minimum-interval  enforce  -\s.* \d+ → \d+ `, o.out)
	require.Regexp(t, `(?m)^new      minimum-interval .* throttle, enforce +interval_ms +\d+ +600000 `, o.out)
	picture, err := os.Open(drawn)
	require.NoError(t, err)
	defer picture.Close()
	for d := xml.NewDecoder(picture); err == nil; {
		_, err = d.Token()
	}
	require.ErrorIs(t, err, io.EOF)

	same := command(t, events, "simulate", "--policy", arena, "--current", arena, "--events", "-", "--labels", labels)
	requireDone(t, same)
	require.NotContains(t, same.out, "→", "a policy is like itself")

	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, err = zip.Write([]byte(events))
	require.NoError(t, errors.Join(err, zip.Close()))
	file := write(t, packed.String())
	report := simulated(t, "--policy", policy, "--events", file)
	require.Equal(t, strings.Count(events, "\n"), report.Events)
	require.Nil(t, report.Cheats)
	require.Empty(t, report.Curves)
	require.Greater(t, report.Candidate.Throttled.Players, report.Current.Throttled.Players)
	require.Equal(t, policy, report.Candidate.Policy)
	require.Len(t, report.Rules, 6)
}

func simulated(t *testing.T, args ...string) simulate.Report {
	t.Helper()
	o := command(t, "", append([]string{"simulate", "--format", "json"}, args...)...)
	requireDone(t, o)
	var report simulate.Report
	require.NoError(t, json.Unmarshal([]byte(o.out), &report, json.RejectUnknownMembers(true)))
	return report
}

func TestSimulateFromTheDatabase(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		text, _ := cheated(t)
		events, err := replay.Read(strings.NewReader(text))
		require.NoError(t, err)
		db, err := store.Open(url)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		_, err = db.Migrate(t.Context())
		require.NoError(t, err)
		recorded := make([]event.Accepted, len(events))
		for i, e := range events {
			recorded[i] = simulate.Accept(e)
		}
		require.NoError(t, (&journal.Journal{DB: db}).Record(t.Context(), recorded))

		policy, saved := stricter(t), filepath.Join(t.TempDir(), "events.ndjson")
		first, last := recorded[0].ReceivedAt, recorded[len(recorded)-1].ReceivedAt
		all := simulated(t, "--policy", policy, "--db", url, "--from", first.Format(time.RFC3339Nano), "--to", last.Add(time.Hour).Format(time.RFC3339Nano), "--save", saved)
		require.Equal(t, len(events), all.Events)
		require.NotZero(t, all.Candidate.Throttled.Events)
		require.Equal(t, all, simulated(t, "--policy", policy, "--events", saved))

		part := simulated(t, "--policy", policy, "--db", url, "--from", first.Add(time.Millisecond).Format(time.RFC3339Nano), "--to", last.Format(time.RFC3339Nano))
		require.Less(t, part.Events, all.Events)
		require.Greater(t, part.Events, all.Events-10)
	})
}
