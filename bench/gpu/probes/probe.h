/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every probe shares: the driver's entry points found by name, the kernels, samples and their
 * quantiles, records on standard output, processes that start together, and a time limit. A probe
 * needs nothing else of the project but cuda/cuda_abi.h and nvml/nvml_abi.h, and nothing at link
 * time but libc, libm, libdl and libpthread.
 *
 * Rules that all probes keep:
 *  - No probe changes a setting of the device (clocks, power, MIG, compute mode, persistence), and
 *    none signals or inspects a process that it did not start.
 *  - Every kernel ends by itself within the time it was given; every probe within its time limit.
 *  - Processes are started by fork before the first CUDA call, and die with their parent.
 *  - A record says what was measured, never what it should have been. What could not be measured
 *    is a record too, "skipped" or "failed", with the reason.
 */
#ifndef AQ_BENCH_PROBE_H
#define AQ_BENCH_PROBE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "cuda/cuda_abi.h"

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)
#define USEC 1000ull
#define MSEC (1000ull * USEC)
#define SEC (1000ull * MSEC)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/*
 * Entry points. Those of the first list must be there; the others are NULL where the driver is too
 * old for them, and a probe that wants one asks first.
 */
/* clang-format off */
#define PROBE_NEEDED(X) \
	X(cuInit) X(cuDriverGetVersion) X(cuDeviceGet) X(cuDeviceGetCount) X(cuDeviceGetName) \
	X(cuDeviceGetAttribute) X(cuDeviceTotalMem_v2) X(cuDevicePrimaryCtxRetain) \
	X(cuDevicePrimaryCtxRelease_v2) X(cuCtxCreate_v2) X(cuCtxDestroy_v2) X(cuCtxSetCurrent) \
	X(cuCtxSynchronize) X(cuGetErrorName) X(cuModuleLoadData) X(cuModuleUnload) \
	X(cuModuleGetFunction) X(cuLaunchKernel) X(cuMemAlloc_v2) X(cuMemFree_v2) \
	X(cuMemGetInfo_v2) X(cuMemHostAlloc) X(cuMemFreeHost) X(cuMemcpyHtoD_v2) \
	X(cuMemcpyDtoH_v2) X(cuMemcpyHtoDAsync_v2) X(cuMemcpyDtoHAsync_v2) \
	X(cuMemcpyDtoDAsync_v2) X(cuMemsetD8Async) X(cuMemsetD8_v2) X(cuMemsetD32_v2) \
	X(cuStreamCreate) X(cuStreamDestroy_v2) X(cuStreamSynchronize) X(cuStreamQuery) \
	X(cuStreamWaitEvent) X(cuEventCreate) X(cuEventDestroy_v2) X(cuEventRecord) \
	X(cuEventQuery) X(cuEventSynchronize) X(cuEventElapsedTime) X(cuFuncSetAttribute)

#define PROBE_WANTED(X) \
	X(cuDeviceGetUuid_v2) X(cuLaunchKernelEx) X(cuLaunchHostFunc) \
	X(cuStreamWriteValue32_v2) X(cuMemHostRegister_v2) X(cuMemHostUnregister) \
	X(cuMemAllocAsync) X(cuMemFreeAsync) X(cuDeviceGetDefaultMemPool) \
	X(cuMemPoolGetAttribute) X(cuMemPoolSetAttribute) X(cuMemPoolTrimTo) \
	X(cuMemAddressReserve) X(cuMemAddressFree) X(cuMemCreate) X(cuMemRelease) X(cuMemMap) \
	X(cuMemUnmap) X(cuMemSetAccess) X(cuMemGetAllocationGranularity) X(cuGraphCreate) \
	X(cuGraphDestroy) X(cuGraphAddKernelNode_v2) X(cuGraphInstantiateWithFlags) \
	X(cuGraphExecDestroy) X(cuGraphLaunch) X(cuGraphUpload) X(cuCtxSetLimit) \
	X(cuCtxGetLimit) X(cuDeviceGetDevResource) X(cuDevSmResourceSplitByCount) \
	X(cuDevResourceGenerateDesc) X(cuGreenCtxCreate) X(cuGreenCtxDestroy) \
	X(cuGreenCtxStreamCreate) X(cuCtxFromGreenCtx) X(cuCheckpointProcessLock) \
	X(cuCheckpointProcessCheckpoint) X(cuCheckpointProcessRestore) \
	X(cuCheckpointProcessUnlock) X(cuCheckpointProcessGetState) \
	X(cuCheckpointProcessGetRestoreThreadId) X(cuFuncGetAttribute) \
	X(cuModuleGetLoadingMode)
