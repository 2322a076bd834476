package stack

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"liveops/core/signing"
)

// Secrets are the keys of a development system. They are made on its first start and kept in its data directory, readable
// by its owner alone.
type Secrets struct {
	Keys       []Key  `json:"hmac_keys"`
	Receipt    string `json:"receipt_secret"`
	Archive    string `json:"archive_secret"`
	Cursor     string `json:"cursor_secret"`
	Session    string `json:"session_secret"`
	ServiceBus string `json:"servicebus_key"`
}

// Key is a signing key in the form of HMAC_KEYS.
type Key struct {
	ID      string        `json:"id"`
	Class   signing.Class `json:"class"`
	Secrets []string      `json:"secrets"`
}

// Signing is the key as clients use it.
func (k Key) Signing() signing.Key {
	return signing.Key{ID: k.ID, Class: k.Class, State: signing.Active, Secrets: []signing.Secret{signing.Secret(k.Secrets[0])}}
}

// Key gives the key of a class; there is one of each.
func (s Secrets) Key(class signing.Class) signing.Key {
	for _, k := range s.Keys {
		if k.Class == class {
			return k.Signing()
		}
	}
	return signing.Key{}
}

// loadSecrets reads the secrets of a data directory, making them when there are none.
func loadSecrets(dir string) (Secrets, error) {
	file := filepath.Join(dir, "secrets.json")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSecrets(file)
	}
	if err != nil {
		return Secrets{}, err
	}
	var s Secrets
	if err := json.Unmarshal(text, &s); err != nil {
		return Secrets{}, fmt.Errorf("%s: %w", file, err)
	}
	for _, younger := range []*string{&s.ServiceBus, &s.Archive, &s.Session} {
		if *younger == "" { // the directory is older than this key
			*younger = secret()
			err = s.save(file)
		}
	}
	return s, err
}

func makeSecrets(file string) (Secrets, error) {
	s := Secrets{Receipt: secret(), Archive: secret(), Cursor: secret(), Session: secret(), ServiceBus: secret()}
	for _, class := range []signing.Class{signing.Server, signing.Client, signing.Admin} {
		s.Keys = append(s.Keys, Key{ID: "dev-" + string(class), Class: class, Secrets: []string{secret()}})
	}
	for _, k := range s.Keys { // each alone too, as commands take it
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), k.ID+".secret"), []byte(k.Secrets[0]+"\n"), 0o600); err != nil {
			return Secrets{}, err
		}
	}
	return s, s.save(file)
}

func (s Secrets) save(file string) error {
	text, err := json.MarshalIndent(s, "", "  ") //nolint:gosec // this file is where they are kept
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

func secret() string {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return base64.RawURLEncoding.EncodeToString(random)
}
