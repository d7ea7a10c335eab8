/* SPDX-License-Identifier: Apache-2.0 */
/* Where sockets, state and libraries are. Looks; creates only what its name says. */
#ifndef AQ_BASE_PATHS_H
#define AQ_BASE_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#define AQ_PATH_BYTES 256 /* every path of ours; sockets are shorter still (108) */
#define AQ_SYSTEM_RUNDIR "/run/aliquot"
#define AQ_GUARD_SOCKET "aliquotd.sock"
#define AQ_API_SOCKET "api.sock"

/**
 * aq_paths_rundir_user() - the user's own directory: $XDG_RUNTIME_DIR/aliquot or /tmp/aliquot-UID.
 * @buf: of AQ_PATH_BYTES; made as text only, see aq_paths_make_rundir()
 * Return: 0; -ENAMETOOLONG a socket in it would not fit into sockaddr_un
 */
int aq_paths_rundir_user(char *buf);

/**
 * aq_paths_make_rundir() - create @dir (0700) or accept it.
 * Return: 0; -EPERM exists but belongs to somebody else, is open to others, or is a link;
 *         other negative errno
 */
int aq_paths_make_rundir(const char *dir);

/* Join @dir and @name into @buf of AQ_PATH_BYTES. Return: 0 or -ENAMETOOLONG. */
int aq_paths_join(char *buf, const char *dir, const char *name);

/**
 * aq_paths_beside() - a place relative to the directory of the program that runs.
 * @buf: of AQ_PATH_BYTES, without links and dots
 * @fits: is it what is looked for? Given what goes to @buf
 * Return: 0; -ENOENT not there, or it does not fit; other negative errno
 */
int aq_paths_beside(char *buf, const char *place, bool (*fits)(const char *path));
bool aq_paths_is_program(const char *path);

/**
 * aq_paths_libdir() - the directory that has guard/, sim/ and sim-driver/.
 * Order: $ALIQUOT_LIBDIR; next to the running program in a build tree; PREFIX/lib/aliquot
 * (and the multiarch form) beside PREFIX/bin.
 * Return: 0; -ENOENT no guard/libcuda.so.1 in any; -ENAMETOOLONG
 */
int aq_paths_libdir(char *buf);

/**
 * aq_paths_helper() - a program of ours that is not in PATH.
 * @name: below the build tree, as "bench/serve/aliquot-bench-serve"; installed, its last part
 * Order: the build tree that the running program is in; PREFIX/libexec/aliquot beside PREFIX/bin,
 * or beside the running program; PREFIX/bin.
 * @buf: of AQ_PATH_BYTES
 * Return: 0; -ENOENT; -ENAMETOOLONG
 */
int aq_paths_helper(char *buf, const char *name);

/* connect(2) to the unix socket @path, close-on-exec. @type SOCK_*. Return: fd or -errno. */
int aq_paths_connect(const char *path, int type);

#endif /* AQ_BASE_PATHS_H */
