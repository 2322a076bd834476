package bicep_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// declaration is a parameter of main.bicep: its decorators, name, type and default.
var declaration = regexp.MustCompile(`(?m)((?:^(?:@.*|'.*|\]\))\n)*)^param (\w+) (\w+)( = .*)?$`)

// TestParameterFiles holds the parameter files to what main.bicep declares, since only Azure would find the difference.
func TestParameterFiles(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("main.bicep")
	require.NoError(t, err)
	declared := declaration.FindAllStringSubmatch(string(source), -1)
	require.Len(t, declared, strings.Count(string(source), "\nparam "))

	for _, environment := range []string{"dev", "staging", "prod"} {
		t.Run(environment, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(environment + ".parameters.json")
			require.NoError(t, err)
			var file struct {
				Parameters map[string]struct{ Value any }
			}
			require.NoError(t, json.Unmarshal(text, &file))
			require.Equal(t, environment, file.Parameters["environment"].Value)
			for _, p := range declared {
				decorators, name, kind, otherwise := p[1], p[2], p[3], p[4]
				given, ok := file.Parameters[name]
				if !ok {
					require.NotEmpty(t, otherwise, "%s has no default and is not given", name)
					continue
				}
				delete(file.Parameters, name)
				require.NotContains(t, decorators, "@secure", "%s is a secret", name)
				switch value := given.Value.(type) {
				case string:
					require.Equal(t, "string", kind, name)
					if strings.Contains(decorators, "@allowed") {
						require.Contains(t, decorators, "'"+value+"'", name)
					}
				case bool:
					require.Equal(t, "bool", kind, name)
				case float64:
					require.Equal(t, "int", kind, name)
				case []any:
					require.Equal(t, "array", kind, name)
				case map[string]any:
					require.Equal(t, "object", kind, name)
				default:
					require.Fail(t, "no value", name)
				}
			}
			require.Empty(t, file.Parameters, "main.bicep does not declare these")
		})
	}
}
