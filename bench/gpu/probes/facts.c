/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine is: device, driver, limits, permissions that decide which mechanisms can work,
 * and how good the clocks are. It reads and changes nothing.
 */
#include "probe.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void file_fact(const char *what, const char *path, const char *line_start)
{
	char line[512];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f) {
		report_skipped(what, "%s cannot be read", path);
		return;
	}
	while (!found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (line_start && strncmp(line, line_start, strlen(line_start)))
			continue;
		report_fact(what, "%s", line);
		found = true;
	}
	if (!found)
		report_skipped(what, "%s has no line '%s'", path, line_start ? line_start : "");
	fclose(f);
}

static void host_facts(void)
{
	struct utsname u;

	if (!uname(&u))
		report_fact("kernel", "%s %s %s", u.sysname, u.release, u.machine);
	report_fact("cpus", "%ld", sysconf(_SC_NPROCESSORS_ONLN));
	file_fact("host_memory", "/proc/meminfo", "MemTotal");
	report_fact("uid", "%d effective %d", (int)getuid(), (int)geteuid());
	file_fact("capabilities", "/proc/self/status", "CapEff");
	file_fact("no_new_privs", "/proc/self/status", "NoNewPrivs");
	file_fact("seccomp", "/proc/self/status", "Seccomp");
	file_fact("user_namespace", "/proc/self/uid_map", NULL);
	file_fact("ptrace_scope", "/proc/sys/kernel/yama/ptrace_scope", NULL);
	file_fact("kernel_module", "/proc/driver/nvidia/version", "NVRM");
	file_fact("gsp_parameter", "/proc/driver/nvidia/params", "EnableGpuFirmware");
	file_fact("huge_pages", "/proc/meminfo", "HugePages_Free");
	report_fact("mps_pipe_directory", "%s",
		    access("/tmp/nvidia-mps/control", F_OK) ? "none in the usual place" : "exists");
	report_one("clock_pair_cost", "ns", (double)probe_clock_cost_ns(),
		   "least time between two readings of CLOCK_MONOTONIC");
}

static void device_facts(struct gpu *g)
{
	static const struct {
		const char *name;
		CUdevice_attribute a;
	} wanted[] = {
		{"compute_capability_major", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
		{"compute_capability_minor", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
		{"multiprocessors", CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
		{"l2_bytes", CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
		{"shared_bytes_per_multiprocessor",
		 CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
		{"copy_engines", CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT},
		{"compute_preemption", CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED},
		{"vmm", CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED},
		{"vmm_posix_fd", CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED},
		{"memory_pools", CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED},
		{"stream_memory_operations", CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS},
		{"mps_attribute", CU_DEVICE_ATTRIBUTE_MPS_ENABLED},
		{"execution_timeout", CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT},
		{"ecc", CU_DEVICE_ATTRIBUTE_ECC_ENABLED},
	};
	size_t total = 0, now_free = 0, total_info = 0;
	char name[96] = "";
	int value, version = 0;

	cu.cuDeviceGetName(name, sizeof(name), g->dev);
	report_fact("name", "%s", name);
	cu.cuDriverGetVersion(&version);
	report_fact("cuda_version", "%d", version);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		if (!cu.cuDeviceGetAttribute(&value, wanted[i].a, g->dev))
			report_fact(wanted[i].name, "%d", value);
	cu.cuDeviceTotalMem_v2(&total, g->dev);
	cu.cuMemGetInfo_v2(&now_free, &total_info);
	report_fact("cuda_memory", "cuDeviceTotalMem %zu cuMemGetInfo total %zu free %zu bytes",
		    total, total_info, now_free);
	report_fact("kernels_compute", "%s", g->computes ? "yes" : "no");
}

static int timer_facts(struct gpu *g)
{
	uint64_t stamps[256];
	uint32_t n = ARRAY_LEN(stamps);
	struct samples s = {0};
	int64_t offset = 0;
	uint64_t error = 0;
	CUdeviceptr p;

	probe_step("device_timer");
	if (!g->computes) {
		report_skipped(NULL, "kernels do not compute here");
		return 0;
	}
	TRY(cu.cuMemAlloc_v2(&p, sizeof(stamps)));
	TRY(gpu_run(g, K_TIMER, 1, 1, g->stream, &p, &n));
	TRY(cu.cuStreamSynchronize(g->stream));
	TRY(cu.cuMemcpyDtoH_v2(stamps, p, sizeof(stamps)));
	TRY(cu.cuMemFree_v2(p));
	for (uint32_t i = 1; i < n; i++)
		samples_add(&s, (double)(stamps[i] - stamps[i - 1]));
	report("device_timer_step", "ns", &s,
	       "differences between consecutive distinct readings of %%globaltimer");
	probe_step("device_clock");
	if (!gpu_clock(g, &offset, &error))
		report_one("device_clock_error", "ns", (double)error,
			   "half the least round trip of a question to a kernel through mapped "
			   "memory; device time is CLOCK_MONOTONIC %+lld ns",
			   (long long)offset);
	else
		report_skipped("device_clock_error", "a kernel did not answer");
	return 0;
}

/*
 * Can the driver's ioctl() calls be seen without the loader's help? Only if it calls libc's symbol
 * through a slot that can be changed. Looks at the file's own tables, in memory.
 */
static void ioctl_slot(const struct link_map *map)
{
	const ElfW(Sym) *symbols = NULL;
	const ElfW(Rela) *rela = NULL;
	const char *strings = NULL;
	size_t bytes = 0;
	bool now = false;

	for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_SYMTAB)
			symbols = (const void *)d->d_un.d_ptr;
		else if (d->d_tag == DT_STRTAB)
			strings = (const void *)d->d_un.d_ptr;
		else if (d->d_tag == DT_JMPREL)
			rela = (const void *)d->d_un.d_ptr;
		else if (d->d_tag == DT_PLTRELSZ)
			bytes = d->d_un.d_val;
		else if (d->d_tag == DT_BIND_NOW ||
			 (d->d_tag == DT_FLAGS && d->d_un.d_val & DF_BIND_NOW))
			now = true;
	}
	for (size_t i = 0; symbols && strings && rela && i < bytes / sizeof(*rela); i++) {
		const char *name = strings + symbols[ELF64_R_SYM(rela[i].r_info)].st_name;

		if (!strcmp(name, "ioctl")) {
			report_fact("ioctl_slot", "jump slot at +%#zx, %s", rela[i].r_offset,
				    now ? "bound at load" : "bound lazily");
			return;
		}
	}
	report_fact("ioctl_slot", "none among %zu", bytes / sizeof(*rela));
}

static void driver_file_facts(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
	struct link_map *map = NULL;

	if (!lib || dlinfo(lib, RTLD_DI_LINKMAP, &map) || !map)
		return;
	report_fact("libcuda", "%s", map->l_name);
	ioctl_slot(map);
}

int main(int argc, char **argv)
{
	struct gpu g;

	probe_begin(argc, argv, "facts", 60, NULL);
	host_facts();
	nvml_report_facts();
	probe_step("open");
	if (gpu_open(&g) < 0)
		return probe_end();
	device_facts(&g);
	timer_facts(&g);
	driver_file_facts();
	gpu_close(&g);
	return probe_end();
}
