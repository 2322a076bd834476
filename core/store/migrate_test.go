package store_test

import (
	"os"
	"path/filepath"
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

func TestASchemaOfANewerProgram(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		_, err := db.Exec(t.Context(), "INSERT INTO schema_version VALUES ('9998_more', 0)")
		require.NoError(t, err)
		applied, err := db.Migrate(t.Context())
		require.NoError(t, err, "what only adds, a program that is rolled back to can live with")
		require.Empty(t, applied)

		_, err = db.Exec(t.Context(), "INSERT INTO schema_version VALUES ('9999_hindsight.breaking', 0)")
		require.NoError(t, err)
		_, err = db.Migrate(t.Context())
		require.ErrorContains(t, err, `"9999_hindsight.breaking"`)
		_, err = db.Pending(t.Context())
		require.ErrorIs(t, err, store.ErrNewerSchema)
	})
}

// TestMigrationsAdd asks it of every migration since a deployment can be rolled back.
func TestMigrationsAdd(t *testing.T) {
	t.Parallel()
	for statement, want := range map[string]bool{
		"CREATE TABLE IF NOT EXISTS t (\n\tplayer_id VARCHAR(63) NOT NULL\n)": true,
		"CREATE INDEX t_player ON t (player_id)":                              true,
		"ALTER TABLE mail ADD COLUMN ref VARCHAR(96) NOT NULL DEFAULT ''":     true,
		"ALTER TABLE receipt ADD COLUMN reversed_at BIGINT NULL":              true,
		"ALTER TABLE mail ADD COLUMN ref VARCHAR(96) NOT NULL":                false, // an older program inserts rows without it
		"ALTER TABLE mail ADD COLUMN a BIGINT NULL, DROP COLUMN b":            false,
		"ALTER TABLE mail DROP COLUMN ref":                                    false,
		"CREATE UNIQUE INDEX IF NOT EXISTS t_player ON t (player_id)":         false, // it may insert what is there
		"DROP TABLE IF EXISTS mail":                                           false,
		"UPDATE mail SET ref = ''":                                            false,
	} {
		require.Equal(t, want, adds(statement), "%s", statement)
	}
	files, err := filepath.Glob("migrations/*.sql")
	require.NoError(t, err)
	for _, file := range files {
		if name := filepath.Base(file); name > "0133" && !strings.Contains(name, ".breaking") {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.True(t, adds(string(text)), "%s does more than add: name it %s", name, strings.Replace(name, ".", ".breaking.", 1))
		}
	}
}

// adds says whether a program that does not know of a migration goes on as before.
func adds(statement string) bool {
	return regexp.MustCompile(`^CREATE (TABLE|INDEX)\b|^ALTER TABLE \w+ ADD COLUMN [^,]*( NULL|DEFAULT [^,]+)$`).MatchString(statement) &&
		!regexp.MustCompile(`^ALTER .* NOT NULL$`).MatchString(statement)
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
		parts := regexp.MustCompile(`^(\d{4})_[a-z0-9_]+(\.breaking)?(\.sqlite)?\.sql$`).FindStringSubmatch(file.Name())
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
