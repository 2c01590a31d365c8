// Package history keeps what an agent has measured and decided: time series of its
// VMs in several resolutions, records of decisions, learned state, and, apart from
// these, the journal of negotiations.
//
// A [Store] is one Badger database. Samples are gathered in memory, logged to the
// database at every [Store.Flush] (once a second under [Store.Run]) and sealed into
// compressed chunks of 120 points. A process that dies loses at most what was
// appended since the last Flush; a machine that loses power, at most what was
// written since the last sync ([Options.SyncEvery]). A value that fails its checksum
// is logged, skipped and counted, never fatal; a database that does not open is
// moved aside and started afresh, because measurements are worth less than an agent
// that runs.
//
// A [Journal] is the opposite: each Put is on the disk when it returns, and damage
// is an error that reaches the caller, because a migration may depend on it.
//
// Consequences. Badger writes through memory maps, for which a full disk is a fatal
// signal instead of an error. So nothing is written when less than [Options.MinFree]
// is free: writes fail with [ErrDiskFull], and the agent stops new moves. Disk
// blocks of the live logs are reserved beforehand for the same reason. What is left:
// a program that takes all of MinFree within the moment in which Badger compacts
// ends the agent, which then starts again from its logs. A second process on the
// same directory is refused with [ErrLocked].
//
// Time is what the caller says ([Store.Append]) and what [Options.Now] returns; the
// wall clock of the machine decides nothing. Samples that arrive late or twice are
// merged: of two points of the same bucket, the one made of more samples stays.
//
// Goroutines: Badger's own, ended by Close. Run is called by its owner and returns
// when its context ends. All methods may be called concurrently. The byte layout of
// keys and values stands in docs/FORMAT.md.
//
// No Badger type appears in the exported API. The package imports no other package
// of headroom.
package history
