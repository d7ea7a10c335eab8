/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that need not be there: what nobody wrote stays a hole wherever it is copied, what was
 * written comes through byte by byte, and frames that are used again read zero. */
#include "simtest.h"

#include "sim.h"

#define BIG (64 * FRAME)
#define PAGE ((size_t)SIM_HOST_PAGE_BYTES)

static CUdeviceptr take(size_t bytes)
{
	CUdeviceptr p;

	ok(cuMemAlloc_v2(&p, bytes));
	return p;
}

static uint8_t *host(size_t bytes)
{
	void *p;

	ok(cuMemHostAlloc(&p, bytes, 0));
	return p;
}

/* Memory of the host that this process has. */
static uint64_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long total, pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu %llu", &total, &pages), 2);
	fclose(f);
	return pages * PAGE;
}

static void test_sparse__what_nobody_wrote_costs_nothing_to_copy(void **state)
{
	uint64_t before = simtest_host_bytes(0), mine = resident();
	CUdeviceptr p = take(BIG), q = take(BIG);
	uint8_t *bytes = host(BIG);

	ok(cuMemcpyDtoH_v2(bytes, p, BIG));
	ok(cuMemcpyHtoD_v2(q, bytes, BIG));
	ok(cuMemcpyDtoD_v2(p, q, BIG));
	ok(cuCtxSynchronize());
	assert_int_equal(simtest_host_bytes(0), before);
	assert_in_range(resident(), 0, mine + BIG / 4);
	ok(cuMemFreeHost(bytes));
	ok(cuMemFree_v2(p));
	ok(cuMemFree_v2(q));
}

/* Pages here and there, one of them in two frames, one that is only zeros. */
static void scatter(uint8_t *bytes)
{
	static const size_t at[] = {0, 3 * PAGE + 17, FRAME - 5, 9 * FRAME + 100 * PAGE,
				    BIG - 1};

	memset(bytes, 0, BIG);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		for (size_t n = 0; n < 3000 && at[i] + n < BIG; n++)
			bytes[at[i] + n] = (uint8_t)(n * 7 + i + 1);
	memset(bytes + 20 * FRAME, 0x5a, 3 * FRAME);
	memset(bytes + 21 * FRAME + PAGE, 0, PAGE);
}

/* Written: some pages and three frames, less a page. */
#define SCATTERED_MAX (3 * FRAME + 16 * PAGE)

static void test_sparse__written_bytes_come_through(void **state)
{
	uint8_t *want = host(BIG), *got = host(BIG);
	uint64_t before = simtest_host_bytes(0);
	CUdeviceptr p = take(BIG), q = take(BIG), r = take(BIG);

	scatter(want);
	ok(cuMemcpyHtoD_v2(p, want, BIG));
	assert_in_range(simtest_host_bytes(0), before + 1, before + SCATTERED_MAX);
	memset(got, 0xff, BIG); /* what was there before must not stay */
	ok(cuMemcpyDtoH_v2(got, p, BIG));
	assert_memory_equal(got, want, BIG);
	ok(cuMemcpyDtoD_v2(q, p, BIG));
	ok(cuMemcpyDtoD_v2(r + FRAME / 2, p, BIG - FRAME / 2)); /* at another place in frames */
	ok(cuCtxSynchronize());
	assert_in_range(simtest_host_bytes(0), before + 1, before + 3 * SCATTERED_MAX);
	memset(got, 0xff, BIG);
	ok(cuMemcpyDtoH_v2(got, q, BIG));
	assert_memory_equal(got, want, BIG);
	memset(got, 0xff, BIG);
	ok(cuMemcpyDtoH_v2(got, r + FRAME / 2, BIG - FRAME / 2));
	assert_memory_equal(got, want, BIG - FRAME / 2);
	/* Holes over what is there. */
	ok(cuMemsetD8_v2(q, 0xee, BIG));
	ok(cuMemcpyHtoD_v2(q, want, BIG));
	memset(got, 0xff, BIG);
	ok(cuMemcpyDtoH_v2(got, q, BIG));
	assert_memory_equal(got, want, BIG);
	ok(cuMemFree_v2(p));
	ok(cuMemFree_v2(q));
	ok(cuMemFree_v2(r));
	ok(cuMemFreeHost(want));
	ok(cuMemFreeHost(got));
}

