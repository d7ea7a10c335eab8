/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libcuda.so.1 for testing the GPU kit: it knows the kit's own kernels by name and computes them
 * on the CPU, on one thread for each stream. Device memory is host memory and never runs out. Entry
 * points that the kit needs and no others. See mock.h for the device.
 */
#include "mock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cuda/cuda_abi.h"

#define NEVER_ENDS_NS 20000000000ull

static struct mock_state *state;
static int slot = -1;
static int ctl = -1;

static uint64_t host_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t t)
{
	uint64_t now = host_ns();
	struct timespec d;

	if (t <= now)
		return;
	d.tv_sec = (time_t)((t - now) / 1000000000ull);
	d.tv_nsec = (long)((t - now) % 1000000000ull);
	nanosleep(&d, NULL);
}

static void lock(void)
{
	while (atomic_exchange(&state->lock, 1))
		sched_yield();
}

static void unlock(void)
{
	atomic_store(&state->lock, 0);
}

static void add_event(uint32_t who, uint32_t kind, uint64_t us)
{
	lock();
	if (state->n_events < MOCK_EVENTS)
		state->events[state->n_events++] = (struct mock_event){host_ns(), who, kind, us};
	unlock();
}

/* Streams: tasks in order. */

enum kernel { NOOP, SPIN, WORK, FLAG, SPIN_FLAG, CLOCK, TIMER, FILL, CHECK, TRACE, KERNELS };

static const struct {
	const char *name;
	unsigned sizes[7]; /* of parameters, 0 ends */
} kernels[KERNELS] = {
	[NOOP] = {"k_noop", {0}},
	[SPIN] = {"k_spin", {8, 8}},
	[WORK] = {"k_work", {8, 8, 8}},
	[FLAG] = {"k_flag", {8, 4}},
	[SPIN_FLAG] = {"k_spin_flag", {8, 8, 4}},
	[CLOCK] = {"k_clock", {8, 8, 8, 4, 8}},
	[TIMER] = {"k_timer", {8, 4}},
	[FILL] = {"k_fill", {8, 8, 4}},
	[CHECK] = {"k_check", {8, 8, 4, 8}},
	[TRACE] = {"k_trace", {8, 4, 8, 8, 8, 8}},
};

struct CUevent_st {
	_Atomic int pending;
	uint64_t at;
};

struct task {
	struct task *next;
	enum kernel kernel;
	uint64_t p[6];
	struct CUevent_st *event; /* instead of a kernel */
	uint32_t *write, value;	  /* instead of a kernel */
};

struct CUstream_st {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct task *first, *last;
	uint64_t busy_until; /* work is paced, not spun */
};

static struct CUstream_st default_stream = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER,
					    NULL, NULL, 0};

/* When is a slot on the device? Everybody computes the same from the same events. */

struct replay {
	uint32_t next; /* event */
	uint8_t on[MOCK_SLOTS];
	uint64_t us[MOCK_SLOTS];
	uint32_t n_on;
};

static void replay_until(struct replay *r, uint64_t t)
{
	for (; r->next < state->n_events && state->events[r->next].t <= t; r->next++) {
		const struct mock_event *e = &state->events[r->next];

		if (e->kind == MOCK_ON || e->kind == MOCK_OFF) {
			r->n_on += (e->kind == MOCK_ON) - r->on[e->slot];
			r->on[e->slot] = e->kind == MOCK_ON;
		} else if (e->kind == MOCK_SLICE) {
			r->us[e->slot] = e->us;
		}
	}
}

/* The end of a stay that began at t: its slice, or the event that cuts it short. */
static uint64_t end_of_stay(const struct replay *r, uint32_t who, uint64_t t, uint64_t to)
{
	uint64_t end = r->n_on > 1 ? t + r->us[who] * 1024 : to;

	for (uint32_t i = r->next; i < state->n_events && state->events[i].t < end; i++) {
		const struct mock_event *e = &state->events[i];

		if ((e->kind == MOCK_OFF && e->slot == who) || e->kind == MOCK_EXPIRE ||
		    (e->kind == MOCK_ON && r->n_on == 1))
			return e->t;
	}
	return end;
}

