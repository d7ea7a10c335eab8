/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rates of copies between pinned host memory and the device, each way and both ways at once, in
 * chunks of several sizes, and what it costs to pin memory. The best rates here are what moving a
 * process's memory is to be compared with.
 */
#include "probe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static size_t total = 2 * GIB; /* of one pass */

struct end {
	char *host;
	CUdeviceptr device;
	CUstream stream;
};

static int pass(struct end *e, bool to_device, size_t chunk)
{
	for (size_t at = 0; at < total; at += chunk) {
		size_t off = at % GIB;

		if (to_device)
			TRY(cu.cuMemcpyHtoDAsync_v2(e->device + off, e->host + off, chunk,
						    e->stream));
		else
			TRY(cu.cuMemcpyDtoHAsync_v2(e->host + off, e->device + off, chunk,
						    e->stream));
	}
	return 0;
}

static int rate(struct end *e, bool to_device, size_t chunk, const char *what)
{
	struct samples s = {0};

	probe_step(what);
	for (int i = 0; i < 4; i++) {
		uint64_t t0 = now_ns();

		if (pass(e, to_device, chunk))
			return -1;
		TRY(cu.cuStreamSynchronize(e->stream));
		if (i) /* the first one warms up */
			samples_add(&s, (double)total / (double)(now_ns() - t0));
	}
	report(what, "GB/s", &s, "%zu MiB of pinned memory in chunks of %zu MiB",
	       (size_t)(total / MIB), (size_t)(chunk / MIB));
	return 0;
}

/* Both directions at once end at different times; each one's own rate. */
static int rate_both(struct end *ends, size_t chunk, const char *what)
{
	struct samples s[2] = {{0}, {0}};
	CUevent done[2], start;
	char name[96];

	probe_step(what);
	TRY(cu.cuEventCreate(&start, CU_EVENT_DEFAULT));
	TRY(cu.cuEventCreate(&done[0], CU_EVENT_DEFAULT));
	TRY(cu.cuEventCreate(&done[1], CU_EVENT_DEFAULT));
	for (int i = 0; i < 4; i++) {
		TRY(cu.cuEventRecord(start, ends[0].stream));
		TRY(cu.cuStreamWaitEvent(ends[1].stream, start, 0));
		for (size_t at = 0; at < total; at += chunk) {
			size_t off = at % GIB;

			TRY(cu.cuMemcpyHtoDAsync_v2(ends[0].device + off, ends[0].host + off, chunk,
						    ends[0].stream));
			TRY(cu.cuMemcpyDtoHAsync_v2(ends[1].host + off, ends[1].device + off, chunk,
						    ends[1].stream));
		}
		for (int k = 0; k < 2; k++)
			TRY(cu.cuEventRecord(done[k], ends[k].stream));
		for (int k = 0; k < 2; k++) {
			float ms = 0;

			TRY(cu.cuEventSynchronize(done[k]));
			TRY(cu.cuEventElapsedTime(&ms, start, done[k]));
			if (i && ms > 0)
				samples_add(&s[k], (double)total / ((double)ms * 1e6));
		}
	}
	for (int k = 0; k < 2; k++) {
		snprintf(name, sizeof(name), "%s.%s", what, k ? "to_host" : "to_device");
		report(name, "GB/s", &s[k],
		       "its own rate while the other direction runs, chunks of %zu MiB",
		       (size_t)(chunk / MIB));
		TRY(cu.cuEventDestroy_v2(done[k]));
	}
	TRY(cu.cuEventDestroy_v2(start));
	return 0;
}

static int device_to_device(struct end *ends)
{
	struct samples s = {0};

	probe_step("device_to_device");
	for (int i = 0; i < 12; i++) {
		uint64_t t0 = now_ns();

		TRY(cu.cuMemcpyDtoDAsync_v2(ends[0].device, ends[1].device, GIB, ends[0].stream));
		TRY(cu.cuStreamSynchronize(ends[0].stream));
		if (i > 1)
			samples_add(&s, 2.0 * (double)GIB / (double)(now_ns() - t0));
	}
	report("device_to_device", "GB/s", &s, "1 GiB, bytes read and written counted");
	return 0;
}

