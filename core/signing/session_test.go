package signing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

func TestSessionKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	_, ring := readVectors(t)
	none, err := signing.NewKeyring([]signing.Key{studio()})
	require.NoError(t, err)
	good := signing.SessionID{Player: "ada", Session: "s", Expires: noon}
	_, err = none.SessionKey(good)
	require.ErrorContains(t, err, "no master secret")
	_, known := none.Find(good.KeyID())
	require.False(t, known)
	for _, change := range []func(*signing.SessionID){
		func(s *signing.SessionID) { s.Player = "" },
		func(s *signing.SessionID) { s.Player = "a.b" },
		func(s *signing.SessionID) { s.Session = "" },
		func(s *signing.SessionID) { s.Session = "é" },
		func(s *signing.SessionID) { s.Expires = time.Time{} },
		func(s *signing.SessionID) { s.Expires = noon.Add(time.Millisecond) },
		func(s *signing.SessionID) { s.Generation = -1 },
		func(s *signing.SessionID) { s.Generation = 1e15 },
	} {
		bad := good
		change(&bad)
		_, err := ring.SessionKey(bad)
		require.ErrorContains(t, err, "no key can have that id", "%+v", bad)
	}
	_, err = ring.SessionKey(good)
	require.NoError(t, err)
}

// FuzzSessionID: an id that is read is spelled in one way, fits a header and can be found.
func FuzzSessionID(f *testing.F) {
	all, ring := readVectors(f)
	for _, d := range all.Derived {
		f.Add(d.KeyID)
	}
	for _, seed := range []string{"", "ses.", "ses....", "ses.a.b.1.2.3", "ses.a.b.01.2", "ses.a.b.1.-2", "ses.a.b.+1.2", "ses.a b.c.1.2", "ses.a.b.9999999999999.0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		s, ok := signing.ParseSessionID(id)
		key, known := ring.Find(id)
		if !ok {
			require.NotEqual(t, signing.Session, key.Class)
			return
		}
		require.True(t, known)
		require.Equal(t, id, s.KeyID())
		require.LessOrEqual(t, len(id), 161)
		require.Equal(t, []any{id, s.Player, s.Expires, s.Generation}, []any{key.ID, key.Player, key.Expires, key.Generation})
		again, err := ring.SessionKey(s)
		require.NoError(t, err)
		require.Equal(t, key.Secrets[:1], again.Secrets)
	})
}
