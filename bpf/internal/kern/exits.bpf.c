//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * What KVM counts for each vCPU, found through the file that QEMU holds for
 * it. No exit is hooked.
 */
#include "types.h"

char LICENSE[] SEC("license") = "GPL"; /* see sampler.bpf.c */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	void *private_data;
};

struct kvm_vcpu_stat_generic {
	u64 halt_successful_poll;
	u64 halt_wakeup;
	u64 halt_wait_ns;
};

struct kvm_vcpu_stat {
	struct kvm_vcpu_stat_generic generic;
	u64 exits;
	u64 halt_exits;
	u64 io_exits;
	u64 mmio_exits;
	u64 pf_fixed;
};

struct kvm_vcpu {
	struct kvm_vcpu_stat stat;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#pragma clang attribute pop

struct exits {
	u32 vcpus;
	u32 pad;
	u64 all, halt, io, mmio;
	u64 page_faults;
	u64 halt_wait; /* ns */
};

/* tgid -> slot */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} vms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct exits);
} counts SEC(".maps");

static __always_inline bool is_vcpu(struct file *file)
{
	static const char want[] = "kvm-vcpu:";
	char name[sizeof(want)] = {};

	bpf_probe_read_kernel(name, sizeof(want) - 1, file->f_path.dentry->d_name.name);
	for (int i = 0; i < (int)sizeof(want) - 1; i++)
		if (name[i] != want[i])
			return false;
	return true;
}

#define READ(field) BPF_CORE_READ(vcpu, stat.field)

SEC("iter/task_file")
int read_vcpus(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct kvm_vcpu *vcpu;
	struct exits *e;
	u32 tgid, *slot;

	if (!task || !file)
		return 0;
	tgid = task->tgid;
	slot = bpf_map_lookup_elem(&vms, &tgid);
	if (!slot || !is_vcpu(file))
		return 0;
	e = bpf_map_lookup_elem(&counts, slot);
	if (!e)
		return 0;
	vcpu = file->private_data;
	e->vcpus++;
	e->all += READ(exits);
	e->halt += READ(halt_exits);
	e->io += READ(io_exits);
	e->mmio += READ(mmio_exits);
	e->page_faults += READ(pf_fixed);
	e->halt_wait += READ(generic.halt_wait_ns);
	return 0;
}
