package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"liveops/local/playbooks"
)

// TestPlaybooks has the parser take every line of docs/playbooks that begins with liveops.
func TestPlaybooks(t *testing.T) {
	t.Parallel()
	const root = "../.."
	home := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(home, "ann.secret"), nil, 0o600))
	pages, err := playbooks.Read(root)
	require.NoError(t, err)
	lines := 0
	for _, page := range pages {
		script, err := playbooks.Commands(root, home, pages, page)
		require.NoError(t, err)
		written := map[string]bool{}
		for _, command := range script {
			written[command.Output] = true
			if command.Words[0] != "liveops" {
				continue
			}
			args := command.Words[1:]
			for i, arg := range args {
				if file := filepath.Join(root, arg); strings.Contains(arg, "/") && exists(file) {
					args[i] = file
				} else if written[arg] {
					args[i] = os.DevNull // a command before wrote it
				}
			}
			parser, err := kong.New(&commands{})
			require.NoError(t, err)
			_, err = parser.Parse(args)
			require.NoError(t, err, "%s: liveops %q", page.Name, args)
			lines++
		}
	}
	require.NotZero(t, lines)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
