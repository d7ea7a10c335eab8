/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's own driver libraries, and the names under which the guard finds them. */
#ifndef AQ_CLI_DRIVER_H
#define AQ_CLI_DRIVER_H

#include <stdbool.h>

#include "base/paths.h"

/* The libraries that the guard stands in front of: names for programs, name for the guard. */
#define AQ_DRIVER_LIST(AQ_DRIVER)                                                                  \
	AQ_DRIVER(CUDA, "libcuda.so.1", "libcuda.so", "libaliquot-driver.so.1")                    \
	AQ_DRIVER(NVML, "libnvidia-ml.so.1", "libnvidia-ml.so", "libaliquot-driver-nvml.so.1")

enum aq_driver_library {
#define AQ_DRIVER(id, soname, link, alias) AQ_DRIVER_##id,
	AQ_DRIVER_LIST(AQ_DRIVER)
#undef AQ_DRIVER
	AQ_DRIVER_LIBRARIES
};

struct aq_driver_name {
	const char *soname; /* what the linker looks for */
	const char *link;   /* what a few programs open instead */
	const char *alias;  /* what the guard depends on */
};

extern const struct aq_driver_name aq_driver_names[AQ_DRIVER_LIBRARIES];

/**
 * aq_driver_find() - the file that a program like this one would get, were there no guard.
 * Order: LD_LIBRARY_PATH, ld.so.cache, the usual directories. Guards, of whichever installation,
 * and libraries for other architectures are passed over.
 * @buf: of AQ_PATH_BYTES
 * Return: 0; -ENOENT there is none
 */
int aq_driver_find(enum aq_driver_library which, char *buf);

/**
 * aq_driver_link() - make a directory with links named as the guard wants them.
 * It is rundir/driver for the system's driver. Another one (a compatibility package that stands in
 * LD_LIBRARY_PATH) gets a directory of its own beside it: programs do not disturb each other.
 * @rundir:    the user's own
 * @ret_files: the real files, as found; [AQ_DRIVER_NVML] may be empty
 * @ret_dir:   of AQ_PATH_BYTES
 * Return: 0; -ENOENT no libcuda.so.1; other negative errno. Says nothing.
 */
int aq_driver_link(const char *rundir, char ret_files[AQ_DRIVER_LIBRARIES][AQ_PATH_BYTES],
		   char *ret_dir);

/* True for a guard, of this or another installation: it depends on the driver by our name. */
bool aq_driver_is_guard(const char *path);

#endif /* AQ_CLI_DRIVER_H */
