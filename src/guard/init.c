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
#include "guard/gate.h"
#include "guard/guard.h"
#include "guard/movable.h"
#include "guard/guest.h"

#define GUARD_CONF "/etc/aliquot/guard.conf"
#define GUARD_CONF_MAX 4096
#define MAX_ORDINALS 64 /* devices of one process. Source: guess; DGX-class machines have 16 */

enum state { NEW, BUSY, GUARDED, OPEN };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool said;	       /* under `lock`: the line on stderr was printed */
static struct aq_page *mapped; /* the page of `attached_pid`, for its children to unmap */
static pid_t attached_pid;     /* who attached; 0 nobody. Written by the BUSY thread */

static const uint32_t no_gates, all_gates = 1;
const uint32_t *aq__gates = &no_gates;
const uint32_t *aq__quick_gates; /* written by cuInit(), before `aq__gates` */
static struct aq__self self_at_first;
struct aq__self *aq__self = &self_at_first;

/* Written by cuInit() before the page is, constant from then on. CUdevice -> page index. */
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

static enum state state_get(void)
{
	return (enum state)__atomic_load_n(&aq__self->state, __ATOMIC_ACQUIRE);
}

static void state_set(enum state state)
{
	__atomic_store_n(&aq__self->state, state, __ATOMIC_RELEASE);
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
	if (attached_pid) {
		aq__gates = &no_gates;
		aq__quick_gates = NULL;
		aq__self->page = NULL;
		munmap(mapped, AQ_PAGE_BYTES);
		attached_pid = 0;
	}
	aq__conn_forked();
	aq__track_forked();
	aq__context_forked();
	aq__vmm_forked();
	aq__pools_forked();
	aq__graphmem_forked();
	aq__gate_forked();
	aq__move_forked();
	aq__capture_forked();
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	aq__self->state = NEW;
}

/* A place for aq__self that children find empty. Without one, the fork handler has to do. */
static void make_self(void)
{
	const size_t size = AQ_PAGE_BYTES;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return;
	if (madvise(p, size, MADV_WIPEONFORK) < 0) {
		munmap(p, size);
		return;
	}
	__atomic_store_n(&aq__self, p, __ATOMIC_RELEASE);
}

static void before_first(void)
{
	make_self();
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

	if (attached_pid && attached_pid != getpid()) {
		forked(); /* by clone(2), or in a static executable */
		state_set(BUSY);
	}
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
	mapped = page;
	attached_pid = getpid();
	__atomic_store_n((uint32_t *)&page->contexts, 0, __ATOMIC_RELEASE);
	aq__movable_decide();
	aq__quick_gates = aq__movable_on() ? (const uint32_t *)&page->gates : NULL;
	__atomic_store_n(&aq__gates,
			 aq__quick_gates ? &all_gates : (const uint32_t *)&page->gates,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&aq__self->page, page, __ATOMIC_RELEASE);
	aq__conn_start_helper();
	return GUARDED;
}

/*
 * LIFECYCLE. The first call attaches; later ones, and calls with flags that no driver knows, are
 * the driver's. Several threads may come at once: one works, the others wait for it.
 */
CUresult cuInit(unsigned int flags)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	CUresult r = CUDA_SUCCESS;
	int saved = errno, cancel;

	if (flags || state_get() >= GUARDED)
		return AQ__CALL(cuInit, flags);

	pthread_once(&once, before_first);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&lock);
	while (state_get() == BUSY)
		pthread_cond_wait(&changed, &lock);
	if (state_get() == NEW) {
		enum state now;

		state_set(BUSY);
		pthread_mutex_unlock(&lock);
		now = init_guarded(flags, &r);
		pthread_mutex_lock(&lock);
		state_set(now);
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
	return r;
}
