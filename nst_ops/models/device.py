"""Devices by name."""

from __future__ import annotations

import os

import torch

_OLDEST_DRIVERS = {"11": 450, "12": 525, "13": 580}
"""Oldest NVIDIA driver for each major version of CUDA, by the release notes of the CUDA toolkit."""


def find_device(name: str) -> torch.device:
    """Return the device of ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises ValueError with the remedy if there is none, for ``auto`` if this process was granted a GPU that torch cannot
    use: on a CPU the work would take many times as long, unnoticed.
    """
    granted = granted_gpus() if name == "auto" else ""
    if name == "auto":
        name = "cuda" if granted or torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        what = f"GPU {granted} was granted, but torch cannot use it" if granted else f"no device '{name}' here"
        remedy = f"; {_remedy()}" if name.startswith("cuda") and not torch.cuda.is_available() else ""
        raise ValueError(f"{what}: {str(error).splitlines()[0].rstrip('.')}{remedy}") from error
    return device


def granted_gpus() -> str:
    """Return the GPUs that Ray, a scheduler or the user has given to this process; empty if nobody has named any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    return "" if visible.lower() in ("-1", "none", "void", "nodevfiles") else visible


def _remedy() -> str:
    """Say what torch needs for a GPU."""
    cuda = torch.version.cuda
    if not cuda:
        return f"torch {torch.__version__} is built without CUDA: install one that is, or set the device to cpu"
    driver = _OLDEST_DRIVERS.get(cuda.partition(".")[0])
    needed = f"NVIDIA driver {driver} or newer" if driver else "a driver for it"
    return f"torch {torch.__version__} is built for CUDA {cuda} and needs {needed}; or set the device to cpu"
