package receipt_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/receipt"
)

// offline is k with Ed25519 for its algorithm.
func offline(k receipt.Key) receipt.Key {
	k.Algorithm = receipt.EdDSA
	return k
}

// private is the Ed25519 key of a secret, made without the package.
func private(secret []byte) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("liveops receipt key\n" + string(secret)))
	return ed25519.NewKeyFromSeed(seed[:])
}

// forgeEdDSA is a compact JWS made without any library.
func forgeEdDSA(header, payload string, key ed25519.PrivateKey) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
}

func headerOf(alg, kid string) string {
	return `{"alg":"` + alg + `","kid":"` + kid + `","typ":"` + receipt.Type + `"}`
}

func TestEdDSAVector(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, offline(current))
	public := keys.PublicKeys()
	require.Len(t, public.Keys, 1)
	require.True(t, public.Keys[0].IsPublic())
	require.Equal(t, private(current.Secret).Public(), public.Keys[0].Key)
	token := signed(t, keys, claims())
	require.Equal(t, forgeEdDSA(headerOf("EdDSA", public.Keys[0].KeyID), vectorPayload, private(current.Secret)), token)
	require.Equal(t, token, signed(t, keys, claims()), "the same claims, the same bytes")
}

// A receipt of either algorithm, signed by a key in use or a retired one, verifies under every arrangement of the keys that has its secret.
func TestRotationOfAlgorithms(t *testing.T) {
	t.Parallel()
	public := keysOf(t, current, former).PublicKeys()
	for _, signer := range []receipt.Key{current, offline(current), former, offline(former)} {
		token := signed(t, keysOf(t, signer), claims())
		for _, arranged := range []*receipt.Keys{
			keysOf(t, current, former), keysOf(t, offline(current), former), keysOf(t, former, offline(current)), keysOf(t, signer),
		} {
			got, err := arranged.Verify(token)
			require.NoError(t, err)
			require.Equal(t, "alice", got.PlayerID)
		}
		got, err := receipt.VerifyWith(public, token)
		if signer.Algorithm == receipt.EdDSA {
			require.NoError(t, err)
			require.Equal(t, "alice", got.PlayerID)
		} else {
			require.ErrorIs(t, err, fault.ReceiptAlgorithm)
		}
	}
	retired := signed(t, keysOf(t, offline(current), offline(former)), claims())
	_, err := receipt.VerifyWith(keysOf(t, current).PublicKeys(), retired)
	require.NoError(t, err, "only the first of the list signs")
	_, err = receipt.VerifyWith(jose.JSONWebKeySet{}, retired)
	require.ErrorIs(t, err, fault.ReceiptKeyUnknown)
	_, err = receipt.VerifyWith(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{KeyID: public.Keys[0].KeyID, Key: ed25519.PublicKey("short")}}}, retired)
	require.ErrorIs(t, err, fault.ReceiptKeyUnknown, "what is no public key checks nothing")
	_, err = receipt.NewKeys(current, receipt.Key{ID: "k9", Secret: current.Secret})
	require.ErrorContains(t, err, `"k9" has the secret of another one`)
	_, err = receipt.NewKeys(receipt.Key{ID: "k", Secret: current.Secret, Algorithm: "RS256"})
	require.ErrorContains(t, err, "neither HS256 nor EdDSA")
}

// The kid decides the algorithm, whatever the header wishes.
func TestEdDSARefused(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, offline(current), former)
	public := keys.PublicKeys()
	kid, raw := public.Keys[0].KeyID, public.Keys[0].Key.(ed25519.PublicKey)
	token := signed(t, keys, claims())
	parts := strings.Split(token, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	resigned := func(header string) string { return forgeEdDSA(header, vectorPayload, private(current.Secret)) }
	for name, test := range map[string]struct {
		token string
		want  fault.Code
	}{
		"HS256 with the public key for a secret": {forge(headerOf("HS256", kid), vectorPayload, raw), fault.ReceiptAlgorithm},
		"HS256 under the kid of Ed25519":         {forge(headerOf("HS256", kid), vectorPayload, current.Secret), fault.ReceiptAlgorithm},
		"EdDSA under the kid of a secret":        {resigned(headerOf("EdDSA", "k2")), fault.ReceiptAlgorithm},
		"none":                                   {encode(headerOf("none", kid)) + "." + parts[1] + ".", fault.ReceiptAlgorithm},
		"ES256":                                  {resigned(headerOf("ES256", kid)), fault.ReceiptAlgorithm},
		"Ed25519, as RFC 9864 calls it":          {resigned(headerOf("Ed25519", kid)), fault.ReceiptAlgorithm},
		"the kid of the retired key":             {resigned(headerOf("EdDSA", public.Keys[1].KeyID)), fault.ReceiptForged},
		"another key":                            {forgeEdDSA(headerOf("EdDSA", kid), vectorPayload, private(former.Secret)), fault.ReceiptForged},
		"kid unknown":                            {resigned(headerOf("EdDSA", "k3")), fault.ReceiptKeyUnknown},
		"crit":                                   {resigned(`{"alg":"EdDSA","crit":["exp"],"exp":1,"kid":"` + kid + `","typ":"` + receipt.Type + `"}`), fault.ReceiptMalformed},
		"brings its key":                         {resigned(`{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA"},"kid":"` + kid + `","typ":"` + receipt.Type + `"}`), fault.ReceiptMalformed},
		"names where a key is":                   {resigned(`{"alg":"EdDSA","jku":"https://example.com","kid":"` + kid + `","typ":"` + receipt.Type + `"}`), fault.ReceiptMalformed},
		"kid twice":                              {resigned(`{"alg":"EdDSA","kid":"k2","kid":"` + kid + `","typ":"` + receipt.Type + `"}`), fault.ReceiptMalformed},
		"an archive's seal":                      {resigned(`{"alg":"EdDSA","kid":"` + kid + `","typ":"liveops-archive+jwt"}`), fault.ReceiptMalformed},
		"padded":                                 {token + "==", fault.ReceiptMalformed},
		"the other alphabet":                     {parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+", fault.ReceiptMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := keys.Verify(test.token)
			require.Equal(t, test.want, fault.CodeOf(err), "%v", err)
			_, err = receipt.VerifyWith(public, test.token)
			require.ErrorIs(t, err, fault.Invalid, "offline, too")
		})
	}
	for n := range len(token) {
		_, err := keys.Verify(token[:n])
		require.ErrorIs(t, err, fault.Invalid, "the first %d characters", n)
	}
	for i := range token {
		changed := []byte(token)
		if changed[i] = 'A'; token[i] == 'A' {
			changed[i] = 'B'
		}
		_, err := keys.Verify(string(changed))
		require.ErrorIs(t, err, fault.Invalid, "character %d", i)
	}
}
