package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"headroom/tests/lab/demand"
	"headroom/tests/lab/wire"
)

// bootLimit bounds the wait for a guest's first line. A boot takes seconds on
// a quiet machine; a host under a small quota is slow.
const bootLimit = 2 * time.Minute

// DefaultMemory is a guest's memory in MiB when none is said, and the least that
// the kernel boots in.
const (
	DefaultMemory = 96
	minMemory     = 80
)

// VMOptions says what CreateVM makes.
type VMOptions struct {
	Name   string
	Demand string // script, see package demand
	Memory int    // MiB, default DefaultMemory
	VCPUs  int    // default 1
}

// VM is what the lab remembers of a guest.
type VM struct {
	Name    string        `json:"name"`
	UUID    string        `json:"uuid"`
	Demand  string        `json:"demand"`
	Memory  int           `json:"memory_mib"`
	VCPUs   int           `json:"vcpus"`
	Started time.Time     `json:"started"` // of the script, by the machine's clock
	Boot    time.Duration `json:"boot_ns"` // from the start of QEMU until then
}

// CreateVM defines a VM on a host, starts it, and returns when its script has
// begun. A VM that does not get so far is removed again.
func (l *Lab) CreateVM(ctx context.Context, h *Host, o VMOptions) (VM, error) {
	vm, err := l.newVM(o)
	if err != nil {
		return VM{}, err
	}
	if err := l.startVM(ctx, h, &vm); err != nil {
		return VM{}, errors.Join(err, l.DestroyVM(context.WithoutCancel(ctx), vm.Name))
	}
	return vm, nil
}

// startVM runs a claimed VM and notes when its script began.
func (l *Lab) startVM(ctx context.Context, h *Host, vm *VM) error {
	xml, err := l.domainXML(*vm)
	if err != nil {
		return err
	}
	file := filepath.Join(h.Dir(), vm.Name+".xml")
	if err := os.WriteFile(file, []byte(xml), 0o644); err != nil {
		return err
	}
	defer os.Remove(file)
	if _, err := h.Virsh(ctx, "define", file); err != nil {
		return err
	}
	begun := time.Now()
	if _, err := h.Virsh(ctx, "start", vm.Name); err != nil {
		return err
	}
	// The boot is not part of the script: it runs outside of the quota, and
	// takes nothing from the host's other VMs.
	if err := h.moveVM(vm.Name, "boot"); err != nil {
		return err
	}
	if vm.Started, err = l.awaitScript(ctx, vm.Name); err != nil {
		return err
	}
	if err := h.moveVM(vm.Name, "machine"); err != nil {
		return err
	}
	vm.Boot = vm.Started.Sub(begun)
	return writeJSON(l.vmFile(vm.Name), vm)
}

// moveVM moves a VM's process between the cgroups of its host.
func (h *Host) moveVM(vm, part string) error {
	pid, err := h.VMPID(vm)
	if err != nil {
		return err
	}
	if pid == 0 {
		return fmt.Errorf("process of VM %q on %s: %w", vm, h.name, ErrNotFound)
	}
	procs := filepath.Join(h.lab.cgroup.path(h.lab.state.Name, h.name, part), "cgroup.procs")
	return os.WriteFile(procs, fmt.Append(nil, pid), 0)
}

