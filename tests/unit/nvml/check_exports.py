#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_exports.py NVML_API_DEF ROLE LIBRARY [EXTRA...]: what a library of ours exports.

LIBRARY must export the functions of ROLE (`all`: every one) and EXTRA, and nothing else.
"""
import re
import shutil
import subprocess
import sys

definition, role, library, *extra = sys.argv[1:]
if not shutil.which("nm"):
    print("skipped: no nm")
    sys.exit(77)
entries = re.findall(r"^AQ_NVML(?:_UNTYPED)?\((\w+), (\w+)", open(definition).read(), re.M)
wanted = {sym for sym, r in entries if role in ("all", r)} | set(extra)
out = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True,
                     check=True).stdout
found = {line.split()[-1] for line in out.splitlines()}
for sym in sorted(wanted - found):
    print(f"missing: {sym}")
for sym in sorted(found - wanted):
    print(f"surplus: {sym}")
print(f"{len(found)} exported")
sys.exit(0 if wanted and found == wanted else 1)
