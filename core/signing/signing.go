// Package signing proves who sent a request: an HMAC-SHA256 over a canonical string of it, made by a client, checked here
// in constant time. It knows keys, canonical strings and the clock. It keeps no state, so it does not know whether a nonce
// was used before, and it does not know what a key may do: core/gate and core/pipeline decide that.
//
// docs/signing.md is the scheme as clients read it; testdata/vectors.json holds test vectors for them.
package signing

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"liveops/core/fault"
)

// The headers of a signed request.
const (
	HeaderKey         = "X-Liveops-Key"
	HeaderTimestamp   = "X-Liveops-Timestamp"
	HeaderNonce       = "X-Liveops-Nonce"
	HeaderSignature   = "X-Liveops-Signature"
	HeaderIdempotency = "Idempotency-Key"
)

// DefaultSkew is how far a timestamp may be from the server's clock, in either direction.
const DefaultSkew = 300 * time.Second

const (
	scheme            = "v1"
	maxSignatures     = 4   // in one header
	maxSignatureBytes = 512 // of one header
)

// signatureText refuses padding and stray bits in the last character, so that a signature has exactly one spelling.
var signatureText = base64.RawURLEncoding.Strict()

// Verifier checks signed requests. It is safe for concurrent use.
type Verifier struct {
	Keys func() *Keyring  // the keys in force; atomic.Pointer[Keyring].Load swaps them while requests run
	Skew time.Duration    // 0: DefaultSkew
	Now  func() time.Time // nil: time.Now
}

// Verify gives the key that signed r. It answers the first of these that holds: a header is missing
// (fault.HeaderMissing) or cannot be read (fault.HeaderMalformed, IdempotencyInvalid, MalformedRequest), the key is not
// known (KeyUnknown) or revoked (KeyRevoked), the timestamp is more than Skew away (TimestampOutside, with server_time in
// unix seconds), no signature matches any secret of the key (SignatureMismatch), the key is a session's that is over
// (SessionExpired).
//
// From the key on, every answer is given after the same work, so that its delay does not tell which ids exist. Keys of sessions take
// longer than others, whatever their id says: none exists before it is asked for.
func (v *Verifier) Verify(r Request) (Key, error) {
	claimed, sent, err := r.read()
	if err != nil {
		return Key{}, err
	}
	text, err := r.Canonical()
	if err != nil {
		return Key{}, err
	}
	key, known := v.Keys().Find(r.KeyID)
	secrets := key.Secrets
	if len(secrets) == 0 {
		secrets = []Secret{make(Secret, minSecret)} // an unknown id is refused below, whatever it matches
	}
	matches := match(secrets, text, claimed)

	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	skew := v.Skew
	if skew == 0 {
		skew = DefaultSkew
	}
	at := now()
	switch {
	case !known:
		return Key{}, fault.KeyUnknown.Errorf("%s names no key", HeaderKey)
	case key.State == Revoked:
		return Key{}, fault.KeyRevoked.Errorf("the key is revoked")
	case at.Sub(sent).Abs() > skew:
		outside := fault.TimestampOutside.Errorf("%s is more than %d s from the server's clock", HeaderTimestamp, int(skew.Seconds()))
		outside.Extra = map[string]any{"server_time": at.Unix()}
		return Key{}, outside
	case !matches:
		return Key{}, fault.SignatureMismatch.Errorf("no signature matches the canonical string of the request")
	case key.Class == Session && !at.Before(key.Expires): // told to nobody but the holder of the secret
		return Key{}, fault.SessionExpired.Errorf("the session's key expired at %s", key.Expires.Format(time.RFC3339))
	}
	return key, nil
}

// match says whether any claimed signature is the MAC of text under any of the secrets. It compares all with all.
func match(secrets []Secret, text string, claimed [][]byte) bool {
	found := 0
	for _, secret := range secrets {
		want := secret.mac(text)
		for _, c := range claimed {
			found |= subtle.ConstantTimeCompare(want, c)
		}
	}
	return found == 1
}

func (s Secret) mac(text string) []byte {
	m := hmac.New(sha256.New, s)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// Sign gives the value of HeaderSignature for r, made with the key's first secret. r must have every member but Signature.
// It is an error if r could not be verified whatever the signature, or if the key is not active.
func Sign(key Key, r Request) (string, error) {
	switch {
	case key.State != Active && key.State != "":
		return "", fmt.Errorf("sign with key %q: the key is %s", key.ID, key.State)
	case len(key.Secrets) == 0:
		return "", fmt.Errorf("sign with key %q: the key has no secret", key.ID)
	case r.KeyID != key.ID:
		return "", fmt.Errorf("sign with key %q: the request names key %q", key.ID, r.KeyID)
	}
	text, err := r.Canonical()
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	r.Signature = scheme + "=" + signatureText.EncodeToString(key.Secrets[0].mac(text))
	if _, _, err := r.read(); err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return r.Signature, nil
}

// SignHTTP sets the four signature headers of r, which must already have its URL and, where it needs one, its
// Idempotency-Key. body is what r.Body will give. nonce is 16 to 64 url-safe characters and never used before by this key:
// see NewNonce.
func SignHTTP(r *http.Request, key Key, body []byte, now time.Time, nonce string) error {
	for _, header := range []string{HeaderKey, HeaderTimestamp, HeaderNonce, HeaderSignature} {
		r.Header.Del(header)
	}
	r.Header.Set(HeaderKey, key.ID)
	r.Header.Set(HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(HeaderNonce, nonce)
	request, err := FromHTTP(r, body)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	signature, err := Sign(key, request)
	if err != nil {
		return err
	}
	r.Header.Set(HeaderSignature, signature)
	return nil
}

// NewNonce gives 26 random url-safe characters, 128 bits and more.
func NewNonce() string { return rand.Text() }
