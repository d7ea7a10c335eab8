/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks for the driver as a CUDA runtime does, in the order that runtimes 11.8, 12.4 and 13.0 were
 * seen to, and prints what it was given. It is not a runtime and serves no call of one.
 *
 *   lookalike LIST v1|v2          the recorded look-ups in LIST (`NAME ver=N flags=N` lines)
 *   lookalike --errors            look-ups that fail, through both generations
 *
 * One line a look-up: `NAME VERSION FLAGS result status pointer owner symbol` where pointer is
 * nil, same (as dlsym() of the symbol the catalogue means by that name, version and flags) or
 * other; owner is the file name of the library that dladdr() finds there, with its directory's
 * name; symbol is the catalogue's and its role. The last line is `lookalike ok=1 ...`.
 *
 * The order: dlopen("libcuda.so.1", RTLD_NOW); dlsym of exactly one symbol; a probe for the empty
 * name; the look-ups; cuDriverGetVersion, cuInit, devices, attributes, primary context, module,
 * launch, each through the pointers that were handed out.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cu.h"
#include "cuda/cuda_name.h"

typedef CUresult (*get_v1)(const char *, void **, int, cuuint64_t);
typedef CUresult (*get_v2)(const char *, void **, int, cuuint64_t,
			   CUdriverProcAddressQueryResult *);

struct given {
	char name[96];
	int version;
	void *pfn;
};

static struct given given[1024];
static unsigned int n_given;
static void *libcuda;
static get_v1 resolve1;
static get_v2 resolve2;

static CUresult resolve(const char *name, void **pfn, int version, unsigned int flags, int *status)
{
	CUdriverProcAddressQueryResult s = (CUdriverProcAddressQueryResult)77;
	CUresult r;

	r = resolve2 ? resolve2(name, pfn, version, flags, &s)
		     : resolve1(name, pfn, version, flags);
	*status = resolve2 ? (int)s : -1;
	return r;
}

static const char *owner_of(void *p, char *buf, size_t size)
{
	const char *slash, *dir;
	Dl_info info;

	if (!p)
		return "-";
	if (!dladdr(p, &info) || !info.dli_fname)
		return "?";
	slash = strrchr(info.dli_fname, '/');
	if (!slash)
		return "?";
	for (dir = slash; dir > info.dli_fname && dir[-1] != '/'; dir--)
		;
	snprintf(buf, size, "%s", dir);
	return buf;
}

static void print_one(const char *name, int version, unsigned int flags, CUresult r, int status,
		      void *pfn)
{
	const struct aq_cuda_entry *entry = aq_cuda_entry_find(name, version, flags);
	void *direct = entry ? dlsym(libcuda, entry->sym) : NULL;
	char owner[256];

	printf("%s %d %u %d %d %s %s %s %s\n", name, version, flags, (int)r, status,
	       !pfn		   ? "nil"
	       : pfn == (void *)16 ? "untouched"
	       : pfn == direct	   ? "same"
				   : "other",
	       pfn == (void *)16 ? "-" : owner_of(pfn, owner, sizeof(owner)),
	       entry ? entry->sym : "-",
	       entry ? aq_cuda_role_name((enum aq_cuda_role)entry->role) : "-");
}

/* The newest that was handed out under @name, as a runtime keeps it; NULL if none was. */
static void *handed(const char *name)
{
	void *pfn = NULL;

	for (unsigned int i = 0; i < n_given; i++)
		if (!strcmp(given[i].name, name))
			pfn = given[i].pfn;
	return pfn;
}

static int replay(const char *path)
{
	char line[256], name[96];
	unsigned int flags;
	int version, status;
	FILE *f = fopen(path, "r");
	void *pfn = NULL;
	CUresult r;

	if (!f) {
		fprintf(stderr, "lookalike: cannot open %s\n", path);
		return 1;
	}
	r = resolve("", &pfn, 0, 0, &status);
	printf("probe %d %d %s\n", (int)r, status, pfn ? "pointer" : "nil");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%95s ver=%d flags=%u", name, &version, &flags) != 3)
			continue;
		pfn = NULL;
		r = resolve(name, &pfn, version, flags, &status);
		print_one(name, version, flags, r, status, pfn);
		if (pfn && n_given < sizeof(given) / sizeof(given[0])) {
			snprintf(given[n_given].name, sizeof(given[n_given].name), "%s", name);
			given[n_given].version = version;
			given[n_given++].pfn = pfn;
		}
	}
	fclose(f);
	return 0;
}

