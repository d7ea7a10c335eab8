/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the simulated libcuda.so.1: devices, contexts, memory and time as its files share them.
 * One process's view; what processes share is in machine.h.
 *
 * Layers. machine, frames, engine, profile: shared state, no CUDA. device, context, va, alloc,
 * copybytes: this file's first half. Entry points on top. The execution side (streams, events,
 * launches, modules, graphs) is reached through the sim_exec_*() and sim_event_*() functions at the
 * end of this file, and nothing else of it is used here.
 *
 * Locks, outermost first; nobody calls the execution side with one of them held, except where
 * it is said:
 *   sim.lock (process-wide lists: contexts, allocations, handles, pools)
 *   sim.va_lock (page table; sim_bytes_*() hold it for reading, for at most one frame at a time)
 *   the robust locks of machine.h
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "cuda/cuda_abi.h"
#include "machine.h"

#define SIM_ALIGN_BYTES                                                                            \
	512u /* of every device allocation. Source: cuda driver, observed by all                   \
	      */
#define SIM_CONTEXT_STACK                                                                          \
	64 /* contexts that one thread can have pushed; guess, the driver has no                   \
	      documented limit */

struct sim_context;
struct sim_stream; /* of the execution side */
struct sim_exec;   /* of the execution side: its part of a context */

/*
 * Entering.
 */

/**
 * sim_enter() - what every entry point does first: `SIM_ENTER();`
 * Return: 0; CUDA_ERROR_NOT_INITIALIZED before cuInit() and in a child forked after it;
 * CUDA_ERROR_DEINITIALIZED at the end of the process; what $ALIQUOT_SIM_FAULT wants for @api.
 */
static inline CUresult sim_enter(const char *api);

/* For those that work before cuInit(): faults only. */
CUresult sim_enter_uninitialised(const char *api);

#define SIM_ENTER()                                                                                \
	do {                                                                                       \
		CUresult sim_entered_ = sim_enter(__func__);                                       \
		if (sim_entered_ != CUDA_SUCCESS)                                                  \
			return sim_entered_;                                                       \
	} while (0)

/* SIM_ENTER(), and declare `ctx` as the current context, or return 201 (709 when destroyed). */
#define SIM_ENTER_CONTEXT(ctx)                                                                     \
	struct sim_context *ctx;                                                                   \
	SIM_ENTER();                                                                               \
	do {                                                                                       \
		CUresult sim_entered_ = sim_current_live(&ctx);                                    \
		if (sim_entered_ != CUDA_SUCCESS)                                                  \
			return sim_entered_;                                                       \
	} while (0)

/*
 * Devices.
 */

struct sim_device {
	int ordinal;	/* CUdevice of this process */
	uint32_t index; /* in the machine */
	const struct sim_profile *profile;
	struct sim_machine_device *shared;
	uint8_t *bytes; /* all memory, frame f at f * SIM_FRAME_BYTES; NULL before the first context
			 */

	/* Under sim.lock. */
	struct sim_context *primary; /* NULL: inactive */
	unsigned int primary_refs;
	unsigned int primary_flags;
	struct sim_pool *default_pool, *current_pool;
	struct aq_list
		small_blocks; /* memory.c: struct sim_block with room for small allocations */
};

/* NULL for a number that is no device. */
struct sim_device *sim_device_get(CUdevice dev);

/* Whether each can reach the memory of the other. */
bool sim_device_peers(const struct sim_device *a, const struct sim_device *b);

/* Make bytes usable. Return: CUDA_SUCCESS or CUDA_ERROR_OUT_OF_MEMORY. */
CUresult sim_device_map(struct sim_device *device);

/*
 * Contexts. A CUcontext is a pointer to this. The memory stays as long as a thread has it pushed,
 * so that a destroyed context is recognised.
 */
#define SIM_CONTEXT_MAGIC 0x53494d43u /* "SIMC" */
#define SIM_LIMITS 16

