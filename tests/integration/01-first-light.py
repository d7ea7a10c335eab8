#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One command runs an unmodified program in a quarter of a simulated GPU, as a user would."""
import os
import pathlib
import shutil
import subprocess

import aqtest
from aqtest import GIB, check, equal, program, size_2m, words

FRACTION_KEYS = {"name", "project", "priority", "state", "devices", "memory_request_bytes",
                 "memory_limit_bytes", "memory_used_bytes", "memory_parked_bytes",
                 "compute_request_permille", "compute_limit_permille", "gpu_time_ns", "clients"}
DEVICE_KEYS = {"index", "uuid", "name", "memory_total_bytes", "memory_used_bytes",
               "memory_reserved_bytes", "compute_reserved_permille", "mechanism", "simulated"}


def vectoradd_in_a_quarter(machine):
    lines = machine.output(program("vectoradd"), gpu=0.25)
    answer = words(lines[-1])
    equal(answer["ok"], 1, "vectoradd")
    device = machine.devices()[0]
    quarter = size_2m(device["memory_total_bytes"] // 4)
    check(device["memory_total_bytes"] > 70 * GIB, "an H100 has more than 70 GiB:", device)
    equal(answer["total"], quarter, "total memory as the program sees it")
    check(0 < answer["free"] < quarter, "free memory, a context made:", answer["free"])


def a_program_compiled_elsewhere(machine):
    """Plain cc, no flag but -lcuda, nothing of the build tree in the binary."""
    compiler = shutil.which("cc")
    if not compiler:
        raise aqtest.Skip("no cc")
    source = aqtest.ROOT / "tests/programs/vectoradd.c"
    exe = pathlib.Path(machine.directory, "prog")
    subprocess.run([compiler, "-I", str(aqtest.ROOT / "src"), str(source), "-o", str(exe),
                    "-L", str(aqtest.PROGRAMS), "-lcuda"], check=True)
    lines = machine.output(exe, "1000", gpu=0.25)
    equal(words(lines[-1])["elements"], 1000, "elements")
    bare = machine.bare(exe, "1000")
    equal(words(bare.lines()[-1])["ok"], 1, "the same program on the simulated driver alone")
    equal(bare.wait(), 0, "its exit code")


def ps_and_devices_say_what_is_promised(machine):
    tenant = machine.tenant(gpu=0.25, name="shape", project="tests", priority="high")
    tenant.do("alloc linear 1G")
    shown = machine.json("ps")
    equal([f["name"] for f in shown], ["shape"], "fractions of `aliquot ps --json`")
    fraction = shown[0]
    check(FRACTION_KEYS <= set(fraction), "missing in ps:", FRACTION_KEYS - set(fraction))
    device = machine.json("devices")[0]
    check(DEVICE_KEYS <= set(device), "missing in devices:", DEVICE_KEYS - set(device))
    total = device["memory_total_bytes"]
    equal(fraction["memory_limit_bytes"], size_2m(total // 4), "memory_limit_bytes")
    equal(fraction["memory_request_bytes"], size_2m(total // 4), "memory_request_bytes")
    equal(fraction["compute_request_permille"], 250, "compute_request_permille")
    equal(fraction["compute_limit_permille"], 1000, "compute_limit_permille")
    equal(fraction["project"], "tests", "project")
    equal(fraction["priority"], "high", "priority")
    equal(fraction["state"], "running", "state")
    equal([d["uuid"] for d in fraction["devices"]], [device["uuid"]], "devices of the fraction")
    equal([c["pid"] for c in fraction["clients"]], [tenant.pid], "clients")
    check(fraction["memory_used_bytes"] >= GIB, "memory_used_bytes", fraction["memory_used_bytes"])
    check(device["simulated"] is True, "simulated")
    equal(device["memory_reserved_bytes"], fraction["memory_request_bytes"], "reserved")
    equal(device["compute_reserved_permille"], 250, "compute_reserved_permille")
    check(device["memory_used_bytes"] >= GIB, "memory_used_bytes of the device", device)
    for table in ("ps", "devices"):
        text = machine.cli(table)[0]
        check("shape" in text or table == "devices", f"`aliquot {table}` for people:", text)
    tenant.quit()
    machine.gone("shape")
    equal(machine.devices()[0]["memory_used_bytes"], 0, "used after the end")


def environment_is_as_promised(machine):
    lines = machine.output("/usr/bin/env", gpu=0.25, name="envname",
                           env={"LD_LIBRARY_PATH": "/nonexistent-mark"})
    env = dict(line.split("=", 1) for line in lines if "=" in line)
    equal(env.get("ALIQUOT_FRACTION"), "envname", "ALIQUOT_FRACTION")
    equal(env.get("ALIQUOT_SOCKET"), str(machine.rundir / "aliquotd.sock"), "ALIQUOT_SOCKET")
    check(env["LD_LIBRARY_PATH"].endswith(":/nonexistent-mark"), "the old LD_LIBRARY_PATH is kept")
    check("LD_PRELOAD" not in env, "no LD_PRELOAD")
    equal(env.get("CUDA_VISIBLE_DEVICES"), machine.devices()[0]["uuid"], "CUDA_VISIBLE_DEVICES")
    limits = [k for k in env if k.startswith("ALIQUOT_") and
              k not in ("ALIQUOT_FRACTION", "ALIQUOT_SOCKET", "ALIQUOT_LIBDIR",
                        "ALIQUOT_SIM_DIR")]
    equal(limits, [], "other variables of ours: no limit may come from the environment")


def nothing_given_is_a_whole_gpu(machine):
    info = words(machine.output(program("tenant"), "init", "dev 0", "info")[-1])
    equal(info["total"], size_2m(machine.devices()[0]["memory_total_bytes"]), "total")


os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
aqtest.run(vectoradd_in_a_quarter, a_program_compiled_elsewhere,
           ps_and_devices_say_what_is_promised, environment_is_as_promised,
           nothing_given_is_a_whole_gpu)
