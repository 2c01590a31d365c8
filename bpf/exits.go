package bpf

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"headroom/bpf/internal/kern"
)

// Exits are what KVM counts for a VM's vCPUs since each was made, as of the
// latest pass. They never fall. VCPUs is 0 for a VM that does not run on KVM
// (TCG has no exits): the counters then mean nothing.
type Exits struct {
	VCPUs               int
	All, Halt, IO, MMIO uint64
	PageFaults          uint64 // second-level faults that KVM resolved
	HaltWait            time.Duration
}

// Exits reads FeatureExits for one VM. It fails with ErrFeatureOff or
// ErrUnknownTarget.
func (s *Sampler) Exits(id string) (Exits, error) {
	h, v, err := featureOf[*exits](s, FeatureExits, id)
	if err != nil {
		return Exits{}, err
	}
	return h.risen[v.slot], nil
}

type exits struct {
	objects kern.ExitsObjects
	iter    *link.Iter
	memory  mappings
	filter  filter[uint32] // slot by tgid
	counts  slotted[kern.ExitsExits]
	risen   []Exits // by slot: what has been counted, never less
	buf     [64]byte
}

func openExits(opts Options) (*exits, error) {
	kvm, err := kvmTypes()
	if err != nil {
		return nil, err
	}
	spec, err := kern.LoadExits()
	if err != nil {
		return nil, err
	}
	spec.Maps[kern.ExitsMapVms].MaxEntries = uint32(opts.MaxTargets)
	spec.Maps[kern.ExitsMapCounts].MaxEntries = uint32(opts.MaxTargets)
	h := &exits{risen: make([]Exits, opts.MaxTargets)}
	if err := h.load(spec, kvm); err != nil {
		return nil, errors.Join(explainLoad("BTF and the file iterator (mainline 5.8 or a backport)", err), h.close())
	}
	return h, nil
}

// kvmTypes finds the module that describes KVM's structs, none if they are
// built in.
func kvmTypes() ([]*btf.Spec, error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("%w: needs BTF: %w", ErrNotSupported, err)
	}
	var vcpu *btf.Struct
	if kernel.TypeByName("kvm_vcpu", &vcpu) == nil && len(vcpu.Members) > 0 {
		return nil, nil
	}
	module, err := btf.LoadKernelModuleSpec("kvm")
	if err != nil {
		return nil, fmt.Errorf("%w: needs KVM, built in or as a loaded module with BTF: %w", ErrNotSupported, err)
	}
	return []*btf.Spec{module}, nil
}

func (h *exits) load(spec *ebpf.CollectionSpec, kvm []*btf.Spec) (err error) {
	opts := &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{ExtraRelocationTargets: kvm}}
	if err = spec.LoadAndAssign(&h.objects, opts); err != nil {
		return err
	}
	h.filter.m = h.objects.Vms
	if h.counts.mem, err = mapArray[kern.ExitsExits](&h.memory, h.objects.Counts); err != nil {
		return err
	}
	h.iter, err = link.AttachIter(link.IterOptions{Program: h.objects.ReadVcpus})
	return err
}

func (h *exits) assign(vms []*vm) error {
	before := h.counts.owner
	h.counts.assign(vms)
	for slot, v := range h.counts.owner {
		if slot >= len(before) || before[slot] != v {
			h.risen[slot] = Exits{}
		}
	}
	return h.filter.set(slotByPID(vms))
}

func (h *exits) pass() error {
	clear(h.counts.mem)
	if err := readIter(h.iter.FD(), h.buf[:]); err != nil {
		return err
	}
	for slot := range h.counts.owner {
		c, to := &h.counts.mem[slot], &h.risen[slot]
		if h.counts.owner[slot] == nil {
			continue
		}
		to.VCPUs = int(c.Vcpus)
		rise(&to.All, c.All)
		rise(&to.Halt, c.Halt)
		rise(&to.IO, c.Io)
		rise(&to.MMIO, c.Mmio)
		rise(&to.PageFaults, c.PageFaults)
		to.HaltWait = max(to.HaltWait, time.Duration(c.HaltWait))
	}
	return nil
}

func (h *exits) close() error {
	errs := []error{h.memory.close()}
	if h.iter != nil {
		errs = append(errs, h.iter.Close())
	}
	return errors.Join(append(errs, h.objects.Close())...)
}
