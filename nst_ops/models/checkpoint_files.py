"""Files of checkpoints: shipped with nst-ops, on this machine, or behind a URI. Needs no torch."""

from __future__ import annotations

import functools
import uuid
from pathlib import Path

from nst_ops.storage import Folder
from nst_ops.storage.scratch import ScratchFolder

PRETRAINED = Path(__file__).parent / "pretrained"
"""Folder of the shipped checkpoints, one ``<style>.safetensors`` each."""


def resolve_checkpoint(checkpoint: str) -> Path:
    """Return the local file of a checkpoint given by path or URI, or by the name of a shipped style.

    Raises:
        FileNotFoundError: it is none of them; the message lists the shipped styles.
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


def _fetch(uri: str) -> Path | None:
    """Copy a remote checkpoint to this machine; None where there is no such file."""
    parent, name = uri.rsplit("/", 1)
    try:
        data = Folder(parent).read_bytes(name)
    except FileNotFoundError:
        return None
    path = Path(_fetched().name, uuid.uuid4().hex, name)  # keep the name: it is the style's
    path.parent.mkdir()
    path.write_bytes(data)
    return path


@functools.cache
def _fetched() -> ScratchFolder:
    """Make the folder of checkpoints that were fetched; it goes away with the process."""
    return ScratchFolder()
