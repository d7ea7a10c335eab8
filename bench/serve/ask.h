/* SPDX-License-Identifier: Apache-2.0 */
/* One blocking GET, for what is asked before and after a load: models, health, metrics. */
#ifndef AQ_SERVE_ASK_H
#define AQ_SERVE_ASK_H

#include <stddef.h>
#include <stdint.h>

struct aq_target;

#define AQ_ASK_BYTES (4u << 20) /* longest body */

/**
 * aq_ask() - GET @path of a resolved target.
 * @headers: more lines, each ended by CR LF, or ""
 * @ret_body: NUL behind it; caller frees
 * Return: 0 status 200; -ENOENT another status; -ECONNREFUSED, -ETIMEDOUT, -ECONNRESET, -EPROTO,
 *         -EMSGSIZE; other negative errno
 */
int aq_ask(const struct aq_target *t, const char *path, const char *headers, uint64_t timeout_ns,
	   char **ret_body, size_t *ret_size);

#endif /* AQ_SERVE_ASK_H */
