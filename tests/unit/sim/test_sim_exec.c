/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, events, copies, host functions and memory operations: order, bytes, time, errors. */
#include <pthread.h>
#include <stdatomic.h>

#include <unistd.h>

#include "simcu.h"

static CUcontext ctx;
static CUmodule mod;
static CUfunction spin, mad, fill;

static int setup(void **state)
{
	ctx = simtest_context(0);
	mod = simcu_kernels();
	spin = simcu_function(mod, "aq_spin_ns");
	mad = simcu_function(mod, "aq_mad");
	fill = simcu_function(mod, "aq_fill");
	return 0;
}

static CUstream stream(unsigned int flags)
{
	CUstream s;

	ok(cuStreamCreate(&s, flags));
	return s;
}

static CUevent event(unsigned int flags)
{
	CUevent e;

	ok(cuEventCreate(&e, flags));
	return e;
}

/* A stream is busy until the device's clock says that it is done, and not a moment less. */
static void test_sim_exec__a_kernel_takes_its_time(void **state)
{
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	CUevent a = event(0), b = event(0);
	uint64_t before = simcu_now_ns(), took;

	ok(simcu_spin(spin, s, 10 * MS)); /* so that the host is ahead of the device */
	ok(cuEventRecord(a, s));
	ok(simcu_spin(spin, s, 20 * MS));
	ok(cuEventRecord(b, s));
	FAILS(CUDA_ERROR_NOT_READY, cuStreamQuery(s));
	FAILS(CUDA_ERROR_NOT_READY, cuEventQuery(b));
	ok(cuStreamSynchronize(s));
	took = simcu_now_ns() - before;
	ok(cuStreamQuery(s));
	ok(cuEventQuery(b));
	assert_in_range(took, 30 * MS, 500 * MS);
	/* By the device's clock it is exact, whatever the host did. */
	assert_in_range((uint64_t)(simcu_elapsed_ms(a, b) * 1000 + 0.5f), 20000, 20000);
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
	ok(cuStreamDestroy_v2(s));
}

static void test_sim_exec__event_times_are_analytic(void **state)
{
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	CUevent e[5];

	ok(simcu_spin(spin, s, 10 * MS)); /* so that all that follows waits in the queue */
	for (int i = 0; i < 5; i++) {
		e[i] = event(0);
		ok(cuEventRecord(e[i], s));
		ok(simcu_spin(spin, s, (uint64_t)(i + 1) * 100000));
	}
	ok(cuStreamSynchronize(s));
	for (int i = 0; i < 4; i++) {
		float ms = simcu_elapsed_ms(e[i], e[i + 1]), want = 0.1f * (float)(i + 1);

		if (ms < want - 0.00001f || ms > want + 0.00001f)
			fail_msg("interval %d is %f ms, not %f", i, (double)ms, (double)want);
	}
	for (int i = 0; i < 5; i++)
		ok(cuEventDestroy_v2(e[i]));
	ok(cuStreamDestroy_v2(s));
}

static void test_sim_exec__event_errors(void **state)
{
	CUevent a = event(0), b = event(CU_EVENT_DISABLE_TIMING), c = event(0), bad;
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	float ms;

	FAILS(CUDA_ERROR_INVALID_VALUE, cuEventCreate(NULL, 0));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&bad, 8));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&bad, CU_EVENT_INTERPROCESS));
	ok(cuEventQuery(a)); /* never recorded: done */
	ok(cuEventSynchronize(a));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, a, c));
	ok(cuEventRecord(a, s));
	ok(cuEventRecord(b, s));
	ok(cuStreamSynchronize(s));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, a, b));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuEventElapsedTime(NULL, a, a));
	ok(simcu_spin(spin, s, 5 * MS));
	ok(cuEventRecord(c, s));
	FAILS(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&ms, a, c));
	ok(cuEventSynchronize(c));
	ok(cuEventElapsedTime(&ms, a, c));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(NULL, s));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy_v2(NULL));
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
	ok(cuEventDestroy_v2(c));
	ok(cuStreamDestroy_v2(s));
}

