package simulate

import (
	"time"

	"liveops/core/catalog"
	"liveops/core/fairness"
)

// NewLadder is the ladder of the fairness stage, with a memory of its own that ends with the process.
func NewLadder(game *catalog.Catalog, now func() time.Time) Judge {
	memory := fairness.NewMemory()
	return &fairness.Ladder{States: memory, Baselines: memory, Catalog: func() *catalog.Catalog { return game }, Now: now}
}
