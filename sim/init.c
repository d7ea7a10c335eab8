/* SPDX-License-Identifier: Apache-2.0 */
/* The process as the driver sees it: cuInit, which devices are visible, and what each entry point
 * checks first. */
#include "sim.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/name.h"
#include "fault.h"
#include "va.h"
#include "base/banned.h"

enum state { BEFORE, READY, ENDED };

static const volatile int zero;
static enum state state; /* written under init_lock, and by the destructor */
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;

const volatile int *sim_alive = &zero;
struct sim_process sim = {.lock = PTHREAD_MUTEX_INITIALIZER};

static CUresult why_not_alive(void)
{
	return state == ENDED ? CUDA_ERROR_DEINITIALIZED : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult sim_enter_slow(const char *api)
{
	if (!sim_is_alive())
		return why_not_alive();
	return sim.faults ? sim_fault(api) : CUDA_SUCCESS;
}

CUresult sim_enter_uninitialised(const char *api)
{
	sim_fault_init();
	return sim.faults ? sim_fault(api) : CUDA_SUCCESS;
}

/* A flag that is 1 here and 0 in every child, however it was forked. */
static int *make_alive_flag(void)
{
	int *flag = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (flag == MAP_FAILED)
		return NULL;
	madvise(flag, (size_t)sysconf(_SC_PAGESIZE), MADV_WIPEONFORK);
	return flag;
}

/* The device that one word of CUDA_VISIBLE_DEVICES means, or -1. */
static int find_visible(const char *word, size_t length)
{
	int found = -1;
	char *end;

	if (length > 4 && strncasecmp(word, "GPU-", 4) == 0) {
		for (uint32_t i = 0; i < sim_machine_n_devices(&sim.machine); i++) {
			char text[AQ_UUID_TEXT];

			aq_uuid_format(sim.machine.shared->devices[i].uuid, text);
			if (strncasecmp(word, text, length) != 0)
				continue;
			if (found >= 0)
				return -1; /* ambiguous */
			found = (int)i;
		}
		return found;
	}
	if (length == 0 || word[0] < '0' || word[0] > '9')
		return -1;
	found = (int)strtoul(word, &end, 10);
	if (end != word + length || (uint32_t)found >= sim_machine_n_devices(&sim.machine))
		return -1;
	return found;
}

static void add_visible(uint32_t index)
{
	struct sim_device *d = &sim.devices[sim.n_devices];

	*d = (struct sim_device){
		.ordinal = sim.n_devices,
		.index = index,
		.profile = sim_machine_profile(&sim.machine, index),
		.shared = &sim.machine.shared->devices[index],
	};
	aq_list_init(&d->small_blocks);
	sim.n_devices++;
}

/* CUDA_VISIBLE_DEVICES: in its order, up to the first word that names no device or names one again.
 * Source: CUDA C++ Programming Guide, "CUDA Environment Variables". */
static void find_devices(void)
{
	const char *list = getenv("CUDA_VISIBLE_DEVICES");
	uint32_t seen = 0;

	sim.n_devices = 0;
	if (!list) {
		for (uint32_t i = 0; i < sim_machine_n_devices(&sim.machine); i++)
			add_visible(i);
		return;
	}
	for (;;) {
		size_t length;
		int index;

		list += strspn(list, " \t");
		length = strcspn(list, ", \t");
		index = find_visible(list, length);
		if (index < 0 || (seen & (1u << index)))
			return;
		seen |= 1u << index;
		add_visible((uint32_t)index);
		list += length;
		list += strspn(list, " \t");
		if (*list++ != ',')
			return;
	}
}

static void complain(const char *what, int error)
{
	fprintf(stderr, "libcuda (simulated): cannot open %s: %s\n", what,
		error == -EPROTO   ? "it was made by another version" :
		error == -ENOMEM ? "no address space: is it limited (ulimit -v, valgrind)?" :
				     strerror(-error));
}

static CUresult start_machine(void)
{
	int r = sim_machine_find(&sim.machine);

	if (r == -ENOENT)
		return CUDA_ERROR_NO_DEVICE;
	if (r < 0) {
		complain("the simulated machine", r);
		return r == -EPROTO ? CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
				    : CUDA_ERROR_OPERATING_SYSTEM;
	}
	find_devices();
	if (sim.n_devices == 0) {
		sim_machine_close(&sim.machine);
		return CUDA_ERROR_NO_DEVICE;
	}
	r = sim_va_init();
	if (r < 0)
		complain("addresses for simulated memory", r);
	else
		r = sim_machine_join(&sim.machine);
	if (r < 0) {
		sim_machine_close(&sim.machine);
		return CUDA_ERROR_OPERATING_SYSTEM;
	}
	return CUDA_SUCCESS;
}

static CUresult start(void)
{
	int *flag = make_alive_flag();
	CUresult r;

	if (!flag)
		return CUDA_ERROR_OUT_OF_MEMORY;
	aq_list_init(&sim.contexts);
	aq_list_init(&sim.physes);
	sim.next_context_id = sim.next_buffer_id = 1;
	r = start_machine();
	if (r != CUDA_SUCCESS) {
		munmap(flag, (size_t)sysconf(_SC_PAGESIZE));
		return r;
	}
	*flag = 1;
	state = READY;
	__atomic_store_n(&sim_alive, flag, __ATOMIC_RELEASE);
	return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int flags)
{
	CUresult r = sim_enter_uninitialised(__func__);

	if (r != CUDA_SUCCESS)
		return r;
	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	/* In a child of an initialised process init_lock may be in any state: look before. */
	if (sim_is_alive())
		return CUDA_SUCCESS;
	if (state != BEFORE)
		return why_not_alive();
	pthread_mutex_lock(&init_lock);
	r = state == BEFORE ? start() : CUDA_SUCCESS;
	pthread_mutex_unlock(&init_lock);
	return r;
}

CUresult cuDriverGetVersion(int *version)
{
	CUresult r = sim_enter_uninitialised(__func__);

	if (r != CUDA_SUCCESS)
		return r;
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = SIM_DRIVER_VERSION;
	return CUDA_SUCCESS;
}

/* After this a call says that the driver is gone, as the real one does at the end of a process. The
 * process's slot is swept by whoever looks once it has ended. */
__attribute__((destructor)) static void end(void)
{
	if (state == READY) {
		state = ENDED;
		__atomic_store_n(&sim_alive, &zero, __ATOMIC_RELEASE);
	}
}
