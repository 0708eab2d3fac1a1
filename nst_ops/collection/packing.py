"""Notes of shards that are being made from image files, each from before its first byte until its rows are written.

A unit that kills its worker is split, and its images go into shards of other names; so does what a killed run has left.
A shard that was written but has no rows would hold images that others hold, too: by its note it is found and removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from nst_ops.collection.constants import PACKING
from nst_ops.collection.manifest import Manifest
from nst_ops.storage import Folder


def note_shards(output: Folder, shard: str, relpaths: Iterable[str]) -> None:
    """Note the files that a unit is about to write; ``shard`` is what they are named after."""
    output.write_bytes(f"{PACKING}/{shard}.json", json.dumps(sorted(relpaths)).encode())


def forget_note(output: Folder, shard: str) -> None:
    """Drop the note of a unit whose rows are written."""
    output.remove(f"{PACKING}/{shard}.json")


def remove_unfinished_shards(manifest: Manifest) -> None:
    """Remove noted shards that no row names, and all notes; no worker may be at work."""
    output = manifest.output
    names = [name for name in output.list(PACKING) if name.endswith(".json")]
    if names:
        noted = {relpath for name in names for relpath in json.loads(output.read_bytes(f"{PACKING}/{name}"))}
        unnamed = {output.uri(relpath): relpath for relpath in noted}
        for batch in manifest.reader(["output_uri"]):
            for uri in batch["output_uri"].to_pylist():
                unnamed.pop(uri, None)
        output.remove_many(unnamed.values())
    output.remove(PACKING)