static uint32_t stays(uint64_t from, uint64_t to, uint64_t *runs, uint32_t cap)
{
	static struct replay r;
	uint32_t who = 0, n = 0;
	uint64_t t = state->events[0].t;

	memset(&r, 0, sizeof(r));
	for (int i = 0; i < MOCK_SLOTS; i++)
		r.us[i] = MOCK_DEFAULT_US;
	while (t < to) {
		uint32_t before = who;
		uint64_t end;

		replay_until(&r, t);
		if (!r.n_on) {
			if (r.next >= state->n_events)
				break;
			t = state->events[r.next].t;
			continue;
		}
		do
			who = (who + 1) % MOCK_SLOTS;
		while (!r.on[who]);
		if (r.n_on > 1 && who != before)
			t += MOCK_SWITCH_NS;
		end = end_of_stay(&r, who, t, to);
		if (end < t)
			end = t;
		if ((int)who == slot && end > from && t < to && n < cap) {
			uint64_t first = (t > from ? t : from), last = end < to ? end : to;

			if (n && first < runs[2 * n - 1] + 20000) { /* not away in between */
				runs[2 * n - 1] = last;
			} else {
				runs[2 * n] = first;
				runs[2 * n + 1] = last;
				n++;
			}
		}
		t = end;
		if (r.next < state->n_events && state->events[r.next].t == t)
			replay_until(&r, t);
	}
	for (uint32_t i = 0; i < 2 * n; i++)
		runs[i] += MOCK_CLOCK_OFFSET;
	return n;
}

static void trace(const uint64_t *p)
{
	uint64_t *buf = (uint64_t *)(uintptr_t)p[0], t0 = host_ns(), t1;
	volatile uint32_t *stop = (uint32_t *)(uintptr_t)p[4];

	add_event((uint32_t)slot, MOCK_ON, 0);
	while (host_ns() - t0 < p[2] && !*stop)
		sleep_until(host_ns() + 1000000);
	t1 = host_ns();
	add_event((uint32_t)slot, MOCK_OFF, 0);
	buf[2] = *stop;
	lock();
	buf[0] = stays(t0, t1, buf + 4, (uint32_t)p[1]);
	unlock();
	buf[1] = (t1 - t0) / 50;
}

/* This process's part of the device among those that work, as slices have it. */
static double part(void)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < state->n_slots; i++)
		if (atomic_load(&state->slots[i].working))
			all += state->slots[i].effective_us;
	return all ? (double)state->slots[slot].effective_us / (double)all : 1;
}

static void work(struct CUstream_st *s, const uint64_t *p)
{
	uint64_t *stamp = (uint64_t *)(uintptr_t)p[1], now = host_ns();

	if (s->busy_until < now)
		s->busy_until = now;
	if (stamp && s->busy_until + MOCK_CLOCK_OFFSET < stamp[0])
		stamp[0] = s->busy_until + MOCK_CLOCK_OFFSET;
	s->busy_until += (uint64_t)((double)p[0] / part());
	if (stamp && s->busy_until + MOCK_CLOCK_OFFSET > stamp[1])
		stamp[1] = s->busy_until + MOCK_CLOCK_OFFSET;
	if (s->busy_until > now + 200000) /* shorter sleeps are not exact */
		sleep_until(s->busy_until);
}

static void clock_answers(const uint64_t *p)
{
	volatile uint32_t *ask = (uint32_t *)(uintptr_t)p[0], *done = (uint32_t *)(uintptr_t)p[2];
	volatile uint64_t *answer = (uint64_t *)(uintptr_t)p[1];
	uint64_t t0 = host_ns();

	for (uint32_t i = 1; i <= (uint32_t)p[3]; i++) {
		while (*ask != i)
			if (host_ns() - t0 > p[4])
				return;
		*answer = host_ns() + MOCK_CLOCK_OFFSET;
		/* Not a fence: gcc refuses those under the thread sanitizer. */
		__atomic_store_n(done, i, __ATOMIC_RELEASE);
	}
}

