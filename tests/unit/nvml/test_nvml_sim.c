/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated NVML library: through the daemon's view of it where that reaches, by its own entry
 * points else. A machine in a directory of its own; its users are children of the test.
 */
#include "../cm.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/name.h"
#include "base/timing.h"
#include "nvml/nvml.h"
#include "nvml/nvml_abi.h"
#include "sim/machine.h"

#define FRAMES 512u
#define OVERHEAD (300ull << 20)

static const char *library; /* from the command line */
static char dir[] = "/tmp/aq-nvml-sim-XXXXXX";
static struct aq_nvml *nvml;

static struct {
#define AQ_NVML(sym, role, params, args) nvmlReturn_t(*sym) params;
#define AQ_NVML_UNTYPED(sym, role)
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED
	const char *(*nvmlErrorString)(nvmlReturn_t);
} nv;

static int set_up(void **state)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	assert_non_null(handle);
#define AQ_NVML(sym, role, params, args) *(void **)&nv.sym = dlsym(handle, #sym);
#define AQ_NVML_UNTYPED(sym, role)
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED
	*(void **)&nv.nvmlErrorString = dlsym(handle, "nvmlErrorString");
	assert_non_null(mkdtemp(dir));
	setenv("XDG_RUNTIME_DIR", dir, 1);
	unsetenv("ALIQUOT_SIM");
	unsetenv("ALIQUOT_SIM_DIR");
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	aq_nvml_sim_remove(nvml, dir);
	aq_nvml_close(nvml);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* A process with memory and a context that computes for long; ends by kill(). */
static pid_t user_of(uint32_t device)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct sim_machine m = {0};
		uint32_t first, index;
		struct sim_engine *e;
		uint64_t id, number, now = aq_now_ns();

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (sim_machine_open(&m, dir) || sim_machine_join(&m) ||
		    sim_overhead_charge(&m, device, OVERHEAD) ||
		    sim_frames_alloc(&m, device, FRAMES, &first, &id))
			_exit(1);
		e = sim_engine_lock(&m, device);
		if (sim_engine_attach(e, m.self, getpid(), &index) ||
		    sim_engine_push(e, index, now, 1000 * AQ_NS_PER_S, now, &number))
			_exit(2);
		m.shared->processes[m.self].on[device].contexts++;
		sim_engine_unlock(&m, device);
		if (write(ready[1], "", 1) != 1)
			_exit(3);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_sim__no_machine_is_no_driver(void **state)
{
	struct aq_nvml_device d;
	struct aq_nvml *none = NULL;
	unsigned int n;

	assert_int_equal(nv.nvmlInit_v2(), NVML_ERROR_DRIVER_NOT_LOADED);
	assert_int_equal(nv.nvmlDeviceGetCount_v2(&n), NVML_ERROR_UNINITIALIZED);
	assert_int_equal(nv.nvmlShutdown(), NVML_ERROR_UNINITIALIZED);
	/* The loader would find the simulator under the system's name: that is no real driver. */
	assert_int_equal(aq_nvml_open(NULL, &none), -ENOENT);
	/* The daemon opens it before there is a machine. */
	assert_int_equal(aq_nvml_open(library, &nvml), 0);
	assert_int_equal(aq_nvml_device_count(nvml), 0);
	assert_int_equal(aq_nvml_device_info(nvml, 0, &d), -ENOENT);
	assert_int_equal(aq_nvml_sim_add(nvml, dir, "h1000"), -EINVAL);
	assert_int_equal(aq_nvml_sim_add(nvml, dir, "h100:2,rtx4090"), 0);
	assert_int_equal(aq_nvml_device_count(nvml), 3);
	assert_int_equal(aq_nvml_sim_add(nvml, dir, "h100:2,rtx4090"), 0);
	assert_int_equal(aq_nvml_device_count(nvml), 3);
}

