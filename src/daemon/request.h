/* SPDX-License-Identifier: Apache-2.0 */
/* What each message of a guard means, and its answer. */
#ifndef AQ_DAEMON_REQUEST_H
#define AQ_DAEMON_REQUEST_H

#include "daemon/daemon.h"

/* Deal with one well-formed packet. @passed stays the caller's. */
void aqd_request(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg, int passed);

/* A packet of another ABI: name both versions, and close. Only msg->head may be read. */
void aqd_request_foreign_abi(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg);

/* Measure for all of whom it is due, each device once for all, and answer those who wait for it. */
void aqd_request_finish_measuring(struct aqd *d);

/* Try again those who wait for others: to come back, to be measured, to make a first context. */
void aqd_request_retry_adopting(struct aqd *d);

/* Deal anew with the request that a connection holds. */
void aqd_request_retry(struct aqd *d, struct aqd_conn *conn);

/* Answer a held GROW or COST so that the guard asks again: what it waits for takes longer. */
void aqd_request_again(struct aqd *d, struct aqd_conn *conn);

#endif /* AQ_DAEMON_REQUEST_H */
