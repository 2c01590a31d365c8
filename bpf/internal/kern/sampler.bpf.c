//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Tiers A and B: copy what the kernel already counts for the threads of the
 * processes asked for. Nothing is hooked: a program runs only when the agent
 * asks for a pass, so a context switch costs nothing extra.
 *
 * The programs only copy. What a thread's exit, a rename or a pending wait
 * means is decided in Go, once for all tiers, where it can be tested.
 */
#include "types.h"

/*
 * kfuncs and bpf_probe_read_kernel load only into programs with a
 * GPL-compatible licence, and the kernel's list of strings does not know
 * "Dual Apache/GPL"; of the file's two licences this names the one that counts
 * inside the kernel.
 */
char LICENSE[] SEC("license") = "GPL";

enum have {
	HAVE_WAIT = 1, /* sched_info, needs CONFIG_SCHED_INFO */
	HAVE_IO = 2,   /* ioac, needs CONFIG_TASK_IO_ACCOUNTING */
	HAVE_RSS = 4,  /* rss_stat in a layout known here */
};

/* pass: one pass over all walks. In: walks, generation. Out: the rest. */
struct pass {
	u64 now;     /* CLOCK_MONOTONIC at its start */
	u64 arrival; /* scheduler clock when the running thread got its CPU */
	u32 walks;
	u32 generation;
	u32 used; /* records of threads in use */
	u32 lost; /* threads for which no record was left */
	u32 have; /* enum have */
	u32 pad;
};

/* walk: one process. In: pid. Out, valid if generation is the pass's: the rest. */
struct walk {
	u32 pid;
	u32 generation;
	u32 first;   /* tier A: its threads' records are the ones from here */
	u32 threads; /* visited */
	u32 live;    /* of them not exiting */
	u32 lost;
	u32 fresh; /* threads read anew: if none, all but the counters of use stand */
	u32 pad;
	u64 start;      /* leader's start, CLOCK_BOOTTIME: with pid, its identity */
	u64 exited_cpu; /* ns of the threads gone already */
	/* of the process, threads gone included */
	u64 voluntary, involuntary;
	u64 minor_faults, major_faults;
	u64 read_bytes, write_bytes;
	u64 rss_pages;
};

/* thread: one thread of one walk. A record stays from pass to pass. */
struct thread {
	u32 walk;
	u32 tid;
	u32 flags; /* enum thread_flag */
	u32 pad;
	u64 arrival; /* scheduler clock when it last got a CPU */
	u64 stamp;   /* sched_info.last_queued: since when it waits, if it does */
	u64 start;
	u64 cpu;     /* ns */
	u64 wait;    /* ns of waits that ended */
	u64 running; /* scheduler clock up to when cpu holds its running, 0 if it does not run */
	u64 voluntary, involuntary;
	u64 minor_faults, major_faults;
	u64 read_bytes, write_bytes;
	u8 comm[TASK_COMM_LEN];
};

enum thread_flag {
	THREAD_LIVE = 1,    /* not exiting */
	THREAD_SETTLED = 2, /* neither ran nor waited when read */
	THREAD_WAITS = 4,   /* for a CPU */
};

/* watch: what tells whether the thread of the same index ran since it was read. */
struct watch {
	u64 task; /* its task_struct, 0 if it ran or waited when read */
	u64 arrival;
};

/* Processes of more threads are read whole in each pass. */
#define WATCHED_THREADS 256

/* How often a process of which no thread ran is read all the same: its memory
 * may be reclaimed while it sleeps. */
#define REREAD_EVERY 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct pass);
} passes SEC(".maps");

/* max_entries of the next ones is set at load */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct walk);
} walks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct watch);
} watches SEC(".maps");

/* tgid -> index in walks: the filter of tier B */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} tgids SEC(".maps");

static __always_inline struct pass *this_pass(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&passes, &zero);
}

static __always_inline void begin_pass(struct pass *p)
{
	struct task_struct *self = (void *)bpf_get_current_task();

	p->used = 0;
	p->lost = 0;
	p->have = 0;
	p->arrival = 0;
	if (bpf_core_field_exists(self->sched_info.run_delay)) {
		p->have |= HAVE_WAIT;
		bpf_probe_read_kernel(&p->arrival, sizeof(p->arrival),
				      &self->sched_info.last_arrival);
	}
	if (bpf_core_field_exists(self->ioac.read_bytes))
		p->have |= HAVE_IO;
	if (bpf_core_field_exists(((struct mm_struct *)0)->rss_stat[0].count) ||
	    bpf_core_field_exists(((struct mm_struct___v5 *)0)->rss_stat.count[0]))
		p->have |= HAVE_RSS;
	p->now = bpf_ktime_get_ns();
}

