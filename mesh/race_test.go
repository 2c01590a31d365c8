//go:build race

package mesh

// underRace: the race detector makes gossip some ten times dearer.
const underRace = true
