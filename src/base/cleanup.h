/* SPDX-License-Identifier: Apache-2.0 */
/* Scoped clean-up of locals: `AQ_CLEANUP(close) int fd = -1;`. Nothing else. */
#ifndef AQ_BASE_CLEANUP_H
#define AQ_BASE_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define AQ_CLEANUP(what) __attribute__((cleanup(aq_cleanup_##what)))

static inline void aq_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void aq_cleanup_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void aq_cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void aq_cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Hand the value over to the caller: the clean-up of the local then does nothing. */
#define AQ_STEAL(p)                                                                                \
	({                                                                                         \
		__typeof__(p) stolen_ = (p);                                                       \
		(p) = NULL;                                                                        \
		stolen_;                                                                           \
	})

static inline int aq_steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#define AQ_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif /* AQ_BASE_CLEANUP_H */
