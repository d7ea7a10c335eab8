#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon dies; its clients go on with what they have; the next one adopts them as they are."""
import http.client
import os
import random
import signal
import time

import aqtest
from aqtest import GIB, MIB, OOM, check, equal, eventually


def accounts(machine):
    """What of the ledger must be the same before and after."""
    return {name: (f["memory_request_bytes"], f["memory_limit_bytes"], f["memory_used_bytes"],
                   sorted((c["pid"], c["memory_used_bytes"]) for c in f["clients"]),
                   sorted(d["uuid"] for d in f["devices"]), f["priority"], f["project"])
            for name, f in machine.fractions().items()}


def adopted(machine, count):
    """Wait until this daemon has so many clients of an earlier one back."""
    eventually(lambda: len({e["pid"] for e in machine.events("adopted")}) == count,
               f"{count} clients are adopted")
    equal(sum(len(f["clients"]) for f in machine.fractions().values()), count, "clients")


def static_then_adopted(machine):
    daemon = machine.start_daemon()
    first = machine.tenant(memory="8G", name="first", priority="high", project="p1")
    second = machine.tenant(memory="4G", name="second")
    first.do("alloc linear 3G")
    first.do("put 0 1")
    second.do("alloc vmm 1G")
    second.do("alloc async 500M")
    before = accounts(machine)
    # What is granted and not used can be used without a daemon; nothing beyond.
    first.do("alloc linear 1M")
    first.do("free last")
    machine.kill_daemon(daemon)
    first.do("alloc linear 1M")
    first.do("free last")
    first.do("check 0 1", bad=0)
    equal(first.ask("alloc linear 2G")["code"], OOM, "growth without a daemon")
    equal(second.ask("alloc linear 1G")["code"], OOM, "growth without a daemon")
    second.do("free 1")
    second.do("alloc async 500M")
    info = first.do("info")
    equal(info["total"], 8 * GIB, "total without a daemon")

    started = time.monotonic()
    machine.start_daemon()
    adopted(machine, 2)
    took = time.monotonic() - started
    print(f"adopted {took:.2f} s after the start of the next daemon")
    after = eventually(lambda: (lambda a: a == before and a)(accounts(machine)),
                       "the ledger is as it was", 10)
    equal(after, before, "the ledger")
    check(took < 3, f"adoption took {took:.1f} s")
    equal(len(machine.events("adopted")), 2, "adoption events")
    first.do("alloc linear 2G")
    equal(first.ask("fill linear 256M")["code"], OOM, "the limit still holds")
    check(machine.used("first") <= 8 * GIB, "used", machine.used("first"))
    first.do("check 0 1", bad=0)
    first.quit()
    second.quit()
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] == 0, "all came back")


def new_programs_meanwhile_fail_closed(machine):
    daemon = machine.start_daemon()
    tenant = machine.tenant(memory="8G", name="left")
    env = aqtest.fraction_env(tenant.pid)
    machine.kill_daemon(daemon)
    late = machine.spawn([aqtest.program("tenant"), "init"], env)
    check(aqtest.words(late.lines()[0])["code"] != 0, "attached to nobody")
    machine.start_daemon()
    adopted(machine, 1)
    late = machine.spawn([aqtest.program("tenant"), "init"], env)
    equal(aqtest.words(late.lines()[0])["code"], 0, "with the new daemon")


def killed_ten_times(machine):
    """Ten deaths of the daemon under a tenant that allocates all the while."""
    daemon = machine.start_daemon()
    tenant = machine.tenant(memory="8G", name="steady")
    tenant.do("alloc linear 2G")
    tenant.do("put 0 9")
    for round_number in range(10):
        tenant.send("churn linear 8M 20000 %d" % (round_number + 1))
        time.sleep(0.05)
        machine.kill_daemon(daemon)
        daemon = machine.start_daemon()
        answer = tenant.answer()
        equal(answer["other"], 0, f"odd codes in round {round_number} ({answer})")
        adopted(machine, 1)
    tenant.do("check 0 9", bad=0)

    def agree():  # what was freed is kept for a second, and counts as free meanwhile
        info = tenant.do("info")
        return info["free"] == info["total"] - machine.fraction("steady")["memory_used_bytes"]

    eventually(agree, "free is what is not used")
    tenant.do("alloc linear 5G")


def clients_that_died_meanwhile(machine):
    daemon = machine.start_daemon()
    gone = machine.tenant(memory="8G", name="gone")
    stays = machine.tenant(memory="8G", name="stays")
    gone.do("alloc linear 4G")
    stays.do("alloc linear 2G")
    machine.kill_daemon(daemon)
    gone.kill()
    gone.wait()
    machine.start_daemon()
    adopted(machine, 1)
    machine.gone("gone")
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] == machine.used("stays"),
               "only what the living hold")
    check(machine.used("stays") >= 2 * GIB, "used", machine.used("stays"))


