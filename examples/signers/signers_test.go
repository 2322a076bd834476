// Package signers holds signers in other languages. What is tested here is that they sign what the service verifies; .ci/check-signers
// does so for those that need a compiler.
package signers_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

const vectors = "../../core/signing/testdata/vectors.json"

// python runs the check of the Python signer on a file of vectors.
func python(t *testing.T, file string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("TEST_INTEROP") == "required" {
			t.Fatal("python3 is not on PATH")
		}
		t.Skip("python3 is not on PATH")
	}
	for _, read := range []string{"python/liveops.py", "python/check.py"} { // so that go test knows on what its result depends
		_, err := os.ReadFile(read)
		require.NoError(t, err)
	}
	check := exec.CommandContext(t.Context(), "python3", "-B", "python/check.py", file)
	out, err := check.CombinedOutput()
	return string(out), err
}

func TestPython(t *testing.T) {
	t.Parallel()
	out, err := python(t, vectors)
	require.NoError(t, err, "%s", out)
	counts := regexp.MustCompile(`(\d+) passed, 0 failed`).FindStringSubmatch(out)
	require.NotNil(t, counts, out)
	passed, err := strconv.Atoi(counts[1])
	require.NoError(t, err)
	require.GreaterOrEqual(t, passed, 65)
}

// The check notices what is wrong: a vector whose bytes are others fails.
func TestPythonNotices(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(vectors)
	require.NoError(t, err)
	for from, to := range map[string]string{
		`"secret": "`: `"secret": "x`, `\nPOST\n/v1/events\n\n`: `\nPOST\n/v1/event\n\n`, "studio-secret-studio-secret-0001": "studio-secret-studio-secret-0003",
	} {
		require.Contains(t, string(good), from)
		file := filepath.Join(t.TempDir(), "vectors.json")
		require.NoError(t, os.WriteFile(file, bytes.Replace(good, []byte(from), []byte(to), 1), 0o600))
		out, err := python(t, file)
		require.Error(t, err, from)
		require.Contains(t, out, "FAIL ", from)
	}
}
