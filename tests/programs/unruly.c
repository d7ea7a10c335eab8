/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver-API program that launches from several threads and meanwhile does what makes a
 * launch go wrong if anybody keeps books on it. Knows nothing of Aliquot.
 *
 *   unruly WHAT MS           for that long; then {"rounds", "steps", "failed"} and status 0
 *
 *   cancel     cancels its threads wherever they are, and starts others
 *   reset      resets the primary context while threads launch; their calls may fail
 *   contexts   makes contexts and destroys them with work in flight, while others launch
 *   release    retains and releases the primary context all the time while others launch
 *   host-wait  a host function waits for another thread's launch to be done
 *   wait-value a stream waits for a value that another stream writes behind another thread's launch
 *   ping-pong  two threads' streams wait for each other's events in turn
 *   fork       children that do nothing and outlive the round, while threads launch
 *   spawn      posix_spawn and vfork, while threads launch
 *   signals    a signal every 300 us
 *   crowd      100 threads, a stream each
 *   own        80 threads, a context each
 *   streams    200 streams of one thread, of which some are always destroyed with work in flight
 *   default    threads that end with work in their own default streams
 *   exit       exit() by another thread while four launch (says nothing)
 *   exec       becomes itself, ten times, while four threads launch (says nothing)
 */
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spin.h"

#define MS 1000000ull
#define KERNEL_NS 200000ull
#define MAX_CROWD 128u
#define N_STREAMS 200u

extern char **environ;

static struct spin_plan plan = {.steps_per_ns = 1}; /* the simulator's; elsewhere, about so many */
static CUcontext ctx;
static CUfunction loop;
static CUdeviceptr out;
static uint64_t end_ns;
static _Atomic bool stop;
static _Atomic uint64_t rounds, steps, failed;

static void must(CUresult r, const char *what)
{
	if (r == CUDA_SUCCESS)
		return;
	printf("{\"error\":\"%s\",\"code\":%d}\n", what, (int)r);
	fflush(stdout);
	_exit(1);
}

#define MUST(call) must(call, #call)

static bool over(void)
{
	return spin_now_ns() >= end_ns;
}

static void pause_ns(uint64_t ns)
{
	spin_sleep_until(spin_now_ns() + ns);
}

static CUresult launch(CUfunction function, CUdeviceptr to, CUstream stream)
{
	uint64_t n = KERNEL_NS;
	void *params[] = {&n, &to};
	CUresult r = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL);

	steps += r == CUDA_SUCCESS;
	return r;
}

static void prepare(struct spin_plan *with, CUfunction *function, CUdeviceptr *to)
{
	const char *what = "?";
	CUresult r = spin_prepare(with, function, to, &what);

	must(r, what);
}

static void open_device(void)
{
	MUST(cuInit(0));
	MUST(cuDevicePrimaryCtxRetain(&ctx, 0));
	MUST(cuCtxSetCurrent(ctx));
	prepare(&plan, &loop, &out);
}

static CUstream new_stream(void)
{
	CUstream stream;

	MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	return stream;
}

/* ---- threads that launch, and wait for every eighth launch or for none ---- */

static pthread_t crowd[MAX_CROWD];
static unsigned int n_crowd;
static _Atomic unsigned int n_ready;

static void *one_of_them(void *waits)
{
	CUresult r = cuCtxSetCurrent(ctx);
	CUstream stream;

	if (r == CUDA_SUCCESS)
		r = cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
	n_ready++;
	for (unsigned int i = 1; r == CUDA_SUCCESS && !stop; i++) {
		pthread_testcancel();
		r = launch(loop, out, stream);
		if (r == CUDA_SUCCESS && waits && i % 8 == 0)
			r = cuStreamSynchronize(stream);
	}
	failed += r != CUDA_SUCCESS;
	return NULL;
}

static void begin(unsigned int n, bool waits)
{
	stop = false;
	n_ready = 0;
	for (n_crowd = 0; n_crowd < n; n_crowd++)
		if (pthread_create(&crowd[n_crowd], NULL, one_of_them, waits ? &rounds : NULL))
			must(CUDA_ERROR_OUT_OF_MEMORY, "pthread_create");
	while (n_ready < n) /* from here on they only launch */
		pause_ns(MS / 10);
}

static void finish(void)
{
	stop = true;
	for (unsigned int i = 0; i < n_crowd; i++)
		pthread_join(crowd[i], NULL);
}

static void *one_of_its_own(void *context)
{
	struct spin_plan own_plan = plan;
	CUfunction function;
	CUdeviceptr to;
	CUstream stream;

	MUST(cuCtxSetCurrent(context));
	prepare(&own_plan, &function, &to);
	stream = new_stream();
	for (unsigned int i = 1; !stop; i++) {
		MUST(launch(function, to, stream));
		if (i % 4 == 0)
			MUST(cuStreamSynchronize(stream));
	}
	MUST(cuCtxSynchronize());
	return NULL;
}

