"""A kind of model that fails as its switch says, and the job with it: ``python faulty_models.py OPTIONS``.

The switch is a file, ``model.checkpoint``, which counts in no fingerprint: it holds one of the words below,
and may change between two runs and while one goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nst_ops.config import ModelConfig
from nst_ops.media.images import UInt8Array
from nst_ops.pipeline import images
from nst_ops.storage import StorageUnavailableError
from nst_ops.storage.scratch import ScratchFolder
from nst_ops.stylizers import Style
from nst_ops.stylizers.registry import ModelKind, register

RED = (255, 0, 0)
"""Color of the frames that the stylizer fails on."""
SLOW_S = 0.2
"""Seconds that a batch takes if the switch is ``slow``."""
LOST = "CUDA error: an illegal memory access was encountered"
"""Error of a GPU that is beyond use for its process."""
PARTNER_S = 60.0
"""Seconds that a worker waits for the first batch of another one if the switch is ``two``."""


@dataclass
class FaultyStylizer:
    """Changes nothing, but fails on what is red: ``kill``, ``raise``, ``hang``, ``away`` (storage), ``lose`` (GPU)."""

    switch: Path
    is_lost: bool = False

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        fault = self.switch.read_text()
        (self.switch.parent / f"{self.switch.name}.{os.getpid()}").touch()
        if fault in ("slow", "one cannot start"):
            time.sleep(SLOW_S)
        until = time.monotonic() + PARTNER_S
        while fault == "two" and workers_of(self.switch) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        if self.is_lost:  # as CUDA does: every call after the one that failed
            raise RuntimeError(LOST)
        if (frames_nhwc[:, 0, 0] == RED).all(-1).any():
            if fault == "lose":
                self.is_lost = True
                raise RuntimeError(LOST)
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "raise":
                raise RuntimeError("device lost")
            if fault == "away":
                raise StorageUnavailableError("no answer")
        return frames_nhwc


def _load(model: ModelConfig, alpha: float) -> FaultyStylizer:
    switch = Path(model.checkpoint)
    fault = switch.read_text()
    if model.device != "cpu":  # in a worker: the driver tries every model on the CPU
        if fault == "no start":
            raise ValueError("no such device")
        if fault == "one cannot start" and _is_first(switch):
            raise ValueError("no such device")
        if fault == "die at start":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            images.encode_image = _hang_on_red(images.encode_image)
    return FaultyStylizer(switch)


def _hang_on_red(encode: Callable[..., bytes]) -> Callable[..., bytes]:
    def encode_or_hang(rgb_hwc: UInt8Array, *arguments: object) -> bytes:
        if (rgb_hwc[0, 0] == RED).all():
            re.match(r"(a+)+$", "a" * 64 + "b")  # for ever, and no other thread of Python gets a turn
        return encode(rgb_hwc, *arguments)

    return encode_or_hang


FAULTY = ModelKind("faulty", _load, uses_device=False, smooths=False, warms_up=False)


def _is_first(switch: Path) -> bool:
    """Return whether this place was the first to load the model: the node on a cluster, else the process."""
    ray = sys.modules.get("ray")
    place = ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else str(os.getpid())
    first = switch.parent / f"{switch.name}-first"
    with contextlib.suppress(FileExistsError), first.open("x") as file:
        file.write(place)
    return first.read_text() in ("", place)


def write_red_image(path: Path) -> None:
    """Write an image that the stylizer fails on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((32, 48, 3), RED, np.uint8)).save(path)


def die_with_scratch() -> None:
    """Kill this process while it has temporary files."""
    ScratchFolder()
    os.kill(os.getpid(), signal.SIGKILL)


def workers_of(switch: Path) -> int:
    """Return how many processes have stylized something."""
    return len(list(switch.parent.glob(f"{switch.name}.*")))


if __name__ == "__main__":
    import faulty_models  # under a name that workers can import

    from nst_ops.cli import run

    register(faulty_models.FAULTY)
    raise SystemExit(run("stylize", sys.argv[1:]))
