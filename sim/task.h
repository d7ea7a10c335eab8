/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device is asked to do, by itself: the same description serves an operation in a stream, a
 * node of a graph and a captured call. Knows bytes and costs; order and instants are exec.h's.
 */
#ifndef SIM_TASK_H
#define SIM_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda/cuda_abi.h"
#include "sim.h"

struct sim_function;
struct sim_graph_run;
struct sim_mark;

/* Bytes that a thread may move while others wait for it; more is done without the lock. */
#define SIM_TASK_LIGHT_BYTES 32768u

enum sim_task_kind {
	SIM_TASK_EMPTY,
	SIM_TASK_KERNEL,
	SIM_TASK_COPY,
	SIM_TASK_SET,
	SIM_TASK_HOST,	 /* a function of the program, on a thread of its own */
	SIM_TASK_MEMOPS, /* waits for and writes of values by the stream itself */
	SIM_TASK_RECORD, /* decides a mark */
	SIM_TASK_WAIT,	 /* waits for a mark */
	SIM_TASK_CALL,	 /* a function of this library, quick, at no cost */
	SIM_TASK_GRAPH,
};

/* Through what a copy goes. */
enum sim_route {
	SIM_ROUTE_H2D,
	SIM_ROUTE_D2H,
	SIM_ROUTE_PEER,
	SIM_ROUTE_DEVICE, /* inside one device */
	SIM_ROUTE_HOST,	  /* from host to host */
};

struct sim_kernel_task {
	struct sim_function *function;
	uint32_t grid[3], block[3];
	uint32_t shared_bytes;
	uint32_t cluster[3]; /* 0: none given */
	int32_t priority;
	bool cooperative;
	uint32_t param_bytes;
	uint8_t *params; /* packed as the entry declares them */
};

struct sim_copy_task {
	struct sim_box dst, src;
	size_t width_bytes, height, depth;
	enum sim_route route;
	bool src_pageable, dst_pageable;
	uint8_t *staged; /* source bytes that were taken at once; then src.address is theirs */
};

struct sim_set_task {
	CUdeviceptr dst;
	size_t pitch; /* of rows; not used when height is 1 */
	uint32_t value;
	uint32_t elem_bytes;  /* 1, 2, 4 */
	size_t width, height; /* elements, rows */
};

struct sim_host_task {
	CUhostFn fn;
	CUstreamCallback callback; /* instead of fn, for cuStreamAddCallback */
	CUstream stream;	   /* that the callback is told */
	void *data;
};

struct sim_memops_task {
	unsigned int count;
	unsigned int next; /* done so far */
	CUstreamBatchMemOpParams *ops;
};

struct sim_task {
	enum sim_task_kind kind;
	union {
		struct sim_kernel_task kernel;
		struct sim_copy_task copy;
		struct sim_set_task set;
		struct sim_host_task host;
		struct sim_memops_task memops;
		struct sim_mark *mark; /* one reference: RECORD, WAIT */
		struct {
			void (*fn)(void *);
			void *arg;
		} call;
		struct sim_graph_run *graph; /* owned: GRAPH */
	};
};

/**
 * sim_task_dup() - a copy that lives on its own.
 * Return: 0; -ENOMEM. Marks get one more reference; a GRAPH cannot be copied, it is moved: @from
 * gives it up.
 */
int sim_task_dup(struct sim_task *to, struct sim_task *from);

/* Free what sim_task_dup() allocated. */
void sim_task_finish(struct sim_task *t);

/* Device time in the compute queue of @device, for KERNEL, SET, and COPY inside the device. */
uint64_t sim_task_cost_ns(const struct sim_device *device, const struct sim_task *t);

/* Bytes that the host has to touch to do it. */
uint64_t sim_task_host_bytes(const struct sim_task *t);

/* Move the bytes; nothing to do for kinds without. Return: as sim_bytes_copy(). */
CUresult sim_task_perform(const struct sim_task *t);

/* Parameters of the kernel, and where one lies in the packed ones (module.c). */
uint32_t sim_kernel_task_n_params(const struct sim_kernel_task *t);
uint32_t sim_kernel_task_offset(const struct sim_kernel_task *t, uint32_t i);

/* Known kernels (kernels.c). */
struct sim_kernel {
	const char *name;
	uint32_t n_params;
	uint32_t param_bytes[8]; /* sizes; all have to fit for a function to be this kernel */
	/* Cost: traffic and operations for a roofline, or a fixed duration. */
	void (*cost)(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		     uint64_t *fixed_ns);
	CUresult (*compute)(const struct sim_kernel_task *t); /* NULL: changes no byte */
	/* Time that is lost whatever the size, on top of the roofline: ramps, barriers, latencies. In
	 * cycles of the SMs, since a faster clock loses less. */
	uint32_t overhead_cycles;
};

/* Kernels of language models (kernels_llm.c), looked up with the others. */
extern const struct sim_kernel sim_kernels_llm[];
extern const size_t sim_n_kernels_llm;

/* Argument @i of the launch, widened. */
uint64_t sim_kernel_arg(const struct sim_kernel_task *t, uint32_t i);

/* The kernel of that name and those parameter sizes; NULL: unknown, a no-op of fixed duration. */
const struct sim_kernel *sim_kernel_find(const char *name, uint32_t n_params,
					 const uint32_t *param_bytes);

/* Duration of unknown kernels: $ALIQUOT_SIM_KERNEL_US, or 10 microseconds. */
uint64_t sim_kernel_unknown_ns(void);

#endif /* SIM_TASK_H */
