/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a working set off the device and back under the same addresses: copy to pinned memory,
 * unmap, release; then create, map, set access, copy back. How near does that come to the rate of
 * the plain copy, by handle size, step by step or with mapping and copying at once? The contents
 * are checked after each wake. --gib=N is the working set (default 16, less where it does not fit).
 */
#include "probe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGISTER_PIECE GIB

struct set {
	struct gpu g;
	size_t bytes, piece, n;
	CUdeviceptr at, bad;
	char *host;
	CUmemGenericAllocationHandle *h;
	_Atomic uint32_t mapped; /* pieces, by the mapping thread */
	_Atomic uint32_t failed;
};

static int map_piece(struct set *s, size_t i)
{
	CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = s->g.dev},
	};
	CUmemAccessDesc access = {
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = s->g.dev},
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	CUdeviceptr at = s->at + i * s->piece;

	TRY(cu.cuMemCreate(&s->h[i], s->piece, &prop, 0));
	TRY(cu.cuMemMap(at, s->piece, 0, s->h[i], 0));
	TRY(cu.cuMemSetAccess(at, s->piece, &access, 1));
	return 0;
}

static int copy_piece(struct set *s, size_t i, bool to_device)
{
	CUdeviceptr at = s->at + i * s->piece;
	char *host = s->host + i * s->piece;

	if (to_device)
		TRY(cu.cuMemcpyHtoDAsync_v2(at, host, s->piece, s->g.stream));
	else
		TRY(cu.cuMemcpyDtoHAsync_v2(host, at, s->piece, s->g.stream));
	return 0;
}

static int copy_all(struct set *s, bool to_device)
{
	for (size_t i = 0; i < s->n; i++)
		if (copy_piece(s, i, to_device))
			return -1;
	TRY(cu.cuStreamSynchronize(s->g.stream));
	return 0;
}

static int map_all(struct set *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (map_piece(s, i))
			return -1;
	return 0;
}

static int unmap_all(struct set *s)
{
	TRY(cu.cuMemUnmap(s->at, s->bytes));
	for (size_t i = 0; i < s->n; i++)
		TRY(cu.cuMemRelease(s->h[i]));
	return 0;
}

static int fill(struct set *s, uint32_t seed)
{
	uint64_t words = s->bytes / 4;

	TRY(gpu_run(&s->g, K_FILL, (unsigned)s->g.sms * 4, 512, s->g.stream, &s->at, &words,
		    &seed));
	TRY(cu.cuStreamSynchronize(s->g.stream));
	return 0;
}

static int check(struct set *s, uint32_t seed)
{
	uint64_t words = s->bytes / 4;
	uint32_t bad = 0;

	if (!s->g.computes)
		return 0;
	TRY(cu.cuMemsetD32_v2(s->bad, 0, 1));
	TRY(gpu_run(&s->g, K_CHECK, (unsigned)s->g.sms * 4, 512, s->g.stream, &s->at, &words, &seed,
		    &s->bad));
	TRY(cu.cuStreamSynchronize(s->g.stream));
	TRY(cu.cuMemcpyDtoH_v2(&bad, s->bad, sizeof(bad)));
	if (bad)
		report_failed(NULL, "%u words are wrong after the wake", bad);
	return bad ? -1 : 0;
}

static void *map_in_order(void *arg)
{
	struct set *s = arg;

	cu.cuCtxSetCurrent(s->g.ctx);
	for (size_t i = 0; i < s->n; i++) {
		if (map_piece(s, i)) {
			atomic_store(&s->failed, 1);
			break;
		}
		futex_set(&s->mapped, (uint32_t)i + 1);
	}
	return NULL;
}

/* One thread maps, this one copies what is mapped. */
static int wake_pipelined(struct set *s)
{
	pthread_t thread;
	int r = 0;

	atomic_store(&s->mapped, 0);
	if (pthread_create(&thread, NULL, map_in_order, s))
		return -1;
	for (size_t i = 0; i < s->n && !r; i++) {
		uint32_t now;

		while ((now = atomic_load(&s->mapped)) <= i && !atomic_load(&s->failed))
			futex_wait(&s->mapped, now, 0.1);
		r = atomic_load(&s->failed) ? -1 : copy_piece(s, i, true);
	}
	pthread_join(thread, NULL);
	if (r)
		return -1;
	TRY(cu.cuStreamSynchronize(s->g.stream));
	return 0;
}

static double gb(const struct set *s)
{
	return (double)s->bytes / 1e9;
}

static double seconds_since(uint64_t t0)
{
	return (double)(now_ns() - t0) / 1e9;
}

struct results {
	struct samples park, park_copy, wake, wake_map, wake_copy, pipelined, plain;
};