/* MM_FILEPAGES, MM_ANONPAGES and MM_SHMEMPAGES; 2 is swap */
static __always_inline u64 rss_pages(struct mm_struct *mm)
{
	s64 n = 0;

	if (!mm)
		return 0;
	if (bpf_core_field_exists(mm->rss_stat[0].count)) {
		n = mm->rss_stat[0].count + mm->rss_stat[1].count + mm->rss_stat[3].count;
	} else if (bpf_core_field_exists(((struct mm_struct___v5 *)mm)->rss_stat.count[0])) {
		struct mm_struct___v5 *old = (void *)mm;

		n = old->rss_stat.count[0] + old->rss_stat.count[1] + old->rss_stat.count[3];
	}
	return n < 0 ? 0 : n;
}

/*
 * Starts a process's sums from what its exited threads left. This comes before
 * its threads: a thread that exits in between is then missing from one pass,
 * and would otherwise be counted twice.
 */
static __always_inline void begin_walk(struct pass *p, struct walk *w, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct signal_struct *sig = task->signal;

	w->first = p->used;
	w->threads = 0;
	w->live = 0;
	w->lost = 0;
	w->fresh = 0;
	w->start = leader->start_boottime;
	w->exited_cpu = sig->sum_sched_runtime;
	w->voluntary = sig->nvcsw;
	w->involuntary = sig->nivcsw;
	w->minor_faults = sig->min_flt;
	w->major_faults = sig->maj_flt;
	if (bpf_core_field_exists(sig->ioac.read_bytes)) {
		w->read_bytes = sig->ioac.read_bytes;
		w->write_bytes = sig->ioac.write_bytes;
	}
	w->rss_pages = rss_pages(leader->mm);
	w->generation = p->generation;
	barrier();
}

/*
 * Whether the record holds this very thread, and it has not run since it was
 * read. A thread gets a CPU with a new last_arrival and waits for one with a
 * new last_queued, and only by running do its other counters change.
 */
static __always_inline bool unchanged(const struct thread *t, u32 index, struct task_struct *task)
{
	if (!bpf_core_field_exists(task->sched_info.run_delay))
		return false;
	return t->tid == task->pid && t->walk == index && (t->flags & THREAD_SETTLED) &&
	       t->arrival == task->sched_info.last_arrival &&
	       t->stamp == task->sched_info.last_queued;
}

/*
 * The time up to which sum_exec_runtime holds a running thread's use, by the
 * scheduler clock; the kernel brings it up to date at ticks. Its own stamp is
 * by the run queue's task clock, which stands still during interrupts and while
 * a hypervisor below has the CPU.
 */
static __always_inline u64 running_since(struct task_struct *task)
{
	struct cfs_rq *cfs;
	struct rq *rq;

	if (!bpf_core_field_exists(task->se.cfs_rq) || !bpf_core_field_exists(((struct rq *)0)->clock_task))
		return 0;
	cfs = task->se.cfs_rq;
	if (!cfs)
		return 0;
	rq = cfs->rq;
	if (!rq)
		return 0;
	return task->se.exec_start + (rq->clock - rq->clock_task);
}

static __always_inline void read_thread(struct thread *t, u32 index, struct task_struct *task)
{
	u32 flags = 0;
	int runs;

	t->walk = index;
	t->tid = task->pid;
	t->start = task->start_boottime;
	t->running = 0;
	if (bpf_core_field_exists(task->sched_info.run_delay)) {
		/*
		 * In this order: what happens in between is missing from this pass,
		 * and the stamps show the next one that there is more. The other
		 * way round a wait or a run that ends here would count twice, or a
		 * thread be taken for settled whose last run was not counted yet.
		 */
		t->wait = task->sched_info.run_delay;
		t->arrival = task->sched_info.last_arrival;
		barrier();
		t->stamp = task->sched_info.last_queued;
		barrier();
		runs = task->on_cpu;
		barrier();
		t->cpu = task->se.sum_exec_runtime;
		barrier();
		/* One that runs may carry a stale stamp: woken while it fell asleep. */
		if (runs)
			t->running = running_since(task);
		else if (t->stamp)
			flags |= THREAD_WAITS;
		else
			flags |= THREAD_SETTLED;
	} else {
		t->wait = 0;
		t->cpu = task->se.sum_exec_runtime;
	}
	if (!task->exit_state)
		flags |= THREAD_LIVE;
	t->flags = flags;
	t->voluntary = task->nvcsw;
	t->involuntary = task->nivcsw;
	t->minor_faults = task->min_flt;
	t->major_faults = task->maj_flt;
	if (bpf_core_field_exists(task->ioac.read_bytes)) {
		t->read_bytes = task->ioac.read_bytes;
		t->write_bytes = task->ioac.write_bytes;
	}
	__builtin_memcpy(t->comm, task->comm, TASK_COMM_LEN);
}

