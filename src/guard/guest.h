/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manners of the guard inside a program that did not invite it. Included last by every file of
 * src/guard; what a guest must not do does not compile.
 *
 * A guest also leaves alone, in every hook and whatever happens: errno, dlerror, the current
 * context, signals, file descriptors 0 to 2, and the memory allocator (a program may have replaced
 * it, or forked with it locked). It holds no lock of its own while the driver runs.
 */
#ifndef AQ_GUARD_GUEST_H
#define AQ_GUARD_GUEST_H

#include "base/banned.h"

#pragma GCC poison exit _exit abort printf fprintf puts perror malloc calloc realloc free

#endif /* AQ_GUARD_GUEST_H */