static int one_cycle(struct set *s, struct results *r, bool pipelined, uint32_t seed)
{
	uint64_t t0, t1;

	if (fill(s, seed))
		return -1;
	t0 = now_ns();
	if (copy_all(s, false))
		return -1;
	samples_add(&r->park_copy, gb(s) / seconds_since(t0));
	if (unmap_all(s))
		return -1;
	samples_add(&r->park, gb(s) / seconds_since(t0));
	t0 = now_ns();
	if (pipelined) {
		if (wake_pipelined(s))
			return -1;
		samples_add(&r->pipelined, gb(s) / seconds_since(t0));
	} else {
		if (map_all(s))
			return -1;
		samples_add(&r->wake_map, gb(s) / seconds_since(t0));
		t1 = now_ns();
		if (copy_all(s, true))
			return -1;
		samples_add(&r->wake_copy, gb(s) / seconds_since(t1));
		samples_add(&r->wake, gb(s) / seconds_since(t0));
	}
	if (check(s, seed))
		return -1;
	t0 = now_ns();
	if (copy_all(s, true))
		return -1;
	samples_add(&r->plain, gb(s) / seconds_since(t0));
	return 0;
}

static void show(const char *name, const char *part, struct samples *s, const struct set *set,
		 const char *note)
{
	char what[96];

	snprintf(what, sizeof(what), "%s.%s", name, part);
	report(what, "GB/s", s, "%s; %zu MiB in handles of %zu MiB", note,
	       (size_t)(set->bytes / MIB), (size_t)(set->piece / MIB));
}

static int cycles(struct set *s, size_t piece)
{
	struct results r;
	char name[64];

	memset(&r, 0, sizeof(r));
	snprintf(name, sizeof(name), "handles_%zuMiB", (size_t)(piece / MIB));
	probe_step(name);
	s->piece = piece;
	s->n = s->bytes / piece;
	s->h = calloc(s->n, sizeof(*s->h));
	TRY(cu.cuMemAddressReserve(&s->at, s->bytes, 0, 0, 0));
	if (!s->h || map_all(s))
		return -1;
	for (uint32_t i = 0; i < (probe_quick() ? 2 : 6) && probe_left_s() > 8; i++)
		if (one_cycle(s, &r, i % 2, 17 + i))
			return -1;
	if (unmap_all(s))
		return -1;
	TRY(cu.cuMemAddressFree(s->at, s->bytes));
	free(s->h);
	show(name, "park", &r.park, s, "copy to host, unmap, release");
	show(name, "park_copy_alone", &r.park_copy, s, "of that, the copy");
	show(name, "wake", &r.wake, s, "create, map, set access, then copy back");
	show(name, "wake_map_alone", &r.wake_map, s, "of that, all but the copy");
	show(name, "wake_copy_alone", &r.wake_copy, s, "of that, the copy");
	show(name, "wake_pipelined", &r.pipelined, s, "mapping in one thread, copying in another");
	show(name, "plain_copy", &r.plain, s, "the same copy to memory that is mapped already");
	return 0;
}

static size_t fitting(size_t wanted)
{
	size_t device_free = 0, device_total;
	unsigned long long host_kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &host_kib) == 1)
			break;
	if (f)
		fclose(f);
	cu.cuMemGetInfo_v2(&device_free, &device_total);
	while (wanted > GIB &&
	       (wanted > device_free - device_free / 8 || wanted > host_kib * KIB / 2))
		wanted -= GIB;
	return wanted;
}

/* Pinned memory for the whole set; huge pages where the kernel gives them. */
static int pin(struct set *s)
{
	uint64_t t0 = now_ns();

	s->host = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->host == MAP_FAILED || WANT(cuMemHostRegister_v2))
		return -1;
	madvise(s->host, s->bytes, MADV_HUGEPAGE);
	memset(s->host, 0, s->bytes);
	report_one("touch_host", "GB/s", gb(s) / seconds_since(t0), "first touch of %zu MiB",
		   (size_t)(s->bytes / MIB));
	t0 = now_ns();
	for (size_t at = 0; at < s->bytes; at += REGISTER_PIECE) {
		size_t n = s->bytes - at < REGISTER_PIECE ? s->bytes - at : REGISTER_PIECE;

		TRY(cu.cuMemHostRegister_v2(s->host + at, n, CU_MEMHOSTREGISTER_PORTABLE));
	}
	report_one("pin_host", "GB/s", gb(s) / seconds_since(t0),
		   "cuMemHostRegister in pieces of 1 GiB");
	return 0;
}

int main(int argc, char **argv)
{
	static struct set s;

	probe_begin(argc, argv, "park", 120, "gib");
	probe_step("open");
	if (gpu_open(&s.g) || WANT(cuMemCreate) || WANT(cuMemMap) || WANT(cuMemAddressReserve))
		return probe_end();
	s.bytes = probe_quick() ? 256 * MIB : fitting(probe_number_option("gib", 16) * GIB);
	probe_step("pin");
	if (cu.cuMemAlloc_v2(&s.bad, 4) || pin(&s))
		return probe_end();
	if (cycles(&s, 32 * MIB) == 0 && cycles(&s, 256 * MIB) == 0 && !probe_quick())
		cycles(&s, GIB);
	return probe_end();
}
