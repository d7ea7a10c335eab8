/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of the serving engine for a real GPU: they move the bytes and do the tensor operations
 * of a step on random weights, and produce no text. Not compiled by the build: `make-ptx` makes
 * kernels.ptx.h of this, which is what programs load. sim/kernels_llm.c has their costs.
 *
 * All take any one-dimensional grid; aq_llm_gemm and aq_llm_attend want blocks of 256 threads.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

#define WARP 32u
#define BLOCK_TOKENS 16u /* of a block of the KV cache */
#define BF16_BYTES 2u
#define FLOPS_PER_MMA (2u * 16 * 8 * 16)

struct record {
	u32 n_new, n_context, first, reserved;
};

/* Folds loads into a word, so that none can be dropped. */
static __device__ u32 fold(u32 x, uint4 v)
{
	return x ^ v.x ^ v.y ^ v.z ^ v.w;
}

/* Reads @words of 16 bytes by @n threads of which this is number @i; four loads are under way. */
static __device__ u32 stream(const uint4 *from, u64 words, u64 i, u64 n)
{
	u32 x = 0;

	for (; i + 3 * n < words; i += 4 * n) {
		uint4 a = from[i], b = from[i + n], c = from[i + 2 * n], d = from[i + 3 * n];

		x = fold(fold(fold(fold(x, a), b), c), d);
	}
	for (; i < words; i += n)
		x = fold(x, from[i]);
	return x;
}

/* Does @count products of 16 by 8 by 16 in one warp; four chains, so that they do not wait. */
static __device__ float multiply(u64 count, u32 seed)
{
	float c[4][4] = {};

	for (u64 i = 0; i < count; i += 4)
#pragma unroll
		for (int j = 0; j < 4; j++)
			asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
				     "{%0, %1, %2, %3}, {%4, %4, %4, %4}, {%4, %4}, "
				     "{%0, %1, %2, %3};"
				     : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
				     : "r"(seed));
	return c[0][0] + c[1][1] + c[2][2] + c[3][3];
}

/* A warp's share of @total, by its number. */
static __device__ u64 share(u64 total, u64 warp, u64 warps)
{
	return total / warps + (warp < total % warps);
}

/* Even warps read the operands and write the result's bytes, odd warps multiply. */
extern "C" __global__ void aq_llm_gemm(u32 *c, const uint4 *a, const uint4 *b, u32 m, u32 n, u32 k)
{
	u64 warp = (blockIdx.x * (u64)blockDim.x + threadIdx.x) / WARP / 2;
	u64 warps = gridDim.x * (u64)blockDim.x / WARP / 2;
	u32 lane = threadIdx.x % WARP, x;

	if (threadIdx.x / WARP % 2) {
		u64 products = 2 * (u64)m * n * k / FLOPS_PER_MMA + 1;
		float f = multiply(share(products, warp, warps), threadIdx.x);

		if (f == 3.4e38f) /* never, but the compiler cannot know */
			c[0] = 1;
		return;
	}
	x = stream(a, (u64)m * k * BF16_BYTES / 16, warp * WARP + lane, warps * WARP);
	x ^= stream(b, (u64)k * n * BF16_BYTES / 16, warp * WARP + lane, warps * WARP);
	for (u64 i = warp * WARP + lane; i < (u64)m * n * BF16_BYTES / 4; i += warps * WARP)
		c[i] = x;
}

/* Blocks take sequences in turn, gridDim.x / n_seqs of them a sequence; even warps read the blocks of
 * its context, odd warps multiply, and the new tokens' keys and values are written. */
extern "C" __global__ void aq_llm_attend(u32 *out, uint4 *kv, const u32 *table, const record *seqs,
					 u32 n_seqs, u32 heads, u32 kv_heads, u32 head_dim)
{
	u32 splits = gridDim.x / n_seqs ? gridDim.x / n_seqs : 1;
	u64 token_words = (u64)kv_heads * head_dim * 2 * BF16_BYTES / 16;
	u64 block_words = token_words * BLOCK_TOKENS;
	u32 warps = blockDim.x / WARP / 2, lane = threadIdx.x % WARP, x = 0;

	for (u32 job = blockIdx.x; job < n_seqs * splits; job += gridDim.x) {
		record s = seqs[job / splits];
		u32 part = job % splits * warps + threadIdx.x / WARP / 2, parts = splits * warps;

		if (!s.n_new || s.n_new > s.n_context)
			continue;
		if (threadIdx.x / WARP % 2) {
			u64 pairs = (u64)s.n_new * s.n_context - (u64)s.n_new * (s.n_new - 1) / 2;
			u64 products = 4 * pairs * heads * head_dim / FLOPS_PER_MMA + 1;

			if (multiply(share(products, part, parts), threadIdx.x) == 3.4e38f)
				out[0] = 1;
			continue;
		}
		for (u32 i = part; i * BLOCK_TOKENS < s.n_context; i += parts)
			x ^= stream(kv + table[s.first + i] * block_words, block_words, lane, WARP);
		for (u32 i = s.n_context - s.n_new + part; i < s.n_context; i += parts) {
			uint4 *to = kv + table[s.first + i / BLOCK_TOKENS] * block_words +
				    i % BLOCK_TOKENS * token_words;

			for (u64 j = lane; j < token_words; j += WARP)
				to[j] = make_uint4(x, i, lane, 0);
		}
		if (!lane)
			out[job % 1024] = x;
	}
}

extern "C" __global__ void aq_llm_pointwise(uint4 *dst, const uint4 *src, u64 bytes)
{
	u64 n = gridDim.x * (u64)blockDim.x;

	for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < bytes / 16; i += n) {
		uint4 v = src[i];

		dst[i] = make_uint4(v.x + 1, v.y, v.z, v.w);
	}
}

/* Words of which each half is a small bf16: an exponent of 2^-8..2^-1, so that sums stay finite. */
extern "C" __global__ void aq_llm_fill(u32 *dst, u64 bytes, u32 seed)
{
	u64 n = gridDim.x * (u64)blockDim.x;

	for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < bytes / 4; i += n) {
		u32 x = (u32)i * 2654435761u ^ seed;

		x ^= x >> 15;
		x *= 2246822519u;
		x ^= x >> 13;
		dst[i] = (x & 0x83ff83ffu) | 0x3c003c00u;
	}
}
