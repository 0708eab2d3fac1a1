"""The contract of a stylizer, and how one is made from its name."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nst_ops.storage import Folder

UInt8Array = npt.NDArray[np.uint8]

PRETRAINED = Path(__file__).parent.parent / "models" / "pretrained"


class Stylizer(Protocol):
    """What a worker calls on every batch of frames."""

    def __call__(self, frames_nhwc: UInt8Array) -> UInt8Array:
        """Stylize.

        Args:
            frames_nhwc: uint8 sRGB, (N, H, W, 3), any H and W from 1 on.

        Returns:
            uint8 sRGB of the same shape.

        Raises:
            MemoryError: one frame does not fit into the device's memory.
        """
        ...


def load_stylizer(kind: str, checkpoint: str = "", device: str = "auto", precision: str = "auto") -> Stylizer:
    """Make the stylizer ``kind`` on ``device``.

    Args:
        kind: ``johnson`` or ``identity``.
        checkpoint: a shipped style's name or a file, for the kinds that have weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        nst_ops.models.checkpoint.CheckpointError: it cannot be used.
        ValueError: there is no such device.
    """
    if kind == "identity":
        return lambda frames_nhwc: frames_nhwc
    # Imported late: a dry run or an identity run needs no torch.
    from nst_ops.models.checkpoint import load_checkpoint
    from nst_ops.stylizers.johnson import JohnsonStylizer

    return JohnsonStylizer(load_checkpoint(resolve_checkpoint(checkpoint)).model, device, precision)


def resolve_checkpoint(checkpoint: str) -> Path:
    """The file of a checkpoint given by path or URI, or by the name of a style that ships with nst-ops.

    Raises:
        FileNotFoundError: none of them; the message lists the styles there are.
        ValueError: the URI names a file system that fsspec does not know.
    """
    shipped = PRETRAINED / f"{checkpoint}.safetensors"
    if shipped.is_file():
        return shipped
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    if "://" in checkpoint and (fetched := _fetch(checkpoint)):
        return fetched
    names = ", ".join(sorted(path.stem for path in PRETRAINED.glob("*.safetensors")))
    raise FileNotFoundError(f"no checkpoint '{checkpoint}': neither a file nor a shipped style ({names})")


_fetched = tempfile.TemporaryDirectory(prefix="nst-ops-")  # goes away with the process


def _fetch(uri: str) -> Path | None:
    """A local copy of a remote checkpoint, or None where there is no such file."""
    parent, name = uri.rsplit("/", 1)
    try:
        data = Folder(parent).read_bytes(name)
    except FileNotFoundError:
        return None
    path = Path(_fetched.name, uuid.uuid4().hex, name)  # its name is the style's: keep it
    path.parent.mkdir()
    path.write_bytes(data)
    return path
