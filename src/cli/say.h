/* SPDX-License-Identifier: Apache-2.0 */
/* What the command says to people on stderr, always as `aliquot: what 'object': reason`. */
#ifndef AQ_CLI_SAY_H
#define AQ_CLI_SAY_H

#include <stdbool.h>
#include <stddef.h>

/* Exit statuses. Those of `run` that are not the program's own follow the shell and env(1). */
enum aq_exit {
	AQ_EXIT_OK = 0,
	AQ_EXIT_FAILED = 1,      /* asked rightly, refused or not possible */
	AQ_EXIT_USAGE = 2,       /* asked wrongly; nothing was changed */
	AQ_EXIT_RUN_FAILED = 125, /* `run` itself failed: no fraction, no daemon */
	AQ_EXIT_NOT_EXECUTABLE = 126,
	AQ_EXIT_NOT_FOUND = 127,
};

/* Print `aliquot: `, the text and a newline on stderr: one line whatever the arguments hold. */
void aq_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, only after aq_say_verbose(true). */
void aq_say_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void aq_say_verbose(bool on);

/* Have lines given to @take (without prefix and newline) instead of stderr; NULL: stderr again. */
void aq_say_redirect(void (*take)(const char *line));

/* Replace control bytes by '?' in place, so that no name can move a terminal's cursor. */
char *aq_say_scrub(char *text);

/**
 * aq_say_finish() - flush stdout, and turn a failed write (a full disk) into a failure.
 * Return: @status, or AQ_EXIT_FAILED if it was 0 and the output is lost
 */
int aq_say_finish(int status);

#endif /* AQ_CLI_SAY_H */
