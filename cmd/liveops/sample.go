package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"liveops"
	"liveops/core/catalog"
	"liveops/local/cheat"
	"liveops/local/replay"
	"liveops/local/sample"
)

type sampleCommand struct {
	Seed    uint64    `help:"The same seed and --until give the same game." default:"1"`
	Players int       `help:"How many play." default:"40"`
	Events  int       `help:"How many events." default:"5000"`
	Until   time.Time `help:"Everything happens in the two days before, RFC 3339; now when not given."`
	Cheats  float64   `help:"The share of the players who cheat, 0 to 1: in turn speed, injection, impossible, macro, ramp, dirty." placeholder:"SHARE"`
	Labels  string    `help:"Write there, as CSV, who cheats and how." type:"path" placeholder:"FILE"`
}

// Help implements kong's longer help.
func (sampleCommand) Help() string {
	return `The game is that of examples/arena, which liveops dev runs by itself.

Examples:
  liveops sample > events.ndjson
  liveops sample --seed 7 --events 20000 --until 2026-11-22T18:00:00Z > events.ndjson
  liveops sample --players 300 --events 30000 --cheats 0.05 --labels labels.csv > events.ndjson`
}

// Validate implements kong's check of the flags.
func (c sampleCommand) Validate() error {
	if c.Players < 1 || c.Events < 1 {
		return errors.New("--players and --events must be at least 1")
	}
	if c.Cheats < 0 || c.Cheats > 1 {
		return errors.New("--cheats must be 0 to 1")
	}
	if c.Labels != "" && c.Cheats == 0 {
		return errors.New("--labels goes with --cheats")
	}
	return nil
}

func (c sampleCommand) Run(t *terminal) error {
	if c.Until.IsZero() {
		c.Until = time.Now()
	}
	options := sample.Options{Seed: c.Seed, Players: c.Players, Events: c.Events, Until: c.Until}
	if c.Cheats > 0 {
		return c.cheat(t, options)
	}
	out := bufio.NewWriter(t.out)
	if err := sample.Generate(out, options); err != nil {
		return err
	}
	return out.Flush()
}

// cheat writes the sample with cheats in it, and who they are.
func (c sampleCommand) cheat(t *terminal, options sample.Options) error {
	var clean bytes.Buffer
	if err := sample.Generate(&clean, options); err != nil {
		return err
	}
	events, err := replay.Read(&clean)
	if err != nil {
		return err
	}
	game, err := arenaCatalog()
	if err != nil {
		return err
	}
	events, labels, err := cheat.Inject(events, cheat.Options{Seed: c.Seed, Share: c.Cheats, Game: game})
	if err != nil {
		return err
	}
	if c.Labels != "" {
		if err := save(c.Labels, labels.Write); err != nil {
			return err
		}
	}
	out := bufio.NewWriter(t.out)
	for _, e := range events {
		line, err := json.Marshal(e, json.Deterministic(true))
		if err != nil {
			return err
		}
		_, _ = out.Write(append(line, '\n')) // Flush says it
	}
	return out.Flush()
}

// arenaCatalog is the game of the sample.
func arenaCatalog() (*catalog.Catalog, error) {
	text, err := liveops.Examples.ReadFile("examples/arena/catalog.yaml")
	if err != nil {
		return nil, err
	}
	return catalog.Parse(text)
}

// save writes a file.
func save(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
