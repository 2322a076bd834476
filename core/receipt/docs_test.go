package receipt_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/receipt"
)

// The claims in docs/receipts.md are those of the type.
func TestClaimsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/receipts.md")
	require.NoError(t, err)
	var documented, claims []string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				documented = append(documented, name[1])
			}
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[receipt.Claims]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		claims = append(claims, name)
	}
	require.ElementsMatch(t, claims, documented)
}
