//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The textbook way to CPU time and run-queue wait, to compare with: time stamps
 * at wake-up and switch in hash maps by PID, sums in a per-CPU hash map by TGID.
 * Only the benchmark loads it.
 */
#include "types.h"

char LICENSE[] SEC("license") = "GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct___state {
	unsigned int __state; /* its name since 5.14 */
};

#pragma clang attribute pop

struct sums {
	u64 run, wait; /* ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u32);
	__type(value, u64);
} queued SEC(".maps"), running SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 65536);
	__type(key, u32);
	__type(value, struct sums);
} sums SEC(".maps");

static __always_inline void stamp(void *map, u32 pid, u64 now)
{
	bpf_map_update_elem(map, &pid, &now, BPF_ANY);
}

/* the time since the stamp, which goes */
static __always_inline u64 since(void *map, u32 pid, u64 now)
{
	u64 *at = bpf_map_lookup_elem(map, &pid), passed;

	if (!at)
		return 0;
	passed = now - *at;
	bpf_map_delete_elem(map, &pid);
	return passed;
}

static __always_inline void add(u32 tgid, u64 run, u64 wait)
{
	struct sums *s = bpf_map_lookup_elem(&sums, &tgid);
	struct sums none = {};

	if (!s) {
		bpf_map_update_elem(&sums, &tgid, &none, BPF_NOEXIST);
		s = bpf_map_lookup_elem(&sums, &tgid);
	}
	if (s) {
		s->run += run;
		s->wait += wait;
	}
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(textbook_wakeup, struct task_struct *task)
{
	stamp(&queued, task->pid, bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(textbook_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u64 now = bpf_ktime_get_ns();

	add(prev->tgid, since(&running, prev->pid, now), 0);
	if (preempt || ((struct task_struct___state *)prev)->__state == 0)
		stamp(&queued, prev->pid, now);
	add(next->tgid, 0, since(&queued, next->pid, now));
	stamp(&running, next->pid, now);
	return 0;
}