/* Each step does not commute with the next, so the result tells the order. */
static void test_sim_exec__streams_keep_order(void **state)
{
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	CUdeviceptr p = simcu_alloc(4096);
	uint32_t want = 1, *pinned;
	const uint32_t one = 1;

	ok(cuMemHostAlloc((void **)&pinned, 4096, 0));
	ok(cuMemcpyHtoDAsync_v2(p, &one, 4, s));
	for (uint32_t i = 0; i < 200; i++) {
		ok(simcu_mad(mad, s, p, 3, i, 1));
		want = want * 3 + i;
		if (i % 50 == 49) {
			/* Out and in again, by the copy engines. */
			ok(cuMemcpyDtoHAsync_v2(pinned, p, 4, s));
			ok(cuMemsetD32Async(p, 0, 1, s));
			ok(cuMemcpyHtoDAsync_v2(p, pinned, 4, s));
		}
	}
	ok(cuStreamSynchronize(s));
	assert_int_equal(simcu_read_u32(p), want);
	ok(cuMemFreeHost(pinned));
	ok(cuMemFree_v2(p));
	ok(cuStreamDestroy_v2(s));
}

static void test_sim_exec__wait_event_orders_streams(void **state)
{
	CUstream a = stream(CU_STREAM_NON_BLOCKING), b = stream(CU_STREAM_NON_BLOCKING);
	CUevent e = event(CU_EVENT_DISABLE_TIMING);
	CUdeviceptr p = simcu_alloc(4);
	uint32_t *host;

	ok(cuMemHostAlloc((void **)&host, 8, 0));
	host[0] = 5;
	for (int round = 0; round < 3; round++) {
		ok(cuMemsetD32_v2(p, 0, 1));
		ok(cuCtxSynchronize());
		ok(simcu_spin(spin, a, 2 * MS));
		ok(cuMemcpyHtoDAsync_v2(p, host, 4, a)); /* waits for the kernel */
		ok(cuEventRecord(e, a));
		ok(cuStreamWaitEvent(b, e, 0));
		ok(simcu_mad(mad, b, p, 10, 3, 1));
		ok(cuMemcpyDtoHAsync_v2(host + 1, p, 4, b));
		ok(cuStreamSynchronize(b));
		assert_int_equal(host[1], 53);
	}
	ok(cuMemFreeHost(host));
	ok(cuMemFree_v2(p));
	ok(cuEventDestroy_v2(e));
	ok(cuStreamDestroy_v2(a));
	ok(cuStreamDestroy_v2(b));
}

/* The legacy stream waits for blocking streams, they wait for it, and others do neither. */
static void test_sim_exec__legacy_stream_is_a_barrier(void **state)
{
	CUstream blocking = stream(CU_STREAM_DEFAULT), free_one = stream(CU_STREAM_NON_BLOCKING);
	CUevent a = event(0), b = event(0), c = event(0), d = event(0);
	CUdeviceptr p = simcu_alloc(1 << 20);
	void *host;

	ok(cuMemHostAlloc(&host, 1 << 20, 0));
	ok(cuEventRecord(a, blocking));
	ok(simcu_spin(spin, blocking, 100 * MS));
	ok(cuMemcpyHtoDAsync_v2(p, host, 1 << 20, NULL)); /* after the 100 ms */
	ok(cuEventRecord(b, NULL));
	ok(cuMemcpyDtoHAsync_v2(host, p, 1 << 20, blocking)); /* after that */
	ok(cuEventRecord(c, blocking));
	ok(cuMemcpyDtoHAsync_v2(host, p, 64, free_one));
	ok(cuEventRecord(d, free_one));
	ok(cuEventSynchronize(d));
	FAILS(CUDA_ERROR_NOT_READY, cuEventQuery(b));
	FAILS(CUDA_ERROR_NOT_READY, cuStreamQuery(NULL));
	ok(cuEventSynchronize(c));
	assert_true(simcu_elapsed_ms(a, b) >= 100.0f);
	assert_true(simcu_elapsed_ms(b, c) > 0.005f);
	assert_true(simcu_elapsed_ms(a, d) < 90.0f);
	ok(cuStreamSynchronize(NULL));
	ok(cuMemFreeHost(host));
	ok(cuMemFree_v2(p));
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
	ok(cuEventDestroy_v2(c));
	ok(cuEventDestroy_v2(d));
	ok(cuStreamDestroy_v2(blocking));
	ok(cuStreamDestroy_v2(free_one));
}

