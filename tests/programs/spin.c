/* SPDX-License-Identifier: Apache-2.0 */
/* What one thread of the spinner launches and waits for; see spin.h. Prints nothing. */
#include "spin.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* So much is in one graph at the most, and a graph of long kernels has one at the least. */
#define MAX_GRAPH_KERNELS 10000u

/* Measuring the kernel: lengths far enough apart, and the shortest of some times, as others may
 * have the device too. */
#define PROBE_STEPS 2000ull
#define LONG_PROBE_STEPS 20000ull
#define PROBES 8

#define TRY(w, call)                                                                               \
	do {                                                                                       \
		(w)->error = (call);                                                               \
		if ((w)->error != CUDA_SUCCESS) {                                                  \
			(w)->failed = #call;                                                       \
			return false;                                                              \
		}                                                                                  \
	} while (0)

/* Dependent steps: what counts is work, not the clock, so a kernel that is preempted ends later.
 * The store, hardly ever made, keeps the loop from being optimised away. */
static const char ptx[] = ".version 7.0\n"
			  ".target sm_70\n"
			  ".address_size 64\n"
			  ".visible .entry aq_loop(.param .u64 steps, .param .u64 out)\n"
			  "{\n"
			  "    .reg .pred %p<3>;\n"
			  "    .reg .b64 %rd<4>;\n"
			  "    ld.param.u64 %rd1, [steps];\n"
			  "    ld.param.u64 %rd2, [out];\n"
			  "    cvta.to.global.u64 %rd2, %rd2;\n"
			  "    mov.u64 %rd3, %rd1;\n"
			  "AGAIN:\n"
			  "    mad.lo.s64 %rd3, %rd3, 6364136223846793005, 1442695040888963407;\n"
			  "    sub.s64 %rd1, %rd1, 1;\n"
			  "    setp.gt.s64 %p1, %rd1, 0;\n"
			  "    @%p1 bra AGAIN;\n"
			  "    setp.ne.s64 %p2, %rd3, 0;\n"
			  "    @%p2 bra DONE;\n"
			  "    st.global.u64 [%rd2], %rd3;\n"
			  "DONE:\n"
			  "    ret;\n"
			  "}\n";

/* The entry points that exist twice; SPIN_PTSZ has the others. */
static struct {
	__typeof__(&cuLaunchKernel) launch;
	__typeof__(&cuGraphLaunch) graph_launch;
	__typeof__(&cuEventRecord) record;
	__typeof__(&cuStreamSynchronize) synchronize;
	__typeof__(&cuStreamQuery) query;
	__typeof__(&cuLaunchHostFunc) host;
} cu = {
	cuLaunchKernel,	     cuGraphLaunch, cuEventRecord,
	cuStreamSynchronize, cuStreamQuery, cuLaunchHostFunc,
};

uint64_t spin_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void spin_sleep_until(uint64_t until_ns)
{
	struct timespec ts = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL))
		;
}

static CUresult use_per_thread_symbols(void)
{
	static const struct {
		const char *name;
		void *at;
	} twins[] = {
		{"cuLaunchKernel", &cu.launch}, {"cuGraphLaunch", &cu.graph_launch},
		{"cuEventRecord", &cu.record},	{"cuStreamSynchronize", &cu.synchronize},
		{"cuStreamQuery", &cu.query},	{"cuLaunchHostFunc", &cu.host},
	};

	for (size_t i = 0; i < sizeof(twins) / sizeof(twins[0]); i++) {
		CUdriverProcAddressQueryResult status;
		void *function = NULL;
		CUresult r =
			cuGetProcAddress(twins[i].name, &function, 12000,
					 CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &status);

		if (r != CUDA_SUCCESS || !function)
			return r != CUDA_SUCCESS ? r : CUDA_ERROR_NOT_FOUND;
		memcpy(twins[i].at, &function, sizeof(function));
	}
	return CUDA_SUCCESS;
}

static CUresult launch_steps(CUfunction loop, CUdeviceptr out, uint64_t steps, CUstream stream)
{
	void *params[] = {&steps, &out};

	return cu.launch(loop, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL);
}

static CUresult launch_ns(const struct spin_worker *w, uint64_t ns, CUstream stream)
{
	double steps = ((double)ns - w->plan->overhead_ns) * w->plan->steps_per_ns;

	return launch_steps(w->loop, w->out, steps < 1 ? 1 : (uint64_t)steps, stream);
}

/* The shortest that a kernel of @steps took. */
static bool probe(struct spin_worker *w, CUstream stream, CUevent *events, uint64_t steps,
		  double *ret_ns)
{
	*ret_ns = 1e18;
	for (int i = 0; i < PROBES; i++) {
		float ms;

		TRY(w, cuEventRecord(events[0], stream));
		TRY(w, launch_steps(w->loop, w->out, steps, stream));
		TRY(w, cuEventRecord(events[1], stream));
		TRY(w, cuStreamSynchronize(stream));
		TRY(w, cuEventElapsedTime(&ms, events[0], events[1]));
		if (ms * 1e6 < *ret_ns)
			*ret_ns = ms * 1e6;
	}
	return true;
}

