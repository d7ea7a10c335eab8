/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver-API program that knows every byte it has: it fills memory with patterns, says
 * whether they are still there, and works with threads that allocate, capture, launch and wait. For
 * tests that move its memory meanwhile; it knows nothing of that. All answers are one line.
 *
 *   pattern [COMMAND...] [-]     commands from the arguments, then from stdin if `-` is last
 *
 *   start [DEVICE]      cuInit, the primary context of device 0, or of that one
 *   alloc SIZE          allocate (K, M, G) and fill
 *   free N              free the N-th allocation
 *   check               bad = words of all allocations that are not as they were written
 *   step                one launch and a wait; says how long it took in us
 *   graph               make an executable graph that copies the first allocation to the second
 *   replay              write the first one anew, launch the graph, wait, compare
 *   work N              start N threads that work until `rest`
 *   rest                end them: rounds done, words that were wrong, the first error
 *   info                cuMemGetInfo
 *   ipc N / open HEX N  export the N-th allocation / open another's, of the size of our own N-th
 *   borrow HEX SIZE     open another's, and keep it; answers with its number
 *   look N SEED         compare what is borrowed with the pattern SEED (the N-th allocation of a
 *                       process is filled with N + 1)
 *   poke N SEED         fill it with the pattern SEED
 *   expect N SEED       from now on our own N-th allocation is to have the pattern SEED
 *   return N            close what is borrowed
 *   together HEX N      open another's in N threads at once and close it again: how many addresses
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cu.h"

#define MAX_ALLOCS 4096u
#define MAX_WORKERS 16u
#define MAX_BORROWED 256u
#define PIECE (4u << 20) /* bytes that are compared at a time */

static struct {
	CUdeviceptr p;
	uint64_t bytes, seed;
} allocs[MAX_ALLOCS];
static unsigned int n_allocs;
static struct {
	CUdeviceptr p;
	uint64_t bytes;
} borrowed[MAX_BORROWED];
static unsigned int n_borrowed;
static CUcontext ctx;
static CUgraphExec exec;

static uint64_t word_of(uint64_t seed, uint64_t i)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + i;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

static CUresult fill(CUdeviceptr p, uint64_t bytes, uint64_t seed)
{
	uint64_t *words = malloc(PIECE);
	CUresult r = CUDA_SUCCESS;

	for (uint64_t at = 0; words && r == CUDA_SUCCESS && at < bytes; at += PIECE) {
		uint64_t part = bytes - at < PIECE ? bytes - at : PIECE;

		for (uint64_t i = 0; i < part / 8; i++)
			words[i] = word_of(seed, at / 8 + i);
		r = cuMemcpyHtoD(p + at, words, part);
	}
	free(words);
	return r;
}