static void compute(struct CUstream_st *s, struct task *t)
{
	uint32_t *words = (uint32_t *)(uintptr_t)t->p[0];
	uint64_t *stamps = (uint64_t *)(uintptr_t)t->p[0];

	switch (t->kernel) {
	case SPIN:
	case SPIN_FLAG:
		sleep_until(host_ns() + t->p[0]);
		if (t->kernel == SPIN_FLAG)
			*(volatile uint32_t *)(uintptr_t)t->p[1] = (uint32_t)t->p[2];
		break;
	case WORK:
		work(s, t->p);
		break;
	case FLAG:
		*(volatile uint32_t *)words = (uint32_t)t->p[1];
		break;
	case CLOCK:
		clock_answers(t->p);
		break;
	case TIMER:
		for (uint32_t i = 0; i < (uint32_t)t->p[1]; i++)
			stamps[i] = MOCK_CLOCK_OFFSET + i * 32ull;
		break;
	case FILL:
		for (uint64_t i = 0; i < t->p[1]; i++)
			words[i] = (uint32_t)i * 2654435761u + (uint32_t)t->p[2];
		break;
	case CHECK:
		for (uint64_t i = 0; i < t->p[1]; i++)
			*(uint32_t *)(uintptr_t)t->p[3] +=
				words[i] != (uint32_t)i * 2654435761u + (uint32_t)t->p[2];
		break;
	case TRACE:
		trace(t->p);
		break;
	default:
		break;
	}
}

static void *run_stream(void *arg)
{
	struct CUstream_st *s = arg;

	for (;;) {
		struct task *t;

		pthread_mutex_lock(&s->mutex);
		while (!s->first)
			pthread_cond_wait(&s->changed, &s->mutex);
		t = s->first;
		pthread_mutex_unlock(&s->mutex);
		if (t->event) {
			t->event->at = s->busy_until > host_ns() ? s->busy_until : host_ns();
			atomic_store(&t->event->pending, 0);
		} else if (t->write) {
			*(volatile uint32_t *)t->write = t->value;
		} else {
			compute(s, t);
			atomic_fetch_sub(&state->slots[slot].working, 1);
		}
		pthread_mutex_lock(&s->mutex); /* stays first until it is done: see drain() */
		s->first = t->next;
		if (!s->first)
			s->last = NULL;
		pthread_cond_broadcast(&s->changed);
		pthread_mutex_unlock(&s->mutex);
		free(t);
	}
	return NULL;
}

static CUresult submit(struct CUstream_st *s, struct task *t)
{
	s = s ? s : &default_stream;
	if (!t->event && !t->write)
		atomic_fetch_add(&state->slots[slot].working, 1);
	t->next = NULL;
	pthread_mutex_lock(&s->mutex);
	if (s->last)
		s->last->next = t;
	else
		s->first = t;
	s->last = t;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
	return CUDA_SUCCESS;
}

static CUresult drain(struct CUstream_st *s)
{
	s = s ? s : &default_stream;
	pthread_mutex_lock(&s->mutex);
	while (s->first)
		pthread_cond_wait(&s->changed, &s->mutex);
	pthread_mutex_unlock(&s->mutex);
	return CUDA_SUCCESS;
}

/* Start and contexts. */

CUresult cuInit(unsigned int flags)
{
	char path[4096];
	int fd;

	(void)flags;
	snprintf(path, sizeof(path), "%s/state", getenv("MOCK_DIR") ? getenv("MOCK_DIR") : "");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || ftruncate(fd, sizeof(*state)))
		return CUDA_ERROR_NO_DEVICE;
	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return state == MAP_FAILED ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

/* As the driver library does it: through ioctl(), with the wide form of the call. */
static void rm_alloc(uint32_t client, uint32_t parent, uint32_t handle, uint32_t class_id,
		     void *params, uint32_t bytes)
{
	struct {
		uint32_t root, parent, handle, class_id;
		uint64_t params, rights;
		uint32_t bytes, flags, status, pad;
	} a = {client, parent, handle, class_id, (uintptr_t)params, 0, bytes, 0, 0, 0};

	ioctl(ctl, _IOWR('F', 0x2b, a), &a);
}

