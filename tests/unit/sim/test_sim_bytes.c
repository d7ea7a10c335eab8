/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes behind device addresses, from inside the library: scattered frames, boxes, fills, and that
 * nobody reads what another left behind. */
#include "simtest.h"

#include <signal.h>
#include <sys/wait.h>

#include "sim.h"

#define N (3 * FRAME + 12345)

static uint8_t *pattern(size_t bytes, unsigned int seed)
{
	uint8_t *p = malloc(bytes);

	assert_non_null(p);
	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
	return p;
}

static void test_bytes__survive_the_way_through_scattered_frames(void **state)
{
	uint8_t *in = pattern(N, 1), *out = malloc(N);
	CUdeviceptr hole[64], p, q;

	/* Free every second frame, so that what comes next is in pieces. */
	for (int i = 0; i < 64; i++)
		ok(cuMemAlloc_v2(&hole[i], FRAME));
	for (int i = 0; i < 64; i += 2)
		ok(cuMemFree_v2(hole[i]));
	ok(cuMemAlloc_v2(&p, N));
	ok(cuMemAlloc_v2(&q, N));
	ok(sim_bytes_write(p, in, N));
	ok(sim_bytes_copy(q + 1, p, N - 1));
	ok(sim_bytes_read(out, q + 1, N - 1));
	assert_memory_equal(in, out, N - 1);
	ok(cuMemFree_v2(p));
	assert_int_equal(sim_bytes_read(out, p, 1), CUDA_ERROR_ILLEGAL_ADDRESS);
	ok(cuMemFree_v2(q));
	for (int i = 1; i < 64; i += 2)
		ok(cuMemFree_v2(hole[i]));
	free(in);
	free(out);
}

static void test_bytes__a_host_that_follows_a_device_pointer_faults(void **state)
{
	CUdeviceptr p;
	pid_t pid;

	ok(cuMemAlloc_v2(&p, FRAME));
	pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL); /* not cmocka's */
		*(volatile int *)(uintptr_t)p = 1;
		_exit(0);
	}
	assert_int_equal(simtest_wait(pid), -SIGSEGV);
	ok(cuMemFree_v2(p));
}

static void test_bytes__fresh_memory_is_zero(void **state)
{
	uint8_t *out = malloc(4 * FRAME);
	CUdeviceptr p;

	for (int round = 0; round < 3; round++) {
		ok(cuMemAlloc_v2(&p, 4 * FRAME));
		ok(sim_bytes_read(out, p, 4 * FRAME));
		for (size_t i = 0; i < 4 * FRAME; i++)
			assert_int_equal(out[i], 0);
		ok(sim_bytes_fill(p, 0xa5, 1, 4 * FRAME));
		ok(cuMemFree_v2(p));
	}
	free(out);
}

static void test_bytes__fills_repeat_their_element(void **state)
{
	uint8_t *out = malloc(N);
	CUdeviceptr p;

	ok(cuMemAlloc_v2(&p, N));
	ok(sim_bytes_fill(p, 0x11223344, 4, N / 4));
	ok(sim_bytes_fill(p + 2, 0xabcd, 2, 5));
	ok(sim_bytes_fill(p + 101, 0xee, 1, 3));
	/* Zero over whole frames, from the middle of one to the middle of another. */
	ok(sim_bytes_fill(p + 1000, 0, 4, (2 * FRAME) / 4));
	ok(sim_bytes_read(out, p, N));
	for (size_t i = 0; i + 4 <= N / 4 * 4; i += 4) {
		uint32_t word;

		memcpy(&word, out + i, 4);
		if (i >= 12 && i < 1000 && i != 100 && i != 104)
			assert_int_equal(word, 0x11223344);
		else if (i >= 1000 && i < 1000 + 2 * FRAME)
			assert_int_equal(word, 0);
		else if (i >= 1000 + 2 * FRAME)
			assert_int_equal(word, 0x11223344);
	}
	assert_int_equal(out[2], 0xcd);
	assert_int_equal(out[11], 0xab);
	assert_int_equal(out[12], 0x44);
	assert_int_equal(out[101], 0xee);
	assert_int_equal(out[104], 0x44);
	ok(sim_bytes_fill2d(p, 1000, 7, 1, 10, 3));
	ok(sim_bytes_read(out, p, 3000));
	assert_int_equal(out[2009], 7);
	assert_int_equal(out[2010] == 7, 0);
	ok(cuMemFree_v2(p));
	free(out);
}

