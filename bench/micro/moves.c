/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program whose memory is parked by bench/micro/park: allocates, measures the raw rate of pinned
 * copies and what allocating costs, and takes one step when asked. One line of JSON for each line
 * of input. Whichever libcuda.so.1 the loader finds; knows nothing of parking.
 *
 *   alloc BYTES [P]      hold so much more, in pieces of 64 MiB, of which P permille (1000), spread
 *                        evenly, are written, each 1 MiB with a word of its own
 *   drop                 free all of it
 *   raw BYTES            copy BYTES from the device to pinned memory and back in pieces of 32 MiB on
 *                        two streams: bytes per second each way; `fresh` is the way in to memory
 *                        that nobody has touched (which is what comes back after parking), and
 *                        free_s what the driver takes to free it all
 *   cost BYTES N         N times allocate and free: ns of each, medians
 *   step                 one small launch (a memset) and a wait: microseconds
 *   check [N [SEED]]     words that are not as written, or not zero where nothing was: of all, or of
 *                        N MiB, of which half are written ones
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timing.h"
#include "micro.h"

#define PIECE (64ull << 20)
#define BLOCK (1ull << 20)
#define COPY (32ull << 20)
#define MAX_PIECES 1024
#define MAX_ROUNDS 10000

#define CALLS(CU)                                                                                  \
	CU(synchronize, cuCtxSynchronize)                                                          \
	CU(alloc, cuMemAlloc_v2)                                                                   \
	CU(free, cuMemFree_v2)                                                                     \
	CU(host_alloc, cuMemHostAlloc)                                                             \
	CU(host_free, cuMemFreeHost)                                                               \
	CU(stream_create, cuStreamCreate)                                                          \
	CU(stream_destroy, cuStreamDestroy_v2)                                                     \
	CU(out, cuMemcpyDtoHAsync_v2)                                                              \
	CU(in, cuMemcpyHtoDAsync_v2)                                                               \
	CU(read, cuMemcpyDtoH_v2)                                                                  \
	CU(fill, cuMemsetD32_v2)                                                                   \
	CU(fill_async, cuMemsetD32Async)

/* Written once, at the start. */
static struct {
	CALLS(MICRO_FIELD)
} cu;

static CUdeviceptr pieces[MAX_PIECES];
static uint64_t bytes_of[MAX_PIECES];
static bool written[MAX_PIECES];
static unsigned int n_pieces;

/* What is in every word of a block: 0 where nothing is written, else not like any other. */
static uint32_t word_of(unsigned int piece, uint64_t block)
{
	return written[piece] ? (uint32_t)(piece * (PIECE / BLOCK) + block + 1) : 0;
}

static void hold(uint64_t bytes, unsigned int part)
{
	while (bytes && n_pieces < MAX_PIECES) {
		uint64_t piece = bytes < PIECE ? bytes : PIECE;

		must(cu.alloc(&pieces[n_pieces], piece), "cuMemAlloc");
		written[n_pieces] = (n_pieces + 1) * part / 1000 > n_pieces * part / 1000;
		for (uint64_t at = 0; at < piece; at += BLOCK) {
			uint32_t word = word_of(n_pieces, at / BLOCK);

			if (word)
				must(cu.fill(pieces[n_pieces] + at, word,
					     (piece - at < BLOCK ? piece - at : BLOCK) / 4),
				     "cuMemsetD32");
		}
		bytes_of[n_pieces++] = piece;
		bytes -= piece;
	}
	must(cu.synchronize(), "cuCtxSynchronize");
	printf("{\"pieces\": %u}\n", n_pieces);
}

static void drop(void)
{
	while (n_pieces)
		must(cu.free(pieces[--n_pieces]), "cuMemFree");
	printf("{}\n");
}

static uint64_t wrong_words(unsigned int piece, uint64_t block, uint32_t *words)
{
	uint64_t left = bytes_of[piece] - block * BLOCK, bytes = left < BLOCK ? left : BLOCK;
	uint32_t want = word_of(piece, block);
	uint64_t bad = 0;

	must(cu.read(words, pieces[piece] + block * BLOCK, bytes), "cuMemcpyDtoH");
	for (uint64_t i = 0; i < bytes / 4; i++)
		bad += words[i] != want;
	return bad;
}

