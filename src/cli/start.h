/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the user's private daemon. */
#ifndef AQ_CLI_START_H
#define AQ_CLI_START_H

/**
 * aq_start_daemon() - start aliquotd for this user and wait until its API listens.
 * @rundir: created when absent
 * @what:   for complaints: "run"
 * @sim:    PROFILE[:COUNT] of simulated devices it shall have, or NULL
 *
 * Any number of commands may do this at once: they take turns, and the first daemon serves all.
 * Daemons that were started by other means settle by a lock of their own which of them stays.
 * Return: 0 it listens; negative errno after one or two lines on stderr
 */
int aq_start_daemon(const char *rundir, const char *what, const char *sim);

/* Path of the aliquotd that belongs to this program. Return: 0; -ENOENT; -ENAMETOOLONG. */
int aq_start_find(char *buf);

#endif /* AQ_CLI_START_H */
