/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out at the n-th allocation, for a test program that is linked with
 * `oom_link_args`: what is linked in allocates through the functions here, libraries do not, unless
 * they are told to (jansson: json_set_alloc_funcs(__wrap_malloc, __wrap_free)). For one file of a
 * program.
 */
#ifndef AQ_TESTS_OOM_H
#define AQ_TESTS_OOM_H

#include "cm.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OOM_MAX_WALK 20000 /* allocations that a walk fails: one that never ends is a defect, too  \
			    */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *text);
int __wrap_asprintf(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **ret_text, int flag, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void __wrap_free(void *p);

static __thread long oom_left = -1; /* allocations of this thread until one fails; below 0: none */
static __thread bool oom_failed;
static long oom_live; /* allocated here less freed here, by all threads */

static bool oom_fails(void)
{
	if (oom_left < 0 || oom_left-- > 0)
		return false;
	oom_failed = true;
	return true;
}

static void *oom_count(void *p)
{
	__atomic_add_fetch(&oom_live, p != NULL, __ATOMIC_RELAXED);
	return p;
}

void *__wrap_malloc(size_t size)
{
	return oom_fails() ? NULL : oom_count(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return oom_fails() ? NULL : oom_count(__real_calloc(n, size));
}

/* Never called with a size of 0, which would free. */
void *__wrap_realloc(void *p, size_t size)
{
	bool grows = p != NULL;
	void *q = oom_fails() ? NULL : __real_realloc(p, size);

	return grows ? q : oom_count(q);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	bool grows = p != NULL;
	void *q = oom_fails() ? NULL : __real_reallocarray(p, n, size);

	return grows ? q : oom_count(q);
}

char *__wrap_strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *p = __wrap_malloc(size);

	return p ? memcpy(p, text, size) : NULL;
}

static __attribute__((format(printf, 2, 0))) int oom_print(char **ret_text, const char *format,
							   va_list args)
{
	int r = oom_fails() ? -1 : vasprintf(ret_text, format, args);

	if (r >= 0)
		oom_count(*ret_text);
	return r;
}

int __wrap_asprintf(char **ret_text, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = oom_print(ret_text, format, args);
	va_end(args);
	return r;
}

/* What asprintf() is called with _FORTIFY_SOURCE. */
int __wrap___asprintf_chk(char **ret_text, int flag, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = oom_print(ret_text, format, args);
	va_end(args);
	return r;
}

void __wrap_free(void *p)
{
	__atomic_sub_fetch(&oom_live, p != NULL, __ATOMIC_RELAXED);
	__real_free(p);
}

/* From now on @n allocations of this thread succeed, then one fails, then all succeed again. */
static inline void oom_begin(long n)
{
	oom_failed = false;
	oom_left = n;
}

/* Return: did one fail since oom_begin()? */
static inline bool oom_end(void)
{
	oom_left = -1;
	return oom_failed;
}

/*
 * oom_walk() - run @once with its first, second, ... allocation failing, until none does.
 * @once:  returns @error when one failed, else 0, and has given back by then what it allocated
 * Return: runs, the last included: one more than there are allocations. More than one, or the walk
 *         has shown nothing.
 */
static inline long oom_walk(int (*once)(void), int error)
{
	long before = oom_live, n = 0;
	bool failed;

	do {
		int r;

		assert_in_range(n, 0, OOM_MAX_WALK);
		oom_begin(n++);
		r = once();
		failed = oom_end();
		assert_int_equal(r, failed ? error : 0);
		assert_int_equal(oom_live, before);
	} while (failed);
	assert_true(n > 1);
	return n;
}

#endif /* AQ_TESTS_OOM_H */
