/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver-API program that keeps a device busy in a given manner, for a given time, and says
 * as it goes how much work was done. It knows nothing of Aliquot, and runs on a simulated as on a
 * real device: its kernel counts steps, and how long one takes is measured at the beginning.
 *
 *   spinner [OPTION]...           LEN: 10us, 1.5ms, 10s
 *
 *   --kernel LEN[,LEN...]  lengths of the kernels, in turn (1ms)
 *   --mode async|sync|never  up to --depth steps ahead of the device; wait for each step; never
 *                          ask the device anything (async)
 *   --depth N              (64)
 *   --wait stream|event|ctx|copy|query   how sync waits (stream)
 *   --steps N              kernels in a step (1)
 *   --graph LEN            a step is the launch of one graph of kernels that long together
 *   --capture global|thread|relaxed  each step captures, instantiates, launches, destroys a graph
 *   --idle LEN             sleep after each step that was waited for
 *   --streams N            in turn (1)
 *   --stream own|legacy|thread|ptsz  which: non-blocking ones; the default stream; the per-thread
 *                          default stream by its handle, or by the _ptsz entry points (own)
 *   --threads N            that many of all this, in one context (1)
 *   --host                 a host function ends each step
 *   --copy SIZE            a copy from the host begins each step (K and M: of 1024)
 *   --device N             (0)
 *   --for LEN              (1s)
 *   --every LEN            between reports (1s)
 *   --rate STEPS_PER_US    of the kernel, instead of measuring
 *   --hold                 when ready, wait for a line on standard input
 *   --end sync|exit|exec|fork  at the end, with work in flight but for sync: wait for it; exit;
 *                          become `sleep 60`; exit and leave a forked `sleep 60` behind (sync)
 *
 * Output, a JSON object a line: {"ready"...} before work begins; then for each report {"t_ns",
 * "steps", "done_ns" (device time of the steps done so far), "callbacks", "longest_call_us"} and,
 * for sync, "latency_us" {"n", "p50", "p99", "max"} of the steps since the last one; the last has
 * "final". Or {"error", "code"}, and exit status 1.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "spin.h"

#define MAX_THREADS 64
#define MAX_COPY (1ul << 30)
#define MAX_NS (1000ull * 1000000000u)

enum ending { END_SYNC, END_EXIT, END_EXEC, END_FORK };

static struct spin_plan plan = {
	.length_ns = {1000000},
	.n_lengths = 1,
	.kernels = 1,
	.streams = 1,
	.depth = 64,
	.capture_mode = CU_STREAM_CAPTURE_MODE_RELAXED,
};
static unsigned int n_threads = 1;
static int device;
static uint64_t for_ns = 1000000000, every_ns = 1000000000;
static bool hold;
static enum ending ending = END_SYNC;
static struct spin_worker *workers;
static _Atomic bool stop;

static void fail(const char *what, CUresult r)
{
	printf("{\"error\":\"%s\",\"code\":%d}\n", what, (int)r);
	fflush(stdout);
	_exit(1);
}

static void usage(const char *option, const char *value)
{
	fprintf(stderr, "spinner: --%s: not '%s'\n", option, value);
	exit(2);
}

/* "10us" and what follows it; a negative number: not a length. */
static double parse_length(const char *text, const char **ret_end)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
	char *end;
	double n = strtod(text, &end);

	for (size_t i = 0; end != text && i < sizeof(units) / sizeof(units[0]); i++) {
		size_t len = strlen(units[i].name);

		if (strncmp(end, units[i].name, len) != 0)
			continue;
		*ret_end = end + len;
		n *= units[i].ns;
		return n >= 0 && n <= MAX_NS ? n : -1;
	}
	return -1;
}

static uint64_t length(const char *option, const char *text)
{
	const char *end = "?";
	double ns = parse_length(text, &end);

	if (ns < 0 || *end)
		usage(option, text);
	return (uint64_t)ns;
}

static void lengths(const char *option, const char *text)
{
	const char *end = text;

	plan.n_lengths = 0;
	do {
		double ns = parse_length(end, &end);

		if (ns < 1 || (*end && *end != ',') || plan.n_lengths == SPIN_MAX_LENGTHS)
			usage(option, text);
		plan.length_ns[plan.n_lengths++] = (uint64_t)ns;
	} while (*end++ == ',');
}

static unsigned int number(const char *option, const char *text, unsigned int min, unsigned int max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || *end || n < min || n > max)
		usage(option, text);
	return (unsigned int)n;
}

