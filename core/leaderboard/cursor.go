package leaderboard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"liveops/core/event"
	"liveops/core/fault"
)

// cursor is a place in the order of one window, between two rows.
type cursor struct {
	board, window string
	before        bool // the rows before the place, rather than those after it
	score         int64
	member        string
}

// cursors signs cursors and knows its own. A cursor is the base64url of a payload and its MAC: nobody can make one up, and
// whoever reads it learns nothing but the board, the window and the row that he was given before.
type cursors struct{ key []byte }

const (
	cursorForm = 1
	macSize    = 16
	cursorSize = 1 + 1 + 3 + event.MaxID + 32 + timeWidth + event.MaxPlayerID + 8 + macSize // at most, in bytes
)

func (c cursors) seal(at cursor) string {
	payload := []byte{cursorForm, 0}
	if at.before {
		payload[1] = 1
	}
	for _, text := range []string{at.board, at.window, at.member} {
		payload = append(payload, byte(len(text)))
		payload = append(payload, text...)
	}
	payload = binary.BigEndian.AppendUint64(payload, uint64(at.score))
	return base64.RawURLEncoding.EncodeToString(append(payload, c.mac(payload)...))
}

func (c cursors) open(text string) (cursor, error) {
	refused := fault.MalformedCursor.Errorf("the cursor is not one that was given out here")
	if len(text) > base64.RawURLEncoding.EncodedLen(cursorSize) {
		return cursor{}, refused
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < macSize {
		return cursor{}, refused
	}
	payload, mac := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	if !hmac.Equal(mac, c.mac(payload)) || len(payload) < 2 || payload[0] != cursorForm {
		return cursor{}, refused
	}
	at := cursor{before: payload[1] == 1}
	rest := payload[2:]
	for _, into := range []*string{&at.board, &at.window, &at.member} {
		if len(rest) < 1 || len(rest)-1 < int(rest[0]) {
			return cursor{}, refused
		}
		n := int(rest[0])
		*into, rest = string(rest[1:1+n]), rest[1+n:]
	}
	if len(rest) != 8 {
		return cursor{}, refused
	}
	at.score = int64(binary.BigEndian.Uint64(rest))
	// Base64 reads past line ends, and a flag may be any byte: only the one text that was given out is taken.
	if c.seal(at) != text {
		return cursor{}, refused
	}
	return at, nil
}

func (c cursors) mac(payload []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	h.Write([]byte("liveops leaderboard cursor\n")) // the key may sign other things too
	h.Write(payload)
	return h.Sum(nil)[:macSize]
}
