/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver-API program that does what it is told: one command a line, one line of
 * `command key=value ...` for an answer. It allocates by every method there is, in any step, until
 * refused or not; holds, fills, verifies and frees. It knows nothing of Aliquot.
 *
 *   tenant [COMMAND...] [-]      commands from the arguments, then from stdin if `-` is last
 *
 * Sizes take K, M, G (powers of 1024). Commands:
 *   init                  cuInit, count the devices
 *   dev N                 retain the primary context of device N and make it current
 *   drop N                release that context once
 *   ctxnew / ctxdel       make one more context (and put back the current one) / end the last made
 *   info                  cuMemGetInfo, cuDeviceTotalMem
 *   alloc METHOD SIZE     one allocation, keeps it
 *   fill METHOD SIZE [N]  allocations of SIZE until one is refused, or N of them
 *   squeeze METHOD SIZE   fill with SIZE, SIZE/2, SIZE/4 ... down to one grain of 512 bytes
 *   retry METHOD SIZE N   N allocations that are each expected to fail; counts the codes
 *   free ID|last|all      give back
 *   put ID SEED / check ID SEED   write or verify a pattern in the first, middle and last 4 KiB
 *   churn METHOD SIZE N SEED      N random allocations and frees around what is held
 *   ipcget ID / ipcopen HEX       export a linear allocation / open one from another process
 *   module / unmodule     load and drop a small PTX module
 *   sync, trim, pid, sleep MS, quit CODE
 *
 * METHOD: linear pitch array array3d mipmap managed async pool vmm vmmcreate graph host
 *
 * When the environment names a file in TALLY, all tenants that share it add up there what they
 * hold (added after an allocation succeeds, taken off before it is freed, so the sum is never more
 * than the truth) and keep the highest sum: a witness that is independent of anybody's accounting.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "item.h"

#define GRAIN 512u
#define PROBE 4096u /* bytes of a pattern that are written at each of three places */

static CUcontext contexts[MAX_DEVICES];
static CUcontext extra[64];
static unsigned int n_extra;
static CUmodule modules[64];
static unsigned int n_modules;
static int current_device = -1;

static const char ptx[] = ".version 7.0\n.target sm_70\n.address_size 64\n"
			  ".visible .entry nothing()\n{\n    ret;\n}\n";

static int device(void)
{
	return current_device < 0 ? 0 : current_device;
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	switch (*end) {
	case 'k':
	case 'K':
		return n << 10;
	case 'm':
	case 'M':
		return n << 20;
	case 'g':
	case 'G':
		return n << 30;
	default:
		return n;
	}
}

static void cmd_init(void)
{
	int count = -1;
	CUresult r = cuInit(0);

	if (r == CUDA_SUCCESS)
		cuDeviceGetCount(&count);
	printf("init code=%d count=%d", (int)r, count);
}

static void cmd_dev(const char *arg)
{
	int n = arg ? (int)strtol(arg, NULL, 10) : 0;
	CUuuid uuid;
	CUdevice dev;
	CUresult r;

	if (n < 0 || n >= MAX_DEVICES) {
		printf("dev code=-1");
		return;
	}
	memset(&uuid, 0, sizeof(uuid));
	r = cuDeviceGet(&dev, n);
	if (r == CUDA_SUCCESS)
		r = cuDeviceGetUuid(&uuid, dev);
	if (r == CUDA_SUCCESS && !contexts[n])
		r = cuDevicePrimaryCtxRetain(&contexts[n], dev);
	if (r == CUDA_SUCCESS)
		r = cuCtxSetCurrent(contexts[n]);
	if (r == CUDA_SUCCESS)
		current_device = n;
	printf("dev code=%d uuid=", (int)r);
	for (unsigned int i = 0; i < 16; i++)
		printf("%02x", (unsigned int)(unsigned char)uuid.bytes[i]);
}

static void cmd_drop(const char *arg)
{
	int n = arg ? (int)strtol(arg, NULL, 10) : 0;
	CUresult r = cuDevicePrimaryCtxRelease(n);

	if (n >= 0 && n < MAX_DEVICES)
		contexts[n] = NULL;
	printf("drop code=%d", (int)r);
}

