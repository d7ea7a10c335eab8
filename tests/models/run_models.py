#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the models of protocols here with spin(1), where that and a C compiler are installed.

Usage: run_models.py; AQ_ALL=1 in the environment: the long ones, too. Exit status: 0 all hold, 1 one does not (its trail is printed), 77 no spin.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MEMORY_MIB = 1500
DEPTH = 2000000
SAFETY, LIVENESS = ["-DNOCLAIM", "-DSAFETY"], []

# Model, what it is built with, how it is run, does it hold?
CHECKS = [
    ("lease", [], SAFETY, ["-E"], True, "two never run at once"),
    ("lease", ["-DFORGET_SLIPS", "-DNO_CLOCK"], SAFETY, ["-E"], False,
     "a daemon that forgets slips is found out"),
    ("lease", ["-DNO_CLOCK"], LIVENESS, ["-a", "-f", "-E"], True, "nobody waits for ever"),
    ("lease", ["-DPRIORITY", "-DNO_CLOCK"], SAFETY, ["-E"], True,
     "only a higher priority runs beside a lower one"),
    ("lease", ["-DANYBODY", "-DNO_CLOCK"], SAFETY, ["-E"], False, "an equal that does so is found out"),
    ("lease", ["-DPRIORITY", "-DNO_CLOCK"], LIVENESS, ["-a", "-f", "-E"], True,
     "nobody waits for ever, nor for a higher priority"),
    ("lease", ["-DPRIORITY", "-DSTANDING", "-DNO_CLOCK"], SAFETY, ["-E"], True,
     "a standing lease is taken up beside a lower one, and by nobody else"),
    ("lease", ["-DPRIORITY", "-DSTANDING", "-DNO_CLOCK"], LIVENESS, ["-a", "-f", "-E"], True,
     "nobody waits for ever for who has one"),
]
LONG = [  # AQ_ALL=1: a minute more
    ("lease", ["-DDEATH"], SAFETY, ["-E"], True, "two never run at once, nor when one dies"),
    ("lease", ["-DPRIORITY"], SAFETY, ["-E"], True,
     "only a higher priority runs beside a lower one, leases ending"),
    ("lease", [], LIVENESS, ["-a", "-f", "-E"], True, "nobody waits for ever, leases ending"),
]


def verify(model, defines, build, arguments, directory):
    """Errors and states, as the verifier counts them, and the trail."""
    source = HERE / f"{model}.pml"
    subprocess.run(["spin", *defines, "-a", source], cwd=directory, check=True,
                   stdout=subprocess.PIPE)
    subprocess.run(["cc", "-O1", "-w", f"-DMEMLIM={MEMORY_MIB}", *build, "-o", "pan", "pan.c"],
                   cwd=directory, check=True)
    done = subprocess.run(["./pan", f"-m{DEPTH}", *arguments], cwd=directory,
                          stdout=subprocess.PIPE, text=True)
    errors = re.search(r"errors: (\d+)", done.stdout)
    states = re.search(r"(\d\S*) states, stored", done.stdout)
    if not errors or not states or (errors[1] == "0" and (
            "Search not completed" in done.stdout or "depth too small" in done.stdout)):
        raise RuntimeError(f"the search did not end:\n{done.stdout}")
    trail = ""
    if int(errors[1]):
        trail = subprocess.run(["spin", *defines, "-t", "-p", "-g", source], cwd=directory,
                               stdout=subprocess.PIPE, text=True).stdout[-6000:]
    return int(errors[1]), states[1], trail


def main():
    if not shutil.which("spin") or not shutil.which("cc"):
        print("skipped: no spin, or no C compiler")
        return 77
    failed = 0
    for model, defines, build, arguments, holds, what in CHECKS + (LONG if os.environ.get("AQ_ALL") == "1" else []):
        with tempfile.TemporaryDirectory(prefix="aqmodel-") as directory:
            errors, states, trail = verify(model, defines, build, arguments, directory)
        ok = (errors == 0) == holds
        print(f"{'ok' if ok else 'FAILED'} {model}: {what} ({states} states)", flush=True)
        if not ok:
            print(trail)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