/* ---- what they do; each until it is over ---- */

static void cancel(void)
{
	begin(4, rounds & 1);
	pause_ns(rounds % 12 * MS);
	for (unsigned int i = 0; i < n_crowd; i++)
		pthread_cancel(crowd[i]);
	finish();
}

/* They do not wait: a stream that is waited for must not go. */
static void reset(void)
{
	begin(3, false);
	pause_ns(rounds % 12 * MS);
	MUST(cuDevicePrimaryCtxReset(0));
	finish();
	open_device();
}

static void contexts(void)
{
	struct spin_plan other_plan = plan;
	CUfunction function;
	CUdeviceptr to;
	CUcontext other;
	CUstream stream;

	MUST(cu_ctx_create(&other, 0));
	prepare(&other_plan, &function, &to);
	stream = new_stream();
	for (int i = 0; i < 10; i++)
		MUST(launch(function, to, stream));
	MUST(cuCtxDestroy(other));
}

static void release(void)
{
	CUcontext again;

	MUST(cuDevicePrimaryCtxRetain(&again, 0));
	MUST(cuDevicePrimaryCtxRelease(0));
}

static _Atomic uint64_t asked, answered;

static void wait_for_answer(void *arg)
{
	uint64_t mine = ++asked;

	(void)arg;
	while (answered < mine && !stop)
		pause_ns(MS / 10);
}

static void *answer(void *arg)
{
	CUstream stream;

	(void)arg;
	MUST(cuCtxSetCurrent(ctx));
	stream = new_stream();
	while (!stop) {
		if (answered == asked) {
			pause_ns(MS / 10);
			continue;
		}
		MUST(launch(loop, out, stream));
		MUST(cuStreamSynchronize(stream));
		answered++;
	}
	return NULL;
}

static void host_wait(void)
{
	static CUstream stream;

	stream = stream ? stream : new_stream();
	MUST(launch(loop, out, stream));
	MUST(cuLaunchHostFunc(stream, wait_for_answer, NULL));
	MUST(cuStreamSynchronize(stream));
}

static CUdeviceptr word;

static void *write_values(void *arg)
{
	CUstream stream;
	uint32_t done = 0;

	(void)arg;
	MUST(cuCtxSetCurrent(ctx));
	stream = new_stream();
	while (!stop || done < asked) {
		if (done == asked) {
			pause_ns(MS / 20);
			continue;
		}
		MUST(launch(loop, out, stream));
		MUST(cuStreamWriteValue32_v2(stream, word, ++done, 0));
	}
	MUST(cuStreamSynchronize(stream));
	return NULL;
}

static void wait_value(void)
{
	static CUstream stream;

	stream = stream ? stream : new_stream();
	MUST(cuStreamWaitValue32_v2(stream, word, (uint32_t)rounds + 1, CU_STREAM_WAIT_VALUE_GEQ));
	asked++;
	MUST(launch(loop, out, stream));
	MUST(cuStreamSynchronize(stream));
}

static void with(void *(*thread)(void *), void (*round)(void))
{
	pthread_t other;

	if (pthread_create(&other, NULL, thread, NULL))
		must(CUDA_ERROR_OUT_OF_MEMORY, "pthread_create");
	for (; !over(); rounds++)
		round();
	stop = true;
	pthread_join(other, NULL);
}

static CUevent reached[2];
static _Atomic uint32_t turn;

static void *play(void *arg)
{
	unsigned int me = arg != NULL;
	CUstream stream;

	MUST(cuCtxSetCurrent(ctx));
	stream = new_stream();
	while (!over()) {
		if ((turn & 1) != me) {
			sched_yield();
			continue;
		}
		MUST(cuStreamWaitEvent(stream, reached[!me], 0));
		MUST(launch(loop, out, stream));
		MUST(cuEventRecord(reached[me], stream));
		rounds = ++turn;
		if (turn % 64 == 0)
			MUST(cuStreamSynchronize(stream));
	}
	MUST(cuStreamSynchronize(stream));
	return NULL;
}

static void ping_pong(void)
{
	pthread_t other;

	MUST(cuEventCreate(&reached[0], CU_EVENT_DISABLE_TIMING));
	MUST(cuEventCreate(&reached[1], CU_EVENT_DISABLE_TIMING));
	if (pthread_create(&other, NULL, play, &turn))
		must(CUDA_ERROR_OUT_OF_MEMORY, "pthread_create");
	play(NULL);
	pthread_join(other, NULL);
}