#define CALL(type, name, ...) (handed(name) ? ((type)handed(name))(__VA_ARGS__) : (CUresult)-1)
#define MUST(what, expr)                                                                           \
	do {                                                                                       \
		CUresult must_r = (expr);                                                          \
		if (must_r != CUDA_SUCCESS) {                                                      \
			printf("lookalike ok=0 step=%s code=%d\n", what, (int)must_r);             \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static const char ptx[] = ".version 7.0\n.target sm_70\n.address_size 64\n"
			  ".visible .entry nothing()\n{\n    ret;\n}\n";

/* What a runtime does with its pointers on the first use of a device. */
static int first_use(void)
{
	int count = 0, value = 0, version = 0, attributes = 0;
	size_t total = 0, total2 = 0, free_now = 0;
	CUfunction function = NULL;
	char device_name[128];
	CUmodule module = NULL;
	CUcontext ctx = NULL;
	CUdeviceptr p = 0;
	CUresult over;
	CUdevice dev = 0;

	MUST("version", CALL(CUresult(*)(int *), "cuDriverGetVersion", &version));
	MUST("init", CALL(CUresult(*)(unsigned int), "cuInit", 0));
	MUST("count", CALL(CUresult(*)(int *), "cuDeviceGetCount", &count));
	MUST("get", CALL(CUresult(*)(CUdevice *, int), "cuDeviceGet", &dev, 0));
	MUST("name",
	     CALL(CUresult(*)(char *, int, CUdevice), "cuDeviceGetName", device_name, 128, dev));
	MUST("total", CALL(CUresult(*)(size_t *, CUdevice), "cuDeviceTotalMem", &total, dev));
	for (int a = 1; a < 140; a++)
		attributes += CALL(CUresult(*)(int *, int, CUdevice), "cuDeviceGetAttribute",
				   &value, a, dev) == CUDA_SUCCESS;
	MUST("retain",
	     CALL(CUresult(*)(CUcontext *, CUdevice), "cuDevicePrimaryCtxRetain", &ctx, dev));
	MUST("current", CALL(CUresult(*)(CUcontext), "cuCtxSetCurrent", ctx));
	MUST("module",
	     CALL(CUresult(*)(CUmodule *, const void *), "cuModuleLoadData", &module, ptx));
	MUST("function", CALL(CUresult(*)(CUfunction *, CUmodule, const char *),
			      "cuModuleGetFunction", &function, module, "nothing"));
	MUST("launch",
	     CALL(CUresult(*)(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
			      unsigned int, unsigned int, unsigned int, CUstream, void **, void **),
		  "cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
	MUST("synchronize", CALL(CUresult(*)(void), "cuCtxSynchronize"));
	MUST("info", CALL(CUresult(*)(size_t *, size_t *), "cuMemGetInfo", &free_now, &total2));
	MUST("alloc", CALL(CUresult(*)(CUdeviceptr *, size_t), "cuMemAlloc", &p, 1 << 20));
	MUST("free", CALL(CUresult(*)(CUdeviceptr), "cuMemFree", p));
	over = CALL(CUresult(*)(CUdeviceptr *, size_t), "cuMemAlloc", &p, free_now + (64u << 20));
	printf("lookalike ok=1 looked_up=%u version=%d count=%d attributes=%d total=%zu info=%zu "
	       "over=%d\n",
	       n_given, version, count, attributes, total, total2, (int)over);
	return 0;
}

static void errors(void)
{
	static const struct {
		const char *name;
		int version;
		unsigned int flags;
	} asks[] = {
		{"cuNoSuchThing", 12000, 0},
		{"cuMemAlloc_v2", 12000, 0},
		{"cuMemAlloc", 1000, 0},
		{"cuMemAllocAsync", 11010, 0},
		{"cuMemAllocAsync", 11020, 2},
		{"cuMemAlloc", 3020, 7},
		{"cuMemAlloc", 3020, 64},
		{"cuMemAlloc", -1, 0},
		{"cuMemAlloc", 99000, 0},
		{"", 12000, 0},
		{"cuInit", 2000, 0},
		{"cuGraphInstantiate", 9000, 0},
		{"cuMemFreeAsync", 11020, 1},
		{"cumemalloc", 12000, 0},
		{"cuGetProcAddress", 11030, 0},
		{"cuGetProcAddress", 12000, 0},
	};
	get_v1 old;
	get_v2 now;

	*(void **)&old = dlsym(libcuda, "cuGetProcAddress");
	*(void **)&now = dlsym(libcuda, "cuGetProcAddress_v2");
	for (unsigned int gen = 1; gen <= 2; gen++) {
		resolve1 = gen == 1 ? old : NULL;
		resolve2 = gen == 2 ? now : NULL;
		for (unsigned int i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
			void *pfn = (void *)16; /* to see whether it is touched */
			int status;
			CUresult r = resolve(asks[i].name, &pfn, asks[i].version, asks[i].flags,
					     &status);

			print_one(*asks[i].name ? asks[i].name : "-", asks[i].version,
				  asks[i].flags, r, status, pfn);
		}
	}
	{
		void *pfn = (void *)16;
		int r1 = (int)now("cuMemAlloc", &pfn, 3020, 0, NULL);
		int r2 = (int)now("cuMemAlloc", NULL, 3020, 0, NULL);
		int r3 = (int)now(NULL, &pfn, 3020, 0, NULL);

		printf("nulls no_status=%d no_pointer=%d no_name=%d\n", r1, r2, r3);
	}
}

int main(int argc, char **argv)
{
	bool old = argc == 3 && !strcmp(argv[2], "v1");

	libcuda = dlopen("libcuda.so.1", RTLD_NOW);
	if (!libcuda) {
		fprintf(stderr, "lookalike: %s\n", dlerror());
		return 1;
	}
	if (argc == 2 && !strcmp(argv[1], "--errors")) {
		errors();
		return 0;
	}
	if (argc != 3) {
		fprintf(stderr, "usage: lookalike LIST v1|v2 | --errors\n");
		return 2;
	}
	if (old)
		*(void **)&resolve1 = dlsym(libcuda, "cuGetProcAddress");
	else
		*(void **)&resolve2 = dlsym(libcuda, "cuGetProcAddress_v2");
	if (!resolve1 && !resolve2) {
		fprintf(stderr, "lookalike: no cuGetProcAddress\n");
		return 1;
	}
	if (replay(argv[1]) != 0)
		return 1;
	return first_use();
}