struct sim_context {
	uint32_t magic;
	bool primary;
	bool destroyed;
	unsigned int flags; /* CU_CTX_* */
	unsigned int api_version;
	struct sim_device *device;
	struct sim_exec *exec; /* set by sim_exec_context_create() */
	uint64_t id;	       /* cuCtxGetId: unique in this process */
	uint32_t engine_index; /* its queue in the compute engine */
	unsigned int refs;     /* list, stacks of threads, cuCtxAttach; under sim.lock */
	unsigned int attached; /* cuCtxAttach */
	CUfunc_cache cache_config;
	CUsharedconfig shared_config;
	size_t limits[SIM_LIMITS]; /* by CUlimit */
	uint64_t overhead_bytes;   /* charged for it, modules included */
	uint64_t peers;		   /* bit per device ordinal: access enabled */
	struct aq_list link;	   /* sim.contexts */
	struct aq_list allocs;	   /* struct sim_alloc; under sim.lock */
	CUresult sticky;	   /* once set, every later call that uses the context gets it */
};

static inline struct sim_context *sim_context_of(CUcontext handle)
{
	return (struct sim_context *)handle;
}

static inline CUcontext sim_context_handle(struct sim_context *ctx)
{
	return (CUcontext)ctx;
}

/* The context on top of this thread's stack, maybe destroyed; NULL: none. */
struct sim_context *sim_current(void);

/* The same, for use: CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_CONTEXT_IS_DESTROYED, or the sticky
 * error of the context. */
CUresult sim_current_live(struct sim_context **ret_ctx);

/* A handle that a caller gave; NULL means the current context. Checks that it is one and lives. */
CUresult sim_context_check(CUcontext handle, struct sim_context **ret_ctx);

/* The live primary context of a device, for calls that need some context of it; NULL: none. */
struct sim_context *sim_context_any(struct sim_device *device);

/**
 * sim_charge_module() - charge device memory for loaded code, or give it back.
 * Rounded up to 4 KiB. Given back by the end of the context at the latest.
 * Return: CUDA_SUCCESS; CUDA_ERROR_OUT_OF_MEMORY.
 */
CUresult sim_charge_module(struct sim_context *ctx, uint64_t bytes);
void sim_release_module(struct sim_context *ctx, uint64_t bytes);

/*
 * Memory: what an address is.
 */

enum sim_memory_kind {
	SIM_MEMORY_NONE,       /* pageable host memory, or nothing of ours */
	SIM_MEMORY_LINEAR,     /* cuMemAlloc, cuMemAllocPitch, IPC */
	SIM_MEMORY_VMM,	       /* cuMemMap */
	SIM_MEMORY_POOL,       /* cuMemAllocAsync */
	SIM_MEMORY_GRAPH,      /* memory nodes of graphs */
	SIM_MEMORY_GLOBAL,     /* variables of modules */
	SIM_MEMORY_MANAGED,    /* host mapping, charged to a device */
	SIM_MEMORY_PINNED,     /* cuMemHostAlloc, cuMemAllocHost */
	SIM_MEMORY_REGISTERED, /* cuMemHostRegister */
	SIM_MEMORY_ARRAY,      /* behind a CUarray; never at an address that programs see */
};

static inline bool sim_memory_on_device(enum sim_memory_kind kind)
{
	return (kind >= SIM_MEMORY_LINEAR && kind <= SIM_MEMORY_GLOBAL) || kind == SIM_MEMORY_ARRAY;
}

/* An allocation with an address, of any kind. */
struct sim_alloc {
	enum sim_memory_kind kind;
	uint64_t base;		   /* address */
	uint64_t bytes;		   /* as asked */
	uint64_t span;		   /* addresses taken, >= bytes */
	struct sim_device *device; /* NULL for host memory */
	struct sim_context *ctx;   /* that allocated it; may be destroyed for pools, VMM */
	uint64_t buffer_id;	   /* CU_POINTER_ATTRIBUTE_BUFFER_ID: unique in this process */
	unsigned int flags;	   /* of the call that made it */
	bool sync_memops;
	bool opened;	       /* memory of another process (IPC) */
	bool freeing;	       /* some thread frees it: others must not */
	struct sim_pool *pool; /* SIM_MEMORY_POOL */
	void *owner;	       /* private to the file that made it */
	void *array;	       /* SIM_MEMORY_ARRAY: the array or mipmap that it is for */
	struct aq_list link;   /* sim_context.allocs, or empty */
};

/* What sim_resolve() says: a copy, safe to keep. */
struct sim_span {
	enum sim_memory_kind kind;
	struct sim_device *device; /* NULL: host */
	struct sim_context *ctx;
	uint64_t base, bytes; /* of the allocation (VMM: of the mapping) */
	unsigned int flags;
};

