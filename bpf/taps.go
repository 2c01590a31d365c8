package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"

	"headroom/bpf/internal/kern"
)

// tapReader reads taps by a program that looks where the kernel counts. It reads
// the network namespace of the thread that opened it, which must be held on to.
type tapReader struct {
	objects kern.TapsObjects
	memory  mappings
	header  *kern.TapsReading
	all     []tapRecord
	known   int // records that byName tells of
	byName  map[string]int
}

type tapRecord = kern.TapsTap

func openTaps() (*tapReader, error) {
	spec, err := kern.LoadTaps()
	if err != nil {
		return nil, err
	}
	spec.Maps[kern.TapsMapTaps].MaxEntries = maxLinks
	t := &tapReader{byName: map[string]int{}}
	if err := t.load(spec); err != nil {
		return nil, errors.Join(explainLoad("BTF and RCU in syscall programs (mainline 6.10 or a backport)", err), t.close())
	}
	if err := t.findPlace(); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *tapReader) load(spec *ebpf.CollectionSpec) error {
	if err := spec.LoadAndAssign(&t.objects, nil); err != nil {
		return err
	}
	headers, err := mapArray[kern.TapsReading](&t.memory, t.objects.Readings)
	if err != nil {
		return err
	}
	t.header = &headers[0]
	t.all, err = mapArray[tapRecord](&t.memory, t.objects.Taps)
	return err
}

// maxCPUs is MAX_CPUS of taps.bpf.c.
const maxCPUs = 1024

func (t *tapReader) findPlace() error {
	cpus, err := ebpf.PossibleCPU()
	if err == nil && cpus > maxCPUs {
		err = fmt.Errorf("%d CPUs, at most %d can be summed", cpus, maxCPUs)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	t.header.Cpus = uint32(cpus)
	if err := runProgram(t.objects.FindPlace.FD()); err != nil {
		return fmt.Errorf("%w: the kernel counts a tap's traffic in a way unknown here: %w", ErrNotSupported, err)
	}
	return nil
}

// read reads all taps, and tells whether some came, went, or have a new name.
func (t *tapReader) read() (changed bool, err error) {
	if err := runProgram(t.objects.ReadTaps.FD()); err != nil {
		return false, err
	}
	switch h := t.header; {
	case h.Devices == 0: // there is a loopback always
		return false, fmt.Errorf("%w: the program finds no interface", ErrNotSupported)
	case h.Lost > 0:
		return false, fmt.Errorf("%d taps, %d are read at most", h.Taps+h.Lost, len(t.all))
	case h.Changed == 0 && int(h.Taps) == t.known:
		return false, nil
	}
	t.known = int(t.header.Taps)
	clear(t.byName)
	for i := range t.records() {
		t.byName[tapName(&t.all[i])] = i
	}
	return true, nil
}

func tapName(r *tapRecord) string {
	name := (*[unsafe.Sizeof(r.Name)]byte)(unsafe.Pointer(&r.Name))
	before, _, _ := bytes.Cut(name[:], []byte{0})
	return string(before)
}

func (t *tapReader) records() []tapRecord { return t.all[:t.known] }
func (t *tapReader) devices() int         { return int(t.header.Devices) }

func (t *tapReader) stats(name string) (LinkStats, bool) {
	i, ok := t.byName[name]
	if !ok {
		return LinkStats{}, false
	}
	return tapStats(&t.all[i]), true
}

func tapStats(r *tapRecord) LinkStats {
	return LinkStats{
		RxBytes: r.RxBytes, TxBytes: r.TxBytes,
		RxPackets: r.RxPackets, TxPackets: r.TxPackets,
		RxDropped: r.RxDropped, TxDropped: r.TxDropped,
	}
}

func (t *tapReader) close() error {
	return errors.Join(t.memory.close(), t.objects.Close())
}
