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
		switch {
		case !f.On:
			lack(string(f.Feature), a.whyOff(f))
		case f.Feature == bpf.FeatureBlockIO && v.noBlock != "":
			lack(string(f.Feature), v.noBlock)
		case f.Feature == bpf.FeatureExits && v.extra.exits == nil:
			lack(string(f.Feature), "the VM does not run on KVM")
		}
	}
	return out
}

// whyOff tells why a feature is off: by configuration, or because it failed.
func (a *Agent) whyOff(f bpf.FeatureStatus) string {
	s := a.cfg.Sampling
	switch {
	case f.Feature == bpf.FeatureBlockIO && !s.BlockIO:
		return "off: set sampling.block_io"
	case f.Feature == bpf.FeatureExits && !s.KVMExits:
		return "off: set sampling.kvm_exits"
	case f.Feature == bpf.FeatureWaitTail && s.WaitTail == tailOff:
		return "off: set sampling.wait_tail"
	case f.Feature == bpf.FeatureWaitTail:
		return "not attached now (sampling.wait_tail, sampling.tail_budget): " + f.Why
	}
	return f.Why
}
