package bpf

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Errors that the caller may tell apart.
var (
	// ErrNotPermitted: the agent lacks a right. The message names it.
	ErrNotPermitted = errors.New("not permitted")
	// ErrNotSupported: the running kernel lacks something. The message names it.
	ErrNotSupported = errors.New("not supported by this kernel")
	// ErrForeignNamespace: the tier numbers processes by another PID namespace
	// than the agent's.
	ErrForeignNamespace = errors.New("the agent is in another PID namespace than the kernel counts in")
	// ErrTooManyTargets: more targets than Options.MaxTargets.
	ErrTooManyTargets = errors.New("too many targets")
	// ErrDuplicateTarget: two targets of one ID.
	ErrDuplicateTarget = errors.New("duplicate target")
	// ErrClosed: the Sampler or Links is closed.
	ErrClosed = errors.New("closed")
)

// DefaultMaxTargets is the limit of targets where Options sets none.
const DefaultMaxTargets = 512

// Options tell Open what to do; the zero value is fit for use.
type Options struct {
	// Tiers are tried in order, the first that works is used. Empty means all,
	// best first.
	Tiers []Tier
	// MaxTargets limits SetTargets, 0 means DefaultMaxTargets. The tiers of BPF
	// keep 64 thread records of 128 bytes a target, shared among all targets.
	MaxTargets int
	// ProcRoot is where procfs is mounted, empty means /proc.
	ProcRoot string
}

// Refusal tells why a tier is not in use, and how to get it. Err wraps
// ErrNotPermitted, ErrNotSupported, ErrForeignNamespace or the system's error.
type Refusal struct {
	Tier Tier
	Err  error
}

// reader is one tier: it reads processes in one pass. Its methods are called
// by one goroutine at a time.
type reader interface {
	// assign says which walks the next passes read.
	assign(walks []*walk) error
	// pass feeds each walk's account and sets its state, and returns the
	// CLOCK_MONOTONIC time at its start.
	pass(walks []*walk) (time.Duration, error)
	// absent names what this tier cannot give.
	absent() []Absence
	close() error
}

// Sampler reads the counters of a set of VM processes.
type Sampler struct {
	opts    Options
	tier    Tier
	refused []Refusal
	reader  reader

	vms   []*vm
	byID  map[string]*vm // of vms
	walks []*walk
	// slots has each VM at its index in the memory of the features' programs.
	slots    []*vm
	features [len(featureOrder)]feature

	// absent has the lists that samples share, by the lacks of the VM.
	absent [lackAll + 1][]Absence
	cost   costMeter
	closed bool
}

// Open chooses the first tier that loads and then samples this very process
// right. It fails only if none does; the error then holds every refusal.
func Open(opts Options) (*Sampler, error) {
	if opts.MaxTargets <= 0 {
		opts.MaxTargets = DefaultMaxTargets
	}
	if opts.ProcRoot == "" {
		opts.ProcRoot = "/proc"
	}
	if len(opts.Tiers) == 0 {
		opts.Tiers = []Tier{TierSyscall, TierIter, TierProcfs}
	}
	s := newSampler(opts)
	var errs []error
	for _, tier := range opts.Tiers {
		r, err := openTier(tier, opts)
		if err != nil {
			s.refused = append(s.refused, Refusal{Tier: tier, Err: err})
			errs = append(errs, fmt.Errorf("tier %s: %w", tier, err))
			continue
		}
		s.use(tier, r)
		return s, nil
	}
	return nil, fmt.Errorf("no way to sample processes: %w", errors.Join(errs...))
}

func newSampler(opts Options) *Sampler {
	s := &Sampler{opts: opts, slots: make([]*vm, opts.MaxTargets)}
	for i := range s.features {
		s.features[i].why = errNotEnabled
	}
	return s
}

func (s *Sampler) use(tier Tier, r reader) {
	s.tier, s.reader = tier, r
	for lack := range s.absent {
		list := r.absent()
		if lack&lackRoles != 0 {
			list = append(list, Absence{SignalRoles,
				"no thread is named like a vCPU (CPU n/KVM, CPU n/TCG): start QEMU with -name debug-threads=on"})
		}
		if lack&lackIO != 0 {
			list = append(list, Absence{SignalIO, "/proc/PID/io of the VM is closed to the agent: a BPF tier or CAP_SYS_PTRACE opens it"})
		}
		s.absent[lack] = list
	}
}

// What one VM's sample may lack beside what the tier lacks.
const (
	lackRoles = 1 << iota
	lackIO
	lackAll = lackRoles | lackIO
)

