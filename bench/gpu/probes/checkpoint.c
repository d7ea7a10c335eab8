/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuCheckpointProcess*: lock, checkpoint, restore and unlock of another process of this probe, by
 * the size of its memory, with its contents checked afterwards. Whether it works at all under this
 * driver and these permissions is part of the answer.
 */
#include "probe.h"

struct shared {
	_Atomic uint32_t ready, stop, checked;
	_Atomic uint32_t locked_out; /* the target noticed a pause of 50 ms or more */
	pid_t target;
	size_t bytes;
	int64_t used_full, used_parked;
	double lock_ns, checkpoint_ns, restore_ns, unlock_ns;
};

#define PIECE GIB

static int fill_or_check(struct gpu *g, CUdeviceptr *p, size_t n, size_t bytes, CUdeviceptr bad)
{
	uint64_t words = bytes / 4;

	for (size_t i = 0; i < n; i++) {
		uint32_t seed = (uint32_t)i + 5;

		if (bad)
			TRY(gpu_run(g, K_CHECK, (unsigned)g->sms * 4, 512, g->stream, &p[i], &words,
				    &seed, &bad));
		else
			TRY(gpu_run(g, K_FILL, (unsigned)g->sms * 4, 512, g->stream, &p[i], &words,
				    &seed));
	}
	TRY(cu.cuStreamSynchronize(g->stream));
	return 0;
}

static int target(int index, void *arg)
{
	struct shared *s = arg;
	size_t piece = s->bytes < PIECE ? s->bytes : PIECE, n = s->bytes / piece;
	CUdeviceptr p[64] = {0}, bad;
	uint32_t wrong = 0;
	struct gpu g;
	uint64_t last;

	(void)index;
	probe_step("target");
	if (gpu_open(&g) || n > ARRAY_LEN(p))
		return 1;
	TRY(cu.cuMemAlloc_v2(&bad, 4));
	TRY(cu.cuMemsetD32_v2(bad, 0, 1));
	for (size_t i = 0; i < n; i++)
		TRY(cu.cuMemAlloc_v2(&p[i], piece));
	if (fill_or_check(&g, p, n, piece, 0))
		return 1;
	futex_set(&s->ready, 1);
	last = now_ns();
	while (!atomic_load(&s->stop)) { /* a program that goes on working */
		TRY(cu.cuLaunchKernel(g.k[K_NOOP], 1, 1, 1, 1, 1, 1, 0, g.stream, NULL, NULL));
		TRY(cu.cuStreamSynchronize(g.stream));
		if (now_ns() - last > 50 * MSEC)
			atomic_store(&s->locked_out, 1);
		last = now_ns();
		sleep_ns(MSEC);
	}
	if (g.computes) {
		if (fill_or_check(&g, p, n, piece, bad))
			return 1;
		TRY(cu.cuMemcpyDtoH_v2(&wrong, bad, sizeof(wrong)));
		if (wrong)
			report_failed("contents", "%u words are wrong after restore", wrong);
		atomic_store(&s->checked, !wrong);
	}
	gpu_close(&g);
	return wrong != 0;
}

#define TIMED(field, call)                                                                         \
	do {                                                                                       \
		uint64_t t0_ = now_ns();                                                           \
		TRY(call);                                                                         \
		s->field = (double)(now_ns() - t0_);                                               \
	} while (0)

/* Never leaves the target locked: whatever fails, unlock is tried before the end. */
static int lock_to_unlock(struct shared *s)
{
	CUcheckpointLockArgs lock = {.timeoutMs = 10000};
	CUcheckpointCheckpointArgs checkpoint = {{0}};
	CUcheckpointRestoreArgs restore = {0};
	CUcheckpointUnlockArgs unlock = {{0}};

	probe_step("lock");
	TIMED(lock_ns, cu.cuCheckpointProcessLock(s->target, &lock));
	probe_step("checkpoint");
	TIMED(checkpoint_ns, cu.cuCheckpointProcessCheckpoint(s->target, &checkpoint));
	sleep_ns(100 * MSEC);
	probe_step("restore");
	TIMED(restore_ns, cu.cuCheckpointProcessRestore(s->target, &restore));
	probe_step("unlock");
	TIMED(unlock_ns, cu.cuCheckpointProcessUnlock(s->target, &unlock));
	return 0;
}

static int controller(int index, void *arg)
{
	struct shared *s = arg;
	CUcheckpointUnlockArgs unlock = {{0}};

	(void)index;
	probe_step("controller");
	if (probe_cuda() || WANT(cuCheckpointProcessLock) || WANT(cuCheckpointProcessCheckpoint) ||
	    WANT(cuCheckpointProcessRestore) || WANT(cuCheckpointProcessUnlock))
		return 1;
	if (!lock_to_unlock(s))
		return 0;
	cu.cuCheckpointProcessUnlock(s->target, &unlock);
	return 1;
}

static void one_size(size_t bytes)
{
	struct shared *s = shared_alloc(sizeof(*s));
	int64_t least = INT64_MAX;
	pid_t pids[2];
	char name[32], what[64];
	bool good;

	snprintf(name, sizeof(name), "%zuMiB", (size_t)(bytes / MIB));
	probe_step(name);
	s->bytes = bytes;
	pids[0] = s->target = spawn(target, 0, s);
	if (!futex_wait(&s->ready, 0, 20)) {
		report_skipped(name, "the target did not start (see its own record)");
		join(pids, 1, 0);
		return;
	}
	s->used_full = nvml_device_used();
	pids[1] = spawn(controller, 1, s);
	while (!child_is_gone(pids[1]) && probe_left_s() > 5) {
		int64_t used = nvml_device_used();

		if (used >= 0 && used < least)
			least = used;
		sleep_ns(5 * MSEC);
	}
	good = join_one(pids[1], 1) == 0;
	atomic_store(&s->stop, 1);
	good = join(pids, 1, 20) && good;
	if (!good) {
		report_skipped(name, "did not go through (see the records of its processes)");
		return;
	}
	snprintf(what, sizeof(what), "%s.lock", name);
	report_one(what, "ns", s->lock_ns, "its calls blocked, its work done");
	snprintf(what, sizeof(what), "%s.checkpoint", name);
	report_one(what, "ns", s->checkpoint_ns, "memory to the host, %.3g GB/s",
		   (double)bytes / s->checkpoint_ns);
	snprintf(what, sizeof(what), "%s.restore", name);
	report_one(what, "ns", s->restore_ns, "memory back, %.3g GB/s",
		   (double)bytes / s->restore_ns);
	snprintf(what, sizeof(what), "%s.unlock", name);
	report_one(what, "ns", s->unlock_ns, "its calls go on");
	snprintf(what, sizeof(what), "%s.freed", name);
	report_one(what, "bytes", (double)(s->used_full - least),
		   "least memory in use seen meanwhile, below that before");
	snprintf(what, sizeof(what), "%s.contents", name);
	report_fact(what, "%s; the target %s", atomic_load(&s->checked) ? "intact" : "not checked",
		    atomic_load(&s->locked_out) ? "was held up" : "noticed nothing");
}

int main(int argc, char **argv)
{
	bool computes;

	probe_begin(argc, argv, "checkpoint", 120, NULL);
	if (!device_there(&computes))
		return probe_end();
	one_size(256 * MIB);
	if (!probe_quick()) {
		one_size(4 * GIB);
		one_size(16 * GIB);
	}
	return probe_end();
}
