package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// machine is the machine's books at one moment, in ticks of all CPUs.
type machine struct{ all, stolen uint64 }

func readMachine() (m machine, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return m, err
	}
	defer f.Close()
	var name string
	var user, nice, system, idle, iowait, irq, softirq, steal uint64
	if _, err := fmt.Fscan(f, &name, &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return m, fmt.Errorf("/proc/stat: %w", err)
	}
	return machine{all: user + nice + system + idle + iowait + irq + softirq + steal, stolen: steal}, nil
}

// addMachine tells how fast and how quiet the machine was, without which a
// figure in microseconds says little: what an empty system call costs, and what
// the hypervisor below took away.
func addMachine(r *report, before machine) error {
	after, err := readMachine()
	if err != nil {
		return err
	}
	all := float64(after.all - before.all)
	r.add("", "this machine: time that the hypervisor below took from all CPUs", "%", series{100 * float64(after.stolen-before.stolen) / all}, nil)
	var calls series
	for range 11 {
		const n = 20000
		d, err := cpuOf(n, func() error { _ = unix.Getppid(); return nil })
		if err != nil {
			return err
		}
		calls = append(calls, float64(d)/float64(time.Nanosecond))
	}
	r.add("", "this machine: a system call that does nothing (getppid)", "ns", calls, nil)
	return nil
}
