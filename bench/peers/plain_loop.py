"""What one writes in an afternoon: psutil and pynvml read everything once a second, and redis-py adds it to a stream.

python plain_loop.py URL
"""

import json
import sys
import time
from typing import Any

import psutil
import pynvml
import redis

ATTRIBUTES = ["pid", "create_time", "name", "username", "memory_info", "num_threads", "num_fds", "cpu_times"]
LARGEST = 20


def card(handle: Any) -> dict[str, Any]:
    """Ten figures and the processes of one card."""
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return {
        "uuid": pynvml.nvmlDeviceGetUUID(handle),
        "name": pynvml.nvmlDeviceGetName(handle),
        "temperature": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "memory_total": memory.total,
        "memory_used": memory.used,
        "utilization": rates.gpu,
        "memory_utilization": rates.memory,
        "power": pynvml.nvmlDeviceGetPowerUsage(handle),
        "power_limit": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle),
        "clock_sm": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "throttle_reasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        "processes": [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)],
    }


def main(url: str) -> None:
    """Once a second, until it is ended."""
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    client: Any = redis.Redis.from_url(url)
    due_s = time.monotonic()
    while True:
        processes = [process.info for process in psutil.process_iter(ATTRIBUTES)]
        processes.sort(key=lambda info: -(info["memory_info"].rss if info["memory_info"] else 0))
        sample = {
            "time": time.time(),
            "cpu_percent": psutil.cpu_percent(),
            "memory": psutil.virtual_memory()._asdict(),
            "swap": psutil.swap_memory()._asdict(),
            "load": psutil.getloadavg(),
            "gpus": [card(handle) for handle in handles],
            "processes": processes[:LARGEST],
        }
        client.xadd("plain", {"data": json.dumps(sample)}, maxlen=600, approximate=True)
        due_s += 1.0
        time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1])
