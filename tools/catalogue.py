# SPDX-License-Identifier: Apache-2.0
"""What the tools know of src/cuda/cuda_api.def and of what the guard does with each entry point."""
import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMANDED = ("CHARGE", "RELEASE", "SUBMIT", "REPORT", "LIFECYCLE", "RESOLVE")
ROLES = DEMANDED + ("WATCH", "PASS")

Entry = collections.namedtuple("Entry", "symbol since role typed hooked")


def entries():
    """All functions of the catalogue, in its order."""
    own = set(re.findall(r"#define AQ__OWN_(\w+)", (ROOT / "src/guard/own.h").read_text()))
    found = []
    for line in (ROOT / "src/cuda/cuda_api.def").read_text().splitlines():
        match = re.match(r"AQ_API(_UNTYPED)?\((\w+), (\d+), (\w+)", line)
        if not match:
            continue
        untyped, symbol, since, role = match.groups()
        hooked = role in DEMANDED or (role == "WATCH" and symbol in own)
        found.append(Entry(symbol, int(since), role, not untyped, hooked))
    return found