static void test_sim__device_agrees_with_itself(void **state)
{
	nvmlMemory_v2_t v2 = {.version = NVML_STRUCT_VERSION(Memory, 2)};
	char text[96], serial[32];
	struct aq_nvml_device d;
	nvmlPciInfo_t pci;
	nvmlDevice_t h, again;
	nvmlMemory_t v1;

	assert_int_equal(aq_nvml_device_info(nvml, 1, &d), 0);
	assert_string_equal(d.name, "NVIDIA H100 80GB HBM3");
	assert_string_equal(d.driver_version, SIM_DRIVER_TEXT);
	assert_int_equal(d.capability_major, 9);
	assert_int_equal(d.minor, 1);
	assert_false(d.mig_enabled);

	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(1, &h), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetMemoryInfo(h, &v1), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetMemoryInfo_v2(h, &v2), NVML_SUCCESS);
	assert_true(v1.total == v2.total && v2.total - v2.reserved == d.memory_total_bytes);
	assert_true(v2.reserved + v2.free + v2.used == v2.total && v2.used == 0);
	assert_true(v1.used == v2.reserved);
	v2.version = 0;
	assert_int_equal(nv.nvmlDeviceGetMemoryInfo_v2(h, &v2),
			 NVML_ERROR_ARGUMENT_VERSION_MISMATCH);

	assert_int_equal(nv.nvmlDeviceGetPciInfo_v3(h, &pci), NVML_SUCCESS);
	assert_string_equal(pci.busId, d.pci_bus_id);
	assert_int_equal(nv.nvmlDeviceGetHandleByPciBusId_v2(pci.busId, &again), NVML_SUCCESS);
	assert_ptr_equal(h, again);
	assert_int_equal(nv.nvmlDeviceGetHandleByPciBusId_v2(pci.busIdLegacy, &again),
			 NVML_SUCCESS);
	assert_ptr_equal(h, again);
	assert_int_equal(nv.nvmlDeviceGetHandleByPciBusId_v2(pci.busId + 5, &again), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetHandleByPciBusId_v2("0000:ff:00.0", &again),
			 NVML_ERROR_NOT_FOUND);
	assert_int_equal(nv.nvmlDeviceGetHandleByPciBusId_v2("17", &again),
			 NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nv.nvmlDeviceGetUUID(h, text, sizeof(text)), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetUUID(h, text, 40), NVML_ERROR_INSUFFICIENT_SIZE);
	assert_int_equal(nv.nvmlDeviceGetHandleByUUID(text, &again), NVML_SUCCESS);
	assert_ptr_equal(h, again);
	assert_int_equal(nv.nvmlDeviceGetSerial(h, serial, sizeof(serial)), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetHandleBySerial(serial, &again), NVML_SUCCESS);
	assert_ptr_equal(h, again);
}

/* v1 ends before the sub-system id, v2 before the longer text: nothing behind may be written. */
static void test_sim__older_forms_write_no_more_than_they_are(void **state)
{
	unsigned char bytes[sizeof(nvmlPciInfo_t) + 8];
	nvmlDevice_t h;

	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(0, &h), NVML_SUCCESS);
	memset(bytes, 0xaa, sizeof(bytes));
	assert_int_equal(nv.nvmlDeviceGetPciInfo(h, (nvmlPciInfo_t *)bytes), NVML_SUCCESS);
	assert_int_equal(bytes[32], 0xaa);
	memset(bytes, 0xaa, sizeof(bytes));
	assert_int_equal(nv.nvmlDeviceGetPciInfo_v2(h, (nvmlPciInfo_t *)bytes), NVML_SUCCESS);
	assert_int_equal(bytes[36], 0xaa);
}

static void test_sim__bad_handles(void **state)
{
	unsigned int minor;
	nvmlDevice_t h;
	nvmlMemory_t memory;

	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(3, &h), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(0, &h), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetMemoryInfo(NULL, &memory), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nv.nvmlDeviceGetMemoryInfo((nvmlDevice_t)&minor, &memory),
			 NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nv.nvmlDeviceGetMemoryInfo(h, NULL), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nv.nvmlDeviceGetMinorNumber(h, NULL), NVML_ERROR_INVALID_ARGUMENT);
	/* One past the last device, where a handle of a later one would be. */
	assert_int_equal(nv.nvmlDeviceGetMinorNumber((nvmlDevice_t)((char *)h + 3), &minor),
			 NVML_ERROR_INVALID_ARGUMENT);
}

