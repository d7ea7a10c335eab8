/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How programs get at entry points. The driver answers, about names, versions and flags that it
 * knows best; only then is the address it gave exchanged for our hook, by what is at that address.
 * Export tables are passed on untouched: NVIDIA's runtime checks that they are the driver's own.
 *
 * When we fail: nothing here can. An address that we do not know stays the driver's.
 */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "cuda/cuda_name.h"
#include "guard/guard.h"
#include "guard/hooks.h"
#include "guard/guest.h"

#define SLOTS 2048u /* power of two, more than twice the catalogue */

/* Index into aq__hooks plus one, by the driver's address; 0 empty. Written once, under `once`. */
static uint16_t by_address[SLOTS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *driver_address(size_t i)
{
	void *address;

	memcpy(&address, aq__hooks[i].real, sizeof(address));
	return address;
}

static uint32_t slot_of(const void *address)
{
	/* Source: Knuth's multiplicative hash; the top 11 bits index SLOTS. */
	return (uint32_t)((uintptr_t)address * 0x9e3779b97f4a7c15ull >> 53);
}

static void fill(void)
{
	_Static_assert(SLOTS == 1u << (64 - 53), "slot_of() takes that many bits");

	aq__real_load();
	for (size_t i = 0; i < aq__n_hooks && i < SLOTS / 2; i++) {
		const void *address = driver_address(i);
		uint32_t slot = slot_of(address);

		while (address && by_address[slot])
			slot = (slot + 1) % SLOTS;
		if (address)
			by_address[slot] = (uint16_t)(i + 1);
	}
}

/*
 * How well the entry point @hook fits what was asked for. Several names may share one address (old
 * variants, or a stub for all that a driver leaves out): then the name asked for decides.
 */
static int fit(const struct aq__hook *hook, const char *asked, bool per_thread)
{
	const struct aq_cuda_entry *e = aq_cuda_entry_by_symbol(hook->sym);

	if (!e || !asked || strlen(asked) != e->base_len || memcmp(asked, e->sym, e->base_len))
		return 1;
	return per_thread == (e->per_thread != AQ_CUDA_PLAIN) ? 3 : 2;
}

static void *hook_for(void *address, const char *asked, bool per_thread)
{
	const struct aq__hook *best = NULL;
	int best_fit = 0, sharing = 0;

	pthread_once(&once, fill);
	for (uint32_t s = slot_of(address); by_address[s]; s = (s + 1) % SLOTS) {
		const struct aq__hook *hook = &aq__hooks[by_address[s] - 1];
		int f;

		if (driver_address(by_address[s] - 1u) != address)
			continue;
		sharing++;
		f = fit(hook, asked, per_thread);
		if (f > best_fit) {
			best = hook;
			best_fit = f;
		}
	}
	if (!best || !best->hook || (best_fit == 1 && sharing > 1))
		return address;
	return best->hook;
}

/* RESOLVE. */
CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	CUresult r = AQ__CALL(cuGetProcAddress_v2, symbol, pfn, version, flags, status);

	if (r == CUDA_SUCCESS && pfn && *pfn)
		*pfn = hook_for(*pfn, symbol,
				flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
	return r;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, cuuint64_t flags)
{
	CUresult r = AQ__CALL(cuGetProcAddress, symbol, pfn, version, flags);

	if (r == CUDA_SUCCESS && pfn && *pfn)
		*pfn = hook_for(*pfn, symbol,
				flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
	return r;
}

CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
	return AQ__CALL(cuGetExportTable, table, id);
}
