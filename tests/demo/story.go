package main

import "time"

// guest is one VM of the story.
type guest struct {
	host   int
	name   string
	demand string // script, see tests/lab/demand; cores
}

// The story: three hosts of 0.8 cores. On the first, a web server's demand climbs
// until the host could not serve it together with its neighbours; the other hosts
// have room for these, and none has room for the web server at what it may come
// to. Emulation costs a fifth on top: a guest that asks for 0.20 cores uses 0.24.
const (
	hosts = 3
	quota = 0.8 // cores of each host
)

var guests = []guest{
	{1, "mail", "constant:0.05"},
	{2, "wiki", "constant:0.06"},
	{0, "db", "constant:0.20"},
	{0, "cache", "constant:0.14"},
	{0, "web", "ramp:0.08,0.56,36s,42s"},
}

// runTime is how long each telling lasts, from the last guest's start: 36 s in
// which the agents learn, 42 s of climbing, and 26 s at the top.
const runTime = 104 * time.Second

// telling is one run of the story.
type telling struct {
	title string
	mode  string // of the agents
}

var tellings = []telling{
	{"without headroom: the agents only watch", "advise"},
	{"with headroom: the agents act", "auto"},
}

// figures is what one telling cost.
type figures struct {
	demanded, lost float64 // core-seconds, all guests
	contention     float64 // core-seconds of run-queue wait, all hosts
	migrations     int
	failed         int
	copyS          float64
	blackoutMS     float64
	leadS          *float64 // of the first move; nil when nothing moved
	firstMove      time.Time
	moved          string
	dead           []string // guests that worked no more at the end, and why
}
