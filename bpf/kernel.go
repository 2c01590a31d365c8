package bpf

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"headroom/bpf/internal/kern"
)

const (
	threadsPerTarget = 64
	// walksPerTarget leaves room for helper processes.
	walksPerTarget = 2
)

// kernelReader is tiers A and B: a BPF program copies the counters of all
// threads into memory mapped here.
type kernelReader struct {
	tier    Tier
	objects kern.SamplerObjects
	iter    *link.Iter

	maps     [][]byte
	header   *kern.SamplerPass
	walks    []kern.SamplerWalk
	threads  []kern.SamplerThread
	inFilter []uint32 // keys in the tgid filter of tier B
	page     uint64
	clock    schedClock
	have     uint32
	buf      [64]byte
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
	spec.Maps[kern.SamplerMapThreads].MaxEntries = uint32(maxTargets * threadsPerTarget)

	k := &kernelReader{tier: tier, page: uint64(os.Getpagesize())}
	if err := k.load(spec); err != nil {
		return nil, errors.Join(explainLoad(tier, err), k.close())
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
		}
		if err := spec.LoadAndAssign(&o, nil); err != nil {
			return err
		}
		k.objects.SampleWalks, maps.Passes, maps.Walks, maps.Threads = o.Walks, o.Passes, o.Walk, o.Threads
	} else {
		var o struct {
			Tasks *ebpf.Program `ebpf:"sample_tasks"`
			kern.SamplerMaps
		}
		if err := spec.LoadAndAssign(&o, nil); err != nil {
			return err
		}
		k.objects.SampleTasks, *maps = o.Tasks, o.SamplerMaps
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
	if headers, err = mapArray[kern.SamplerPass](k, k.objects.Passes); err != nil {
		return err
	}
	k.header = &headers[0]
	if k.walks, err = mapArray[kern.SamplerWalk](k, k.objects.Walks); err != nil {
		return err
	}
	k.threads, err = mapArray[kern.SamplerThread](k, k.objects.Threads)
	return err
}

// mapArray maps an array map's values. Their stride is the size rounded up to
// 8, which Go's layout of T equals: every T here ends on 8 bytes.
func mapArray[T any](k *kernelReader, m *ebpf.Map) ([]T, error) {
	n := int(m.MaxEntries())
	size := n * int(m.ValueSize())
	page := os.Getpagesize()
	mem, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map BPF array: %w", err)
	}
	k.maps = append(k.maps, mem)
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), n), nil
}

func (k *kernelReader) assign(walks []*walk) error {
	if len(walks) > len(k.walks) {
		return fmt.Errorf("%w: %d processes with helpers, the limit is %d: raise MaxTargets", ErrTooManyTargets, len(walks), len(k.walks))
	}
	for i, w := range walks {
		k.walks[i].Pid = 0 // no process has it
		if w.gone == "" {
			k.walks[i].Pid = uint32(w.pid)
		}
	}
	k.header.Walks = uint32(len(walks))
	if k.tier != TierIter {
		return nil
	}
	for _, pid := range k.inFilter {
		if err := k.objects.Tgids.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("empty the filter of the task iterator: %w", err)
		}
	}
	k.inFilter = k.inFilter[:0]
	for i, w := range walks {
		if w.gone != "" {
			continue
		}
		if err := k.objects.Tgids.Put(uint32(w.pid), uint32(i)); err != nil {
			return fmt.Errorf("fill the filter of the task iterator: %w", err)
		}
		k.inFilter = append(k.inFilter, uint32(w.pid))
	}
	return nil
}

func (k *kernelReader) pass(walks []*walk) (time.Duration, error) {
	k.header.Generation++
	if err := k.run(); err != nil {
		return 0, err
	}
	k.have = k.header.Have
	k.clock.observe(k.header.Now, k.header.Arrival)
	for i, w := range walks {
		if w.gone == "" {
			k.beginWalk(w, &k.walks[i])
		}
	}
	var r threadReading
	for i := range k.threads[:k.header.Used] {
		t := &k.threads[i]
		if w := walks[t.Walk]; w.ok() {
			r.tid, r.born, r.cpu, r.name = t.Tid, t.Start, t.Cpu, t.Comm
			r.wait = t.Wait + k.clock.pending(t.Queued)
			w.account.observe(&r)
		}
	}
	for i, w := range walks {
		if w.ok() {
			k.endWalk(w, &k.walks[i])
		}
	}
	return time.Duration(k.header.Now), nil
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
	var errs []error
	for _, mem := range k.maps {
		errs = append(errs, unix.Munmap(mem))
	}
	k.maps = nil
	if k.iter != nil {
		errs = append(errs, k.iter.Close())
	}
	return errors.Join(append(errs, k.objects.Close())...)
}

// explainLoad types an error of loading and says how to get the tier.
func explainLoad(tier Tier, err error) error {
	switch {
	// The verifier says EINVAL too for what only one of the two rights allows.
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), !mayLoad():
		return fmt.Errorf("%w: give the agent CAP_BPF and CAP_PERFMON: %w", ErrNotPermitted, err)
	case errors.Is(err, ebpf.ErrNotSupported) && tier == TierSyscall:
		return fmt.Errorf("%w: needs BTF and the task iterator kfuncs in syscall programs (mainline 6.10 or a backport): %w", ErrNotSupported, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: needs BTF and the task iterator (mainline 5.8 or a backport): %w", ErrNotSupported, err)
	}
	return err
}

// mayLoad tells whether this thread has the rights that loading needs.
func mayLoad() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return true // let the kernel's own answer stand
	}
	has := func(right int) bool { return sets[right/32].Effective&(1<<(right%32)) != 0 }
	return has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON)
}