def a_clean_stop_keeps_fractions(machine):
    """SIGTERM instead of SIGKILL: the same for the tenants, and no stale files."""
    daemon = machine.start_daemon()
    tenant = machine.tenant(memory="8G", name="kept")
    tenant.do("alloc linear 1G")
    before = accounts(machine)
    daemon.kill(signal.SIGTERM)
    equal(daemon.wait(), 0, "exit of the daemon")
    machine.daemons.discard(daemon.pid)
    tenant.do("free last")
    tenant.do("alloc linear 1G")
    machine.start_daemon()
    adopted(machine, 1)
    eventually(lambda: accounts(machine) == before, "the ledger is as it was", 10)


def a_fraction_without_holders_is_dropped(machine):
    daemon = machine.start_daemon()
    tenant = machine.tenant(memory="8G", name="orphan")
    machine.kill_daemon(daemon)
    tenant.kill()
    tenant.wait()
    machine.start_daemon()
    machine.gone("orphan")
    whole = machine.tenant(gpu=1, name="whole")
    check(whole.free() > 70 * GIB, "the whole device is there:", whole.free() // MIB)


def killed_between_moves(machine):
    """While memory is on its way to the host or back, idle and at work; every byte is looked at."""
    rng = random.Random(int(os.environ.get("AQ_SEED", "7")))
    daemon = machine.start_daemon()
    child = machine.spawn(machine.run_args([aqtest.program("pattern"), "-"], name="moved",
                                           memory="4G"), kind=aqtest.Tenant)
    child.do("start")
    for size in ("1000", "300K", "2M", "70M", "200M"):
        child.do(f"alloc {size}")
    for round_number in range(12):
        if round_number == 6:
            child.do("work 2")
        order = rng.choice(("park", "resume"))
        machine.http("POST", f"/v1/fractions/moved/{order}", {"wait_ms": rng.choice((0, 100))})
        time.sleep(rng.random() * 0.06)
        machine.kill_daemon(daemon)
        time.sleep(rng.random() * 0.1)
        daemon = machine.start_daemon()
        adopted(machine, 1)
        if round_number < 6:
            child.do("check", bad=0)
    child.do("alloc 70M")  # answered only once the daemon has measured whom it adopted
    time.sleep(0.5)
    answer = child.do("rest", bad=0, timeout=60)
    check(answer["rounds"] > 0, "no work was done:", answer)
    child.do("check", bad=0)
    child.quit()


def many_threads_wait_over_several_deaths(machine):
    """A new daemon answers after a third of a second, one thread of a process at a time; none lives
    for so long here. Each alone comes within the second that a thread waits for it."""
    daemon = machine.start_daemon()
    child = machine.spawn(machine.run_args([aqtest.program("pattern"), "-"], name="threads",
                                           memory="4G"), kind=aqtest.Tenant)
    child.do("start")
    machine.kill_daemon(daemon)
    child.do("work 8")  # each asks for its first memory
    began = time.monotonic()
    while time.monotonic() < began + 1.6:
        daemon = machine.start_daemon()
        adopted(machine, 1)
        time.sleep(0.1)
        machine.kill_daemon(daemon)
    machine.start_daemon()
    adopted(machine, 1)
    time.sleep(1)
    answer = child.do("rest", bad=0, timeout=60)
    check(answer["rounds"] > 0, "no work was done:", answer)
    child.quit()


def is_queued(machine):
    try:
        return machine.fractions().get("queued", {}).get("state") == "waiting"
    except (OSError, http.client.HTTPException):
        return False  # no daemon yet


def waits_over_a_death(machine):
    """Who waits for room does so over the death of the daemon, killed or told to end."""
    for how, isolated in ((signal.SIGKILL, "no"), (signal.SIGTERM, "no"), (signal.SIGKILL, "auto")):
        daemon = machine.start_daemon()
        tenant = machine.tenant(gpu=1, name="whole")
        waiter = machine.run("/bin/echo", "there", gpu=1, name="queued", wait="60s",
                             mount_namespace=isolated)
        eventually(lambda: is_queued(machine), "it waits")
        daemon.kill(how)
        daemon.wait()
        machine.daemons.discard(daemon.pid)
        eventually(lambda: "waiting for the next one" in waiter.stderr(), "it says so")
        if "starts it" in waiter.stderr():
            machine.cli("devices")
        eventually(lambda: is_queued(machine), "it waits again")
        tenant.quit()
        equal(waiter.lines(), ["there"], "what it printed")
        equal(waiter.wait(), 0, "its status")
        os.kill(machine.daemon_pid(), signal.SIGTERM)
        eventually(lambda: not (machine.rundir / "api.sock").exists(), "the daemon has ended")


def waits_no_longer_than_told(machine):
    daemon = machine.start_daemon()
    machine.tenant(gpu=1, name="whole")
    waiter = machine.run("/bin/true", gpu=1, name="queued", wait="2s", mount_namespace="no")
    eventually(lambda: "queued" in machine.fractions(), "it waits")
    machine.kill_daemon(daemon)
    equal(waiter.wait(), 125, "its status")


aqtest.run(static_then_adopted, new_programs_meanwhile_fail_closed, killed_ten_times,
           clients_that_died_meanwhile, a_clean_stop_keeps_fractions,
           a_fraction_without_holders_is_dropped, killed_between_moves,
           many_threads_wait_over_several_deaths, waits_over_a_death, waits_no_longer_than_told)
