package bpf

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"headroom/bpf/internal/kern"
)

const (
	threadsPerTarget = 64
	// walksPerTarget leaves room for helper processes.
	walksPerTarget = 2
)

// tierNeeds says what the kernel must have, by the mainline version that has it.
var tierNeeds = map[Tier]string{
	TierSyscall: "BTF and the task iterator kfuncs in syscall programs (mainline 6.10 or a backport)",
	TierIter:    "BTF and the task iterator (mainline 5.8 or a backport)",
}

// kernelReader is tiers A and B: a BPF program copies the counters of all
// threads into memory mapped here.
type kernelReader struct {
	tier    Tier
	objects kern.SamplerObjects
	iter    *link.Iter

	memory  mappings
	header  *kern.SamplerPass
	walks   []kern.SamplerWalk
	threads []kern.SamplerThread
	filter  filter[uint32] // tier B: walk by tgid
	page    uint64
	clock   schedClock
	have    uint32
	buf     [64]byte
}

func openKernel(tier Tier, maxTargets int) (*kernelReader, error) {
	// Needed before 5.11 only, and then loading says what went wrong.
	_ = rlimit.RemoveMemlock()
	spec, err := kern.LoadSampler()
	if err != nil {
		return nil, err
	}
	walks := uint32(maxTargets * walksPerTarget)
	spec.Maps[kern.SamplerMapWalks].MaxEntries = walks
	spec.Maps[kern.SamplerMapTgids].MaxEntries = walks
	threads := uint32(maxTargets * threadsPerTarget)
	spec.Maps[kern.SamplerMapThreads].MaxEntries = threads
	spec.Maps[kern.SamplerMapWatches].MaxEntries = threads

	k := &kernelReader{tier: tier, page: uint64(os.Getpagesize())}
	if err := k.load(spec); err != nil {
		return nil, errors.Join(explainLoad(tierNeeds[tier], err), k.close())
	}
	return k, nil
}

// load loads only the tier's program, so that the other's needs do not matter.
func (k *kernelReader) load(spec *ebpf.CollectionSpec) error {
	maps := &k.objects.SamplerMaps
	if k.tier == TierSyscall {
		var o struct {
			Walks   *ebpf.Program `ebpf:"sample_walks"`
			Passes  *ebpf.Map     `ebpf:"passes"`
			Walk    *ebpf.Map     `ebpf:"walks"`
			Threads *ebpf.Map     `ebpf:"threads"`
			Watches *ebpf.Map     `ebpf:"watches"`
		}
		if err := spec.LoadAndAssign(&o, nil); err != nil {
			return err
		}
		k.objects.SampleWalks, maps.Passes, maps.Walks = o.Walks, o.Passes, o.Walk
		maps.Threads, maps.Watches = o.Threads, o.Watches
	} else {
		var o struct {
			Tasks *ebpf.Program `ebpf:"sample_tasks"`
			kern.SamplerMaps
		}
		if err := spec.LoadAndAssign(&o, nil); err != nil {
			return err
		}
		k.objects.SampleTasks, *maps = o.Tasks, o.SamplerMaps
		k.filter.m = maps.Tgids
		iter, err := link.AttachIter(link.IterOptions{Program: o.Tasks})
		if err != nil {
			return err
		}
		k.iter = iter
	}
	return k.mapMemory()
}

func (k *kernelReader) mapMemory() error {
	var err error
	var headers []kern.SamplerPass
	if headers, err = mapArray[kern.SamplerPass](&k.memory, k.objects.Passes); err != nil {
		return err
	}
	k.header = &headers[0]
	if k.walks, err = mapArray[kern.SamplerWalk](&k.memory, k.objects.Walks); err != nil {
		return err
	}
	k.threads, err = mapArray[kern.SamplerThread](&k.memory, k.objects.Threads)
	return err
}

func (k *kernelReader) assign(walks []*walk) error {
	if len(walks) > len(k.walks) {
		return fmt.Errorf("%w: %d processes with helpers, the limit is %d: raise MaxTargets", ErrTooManyTargets, len(walks), len(k.walks))
	}
	for i, w := range walks {
		// No generation: the program reads it anew, whoever was here before.
		k.walks[i].Generation = 0
		k.walks[i].Pid = 0 // no process has it
		if w.gone == "" {
			k.walks[i].Pid = uint32(w.pid)
		}
	}
	k.header.Walks = uint32(len(walks))
	if k.tier != TierIter {
		return nil
	}
	want := make(map[uint32]uint32, len(walks))
	for i, w := range walks {
		if w.gone == "" {
			want[uint32(w.pid)] = uint32(i)
		}
	}
	return k.filter.set(want)
}

