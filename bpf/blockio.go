package bpf

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"headroom/bpf/internal/kern"
)

// BlockIO is what the host's block devices did for a VM, since the feature was
// enabled or the VM first seen, whichever is later. It holds the requests of
// the VM's cgroup that the host's block layer saw: not those of disks on the
// network, nor of vhost-user.
type BlockIO struct {
	Read, Write BlockCounts
	Attribution Attribution
}

// BlockCounts counts requests of one direction.
type BlockCounts struct {
	Ops, Bytes uint64
	// Time is from the making of a request to its end, over all requests but
	// those Untimed, whose queue keeps no statistics (iostats=0).
	Time    time.Duration
	Untimed uint64
	Latency Histogram
}

// Attribution tells how much of a VM's block I/O could be told to be its own.
type Attribution string

const (
	// AttributionExact: all that the VM's process caused, by its own account.
	AttributionExact Attribution = "exact"
	// AttributionPartial: the process caused more. Its disks are cached by the
	// host (cgroup v1 writes those back in nobody's name), or not local.
	AttributionPartial Attribution = "partial"
)

// attributionSlack is what may be under way between the two accounts, beside
// one part in 20.
const attributionSlack = 1 << 20

// BlockIO reads FeatureBlockIO for one VM. It fails with ErrFeatureOff,
// ErrUnknownTarget, or ErrUnattributed if the VM has no cgroup of its own.
func (s *Sampler) BlockIO(id string) (BlockIO, error) {
	h, v, err := featureOf[*blockIO](s, FeatureBlockIO, id)
	if err != nil {
		return BlockIO{}, err
	}
	if why := h.why[v.slot]; why != nil {
		return BlockIO{}, fmt.Errorf("%s: %w: %w", FeatureBlockIO, ErrUnattributed, why)
	}
	b := &h.slots.mem[v.slot]
	io := BlockIO{Read: blockCounts(&b.Read), Write: blockCounts(&b.Write), Attribution: AttributionExact}
	caused := v.ioBytes() - h.caused[v.slot]
	if seen := io.Read.Bytes + io.Write.Bytes; caused > seen+caused/20+attributionSlack {
		io.Attribution = AttributionPartial
	}
	return io, nil
}

// nearBucket is NEAR of blockio.bpf.c: the bucket with which latency begins there.
const nearBucket = 4

func blockCounts(d *kern.BlockIODirection) BlockCounts {
	c := BlockCounts{Bytes: d.Bytes, Time: time.Duration(d.Time), Untimed: d.Untimed}
	for i, n := range d.Latency {
		c.Latency[(i+nearBucket)%len(c.Latency)] = n
	}
	c.Ops = c.Untimed + c.Latency.Count()
	return c
}

// ioBytes is the storage traffic that the VM's processes caused by their own
// account, since first seen.
func (v *vm) ioBytes() uint64 {
	sum := v.retired
	for _, w := range v.walks {
		sum.add(&w.account)
	}
	return sum.readBytes + sum.writeBytes
}

type blockIO struct {
	procRoot string
	objects  kern.BlockIOObjects
	hook     link.Link
	memory   mappings
	filter   filter[uint64] // slot by cgroup
	slots    slotted[kern.BlockIOBlockio]
	memos    []kern.BlockIOMemo // answers of filter that the program remembers
	caused   []uint64           // ioBytes when the slot was given
	why      []error            // why the slot's VM has no cgroup of its own
}

func openBlockIO(opts Options) (*blockIO, error) {
	spec, err := kern.LoadBlockIO()
	if err != nil {
		return nil, err
	}
	spec.Maps[kern.BlockIOMapSlots].MaxEntries = uint32(opts.MaxTargets)
	spec.Maps[kern.BlockIOMapCgroups].MaxEntries = uint32(opts.MaxTargets * maxBlockCgroups)
	h := &blockIO{procRoot: opts.ProcRoot, caused: make([]uint64, opts.MaxTargets), why: make([]error, opts.MaxTargets)}
	if err := h.load(spec); err != nil {
		return nil, errors.Join(explainLoad("BTF, block cgroups and the tracepoint block_rq_complete (mainline 5.18 or a backport)", err), h.close())
	}
	return h, nil
}

func (h *blockIO) load(spec *ebpf.CollectionSpec) (err error) {
	if err = spec.LoadAndAssign(&h.objects, nil); err != nil {
		return err
	}
	h.filter.m = h.objects.Cgroups
	if h.slots.mem, err = mapArray[kern.BlockIOBlockio](&h.memory, h.objects.Slots); err != nil {
		return err
	}
	memories, err := mapArray[[memos]kern.BlockIOMemo](&h.memory, h.objects.Memories)
	if err != nil {
		return err
	}
	h.memos = memories[0][:]
	h.forget() // they are made with 0, which is no epoch
	h.hook, err = link.AttachTracing(link.TracingOptions{Program: h.objects.BlockRqComplete})
	return err
}

// memos is MEMOS of blockio.bpf.c.
const memos = 64

// forget makes the program look into the filter again. An answer holds 32 bits of
// its epoch: after more changes nothing is remembered.
func (h *blockIO) forget() {
	for i := range h.memos {
		atomic.AddUint64(&h.memos[i].Epoch, 1)
	}
}

// assign finds the VMs' block cgroups. One that two VMs share is neither's.
func (h *blockIO) assign(vms []*vm) error {
	mounts, err := blockMounts(h.procRoot)
	if err != nil {
		return err
	}
	want := map[uint64]uint32{}
	holder := map[uint64]*vm{}
	for _, v := range vms {
		ids, err := mounts.cgroups(v.target)
		h.why[v.slot] = err
		for _, id := range ids {
			if other := holder[id]; other != nil {
				delete(want, id)
				shared := fmt.Errorf("VMs %q and %q share a cgroup", v.target.ID, other.target.ID)
				h.why[v.slot], h.why[other.slot] = shared, shared
				continue
			}
			holder[id], want[id] = v, uint32(v.slot)
		}
	}
	if err := h.filter.set(want); err != nil {
		return err
	}
	h.forget()
	before := h.slots.owner
	h.slots.assign(vms)
	for _, v := range vms {
		if v.slot >= len(before) || before[v.slot] != v {
			h.caused[v.slot] = v.ioBytes()
		}
	}
	return nil
}

func (h *blockIO) pass() error { return nil }

func (h *blockIO) close() error {
	errs := []error{h.memory.close()}
	if h.hook != nil {
		errs = append(errs, h.hook.Close())
	}
	return errors.Join(append(errs, h.objects.Close())...)
}
