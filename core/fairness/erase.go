package fairness

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"liveops/core/store"
)

// erasing is the actor who ends a case because its player is erased.
const erasing = "erasure"

func decisionsOf() store.Personal {
	return store.Personal{
		Kind: "decision", Table: "fairness_decision", Key: []string{"decided_at", "decision_id"},
		Columns: []string{
			"decided_at time", "decision_id", "event_id", "verdict", "rule", "rule_version int", "mode", "evidence json", "catalog_version int",
		},
	}
}

func sanctionsOf() store.Personal {
	return store.Personal{
		Kind: "sanction", Table: "sanction", Key: []string{"kind"},
		Columns: []string{"kind", "decision_id", "case_id", "reason", "actor", "starts_at time", "lifted_at time", "until_at time"},
	}
}

func conductOf() store.Personal {
	return store.Personal{
		Kind: "conduct", Table: "conduct", Key: []string{"player_id"},
		Columns: []string{
			"points float", "points_at time", "throttled float", "throttled_at time", "blocks int", "blocked_until time", "case_id",
		},
	}
}

// Personal tells what of the domain is about a player. What is known of his play in Redis is in EachState.
func Personal() []store.Personal {
	return []store.Personal{
		decisionsOf(), conductOf(), sanctionsOf(),
		{
			Kind: "case", Table: "fairness_case", Key: []string{"opened_at", "case_id"},
			Columns: []string{
				"opened_at time", "case_id", "state", "opened_by", "reason", "decision_id", "points float", "ended_at time", "ended_by",
			},
		},
		{
			Kind: "case_action", Table: "case_action a JOIN fairness_case c ON c.case_id = a.case_id", Player: "c.player_id",
			Key:     []string{"a.acted_at", "a.action_id"},
			Columns: []string{"a.acted_at time", "a.action_id", "a.case_id", "a.actor", "a.action", "a.remark", "a.until_at time"},
		},
	}
}

// Erase deletes decisions, conduct and sanctions of a player, bans too. His cases stay for the audit of those who decided them: of an alias,
// under new ids, without reasons, remarks and points, and one that is open ends. It says whether there was anything. It may be
// cut anywhere and be repeated, with the same alias or another one.
func (r *Records) Erase(ctx context.Context, player, alias string) (found bool, err error) {
	deleted, err := decisionsOf().Delete(ctx, r.DB, player)
	if err != nil {
		return false, fmt.Errorf("erase decisions: %w", err)
	}
	found = deleted > 0
	err = r.DB.Tx(ctx, func(tx *store.Tx) error {
		// The row of conduct is everybody's lock, and the last to go.
		if err := conductTable().InsertMissing(ctx, tx.Queries, [][]any{conductRow(player, Conduct{})}); err != nil {
			return err
		}
		var cases []string
		query := "SELECT case_id FROM fairness_case WHERE player_id = ? ORDER BY case_id" + tx.Dialect.ForUpdate()
		err := tx.Each(ctx, query, []any{player}, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			cases = append(cases, id)
			return err
		})
		if err != nil {
			return err
		}
		for _, id := range cases {
			if err := r.eraseCase(ctx, tx, id, alias); err != nil {
				return err
			}
		}
		sanctions, err := tx.Exec(ctx, "DELETE FROM sanction WHERE player_id = ?", player)
		if err != nil {
			return err
		}
		found = found || len(cases) > 0 || sanctions > 0
		_, err = tx.Exec(ctx, "DELETE FROM conduct WHERE player_id = ?", player)
		return err
	})
	if err != nil {
		return found, fmt.Errorf("erase cases and sanctions: %w", err)
	}
	return found, nil
}

func (r *Records) eraseCase(ctx context.Context, tx *store.Tx, id, alias string) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // it never fails
	other := hex.EncodeToString(random[:])
	_, err := tx.Exec(ctx, `UPDATE fairness_case SET case_id = ?, player_id = ?, reason = '', decision_id = '', points = 0,
		ended_at = CASE WHEN state = ? THEN ? ELSE ended_at END, ended_by = CASE WHEN state = ? THEN ? ELSE ended_by END,
		state = CASE WHEN state = ? THEN ? ELSE state END WHERE case_id = ?`,
		other, alias, string(CaseOpen), r.now().UnixMilli(), string(CaseOpen), erasing, string(CaseOpen), string(CaseClosed), id)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE case_action SET case_id = ?, remark = '', fingerprint = '' WHERE case_id = ?", other, id)
	return err
}

// Held gives what is known of a player's play, as it is kept; nil: nothing.
func (s RedisStates) Held(ctx context.Context, player string) ([]byte, error) {
	states, err := s.Load(ctx, []string{player})
	if err != nil {
		return nil, err
	}
	return states[0], nil
}

// Erase forgets what is known of a player's play. It may be repeated.
func (s RedisStates) Erase(ctx context.Context, player string) error {
	return store.RedisError("erase what is known of a player", s.Redis.Unlink(ctx, stateKey(tagOf(player), player)).Err())
}
