package bpf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The smallest VM there is: one vCPU in real mode that writes to a port for
// ever, which makes it leave to user space each time.

const (
	kvmCreateVM     = 0xae01
	kvmVCPUMmapSize = 0xae04
	kvmCreateVCPU   = 0xae41
	kvmSetMemory    = 0x4020ae46
	kvmRun          = 0xae80
	kvmGetRegs      = 0x8090ae81
	kvmSetRegs      = 0x4090ae82
	kvmGetSregs     = 0x8138ae83
	kvmSetSregs     = 0x4138ae84
	vmCode          = 0x1000
)

// helperVM makes the VM, answers one line, and then runs as many exits as each
// line says.
func helperVM(in io.Reader, out io.Writer) {
	vcpu, err := makeVM()
	fmt.Fprintln(out, err)
	if err != nil {
		return
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		n, _ := strconv.Atoi(lines.Text())
		for range n {
			if err = ioctl(vcpu, kvmRun, 0); err != nil {
				break
			}
		}
		fmt.Fprintln(out, err)
	}
}

func ioctl(fd, request int, arg uintptr) error {
	_, err := ioctlValue(fd, request, arg)
	return err
}

func ioctlValue(fd, request int, arg uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func makeVM() (vcpu int, err error) {
	kvm, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	vm, err := ioctlValue(kvm, kvmCreateVM, 0)
	if err != nil {
		return 0, err
	}
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	copy(mem, []byte{0xe6, 0x10, 0xeb, 0xfc}) // out 0x10, al; jmp back
	region := make([]byte, 32)
	binary.LittleEndian.PutUint64(region[8:], vmCode)
	binary.LittleEndian.PutUint64(region[16:], 4096)
	binary.LittleEndian.PutUint64(region[24:], uint64(uintptr(unsafe.Pointer(&mem[0]))))
	if err := ioctl(vm, kvmSetMemory, uintptr(ptr(region))); err != nil {
		return 0, err
	}
	if vcpu, err = ioctlValue(vm, kvmCreateVCPU, 0); err != nil {
		return 0, err
	}
	size, err := ioctlValue(kvm, kvmVCPUMmapSize, 0)
	if err != nil {
		return 0, err
	}
	if _, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return 0, err
	}
	return vcpu, startAtCode(vcpu)
}

func startAtCode(vcpu int) error {
	sregs := make([]byte, 312)
	if err := ioctl(vcpu, kvmGetSregs, uintptr(ptr(sregs))); err != nil {
		return err
	}
	clear(sregs[0:8])   // cs.base
	clear(sregs[12:14]) // cs.selector
	if err := ioctl(vcpu, kvmSetSregs, uintptr(ptr(sregs))); err != nil {
		return err
	}
	regs := make([]byte, 144)
	if err := ioctl(vcpu, kvmGetRegs, uintptr(ptr(regs))); err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(regs[128:], vmCode) // rip
	binary.LittleEndian.PutUint64(regs[136:], 2)      // rflags
	return ioctl(vcpu, kvmSetRegs, uintptr(ptr(regs)))
}
