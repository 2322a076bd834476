// Package sample makes up the events of a small arena game (examples/arena), so that a system that was just started has
// something to show. The players differ in skill and in how much they play, they keep to the game's limits, and the same
// options always give the same bytes. It knows the game only by its catalog, and neither signs nor sends.
package sample

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"liveops/core/event"
)

// Options say what to make up.
type Options struct {
	Seed    uint64
	Players int       // default 40
	Events  int       // exactly so many; default 5,000
	Until   time.Time // all happens before; required
}

// span is the time the events are spread over. It grows when somebody has more to play than fits.
const span = 48 * time.Hour

// Generate writes the events as NDJSON, in order of time. Every event is within the bounds, intervals and velocities of the
// arena catalog, and nobody kills a boss before the level for it.
func Generate(w io.Writer, o Options) error {
	if o.Until.IsZero() {
		return errors.New("sample: Until is required")
	}
	o.Players, o.Events = cmp.Or(o.Players, len(handles)), cmp.Or(o.Events, 5_000)
	if o.Players < 0 || o.Events < 0 {
		return errors.New("sample: Players and Events must not be negative")
	}
	players := make([]*player, o.Players)
	weights, total := make([]float64, o.Players), 0.0
	for i := range players {
		players[i] = newPlayer(o.Seed, i)
		weights[i] = math.Exp(players[i].NormFloat64() * 0.8) // a few play a lot
		total += weights[i]
	}
	over := span
	for i, left := 0, o.Events; i < len(players); i++ {
		share := int(math.Round(float64(left) * weights[i] / total))
		if i == len(players)-1 {
			share = left
		}
		left, total = left-share, total-weights[i]
		played := players[i].play(share)
		over = max(over, played+played/2)
	}
	var all []event.Event
	for _, p := range players {
		all = append(all, p.calendar(o.Until, over)...)
	}
	slices.SortStableFunc(all, func(a, b event.Event) int { // players were added in order, and so were their events
		return a.OccurredAt.Compare(b.OccurredAt)
	})
	ids := rand.New(rand.NewPCG(o.Seed, math.MaxUint64))
	for _, e := range all {
		e.ID = id(ids, e.OccurredAt)
		line, err := json.Marshal(e, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("sample: %w", err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("sample: %w", err)
		}
	}
	return nil
}

// id is a UUIDv7 of the time, with the rest from the seed.
func id(from *rand.Rand, at time.Time) string {
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[0:], uint64(at.UnixMilli())<<16|from.Uint64N(1<<12))
	binary.BigEndian.PutUint64(u[8:], from.Uint64())
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}
