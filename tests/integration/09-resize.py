#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Memory limits change while programs run: up, down, and never below what is in use."""
import time

import aqtest
from aqtest import GIB, GRAIN, MIB, OOM, between, check, equal, says


def up_and_down(machine):
    tenant = machine.tenant(memory="8G", name="elastic")
    equal(tenant.ask("alloc linear 10G")["code"], OOM, "10 GiB in 8")
    started = time.monotonic()
    machine.cli("resize", "elastic", "--memory", "16G")
    took_up = time.monotonic() - started
    equal(tenant.do("info")["total"], 16 * GIB, "total after growing")
    tenant.do("alloc linear 10G")
    equal(machine.fraction("elastic")["memory_limit_bytes"], 16 * GIB, "limit in ps")
    started = time.monotonic()
    machine.cli("resize", "elastic", "--memory", "12G")
    took_down = time.monotonic() - started
    info = tenant.do("info")
    equal(info["total"], 12 * GIB, "total after shrinking")
    check(info["free"] < 2 * GIB, "free after shrinking:", info)
    equal(tenant.ask("alloc linear 2G")["code"], OOM, "2 GiB more in 12")
    tenant.do("free last")
    tenant.do("alloc linear 2G")
    check(took_up < 5 and took_down < 5, "seconds:", took_up, took_down)
    kinds = [e["type"] for e in machine.events(fraction="elastic")]
    check(kinds.count("resized") == 2, "events:", kinds)


def below_what_is_used_is_refused(machine):
    tenant = machine.tenant(memory="8G", name="full")
    tenant.do("alloc linear 6G")
    used = machine.used("full")
    _, text = machine.cli("resize", "full", "--memory", "4G", code=1)
    lines = text.strip().splitlines()
    check(1 <= len(lines) <= 2, f"lines ({text!r})")
    check(says(text, used), f"says what is used ({used}):", text)
    fraction = machine.fraction("full")
    equal(fraction["memory_limit_bytes"], 8 * GIB, "limit unchanged")
    equal(fraction["memory_request_bytes"], 8 * GIB, "request unchanged")
    equal(tenant.do("info")["total"], 8 * GIB, "total unchanged")
    # To exactly what is used it can go, and then nothing is left.
    machine.cli("resize", "full", "--memory", used)
    equal(tenant.ask("alloc linear 1")["code"], OOM, "one byte more")
    check(tenant.free() < GRAIN, "free:", tenant.free())
    machine.cli("resize", "full", "--memory", "8G")
    tenant.do("alloc linear 1G")


def beyond_the_device_is_refused(machine):
    tenant = machine.tenant(gpu=0.5, name="one")
    other = machine.tenant(gpu=0.25, name="two")
    total = machine.devices()[0]["memory_total_bytes"]
    before = machine.fraction("one")
    _, text = machine.cli("resize", "one", "--gpu", "0.8", code=1)
    check(1 <= len(text.strip().splitlines()) <= 2, f"lines ({text!r})")
    check("0.75" in text, "says what is free:", text)
    for size in (total * 4 // 5, total * 4):
        _, text = machine.cli("resize", "one", "--memory", size, code=1)
        check(1 <= len(text.strip().splitlines()) <= 2, f"lines ({text!r})")
        check("GiB" in text, "says what is free:", text)
    after = machine.fraction("one")
    for key in ("memory_request_bytes", "memory_limit_bytes", "compute_request_permille"):
        equal(after[key], before[key], f"{key} after what was refused")
    machine.cli("resize", "one", "--gpu", "0.75")
    equal(tenant.do("info")["total"], total * 3 // 4 // (2 * MIB) * (2 * MIB), "three quarters")
    other.quit()


def under_load(machine):
    """A program that allocates and frees all the time is resized 20 times and never exceeds."""
    tenant = machine.tenant(memory="4G", name="busy")
    tenant.send("churn linear 64M 400000 7")
    for step in range(20):
        size = (4 + step % 5) * GIB
        machine.cli("resize", "busy", "--memory", size)
        fraction = machine.fraction("busy")
        equal(fraction["memory_limit_bytes"], size, "limit")
        check(fraction["memory_used_bytes"] <= size, "used above the limit", fraction)
    tenant.kill()
    tenant.wait()
    machine.gone("busy")


def burst_by_limit_alone(machine):
    """A limit above the request can be given and taken away; the request stays."""
    tenant = machine.tenant(memory="4G", name="burst")
    machine.cli("resize", "burst", "--memory-limit", "20G")
    fraction = machine.fraction("burst")
    equal((fraction["memory_request_bytes"], fraction["memory_limit_bytes"]), (4 * GIB, 20 * GIB),
          "request and limit")
    between(tenant.free(), 15 * GIB, 20 * GIB, "free")
    tenant.do("alloc linear 10G")
    machine.cli("resize", "burst", "--memory-limit", "8G", code=1)
    tenant.do("free all")
    machine.cli("resize", "burst", "--memory-limit", "4G")
    equal(tenant.ask("alloc linear 4G")["code"], OOM, "4 GiB and a context in 4")


aqtest.run(up_and_down, below_what_is_used_is_refused, beyond_the_device_is_refused, under_load,
           burst_by_limit_alone)
