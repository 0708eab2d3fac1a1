"""Whether a node sees what the whole run works on: rows on a disk of its own would vanish with it."""

from __future__ import annotations

import json

from nst_ops.collection.constants import RUN_FILE
from nst_ops.pipeline.spec import RunSpec
from nst_ops.storage import Folder, configure_storage

_REMEDY = "use s3:// or a disk that all nodes mount at the same path, with credentials on every node"


class NotSharedError(OSError):
    """This node does not see the input or the output of the run; the message has the remedy."""


def check_shared(spec: RunSpec) -> None:
    """Look for the input, and for the ``run.json`` that the driver has written into the output.

    Raises:
        NotSharedError: with the remedy.
    """
    configure_storage(spec.config.storage)
    output = Folder(spec.config.output)
    try:
        run_id = json.loads(output.read_bytes(RUN_FILE))["run_id"]
    except (OSError, ValueError, KeyError) as error:
        raise NotSharedError(f"it does not see '{output.uri(RUN_FILE)}' ({error}): {_REMEDY}") from error
    if run_id != spec.run_id:
        raise NotSharedError(f"its '{output.uri(RUN_FILE)}' is of another run, {run_id}: {_REMEDY}")
    source = Folder(spec.source_root)
    # A mount point on which nothing is mounted is there, and empty.
    if source.is_local and (not source.exists() or source.is_empty()):
        raise NotSharedError(f"it does not see the input '{source.uri()}': {_REMEDY}")
