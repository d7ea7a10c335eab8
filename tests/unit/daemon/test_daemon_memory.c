/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon in this process whose memory runs out: the n-th allocation of ours, of jansson and of
 * libevent fails, for every n, while a fraction is made, used, changed and ended over both sockets.
 * Whatever is refused then: the ledger adds up, nothing is left behind, and the next request works.
 *
 * Usage: test_daemon_memory FAKE_NVML
 */
#include "../oom.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "abi/page.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/loop.h"
#include "daemon/server.h"

#define TURNS 12 /* enough for any request and its answer */

static const char *fake_nvml;
struct place {
	char dir[64], libdir[80], config[80];
};

static void make_place(struct place *p, struct aqd_server_options *ret_options)
{
	char path[160];
	FILE *f;

	snprintf(p->dir, sizeof(p->dir), "/tmp/aqd-memory-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->libdir, sizeof(p->libdir), "%s/lib", p->dir);
	assert_int_equal(mkdir(p->libdir, 0700), 0);
	snprintf(path, sizeof(path), "%s/guard", p->libdir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/guard/libcuda.so.1", p->libdir);
	assert_int_equal(symlink("/dev/null", path), 0);
	snprintf(path, sizeof(path), "%s/sim", p->libdir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/sim/libnvidia-ml.so.1", p->libdir);
	assert_int_equal(symlink(fake_nvml, path), 0);
	snprintf(p->config, sizeof(p->config), "%s/config", p->dir);
	f = fopen(p->config, "w");
	assert_non_null(f);
	fputs("log_level: error\n", f);
	fclose(f);
	*ret_options = (struct aqd_server_options){.config = p->config, .foreground = true};
	setenv("ALIQUOT_LIBDIR", p->libdir, 1);
	setenv("XDG_RUNTIME_DIR", p->dir, 1);
	unsetenv("ALIQUOT_SIM_DIR");
}

static void remove_place(const struct place *p)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", p->dir);
	assert_int_equal(system(command), 0);
}

static void turn(struct aqd *d)
{
	for (int i = 0; i < TURNS; i++)
		aqd_loop_turn(d, false);
}

/* One HTTP request. Return: status, or 0 when the connection just closed. */
static int http(struct aqd *d, const char *method, const char *path, const char *body)
{
	int fd = aq_paths_connect(d->api_path, SOCK_STREAM | SOCK_NONBLOCK), status = 0;
	char text[2048];
	ssize_t n;

	assert_true(fd >= 0);
	n = snprintf(
		text, sizeof(text),
		"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
		method, path, strlen(body), body);
	assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
	turn(d);
	n = recv(fd, text, sizeof(text) - 1, 0);
	if (n > 0) {
		text[n] = '\0';
		sscanf(text, "HTTP/1.1 %d", &status);
	}
	close(fd);
	turn(d);
	return status;
}

/* One packet there and back. Return: result of the reply, or what receiving gave. */
static int ask(struct aqd *d, int fd, union aq_msg *msg, int *ret_fd)
{
	int r = aq_msg_send(fd, msg, -1);

	if (r < 0)
		return r;
	turn(d);
	r = aq_msg_receive(fd, msg, ret_fd);
	return r < 0 ? r : msg->grow_reply.result; /* all replies begin with it */
}

static void use_guard(struct aqd *d)
{
	AQ_CLEANUP(close) int fd = aq_paths_connect(d->guard_path, SOCK_SEQPACKET | SOCK_NONBLOCK);
	AQ_CLEANUP(close) int page_fd = -1;
	union aq_msg msg;
	int r;

	assert_true(fd >= 0);
	aq_msg_init(&msg, AQ_MSG_HELLO, 1);
	msg.hello.kind = AQ_HELLO_CLIENT;
	snprintf(msg.hello.fraction, sizeof(msg.hello.fraction), "f");
	if (ask(d, fd, &msg, &page_fd) < 0)
		return;
	assert_true(page_fd >= 0);
	aq_msg_init(&msg, AQ_MSG_GROW, 2);
	msg.grow.need_bytes = 1 << 20;
	ask(d, fd, &msg, NULL);
	aq_msg_init(&msg, AQ_MSG_GROW, 3);
	msg.grow.need_bytes = UINT64_MAX;
	ask(d, fd, &msg, NULL);
	aq_msg_init(&msg, AQ_MSG_COST, 4);
	msg.cost.phase = AQ_COST_END;
	ask(d, fd, &msg, NULL);
	aq_msg_init(&msg, AQ_MSG_QUERY, 5);
	ask(d, fd, &msg, NULL);
	aq_msg_init(&msg, AQ_MSG_EXPORT, 6);
	memset(msg.export.token, 1, sizeof(msg.export.token));
	r = ask(d, fd, &msg, NULL);
	assert_true(r == 0 || r == -EMFILE);
	aq_msg_init(&msg, AQ_MSG_HELLO, 7); /* out of place */
	ask(d, fd, &msg, NULL);
}

/* All that can be asked for, while the n-th allocation of it fails. Return: none failed. */
static bool walk(struct aqd *d, long n)
{
	struct aqd_fraction *f;
	bool failed;

	oom_begin(n);
	http(d, "POST", "/v1/fractions", "{\"name\": \"f\", \"gpu_permille\": 500}");
	http(d, "POST", "/v1/fractions", "{\"gpu_permille\": 1000}");
	http(d, "POST", "/v1/fractions", "{\"gpu_permille\": 1000, \"wait_ms\": -1}"); /* leaves */
	http(d, "POST", "/v1/fractions", "{\"nonsense\": []}");
	use_guard(d);
	http(d, "PATCH", "/v1/fractions/f", "{\"gpu_permille\": 250}");
	http(d, "GET", "/v1/fractions", "");
	http(d, "GET", "/v1/devices", "");
	http(d, "GET", "/v1/status", "");
	http(d, "GET", "/v1/events?limit=5&follow=1", "");
	http(d, "GET", "/v1/events?limit=5", "");
	http(d, "GET", "/metrics", "");
	f = aqd_fraction_find(d, "f");
	if (f)
		aqd_fraction_end(d, f, "the test");
	turn(d);
	failed = oom_end();
	turn(d);
	return !failed;
}

static unsigned int count_fds(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 256; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			n++;
	return n;
}

/* @sparse: leave out more and more of the later ones, which are much alike. */
static void walk_all(bool sparse)
{
	struct aqd *d = aqd_server_create();
	struct aqd_server_options options;
	struct place place;
	unsigned int fds;
	long n;

	make_place(&place, &options);
	assert_int_equal(aqd_server_configure(d, &options), 0);
	assert_int_equal(aqd_server_start(d, "fake"), 0);
	assert_true(walk(d, -1));
	fds = count_fds();
	for (n = 0; n < OOM_MAX_WALK; n += sparse ? 1 + n / 50 : 1) {
		struct aqd_fraction *f, *next;
		bool done = walk(d, n);

		AQ_LIST_FOREACH (f, next, &d->fractions, link) /* a name of its own */
			aqd_fraction_end(d, f, "the test");
		turn(d);
		assert_int_equal(aq_ledger_check(&d->ledger), 0);
		assert_int_equal(d->ledger.fraction_count, 0);
		assert_int_equal(d->ledger.client_count, 0);
		assert_true(aq_list_empty(&d->waits));
		assert_int_equal(count_fds(), fds);
		assert_int_equal(http(d, "GET", "/v1/version", ""), 200);
		if (done)
			break;
	}
	assert_true(n < OOM_MAX_WALK);
	aqd_server_free(d);
	remove_place(&place);
}

static void test_daemon__runs_out_of_our_memory(void **state)
{
	walk_all(false);
}

static void test_daemon__runs_out_of_json_memory(void **state)
{
	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	walk_all(true);
	json_set_alloc_funcs(__real_malloc, __real_free);
}

/* A start that fails half-way leaves nothing, and the next one works. */
static void test_daemon__start_runs_out_of_memory(void **state)
{
	struct aqd_server_options options;
	struct place place;
	long n;

	make_place(&place, &options);
	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	for (n = 0; n < 1000; n++) {
		struct aqd *d;
		bool failed;
		int r = -ENOMEM;

		oom_begin(n);
		d = aqd_server_create();
		if (d)
			r = aqd_server_configure(d, &options);
		if (d && r == 0)
			r = aqd_server_start(d, "fake");
		failed = oom_end();
		if (d && r == 0)
			assert_int_equal(http(d, "GET", "/v1/version", ""), 200);
		if (d)
			aqd_server_free(d);
		if (!failed)
			break;
	}
	assert_true(n < 1000);
	json_set_alloc_funcs(__real_malloc, __real_free);
	remove_place(&place);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_daemon__runs_out_of_our_memory),
		cmocka_unit_test(test_daemon__runs_out_of_json_memory),
		cmocka_unit_test(test_daemon__start_runs_out_of_memory),
	};

	if (argc < 2)
		return 2;
	fake_nvml = realpath(argv[1], NULL);
	signal(SIGPIPE, SIG_IGN); /* as aliquotd does */
	aq_log_init("aliquotd", AQ_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