static CUresult compare(CUdeviceptr p, uint64_t bytes, uint64_t seed, uint64_t *bad)
{
	uint64_t *words = malloc(PIECE);
	CUresult r = CUDA_SUCCESS;

	for (uint64_t at = 0; words && r == CUDA_SUCCESS && at < bytes; at += PIECE) {
		uint64_t part = bytes - at < PIECE ? bytes - at : PIECE;

		r = cuMemcpyDtoH(words, p + at, part);
		for (uint64_t i = 0; r == CUDA_SUCCESS && i < part / 8; i++)
			*bad += words[i] != word_of(seed, at / 8 + i);
	}
	free(words);
	return r;
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	return n << (*end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- threads ---- */

struct worker {
	pthread_t thread;
	unsigned int number;
	uint64_t rounds, bad;
	CUresult result;
	int line; /* at which it failed */
	CUdeviceptr from, to;
	uint32_t *words;
};

static struct worker workers[MAX_WORKERS];
static unsigned int n_workers;
static _Atomic bool rest;

/* Of the call that failed first. */
static _Thread_local int failed_line;

#define TRY(call)                                                                                  \
	do {                                                                                       \
		CUresult r_ = (call);                                                              \
		if (r_ != CUDA_SUCCESS) {                                                          \
			failed_line = failed_line ? failed_line : __LINE__;                        \
			return r_;                                                                 \
		}                                                                                  \
	} while (0)

static CUresult all_are(struct worker *w, CUdeviceptr p, uint64_t bytes, uint32_t value)
{
	TRY(cuMemcpyDtoH(w->words, p, bytes));
	for (uint64_t i = 0; i < bytes / 4; i++)
		w->bad += w->words[i] != value;
	return CUDA_SUCCESS;
}

/* Allocate, capture a copy, launch it, wait, look at every word, free. */
static CUresult round_of(struct worker *w, CUstream s, uint64_t bytes)
{
	uint32_t value = (uint32_t)(w->rounds * 2654435761u + w->number);
	CUgraphExec copy;
	CUdeviceptr fresh;
	CUgraph graph;

	TRY(cuMemAlloc(&fresh, bytes));
	TRY(cuMemsetD32Async(fresh, ~value, bytes / 4, s));
	TRY(cuMemsetD32Async(w->from, value, bytes / 4, s));
	TRY(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	TRY(cuMemcpyDtoDAsync(w->to, w->from, bytes, s));
	TRY(cuStreamEndCapture(s, &graph));
	TRY(cuGraphInstantiateWithFlags(&copy, graph, 0));
	TRY(cuGraphLaunch(copy, s));
	TRY(cuStreamSynchronize(s));
	TRY(all_are(w, w->to, bytes, value));
	TRY(all_are(w, fresh, bytes, ~value));
	TRY(cuGraphExecDestroy(copy));
	TRY(cuGraphDestroy(graph));
	TRY(cuMemFree(fresh));
	w->rounds++;
	return CUDA_SUCCESS;
}

static CUresult work_on(struct worker *w)
{
	uint64_t bytes = (64u << 10) + w->number * (1100u << 10);
	CUresult r = CUDA_SUCCESS;
	CUstream s;

	w->words = malloc(bytes);
	TRY(cuCtxSetCurrent(ctx));
	TRY(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	TRY(cuMemAlloc(&w->from, bytes));
	TRY(cuMemAlloc(&w->to, bytes));
	while (r == CUDA_SUCCESS && !rest)
		r = round_of(w, s, bytes);
	free(w->words);
	TRY(r);
	TRY(cuMemFree(w->from));
	TRY(cuMemFree(w->to));
	return cuStreamDestroy(s);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	w->result = work_on(w);
	w->line = failed_line;
	return NULL;
}

/* ---- commands ---- */

static void answer(const char *verb, CUresult r)
{
	printf("%s code=%d", verb, (int)r);
}

static CUresult do_start(unsigned int device)
{
	CUresult r = cuInit(0);

	if (r == CUDA_SUCCESS)
		r = cuDevicePrimaryCtxRetain(&ctx, (CUdevice)device);
	return r == CUDA_SUCCESS ? cuCtxSetCurrent(ctx) : r;
}

static CUresult do_alloc(uint64_t bytes)
{
	CUresult r;

	if (n_allocs == MAX_ALLOCS)
		return CUDA_ERROR_UNKNOWN;
	allocs[n_allocs].bytes = bytes;
	allocs[n_allocs].seed = n_allocs + 1;
	r = cuMemAlloc(&allocs[n_allocs].p, bytes);
	if (r == CUDA_SUCCESS)
		r = fill(allocs[n_allocs].p, bytes, allocs[n_allocs].seed);
	n_allocs += r == CUDA_SUCCESS;
	return r;
}

static CUresult do_check(void)
{
	CUresult r = CUDA_SUCCESS;
	uint64_t bad = 0, bytes = 0;

	for (unsigned int i = 0; r == CUDA_SUCCESS && i < n_allocs; i++) {
		if (!allocs[i].p)
			continue;
		r = compare(allocs[i].p, allocs[i].bytes, allocs[i].seed, &bad);
		bytes += allocs[i].bytes;
	}
	answer("check", r);
	printf(" bad=%" PRIu64 " bytes=%" PRIu64, bad, bytes);
	return r;
}

static CUresult do_step(void)
{
	uint64_t start = now_us();
	uint32_t word = (uint32_t)word_of(allocs[0].seed, 0);
	CUresult r = cuMemsetD32Async(allocs[0].p, word, 1, NULL);

	if (r == CUDA_SUCCESS)
		r = cuStreamSynchronize(NULL);
	answer("step", r);
	printf(" us=%" PRIu64, now_us() - start);
	return r;
}

static CUresult do_graph(void)
{
	CUgraph graph;
	CUstream s;

	TRY(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	TRY(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	TRY(cuMemcpyDtoDAsync(allocs[1].p, allocs[0].p, allocs[1].bytes, s));
	TRY(cuStreamEndCapture(s, &graph));
	return cuGraphInstantiateWithFlags(&exec, graph, 0);
}

/* Afterwards the second allocation has the first one's new pattern. */
static CUresult do_replay(uint64_t *bad)
{
	allocs[0].seed += 1000;
	allocs[1].seed = allocs[0].seed;
	TRY(fill(allocs[0].p, allocs[0].bytes, allocs[0].seed));
	TRY(cuGraphLaunch(exec, NULL));
	TRY(cuStreamSynchronize(NULL));
	return compare(allocs[1].p, allocs[1].bytes, allocs[1].seed, bad);
}

static CUresult do_rest(void)
{
	CUresult r = CUDA_SUCCESS;
	uint64_t rounds = 0, bad = 0;

	rest = true;
	for (unsigned int i = 0; i < n_workers; i++) {
		pthread_join(workers[i].thread, NULL);
		rounds += workers[i].rounds;
		bad += workers[i].bad;
		r = r == CUDA_SUCCESS ? workers[i].result : r;
	}
	answer("rest", r);
	printf(" rounds=%" PRIu64 " bad=%" PRIu64, rounds, bad);
	for (unsigned int i = 0; i < n_workers; i++)
		if (workers[i].result != CUDA_SUCCESS)
			printf(" line_%u=%d", i, workers[i].line);
	n_workers = 0;
	return r;
}

static CUresult do_work(unsigned int n)
{
	rest = false;
	for (; n_workers < n && n_workers < MAX_WORKERS; n_workers++) {
		workers[n_workers] = (struct worker){.number = n_workers};
		if (pthread_create(&workers[n_workers].thread, NULL, work, &workers[n_workers]))
			return CUDA_ERROR_UNKNOWN;
	}
	return CUDA_SUCCESS;
}

static void do_ipc(unsigned int n)
{
	CUipcMemHandle handle;
	CUresult r = cuIpcGetMemHandle(&handle, allocs[n].p);

	answer("ipc", r);
	printf(" handle=");
	for (size_t i = 0; i < sizeof(handle); i++)
		printf("%02x", ((unsigned char *)&handle)[i]);
}

static CUresult open_handle(const char *hex, CUdeviceptr *p)
{
	CUipcMemHandle handle;

	for (size_t i = 0; i < sizeof(handle); i++) {
		char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};

		((unsigned char *)&handle)[i] = (unsigned char)strtoul(digits, NULL, 16);
	}
	return cuIpcOpenMemHandle(p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
}

/* The other has filled its N-th as we have ours: same seed, same size. */
static void do_open(const char *hex, unsigned int n)
{
	uint64_t bad = 0;
	CUdeviceptr p;
	CUresult r = open_handle(hex, &p);

	if (r == CUDA_SUCCESS)
		r = compare(p, allocs[n].bytes, allocs[n].seed, &bad);
	if (r == CUDA_SUCCESS)
		r = cuIpcCloseMemHandle(p);
	answer("open", r);
	printf(" bad=%" PRIu64, bad);
}

struct opener {
	pthread_t thread;
	const char *hex;
	CUdeviceptr p;
	CUresult result;
};

static void *open_it(void *arg)
{
	struct opener *o = arg;

	o->result = cuCtxSetCurrent(ctx);
	if (o->result == CUDA_SUCCESS)
		o->result = open_handle(o->hex, &o->p);
	return NULL;
}

static void do_together(const char *hex, unsigned int n)
{
	struct opener all[MAX_WORKERS];
	unsigned int addresses = 0;
	CUresult r = CUDA_SUCCESS;

	n = n < MAX_WORKERS ? n : MAX_WORKERS;
	for (unsigned int i = 0; i < n; i++) {
		all[i] = (struct opener){.hex = hex};
		if (pthread_create(&all[i].thread, NULL, open_it, &all[i]))
			exit(2);
	}
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(all[i].thread, NULL);
		r = r == CUDA_SUCCESS ? all[i].result : r;
		addresses += !i || all[i].p != all[0].p;
	}
	for (unsigned int i = 0; i < n && r == CUDA_SUCCESS; i++)
		r = cuIpcCloseMemHandle(all[i].p);
	answer("together", r);
	printf(" addresses=%u", addresses);
}

static unsigned int number(const char *text)
{
	unsigned int n = text ? (unsigned int)strtoul(text, NULL, 10) : 0;

	return n < MAX_ALLOCS ? n : 0;
}

static void do_borrow(const char *hex, uint64_t bytes)
{
	CUresult r = CUDA_ERROR_UNKNOWN;

	if (n_borrowed < MAX_BORROWED)
		r = open_handle(hex, &borrowed[n_borrowed].p);
	answer("borrow", r);
	if (r == CUDA_SUCCESS) {
		borrowed[n_borrowed].bytes = bytes;
		printf(" id=%u", n_borrowed++);
	}
}

/* Return: whether it was a command about what is borrowed. */
static bool obey_borrower(const char *verb, unsigned int n, uint64_t seed)
{
	uint64_t bad = 0;

	n = n < MAX_BORROWED ? n : 0;
	if (!strcmp(verb, "look")) {
		answer(verb, compare(borrowed[n].p, borrowed[n].bytes, seed, &bad));
		printf(" bad=%" PRIu64, bad);
	} else if (!strcmp(verb, "poke")) {
		answer(verb, fill(borrowed[n].p, borrowed[n].bytes, seed));
	} else if (!strcmp(verb, "return")) {
		answer(verb, cuIpcCloseMemHandle(borrowed[n].p));
	} else {
		return false;
	}
	return true;
}

/* Return: whether it was a command. */
static bool obey(char *line)
{
	char *rest_of_line, *verb = strtok_r(line, " \n", &rest_of_line);
	char *arg = strtok_r(NULL, " \n", &rest_of_line);
	char *more = strtok_r(NULL, " \n", &rest_of_line);
	uint64_t bad = 0;
	size_t left = 0, total = 0;

	if (!verb)
		return true;
	if (!strcmp(verb, "start")) {
		answer(verb, do_start(number(arg)));
	} else if (!strcmp(verb, "alloc") && arg) {
		answer(verb, do_alloc(parse_size(arg)));
	} else if (!strcmp(verb, "free")) {
		answer(verb, cuMemFree(allocs[number(arg)].p));
		allocs[number(arg)].p = 0;
	} else if (!strcmp(verb, "check")) {
		do_check();
	} else if (!strcmp(verb, "step")) {
		do_step();
	} else if (!strcmp(verb, "graph")) {
		answer(verb, do_graph());
	} else if (!strcmp(verb, "replay")) {
		answer(verb, do_replay(&bad));
		printf(" bad=%" PRIu64, bad);
	} else if (!strcmp(verb, "work")) {
		answer(verb, do_work(number(arg)));
	} else if (!strcmp(verb, "rest")) {
		do_rest();
	} else if (!strcmp(verb, "info")) {
		answer(verb, cuMemGetInfo(&left, &total));
		printf(" free=%zu total=%zu", left, total);
	} else if (!strcmp(verb, "ipc")) {
		do_ipc(number(arg));
	} else if (!strcmp(verb, "open") && arg && strlen(arg) == 2 * sizeof(CUipcMemHandle)) {
		do_open(arg, number(more));
	} else if (!strcmp(verb, "borrow") && arg && strlen(arg) == 2 * sizeof(CUipcMemHandle)) {
		do_borrow(arg, more ? parse_size(more) : 0);
	} else if (!strcmp(verb, "together") && arg && strlen(arg) == 2 * sizeof(CUipcMemHandle)) {
		do_together(arg, number(more));
	} else if (!strcmp(verb, "expect") && arg && more) {
		allocs[number(arg)].seed = strtoull(more, NULL, 10);
		answer(verb, CUDA_SUCCESS);
	} else if (!obey_borrower(verb, number(arg), more ? strtoull(more, NULL, 10) : 0)) {
		printf("what code=-1\n");
		return false;
	}
	printf("\n");
	fflush(stdout);
	return true;
}

int main(int argc, char **argv)
{
	char line[512];

	for (int i = 1; i < argc; i++) {
		snprintf(line, sizeof(line), "%s", argv[i]);
		if (strcmp(line, "-") != 0 && !obey(line))
			return 2;
	}
	while (argc > 1 && !strcmp(argv[argc - 1], "-") && fgets(line, sizeof(line), stdin)) {
		if (!obey(line))
			return 2;
	}
	return 0;
}
