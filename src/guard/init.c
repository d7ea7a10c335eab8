/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuInit(): the one moment at which a program becomes guarded. Also what a forked child forgets.
 *
 * When we fail: cuInit() answers CUDA_ERROR_NOT_PERMITTED and the driver is never initialised, so
 * that the program has no GPU; one line on stderr says why and what to do. An administrator, and
 * nobody else, may choose that programs without a daemon run unguarded (GUARD_CONF).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/name.h"
#include "guard/conn.h"
#include "guard/guard.h"
#include "guard/guest.h"

#define GUARD_CONF "/etc/aliquot/guard.conf"
#define GUARD_CONF_MAX 4096
#define MAX_ORDINALS 64 /* devices of one process. Source: guess; DGX-class machines have 16 */

enum state { NEW, BUSY, GUARDED, OPEN };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum state state; /* under `lock`; read without it by the short way of cuInit() */
static bool said;	 /* under `lock`: the line on stderr was printed */

static const uint32_t no_gates;
const uint32_t *aq__gates = &no_gates;
struct aq_page *aq__page;

/* Written by cuInit() before aq__page is, constant from then on. CUdevice -> page index. */
static int8_t index_of[MAX_ORDINALS];

int aq__device_index(CUdevice dev)
{
	if (!aq__page_get() || dev < 0 || dev >= MAX_ORDINALS)
		return AQ__UNBOUND;
	return index_of[dev];
}

void aq__each_device(void (*fn)(CUdevice dev, int index, void *arg), void *arg)
{
	for (CUdevice dev = 0; aq__page_get() && dev < MAX_ORDINALS; dev++) {
		if (index_of[dev] >= 0)
			fn(dev, index_of[dev], arg);
	}
}

static CUresult device_uuid(CUuuid *uuid, CUdevice dev)
{
	/* Of a MIG instance only the newer one tells the instance's own UUID. */
	return AQ__REAL(cuDeviceGetUuid_v2) ? AQ__CALL(cuDeviceGetUuid_v2, uuid, dev)
					    : AQ__CALL(cuDeviceGetUuid, uuid, dev);
}

/* Which of the driver's devices is which of the fraction's. */
static CUresult map_devices(const struct aq_page *page)
{
	int count = 0;
	CUresult r = AQ__CALL(cuDeviceGetCount, &count);

	memset(index_of, AQ__UNBOUND, sizeof(index_of));
	for (int i = 0; r == CUDA_SUCCESS && i < count && i < MAX_ORDINALS; i++) {
		CUdevice dev;
		CUuuid uuid;

		r = AQ__CALL(cuDeviceGet, &dev, i);
		if (r == CUDA_SUCCESS)
			r = device_uuid(&uuid, dev);
		if (r != CUDA_SUCCESS || dev < 0 || dev >= MAX_ORDINALS)
			continue;
		index_of[dev] = AQ__ABSENT;
		for (uint32_t n = 0; n < page->device_count; n++) {
			if (!memcmp(page->device[n].uuid, uuid.bytes, sizeof(uuid.bytes)))
				index_of[dev] = (int8_t)n;
		}
	}
	return r;
}

/* Runs in the only thread of the child. Everything that another thread may have held is made new.
 */
static void forked(void)
{
	struct aq_page *page = aq__page;

	aq__gates = &no_gates;
	aq__page = NULL;
	if (page)
		munmap(page, AQ_PAGE_BYTES);
	aq__conn_forked();
	aq__track_forked();
	aq__context_forked();
	aq__vmm_forked();
	aq__pools_forked();
	aq__graphmem_forked();
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	state = NEW;
}

static void register_fork_handler(void)
{
	pthread_atfork(NULL, NULL, forked);
}

/* Does the administrator let programs run unguarded where there is no daemon? */
static bool fail_open(void)
{
	char text[GUARD_CONF_MAX], *line, *rest = text;
	int fd = open(GUARD_CONF, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	ssize_t n = -1;
	bool yes = false;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 && !(st.st_mode & 022))
		n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		char *word = line + strspn(line, " \t");
		size_t key = strcspn(word, " \t=");
		char *value = word + key + strspn(word + key, " \t=");

		if (key == strlen("fail_open") && !memcmp(word, "fail_open", key))
			yes = !strncmp(value, "yes", 3) && !value[3 + strspn(value + 3, " \t\r")];
	}
	return yes;
}

static void say_once(const char *why)
{
	char line[512];
	int n;

	if (said)
		return;
	said = true;
	n = snprintf(line, sizeof(line),
		     "aliquot: no GPU for this program: %s; start it with `aliquot run`, and see "
		     "`aliquot doctor`\n",
		     why);
	if (n > 0 &&
	    write(STDERR_FILENO, line, n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1) < 0)
		return; /* nobody to tell */
}

/* Attach, then initialise the driver. @ret: what cuInit() answers. */
static enum state init_guarded(unsigned int flags, CUresult *ret)
{
	struct aq_page *page = NULL;
	char why[AQ_TEXT_BYTES + 256];

	if (aq__conn_open(why, sizeof(why), &page) < 0) {
		if (fail_open()) {
			*ret = AQ__CALL(cuInit, flags);
			return *ret == CUDA_SUCCESS ? OPEN : NEW;
		}
		say_once(why);
		*ret = CUDA_ERROR_NOT_PERMITTED;
		return NEW;
	}
	*ret = AQ__CALL(cuInit, flags);
	if (*ret == CUDA_SUCCESS)
		*ret = map_devices(page);
	if (*ret != CUDA_SUCCESS) {
		aq__conn_close();
		munmap(page, AQ_PAGE_BYTES);
		return NEW;
	}
	__atomic_store_n(&page->client_state, AQ_CLIENT_ATTACHED, __ATOMIC_RELEASE);
	__atomic_store_n(&aq__gates, (const uint32_t *)&page->gates, __ATOMIC_RELAXED);
	__atomic_store_n(&aq__page, page, __ATOMIC_RELEASE);
	aq__conn_start_helper();
	return GUARDED;
}

/*
 * LIFECYCLE. The first call attaches; later ones, and calls with flags that no driver knows, are
 * the driver's. Several threads may come at once: one works, the others wait for it.
 */
CUresult cuInit(unsigned int flags)
{
	static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
	CUresult r = CUDA_SUCCESS;
	int saved = errno, cancel;

	if (flags || __atomic_load_n(&state, __ATOMIC_ACQUIRE) >= GUARDED)
		return AQ__CALL(cuInit, flags);

	pthread_once(&fork_once, register_fork_handler);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&lock);
	while (state == BUSY)
		pthread_cond_wait(&changed, &lock);
	if (state == NEW) {
		enum state now;

		__atomic_store_n(&state, BUSY, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&lock);
		now = init_guarded(flags, &r);
		pthread_mutex_lock(&lock);
		__atomic_store_n(&state, now, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
	return r;
}
