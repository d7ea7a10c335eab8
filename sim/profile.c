/* SPDX-License-Identifier: Apache-2.0 */
/* The table of profile.def, and looking into it. */
#include "profile.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/banned.h"

#define SIM_MIB (1ull << 20)

const struct sim_profile sim_profiles[] = {
#define SIM_PROFILE(id_, ...) {.id = id_, __VA_ARGS__},
#include "profile.def"
#undef SIM_PROFILE
};

const size_t sim_n_profiles = AQ_ARRAY_SIZE(sim_profiles);

/* struct sim_machine_device keeps an id in 16 bytes. */
#define SIM_PROFILE(id_, ...) static_assert(sizeof(id_) <= 16, "id of a profile is too long");
#include "profile.def"
#undef SIM_PROFILE

const struct sim_profile *sim_profile_find(const char *id, size_t length)
{
	for (size_t i = 0; i < sim_n_profiles; i++) {
		if (strlen(sim_profiles[i].id) == length &&
		    strncasecmp(sim_profiles[i].id, id, length) == 0)
			return &sim_profiles[i];
	}
	return NULL;
}
