"""The contract of a stylizer, and how one is made from its name."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nst_ops.config import ModelConfig
from nst_ops.storage import Folder
from nst_ops.stylizers.style_images import Style

UInt8Array = npt.NDArray[np.uint8]

PRETRAINED = Path(__file__).parent.parent / "models" / "pretrained"


class Stylizer(Protocol):
    """What a worker calls on every batch of frames."""

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """Stylize.

        Args:
            frames_nhwc: uint8 sRGB, (N, H, W, 3), any H and W from 1 on.
            styles: the style of each frame, N of them, for a stylizer that takes its style from
                an example; others leave them unread. The same ``Style`` comes again and again:
                what is computed from it is kept.

        Returns:
            uint8 sRGB of the same shape.

        Raises:
            MemoryError: one frame does not fit into the device's memory, nor in tiles where those serve.
        """
        ...


def load_stylizer(model: ModelConfig, alpha: float = 1.0) -> Stylizer:
    """Make the stylizer that ``model`` describes.

    Args:
        model: kind, checkpoint, device, precision and tile.
        alpha: strength of the style in [0, 1], for the kinds that know one.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        nst_ops.models.checkpoint.CheckpointError: it cannot be used, or holds another kind of network.
        ValueError: there is no such device.
    """
    if model.kind == "identity":
        return lambda frames_nhwc, styles=(): frames_nhwc
    # Imported late: a dry run or an identity run needs no torch.
    if model.kind == "gatys":
        from nst_ops.stylizers.gatys import GatysStylizer

        return GatysStylizer(model.gatys, model.device, model.precision)
    from nst_ops.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(resolve_checkpoint(model.checkpoint))
    if model.kind == "vit_adain":
        from nst_ops.models.vit_adain import ViTAdaIN
        from nst_ops.stylizers.vit_adain import VitAdainStylizer

        return VitAdainStylizer(checkpoint.expect(ViTAdaIN), model.device, model.precision, alpha)
    from nst_ops.models.johnson import JohnsonNet
    from nst_ops.stylizers.johnson import JohnsonStylizer

    return JohnsonStylizer(checkpoint.expect(JohnsonNet), model.device, model.precision, model.tile)


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
