package signing

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	minSecret  = 32 // bytes, the output of SHA-256
	maxSecrets = 4  // live at a time, so that a request costs at most so many MACs
	maxKeyID   = 64 // of a key that is not a session's
)

// Class says what kind of sender a key speaks for. What each may do is not decided here.
type Class string

// The classes.
const (
	Server  Class = "server"  // a trusted game server
	Client  Class = "client"  // shipped in a build of the game
	Session Class = "session" // one player for a while; such keys are derived, never configured
	Admin   Class = "admin"   // an operator
)

// State is where a key is in its life.
type State string

// The states, in order.
const (
	Active     State = "active"
	VerifyOnly State = "verify-only" // verifies, signs nothing new
	Revoked    State = "revoked"
)

// Key is one sender's key. While its secret is being changed it has several: each verifies, the first signs. The canonical
// string does not name the key, so no two keys may share a secret.
type Key struct {
	ID      string   // 1 to 64 of A-Z a-z 0-9 . _ -, or of a session what SessionID.KeyID writes
	Class   Class    //
	State   State    // "": Active
	Secrets []Secret // 1 to 4; may be gone when revoked

	// What the id of a session's key says; empty for any other key.
	Player     string    // the only one it speaks for
	Expires    time.Time // exclusive
	Generation int64     // it is revoked when the player is in a later one, which is not known here
}

// Name is the id as it may be logged: that of a session's key would name the player.
func (k Key) Name() string {
	if k.Class == Session {
		return sessionPrefix + "*"
	}
	return k.ID
}

// Secret is the secret of an HMAC, at least 32 bytes. However it is printed, logged or marshalled, it does not show.
type Secret []byte

const redacted = "[redacted]"

// String hides the secret.
func (Secret) String() string { return redacted }

// GoString hides the secret.
func (Secret) GoString() string { return redacted }

// Format hides the secret from every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON hides the secret from JSON.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Keyring is a checked set of keys. It does not change.
//
// The keys are behind a function because fmt reaches into unexported fields without asking a Secret how it wants to be
// printed.
type Keyring struct {
	find func(id string) (Key, bool)
}

// NewKeyring checks the keys and gives every problem at once: none at all, an id that is bad or given twice, an unknown
// class or state, a key without secrets or with more than 4, a secret shorter than 32 bytes or used twice. The error quotes
// no secret. Sessions are the master secrets that keys of sessions are derived from: the first for new ones, all of them to verify, at
// most 4; with none, no key of a session is known.
func NewKeyring(keys []Key, sessions ...Secret) (*Keyring, error) {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(keys) == 0 {
		problem("keys: there is no key")
	}
	byID := make(map[string]Key, len(keys))
	owners := map[[32]byte]string{}
	own := func(name string, secrets []Secret) {
		for i, secret := range secrets {
			if len(secret) < minSecret {
				problem("%s: secret %d has %d bytes, at least %d are needed", name, i+1, len(secret), minSecret)
				continue
			}
			sum := sha256.Sum256(secret)
			if owner, shared := owners[sum]; shared {
				problem("%s: secret %d is also a secret of %s", name, i+1, owner)
			}
			owners[sum] = name
		}
	}
	for i, key := range keys {
		if key.State == "" {
			key.State = Active
		}
		name := fmt.Sprintf("key %q", key.ID)
		if !validKeyID(key.ID) {
			name = fmt.Sprintf("key number %d", i+1) // what stands in place of an id may be a secret
			problem("%s: the id must be 1 to %d of A-Z a-z 0-9 . _ -", name, maxKeyID)
		} else if _, twice := byID[key.ID]; twice {
			problem("%s: the id is given twice", name)
		}
		if strings.HasPrefix(key.ID, sessionPrefix) {
			problem("%s: ids of sessions begin with %s", name, sessionPrefix)
		}
		if key.Class != Server && key.Class != Client && key.Class != Admin {
			problem("%s: class %q is none of server, client, admin", name, key.Class)
		}
		if key.State != Active && key.State != VerifyOnly && key.State != Revoked {
			problem("%s: state %q is none of active, verify-only, revoked", name, key.State)
		}
		if n := len(key.Secrets); n > maxSecrets || n == 0 && key.State != Revoked {
			problem("%s: it has %d secrets, 1 to %d are needed", name, n, maxSecrets)
		}
		own(name, key.Secrets)
		byID[key.ID] = key
	}
	if len(sessions) > maxSecrets {
		problem("sessions: there are %d secrets, at most %d are needed", len(sessions), maxSecrets)
	}
	own("sessions", sessions)
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	masters, err := extract(sessions)
	if err != nil {
		return nil, err
	}
	return &Keyring{find: func(id string) (Key, bool) {
		if strings.HasPrefix(id, sessionPrefix) {
			return masters.key(id)
		}
		key, known := byID[id]
		return key, known
	}}, nil
}

// Find gives the key of an id. A session's is derived, however long ago it expired; it may be revoked all the same.
func (k *Keyring) Find(id string) (Key, bool) {
	if k == nil {
		return Key{}, false
	}
	return k.find(id)
}

// ParseKeys reads keys from JSON, such as
//
//	[{"id": "studio", "class": "server", "state": "active", "secrets": ["…", "…"]}]
//
// A secret is the bytes of its string, nothing decoded. state may be left out. Unknown members are refused. The values
// themselves are for NewKeyring to check. The error quotes no value.
func ParseKeys(text []byte) ([]Key, error) {
	var read []struct {
		ID      string   `json:"id"`
		Class   Class    `json:"class"`
		State   State    `json:"state"`
		Secrets []string `json:"secrets"`
	}
	if err := json.Unmarshal(text, &read, json.RejectUnknownMembers(true)); err != nil {
		if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
			if errors.Is(err, json.ErrUnknownName) {
				return nil, fmt.Errorf("keys: %s is not a member of a key", semantic.JSONPointer)
			}
			return nil, fmt.Errorf("keys: %s has the wrong type", orRoot(semantic.JSONPointer))
		}
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return nil, errors.New("keys: an object names the same member twice")
		}
		if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			return nil, fmt.Errorf("keys: not valid JSON at byte %d", syntax.ByteOffset)
		}
		return nil, errors.New("keys: not valid JSON")
	}
	keys := make([]Key, len(read))
	for i, k := range read {
		keys[i] = Key{ID: k.ID, Class: k.Class, State: k.State}
		if k.State == "" {
			keys[i].State = Active
		}
		for _, secret := range k.Secrets {
			keys[i].Secrets = append(keys[i].Secrets, Secret(secret))
		}
	}
	return keys, nil
}

func orRoot(p jsontext.Pointer) string {
	if p == "" {
		return "the document"
	}
	return string(p)
}

func validKeyID(id string) bool {
	if id == "" || len(id) > maxKeyID {
		_, session := ParseSessionID(id)
		return session
	}
	for _, c := range []byte(id) {
		if !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
