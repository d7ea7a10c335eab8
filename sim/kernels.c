/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels that are known by name: computed on the bytes, and costed by a roofline of memory traffic
 * and operations. kernels.ptx.h has their PTX, tests/programs/spin.c that of aq_loop. Any other
 * kernel changes nothing and takes $ALIQUOT_SIM_KERNEL_US microseconds.
 *
 *   aq_fill(u32 *dst, u32 value, u64 count)                  dst[i] = value
 *   aq_copy(u32 *dst, const u32 *src, u64 count)             dst[i] = src[i]
 *   aq_add(float *c, const float *a, const float *b, u64 n)  c[i] = a[i] + b[i]
 *   aq_mad(u32 *x, u32 m, u32 a, u64 count)                  x[i] = x[i] * m + a
 *   aq_sum(u64 *out, const u32 *src, u64 count)              *out += src[0] + ...
 *   aq_spin_ns(u64 ns)                                       takes that long
 *   aq_loop(u64 steps, u64 *out)                             takes STEP_NS a step
 *   aq_read_bytes(u64 *out, const void *src, u64 bytes)      *out ^= all 32-bit words; see below
 *   aq_gemm_bf16(a, b, u32 m, u32 n, u32 k)                  cost of the product, no result
 *   vectoradd, VecAdd_kernel, vectorAdd (a, b, c, u32 n)     c[i] = a[i] + b[i]
 *   aq_llm_*                                                 kernels_llm.c
 *
 * aq_read_bytes on a GPU combines what each thread saw, if not zero: with one thread the value is
 * as here, with more it is the same, since exclusive or does not mind the order.
 */
#include <stdlib.h>
#include <string.h>

#include "module.h"
#include "task.h"

#include "base/banned.h"

#define CHUNK 4096u /* elements that are computed at a time, 16 KiB of 32-bit ones */

#define STEP_NS 1u /* of aq_loop: a round number, for callers measure it; a GPU takes some ns */

#define DEFAULT_KERNEL_US 10u /* contract of ALIQUOT_SIM_KERNEL_US */

uint64_t sim_kernel_arg(const struct sim_kernel_task *t, uint32_t i)
{
	const struct sim_ptx_param *p = &t->function->entry->params[i];
	uint64_t value = 0;

	memcpy(&value, t->params + p->offset_bytes, p->size_bytes < 8 ? p->size_bytes : 8);
	return value;
}

static uint64_t arg(const struct sim_kernel_task *t, uint32_t i)
{
	return sim_kernel_arg(t, i);
}

static uint32_t chunk_of(uint64_t left)
{
	return left < CHUNK ? (uint32_t)left : CHUNK;
}

static void cost_fill(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	*bytes = 4 * arg(t, 2);
}

static CUresult fill(const struct sim_kernel_task *t)
{
	return sim_bytes_fill(arg(t, 0), (uint32_t)arg(t, 1), 4, arg(t, 2));
}

static void cost_copy(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	*bytes = 8 * arg(t, 2);
}

static CUresult copy(const struct sim_kernel_task *t)
{
	return sim_bytes_copy(arg(t, 0), arg(t, 1), 4 * arg(t, 2));
}

static CUresult add_floats(uint64_t c, uint64_t a, uint64_t b, uint64_t count)
{
	float x[CHUNK], y[CHUNK];
	CUresult r = CUDA_SUCCESS;

	for (uint64_t i = 0; i < count && r == CUDA_SUCCESS; i += CHUNK) {
		uint32_t n = chunk_of(count - i);

		r = sim_bytes_read(x, a + 4 * i, 4 * n);
		if (r == CUDA_SUCCESS)
			r = sim_bytes_read(y, b + 4 * i, 4 * n);
		for (uint32_t j = 0; j < n && r == CUDA_SUCCESS; j++)
			x[j] += y[j];
		if (r == CUDA_SUCCESS)
			r = sim_bytes_write(c + 4 * i, x, 4 * n);
	}
	return r;
}

static void cost_add(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		     uint64_t *fixed_ns)
{
	*bytes = 12 * arg(t, 3);
}

static CUresult add(const struct sim_kernel_task *t)
{
	return add_floats(arg(t, 0), arg(t, 1), arg(t, 2), arg(t, 3));
}

/* In the samples the result comes last; threads beyond the grid do not exist. */
static CUresult sample_add(const struct sim_kernel_task *t)
{
	uint64_t count = arg(t, 3), threads = (uint64_t)t->grid[0] * t->block[0];

	return add_floats(arg(t, 2), arg(t, 0), arg(t, 1), count < threads ? count : threads);
}

static void cost_mad(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		     uint64_t *fixed_ns)
{
	*bytes = 8 * arg(t, 3);
}

static CUresult mad(const struct sim_kernel_task *t)
{
	uint64_t x = arg(t, 0), count = arg(t, 3);
	uint32_t m = (uint32_t)arg(t, 1), a = (uint32_t)arg(t, 2), v[CHUNK];
	CUresult r = CUDA_SUCCESS;

	for (uint64_t i = 0; i < count && r == CUDA_SUCCESS; i += CHUNK) {
		uint32_t n = chunk_of(count - i);

		r = sim_bytes_read(v, x + 4 * i, 4 * n);
		for (uint32_t j = 0; j < n && r == CUDA_SUCCESS; j++)
			v[j] = v[j] * m + a;
		if (r == CUDA_SUCCESS)
			r = sim_bytes_write(x + 4 * i, v, 4 * n);
	}
	return r;
}

