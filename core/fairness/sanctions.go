package fairness

import (
	"context"
	"fmt"
	"strings"
	"time"

	"liveops/core/store"
)

// Automatic is the actor where nobody but the rules decided.
const Automatic = "fairness"

// Forever is the end of a sanction without end.
var Forever = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// Kind is a kind of sanction.
type Kind string

// The kinds. A player has one of each at most.
const (
	Block     Kind = "block"      // his events are refused; by the rules
	Ban       Kind = "ban"        // he is refused altogether, and hidden from everybody; by an operator
	ShadowBan Kind = "shadow-ban" // he is hidden from everybody else; by an operator or the rules
)

// Sanction is one that is or was in force on a player.
type Sanction struct {
	PlayerID   string
	Kind       Kind
	DecisionID string // of a sanction by the rules
	CaseID     string // empty without one
	Reason     string // a fault.Code, or an operator's words
	Actor      string // the id of the operator's key, or Automatic
	Starts     time.Time
	Until      time.Time // exclusive; Forever: without end
	Lifted     time.Time // when it was ended before its time, which Until then is; zero: it was not
}

// Hides says that others must not see the player.
func (s Sanction) Hides() bool { return s.Kind == Ban || s.Kind == ShadowBan }

func sanctionTable() store.Table {
	return store.Table{
		Name:    "sanction",
		Columns: []string{"player_id", "kind", "decision_id", "case_id", "reason", "actor", "starts_at", "lifted_at", "until_at"},
		Key:     []string{"player_id", "kind"},
	}
}

func sanctionRow(s Sanction) []any {
	return []any{
		s.PlayerID, string(s.Kind), s.DecisionID, s.CaseID, s.Reason, s.Actor, millis(s.Starts), millis(s.Lifted), millis(s.Until),
	}
}

func eachSanction(ctx context.Context, q store.Queries, rest string, args []any, each func(Sanction)) error {
	query := "SELECT " + strings.Join(sanctionTable().Columns, ", ") + " FROM sanction " + rest
	return q.Each(ctx, query, args, func(scan func(...any) error) error {
		var s Sanction
		var starts, lifted, until int64
		err := scan(&s.PlayerID, &s.Kind, &s.DecisionID, &s.CaseID, &s.Reason, &s.Actor, &starts, &lifted, &until)
		s.Starts, s.Lifted, s.Until = instant(starts), instant(lifted), instant(until)
		each(s)
		return err
	})
}

// InForce gives the sanctions in force now on players, of each in order of kind. Who has none is missing.
func (r *Records) InForce(ctx context.Context, players ...string) (map[string][]Sanction, error) {
	found := map[string][]Sanction{}
	if len(players) == 0 {
		return found, nil
	}
	args := []any{r.now().UnixMilli()}
	for _, player := range players {
		args = append(args, player)
	}
	rest := "WHERE until_at > ? AND player_id IN " + r.DB.Dialect.In(len(players), 1) + " ORDER BY player_id, kind"
	err := eachSanction(ctx, r.DB.Queries, rest, args, func(s Sanction) { found[s.PlayerID] = append(found[s.PlayerID], s) })
	if err != nil {
		return nil, fmt.Errorf("read sanctions: %w", err)
	}
	return found, nil
}

// Sanctioned lists the players on whom any of these kinds of sanction is in force now, in order, each once.
func (r *Records) Sanctioned(ctx context.Context, kinds ...Kind) ([]string, error) {
	args := []any{r.now().UnixMilli()}
	for _, kind := range kinds {
		args = append(args, string(kind))
	}
	var players []string
	query := "SELECT DISTINCT player_id FROM sanction WHERE until_at > ? AND kind IN " + r.DB.Dialect.In(len(kinds), 1) + " ORDER BY player_id"
	err := r.DB.Each(ctx, query, args, func(scan func(...any) error) error {
		var player string
		err := scan(&player)
		players = append(players, player)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list sanctioned players: %w", err)
	}
	return players, nil
}

// Banned gives the ban in force on a player, and whether there is one.
func (r *Records) Banned(ctx context.Context, player string) (ban Sanction, banned bool, err error) {
	found, err := r.InForce(ctx, player)
	if err != nil {
		return Sanction{}, false, err
	}
	for _, s := range found[player] {
		if s.Kind == Ban {
			return s, true, nil
		}
	}
	return Sanction{}, false, nil
}

// LiftBlock ends the block that came from a decision, because that was a mistake: it does not make the player's next block longer
// either. No other sanction ends. It gives the player the block is or was on, empty if there is none from this decision; lifting it again
// changes nothing.
func (r *Records) LiftBlock(ctx context.Context, decision string) (player string, err error) {
	err = r.DB.Tx(ctx, func(tx *store.Tx) error {
		player = ""
		of := func(s Sanction) { player = s.PlayerID }
		if err := eachSanction(ctx, tx.Queries, "WHERE kind = ? AND decision_id = ?", []any{string(Block), decision}, of); err != nil || player == "" {
			return err
		}
		b, err := lockBook(ctx, tx, []string{player}, r.now())
		if err != nil {
			return err
		}
		if b.sanctions[player][Block].DecisionID == decision && b.lift(player, Block) {
			b.conduct[player], b.changed[player] = b.conduct[player].lifted(b.now), true
		}
		return b.write(ctx)
	})
	if err != nil {
		return "", fmt.Errorf("lift a block: %w", err)
	}
	return player, nil
}
