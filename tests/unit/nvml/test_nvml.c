/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's view of an NVML library, with a fake one of today and one of an old driver. */
#include "../oom.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "fake_nvml.h"
#include "nvml/nvml.h"

static const char *paths[2]; /* today's, old; from the command line */
static struct fake_nvml *fake;
static struct aq_nvml *nvml;

/* The library is loaded twice, here and there, and so is one. */
static int open_fake(int which)
{
	void *library = dlopen(paths[which], RTLD_NOW | RTLD_LOCAL);

	assert_non_null(library);
	fake = dlsym(library, "fake");
	assert_non_null(fake);
	memset(fake, 0, sizeof(*fake));
	return aq_nvml_open(paths[which], &nvml);
}

static int set_up(void **state)
{
	return open_fake(0);
}

static int set_up_old(void **state)
{
	return open_fake(1);
}

static int tear_down(void **state)
{
	aq_nvml_close(nvml);
	assert_int_equal(fake->inits, fake->shutdowns);
	return 0;
}

static void test_nvml__device_as_the_library_tells_it(void **state)
{
	const uint8_t uuid[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
				  0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	struct aq_nvml_device d;
	uint64_t used;

	assert_int_equal(aq_nvml_device_count(nvml), 1);
	assert_int_equal(aq_nvml_device_info(nvml, 0, &d), 0);
	assert_memory_equal(d.uuid, uuid, 16);
	assert_string_equal(d.name, "NVIDIA Fake");
	assert_string_equal(d.pci_bus_id, "00000000:1B:00.0");
	assert_string_equal(d.driver_version, "550.54.15");
	assert_true(d.memory_total_bytes == FAKE_TOTAL - FAKE_RESERVED);
	assert_int_equal(d.minor, 3);
	assert_int_equal(d.capability_major, 9);
	assert_true(d.mig_enabled);
	assert_int_equal(aq_nvml_memory_used(nvml, 0, &used), 0);
	assert_true(used == FAKE_USED);
}

static void test_nvml__no_such_device(void **state)
{
	struct aq_nvml_device d;
	struct aq_nvml_process p;
	uint64_t used;

	assert_int_equal(aq_nvml_device_info(nvml, 1, &d), -ENOENT);
	assert_int_equal(aq_nvml_memory_used(nvml, 1, &used), -ENOENT);
	assert_int_equal(aq_nvml_processes(nvml, 1, &p, 1), -ENOENT);
}

static void test_nvml__processes_and_unknown_use(void **state)
{
	struct aq_nvml_process p[FAKE_PIDS];

	assert_int_equal(aq_nvml_processes(nvml, 0, p, FAKE_PIDS), 0);
	fake->n_processes = 2;
	fake->pids[0] = 10;
	fake->used[0] = 4096;
	fake->pids[1] = 4194304;
	fake->used[1] = ~0ull;
	assert_int_equal(aq_nvml_processes(nvml, 0, p, FAKE_PIDS), 2);
	assert_int_equal(p[0].pid, 10);
	assert_true(p[0].used_bytes == 4096);
	assert_int_equal(p[1].pid, 4194304);
	assert_true(p[1].used_bytes == AQ_NVML_UNKNOWN);
}

static void test_nvml__more_processes_than_room_writes_none(void **state)
{
	struct aq_nvml_process p[2] = {{.pid = 77}};

	fake->n_processes = 3;
	assert_int_equal(aq_nvml_processes(nvml, 0, p, 2), -ENOSPC);
	assert_int_equal(p[0].pid, 77);
}

static void test_nvml__utilisations(void **state)
{
	struct aq_nvml_utilisation u[FAKE_PIDS] = {{.pid = 77}};

	fake->n_processes = 2;
	fake->pids[0] = 10;
	fake->pids[1] = 4194304;
	assert_int_equal(aq_nvml_utilisations(nvml, 0, 0, u, 1), -ENOSPC);
	assert_int_equal(u[0].pid, 77);
	assert_int_equal(aq_nvml_utilisations(nvml, 0, 0, u, FAKE_PIDS), 2);
	assert_int_equal(u[0].pid, 10);
	assert_int_equal(u[0].sm_percent, 10);
	assert_int_equal(u[0].time_us, 1000);
	assert_int_equal(u[1].pid, 4194304);
	assert_int_equal(u[1].sm_percent, 11);
	fake->n_processes = 0;
	assert_int_equal(aq_nvml_utilisations(nvml, 0, 1000, u, FAKE_PIDS), 0);
	assert_int_equal(aq_nvml_utilisations(nvml, 1, 0, u, FAKE_PIDS), -ENOENT);
}

static void test_nvml__list_that_grows_is_read_again(void **state)
{
	struct aq_nvml_process p[FAKE_PIDS];

	fake->n_processes = 2;
	fake->grow = 100;
	assert_int_equal(aq_nvml_processes(nvml, 0, p, FAKE_PIDS), 2);
}

static void test_nvml__old_driver_counts_the_reserved_part(void **state)
{
	struct aq_nvml_device d;
	uint64_t used;

	assert_int_equal(aq_nvml_device_info(nvml, 0, &d), 0);
	assert_true(d.memory_total_bytes == FAKE_TOTAL);
	assert_int_equal(d.minor, UINT32_MAX);
	assert_int_equal(d.capability_major, 0);
	assert_string_equal(d.pci_bus_id, "");
	assert_false(d.mig_enabled);
	assert_int_equal(aq_nvml_memory_used(nvml, 0, &used), 0);
	assert_true(used == FAKE_USED + FAKE_RESERVED);
}

static void test_nvml__old_driver_lists_processes_too(void **state)
{
	struct aq_nvml_process p[FAKE_PIDS];

	fake->n_processes = 1;
	fake->pids[0] = 5;
	fake->used[0] = 6;
	assert_int_equal(aq_nvml_processes(nvml, 0, p, FAKE_PIDS), 1);
	assert_int_equal(p[0].pid, 5);
	assert_true(p[0].used_bytes == 6);
}

static void test_nvml__only_the_simulator_makes_devices(void **state)
{
	assert_int_equal(aq_nvml_sim_add(nvml, "/nowhere", "h100"), -ENOSYS);
	assert_int_equal(aq_nvml_sim_remove(nvml, "/nowhere"), -ENOSYS);
}

static void test_nvml__library_that_is_not_there(void **state)
{
	struct aq_nvml *none = NULL;

	assert_int_equal(aq_nvml_open("/nowhere/libnvidia-ml.so.1", &none), -ENOENT);
	assert_null(none);
	aq_nvml_close(NULL);
}

static void test_nvml__driver_that_is_not_there(void **state)
{
	struct aq_nvml *none = NULL;

	fake->init_status = NVML_ERROR_DRIVER_NOT_LOADED;
	assert_int_equal(aq_nvml_open(paths[0], &none), -ENOENT);
	fake->init_status = NVML_ERROR_LIB_RM_VERSION_MISMATCH;
	assert_int_equal(aq_nvml_open(paths[0], &none), -EIO);
	assert_null(none);
}

/* With the guard's face in front of it in LD_LIBRARY_PATH: total would be the fraction's. */
static int behind_the_face(void)
{
	void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	struct aq_nvml *n = NULL;
	struct aq_nvml_device d;
	int r;

	setenv("ALIQUOT_FRACTION", "promised", 1); /* no daemon: the face would refuse */
	if (!library || !dlsym(library, "fake"))
		return 90;
	r = aq_nvml_open(NULL, &n);
	if (r == 0)
		r = aq_nvml_device_info(n, 0, &d);
	if (r < 0)
		return -r;
	aq_nvml_close(n);
	return d.memory_total_bytes == FAKE_TOTAL - FAKE_RESERVED ? 0 : 91;
}

static int open_and_list(void)
{
	struct aq_nvml_process p[FAKE_PIDS];
	struct aq_nvml *other = NULL;
	int r = aq_nvml_open(paths[0], &other);

	if (r == 0)
		r = aq_nvml_processes(other, 0, p, FAKE_PIDS);
	aq_nvml_close(other);
	if (r < 0)
		return r;
	assert_int_equal(r, 3);
	return 0;
}

/* Every allocation fails once: nothing is half done, and what was there still works. */
static void test_nvml__memory_runs_out_anywhere(void **state)
{
	struct aq_nvml_process p[FAKE_PIDS];

	fake->n_processes = 3;
	assert_true(oom_walk(open_and_list, -ENOMEM) > 3);
	assert_int_equal(aq_nvml_processes(nvml, 0, p, FAKE_PIDS), 3);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define T_OLD(name) cmocka_unit_test_setup_teardown(name, set_up_old, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_nvml__device_as_the_library_tells_it),
		T(test_nvml__no_such_device),
		T(test_nvml__processes_and_unknown_use),
		T(test_nvml__more_processes_than_room_writes_none),
		T(test_nvml__utilisations),
		T(test_nvml__list_that_grows_is_read_again),
		T_OLD(test_nvml__old_driver_counts_the_reserved_part),
		T_OLD(test_nvml__old_driver_lists_processes_too),
		T(test_nvml__only_the_simulator_makes_devices),
		T(test_nvml__library_that_is_not_there),
		T(test_nvml__driver_that_is_not_there),
		T(test_nvml__memory_runs_out_anywhere),
	};

	if (argc == 2 && !strcmp(argv[1], "behind-the-face"))
		return behind_the_face();
	if (argc != 3)
		return 99;
	paths[0] = argv[1];
	paths[1] = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
