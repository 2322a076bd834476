package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/journal"
	"liveops/local/cheat"
	"liveops/local/simulate"
)

type simulateCommand struct {
	Policy   string    `help:"The candidate: a catalog with another fairness policy." required:"" type:"existingfile" placeholder:"FILE"`
	Current  string    `help:"The catalog in force; that of examples/arena when not given." env:"CATALOG_FILE" type:"existingfile" placeholder:"FILE"`
	Events   string    `help:"NDJSON with one event a line, by time, gzipped or not; - for standard input." type:"existingfile" placeholder:"FILE"`
	DB       string    `name:"db" help:"The database with recorded events, mysql://user:password@host:port/name or sqlite:PATH." env:"DB_URL" placeholder:"URL"`
	DBTLS    string    `name:"db-tls" help:"TLS to MySQL: true, skip-verify or the path of a CA file." env:"DB_TLS" placeholder:"HOW"`
	From     time.Time `help:"With --db: events received from then on, RFC 3339,"`
	To       time.Time `help:"and before then."`
	Save     string    `help:"With --db: also write the events there, as NDJSON for --events." type:"path" placeholder:"FILE"`
	Labels   string    `help:"CSV of player_id,label that says who cheats and how, for precision and recall." type:"existingfile" placeholder:"FILE"`
	Format   string    `help:"table or json." enum:"table,json" default:"table"`
	Plot     string    `help:"Draw the share of players found against the limits of the statistical rules, .svg or .png." type:"path" placeholder:"FILE"`
	Batch    int       `help:"Events judged at once, at most." default:"100"`
	Examples int       `help:"Examples shown of each rule, of those newly and of those no longer found." default:"3"`
}

// Help implements kong's longer help.
func (simulateCommand) Help() string {
	return `Judges what happened again, in the time in which it came, by both policies, each with a memory of its own, and compares
what comes out. Nothing has an effect. Events are as sample writes them, or as the journal has them, for which the
catalog in force must say how long to record. What the gate refused then is not among them, and its rates are not tried.

Examples:
  liveops sample --players 300 --events 30000 --cheats 0.05 --labels labels.csv > events.ndjson
  liveops simulate --policy stricter.yaml --events events.ndjson --labels labels.csv --plot limits.svg
  liveops simulate --policy stricter.yaml --current game.yaml --db sqlite:liveops.db --from 2026-11-21T00:00:00Z --to 2026-11-22T00:00:00Z --format json`
}

// Validate implements kong's check of the flags.
func (c simulateCommand) Validate() error {
	ranged := !c.From.IsZero() || !c.To.IsZero()
	switch ext := filepath.Ext(c.Plot); {
	case c.Events == "" && c.DB == "":
		return errors.New("give --events, or --db with --from and --to")
	case c.Events != "" && (ranged || c.Save != ""):
		return errors.New("--from, --to and --save go with --db, without --events")
	case c.Events == "" && !c.From.Before(c.To):
		return errors.New("--from and --to are required with --db, --from before --to")
	case c.Batch < 1 || c.Examples < 1:
		return errors.New("--batch and --examples must be at least 1")
	case c.Plot != "" && ext != ".svg" && ext != ".png":
		return errors.New("--plot must end in .svg or .png")
	}
	return nil
}

// Run simulates and prints.
func (c simulateCommand) Run(ctx context.Context, t *terminal) error {
	s := simulate.Simulation{Batch: c.Batch, Examples: c.Examples, Thresholds: c.Plot != ""}
	var err error
	if s.Candidate, err = policy(c.Policy); err != nil {
		return err
	}
	if s.Current, err = policy(c.Current); err != nil {
		return err
	}
	if c.Labels != "" {
		if s.Labels, err = labels(c.Labels); err != nil {
			return fmt.Errorf("%s: %w", c.Labels, err)
		}
	}
	report, err := c.simulate(ctx, t, s)
	if err != nil {
		return err
	}
	if c.Plot != "" {
		format := strings.TrimPrefix(filepath.Ext(c.Plot), ".")
		if err := save(c.Plot, func(w io.Writer) error { return simulate.Plot(w, format, report.Curves) }); err != nil {
			return err
		}
	}
	if c.Format == "json" {
		text, err := json.Marshal(report, json.Deterministic(true), jsontext.WithIndent("  "))
		t.out.printf("%s\n", text)
		return err
	}
	printComparison(t.out, report)
	return nil
}

// policy loads a catalog, the arena's without a path.
func policy(path string) (simulate.Policy, error) {
	if path == "" {
		game, err := arenaCatalog()
		return simulate.Policy{Name: "examples/arena/catalog.yaml", Game: game}, err
	}
	game, err := catalog.Load(path)
	return simulate.Policy{Name: path, Game: game}, err
}

func labels(path string) (cheat.Labels, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	return cheat.ReadLabels(file)
}

// simulate runs on the events of the file or of the database.
func (c simulateCommand) simulate(ctx context.Context, t *terminal, s simulate.Simulation) (*simulate.Report, error) {
	if c.Events == "" {
		return c.recorded(ctx, s)
	}
	in := t.in
	if c.Events != "-" {
		file, err := os.Open(c.Events)
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	report, err := s.Run(ctx, simulate.Read(in))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Events, err)
	}
	return report, nil
}

func (c simulateCommand) recorded(ctx context.Context, s simulate.Simulation) (report *simulate.Report, err error) {
	db, err := database{DB: c.DB, DBTLS: c.DBTLS}.open()
	if err != nil {
		return nil, err
	}
	defer db.Close() //nolint:errcheck // nothing is lost with an idle pool
	if missing, err := db.Pending(ctx); err != nil {
		return nil, err
	} else if len(missing) > 0 {
		return nil, fmt.Errorf("the database lacks %s: run liveops migrate", strings.Join(missing, ", "))
	}
	events := simulate.Source(func(ctx context.Context, fn func(event.Accepted) error) error {
		return (&journal.Journal{DB: db}).Each(ctx, c.From, c.To, fn)
	})
	if c.Save == "" {
		return s.Run(ctx, events)
	}
	err = save(c.Save, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		report, err = s.Run(ctx, simulate.Copied(out, events))
		return errors.Join(err, out.Flush())
	})
	return report, err
}
