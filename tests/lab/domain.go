package lab

import (
	"fmt"
	"strconv"

	"libvirt.org/go/libvirtxml"

	"headroom/tests/lab/wire"
)

// baseMachine is the smallest PC that boots the image, as QEMU arguments; it
// is for the guest that libvirt does not run. domainXML describes the same.
func baseMachine(memoryMiB, vcpus int) []string {
	return []string{
		"-machine", "pc,accel=tcg,usb=off,vmport=off", "-cpu", "qemu64", "-m", strconv.Itoa(memoryMiB),
		"-smp", strconv.Itoa(vcpus), "-nodefaults", "-no-user-config", "-display", "none",
	}
}

func consoleFile(vm string) string { return "/var/log/libvirt/console/" + vm + ".log" }

// domainXML describes a guest: nothing but a CPU, memory, a serial console to
// a file, a tap on the host's bridge, and a balloon for the memory statistics.
func (l *Lab) domainXML(vm VM) (string, error) {
	mac := digest("mac", l.state.Name, vm.Name)
	none := uint(0)
	d := libvirtxml.Domain{
		Type: "qemu", Name: vm.Name, UUID: vm.UUID,
		Memory: &libvirtxml.DomainMemory{Value: uint(vm.Memory), Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: uint(vm.VCPUs)},
		OS: &libvirtxml.DomainOS{
			Type:   &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc-i440fx-7.2", Type: "hvm"},
			Kernel: l.state.Image.Kernel, Initrd: l.state.Image.Initrd,
			Cmdline: kernelLine(wire.Params{Demand: vm.Demand, Rate: l.state.Rate}),
		},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}, VMPort: &libvirtxml.DomainFeatureState{State: "off"}},
		CPU:      &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Check: "none", Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: "qemu64"}},
		Clock:    &libvirtxml.DomainClock{Offset: "utc"},
		OnCrash:  "destroy", OnReboot: "destroy", OnPoweroff: "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Emulator:    emulator,
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none", Index: &none}},
			Interfaces: []libvirtxml.DomainInterface{{
				MAC:    &libvirtxml.DomainInterfaceMAC{Address: fmt.Sprintf("52:54:00:%02x:%02x:%02x", mac[0], mac[1], mac[2])},
				Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: guestBridge}},
				Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
				ROM:    &libvirtxml.DomainROM{Enabled: "no"},
			}},
			Serials: []libvirtxml.DomainSerial{{
				Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: consoleFile(vm.Name), Append: "on"}},
			}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "virtio", Stats: &libvirtxml.DomainMemBalloonStats{Period: 5}},
		},
	}
	return d.Marshal()
}
