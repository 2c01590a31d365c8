//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The distribution of vCPU threads' single run-queue waits. One hook, which
 * looks only at the thread that leaves its CPU and at what the kernel summed
 * up for it: no clock is read, no wake-up is hooked.
 */
#include "histogram.h"

char LICENSE[] SEC("license") = "GPL"; /* see sampler.bpf.c */

struct mark {
	u64 seen; /* run_delay counted so far */
	u32 slot;
	u32 pad;
};

struct tail {
	u64 waits;
	u64 longest; /* ns */
	u64 histogram[BUCKETS];
};

/* Its presence is the filter: for other threads the hook costs one look-up. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mark);
} marks SEC(".maps");

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
	__type(value, struct tail);
} tails SEC(".maps");

/*
 * Marks the vCPU threads. Not done in the hook: creating storage allocates,
 * and the hook runs under the run queue's lock.
 */
SEC("iter/task")
int mark_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mark *m;
	u32 tgid, *slot;

	if (!task)
		return 0;
	tgid = task->tgid;
	slot = bpf_map_lookup_elem(&vms, &tgid);
	if (!slot || task->comm[0] != 'C' || task->comm[1] != 'P' || task->comm[2] != 'U' ||
	    task->comm[3] != ' ') {
		bpf_task_storage_delete(&marks, task);
		return 0;
	}
	m = bpf_task_storage_get(&marks, task, 0, 0);
	if (m) {
		m->slot = *slot;
		return 0;
	}
	m = bpf_task_storage_get(&marks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (m) {
		m->slot = *slot;
		m->seen = task->sched_info.run_delay;
	}
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev)
{
	u64 delay, wait;
	struct mark *m;
	struct tail *t;
	u32 bucket;

	m = bpf_task_storage_get(&marks, prev, 0, 0);
	if (!m)
		return 0;
	delay = prev->sched_info.run_delay;
	wait = delay - m->seen;
	/* seen 0: its maker is about to say what was before it */
	if (!wait || !m->seen || delay < m->seen) {
		m->seen = delay;
		return 0;
	}
	m->seen = delay;
	t = bpf_map_lookup_elem(&tails, &m->slot);
	if (!t)
		return 0;
	/* vCPUs of one VM leave several CPUs at once */
	__sync_fetch_and_add(&t->waits, 1);
	bucket = log2_us(wait);
	if (bucket < BUCKETS)
		__sync_fetch_and_add(&t->histogram[bucket], 1);
	if (wait > t->longest)
		t->longest = wait;
	return 0;
}