static void *other_thread(void *arg)
{
	unsigned long long *id = arg;

	ok(cuCtxSetCurrent(ctx));
	ok(cuStreamGetId(CU_STREAM_PER_THREAD, id));
	ok(cuStreamQuery_ptsz(NULL)); /* its own default stream has nothing to do */
	return NULL;
}

static void test_sim_exec__per_thread_streams_differ(void **state)
{
	unsigned long long mine, same, legacy, other = 0;
	pthread_t thread;

	ok(cuStreamGetId(CU_STREAM_PER_THREAD, &mine));
	ok(cuStreamGetId_ptsz(NULL, &same));
	ok(cuStreamGetId(NULL, &legacy));
	assert_true(mine == same);
	assert_true(mine != legacy);
	ok(simcu_spin(spin, CU_STREAM_PER_THREAD, 20 * MS));
	FAILS(CUDA_ERROR_NOT_READY, cuStreamQuery_ptsz(NULL));
	assert_int_equal(pthread_create(&thread, NULL, other_thread, &other), 0);
	pthread_join(thread, NULL);
	assert_true(other && other != mine);
	ok(cuStreamSynchronize_ptsz(NULL));
}

static void test_sim_exec__stream_questions(void **state)
{
	CUstream s;
	CUcontext c;
	CUdevice dev;
	unsigned int flags;
	int priority;

	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(NULL, 0));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&s, 2));
	ok(cuStreamCreateWithPriority(&s, CU_STREAM_NON_BLOCKING, -100));
	ok(cuStreamGetPriority(s, &priority));
	assert_int_equal(priority, -5);
	ok(cuStreamGetFlags(s, &flags));
	assert_int_equal(flags, CU_STREAM_NON_BLOCKING);
	ok(cuStreamGetCtx(s, &c));
	assert_ptr_equal(c, ctx);
	ok(cuStreamGetDevice(s, &dev));
	assert_int_equal(dev, 0);
	ok(cuStreamDestroy_v2(s));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(NULL));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(CU_STREAM_LEGACY));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize((CUstream)0x30));
}

/* Destroying returns at once; the work is done all the same. */
static void test_sim_exec__destroy_with_work_pending(void **state)
{
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	CUdeviceptr p = simcu_alloc(4);
	uint32_t *host;

	ok(cuMemHostAlloc((void **)&host, 4, 0));
	*host = 7;
	ok(simcu_spin(spin, s, 3 * MS));
	ok(cuMemcpyHtoDAsync_v2(p, host, 4, s));
	ok(simcu_mad(mad, s, p, 2, 1, 1));
	ok(cuStreamDestroy_v2(s));
	ok(cuCtxSynchronize());
	assert_int_equal(simcu_read_u32(p), 15);
	ok(cuMemFreeHost(host));
	ok(cuMemFree_v2(p));
}

struct note {
	uint64_t at_ns;
	atomic_int calls;
	CUresult status;
	CUresult inside;
};

static void host_fn(void *arg)
{
	struct note *n = arg;

	n->at_ns = simcu_now_ns();
	cuCtxSetCurrent(ctx);
	n->inside = cuStreamQuery(NULL);
	n->calls++;
}

static void callback(CUstream s, CUresult status, void *arg)
{
	struct note *n = arg;

	n->status = status;
	n->calls++;
}

