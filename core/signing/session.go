package signing

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"liveops/core/event"
)

const (
	sessionPrefix = "ses."
	sessionInfo   = "liveops session v1\n" // before the key id in HKDF's info; another derivation would be another version
	maxSessionID  = len(sessionPrefix) + event.MaxPlayerID + 1 + event.MaxID + 1 + maxExpiry + 1 + maxGeneration
	maxExpiry     = 12 // digits
	maxGeneration = 15 // digits, so that Redis's scripts calculate with it exactly
)

// SessionID is what the id of a session's key says, and everything that is known of such a key: none is kept anywhere. Whoever
// changes a part of it has another key, of which he does not know the secret.
type SessionID struct {
	Player     string    // whom the key speaks for, as in events
	Session    string    // as in events: 1 to 64 of A-Z a-z 0-9 _ -
	Expires    time.Time // exclusive, whole seconds
	Generation int64     // of the player's keys, at least 0: revoking them makes it grow
}

// KeyID writes the id: "ses." and the four parts, joined by dots, which none of them can hold.
func (s SessionID) KeyID() string {
	return sessionPrefix + s.Player + "." + s.Session + "." + strconv.FormatInt(s.Expires.Unix(), 10) + "." + strconv.FormatInt(s.Generation, 10)
}

// ParseSessionID reads the id of a session's key. It is false for what KeyID does not write, so that an id has one spelling.
func ParseSessionID(id string) (SessionID, bool) {
	rest, found := strings.CutPrefix(id, sessionPrefix)
	parts := strings.Split(rest, ".")
	if !found || len(id) > maxSessionID || len(parts) != 4 || !event.ValidPlayerID(parts[0]) || !event.ValidID(parts[1]) {
		return SessionID{}, false
	}
	expires, known := number(parts[2], maxExpiry)
	generation, numbered := number(parts[3], maxGeneration)
	return SessionID{Player: parts[0], Session: parts[1], Expires: time.Unix(expires, 0).UTC(), Generation: generation}, known && numbered
}

// number reads a decimal number of at most so many digits that is spelled as strconv would.
func number(text string, digits int) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err == nil && len(text) <= digits && strconv.FormatUint(n, 10) == text
}

// SessionKey gives the key of a session, as a client signs with it: its only secret is derived from the first master secret.
// It is an error if the keyring has none, or if no key id can say what s does.
func (k *Keyring) SessionKey(s SessionID) (Key, error) {
	id := s.KeyID()
	if read, ok := ParseSessionID(id); !ok || !read.Expires.Equal(s.Expires) {
		return Key{}, errors.New("derive the key of a session: no key can have that id")
	}
	key, known := k.Find(id)
	if !known {
		return Key{}, errors.New("derive the key of a session: there is no master secret")
	}
	key.Secrets = key.Secrets[:1]
	return key, nil
}

// masters is the master secrets of sessions, each with HKDF's extraction done.
type masters [][]byte

// key derives the key of an id. Nothing of it is looked up, so the work is the same for whatever session.
func (m masters) key(id string) (Key, bool) {
	s, ok := ParseSessionID(id)
	if !ok || len(m) == 0 {
		return Key{}, false
	}
	key := Key{ID: id, Class: Session, State: Active, Player: s.Player, Expires: s.Expires, Generation: s.Generation}
	for _, master := range m {
		derived, err := hkdf.Expand(sha256.New, master, sessionInfo+id, sha256.Size)
		if err != nil { // only for more bytes than these
			return Key{}, false
		}
		key.Secrets = append(key.Secrets, Secret(base64.RawURLEncoding.EncodeToString(derived)))
	}
	return key, true
}

// extract is the first half of HKDF, without salt, which does not depend on the session.
func extract(secrets []Secret) (masters, error) {
	var all masters
	for _, secret := range secrets {
		master, err := hkdf.Extract(sha256.New, secret, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, master)
	}
	return all, nil
}
