//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * What the kernel counts for each tap, read where it counts: no packet is
 * hooked, and no netlink message is made of it. It is the same sum that the
 * kernel makes for RTM_GETSTATS (dev_get_stats), which the agent holds against
 * it.
 */
#include "types.h"

char LICENSE[] SEC("license") = "GPL"; /* see sampler.bpf.c */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next;
};

struct net {
	struct list_head dev_base_head;
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct___net {
	struct nsproxy *nsproxy;
};

struct rtnl_link_ops {
	const char *kind;
};

struct net_device_stats {
	unsigned long rx_packets, tx_packets;
	unsigned long rx_bytes, tx_bytes;
	unsigned long rx_dropped, tx_dropped;
};

struct net_device_core_stats {
	unsigned long rx_dropped, tx_dropped;
};

struct u64_stats {
	u64 opaque;
};

struct pcpu_sw_netstats {
	struct u64_stats rx_packets, rx_bytes;
	struct u64_stats tx_packets, tx_bytes;
};

enum netdev_stat_type {
	NETDEV_PCPU_STAT_TSTATS = 2,
};

struct net_device {
	struct pcpu_sw_netstats *tstats;
	int ifindex;
	char name[16];
	struct list_head dev_list;
	struct net_device_stats stats;
	struct net_device_core_stats *core_stats;
	enum netdev_stat_type pcpu_stat_type;
	struct rtnl_link_ops *rtnl_link_ops;
};

struct bpf_array {
	void *pptrs[0];
};

struct rtnl_link_stats64 {
	u64 rx_packets;
};

#pragma clang attribute pop

#define MAX_CPUS 1024 /* a power of 2 */

/* reading: one reading of all taps. In: cpus, taps. Out: the rest. */
struct reading {
	u32 cpus;    /* possible ones, numbered from 0 */
	u32 devices; /* of the network namespace */
	u32 taps;    /* of them, with a record */
	u32 lost;    /* taps for which no record was left */
	u32 changed; /* 1: a record is another tap's than before, or has a new name */
	u32 pad;
};

struct tap {
	u32 index;
	u32 pad;
	u64 name[2];
	u64 rx_bytes, tx_bytes;
	u64 rx_packets, tx_packets;
	u64 rx_dropped, tx_dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct reading);
} readings SEC(".maps");

/* max_entries is set at load */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tap);
} taps SEC(".maps");

/* What stays the same as long as the agent runs. The agent itself cannot see it. */
struct place {
	u64 net;               /* its struct net, which the agent's socket holds on to */
	u64 offsets[MAX_CPUS]; /* from a per-CPU pointer to each CPU's own */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct place);
} places SEC(".maps");

/* Something of which each CPU has its own, to see how far from each other they lie. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} yardstick SEC(".maps");

struct bpf_iter_num {
	u64 opaque[1];
} __attribute__((aligned(8)));

extern void *bpf_rdonly_cast(void *obj, u32 btf_id) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

/*
 * The eight bytes at a kernel address, 0 where there is no memory. They are read
 * as the first field of a struct that every kernel with a network has: so the
 * verifier takes them for a number, also where they are a pointer, and lets one
 * calculate with it.
 */
static __always_inline u64 word_at(u64 address)
{
	struct rtnl_link_stats64 *word;

	word = bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct rtnl_link_stats64));
	return word->rx_packets;
}

#define OFFSET(type, field) ((u64)bpf_core_field_offset(struct type, field))
#define EXISTS(type, field) bpf_core_field_exists(struct type, field)

static __always_inline bool layout_known(void)
{
	return EXISTS(net, dev_base_head) && EXISTS(task_struct___net, nsproxy) &&
	       EXISTS(nsproxy, net_ns) && EXISTS(rtnl_link_ops, kind) && EXISTS(bpf_array, pptrs) &&
	       EXISTS(net_device, tstats) && EXISTS(net_device, dev_list.next) &&
	       EXISTS(net_device, stats.rx_packets) && EXISTS(net_device, core_stats) &&
	       EXISTS(net_device, pcpu_stat_type) && EXISTS(net_device, rtnl_link_ops) &&
	       EXISTS(net_device_core_stats, rx_dropped) && EXISTS(pcpu_sw_netstats, rx_packets);
}

