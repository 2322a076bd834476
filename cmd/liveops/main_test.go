package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/event"
	"liveops/local/replay"
)

// outcome is what a command came to.
type outcome struct {
	code      int
	out, errs string
}

func command(t *testing.T, in string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(in), &out, &errs)
	return outcome{code, out.String(), errs.String()}
}

// requireError holds the outcome to an exit code and to one line on stderr that says everything of want.
func (o outcome) requireError(t *testing.T, code int, want ...string) {
	t.Helper()
	require.Equal(t, code, o.code, "%s", o.errs)
	require.True(t, strings.HasPrefix(o.errs, "liveops: "), "%q", o.errs)
	require.Equal(t, 1, strings.Count(o.errs, "\n"), "%q", o.errs)
	for _, w := range want {
		require.Contains(t, o.errs, w)
	}
}

func requireDone(t *testing.T, o outcome) {
	t.Helper()
	require.Zero(t, o.code, "%s", o.errs)
	require.Empty(t, o.errs)
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// nobody is an address where nothing listens.
const nobody = "http://127.0.0.1:1"

func TestErrors(t *testing.T) {
	t.Parallel()
	secret := write(t, strings.Repeat("s", 32)+"\n")
	good := `{"event_id":"a","type":"xp_gained","player_id":"p","occurred_at":"2026-11-22T12:00:00Z","data":{"amount":1}}`
	dir := t.TempDir()
	for _, c := range []struct {
		args string
		in   string
		code int
		want string
	}{
		{"", "", exitUsage, "(see liveops --help)"},
		{"nothing", "", exitUsage, "unexpected argument nothing"},
		{"--loud", "", exitUsage, "unknown flag --loud"},
		{"version now", "", exitUsage, "unexpected argument now"},

		{"sample --events 0", "", exitUsage, "--players and --events must be at least 1 (see liveops sample --help)"},
		{"sample --players=-1", "", exitUsage, "at least 1"},
		{"sample --until yesterday", "", exitUsage, "--until"},
		{"sample --cheats 1.5", "", exitUsage, "--cheats must be 0 to 1"},
		{"sample --labels x", "", exitUsage, "--labels goes with --cheats"},
		{"sample --events 1 --cheats 1", "", exitFailed, "nobody plays enough"},
		{"sample --cheats .1 --labels " + dir + "/none/x", "", exitFailed, "no such file"},

		{"replay", "", exitUsage, "missing flags: --secret-file"},
		{"replay - --secret-file " + dir + "/none", "", exitUsage, "no such file"},
		{"replay " + dir + "/none --secret-file " + secret, "", exitUsage, "no such file"},
		{"replay " + dir + " --secret-file " + secret, "", exitUsage, "is a directory"},
		{"replay - --batch 0 --secret-file " + secret, "", exitUsage, "--batch must be 1 to 200"},
		{"replay - --batch 201 --secret-file " + secret, "", exitUsage, "--batch must be 1 to 200"},
		{"replay - --concurrency 0 --secret-file " + secret, "", exitUsage, "--concurrency at least 1"},
		{"replay - --url 127.0.0.1:8080 --secret-file " + secret, "", exitUsage, "--url must look like http://host:port"},
		{"replay - --until 2022-12-01T00:00:00Z --secret-file " + secret, "", exitUsage, "--until goes with --follow-clock"},
		{"replay - --follow-clock " + nobody + " --until tomorrow --secret-file " + secret, "", exitUsage, "--until"},
		{"replay - --follow-clock " + nobody + " --restamp --secret-file " + secret, "", exitUsage, "--restamp dates events by real time"},
		{"replay - --follow-clock 127.0.0.1:8081 --secret-file " + secret, "", exitUsage, "--follow-clock must look like http://host:port"},
		{"replay - --follow-clock " + nobody + "/clock --secret-file " + secret, "", exitUsage, "--follow-clock must look like http://host:port"},
		{"replay - --secret-file " + secret, good + "\nnonsense\n", exitFailed, "-: line 2: malformed-json"},
		{"replay - --secret-file " + write(t, "short"), good, exitFailed, "at least 32 are needed"},
		{"replay - --key-id a/b --secret-file " + secret, good, exitFailed, "the id must be 1 to 64"},

		{"sign -", "", exitUsage, "missing flags: --secret-file"},
		{"sign - --url ftp://host --secret-file " + secret, good, exitUsage, "--url must look like"},
		{"sign - --secret-file " + secret, "{}", exitFailed, "event-invalid"},
		{"sign - --secret-file " + write(t, ""), good, exitFailed, "at least 32 are needed"},

		{"top", "", exitUsage, `expected "<board>" (see liveops top --help)`},
		{"top points --limit 0", "", exitUsage, "--limit must be 1 to 1000"},
		{"top points --limit 1001", "", exitUsage, "--limit must be 1 to 1000"},
		{"top points --limit ten", "", exitUsage, "--limit"},
		{"top points --url http://host/v1", "", exitUsage, "--url must look like"},
		{"top points --url " + nobody, "", exitFailed, "connection refused"},

		{"verify receipt -", "x", exitUsage, "missing flags: --keys=FILE or --secret-file=FILE"},
		{"verify receipt - --url http:// --secret-file " + secret, "x", exitUsage, "--url must look like"},
		{"verify receipt - --url " + nobody + " --secret-file " + secret, "x", exitFailed, "connection refused"},

		{"simulate --events -", "", exitUsage, "missing flags: --policy=FILE"},
		{"simulate --policy " + arena, "", exitUsage, "give --events, or --db with --from and --to"},
		{"simulate --policy " + dir + "/none --events -", "", exitUsage, "no such file"},
		{"simulate --policy " + arena + " --events " + dir + "/none", "", exitUsage, "no such file"},
		{"simulate --policy " + arena + " --events - --from 2026-11-22T12:00:00Z", "", exitUsage, "go with --db, without --events"},
		{"simulate --policy " + arena + " --events - --save x", "", exitUsage, "go with --db, without --events"},
		{"simulate --policy " + arena + " --db sqlite:x --from 2026-11-22T12:00:00Z", "", exitUsage, "--from before --to"},
		{"simulate --policy " + arena + " --db sqlite:x --from 2026-11-22T12:00:00Z --to 2026-11-22T12:00:00Z", "", exitUsage, "--from before --to"},
		{"simulate --policy " + arena + " --events - --batch 0", "", exitUsage, "--batch and --examples must be at least 1"},
		{"simulate --policy " + arena + " --events - --plot x.gif", "", exitUsage, "--plot must end in .svg or .png"},
		{"simulate --policy " + arena + " --events - --format xml", "", exitUsage, "--format must be one of"},
		{"simulate --policy " + secret + " --events -", "", exitFailed, "catalog " + secret},
		{"simulate --policy " + arena + " --current " + secret + " --events -", "", exitFailed, "catalog " + secret},
		{"simulate --policy " + arena + " --events -", good + "\nnonsense\n", exitFailed, "-: line 2: malformed-json"},
		{"simulate --policy " + arena + " --events - --labels " + secret, good, exitFailed, "the first line must be player_id,label"},
		{"simulate --policy " + arena + " --events - --plot " + dir + "/none/x.svg", good, exitFailed, "no such file"},
		{"simulate --policy " + arena + " --db sqlite:" + dir + "/empty.db --from 2026-11-22T12:00:00Z --to 2026-11-23T12:00:00Z", "", exitFailed, "has `liveops migrate` run?"},
		{"simulate --policy " + arena + " --db postgres://host/name --from 2026-11-22T12:00:00Z --to 2026-11-23T12:00:00Z", "", exitFailed, "neither mysql nor sqlite"},

		{"redrive", "", exitUsage, "missing flags: --secret-file"},
		{"redrive --limit=-1 --secret-file " + secret, "", exitUsage, "--limit must not be negative"},
		{"redrive --rejected --queue events --secret-file " + secret, "", exitUsage, "--queue and --rejected can't be used together"},
		{"redrive --url " + nobody + " --secret-file " + secret, "", exitFailed, "connection refused"},

		{"migrate --db postgres://host/name", "", exitFailed, "neither mysql nor sqlite"},
		{"migrate --db sqlite:" + dir + "/none/x.db", "", exitFailed, "database"},

		{"dev --demo --catalog " + secret, "", exitUsage, "--catalog and --demo can't be used together"},
		{"dev --catalog " + dir + "/none.yaml", "", exitUsage, "no such file"},
		{"dev --bus pigeons", "", exitUsage, "--bus must be one of"},
		{"dev --bus-listen 127.0.0.1:0", "", exitUsage, "--bus-listen and --bus-admin go with --bus servicebus"},
		{"dev --bus-admin 127.0.0.1:0", "", exitUsage, "--bus-listen and --bus-admin go with --bus servicebus"},
		{"dev --clock 2022-11-01", "", exitUsage, "--clock"},
		{"dev --clock-listen 127.0.0.1:0", "", exitUsage, "--clock-listen goes with --clock"},
		{"dev --clock 2022-11-01T00:00:00Z --demo", "", exitUsage, "--demo plays on a clock that runs"},
		{"dev --listen nowhere", "", exitFailed, "missing port"},
		{"dev --listen 127.0.0.1:0 --data " + secret, "", exitFailed, "not a directory"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			o := command(t, c.in, strings.Fields(c.args)...)
			o.requireError(t, c.code, c.want)
			require.Empty(t, o.out)
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	o := command(t, "", "--help")
	requireDone(t, o)
	require.Contains(t, o.out, "Exit codes: 0 done, 1 could not be done, 2 wrong command line, 3 done and the")

	parser, err := kong.New(&commands{})
	require.NoError(t, err)
	require.Len(t, parser.Model.Children, 18)
	for _, child := range parser.Model.Children {
		require.Contains(t, o.out, "\n  "+child.Name+" ")
		help := command(t, "", child.Name, "--help")
		requireDone(t, help)
		_, examples, found := strings.Cut(help.out, "Examples:\n")
		require.True(t, found, "%s --help has no examples", child.Name)
		require.Contains(t, examples, "liveops "+child.Name)
		for _, flag := range child.Flags {
			require.Contains(t, help.out, "--"+flag.Name)
			require.NotEmpty(t, flag.Help)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	o := command(t, "", "version")
	requireDone(t, o)
	require.Equal(t, "liveops "+version+"\n", o.out)
}

func TestSampleIsDeterministic(t *testing.T) {
	t.Parallel()
	game := func(more ...string) []event.Event {
		o := command(t, "", append([]string{"sample", "--events", "200", "--until", "2026-11-22T18:00:00Z"}, more...)...)
		requireDone(t, o)
		events, err := replay.Read(strings.NewReader(o.out))
		require.NoError(t, err)
		require.Len(t, events, 200)
		return events
	}
	require.Equal(t, game(), game("--seed", "1"))
	require.NotEqual(t, game(), game("--seed", "2"))
	require.True(t, game()[199].OccurredAt.Before(time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)))
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	db := "sqlite:" + filepath.Join(t.TempDir(), "liveops.db")
	first := command(t, "", "migrate", "--db", db)
	requireDone(t, first)
	require.Contains(t, first.out, "applied 0001_player")
	second := command(t, "", "migrate", "--db", db)
	requireDone(t, second)
	require.Equal(t, "the schema is up to date\n", second.out)
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"top", "points", "--url", nobody}, strings.NewReader(""), &out, &errs)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "liveops: interrupted\n", errs.String())
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	db := "sqlite:" + filepath.Join(t.TempDir(), "liveops.db")
	for _, args := range [][]string{{"version"}, {"sample", "--events", "10"}, {"migrate", "--db", db}} {
		var errs bytes.Buffer
		require.Equal(t, exitFailed, run(t.Context(), args, strings.NewReader(""), full{}, &errs))
		require.Contains(t, errs.String(), "no space left on device")
		require.Equal(t, 1, strings.Count(errs.String(), "\n"))
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		require.Equal(t, []string{"a", text, "b"}, words(t, "a "+quote(text)+" \\\n  "+quote("b")))
	})
}

// words splits a command line as a shell does, as far as the lines of sign need it.
func words(t require.TestingT, line string) []string {
	var list []string
	var word strings.Builder
	inside, quoted := false, false
	end := func() {
		if inside {
			list = append(list, word.String())
		}
		word.Reset()
		inside = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'':
			quoted, inside = !quoted, true
		case quoted:
			word.WriteByte(c)
		case c == '\\':
			i++
			require.Less(t, i, len(line))
			if line[i] != '\n' {
				inside = true
				word.WriteByte(line[i])
			}
		case c == ' ' || c == '\n':
			end()
		default:
			require.NotContains(t, "$&|;<>()`\"*?[#~!{}", string(c), "not quoted")
			inside = true
			word.WriteByte(c)
		}
	}
	end()
	require.False(t, quoted)
	return list
}
