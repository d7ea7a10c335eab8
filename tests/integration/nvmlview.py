# SPDX-License-Identifier: Apache-2.0
"""What a program sees through NVML, as JSON: memory, processes and a few facts of each device.

An ordinary NVML client by ctypes, as monitoring tools are; it knows nothing of Aliquot.
"""
import ctypes
import json

nvml = ctypes.CDLL("libnvidia-ml.so.1")


class Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong),
                ("used", ctypes.c_ulonglong)]


class MemoryV2(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint), ("total", ctypes.c_ulonglong),
                ("reserved", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong),
                ("used", ctypes.c_ulonglong)]


class Process(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong),
                ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint)]


def device(index):
    handle = ctypes.c_void_p()
    facts = {"index": index}
    facts["handle"] = nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    text = ctypes.create_string_buffer(96)
    nvml.nvmlDeviceGetUUID(handle, text, 96)
    facts["uuid"] = text.value.decode()
    nvml.nvmlDeviceGetName(handle, text, 96)
    facts["name"] = text.value.decode()
    memory = Memory()
    facts["memory"] = {"code": nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)),
                       "total": memory.total, "free": memory.free, "used": memory.used}
    second = MemoryV2()
    second.version = ctypes.sizeof(MemoryV2) | 2 << 24
    facts["memory_v2"] = {"code": nvml.nvmlDeviceGetMemoryInfo_v2(handle, ctypes.byref(second)),
                          "total": second.total, "free": second.free, "used": second.used,
                          "reserved": second.reserved}
    count = ctypes.c_uint(256)
    table = (Process * 256)()
    code = nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle, ctypes.byref(count), table)
    facts["processes"] = {"code": code,
                          "list": [[p.pid, p.used] for p in table[:count.value]]}
    none = ctypes.c_uint(0)
    facts["count_query"] = [nvml.nvmlDeviceGetComputeRunningProcesses_v3(
        handle, ctypes.byref(none), None), none.value]
    facts["nulls"] = [nvml.nvmlDeviceGetMemoryInfo(handle, None),
                      nvml.nvmlDeviceGetMemoryInfo(None, ctypes.byref(memory)),
                      nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle, None, table)]
    return facts


def main():
    view = {"init": nvml.nvmlInit_v2()}
    count = ctypes.c_uint()
    view["count_code"] = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    view["devices"] = [device(i) for i in range(count.value)]
    version = ctypes.create_string_buffer(96)
    nvml.nvmlSystemGetDriverVersion(version, 96)
    view["driver"] = version.value.decode()
    view["shutdown"] = nvml.nvmlShutdown()
    print(json.dumps(view))


main()
