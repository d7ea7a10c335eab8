#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every kind of allocation is held to the limit: refused with code 2, and to the grain."""
import aqtest
from aqtest import GIB, GRAIN, KIB, MIB, OOM, between, check, equal, eventually

# method, step of the fill, what the driver may round one allocation up by (bytes)
METHODS = [
    ("linear", "512M", 0), ("pitch", "512M", 0), ("array", "512M", 0), ("array3d", "512M", 0),
    ("mipmap", "512M", 0), ("managed", "512M", 0), ("async", "512M", 0), ("pool", "512M", 0),
    ("vmm", "512M", 0), ("vmmcreate", "512M", 0), ("graph", "512M", 0),
]


def each_method_is_held(machine):
    machine.start_daemon()
    for method, step, _ in METHODS:
        tenant = machine.tenant(memory="4G", name=f"m-{method}")
        start = tenant.free()
        between(start, 2 * GIB, 4 * GIB - 1, f"{method}: free at the start")
        filled = tenant.ask(f"fill {method} {step}")
        equal(filled["code"], OOM, f"{method}: code of the refusal")
        # At most one more step could fit; mipmaps take up to a third more than their base level,
        # and reserved pools and graph pools may round up.
        between(filled["count"], start * 3 // 4 // (512 * MIB) - 1, start // (512 * MIB),
                f"{method}: allocations of 512 MiB in {start}")
        held = machine.fraction(f"m-{method}")
        check(held["memory_used_bytes"] <= held["memory_limit_bytes"], f"{method}: over", held)
        check(held["memory_used_bytes"] >= filled["bytes"], f"{method}: not counted", held, filled)
        check(tenant.free() < 512 * MIB + 512 * MIB // 2, f"{method}: free at the end")
        # Whatever the method, another one finds no room either.
        equal(tenant.ask("alloc linear 1G")["code"], OOM, f"linear after {method}")
        tenant.do("free all")
        tenant.do("trim")
        left = tenant.free()
        between(start - left, 0, 6 * MIB, f"{method}: free again after all was freed")
        again = tenant.ask(f"fill {method} {step}")
        equal(again["count"], filled["count"], f"{method}: the second fill")
        tenant.quit()
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] == 0, "all came back")


def the_boundary_is_exact(machine):
    """After halving down to one grain nothing is left, and not a byte more was given."""
    tenant = machine.tenant(memory="2G", name="exact")
    free = tenant.free()
    squeezed = tenant.ask("squeeze linear 256M")
    equal(squeezed["code"], OOM, "code at the end")
    between(free - squeezed["bytes"], 0, GRAIN - 1, "bytes that could not be had")
    check(tenant.free() < GRAIN, "free afterwards:", tenant.free())
    fraction = machine.fraction("exact")
    equal(fraction["memory_used_bytes"], fraction["memory_limit_bytes"], "used, to the byte")
    equal(tenant.ask("alloc linear 1")["code"], OOM, "one byte more")
    retried = tenant.ask("retry linear 1 1000")
    equal((retried["oom"], retried["ok"], retried["other"]), (1000, 0, 0), "a thousand more tries")
    tenant.do("free last")
    tenant.do("alloc linear 1")
    tenant.do("free all")
    equal(tenant.free(), free, "free after all was freed")


def all_of_it_at_once(machine):
    """What cuMemGetInfo calls free can be had in one piece; one grain more cannot."""
    tenant = machine.tenant(memory="3G")
    free = tenant.free()
    equal(tenant.ask(f"alloc linear {free // GRAIN * GRAIN + GRAIN}")["code"], OOM, "a grain more")
    tenant.do(f"alloc linear {free // GRAIN * GRAIN}")
    equal(tenant.ask("alloc linear 1")["code"], OOM, "one byte more")


def small_pieces_count_in_full(machine):
    """20,000 allocations of 100 bytes are 20,000 grains, not nothing."""
    tenant = machine.tenant(memory="1G")
    before = tenant.free()
    tenant.do("fill linear 100 20000", count=20000)
    between(before - tenant.free(), 20000 * GRAIN, 20000 * GRAIN + 2 * MIB, "taken")
    tenant.do("free all", count=20000)
    eventually(lambda: tenant.free() == before, "all is free again", 10)


def no_size_takes_more_of_the_device(machine):
    """Sizes that waste much of a 2 MiB page: the device's own account stays within the limit."""
    tenant = machine.tenant(memory="4G", name="odd")
    for step in ("3M", "1100K", "513K", "100K", "2049K", "700"):
        for method in ("linear", "managed", "pitch", "array"):
            filled = tenant.ask(f"fill {method} {step} 12000")
            check(filled["code"] in (0, OOM), f"{step} of {method}: {filled}")
            device, fraction = machine.devices()[0], machine.fraction("odd")
            limit = fraction["memory_limit_bytes"]
            check(device["memory_used_bytes"] <= limit,
                  f"{step} of {method}: the device gave", device["memory_used_bytes"] - limit,
                  "bytes above the limit")
            check(device["memory_used_bytes"] <= fraction["memory_used_bytes"] + 2 * MIB,
                  f"{step} of {method}: counted", fraction["memory_used_bytes"], "of",
                  device["memory_used_bytes"])
            tenant.do("free all")
    check(not machine.events("over_limit"), "events:", machine.events("over_limit"))


def one_truth(machine):
    """cuMemGetInfo, cuDeviceTotalMem and ps agree, and pinned host memory is not device memory."""
    tenant = machine.tenant(memory="4G", name="truth")
    for command in ("alloc linear 777M", "alloc vmm 100M", "alloc host 256M", "module", "ctxnew",
                    f"alloc managed {33 * KIB}"):
        tenant.do(command)

        def agree():
            info = tenant.ask("info")
            fraction = machine.fraction("truth")
            equal(info["total"], fraction["memory_limit_bytes"], f"total after {command}")
            equal(info["devtotal"], info["total"], f"cuDeviceTotalMem after {command}")
            return info["free"] == info["total"] - fraction["memory_used_bytes"]

        eventually(agree, f"free is the limit less what is used, after {command}", 5)
    before = tenant.free()
    tenant.do("alloc host 512M")
    equal(tenant.free(), before, "free after pinned host memory")


def imports_count_once(machine):
    """Memory opened from another process belongs to the exporter's account alone."""
    exporter = machine.tenant(memory="4G", name="shared")
    importer = machine.sibling(exporter)
    exporter.do("alloc linear 1G")
    exporter.do("put 0 5")
    handle = exporter.do("ipcget 0")["handle"]
    before = machine.used("shared")
    opened = importer.do(f"ipcopen {handle} 1G")
    importer.do(f"check {opened['id']} 5", bad=0)
    equal(machine.used("shared"), before, "used by the fraction, both in it")
    importer.do(f"free {opened['id']}")
    equal(machine.used("shared"), before, "used after the import is closed")



aqtest.run(each_method_is_held, the_boundary_is_exact, all_of_it_at_once,
           small_pieces_count_in_full, no_size_takes_more_of_the_device, one_truth, imports_count_once)
