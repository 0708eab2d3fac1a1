"""The machine of a GPU: the card, its driver, and its ceilings."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import av
import torch

from benchmarks.gpu.bench import Bench, Figures, check


@check(limit_s=40)
def machine(bench: Bench) -> Figures:
    """The card, and its ceilings: copies, matrix products, the bus."""
    figures: Figures = {"torch": torch.__version__, "cores": len(os.sched_getaffinity(0)), "av": av.__version__}
    figures["cpu"] = _processor()
    side, count = bench.pick((8192, 2**30), (256, 2**20))
    if not bench.small:
        properties = torch.cuda.get_device_properties(0)
        figures |= {"card": properties.name, "memory_gib": properties.total_memory / 2**30}
        figures |= {"capability": f"{properties.major}.{properties.minor}", "cuda": torch.version.cuda or ""}
        figures |= {"cudnn": torch.backends.cudnn.version() or 0, "driver": _driver()}
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        ms = bench.on_device_ms(partial(torch.matmul, a, b), 10)
        figures[f"matrix_{name}_tflops"] = 2 * side**3 / ms / 1e9
    source = torch.empty(count, dtype=torch.uint8, device=bench.device).random_(0, 255)
    target = torch.empty_like(source)
    figures["copy_gb_per_s"] = 2 * count / bench.on_device_ms(lambda: target.copy_(source)) / 1e6
    host = torch.empty(min(count, 2**28), dtype=torch.uint8).random_(0, 255)
    part = source[: len(host)]
    for name, memory in (("pageable", host), ("pinned", host if bench.small else host.pin_memory())):
        figures[f"up_{name}_gb_per_s"] = len(host) / bench.milliseconds(partial(part.copy_, memory)) / 1e6
        figures[f"down_{name}_gb_per_s"] = len(host) / bench.milliseconds(partial(memory.copy_, part)) / 1e6
    return figures


def _driver() -> str:
    try:
        import pynvml  # type: ignore[import-not-found] # comes with torch on a machine with a card

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        return version.decode() if isinstance(version, bytes) else str(version)
    except Exception as error:  # it is only for the record
        return f"unknown ({type(error).__name__})"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