/* clang-format on */

struct probe_cu {
#define PROBE_FIELD(name) __typeof__(name) *name;
	PROBE_NEEDED(PROBE_FIELD)
	PROBE_WANTED(PROBE_FIELD)
#undef PROBE_FIELD
};
extern struct probe_cu cu; /* filled by probe_cuda(); never before a fork */

/*
 * Start and end.
 */

/**
 * probe_begin() - read the options, look at the device through NVML, start the time limit.
 * @name:    first part of the name of every record
 * @limit_s: seconds until the probe reports that it ran out of time and exits 124
 * @options: names of its own options, comma separated; every one is given as --name=value
 *
 * All probes also know --device=N (default 0), --mode=LABEL (goes into the records), --quick=1
 * (small sizes and few rounds: to see that it runs, not to measure), --limit=SECONDS.
 * Makes no CUDA call. Exits 2 on a wrong option.
 */
void probe_begin(int argc, char **argv, const char *name, unsigned limit_s, const char *options);

/* Exit code of main: 1 when a record failed, 77 when there was no device, else 0. */
int probe_end(void);

const char *probe_option(const char *name, const char *otherwise);
uint64_t probe_number_option(const char *name, uint64_t otherwise);
bool probe_quick(void);
int probe_device(void);
double probe_left_s(void); /* until the time limit */

/*
 * Time. Device time and host time are different clocks; gpu_clock() relates them.
 */
uint64_t now_ns(void);		    /* CLOCK_MONOTONIC */
uint64_t probe_clock_cost_ns(void); /* what a pair of now_ns() costs; not subtracted anywhere */
void sleep_ns(uint64_t ns);

/*
 * Samples and records. @what is the second part of the record's name. Text in notes and facts is
 * printf style. One line of JSON per record, written by one write(2), so that processes may share
 * the output.
 */
struct samples {
	double *v;
	size_t n, cap;
};
void samples_add(struct samples *s, double v);
double samples_quantile(struct samples *s, double q); /* nearest rank; sorts; NAN when empty */
void samples_finish(struct samples *s);

#define PROBE_PRINTF(a, b) __attribute__((format(printf, a, b)))

/* Reports n, min, median, p90, p99, max and mean of @s and empties it. No samples: "skipped". */
void report(const char *what, const char *unit, struct samples *s, const char *note, ...)
	PROBE_PRINTF(4, 5);
void report_one(const char *what, const char *unit, double value, const char *note, ...)
	PROBE_PRINTF(4, 5);
void report_fact(const char *what, const char *value, ...) PROBE_PRINTF(2, 3);
void report_skipped(const char *what, const char *why, ...) PROBE_PRINTF(2, 3);
void report_failed(const char *what, const char *why, ...) PROBE_PRINTF(2, 3);

/*
 * Errors of the driver. TRY() in a function that returns int: reports "failed" under the current
 * step and returns -1. A driver that says "not supported" is reported as "skipped" instead.
 */
