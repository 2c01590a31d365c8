package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"libvirt.org/go/libvirt"

	"headroom/bpf"
	"headroom/tests/lab"
)

// domainTemplate is a QEMU domain without a guest: started paused, it costs
// nothing but what is asked of it. It has the threads of the processes that
// stand for VMs elsewhere: 8 virtual CPUs.
const domainTemplate = `<domain type='qemu'>
  <name>bench%d</name><memory unit='MiB'>32</memory><vcpu>8</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='virtio'/>
  </devices>
</domain>`

const (
	libvirtCalls = 10
	// The groups that hold what a sample holds.
	libvirtGroups = libvirt.DOMAIN_STATS_CPU_TOTAL | libvirt.DOMAIN_STATS_VCPU | libvirt.DOMAIN_STATS_BALLOON |
		libvirt.DOMAIN_STATS_INTERFACE | libvirt.DOMAIN_STATS_BLOCK
)

// farm is a libvirtd of a lab with domains.
type farm struct {
	conn    *libvirt.Connect
	daemon  int   // libvirtd
	qemus   []int // processes
	sampler *bpf.Sampler
	samples []bpf.Sample
}

// measureLibvirt asks a real libvirtd about real domains, and samples the same
// domains. Its cost is that of everybody who works for it: this process, libvirtd
// and the QEMUs.
func measureLibvirt(ctx context.Context, o options, r *report) (err error) {
	if o.domains == 0 {
		return nil
	}
	if err := lab.Available(); err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Options{Name: "bench", Hosts: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Down(context.WithoutCancel(ctx))) }()
	f := &farm{}
	defer f.close()
	if err := f.open(ctx, l.Host(0), o.domains); err != nil {
		return err
	}
	n := float64(o.domains)
	got, err := takeTurns(ctx, o.rounds,
		method{ours, func() (float64, error) { d, err := cpuOf(ourPasses, f.pass); return micros(d) / n, err }},
		method{"libvirt", func() (float64, error) { d, err := f.costOfAsking(); return micros(d) / n, err }})
	if err != nil {
		return err
	}
	what := fmt.Sprintf(", %d QEMU domains", o.domains)
	r.add("", "pass, hot: "+ours+what, "us a VM", got[ours], nil)
	r.add("", "libvirt GetAllDomainStats, client + libvirtd + QEMU"+what, "us a VM", got["libvirt"], nil)
	r.add("libvirt_ratio", "libvirt / "+ours+what, "times", got["libvirt"].over(got[ours]), nil)
	return nil
}

func (f *farm) open(ctx context.Context, h *lab.Host, domains int) (err error) {
	for i := range domains {
		file := filepath.Join(h.Dir(), fmt.Sprintf("bench%d.xml", i))
		if err := os.WriteFile(file, fmt.Appendf(nil, domainTemplate, i), 0o644); err != nil {
			return err
		}
		if _, err := h.Virsh(ctx, "create", "--paused", file); err != nil {
			return err
		}
	}
	if f.daemon, err = h.LibvirtdPID(); err != nil {
		return err
	}
	socket := h.Outside("/run/libvirt/libvirt-sock")
	if f.conn, err = libvirt.NewConnect("qemu+unix:///system?socket=" + socket); err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	if f.sampler, err = bpf.Open(bpf.Options{}); err != nil {
		return err
	}
	var targets []bpf.Target
	for i := range domains {
		pid, err := h.VMPID(fmt.Sprintf("bench%d", i))
		if err != nil {
			return err
		}
		f.qemus = append(f.qemus, pid)
		targets = append(targets, bpf.Target{ID: fmt.Sprint(i), PID: pid})
	}
	if err := f.sampler.SetTargets(targets); err != nil {
		return err
	}
	return f.pass()
}

func (f *farm) pass() (err error) {
	f.samples, err = f.sampler.Sample(f.samples)
	return err
}

// ask is one call of a monitor that must not wait for a busy domain.
func (f *farm) ask() error {
	stats, err := f.conn.GetAllDomainStats(nil, libvirtGroups,
		libvirt.CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE|libvirt.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
	if err != nil {
		return fmt.Errorf("ask libvirt: %w", err)
	}
	if len(stats) != len(f.qemus) {
		return fmt.Errorf("libvirt tells of %d domains of %d", len(stats), len(f.qemus))
	}
	for i := range stats {
		_ = stats[i].Domain.Free() // fails only for a domain that is not one
	}
	return nil
}

// costOfAsking is the CPU time of one call. This process's clock is read inside
// of the others', so that reading those does not count.
func (f *farm) costOfAsking() (time.Duration, error) {
	others, err := f.others()
	if err != nil {
		return 0, err
	}
	own, err := cpuOf(libvirtCalls, f.ask)
	if err != nil {
		return 0, err
	}
	after, err := f.others()
	return own + (after-others)/libvirtCalls, err
}

// others is what libvirtd and the QEMUs have used.
func (f *farm) others() (time.Duration, error) {
	sum, _, err := procSums(f.daemon)
	if err != nil {
		return 0, err
	}
	for _, pid := range f.qemus {
		used, _, err := procSums(pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

func (f *farm) close() {
	if f.conn != nil {
		_, _ = f.conn.Close()
	}
	if f.sampler != nil {
		_ = f.sampler.Close()
	}
}
