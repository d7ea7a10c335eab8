#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every denial is an event that says who, what, why and how much; and the events tell the story."""
import json
import re
import subprocess

import aqtest
from aqtest import GIB, MIB, OOM, check, equal, eventually

WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def well_formed(events):
    last = 0
    for event in events:
        check(event["seq"] > last, "seq does not grow:", event)
        last = event["seq"]
        check(WHEN.fullmatch(event["time"]), "time:", event)
        check(event["type"] and event["text"] and "\n" not in event["text"], "text:", event)
        check("fraction" in event and "pid" in event and "device" in event, "keys:", event)


def denials_say_everything(machine):
    machine.start_daemon()
    tenant = machine.tenant(memory="4G", name="denied")
    tenant.do("alloc linear 1G")
    asks = [("linear", "cuMemAlloc_v2"), ("pitch", "cuMemAllocPitch_v2"),
            ("managed", "cuMemAllocManaged"), ("async", "cuMemAllocAsync"),
            ("pool", "cuMemAllocFromPoolAsync"), ("vmmcreate", "cuMemCreate"),
            ("array", "cuArrayCreate_v2"), ("array3d", "cuArray3DCreate_v2"),
            ("mipmap", "cuMipmappedArrayCreate"), ("graph", None)]
    device = machine.devices()[0]["uuid"]
    for method, api in asks:
        before = len(machine.events("denied", "denied"))
        used = machine.used("denied")
        equal(tenant.ask(f"alloc {method} 8G")["code"], OOM, f"8 GiB of {method} in 4")
        denials = machine.events("denied", "denied")
        check(before < len(denials) <= before + 1, f"events for one refusal of {method}:",
              denials[before:])
        event = denials[-1]
        equal(event["pid"], tenant.pid, f"pid ({method})")
        equal(event["device"], device, f"device ({method})")
        equal(event["limit_bytes"], 4 * GIB, f"limit ({method})")
        equal(event["used_bytes"], used, f"used ({method})")
        check(event["free_bytes"] <= 4 * GIB - used, f"free ({method})", event)
        check(8 * GIB <= event["asked_bytes"] <= 12 * GIB, f"asked ({method})", event)
        check(event["reason"], f"reason ({method})", event)
        if api:
            equal(event["api"], api, f"api ({method})")
        else:
            check(event["api"].startswith("cuGraph"), f"api ({method})", event)
    well_formed(machine.events())


def refusals_of_fractions(machine):
    machine.start_daemon()
    tenant = machine.tenant(gpu=0.75, name="big")
    machine.cli("run", "--sim", "h100", "--gpu", "0.5", "--name", "late", "--", "/bin/true",
                code=125)
    refused = machine.events("refused")
    equal(len(refused), 1, f"events {refused}")
    check(refused[0]["reason"] and refused[0]["fraction"] == "late", "who and why:", refused)
    total = machine.devices()[0]["memory_total_bytes"]
    check(total // 2 - 2 * MIB <= refused[0]["asked_bytes"] <= total // 2, "asked", refused)
    check(0 < refused[0]["free_bytes"] <= total // 4 + 2 * MIB, "free", refused)
    status, body = machine.http("POST", "/v1/fractions", {"gpu_permille": 500, "name": "late"})
    equal(status, 409, "status of the same by API")
    check(body["reason"] and body["error"], "reason and one line", body)
    tenant.quit()


def the_story_of_a_fraction(machine):
    machine.start_daemon()
    tenant = machine.tenant(memory="4G", name="story")
    machine.cli("resize", "story", "--memory", "5G")
    tenant.quit()
    machine.gone("story")
    kinds = [e["type"] for e in machine.events(fraction="story")]
    wanted = ["created", "attached", "resized", "detached", "ended"]
    equal([k for k in kinds if k in wanted], wanted, f"order ({kinds})")
    shown = json.loads(machine.cli("events", "--json")[0])
    equal([e["seq"] for e in shown], [e["seq"] for e in machine.events()], "aliquot events --json")
    text = machine.cli("events")[0]
    text_of_none, told = machine.cli("events", "nobody")
    equal((text_of_none, "'nobody'" in told), ("", True), f"what is said of a wrong name ({told})")
    check("story" in text and len(text.splitlines()) >= len(wanted), "for people:", text)


def many_denials_bury_nothing(machine):
    """A tenant that is refused ten thousand times: one fraction's noise hides no other's event."""
    machine.start_daemon()
    quiet = machine.tenant(memory="2G", name="quiet")
    equal(quiet.ask("alloc linear 3G")["code"], OOM, "the quiet one's refusal")
    noisy = machine.tenant(memory="2G", name="noisy")
    answer = noisy.ask("retry linear 3G 10000")
    equal(answer["oom"], 10000, "refusals")
    equal(len(machine.events("denied", "quiet")), 1, "the quiet one's event is still there")
    check(len(machine.events("denied", "noisy")) >= 1, "the noisy one's last event is there")
    check(len(machine.events()) <= 10000, "kept events:", len(machine.events()))


def followed_live(machine):
    machine.start_daemon()
    follower = subprocess.Popen(
        ["curl", "-sN", "--unix-socket", machine.rundir / "api.sock",
         "http://localhost/v1/events?since=0&follow=1"],
        stdout=subprocess.PIPE, text=True) if subprocess.run(
            ["sh", "-c", "command -v curl"], capture_output=True).returncode == 0 else None
    if follower is None:
        raise aqtest.Skip("no curl")
    try:
        tenant = machine.tenant(memory="2G", name="live")
        tenant.ask("alloc linear 3G")
        seen = []
        while not any(e["type"] == "denied" for e in seen):
            line = follower.stdout.readline()
            check(line, "the stream ended", seen)
            seen.append(json.loads(line))
        well_formed(seen)
    finally:
        follower.kill()
        follower.wait()
    eventually(lambda: machine.api("/v1/version"), "the daemon answers after a follower left")


def metrics_agree(machine):
    machine.start_daemon()
    tenant = machine.tenant(memory="4G", name="metered", project="team")
    tenant.do("alloc linear 1G")
    status, text = machine.http("GET", "/metrics")
    equal(status, 200, "status")
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r'(aliquot_\w+)(\{.*\})? ([0-9.eE+-]+)', line)
        if match and 'fraction="metered"' in (match[2] or ""):
            check('project="team"' in match[2], "project label", line)
            found[match[1]] = float(match[3])
        check(match or line.startswith("#") or not line, "not a metric:", line)
    used = machine.used("metered")
    check(used in found.values(), "memory used is among them", found)
    check(4 * GIB in found.values(), "the limit is among them", found)
    check(all(re.search(r"_(bytes|seconds_total|ratio|total|info|clients)$", k) for k in found),
          "base units", sorted(found))


aqtest.run(denials_say_everything, refusals_of_fractions, the_story_of_a_fraction,
           many_denials_bury_nothing, followed_live, metrics_agree)
