package bpf

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mappings holds memory shared with BPF programs.
type mappings [][]byte

// mapArray maps an array map's values. Their stride is the size rounded up to
// 8, which Go's layout of T equals: every T here ends on 8 bytes.
func mapArray[T any](to *mappings, m *ebpf.Map) ([]T, error) {
	n := int(m.MaxEntries())
	size := n * int(m.ValueSize())
	page := os.Getpagesize()
	mem, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map BPF array: %w", err)
	}
	*to = append(*to, mem)
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), n), nil
}

func (m *mappings) close() error {
	var errs []error
	for _, mem := range *m {
		errs = append(errs, unix.Munmap(mem))
	}
	*m = nil
	return errors.Join(errs...)
}

// filter is a hash map by which a program finds what belongs to a VM.
type filter[K comparable] struct {
	m  *ebpf.Map
	in map[K]uint32
}

// set makes the map hold want and nothing else.
func (f *filter[K]) set(want map[K]uint32) error {
	for key := range f.in {
		if _, stays := want[key]; stays {
			continue
		}
		if err := f.m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("empty BPF filter: %w", err)
		}
	}
	for key, index := range want {
		if err := f.m.Put(key, index); err != nil {
			return fmt.Errorf("fill BPF filter: %w", err)
		}
	}
	f.in = want
	return nil
}

// slotted is memory that a program keeps for each VM at its slot.
type slotted[T any] struct {
	mem   []T
	owner []*vm
}

// assign clears the slots of new owners. The program must not write for old
// owners any more.
func (s *slotted[T]) assign(vms []*vm) {
	owner := make([]*vm, len(s.mem))
	for _, v := range vms {
		owner[v.slot] = v
		if v.slot >= len(s.owner) || s.owner[v.slot] != v {
			clear(s.mem[v.slot : v.slot+1])
		}
	}
	s.owner = owner
}

// explainLoad types an error of loading, and says how to get what was to be
// loaded: by rights, or by a kernel that has what it needs.
func explainLoad(needs string, err error) error {
	switch {
	// The verifier says EINVAL too for what only one of the two rights allows.
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), !mayLoad():
		return fmt.Errorf("%w: give the agent CAP_BPF and CAP_PERFMON: %w", ErrNotPermitted, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: needs %s: %w", ErrNotSupported, needs, err)
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