func (k *kernelReader) pass(walks []*walk) (time.Duration, error) {
	k.header.Generation++
	if err := k.run(); err != nil {
		return 0, err
	}
	k.have = k.header.Have
	k.clock.observe(k.header.Now, k.header.Arrival)
	for i, w := range walks {
		kw := &k.walks[i]
		w.quiet = k.quiet(w, kw)
		if w.quiet {
			w.account.last.rss = kw.RssPages * k.page
		} else if w.gone == "" {
			k.beginWalk(w, kw)
			if k.tier == TierSyscall && w.ok() {
				k.observeThreads(w, kw)
			}
		}
	}
	if k.tier == TierIter {
		k.observeMixed(walks)
	}
	for i, w := range walks {
		if w.ok() && !w.quiet {
			k.endWalk(w, &k.walks[i])
		}
	}
	return time.Duration(k.header.Now), nil
}

// quiet tells whether no thread of a walk ran, came or went since the last
// pass, whose account then still stands.
func (k *kernelReader) quiet(w *walk, kw *kern.SamplerWalk) bool {
	return kw.Fresh == 0 && kw.Lost == 0 && kw.Generation == k.header.Generation &&
		w.start == kw.Start && w.ok() && w.account.primed && int(kw.Threads) == len(w.account.threads)
}

// observeThreads hands a walk its threads. Those of tier A lie together.
func (k *kernelReader) observeThreads(w *walk, kw *kern.SamplerWalk) {
	var r threadReading
	first := kw.First
	for i := range k.threads[first : first+kw.Threads] {
		k.read(&r, &k.threads[first:][i])
		w.account.observe(&r)
	}
}

// observeMixed hands each thread to its walk: tier B sees the threads of all
// processes in the order of their numbers.
func (k *kernelReader) observeMixed(walks []*walk) {
	var r threadReading
	for i := range k.threads[:k.header.Used] {
		t := &k.threads[i]
		if w := walks[t.Walk]; w.ok() && !w.quiet {
			k.read(&r, t)
			w.account.observe(&r)
		}
	}
}

func (k *kernelReader) read(r *threadReading, t *kern.SamplerThread) {
	r.tid, r.born, r.cpu, r.name, r.wait = t.Tid, t.Start, t.Cpu, t.Comm, t.Wait
	if t.Flags&threadWaits != 0 {
		r.wait += k.clock.pending(t.Stamp)
	}
	if t.Running != 0 {
		r.cpu += k.clock.pending(t.Running)
	}
}

func (k *kernelReader) beginWalk(w *walk, kw *kern.SamplerWalk) {
	w.trouble = ""
	switch {
	case kw.Generation != k.header.Generation && w.pidfd >= 0 && !exited(w.pidfd):
		w.trouble = "the process lives but BPF does not see it: the agent must be in the host's first PID namespace"
	case kw.Generation != k.header.Generation || kw.Live == 0:
		w.leave("is gone")
	case kw.Lost > 0:
		w.trouble = "the VMs have more threads together than there are records: raise MaxTargets"
	case w.bind(kw.Start):
		w.account.begin()
	}
}

func (k *kernelReader) endWalk(w *walk, kw *kern.SamplerWalk) {
	w.account.end(&processReading{
		exitedCPU: kw.ExitedCpu,
		voluntary: kw.Voluntary, involuntary: kw.Involuntary,
		minorFaults: kw.MinorFaults, majorFaults: kw.MajorFaults,
		readBytes: kw.ReadBytes, writeBytes: kw.WriteBytes,
		rss:  kw.RssPages * k.page,
		live: int(kw.Live),
	})
}

func (k *kernelReader) run() error {
	if k.tier == TierIter {
		return readIter(k.iter.FD(), k.buf[:])
	}
	return runProgram(k.objects.SampleWalks.FD())
}

// threadWaits is THREAD_WAITS of sampler.bpf.c.
const threadWaits = 4

// Bits of the pass header's have field, enum have in sampler.bpf.c.
const (
	haveWait = 1 << iota
	haveIO
	haveRSS
)

func (k *kernelReader) absent() []Absence {
	var list []Absence
	if k.have&haveWait == 0 {
		const why = "the kernel is built without CONFIG_SCHED_INFO"
		list = append(list, Absence{SignalWait, why}, Absence{SignalPendingWait, why})
	}
	if k.have&haveIO == 0 {
		list = append(list, Absence{SignalIO, "the kernel is built without CONFIG_TASK_IO_ACCOUNTING"})
	}
	if k.have&haveRSS == 0 {
		list = append(list, Absence{SignalRSS, "the kernel lays out its memory counters in a way unknown here"})
	}
	return list
}

func (k *kernelReader) close() error {
	errs := []error{k.memory.close()}
	if k.iter != nil {
		errs = append(errs, k.iter.Close())
	}
	return errors.Join(append(errs, k.objects.Close())...)
}