static void cmd_ctxnew(void)
{
	CUcontext popped;
	CUresult r = CUDA_ERROR_UNKNOWN;

	if (n_extra < sizeof(extra) / sizeof(extra[0]))
		r = cu_ctx_create(&extra[n_extra], device());
	if (r == CUDA_SUCCESS) {
		n_extra++;
		cuCtxPopCurrent(&popped);
	}
	printf("ctxnew code=%d count=%u", (int)r, n_extra);
}

static void cmd_ctxdel(void)
{
	CUresult r = n_extra ? cuCtxDestroy(extra[--n_extra]) : CUDA_ERROR_UNKNOWN;

	printf("ctxdel code=%d count=%u", (int)r, n_extra);
}

static void cmd_info(void)
{
	size_t free_now = 0, total = 0, device_total = 0;
	CUresult r = cuMemGetInfo(&free_now, &total);
	CUresult r2 = cuDeviceTotalMem(&device_total, device());

	printf("info code=%d free=%zu total=%zu code2=%d devtotal=%zu", (int)r, free_now, total,
	       (int)r2, device_total);
}

static void cmd_alloc(enum method method, uint64_t bytes)
{
	unsigned int id = 0;
	CUresult r = item_keep(device(), method, bytes, &id);

	if (r == CUDA_SUCCESS)
		printf("alloc code=0 id=%u bytes=%" PRIu64, id, items[id].bytes);
	else
		printf("alloc code=%d", (int)r);
}

static void cmd_fill(const char *verb, enum method method, uint64_t step, uint64_t max,
		     bool squeeze)
{
	uint64_t sum = 0, count = 0;
	unsigned int id = 0;
	CUresult r = CUDA_SUCCESS;

	for (;;) {
		while (count < max) {
			r = item_keep(device(), method, step, &id);
			if (r != CUDA_SUCCESS)
				break;
			sum += items[id].bytes;
			count++;
		}
		if (!squeeze || step <= GRAIN ||
		    (r != CUDA_SUCCESS && r != CUDA_ERROR_OUT_OF_MEMORY))
			break;
		step /= 2;
	}
	printf("%s code=%d count=%" PRIu64 " bytes=%" PRIu64, verb, (int)r, count, sum);
}

static void cmd_retry(enum method method, uint64_t bytes, uint64_t n)
{
	uint64_t ok = 0, oom = 0, other = 0;
	int last = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct item it;
		CUresult r = item_alloc(&it, device(), method, bytes);

		if (r == CUDA_SUCCESS) {
			ok++;
			item_free(&it);
		} else if (r == CUDA_ERROR_OUT_OF_MEMORY) {
			oom++;
		} else {
			other++;
			last = (int)r;
		}
	}
	printf("retry ok=%" PRIu64 " oom=%" PRIu64 " other=%" PRIu64 " other_code=%d", ok, oom,
	       other, last);
}

static void cmd_free(const char *arg)
{
	unsigned int count = 0;
	CUresult r = CUDA_SUCCESS;
	struct item *it;

	if (arg && !strcmp(arg, "all")) {
		for (unsigned int i = 0; i < n_items; i++) {
			if (items[i].live) {
				CUresult r2 = item_free(&items[i]);

				r = r != CUDA_SUCCESS ? r : r2;
				count++;
			}
		}
		n_items = 0;
	} else {
		it = item_named(arg);
		r = it ? item_free(it) : CUDA_ERROR_UNKNOWN;
		count = it != NULL;
	}
	printf("free code=%d count=%u", (int)r, count);
}

static void pattern(unsigned char *buf, uint64_t seed, uint64_t at)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + at + 1;

	for (unsigned int i = 0; i < PROBE; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		buf[i] = (unsigned char)(x >> 56);
	}
}

