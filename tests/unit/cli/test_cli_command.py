#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The command against a stand-in for the daemon: what it prints, asks, sets and exits with.

Usage: test_cli_command.py ALIQUOT STUB_DAEMON. Each test has a run directory of its own.
What the manual page and the completion say is compared with what the command says, too.
"""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
import aqproto  # pylint: disable=wrong-import-position

ALIQUOT, STUB = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:3])


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="aqcli."))
        self.addCleanup(self.clean)  # not tearDown(): that is left out when setUp() skips
        self.rundir = self.dir / "aliquot"
        libdir = self.dir / "lib"
        for name in ("guard/libcuda.so.1", "sim-driver/libaliquot-driver.so.1"):
            (libdir / name).parent.mkdir(parents=True)
            (libdir / name).touch()
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("ALIQUOT") and k != "LD_LIBRARY_PATH"}
        self.env.update(XDG_RUNTIME_DIR=str(self.dir), ALIQUOT_LIBDIR=str(libdir),
                        ALIQUOT_DAEMON=STUB, LC_ALL="C.UTF-8", STUB_LIFE_S="60", TZ="UTC")

    def clean(self):
        pid = self.daemon_pid()
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)

    def daemon_pid(self):
        path = self.rundir / "aliquotd.pid"
        return int(path.read_text() or 0) if path.exists() else 0

    def need_mount_namespaces(self):
        if self.aliquot("run", "--name", "try", "--mount-namespace", "yes", "--",
                        "true").returncode:
            self.skipTest("no permission for mount namespaces")

    def aliquot(self, *args, env=None, **kw):
        return subprocess.run([ALIQUOT, *args], env={**self.env, **(env or {})}, timeout=30,
                              capture_output=True, text=True, **kw)

    def expect(self, args, status, out=None, err=None):
        done = self.aliquot(*args)
        said = f"{args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        self.assertEqual(done.returncode, status, said)
        for pattern, text in ((out, done.stdout), (err, done.stderr)):
            if pattern is not None:
                self.assertRegex(text, pattern, said)
        return done

    def requests(self):
        path = self.rundir / "requests.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split(" ", 2) for line in lines if "/v1/version" not in line]


class Usage(Case):
    def test_bad_input_is_one_line_exit_2_and_changes_nothing(self):
        run = lambda *a: ("run", *a, "--", "true")
        for args, err in (
                (run("--gpu", "2"), "--gpu '2'.*0.01 to 1.*--gpus 2"),
                (run("--gpu", "half"), "--gpu 'half'.*0.01 to 1"),
                (run("--gpu", "0.0001"), "--gpu '0.0001'"),
                (run("--gpus", "0.5"), "--gpus '0.5'.*--gpu 0.5"),
                (run("--memory", "20X"), "--memory '20X'.*20G"),
                (run("--memory", "9999999T"), "--memory '9999999T'.*larger"),
                (run("--memory", "4G", "--memory-limit", "2G"), "--memory-limit '2 GiB'.*4 GiB"),
                (run("--priority", "hihg"), "--priority 'hihg'.*did you mean high"),
                (run("--name", "a/b"), "--name 'a/b'"),
                (run("--name", "x" * 64), "--name"),
                (run("--device", "zero"), "--device 'zero'.*UUID"),
                (run("--sim", "h10"), "--sim 'h10'.*h100"),
                (run("--sim", "tpu"), "--sim 'tpu'.*rtx4090"),
                (run("--sim", "h100:99"), "--sim 'h100:99'.*1 to 16"),
                (run("--wait=soon"), "--wait 'soon'.*30s"),
                (run("--mount-namespace", "maybe"), "'maybe'.*auto, yes or no"),
                (run("--mem", "2G"), "'--mem'.*did you mean --memory"),
                (run("--gpu"), "--gpu '--'"),
                (("run", "--wait", "30s", "true"), "--wait=30s"),
                (("run", "--gpu", "0.5"), "no program"),
                (("run", "--gpu", "0.5", "--"), "no program"),
                (("run", "--gpu"), "--gpu.*needs a value"),
                (("rnu",), "unknown verb 'rnu': did you mean run"),
                (("frobnicate",), "unknown verb 'frobnicate': there are run, ps"),
                (("--gpu", "1"), "the verb comes first"),
                (("help", "fly"), "unknown verb 'fly'"),
                (("ps", "chat"), "unexpected argument 'chat'"),
                (("ps", "--jsno"), "did you mean --json"),
                (("kill",), "which fraction"),
                (("kill", "a b"), "'a b': not a name"),
                (("kill", "a", "b"), "unexpected argument 'b'"),
                (("kill", "a", "-s", "NOPE"), "--signal 'NOPE'"),
                (("resize",), "which fraction"),
                (("resize", "a"), "to what"),
                (("resize", "a", "--gpu", "7"), "--gpu '7'"),
                (("resize", "a", "--name", "b"), "unknown option '--name'"),
                (("resize", "..", "--gpu", "1"), "'..': not a name"),
                (("events", "-n", "many"), "--lines 'many'"),
                (("events", "--since", "yesterday"), "--since 'yesterday'"),
                (("devices", "--sim", "h1"), "--sim 'h1'"),
                (("version", "1"), "unexpected argument '1'")):
            with self.subTest(args=args):
                done = self.expect(args, 2, err=err)
                self.assertEqual(done.stdout, "")
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertTrue(done.stderr.startswith("aliquot: "), done.stderr)
                self.assertFalse(self.rundir.exists())

    def test_control_bytes_do_not_reach_the_terminal(self):
        done = self.expect(("run", "--name", "a\033[2J\nb", "--", "true"), 2)
        self.assertNotIn("\033", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_help(self):
        for args in (), ("help",), ("--help",), ("-h",):
            self.expect(args, 0, out="aliquot run --gpu 0.5")
        verbs = self.expect(("help", "--words"), 0).stdout.split()
        self.assertLessEqual({"run", "ps", "devices", "events", "resize", "park", "resume", "kill",
                         "version", "help"}, set(verbs))
        for verb in verbs:
            a = self.expect(("help", verb), 0, out=f"Usage: aliquot {verb} ")
            b = self.expect((verb, "--help"), 0)
            self.assertEqual(a.stdout, b.stdout)
        self.assertFalse(self.rundir.exists())

    def test_help_after_the_program_is_the_programs(self):
        self.expect(("run", "--", "echo", "--help", "--gpu"), 0, out="^--help --gpu\n$")
        self.expect(("run", "--name", "b", "echo", "--help", "--gpu"), 0, out="^--help --gpu\n$")

    def test_a_full_disk_is_a_failure(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "w") as full:
            done = subprocess.run([ALIQUOT, "help"], env=self.env, stdout=full,
                                  stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output", done.stderr)


class Companions(Case):
    SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent.parent

    def test_manual_has_every_verb_and_option(self):
        text = (self.SOURCE / "doc/man/aliquot.1").read_text().replace("\\-", "-")
        for verb in self.aliquot("help", "--words").stdout.split():
            self.assertRegex(text, rf"(?m)^\.SS .*\baliquot {verb}\b|^\.B aliquot {verb}\b")
            for line in self.aliquot("help", "--words", verb).stdout.splitlines():
                option, *words = line.split()
                for word in (option.rstrip("="), *words):
                    if word not in ("INT", "HUP", "QUIT", "KILL", "USR1", "USR2"):
                        self.assertIn(word, text, f"of {verb}")

    def test_profiles_are_those_of_the_simulator(self):
        there = re.findall(r'SIM_PROFILE\("([^"]+)"', (self.SOURCE / "sim/profile.def").read_text())
        known = re.search("(?m)^--sim (.*)$", self.aliquot("help", "--words", "run").stdout)
        self.assertEqual(sorted(known[1].split()), sorted(there))

    def complete(self, *words):
        """What TAB offers behind `aliquot WORDS`."""
        script = (f"source {self.SOURCE}/deploy/completion/aliquot.bash; "
                  'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _aliquot 2>/dev/null; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        path = f"{pathlib.Path(ALIQUOT).parent}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "-c", script, "bash", "aliquot", *words], text=True,
                              env={**self.env, "PATH": path}, capture_output=True)
        return done.stdout.split()

    @unittest.skipUnless(shutil.which("bash"), "no bash")
    def test_completion(self):
        self.assertIn("run", self.complete(""))
        self.assertEqual(self.complete("re"), ["resize", "resume"])
        self.assertEqual(self.complete("help", "do"), ["doctor"])
        self.assertEqual(self.complete("run", "--mem"), ["--memory", "--memory-limit"])
        self.assertEqual(self.complete("run", "--wa"), ["--wait="])
        self.assertEqual(self.complete("run", "--priority", "h"), ["high"])
        self.assertEqual(self.complete("run", "--sim", "h100"), ["h100", "h100-nvl"])
        self.assertEqual(self.complete("run", "--memory", ""), [])
        self.assertIn("sort", self.complete("run", "--gpu", "1", "--", "sor"))
        self.assertFalse(self.rundir.exists())
        self.aliquot("run", "--name", "chat", "--", "true")
        self.assertEqual(self.complete("kill", ""), ["chat"])
        self.assertEqual(self.complete("resize", "chat", "--pri"), ["--priority"])


class Run(Case):
    def test_environment_request_and_silence(self):
        done = self.aliquot("run", "--sim", "h100", "--gpu", "0.25", "--name", "chat", "--",
                            "env", env={"LD_LIBRARY_PATH": "/a:/b", "KEEP": "1"})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        env = dict(line.split("=", 1) for line in done.stdout.splitlines())
        lib = self.dir / "lib"
        self.assertEqual(env["LD_LIBRARY_PATH"], f"{lib}/guard:{lib}/sim-driver:/a:/b")
        self.assertEqual(env["ALIQUOT_FRACTION"], "chat")
        self.assertEqual(env["ALIQUOT_SOCKET"], f"{self.rundir}/aliquotd.sock")
        self.assertRegex(env["CUDA_VISIBLE_DEVICES"], "^GPU-")
        self.assertEqual(env["KEEP"], "1")
        (method, path, body), = self.requests()
        self.assertEqual((method, path), ("POST", "/v1/fractions"))
        body = json.loads(body)
        body.pop("mount_namespace", None)
        self.assertEqual(body, {"name": "chat", "gpu_permille": 250, "sim": "h100",
                                "command": "env"})

    def test_nested_runs_do_not_pile_up_libraries(self):
        inner = f"{ALIQUOT} run --name inner -- printenv LD_LIBRARY_PATH"
        done = self.aliquot("run", "--name", "outer", "--", "sh", "-c", inner,
                            env={"LD_LIBRARY_PATH": "/a"})
        lib = self.dir / "lib"
        self.assertEqual(done.stdout, f"{lib}/guard:{lib}/sim-driver:/a\n", done.stderr)

    def test_exit_status_and_signals_are_the_programs(self):
        self.expect(("run", "--", "sh", "-c", "exit 7"), 7)
        done = self.aliquot("run", "--name", "b", "--", "sh", "-c", "kill -TERM $$")
        self.assertEqual(done.returncode, -signal.SIGTERM)
        done = self.aliquot("run", "--name", "c", "--", "sh", "-c", "echo $PPID; cat",
                            input="terminal\n")
        self.assertEqual(done.stdout, f"{os.getpid()}\nterminal\n")  # no process between

    def test_program_gets_no_descriptor_and_no_signal_mask_of_ours(self):
        done = self.aliquot("run", "--", sys.executable, "-c",
                            "import os,signal; print(sorted(int(f) for f in "
                            "os.listdir('/proc/self/fd'))[:5], signal.pthread_sigmask(0, []), "
                            "signal.getsignal(signal.SIGPIPE), os.waitpid(-1, os.WNOHANG) "
                            "if os.path.exists('/proc/self/task/%d/children' % os.getpid()) and "
                            "open('/proc/self/task/%d/children' % os.getpid()).read() else None)")
        self.assertRegex(done.stdout, r"^\[0, 1, 2, 3\] set\(\) .* None$", done.stderr)

    def test_failures_before_anything_is_changed(self):
        (self.dir / "data").write_text("")
        self.expect(("run", "--", "surely-not-there"), 127, err="'surely-not-there': not in PATH")
        self.expect(("run", "--", "./surely/not"), 127, err="no such file")
        self.expect(("run", "--", str(self.dir / "data")), 126, err="not an executable file")
        self.expect(("run", "--", "/"), 126)
        self.env["ALIQUOT_LIBDIR"] = "/nowhere"
        self.expect(("run", "--", "true"), 125, err="guard")
        self.assertFalse(self.rundir.exists())

    def test_script_without_interpreter_line_runs_as_in_the_shell(self):
        script = self.dir / "script"
        script.write_text("echo from a script\n")
        script.chmod(0o755)
        self.expect(("run", "--", str(script)), 0, out="from a script")
        script.write_text("#!/surely/not\n")
        self.expect(("run", "--name", "b", "--", str(script)), 127, err="after #!")

    def test_refusals(self):
        done = self.expect(("run", "--memory", "90G", "--", "true"), 125,
                           err="no device can guarantee")
        self.assertIn("free now: GPU 0 12 GiB and 0.25 of its compute", done.stderr)
        self.expect(("run", "--device", "9", "--", "true"), 2, err="no device 9")
        self.expect(("run", "--name", "late", "--wait=1s", "--", "true"), 125,
                    err="run 'late': nothing became free")

    def test_waiting_says_so_on_a_terminal_only(self):
        self.env["STUB_WAIT_S"] = "2.5"
        done = self.expect(("run", "--name", "wait1", "--wait", "--", "true"), 0)
        self.assertEqual(done.stderr, "")
        master, slave = pty.openpty()
        child = subprocess.Popen([ALIQUOT, "run", "--name", "wait2", "--wait", "--", "true"],
                                 env=self.env, stderr=slave)
        ready, _, _ = select.select([master], [], [], 10)
        self.assertTrue(ready)
        self.assertIn(b"waiting for room", os.read(master, 4096))
        os.kill(child.pid, signal.SIGINT)
        self.assertEqual(child.wait(10), -signal.SIGINT)
        os.close(master)
        os.close(slave)

    def test_verbose_says_what_is_done(self):
        self.expect(("run", "-v", "--", "true"), 0, err="daemon at (.*\n)*.*fraction 'true'")


class RealDriver(Case):
    """Real devices: where the driver is, and what the guard is told. Any shared object will do."""

    def setUp(self):
        super().setUp()
        self.env["STUB_REAL"] = "1"
        self.driver = self.dir / "nvidia"
        self.driver.mkdir()
        library = next(iter(sorted(pathlib.Path("/lib").glob("*-linux-gnu/libm.so.6"))), None)
        if not library:
            self.skipTest("no shared object to play the driver")
        for name in "libcuda.so.1", "libnvidia-ml.so.1":
            shutil.copy(library, self.driver / name)
            (self.dir / "lib/guard" / name).write_text("needs libaliquot-driver.so.1")
        self.env["LD_LIBRARY_PATH"] = str(self.driver)

    def run_with(self, mode, *program):
        return self.aliquot("run", "--mount-namespace", mode, "--", *program)

    def test_links_lead_to_the_driver_of_the_library_path(self):
        done = self.run_with("no", "printenv", "LD_LIBRARY_PATH")
        guard, links, rest = done.stdout.strip().split(":")
        self.assertEqual((guard, rest), (str(self.dir / "lib/guard"), str(self.driver)))
        self.assertTrue(links.startswith(f"{self.rundir}/driver-"), links)
        self.assertEqual(os.readlink(f"{links}/libaliquot-driver.so.1"),
                         f"{self.driver}/libcuda.so.1")
        self.assertEqual(os.readlink(f"{links}/libaliquot-driver-nvml.so.1"),
                         f"{self.driver}/libnvidia-ml.so.1")

    def test_guards_and_foreign_architectures_are_no_driver(self):
        guard = (self.driver / "libcuda.so.1").read_bytes() + b"libaliquot-driver.so.1"
        for i, junk in enumerate((b"not ELF", b"\x7fELF\x01\x01\x01" + bytes(80), guard)):
            (self.driver / "libcuda.so.1").write_bytes(junk)
            done = self.aliquot("run", "--name", f"n{i}", "--mount-namespace", "no", "--", "true")
            if done.returncode == 0:
                self.skipTest("this machine has a driver")
            self.assertEqual(done.returncode, 125)
            self.assertIn("no libcuda.so.1 on this machine", done.stderr)

    def test_absolute_paths_lead_to_the_guard_in_a_namespace(self):
        self.need_mount_namespaces()
        inside = (f"cat {self.driver}/libcuda.so.1; echo; "
                  f"cmp {self.dir}/copy {self.rundir}/driver-covered/libaliquot-driver.so.1 && "
                  "echo same; echo $LD_LIBRARY_PATH; "
                  "env -i /sbin/ldconfig -p | grep -c driver-covered/libaliquot-driver")
        shutil.copy(self.driver / "libcuda.so.1", self.dir / "copy")
        done = self.run_with("yes", "sh", "-c", inside)
        self.assertEqual(done.stdout.splitlines(), [
            "needs libaliquot-driver.so.1", "same",
            f"{self.dir}/lib/guard:{self.rundir}/driver-covered:{self.driver}", "2"], done.stderr)
        # Nothing of that is seen outside.
        self.assertEqual((self.driver / "libcuda.so.1").read_bytes(),
                         (self.dir / "copy").read_bytes())
        self.assertEqual((self.rundir / "driver-covered/libaliquot-driver.so.1").stat().st_size, 0)

    def test_nested_runs_keep_the_driver(self):
        self.need_mount_namespaces()
        inner = (f"{ALIQUOT} run --name inner --mount-namespace yes -- sh -c "
                 f"'head -c4 {self.rundir}/driver-covered/libaliquot-driver.so.1 | tail -c3; "
                 f"head -c5 {self.driver}/libcuda.so.1'")
        done = self.run_with("yes", "sh", "-c", inner)
        self.assertEqual(done.stdout, "ELFneeds", done.stderr)


class Daemon(Case):
    def test_many_at_once_start_one(self):
        runs = [subprocess.Popen([ALIQUOT, "run", "--name", f"n{i}", "--", "true"], env=self.env,
                                 stderr=subprocess.PIPE) for i in range(12)]
        for run in runs:
            self.assertEqual(run.communicate(timeout=60)[1], b"")
            self.assertEqual(run.returncode, 0)
        self.assertEqual(len((self.rundir / "starts.log").read_text().splitlines()), 1)
        self.assertEqual(len(json.loads(self.aliquot("ps", "--json").stdout)), 12)

    def test_is_nobodys_child_and_holds_nothing_of_ours(self):
        read, write = os.pipe()
        self.aliquot("run", "--", "true", pass_fds=(write,))
        os.close(write)
        ready, _, _ = select.select([read], [], [], 5)
        self.assertTrue(ready, "the daemon inherited a pipe")
        pid = self.daemon_pid()
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        self.assertNotEqual(int(stat[1]), os.getpid())
        self.assertNotEqual(int(stat[3]), os.getsid(0))
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        self.assertEqual(os.readlink(f"/proc/{pid}/fd/0"), "/dev/null")
        self.assertEqual(os.readlink(f"/proc/{pid}/fd/2"), f"{self.rundir}/aliquotd.log")
        os.close(read)

    def test_verbs_that_only_look_start_none(self):
        self.expect(("ps",), 0, out="^nothing is running\n$")
        self.assertEqual(self.aliquot("ps", "--json").stdout, "[]\n")
        self.assertEqual(self.aliquot("events", "--json").stdout, "[]\n")
        self.expect(("events",), 0, out="^$", err="no daemon is running")
        for args in ("kill", "a"), ("resize", "a", "--gpu", "1"), ("park", "a"):
            self.expect(args, 1, err="'a': no such fraction: nothing is running")
        self.expect(("version",), 0, out=r"^aliquot \S+ \(abi \d+\)\n$")
        self.assertFalse(self.rundir.exists())

    def test_a_stale_socket_is_no_daemon(self):
        self.aliquot("run", "--", "true")
        os.kill(self.daemon_pid(), signal.SIGKILL)
        time.sleep(0.2)
        self.expect(("ps",), 0, out="nothing is running")
        self.expect(("run", "--", "true"), 0)

    def test_one_that_cannot_start_is_reported_with_its_words(self):
        bad = self.dir / "bad"
        bad.write_text("#!/bin/sh\necho the reason >&2\nexit 1\n")
        bad.chmod(0o755)
        self.env["ALIQUOT_DAEMON"] = str(bad)
        self.expect(("run", "--", "true"), 125, err="did not start\n.*the reason")
        self.env["ALIQUOT_DAEMON"] = "/surely/not"
        self.expect(("devices",), 1, err="ALIQUOT_DAEMON '/surely/not' is no program")

    def test_foreign_run_directory_is_refused(self):
        self.rundir.mkdir()
        self.rundir.chmod(0o755)
        self.expect(("run", "--", "true"), 125, err="nobody else may enter")
        if os.geteuid() == 0:
            os.chown(self.rundir, 12345, 12345)
            self.expect(("run", "--", "true"), 125, err="belongs to somebody else")
            self.expect(("ps",), 1, err="belongs to somebody else")

    def test_nonsense_from_a_daemon_is_reported(self):
        self.aliquot("run", "--", "true")
        os.kill(self.daemon_pid(), signal.SIGKILL)
        code = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); "
                "s.listen(); print(flush=True)\n"
                "while True:\n"
                " c,_=s.accept()\n"
                " if c.recv(999): c.send(b'what?\\r\\n\\r\\n')\n"
                " c.close()")
        path = self.rundir / "api.sock"
        path.unlink()
        babbler = subprocess.Popen([sys.executable, "-c", code, str(path)],
                                   stdout=subprocess.PIPE)
        babbler.stdout.readline()
        self.expect(("ps",), 1, err="no answer from the daemon at")
        self.expect(("run", "--", "true"), 125, err="no answer from the daemon at")
        babbler.kill()
        babbler.wait()
        babbler.stdout.close()


class Verbs(Case):
    def setUp(self):
        super().setUp()
        self.aliquot("run", "--gpu", "0.25", "--name", "chat", "--", "true")

    def test_ps(self):
        table = self.expect(("ps",), 0).stdout.splitlines()
        self.assertEqual(table[0].split(), "NAME PRIORITY STATE GPU MEMORY COMPUTE GPU TIME "
                                           "PIDS".split())
        self.assertRegex(table[1], r"^chat +normal +running +0 +1.5 of 19.7 GiB +0.25 to 1 +1m05s "
                                   r"+\d+$")
        fraction, = json.loads(self.expect(("ps", "--json"), 0).stdout)
        self.assertEqual(fraction["name"], "chat")
        self.assertEqual(list(fraction)[:3], ["name", "project", "priority"])  # order is kept
        self.expect(("ps", "-q"), 0, out="^chat\n$")

    def test_devices(self):
        table = self.expect(("devices",), 0).stdout.splitlines()
        self.assertEqual(len(table), 3)
        self.assertRegex(table[2], r"^1 +NVIDIA H100.*\(simulated\) +3.0 of 79 GiB +0 B +0.25 +gate "
                                   r"+GPU-[0-9a-f-]{36}$")
        devices = json.loads(self.expect(("devices", "--json"), 0).stdout)
        self.assertEqual([d["index"] for d in devices], [0, 1])

    def test_tables_fit_a_terminal(self):
        for verb in "ps", "devices":
            done = subprocess.run(["script", "-qec", f"{ALIQUOT} {verb}", "/dev/null"],
                                  env={**self.env, "TERM": "xterm"}, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertNotIn("\033", done.stdout)

    def test_resize(self):
        self.expect(("resize", "chat", "--memory", "4G"), 0,
                    out=r"^memory +19.7 GiB -> 4 GiB\n$")
        self.assertEqual(json.loads(self.requests()[-1][2]),
                         {"memory_request_bytes": 4 << 30, "memory_limit_bytes": 4 << 30})
        self.expect(("resize", "chat", "--memory-limit", "8G"), 0,
                    out=r"^memory +4 GiB -> 4 GiB to 8 GiB\n$")
        self.expect(("resize", "chat", "--memory", "5G"), 0,
                    out=r"^memory +4 GiB to 8 GiB -> 5 GiB to 8 GiB\n$")
        self.expect(("resize", "chat", "--priority", "low"), 0, out="priority +normal -> low")
        self.expect(("resize", "chat", "--priority", "low"), 0, out="^nothing changed\n$")
        self.expect(("resize", "chat", "--memory", "1G", "--memory-limit", "1G"), 1,
                    err="resize 'chat': the limit is below the 1.5 GiB in use")
        self.expect(("resize", "other", "--gpu", "1"), 1, err="'other': no such fraction")

    def test_kill_park_resume(self):
        self.expect(("park", "chat"), 1, err="park 'chat': this daemon cannot park yet")
        self.expect(("resume", "chat"), 1)
        done = self.expect(("kill", "chat", "-s", "INT"), 0)
        self.assertEqual(done.stdout + done.stderr, "")
        self.assertEqual(json.loads(self.requests()[-1][2]), {"signal": 2})
        self.expect(("kill", "chat"), 1, err="kill 'chat': no such fraction")

    def test_events(self):
        lines = self.expect(("events",), 0).stdout.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[1], r"^Jan 02 03:04:06  denied +a +cuMemAlloc_v2 asked")
        self.assertEqual(self.expect(("events", "-n", "1"), 0).stdout.splitlines(), lines[1:])
        self.assertEqual(self.expect(("events", "-n0"), 0).stdout, "")
        self.assertEqual(self.expect(("events", "--since", "1"), 0).stdout.splitlines(), lines[1:])
        self.assertEqual(self.expect(("events", "--since", "1h"), 0).stdout, "")
        self.assertEqual(self.expect(("events", "b"), 0).stdout, "")
        events = json.loads(self.expect(("events", "a", "--json"), 0).stdout)
        self.assertEqual([e["seq"] for e in events], [1, 2])

    def test_events_follow(self):
        child = subprocess.Popen([ALIQUOT, "events", "-f", "--json"], env=self.env,
                                 stdout=subprocess.PIPE, text=True)
        self.assertEqual([json.loads(child.stdout.readline())["seq"] for _ in range(2)], [1, 2])
        time.sleep(0.6)  # the stand-in ends the stream each time: nothing may come twice
        child.terminate()
        self.assertEqual(child.stdout.read(), "")
        child.wait()
        child.stdout.close()

    def test_version(self):
        self.expect(("version",), 0, out=rf"aliquotd 0.0.1 \(abi {aqproto.ABI}\), private, pid \d+")
        self.assertEqual(json.loads(self.expect(("version", "--json"), 0).stdout)["daemon"]
                         ["version"], "0.0.1")


class Top(Case):
    """On a terminal of its own; what comes out is not interpreted, only searched."""

    def setUp(self):
        super().setUp()
        for name in "chat", "batch":
            self.aliquot("run", "--gpu", "0.25", "--name", name, "--", "true")

    def start(self, *args, term="xterm"):
        pid, self.terminal = pty.fork()
        if not pid:
            os.execve(ALIQUOT, [ALIQUOT, "top", *args], {**self.env, "TERM": term})
        self.child = pid
        self.seen = ""

    def wait_for(self, text):
        end = time.monotonic() + 10
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], end - time.monotonic())
            self.assertTrue(ready, f"no {text!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.terminal, 65536).decode()
            except OSError:  # it ended
                self.fail(f"ended without {text!r} in {self.seen!r}")

    def type(self, keys):
        self.seen = ""
        os.write(self.terminal, keys.encode())

    def end(self):
        _, status = os.waitpid(self.child, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)

    def test_shows_and_acts(self):
        self.start("-d", "0.2")
        for text in "private daemon, 2 devices, 2 fractions", "chat", "batch", "EVENTS", "denied":
            self.wait_for(text)
        self.type("+")
        self.wait_for("resize 'chat': done")
        body = json.loads([r for r in self.requests() if r[0] == "PATCH"][-1][2])
        self.assertEqual(body["memory_limit_bytes"], body["memory_request_bytes"])
        self.assertEqual(body["memory_limit_bytes"], (79 << 30) * 250 // 1000 + (1 << 30))
        self.type("\033OB")
        self.type("k")
        self.wait_for("end 'batch' and its programs? y or n")
        self.type("x")
        self.wait_for("nothing was ended")
        self.type("ky")
        self.wait_for("kill 'batch': done")
        self.type("q")
        self.assertEqual(self.end(), 0)
        self.assertEqual(self.aliquot("ps", "-q").stdout, "chat\n")

    def test_outlives_the_daemon(self):
        self.start("-d", "0.2")
        self.wait_for("2 fractions")
        os.kill(self.daemon_pid(), signal.SIGKILL)
        self.wait_for("no daemon is running")
        self.aliquot("run", "--name", "new", "--", "true")
        self.wait_for("new")
        self.type("q")
        self.assertEqual(self.end(), 0)

    def test_needs_a_terminal_that_is_known(self):
        self.expect(("top",), 1, err="top: needs a terminal")
        self.start(term="surely-not")
        self.wait_for("TERM")
        self.assertEqual(self.end(), 1)
        self.expect(("top", "-d", "0"), 2, err="--delay '0'")


class Doctor(Case):
    def test_json_and_text_say_the_same(self):
        done = self.aliquot("doctor", "--json")
        findings = json.loads(done.stdout)
        self.assertIn("kernel", [f["check"] for f in findings])
        for f in findings:
            self.assertEqual(list(f), ["check", "status", "detail", "advice"])
            self.assertIn(f["status"], ("OK", "WARN", "FAIL", "n.a."))
            self.assertTrue(f["detail"])
        self.assertEqual(done.returncode, any(f["status"] == "FAIL" for f in findings))
        text = self.aliquot("doctor").stdout
        self.assertEqual(len(re.findall("^(OK|WARN|FAIL|n.a.) ", text, re.M)), len(findings))

    def test_sees_what_prevents_use(self):
        self.env["ALIQUOT_LIBDIR"] = "/nowhere"
        self.expect(("doctor",), 1, out="FAIL  guard")
        self.clean()
        self.setUp()
        self.rundir.mkdir()
        self.rundir.chmod(0o777)
        self.expect(("doctor",), 1, out="FAIL  run directory .*open to others\n +-> chmod 700 ")

    def test_guards_that_do_not_load_fail(self):
        for name in "libcuda.so.1", "libnvidia-ml.so.1":
            path = self.dir / "lib/sim" / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        (self.dir / "lib/sim-driver/libaliquot-driver-nvml.so.1").touch()
        self.expect(("doctor",), 1, out="FAIL  guard .*too short")

    def test_changes_nothing(self):
        self.aliquot("doctor")
        self.assertFalse(self.rundir.exists())


class Namespace(Case):
    def setUp(self):
        super().setUp()
        self.need_mount_namespaces()

    def test_linker_finds_the_guard_without_environment(self):
        done = self.expect(("run", "--name", "b", "--mount-namespace", "yes", "--", "env", "-i",
                            "/sbin/ldconfig", "-p"), 0)
        lib = self.dir / "lib"
        self.assertIn(f"=> {lib}/guard/libcuda.so.1\n", done.stdout)
        self.assertIn(f"=> {lib}/sim-driver/libaliquot-driver.so.1\n", done.stdout)
        self.assertIn("libc.so.6 ", done.stdout)

    def test_the_machine_keeps_its_own(self):
        before = os.stat("/etc/ld.so.cache")
        self.aliquot("run", "--name", "b", "--", "true")
        after = os.stat("/etc/ld.so.cache")
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))
        self.assertEqual([p.name for p in self.rundir.glob("ld.so.cache*")], [])

    def test_children_find_the_run_directory_without_environment(self):
        path = f"/tmp/aliquot-{os.getuid()}/aliquotd.pid"
        self.expect(("run", "--name", "b", "--", "env", "-i", "cat", path), 0,
                    out=f"^{self.daemon_pid()}\n$")

    def test_no_means_no(self):
        here = os.readlink("/proc/self/ns/mnt")
        self.expect(("run", "--name", "b", "--mount-namespace", "no", "--", "readlink",
                     "/proc/self/ns/mnt"), 0, out=f"^{re.escape(here)}\n$")
        self.assertNotIn("mount_namespace", self.requests()[-1][2])

    def test_nested(self):
        inner = f"{ALIQUOT} run --mount-namespace yes --name inner -- env -i /sbin/ldconfig -p"
        self.expect(("run", "--name", "outer", "--", "sh", "-c", inner), 0,
                    out="guard/libcuda.so.1")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