static void test_sim_exec__host_functions_run_in_order(void **state)
{
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	CUdeviceptr p = simcu_alloc(4);
	struct note n = {.status = CUDA_ERROR_UNKNOWN};
	uint64_t before = simcu_now_ns();

	FAILS(CUDA_ERROR_INVALID_VALUE, cuLaunchHostFunc(s, NULL, NULL));
	ok(simcu_spin(spin, s, 5 * MS));
	ok(cuLaunchHostFunc(s, host_fn, &n));
	ok(cuStreamAddCallback(s, callback, &n, 0));
	ok(cuMemsetD32Async(p, 9, 1, s));
	assert_int_equal(n.calls, 0);
	FAILS(CUDA_ERROR_NOT_READY, cuStreamQuery(s));
	ok(cuStreamSynchronize(s));
	assert_int_equal(n.calls, 2);
	assert_true(n.at_ns >= before + 5 * MS);
	assert_int_equal(n.status, CUDA_SUCCESS);
	assert_int_equal(n.inside, CUDA_ERROR_NOT_PERMITTED);
	assert_int_equal(simcu_read_u32(p), 9);
	ok(cuMemFree_v2(p));
	ok(cuStreamDestroy_v2(s));
}

static void test_sim_exec__memory_operations(void **state)
{
	CUstream s = stream(CU_STREAM_NON_BLOCKING), t = stream(CU_STREAM_NON_BLOCKING);
	volatile uint32_t *flag;
	CUdeviceptr d, p = simcu_alloc(64);

	ok(cuMemHostAlloc((void **)&flag, 64, CU_MEMHOSTALLOC_DEVICEMAP));
	ok(cuMemHostGetDevicePointer_v2(&d, (void *)flag, 0));
	flag[0] = flag[1] = 0;
	ok(cuStreamWaitValue32_v2(s, d, 3, CU_STREAM_WAIT_VALUE_GEQ));
	ok(cuMemsetD32Async(p, 77, 1, s));
	ok(cuStreamWriteValue32_v2(s, d + 4, 42, 0));
	usleep(5000);
	FAILS(CUDA_ERROR_NOT_READY, cuStreamQuery(s));
	assert_int_equal(flag[1], 0);
	ok(cuStreamWriteValue32(t, d, 4, 0)); /* another stream sets it free */
	ok(cuStreamSynchronize(s));
	assert_int_equal(flag[1], 42);
	assert_int_equal(simcu_read_u32(p), 77);
	ok(cuStreamWaitValue64(s, p + 8, 0, CU_STREAM_WAIT_VALUE_EQ));
	ok(cuMemsetD32Async(p + 8, 0, 2, t));
	ok(cuStreamSynchronize(s));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamWaitValue32(s, d + 1, 0, 0));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamWaitValue32(s, 0, 0, 0));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamWaitValue32(s, d, 0, 16));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamBatchMemOp(s, 0, NULL, 0));
	ok(cuMemFreeHost((void *)flag));
	ok(cuMemFree_v2(p));
	ok(cuStreamDestroy_v2(s));
	ok(cuStreamDestroy_v2(t));
}

static void test_sim_exec__copies_move_the_bytes(void **state)
{
	const size_t bytes = 3 << 20;
	CUdeviceptr a = simcu_alloc(bytes), b = simcu_alloc(bytes);
	uint8_t *x = malloc(bytes), *y = malloc(bytes);

	for (size_t i = 0; i < bytes; i++)
		x[i] = (uint8_t)(i * 7 + (i >> 8));
	memset(y, 0, bytes);
	ok(cuMemcpyHtoD_v2(a, x, bytes));
	ok(cuMemcpyDtoD_v2(b + 5, a + 3, bytes - 5));
	ok(cuMemcpyDtoH_v2(y, b + 5, bytes - 5));
	assert_memory_equal(y, x + 3, bytes - 5);
	ok(cuMemcpy((CUdeviceptr)(uintptr_t)y, a, bytes));
	assert_memory_equal(y, x, bytes);
	memset(y, 0, bytes);
	ok(cuMemcpyAsync((CUdeviceptr)(uintptr_t)y, a, bytes, NULL)); /* pageable: there at once */
	assert_memory_equal(y, x, bytes);

	/* A source that is pageable may be changed as soon as the call returns. */
	ok(cuMemcpyHtoDAsync_v2(b, x, 1024, NULL));
	memset(x, 0xee, 1024);
	ok(cuMemcpyDtoH_v2(y, b, 1024));
	assert_int_equal(y[1], (uint8_t)7);

	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(a, NULL, 4));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(0, x, 4));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(y, (CUdeviceptr)(uintptr_t)x, 4));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(y, a, (size_t)1 << 40));
	ok(cuMemcpyHtoD_v2(a, x, 0));
	ok(cuMemFree_v2(a));
	ok(cuMemFree_v2(b));
	free(x);
	free(y);
}

