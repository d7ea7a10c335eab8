/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks that count nothing exactly: streams and events take a little device memory that only
 * measuring shows; memory of other processes (IPC), of Vulkan, OpenGL and the like is charged to
 * whoever made it, or was never CUDA's.
 *
 * When we fail: nothing here can.
 */
#include "guard/guard.h"
#include "guard/guest.h"

/* Passed on; when it succeeds the daemon is told that memory may have gone or come. */
#define HOOK_NOTED(sym, params, ...)                                                               \
	CUresult sym params                                                                        \
	{                                                                                          \
		CUresult r = AQ__CALL(sym, __VA_ARGS__);                                           \
		struct aq__place p;                                                                \
                                                                                                   \
		if (r == CUDA_SUCCESS) {                                                           \
			aq__place_here(&p);                                                        \
			aq__unmeasured(p.index);                                                   \
		}                                                                                  \
		return r;                                                                          \
	}

/* Passed on. */
#define HOOK_PASSED(sym, params, ...)                                                              \
	CUresult sym params                                                                        \
	{                                                                                          \
		return AQ__CALL(sym, __VA_ARGS__);                                                 \
	}

/* LIFECYCLE: streams. Events are too many and too small to be worth a word in the page. */
HOOK_NOTED(cuStreamCreate, (CUstream *stream, unsigned int flags), stream, flags)
HOOK_NOTED(cuStreamCreateWithPriority, (CUstream *stream, unsigned int flags, int priority),
	   stream, flags, priority)
HOOK_PASSED(cuEventCreate, (CUevent *event, unsigned int flags), event, flags)
HOOK_PASSED(cuEventDestroy, (CUevent event), event)
HOOK_PASSED(cuEventDestroy_v2, (CUevent event), event)

/* CHARGE and RELEASE of memory that was allocated outside CUDA: seen by measuring only. */
HOOK_NOTED(cuImportExternalMemory,
	   (CUexternalMemory *memory, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *desc), memory, desc)
HOOK_NOTED(cuDestroyExternalMemory, (CUexternalMemory memory), memory)
HOOK_NOTED(cuGraphicsMapResources,
	   (unsigned int count, CUgraphicsResource *resources, CUstream stream), count, resources,
	   stream)
HOOK_NOTED(cuGraphicsMapResources_ptsz,
	   (unsigned int count, CUgraphicsResource *resources, CUstream stream), count, resources,
	   stream)
HOOK_NOTED(cuGraphicsUnmapResources,
	   (unsigned int count, CUgraphicsResource *resources, CUstream stream), count, resources,
	   stream)
HOOK_NOTED(cuGraphicsUnmapResources_ptsz,
	   (unsigned int count, CUgraphicsResource *resources, CUstream stream), count, resources,
	   stream)
HOOK_NOTED(cuGLMapBufferObject, (CUdeviceptr_v1 *dptr, unsigned int *size, GLuint buffer), dptr,
	   size, buffer)
HOOK_NOTED(cuGLMapBufferObject_v2, (CUdeviceptr *dptr, size_t *size, GLuint buffer), dptr, size,
	   buffer)
HOOK_NOTED(cuGLMapBufferObject_v2_ptds, (CUdeviceptr *dptr, size_t *size, GLuint buffer), dptr,
	   size, buffer)
HOOK_NOTED(cuGLMapBufferObjectAsync,
	   (CUdeviceptr_v1 *dptr, unsigned int *size, GLuint buffer, CUstream stream), dptr, size,
	   buffer, stream)
HOOK_NOTED(cuGLMapBufferObjectAsync_v2,
	   (CUdeviceptr *dptr, size_t *size, GLuint buffer, CUstream stream), dptr, size, buffer,
	   stream)
HOOK_NOTED(cuGLMapBufferObjectAsync_v2_ptsz,
	   (CUdeviceptr *dptr, size_t *size, GLuint buffer, CUstream stream), dptr, size, buffer,
	   stream)
