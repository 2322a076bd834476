// Package liveops is the repository itself: the files that describe the functions to the Functions host, and the
// catalogs of the example games, for the programs that carry them along.
package liveops

import "embed"

// Functions holds host.json and functions/, as the Functions host reads them.
//
//go:embed host.json functions
var Functions embed.FS

// Examples holds the catalogs of the games.
//
//go:embed examples/*/catalog.yaml
var Examples embed.FS
