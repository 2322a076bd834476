package bus

import (
	"fmt"

	"liveops/core/fault"
)

// MaxID is the longest message id, in characters.
const MaxID = 128

// Check says whether a broker can take these messages: fault.TooLarge for a body over MaxBody, an internal error for an id
// over MaxID, because only a mistake of ours makes one.
func Check(messages []Message) error { return check(messages, MaxBody) }

func check(messages []Message, most int) error {
	for _, m := range messages {
		if len(m.Body) > most {
			return fault.EventTooLarge.Errorf("a message has %d bytes, at most %d are sent", len(m.Body), most)
		}
		if len(m.ID) > MaxID {
			return fmt.Errorf("a message id has %d characters, at most %d are sent", len(m.ID), MaxID)
		}
	}
	return nil
}
