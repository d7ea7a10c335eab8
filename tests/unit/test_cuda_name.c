/* SPDX-License-Identifier: Apache-2.0 */
/* The table of driver entry points: in order, complete in itself, and resolved as the driver does.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/cuda_name.h"

static void expect(const char *base, int version, uint64_t flags, const char *sym)
{
	const struct aq_cuda_entry *e = aq_cuda_entry_find(base, version, flags);

	if (!sym) {
		assert_null(e);
		return;
	}
	if (!e)
		fail_msg("%s@%d flags %d: nothing, expected %s", base, version, (int)flags, sym);
	assert_string_equal(e->sym, sym);
}

static void test_cuda_name__entries_are_sorted_and_unique(void **state)
{
	for (size_t i = 1; i < aq_cuda_n_entries; i++)
		assert_true(strcmp(aq_cuda_entries[i - 1].sym, aq_cuda_entries[i].sym) < 0);
}

static void test_cuda_name__every_symbol_is_found_by_itself(void **state)
{
	for (size_t i = 0; i < aq_cuda_n_entries; i++)
		assert_ptr_equal(aq_cuda_entry_by_symbol(aq_cuda_entries[i].sym),
				 &aq_cuda_entries[i]);
	assert_null(aq_cuda_entry_by_symbol("cuMemAlloc_v9"));
	assert_null(aq_cuda_entry_by_symbol("cuA"));
	assert_null(aq_cuda_entry_by_symbol("zz"));
	assert_null(aq_cuda_entry_by_symbol(""));
	assert_null(aq_cuda_entry_by_symbol(NULL));
}

static void test_cuda_name__table_agrees_with_parse(void **state)
{
	for (size_t i = 0; i < aq_cuda_n_entries; i++) {
		const struct aq_cuda_entry *e = &aq_cuda_entries[i];
		char base[AQ_CUDA_NAME_MAX];
		int abi, per_thread;

		assert_int_equal(aq_cuda_name_parse(e->sym, base, sizeof(base), &abi, &per_thread),
				 0);
		assert_int_equal(strlen(base), e->base_len);
		assert_int_equal(abi, e->abi);
		assert_int_equal(per_thread, e->per_thread);
	}
}

/* Each variant is what its own version asks for, so no entry point hides another. */
static void test_cuda_name__every_variant_is_reachable(void **state)
{
	for (size_t i = 0; i < aq_cuda_n_entries; i++) {
		const struct aq_cuda_entry *e = &aq_cuda_entries[i];
		char base[AQ_CUDA_NAME_MAX];
		int abi, per_thread;

		if (e->since == 0)
			continue;
		aq_cuda_name_parse(e->sym, base, sizeof(base), &abi, &per_thread);
		expect(base, e->since, per_thread ? AQ_CUDA_FIND_PER_THREAD : 0, e->sym);
	}
}

static void test_cuda_name__parse_takes_suffixes_off(void **state)
{
	char base[16];
	int abi, pt;

	assert_int_equal(aq_cuda_name_parse("cuMemcpyDtoH_v2_ptds", base, sizeof(base), &abi, &pt),
			 0);
	assert_string_equal(base, "cuMemcpyDtoH");
	assert_int_equal(abi, 2);
	assert_int_equal(pt, AQ_CUDA_PTDS);

	assert_int_equal(aq_cuda_name_parse("cuEventQuery", base, sizeof(base), &abi, &pt), 0);
	assert_string_equal(base, "cuEventQuery");
	assert_int_equal(abi, 1);
	assert_int_equal(pt, AQ_CUDA_PLAIN);

	/* only these spellings are suffixes */
	assert_int_equal(aq_cuda_name_parse("cuA_v1", base, sizeof(base), &abi, &pt), 0);
	assert_string_equal(base, "cuA_v1");
	assert_int_equal(aq_cuda_name_parse("cuA_ptsz_v2", base, sizeof(base), &abi, &pt), 0);
	assert_string_equal(base, "cuA_ptsz");
}

