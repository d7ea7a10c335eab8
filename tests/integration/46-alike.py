#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Memory that can move answers and behaves as the driver's own: every line of programs/alike.c."""
import difflib

import aqtest
from aqtest import check, on, program

TERMS = {"gpus": 2, "memory": "8G"}


def differences(one, other, names):
    return "\n".join(difflib.unified_diff(one, other, *names, lineterm="", n=1))


@on("h100:2")
def the_same_answers(machine):
    machine.start_daemon()
    bare = machine.bare(program("alike"), spec="h100:2").lines(60)
    fixed = machine.output(program("alike"), timeout=60, no_movable=True, **TERMS)
    moving = machine.output(program("alike"), timeout=60, movable=True, **TERMS)
    check(len(bare) > 1000, "lines:", len(bare))
    check(any("child: " in line for line in bare), "the second process said nothing")
    check(bare == fixed, "with the driver's own memory:", differences(bare, fixed,
                                                                       ("driver", "guard")))
    check(fixed == moving, "with memory that can move:", differences(fixed, moving,
                                                                      ("fixed", "movable")))


aqtest.run(the_same_answers)
