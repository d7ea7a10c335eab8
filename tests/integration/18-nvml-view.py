#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""NVML inside a fraction shows the fraction: its memory, its processes, and no one else's."""
import json
import os

import aqtest
from aqtest import GIB, MIB, check, equal, on

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nvmlview.py")
INSUFFICIENT_SIZE = 7  # NVML_ERROR_INSUFFICIENT_SIZE


def view(machine, member=None, **options):
    """What NVML says to a process of a running member's fraction, or of a new one."""
    if member is None:
        lines = machine.output("/usr/bin/python3", SCRIPT, **options)
    else:
        child = machine.spawn(["/usr/bin/python3", SCRIPT], aqtest.fraction_env(member.pid))
        lines = child.lines()
        equal(child.wait(), 0, f"exit of the NVML client: {child.stderr()[-500:]}")
    return json.loads(lines[-1])


def the_fractions_own(machine):
    mine = machine.tenant(memory="8G", name="mine")
    other = machine.tenant(memory="16G", name="other")
    mine.do("alloc linear 2G")
    other.do("alloc linear 9G")
    sibling = machine.sibling(mine)
    sibling.do("alloc vmm 512M")
    seen = view(machine, mine)
    equal((seen["init"], seen["count_code"], seen["shutdown"]), (0, 0, 0), "codes")
    equal(len(seen["devices"]), 1, "devices")
    device = seen["devices"][0]
    equal(device["uuid"], machine.devices()[0]["uuid"], "uuid")
    used = machine.used("mine")
    for key in ("memory", "memory_v2"):
        memory = device[key]
        equal(memory["code"], 0, f"code of {key}")
        equal(memory["total"], 8 * GIB, f"total of {key}")
        equal(memory["used"], used, f"used of {key}")
        equal(memory["free"], 8 * GIB - used, f"free of {key}")
    equal(device["memory_v2"]["reserved"], 0, "reserved")
    info = mine.do("info")
    equal((info["total"], info["free"]), (device["memory"]["total"], device["memory"]["free"]),
          "cuMemGetInfo says the same")
    processes = {pid: n for pid, n in device["processes"]["list"]}
    equal(device["processes"]["code"], 0, "code of the process list")
    equal(set(processes), {mine.pid, sibling.pid}, "processes")
    check(processes[mine.pid] >= 2 * GIB and processes[sibling.pid] >= 512 * MIB, "their memory",
          processes)
    equal(sum(processes.values()), used, "sum of their memory")
    equal(device["count_query"], [INSUFFICIENT_SIZE, 2], "asking for the count")
    check(other.pid not in processes, "another fraction's process is shown")


def before_anything_is_allocated(machine):
    seen = view(machine, memory="4G")
    memory = seen["devices"][0]["memory"]
    equal((memory["total"], memory["used"], memory["free"]), (4 * GIB, 0, 4 * GIB), "memory")
    equal(seen["devices"][0]["processes"]["list"], [], "processes")


def follows_a_resize(machine):
    tenant = machine.tenant(memory="4G", name="grows")
    equal(view(machine, tenant)["devices"][0]["memory"]["total"], 4 * GIB, "before")
    machine.cli("resize", "grows", "--memory", "9G")
    equal(view(machine, tenant)["devices"][0]["memory"]["total"], 9 * GIB, "after")


@on("h100:2")
def devices_outside_the_fraction(machine):
    """A fraction of one of two devices; the other may be listed, but shows nothing of others."""
    machine.start_daemon()
    uuids = [d["uuid"] for d in machine.devices()]
    mine = machine.tenant(memory="4G", device=uuids[0], name="mine")
    other = machine.tenant(memory="4G", device=uuids[1], name="other")
    other.do("alloc linear 2G")
    for device in view(machine, mine)["devices"]:
        pids = [pid for pid, _ in device["processes"]["list"]]
        check(other.pid not in pids, "another fraction's process is shown", device)
        if device["uuid"] == uuids[0]:
            equal(device["memory"]["total"], 4 * GIB, "total")
        else:
            check(device["memory"]["used"] == 0, "another fraction's use is shown", device)


def nulls_as_the_driver(machine):
    bare = machine.spawn(["/usr/bin/python3", SCRIPT],
                         {"LD_LIBRARY_PATH": str(aqtest.LIB / "sim"), "ALIQUOT_SIM": "h100",
                          "ALIQUOT_SIM_DIR": str(machine.bare_dir)})
    own = json.loads(bare.lines()[-1])
    seen = view(machine, memory="4G")
    for key in ("name", "nulls"):
        equal(seen["devices"][0][key], own["devices"][0][key], key)
    equal(seen["driver"], own["driver"], "driver version")
    total = own["devices"][0]["memory_v2"]
    equal(machine.devices()[0]["memory_total_bytes"], total["total"] - total["reserved"],
          "memory_total_bytes of the device")


aqtest.run(the_fractions_own, before_anything_is_allocated, follows_a_resize,
           devices_outside_the_fraction, nulls_as_the_driver)
