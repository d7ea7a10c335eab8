/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard's NVML face between a fake NVML library (the alias in LD_LIBRARY_PATH leads to it) and
 * a fake daemon, a thread. Each test runs in a child: the face keeps what it knows for a process's
 * life.
 */
#include "../cm.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/wire.h"
#include "base/name.h"
#include "fake_nvml.h"

#define LIMIT (20ull << 30)
#define USED (5ull << 30)
#define ROOM (12ull << 30)
#define MINE 100
#define OTHERS 200

static const char *face_path; /* from the command line */

/*
 * The daemon.
 */

static struct {
	pthread_mutex_t lock;
	pthread_t thread;
	int listener;
	int hellos;
	int result;	/* of HELLO */
	int has_device; /* the fraction has the device */
	int babble;	/* answer nonsense */
	int32_t pids[AQ_MAX_PROCS];
	uint32_t n_pids;
	char path[108];
} d = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void answer(int fd, const union aq_msg *request)
{
	union aq_msg reply;

	if (d.babble) {
		aq_msg_init(&reply, AQ_MSG_GROW_REPLY, request->head.seq);
	} else if (request->head.type == AQ_MSG_HELLO) {
		d.hellos++;
		aq_msg_init(&reply, AQ_MSG_HELLO_REPLY, request->head.seq);
		reply.hello_reply.result = d.result;
		reply.hello_reply.abi = AQ_ABI_VERSION;
		reply.hello_reply.device_count = 1;
	} else if (request->head.type == AQ_MSG_QUERY) {
		aq_msg_init(&reply, AQ_MSG_QUERY_REPLY, request->head.seq);
		reply.query_reply.result = d.has_device ? 0 : -ENODEV;
		reply.query_reply.limit_bytes = LIMIT;
		reply.query_reply.used_bytes = USED;
		reply.query_reply.free_bytes = ROOM;
	} else {
		aq_msg_init(&reply, AQ_MSG_PROCS_REPLY, request->head.seq);
		reply.procs_reply.result = d.has_device ? 0 : -ENODEV;
		reply.procs_reply.count = d.n_pids;
		for (uint32_t i = 0; i < d.n_pids; i++)
			reply.procs_reply.proc[i] =
				(struct aq_msg_proc){.pid = d.pids[i], .used_bytes = i << 20};
		reply.head.size += d.n_pids * (uint32_t)sizeof(struct aq_msg_proc);
	}
	aq_msg_send(fd, &reply, -1);
}

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	union aq_msg msg;

	while (aq_msg_receive(fd, &msg, NULL) == 0) {
		pthread_mutex_lock(&d.lock);
		if (d.listener < 0) { /* killed: says nothing more */
			pthread_mutex_unlock(&d.lock);
			break;
		}
		answer(fd, &msg);
		pthread_mutex_unlock(&d.lock);
	}
	close(fd);
	return NULL;
}

static void *serve(void *arg)
{
	int listener = (int)(intptr_t)arg;

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		pthread_t thread;

		if (fd < 0)
			break;
		pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd);
		pthread_detach(thread);
	}
	return NULL;
}

static void daemon_start(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	memcpy(addr.sun_path, d.path, strlen(d.path) + 1);
	unlink(d.path);
	pthread_mutex_lock(&d.lock);
	d.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (bind(d.listener, (struct sockaddr *)&addr, sizeof(addr)) || listen(d.listener, 16))
		_exit(98);
	pthread_create(&d.thread, NULL, serve, (void *)(intptr_t)d.listener);
	pthread_mutex_unlock(&d.lock);
}

static void daemon_stop(void)
{
	int listener;

	pthread_mutex_lock(&d.lock);
	listener = d.listener;
	d.listener = -1;
	pthread_mutex_unlock(&d.lock);
	shutdown(listener, SHUT_RDWR);
	pthread_join(d.thread, NULL);
	close(listener);
	unlink(d.path);
}

static int hellos(void)
{
	int n;

	pthread_mutex_lock(&d.lock);
	n = d.hellos;
	pthread_mutex_unlock(&d.lock);
	return n;
}

/*
 * The program.
 */

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                 \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static struct fake_nvml *fake;
static nvmlDevice_t dev;