static int pageable(struct end *e)
{
	size_t bytes = probe_quick() ? 32 * MIB : 512 * MIB;
	char *host = malloc(bytes);
	struct samples s = {0};

	probe_step("pageable_to_device");
	if (!host)
		return 0;
	memset(host, 1, bytes);
	for (int i = 0; i < 3; i++) {
		uint64_t t0 = now_ns();

		TRY(cu.cuMemcpyHtoD_v2(e->device, host, bytes));
		TRY(cu.cuCtxSynchronize());
		samples_add(&s, (double)bytes / (double)(now_ns() - t0));
	}
	free(host);
	report("pageable_to_device", "GB/s", &s, "%zu MiB of ordinary memory",
	       (size_t)(bytes / MIB));
	return 0;
}

/* Pinning: driver's own allocation, and registering memory that is there already. */
static int pinning(void)
{
	static const struct {
		const char *name;
		int flags, advice;
	} kinds[] = {
		{"register_small_pages", 0, MADV_NOHUGEPAGE},
		{"register_transparent_huge_pages", 0, MADV_HUGEPAGE},
		{"register_hugetlb", MAP_HUGETLB, -1},
	};
	size_t bytes = probe_quick() ? 64 * MIB : GIB;
	uint64_t t0 = now_ns();
	void *p;

	probe_step("pin");
	TRY(cu.cuMemHostAlloc(&p, bytes, CU_MEMHOSTALLOC_PORTABLE));
	report_one("pin.host_alloc", "ns/MiB",
		   (double)(now_ns() - t0) * (double)MIB / (double)bytes,
		   "cuMemHostAlloc of %zu MiB", (size_t)(bytes / MIB));
	TRY(cu.cuMemFreeHost(p));
	for (size_t i = 0; i < ARRAY_LEN(kinds) && cu.cuMemHostRegister_v2; i++) {
		char what[96];

		snprintf(what, sizeof(what), "pin.%s", kinds[i].name);
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | kinds[i].flags, -1, 0);
		if (p == MAP_FAILED) {
			report_skipped(what, "no such memory to be had");
			continue;
		}
		if (kinds[i].advice >= 0)
			madvise(p, bytes, kinds[i].advice);
		memset(p, 1, bytes);
		t0 = now_ns();
		if (cu.cuMemHostRegister_v2(p, bytes, CU_MEMHOSTREGISTER_PORTABLE)) {
			report_skipped(what, "cuMemHostRegister refuses");
		} else {
			report_one(what, "ns/MiB",
				   (double)(now_ns() - t0) * (double)MIB / (double)bytes,
				   "cuMemHostRegister of %zu MiB that are there already",
				   (size_t)(bytes / MIB));
			TRY(cu.cuMemHostUnregister(p));
		}
		munmap(p, bytes);
	}
	return 0;
}

static int rates(struct end *ends)
{
	static const size_t chunks[] = {2 * MIB, 8 * MIB, 32 * MIB, 128 * MIB, 256 * MIB};
	char what[64];

	for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
		size_t mib = (size_t)(chunks[i] / MIB);

		if (probe_quick() && chunks[i] > total)
			break;
		snprintf(what, sizeof(what), "to_device_%zuMiB", mib);
		if (rate(&ends[0], true, chunks[i], what))
			return -1;
		snprintf(what, sizeof(what), "to_host_%zuMiB", mib);
		if (rate(&ends[1], false, chunks[i], what))
			return -1;
		snprintf(what, sizeof(what), "both_%zuMiB", mib);
		if (rate_both(ends, chunks[i], what))
			return -1;
	}
	return 0;
}

static int open_ends(struct end *ends)
{
	size_t bytes = total < GIB ? total : GIB;

	for (int i = 0; i < 2; i++) {
		TRY(cu.cuMemAlloc_v2(&ends[i].device, GIB));
		ends[i].host = gpu_pinned(bytes);
		if (!ends[i].host) {
			report_failed(NULL, "no pinned memory of %zu MiB", (size_t)(bytes / MIB));
			return -1;
		}
		TRY(cu.cuStreamCreate(&ends[i].stream, CU_STREAM_NON_BLOCKING));
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct end ends[2];
	struct gpu g;

	probe_begin(argc, argv, "copy", 120, NULL);
	if (probe_quick())
		total = 32 * MIB;
	probe_step("open");
	if (gpu_open(&g) == 0 && open_ends(ends) == 0 && rates(ends) == 0 &&
	    device_to_device(ends) == 0 && pageable(&ends[0]) == 0 && pinning() == 0)
		gpu_close(&g);
	return probe_end();
}
