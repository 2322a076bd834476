package main

import (
	"bufio"
	"errors"
	"time"

	"liveops/local/sample"
)

type sampleCommand struct {
	Seed    uint64    `help:"The same seed and --until give the same game." default:"1"`
	Players int       `help:"How many play." default:"40"`
	Events  int       `help:"How many events." default:"5000"`
	Until   time.Time `help:"Everything happens in the two days before, RFC 3339; now when not given."`
}

// Help implements kong's longer help.
func (sampleCommand) Help() string {
	return `The game is that of examples/arena, which liveops dev runs by itself.

Examples:
  liveops sample > events.ndjson
  liveops sample --seed 7 --events 20000 --until 2026-11-22T18:00:00Z > events.ndjson`
}

// Validate implements kong's check of the flags.
func (c sampleCommand) Validate() error {
	if c.Players < 1 || c.Events < 1 {
		return errors.New("--players and --events must be at least 1")
	}
	return nil
}

func (c sampleCommand) Run(t *terminal) error {
	if c.Until.IsZero() {
		c.Until = time.Now()
	}
	out := bufio.NewWriter(t.out)
	if err := sample.Generate(out, sample.Options{Seed: c.Seed, Players: c.Players, Events: c.Events, Until: c.Until}); err != nil {
		return err
	}
	return out.Flush()
}