static void test_sim_exec__boxes_and_memsets(void **state)
{
	const size_t pitch = 256, rows = 16;
	CUdeviceptr d = simcu_alloc(pitch * rows);
	CUDA_MEMCPY2D c = {0};
	uint16_t host[8][10], back[8][10];
	uint8_t all[256 * 16];

	ok(cuMemsetD8_v2(d, 0xaa, pitch * rows));
	for (int y = 0; y < 8; y++)
		for (int x = 0; x < 10; x++)
			host[y][x] = (uint16_t)(100 * y + x);
	c.srcMemoryType = CU_MEMORYTYPE_HOST;
	c.srcHost = host;
	c.srcPitch = 20;
	c.dstMemoryType = CU_MEMORYTYPE_DEVICE;
	c.dstDevice = d;
	c.dstPitch = pitch;
	c.dstXInBytes = 6;
	c.dstY = 2;
	c.WidthInBytes = 20;
	c.Height = 8;
	ok(cuMemcpy2D_v2(&c));
	ok(cuMemcpyDtoH_v2(all, d, sizeof(all)));
	assert_int_equal(all[2 * 256 + 5], 0xaa);
	assert_int_equal(all[2 * 256 + 26], 0xaa);
	assert_memory_equal(all + 9 * 256 + 6, host[7], 20);
	memset(&c, 0, sizeof(c));
	c.srcMemoryType = CU_MEMORYTYPE_DEVICE;
	c.srcDevice = d + 2 * pitch + 6;
	c.srcPitch = pitch;
	c.dstMemoryType = CU_MEMORYTYPE_HOST;
	c.dstHost = back;
	c.dstPitch = 20;
	c.WidthInBytes = 20;
	c.Height = 8;
	ok(cuMemcpy2DAsync_v2(&c, NULL));
	assert_memory_equal(back, host, sizeof(host));
	c.srcPitch = 19;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&c));

	ok(cuMemsetD2D16_v2(d, pitch, 0x1234, 5, 3));
	ok(cuMemcpyDtoH_v2(all, d, sizeof(all)));
	assert_int_equal(all[256 * 2 + 9], 0x12);
	assert_int_equal(all[256 * 2 + 10], host[0][2] & 0xff);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(d + 2, 0, 1));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(0, 0, 1));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemsetD2D32_v2(d, 8, 0, 4, 2));
	ok(cuMemFree_v2(d));
}

static void test_sim_exec__arrays(void **state)
{
	CUDA_ARRAY_DESCRIPTOR desc = {
		.Width = 32,
		.Height = 4,
		.Format = CU_AD_FORMAT_UNSIGNED_INT32,
		.NumChannels = 1,
	};
	uint32_t in[4][32], out[4][32];
	CUDA_MEMCPY2D c = {0};
	CUarray array;

	ok(cuArrayCreate_v2(&array, &desc));
	for (uint32_t i = 0; i < 128; i++)
		in[i / 32][i % 32] = i * i;
	c.srcMemoryType = CU_MEMORYTYPE_HOST;
	c.srcHost = in;
	c.srcPitch = 128;
	c.dstMemoryType = CU_MEMORYTYPE_ARRAY;
	c.dstArray = array;
	c.WidthInBytes = 128;
	c.Height = 4;
	ok(cuMemcpy2D_v2(&c));
	memset(&c, 0, sizeof(c));
	c.srcMemoryType = CU_MEMORYTYPE_ARRAY;
	c.srcArray = array;
	c.srcXInBytes = 8;
	c.srcY = 1;
	c.dstMemoryType = CU_MEMORYTYPE_HOST;
	c.dstHost = out;
	c.dstPitch = 128;
	c.WidthInBytes = 64;
	c.Height = 2;
	ok(cuMemcpy2D_v2(&c));
	assert_memory_equal(out[1], &in[2][2], 64);
	c.Height = 4;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&c));
	ok(cuArrayDestroy(array));
}

