/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Costs of the kernels that a language model's step is made of, as bench/llm launches them. None of
 * them computes here: what they write is made up on a GPU, too, so their memory stays untouched and
 * weights of many gigabytes take nothing of the host.
 *
 *   aq_llm_gemm(c, a, b, u32 m, u32 n, u32 k)       c[m][n] = a[m][k] b[k][n], bf16
 *   aq_llm_attend(out, kv, table, seqs, u32 n_seqs, u32 heads, u32 kv_heads, u32 head_dim)
 *                                                   one layer of paged attention over a batch
 *   aq_llm_pointwise(dst, src, u64 bytes)           dst[i] = f(src[i]): norms, rotations,
 * activations aq_llm_fill(dst, u64 bytes, u32 seed)           random weights
 *
 * The batch of aq_llm_attend lies in device memory, as that of real engines does, so that a graph
 * can be replayed while sequences grow: n_seqs records of four u32, new tokens, tokens of context
 * (the new ones included), first entry in the table of blocks, and one that is not used. The cost
 * of a launch is that of the bytes that are there when it begins.
 */
#include <string.h>

#include "sim.h"
#include "task.h"

#include "base/cleanup.h"

#include "base/banned.h"

#define BF16_BYTES 2u

/* What one launch can name; a record beyond that is a mistake of the program, and costs nothing. */
#define MAX_SEQS 65536u
#define MAX_TOKENS (1u << 24)
#define RECORDS 256u /* read at a time */

/*
 * Overheads, derived from kernel tables of NVIDIA's AIConfigurator, which are not what doc/llm.md
 * checks the sum against:
 *   GEMM       bf16 with one row: weights of 25 MB reach 0.60 of 3.35 TB/s, of 58 MB 0.72, of 134
 * MB 0.84, as if 3 us were lost on each beside 0.85; 1.5 us of that are a launch already attention
 * decoding a short context takes 11 to 14 us a layer on H100 (1.98 GHz), 13 to 20 us on A100 (1.41
 * GHz): splits of the context, and the pass that joins them
 */
#define GEMM_CYCLES 3000u
#define ATTEND_CYCLES 20000u

struct record {
	uint32_t n_new, n_context, first, reserved;
};

static void cost_gemm(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	uint64_t m = sim_kernel_arg(t, 3), n = sim_kernel_arg(t, 4), k = sim_kernel_arg(t, 5);

	*bytes = BF16_BYTES * (m * k + k * n + m * n);
	*flops = 2 * m * n * k;
}

/* A new token sees what is before it, so a triangle of the new ones against each other is missing.
 */
static void add_record(const struct record *r, uint64_t q_width, uint64_t kv_width, uint64_t *bytes,
		       uint64_t *flops)
{
	uint64_t q = r->n_new, context = r->n_context;

	if (!q || q > context || context > MAX_TOKENS)
		return;
	*bytes += UINT64_C(2) * BF16_BYTES * (context * kv_width + q * q_width);
	*flops += 4 * q_width * (q * context - q * (q - 1) / 2);
}

static void cost_attend(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
			uint64_t *fixed_ns)
{
	uint64_t seqs = sim_kernel_arg(t, 3), n = sim_kernel_arg(t, 4);
	uint64_t head_dim = sim_kernel_arg(t, 7);
	uint64_t q_width = sim_kernel_arg(t, 5) * head_dim;
	uint64_t kv_width = sim_kernel_arg(t, 6) * head_dim;
	struct record records[RECORDS];

	if (n > MAX_SEQS)
		n = MAX_SEQS;
	for (uint64_t i = 0; i < n; i += RECORDS) {
		size_t count = n - i < RECORDS ? n - i : RECORDS;

		if (sim_bytes_read(records, seqs + i * sizeof(*records),
				   count * sizeof(*records)) != CUDA_SUCCESS)
			return;
		for (size_t j = 0; j < count; j++)
			add_record(&records[j], q_width, kv_width, bytes, flops);
	}
}

static void cost_pointwise(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
			   uint64_t *fixed_ns)
{
	*bytes = 2 * sim_kernel_arg(t, 2);
}

static void cost_fill(const struct sim_kernel_task *t, uint64_t *bytes, uint64_t *flops,
		      uint64_t *fixed_ns)
{
	*bytes = sim_kernel_arg(t, 1);
}

const struct sim_kernel sim_kernels_llm[] = {
	{"aq_llm_gemm", 6, {8, 8, 8, 4, 4, 4}, cost_gemm, NULL, GEMM_CYCLES},
	{"aq_llm_attend", 8, {8, 8, 8, 8, 4, 4, 4, 4}, cost_attend, NULL, ATTEND_CYCLES},
	{"aq_llm_pointwise", 3, {8, 8, 8}, cost_pointwise, NULL, 0},
	{"aq_llm_fill", 3, {8, 8, 4}, cost_fill, NULL, 0},
};

const size_t sim_n_kernels_llm = AQ_ARRAY_SIZE(sim_kernels_llm);
