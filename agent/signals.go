package agent

import (
	"headroom/bpf"
)

// absent lists the signals of a VM that cannot be had now, each with its reason,
// so that nobody takes a missing one for zero.
func (a *Agent) absent(v *vm) []string {
	out := []string{}
	lack := func(signal, why string) { out = append(out, signal+": "+why) }
	if !v.sample.Valid && v.sample.Reason != "" {
		lack("counters", v.sample.Reason)
	}
	for _, s := range v.sample.Absent {
		lack(string(s.Signal), s.Reason)
	}
	switch {
	case a.o.Links == nil:
		lack("network", "the agent may not open a netlink socket (systemd: RestrictAddressFamilies=AF_NETLINK)")
	case len(v.dom.Taps) == 0:
		lack("network", "the VM has no tap on this host; vhost-user and passed-through cards are not counted by the kernel")
	case !v.linked:
		lack("network", "the VM's tap is not in the agent's network namespace")
	}
	if !v.hasMem {
		lack("memory", "the guest's balloon tells nothing: give it a virtio balloon and a statistics period (virsh dommemstat --period 10)")
	}
	if known(v.dirty) == nil {
		lack("dirty-rate", "not measured yet: one VM at a time, each every 5 minutes at most, none in a migration")
	}
	list, ok := a.o.Sampler.(interface{ Features() []bpf.FeatureStatus })
	if !ok {
		return out
	}
	for _, f := range list.Features() {
		if !f.On {
			lack(string(f.Feature), f.Why)
		}
	}
	return out
}