/* Leave frames behind that are full of something else. */
static CUdeviceptr used_before(void)
{
	CUdeviceptr p = take(BIG);
	uint64_t full;

	ok(cuMemsetD8_v2(p, 0x77, BIG));
	ok(cuCtxSynchronize());
	full = simtest_host_bytes(0);
	ok(cuMemFree_v2(p));
	assert_int_equal(simtest_host_bytes(0), full); /* they are kept: else this tests nothing */
	return take(BIG);
}

static void compare(CUdeviceptr p, const uint8_t *want)
{
	uint8_t *got = host(BIG);

	memset(got, 0xff, BIG);
	ok(cuMemcpyDtoH_v2(got, p, BIG));
	assert_memory_equal(got, want, BIG);
	ok(cuMemFree_v2(p));
	ok(cuMemFreeHost(got));
}

static void test_sparse__frames_used_again_read_zero(void **state)
{
	uint8_t *want = calloc(1, BIG), *pieces = calloc(1, BIG);
	CUdeviceptr p;
	uint8_t *run_bytes;
	size_t run;

	assert_non_null(want);
	assert_non_null(pieces);
	compare(used_before(), want); /* as they are */

	p = used_before(); /* a byte here and there, through each way in */
	ok(cuMemsetD8_v2(p + 5, 1, 1));
	want[5] = 1;
	ok(cuMemsetD8_v2(p + 2 * FRAME, 0, FRAME / 2));
	ok(cuMemsetD8_v2(p + 4 * FRAME, 0, FRAME));
	ok(sim_bytes_write(p + 7 * FRAME - 2, "abcd", 4));
	memcpy(want + 7 * FRAME - 2, "abcd", 4);
	run_bytes = sim_bytes_at(p + 10 * FRAME + 9, &run);
	assert_non_null(run_bytes);
	assert_int_equal(run_bytes[0], 0);
	run_bytes[0] = 3;
	want[10 * FRAME + 9] = 3;
	sim_bytes_done();
	compare(p, want);

	p = used_before(); /* whole frames of mixed content, and pieces of frames */
	scatter(want);
	ok(cuMemcpyHtoD_v2(p, want, BIG));
	compare(p, want);
	p = used_before();
	memset(want, 0, BIG);
	memset(want + FRAME / 2, 9, 3 * FRAME);
	memset(pieces, 9, 3 * FRAME);
	ok(cuMemcpyHtoD_v2(p + FRAME / 2, pieces, 3 * FRAME));
	compare(p, want);
	p = used_before(); /* and from there to elsewhere */
	ok(cuMemsetD8_v2(p + BIG / 2, 4, BIG / 2));
	ok(cuMemcpyDtoD_v2(p + BIG / 2, p, BIG / 4));
	memset(want, 0, BIG);
	memset(want + BIG / 4 * 3, 4, BIG / 4);
	compare(p, want);
	free(want);
	free(pieces);
}

/* Zeros that come back into frames that were others' are holes again, and cost no more to copy. */
static void test_sparse__holes_survive_frames_used_again(void **state)
{
	uint8_t *zeros = host(BIG), *out = host(BIG);
	CUdeviceptr p = used_before();
	uint64_t before;

	ok(cuMemcpyHtoD_v2(p, zeros, BIG));
	before = resident();
	ok(cuMemcpyDtoH_v2(out, p, BIG));
	assert_in_range(resident(), 0, before + BIG / 4);
	for (size_t i = 0; i < BIG; i += PAGE / 2)
		assert_int_equal(out[i], 0);
	ok(cuMemFree_v2(p));
	ok(cuMemFreeHost(zeros));
	ok(cuMemFreeHost(out));
}

static int set_up(void **state)
{
	simtest_context(0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sparse__what_nobody_wrote_costs_nothing_to_copy),
		cmocka_unit_test(test_sparse__written_bytes_come_through),
		cmocka_unit_test(test_sparse__frames_used_again_read_zero),
		cmocka_unit_test(test_sparse__holes_survive_frames_used_again),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, set_up, NULL);
}