static __always_inline void visit(struct pass *p, struct walk *w, u32 index, struct task_struct *task)
{
	struct watch *watch;
	struct thread *t;
	u32 slot = p->used;

	w->threads++;
	t = bpf_map_lookup_elem(&threads, &slot);
	if (!t) {
		p->lost++;
		w->lost++;
		return;
	}
	p->used = slot + 1;
	if (!unchanged(t, index, task)) {
		w->fresh++;
		read_thread(t, index, task);
		watch = bpf_map_lookup_elem(&watches, &slot);
		if (watch) {
			watch->task = t->flags & THREAD_SETTLED ? (u64)task : 0;
			watch->arrival = t->arrival;
		}
	}
	if (t->flags & THREAD_LIVE)
		w->live++;
	w->voluntary += t->voluntary;
	w->involuntary += t->involuntary;
	w->minor_faults += t->minor_faults;
	w->major_faults += t->major_faults;
	w->read_bytes += t->read_bytes;
	w->write_bytes += t->write_bytes;
}

/* Tier A: only the threads of the processes asked for. */

struct bpf_iter_task {
	u64 opaque[3];
} __attribute__((aligned(8)));

struct bpf_iter_num {
	u64 opaque[1];
} __attribute__((aligned(8)));

#define BPF_TASK_ITER_PROC_THREADS 2

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern void *bpf_rdonly_cast(void *obj, u32 btf_id) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task, unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

/*
 * Whether none of the process's threads ran since the last pass: then none
 * came, none went, and all that was read stands. The task_structs are looked at
 * where they were, for that costs a cache line each and no call. One may be
 * gone: its memory may hold anything, and reading it cannot fault. But a thread
 * has to run to exit, and then the stamp left behind is another one.
 */
static __always_inline bool asleep(struct pass *p, struct walk *w, u32 index)
{
	u32 threads = w->threads, slot = p->used, i;
	struct task_struct *task;
	struct watch *watch;

	if (!bpf_core_field_exists(((struct task_struct *)0)->sched_info.run_delay))
		return false;
	if (w->generation != p->generation - 1 || w->first != slot || w->lost || !threads ||
	    (p->generation + index) % REREAD_EVERY == 0)
		return false;
	for (i = 0; i < WATCHED_THREADS; i++, slot++) {
		if (i == threads)
			return true;
		watch = bpf_map_lookup_elem(&watches, &slot);
		if (!watch || !watch->task)
			return false;
		task = bpf_rdonly_cast((void *)watch->task, bpf_core_type_id_kernel(struct task_struct));
		if (task->sched_info.last_arrival != watch->arrival || task->sched_info.last_queued)
			return false;
	}
	return false;
}

static __always_inline void walk_process(struct pass *p, struct walk *w, u32 index)
{
	struct task_struct *leader, *task;
	struct bpf_iter_task it;

	if (asleep(p, w, index)) {
		p->used += w->threads;
		w->fresh = 0;
		w->generation = p->generation;
		return;
	}
	leader = bpf_task_from_pid(w->pid);
	if (!leader)
		return;
	if (leader->tgid == leader->pid) {
		begin_walk(p, w, leader);
		bpf_rcu_read_lock();
		bpf_iter_task_new(&it, leader, BPF_TASK_ITER_PROC_THREADS);
		while ((task = bpf_iter_task_next(&it)))
			visit(p, w, index, task);
		bpf_iter_task_destroy(&it);
		bpf_rcu_read_unlock();
	}
	bpf_task_release(leader);
}

SEC("syscall")
int sample_walks(void *ctx)
{
	struct pass *p = this_pass();
	struct bpf_iter_num it;
	struct walk *w;
	int *i;

	if (!p)
		return 1;
	begin_pass(p);
	bpf_iter_num_new(&it, 0, p->walks);
	while ((i = bpf_iter_num_next(&it))) {
		u32 index = *i;

		w = bpf_map_lookup_elem(&walks, &index);
		if (w)
			walk_process(p, w, index);
	}
	bpf_iter_num_destroy(&it);
	return 0;
}

/* Tier B: every thread of the machine passes by, the filter keeps ours. */

SEC("iter/task")
int sample_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct pass *p = this_pass();
	struct walk *w;
	u32 tgid, *index;

	if (!p)
		return 0;
	if (ctx->meta->seq_num == 0)
		begin_pass(p);
	if (!task)
		return 0;
	tgid = task->tgid;
	index = bpf_map_lookup_elem(&tgids, &tgid);
	if (!index)
		return 0;
	w = bpf_map_lookup_elem(&walks, index);
	if (!w)
		return 0;
	if (w->generation != p->generation)
		begin_walk(p, w, task);
	visit(p, w, *index, task);
	return 0;
}
