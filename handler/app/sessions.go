package app

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/session"
	"liveops/core/signing"
	"liveops/handler/web"
)

// minted is what is told of the key of a session, and what is kept of the telling: without the secret, which is derived anew for a
// repeat, so that none lies in Redis.
type minted struct {
	ExpiresAt string `json:"expires_at"`
	KeyID     string `json:"key_id"`
	PlayerID  string `json:"player_id"`
	Secret    string `json:"secret,omitempty"`
	SessionID string `json:"session_id"`
}

// mintSession answers a game server with the key of a player's session, the same for a repeat while the gate knows it. A player who is banned gets
// none; one who is blocked does, because he may still read.
func (a *App) mintSession() web.Handler {
	return a.bounded(requestDeadline, func(w http.ResponseWriter, r *http.Request) error {
		c, err := a.verify(r, smallBody, []signing.Class{signing.Server})
		if err != nil {
			return err
		}
		if err := c.keyed(); err != nil {
			return err
		}
		wanted, life, err := readSession(c.request.Body)
		if err != nil {
			return err
		}
		entry := c.entry()
		entry.Scope, entry.IdempotencyKey = r.Pattern, c.request.IdempotencyKey
		entry.Fingerprint, entry.Players = signing.Fingerprint(c.request), []gate.Player{{ID: wanted.Player}}
		pass, err := a.enter(r, entry)
		if err != nil {
			return err
		}
		if pass.Replay != nil {
			return a.tellSession(w, *pass.Replay, true)
		}
		answer, err := a.derive(r.Context(), w, pass, wanted, life)
		// As in the gateway: the lease is given back, or the answer stored, even when the caller is gone.
		a.warn("leave the gate", a.gate.Leave(context.WithoutCancel(r.Context()), pass, gate.Leaving{Answer: answer}))
		if err != nil {
			return err
		}
		return a.tellSession(w, *answer, false)
	})
}

// derive makes up the key of a session that the gate let in.
func (a *App) derive(ctx context.Context, w http.ResponseWriter, pass gate.Pass, s signing.SessionID, life time.Duration) (*gate.Answer, error) {
	if err := admit(w, pass); err != nil {
		return nil, err
	}
	if blocked := pass.Players[0].Blocked; blocked != nil && blocked.Ban {
		return nil, blocked.Fault()
	}
	generation, err := a.sessions.Generations.Current(ctx, s.Player)
	if err != nil {
		return nil, err
	}
	s.Generation, s.Expires = generation, a.options.Now().UTC().Truncate(time.Second).Add(life)
	body, err := json.Marshal(minted{
		ExpiresAt: timestamp(s.Expires), KeyID: s.KeyID(), PlayerID: s.Player, SessionID: s.Session,
	})
	if err != nil {
		return nil, err
	}
	return &gate.Answer{Status: http.StatusOK, Header: map[string]string{"Content-Type": "application/json"}, Body: body}, nil
}

// tellSession completes an answer by the secret and sends it. No cache may keep it.
func (a *App) tellSession(w http.ResponseWriter, answer gate.Answer, replayed bool) error {
	var m minted
	if err := json.Unmarshal(answer.Body, &m); err != nil {
		return err
	}
	s, ok := signing.ParseSessionID(m.KeyID)
	if !ok {
		return errors.New("the stored answer names no key of a session")
	}
	key, err := a.keyring.Load().SessionKey(s)
	if err != nil {
		return err
	}
	m.Secret = string(key.Secrets[0])
	if answer.Body, err = json.Marshal(m); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return reply(w, answer, replayed)
}

// readSession reads what a game server wants to have the key of.
func readSession(body []byte) (s signing.SessionID, life time.Duration, err error) {
	var question struct {
		PlayerID  string `json:"player_id"`
		SessionID string `json:"session_id"`
		ExpiresIn *int64 `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &question, json.RejectUnknownMembers(true)); err != nil {
		return s, 0, unreadable(err)
	}
	s, life = signing.SessionID{Player: question.PlayerID, Session: question.SessionID}, session.DefaultLife
	if s.Session == "" {
		s.Session = signing.NewNonce()
	}
	least, most := int64(session.MinLife.Seconds()), int64(session.MaxLife.Seconds())
	switch {
	case !event.ValidPlayerID(s.Player):
		return s, 0, invalid("/player_id", fault.FieldType, "is the id of a player")
	case !event.ValidID(s.Session):
		return s, 0, invalid("/session_id", fault.FieldType, "has 1 to "+strconv.Itoa(event.MaxID)+" of A-Z a-z 0-9 _ -")
	case question.ExpiresIn == nil:
	case *question.ExpiresIn < least || *question.ExpiresIn > most:
		return s, 0, invalid("/expires_in", fault.FieldRange, "is "+strconv.FormatInt(least, 10)+" to "+strconv.FormatInt(most, 10)+" seconds")
	default:
		life = time.Duration(*question.ExpiresIn) * time.Second
	}
	return s, life, nil
}

// revokeSessions ends the keys of a player's sessions, by an order that its idempotency key names for ever. The answer is what is on
// record of the order.
func (a *App) revokeSessions(w http.ResponseWriter, r *http.Request, c caller) error {
	var body struct {
		PlayerID string `json:"player_id"`
		Reason   string `json:"reason"`
	}
	order, err := ordered(c, &body)
	if err != nil {
		return err
	}
	if !event.ValidPlayerID(body.PlayerID) {
		return invalid("/player_id", fault.FieldType, "is the id of a player")
	}
	done, err := a.sessions.Revoke(r.Context(), body.PlayerID, session.Order{Actor: order.Actor, Key: order.Key, Reason: body.Reason})
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{
		"player_id": done.Player, "generation": done.Generation, "revoked_at": timestamp(done.At), "actor": done.Actor, "reason": optional(done.Reason),
	})
}