static void make_objects(void)
{
	uint32_t client = MOCK_CLIENT + (uint32_t)slot, group[5] = {0}, channel[92] = {0};
	char path[4096];

	snprintf(path, sizeof(path), "%s/mock-nvidiactl", getenv("MOCK_DIR"));
	ctl = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	rm_alloc(0, 0, client, 0x41, NULL, 0);
	rm_alloc(client, client, MOCK_DEVICE, 0x80, NULL, 0);
	rm_alloc(client, MOCK_DEVICE, MOCK_SUBDEVICE, 0x2080, NULL, 0);
	group[3] = 9; /* a copy engine: not to be taken for compute */
	rm_alloc(client, MOCK_DEVICE, MOCK_COPY_GROUP, 0xa06c, group, sizeof(group));
	group[3] = 1;
	rm_alloc(client, MOCK_DEVICE, MOCK_GROUP, 0xa06c, group, sizeof(group));
	channel[32] = 1;
	for (uint32_t i = 0; i < 8; i++)
		rm_alloc(client, MOCK_GROUP, MOCK_CHANNEL + i, 0xc86f, channel, sizeof(channel));
}

static CUresult make_context(void)
{
	pthread_t thread;

	if (slot >= 0)
		return CUDA_SUCCESS;
	lock();
	slot = (int)state->n_slots++;
	state->slots[slot].told_us = state->slots[slot].effective_us = MOCK_DEFAULT_US;
	unlock();
	make_objects();
	return pthread_create(&thread, NULL, run_stream, &default_stream) ? CUDA_ERROR_UNKNOWN
									  : CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev)
{
	(void)dev;
	*ctx = (CUcontext)(uintptr_t)1;
	return make_context();
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
	struct CUstream_st *s = calloc(1, sizeof(*s));
	pthread_t thread;

	(void)flags;
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->changed, NULL);
	*stream = s;
	return pthread_create(&thread, NULL, run_stream, s) ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *f, CUmodule module, const char *name)
{
	(void)module;
	for (uintptr_t i = 0; i < KERNELS; i++)
		if (!strcmp(kernels[i].name, name)) {
			*f = (CUfunction)(i + 1);
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_NOT_FOUND;
}

static struct task *kernel_task(CUfunction f, void **params)
{
	struct task *t = calloc(1, sizeof(*t));

	t->kernel = (enum kernel)((uintptr_t)f - 1);
	for (int i = 0; kernels[t->kernel].sizes[i]; i++)
		memcpy(&t->p[i], params[i], kernels[t->kernel].sizes[i]);
	return t;
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
			unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
			CUstream stream, void **params, void **extra)
{
	(void)extra;
	if (!gx || !gy || !gz || !bx || !by || !bz || shared > 1 << 20)
		return CUDA_ERROR_INVALID_VALUE;
	return submit(stream, kernel_task(f, params));
}

CUresult cuStreamSynchronize(CUstream stream)
{
	return drain(stream);
}

CUresult cuStreamQuery(CUstream stream)
{
	return stream->first ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value,
				 unsigned int flags)
{
	struct task *t = calloc(1, sizeof(*t));

	(void)flags;
	t->write = (uint32_t *)(uintptr_t)addr;
	t->value = value;
	return submit(stream, t);
}

CUresult cuEventCreate(CUevent *event, unsigned int flags)
{
	(void)flags;
	*event = calloc(1, sizeof(**event));
	return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	struct task *t = calloc(1, sizeof(*t));

	t->event = event;
	atomic_store(&event->pending, 1);
	return submit(stream, t);
}

CUresult cuEventQuery(CUevent event)
{
	return atomic_load(&event->pending) ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event)
{
	while (atomic_load(&event->pending))
		sleep_until(host_ns() + 20000);
	return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
	*ms = (float)((double)(end->at - start->at) / 1e6);
	return CUDA_SUCCESS;
}

/* Graphs of kernels in a row. */

struct CUgraph_st {
	unsigned n;
	struct task *nodes[4096];
};

CUresult cuGraphCreate(CUgraph *graph, unsigned int flags)
{
	(void)flags;
	*graph = calloc(1, sizeof(**graph));
	return CUDA_SUCCESS;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				 size_t ndeps, const CUDA_KERNEL_NODE_PARAMS *params)
{
	(void)deps;
	(void)ndeps;
	*node = (CUgraphNode)(uintptr_t)(graph->n + 1);
	graph->nodes[graph->n++] = kernel_task(params->func, params->kernelParams);
	return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
	(void)flags;
	*exec = (CUgraphExec)graph;
	return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	CUgraph graph = (CUgraph)exec;

	for (unsigned i = 0; i < graph->n; i++) {
		struct task *t = malloc(sizeof(*t));

		*t = *graph->nodes[i];
		submit(stream, t);
	}
	return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph)
{
	(void)graph; /* the executable one is the same */
	return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	(void)exec;
	return CUDA_SUCCESS;
}

/* Memory is the host's. */

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t bytes)
{
	*p = (CUdeviceptr)(uintptr_t)calloc(1, bytes);
	return *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree_v2(CUdeviceptr p)
{
	free((void *)(uintptr_t)p);
	return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned int flags)
{
	(void)flags;
	*p = calloc(1, bytes);
	return *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFreeHost(void *p)
{
	free(p);
	return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
	memcpy((void *)(uintptr_t)to, from, bytes);
	return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
	memcpy(to, (void *)(uintptr_t)from, bytes);
	return CUDA_SUCCESS;
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint32_t *)(uintptr_t)to)[i] = value;
	return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
	*free_bytes = *total_bytes = 1ull << 36;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice dev)
{
	(void)dev;
	*value = attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? 132 : 1024;
	return CUDA_SUCCESS;
}

