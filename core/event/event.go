// Package event is the unit of work: something a player did, as a client reports it and as it travels between the stages.
// It reads and checks the form of an event. It knows nothing of what an event is worth, nor which types, boards or items
// a game has: that is the catalog's.
package event

import (
	"math"
	"time"

	"github.com/go-json-experiment/json"
)

// The limits of the envelope.
const (
	MaxBatch    = 200       // events in a request
	MaxBody     = 512 << 10 // bytes in a request
	MaxSize     = 32 << 10  // bytes in an event
	MaxDepth    = 10        // nested objects and arrays in a request
	MaxID       = 64        // characters of an event id
	MaxPlayerID = 63        // so that player.event is a Service Bus MessageId (128)
	MaxInteger  = 1<<53 - 1 // exact in JSON and as a sorted set's score
)

// The types with an effect of their own.
const (
	XPGained       = "xp_gained"
	ScoreSubmitted = "score_submitted"
	BossKilled     = "boss_killed"
	ItemAcquired   = "item_acquired"

	// RewardGranted is the type of what places bring. It is made here: no client may send it, and its id is none that a client
	// could choose.
	RewardGranted = "reward_granted"

	// EventReversed is the type of what takes back the effect of another event. It is made here, too, on an operator's order.
	EventReversed = "event_reversed"
)

// WindowID is the optional field of score_submitted that names the only window the score may count in.
const WindowID = "window_id"

// Event is what a client sends. Its identity is (PlayerID, ID): event ids are unique per player only.
type Event struct {
	ID         string         `json:"event_id"`
	Type       string         `json:"type"`
	PlayerID   string         `json:"player_id"`
	OccurredAt time.Time      `json:"occurred_at"`
	SessionID  string         `json:"session_id,omitzero"`
	Seq        int64          `json:"seq,omitzero"`
	Data       map[string]any `json:"data"`
}

// Accepted is an event that was answered 202, as it travels on the queues.
type Accepted struct {
	Event
	// At is the effective time: OccurredAt for trusted senders, ReceivedAt otherwise. Milliseconds, UTC.
	At         time.Time `json:"at"`
	ReceivedAt time.Time `json:"received_at"`
	KeyID      string    `json:"key_id"`
}

// Identity is the event's name across all players, fit for a message id. Neither id may hold a dot.
func (e Event) Identity() string { return e.PlayerID + "." + e.ID }

// Int gives an integer of the event's data. It is false for what is absent, not a number, fractional or beyond
// ±MaxInteger.
func (e Event) Int(field string) (int64, bool) {
	f, ok := e.Data[field].(float64)
	if !ok || f != math.Trunc(f) || math.Abs(f) > MaxInteger {
		return 0, false
	}
	return int64(f), true
}

// Text gives a string of the event's data.
func (e Event) Text(field string) (string, bool) {
	s, ok := e.Data[field].(string)
	return s, ok
}

// Encode is the body of a queue message. The same event always gives the same bytes.
func (a Accepted) Encode() ([]byte, error) {
	return json.Marshal(a, json.Deterministic(true))
}
