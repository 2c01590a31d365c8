/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The few kernel structs that the programs read, instead of a 2.8 MB
 * vmlinux.h of one kernel. Only the fields used are declared:
 * preserve_access_index makes the loader look up each field's real offset in
 * the running kernel's BTF, so neither order, size nor gaps matter here.
 */
#ifndef HEADROOM_TYPES_H
#define HEADROOM_TYPES_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0

#define TASK_COMM_LEN 16

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
	unsigned long long last_arrival;
	unsigned long long last_queued;
};

struct rq {
	u64 clock;
	u64 clock_task;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	u64 exec_start;
	u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
};

struct task_io_accounting {
	u64 read_bytes;
	u64 write_bytes;
};

struct signal_struct {
	unsigned long nvcsw, nivcsw;
	unsigned long min_flt, maj_flt;
	struct task_io_accounting ioac;
	unsigned long long sum_sched_runtime;
};

struct percpu_counter {
	s64 count;
};

struct mm_struct {
	struct percpu_counter rss_stat[4];
};

/* before 6.2: one struct of atomic counters */
struct mm_rss_stat___v5 {
	s64 count[4];
};

struct mm_struct___v5 {
	struct mm_rss_stat___v5 rss_stat;
};

struct task_struct {
	struct sched_entity se;
	struct sched_info sched_info;
	struct mm_struct *mm;
	int on_cpu;
	int exit_state;
	s32 pid;
	s32 tgid;
	struct task_struct *group_leader;
	unsigned long nvcsw, nivcsw;
	u64 start_boottime;
	unsigned long min_flt, maj_flt;
	char comm[TASK_COMM_LEN];
	struct signal_struct *signal;
	struct task_io_accounting ioac;
};

struct bpf_iter_meta {
	u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
