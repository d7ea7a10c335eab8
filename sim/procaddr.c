/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuGetProcAddress: entry points by base name, version and flag. The pointer given is always this
 * library's own symbol, the one that dlsym() on it finds; nothing is wrapped. Export tables are
 * refused, all of them: they are undocumented, and one is how NVIDIA's runtime makes sure that the
 * driver is genuine, which this is not.
 */
#include "cuda/cuda_abi.h"
#include "cuda/cuda_name.h"
#include "profile.h"

#include <stddef.h>
#include <string.h>

#include "base/banned.h"

/* Functions without a known signature: stubs of this library, or absent. */
#define AQ_API(sym, since, role, params, args)
#define AQ_API_UNTYPED(sym, since, role)                                                           \
	extern __attribute__((weak, visibility("default"))) CUresult sym(void);
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS

/* In the order of aq_cuda_entries. */
static void *const addresses[] = {
#define AQ_API(sym, since, role, params, args) (void *)sym,
#define AQ_API_UNTYPED(sym, since, role) (void *)sym,
#define AQ_API_DATA(sym) NULL,
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
};

#define VALID_FLAGS                                                                                \
	(CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)

static CUdriverProcAddressQueryResult find(const char *symbol, int version, cuuint64_t flags,
					   void **ret_pfn)
{
	const struct aq_cuda_entry *e;

	/* This driver has nothing newer than its own version, whatever the caller was built for. */
	if (version > SIM_DRIVER_VERSION)
		version = SIM_DRIVER_VERSION;
	e = aq_cuda_entry_find(symbol, version, flags);
	*ret_pfn = e ? addresses[e - aq_cuda_entries] : NULL;
	if (*ret_pfn)
		return CU_GET_PROC_ADDRESS_SUCCESS;
	e = aq_cuda_entry_find(symbol, SIM_DRIVER_VERSION, flags);
	return e && addresses[e - aq_cuda_entries] ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
						   : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
}

/* The oldest form leaves the pointer alone when it finds nothing. Source: driver 550. */
CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, cuuint64_t flags)
{
	void *found;

	if (!symbol || !pfn || flags & ~(cuuint64_t)VALID_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	if (find(symbol, version, flags, &found) != CU_GET_PROC_ADDRESS_SUCCESS)
		return CUDA_ERROR_NOT_FOUND;
	*pfn = found;
	return CUDA_SUCCESS;
}

/* What was not found is no error here: NULL, and the reason in @status. Source: driver 550. */
CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	CUdriverProcAddressQueryResult result;

	if (!symbol || !pfn || flags & ~(cuuint64_t)VALID_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	result = find(symbol, version, flags, pfn);
	if (status)
		*status = result;
	return CUDA_SUCCESS;
}

CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
	if (!table || !id)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_ERROR_NOT_SUPPORTED;
}