static void fork_idle(void)
{
	if (fork() == 0) {
		pause_ns(100 * MS);
		_exit(0);
	}
	pause_ns(20 * MS);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void spawn(void)
{
	char *argv[] = {(char *)"true", NULL};
	pid_t child;

	if (posix_spawn(&child, "/bin/true", NULL, NULL, argv, environ) == 0)
		waitpid(child, NULL, 0);
	child = vfork();
	if (child == 0) {
		execv("/bin/true", argv);
		_exit(1);
	}
	waitpid(child, NULL, 0);
}

static void on_alarm(int number)
{
	(void)number;
}

static void signals(void)
{
	struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	pause_ns(100 * MS);
	setitimer(ITIMER_REAL, &never, NULL);
}

static void wait_a_little(void)
{
	pause_ns(20 * MS);
}

static void own(void)
{
	CUcontext context;

	stop = false;
	for (n_crowd = 0; n_crowd < 80; n_crowd++) {
		MUST(cu_ctx_create(&context, 0));
		MUST(cuCtxPopCurrent(&context));
		if (pthread_create(&crowd[n_crowd], NULL, one_of_its_own, context))
			must(CUDA_ERROR_OUT_OF_MEMORY, "pthread_create");
	}
	while (!over())
		pause_ns(MS);
	finish();
}

static void streams(void)
{
	static CUstream all[N_STREAMS];

	for (unsigned int i = 0; i < N_STREAMS; i++) {
		all[i] = all[i] ? all[i] : new_stream();
		MUST(launch(loop, out, all[i]));
		if (i % 3 == rounds % 3) {
			MUST(cuStreamDestroy(all[i]));
			all[i] = NULL;
		}
	}
}

static void *three_and_out(void *arg)
{
	(void)arg;
	MUST(cuCtxSetCurrent(ctx));
	for (int i = 0; i < 3; i++)
		MUST(launch(loop, out, CU_STREAM_PER_THREAD));
	return NULL;
}

static void default_streams(void)
{
	for (n_crowd = 0; n_crowd < 8; n_crowd++)
		if (pthread_create(&crowd[n_crowd], NULL, three_and_out, NULL))
			must(CUDA_ERROR_OUT_OF_MEMORY, "pthread_create");
	finish();
}

static void *call_exit(void *arg)
{
	(void)arg;
	spin_sleep_until(end_ns);
	exit(0);
}

static void exit_by_another(void)
{
	pthread_t other;

	begin(4, false);
	if (pthread_create(&other, NULL, call_exit, NULL))
		must(CUDA_ERROR_OUT_OF_MEMORY, "pthread_create");
	for (;;)
		MUST(launch(loop, out, NULL));
}

static void become_again(char **argv)
{
	const char *before = getenv("UNRULY_LEFT");
	int left = before ? atoi(before) : 10;
	char text[16];

	if (!left)
		exit(0);
	begin(4, false);
	spin_sleep_until(end_ns);
	snprintf(text, sizeof(text), "%d", left - 1);
	setenv("UNRULY_LEFT", text, 1);
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* ---- which ---- */

static const struct {
	const char *name;
	unsigned int others; /* threads that launch meanwhile */
	void (*round)(void);
} modes[] = {
	{"cancel", 0, cancel},	 {"reset", 0, reset},	      {"contexts", 1, contexts},
	{"release", 2, release}, {"ping-pong", 0, ping_pong}, {"fork", 3, fork_idle},
	{"spawn", 3, spawn},	 {"signals", 3, signals},     {"crowd", 100, wait_a_little},
	{"own", 0, own},	 {"streams", 0, streams},     {"default", 0, default_streams},
};

static void repeat(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(modes[i].name, name) != 0)
			continue;
		if (modes[i].others)
			begin(modes[i].others, true);
		for (; !over(); rounds++)
			modes[i].round();
		if (modes[i].others)
			finish();
		return;
	}
	fprintf(stderr, "unruly: no '%s'\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	open_device();
	end_ns = spin_now_ns() + strtoul(argv[2], NULL, 10) * MS;
	if (!strcmp(argv[1], "exit"))
		exit_by_another();
	if (!strcmp(argv[1], "exec"))
		become_again(argv);
	if (!strcmp(argv[1], "host-wait")) {
		with(answer, host_wait);
	} else if (!strcmp(argv[1], "wait-value")) {
		MUST(cuMemAlloc(&word, 4096));
		MUST(cuMemsetD32(word, 0, 1024));
		MUST(cuCtxSynchronize());
		with(write_values, wait_value);
	} else {
		repeat(argv[1]);
	}
	MUST(cuCtxSynchronize());
	while (waitpid(-1, NULL, 0) > 0)
		;
	printf("{\"rounds\":%lu,\"steps\":%lu,\"failed\":%lu}\n", (unsigned long)rounds,
	       (unsigned long)steps, (unsigned long)failed);
	return 0;
}
