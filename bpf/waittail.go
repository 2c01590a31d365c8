package bpf

import (
	"errors"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"headroom/bpf/internal/kern"
)

// WaitTail is the distribution of the single run-queue waits of a VM's vCPU
// threads, since the feature was enabled or the VM first seen, whichever is
// later. A wait counts when the thread next leaves its CPU. Threads are known
// by their names, and looked for when SetTargets is called.
type WaitTail struct {
	Waits     uint64
	Longest   time.Duration
	Histogram Histogram
}

// WaitTail reads FeatureWaitTail for one VM. It fails with ErrFeatureOff or
// ErrUnknownTarget.
func (s *Sampler) WaitTail(id string) (WaitTail, error) {
	h, v, err := featureOf[*waitTail](s, FeatureWaitTail, id)
	if err != nil {
		return WaitTail{}, err
	}
	t := &h.tails.mem[v.slot]
	return WaitTail{Waits: t.Waits, Longest: time.Duration(t.Longest), Histogram: t.Histogram}, nil
}

type waitTail struct {
	objects kern.WaitTailObjects
	marker  *link.Iter
	hook    link.Link
	memory  mappings
	filter  filter[uint32] // slot by tgid
	tails   slotted[kern.WaitTailTail]
	buf     [64]byte
}

func openWaitTail(opts Options) (*waitTail, error) {
	spec, err := kern.LoadWaitTail()
	if err != nil {
		return nil, err
	}
	spec.Maps[kern.WaitTailMapVms].MaxEntries = uint32(opts.MaxTargets)
	spec.Maps[kern.WaitTailMapTails].MaxEntries = uint32(opts.MaxTargets)
	h := &waitTail{}
	if err := h.load(spec); err != nil {
		return nil, errors.Join(explainLoad("BTF and task storage in tracing programs (mainline 5.12 or a backport)", err), h.close())
	}
	return h, nil
}

func (h *waitTail) load(spec *ebpf.CollectionSpec) (err error) {
	if err = spec.LoadAndAssign(&h.objects, nil); err != nil {
		return err
	}
	h.filter.m = h.objects.Vms
	if h.tails.mem, err = mapArray[kern.WaitTailTail](&h.memory, h.objects.Tails); err != nil {
		return err
	}
	if h.marker, err = link.AttachIter(link.IterOptions{Program: h.objects.MarkTasks}); err != nil {
		return err
	}
	h.hook, err = link.AttachTracing(link.TracingOptions{Program: h.objects.SchedSwitch})
	return err
}

// assign marks the threads of the VMs and unmarks all others, before it clears
// the slots that the others wrote to.
func (h *waitTail) assign(vms []*vm) error {
	if err := h.filter.set(slotByPID(vms)); err != nil {
		return err
	}
	if err := readIter(h.marker.FD(), h.buf[:]); err != nil {
		return err
	}
	h.tails.assign(vms)
	return nil
}

func slotByPID(vms []*vm) map[uint32]uint32 {
	slots := make(map[uint32]uint32, len(vms))
	for _, v := range vms {
		if v.walks[0].gone == "" {
			slots[uint32(v.target.PID)] = uint32(v.slot)
		}
	}
	return slots
}

func (h *waitTail) pass() error { return nil }

func (h *waitTail) close() error {
	errs := []error{h.memory.close()}
	if h.hook != nil {
		errs = append(errs, h.hook.Close())
	}
	if h.marker != nil {
		errs = append(errs, h.marker.Close())
	}
	return errors.Join(append(errs, h.objects.Close())...)
}
