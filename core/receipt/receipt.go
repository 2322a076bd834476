// Package receipt makes and keeps signed statements of what an event granted, in JWS compact form (RFC 7515), with HS256 or, for others to check
// offline, EdDSA (RFC 8037). It signs what it is told: whether something was granted, and once, is the ledger's business.
package receipt

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"liveops/core/fault"
)

const (
	// Type is the typ header of every receipt.
	Type = "liveops-receipt+jwt"
	// MinSecret is the least length of a secret, in bytes.
	MinSecret = 32
	// MaxToken is the most bytes a receipt may have.
	MaxToken = 16 << 10
)

// Claims is what a receipt says. Together with player and event, "xp" and the kinds of the grants are the keys of its ledger
// rows.
type Claims struct {
	ID             string  `json:"id"` // set by Sign
	PlayerID       string  `json:"player_id"`
	EventID        string  `json:"event_id"`
	Type           string  `json:"type"` // of the event
	Board          string  `json:"board,omitempty"`
	Window         string  `json:"window,omitempty"` // with Board and Rank: the place that a reward is for
	Rank           int64   `json:"rank,omitzero"`
	XP             int64   `json:"xp"`
	Reverses       string  `json:"reverses,omitempty"` // the event whose effect it takes back
	XPBefore       int64   `json:"xp_before"`
	XPAfter        int64   `json:"xp_after"`
	Modifier       string  `json:"modifier,omitempty"` // of the catalog, that made the XP what it is
	LevelBefore    int     `json:"level_before"`
	LevelAfter     int     `json:"level_after"`
	Grants         []Grant `json:"grants"`
	Mails          []Mail  `json:"mails,omitempty"` // that the player may claim
	Notes          []Note  `json:"notes,omitempty"`
	Abridged       bool    `json:"abridged,omitzero"` // grants, mails and notes did not fit and stand in the records only; set by Sign
	CatalogVersion int     `json:"catalog_version"`
	IssuedAt       int64   `json:"iat"` // seconds since 1970, as in every JWT
}

// Grant is an item granted, and the kind of the ledger row that holds it.
type Grant struct {
	Kind     string `json:"kind"`
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
}

// Mail is what waits to be claimed.
type Mail struct {
	ID    string     `json:"mail_id"`
	Items []MailItem `json:"items"`
}

// MailItem is one item of a mail.
type MailItem struct {
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
}

// Note is something the event asked for and did not get, and why.
type Note struct {
	Code   fault.Code `json:"code"`
	Ref    string     `json:"ref"`
	Amount int64      `json:"amount"`
}

// ID is the id of the receipt for an event: the same for the same event, always.
func ID(playerID, eventID string) string {
	sum := sha256.Sum256([]byte("liveops receipt\n" + playerID + "." + eventID)) // neither id may hold a dot
	return "rcp_" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

// Algorithm is how a receipt is signed.
type Algorithm string

// The algorithms.
const (
	HS256 Algorithm = "HS256" // checked where it was issued
	EdDSA Algorithm = "EdDSA" // with Ed25519, checked by anybody
)

// Key is a secret. It stands for two keys, and both verify: the secret itself for HS256, and the Ed25519 key that is made of it. So the algorithm may
// change without a new secret.
type Key struct {
	ID        string    // in the receipts signed with HS256, as their kid; that of the Ed25519 key is its thumbprint (RFC 7638)
	Secret    []byte    `json:"-"`
	Algorithm Algorithm // what it signs with, when it does; "": HS256
}

// String is the key's name: the secret is never printed.
func (k Key) String() string { return "receipt key " + k.ID }

// Format prints String, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// private is the Ed25519 key that the secret stands for.
func (k Key) private() ed25519.PrivateKey {
	seed := sha256.Sum256(append([]byte("liveops receipt key\n"), k.Secret...))
	return ed25519.NewKeyFromSeed(seed[:])
}

// public is the Ed25519 key as others know it.
func (k Key) public() (jose.JSONWebKey, error) {
	public := jose.JSONWebKey{Key: k.private().Public(), Algorithm: string(EdDSA), Use: "sig"}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	public.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	return public, err
}

// signer makes the signer of the key's algorithm. Of itself, jose names no symmetric key.
func (k Key) signer() (jose.Signer, error) {
	with, id := jose.SigningKey{Algorithm: jose.HS256, Key: k.Secret}, k.ID
	if k.Algorithm == EdDSA {
		public, err := k.public()
		if err != nil {
			return nil, err
		}
		with, id = jose.SigningKey{Algorithm: jose.EdDSA, Key: k.private()}, public.KeyID
	}
	return jose.NewSigner(with, new(jose.SignerOptions).WithType(Type).WithHeader("kid", id))
}

// Keys signs with one key and verifies with it and those retired. It is safe for concurrent use.
type Keys struct {
	signer   jose.Signer
	checkers checkers
	public   []jose.JSONWebKey
}

// Format prints no key.
func (*Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "receipt keys") }

// checkers finds what checks a signature by the kid, which alone decides the algorithm.
type checkers map[string]checker

type checker struct {
	algorithm Algorithm
	key       any
}