/* All that the face exports, and a few functions that fall through it, by the loader's own way. */
static struct {
#define AQ_NVML(sym, role, params, args) nvmlReturn_t(*sym) params;
#define AQ_NVML_UNTYPED(sym, role)
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED
} nv;

static void load_face(void)
{
	void *face = dlopen(face_path, RTLD_NOW | RTLD_LOCAL);

	if (!face)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(face);
#define AQ_NVML(sym, role, params, args) *(void **)&nv.sym = dlsym(face, #sym);
#define AQ_NVML_UNTYPED(sym, role)
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED
	fake = dlsym(face, "fake");
	CHECK(fake);
	CHECK(nv.nvmlDeviceGetHandleByIndex_v2(0, &dev) == NVML_SUCCESS);
	fake->n_processes = 3;
	for (unsigned int i = 0; i < 3; i++) {
		fake->pids[i] = i == 1 ? MINE : OTHERS + i;
		fake->used[i] = 1ull << 30;
	}
}

static void as_tenant(void)
{
	setenv("ALIQUOT_SOCKET", d.path, 1);
	setenv("ALIQUOT_FRACTION", "one", 1);
	d.has_device = 1;
	d.pids[0] = 99; /* attached, without a context: uses nothing */
	d.pids[1] = MINE;
	d.n_pids = 2;
	daemon_start();
	load_face();
}

static void sees_truth(void)
{
	nvmlMemory_v2_t v2 = {.version = NVML_STRUCT_VERSION(Memory, 2)};
	nvmlProcessInfo_t infos[FAKE_PIDS];
	unsigned int n = FAKE_PIDS;
	nvmlMemory_t v1;

	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
	CHECK(v1.total == FAKE_TOTAL && v1.used == FAKE_USED + FAKE_RESERVED);
	CHECK(nv.nvmlDeviceGetMemoryInfo_v2(dev, &v2) == NVML_SUCCESS);
	CHECK(v2.total == FAKE_TOTAL && v2.reserved == FAKE_RESERVED && v2.used == FAKE_USED);
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(dev, &n, infos) == NVML_SUCCESS);
	CHECK(n == 3 && infos[1].usedGpuMemory == 1ull << 30);
	CHECK(nv.nvmlDeviceClearAccountingPids(dev) == NVML_SUCCESS && fake->cleared == 1);
}

static void no_word_and_no_daemon(void)
{
	load_face();
	sees_truth();
}

static void no_word_and_a_daemon_that_knows_us_not(void)
{
	d.result = -ENOENT;
	daemon_start();
	load_face();
	sees_truth();
	CHECK(hellos() == 1); /* not asked again at every call */
}

static void no_word_and_a_daemon_that_knows_our_parent(void)
{
	nvmlMemory_t v1;

	d.has_device = 1;
	daemon_start();
	load_face();
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
	CHECK(v1.total == LIMIT);
}

static void tenant_sees_its_memory(void)
{
	nvmlMemory_v2_t v2 = {.version = NVML_STRUCT_VERSION(Memory, 2)};
	nvmlConfComputeMemSizeInfo_t sizes;
	nvmlDeviceAttributes_t attributes;
	nvmlBAR1Memory_t bar1;
	nvmlMemory_t v1;

	as_tenant();
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
	CHECK(v1.total == LIMIT && v1.used == USED && v1.free == ROOM);
	CHECK(nv.nvmlDeviceGetMemoryInfo_v2(dev, &v2) == NVML_SUCCESS);
	CHECK(v2.version == NVML_STRUCT_VERSION(Memory, 2));
	CHECK(v2.total == LIMIT && v2.used == USED && v2.free == ROOM && !v2.reserved);
	CHECK(nv.nvmlDeviceGetBAR1MemoryInfo(dev, &bar1) == NVML_SUCCESS);
	CHECK(bar1.bar1Total == LIMIT && bar1.bar1Free == LIMIT && !bar1.bar1Used);
	CHECK(nv.nvmlDeviceGetConfComputeMemSizeInfo(dev, &sizes) == NVML_SUCCESS);
	CHECK(!sizes.protectedMemSizeKib && sizes.unprotectedMemSizeKib == LIMIT >> 10);
	CHECK(nv.nvmlDeviceGetConfComputeProtectedMemoryUsage(dev, &v1) == NVML_SUCCESS);
	CHECK(v1.total == LIMIT && v1.used == USED && v1.free == ROOM);
	CHECK(nv.nvmlDeviceGetAttributes(dev, &attributes) == NVML_SUCCESS);
	CHECK(attributes.memorySizeMB == LIMIT >> 20 && attributes.multiprocessorCount == 132);
	CHECK(nv.nvmlDeviceGetAttributes_v2(dev, &attributes) == NVML_SUCCESS);
	CHECK(attributes.memorySizeMB == LIMIT >> 20);
	CHECK(hellos() == 1);
}