static uint64_t size(const char *option, const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	unsigned int shift = *end == 'M' ? 20 : *end == 'K' ? 10 : 0;

	if (end == text || end[shift != 0] || !n || n > MAX_COPY >> shift)
		usage(option, text);
	return (uint64_t)n << shift;
}

/* Index of @text in @words, which are separated by blanks. */
static int word(const char *option, const char *text, const char *words)
{
	size_t len = strlen(text);
	int i = 0;

	for (const char *at = words; *at; at += strcspn(at, " "), at += *at == ' ', i++)
		if (strcspn(at, " ") == len && !strncmp(at, text, len))
			return i;
	usage(option, text);
	return -1;
}

static const struct option options[] = {
	{"kernel", required_argument, NULL, 'k'},
	{"mode", required_argument, NULL, 'm'},
	{"depth", required_argument, NULL, 'D'},
	{"wait", required_argument, NULL, 'w'},
	{"steps", required_argument, NULL, 'n'},
	{"graph", required_argument, NULL, 'g'},
	{"capture", required_argument, NULL, 'c'},
	{"idle", required_argument, NULL, 'i'},
	{"streams", required_argument, NULL, 's'},
	{"stream", required_argument, NULL, 'S'},
	{"threads", required_argument, NULL, 't'},
	{"host", no_argument, NULL, 'h'},
	{"copy", required_argument, NULL, 'C'},
	{"device", required_argument, NULL, 'd'},
	{"for", required_argument, NULL, 'f'},
	{"every", required_argument, NULL, 'e'},
	{"rate", required_argument, NULL, 'r'},
	{"hold", no_argument, NULL, 'H'},
	{"end", required_argument, NULL, 'E'},
	{NULL, 0, NULL, 0},
};

static void parse_one(int c, const char *name)
{
	switch (c) {
	case 'k':
		lengths(name, optarg);
		break;
	case 'm':
		plan.mode = (enum spin_mode)word(name, optarg, "async sync never");
		break;
	case 'D':
		plan.depth = number(name, optarg, 1, SPIN_MAX_DEPTH);
		break;
	case 'w':
		plan.wait = (enum spin_wait)word(name, optarg, "stream event ctx copy query");
		break;
	case 'n':
		plan.kernels = number(name, optarg, 1, 1000000);
		break;
	case 'g':
		plan.graph_ns = length(name, optarg);
		break;
	case 'c':
		plan.capture = true;
		plan.capture_mode =
			(CUstreamCaptureMode)word(name, optarg, "global thread relaxed");
		break;
	case 'i':
		plan.idle_ns = length(name, optarg);
		break;
	case 's':
		plan.streams = number(name, optarg, 1, SPIN_MAX_STREAMS);
		break;
	case 'S':
		plan.stream = (enum spin_stream)word(name, optarg, "own legacy thread ptsz");
		break;
	case 't':
		n_threads = number(name, optarg, 1, MAX_THREADS);
		break;
	case 'h':
		plan.host = true;
		break;
	case 'C':
		plan.copy_bytes = size(name, optarg);
		break;
	case 'd':
		device = (int)number(name, optarg, 0, 64);
		break;
	case 'f':
		for_ns = length(name, optarg);
		break;
	case 'e':
		every_ns = length(name, optarg);
		break;
	case 'r':
		plan.steps_per_ns = strtod(optarg, NULL) / 1000;
		break;
	case 'H':
		hold = true;
		break;
	case 'E':
		ending = (enum ending)word(name, optarg, "sync exit exec fork");
		break;
	default:
		exit(2);
	}
}

