/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks NVML's functions up, once. The library is loaded already, as the dependency of this one: it
 * is only found here, never chosen, so that nothing in the environment names it.
 */
#include "guard/nvml/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include "guard/guest.h"

#define SONAME "libaliquot-driver-nvml.so.1"

static struct aq__nvml_real real; /* written once, under `once` */

static const struct {
	const char *sym;
	size_t offset;
} names[] = {
#define AQ_NVML(sym, role, params, args) {#sym, offsetof(struct aq__nvml_real, sym)},
#define AQ_NVML_UNTYPED(sym, role)
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED
};

static void load(void)
{
	int saved = errno;
	void *library = dlopen(SONAME, RTLD_NOLOAD | RTLD_LAZY);

	for (size_t i = 0; library && i < sizeof(names) / sizeof(names[0]); i++)
		*(void **)((char *)&real + names[i].offset) = dlsym(library, names[i].sym);
	(void)dlerror(); /* a function that an older library lacks is no error of the program's */
	errno = saved;
}

const struct aq__nvml_real *aq__nvml_real(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	return &real;
}
