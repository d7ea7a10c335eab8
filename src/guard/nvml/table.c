/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of unnamed functions that nvidia-smi takes its process lists from (the default view and
 * --query-compute-apps; the named functions alone would leave both showing everybody). A tenant
 * gets a copy, in which the three that list processes leave out whoever is not of the fraction. All
 * else in it is untouched, and so is any other table.
 *
 * Which places those are is known for the drivers of KNOWN_FIRST to KNOWN_LAST. With any other, and
 * where the table is not as expected, NVML's own is passed on: nvidia-smi then shows processes of
 * other tenants, and what nothing else here says otherwise stays true.
 *
 * Source: NVIDIA/k8s-test-infra (Apache-2.0), pkg/gpu/mocknvml, for 580.65.06; the same places were
 * called by nvidia-smi 535.261.03, 550.163.01 and 555.58.02 on the simulator.
 */
#include "guard/nvml/face.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "guard/guest.h"

#define KNOWN_FIRST 535
#define KNOWN_LAST 580

#define SLOT_PROCESSES 213 /* and the next two: compute first, then graphics and MPS */
#define SLOTS_MAX 1024
#define NAME_BYTES 4096
#define LIST_MAX 65536u /* entries; more than that is no list of processes */

struct entry {
	nvmlProcessDetail_v1_t detail;
	char name[NAME_BYTES];
};

typedef nvmlReturn_t list_fn(nvmlDevice_t device, unsigned int *count, struct entry *entries);

/* 6c3efec4-8fc9-4e6c-a327-ee696e12f7c4, the first three groups in little-endian order. */
static const unsigned char table_id[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
					   0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};

/* The first word is the size in bytes. Written once, under `once`. */
static const uintptr_t *real_table;
static uintptr_t our_table[SLOTS_MAX];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/*
 * Filters in the caller's memory, which NVML has filled; what is left over is wiped.
 * When we fail: nothing is asked of NVML, the list is refused.
 */
static nvmlReturn_t list(unsigned int slot, nvmlDevice_t device, unsigned int *count,
			 struct entry *entries)
{
	list_fn *real = (list_fn *)real_table[slot];
	struct aq__procs procs;
	unsigned int kept = 0;
	nvmlReturn_t status;

	switch (aq__nvml_procs(device, &procs, &status)) {
	case AQ__VIEW_OPEN:
		return real(device, count, entries);
	case AQ__VIEW_ERROR:
		return status;
	case AQ__VIEW_SHARE:
		break;
	}
	status = real(device, count, entries);
	if (status != NVML_SUCCESS || !count || !entries || *count > LIST_MAX)
		return status;
	for (unsigned int i = 0; i < *count; i++) {
		const struct aq_msg_proc *p = aq__nvml_find(&procs, entries[i].detail.pid);

		if (!p)
			continue;
		if (kept != i)
			entries[kept] = entries[i];
		entries[kept++].detail.usedGpuMemory = p->used_bytes;
	}
	memset(entries + kept, 0, (*count - kept) * sizeof(*entries));
	*count = kept;
	return NVML_SUCCESS;
}

#define LIST_HOOK(n)                                                                               \
	static nvmlReturn_t list_##n(nvmlDevice_t device, unsigned int *count,                     \
				     struct entry *entries)                                        \
	{                                                                                          \
		return list(SLOT_PROCESSES + n, device, count, entries);                           \
	}

LIST_HOOK(0)
LIST_HOOK(1)
LIST_HOOK(2)

static bool driver_is_known(void)
{
	char version[NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE] = "";
	unsigned int major = 0;

	if (AQ__REAL(nvmlSystemGetDriverVersion, version, sizeof(version)) != NVML_SUCCESS)
		return false;
	for (const char *c = version; *c >= '0' && *c <= '9' && major < 10000; c++)
		major = 10 * major + (unsigned int)(*c - '0');
	return major >= KNOWN_FIRST && major <= KNOWN_LAST;
}

static void copy_table(void)
{
	static list_fn *const ours[] = {list_0, list_1, list_2};
	const void *found = NULL;
	size_t bytes;

	if (AQ__REAL(nvmlInternalGetExportTable, &found, table_id) != NVML_SUCCESS || !found ||
	    !driver_is_known())
		return;
	bytes = *(const uintptr_t *)found;
	if (bytes > sizeof(our_table) || bytes < (SLOT_PROCESSES + 3) * sizeof(our_table[0]))
		return;
	memcpy(our_table, found, bytes);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		our_table[SLOT_PROCESSES + i] = (uintptr_t)ours[i];
	__atomic_store_n(&real_table, (const uintptr_t *)found, __ATOMIC_RELEASE);
}

nvmlReturn_t nvmlInternalGetExportTable(const void **ret_table, const void *id)
{
	nvmlReturn_t status = AQ__REAL(nvmlInternalGetExportTable, ret_table, id);

	if (status != NVML_SUCCESS || !ret_table || !id || memcmp(id, table_id, sizeof(table_id)) ||
	    aq__observe_tenant() == -ENOENT)
		return status;
	pthread_once(&once, copy_table);
	if (real_table && *ret_table == real_table)
		*ret_table = our_table;
	return status;
}