/* What needs no behaviour here. */
#define QUIET(name, ...)                                                                           \
	CUresult name(__VA_ARGS__)                                                                 \
	{                                                                                          \
		return CUDA_SUCCESS;                                                               \
	}
#pragma GCC diagnostic ignored "-Wunused-parameter"
QUIET(cuDriverGetVersion, int *version)
QUIET(cuDeviceGet, CUdevice *dev, int ordinal)
QUIET(cuDeviceGetCount, int *count)
QUIET(cuDeviceGetName, char *name, int len, CUdevice dev)
QUIET(cuDeviceTotalMem_v2, size_t *bytes, CUdevice dev)
QUIET(cuDevicePrimaryCtxRelease_v2, CUdevice dev)
QUIET(cuCtxCreate_v2, CUcontext *ctx, unsigned int flags, CUdevice dev)
QUIET(cuCtxDestroy_v2, CUcontext ctx)
QUIET(cuCtxSetCurrent, CUcontext ctx)
QUIET(cuCtxSynchronize, void)
QUIET(cuGetErrorName, CUresult error, const char **text)
QUIET(cuModuleLoadData, CUmodule *module, const void *image)
QUIET(cuModuleUnload, CUmodule module)
QUIET(cuMemcpyHtoDAsync_v2, CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
QUIET(cuMemcpyDtoHAsync_v2, void *to, CUdeviceptr from, size_t bytes, CUstream stream)
QUIET(cuMemcpyDtoDAsync_v2, CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
QUIET(cuMemsetD8Async, CUdeviceptr to, unsigned char value, size_t n, CUstream stream)
QUIET(cuMemsetD8_v2, CUdeviceptr to, unsigned char value, size_t n)
QUIET(cuStreamDestroy_v2, CUstream stream)
QUIET(cuStreamWaitEvent, CUstream stream, CUevent event, unsigned int flags)
QUIET(cuEventDestroy_v2, CUevent event)
QUIET(cuFuncSetAttribute, CUfunction f, CUfunction_attribute attribute, int value)