static void test_cuda_name__parse_refuses_and_touches_nothing(void **state)
{
	char base[4] = "abc";
	int abi = -7, pt = -7;

	assert_int_equal(aq_cuda_name_parse(NULL, base, sizeof(base), &abi, &pt), -EINVAL);
	assert_int_equal(aq_cuda_name_parse("", base, sizeof(base), &abi, &pt), -EINVAL);
	assert_int_equal(aq_cuda_name_parse("cuInit", base, sizeof(base), &abi, &pt),
			 -ENAMETOOLONG);
	assert_int_equal(aq_cuda_name_parse("cuIn", base, sizeof(base), &abi, &pt), -ENAMETOOLONG);
	assert_string_equal(base, "abc");
	assert_int_equal(abi, -7);
	assert_int_equal(pt, -7);
	assert_int_equal(aq_cuda_name_parse("cuI", base, sizeof(base), &abi, &pt), 0);
}

static void test_cuda_name__newest_variant_not_newer_than_asked(void **state)
{
	expect("cuCtxCreate", 2000, 0, "cuCtxCreate");
	expect("cuCtxCreate", 3020, 0, "cuCtxCreate_v2");
	expect("cuCtxCreate", 11030, 0, "cuCtxCreate_v2");
	expect("cuCtxCreate", 11040, 0, "cuCtxCreate_v3");
	expect("cuCtxCreate", 12050, 0, "cuCtxCreate_v4");
	expect("cuCtxCreate", 99000, 0, "cuCtxCreate_v4");
	expect("cuCtxGetDevice", 12090, 0, "cuCtxGetDevice");
	expect("cuCtxGetDevice", 13000, 0, "cuCtxGetDevice_v2");
	expect("cuDevicePrimaryCtxRelease", 7000, 0, "cuDevicePrimaryCtxRelease");
	expect("cuDevicePrimaryCtxRelease", 11000, 0, "cuDevicePrimaryCtxRelease_v2");
	expect("cuGetProcAddress", 11030, 0, "cuGetProcAddress");
	expect("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2");
	expect("cuMemcpyBatchAsync", 12080, 0, "cuMemcpyBatchAsync");
	expect("cuMemcpyBatchAsync", 13000, 0, "cuMemcpyBatchAsync_v2");
	expect("cuStreamBeginCapture", 10000, 0, "cuStreamBeginCapture");
	expect("cuStreamBeginCapture", 10010, 0, "cuStreamBeginCapture_v2");
	expect("cuMemAlloc", 2000, 0, "cuMemAlloc");
	expect("cuMemAlloc", 12000, 0, "cuMemAlloc_v2");
}

/* The one base name whose newest variant is spelled otherwise. */
static void test_cuda_name__alias(void **state)
{
	expect("cuGraphInstantiate", 10000, 0, "cuGraphInstantiate");
	expect("cuGraphInstantiate", 11000, 0, "cuGraphInstantiate_v2");
	expect("cuGraphInstantiate", 11030, 0, "cuGraphInstantiate_v2");
	expect("cuGraphInstantiate", 12000, 0, "cuGraphInstantiateWithFlags");
	expect("cuGraphInstantiate", 12000, AQ_CUDA_FIND_PER_THREAD, "cuGraphInstantiateWithFlags");
	expect("cuGraphInstantiateWithFlags", 11040, 0, "cuGraphInstantiateWithFlags");
	expect("cuGraphInstantiateWithParams", 12000, AQ_CUDA_FIND_PER_THREAD,
	       "cuGraphInstantiateWithParams_ptsz");
}

