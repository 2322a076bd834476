package progression

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"

	"liveops/core/fault"
)

// Where the mail of an event comes from.
const (
	FromLevel    = "level"
	FromBoss     = "boss"
	FromEvent    = "event"
	FromItem     = "item"
	FromOverflow = "overflow" // of an item that did not fit
)

// Mail is what an event brings that its player has to claim.
type Mail struct {
	ID     string // of the event that will grant it
	Source string // FromLevel and so on
	Ref    string // "level:5", "boss:hydra", "event:quest_done", "item:gem"; of overflow the kind of what did not fit
	Items  map[string]int64
}

// MailID is the id of the mail of an event with a source and a ref: the same for the same, always. As with RewardID, no client can choose
// it.
func MailID(eventID, source, ref string) string {
	sum := sha256.Sum256([]byte("liveops mail\n" + eventID + "\n" + source + "\n" + ref)) // none may hold a line feed
	return "mail~" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

// send adds a mail, and a note of each item in it. kind is what the refs of the notes begin with, empty when the mail's ref is the kind of
// its only item.
func (e *Effect) send(m Mail, kind string) {
	m.ID = MailID(e.Event.ID, m.Source, m.Ref)
	e.Mails = append(e.Mails, m)
	for _, item := range slices.Sorted(maps.Keys(m.Items)) {
		noted := kind + item
		if kind == "" {
			noted = m.Ref
		}
		e.note(fault.Mailed, noted, m.Items[item])
	}
}
