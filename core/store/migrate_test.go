package store_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) { // has migrated once
		applied, err := db.Migrate(t.Context())
		require.NoError(t, err)
		require.Empty(t, applied)
		pending, err := db.Pending(t.Context())
		require.NoError(t, err)
		require.Empty(t, pending)
		_, err = db.Exec(t.Context(), "DELETE FROM player")
		require.NoError(t, err)
	})
}

func TestMigrationsAreRepeatable(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		forgotten, err := db.Exec(t.Context(), "DELETE FROM schema_version")
		require.NoError(t, err)
		pending, err := db.Pending(t.Context())
		require.NoError(t, err)
		require.Len(t, pending, int(forgotten))
		require.IsIncreasing(t, pending)
		applied, err := db.Migrate(t.Context())
		require.NoError(t, err)
		require.Equal(t, pending, applied)
	})
}

func TestASchemaOfANewerProgramIsRefused(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		_, err := db.Exec(t.Context(), "INSERT INTO schema_version VALUES ('9999_hindsight', 0)")
		require.NoError(t, err)
		_, err = db.Migrate(t.Context())
		require.ErrorContains(t, err, `"9999_hindsight"`)
		_, err = db.Pending(t.Context())
		require.ErrorIs(t, err, store.ErrNewerSchema)
	})
}

func TestPendingBeforeTheFirstMigration(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		_, err := db.Exec(t.Context(), "DROP TABLE schema_version")
		require.NoError(t, err)
		_, err = db.Pending(t.Context())
		require.ErrorContains(t, err, "liveops migrate")
	})
}

func TestMigrationFiles(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir("migrations")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	numbers := map[string]string{}
	for _, file := range files {
		parts := regexp.MustCompile(`^(\d{4})_[a-z0-9_]+(\.sqlite)?\.sql$`).FindStringSubmatch(file.Name())
		require.NotNil(t, parts, "%s is not named NNNN_what.sql", file.Name())
		require.Empty(t, numbers[parts[1]], "%s and %s have the same number", file.Name(), numbers[parts[1]])
		numbers[parts[1]] = file.Name()

		text, err := os.ReadFile("migrations/" + file.Name())
		require.NoError(t, err)
		statement := strings.TrimSpace(regexp.MustCompile(`(?m)--.*$`).ReplaceAllString(string(text), ""))
		require.NotContains(t, strings.TrimSuffix(statement, ";"), ";", "%s is more than one statement", file.Name())
		require.Regexp(t, `^(CREATE (UNIQUE )?(TABLE|INDEX) IF NOT EXISTS|CREATE INDEX|DROP TABLE IF EXISTS|ALTER TABLE|INSERT|UPDATE)\b`, statement, "%s", file.Name())
		if strings.HasPrefix(statement, "CREATE TABLE") {
			require.Contains(t, statement, "COLLATE=utf8mb4_bin", "%s compares ids loosely", file.Name())
		}
	}
}