static void cmd_pattern(const char *verb, const char *id, const char *seed_text, bool write_it)
{
	unsigned char want[PROBE], got[PROBE];
	struct item *it = item_named(id);
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 1;
	unsigned int bad = 0;
	CUresult r = it && it->ptr && it->bytes >= PROBE ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;

	for (unsigned int place = 0; r == CUDA_SUCCESS && place < 3; place++) {
		uint64_t at = (it->bytes - PROBE) / 2 * place;

		pattern(want, seed, at);
		if (write_it) {
			r = cuMemcpyHtoD(it->ptr + at, want, PROBE);
			continue;
		}
		memset(got, 0, sizeof(got));
		r = cuMemcpyDtoH(got, it->ptr + at, PROBE);
		bad += r == CUDA_SUCCESS && memcmp(want, got, PROBE) != 0;
	}
	printf("%s code=%d bad=%u", verb, (int)r, bad);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void cmd_churn(enum method method, uint64_t max_bytes, uint64_t n, uint64_t seed)
{
	uint64_t state = seed * 2654435761u + 88172645463325252ull, oom = 0, other = 0, done = 0;
	struct item held[32];
	unsigned int n_held = 0;
	int last = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t bytes = next_random(&state) % max_bytes + 1;
		CUresult r;

		if (n_held == 32 || (n_held && next_random(&state) % 3 == 0)) {
			unsigned int k = (unsigned int)(next_random(&state) % n_held);

			r = item_free(&held[k]);
			held[k] = held[--n_held];
		} else {
			r = item_alloc(&held[n_held], device(), method, bytes);
			if (r == CUDA_SUCCESS)
				n_held++;
		}
		done += r == CUDA_SUCCESS;
		oom += r == CUDA_ERROR_OUT_OF_MEMORY;
		if (r != CUDA_SUCCESS && r != CUDA_ERROR_OUT_OF_MEMORY) {
			other++;
			last = (int)r;
		}
	}
	while (n_held) {
		if (item_free(&held[--n_held]) != CUDA_SUCCESS)
			other++;
	}
	printf("churn done=%" PRIu64 " oom=%" PRIu64 " other=%" PRIu64 " other_code=%d", done, oom,
	       other, last);
}

static void cmd_ipcget(const char *id)
{
	struct item *it = item_named(id);
	CUipcMemHandle handle;
	CUresult r;

	memset(&handle, 0, sizeof(handle));
	r = it ? cuIpcGetMemHandle(&handle, it->ptr) : CUDA_ERROR_UNKNOWN;
	printf("ipcget code=%d handle=", (int)r);
	for (unsigned int i = 0; i < sizeof(handle); i++)
		printf("%02x", (unsigned int)((unsigned char *)&handle)[i]);
}

