/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the machine's own driver libraries and links the guard's names for them. Loads nothing. */
#include "cli/driver.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "cli/say.h"
#include "base/banned.h"

int aq_driver_dir(const struct aq_api *api, const char *libdir, bool simulated, char *buf)
{
	char name[AQ_PATH_BYTES];
	int r;

	if (simulated)
		r = aq_paths_join(buf, libdir, "sim-driver");
	else
		r = aq_paths_join(buf, api->rundir, "driver");
	if (!r)
		r = aq_paths_join(name, buf, AQ_DRIVER_CUDA);
	if (!r && access(name, R_OK) < 0)
		r = -errno;
	if (r < 0)
		aq_say("run: '%s/" AQ_DRIVER_CUDA "': %s", buf, strerror(-r));
	return r;
}
