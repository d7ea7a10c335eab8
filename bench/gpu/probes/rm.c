/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorder and controls of the resource manager's ioctl interface. The recorder looks at calls of
 * this process after the kernel has answered, reads only what the kernel itself has just read, and
 * changes nothing in them.
 */
#include "rm.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define ENGINE_GRAPHICS_FIRST 1
#define ENGINE_GRAPHICS_LAST 8

static struct rm_record *record; /* set once, before the driver library is used */
static pthread_mutex_t objects_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t u32_at(const void *p, size_t offset)
{
	uint32_t v;

	memcpy(&v, (const char *)p + offset, sizeof(v));
	return v;
}

static uint64_t u64_at(const void *p, size_t offset)
{
	uint64_t v;

	memcpy(&v, (const char *)p + offset, sizeof(v));
	return v;
}

static const void *pointer_at(const void *p, size_t offset)
{
	return (const void *)(uintptr_t)u64_at(p, offset);
}

/* Objects. */

static void add_object(int fd, uint32_t client, uint32_t parent, uint32_t handle, uint32_t class_id,
		       uint32_t engine)
{
	struct rm_object *o = NULL;

	pthread_mutex_lock(&objects_lock);
	for (uint32_t i = 0; i < record->n_objects && !o; i++)
		if (!record->objects[i].live)
			o = &record->objects[i];
	if (!o && record->n_objects < RM_OBJECTS)
		o = &record->objects[record->n_objects++];
	if (o)
		*o = (struct rm_object){true, fd, client, handle, parent, class_id, engine};
	else
		atomic_fetch_add(&record->odd, 1);
	pthread_mutex_unlock(&objects_lock);
}

/* With all children, as the resource manager does it. */
static void drop_object(uint32_t client, uint32_t handle)
{
	for (uint32_t i = 0; i < record->n_objects; i++) {
		struct rm_object *o = &record->objects[i];

		if (!o->live || o->client != client)
			continue;
		if (o->handle == handle || handle == client) {
			o->live = false;
		} else if (o->parent == handle) {
			drop_object(client, o->handle);
		}
	}
}

/* Calls. Each reader is given the argument block, whose size was checked. */

static void read_alloc(struct rm_call *c, const void *arg)
{
	bool wide = c->bytes == 48;
	const void *params = pointer_at(arg, 16);
	uint32_t params_bytes = u32_at(arg, wide ? 32 : 24);
	uint32_t parent = u32_at(arg, 4), engine = 0;

	c->client = u32_at(arg, 0);
	c->object = u32_at(arg, 8);
	c->what = u32_at(arg, 12);
	c->status = u32_at(arg, wide ? 40 : 28);
	if (c->ret || c->status)
		return;
	if (c->what == 0 || c->what == 1 || c->what == RM_CLASS_CLIENT) {
		c->client = c->object;
		parent = 0;
		c->what = RM_CLASS_CLIENT;
	}
	/* 0 bytes means "as the class has it", and the kernel has read them all. */
	if (c->what == RM_CLASS_GROUP && params && (!params_bytes || params_bytes >= 20))
		engine = u32_at(params, 12);
	if ((c->what & 0xff) == 0x6f && params && (!params_bytes || params_bytes >= 136))
		engine = u32_at(params, 128);
	c->value = engine;
	add_object(c->fd, c->client, parent, c->object, c->what, engine);
}

static void read_control(struct rm_call *c, const void *arg)
{
	const void *params = pointer_at(arg, 16);
	uint32_t params_bytes = u32_at(arg, 24);

	c->client = u32_at(arg, 0);
	c->object = u32_at(arg, 4);
	c->what = u32_at(arg, 8);
	c->status = u32_at(arg, 28);
	if (u32_at(arg, 12) & 4 || !params) /* serialised: another form */
		return;
	if ((c->what == RM_GROUP_SET_TIMESLICE || c->what == RM_GROUP_GET_TIMESLICE) &&
	    params_bytes >= 8)
		c->value = u64_at(params, 0);
	if (c->what == RM_SET_PREEMPTION_MODE && params_bytes >= 16)
		c->value = u32_at(params, 12);
}

static void read_free(struct rm_call *c, const void *arg)
{
	c->client = u32_at(arg, 0);
	c->object = u32_at(arg, 8);
	c->status = u32_at(arg, 12);
	if (c->ret || c->status)
		return;
	pthread_mutex_lock(&objects_lock);
	drop_object(c->client ? c->client : c->object, c->object);
	pthread_mutex_unlock(&objects_lock);
}

