/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that the experiment starts: their output, their end. Whatever is started here ends with
 * us, however we end; nothing else is ever signalled. Every wait has an end.
 */
#ifndef AQ_FRACTIONS_PROC_H
#define AQ_FRACTIONS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fr_proc {
	pid_t pid;	 /* 0: none, or its end was seen */
	int out;	 /* reads its stdout; -1 */
	int status;	 /* as of waitpid(2), once its end was seen */
	uint64_t cpu_ns; /* that it had, likewise */
};

#define FR_PROC_NONE ((struct fr_proc){.out = -1})

/**
 * fr_proc_start() - start a program in a process group of its own, so that Ctrl-C is ours alone.
 * @argv:    ends with NULL; argv[0] is a path
 * @environ: `NAME=VALUE`s that are set and `NAME`s that are not, ends with NULL; NULL none
 * @log:     its stderr is added to this file
 * Return: 0; negative errno, that of exec(2) too
 */
int fr_proc_start(struct fr_proc *p, const char *const *argv, const char *const *environ,
		  const char *log);

/**
 * fr_proc_line() - the first line of its output.
 * @buf: without the newline, cut to @size
 * Return: 0; -ETIMEDOUT; -ENODATA it ended or closed its output without one; -EINTR a signal
 * arrived that asks us to end (fr_stopping)
 */
int fr_proc_line(struct fr_proc *p, char *buf, size_t size, uint64_t deadline_ns);

/**
 * fr_proc_output() - all of its output, up to @max bytes.
 * @ret_text: malloc'ed, with a NUL; caller frees
 * Return: 0; -ETIMEDOUT, -EFBIG, -ENOMEM; -EINTR as above
 */
int fr_proc_output(struct fr_proc *p, size_t max, uint64_t deadline_ns, char **ret_text);

/* Has it ended? */
bool fr_proc_ended(struct fr_proc *p);

/* Ask @count of them to end, and after @grace_ns make them. All have ended afterwards. */
void fr_proc_end(struct fr_proc *const *p, size_t count, uint64_t grace_ns);

/* Set by SIGINT and SIGTERM once fr_catch_signals() was called; 0 none came. */
int fr_stopping(void);
void fr_catch_signals(void);

/* Sleep. Return: 0; -EINTR as above, at once. */
int fr_sleep(uint64_t ns);

#endif /* AQ_FRACTIONS_PROC_H */
