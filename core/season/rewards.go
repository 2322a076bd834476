package season

import "liveops/core/catalog"

// Win is a final place and what it brings.
type Win struct {
	Standing
	Tier       catalog.Tier
	TierNumber int // which of the tiers of the board and cadence it is
}
