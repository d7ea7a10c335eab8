/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes on one simulated device: what each holds, what the dead give back, what forked
 * children may do, and memory that is shared. This process stays outside: it never calls cuInit, so
 * that it may fork.
 */
#include "simtest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

#define OK(call) CHECK((call) == CUDA_SUCCESS)

/* Two-way signal between a test and a child: one byte each. */
struct link {
	int parent[2], child[2];
};

static void link_make(struct link *l)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, l->parent), 0);
}

static void say(int fd)
{
	CHECK(write(fd, "x", 1) == 1);
}

static void hear(int fd)
{
	char c;

	CHECK(read(fd, &c, 1) == 1);
}

static void start(void)
{
	CUcontext ctx;

	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&ctx, 0));
	OK(cuCtxSetCurrent(ctx));
}

static void send_fd(int to, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	CHECK(sendmsg(to, &msg, 0) == 1);
}

static int recv_fd(int from)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	int fd;

	CHECK(recvmsg(from, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* Take memory of all kinds, say so, and wait to be killed. */
static int hog(void *arg)
{
	const CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
	CUmemGenericAllocationHandle h;
	struct link *l = arg;
	CUdeviceptr p;

	start();
	OK(cuMemAlloc_v2(&p, 100));
	OK(cuMemAlloc_v2(&p, 1000 * FRAME));
	OK(cuMemAllocManaged(&p, FRAME, CU_MEM_ATTACH_GLOBAL));
	OK(cuMemCreate(&h, 3 * FRAME, &prop, 0));
	OK(cuMemAllocAsync(&p, 1000, NULL));
	say(l->parent[1]);
	hear(l->parent[1]);
	return 0;
}

#define HOG_BYTES (500 * MIB + (1 + 1000 + 1 + 3 + 16) * FRAME)

static void test_process__the_killed_give_everything_back(void **state)
{
	uint64_t before = simtest_used(0);
	struct sim_process_usage usage[4];
	struct sim_machine m;
	struct link l[3];
	pid_t pid[3];

	for (int i = 0; i < 3; i++) {
		link_make(&l[i]);
		pid[i] = simtest_fork(hog, &l[i]);
		hear(l[i].parent[0]);
	}
	assert_int_equal(simtest_used(0) - before, 3 * HOG_BYTES);

	/* Each is charged with its own. */
	assert_int_equal(sim_machine_open(&m, simtest_dir), 0);
	assert_int_equal(sim_machine_usage(&m, 0, usage, 4), 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(usage[i].pid, pid[i]);
		assert_int_equal(usage[i].memory_bytes, HOG_BYTES);
		assert_int_equal(usage[i].contexts, 1);
	}
	sim_machine_close(&m);

	kill(pid[1], SIGKILL);
	assert_int_equal(simtest_wait(pid[1]), -SIGKILL);
	assert_int_equal(simtest_used(0) - before, 2 * HOG_BYTES);
	for (int i = 0; i < 3; i += 2) {
		say(l[i].parent[0]);
		assert_int_equal(simtest_wait(pid[i]), 0);
	}
	assert_int_equal(simtest_used(0), before);
}

/* Allocate and free at random until killed. */
static int churn(void *arg)
{
	unsigned int seed = (unsigned int)getpid();
	CUdeviceptr p[64] = {0};

	start();
	say(((struct link *)arg)->parent[1]);
	for (;;) {
		unsigned int i = (unsigned int)rand_r(&seed) % 64;

		if (p[i]) {
			OK(cuMemFree_v2(p[i]));
			p[i] = 0;
		} else if (cuMemAlloc_v2(&p[i], (size_t)rand_r(&seed) % (20 * FRAME) + 1)) {
			p[i] = 0;
		}
	}
}

static void test_process__killed_at_any_instant_nothing_leaks(void **state)
{
	uint64_t before = simtest_used(0);
	unsigned int seed = 1;
	struct link l;

	link_make(&l);
	for (int round = 0; round < 60; round++) {
		struct timespec nap = {0, rand_r(&seed) % 3000000};
		pid_t a = simtest_fork(churn, &l), b = simtest_fork(churn, &l);

		hear(l.parent[0]);
		hear(l.parent[0]);
		nanosleep(&nap, NULL);
		kill(a, SIGKILL);
		kill(b, SIGKILL);
		assert_int_equal(simtest_wait(a), -SIGKILL);
		assert_int_equal(simtest_wait(b), -SIGKILL);
		assert_int_equal(simtest_used(0), before);
	}
}

/* All want more than there is; each takes what it can, in pieces. */
static int grab(void *arg)
{
	struct link *l = arg;
	uint64_t got = 0;
	CUdeviceptr p;

	start();
	say(l->parent[1]);
	hear(l->parent[1]);
	while (cuMemAlloc_v2(&p, 64 * FRAME) == CUDA_SUCCESS)
		got += 64;
	CHECK(write(l->child[1], &got, sizeof(got)) == sizeof(got));
	hear(l->parent[1]);
	return 0;
}

static void test_process__the_sum_never_passes_the_device(void **state)
{
	uint64_t before = simtest_used(0), sum = 0, got, total = 85045477376;
	struct link l[8];
	pid_t pid[8];

	for (int i = 0; i < 8; i++) {
		link_make(&l[i]);
		assert_int_equal(pipe(l[i].child), 0);
		pid[i] = simtest_fork(grab, &l[i]);
		hear(l[i].parent[0]);
	}
	for (int i = 0; i < 8; i++)
		say(l[i].parent[0]);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(read(l[i].child[0], &got, sizeof(got)), sizeof(got));
		sum += got;
	}
	assert_int_equal(simtest_used(0) - before, sum * FRAME + 8 * 500 * MIB);
	assert_int_equal(sum, (total - before - 8 * 500 * MIB) / (64 * FRAME) * 64);
	for (int i = 0; i < 8; i++) {
		say(l[i].parent[0]);
		assert_int_equal(simtest_wait(pid[i]), 0);
	}
	assert_int_equal(simtest_used(0), before);
}

/* A child of an initialised process is not initialised, and does not disturb it. */
static int forker(void *arg)
{
	CUdeviceptr p;
	int status, n;
	pid_t pid;

	start();
	OK(cuMemAlloc_v2(&p, 10 * FRAME));
	pid = fork();
	if (pid == 0) {
		CHECK(cuDeviceGetCount(&n) == CUDA_ERROR_NOT_INITIALIZED);
		CHECK(cuInit(0) == CUDA_ERROR_NOT_INITIALIZED);
		CHECK(cuMemFree_v2(p) == CUDA_ERROR_NOT_INITIALIZED);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	OK(cuMemFree_v2(p));
	/* A child that executes another program is a fresh process. */
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test", "--start", (char *)NULL);
		_exit(98);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return 0;
}

static void test_process__forked_children_are_not_initialised(void **state)
{
	uint64_t before = simtest_used(0);

	assert_int_equal(simtest_wait(simtest_fork(forker, NULL)), 0);
	assert_int_equal(simtest_used(0), before);
}

/* A process that executes another program is dead as a user of the device. */
static int leave_by_exec(void *arg)
{
	start();
	execl("/bin/sh", "sh", "-c", "exec sleep 60", (char *)NULL);
	return 97;
}

static void test_process__exec_gives_everything_back(void **state)
{
	uint64_t before = simtest_used(0), used = before;
	pid_t pid = simtest_fork(leave_by_exec, NULL);
	char path[64], exe[256] = "";

	for (int i = 0; i < 500; i++) {
		struct timespec nap = {0, 10000000};
		ssize_t n;

		nanosleep(&nap, NULL);
		snprintf(path, sizeof(path), "/proc/%d/exe", pid);
		n = readlink(path, exe, sizeof(exe) - 1);
		exe[n > 0 ? n : 0] = 0;
		used = simtest_used(0);
		if (!strstr(exe, "test_sim") && used == before)
			break;
	}
	assert_int_equal(used, before);
	kill(pid, SIGKILL);
	simtest_wait(pid);
}

static const CUmemAllocationProp shared_prop = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
	.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};

static int exporter(void *arg)
{
	CUmemGenericAllocationHandle h;
	struct link *l = arg;
	int fd;

	start();
	OK(cuMemCreate(&h, 100 * FRAME, &shared_prop, 0));
	OK(cuMemExportToShareableHandle(&fd, h, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	send_fd(l->parent[1], fd);
	close(fd);
	hear(l->parent[1]);
	return 0;
}

static int importer(void *arg)
{
	const CUmemAccessDesc access = {.location = shared_prop.location,
					.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemGenericAllocationHandle h, again;
	CUmemAllocationProp prop;
	struct link *l = arg;
	CUdeviceptr va;
	int fd;

	start();
	fd = recv_fd(l->parent[1]);
	OK(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)fd,
					  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	OK(cuMemImportFromShareableHandle(&again, (void *)(intptr_t)fd,
					  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	CHECK(h == again);
	OK(cuMemRelease(again));
	close(fd);
	OK(cuMemGetAllocationPropertiesFromHandle(&prop, h));
	CHECK(prop.location.id == 0);
	OK(cuMemAddressReserve(&va, 100 * FRAME, 0, 0, 0));
	OK(cuMemMap(va, 100 * FRAME, 0, h, 0));
	OK(cuMemRelease(h));
	OK(cuMemSetAccess(va, 100 * FRAME, &access, 1));
	say(l->parent[1]);
	hear(l->parent[1]);
	return 0;
}

/* Shared memory is charged once, lives with its last holder, and moves to that one's account. */
static void test_process__exported_memory_outlives_its_maker(void **state)
{
	uint64_t before = simtest_used(0), size = 100 * FRAME, context = 500 * MIB;
	struct sim_process_usage usage;
	struct link out, in;
	struct sim_machine m;
	pid_t maker, user;
	int fd;

	link_make(&out);
	maker = simtest_fork(exporter, &out);
	fd = recv_fd(out.parent[0]);
	assert_int_equal(simtest_used(0) - before, size + context);

	link_make(&in);
	user = simtest_fork(importer, &in);
	send_fd(in.parent[0], fd);
	hear(in.parent[0]);
	assert_int_equal(simtest_used(0) - before, size + 2 * context);

	kill(maker, SIGKILL);
	simtest_wait(maker);
	assert_int_equal(simtest_used(0) - before, size + context);
	assert_int_equal(sim_machine_open(&m, simtest_dir), 0);
	assert_int_equal(sim_machine_usage(&m, 0, &usage, 1), 1);
	assert_int_equal(usage.pid, user);
	assert_int_equal(usage.memory_bytes, size + context);
	sim_machine_close(&m);

	/* The descriptor alone keeps it alive too. */
	kill(user, SIGKILL);
	simtest_wait(user);
	assert_int_equal(simtest_used(0) - before, size);
	close(fd);
	assert_int_equal(simtest_used(0), before);
}

struct ipc {
	struct link l;
	CUipcMemHandle handle;
};

static int ipc_maker(void *arg)
{
	struct link *l = arg;
	CUipcMemHandle h;
	CUdeviceptr p, q, r;

	start();
	OK(cuMemAlloc_v2(&q, 5000));
	OK(cuMemAlloc_v2(&p, 5000));
	OK(cuIpcGetMemHandle(&h, p));
	CHECK(cuIpcOpenMemHandle_v2(&r, h, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) ==
	      CUDA_ERROR_INVALID_CONTEXT);
	CHECK(cuIpcGetMemHandle(&h, 0x1234) == CUDA_ERROR_INVALID_VALUE);
	CHECK(write(l->parent[1], &h, sizeof(h)) == sizeof(h));
	hear(l->parent[1]);
	OK(cuMemFree_v2(p));
	OK(cuMemFree_v2(q));
	say(l->parent[1]);
	hear(l->parent[1]);
	return 0;
}

static int ipc_user(void *arg)
{
	struct ipc *ipc = arg;
	CUdeviceptr p, q, base;
	size_t size;

	start();
	OK(cuIpcOpenMemHandle_v2(&p, ipc->handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	OK(cuIpcOpenMemHandle_v2(&q, ipc->handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	CHECK(p == q);
	OK(cuMemGetAddressRange_v2(&base, &size, p + 100));
	CHECK(base == p && size == 5000);
	CHECK(cuMemFree_v2(p) == CUDA_ERROR_INVALID_VALUE);
	OK(cuIpcCloseMemHandle(q));
	OK(cuMemGetAddressRange_v2(&base, &size, p));
	say(ipc->l.parent[1]);
	hear(ipc->l.parent[1]);
	OK(cuIpcCloseMemHandle(p));
	CHECK(cuIpcCloseMemHandle(p) == CUDA_ERROR_INVALID_VALUE);
	return 0;
}

static void test_process__ipc_memory_is_charged_once(void **state)
{
	uint64_t before = simtest_used(0);
	pid_t maker, user;
	struct link l;
	struct ipc ipc;

	link_make(&l);
	maker = simtest_fork(ipc_maker, &l);
	assert_int_equal(read(l.parent[0], &ipc.handle, sizeof(ipc.handle)), sizeof(ipc.handle));
	link_make(&ipc.l);
	user = simtest_fork(ipc_user, &ipc);
	hear(ipc.l.parent[0]);
	assert_int_equal(simtest_used(0) - before, FRAME + 2 * 500 * MIB);
	/* Freed by the maker while in use: stays until it is closed. */
	say(l.parent[0]);
	hear(l.parent[0]);
	assert_int_equal(simtest_used(0) - before, FRAME + 2 * 500 * MIB);
	say(ipc.l.parent[0]);
	assert_int_equal(simtest_wait(user), 0);
	assert_int_equal(simtest_used(0) - before, 500 * MIB);
	say(l.parent[0]);
	assert_int_equal(simtest_wait(maker), 0);
	assert_int_equal(simtest_used(0), before);
}

struct shared_pool {
	CUmemPoolPtrExportData pointer;
	CUipcEventHandle event;
};

/* A pool, a pointer of it with bytes in it, and an event that says when they are there. */
static int pool_maker(void *arg)
{
	const CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				      .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				      .location = shared_prop.location};
	struct shared_pool out;
	struct link *l = arg;
	CUmemoryPool pool;
	CUevent event;
	CUdeviceptr p;
	int fd;

	start();
	OK(cuMemPoolCreate(&pool, &props));
	OK(cuMemAllocFromPoolAsync(&p, 10000, pool, NULL));
	OK(cuMemsetD8_v2(p, 0x5a, 10000));
	OK(cuEventCreate(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
	OK(cuEventRecord(event, NULL));
	OK(cuIpcGetEventHandle(&out.event, event));
	OK(cuMemPoolExportPointer(&out.pointer, p));
	OK(cuMemPoolExportToShareableHandle(&fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					    0));
	send_fd(l->parent[1], fd);
	CHECK(write(l->parent[1], &out, sizeof(out)) == sizeof(out));
	hear(l->parent[1]);
	return 0;
}

static int pool_user(void *arg)
{
	uint8_t bytes[10000];
	struct shared_pool in;
	struct link *l = arg;
	CUmemoryPool pool;
	CUevent event;
	CUdeviceptr p;
	int fd;

	start();
	fd = recv_fd(l->parent[0]);
	CHECK(read(l->parent[0], &in, sizeof(in)) == sizeof(in));
	OK(cuIpcOpenEventHandle(&event, in.event));
	OK(cuEventSynchronize(event));
	OK(cuMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)fd,
					      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	OK(cuMemPoolImportPointer(&p, pool, &in.pointer));
	OK(cuMemcpyDtoH_v2(bytes, p, sizeof(bytes)));
	CHECK(bytes[0] == 0x5a && bytes[9999] == 0x5a);
	CHECK(cuMemAllocFromPoolAsync(&p, 512, pool, NULL) == CUDA_ERROR_INVALID_VALUE);
	CHECK(cuMemPoolExportPointer(&in.pointer, p) == CUDA_ERROR_INVALID_VALUE);
	OK(cuMemFreeAsync(p, NULL));
	OK(cuCtxSynchronize());
	OK(cuMemPoolDestroy(pool));
	return 0;
}

static void test_process__pools_and_events_are_shared(void **state)
{
	uint64_t before = simtest_used(0);
	pid_t maker, user;
	struct link l;

	link_make(&l);
	maker = simtest_fork(pool_maker, &l);
	user = simtest_fork(pool_user, &l);
	assert_int_equal(simtest_wait(user), 0);
	assert_int_equal(simtest_used(0) - before, 500 * MIB + 32 * MIB);
	say(l.parent[0]);
	assert_int_equal(simtest_wait(maker), 0);
	assert_int_equal(simtest_used(0), before);
}

#define KEPT (16 * FRAME)

/* Frees what it has written, and stays. */
static int leaver(void *arg)
{
	struct link *l = arg;
	CUdeviceptr p;

	start();
	OK(cuMemAlloc_v2(&p, KEPT));
	OK(cuMemsetD8_v2(p, 0xa5, KEPT));
	OK(cuMemFree_v2(p));
	say(l->parent[1]);
	hear(l->parent[1]);
	return 0;
}

/* Takes it, and writes a little of it, in the middle of frames and over them. */
static int follower(void *arg)
{
	uint8_t *out = malloc(KEPT);
	CUdeviceptr p;

	(void)arg;
	start();
	OK(cuMemAlloc_v2(&p, KEPT));
	OK(cuMemsetD8_v2(p + FRAME + 5, 1, 1));
	OK(cuMemsetD8_v2(p + 3 * FRAME, 0, 2 * FRAME + 1));
	OK(cuMemsetD8_v2(p + 8 * FRAME - 1, 2, FRAME + 2));
	OK(cuMemcpyDtoH_v2(out, p, KEPT));
	for (size_t i = 0; i < KEPT; i++) {
		uint8_t want = i == FRAME + 5					? 1
			       : i >= 8 * FRAME - 1 && i <= 9 * FRAME		? 2
										: 0;

		CHECK(out[i] == want);
	}
	free(out);
	return 0;
}

static void test_process__what_is_kept_for_others_is_never_seen_by_them(void **state)
{
	struct link l;
	pid_t pid;

	link_make(&l);
	assert_int_equal(simtest_host_bytes(0), 0);
	pid = simtest_fork(leaver, &l);
	hear(l.parent[0]);
	assert_int_equal(simtest_host_bytes(0), KEPT); /* else this tests nothing */
	for (int i = 0; i < 3; i++)
		assert_int_equal(simtest_wait(simtest_fork(follower, NULL)), 0);
	say(l.parent[0]);
	assert_int_equal(simtest_wait(pid), 0);
	/* Nobody is left to keep it for. */
	assert_int_equal(simtest_used(0), 0);
	assert_int_equal(simtest_host_bytes(0), 0);
}

struct link_case {
	const char *gb_s;
	double bytes_per_s;
};

static void pause_50_ms(void *unused)
{
	usleep(50000);
}

/* What copies take by the device's own clock is what the link is said to carry. Each is queued whole
 * behind a pause, so that none of the host's own is in it. */
static int copier(void *arg)
{
	const struct link_case *c = arg;
	size_t bytes = 4 * FRAME;
	CUevent from, to;
	CUdeviceptr p;
	float ms;
	void *host;

	setenv("ALIQUOT_SIM_LINK_GB_S", c->gb_s, 1);
	start();
	OK(cuMemAlloc_v2(&p, bytes));
	OK(cuMemHostAlloc(&host, bytes, 0));
	OK(cuEventCreate(&from, 0));
	OK(cuEventCreate(&to, 0));
	for (int out = 0; out < 2; out++) {
		OK(cuLaunchHostFunc(NULL, pause_50_ms, NULL));
		OK(cuEventRecord(from, NULL));
		if (out)
			OK(cuMemcpyDtoHAsync_v2(host, p, bytes, NULL));
		else
			OK(cuMemcpyHtoDAsync_v2(p, host, bytes, NULL));
		OK(cuEventRecord(to, NULL));
		OK(cuEventSynchronize(to));
		OK(cuEventElapsedTime(&ms, from, to));
		CHECK(ms >= (double)bytes / c->bytes_per_s * 1e3 * 0.99);
		CHECK(ms <= (double)bytes / c->bytes_per_s * 1e3 * 1.5 + 10);
	}
	return 0;
}

static void test_process__the_link_can_be_told(void **state)
{
	static const struct link_case cases[] = {
		{"0.1", 1e8}, {"1", 1e9}, {"fast", 55.6e9}, {"0", 55.6e9}, {"1e9", 55.6e9}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(simtest_wait(simtest_fork(copier, (void *)&cases[i])), 0);
}

static int one_of_many(void *arg)
{
	struct link *l = arg;

	start();
	say(l->parent[1]);
	hear(l->child[0]);
	return 0;
}

static void test_process__many_start_at_once(void **state)
{
	enum { MANY = 120 };
	uint64_t before = simtest_used(0);
	struct link l;
	pid_t pid[MANY];

	link_make(&l);
	assert_int_equal(pipe(l.child), 0);
	for (int i = 0; i < MANY; i++)
		pid[i] = simtest_fork(one_of_many, &l);
	for (int i = 0; i < MANY; i++)
		hear(l.parent[0]);
	assert_int_equal(simtest_used(0) - before, MANY * 500 * MIB);
	for (int i = 0; i < MANY; i++)
		say(l.child[1]);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(simtest_wait(pid[i]), 0);
	assert_int_equal(simtest_used(0), before);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_process__the_killed_give_everything_back),
		cmocka_unit_test(test_process__killed_at_any_instant_nothing_leaks),
		cmocka_unit_test(test_process__the_sum_never_passes_the_device),
		cmocka_unit_test(test_process__forked_children_are_not_initialised),
		cmocka_unit_test(test_process__exec_gives_everything_back),
		cmocka_unit_test(test_process__exported_memory_outlives_its_maker),
		cmocka_unit_test(test_process__ipc_memory_is_charged_once),
		cmocka_unit_test(test_process__pools_and_events_are_shared),
		cmocka_unit_test(test_process__what_is_kept_for_others_is_never_seen_by_them),
		cmocka_unit_test(test_process__the_link_can_be_told),
		cmocka_unit_test(test_process__many_start_at_once),
	};

	if (argc > 1 && strcmp(argv[1], "--start") == 0) {
		start();
		return 0;
	}
	simtest_begin("h100");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