/* Copies go at the speed of the link, by the device's clock. */
static void test_sim_exec__copies_cost_the_link(void **state)
{
	const size_t bytes = 64 << 20;
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	CUevent a = event(0), b = event(0);
	CUdeviceptr d = simcu_alloc(bytes);
	double gb_per_s;
	void *host;

	ok(cuMemHostAlloc(&host, bytes, 0));
	ok(simcu_spin(spin, s, 20 * MS));
	ok(cuEventRecord(a, s));
	ok(cuMemcpyHtoDAsync_v2(d, host, bytes, s));
	ok(cuEventRecord(b, s));
	ok(cuStreamSynchronize(s));
	gb_per_s = (double)bytes / ((double)simcu_elapsed_ms(a, b) * 1e6);
	if (gb_per_s < 40 || gb_per_s > 64)
		fail_msg("host to device at %.1f GB/s", gb_per_s);
	ok(cuMemFreeHost(host));
	ok(cuMemFree_v2(d));
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
	ok(cuStreamDestroy_v2(s));
}

/* Launches run ahead of the device, but not without end. */
static void test_sim_exec__many_launches(void **state)
{
	CUstream s = stream(CU_STREAM_NON_BLOCKING);
	uint64_t before = simcu_now_ns(), took;
	const unsigned int n = 20000;

	for (unsigned int i = 0; i < n; i++)
		ok(simcu_spin(spin, s, 1000));
	took = simcu_now_ns() - before;
	/* All but the last 1024 are done. */
	assert_true(took >= (uint64_t)(n - 1100) * 1000);
	ok(cuStreamSynchronize(s));
	ok(cuStreamDestroy_v2(s));
}

static void test_sim_exec__bad_memory_is_sticky(void **state)
{
	CUdeviceptr p = simcu_alloc(4096), gone = p + ((CUdeviceptr)1 << 36);
	uint32_t value = 1;
	uint64_t count = 4;
	void *params[] = {&gone, &value, &count};

	ok(simcu_launch(fill, NULL, params));
	FAILS(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
	FAILS(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemAlloc_v2(&p, 4096));
	ok(cuDevicePrimaryCtxReset_v2(0));
	setup(NULL);
	p = simcu_alloc(4096);
	ok(cuMemFree_v2(p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec__a_kernel_takes_its_time),
		cmocka_unit_test(test_sim_exec__event_times_are_analytic),
		cmocka_unit_test(test_sim_exec__event_errors),
		cmocka_unit_test(test_sim_exec__streams_keep_order),
		cmocka_unit_test(test_sim_exec__wait_event_orders_streams),
		cmocka_unit_test(test_sim_exec__legacy_stream_is_a_barrier),
		cmocka_unit_test(test_sim_exec__per_thread_streams_differ),
		cmocka_unit_test(test_sim_exec__stream_questions),
		cmocka_unit_test(test_sim_exec__destroy_with_work_pending),
		cmocka_unit_test(test_sim_exec__host_functions_run_in_order),
		cmocka_unit_test(test_sim_exec__memory_operations),
		cmocka_unit_test(test_sim_exec__copies_move_the_bytes),
		cmocka_unit_test(test_sim_exec__boxes_and_memsets),
		cmocka_unit_test(test_sim_exec__arrays),
		cmocka_unit_test(test_sim_exec__copies_cost_the_link),
		cmocka_unit_test(test_sim_exec__many_launches),
		cmocka_unit_test(test_sim_exec__bad_memory_is_sticky),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, setup, NULL);
}