/* Clearing a whole device takes no host memory; this would not fit. */
static void test_bytes__clearing_everything_costs_nothing(void **state)
{
	size_t left, total;
	CUdeviceptr p;
	uint8_t byte = 1;

	ok(cuMemGetInfo_v2(&left, &total));
	left = left / FRAME * FRAME;
	ok(cuMemAlloc_v2(&p, left));
	ok(sim_bytes_write(p + left / 2, &byte, 1));
	ok(sim_bytes_fill(p, 0, 1, left));
	ok(sim_bytes_read(&byte, p + left / 2, 1));
	assert_int_equal(byte, 0);
	ok(cuMemFree_v2(p));
}

static void test_bytes__boxes(void **state)
{
	CUDA_ARRAY3D_DESCRIPTOR desc = {.Width = 50,
					.Height = 20,
					.Depth = 3,
					.Format = CU_AD_FORMAT_UNSIGNED_INT16,
					.NumChannels = 2};
	uint8_t *in = pattern(256 * 20 * 3, 5), out[256 * 20 * 3] = {0};
	struct sim_box host = {.address = (uint64_t)(uintptr_t)in, .pitch = 256, .slice = 256 * 20};
	struct sim_box back = {
		.address = (uint64_t)(uintptr_t)out, .pitch = 256, .slice = 256 * 20};
	struct sim_box part;
	CUarray a;

	ok(cuArray3DCreate_v2(&a, &desc));
	part = (struct sim_box){.array = a};
	ok(sim_bytes_copy3d(&part, &host, 200, 20, 3));
	ok(sim_bytes_copy3d(&back, &part, 200, 20, 3));
	for (int row = 0; row < 60; row++)
		assert_memory_equal(out + row * 256, in + row * 256, 200);
	/* A part of it, to elsewhere. */
	part = (struct sim_box){.array = a, .x_bytes = 40, .y = 3, .z = 2};
	ok(sim_bytes_copy3d(&back, &part, 16, 2, 1));
	assert_memory_equal(out, in + 2 * 256 * 20 + 3 * 256 + 40, 16);
	assert_memory_equal(out + 256, in + 2 * 256 * 20 + 4 * 256 + 40, 16);
	/* Nothing beyond its edges. */
	assert_int_equal(sim_bytes_copy3d(&back, &part, 161, 1, 1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(sim_bytes_copy3d(&back, &part, 16, 18, 1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(sim_bytes_copy3d(&back, &part, 16, 2, 2), CUDA_ERROR_INVALID_VALUE);
	part.x_bytes = SIZE_MAX;
	assert_int_equal(sim_bytes_copy3d(&back, &part, 16, 2, 1), CUDA_ERROR_INVALID_VALUE);
	ok(cuArrayDestroy(a));
	part.x_bytes = 0;
	assert_int_equal(sim_bytes_copy3d(&back, &part, 16, 2, 1), CUDA_ERROR_INVALID_HANDLE);
	free(in);
}

/* Two addresses of the same physical memory are the same bytes; without access there are none. */
static void test_bytes__follow_mappings(void **state)
{
	const CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
	CUmemAccessDesc access = {.location = prop.location,
				  .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemGenericAllocationHandle h;
	struct sim_span span;
	uint32_t word = 42;
	CUdeviceptr va;

	ok(cuMemCreate(&h, 2 * FRAME, &prop, 0));
	ok(cuMemAddressReserve(&va, 4 * FRAME, 0, 0, 0));
	ok(cuMemMap(va, 2 * FRAME, 0, h, 0));
	ok(cuMemMap(va + 2 * FRAME, 2 * FRAME, 0, h, 0));
	assert_int_equal(sim_bytes_write(va, &word, 4), CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(sim_resolve(va, 4, &span), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemSetAccess(va, 4 * FRAME, &access, 1));
	ok(sim_resolve(va + FRAME, 3 * FRAME, &span)); /* across both */
	assert_int_equal(span.kind, SIM_MEMORY_VMM);
	assert_int_equal(sim_resolve(va + FRAME, 3 * FRAME + 1, &span), CUDA_ERROR_INVALID_VALUE);
	ok(sim_bytes_write(va + FRAME + 8, &word, 4));
	word = 0;
	ok(sim_bytes_read(&word, va + 3 * FRAME + 8, 4));
	assert_int_equal(word, 42);
	ok(cuMemUnmap(va, 4 * FRAME));
	ok(cuMemAddressFree(va, 4 * FRAME));
	ok(cuMemRelease(h));
}

static int set_up(void **state)
{
	simtest_context(0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes__survive_the_way_through_scattered_frames),
		cmocka_unit_test(test_bytes__a_host_that_follows_a_device_pointer_faults),
		cmocka_unit_test(test_bytes__fresh_memory_is_zero),
		cmocka_unit_test(test_bytes__fills_repeat_their_element),
		cmocka_unit_test(test_bytes__clearing_everything_costs_nothing),
		cmocka_unit_test(test_bytes__boxes),
		cmocka_unit_test(test_bytes__follow_mappings),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, set_up, NULL);
}
