#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What CUDA runtimes 11.8, 12.4 and 13.0 look up is what they get: hooks where the catalogue says
so, the driver's own entry points everywhere else, and the driver's own answers to bad questions."""
import subprocess

import aqtest
from aqtest import DATA, LIB, check, equal, program, words

HOOKED = {"CHARGE", "RELEASE", "SUBMIT", "REPORT", "LIFECYCLE", "RESOLVE"}
# Look-ups with a name; the probe for the empty one is the first line of the program's output.
RUNTIMES = [("11.8", "v1", 384), ("12.4", "v2", 408), ("13.0", "v2", 439)]
GUARD, DRIVER = "guard/libcuda.so.1", ("sim/libcuda.so.1", "sim-driver/libaliquot-driver.so.1")


def guard_exports():
    text = subprocess.run(["nm", "-D", "--defined-only", LIB / "guard/libcuda.so.1"], text=True,
                          capture_output=True, check=True).stdout
    return {line.split()[-1].split("@")[0] for line in text.splitlines() if line}


def rows(lines):
    names = ("name", "version", "flags", "result", "status", "pointer", "owner", "symbol", "role")
    return [dict(zip(names, line.split())) for line in lines
            if len(line.split()) == len(names) and not line.startswith("lookalike ")]


def replay(machine, version, generation, count):
    path = DATA / f"cudart_lookups_{version}.txt"
    lines = machine.output(program("lookalike"), path, generation, gpu=0.25)
    bare_child = machine.bare(program("lookalike"), path, generation)
    bare_lines = bare_child.lines()
    equal(bare_child.wait(), 0, "exit of the bare run")
    guarded, bare = rows(lines), rows(bare_lines)
    equal(len(guarded), count, f"look-ups of {version}")
    exports = guard_exports()
    wrong = []
    hooks = own = 0
    for got, want in zip(guarded, bare):
        where = f"{got['name']}@{got['version']}/{got['flags']}"
        for key in ("name", "version", "flags", "result", "status", "symbol", "role"):
            if got[key] != want[key]:
                wrong.append(f"{where}: {key} {got[key]}, the driver says {want[key]}")
        if (got["pointer"] == "nil") != (want["pointer"] == "nil"):
            wrong.append(f"{where}: pointer {got['pointer']}, the driver's {want['pointer']}")
        if got["pointer"] == "nil":
            continue
        if got["symbol"] == "-":
            if got["owner"] == GUARD:
                wrong.append(f"{where}: a hook for what the catalogue does not know")
            continue
        if got["pointer"] != "same":
            wrong.append(f"{where}: not what dlsym({got['symbol']}) gives")
        if got["role"] in HOOKED:
            hooks += 1
            if got["owner"] != GUARD:
                wrong.append(f"{where}: {got['role']} but from {got['owner']}")
        elif got["role"] == "PASS":
            own += 1
            if got["owner"] not in DRIVER:
                wrong.append(f"{where}: PASS but from {got['owner']}")
        elif (got["owner"] == GUARD) != (got["symbol"] in exports):
            wrong.append(f"{where}: WATCH from {got['owner']}, exported: "
                         f"{got['symbol'] in exports}")
    check(not wrong, f"{len(wrong)} of {count} wrong:\n  " + "\n  ".join(wrong[:40]))
    check(hooks > count // 4 and own > count // 4, f"{hooks} hooks, {own} the driver's own")
    last, bare_last = words(lines[-1]), words(bare_lines[-1])
    equal(last["ok"], 1, f"first use of a device ({lines[-1]})")
    equal(last["over"], 2, "an allocation over what is free")
    for key in ("version", "count", "attributes", "looked_up"):
        equal(last[key], bare_last[key], key)
    check(last["total"] < bare_last["total"] // 3, "total is the fraction's:", last["total"])
    equal(words(lines[0])["verb"], "probe", "the probe comes first")
    equal(lines[0], bare_lines[0], "answer to the probe")


def runtime_11_8(machine):
    replay(machine, *RUNTIMES[0])


def runtime_12_4(machine):
    replay(machine, *RUNTIMES[1])


def runtime_13_0(machine):
    replay(machine, *RUNTIMES[2])


def errors_are_the_drivers_own(machine):
    """Only the owner of a pointer may differ from what the driver answers by itself."""
    def without_owner(lines):
        return [" ".join(w for i, w in enumerate(line.split()) if i != 6) for line in lines]

    guarded = machine.output(program("lookalike"), "--errors", gpu=0.25)
    bare = machine.bare(program("lookalike"), "--errors").lines()
    check(len(bare) > 25, "lines:", len(bare))
    different = [f"{b} -> {g}" for b, g in zip(without_owner(bare), without_owner(guarded))
                 if b != g]
    check(not different, "not the driver's answer:\n  " + "\n  ".join(different))
    table = rows(bare)
    old = [r for r in table if r["status"] == "-1"]
    new = [r for r in table if r["status"] != "-1"]
    # Source: a genuine driver 550: an unknown name gives 500 in the first generation, the pointer
    # untouched, and success with NULL and status 1 in the second; too low a version, status 2.
    equal((old[0]["result"], old[0]["pointer"]), ("500", "untouched"), "unknown name, v1")
    equal((new[0]["result"], new[0]["pointer"], new[0]["status"]), ("0", "nil", "1"),
          "unknown name, v2")
    equal((new[2]["result"], new[2]["pointer"], new[2]["status"]), ("0", "nil", "2"),
          "version too low, v2")


def identity_is_never_altered(machine):
    """Names, versions, uuids and attributes through the guard are those of the device."""
    guarded = machine.output(program("tenant"), "init", "dev 0", gpu=0.25)
    bare = machine.bare(program("tenant"), "init", "dev 0").lines()
    equal(words(guarded[0])["count"], words(bare[0])["count"], "device count")
    uuid = words(guarded[1])["uuid"]
    known = machine.devices()[0]["uuid"].replace("GPU-", "").replace("-", "")
    equal(str(uuid), known, "uuid")


aqtest.run(runtime_11_8, runtime_12_4, runtime_13_0, errors_are_the_drivers_own,
           identity_is_never_altered)
