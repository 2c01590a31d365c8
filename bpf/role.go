package bpf

// commLen is the kernel's TASK_COMM_LEN.
const commLen = 16

// comm is a thread's name as the kernel holds it, ended by a zero byte.
type comm [commLen]byte

func makeComm(name string) (c comm) {
	copy(c[:commLen-1], name)
	return c
}

type role uint8

const (
	roleEmulator role = iota
	roleVCPU
	roleIOThread
	roleVhost
	roles // how many there are
)

// classify tells a thread's role from its name, as QEMU gives it with
// debug-threads=on (which libvirt passes) and as the kernel names its workers.
// What it does not know belongs to the emulator.
func classify(c *comm) role {
	switch {
	case hasPrefix(c, "CPU "), hasPrefix(c, "ALL CPUs/TCG"):
		return roleVCPU
	case hasPrefix(c, "IO mon_iothread"): // QEMU's monitor, not a disk
		return roleEmulator
	case hasPrefix(c, "IO "), hasPrefix(c, "iou-wrk-"), hasPrefix(c, "iou-sqp-"):
		return roleIOThread
	case hasPrefix(c, "vhost-"):
		return roleVhost
	}
	return roleEmulator
}

func hasPrefix(c *comm, prefix string) bool {
	return len(prefix) < commLen && string(c[:len(prefix)]) == prefix
}
