/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for values in memory and writes of values, by streams themselves. issue.c performs them. */
#include "memops.h"

#include "capture.h"
#include "exec.h"
#include "sim.h"

#include "base/banned.h"

static CUresult check_address(CUdeviceptr address, unsigned int bytes)
{
	struct sim_span span;
	CUresult r;

	if (!address || address % bytes)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_resolve(address, bytes, &span);
	if (r != CUDA_SUCCESS)
		return r;
	return span.kind == SIM_MEMORY_NONE ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static CUresult check_one(const CUstreamBatchMemOpParams *p)
{
	const unsigned int wait_flags = CU_STREAM_WAIT_VALUE_NOR | CU_STREAM_WAIT_VALUE_FLUSH;

	switch (p->operation) {
	case CU_STREAM_MEM_OP_WAIT_VALUE_32:
	case CU_STREAM_MEM_OP_WAIT_VALUE_64:
		if (p->waitValue.flags & ~wait_flags)
			return CUDA_ERROR_INVALID_VALUE;
		if (p->waitValue.flags & CU_STREAM_WAIT_VALUE_FLUSH)
			return CUDA_ERROR_NOT_SUPPORTED;
		return check_address(p->waitValue.address,
				     p->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 ? 8 : 4);
	case CU_STREAM_MEM_OP_WRITE_VALUE_32:
	case CU_STREAM_MEM_OP_WRITE_VALUE_64:
		if (p->writeValue.flags & ~(unsigned int)CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER)
			return CUDA_ERROR_INVALID_VALUE;
		return check_address(p->writeValue.address,
				     p->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64 ? 8 : 4);
	case CU_STREAM_MEM_OP_BARRIER:
	case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult sim_memops_check(unsigned int count, const CUstreamBatchMemOpParams *ops,
			  unsigned int flags)
{
	CUresult r = CUDA_SUCCESS;

	if (!ops || !count || count > SIM_MEMOPS_MAX || flags)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count && r == CUDA_SUCCESS; i++)
		r = check_one(&ops[i]);
	return r;
}

static CUresult batch(CUstream stream, unsigned int count, CUstreamBatchMemOpParams *ops,
		      unsigned int flags, bool per_thread)
{
	struct sim_task t = {.kind = SIM_TASK_MEMOPS, .memops = {.count = count, .ops = ops}};
	struct sim_stream *s;
	CUresult r;

	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_memops_check(count, ops, flags);
	return r == CUDA_SUCCESS ? sim_enqueue(s, &t, SIM_ASYNC) : r;
}

static CUresult wait_value(CUstream stream, CUdeviceptr addr, uint64_t value, bool wide,
			   unsigned int flags, bool per_thread)
{
	CUstreamBatchMemOpParams op = {
		.waitValue =
			{
				.operation = wide ? CU_STREAM_MEM_OP_WAIT_VALUE_64
						  : CU_STREAM_MEM_OP_WAIT_VALUE_32,
				.address = addr,
				.value64 = value,
				.flags = flags,
			},
	};

	return batch(stream, 1, &op, 0, per_thread);
}

static CUresult write_value(CUstream stream, CUdeviceptr addr, uint64_t value, bool wide,
			    unsigned int flags, bool per_thread)
{
	CUstreamBatchMemOpParams op = {
		.writeValue =
			{
				.operation = wide ? CU_STREAM_MEM_OP_WRITE_VALUE_64
						  : CU_STREAM_MEM_OP_WRITE_VALUE_32,
				.address = addr,
				.value64 = value,
				.flags = flags,
			},
	};

	return batch(stream, 1, &op, 0, per_thread);
}

#define VALUE(name, fn, type, wide)                                                                \
	CUresult name(CUstream stream, CUdeviceptr addr, type value, unsigned int flags)           \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(stream, addr, value, wide, flags, false);                                \
	}                                                                                          \
	CUresult name##_ptsz(CUstream stream, CUdeviceptr addr, type value, unsigned int flags)    \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(stream, addr, value, wide, flags, true);                                 \
	}

VALUE(cuStreamWaitValue32, wait_value, cuuint32_t, false)
VALUE(cuStreamWaitValue32_v2, wait_value, cuuint32_t, false)
VALUE(cuStreamWaitValue64, wait_value, cuuint64_t, true)
VALUE(cuStreamWaitValue64_v2, wait_value, cuuint64_t, true)
VALUE(cuStreamWriteValue32, write_value, cuuint32_t, false)
VALUE(cuStreamWriteValue32_v2, write_value, cuuint32_t, false)
VALUE(cuStreamWriteValue64, write_value, cuuint64_t, true)
VALUE(cuStreamWriteValue64_v2, write_value, cuuint64_t, true)

#define BATCH(name)                                                                                \
	CUresult name(CUstream stream, unsigned int count, CUstreamBatchMemOpParams *ops,          \
		      unsigned int flags)                                                          \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return batch(stream, count, ops, flags, false);                                    \
	}                                                                                          \
	CUresult name##_ptsz(CUstream stream, unsigned int count, CUstreamBatchMemOpParams *ops,   \
			     unsigned int flags)                                                   \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return batch(stream, count, ops, flags, true);                                     \
	}

BATCH(cuStreamBatchMemOp)
BATCH(cuStreamBatchMemOp_v2)