static void cost_sum(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		     uint64_t *fixed_ns)
{
	*bytes = 4 * arg(t, 2);
}

static CUresult sum(const struct sim_kernel_task *t)
{
	uint64_t src = arg(t, 1), count = arg(t, 2), total;
	uint32_t v[CHUNK];
	CUresult r = sim_bytes_read(&total, arg(t, 0), sizeof(total));

	for (uint64_t i = 0; i < count && r == CUDA_SUCCESS; i += CHUNK) {
		uint32_t n = chunk_of(count - i);

		r = sim_bytes_read(v, src + 4 * i, 4 * n);
		for (uint32_t j = 0; j < n && r == CUDA_SUCCESS; j++)
			total += v[j];
	}
	return r == CUDA_SUCCESS ? sim_bytes_write(arg(t, 0), &total, sizeof(total)) : r;
}

static void cost_spin(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	*fixed_ns = arg(t, 0) ? arg(t, 0) : 1;
}

static void cost_loop(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	uint64_t steps = arg(t, 0);

	*fixed_ns = steps < INT64_MAX / STEP_NS ? steps * STEP_NS : INT64_MAX;
	if (!*fixed_ns)
		*fixed_ns = 1;
}

static void cost_read(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	*bytes = arg(t, 2) / 16 * 16;
}

static CUresult read_bytes(const struct sim_kernel_task *t)
{
	uint64_t src = arg(t, 1), count = arg(t, 2) / 16 * 4, all;
	uint32_t v[CHUNK], x = 0;
	CUresult r = sim_bytes_read(&all, arg(t, 0), sizeof(all));

	for (uint64_t i = 0; i < count && r == CUDA_SUCCESS; i += CHUNK) {
		uint32_t n = chunk_of(count - i);

		r = sim_bytes_read(v, src + 4 * i, 4 * n);
		for (uint32_t j = 0; j < n && r == CUDA_SUCCESS; j++)
			x ^= v[j];
	}
	if (r != CUDA_SUCCESS || !x)
		return r;
	all ^= x;
	return sim_bytes_write(arg(t, 0), &all, sizeof(all));
}

static void cost_gemm(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	uint64_t m = arg(t, 2), n = arg(t, 3), k = arg(t, 4);

	*bytes = 2 * (m * k + k * n);
	*flops = 2 * m * n * k;
}

static const struct sim_kernel kernels[] = {
	{"aq_fill", 3, {8, 4, 8}, cost_fill, fill},
	{"aq_copy", 3, {8, 8, 8}, cost_copy, copy},
	{"aq_add", 4, {8, 8, 8, 8}, cost_add, add},
	{"aq_mad", 4, {8, 4, 4, 8}, cost_mad, mad},
	{"aq_sum", 3, {8, 8, 8}, cost_sum, sum},
	{"aq_spin_ns", 1, {8}, cost_spin, NULL},
	{"aq_loop", 2, {8, 8}, cost_loop, NULL},
	{"aq_read_bytes", 3, {8, 8, 8}, cost_read, read_bytes},
	{"aq_gemm_bf16", 5, {8, 8, 4, 4, 4}, cost_gemm, NULL},
	{"vectoradd", 4, {8, 8, 8, 4}, cost_add, sample_add},
	{"vectorAdd", 4, {8, 8, 8, 4}, cost_add, sample_add},
	{"VecAdd_kernel", 4, {8, 8, 8, 4}, cost_add, sample_add},
};

static bool is_kernel(const struct sim_kernel *k, const char *name, uint32_t n_params,
		      const uint32_t *param_bytes)
{
	return !strcmp(k->name, name) && k->n_params == n_params &&
	       !memcmp(k->param_bytes, param_bytes, n_params * sizeof(*param_bytes));
}

const struct sim_kernel *sim_kernel_find(const char *name, uint32_t n_params,
					 const uint32_t *param_bytes)
{
	for (size_t i = 0; i < AQ_ARRAY_SIZE(kernels); i++)
		if (is_kernel(&kernels[i], name, n_params, param_bytes))
			return &kernels[i];
	for (size_t i = 0; i < sim_n_kernels_llm; i++)
		if (is_kernel(&sim_kernels_llm[i], name, n_params, param_bytes))
			return &sim_kernels_llm[i];
	return NULL;
}

uint64_t sim_kernel_unknown_ns(void)
{
	static _Atomic uint64_t known_ns; /* 0 until read; every thread reads the same */
	uint64_t ns = known_ns;
	const char *text;
	char *end;
	double us;

	if (ns)
		return ns;
	text = getenv("ALIQUOT_SIM_KERNEL_US");
	us = text ? strtod(text, &end) : 0;
	/* Nonsense means the default; a second is as long as anybody can want by accident. */
	if (!text || end == text || *end || !(us > 0) || us > 1e6)
		us = DEFAULT_KERNEL_US;
	ns = (uint64_t)(us * 1000);
	if (!ns)
		ns = 1;
	known_ns = ns;
	return ns;
}
