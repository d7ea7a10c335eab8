/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs and options: one table says what is parsed, what --help prints and what completes. */
#ifndef AQ_CLI_OPT_H
#define AQ_CLI_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum aq_opt_arg {
	AQ_OPT_NONE,  /* --json */
	AQ_OPT_VALUE, /* --gpu F or --gpu=F */
	AQ_OPT_MAYBE, /* --wait or --wait=DUR, never --wait DUR */
};

/* Identifiers of options. Below 128: also the letter of a short form. */
enum aq_opt_id {
	AQ_OPT_END = 0,
	AQ_OPT_OPERAND = 1,
	AQ_OPT_HELP = 'h',
	AQ_OPT_VERBOSE = 'v',
	AQ_OPT_GPU = 256,
	AQ_OPT_GPUS,
	AQ_OPT_MEMORY,
	AQ_OPT_MEMORY_LIMIT,
	AQ_OPT_COMPUTE,
	AQ_OPT_COMPUTE_LIMIT,
	AQ_OPT_PRIORITY,
	AQ_OPT_NAME,
	AQ_OPT_PROJECT,
	AQ_OPT_DEVICE,
	AQ_OPT_SIM,
	AQ_OPT_WAIT,
	AQ_OPT_MOUNT_NAMESPACE,
	AQ_OPT_MOVABLE,
	AQ_OPT_NO_MOVABLE,
	AQ_OPT_JSON,
	AQ_OPT_SINCE,
	AQ_OPT_FRACTION,
	AQ_OPT_WORDS,
	AQ_OPT_PROBE,
	AQ_OPT_HOLD,
	AQ_OPT_NO_WAIT,
	AQ_OPT_PARK_IDLE,
	AQ_OPT_FORCE_PARK,
};

/* A table of these ends with a row whose name is NULL. */
struct aq_opt {
	const char *name;    /* without the dashes */
	int id;              /* enum aq_opt_id, or a letter */
	enum aq_opt_arg arg;
	const char *metavar; /* of the value, in capitals */
	const char *help;    /* one line; NULL keeps it out of --help */
	const char *words;   /* values that completion offers, by blanks; NULL none */
};

struct aq_verb {
	const char *name;
	const char *operands; /* for the usage line: "NAME [OPTION...]" */
	const char *summary;  /* one line, no full stop */
	const char *examples; /* lines of two blanks, command, blanks, meaning */
	const struct aq_opt *opts;
	const char *notes;    /* printed last; NULL none */
	int (*run)(const struct aq_verb *verb, int argc, char **argv); /* argv[0] is the verb */
};

/* -h is understood by every verb and stands in no table. */
#define AQ_OPT_ROW_JSON                                                                            \
	{"json", AQ_OPT_JSON, AQ_OPT_NONE, NULL, "print JSON instead of a table", NULL}

struct aq_opt_scan {
	const struct aq_verb *verb;
	int argc;
	char **argv;
	int at;              /* next argument */
	const char *cluster; /* rest of `-abc`, or NULL */
	bool operands_only;  /* behind `--` */
};

void aq_opt_start(struct aq_opt_scan *s, const struct aq_verb *verb, int argc, char **argv);

/**
 * aq_opt_next() - the next option or operand.
 * @ret_value: its value (NULL for none), or the operand; points into argv
 * Return: an id of the table, AQ_OPT_HELP, AQ_OPT_OPERAND, AQ_OPT_END;
 *         -EINVAL after one line on stderr
 */
int aq_opt_next(struct aq_opt_scan *s, const char **ret_value);

/* One line on stderr about an operand that @verb does not take. Return: AQ_EXIT_USAGE. */
int aq_opt_unexpected(const struct aq_verb *verb, const char *operand);

/* The help page of @verb. */
void aq_opt_help(const struct aq_verb *verb, FILE *out);

/* What completion needs: every option of @verb on a line, with the words its value may take. */
void aq_opt_words(const struct aq_verb *verb, FILE *out);

/**
 * aq_opt_nearest() - what somebody who typed @typed may have meant.
 * @words: ends with NULL
 * Return: the word that starts with @typed or is at most two slips away; NULL if none is near
 */
const char *aq_opt_nearest(const char *typed, const char *const *words);

#endif /* AQ_CLI_OPT_H */
