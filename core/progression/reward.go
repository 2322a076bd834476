package progression

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"time"

	"liveops/core/event"
	"liveops/core/fault"
)

// Reward is what a place in a window of a board brings, or another mail.
type Reward struct {
	Board  string // empty when no window brings it, but a mail of another kind
	Window string // its id
	Rank   int64
	XP     int64            // 0 to event.MaxInteger
	Items  map[string]int64 // each 1 to event.MaxInteger
}

// RewardID is the id of the events that grant what a window's places bring, one for each player: the same for the same window,
// always. It is none that event.ValidID takes, so that no client can send an event under it beforehand and use it up. The
// character that does this is one that no client escapes in a path: an escape could be undone on the way, and the signature with it.
func RewardID(board, window string) string {
	sum := sha256.Sum256([]byte("liveops reward\n" + board + "\n" + window)) // neither may hold a line feed
	return "reward~" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

// Event is the event under an id that grants the reward to a player at an instant. It carries what it is worth, because the catalog
// that promised it may not be in force any more.
func (r Reward) Event(id, player string, at time.Time) event.Accepted {
	items := make(map[string]any, len(r.Items))
	for item, quantity := range r.Items {
		items[item] = float64(quantity)
	}
	data := map[string]any{"xp": float64(r.XP), "items": items}
	if r.Board != "" {
		data["board"], data["window"], data["rank"] = r.Board, r.Window, float64(r.Rank)
	}
	at = at.UTC().Truncate(time.Millisecond)
	return event.Accepted{
		Event: event.Event{
			ID: id, Type: event.RewardGranted, PlayerID: player, OccurredAt: at,
			Data: data,
		},
		At: at, ReceivedAt: at,
	}
}

// rewarded is what an event asks for that Reward.Event made.
func (o *offer) rewarded(e event.Event) {
	xp, ok := e.Int("xp")
	if !ok {
		o.note(fault.FieldType, Root, 0)
	}
	o.xp = xp
	items, _ := e.Data["items"].(map[string]any)
	for _, item := range slices.Sorted(maps.Keys(items)) {
		quantity, ok := event.Event{Data: items}.Int(item)
		if !ok {
			o.note(fault.FieldType, ref("item", item), 0)
		}
		o.wishes = append(o.wishes, wish{kind: "item:" + item, item: item, quantity: quantity})
	}
}