// NewKeys makes Keys of the key that signs and any that only verify still. A secret below MinSecret bytes, and an id that
// is missing, longer than 64 characters or used twice, are refused, and so is a secret given twice and an unknown algorithm.
func NewKeys(active Key, retired ...Key) (*Keys, error) {
	keys := &Keys{checkers: checkers{}}
	active.Secret = bytes.Clone(active.Secret)
	for _, k := range append([]Key{active}, retired...) {
		_, twice := keys.checkers[k.ID]
		switch {
		case k.ID == "" || len(k.ID) > 64:
			return nil, fmt.Errorf("a receipt key's id has %d characters, 1 to 64 are needed", len(k.ID))
		case twice:
			return nil, fmt.Errorf("two receipt keys have the id %q", k.ID)
		case len(k.Secret) < MinSecret:
			return nil, fmt.Errorf("the secret of receipt key %q has %d bytes, at least %d are needed", k.ID, len(k.Secret), MinSecret)
		case k.Algorithm != "" && k.Algorithm != HS256 && k.Algorithm != EdDSA:
			return nil, fmt.Errorf("receipt key %q is to sign with neither %s nor %s", k.ID, HS256, EdDSA)
		}
		public, err := k.public()
		if err != nil {
			return nil, err
		}
		if _, twice := keys.checkers[public.KeyID]; twice {
			return nil, fmt.Errorf("receipt key %q has the secret of another one", k.ID)
		}
		keys.checkers[k.ID] = checker{HS256, bytes.Clone(k.Secret)}
		keys.checkers[public.KeyID] = checker{EdDSA, public.Key}
		keys.public = append(keys.public, public)
	}
	var err error
	keys.signer, err = active.signer()
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// PublicKeys are the Ed25519 keys, of the secret that signs first. They check nothing that was signed with HS256.
func (k *Keys) PublicKeys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey(nil), k.public...)}
}

// Sign gives the receipt for the claims, of at most MaxToken bytes. The same claims under the same key always give the same
// bytes. Claims whose grants make it longer than that are abridged.
func (k *Keys) Sign(c Claims) (string, error) {
	c.ID, c.Abridged = ID(c.PlayerID, c.EventID), false
	token, err := k.sign(c)
	if err == nil && len(token) > MaxToken {
		c.Grants, c.Mails, c.Notes, c.Abridged = nil, nil, nil, true
		token, err = k.sign(c)
	}
	return token, err
}

func (k *Keys) sign(c Claims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed, err := k.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Verify gives what a receipt says if one of the keys signed it. Otherwise it is a fault of kind fault.Invalid whose code is
// the reason: ReceiptTooLarge, ReceiptMalformed, ReceiptAlgorithm (anything but the algorithm of the key that the header names, whatever else it wishes),
// ReceiptKeyUnknown or ReceiptForged. It accepts exactly the bytes that were issued, not another spelling of them.
func (k *Keys) Verify(token string) (Claims, error) { return k.checkers.verify(token) }

// VerifyWith is Keys.Verify with nothing but public keys. Receipts signed with HS256 are ReceiptAlgorithm: only where they were issued can it
// be told whether they are genuine.
func VerifyWith(public jose.JSONWebKeySet, token string) (Claims, error) {
	known := checkers{}
	for _, key := range public.Keys {
		if public, is := key.Key.(ed25519.PublicKey); is && len(public) == ed25519.PublicKeySize {
			known[key.KeyID] = checker{EdDSA, key.Key}
		}
	}
	if h, err := readHeader(token); err == nil && h.Algorithm == HS256 {
		return Claims{}, fault.ReceiptAlgorithm.Errorf("a receipt signed with HS256 can only be checked where it was issued")
	}
	return known.verify(token)
}

func (known checkers) verify(token string) (Claims, error) {
	if len(token) > MaxToken {
		return Claims{}, fault.ReceiptTooLarge.Errorf("a receipt has at most %d bytes", MaxToken)
	}
	header, err := readHeader(token)
	if err != nil {
		return Claims{}, err
	}
	check, ok := known[header.KeyID]
	switch {
	case header.Algorithm != HS256 && header.Algorithm != EdDSA:
		return Claims{}, fault.ReceiptAlgorithm.Errorf("receipts are signed with HS256 or EdDSA")
	case !ok:
		return Claims{}, fault.ReceiptKeyUnknown.Errorf("the receipt's key is not known here")
	case header.Algorithm != check.algorithm:
		return Claims{}, fault.ReceiptAlgorithm.Errorf("the receipt's key signs with another algorithm than the receipt names")
	}
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(check.algorithm)})
	if err != nil {
		return Claims{}, fault.ReceiptMalformed.Wrap(err, "the receipt is not a signed token")
	}
	payload, err := parsed.Verify(check.key)
	if err != nil {
		return Claims{}, fault.ReceiptForged.Wrap(err, "the receipt was changed or is not from here")
	}
	var c Claims
	if header.Type != Type {
		return Claims{}, fault.ReceiptMalformed.Errorf("the token is of another type than %s", Type)
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return Claims{}, fault.ReceiptMalformed.Wrap(err, "the token does not hold a receipt")
	}
	return c, nil
}

// header is the protected header, as far as it is looked at before any signature is. It has no other member.
type header struct {
	Algorithm Algorithm `json:"alg"`
	KeyID     string    `json:"kid"`
	Type      string    `json:"typ"`
}

// readHeader checks that the token is three parts of base64url in the one way that encodes their bytes, and reads the
// first.
func readHeader(token string) (header, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return header{}, fault.ReceiptMalformed.Errorf("a receipt has three parts with dots between")
	}
	var h header
	for i, part := range parts {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || base64.RawURLEncoding.EncodeToString(raw) != part {
			return header{}, fault.ReceiptMalformed.Errorf("part %d of the receipt is not base64url", i+1)
		}
		if i == 0 {
			if err := json.Unmarshal(raw, &h, json.RejectUnknownMembers(true)); err != nil {
				return header{}, fault.ReceiptMalformed.Wrap(err, "the receipt's header is not that of a receipt")
			}
		}
	}
	return h, nil
}