/**
 * sim_resolve() - what [address, address + bytes) is.
 * @bytes: 0 asks about the address alone
 * Return: CUDA_SUCCESS, also for unknown addresses outside the device range (kind
 * SIM_MEMORY_NONE: pageable host memory, or nothing); CUDA_ERROR_INVALID_VALUE: the range begins or
 * ends where no device memory is.
 */
CUresult sim_resolve(CUdeviceptr address, size_t bytes, struct sim_span *ret_span);

/*
 * Memory: bytes (copybytes.c). Addresses are of any kind: device memory is found through the page
 * table, everything else is used as a host pointer. These move bytes at once; order and time are
 * the caller's. Return: CUDA_SUCCESS; CUDA_ERROR_ILLEGAL_ADDRESS when device memory is not (or no
 * longer) there; then some bytes may have been moved.
 */
CUresult sim_bytes_copy(uint64_t dst, uint64_t src, size_t bytes);
CUresult sim_bytes_read(void *dst, uint64_t src, size_t bytes);
CUresult sim_bytes_write(uint64_t dst, const void *src, size_t bytes);

/* @width: 1, 2 or 4 bytes of @value, @count times. */
CUresult sim_bytes_fill(uint64_t dst, uint32_t value, unsigned int width, size_t count);

/* @height rows of @width elements, @pitch bytes apart. */
CUresult sim_bytes_fill2d(uint64_t dst, size_t pitch, uint32_t value, unsigned int elem,
			  size_t width, size_t height);

/* One side of a copy of boxes: a pitched address, or an array. */
struct sim_box {
	CUarray array;	      /* NULL: linear */
	uint64_t address;     /* of byte 0, 0, 0 */
	size_t pitch;	      /* bytes from row to row */
	size_t slice;	      /* bytes from layer to layer */
	size_t x_bytes, y, z; /* where the box begins */
};
/* Return: also CUDA_ERROR_INVALID_VALUE when the box leaves an array. */
CUresult sim_bytes_copy3d(const struct sim_box *dst, const struct sim_box *src, size_t width_bytes,
			  size_t height, size_t depth);

/* Whether a box lies inside its array; CUDA_ERROR_INVALID_VALUE if not. Linear ones always do. */
CUresult sim_box_check(const struct sim_box *box, size_t width_bytes, size_t height, size_t depth);

/**
 * sim_bytes_at() - host address of a device (or host) byte, for kernels that compute.
 * @ret_run: bytes that follow it without a gap, 1 at least; for host memory SIZE_MAX
 * Return: NULL: no memory there. Valid until sim_bytes_done(): between the two the page table is
 * locked for reading, so keep it short. May be nested: as many sim_bytes_done() as answers that
 * were not NULL.
 */
void *sim_bytes_at(uint64_t address, size_t *ret_run);
void sim_bytes_done(void);

/*
 * Memory: building blocks of allocations.
 */

/* A physical object as this process holds it: one reference in shared memory, counted here. */
struct sim_phys {
	struct sim_device *device;
	uint32_t first;
	uint64_t id;
	uint32_t n_frames;
	unsigned int refs; /* handles and mappings; under sim.lock */
	bool imported;
	CUmemAllocationProp prop; /* of cuMemCreate */
	uint32_t *frames;	  /* n_frames numbers */
	struct aq_list link;	  /* sim.physes */
};

/* New memory, one reference. @bytes is rounded up to frames. CUDA_ERROR_OUT_OF_MEMORY. */
CUresult sim_phys_create(struct sim_device *device, uint64_t bytes, struct sim_phys **ret_phys);
/* Memory of another process, or of this one again. CUDA_ERROR_INVALID_VALUE: gone. */
CUresult sim_phys_import(struct sim_device *device, uint32_t first, uint64_t id,
			 struct sim_phys **ret_phys);
void sim_phys_get(struct sim_phys *phys);
void sim_phys_put(struct sim_phys *phys);

/* Addresses for device memory, frame-aligned (or more); 0 when there are none left. */
uint64_t sim_va_reserve(uint64_t bytes, uint64_t align, uint64_t wish);
void sim_va_free(uint64_t address, uint64_t bytes);
/* Whether an address lies in the range that this process keeps for device memory. */
bool sim_va_contains(uint64_t address);
/* Let @n_frames of @phys from @frame on appear at @address. Takes no reference. */
void sim_va_map(uint64_t address, struct sim_phys *phys, uint32_t frame, uint32_t n_frames);
void sim_va_unmap(uint64_t address, uint64_t bytes);
/* Page protection as CUmemAccess_flags; sim_va_map() leaves READWRITE. */
void sim_va_protect(uint64_t address, uint64_t bytes, CUmemAccess_flags access);

