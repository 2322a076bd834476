package simulate_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/local/simulate"
)

func curves(t *testing.T, labels map[string]string) []simulate.Curve {
	t.Helper()
	report, err := simulate.Simulation{
		Current: policy(t, "own-history: {limit: 40}, population: {mode: off}"), Candidate: policy(t, "own-history: {limit: 60.5}"),
		Ladder: byThumb, Thresholds: true, Labels: labels,
	}.Run(t.Context(), source(score("ann", 0, 50), score("bob", 1, 70)))
	require.NoError(t, err)
	return report.Curves
}

func TestPlotSVG(t *testing.T) {
	t.Parallel()
	var drawn bytes.Buffer
	require.NoError(t, simulate.Plot(&drawn, "svg", curves(t, map[string]string{"ann": "speed"})))
	words := ""
	for d := xml.NewDecoder(&drawn); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if text, ok := token.(xml.CharData); ok {
			words += string(text) + "\n"
		}
	}
	for _, want := range []string{"own-history", "population", "regular-timing", "current 40", "candidate 60.5", "cheats", "clean", "players found, %"} {
		require.Contains(t, words, want)
	}
	require.NotContains(t, words, "current 3.5", "the rule is off there")
}

func TestPlotPNG(t *testing.T) {
	t.Parallel()
	var drawn bytes.Buffer
	require.NoError(t, simulate.Plot(&drawn, "png", curves(t, nil)))
	picture, err := png.Decode(&drawn)
	require.NoError(t, err)
	require.Greater(t, picture.Bounds().Dx(), picture.Bounds().Dy())
}

func TestPlotRefuses(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, simulate.Plot(io.Discard, "gif", curves(t, nil)), `"gif" is neither svg nor png`)
	require.ErrorContains(t, simulate.Plot(io.Discard, "svg", nil), "no statistical rules")
	require.ErrorIs(t, simulate.Plot(full{}, "svg", curves(t, nil)), errBroken)
}
