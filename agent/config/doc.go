// Package config reads the agent's configuration file, /etc/headroom/headroom.toml.
//
// One struct, [Config], holds every key with its meaning, unit and default; the
// annotated example in packaging/headroom.toml is tested against it, so a key
// cannot exist in one and not in the other.
//
// Consequences. The file is read strictly: an unknown key is an error, because a
// misspelt limit that is silently ignored is worse than an agent that does not
// start. [Load] and [Config.Check] report every problem at once, each as
// "file:line: key: what is wrong; what to do", so that an operator edits once.
// Durations are strings ("30s", "90d"); a bare number has no unit and is refused.
//
// The package starts no goroutine and keeps no global state. It imports no other
// package of headroom: the agent converts a Config into the planner's policy, the
// mesh's configuration and so on, which keeps this struct a stable operator's
// interface while those packages change.
package config
