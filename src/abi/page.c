/* SPDX-License-Identifier: Apache-2.0 */
/* Creates, maps and judges shared pages. Does not know whose they are. */
#include "abi/page.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/grant.h"
#include "base/cleanup.h"
#include "base/name.h"
#include "base/banned.h"

#define PAGE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int map(int fd, struct aq_page **ret_page)
{
	void *p = mmap(NULL, AQ_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret_page = p;
	return 0;
}

int aq_page_create(uint32_t device_count, const char *fraction, int *ret_fd,
		   struct aq_page **ret_page)
{
	AQ_CLEANUP(close) int fd = -1;
	struct aq_page *page = NULL;
	int r;

	if (!device_count || device_count > AQ_MAX_DEVICES || !aq_name_valid(fraction))
		return -EINVAL;
	fd = memfd_create("aliquot-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, AQ_PAGE_BYTES) < 0 || fcntl(fd, F_ADD_SEALS, PAGE_SEALS) < 0)
		return -errno;
	r = map(fd, &page);
	if (r < 0)
		return r;

	page->magic = AQ_PAGE_MAGIC;
	page->abi = AQ_ABI_VERSION;
	page->size = AQ_PAGE_BYTES;
	page->device_count = device_count;
	aq_copy_padded(page->fraction, sizeof(page->fraction), fraction);
	*ret_fd = aq_steal_fd(&fd);
	*ret_page = page;
	return 0;
}

int aq_page_map(int fd, struct aq_page **ret_page)
{
	struct aq_page *page = NULL;
	struct stat st;
	int seals, r;

	if (fstat(fd, &st) < 0)
		return -errno;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & PAGE_SEALS) != PAGE_SEALS || (seals & F_SEAL_WRITE) ||
	    st.st_size != AQ_PAGE_BYTES)
		return -EINVAL;
	r = map(fd, &page);
	if (r < 0)
		return r;
	r = aq_page_check(page);
	if (r < 0) {
		aq_page_unmap(page);
		return r;
	}
	*ret_page = page;
	return 0;
}

void aq_page_unmap(struct aq_page *page)
{
	if (page)
		munmap(page, AQ_PAGE_BYTES);
}

int aq_page_check(const struct aq_page *page)
{
	const volatile struct aq_page *shared = page; /* the peer may write while we look */
	char name[AQ_NAME_BYTES];
	uint32_t count = shared->device_count;

	if (shared->magic != AQ_PAGE_MAGIC || shared->abi != AQ_ABI_VERSION ||
	    shared->size != AQ_PAGE_BYTES)
		return -EPROTO;
	if (!count || count > AQ_MAX_DEVICES)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = shared->fraction[i];
	if (name[sizeof(name) - 1] || !aq_name_valid(name))
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		struct aq_grant g = aq_grant_load(&page->device[i].grant);

		if (g.used > g.granted)
			return -EINVAL;
	}
	return 0;
}
