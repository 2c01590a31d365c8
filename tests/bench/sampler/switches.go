package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/link"

	"headroom/bpf"
)

//go:generate go tool bpf2go -target bpfel -cc clang-14 -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I../../../bpf/internal/kern -I/usr/include/x86_64-linux-gnu" textbook textbook.bpf.c

const roundTrips = 40000

// measureSwitches lets two threads of one CPU hand a byte to and fro, two
// switches a round trip, with the hooks attached by turns. What a hook costs end
// to end is the CPU time that the two use more than without it.
func measureSwitches(ctx context.Context, o options, r *report) error {
	h, err := startHelper("work")
	if err != nil {
		return err
	}
	defer func() { _ = h.stop() }()
	s, err := bpf.Open(bpf.Options{MaxTargets: manyVMs})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetTargets([]bpf.Target{{ID: "vm", PID: h.pid()}}); err != nil {
		return err
	}
	trips := func() (float64, error) {
		d, err := h.do(fmt.Sprintf("pingpong %d", roundTrips))
		return float64(d) / (2 * roundTrips), err
	}
	tail := func() (float64, error) {
		if err := s.Enable(bpf.FeatureWaitTail); err != nil {
			return 0, err
		}
		v, err := trips()
		return v, errors.Join(err, s.Disable(bpf.FeatureWaitTail))
	}
	textbook := func() (float64, error) {
		detach, err := attachTextbook()
		if err != nil {
			return 0, err
		}
		v, err := trips()
		return v, errors.Join(err, detach())
	}
	got, err := takeTurns(ctx, o.rounds, method{"none", trips}, method{"again", trips},
		method{"tail", tail}, method{"textbook", textbook})
	if err != nil {
		return err
	}
	none := got["none"]
	r.add("", "context switch, the sampler alone (nothing hooked)", "ns", none, nil)
	r.add("", "the same once more: the noise", "ns more a switch", got["again"].less(none), nil)
	r.add("tail_ns_per_switch", "tail hook, end to end", "ns more a switch", got["tail"].less(none), atMost(200))
	r.add("textbook_ns_per_switch", "textbook hook with hash maps, end to end", "ns more a switch", got["textbook"].less(none), nil)
	return nil
}

// attachTextbook attaches the hooks to compare with.
func attachTextbook() (detach func() error, err error) {
	var o textbookObjects
	if err := loadTextbookObjects(&o, nil); err != nil {
		return nil, fmt.Errorf("load the textbook hook: %w", err)
	}
	wakeup, err := link.AttachTracing(link.TracingOptions{Program: o.TextbookWakeup})
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	sw, err := link.AttachTracing(link.TracingOptions{Program: o.TextbookSwitch})
	if err != nil {
		return nil, errors.Join(err, wakeup.Close(), o.Close())
	}
	return func() error { return errors.Join(sw.Close(), wakeup.Close(), o.Close()) }, nil
}