static void wrong_arguments_are_nvmls_to_judge(void)
{
	nvmlMemory_v2_t v2 = {.version = 7, .total = 1};
	unsigned int n = 1;

	as_tenant();
	CHECK(nv.nvmlDeviceGetMemoryInfo_v2(dev, &v2) == NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	CHECK(v2.total == 1);
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(NULL, &n, NULL) ==
	      NVML_ERROR_INVALID_ARGUMENT);
}

static void tenant_sees_its_processes(void)
{
	nvmlProcessInfo_t infos[FAKE_PIDS];
	nvmlProcessInfo_v1_t old[FAKE_PIDS];
	nvmlProcessDetail_v1_t details[FAKE_PIDS];
	nvmlProcessDetailList_v1_t list = {
		.version = NVML_STRUCT_VERSION(ProcessDetailList, 1),
		.mode = NVML_PROCESS_MODE_ALL,
		.numProcArrayEntries = FAKE_PIDS,
		.procArray = details,
	};
	unsigned int n = FAKE_PIDS;

	as_tenant();
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(dev, &n, infos) == NVML_SUCCESS);
	CHECK(n == 1 && infos[0].pid == MINE && infos[0].usedGpuMemory == 1 << 20);
	CHECK(infos[0].gpuInstanceId == ~0u);
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v2(dev, &n, infos) == NVML_SUCCESS && n == 1);
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses(dev, &n, old) == NVML_SUCCESS);
	CHECK(n == 1 && old[0].pid == MINE && old[0].usedGpuMemory == 1 << 20);
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetGraphicsRunningProcesses_v3(dev, &n, infos) == NVML_SUCCESS);
	CHECK(n == 1 && infos[0].pid == MINE);
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetGraphicsRunningProcesses(dev, &n, old) == NVML_SUCCESS);
	CHECK(n == 1 && old[0].pid == MINE);
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetMPSComputeRunningProcesses_v3(dev, &n, infos) == NVML_SUCCESS);
	CHECK(n == 1 && infos[0].pid == MINE);
	CHECK(nv.nvmlDeviceGetRunningProcessDetailList(dev, &list) == NVML_SUCCESS);
	CHECK(list.numProcArrayEntries == 1 && details[0].pid == MINE);
}

static void tenant_sees_no_ones_utilisation_but_its_own(void)
{
	nvmlProcessUtilizationSample_t samples[FAKE_PIDS];
	nvmlProcessUtilizationInfo_v1_t infos[FAKE_PIDS];
	nvmlProcessesUtilizationInfo_v1_t info = {
		.version = NVML_STRUCT_VERSION(ProcessesUtilizationInfo, 1),
		.processSamplesCount = FAKE_PIDS,
		.procUtilArray = infos,
	};
	nvmlEncoderSessionInfo_t encoders[FAKE_PIDS];
	nvmlFBCSessionInfo_t captures[FAKE_PIDS];
	nvmlUtilization_t rates;
	unsigned int n = FAKE_PIDS;

	as_tenant();
	CHECK(nv.nvmlDeviceGetProcessUtilization(dev, samples, &n, 0) == NVML_SUCCESS);
	CHECK(n == 1 && samples[0].pid == MINE && samples[0].smUtil == 11);
	CHECK(nv.nvmlDeviceGetProcessesUtilizationInfo(dev, &info) == NVML_SUCCESS);
	CHECK(info.processSamplesCount == 1 && infos[0].pid == MINE);
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetEncoderSessions(dev, &n, encoders) == NVML_SUCCESS);
	CHECK(n == 1 && encoders[0].pid == MINE && encoders[0].sessionId == 1);
	n = 0;
	CHECK(nv.nvmlDeviceGetEncoderSessions(dev, &n, NULL) == NVML_SUCCESS && n == 1);
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetFBCSessions(dev, &n, captures) == NVML_SUCCESS);
	CHECK(n == 1 && captures[0].pid == MINE);
	CHECK(nv.nvmlDeviceGetUtilizationRates(dev, &rates) == NVML_SUCCESS && rates.gpu == 55);
	fake->pids[1] = OTHERS;
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetProcessUtilization(dev, samples, &n, 0) == NVML_ERROR_NOT_FOUND);
	CHECK(!n);
}

