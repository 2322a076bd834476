package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// checkIgnored says what is wrong with a list of vulnerabilities to let pass: each needs a reason, and a day within a quarter
// from which it counts again.
func checkIgnored(text []byte, now time.Time) error {
	var file struct {
		Vulnerabilities []struct {
			ID        string
			Statement string
			ExpiredAt string `yaml:"expired_at"`
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return err
	}
	var problems []error
	for _, v := range file.Vulnerabilities {
		day, err := time.Parse(time.DateOnly, v.ExpiredAt)
		switch {
		case v.ID == "" || v.Statement == "":
			problems = append(problems, fmt.Errorf("%q: without an id or a statement", v.ID))
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: expired_at: %w", v.ID, err))
		case !now.Before(day):
			problems = append(problems, fmt.Errorf("%s: ended on %s", v.ID, v.ExpiredAt))
		case day.Sub(now) > 92*24*time.Hour:
			problems = append(problems, fmt.Errorf("%s: ends only on %s", v.ID, v.ExpiredAt))
		}
	}
	return errors.Join(problems...)
}

func TestIgnoredVulnerabilitiesEnd(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repository, ".trivyignore.yaml"))
	require.NoError(t, err)
	require.NoError(t, checkIgnored(text, time.Now()))

	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for entry, problem := range map[string]string{
		"{id: CVE-1, statement: never called, expired_at: 2026-12-31}": "",
		"{id: CVE-1, statement: never called}":                         "expired_at",
		"{id: CVE-1, expired_at: 2026-12-31}":                          "statement",
		"{id: CVE-1, statement: never called, expired_at: 2026-11-01}": "ended",
		"{id: CVE-1, statement: never called, expired_at: 2027-03-01}": "ends only",
	} {
		err := checkIgnored([]byte("vulnerabilities: ["+entry+"]"), now)
		if problem == "" {
			require.NoError(t, err, entry)
		} else {
			require.ErrorContains(t, err, problem, entry)
		}
	}
}
