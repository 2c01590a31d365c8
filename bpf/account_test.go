package bpf

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// fakeThread and fakeProcess stand for the kernel's own books.
type fakeThread struct {
	tid       uint32
	born      uint64
	cpu, wait uint64
	name      comm
}

type fakeProcess struct {
	threads []*fakeThread
	exited  uint64
	clock   uint64
}

func (p *fakeProcess) start(name string) *fakeThread {
	p.clock++
	t := &fakeThread{tid: uint32(p.clock % 7), born: p.clock, name: makeComm(name)}
	p.threads = append(p.threads, t)
	return t
}

func (p *fakeProcess) exit(i int) {
	p.exited += p.threads[i].cpu
	p.threads = slices.Delete(p.threads, i, i+1)
}

func (p *fakeProcess) pass(a *account) {
	exited := p.exited
	a.begin()
	for _, t := range p.threads {
		a.observe(&threadReading{tid: t.tid, born: t.born, cpu: t.cpu, wait: t.wait, name: t.name})
	}
	a.end(&processReading{exitedCPU: exited, live: len(p.threads)})
}

func (p *fakeProcess) cpu() uint64 {
	sum := p.exited
	for _, t := range p.threads {
		sum += t.cpu
	}
	return sum
}

func sumCPU(a *account) (sum uint64) {
	for _, c := range a.cpu {
		sum += c
	}
	return sum
}

func TestCountersStartAtTheFirstPass(t *testing.T) {
	p := &fakeProcess{exited: 5000}
	p.start("CPU 0/KVM").cpu = 1000
	a := &account{}
	p.pass(a)
	if sumCPU(a) != 0 {
		t.Errorf("what was used before counts: %v", a.cpu)
	}
	p.threads[0].cpu += 7
	p.start("CPU 1/KVM").cpu = 3
	p.pass(a)
	if a.cpu[roleVCPU] != 10 {
		t.Errorf("vCPUs gained %d, want 7 of the old and 3 of the new", a.cpu[roleVCPU])
	}
}

func TestRenamedThreadTakesNothingBack(t *testing.T) {
	p := &fakeProcess{}
	th := p.start("qemu-system-x86")
	a := &account{}
	p.pass(a)
	th.cpu = 4
	p.pass(a)
	th.name, th.cpu = makeComm("CPU 0/KVM"), 10
	p.pass(a)
	if a.cpu[roleEmulator] != 4 || a.cpu[roleVCPU] != 6 || !a.sawVCPU {
		t.Errorf("roles %v, want 4 before the new name and 6 after", a.cpu)
	}
}

func TestExitedThreadsTailIsTheEmulators(t *testing.T) {
	p := &fakeProcess{}
	p.start("qemu")
	vcpu := p.start("CPU 0/KVM")
	a := &account{}
	p.pass(a)
	vcpu.cpu = 100
	p.pass(a)
	vcpu.cpu = 130
	p.exit(1)
	p.pass(a)
	if a.cpu[roleVCPU] != 100 || a.cpu[roleEmulator] != 30 {
		t.Errorf("roles %v, want 100 seen and 30 unseen", a.cpu)
	}
}

func TestTailsAddUp(t *testing.T) {
	p := &fakeProcess{}
	p.start("qemu")
	a := &account{}
	p.pass(a)
	for range 3 {
		p.start("brief").cpu = 30
		p.exit(1)
		p.pass(a)
	}
	if a.cpu[roleEmulator] != 90 {
		t.Errorf("three unseen threads of 30 each show as %d", a.cpu[roleEmulator])
	}
}

// A thread that exits while its process is read is missing from the sums once.
func TestSumsOfTheProcessNeverFall(t *testing.T) {
	a := &account{}
	for _, faults := range []uint64{100, 130, 110, 150} {
		before := a.last.minorFaults
		a.begin()
		a.end(&processReading{minorFaults: faults})
		if a.last.minorFaults < before {
			t.Errorf("faults fell from %d to %d", before, a.last.minorFaults)
		}
	}
	var sum totals
	if sum.add(a); sum.minorFaults != 50 {
		t.Errorf("%d faults since the first pass, want 50", sum.minorFaults)
	}
}

// A listing that breaks off must not count its missing threads' lives twice.
func TestThreadsMissingFromOneListing(t *testing.T) {
	p := &fakeProcess{}
	p.start("CPU 0/KVM").cpu = 1000
	p.start("CPU 1/KVM").cpu = 2000
	a := &account{}
	p.pass(a)
	whole := p.threads
	p.threads = whole[:1]
	p.pass(a)
	p.threads = whole
	whole[1].cpu += 5
	p.pass(a)
	if got := sumCPU(a); got > 5 {
		t.Errorf("CPU rose by %d though 5 were used", got)
	}
	whole[1].cpu += 20
	p.exit(1)
	p.pass(a)
	if got := sumCPU(a); got < 20 || got > 25 {
		t.Errorf("CPU is %d after the thread's exit, want 20..25", got)
	}
}

func TestAccountAgreesWithTheKernelsBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"qemu", "CPU 0/KVM", "IO io1", "vhost-12", "worker"})
		p, a := &fakeProcess{}, &account{}
		p.start("qemu").cpu = rapid.Uint64Max(1000).Draw(t, "used before")
		p.pass(a)
		base, waited := p.cpu(), uint64(0)
		last := *a
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "act") {
			case 0:
				p.start(names.Draw(t, "name"))
			case 1:
				if len(p.threads) > 1 {
					p.exit(rapid.IntRange(1, len(p.threads)-1).Draw(t, "exit"))
				}
			case 2: // tier B lists by tid, which wraps
				slices.SortFunc(p.threads[1:], func(x, y *fakeThread) int { return int(x.tid) - int(y.tid) })
			case 3:
				i := rapid.IntRange(0, len(p.threads)-1).Draw(t, "renamed")
				p.threads[i].name = makeComm(names.Draw(t, "new name"))
			default:
				i := rapid.IntRange(0, len(p.threads)-1).Draw(t, "runs")
				p.threads[i].cpu += rapid.Uint64Max(100).Draw(t, "cpu")
				p.threads[i].wait += rapid.Uint64Max(100).Draw(t, "wait")
				if rapid.Bool().Draw(t, "pass comes later") {
					continue
				}
			}
			p.pass(a)
			if got, want := sumCPU(a), p.cpu()-base; got != want {
				t.Fatalf("CPU %d, the kernel says %d", got, want)
			}
			for r := range a.cpu {
				if a.cpu[r] < last.cpu[r] || a.wait < last.wait || a.vcpuWait < last.vcpuWait {
					t.Fatalf("a counter fell: %v, was %v", a, last)
				}
			}
			if len(a.threads) != len(p.threads) {
				t.Fatalf("%d threads kept, %d live", len(a.threads), len(p.threads))
			}
			last = *a
			last.threads = slices.Clone(a.threads)
		}
		p.pass(a)
		for _, th := range p.threads {
			waited += th.wait
		}
		if a.wait < waited {
			t.Fatalf("wait %d, the living waited %d", a.wait, waited)
		}
	})
}

func TestAccountAllocatesNothingInTheSteadyState(t *testing.T) {
	p, a := &fakeProcess{}, &account{}
	for range 50 {
		p.start("CPU 0/KVM")
	}
	p.pass(a)
	if n := testing.AllocsPerRun(100, func() { p.pass(a) }); n != 0 {
		t.Errorf("%v allocations a pass", n)
	}
}

func TestClassify(t *testing.T) {
	for name, want := range map[string]role{
		"CPU 0/KVM":       roleVCPU,
		"CPU 127/TCG":     roleVCPU,
		"ALL CPUs/TCG":    roleVCPU,
		"IO iothread1":    roleIOThread,
		"IO mon_iothread": roleEmulator,
		"iou-wrk-4242":    roleIOThread,
		"iou-sqp-4242":    roleIOThread,
		"vhost-4242":      roleVhost,
		"qemu-system-x86": roleEmulator,
		"worker":          roleEmulator,
		"CPUHP":           roleEmulator,
		"":                roleEmulator,
	} {
		c := makeComm(name)
		if got := classify(&c); got != want {
			t.Errorf("%q has role %d, want %d", name, got, want)
		}
	}
}

func TestPendingWaitOnTheSchedulersClock(t *testing.T) {
	var c schedClock
	const offset = 1_000_000
	// The passing thread has run for 40, 3 and 90 ns when it reads the clock.
	for i, ran := range []uint64{40, 3, 90} {
		sched := uint64(5_000 * (i + 1))
		c.observe(sched+ran+offset, sched)
	}
	if got := c.pending(15_000); got != 87 {
		t.Errorf("pending is %d, want 90 less the least excess of 3", got)
	}
	if got := c.pending(0); got != 0 {
		t.Errorf("a thread that is not queued waits %d", got)
	}
	if got := c.pending(99_000); got != 0 {
		t.Errorf("a thread queued after the pass began waits %d", got)
	}
	for i := range uint64(len(c.bounds)) { // the clocks drift apart
		c.observe(offset*2+100_000+i*10, 100_000+i*10)
	}
	if got := c.pending(100_000); got != 310 {
		t.Errorf("pending is %d after a drift, want 310", got)
	}
	// A passing thread that goes on running shows no less of the others.
	c.observe(offset*2+500_000, 400_000)
	c.observe(offset*2+700_000, 400_000)
	if got := c.pending(600_000); got != 100_000 {
		t.Errorf("pending is %d in a second pass without a switch, want 100000", got)
	}
	c.observe(1, 0)
	if got := c.pending(1); got != 0 {
		t.Errorf("no arrival stamp, yet pending is %d", got)
	}
}
