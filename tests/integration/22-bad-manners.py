#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that close or replace descriptors that are not theirs, that hammer themselves with
signals, and that fork while many threads with small stacks initialise and allocate."""
import contextlib
import os
import pathlib
import resource
import socket
import subprocess
import time

import aqtest
from aqtest import GIB, check, equal, eventually, program, words


def all_went_well(machine, lines):
    answers = [words(line) for line in lines]
    for answer in answers:
        equal(answer.get("code", 0), 0, answer)
    info = next(a for a in answers if a["verb"] == "info")
    check(info["free"] < 4 * GIB - 3 * GIB // 2, "what it took is counted", info)
    check(not machine.events("denied"), "nothing was denied")


def descriptors_closed(machine):
    """The page stays mapped, so the daemon that gave it takes the process back."""
    machine.start_daemon()
    all_went_well(machine, machine.output(program("rogue"), "closefrom", memory="4G"))


def descriptors_replaced(machine):
    machine.start_daemon()
    victim = pathlib.Path(machine.directory, "victim")
    lines = machine.output(program("rogue"), "dup2", victim, memory="4G")
    all_went_well(machine, lines)
    equal(words(lines[-1])["bytes"], 0, "what was written to the program's own file")


def signals_all_the_time(machine):
    machine.start_daemon()
    lines = machine.output(program("rogue"), "alarms", 100, memory="4G")
    equal(words(lines[-1])["bad"], 0, "calls that failed")


def many_threads_with_small_stacks(machine):
    machine.start_daemon()
    lines = machine.output(program("rogue"), "threads", 8, 64, memory="4G")
    equal(words(lines[-1])["bad"], 0, "calls that failed")


def exec_of_another_program(machine):
    """The device's memory is back at once, so the ledger's must be, while the pid lives on."""
    machine.start_daemon()
    child = machine.run(program("rogue"), "exec", "sleep", 60, memory="4G", name="changed")
    equal(words(child.line())["code"], 0, "the allocation")
    eventually(lambda: machine.used("changed") == 0, "what it held is back", 10)
    check(aqtest.alive(child.pid), "it sleeps")
    equal(machine.fraction("changed")["holder_pid"], child.pid, "who holds the fraction")
    child.kill()


def no_standard_descriptors(machine):
    """Where nothing is open at 0, 1 and 2, the daemon's own files must not be there either."""
    def close_all():
        os.closerange(0, 3)

    daemon = subprocess.run([aqtest.DAEMON, "--sim", "h100"], env=machine.env,
                            preexec_fn=close_all, timeout=aqtest.PATIENCE)
    equal(daemon.returncode, 0, "exit of aliquotd")
    equal(machine.api("/v1/version")["pid"], machine.daemon_pid(), "who answers")
    shown = subprocess.run([aqtest.CLI, "ps"], env=machine.env, preexec_fn=close_all,
                           timeout=aqtest.PATIENCE)
    equal(shown.returncode, 1, "exit of ps, which could say nothing")
    equal(machine.api("/v1/version")["pid"], machine.daemon_pid(), "who answers still")


def connections_that_say_nothing(machine):
    """They cost the daemon neither its last descriptors nor its processor, and its log no more
    than some lines."""
    daemon = machine.start_daemon()
    log_lines = machine.log().count("\n")
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (64, 64))
    mute = []
    try:
        for _ in range(100):
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            link.settimeout(aqtest.PATIENCE)
            link.connect(str(machine.rundir / "api.sock"))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                link.send(b"GET /v1/ver")  # whoever has too many is hung up on at once
            mute.append(link)
        time.sleep(1)
        check(aqtest.fd_count(daemon.pid) <= 50, "descriptors", aqtest.fd_count(daemon.pid))
        check(machine.log().count("\n") - log_lines < 20, "lines of the log")
    finally:
        for link in mute:
            link.close()
    equal(machine.api("/v1/version")["pid"], daemon.pid, "who answers")


def nobody_joins_what_is_killed(machine):
    """Who starts programs again and again, and is no client itself, does not outlive a kill: while
    one that ignores SIGTERM keeps the fraction, nobody else comes into it."""
    machine.start_daemon()
    args = machine.run_args(["bash", "-c", f"trap '' TERM; exec {program('tenant')} -"],
                            memory="4G", name="hydra")
    deaf = machine.spawn(args, kind=aqtest.Tenant).start()
    machine.cli("kill", "hydra")
    late = machine.sibling(deaf, start=False)
    check(late.ask("init")["code"] != 0, "one more got in")
    check("was killed" in late.stderr(), "says why:", late.stderr())
    deaf.do("alloc linear 1M")
    machine.gone("hydra")
    equal(deaf.wait(), -9, "status of the one that ignored it")


aqtest.run(exec_of_another_program, no_standard_descriptors, connections_that_say_nothing,
           descriptors_closed, descriptors_replaced, signals_all_the_time,
           many_threads_with_small_stacks, nobody_joins_what_is_killed)
