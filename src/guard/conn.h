/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the daemon: opened by cuInit(), kept alive by one helper thread, used by one
 * call at a time. A daemon that is gone is a state of it, not an error.
 */
#ifndef AQ_GUARD_CONN_H
#define AQ_GUARD_CONN_H

#include <stdbool.h>
#include <stddef.h>

#include "abi/wire.h"

/**
 * aq__conn_open() - find a daemon, say HELLO, take the page.
 * @text:     why it failed, one line without newline, for people
 * @ret_page: the page, mapped; it stays mapped for the life of the process
 * Return: 0; negative errno. Caller: cuInit() alone, with cancellation disabled.
 */
int aq__conn_open(char *text, size_t size, struct aq_page **ret_page);

/* Start the helper thread. Failing only means that a daemon's death is noticed late. */
void aq__conn_start_helper(void);

/* Undo aq__conn_open(), the mapping apart; before the helper is started. */
void aq__conn_close(void);

/**
 * aq__conn_call() - one request and its reply, which is left in @msg.
 * @reply: the type that the reply must have
 * @wait:  when the daemon has just gone, wait a second for the next one
 * Return: 0; -ENOTCONN no daemon. Keeps errno; no cancellation point.
 */
int aq__conn_call(union aq_msg *msg, enum aq_msg_type reply, bool wait);

/**
 * aq__conn_pass() - the same with descriptors: tried once, and only with a daemon that is there.
 * @pass_fd: goes along, or -1; stays the caller's
 * @ret_fd:  what came with the reply, or -1
 * Return: 0; -ENOTCONN nothing was sent; -EIO: nobody knows whether the request arrived.
 */
int aq__conn_pass(union aq_msg *msg, int pass_fd, enum aq_msg_type reply, int *ret_fd);

/* Counts the connections: another one may be to another daemon, which knows nothing of us but the
 * page. */
uint32_t aq__conn_epoch(void);

/* Is a daemon there, as far as is known? One load. */
bool aq__conn_up(void);

/* Send what has no reply. Waits for nobody and takes no lock; it may be lost. Keeps errno. */
void aq__conn_tell(const union aq_msg *msg);

/* Ring the daemon for these devices of the page (AQ_MSG_BELL); a lost one costs a delay only. */
void aq__conn_bell(uint32_t devices);

/* A thread of ours, detached, with all signals blocked. Return: false: this process can have none.
 */
bool aq__thread_start(void *(*main)(void *), size_t stack_bytes, const char *name);

#endif /* AQ_GUARD_CONN_H */
