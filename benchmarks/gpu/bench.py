"""What every check has at hand: the device, pictures, a clock, goals; and the table of the checks."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from nst_ops.media.images import UInt8Array

Figures = dict[str, Any]

_OCTAVES = 7


@dataclass
class Bench:
    """Device, sizes and goals of one check."""

    device: torch.device
    scratch: Path
    goals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def small(self) -> bool:
        """Whether this is a trial on a CPU: everything as small as it can be."""
        return self.device.type == "cpu"

    def pick(self, on_gpu: Any, on_cpu: Any) -> Any:
        """Return the first on a GPU, the second in a trial on a CPU."""
        return on_cpu if self.small else on_gpu

    def expect(self, name: str, value: float, at_least: float | None = None, at_most: float | None = None) -> None:
        """Note a goal, and whether ``value`` reaches it; a goal that is missed ends nothing."""
        met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bounds = {"at_least": at_least, "at_most": at_most}
        self.goals.append(
            {"goal": name, "value": value, **{k: v for k, v in bounds.items() if v is not None}, "met": met}
        )

    def synchronize(self) -> None:
        """Wait until the device has done everything."""
        if not self.small:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give memory back that nothing uses."""
        gc.collect()
        if not self.small:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def milliseconds(self, call: Callable[[], object], seconds: float = 0.5, most: int = 50) -> float:
        """Return the median time of a call, everything on the device included, over about ``seconds``."""
        for _ in range(self.pick(3, 1)):
            call()
        self.synchronize()
        times: list[float] = []
        began = time.perf_counter()
        while not times or (time.perf_counter() - began < seconds and len(times) < most and not self.small):
            started = time.perf_counter()
            call()
            self.synchronize()
            times.append(1000 * (time.perf_counter() - started))
        return statistics.median(times)

    def on_device_ms(self, call: Callable[[], object], repeats: int = 10) -> float:
        """Return the time of a call in a row of them, as the device sees it: gaps between calls are not waited for."""
        if self.small:
            return self.milliseconds(call)
        for _ in range(3):
            call()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / repeats

    def run_python(self, code: str, timeout_s: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a process of its own, in this environment and ``environment``."""
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        variables = {**os.environ, "PYTHONPATH": paths, **environment}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=variables, timeout=timeout_s, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Check:
    """A check: what it is called, and how long it may take."""

    name: str
    run: Callable[[Bench], Figures]
    limit_s: float


CHECKS: dict[str, Check] = {}
"""The checks by name, in the order in which they run."""


def check(limit_s: float) -> Callable[[Callable[[Bench], Figures]], Callable[[Bench], Figures]]:
    """Add a function to ``CHECKS`` under its own name."""

    def add(run: Callable[[Bench], Figures]) -> Callable[[Bench], Figures]:
        CHECKS[run.__name__] = Check(run.__name__, run, limit_s)
        return run

    return add


def picture(height: int, width: int, seed: int = 0) -> UInt8Array:
    """Return (H, W, 3) uint8 with the spectrum of a photograph: shapes of every size, some with sharp edges."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(_OCTAVES):
        cells = 2 ** (octave + 2)
        coarse = rng.standard_normal((cells, max(2, cells * width // height), 3), np.float32)
        fine = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
        total += fine / 1.7**octave
    coarse = rng.standard_normal((12, 16), np.float32)
    edges = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    total[edges > 0.4] += rng.standard_normal(3).astype(np.float32)
    total[edges < -0.6] -= 1.2
    total = (total - total.mean()) / total.std()
    return np.asarray(np.clip(118 + 55 * total, 0, 255), np.uint8)


def pictures(count: int, height: int, width: int) -> UInt8Array:
    """Return (N, H, W, 3): one picture, moved on from frame to frame."""
    one = picture(height, width)
    return np.stack([np.roll(one, (3 * i, 5 * i), (0, 1)) for i in range(count)])


def psnr(a: UInt8Array, b: UInt8Array) -> float:
    """Return the peak signal-to-noise ratio of two images in dB; 99 where they are the same."""
    error = float(np.square(a.astype(np.float32) - b.astype(np.float32)).mean())
    return 99.0 if error == 0 else min(99.0, 10 * float(np.log10(255**2 / error)))
