#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A monitor inside a fraction outlives the daemon: what it is told while there is none, and after."""
import os

import aqtest
from aqtest import GIB, check, equal, eventually

NO_PERMISSION = 4  # NVML_ERROR_NO_PERMISSION

# Says for each line of input what NVML tells of device 0: codes, total, used, number of processes.
MONITOR = """
import ctypes, sys
nvml = ctypes.CDLL("libnvidia-ml.so.1")
nvml.nvmlInit_v2()
device = ctypes.c_void_p()
nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
for line in sys.stdin:
    memory = (ctypes.c_ulonglong * 3)()
    count, table = ctypes.c_uint(64), (ctypes.c_char * (64 * 24))()
    code = nvml.nvmlDeviceGetMemoryInfo(device, memory)
    list_code = nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(count), table)
    print("memory", f"code={code} total={memory[0]} used={memory[2]} list={list_code}",
          f"processes={0 if list_code else count.value}", flush=True)
"""


def monitor(machine, member):
    return machine.spawn(["/usr/bin/python3", "-c", MONITOR], aqtest.fraction_env(member.pid),
                         aqtest.Tenant)


def told_as_last_known_until_the_next(machine):
    daemon = machine.start_daemon()
    tenant = machine.tenant(memory="8G")
    tenant.do("alloc linear 1G")
    eyes = monitor(machine, tenant)
    before = eyes.ask("look")
    equal((before["code"], before["total"], before["list"], before["processes"]),
          (0, 8 * GIB, 0, 1), "before")
    check(before["used"] >= GIB, "used", before)
    machine.kill_daemon(daemon)
    gone = eyes.ask("look")
    equal((gone["code"], gone["total"], gone["used"]), (0, 8 * GIB, before["used"]), "memory")
    equal(gone["list"], NO_PERMISSION, "processes without a daemon")
    late = monitor(machine, tenant).ask("look")
    equal((late["code"], late["total"], late["list"]), (NO_PERMISSION, 0, NO_PERMISSION),
          "a monitor that never knew")
    machine.start_daemon()
    eventually(lambda: eyes.ask("look")["processes"] == 1, "the list is there again")
    equal(eyes.ask("look")["used"], before["used"], "used, after")


def ends_with_its_fraction(machine):
    machine.start_daemon()
    tenant = machine.tenant(memory="8G", name="short")
    eyes = monitor(machine, tenant)
    equal(eyes.ask("look")["total"], 8 * GIB, "total")
    tenant.quit()
    machine.gone("short")
    after = eyes.ask("look")
    check(after["list"] == NO_PERMISSION and after["total"] in (0, 8 * GIB),
          "never the device's own", after)
    check(os.path.exists(f"/proc/{eyes.pid}"), "the monitor lives")


aqtest.run(told_as_last_known_until_the_next, ends_with_its_fraction)
