#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every function of NVML, by name, from the simulated library and through the guard's face.

The simulator answers all and crashes in none. In front of it the face changes what tells memory and
processes, and nothing else: all other functions give the same status, and identity the same bytes.
"""
import json
import os

import aqtest
from aqtest import GIB, check, equal

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENT = ["/usr/bin/python3", os.path.join(HERE, "nvmlevery.py"),
          os.path.join(HERE, "../../src/nvml/nvml_api.def")]

SUCCESS, NOT_SUPPORTED, NO_PERMISSION = 0, 3, 4
# Function by function what a client with nothing but zeros gets, where it is not one of these two.
NOT_ZERO = {
    "nvmlDeviceGetHandleBySerial": 6, "nvmlDeviceGetHandleByUUID": 6,
    "nvmlDeviceGetHandleByPciBusId": 2, "nvmlDeviceGetHandleByPciBusId_v2": 2,
    "nvmlDeviceGetHandleByUUIDV": 2, "nvmlUnitGetHandleByIndex": 2,
    "nvmlDeviceGetMigDeviceHandleByIndex": 6,
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": 2,
    "nvmlInternalGetExportTable": 6, "nvmlEventSetWait": 10, "nvmlEventSetWait_v2": 10,
    "nvmlSystemGetProcessName": 6,
    "nvmlDeviceGetProcessUtilization": 6, "nvmlDeviceGetProcessesUtilizationInfo": 6,
}
# What a tenant may not do, and what it is told of a pid that is not its own.
FACE = {"nvmlDeviceClearAccountingPids": NO_PERMISSION, "nvmlDeviceSetAccountingMode": NO_PERMISSION,
        "nvmlDeviceClearFieldValues": NO_PERMISSION, "nvmlDeviceGetAccountingStats": 6,
        "nvmlDeviceGetAccountingStats_v2": 6}


def answers(child):
    lines = child.lines()
    equal(child.wait(), 0, f"exit of the NVML client: {child.stderr()[-800:]}")
    return json.loads(lines[-1])


def functions(found):
    return {k: v for k, v in found.items() if isinstance(v, dict)}


def own(machine):
    """What the library of the simulator says of the very machine that the daemon has."""
    return answers(machine.spawn(CLIENT, {"LD_LIBRARY_PATH": str(aqtest.LIB / "sim"),
                                          "ALIQUOT_SIM_DIR": str(machine.rundir / "sim")}))


def every_function_answers(machine):
    found = answers(machine.bare(*CLIENT))
    equal((found["init"], found["shutdown"], found["error"]), (0, 0, "Not Supported"), "basics")
    check(len(functions(found)) > 400, "functions", len(functions(found)))
    for sym, answer in functions(found).items():
        want = NOT_ZERO.get(sym)
        if want is not None:
            equal(answer["status"], want, f"status of {sym}")
        else:
            check(answer["status"] in (SUCCESS, NOT_SUPPORTED), f"status of {sym}", answer)


def the_face_changes_what_it_should(machine):
    machine.start_daemon()
    tenant = machine.tenant(memory="8G")
    tenant.do("alloc linear 1G")
    bare = own(machine)
    seen = answers(machine.spawn(CLIENT, aqtest.fraction_env(tenant.pid)))
    equal(set(seen), set(bare), "functions")
    for sym, answer in functions(seen).items():
        if sym in FACE:
            equal(answer["status"], FACE[sym], f"status of {sym}")
            continue
        equal(answer["status"], bare[sym]["status"], f"status of {sym}")
        if answer["role"] == "IDENTITY" and "Handle" not in sym and "Gpu" not in sym:
            equal(answer["output"], bare[sym]["output"], f"output of {sym}")
    for sym in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"):
        check(seen[sym]["output"] != bare[sym]["output"], f"{sym} tells the device's memory")
    total = int.from_bytes(bytes.fromhex(seen["nvmlDeviceGetMemoryInfo"]["output"][0])[:8],
                           "little")
    equal(total, 8 * GIB, "total")


aqtest.run(every_function_answers, the_face_changes_what_it_should)
