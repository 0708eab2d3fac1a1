"""``run.json``: what was run into an output, so that no other run mixes with it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nst_ops.collection.layout import RUN_FILE
from nst_ops.collection.progress import PROGRESS_FILE
from nst_ops.storage import Folder

_PACKAGES = ("nst-ops", "torch", "ray", "av", "pillow", "pyarrow", "numpy")


class OutputInUseError(ValueError):
    """The output holds another run, or one is writing to it; the message names the difference."""


def write_run_record(
    output: Folder, run_id: str, config: dict[str, Any], fingerprint: dict[str, Any]
) -> None:
    """Write ``run.json``.

    Args:
        output: where the run writes.
        run_id: of this run.
        config: the whole configuration.
        fingerprint: all that shapes the outputs: two runs may share a folder only if it is the same.
    """
    record = {
        "run_id": run_id,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config,
        "fingerprint": fingerprint,
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]},
        "git_revision": _git_revision(),
    }
    with output.atomic_write(RUN_FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def refuse_other_run(output: Folder, fingerprint: dict[str, Any]) -> None:
    """Refuse an output that was made with another fingerprint, or by somebody else.

    Raises:
        OutputInUseError: with the difference.
    """
    if not output.exists(RUN_FILE):
        # A run that was killed while it planned leaves its sign of life there.
        if not output.is_empty() and not output.exists(PROGRESS_FILE):
            raise OutputInUseError(
                f"'{output.uri()}' holds files, but no {RUN_FILE} of nst-ops: take an empty folder, "
                "or --overwrite what has the same names"
            )
        return
    try:
        earlier = dict(json.loads(output.read_bytes(RUN_FILE))["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise OutputInUseError(f"'{output.uri(RUN_FILE)}' is not a run record of nst-ops") from error
    differences = [
        f"{key} was {earlier.get(key)!r}, is now {fingerprint.get(key)!r}"
        for key in sorted({*earlier, *fingerprint})
        if earlier.get(key) != fingerprint.get(key)
    ]
    if differences:
        raise OutputInUseError(
            f"'{output.uri()}' holds another run: {'; '.join(differences)}. "
            "Take another output, or --overwrite"
        )


@contextlib.contextmanager
def only_run(output: Folder) -> Iterator[None]:
    """Keep a second run out of a local output; the system frees the lock of a killed one.

    Other storage has no locks: see ``pulse.live_run``.

    Raises:
        OutputInUseError: another run holds it.
    """
    if not output.is_local:
        yield
        return
    name = f"nst-ops-{hashlib.sha256(output.root.encode(errors='surrogateescape')).hexdigest()[:16]}.lock"
    lock = FileLock(os.path.join(tempfile.gettempdir(), name))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputInUseError(
            f"another run is writing to '{output.uri()}': wait for it or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _git_revision() -> str | None:
    """The commit this code stands at, if it stands in a checkout."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None