static void check(unsigned int blocks, unsigned int seed)
{
	static uint32_t words[BLOCK / 4];
	uint64_t bad = 0, seen = 0;

	for (unsigned int i = 0; i < n_pieces; i++) {
		for (uint64_t b = 0; !blocks && b * BLOCK < bytes_of[i]; b++, seen++)
			bad += wrong_words(i, b, words);
	}
	for (; n_pieces && seen < blocks; seen++) {
		unsigned int piece = (unsigned int)rand_r(&seed) % n_pieces;
		uint64_t in_it;

		for (unsigned int n = 0; seen % 2 && !written[piece] && n < n_pieces; n++)
			piece = (piece + 1) % n_pieces;
		in_it = (bytes_of[piece] + BLOCK - 1) / BLOCK;

		bad += wrong_words(piece, (uint64_t)rand_r(&seed) % in_it, words);
	}
	printf("{\"bad\": %" PRIu64 ", \"blocks\": %" PRIu64 "}\n", bad, seen);
}

/* Each piece of the device goes to a place of its own in host memory, as when it is parked. */
static double copy_all(CUdeviceptr device, char *host, uint64_t bytes, bool out, CUstream *streams)
{
	uint64_t start = aq_now_ns();

	for (uint64_t at = 0, turn = 0; at < bytes; at += COPY, turn++) {
		uint64_t part = bytes - at < COPY ? bytes - at : COPY;

		if (out)
			must(cu.out(host + at, device + at, part, streams[turn % 2]), "copy out");
		else
			must(cu.in(device + at, host + at, part, streams[turn % 2]), "copy in");
	}
	must(cu.synchronize(), "cuCtxSynchronize");
	return (double)bytes * 1e9 / (double)(aq_now_ns() - start);
}

static void raw(uint64_t bytes)
{
	CUstream streams[2];
	double out, in, fresh;
	CUdeviceptr device;
	uint64_t start;
	void *host;

	must(cu.alloc(&device, bytes), "cuMemAlloc");
	must(cu.host_alloc(&host, bytes, 0), "cuMemHostAlloc");
	memset(host, 1, bytes);
	for (int i = 0; i < 2; i++)
		must(cu.stream_create(&streams[i], CU_STREAM_NON_BLOCKING), "cuStreamCreate");
	fresh = copy_all(device, host, bytes, false, streams);
	out = copy_all(device, host, bytes, true, streams);
	in = copy_all(device, host, bytes, false, streams);
	for (int i = 0; i < 2; i++)
		must(cu.stream_destroy(streams[i]), "cuStreamDestroy");
	must(cu.host_free(host), "cuMemFreeHost");
	start = aq_now_ns();
	must(cu.free(device), "cuMemFree");
	printf("{\"out_bytes_per_s\": %.0f, \"in_bytes_per_s\": %.0f, "
	       "\"fresh_bytes_per_s\": %.0f, \"free_s\": %.6f}\n",
	       out, in, fresh, (double)(aq_now_ns() - start) / 1e9);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void cost(uint64_t bytes, unsigned int rounds)
{
	static uint64_t allocs[MAX_ROUNDS], frees[MAX_ROUNDS];

	if (!rounds || rounds > MAX_ROUNDS)
		rounds = MAX_ROUNDS;
	for (unsigned int i = 0; i < rounds; i++) {
		uint64_t start = aq_now_ns();
		CUdeviceptr p;

		must(cu.alloc(&p, bytes), "cuMemAlloc");
		allocs[i] = aq_now_ns() - start;
		start = aq_now_ns();
		must(cu.free(p), "cuMemFree");
		frees[i] = aq_now_ns() - start;
	}
	qsort(allocs, rounds, sizeof(*allocs), compare);
	qsort(frees, rounds, sizeof(*frees), compare);
	printf("{\"alloc_ns\": %" PRIu64 ", \"free_ns\": %" PRIu64 "}\n", allocs[rounds / 2],
	       frees[rounds / 2]);
}

static void step(void)
{
	uint64_t start = aq_now_ns();

	must(cu.fill_async(pieces[0], word_of(0, 0), 1, NULL), "cuMemsetD32Async");
	must(cu.synchronize(), "cuCtxSynchronize");
	printf("{\"us\": %.1f}\n", (double)(aq_now_ns() - start) / 1e3);
}

int main(void)
{
	struct micro_command c;

	MICRO_FIND(CALLS);
	micro_context();
	printf("{}\n");
	while (micro_command(&c)) {
		if (!strcmp(c.verb, "alloc"))
			hold(c.a, c.words > 2 && c.b < 1000 ? (unsigned int)c.b : 1000);
		else if (!strcmp(c.verb, "drop"))
			drop();
		else if (!strcmp(c.verb, "raw"))
			raw(c.a);
		else if (!strcmp(c.verb, "cost"))
			cost(c.a, (unsigned int)c.b);
		else if (!strcmp(c.verb, "step"))
			step();
		else if (!strcmp(c.verb, "check"))
			check((unsigned int)c.a, (unsigned int)c.b);
		else
			return 2;
	}
	return 0;
}
