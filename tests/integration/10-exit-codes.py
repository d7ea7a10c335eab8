#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`aliquot run` is its program: exit codes, signals, streams, arguments; and 125, 126, 127."""
import os
import pathlib
import signal
import subprocess

import aqtest
from aqtest import check, equal, eventually, program


def exit_codes_pass(machine):
    machine.start_daemon()
    for code in (0, 1, 2, 42, 125, 126, 127, 128, 143, 255):
        machine.output("/bin/sh", "-c", f"exit {code}", gpu=0.1, code=code)


def own_codes(machine):
    plain = pathlib.Path(machine.directory, "plain")
    plain.write_text("not a program\n")
    plain.chmod(0o644)
    machine.output("/nonexistent/program", gpu=0.1, code=127)
    machine.output("no-such-program-in-path", gpu=0.1, code=127)
    machine.output(plain, gpu=0.1, code=126)
    machine.output(machine.directory, gpu=0.1, code=126)
    machine.output("/bin/true", memory="4000G", code=125)
    machine.output("/bin/true", gpu=0.1, device="7", code=2)
    eventually(lambda: machine.fractions() == {}, "nothing is left of what could not start")


def signals_end_it_as_they_end_the_program(machine):
    machine.start_daemon()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL, signal.SIGUSR1):
        child = machine.run("/bin/sleep", "1000", gpu=0.1, name=f"s{number}")
        eventually(lambda: f"s{number}" in machine.fractions() and
                   os.readlink(f"/proc/{child.pid}/exe").endswith(("sleep", "coreutils")),
                   "sleep runs")
        child.kill(number)
        equal(child.wait(), -number, f"how it ended by {number.name}")
        machine.gone(f"s{number}")


def a_program_that_catches_a_signal(machine):
    """What the program does with SIGTERM is what the caller sees."""
    script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    child = machine.run("/bin/sh", "-c", script, gpu=0.1)
    equal(child.line(), "ready", "first line")
    child.kill(signal.SIGTERM)
    equal(child.line(), "caught", "its handler ran")
    equal(child.wait(), 7, "exit")


def it_is_the_same_process(machine):
    """Signals and exit codes are right by construction: run execs. Standard streams are its own."""
    child = machine.run("/bin/sh", "-c", "echo $$; cat; echo err >&2; exit 3", gpu=0.1)
    equal(int(child.line()), child.pid, "pid")
    child.process.stdin.write(b"through\n")
    child.process.stdin.close()
    equal(child.line(), "through", "stdin to stdout")
    equal(child.wait(), 3, "exit")
    check("err" in child.stderr(), "stderr")


def arguments_are_not_touched(machine):
    odd = ["--gpu", "--", "", " a b ", "--help", "-x", "ä", "$HOME", "*"]
    code = "import sys\nfor a in sys.argv[1:]: print(ascii(a))"
    lines = machine.output("/usr/bin/python3", "-c", code, *odd, gpu=0.1)
    equal(lines, [ascii(a) for a in odd], "arguments")


def no_descriptor_leaks_into_the_program(machine):
    lines = machine.output("/usr/bin/python3", "-c",
                           "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))",
                           gpu=0.1)
    # 0, 1, 2 and the one that lists the directory.
    equal(lines[-1], "['0', '1', '2', '3']", "descriptors of the program")


def signal_state_is_inherited(machine):
    """Blocked and ignored signals are as the caller had them."""
    for how in ([], ["nohup"]):
        command = how + ["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
        direct = subprocess.run(command, env=machine.env, text=True, capture_output=True,
                                stdin=subprocess.DEVNULL)
        through = machine.output(*command, gpu=0.1)
        equal(through, direct.stdout.strip().splitlines(), f"signal masks {how}")


def vectoradd_that_fails_to_start_says_so(machine):
    """The program's own failure keeps its own code."""
    machine.output(program("faults"), "no-such-fault", gpu=0.1, code=2)


def kill_verb(machine):
    stubborn = machine.run("/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done",
                           gpu=0.1, name="stubborn")
    equal(stubborn.line(), "up", "it runs")
    polite = machine.tenant(gpu=0.1, name="polite")
    machine.cli("kill", "polite")
    equal(polite.wait(), -signal.SIGTERM, "how the polite one ended")
    machine.gone("polite")
    check("stubborn" in machine.fractions(), "the other is untouched")
    machine.cli("kill", "stubborn")
    equal(stubborn.wait(), -signal.SIGKILL, "how the stubborn one ended")
    machine.gone("stubborn")
    _, text = machine.cli("kill", "stubborn", code=1)
    equal(len(text.strip().splitlines()), 1, f"one line for a name that is gone ({text!r})")


aqtest.run(exit_codes_pass, own_codes, signals_end_it_as_they_end_the_program,
           a_program_that_catches_a_signal, it_is_the_same_process, arguments_are_not_touched,
           no_descriptor_leaks_into_the_program, signal_state_is_inherited,
           vectoradd_that_fails_to_start_says_so, kill_verb)
