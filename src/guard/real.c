/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks the driver's entry points up, once. The driver is loaded already, as the dependency of this
 * library: it is only found here, never chosen, so that nothing in the environment names a driver.
 */
#include "guard/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "guard/guest.h"

struct aq__real aq__real; /* written once, under `once` */

static pthread_once_t once = PTHREAD_ONCE_INIT;

#define AQ_API(sym, since, role, params, args)
#define AQ_API_UNTYPED(sym, since, role) void *aq__untyped_##sym;
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS

static const struct {
	const char *sym;
	void *slot; /* of a pointer to a function, whatever its type */
} names[] = {
#define AQ_API(sym, since, role, params, args) {#sym, &aq__real.sym},
#define AQ_API_UNTYPED(sym, since, role) {#sym, &aq__untyped_##sym},
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
};

static void load(void)
{
	int saved = errno;
	void *driver = dlopen(AQ__DRIVER_SONAME, RTLD_NOLOAD | RTLD_LAZY);

	for (size_t i = 0; driver && i < sizeof(names) / sizeof(names[0]); i++) {
		void *found = dlsym(driver, names[i].sym);

		memcpy(names[i].slot, &found, sizeof(found));
	}
	(void)dlerror(); /* a symbol that an older driver lacks is no error of the program's */
	errno = saved;
}

void aq__real_load(void)
{
	pthread_once(&once, load);
}

__attribute__((constructor)) static void load_early(void)
{
	aq__real_load();
}
