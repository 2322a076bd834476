package web

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
)

// docs/errors.md lists every code there is, in order, with the status and title that callers get, and nothing else.
func TestErrorsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\d+) \\| ([^|]+) \\| ([^|]+) \\|$")
	var documented []fault.Code
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		code := fault.Code(m[1])
		documented = append(documented, code)
		require.Contains(t, fault.Codes(), code, "docs/errors.md lists a code that does not exist")
		require.Equal(t, strconv.Itoa(Status(code.Kind())), m[2], "the status of %s", code)
		require.Equal(t, code.Title(), m[3], "the title of %s", code)
	}
	for _, code := range fault.Codes() {
		require.Contains(t, documented, code, "docs/errors.md does not list a code")
	}
	require.Equal(t, slices.Sorted(slices.Values(documented)), documented)
	require.Len(t, documented, len(fault.Codes()), "docs/errors.md lists a code twice")
}
