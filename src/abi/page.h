/* SPDX-License-Identifier: Apache-2.0 */
/* Making, sealing and checking the shared page. */
#ifndef AQ_ABI_PAGE_H
#define AQ_ABI_PAGE_H

#include <aliquot/abi.h>

/**
 * aq_page_create() - a new sealed page, mapped.
 * @device_count: 1..AQ_MAX_DEVICES
 * @fraction:     valid name
 * @ret_fd:       memfd, close-on-exec, caller closes
 * @ret_page:     mapped read-write, caller unmaps with aq_page_unmap(); all grants zero
 * Return: 0; -EINVAL; other negative errno. Daemon only.
 */
int aq_page_create(uint32_t device_count, const char *fraction, int *ret_fd,
		   struct aq_page **ret_page);

/**
 * aq_page_map() - map a page that came over a socket, after checking what could bite.
 * Checks: a memfd of exactly AQ_PAGE_BYTES with F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL (so no
 * later truncation can raise SIGBUS), and aq_page_check().
 * Return: 0; -EPROTO magic, abi or size of another version; -EINVAL anything else; errno
 */
int aq_page_map(int fd, struct aq_page **ret_page);

/* NULL is fine. */
void aq_page_unmap(struct aq_page *page);

/**
 * aq_page_check() - is this page one that an honest peer of this version could have?
 * Looks at head, counts, name and used <= granted of every device. Reads each word once.
 * Return: 0; -EPROTO another version; -EINVAL
 */
int aq_page_check(const struct aq_page *page);

#endif /* AQ_ABI_PAGE_H */
