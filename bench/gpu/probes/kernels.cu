/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of the probes. kernels.ptx is this file compiled by ./update-kernels, so that the
 * probes need no CUDA compiler; nothing includes this file.
 *
 * Every kernel that waits also ends by itself, after a time given by the caller: no probe can hold a
 * device for longer than it said. "Device time" is %globaltimer: nanoseconds, one clock for all
 * processes on a device, which goes on while a context is switched out. So k_spin and k_trace
 * measure or fill wall time, and only k_work is a fixed amount of work.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

static __device__ __forceinline__ u64 now_ns(void)
{
	u64 t;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
	return t;
}

static __device__ __forceinline__ void stamp_start(u64 *stamp)
{
	if (stamp && threadIdx.x == 0)
		atomicMin(&stamp[0], now_ns());
}

static __device__ __forceinline__ void stamp_end(u64 *stamp)
{
	if (stamp && threadIdx.x == 0)
		atomicMax(&stamp[1], now_ns());
}

extern "C" __global__ void k_noop(void)
{
}

/* stamp[0] = least start, stamp[1] = greatest end; the caller sets them to ~0 and 0. May be NULL. */
extern "C" __global__ void k_spin(u64 ns, u64 *stamp)
{
	u64 t0 = now_ns();

	stamp_start(stamp);
	while (now_ns() - t0 < ns)
		;
	stamp_end(stamp);
}

/* Dependent multiply-adds: the time this takes is proportional to iters while the context runs. */
extern "C" __global__ void k_work(u64 iters, u64 *stamp, u32 *sink)
{
	u32 x = threadIdx.x + 1;

	stamp_start(stamp);
#pragma unroll 1
	for (u64 i = 0; i < iters; i++)
		x = x * 1664525u + 1013904223u;
	if (x == 0 && sink) /* never for most x, but the compiler cannot know */
		*sink = x;
	stamp_end(stamp);
}

extern "C" __global__ void k_flag(volatile u32 *flag, u32 value)
{
	__threadfence_system();
	*flag = value;
}

extern "C" __global__ void k_spin_flag(u64 ns, volatile u32 *flag, u32 value)
{
	u64 t0 = now_ns();

	while (now_ns() - t0 < ns)
		;
	__threadfence_system();
	*flag = value;
}

/*
 * Answers `rounds` questions: when *ask becomes i, writes the device time to *answer and then i to
 * *done. The asker learns how device time and its own clock relate, to within half a round trip.
 */
extern "C" __global__ void k_clock(volatile u32 *ask, volatile u64 *answer, volatile u32 *done,
				   u32 rounds, u64 max_ns)
{
	u64 t0 = now_ns();

	for (u32 i = 1; i <= rounds; i++) {
		while (*ask != i)
			if (now_ns() - t0 > max_ns)
				return;
		*answer = now_ns();
		__threadfence_system();
		*done = i;
	}
}

/* The first n distinct readings of device time: their least difference is its resolution. */
extern "C" __global__ void k_timer(u64 *out, u32 n)
{
	u64 last = now_ns();

	for (u32 i = 0; i < n;) {
		u64 t = now_ns();

		if (t != last)
			out[i++] = last = t;
	}
}

extern "C" __global__ void k_fill(u32 *dst, u64 n, u32 seed)
{
	u64 step = (u64)gridDim.x * blockDim.x;

	for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
		dst[i] = (u32)i * 2654435761u + seed;
}

/* Adds to *bad the number of words that k_fill with this seed would not have written. */
extern "C" __global__ void k_check(const u32 *src, u64 n, u32 seed, u32 *bad)
{
	u64 step = (u64)gridDim.x * blockDim.x;
	u32 wrong = 0;

	for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
		wrong += src[i] != (u32)i * 2654435761u + seed;
	if (wrong)
		atomicAdd(bad, wrong);
}

/*
 * When was this context on the device? One thread reads device time without pause; two readings
 * further apart than gap_ns mean that it was switched out between them. All other threads only keep
 * their multiprocessor busy. buf: [0] number of runs, [1] loop turns, [2] 1 = it stopped because
 * *stop became non-zero, [3] unused, then pairs (first, last reading of a run), `cap` of them at
 * most. `live`, in device memory and 0 at first, tells the others that the first thread is done.
 */
extern "C" __global__ void k_trace(u64 *buf, u32 cap, u64 total_ns, u64 gap_ns, volatile u32 *stop,
				   volatile u32 *live)
{
	u64 t0 = now_ns();

	if (threadIdx.x || blockIdx.x) {
		while (now_ns() - t0 < total_ns && !*live)
			;
		return;
	}

	u64 first = t0, last = t0, turns = 0, stopped = 0;
	u32 n = 0;

	for (;;) {
		u64 t = now_ns();

		turns++;
		if (t - last > gap_ns) {
			if (n < cap) {
				buf[4 + 2 * n] = first;
				buf[5 + 2 * n] = last;
				n++;
			}
			first = t;
		}
		last = t;
		if (t - t0 >= total_ns)
			break;
		if ((turns & 1023) == 0 && *stop) {
			stopped = 1;
			break;
		}
	}
	*live = 1;
	if (n < cap) {
		buf[4 + 2 * n] = first;
		buf[5 + 2 * n] = last;
		n++;
	}
	buf[0] = n;
	buf[1] = turns;
	buf[2] = stopped;
}
