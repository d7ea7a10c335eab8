/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How to know that the device is done, and what knowing costs: the call that asks for the mark, and
 * the time from a kernel's end until the host has seen it. A kernel that stores to mapped memory as
 * its last act is the reference; every other way is timed over the same kernel and compared.
 */
#include "probe.h"

#define BATCH 64

static unsigned rounds = 600;

enum mark {
	MARK_NONE,
	MARK_EVENT,
	MARK_EVENT_TIMED,
	MARK_WRITE,
	MARK_FLAG_KERNEL,
	MARK_HOST_FUNCTION,
	MARK_COUNT,
};

static const char *const mark_names[MARK_COUNT] = {
	[MARK_NONE] = "none",
	[MARK_EVENT] = "event_untimed",
	[MARK_EVENT_TIMED] = "event_timed",
	[MARK_WRITE] = "stream_write_value",
	[MARK_FLAG_KERNEL] = "flag_kernel",
	[MARK_HOST_FUNCTION] = "host_function",
};

struct way {
	_Atomic uint32_t *page; /* mapped: [0] is the flag */
	CUevent untimed, timed, blocking;
};

static void on_done(void *arg)
{
	futex_set(arg, 1);
}

static CUresult put_mark(struct gpu *g, struct way *w, enum mark mark, uint32_t value)
{
	void *flag = w->page;

	switch (mark) {
	case MARK_EVENT:
		return cu.cuEventRecord(w->untimed, g->stream);
	case MARK_EVENT_TIMED:
		return cu.cuEventRecord(w->timed, g->stream);
	case MARK_WRITE:
		return cu.cuStreamWriteValue32_v2(g->stream, (CUdeviceptr)(uintptr_t)flag, value,
						  0);
	case MARK_FLAG_KERNEL:
		return gpu_run(g, K_FLAG, 1, 1, g->stream, &flag, &value);
	case MARK_HOST_FUNCTION:
		return cu.cuLaunchHostFunc(g->stream, on_done, w->page + 1);
	default:
		return CUDA_SUCCESS;
	}
}

static bool have(enum mark mark)
{
	return (mark != MARK_WRITE || cu.cuStreamWriteValue32_v2) &&
	       (mark != MARK_HOST_FUNCTION || cu.cuLaunchHostFunc);
}

/* What a mark after each launch adds to the launching thread, against launches alone. */
static int cost_of_marks(struct gpu *g, struct way *w)
{
	char what[64];

	for (enum mark mark = MARK_NONE; mark < MARK_COUNT; mark++) {
		struct samples s = {0};

		snprintf(what, sizeof(what), "launch_with_%s", mark_names[mark]);
		probe_step(what);
		if (!have(mark)) {
			report_skipped(what, "the driver has no such entry point");
			continue;
		}
		for (unsigned i = 0; i < rounds; i++) {
			uint64_t t0 = now_ns();

			for (unsigned j = 0; j < BATCH / 2; j++) {
				TRY(cu.cuLaunchKernel(g->k[K_NOOP], 1, 1, 1, 32, 1, 1, 0, g->stream,
						      NULL, NULL));
				TRY(put_mark(g, w, mark, j));
			}
			samples_add(&s, (double)(now_ns() - t0) / (BATCH / 2));
			TRY(cu.cuStreamSynchronize(g->stream));
		}
		report(what, "ns", &s, "an empty launch and its mark, mean of %d", BATCH / 2);
	}
	return 0;
}

static int cost_of_queries(struct gpu *g, struct way *w)
{
	struct samples s = {0};

	probe_step("event_query");
	TRY(cu.cuEventRecord(w->untimed, g->stream));
	TRY(cu.cuStreamSynchronize(g->stream));
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t t0 = now_ns();

		for (unsigned j = 0; j < BATCH; j++)
			TRY(cu.cuEventQuery(w->untimed));
		samples_add(&s, (double)(now_ns() - t0) / BATCH);
	}
	report("event_query", "ns", &s, "of an event that has happened");
	return 0;
}

enum wait {
	WAIT_KERNEL_FLAG,
	WAIT_FLAG_KERNEL,
	WAIT_WRITE,
	WAIT_EVENT_POLL,
	WAIT_EVENT_SPIN,
	WAIT_EVENT_BLOCK,
	WAIT_STREAM,
	WAIT_HOST_FUNCTION,
	WAIT_COUNT,
};

