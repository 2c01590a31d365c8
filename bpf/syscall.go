package bpf

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The two bpf(2) commands of a pass, called directly: what cilium/ebpf offers
// for them allocates, and a pass must not.

const (
	bpfProgTestRun = 10
	bpfIterCreate  = 33
)

// progRunAttr is the kernel's union bpf_attr for BPF_PROG_TEST_RUN.
type progRunAttr struct {
	progFD, retval                  uint32
	dataSizeIn, dataSizeOut         uint32
	dataIn, dataOut                 uint64
	repeat, duration                uint32
	ctxSizeIn, ctxSizeOut           uint32
	ctxIn, ctxOut                   uint64
	flags, cpu, batchSize, reserved uint32
}

// runProgram runs a syscall program once.
func runProgram(fd int) error {
	attr := progRunAttr{progFD: uint32(fd)}
	_, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgTestRun, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return fmt.Errorf("run BPF program: %w", errno)
	}
	if attr.retval != 0 {
		return fmt.Errorf("run BPF program: it returned %d", attr.retval)
	}
	return nil
}

// readIter runs an iterator program over all its objects. The program writes
// nothing, so any buffer will do.
func readIter(link int, buf []byte) error {
	attr := struct{ linkFD, flags uint32 }{linkFD: uint32(link)}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, bpfIterCreate, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return fmt.Errorf("create BPF iterator: %w", errno)
	}
	defer unix.Close(int(fd))
	for {
		n, err := unix.Read(int(fd), buf)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return fmt.Errorf("run BPF iterator: %w", err)
		case n == 0:
			return nil
		}
	}
}