/* Finds the network namespace of the thread that runs it, and the CPUs' memory. */
SEC("syscall")
int find_place(void *ctx)
{
	u32 zero = 0, cpu;
	struct reading *r = bpf_map_lookup_elem(&readings, &zero);
	struct place *p = bpf_map_lookup_elem(&places, &zero);
	u64 base, *mine;
	void *map;

	if (!r || !p)
		return 1;
	if (!layout_known())
		return 2;
	map = bpf_rdonly_cast(&yardstick, bpf_core_type_id_kernel(struct bpf_array));
	base = word_at((u64)(map + OFFSET(bpf_array, pptrs)));
	for (cpu = 0; cpu < MAX_CPUS; cpu++) {
		if (cpu == r->cpus)
			break;
		mine = bpf_map_lookup_percpu_elem(&yardstick, &zero, cpu);
		if (!mine)
			return 3;
		/* Memory makes a number of the pointer. */
		*(volatile u64 *)&p->offsets[cpu] = (u64)mine;
		*(volatile u64 *)&p->offsets[cpu] -= base;
	}
	p->net = word_at(bpf_get_current_task() + OFFSET(task_struct___net, nsproxy));
	p->net = word_at(p->net + OFFSET(nsproxy, net_ns));
	return 0;
}

static __always_inline bool is_tap(u64 dev)
{
	u64 ops = word_at(dev + OFFSET(net_device, rtnl_link_ops));

	if (!ops || (u32)word_at(dev + OFFSET(net_device, pcpu_stat_type)) != NETDEV_PCPU_STAT_TSTATS)
		return false;
	/* "tun" with its end: the driver of tun and tap devices alike */
	return (u32)word_at(word_at(ops + OFFSET(rtnl_link_ops, kind))) == 0x6e7574;
}

#define STAT(field) word_at(dev + OFFSET(net_device, stats.field))
#define TSTAT(field) word_at(tstats + OFFSET(pcpu_sw_netstats, field))
#define CORE(field) word_at(core + OFFSET(net_device_core_stats, field))

static __always_inline void read_tap(struct reading *r, struct place *p, struct tap *t, u64 dev)
{
	u64 rx_bytes = STAT(rx_bytes), tx_bytes = STAT(tx_bytes);
	u64 rx_packets = STAT(rx_packets), tx_packets = STAT(tx_packets);
	u64 rx_dropped = STAT(rx_dropped), tx_dropped = STAT(tx_dropped);
	u64 all_tstats = word_at(dev + OFFSET(net_device, tstats));
	u64 all_core = word_at(dev + OFFSET(net_device, core_stats));
	u64 name0 = word_at(dev + OFFSET(net_device, name));
	u64 name1 = word_at(dev + OFFSET(net_device, name) + 8);
	u32 index = word_at(dev + OFFSET(net_device, ifindex));
	struct bpf_iter_num it;
	u64 tstats, core;
	int *cpu;

	if (t->index != index || t->name[0] != name0 || t->name[1] != name1) {
		t->index = index;
		t->name[0] = name0;
		t->name[1] = name1;
		r->changed = 1;
	}
	bpf_iter_num_new(&it, 0, r->cpus);
	while ((cpu = bpf_iter_num_next(&it))) {
		u64 offset = p->offsets[*cpu & (MAX_CPUS - 1)];

		tstats = all_tstats + offset;
		rx_bytes += TSTAT(rx_bytes);
		tx_bytes += TSTAT(tx_bytes);
		rx_packets += TSTAT(rx_packets);
		tx_packets += TSTAT(tx_packets);
		if (!all_core) /* made when the first packet is dropped */
			continue;
		core = all_core + offset;
		rx_dropped += CORE(rx_dropped);
		tx_dropped += CORE(tx_dropped);
	}
	bpf_iter_num_destroy(&it);
	t->rx_bytes = rx_bytes;
	t->tx_bytes = tx_bytes;
	t->rx_packets = rx_packets;
	t->tx_packets = tx_packets;
	t->rx_dropped = rx_dropped;
	t->tx_dropped = tx_dropped;
}

#define MAX_DEVICES 65536

SEC("syscall")
int read_taps(void *ctx)
{
	u32 zero = 0;
	struct reading *r = bpf_map_lookup_elem(&readings, &zero);
	struct place *p = bpf_map_lookup_elem(&places, &zero);
	struct bpf_iter_num it;
	u64 head, at, dev;
	struct tap *t;

	if (!r || !p)
		return 1;
	r->devices = 0;
	r->taps = 0;
	r->lost = 0;
	r->changed = 0;
	head = p->net + OFFSET(net, dev_base_head);
	bpf_rcu_read_lock();
	at = word_at(head);
	bpf_iter_num_new(&it, 0, MAX_DEVICES);
	while (bpf_iter_num_next(&it)) {
		if (at == head || !at)
			break;
		dev = at - OFFSET(net_device, dev_list);
		at = word_at(at);
		r->devices++;
		if (!is_tap(dev))
			continue;
		t = bpf_map_lookup_elem(&taps, &r->taps);
		if (!t) {
			r->lost++;
			continue;
		}
		read_tap(r, p, t, dev);
		r->taps++;
	}
	bpf_iter_num_destroy(&it);
	bpf_rcu_read_unlock();
	return at == head ? 0 : 2; /* else there is more, or it was no list */
}
