/* SPDX-License-Identifier: Apache-2.0 */
/* Small operations on descriptors and processes that several modules need. */
#ifndef AQ_BASE_FD_H
#define AQ_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * aq_pid_start_time() - start time of a process, which together with the pid names it for ever.
 * @ret_ticks: clock ticks since boot (proc(5), stat, field 22)
 * Return: 0; -ESRCH no such process; -EIO unreadable
 */
int aq_pid_start_time(pid_t pid, uint64_t *ret_ticks);

/* Is the process stopped, by a signal or a debugger? (proc(5), stat, field 3) */
bool aq_pid_stopped(pid_t pid);

/* Parent's pid (field 4 of stat). Return: pid >= 0; -ESRCH; -EIO. */
pid_t aq_pid_parent(pid_t pid);

/* pidfd_open(2), close-on-exec. Return: descriptor, or negative errno. */
int aq_pidfd_open(pid_t pid);

/**
 * aq_pid_maps() - does a process map the file with this inode? For memory files, whose inodes are
 * those of one file system.
 * Return: 1 or 0; -ESRCH no such process; -EACCES may not be known; other negative errno
 */
int aq_pid_maps(pid_t pid, uint64_t inode);

/**
 * aq_fds_standard() - open /dev/null on those of 0, 1 and 2 that are closed, so that nothing else
 * is opened there and then written to or replaced. Closed again on exec; writing fails.
 * Return: 0 or negative errno
 */
int aq_fds_standard(void);

/**
 * aq_file_read() - whole small file as a NUL-terminated string.
 * @max: refuse more bytes than this
 * @ret_text: malloc'ed; caller frees
 * Return: length; negative errno (-EFBIG over @max)
 */
ssize_t aq_file_read(const char *path, size_t max, char **ret_text);

/* What the kernel says can be had of the host's memory without swapping; UINT64_MAX: it does not
 * say. Source: proc(5), MemAvailable. Reads a file, some 50 us; allocates nothing. */
uint64_t aq_memory_available(void);

/**
 * aq_file_replace() - write @text to @path so that a crash leaves the old or the new, never half.
 * Mode 0600; fsyncs nothing (the directories it is meant for live in memory).
 * Return: 0 or negative errno
 */
int aq_file_replace(const char *path, const char *text, size_t size);

#endif /* AQ_BASE_FD_H */
