package season

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"liveops/core/merkle"
)

const (
	// SealType is the typ header of every seal.
	SealType = "liveops-archive+jwt"
	// MinSecret is the least length of a key's secret, in bytes.
	MinSecret = 32
	// maxSeal is the most bytes a seal may have: several times what any has.
	maxSeal = 8 << 10
)

// Statement is what the seal of an archive says. Times are UTC, to the millisecond.
type Statement struct {
	Board          string      `json:"board"`
	Window         string      `json:"window"`
	Cadence        string      `json:"cadence"`
	StartsAt       time.Time   `json:"starts_at"`
	EndsAt         time.Time   `json:"ends_at"`
	Entries        int64       `json:"entries"`
	Root           merkle.Hash `json:"root"`     // over the rows in order of rank
	Sequence       int64       `json:"sequence"` // of the board's archives, from 1
	Previous       string      `json:"previous"` // SealDigest of the board's archive before; empty for the first
	ClosedAt       time.Time   `json:"closed_at"`
	CatalogVersion int         `json:"catalog_version"`
}

// SealDigest is how the next archive of a board names a seal: base64url(SHA-256(seal)).
func SealDigest(seal string) string {
	sum := sha256.Sum256([]byte(seal))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Key is a secret that archives are sealed with.
type Key struct {
	Secret []byte `json:"-"`
}

// String says what it is: the secret is never printed.
func (Key) String() string { return "archive key" }

// Format prints String, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// private is the Ed25519 key that a secret stands for.
func (k Key) private() ed25519.PrivateKey {
	seed := sha256.Sum256(append([]byte("liveops archive key\n"), k.Secret...))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Sealer seals archives with one key and publishes that and those retired. It is safe for concurrent use.
type Sealer struct {
	signer jose.Signer
	public []jose.JSONWebKey
}

// NewSealer makes a Sealer of the key that seals and any that sealed before. A secret below MinSecret bytes is refused, and one
// that is given twice.
func NewSealer(active Key, retired ...Key) (*Sealer, error) {
	s := &Sealer{}
	known := map[string]bool{}
	for i, k := range append([]Key{active}, retired...) {
		if len(k.Secret) < MinSecret {
			return nil, fmt.Errorf("the secret of archive key %d has %d bytes, at least %d are needed", i+1, len(k.Secret), MinSecret)
		}
		public := jose.JSONWebKey{Key: k.private().Public(), Algorithm: string(jose.EdDSA), Use: "sig"}
		thumbprint, err := public.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, err
		}
		public.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
		if known[public.KeyID] {
			return nil, fmt.Errorf("archive key %d is given twice", i+1)
		}
		known[public.KeyID] = true
		s.public = append(s.public, public)
	}
	var err error
	s.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: active.private()},
		new(jose.SignerOptions).WithType(SealType).WithHeader("kid", s.public[0].KeyID))
	if err != nil {
		return nil, err
	}
	return s, nil
}

// PublicKeys is what VerifySeal needs of the keys, the one that seals first. A key's id is its thumbprint (RFC 7638).
func (s *Sealer) PublicKeys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey(nil), s.public...)}
}

// Seal gives the seal of a statement, a JWS in compact form. The same statement under the same key always gives the same
// bytes.
func (s *Sealer) Seal(st Statement) (string, error) {
	payload, err := json.Marshal(st)
	if err != nil {
		return "", err
	}
	signed, err := s.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Why a seal proves nothing.
var (
	ErrSealMalformed  = errors.New("not a seal of the form that is issued here")
	ErrSealKeyUnknown = errors.New("the key of the seal is not among the public keys")
	ErrSealForged     = errors.New("the signature of the seal does not match what it says")
)

// VerifySeal gives what a seal says if one of the keys made it: ErrSealMalformed, ErrSealKeyUnknown or ErrSealForged
// otherwise. It accepts exactly the bytes that were issued, EdDSA alone, and no other spelling of them.
func VerifySeal(keys jose.JSONWebKeySet, seal string) (Statement, error) {
	header, err := readSealHeader(seal)
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSealMalformed, err)
	}
	parsed, err := jose.ParseSignedCompact(seal, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSealMalformed, err)
	}
	var key ed25519.PublicKey
	for _, k := range keys.Key(header.KeyID) {
		if public, ok := k.Key.(ed25519.PublicKey); ok {
			key = public
		}
	}
	if key == nil {
		return Statement{}, fmt.Errorf("%w: %q", ErrSealKeyUnknown, header.KeyID)
	}
	payload, err := parsed.Verify(key)
	if err != nil {
		return Statement{}, ErrSealForged
	}
	var s Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSealMalformed, err)
	}
	return s, nil
}

type sealHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// readSealHeader checks that the seal is three parts of base64url in the one way that encodes their bytes, and of the type of
// seals.
func readSealHeader(seal string) (sealHeader, error) {
	var h sealHeader
	if len(seal) > maxSeal {
		return h, fmt.Errorf("it has more than %d bytes", maxSeal)
	}
	parts := strings.Split(seal, ".")
	if len(parts) != 3 {
		return h, errors.New("it has not three parts with dots between")
	}
	for i, part := range parts {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || base64.RawURLEncoding.EncodeToString(raw) != part {
			return h, fmt.Errorf("part %d is not base64url", i+1)
		}
		if i > 0 {
			continue
		}
		if err := json.Unmarshal(raw, &h); err != nil {
			return h, fmt.Errorf("its header: %w", err)
		}
	}
	if h.Algorithm != string(jose.EdDSA) || h.Type != SealType {
		return h, fmt.Errorf("it is a %q signed with %q", h.Type, h.Algorithm)
	}
	return h, nil
}

// ErrChain says that seals do not follow each other as the archives of one board do.
var ErrChain = errors.New("the seals are no chain")

// VerifyChain gives what the seals of one board's archives say, oldest first, if each of them is genuine, they are numbered
// without a gap and each names the one before. The first need not be the board's first.
func VerifyChain(keys jose.JSONWebKeySet, seals []string) ([]Statement, error) {
	var chain []Statement
	for i, seal := range seals {
		s, err := VerifySeal(keys, seal)
		if err != nil {
			return nil, fmt.Errorf("seal %d: %w", i+1, err)
		}
		switch {
		case (s.Sequence == 1) != (s.Previous == ""):
			err = fmt.Errorf("%w: archive %d of board %s names %q as the one before", ErrChain, s.Sequence, s.Board, s.Previous)
		case i == 0:
		case s.Board != chain[i-1].Board:
			err = fmt.Errorf("%w: board %s follows on board %s", ErrChain, s.Board, chain[i-1].Board)
		case s.Sequence != chain[i-1].Sequence+1:
			err = fmt.Errorf("%w: archive %d follows on archive %d", ErrChain, s.Sequence, chain[i-1].Sequence)
		case s.Previous != SealDigest(seals[i-1]):
			err = fmt.Errorf("%w: archive %d names another archive as the one before", ErrChain, s.Sequence)
		}
		if err != nil {
			return nil, err
		}
		chain = append(chain, s)
	}
	return chain, nil
}