static void test_sim__processes_come_and_die(void **state)
{
	struct aq_nvml_process p[4];
	uint64_t bytes = FRAMES * SIM_FRAME_BYTES + OVERHEAD, used;
	nvmlProcessInfo_t infos[4];
	unsigned int n = 0;
	nvmlDevice_t h;
	char name[64];
	pid_t a = user_of(1), b = user_of(1);

	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(1, &h), NVML_SUCCESS);
	assert_int_equal(aq_nvml_processes(nvml, 0, p, 4), 0);
	assert_int_equal(aq_nvml_processes(nvml, 1, p, 4), 2);
	assert_true((p[0].pid == a && p[1].pid == b) || (p[0].pid == b && p[1].pid == a));
	assert_true(p[0].used_bytes == bytes && p[1].used_bytes == bytes);
	assert_int_equal(aq_nvml_memory_used(nvml, 1, &used), 0);
	assert_true(used == 2 * bytes);
	assert_int_equal(nv.nvmlDeviceGetComputeRunningProcesses_v3(h, &n, NULL),
			 NVML_ERROR_INSUFFICIENT_SIZE);
	assert_int_equal(n, 2);
	assert_int_equal(nv.nvmlDeviceGetComputeRunningProcesses_v3(h, &n, infos), NVML_SUCCESS);
	n = 4;
	assert_int_equal(nv.nvmlDeviceGetGraphicsRunningProcesses_v3(h, &n, infos), NVML_SUCCESS);
	assert_int_equal(n, 0);
	assert_int_equal(nv.nvmlSystemGetProcessName((unsigned int)a, name, sizeof(name)),
			 NVML_SUCCESS);
	assert_non_null(strstr(name, "test_nvml_sim"));

	end(a);
	assert_int_equal(aq_nvml_processes(nvml, 1, p, 4), 1);
	assert_int_equal(p[0].pid, b);
	end(b);
	assert_int_equal(aq_nvml_processes(nvml, 1, p, 4), 0);
	assert_int_equal(aq_nvml_memory_used(nvml, 1, &used), 0);
	assert_true(used == 0);
	assert_int_equal(nv.nvmlSystemGetProcessName((unsigned int)b, name, sizeof(name)),
			 NVML_ERROR_NOT_FOUND);
}

/* Two contexts that always compute share the device; alone, one has it all. */
static void test_sim__rates_follow_the_engine(void **state)
{
	nvmlProcessUtilizationSample_t samples[4];
	nvmlSample_t past[64];
	nvmlUtilization_t rates;
	nvmlValueType_t type;
	unsigned int idle_mw, busy_mw, mhz, n = 4;
	nvmlDevice_t h;
	pid_t a, b;

	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(0, &h), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetUtilizationRates(h, &rates), NVML_SUCCESS);
	assert_int_equal(rates.gpu, 0);
	assert_int_equal(nv.nvmlDeviceGetPowerUsage(h, &idle_mw), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetProcessUtilization(h, samples, &n, 0),
			 NVML_ERROR_NOT_FOUND);
	a = user_of(0);
	b = user_of(0);
	/* The time before both had work counts, too, and is long on a busy machine. */
	for (int tries = 0; tries < 25 && rates.gpu < 80; tries++) {
		usleep(200000);
		assert_int_equal(nv.nvmlDeviceGetUtilizationRates(h, &rates), NVML_SUCCESS);
	}
	assert_in_range(rates.gpu, 80, 100);
	assert_int_equal(nv.nvmlDeviceGetPowerUsage(h, &busy_mw), NVML_SUCCESS);
	assert_true(busy_mw > 2 * idle_mw && busy_mw <= 700000);
	assert_int_equal(nv.nvmlDeviceGetClockInfo(h, NVML_CLOCK_SM, &mhz), NVML_SUCCESS);
	assert_int_equal(mhz, 1980);
	n = 4;
	assert_int_equal(nv.nvmlDeviceGetProcessUtilization(h, samples, &n, 0), NVML_SUCCESS);
	assert_int_equal(n, 2);
	assert_in_range(samples[0].smUtil, 30, 60);
	assert_in_range(samples[1].smUtil, 30, 60);
	n = 4;
	assert_int_equal(nv.nvmlDeviceGetProcessUtilization(h, samples, &n, samples[0].timeStamp),
			 NVML_SUCCESS);
	n = 64;
	assert_int_equal(
		nv.nvmlDeviceGetSamples(h, NVML_GPU_UTILIZATION_SAMPLES, 0, &type, &n, past),
		NVML_SUCCESS);
	assert_true(n >= 1 && type == NVML_VALUE_TYPE_UNSIGNED_INT);
	assert_in_range(past[n - 1].sampleValue.uiVal, 50, 100);
	end(a);
	end(b);
}