static void length_alone_counts_the_tenants_only(void)
{
	nvmlProcessInfo_t infos[1];
	unsigned int n = 0;

	as_tenant();
	d.pids[2] = MINE + 1;
	d.n_pids = 3;
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(dev, &n, NULL) ==
	      NVML_ERROR_INSUFFICIENT_SIZE);
	CHECK(n == 2);
	n = 1;
	infos[0].pid = 5;
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(dev, &n, infos) ==
	      NVML_ERROR_INSUFFICIENT_SIZE);
	CHECK(n == 2 && infos[0].pid == 5);
	n = 0;
	CHECK(nv.nvmlDeviceGetProcessUtilization(dev, NULL, &n, 0) == NVML_ERROR_INSUFFICIENT_SIZE);
	CHECK(n == 1);
}

static void what_is_recorded_is_told_of_its_own_only(void)
{
	nvmlAccountingStats_v2_t v2 = {.pid = OTHERS};
	nvmlAccountingStats_t stats;
	unsigned int pids[FAKE_PIDS], n = FAKE_PIDS;
	nvmlFieldValue_t fields[2] = {{.fieldId = NVML_FI_DEV_ENERGY}, {.fieldId = NVML_FI_MAX}};
	char name[32];

	as_tenant();
	CHECK(nv.nvmlDeviceGetAccountingPids(dev, &n, pids) == NVML_SUCCESS);
	CHECK(n == 1 && pids[0] == MINE);
	CHECK(nv.nvmlDeviceGetAccountingStats(dev, MINE, &stats) == NVML_SUCCESS);
	CHECK(nv.nvmlDeviceGetAccountingStats(dev, OTHERS, &stats) == NVML_ERROR_NOT_FOUND);
	CHECK(nv.nvmlDeviceGetAccountingStats_v2(dev, &v2) == NVML_ERROR_NOT_FOUND);
	v2.pid = MINE;
	CHECK(nv.nvmlDeviceGetAccountingStats_v2(dev, &v2) == NVML_SUCCESS);
	CHECK(nv.nvmlDeviceClearAccountingPids(dev) == NVML_ERROR_NO_PERMISSION);
	CHECK(nv.nvmlDeviceSetAccountingMode(dev, NVML_FEATURE_DISABLED) ==
	      NVML_ERROR_NO_PERMISSION);
	CHECK(nv.nvmlDeviceClearFieldValues(dev, 2, fields) == NVML_ERROR_NO_PERMISSION);
	CHECK(!fake->cleared);
	CHECK(nv.nvmlDeviceGetFieldValues(dev, 2, fields) == NVML_SUCCESS);
	CHECK(fields[0].nvmlReturn == NVML_SUCCESS && fields[0].value.ullVal == 7);
	CHECK(fields[1].nvmlReturn == NVML_ERROR_NOT_SUPPORTED && !fields[1].value.ullVal);
	CHECK(nv.nvmlSystemGetProcessName(MINE, name, sizeof(name)) == NVML_SUCCESS);
	CHECK(nv.nvmlSystemGetProcessName(OTHERS, name, sizeof(name)) == NVML_ERROR_NOT_FOUND);
}

struct table_entry {
	nvmlProcessDetail_v1_t detail;
	char name[4096];
};

typedef nvmlReturn_t table_list(nvmlDevice_t, unsigned int *, struct table_entry *);

