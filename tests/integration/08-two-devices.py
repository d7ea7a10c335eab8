#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Fractions of several devices, and of one that is asked for by name."""
import aqtest
from aqtest import GIB, OOM, between, check, equal, on, size_2m, words


@on("h100:2")
def each_device_has_its_own_limit(machine):
    tenant = machine.tenant(gpus=2, gpu=0.25, name="both")
    equal(tenant.ask("init")["count"], 2, "device count")
    devices = {d["uuid"]: d for d in machine.devices()}
    quarter = size_2m(next(iter(devices.values()))["memory_total_bytes"] // 4)
    equal(len(machine.fraction("both")["devices"]), 2, "devices of the fraction")
    for index in (0, 1):
        tenant.do(f"dev {index}")
        equal(tenant.do("info")["total"], quarter, f"total on {index}")
    tenant.do("dev 0")
    first = tenant.ask("fill linear 512M")
    equal(first["code"], OOM, "refusal on device 0")
    tenant.do("dev 1")
    free_on_1 = tenant.free()
    check(free_on_1 > quarter - 2 * GIB, "device 1 is untouched:", free_on_1)
    second = tenant.ask("fill vmm 512M")
    between(second["count"], first["count"] - 1, first["count"] + 1, "the same on device 1")
    used = {d["uuid"]: d["memory_used_bytes"] for d in machine.devices()}
    for uuid, bytes_used in used.items():
        between(bytes_used, first["bytes"], quarter, f"used on {uuid}")
    tenant.do("free all")
    tenant.quit()


@on("h100:2")
def one_of_two_by_index_and_uuid(machine):
    machine.start_daemon()
    uuids = [d["uuid"] for d in sorted(machine.devices(), key=lambda d: d["index"])]
    for index in (0, 1):
        lines = machine.output(aqtest.program("tenant"), "init", "dev 0", memory="2G", device=index)
        equal(words(lines[0])["count"], 1, "device count")
        equal(words(lines[1])["uuid"], uuids[index][4:].replace("-", ""), f"uuid of {index}")
    by_uuid = machine.output(aqtest.program("tenant"), "init", "dev 0", memory="2G",
                             device=uuids[1])
    equal(words(by_uuid[1])["uuid"], uuids[1][4:].replace("-", ""), "by uuid")


@on("h100:2")
def placement_spreads_what_does_not_fit_together(machine):
    """Three fractions of 0.6, 0.6 and 0.4: the third goes where there is room; a fourth nowhere."""
    first = machine.tenant(gpu=0.6, name="a")
    second = machine.tenant(gpu=0.6, name="b")
    third = machine.tenant(gpu=0.4, name="c")
    place = {n: machine.fraction(n)["devices"][0]["uuid"] for n in "abc"}
    check(place["a"] != place["b"], "0.6 and 0.6 on one device:", place)
    machine.cli("run", "--sim", "h100:2", "--gpu", "0.41", "--", "/bin/true", code=125)
    for device in machine.devices():
        check(device["memory_reserved_bytes"] <= device["memory_total_bytes"], "over", device)
        check(device["compute_reserved_permille"] <= 1000, "over", device)
    for tenant in (first, second, third):
        tenant.quit()


@on("h100,l40s")
def devices_of_two_kinds(machine):
    machine.start_daemon()
    names = {d["name"]: d["memory_total_bytes"] for d in machine.devices()}
    equal(len(names), 2, f"kinds ({names})")
    check(max(names.values()) > 70 * GIB > 48 * GIB > min(names.values()), "sizes:", names)
    # 60 GiB fit only on one of them, wherever it is asked for.
    tenant = machine.tenant(memory="60G", sim=None, name="big")
    device = machine.fraction("big")["devices"][0]["uuid"]
    total = {d["uuid"]: d["memory_total_bytes"] for d in machine.devices()}[device]
    check(total > 70 * GIB, "placed on", total)
    between(tenant.free(), 50 * GIB, 60 * GIB, "free")
    _, text = machine.cli("run", "--memory", "100G", "--", "/bin/true", code=125)
    check(1 <= len(text.strip().splitlines()) <= 2, "what no device has:", text)
    tenant.quit()


aqtest.run(each_device_has_its_own_limit, one_of_two_by_index_and_uuid,
           placement_spreads_what_does_not_fit_together, devices_of_two_kinds)