static void test_sim__fields(void **state)
{
	nvmlFieldValue_t f[] = {
		{.fieldId = NVML_FI_DEV_ECC_CURRENT},
		{.fieldId = NVML_FI_DEV_POWER_DEFAULT_LIMIT},
		{.fieldId = NVML_FI_DEV_NVLINK_LINK_COUNT},
		{.fieldId = 100000},
	};
	nvmlDevice_t h;

	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(0, &h), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetFieldValues(h, 4, f), NVML_SUCCESS);
	assert_int_equal(f[0].nvmlReturn, NVML_SUCCESS);
	assert_int_equal(f[0].value.uiVal, NVML_FEATURE_ENABLED);
	assert_int_equal(f[1].value.uiVal, 700000);
	assert_int_equal(f[2].value.uiVal, 18);
	assert_int_equal(f[3].nvmlReturn, NVML_ERROR_NOT_SUPPORTED);
	assert_true(f[0].timestamp > 0);
}

static void test_sim__the_rest_says_that_it_is_not_there(void **state)
{
	nvmlEventSet_t set;
	nvmlEventData_t data;
	nvmlDevice_t h;

	assert_int_equal(nv.nvmlDeviceGetHandleByIndex_v2(0, &h), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceClearAccountingPids(h), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nv.nvmlEventSetCreate(&set), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceRegisterEvents(h, nvmlEventTypeXidCriticalError, set),
			 NVML_SUCCESS);
	assert_int_equal(nv.nvmlEventSetWait_v2(set, &data, 1), NVML_ERROR_TIMEOUT);
	assert_int_equal(nv.nvmlEventSetFree(set), NVML_SUCCESS);
	assert_string_equal(nv.nvmlErrorString(NVML_ERROR_NOT_SUPPORTED), "Not Supported");
	assert_string_equal(nv.nvmlErrorString((nvmlReturn_t)-1), "Unknown Error");
}

static void test_sim__counts_inits(void **state)
{
	unsigned int n;

	assert_int_equal(nv.nvmlInit_v2(), NVML_SUCCESS);
	assert_int_equal(nv.nvmlShutdown(), NVML_SUCCESS);
	assert_int_equal(nv.nvmlDeviceGetCount_v2(&n), NVML_SUCCESS); /* the daemon's is left */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim__no_machine_is_no_driver),
		cmocka_unit_test(test_sim__device_agrees_with_itself),
		cmocka_unit_test(test_sim__older_forms_write_no_more_than_they_are),
		cmocka_unit_test(test_sim__bad_handles),
		cmocka_unit_test(test_sim__processes_come_and_die),
		cmocka_unit_test(test_sim__rates_follow_the_engine),
		cmocka_unit_test(test_sim__fields),
		cmocka_unit_test(test_sim__the_rest_says_that_it_is_not_there),
		cmocka_unit_test(test_sim__counts_inits),
	};

	if (argc != 2)
		return 99;
	library = argv[1];
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
