#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guarded program that cannot reach the daemon gets no GPU, and one line says why."""
import os
import pathlib

import aqtest
from aqtest import LIB, check, equal, program, words


def guarded_env(machine, lib=LIB, **more):
    return {"LD_LIBRARY_PATH": f"{lib}/guard:{lib}/sim-driver", **more}


def refused(machine, env, what):
    """cuInit fails, the rest too; exactly one line on stderr. Returns it."""
    child = machine.spawn([program("tenant"), "init", "dev 0", "alloc linear 1M"], env)
    answers = [words(line) for line in child.lines()]
    child.wait()
    check(answers[0]["code"] != 0, f"{what}: cuInit succeeded")
    check(answers[1]["code"] != 0 and answers[2]["code"] != 0, f"{what}: later calls succeeded")
    lines = child.stderr().strip().splitlines()
    equal(len(lines), 1, f"{what}: lines on stderr ({lines})")
    check("aliquot" in lines[0].lower(), f"{what}: says not who speaks:", lines[0])
    return lines[0]


def with_no_daemon(machine):
    sock = str(machine.rundir / "aliquotd.sock")
    line = refused(machine, guarded_env(machine, ALIQUOT_SOCKET=sock, ALIQUOT_FRACTION="x"),
                   "no daemon")
    check("aliquotd" in line or "daemon" in line, "names the daemon:", line)
    refused(machine, guarded_env(machine, ALIQUOT_SOCKET="/nonexistent/socket"), "no such socket")
    refused(machine, guarded_env(machine, ALIQUOT_SOCKET="x" * 300), "a path too long")
    refused(machine, guarded_env(machine), "nothing in the environment")


def with_a_socket_that_nobody_answers(machine):
    import socket
    path = os.path.join(machine.directory, "silent.sock")
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    silent.bind(path)
    silent.listen(1)
    refused(machine, guarded_env(machine, ALIQUOT_SOCKET=path, ALIQUOT_FRACTION="x"),
            "a daemon that does not answer")
    silent.close()
    refused(machine, guarded_env(machine, ALIQUOT_SOCKET=path, ALIQUOT_FRACTION="x"),
            "a socket without a listener")


def with_a_fraction_that_is_not(machine):
    machine.start_daemon()
    sock = str(machine.rundir / "aliquotd.sock")
    line = refused(machine, guarded_env(machine, ALIQUOT_SOCKET=sock, ALIQUOT_FRACTION="ghost"),
                   "no such fraction")
    check("ghost" in line, "names the fraction:", line)
    for name in ("../ghost", "x" * 500, "a b", "\x1b[2J"):
        refused(machine, guarded_env(machine, ALIQUOT_SOCKET=sock, ALIQUOT_FRACTION=name),
                f"fraction {name[:10]!r}")
    check(machine.events("rejected"), "no event was recorded")
    equal(machine.devices()[0]["memory_used_bytes"], 0, "nothing was used")


def no_limit_from_the_environment(machine):
    """Whatever a tenant writes into its environment, its share stays what the daemon says."""
    env = {"ALIQUOT_MEMORY_LIMIT": "999G", "ALIQUOT_LIMIT": "999G", "ALIQUOT_DISABLE": "1",
           "CUDA_DISABLE_CONTROL": "true", "ALIQUOT_FAIL_OPEN": "1"}
    answer = words(machine.output("/usr/bin/env", *[f"{k}={v}" for k, v in env.items()],
                                  program("tenant"), "init", "dev 0", "info", memory="2G")[-1])
    equal(answer["total"], 2 << 30, "total")


def another_fraction_by_name(machine):
    """A tenant of the same user may name another of its user's fractions: that one's limit holds.
    One that names none is found by its ancestors."""
    machine.tenant(memory="2G", name="two")
    lines = machine.output("/usr/bin/env", "ALIQUOT_FRACTION=two", program("tenant"), "init",
                           "dev 0", "info", memory="6G", name="six")
    equal(words(lines[-1])["total"], 2 << 30, "total in the named one")
    lines = machine.output("/usr/bin/env", "-u", "ALIQUOT_FRACTION", program("tenant"), "init",
                           "dev 0", "info", memory="6G", name="six-again")
    equal(words(lines[-1])["total"], 6 << 30, "total in the ancestors' one")


def other_users_are_kept_out(machine):
    aqtest.need_root()
    machine.start_daemon()
    machine.tenant(memory="2G", name="roots")
    lib, tenant = aqtest.public_copy(machine)
    sock = machine.rundir / "aliquotd.sock"
    equal(pathlib.Path(machine.rundir).stat().st_mode & 0o777, 0o700, "mode of the run directory")
    lines = machine.spawn(["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           tenant, "init"],
                          guarded_env(machine, lib, ALIQUOT_SOCKET=str(sock),
                                      ALIQUOT_FRACTION="roots"))
    answers = [words(line) for line in lines.lines()]
    check(answers and answers[0]["code"] != 0, "another user attached:", answers)
    equal(len(machine.fraction("roots")["clients"]), 1, "clients")


aqtest.run(with_no_daemon, with_a_socket_that_nobody_answers, with_a_fraction_that_is_not,
           no_limit_from_the_environment, another_fraction_by_name, other_users_are_kept_out)
