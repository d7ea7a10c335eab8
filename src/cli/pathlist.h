/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of directories separated by colons. Pure. */
#ifndef AQ_CLI_PATHLIST_H
#define AQ_CLI_PATHLIST_H

#include <stdbool.h>

/**
 * aq_pathlist_front() - @dirs in front of @old, each directory once.
 * @dirs: ends with NULL
 * @old:  a list, or NULL; its entries that are in @dirs or begin with one of @drop go away, empty
 *        entries stay (they mean the current directory)
 * @drop: prefixes, ends with NULL; may be NULL
 * Return: malloc'ed list, or NULL without memory
 */
char *aq_pathlist_front(const char *const *dirs, const char *old, const char *const *drop);

/**
 * aq_pathlist_find() - what execvp(3) would run.
 * @name: of a program; with a slash it is taken as it is
 * @path: a list, or NULL for the system's default
 * Return: 0; -ENOENT nowhere; -EACCES found, but not an executable file
 */
int aq_pathlist_find(const char *name, const char *path);

#endif /* AQ_CLI_PATHLIST_H */
