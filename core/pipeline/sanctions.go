package pipeline

import (
	"context"
	"fmt"
	"slices"

	"liveops/core/fairness"
	"liveops/core/gate"
)

// Sanctions carries the sanctions that SQL knows to where they are enforced: to the gate, which keeps players out, and to the
// rankings, which hide them. Everything it does may be repeated and meet itself.
type Sanctions struct {
	Records  *fairness.Records
	Gate     keeper
	Rankings hider // nil: nobody is hidden
}

// keeper is the part of the gate that keeps players out. A block that ends sooner than the one of its kind in place changes nothing,
// so that one has to be taken back first.
type keeper interface {
	Block(ctx context.Context, player string, b gate.Block) error
	Unblock(ctx context.Context, player string, ban bool) error
}

// hider hides players from everybody else in the rankings. Each call may be repeated, and a repeat mends one that was cut.
type hider interface {
	Hide(ctx context.Context, player string) error
	Show(ctx context.Context, player string) error
	Hidden(ctx context.Context) ([]string, error)
}

// Project makes the gate and the rankings enforce what is in force on players now, and nothing else.
func (s *Sanctions) Project(ctx context.Context, players ...string) error {
	return s.enforce(ctx, players, false)
}

// Replace is Project for players whose sanctions may have become shorter.
func (s *Sanctions) Replace(ctx context.Context, players ...string) error {
	return s.enforce(ctx, players, true)
}

func (s *Sanctions) enforce(ctx context.Context, players []string, shorter bool) error {
	return s.follow(ctx, players, func(player string, inForce []fairness.Sanction, again bool) error {
		if err := s.keep(ctx, player, inForce, shorter || again); err != nil {
			return err
		}
		return s.hide(ctx, player, inForce)
	})
}

// Restore tells the gate everybody whom it has to keep out, because a Redis that was lost no longer knows them.
func (s *Sanctions) Restore(ctx context.Context) error {
	players, err := s.Records.Sanctioned(ctx, fairness.Block, fairness.Ban)
	if err != nil {
		return err
	}
	return s.follow(ctx, players, func(player string, inForce []fairness.Sanction, again bool) error {
		return s.keep(ctx, player, inForce, again)
	})
}

// Sweep makes the rankings hide whom they should and nobody else: it shows players whose sanctions have ended, and mends what was
// cut. The gate needs none: a block ends by itself there.
func (s *Sanctions) Sweep(ctx context.Context) error {
	if s.Rankings == nil {
		return nil
	}
	hidden, err := s.Rankings.Hidden(ctx)
	if err != nil {
		return fmt.Errorf("list hidden players: %w", err)
	}
	due, err := s.Records.Sanctioned(ctx, fairness.Ban, fairness.ShadowBan)
	if err != nil {
		return err
	}
	return s.follow(ctx, difference(hidden, due), func(player string, inForce []fairness.Sanction, _ bool) error {
		return s.hide(ctx, player, inForce)
	})
}

// follow tells about players what is in force on them, and tells it again for those where that has changed meanwhile. So the
// last word that is told of a player is what SQL said after it was told, however many tell at the same time.
func (s *Sanctions) follow(ctx context.Context, players []string, tell func(player string, inForce []fairness.Sanction, again bool) error) error {
	for chunk := range slices.Chunk(players, 500) {
		told := map[string][]fairness.Sanction{}
		for again := false; len(chunk) > 0; again = true {
			inForce, err := s.Records.InForce(ctx, chunk...)
			if err != nil {
				return err
			}
			var changed []string
			for _, player := range chunk {
				if again && slices.Equal(told[player], inForce[player]) {
					continue
				}
				if err := tell(player, inForce[player], again); err != nil {
					return err
				}
				told[player] = inForce[player]
				changed = append(changed, player)
			}
			chunk = changed
		}
	}
	return nil
}

// keep tells the gate what keeps a player out: a ban, a block, or both. What somebody else told it since may end later, so the
// second time it forgets that first; so it does when there is none in force.
func (s *Sanctions) keep(ctx context.Context, player string, inForce []fairness.Sanction, again bool) error {
	for _, kind := range []fairness.Kind{fairness.Ban, fairness.Block} {
		i := slices.IndexFunc(inForce, func(f fairness.Sanction) bool { return f.Kind == kind })
		if i < 0 || again {
			if err := s.Gate.Unblock(ctx, player, kind == fairness.Ban); err != nil {
				return fmt.Errorf("let a player in again: %w", err)
			}
		}
		if i < 0 {
			continue
		}
		if err := s.Gate.Block(ctx, player, blockOf(inForce[i])); err != nil {
			return fmt.Errorf("keep a player out: %w", err)
		}
	}
	return nil
}

func blockOf(s fairness.Sanction) gate.Block {
	return gate.Block{Reason: s.Reason, Until: s.Until, DecisionID: s.DecisionID, Ban: s.Kind == fairness.Ban}
}

// Ban gives a player's ban as the gate does, for when the gate cannot be asked; nil when there is none in force.
func (s *Sanctions) Ban(ctx context.Context, player string) (*gate.Block, error) {
	ban, banned, err := s.Records.Banned(ctx, player)
	if err != nil || !banned {
		return nil, err
	}
	b := blockOf(ban)
	return &b, nil
}

func (s *Sanctions) hide(ctx context.Context, player string, inForce []fairness.Sanction) error {
	switch {
	case s.Rankings == nil:
		return nil
	case slices.ContainsFunc(inForce, fairness.Sanction.Hides):
		return s.Rankings.Hide(ctx, player)
	}
	return s.Rankings.Show(ctx, player)
}

// difference is what one of two sets has and the other has not, in order.
func difference(a, b []string) []string {
	times := map[string]int{}
	for _, one := range slices.Concat(a, b) {
		times[one]++
	}
	var odd []string
	for one, n := range times {
		if n == 1 {
			odd = append(odd, one)
		}
	}
	slices.Sort(odd)
	return odd
}