static const char *const wait_names[WAIT_COUNT] = {
	[WAIT_KERNEL_FLAG] = "flag_in_kernel",	 [WAIT_FLAG_KERNEL] = "flag_kernel_behind",
	[WAIT_WRITE] = "stream_write_value",	 [WAIT_EVENT_POLL] = "event_query_loop",
	[WAIT_EVENT_SPIN] = "event_synchronize", [WAIT_EVENT_BLOCK] = "event_synchronize_blocking",
	[WAIT_STREAM] = "stream_synchronize",	 [WAIT_HOST_FUNCTION] = "host_function_and_futex",
};

static int poll_flag(_Atomic uint32_t *flag, uint32_t value)
{
	uint64_t give_up = now_ns() + SEC;

	while (atomic_load_explicit(flag, memory_order_acquire) != value)
		if (now_ns() > give_up) {
			report_failed(NULL, "the flag did not come within a second");
			return -1;
		}
	return 0;
}

/* One kernel of @ns and the wait for its end. */
static int one_wait(struct gpu *g, struct way *w, enum wait how, uint64_t ns, uint32_t value)
{
	void *flag = w->page;
	CUdeviceptr none = 0;
	CUresult r;

	atomic_store(&w->page[1], 0);
	if (how == WAIT_KERNEL_FLAG) {
		TRY(gpu_run(g, K_SPIN_FLAG, 1, 1, g->stream, &ns, &flag, &value));
		return poll_flag(w->page, value);
	}
	TRY(gpu_run(g, K_SPIN, 1, 1, g->stream, &ns, &none));
	switch (how) {
	case WAIT_FLAG_KERNEL:
		TRY(put_mark(g, w, MARK_FLAG_KERNEL, value));
		return poll_flag(w->page, value);
	case WAIT_WRITE:
		TRY(put_mark(g, w, MARK_WRITE, value));
		return poll_flag(w->page, value);
	case WAIT_EVENT_POLL:
		TRY(put_mark(g, w, MARK_EVENT, value));
		while ((r = cu.cuEventQuery(w->untimed)) == CUDA_ERROR_NOT_READY)
			;
		return r ? probe_cuda_error("cuEventQuery", r) : 0;
	case WAIT_EVENT_SPIN:
		TRY(put_mark(g, w, MARK_EVENT, value));
		TRY(cu.cuEventSynchronize(w->untimed));
		return 0;
	case WAIT_EVENT_BLOCK:
		TRY(cu.cuEventRecord(w->blocking, g->stream));
		TRY(cu.cuEventSynchronize(w->blocking));
		return 0;
	case WAIT_HOST_FUNCTION:
		TRY(put_mark(g, w, MARK_HOST_FUNCTION, value));
		return futex_wait(&w->page[1], 0, 1) ? 0 : -1;
	default:
		TRY(cu.cuStreamSynchronize(g->stream));
		return 0;
	}
}

static bool can_wait(struct gpu *g, enum wait how)
{
	bool stores = how == WAIT_KERNEL_FLAG || how == WAIT_FLAG_KERNEL;

	return (g->computes || !stores) && (how != WAIT_WRITE || have(MARK_WRITE)) &&
	       (how != WAIT_HOST_FUNCTION || have(MARK_HOST_FUNCTION));
}

static int detection(struct gpu *g, struct way *w)
{
	uint64_t ns = 200 * USEC;
	char what[64];

	for (enum wait how = 0; how < WAIT_COUNT; how++) {
		struct samples s = {0};

		snprintf(what, sizeof(what), "seen_by_%s", wait_names[how]);
		probe_step(what);
		if (!can_wait(g, how)) {
			report_skipped(what, "needs a device that computes, or a newer driver");
			continue;
		}
		for (uint32_t i = 1; i <= rounds / 2 && probe_left_s() > 2; i++) {
			uint64_t t0 = now_ns();

			if (one_wait(g, w, how, ns, i))
				return -1;
			samples_add(&s, (double)(now_ns() - t0));
			TRY(cu.cuStreamSynchronize(g->stream));
		}
		report(what, "ns", &s,
		       "launch, a kernel of 200 us, and seeing its end; compare with "
		       "seen_by_flag_in_kernel");
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct way w = {0};
	struct gpu g;

	probe_begin(argc, argv, "events", 60, NULL);
	if (probe_quick())
		rounds = 30;
	probe_step("open");
	if (gpu_open(&g) < 0)
		return probe_end();
	w.page = gpu_pinned(4096);
	if (!w.page || cu.cuEventCreate(&w.untimed, CU_EVENT_DISABLE_TIMING) ||
	    cu.cuEventCreate(&w.timed, CU_EVENT_DEFAULT) ||
	    cu.cuEventCreate(&w.blocking, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC))
		report_failed("open", "no pinned page or no events");
	else if (!cost_of_marks(&g, &w) && !cost_of_queries(&g, &w) && !detection(&g, &w))
		gpu_close(&g);
	return probe_end();
}
