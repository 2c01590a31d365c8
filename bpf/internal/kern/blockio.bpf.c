//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Block requests by cgroup, with their latency, from one hook. The kernel has
 * stamped the request's start already and knows whose it is, so nothing need
 * be kept between start and end.
 */
#include "histogram.h"

char LICENSE[] SEC("license") = "GPL"; /* see sampler.bpf.c */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct blkcg_gq *bi_blkg;
};

struct request {
	u32 cmd_flags;
	struct bio *bio;
	u64 start_time_ns;
};

#pragma clang attribute pop

#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1

/* Requests are not counted but by their buckets and as untimed. What most of them
 * touch is one cache line: latency begins with bucket NEAR, so that those of 16 us
 * to 1 ms lie beside the sums. The buckets before it come last. */
#define NEAR 4

struct direction {
	u64 bytes;
	u64 time; /* ns, of the requests timed */
	u64 latency[BUCKETS];
	u64 untimed; /* requests of queues that keep no iostats */
	u64 pad[5];
};

struct blockio {
	struct direction read, write;
};

/* cgroup id -> slot */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, u32);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct blockio);
} slots SEC(".maps");

#define NOBODY 0xffffffff
#define MEMOS 64 /* a power of 2 */

/*
 * What a blkcg_gq, a cgroup's share in one disk, was found to belong to. From it
 * to its cgroup's number are four pointers, each most often to memory that no
 * cache holds. Its address may go to another cgroup's once its own is removed,
 * and what is remembered is then wrong until the agent next sets its targets,
 * as it does every few seconds.
 *
 * CPUs write one without a lock: a half of one answer beside a half of another
 * is told by check, which is the key xor the answer.
 */
struct memo {
	u64 epoch; /* the agent counts it up when cgroups has changed */
	u64 check;
	u64 answer; /* the epoch it is of, and the slot */
	u64 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct memo[MEMOS]);
} memories SEC(".maps");

static __always_inline u32 find_slot(struct blkcg_gq *blkg)
{
	u64 cgroup = blkg->blkcg->css.cgroup->kn->id;
	u32 *slot = bpf_map_lookup_elem(&cgroups, &cgroup);

	return slot ? *slot : NOBODY;
}

static __always_inline u32 recall_slot(struct blkcg_gq *blkg)
{
	u64 key = (u64)blkg, answer, epoch;
	struct memo *memo;
	u32 zero = 0, slot;
	void *memos;

	memos = bpf_map_lookup_elem(&memories, &zero);
	if (!memos)
		return find_slot(blkg);
	/* The verifier calculates with no pointer but the distance of two. */
	asm volatile("%0 -= %1" : "+r"(key) : "r"(memos));
	memo = (struct memo *)memos + ((key * 0x9e3779b97f4a7c15) >> 58 & (MEMOS - 1));
	epoch = *(volatile u64 *)&memo->epoch;
	answer = *(volatile u64 *)&memo->answer;
	if ((*(volatile u64 *)&memo->check ^ answer) == key && answer >> 32 == epoch)
		return answer;
	slot = find_slot(blkg);
	answer = epoch << 32 | slot;
	*(volatile u64 *)&memo->check = key ^ answer;
	*(volatile u64 *)&memo->answer = answer;
	return slot;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete, struct request *rq, int error, unsigned int bytes)
{
	u32 op = rq->cmd_flags & REQ_OP_MASK, bucket;
	struct direction *d;
	struct blkcg_gq *blkg;
	struct blockio *b;
	struct bio *bio;
	u64 start, time;
	u32 slot;

	if (op != REQ_OP_READ && op != REQ_OP_WRITE)
		return 0;
	bio = rq->bio;
	if (!bio)
		return 0;
	blkg = bio->bi_blkg;
	if (!blkg)
		return 0;
	slot = recall_slot(blkg);
	if (slot == NOBODY)
		return 0;
	b = bpf_map_lookup_elem(&slots, &slot);
	if (!b)
		return 0;
	d = op == REQ_OP_READ ? &b->read : &b->write;
	/* completions of one VM come on several CPUs at once */
	__sync_fetch_and_add(&d->bytes, bytes);
	start = rq->start_time_ns;
	if (!start) {
		__sync_fetch_and_add(&d->untimed, 1);
		return 0;
	}
	time = bpf_ktime_get_ns() - start;
	__sync_fetch_and_add(&d->time, time);
	bucket = log2_us(time);
	bucket = bucket < NEAR ? bucket + BUCKETS - NEAR : bucket - NEAR;
	if (bucket < BUCKETS)
		__sync_fetch_and_add(&d->latency[bucket], 1);
	return 0;
}