static void *const *table_of(void)
{
	static const unsigned char id[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
					     0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};
	static const unsigned char other_id[16] = {1};
	const void *table = NULL, *other = NULL;

	CHECK(nv.nvmlInternalGetExportTable(&table, id) == NVML_SUCCESS);
	CHECK(nv.nvmlInternalGetExportTable(&other, other_id) == NVML_SUCCESS);
	CHECK((((void *const *)other)[213] == ((void *const *)table)[213]) == !d.has_device);
	return table;
}

static void unnamed_functions_leave_others_out(void)
{
	static struct table_entry entries[FAKE_PIDS];
	unsigned int n = FAKE_PIDS;
	void *const *table;

	as_tenant();
	table = table_of();
	CHECK((size_t)table[0] == 300 * sizeof(void *));
	CHECK(table[81]);
	CHECK(((table_list *)table[213])(dev, &n, entries) == NVML_SUCCESS);
	CHECK(n == 1 && entries[0].detail.pid == MINE);
	CHECK(entries[0].detail.usedGpuMemory == 1 << 20);
	CHECK(!strcmp(entries[0].name, "program 100"));
	CHECK(!entries[1].detail.pid && !entries[2].detail.pid && !entries[2].name[0]);
	n = FAKE_PIDS;
	CHECK(((table_list *)table[215])(dev, &n, entries) == NVML_SUCCESS && n == 1);
	daemon_stop();
	CHECK(((table_list *)table[213])(dev, &n, entries) == NVML_ERROR_NO_PERMISSION);
}

static void unnamed_functions_of_an_ordinary_program(void)
{
	static struct table_entry entries[FAKE_PIDS];
	unsigned int n = FAKE_PIDS;

	load_face();
	CHECK(((table_list *)table_of()[213])(dev, &n, entries) == NVML_SUCCESS);
	CHECK(n == 3 && entries[2].detail.pid == OTHERS + 2);
}

static void refused_everywhere(void)
{
	nvmlMemory_v2_t v2 = {.version = NVML_STRUCT_VERSION(Memory, 2), .total = 3};
	nvmlProcessInfo_t infos[FAKE_PIDS];
	nvmlProcessUtilizationSample_t samples[FAKE_PIDS];
	nvmlMemory_t v1 = {1, 2, 3};
	nvmlUtilization_t rates;
	unsigned int n = FAKE_PIDS;

	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_ERROR_NO_PERMISSION);
	CHECK(v1.total == 1 && v1.free == 2 && v1.used == 3);
	CHECK(nv.nvmlDeviceGetMemoryInfo_v2(dev, &v2) == NVML_ERROR_NO_PERMISSION);
	CHECK(v2.total == 3);
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(dev, &n, infos) ==
	      NVML_ERROR_NO_PERMISSION);
	CHECK(nv.nvmlDeviceGetProcessUtilization(dev, samples, &n, 0) == NVML_ERROR_NO_PERMISSION);
	CHECK(nv.nvmlDeviceGetUtilizationRates(dev, &rates) == NVML_SUCCESS);
}

static void promised_daemon_is_not_there(void)
{
	setenv("ALIQUOT_FRACTION", "one", 1);
	load_face();
	refused_everywhere();
}

static void fraction_has_ended(void)
{
	d.result = -ENOENT;
	as_tenant();
	refused_everywhere();
}

static void device_is_not_the_fractions(void)
{
	as_tenant();
	d.has_device = 0;
	refused_everywhere();
}

static void daemon_babbles(void)
{
	d.babble = 1;
	as_tenant();
	refused_everywhere();
}

static void daemon_goes_and_comes_again(void)
{
	nvmlProcessInfo_t infos[FAKE_PIDS];
	unsigned int n = FAKE_PIDS;
	nvmlMemory_t v1 = {0};

	as_tenant();
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS && v1.total == LIMIT);
	daemon_stop();
	v1.total = 0;
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
	CHECK(v1.total == LIMIT && v1.used == USED); /* as last known */
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(dev, &n, infos) ==
	      NVML_ERROR_NO_PERMISSION);
	daemon_start();
	usleep(600000); /* it is looked for twice a second */
	n = FAKE_PIDS;
	CHECK(nv.nvmlDeviceGetComputeRunningProcesses_v3(dev, &n, infos) == NVML_SUCCESS);
	CHECK(n == 1 && hellos() == 2);
}