static void parse(int argc, char **argv)
{
	int c, index = 0;

	while ((c = getopt_long(argc, argv, "", options, &index)) >= 0)
		parse_one(c, options[index].name);
	if (optind < argc)
		usage("", argv[optind]);
	if (!every_ns)
		usage("every", "0");
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void print_latencies(void)
{
	unsigned int n = 0;
	uint32_t *all = malloc(n_threads * sizeof(workers->latency_us));

	if (!all)
		return;
	for (unsigned int i = 0; i < n_threads; i++) {
		struct spin_worker *w = &workers[i];

		pthread_mutex_lock(&w->lock);
		memcpy(all + n, w->latency_us, w->n_latencies * sizeof(*all));
		n += w->n_latencies;
		w->n_latencies = 0;
		pthread_mutex_unlock(&w->lock);
	}
	qsort(all, n, sizeof(*all), compare);
	if (n)
		printf(",\"latency_us\":{\"n\":%u,\"p50\":%u,\"p99\":%u,\"max\":%u}", n, all[n / 2],
		       all[n - 1 - n / 100], all[n - 1]);
	free(all);
}

static void report(bool final)
{
	uint64_t steps = 0, done = 0, callbacks = 0, longest = 0;

	for (unsigned int i = 0; i < n_threads; i++) {
		uint64_t call = atomic_exchange(&workers[i].longest_call_ns, 0);

		steps += workers[i].steps;
		done += workers[i].done_ns;
		callbacks += workers[i].callbacks;
		longest = call > longest ? call : longest;
	}
	printf("{%s\"t_ns\":%" PRIu64 ",\"steps\":%" PRIu64 ",\"done_ns\":%" PRIu64
	       ",\"callbacks\":%" PRIu64 ",\"longest_call_us\":%" PRIu64,
	       final ? "\"final\":true," : "", spin_now_ns(), steps, done, callbacks,
	       longest / 1000);
	if (plan.mode == SPIN_SYNC)
		print_latencies();
	printf("}\n");
	fflush(stdout);
}

static CUcontext open_device(void)
{
	CUcontext ctx = NULL;
	CUdevice dev;
	CUresult r = cuInit(0);

	if (r != CUDA_SUCCESS)
		fail("cuInit", r);
	r = cuDeviceGet(&dev, device);
	if (r == CUDA_SUCCESS)
		r = cuDevicePrimaryCtxRetain(&ctx, dev);
	if (r == CUDA_SUCCESS)
		r = cuCtxSetCurrent(ctx);
	if (r != CUDA_SUCCESS)
		fail("context", r);
	return ctx;
}

static void start_workers(CUcontext ctx, CUfunction loop, CUdeviceptr out)
{
	for (unsigned int i = 0; i < n_threads; i++) {
		struct spin_worker *w = &workers[i];

		w->plan = &plan;
		w->ctx = ctx;
		w->loop = loop;
		w->out = out;
		w->stop = &stop;
		pthread_mutex_init(&w->lock, NULL);
		if (pthread_create(&w->thread, NULL, spin_run, w))
			fail("pthread_create", CUDA_ERROR_UNKNOWN);
	}
}

/* Report until the time is over, or a thread has failed. */
static void watch(void)
{
	uint64_t end = spin_now_ns() + for_ns, next = spin_now_ns() + every_ns;

	while (next < end) {
		spin_sleep_until(next);
		for (unsigned int i = 0; i < n_threads; i++)
			if (workers[i].error != CUDA_SUCCESS)
				return;
		report(false);
		next += every_ns;
	}
	spin_sleep_until(end);
}

static void leave(void)
{
	report(true);
	if (ending == END_FORK && fork() != 0)
		_exit(0);
	if (ending == END_EXEC || ending == END_FORK) {
		execlp("sleep", "sleep", "60", (char *)NULL);
		_exit(127);
	}
	exit(0);
}

static void finish(void)
{
	CUresult r;

	stop = true;
	for (unsigned int i = 0; i < n_threads; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned int i = 0; i < n_threads; i++)
		if (workers[i].error != CUDA_SUCCESS)
			fail(workers[i].failed, workers[i].error);
	r = cuCtxSynchronize();
	if (r != CUDA_SUCCESS)
		fail("cuCtxSynchronize", r);
	report(true);
}

int main(int argc, char **argv)
{
	const char *failed = "?";
	char line[16];
	CUcontext ctx;
	CUfunction loop;
	CUdeviceptr out;
	CUresult r;

	parse(argc, argv);
	workers = calloc(n_threads, sizeof(*workers));
	if (!workers)
		return 1;
	ctx = open_device();
	r = spin_prepare(&plan, &loop, &out, &failed);
	if (r != CUDA_SUCCESS)
		fail(failed, r);
	printf("{\"ready\":%d,\"t_ns\":%" PRIu64 ",\"steps_per_us\":%.6g,\"overhead_ns\":%.6g}\n",
	       (int)getpid(), spin_now_ns(), plan.steps_per_ns * 1000, plan.overhead_ns);
	fflush(stdout);
	if (hold && !fgets(line, sizeof(line), stdin))
		return 0;
	start_workers(ctx, loop, out);
	watch();
	if (ending != END_SYNC)
		leave();
	finish();
	return 0;
}
