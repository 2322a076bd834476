package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"

	"liveops/core/event"
	"liveops/local/clock"
	"liveops/local/replay"
)

type replayCommand struct {
	File        string `arg:"" help:"NDJSON file with one event a line, - for standard input." type:"existingfile"`
	Batch       int    `help:"Events a request, 1 to 200." default:"200"`
	Concurrency int    `help:"Requests at a time." default:"4"`
	Restamp     bool   `help:"Move the recording in time so that its last event happens now."`

	FollowClock string    `help:"Address of the clock that liveops dev --clock prints, to be moved along with the events." placeholder:"URL"`
	Until       time.Time `help:"With --follow-clock, where the clock is moved to at the end, RFC 3339; it stays at the last event when not given." placeholder:"TIME"`

	address
	identity
}

// Help implements kong's longer help.
func (replayCommand) Help() string {
	return `What is throttled is sent again when it may, and so is what was not answered, or with 409 or 503. Events that
were taken in before come back as duplicates and do nothing. The exit code is 3 when events were rejected.

With --follow-clock the events are played in order of time, and the clock of liveops dev --clock moves along: it stops wherever a
window ends, so that each closes when it should, and no event comes late. A month passes in about a minute. Who is throttled waits by
that clock.

Examples:
  liveops sample --events 5000 | liveops replay - --secret-file DIR/dev-server.secret
  liveops replay games.ndjson --restamp --concurrency 8 --secret-file DIR/dev-server.secret
  liveops replay games.ndjson --follow-clock http://127.0.0.1:8081 --until 2022-12-01T00:10:00Z --secret-file DIR/dev-server.secret`
}

// Validate implements kong's check of the flags.
func (c replayCommand) Validate() error {
	if c.Batch < 1 || c.Batch > event.MaxBatch || c.Concurrency < 1 {
		return fmt.Errorf("--batch must be 1 to %d, --concurrency at least 1", event.MaxBatch)
	}
	switch {
	case c.FollowClock == "" && !c.Until.IsZero():
		return errors.New("--until goes with --follow-clock")
	case c.FollowClock != "" && c.Restamp:
		return errors.New("--restamp dates events by real time, which --follow-clock does not follow")
	case c.FollowClock != "" && !isAddress(c.FollowClock):
		return errors.New("--follow-clock must look like http://host:port")
	}
	return c.address.Validate()
}

func (c replayCommand) Run(ctx context.Context, t *terminal) error {
	in := t.in
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	events, err := replay.Read(in)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	if c.Restamp {
		replay.Restamp(events, time.Now())
	}
	me, err := c.signed(c.identity)
	if err != nil {
		return err
	}
	report, err := me.play(t, len(events), c.Batch, c.Concurrency, func(p *replay.Player) (*replay.Report, error) {
		if c.FollowClock == "" {
			return p.Play(ctx, events)
		}
		world := clock.Remote{URL: c.FollowClock, Client: &http.Client{Timeout: moveTimeout}}
		return p.Follow(ctx, events, world, c.Until)
	})
	if err == nil && len(report.Rejected) > 0 {
		return errRefused
	}
	return err
}

// moveTimeout bounds one move of a clock: everything accepted before has its effect, and what ends then is archived.
const moveTimeout = 5 * time.Minute

// play has n events posted, showing how far it is, and prints what became of them, also when it had to stop.
func (c client) play(t *terminal, n, batch, concurrency int, play func(*replay.Player) (*replay.Report, error)) (*replay.Report, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = concurrency
	defer transport.CloseIdleConnections()
	bar := progress(t.err, n)
	report, err := play(&replay.Player{
		URL: c.url, Key: *c.key, Batch: batch, Concurrency: concurrency, Retries: 10,
		Client:   &http.Client{Transport: transport, Timeout: clientTimeout},
		Progress: func(done int) { _ = bar.Add(done) },
	})
	_ = bar.Finish()
	printReport(t.out, report)
	return report, err
}

// progress is a bar on a terminal and nothing elsewhere.
func progress(to io.Writer, total int) *progressbar.ProgressBar {
	file, ok := to.(*os.File)
	visible := false
	if ok {
		if info, err := file.Stat(); err == nil {
			visible = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return progressbar.NewOptions(total,
		progressbar.OptionSetWriter(to), progressbar.OptionSetVisibility(visible), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("events"), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
}

func printReport(to *printer, r *replay.Report) {
	to.table(0, func(row func(string, ...any)) {
		row("accepted\t%d", r.Accepted)
		row("duplicate\t%d", r.Duplicate)
		row("throttled\t%d", r.Throttled)
		for _, code := range slices.Sorted(maps.Keys(r.Rejected)) {
			row("rejected, %s\t%d", code, r.Rejected[code])
		}
		row("requests sent again\t%d", r.Retried)
		row("events/s\t%.0f", r.Rate())
		row("request p50\t%s", r.Latency(.5).Round(time.Millisecond/10))
		row("request p99\t%s", r.Latency(.99).Round(time.Millisecond/10))
	})
}
