package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/session"
	"liveops/core/signing"
)

type sessionsCommand struct {
	Key    sessionKey    `cmd:"" help:"Make the key of a player's session: print its id, and write its secret to a file."`
	Revoke sessionRevoke `cmd:"" help:"End all keys of a player's sessions."`
}

// Help implements kong's longer help.
func (sessionsCommand) Help() string {
	return `Examples:
  id=$(liveops sessions key ann --into ann.secret --secret-file DIR/dev-server.secret)
  liveops sign event.json --key-id "$id" --secret-file ann.secret | sh
  liveops sessions revoke ann "her phone was stolen" --secret-file DIR/dev-admin.secret`
}

type sessionKey struct {
	Player  string        `arg:"" help:"Whom the key speaks for."`
	For     time.Duration `help:"How long, 1m to 24h." default:"1h"`
	Session string        `help:"Name of the session; without it one is made up." placeholder:"NAME"`
	Into    string        `help:"File for the secret." type:"path" placeholder:"FILE" required:""`
	address
	identity
}

// Validate implements kong's check of the flags.
func (c sessionKey) Validate() error {
	if c.For < session.MinLife || c.For > session.MaxLife || c.For%time.Second != 0 {
		return errors.Join(errors.New("--for must be 1m to 24h, in whole seconds"), c.address.Validate())
	}
	return c.address.Validate()
}

func (c sessionKey) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(c.identity)
	if err != nil {
		return err
	}
	me.idempotency = signing.NewNonce()
	question := map[string]any{"player_id": c.Player, "expires_in": int64(c.For.Seconds())}
	if c.Session != "" {
		question["session_id"] = c.Session
	}
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	var answer struct {
		KeyID  string `json:"key_id"`
		Secret string `json:"secret"`
	}
	if err := me.do(ctx, http.MethodPost, "/v1/keys/session", body, &answer); err != nil {
		return err
	}
	if err := os.WriteFile(c.Into, []byte(answer.Secret+"\n"), 0o600); err != nil {
		return err
	}
	t.out.printf("%s\n", answer.KeyID)
	return nil
}

type sessionRevoke struct {
	Player string `arg:"" help:"Whose keys."`
	Reason string `arg:"" help:"Why."`
	order
}

func (c sessionRevoke) Run(ctx context.Context, t *terminal) error {
	var done struct {
		PlayerID   string `json:"player_id"`
		Generation int64  `json:"generation"`
		RevokedAt  string `json:"revoked_at"`
	}
	if err := c.send(ctx, "/v1/keys/session/revoke", map[string]string{"player_id": c.Player, "reason": c.Reason}, &done); err != nil {
		return err
	}
	t.out.printf("%s  generation %d began %s\n", done.PlayerID, done.Generation, done.RevokedAt)
	return nil
}