static void cmd_ipcopen(const char *hex, const char *size)
{
	CUipcMemHandle handle;
	struct item *it = item_slot();
	CUresult r;

	if (!it || !hex || strlen(hex) != 2 * sizeof(handle)) {
		printf("ipcopen code=-1");
		return;
	}
	for (unsigned int i = 0; i < sizeof(handle); i++) {
		char two[3] = {hex[2 * i], hex[2 * i + 1], 0};

		((unsigned char *)&handle)[i] = (unsigned char)strtoul(two, NULL, 16);
	}
	memset(it, 0, sizeof(*it));
	r = cuIpcOpenMemHandle(&it->ptr, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
	if (r == CUDA_SUCCESS) {
		it->live = true;
		it->method = IPC;
		it->bytes = size ? parse_size(size) : PROBE;
		n_items++;
		printf("ipcopen code=0 id=%u", (unsigned int)(it - items));
	} else {
		printf("ipcopen code=%d", (int)r);
	}
}

static void cmd_module(void)
{
	CUresult r = CUDA_ERROR_UNKNOWN;

	if (n_modules < sizeof(modules) / sizeof(modules[0]))
		r = cuModuleLoadData(&modules[n_modules], ptx);
	n_modules += r == CUDA_SUCCESS;
	printf("module code=%d count=%u", (int)r, n_modules);
}

static void cmd_trim(void)
{
	CUmemoryPool pool;
	CUresult r = cuDeviceGetDefaultMemPool(&pool, device());

	if (r == CUDA_SUCCESS)
		r = cuMemPoolTrimTo(pool, 0);
	if (r == CUDA_SUCCESS && item_pool(device()))
		r = cuMemPoolTrimTo(item_pool(device()), 0);
	printf("trim code=%d", (int)r);
}

static void sleep_ms(unsigned long ms)
{
	struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* Commands that take a METHOD. Return: false when @verb is none of them. */
static bool run_with_method(char **word, unsigned int n)
{
	static const char *const verbs[] = {"alloc", "fill", "squeeze", "retry", "churn"};
	uint64_t bytes = n > 2 ? parse_size(word[2]) : 0;
	uint64_t count = n > 3 ? parse_size(word[3]) : UINT64_MAX;
	enum method method = N_METHODS;
	unsigned int v;

	for (v = 0; v < 5; v++)
		if (!strcmp(word[0], verbs[v]))
			break;
	if (v == 5)
		return false;
	if (n < 3 || !item_parse_method(word[1], &method))
		printf("%s code=-1 error=usage", word[0]);
	else if (v == 0)
		cmd_alloc(method, bytes);
	else if (v == 1 || v == 2)
		cmd_fill(word[0], method, bytes, count, v == 2);
	else if (v == 3)
		cmd_retry(method, bytes, n > 3 ? count : 1);
	else
		cmd_churn(method, bytes ? bytes : 1, n > 3 ? count : 100,
			  n > 4 ? parse_size(word[4]) : 1);
	return true;
}

static void run_command(char *line)
{
	char *word[6] = {NULL}, *save = NULL;
	unsigned int n = 0;

	for (char *w = strtok_r(line, " \t\r\n", &save); w && n < 6;
	     w = strtok_r(NULL, " \t\r\n", &save))
		word[n++] = w;
	if (!n)
		return;
	if (run_with_method(word, n)) {
		; /* done */
	} else if (!strcmp(word[0], "init")) {
		cmd_init();
	} else if (!strcmp(word[0], "dev")) {
		cmd_dev(word[1]);
	} else if (!strcmp(word[0], "drop")) {
		cmd_drop(word[1]);
	} else if (!strcmp(word[0], "ctxnew")) {
		cmd_ctxnew();
	} else if (!strcmp(word[0], "ctxdel")) {
		cmd_ctxdel();
	} else if (!strcmp(word[0], "info")) {
		cmd_info();
	} else if (!strcmp(word[0], "free")) {
		cmd_free(word[1]);
	} else if (!strcmp(word[0], "put") || !strcmp(word[0], "check")) {
		cmd_pattern(word[0], word[1], word[2], word[0][0] == 'p');
	} else if (!strcmp(word[0], "ipcget")) {
		cmd_ipcget(word[1]);
	} else if (!strcmp(word[0], "ipcopen")) {
		cmd_ipcopen(word[1], word[2]);
	} else if (!strcmp(word[0], "module")) {
		cmd_module();
	} else if (!strcmp(word[0], "unmodule")) {
		printf("unmodule code=%d",
		       n_modules ? (int)cuModuleUnload(modules[--n_modules]) : -1);
	} else if (!strcmp(word[0], "sync")) {
		printf("sync code=%d", (int)cuCtxSynchronize());
	} else if (!strcmp(word[0], "trim")) {
		cmd_trim();
	} else if (!strcmp(word[0], "pid")) {
		printf("pid pid=%d", (int)getpid());
	} else if (!strcmp(word[0], "sleep")) {
		sleep_ms(word[1] ? strtoul(word[1], NULL, 10) : 0);
		printf("sleep code=0");
	} else if (!strcmp(word[0], "quit")) {
		exit(word[1] ? (int)strtol(word[1], NULL, 10) : 0);
	} else {
		printf("%s code=-1 error=unknown_command", word[0]);
	}
	putchar('\n');
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[4096];

	item_tally_open();
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-") && i == argc - 1) {
			while (fgets(line, sizeof(line), stdin))
				run_command(line);
			break;
		}
		snprintf(line, sizeof(line), "%s", argv[i]);
		run_command(line);
	}
	return 0;
}
