/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program can hear from Aliquot, if it wants to: requests to use less memory.
 *
 * Nobody needs this. A program that does not listen is parked while it is idle, or refused growth;
 * one that listens can do better, because it knows what it can do without: a cache, a batch, half
 * of its KV blocks. Link with -laliquot. Works without a GPU, and without the guard being loaded.
 *
 * The library makes no CUDA call, keeps one socket of its own, and starts a thread only in
 * aliquot_on_shrink(). Nothing is shared with the guard, so the two may be of different builds.
 */
#ifndef ALIQUOT_CLIENT_H
#define ALIQUOT_CLIENT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct aliquot_shrink; /* somebody who listens */

/* "Please use no more than this." For the whole fraction: all processes in it hear the same. */
struct aliquot_shrink_request {
	uint8_t uuid[16];    /* of the device, as cuDeviceGetUuid() gives it */
	uint32_t device;     /* its index in the fraction */
	uint32_t number;     /* of the request, from 1 */
	uint64_t keep_bytes; /* use no more than this there */
	uint64_t used_bytes; /* in use there now, contexts included */
};

/**
 * aliquot_shrink_open() - begin to listen for the fraction that this process belongs to.
 * @ret: the caller's, to be given to aliquot_shrink_close(); untouched on failure
 * Return: 0; -ENOENT it belongs to none, or no daemon answers; -EACCES the fraction is another
 *         user's; -EPROTO the daemon is of another version; other negative errno
 * Context: any thread; waits for the daemon's answer, ten seconds at the most. Not for use in a
 *          child after fork(): open anew there.
 */
int aliquot_shrink_open(struct aliquot_shrink **ret);

/**
 * aliquot_shrink_wait() - wait for a request that was not seen yet.
 * @timeout_ms: milliseconds at most; negative: for ever
 * @ret: the request; untouched unless 1 is returned
 * A daemon that ends is waited for, and listened to again when a new one answers.
 * Return: 1 and @ret; 0 none came in time; -EINTR a signal came; other negative errno
 * Context: one thread at a time for one @s, that of aliquot_shrink_done() and _close() included.
 */
int aliquot_shrink_wait(struct aliquot_shrink *s, int timeout_ms,
			struct aliquot_shrink_request *ret);

/* What the last request asked for is done, as far as it can be: others need not wait longer. It is
 * told with the next wait. */
void aliquot_shrink_done(struct aliquot_shrink *s);

/* Listen no more. NULL is fine. */
void aliquot_shrink_close(struct aliquot_shrink *s);

/**
 * aliquot_on_shrink() - have @heard called for each request, in a thread of the library's.
 * @heard: called for one request at a time, for as long as the process lives; all signals are
 *         blocked in its thread. What it was asked for counts as done when it returns.
 * @context: handed to @heard; not touched
 * Return: 0; as aliquot_shrink_open(), and -EAGAIN no thread can be had; -EBUSY it was called before
 * Context: any thread. A child after fork() does not listen.
 */
int aliquot_on_shrink(void (*heard)(const struct aliquot_shrink_request *request, void *context),
		      void *context);

#ifdef __cplusplus
}
#endif

#endif /* ALIQUOT_CLIENT_H */
