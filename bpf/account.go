package bpf

// threadReading is what a tier saw of one thread.
type threadReading struct {
	// tid and born tell the thread from every other thread of its process,
	// before and after it; born orders the process's threads by creation.
	tid  uint32
	born uint64
	cpu  uint64 // ns
	wait uint64 // ns, the wait still going on included
	name comm
}

// processReading is what a tier saw of one process as a whole, threads that
// exited included.
type processReading struct {
	exitedCPU              uint64 // ns, of exited threads alone
	voluntary, involuntary uint64
	minorFaults            uint64
	majorFaults            uint64
	readBytes, writeBytes  uint64
	rss                    uint64 // bytes
	live                   int    // threads
}

// account turns the readings of one process, pass by pass, into counters that
// never fall. It adds up what each thread gained, so a thread that exits or
// changes its name takes nothing back.
//
// A pass is begin, observe for each thread, end. It allocates only when there
// are more threads than ever before.
type account struct {
	primed bool
	// threads before cursor have been observed in this pass.
	threads []threadState
	cursor  int
	// youngest is the latest born of all threads seen before this pass, and
	// next that of this pass too.
	youngest, next uint64

	cpu      [roles]uint64
	wait     uint64
	vcpuWait uint64
	sawVCPU  bool

	// What exited threads used after they were last seen, and what short-lived
	// ones used that never were: exited less the last readings of those seen
	// to go. tail is the part counted already.
	exitedSeen uint64
	exitedBase uint64
	tail       uint64

	first, last processReading
}

type threadState struct {
	tid       uint32
	born      uint64
	cpu, wait uint64
	name      comm
	role      role
}

func (t *threadState) is(r *threadReading) bool { return t.tid == r.tid && t.born == r.born }

func (a *account) begin() { a.cursor = 0 }

// observe takes one thread of the pass begun, each at most once. Tiers list
// threads in an order that hardly changes, so the next one is nearly always the
// one under the cursor; otherwise it is swapped there.
func (a *account) observe(r *threadReading) {
	if a.cursor >= len(a.threads) || !a.threads[a.cursor].is(r) {
		a.place(r)
	}
	t := &a.threads[a.cursor]
	a.cursor++
	if t.name != r.name {
		t.name, t.role = r.name, classify(&r.name)
	}
	if t.role == roleVCPU {
		a.sawVCPU = true
	}
	if r.cpu > t.cpu {
		a.cpu[t.role] += r.cpu - t.cpu
		t.cpu = r.cpu
	}
	if r.wait > t.wait {
		gain := r.wait - t.wait
		a.wait += gain
		if t.role == roleVCPU {
			a.vcpuWait += gain
		}
		t.wait = r.wait
	}
}

// place puts the state of a thread that is not under the cursor there.
func (a *account) place(r *threadReading) {
	at := -1
	for i := a.cursor; i < len(a.threads); i++ {
		if a.threads[i].is(r) {
			at = i
			break
		}
	}
	if at < 0 {
		t := threadState{tid: r.tid, born: r.born, name: r.name, role: classify(&r.name)}
		// A thread no younger than the youngest one seen is not new: the first pass
		// or a listing that broke off did not know it. What it used so far is
		// not a gain.
		if !a.primed || r.born <= a.youngest {
			t.cpu, t.wait = r.cpu, r.wait
			if a.primed {
				a.exitedSeen -= min(a.exitedSeen, r.cpu)
			}
		}
		a.threads = append(a.threads, t)
		at = len(a.threads) - 1
	}
	a.next = max(a.next, r.born)
	a.threads[at], a.threads[a.cursor] = a.threads[a.cursor], a.threads[at]
}

// end closes the pass: threads not observed in it have exited.
func (a *account) end(p *processReading) {
	for i := a.cursor; i < len(a.threads); i++ {
		a.exitedSeen += a.threads[i].cpu
	}
	a.threads = a.threads[:a.cursor]
	a.youngest = a.next
	if !a.primed {
		a.primed = true
		a.first, a.last = *p, *p
		a.exitedBase = p.exitedCPU
		return
	}
	if p.exitedCPU > a.exitedBase+a.exitedSeen {
		if tail := p.exitedCPU - a.exitedBase - a.exitedSeen; tail > a.tail {
			a.cpu[roleEmulator] += tail - a.tail
			a.tail = tail
		}
	}
	rise(&a.last.voluntary, p.voluntary)
	rise(&a.last.involuntary, p.involuntary)
	rise(&a.last.minorFaults, p.minorFaults)
	rise(&a.last.majorFaults, p.majorFaults)
	rise(&a.last.readBytes, p.readBytes)
	rise(&a.last.writeBytes, p.writeBytes)
	a.last.rss, a.last.live = p.rss, p.live
}

// rise moves a counter up, never down: a thread that exits while its process
// is read is missing from that pass and back in the next one's sum.
func rise(counter *uint64, to uint64) {
	if to > *counter {
		*counter = to
	}
}

// totals are the counters of one or more processes since each was first seen.
type totals struct {
	cpu                    [roles]uint64 // ns
	wait, vcpuWait         uint64        // ns
	voluntary, involuntary uint64
	minorFaults            uint64
	majorFaults            uint64
	readBytes, writeBytes  uint64
}

func (t *totals) add(a *account) {
	for r := range a.cpu {
		t.cpu[r] += a.cpu[r]
	}
	t.wait += a.wait
	t.vcpuWait += a.vcpuWait
	t.voluntary += a.last.voluntary - a.first.voluntary
	t.involuntary += a.last.involuntary - a.first.involuntary
	t.minorFaults += a.last.minorFaults - a.first.minorFaults
	t.majorFaults += a.last.majorFaults - a.first.majorFaults
	t.readBytes += a.last.readBytes - a.first.readBytes
	t.writeBytes += a.last.writeBytes - a.first.writeBytes
}