static void read_dup(struct rm_call *c, const void *arg)
{
	c->client = u32_at(arg, 0);
	c->object = u32_at(arg, 8);
	c->what = u32_at(arg, 16); /* of what */
	c->value = u32_at(arg, 12);
	c->status = u32_at(arg, 24);
}

static void read_call(struct rm_call *c, const void *arg)
{
	if (c->nr == RM_TRANSFER && c->bytes == 16) { /* a larger call, wrapped */
		c->nr = u32_at(arg, 0);
		c->bytes = u32_at(arg, 4);
		arg = pointer_at(arg, 8);
		if (!arg)
			return;
	}
	if (c->nr == RM_ALLOC && (c->bytes == 32 || c->bytes == 48))
		read_alloc(c, arg);
	else if (c->nr == RM_CONTROL && c->bytes == 32)
		read_control(c, arg);
	else if (c->nr == RM_FREE && c->bytes == 16)
		read_free(c, arg);
	else if (c->nr == RM_DUP && c->bytes == 28)
		read_dup(c, arg);
	else if (c->nr == RM_ALLOC || c->nr == RM_CONTROL || c->nr == RM_FREE || c->nr == RM_DUP)
		atomic_fetch_add(&record->odd, 1);
}

static void note_call(int fd, unsigned long request, const void *arg, int ret)
{
	struct rm_call c = {
		.fd = fd, .nr = request & 0xff, .bytes = request >> 16 & 0x3fff, .ret = ret};
	uint32_t at;

	if (!rm_is_device(fd, &c.minor))
		return;
	if (arg)
		read_call(&c, arg);
	at = atomic_fetch_add(&record->calls, 1);
	if (at < RM_LOG)
		record->log[at] = c;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;
	int ret, error;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	ret = rm_raw_ioctl(fd, request, arg);
	if (record) {
		error = errno;
		note_call(fd, request, arg, ret);
		errno = error;
	}
	return ret;
}

void rm_record_start(struct rm_record *r)
{
	record = r;
}

struct rm_answer rm_control(int fd, uint32_t client, uint32_t object, uint32_t command,
			    void *params, uint32_t bytes)
{
	struct {
		uint32_t client, object, command, flags;
		uint64_t params;
		uint32_t bytes, status;
	} arg = {client, object, command, 0, (uintptr_t)params, bytes, 0};
	struct timespec t0, t1;
	struct rm_answer a;

	_Static_assert(sizeof(arg) == 32, "NVOS54");
	clock_gettime(CLOCK_MONOTONIC, &t0);
	errno = 0;
	a.ret = rm_raw_ioctl(fd, _IOWR('F', RM_CONTROL, arg), &arg);
	a.error = a.ret ? errno : 0;
	clock_gettime(CLOCK_MONOTONIC, &t1);
	a.status = arg.status;
	a.ns = (uint64_t)((t1.tv_sec - t0.tv_sec) * 1000000000ll + (t1.tv_nsec - t0.tv_nsec));
	return a;
}

unsigned rm_compute_groups(const struct rm_record *r, unsigned *ret, unsigned max,
			   unsigned *ret_clients)
{
	unsigned n = 0;

	*ret_clients = 0;
	for (uint32_t i = 0; i < r->n_objects && n < max; i++) {
		const struct rm_object *o = &r->objects[i];
		bool seen = false;

		if (!o->live || o->class_id != RM_CLASS_GROUP ||
		    o->engine < ENGINE_GRAPHICS_FIRST || o->engine > ENGINE_GRAPHICS_LAST)
			continue;
		for (unsigned k = 0; k < n; k++)
			seen = seen || r->objects[ret[k]].client == o->client;
		*ret_clients += !seen;
		ret[n++] = i;
	}
	return n;
}

unsigned rm_channels(const struct rm_record *r, const struct rm_object *group, unsigned *ret,
		     unsigned max)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < r->n_objects && n < max; i++) {
		const struct rm_object *o = &r->objects[i];

		if (o->live && o->client == group->client && o->parent == group->handle &&
		    (o->class_id & 0xff) == 0x6f)
			ret[n++] = i;
	}
	return n;
}

const struct rm_object *rm_find(const struct rm_record *r, uint32_t client, uint32_t class_id)
{
	for (uint32_t i = 0; i < r->n_objects; i++)
		if (r->objects[i].live && r->objects[i].client == client &&
		    r->objects[i].class_id == class_id)
			return &r->objects[i];
	return NULL;
}
