# SPDX-License-Identifier: Apache-2.0
"""Guards by hand (tests/programs/mover.c), and a device that is small enough for them."""
import aqtest
from aqtest import GIB, check, equal, eventually, program


class Mover(aqtest.Tenant):
    """One client: told what to do line by line, as mover.c has it."""


ARENA = 2 * GIB  # what is left of the device for the fractions of a test: hosts of CI are small


def arena(machine):
    """A daemon, and a device on which all but ARENA is reserved."""
    machine.start_daemon()
    take_the_rest(machine)


def take_the_rest(machine):
    total = machine.devices()[0]["memory_total_bytes"]
    machine.rest = machine.run("sleep", "3600", name="rest", memory=total - ARENA, compute="0.01")
    eventually(lambda: "rest" in machine.fractions(), "the rest of the device is taken")


def mover(machine, name, movable=0, **terms):
    """A client by hand: with terms, of a new fraction that it holds; else one more of it."""
    command = [program("mover"), str(machine.rundir / "aliquotd.sock"), name]
    if terms:
        command = machine.run_args(command, name=name, **{"compute": "0.01", **terms})
    child = machine.spawn(command, kind=Mover)
    equal(child.answer().get("code"), 0, f"mover attaches to {name}")
    if movable:
        child.do(f"alloc {movable}")
    return child


def park(machine, name, code=200, **body):
    status, answer = machine.http("POST", f"/v1/fractions/{name}/park", body)
    equal(status, code, f"status of parking {name} ({answer})")
    return answer


def resume(machine, name, code=200, **body):
    status, answer = machine.http("POST", f"/v1/fractions/{name}/resume", body)
    equal(status, code, f"status of resuming {name} ({answer})")
    return answer


def adds_up(machine):
    """The ledger agrees with itself, as the daemon sees it."""
    warnings = machine.api("/v1/status")["warnings"]
    check(not [w for w in warnings if "ledger" in w], "warnings:", warnings)


def is_parked(machine, name):
    return machine.fraction(name)["residency"] == "parked"


def is_resident(machine, name):
    return machine.fraction(name)["residency"] == "resident"


def await_parked(machine, name):
    eventually(lambda: is_parked(machine, name), f"{name} is parked")


def await_resident(machine, name):
    eventually(lambda: is_resident(machine, name), f"{name} is resident")
