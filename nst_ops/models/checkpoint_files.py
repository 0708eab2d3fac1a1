"""Files of checkpoints: shipped with nst-ops, on this machine, or behind a URI. Needs no torch."""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import uuid
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nst_ops.models.style_facts import IDENTITY, STYLES, StyleFacts, styles_from_json
from nst_ops.storage import Folder
from nst_ops.storage.scratch import ScratchFolder

PRETRAINED = Path(__file__).parent / "pretrained"
"""Folder of the shipped checkpoints, one ``<name>.safetensors`` each."""
_MANY_STYLES = PRETRAINED / "styles.safetensors"


def resolve_checkpoint(checkpoint: str) -> Path:
    """Return the local file of a checkpoint given by path or URI, or by the name of a shipped one or of its styles.

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
    styles = [name for name in read_styles(_MANY_STYLES) if name != IDENTITY]
    if checkpoint in styles:
        return _MANY_STYLES
    names = dict.fromkeys([*sorted(path.stem for path in PRETRAINED.glob("*.safetensors")), *styles])
    near = difflib.get_close_matches(checkpoint, names, n=1, cutoff=0.7)
    meant = f", did you mean '{near[0]}'?" if near else f" ({', '.join(names)})"
    raise FileNotFoundError(f"no checkpoint '{checkpoint}': neither a file nor a shipped checkpoint or style{meant}")


def read_architecture(path: Path) -> str:
    """Return the architecture that a checkpoint of ours names, or ``onnx``; empty for a foreign or damaged file."""
    if path.suffix.lower() == ".onnx":
        return "onnx"
    return _metadata(path).get("architecture", "")


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint of ours; none for another file."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return dict(json.loads(_metadata(path)["facts"]))
    return {}


def read_styles(path: Path) -> dict[str, StyleFacts]:
    """Return the styles of a network of many in their order, with what is known of each; none for another file."""
    metadata = _metadata(path)
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):  # loading it will say what is wrong
        facts = styles_from_json(json.loads(metadata["facts"]).get(STYLES, {}))
        return {name: facts.get(name, StyleFacts()) for name in json.loads(metadata["config"])["names"]}
    return {}


def _metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, and none of its weights; none of another file."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


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