/**
 * sim_alloc_add() - make an allocation known to sim_resolve() and the pointer attributes.
 * For device addresses, [base, base + span) is in the device range and frame-aligned, or lies
 * inside a block that the caller owns (@kind POOL, GRAPH, GLOBAL). Return: the record, linked to
 * @ctx when not NULL; NULL: no memory.
 */
struct sim_alloc *sim_alloc_add(enum sim_memory_kind kind, uint64_t base, uint64_t bytes,
				uint64_t span, struct sim_device *device, struct sim_context *ctx);
void sim_alloc_remove(struct sim_alloc *alloc);

/* The allocation that contains @address; NULL: none. Under sim.lock. */
struct sim_alloc *sim_alloc_find(uint64_t address);

/* Linear memory as cuMemAlloc makes it, for variables of modules and the like. */
CUresult sim_linear_alloc(struct sim_context *ctx, enum sim_memory_kind kind, size_t bytes,
			  CUdeviceptr *ret_address);
CUresult sim_linear_free(CUdeviceptr address);

/*
 * Arrays. Bytes lie row after row without padding inside the array's own memory.
 */
#define SIM_ARRAY_MAGIC 0x53494d41u /* "SIMA" */

struct sim_array {
	uint32_t magic;
	struct sim_context *ctx;
	CUDA_ARRAY3D_DESCRIPTOR desc;
	uint32_t elem_bytes;	     /* of one element with its channels */
	size_t width, height, depth; /* all at least 1; depth: layers and faces too */
	uint64_t base;		     /* address of its memory; SIM_MEMORY_ARRAY */
	uint64_t bytes;
	struct sim_mipmap *mipmap; /* that it is a level of; then it owns no memory */
	struct aq_list link;
};

/* A handle that a caller gave. CUDA_ERROR_INVALID_HANDLE. */
CUresult sim_array_check(CUarray handle, struct sim_array **ret_array);

/* Bytes of one channel of a format; 0: unknown (block-compressed and planar ones included). */
uint32_t sim_format_bytes(CUarray_format format);

/*
 * Time. Tickets of a context's compute queue are in order; a ticket's times can be asked for until
 * SIM_ENGINE_RING - 1 more were handed out. Instants are CLOCK_MONOTONIC.
 */

/* Hand over compute work. Return: 0; -EAGAIN: queue full, wait for the oldest unfinished ticket. */
int sim_time_submit(struct sim_context *ctx, uint64_t not_before_ns, uint64_t duration_ns,
		    uint64_t *ret_ticket);

/* Return: 1 finished before now; 0 not yet, *ret_finish_ns is the prediction; -ENOENT. */
int sim_time_finished(struct sim_context *ctx, uint64_t ticket, uint64_t *ret_start_ns,
		      uint64_t *ret_finish_ns);

/* Sleep until it has finished. For those without an executor; sleeps again when others come. */
int sim_time_wait(struct sim_context *ctx, uint64_t ticket, uint64_t *ret_finish_ns);

/* Unfinished tickets; the oldest unfinished is last handed out - pending + 1. */
uint64_t sim_time_pending(struct sim_context *ctx);

/* Whether another context is on the engine, or was last: work of this one begins with a switch. */
bool sim_time_displaced(struct sim_context *ctx);

/* A transfer; decided at once. @ctx is charged. */
void sim_time_copy(struct sim_context *ctx, enum sim_copy_engine engine, uint64_t not_before_ns,
		   uint64_t bytes, uint64_t *ret_start_ns, uint64_t *ret_finish_ns);

/* Costs by the profile, in ns: memory traffic on the device (a copy inside it reads and writes, so
 * moves twice its size), and a roofline of traffic and bf16 operations. */
uint64_t sim_cost_traffic(const struct sim_device *device, uint64_t bytes);
uint64_t sim_cost_kernel(const struct sim_device *device, uint64_t bytes, uint64_t flops);
uint64_t sim_cost_copy(const struct sim_device *device, enum sim_copy_engine engine,
		       uint64_t bytes);

/*
 * Pools: what stream-ordered entry points of the execution side need.
 */

/* After a stream, event or context was synchronised: pools return what they hold over their
 * release threshold. Not with a lock held. */
void sim_pool_synchronised(struct sim_device *device);

/*
 * Provided by the execution side.
 */