static bool calibrate(struct spin_worker *w, struct spin_plan *plan)
{
	double brief, lengthy, ns_per_step;
	CUevent events[2];
	CUstream stream;

	TRY(w, cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	TRY(w, cuEventCreate(&events[0], CU_EVENT_DEFAULT));
	TRY(w, cuEventCreate(&events[1], CU_EVENT_DEFAULT));
	if (!probe(w, stream, events, PROBE_STEPS, &brief) ||
	    !probe(w, stream, events, LONG_PROBE_STEPS, &lengthy))
		return false;
	TRY(w, cuEventDestroy(events[0]));
	TRY(w, cuEventDestroy(events[1]));
	TRY(w, cuStreamDestroy(stream));
	ns_per_step = (lengthy - brief) / (double)(LONG_PROBE_STEPS - PROBE_STEPS);
	if (ns_per_step <= 0) {
		w->error = CUDA_ERROR_UNKNOWN;
		w->failed = "the kernel's length does not depend on its steps";
		return false;
	}
	plan->steps_per_ns = 1 / ns_per_step;
	plan->overhead_ns = brief - ns_per_step * (double)PROBE_STEPS;
	if (plan->overhead_ns < 0)
		plan->overhead_ns = 0;
	return true;
}

static bool prepare(struct spin_worker *w, struct spin_plan *plan)
{
	CUmodule module;

	if (plan->stream == SPIN_PTSZ)
		TRY(w, use_per_thread_symbols());
	TRY(w, cuModuleLoadData(&module, ptx));
	TRY(w, cuModuleGetFunction(&w->loop, module, "aq_loop"));
	TRY(w, cuMemAlloc(&w->out, 4096));
	return plan->steps_per_ns > 0 || calibrate(w, plan);
}

CUresult spin_prepare(struct spin_plan *plan, CUfunction *ret_loop, CUdeviceptr *ret_out,
		      const char **ret_failed)
{
	struct spin_worker w = {.plan = plan};

	if (!prepare(&w, plan)) {
		*ret_failed = w.failed;
		return w.error;
	}
	*ret_loop = w.loop;
	*ret_out = w.out;
	return CUDA_SUCCESS;
}

static uint64_t next_length(struct spin_worker *w)
{
	return w->plan->length_ns[w->next_length++ % w->plan->n_lengths];
}

/* Capture a step. It is always captured from a stream of our own, wherever it will be launched. */
static bool make_graph(struct spin_worker *w, CUgraphExec *ret_exec, uint64_t *ret_ns)
{
	uint64_t want = w->plan->graph_ns, ns = 0;
	unsigned int n = 0;
	CUstream stream;
	CUgraph graph;

	TRY(w, cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	TRY(w, cuStreamBeginCapture(stream, w->plan->capture_mode));
	do {
		uint64_t length = next_length(w);

		/* Not cu.launch: a stream by its handle means the same in both. */
		TRY(w, launch_ns(w, length, stream));
		ns += length;
	} while (++n < MAX_GRAPH_KERNELS && (want ? ns < want : n < w->plan->kernels));
	TRY(w, cuStreamEndCapture(stream, &graph));
	TRY(w, cuGraphInstantiateWithFlags(ret_exec, graph, 0));
	TRY(w, cuGraphDestroy(graph));
	TRY(w, cuStreamDestroy(stream));
	*ret_ns = ns;
	return true;
}

static void count_callback(void *arg)
{
	struct spin_worker *w = arg;

	w->callbacks++;
}

/* What the calls between two instants took is of interest when it is long: somebody made us wait.
 */
static uint64_t note_call(struct spin_worker *w, uint64_t since_ns)
{
	uint64_t now = spin_now_ns();

	if (now - since_ns > w->longest_call_ns)
		w->longest_call_ns = now - since_ns;
	return now;
}

/* Submit one step to @stream. */
static bool submit(struct spin_worker *w, CUstream stream, CUgraphExec exec, uint64_t graph_ns,
		   uint64_t *ret_ns)
{
	uint64_t at = spin_now_ns();
	CUgraphExec once;

	*ret_ns = graph_ns;
	if (w->copy_from)
		TRY(w, cuMemcpyHtoDAsync(w->copy_to, w->copy_from, w->plan->copy_bytes, stream));
	if (w->plan->capture) {
		if (!make_graph(w, &once, ret_ns))
			return false;
		TRY(w, cu.graph_launch(once, stream));
		TRY(w, cuGraphExecDestroy(once));
		note_call(w, at);
	} else if (exec) {
		TRY(w, cu.graph_launch(exec, stream));
		note_call(w, at);
	} else {
		for (unsigned int i = 0; i < w->plan->kernels && (!i || !*w->stop); i++) {
			uint64_t length = next_length(w);

			TRY(w, launch_ns(w, length, stream));
			*ret_ns += length;
			at = note_call(w, at);
		}
	}
	if (w->plan->host)
		TRY(w, cu.host(stream, count_callback, w));
	w->submitted++;
	return true;
}

static void count_step(struct spin_worker *w, uint64_t ns)
{
	w->done_ns += ns;
	w->steps++;
}

/* Steps are seen as done in the order in which they were submitted, whatever their streams. */
static bool see_oldest(struct spin_worker *w)
{
	unsigned int slot = (unsigned int)(w->seen % w->plan->depth);

	TRY(w, cuEventSynchronize(w->events[slot]));
	count_step(w, w->event_ns[slot]);
	w->seen++;
	return true;
}

static bool wait_step(struct spin_worker *w, CUstream stream)
{
	uint32_t word = 0;
	CUresult r;

	switch (w->plan->wait) {
	case SPIN_WAIT_STREAM:
		TRY(w, cu.synchronize(stream));
		break;
	case SPIN_WAIT_EVENT:
		TRY(w, cu.record(w->events[0], stream));
		TRY(w, cuEventSynchronize(w->events[0]));
		break;
	case SPIN_WAIT_CONTEXT:
		TRY(w, cuCtxSynchronize());
		break;
	case SPIN_WAIT_COPY:
		/* Waits for the legacy default stream and what it waits for, not for others. */
		TRY(w, cuMemcpyDtoH(&word, w->out, sizeof(word)));
		TRY(w, cuMemcpyHtoD(w->out, &word, sizeof(word)));
		TRY(w, cu.synchronize(stream));
		break;
	case SPIN_WAIT_QUERY:
		while ((r = cu.query(stream)) == CUDA_ERROR_NOT_READY)
			spin_sleep_until(spin_now_ns() + 20000);
		TRY(w, r);
		break;
	}
	return true;
}

static void keep_latency(struct spin_worker *w, uint64_t ns)
{
	pthread_mutex_lock(&w->lock);
	if (w->n_latencies < SPIN_MAX_LATENCIES)
		w->latency_us[w->n_latencies++] = (uint32_t)(ns / 1000);
	pthread_mutex_unlock(&w->lock);
}

static bool step(struct spin_worker *w, CUstream stream, CUgraphExec exec, uint64_t graph_ns)
{
	uint64_t begun = spin_now_ns(), ns;
	unsigned int slot = (unsigned int)(w->submitted % w->plan->depth);

	if (w->plan->mode == SPIN_ASYNC && w->submitted - w->seen == w->plan->depth &&
	    !see_oldest(w))
		return false;
	if (!submit(w, stream, exec, graph_ns, &ns))
		return false;
	switch (w->plan->mode) {
	case SPIN_NEVER:
		count_step(w, ns);
		break;
	case SPIN_ASYNC:
		TRY(w, cu.record(w->events[slot], stream));
		w->event_ns[slot] = ns;
		break;
	case SPIN_SYNC:
		if (!wait_step(w, stream))
			return false;
		keep_latency(w, spin_now_ns() - begun);
		count_step(w, ns);
		if (w->plan->idle_ns)
			spin_sleep_until(spin_now_ns() + w->plan->idle_ns);
		break;
	}
	return true;
}

static bool begin(struct spin_worker *w, uint64_t *graph_ns)
{
	static CUstream const stream_of[] = {
		[SPIN_LEGACY] = NULL, [SPIN_THREAD] = CU_STREAM_PER_THREAD, [SPIN_PTSZ] = NULL};
	unsigned int n_events = w->plan->mode == SPIN_ASYNC ? w->plan->depth : 1;

	TRY(w, cuCtxSetCurrent(w->ctx));
	if (w->plan->copy_bytes) {
		TRY(w, cuMemAlloc(&w->copy_to, w->plan->copy_bytes));
		TRY(w, cuMemAllocHost(&w->copy_from, w->plan->copy_bytes));
	}
	for (unsigned int i = 0; w->plan->mode != SPIN_NEVER && i < n_events; i++)
		TRY(w, cuEventCreate(&w->events[i], CU_EVENT_DISABLE_TIMING));
	for (unsigned int i = 0; i < w->plan->streams; i++) {
		if (w->plan->stream == SPIN_OWN)
			TRY(w, cuStreamCreate(&w->streams[i], CU_STREAM_NON_BLOCKING));
		else
			w->streams[i] = stream_of[w->plan->stream];
		if (w->plan->graph_ns && !w->plan->capture &&
		    !make_graph(w, &w->execs[i], &graph_ns[i]))
			return false;
	}
	return true;
}

void *spin_run(void *arg)
{
	uint64_t graph_ns[SPIN_MAX_STREAMS] = {0};
	struct spin_worker *w = arg;
	bool good = begin(w, graph_ns);

	for (unsigned int i = 0; good && !*w->stop; i = (i + 1) % w->plan->streams)
		good = step(w, w->streams[i], w->execs[i], graph_ns[i]);
	while (good && w->plan->mode == SPIN_ASYNC && w->seen < w->submitted)
		good = see_oldest(w);
	return NULL;
}