int probe_cuda_error(const char *call, CUresult r);
void probe_step(const char *what); /* what TRY() reports under, until the next call */
#define TRY(call)                                                                                  \
	do {                                                                                       \
		CUresult try_result_ = (call);                                                     \
		if (try_result_ != CUDA_SUCCESS)                                                   \
			return probe_cuda_error(#call, try_result_);                               \
	} while (0)
/* As TRY(), for entry points of the second list. */
#define WANT(name) (cu.name ? 0 : (report_skipped(NULL, "the driver has no " #name), -1))

/*
 * The device. Each process opens it for itself.
 */
enum kernel {
	K_NOOP,
	K_SPIN,
	K_WORK,
	K_FLAG,
	K_SPIN_FLAG,
	K_CLOCK,
	K_TIMER,
	K_FILL,
	K_CHECK,
	K_TRACE,
	K_COUNT,
};

struct gpu {
	CUdevice dev;
	CUcontext ctx; /* the primary one, current in the opening thread */
	CUmodule mod;
	CUstream stream; /* non-blocking */
	CUfunction k[K_COUNT];
	int sms;
	bool computes; /* a kernel's stores were seen; false on a simulated device */
};

/* Loads the driver and initialises it. 0, or -1 (reported; probe_end() will say 77 or 1). */
int probe_cuda(void);
int gpu_open(struct gpu *g); /* the next two: */
int gpu_open_context(struct gpu *g);
int gpu_try_kernel(struct gpu *g); /* sets computes */
void gpu_close(struct gpu *g);
extern const char kernels_ptx[]; /* NUL-terminated */

/* gpu_run(&g, K_SPIN, blocks, threads, stream, &ns, &stamp): arguments are addresses, as ever. */
#define gpu_run(g, kernel, blocks, threads, stream, ...)                                           \
	cu.cuLaunchKernel((g)->k[kernel], (blocks), 1, 1, (threads), 1, 1, 0, (stream),            \
			  (void *[]){__VA_ARGS__}, NULL)

/* iters of k_work that take about @ns in this shape, alone; 0 with a report on failure. */
uint64_t gpu_calibrate(struct gpu *g, unsigned blocks, unsigned threads, uint64_t ns);

/* Device time minus now_ns(), good to within *ret_error_ns. 0 or -1 (reported). */
int gpu_clock(struct gpu *g, int64_t *ret_offset_ns, uint64_t *ret_error_ns);

/* Memory the device can reach in pinned host memory, zeroed; NULL when refused (not reported). */
void *gpu_pinned(size_t bytes);

/* A graph of @nodes k_work kernels in a row; NULL with a report on failure. */
CUgraphExec gpu_work_graph(struct gpu *g, unsigned nodes, unsigned blocks, unsigned threads,
			   uint64_t iters);

/*
 * NVML, for memory in use and clocks. Everything answers -1 or 0 where it is not to be had.
 */
int64_t nvml_device_used(void);	      /* bytes in use on the device, reserved ones not counted */
int64_t nvml_process_used(pid_t pid); /* bytes of one process; -1 also when it is not listed */
int nvml_process_count(void);	      /* compute processes on the device */
void nvml_report_facts(void);
bool nvml_divided(const char **ret_how); /* MIG or a virtual GPU: others may share the hardware */
int driver_major(void);			 /* 580 of "580.95.05"; 0 when it is not known */

/*
 * Processes. Shared memory is anonymous, zeroed, and inherited.
 */
void *shared_alloc(size_t bytes);

/* Forks; the child runs fn(index, arg) and exits with its result. Before any CUDA call only. */
pid_t spawn(int (*fn)(int index, void *arg), int index, void *arg);

/*
 * Whether there is a device that answers, tried in a process that ends; for probes whose own first
 * process makes no CUDA call. Reports when there is none. *ret_computes as in struct gpu.
 */
bool device_there(bool *ret_computes);

/* Waits for all, kills them (SIGKILL) after @seconds. True if each exited with 0. */
bool join(pid_t *pids, int n, double seconds);

/* Waits for one; its exit code, or -1 when it was killed by a signal or by us after @seconds. */
int join_one(pid_t pid, double seconds);

/* Whether a process that spawn() started has ended; it can still be joined. */
bool child_is_gone(pid_t pid);

/* Sleeps until *w is no longer @old, for @seconds at most. True if it changed. */
bool futex_wait(_Atomic uint32_t *w, uint32_t old, double seconds);
void futex_wake(_Atomic uint32_t *w);
void futex_set(_Atomic uint32_t *w, uint32_t value); /* store and wake */

/* Everybody of @n arrives before anybody goes on; false after @seconds. Used once each. */
struct barrier {
	_Atomic uint32_t arrived, open;
};
bool barrier_wait(struct barrier *b, uint32_t n, double seconds);

#endif
