/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: packet check and page check over arbitrary bytes. Only the verdicts are computed. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "abi/page.h"
#include "abi/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In wider numbers than any of its own. */
static int inside(const struct aq_msg_piece *m)
{
	return (unsigned __int128)m->at + m->piece_bytes <= m->span_bytes &&
	       (unsigned __int128)m->offset + m->bytes <= m->span_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static union aq_msg msg;
	static union {
		struct aq_page page;
		unsigned char bytes[AQ_PAGE_BYTES];
	} shared;
	size_t n = size < sizeof(msg) ? size : sizeof(msg);

	memset(&msg, 0xa5, sizeof(msg));
	memcpy(&msg, data, n);
	if (!aq_msg_check(&msg, n)) {
		/* What passed must be safe to read as strings and counts. */
		if (msg.head.size != n)
			__builtin_trap();
		if (msg.head.type == AQ_MSG_HELLO &&
		    strlen(msg.hello.fraction) >= sizeof(msg.hello.fraction))
			__builtin_trap();
		if (msg.head.type == AQ_MSG_GROW && strlen(msg.grow.api) >= sizeof(msg.grow.api))
			__builtin_trap();
		if (msg.head.type == AQ_MSG_PROCS_REPLY && msg.procs_reply.count > AQ_MAX_PROCS)
			__builtin_trap();
		if (msg.head.type == AQ_MSG_ASK_REPLY && msg.ask_reply.what > AQ_ASK_CLOSED)
			__builtin_trap();
		if ((msg.head.type == AQ_MSG_LEND || msg.head.type == AQ_MSG_IMPORT_REPLY) &&
		    msg.piece.result == 0 && !inside(&msg.piece))
			__builtin_trap();
	}

	memset(&shared, 0, sizeof(shared));
	memcpy(&shared, data, size < sizeof(shared) ? size : sizeof(shared));
	if (!aq_page_check(&shared.page) &&
	    (shared.page.device_count > AQ_MAX_DEVICES || strlen(shared.page.fraction) > 63))
		__builtin_trap();
	return 0;
}