// openTier loads a tier and has it sample this process before it is trusted.
func openTier(tier Tier, opts Options) (reader, error) {
	var r reader
	var err error
	switch tier {
	case TierSyscall, TierIter:
		r, err = openKernel(tier, opts.MaxTargets)
	case TierProcfs:
		r, err = openProcfs(opts.ProcRoot)
	default:
		return nil, fmt.Errorf("unknown tier %q", tier)
	}
	if err != nil {
		return nil, err
	}
	if err := trySelf(r); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// trySelf samples the calling process through r.
func trySelf(r reader) error {
	w := openWalk(unix.Getpid())
	defer w.close()
	if err := r.assign([]*walk{w}); err != nil {
		return err
	}
	if _, err := r.pass([]*walk{w}); err != nil {
		return err
	}
	if !w.ok() {
		return fmt.Errorf("%w: own process %d: %s", ErrForeignNamespace, w.pid, w.reason())
	}
	if !slices.ContainsFunc(w.account.threads, func(t threadState) bool { return t.cpu > 0 }) {
		return fmt.Errorf("%w: own process %d shows no CPU time", ErrNotSupported, w.pid)
	}
	return r.assign(nil)
}

// Tier is the tier in use.
func (s *Sampler) Tier() Tier { return s.tier }

// Refused lists the better tiers that could not be used, in the order tried.
func (s *Sampler) Refused() []Refusal { return slices.Clone(s.refused) }

// SetTargets replaces the targets. One that stays, with the same ID and PID,
// keeps its counters; with another PID it starts anew. A process that does not
// exist is no error here: its sample says so. Calling it every few seconds
// also finds new helper processes in the targets' cgroups.
//
// It fails with ErrTooManyTargets or ErrDuplicateTarget, and the targets stay
// as they were.
func (s *Sampler) SetTargets(targets []Target) error {
	if s.closed {
		return fmt.Errorf("set targets: sampler is %w", ErrClosed)
	}
	if len(targets) > s.opts.MaxTargets {
		return fmt.Errorf("%w: %d, the limit is %d: raise MaxTargets", ErrTooManyTargets, len(targets), s.opts.MaxTargets)
	}
	if err := unique(targets); err != nil {
		return err
	}
	known := s.byID
	vms := make([]*vm, 0, len(targets))
	s.byID = make(map[string]*vm, len(targets))
	taken := make(map[int]bool, len(targets))
	for _, t := range targets {
		taken[t.PID] = true
	}
	for _, t := range targets {
		v := known[t.ID]
		if v != nil && v.target.PID == t.PID {
			v.target = t
			delete(known, t.ID)
		} else {
			v = newVM(t)
		}
		v.findHelpers(taken)
		vms = append(vms, v)
		s.byID[t.ID] = v
	}
	for _, v := range known {
		s.slots[v.slot] = nil
		v.close()
	}
	s.vms = vms
	s.giveSlots()
	s.walks = s.walks[:0]
	for _, v := range vms {
		s.walks = append(s.walks, v.walks...)
	}
	s.assignFeatures()
	return s.reader.assign(s.walks)
}

func unique(targets []Target) error {
	seen := make(map[string]bool, len(targets))
	for _, t := range targets {
		if seen[t.ID] {
			return fmt.Errorf("%w: %q", ErrDuplicateTarget, t.ID)
		}
		seen[t.ID] = true
	}
	return nil
}

// giveSlots gives each new VM a free slot. There are as many as VMs allowed.
func (s *Sampler) giveSlots() {
	free := 0
	for _, v := range s.vms {
		if v.slot < 0 {
			for s.slots[free] != nil {
				free++
			}
			v.slot, s.slots[free] = free, v
		}
	}
}

// Sample makes one pass over all targets and returns their samples in the
// order of SetTargets, in dst's memory if that suffices. In the steady state
// it allocates nothing. An error means that the whole pass failed; a single
// VM's trouble is told in its sample.
func (s *Sampler) Sample(dst []Sample) ([]Sample, error) {
	dst = dst[:0]
	if s.closed {
		return dst, fmt.Errorf("sample: sampler is %w", ErrClosed)
	}
	// The cost is the CPU time of this thread, so the pass must stay on it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.cost.begin()
	at, err := s.reader.pass(s.walks)
	if err != nil {
		return dst, fmt.Errorf("sample with tier %s: %w", s.tier, err)
	}
	s.passFeatures()
	dst = slices.Grow(dst, len(s.vms))[:len(s.vms)]
	for i, v := range s.vms {
		s.fill(&dst[i], v, at)
	}
	s.cost.end()
	return dst, nil
}

func (s *Sampler) fill(out *Sample, v *vm, at time.Duration) {
	main := v.walks[0]
	if v.quiet() {
		*out = v.filled
		out.At, out.RSS = at, main.account.last.rss
		return
	}
	v.filled.Valid = false
	if main.ok() && !v.seen {
		v.seen, v.since = true, at
	}
	*out = Sample{ID: v.target.ID, PID: v.target.PID, At: at, Since: v.since}
	if !main.ok() {
		out.Reason = main.reason()
		return
	}
	sum := v.retired
	lack := lackRoles
	for _, w := range v.walks {
		sum.add(&w.account)
		if w.account.sawVCPU {
			lack &^= lackRoles
		}
		if w.ioDenied {
			lack |= lackIO
		}
		if w.ok() {
			out.Threads += w.account.last.live
		}
	}
	out.Absent = s.absent[lack]
	out.VCPU = time.Duration(sum.cpu[roleVCPU])
	out.Emulator = time.Duration(sum.cpu[roleEmulator])
	out.IOThread = time.Duration(sum.cpu[roleIOThread])
	out.Vhost = time.Duration(sum.cpu[roleVhost])
	out.Wait = time.Duration(sum.wait)
	out.VCPUWait = time.Duration(sum.vcpuWait)
	out.VoluntarySwitches, out.InvoluntarySwitches = sum.voluntary, sum.involuntary
	out.MinorFaults, out.MajorFaults = sum.minorFaults, sum.majorFaults
	out.ReadBytes, out.WriteBytes = sum.readBytes, sum.writeBytes
	out.RSS = main.account.last.rss
	out.Valid = true
	v.filled = *out
}

// Cost tells what the passes so far cost. Any goroutine may ask, also while
// another one samples.
func (s *Sampler) Cost() Cost { return s.cost.cost() }

// Close frees the programs, maps and descriptors. Closing twice is no error.
func (s *Sampler) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	for _, v := range s.vms {
		v.close()
	}
	s.vms, s.byID, s.walks = nil, nil, nil
	errs := []error{s.reader.close()}
	for i := range s.features {
		errs = append(errs, s.features[i].stop(ErrClosed))
	}
	return errors.Join(errs...)
}