/* Give ctx->exec a value; called before the context is visible. */
CUresult sim_exec_context_create(struct sim_context *ctx);
/* Wait for all work of @ctx, end its streams, events and modules. The device is still usable. */
void sim_exec_context_destroy(struct sim_context *ctx);
/* Wait until all work handed over so far is done; cuMemFree and its like do this. */
CUresult sim_exec_context_synchronize(struct sim_context *ctx);
/* CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED when a call that synchronises is forbidden now, because a
 * capture that forbids it is under way (thread's capture mode). */
CUresult sim_exec_unsafe_call(void);

/* For calls that may synchronise: allocating and freeing among them. Source: CUDA programming
 * guide, "Prohibited and Unhandled Operations", and the errors that cudaMalloc gives in a capture.
 */
#define SIM_REFUSE_IN_CAPTURE()                                                                    \
	do {                                                                                       \
		CUresult sim_refused_ = sim_exec_unsafe_call();                                    \
		if (sim_refused_ != CUDA_SUCCESS)                                                  \
			return sim_refused_;                                                       \
	} while (0)

/* Handle to stream, checked. @per_thread: NULL means the calling thread's own default stream. */
CUresult sim_stream_resolve(CUstream handle, bool per_thread, struct sim_stream **ret_stream);

/* A stream of a context; of a part of it too if @green (green.c). As cuStreamCreateWithPriority(). */
struct sim_green;
CUresult sim_stream_new(CUstream *ret, struct sim_context *ctx, struct sim_green *green,
			unsigned int flags, int priority);

/* Streams of that part are of the whole context from now on. */
void sim_stream_green_gone(struct sim_exec *x, const struct sim_green *green);
struct sim_context *sim_stream_context(struct sim_stream *stream);
/* Call fn(arg) from the executor when all earlier work of the stream is done, at no cost. */
CUresult sim_exec_call(struct sim_stream *stream, void (*fn)(void *), void *arg);
/* 1: @stream captures, and the calls below apply; 0: it does not. */
int sim_stream_capturing(struct sim_stream *stream);
CUresult sim_capture_alloc(struct sim_stream *stream, CUmemoryPool pool, size_t bytes,
			   CUdeviceptr *ret_address);
CUresult sim_capture_free(struct sim_stream *stream, CUdeviceptr address);
/* cuMemFreeAsync of SIM_MEMORY_GRAPH outside a capture. */
CUresult sim_graph_memory_free(struct sim_stream *stream, CUdeviceptr address);

/* Events of more than one process: the shared record of a CUevent made with
 * CU_EVENT_INTERPROCESS (CUDA_ERROR_INVALID_HANDLE otherwise), and a CUevent on such a record. */
CUresult sim_event_shared(CUevent event, struct sim_shared_event **ret_shared);
CUresult sim_event_open(struct sim_shared_event *shared, CUevent *ret_event);
/* For cuEventCreate with CU_EVENT_INTERPROCESS and its destruction; NULL: no room. */
struct sim_shared_event *sim_shared_event_create(struct sim_device *device);
void sim_shared_event_put(struct sim_shared_event *shared);

/*
 * The process.
 */
struct sim_process {
	struct sim_machine machine;
	int n_devices; /* visible to this process */
	struct sim_device devices[SIM_MAX_DEVICES];
	pthread_mutex_t lock;
	pthread_rwlock_t va_lock;
	struct aq_list contexts, physes;
	uint64_t next_context_id, next_buffer_id;
	bool faults; /* $ALIQUOT_SIM_FAULT is set; written once, before main or at cuInit */
};

extern struct sim_process sim;

/* 1 in an initialised process, 0 before and in a forked child (the page is wiped there). */
extern const volatile int *sim_alive;

/* The end of the process may come while threads go on. */
static inline bool sim_is_alive(void)
{
	return *__atomic_load_n(&sim_alive, __ATOMIC_RELAXED) == 1;
}

CUresult sim_enter_slow(const char *api);

static inline CUresult sim_enter(const char *api)
{
	if (__builtin_expect(sim_is_alive() && !sim.faults, 1))
		return CUDA_SUCCESS;
	return sim_enter_slow(api);
}

static inline void sim_lock_process(void)
{
	pthread_mutex_lock(&sim.lock);
}

static inline void sim_unlock_process(void)
{
	pthread_mutex_unlock(&sim.lock);
}

#endif /* SIM_SIM_H */
