package cheat

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"liveops/core/event"
)

// Labels says who cheats and how. Whoever has no label plays fair.
type Labels map[string]string // by player

// Write writes CSV: player_id,label, with a header.
func (l Labels) Write(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"player_id", "label"}) // Error below says it
	for _, player := range slices.Sorted(maps.Keys(l)) {
		_ = out.Write([]string{player, l[player]})
	}
	out.Flush()
	return out.Error()
}

// ReadLabels reads what Write writes. The label "clean", or none, says that the player plays fair.
func ReadLabels(r io.Reader) (Labels, error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !slices.Equal(rows[0], []string{"player_id", "label"}) {
		return nil, errors.New("the first line must be player_id,label")
	}
	labels, seen := Labels{}, map[string]bool{}
	for i, row := range rows[1:] {
		player, label := row[0], row[1]
		switch {
		case !event.ValidPlayerID(player):
			return nil, fmt.Errorf("line %d: %q is no player id", i+2, player)
		case seen[player]:
			return nil, fmt.Errorf("line %d: player %s has a label already", i+2, player)
		case label != "" && label != "clean":
			labels[player] = label
		}
		seen[player] = true
	}
	return labels, nil
}
