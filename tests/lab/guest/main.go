// Command guest is the init of the lab's guests: it plays the demand script
// of its kernel command line and reports on the serial console.
//
// The load is open loop. Work arrives as requests of a fixed amount each, on
// the script's schedule, whether or not the machine keeps up. A request that
// is not finished one second after its arrival is lost. What a guest loses is
// therefore the harm of contention, measured where it hurts.
//
// It is linked statically, is the only program of its machine, and must stay
// quiet while idle: an idle guest costs its host CPU, and the lab runs many.
// It imports tests/lab/demand and tests/lab/wire alone.
package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"headroom/tests/lab/demand"
	"headroom/tests/lab/wire"
)

func main() {
	fmt.Printf("\nguest: %v\n", run())
	// The kernel panics when init ends: stay, and let the host read why.
	for {
		time.Sleep(time.Hour)
	}
}

// run plays for ever; it returns when it cannot begin.
func run() error {
	params, err := parameters()
	if err != nil {
		return err
	}
	if params.Calibrate {
		calibrate()
	}
	if err := loadModules("/modules"); err != nil {
		// The script can be played without them.
		fmt.Printf("\nguest: %v\n", err)
	}
	script, err := demand.Parse(params.Demand)
	if err != nil {
		return err
	}
	p := newPlayer(script, params.Rate)
	for range runtime.NumCPU() {
		go p.work()
	}
	return p.report()
}

// parameters reads the command line, and so needs /proc.
func parameters() (wire.Params, error) {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return wire.Params{}, fmt.Errorf("mount /proc: %w", err)
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return wire.Params{}, err
	}
	return wire.ParseParams(string(bytes.TrimSpace(line)))
}

// calibrate spins for ever, and prints how many iterations it has made; the
// host divides them by the CPU time that the guest's process has used.
func calibrate() {
	var made uint64
	for {
		const batch = 1 << 16
		for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); made += batch {
			spin(batch)
		}
		fmt.Print(wire.Calibration(made))
	}
}

// sink keeps the compiler from dropping the work.
var sink uint64

// spin does n iterations of work: integers only, no memory, so that an
// iteration costs the same whatever the guest does besides.
//
//go:noinline
func spin(n uint64) {
	x := sink | 1
	for ; n > 0; n-- {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink = x
}
