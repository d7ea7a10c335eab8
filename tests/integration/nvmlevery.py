# SPDX-License-Identifier: Apache-2.0
"""Call every function of an NVML catalogue, on device 0, and print what came back as JSON.

nvmlevery.py NVML_API_DEF. An ordinary client by ctypes: pointers get zeroed memory (counts in it say
64, versions are set where the structure has one), numbers are 0, text is empty. Signatures that the
catalogue does not have are called with nothing. Functions that end or change the library's state
are left out.
"""
import ctypes
import json
import re
import sys

LEFT_OUT = {"nvmlShutdown", "nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags", "nvmlEventSetFree"}
ROOM = 64
BYTES = ROOM * 4128  # ROOM of the largest list entry there is

# Structures that begin with a version: their size and number.
VERSIONS = {
    "nvmlMemory_v2_t": (40, 2), "nvmlPciInfoExt_v1_t": (64, 1), "nvmlUUID_v1_t": (52, 1),
    "nvmlSystemDriverBranchInfo_v1_t": (84, 1), "nvmlProcessDetailList_v1_t": (24, 1),
    "nvmlProcessesUtilizationInfo_v1_t": (24, 1), "nvmlTemperature_v1_t": (12, 1),
    "nvmlMarginTemperature_v1_t": (8, 1), "nvmlEccSramErrorStatus_v1_t": (104, 1),
    "nvmlGpuFabricInfo_v3_t": (40, 3),
}

nvml = ctypes.CDLL("libnvidia-ml.so.1")


class Arguments:
    def __init__(self, params, handle, event_set):
        self.values = []
        self.buffers = []
        for param in [p.strip() for p in params.split(",")] if params != "void" else []:
            kind, name = re.fullmatch(r"(.*?)(\w+)", param).groups()
            kind = kind.removeprefix("const ").strip()
            if kind == "nvmlDevice_t":
                self.values.append(handle)
            elif kind == "nvmlEventSet_t":
                self.values.append(event_set)
            elif kind.endswith("*"):
                self.values.append(self.memory(kind.rstrip("* "), name))
            elif name in ("length", "size", "bytes"):
                self.values.append(ctypes.c_uint(8 if name == "size" else 64))
            elif "long long" in kind:
                self.values.append(ctypes.c_ulonglong(0))
            else:
                self.values.append(ctypes.c_uint(0))

    def memory(self, kind, name):
        buffer = ctypes.create_string_buffer(BYTES)
        if kind in VERSIONS:
            size, number = VERSIONS[kind]
            ctypes.c_uint.from_buffer(buffer).value = size | number << 24
        elif name == "count":
            ctypes.c_uint.from_buffer(buffer).value = ROOM
        self.buffers.append(buffer)
        return ctypes.byref(buffer)

    def output(self):
        """What is in the memory now, without the zeros behind."""
        return [bytes(b).rstrip(b"\0").hex() for b in self.buffers]


def main():
    text = open(sys.argv[1]).read()
    typed = re.findall(r"^AQ_NVML\((\w+), (\w+), \((.*?)\), \(.*?\)\)$", text, re.M)
    untyped = re.findall(r"^AQ_NVML_UNTYPED\((\w+), (\w+)\)$", text, re.M)
    handle, event_set = ctypes.c_void_p(), ctypes.c_void_p()
    answers = {"init": nvml.nvmlInit_v2()}
    nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle))
    nvml.nvmlEventSetCreate(ctypes.byref(event_set))
    for sym, role, params in typed:
        if sym in LEFT_OUT:
            continue
        arguments = Arguments(params, handle, event_set)
        status = getattr(nvml, sym)(*arguments.values)
        answers[sym] = {"role": role, "status": status, "output": arguments.output()}
    for sym, role in untyped:
        answers[sym] = {"role": role, "status": getattr(nvml, sym)(), "output": []}
    nvml.nvmlErrorString.restype = ctypes.c_char_p
    answers["error"] = nvml.nvmlErrorString(3).decode()
    answers["shutdown"] = nvml.nvmlShutdown()
    print(json.dumps(answers))


main()
