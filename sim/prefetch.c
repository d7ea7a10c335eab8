/* SPDX-License-Identifier: Apache-2.0 */
/* Prefetching and discarding of managed memory. They move nothing and take no time, but have their
 * place in the stream. */
#include "managed.h"

#include "base/banned.h"

static void nothing(void *arg)
{
	(void)arg;
}

static CUresult submit_nothing(CUstream handle, bool per_thread)
{
	struct sim_stream *stream;
	CUresult r = sim_stream_resolve(handle, per_thread, &stream);

	if (r == CUDA_SUCCESS && sim_stream_capturing(stream))
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	return r == CUDA_SUCCESS ? sim_exec_call(stream, nothing, NULL) : r;
}

static CUresult set_location(CUdeviceptr dptr, size_t count, const CUmemLocation *location)
{
	struct sim_managed *m;

	if (location && !sim_location_valid(location))
		return location->type == CU_MEM_LOCATION_TYPE_DEVICE ? CUDA_ERROR_INVALID_DEVICE
								     : CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	m = sim_managed_find(dptr, count);
	if (m && location)
		m->prefetched = *location;
	sim_unlock_process();
	return m ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult prefetch(CUdeviceptr dptr, size_t count, CUmemLocation location, CUstream handle,
			 bool per_thread)
{
	CUresult r = set_location(dptr, count, &location);

	return r == CUDA_SUCCESS ? submit_nothing(handle, per_thread) : r;
}

CUresult cuMemPrefetchAsync(CUdeviceptr dptr, size_t count, CUdevice dst_device, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return prefetch(dptr, count, sim_location_of(dst_device), stream, false);
}

CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr dptr, size_t count, CUdevice dst_device,
				 CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return prefetch(dptr, count, sim_location_of(dst_device), stream, true);
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr dptr, size_t count, CUmemLocation location,
			       unsigned int flags, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return flags ? CUDA_ERROR_INVALID_VALUE : prefetch(dptr, count, location, stream, false);
}

CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr dptr, size_t count, CUmemLocation location,
				    unsigned int flags, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return flags ? CUDA_ERROR_INVALID_VALUE : prefetch(dptr, count, location, stream, true);
}

/* Location i is for the ranges from loc_idx[i] on. @locs NULL: the ranges are discarded only. What
 * is discarded keeps its bytes: they may be anything. */
static CUresult batch(const CUdeviceptr *dptrs, const size_t *sizes, size_t count,
		      const CUmemLocation *locs, const size_t *loc_idx, size_t nlocs,
		      unsigned long long flags, CUstream handle, bool per_thread)
{
	size_t at = 0;
	CUresult r = CUDA_SUCCESS;

	if (!dptrs || !sizes || count == 0 || flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (locs && (!loc_idx || nlocs == 0 || nlocs > count || loc_idx[0] != 0))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 1; locs && i < nlocs; i++) {
		if (loc_idx[i] <= loc_idx[i - 1] || loc_idx[i] >= count)
			return CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t i = 0; i < count && r == CUDA_SUCCESS; i++) {
		if (locs && at + 1 < nlocs && loc_idx[at + 1] == i)
			at++;
		r = set_location(dptrs[i], sizes[i], locs ? &locs[at] : NULL);
	}
	return r == CUDA_SUCCESS ? submit_nothing(handle, per_thread) : r;
}

/* Both forms of an entry point that works on a batch. */
#define BATCH_WITH_PLACES(name, per_thread)                                                        \
	CUresult name(CUdeviceptr *dptrs, size_t *sizes, size_t count, CUmemLocation *locs,        \
		      size_t *loc_idx, size_t nlocs, unsigned long long flags, CUstream stream)    \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		(void)ctx;                                                                         \
		if (!locs)                                                                         \
			return CUDA_ERROR_INVALID_VALUE;                                           \
		return batch(dptrs, sizes, count, locs, loc_idx, nlocs, flags, stream,             \
			     per_thread);                                                          \
	}

#define BATCH(name, per_thread)                                                                    \
	CUresult name(CUdeviceptr *dptrs, size_t *sizes, size_t count, unsigned long long flags,   \
		      CUstream stream)                                                             \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		(void)ctx;                                                                         \
		return batch(dptrs, sizes, count, NULL, NULL, 0, flags, stream, per_thread);       \
	}

BATCH_WITH_PLACES(cuMemPrefetchBatchAsync, false)
BATCH_WITH_PLACES(cuMemPrefetchBatchAsync_ptsz, true)
BATCH_WITH_PLACES(cuMemDiscardAndPrefetchBatchAsync, false)
BATCH_WITH_PLACES(cuMemDiscardAndPrefetchBatchAsync_ptsz, true)
BATCH(cuMemDiscardBatchAsync, false)
BATCH(cuMemDiscardBatchAsync_ptsz, true)