static void test_cuda_name__per_thread_flag_takes_the_twin(void **state)
{
	expect("cuMemAllocAsync", 11020, AQ_CUDA_FIND_PER_THREAD, "cuMemAllocAsync_ptsz");
	expect("cuMemAllocAsync", 11020, 0, "cuMemAllocAsync");
	expect("cuMemAllocAsync", 11020, 1, "cuMemAllocAsync");
	expect("cuMemcpyHtoD", 7000, AQ_CUDA_FIND_PER_THREAD, "cuMemcpyHtoD_v2_ptds");
	expect("cuStreamBeginCapture", 10010, AQ_CUDA_FIND_PER_THREAD,
	       "cuStreamBeginCapture_v2_ptsz");
	expect("cuMemcpyBatchAsync", 12080, AQ_CUDA_FIND_PER_THREAD, "cuMemcpyBatchAsync_ptsz");
	expect("cuMemcpyBatchAsync", 13000, AQ_CUDA_FIND_PER_THREAD, "cuMemcpyBatchAsync_v2_ptsz");
	/* no twin at all, and a twin that is too new */
	expect("cuMemAlloc", 12000, AQ_CUDA_FIND_PER_THREAD, "cuMemAlloc_v2");
	expect("cuMemcpyHtoD", 3020, AQ_CUDA_FIND_PER_THREAD, "cuMemcpyHtoD_v2");
}

static void test_cuda_name__too_old_is_not_unknown(void **state)
{
	char longer[300];

	expect("cuMemAllocAsync", 11010, 0, NULL);
	assert_true(aq_cuda_base_known("cuMemAllocAsync"));
	expect("cuMemAlloc", 1000, 0, NULL);
	expect("cuMemAlloc", INT_MIN, 0, NULL);
	assert_true(aq_cuda_base_known("cuMemAlloc"));

	expect("cuNoSuchThing", 13000, 0, NULL);
	assert_false(aq_cuda_base_known("cuNoSuchThing"));
	expect("", 13000, 0, NULL);
	assert_false(aq_cuda_base_known(""));
	assert_false(aq_cuda_base_known(NULL));

	/* suffixes are no part of a base name, and variables are no entry points */
	assert_false(aq_cuda_base_known("cuMemAlloc_v2"));
	assert_false(aq_cuda_base_known("cuMemAllocAsync_ptsz"));
	assert_false(aq_cuda_base_known("cudbgIpcFlag"));

	memset(longer, 'c', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_false(aq_cuda_base_known(longer));
}

static void test_cuda_name__roles(void **state)
{
	assert_int_equal(aq_cuda_entry_by_symbol("cuMemAlloc_v2")->role, AQ_CUDA_CHARGE);
	assert_int_equal(aq_cuda_entry_by_symbol("cuLaunchKernel_ptsz")->role, AQ_CUDA_SUBMIT);
	assert_int_equal(aq_cuda_entry_by_symbol("cuGetProcAddress")->role, AQ_CUDA_RESOLVE);
	assert_string_equal(aq_cuda_role_name(AQ_CUDA_CHARGE), "CHARGE");
	assert_string_equal(aq_cuda_role_name(AQ_CUDA_PASS), "PASS");
	assert_string_equal(aq_cuda_role_name((enum aq_cuda_role)99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuda_name__entries_are_sorted_and_unique),
		cmocka_unit_test(test_cuda_name__every_symbol_is_found_by_itself),
		cmocka_unit_test(test_cuda_name__table_agrees_with_parse),
		cmocka_unit_test(test_cuda_name__every_variant_is_reachable),
		cmocka_unit_test(test_cuda_name__parse_takes_suffixes_off),
		cmocka_unit_test(test_cuda_name__parse_refuses_and_touches_nothing),
		cmocka_unit_test(test_cuda_name__newest_variant_not_newer_than_asked),
		cmocka_unit_test(test_cuda_name__alias),
		cmocka_unit_test(test_cuda_name__per_thread_flag_takes_the_twin),
		cmocka_unit_test(test_cuda_name__too_old_is_not_unknown),
		cmocka_unit_test(test_cuda_name__roles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