// newVM checks the options and claims the name.
func (l *Lab) newVM(o VMOptions) (VM, error) {
	if !vmPattern.MatchString(o.Name) {
		return VM{}, fmt.Errorf("VM name %q: want up to 31 of a-z, 0-9 and -", o.Name)
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.VCPUs == 0 {
		o.VCPUs = 1
	}
	if o.Memory < minMemory || o.Memory > 1<<16 || o.VCPUs < 1 || o.VCPUs > 16 {
		return VM{}, fmt.Errorf("VM %s: want %d to 65536 MiB and 1 to 16 vCPUs", o.Name, minMemory)
	}
	if _, err := demand.Parse(o.Demand); err != nil {
		return VM{}, err
	}
	f, err := os.OpenFile(l.vmFile(o.Name), os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return VM{}, fmt.Errorf("VM %s: %w", o.Name, err)
	}
	f.Close()
	return VM{
		Name: o.Name, UUID: uuid(digest("vm", l.state.Name, o.Name)),
		Demand: o.Demand, Memory: o.Memory, VCPUs: o.VCPUs,
	}, nil
}

func (l *Lab) vmFile(name string) string { return filepath.Join(l.dir(), "vms", name+".json") }

// VM finds a guest that CreateVM made, wherever it runs now.
func (l *Lab) VM(name string) (VM, error) {
	var vm VM
	if !vmPattern.MatchString(name) {
		return vm, fmt.Errorf("VM %q: %w", name, ErrNotFound)
	}
	if err := readJSON(l.vmFile(name), &vm); err != nil {
		return vm, fmt.Errorf("VM %q: %w", name, errors.Join(ErrNotFound, err))
	}
	return vm, nil
}

// VMs lists the guests that CreateVM made, by name.
func (l *Lab) VMs() ([]VM, error) {
	files, err := filepath.Glob(filepath.Join(l.dir(), "vms", "*.json"))
	if err != nil {
		return nil, err
	}
	var vms []VM
	for _, f := range files {
		vm, err := l.VM(strings.TrimSuffix(filepath.Base(f), ".json"))
		if err != nil {
			continue // being made
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

// VMPID is the process of a VM on the host; 0 when there is none.
func (h *Host) VMPID(vm string) (int, error) { return h.livePID("/run/libvirt/qemu/" + vm + ".pid") }

// Where lists the hosts on which the VM has a process: one as a rule, two
// during a migration, none when it is dead.
func (l *Lab) Where(vm string) ([]*Host, error) {
	var at []*Host
	for _, h := range l.hosts {
		pid, err := h.VMPID(vm)
		if err != nil {
			return nil, err
		}
		if pid > 0 {
			at = append(at, h)
		}
	}
	return at, nil
}

// Domain is a libvirt domain as one host sees it.
type Domain struct {
	Host  string
	Name  string
	State string // as virsh says it: running, paused, shut off, ...
}

// Domains asks every host's libvirtd for its domains. A host that does not
// answer is reported in the error; the others' domains are returned.
func (l *Lab) Domains(ctx context.Context) ([]Domain, error) {
	var all []Domain
	var errs []error
	for _, h := range l.hosts {
		text, err := h.Virsh(ctx, "list", "--all")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) >= 3 {
				all = append(all, Domain{Host: h.name, Name: f[1], State: strings.Join(f[2:], " ")})
			}
		}
	}
	return all, errors.Join(errs...)
}

// DestroyVM ends a VM, and undefines it on every host.
func (l *Lab) DestroyVM(ctx context.Context, name string) error {
	domains, err := l.Domains(ctx)
	if err != nil {
		return err
	}
	for _, d := range domains {
		if d.Name != name {
			continue
		}
		h, err := l.HostByName(d.Host)
		if err != nil {
			return err
		}
		if d.State != "shut off" {
			if _, err := h.Virsh(ctx, "destroy", name); err != nil {
				return err
			}
		}
		// A transient domain is gone by now.
		h.Virsh(ctx, "undefine", name)
	}
	for _, h := range l.hosts {
		os.Remove(h.Outside(consoleFile(name)))
	}
	return os.Remove(l.vmFile(name))
}

// kernelLine is a guest's kernel command line. The clock is the ACPI timer,
// which is exact by construction: the TSC's rate would be measured at boot,
// and wrongly on a busy machine.
func kernelLine(p wire.Params) string {
	return "console=ttyS0 quiet loglevel=3 clocksource=acpi_pm tsc=unstable lpj=4000000 no_timer_check " +
		"nowatchdog mitigations=off rcupdate.rcu_cpu_stall_suppress=1 cryptomgr.notests audit=0 panic=-1 " + p.String()
}
