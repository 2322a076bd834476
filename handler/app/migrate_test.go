package app

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/core/store/storetest"
)

// TestMigrate knows of the environment nothing but the database, as the job that runs before a deployment does.
func TestMigrate(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, rawURL string) {
		migrate := func() string {
			var out bytes.Buffer
			require.NoError(t, Migrate(t.Context(), func(name string) string { return map[string]string{"DB_URL": rawURL}[name] }, &out))
			return out.String()
		}
		require.Contains(t, migrate(), "applied 0001_")
		require.Equal(t, "the schema is up to date\n", migrate())
		db, err := store.Open(rawURL)
		require.NoError(t, err)
		defer db.Close()
		pending, err := db.Pending(t.Context())
		require.NoError(t, err)
		require.Empty(t, pending)
	})
}

func TestMigrateSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings map[string]string
		want     []string
	}{
		"nothing set":      {nil, []string{"DB_URL is not set"}},
		"all at once":      {map[string]string{"DB_TLS": "/none/ca.pem"}, []string{"DB_URL is not set", "DB_TLS"}},
		"no such database": {map[string]string{"DB_URL": "postgres://host/name"}, []string{"neither mysql nor sqlite"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Migrate(t.Context(), func(name string) string { return test.settings[name] }, &bytes.Buffer{})
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}