static void child_connects_for_itself(void)
{
	nvmlMemory_t v1;
	pid_t pid;
	int status;

	as_tenant();
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
	pid = fork();
	if (!pid) {
		CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
		_exit(v1.total == LIMIT ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status));
	CHECK(hellos() == 2);
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
	CHECK(hellos() == 2); /* the parent's connection lives */
}

/* A program that closes all descriptors, and has files of its own under their numbers then. */
static void descriptors_are_the_programs(void)
{
	nvmlMemory_t v1;
	struct stat before, after;
	int fd = -1, is_ours = -1;

	as_tenant();
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS);
	for (int i = 100; i < 200; i++) {
		struct sockaddr_un addr;
		socklen_t size = sizeof(addr);

		if (!getpeername(i, (struct sockaddr *)&addr, &size) &&
		    !strcmp(addr.sun_path, d.path))
			is_ours = i;
	}
	CHECK(is_ours >= 100);
	CHECK(fcntl(is_ours, F_GETFD) & FD_CLOEXEC);
	fd = open("/dev/null", O_RDWR);
	CHECK(dup2(fd, is_ours) == is_ours && !fstat(is_ours, &before));
	errno = 77;
	CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS && v1.total == LIMIT);
	CHECK(errno == 77);
	CHECK(!fstat(is_ours, &after) && before.st_ino == after.st_ino);
}

static void *ask_often(void *arg)
{
	for (int i = 0; i < 200; i++) {
		nvmlProcessUtilizationSample_t samples[FAKE_PIDS];
		unsigned int n = FAKE_PIDS;
		nvmlMemory_t v1;

		CHECK(nv.nvmlDeviceGetMemoryInfo(dev, &v1) == NVML_SUCCESS && v1.used == USED);
		CHECK(nv.nvmlDeviceGetProcessUtilization(dev, samples, &n, 0) == NVML_SUCCESS);
		CHECK(n == 1);
	}
	return NULL;
}

static void threads_share_one_connection(void)
{
	pthread_t threads[4];

	as_tenant();
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, ask_often, NULL));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK(hellos() == 1);
}

static void in_a_child(void (*body)(void))
{
	char dir[] = "/tmp/aq-nvml-face-XXXXXX", sub[64];
	int status;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/aliquot", dir);
	assert_int_equal(mkdir(sub, 0700), 0);
	snprintf(d.path, sizeof(d.path), "%s/aliquotd.sock", sub);
	setenv("XDG_RUNTIME_DIR", dir, 1);
	unsetenv("ALIQUOT_SOCKET");
	unsetenv("ALIQUOT_FRACTION");
	fflush(NULL);
	pid = fork();
	if (!pid) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(d.path);
	rmdir(sub);
	rmdir(dir);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(body)                                                                                 \
	static void test_face__##body(void **state)                                                \
	{                                                                                          \
		in_a_child(body);                                                                  \
	}
#define TESTS(T)                                                                                   \
	T(no_word_and_no_daemon)                                                                   \
	T(no_word_and_a_daemon_that_knows_us_not)                                                  \
	T(no_word_and_a_daemon_that_knows_our_parent)                                              \
	T(tenant_sees_its_memory)                                                                  \
	T(wrong_arguments_are_nvmls_to_judge)                                                      \
	T(tenant_sees_its_processes)                                                               \
	T(tenant_sees_no_ones_utilisation_but_its_own)                                             \
	T(length_alone_counts_the_tenants_only)                                                    \
	T(what_is_recorded_is_told_of_its_own_only)                                                \
	T(unnamed_functions_leave_others_out)                                                      \
	T(unnamed_functions_of_an_ordinary_program)                                                \
	T(promised_daemon_is_not_there)                                                            \
	T(fraction_has_ended)                                                                      \
	T(device_is_not_the_fractions)                                                             \
	T(daemon_babbles)                                                                          \
	T(daemon_goes_and_comes_again)                                                             \
	T(child_connects_for_itself)                                                               \
	T(descriptors_are_the_programs)                                                            \
	T(threads_share_one_connection)

TESTS(TEST)

int main(int argc, char **argv)
{
#define ENTRY(body) cmocka_unit_test(test_face__##body),
	const struct CMUnitTest tests[] = {TESTS(ENTRY)};

	if (argc != 2)
		return 99;
	face_path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
