"""Lock of an output for one run: ``run.json``, the lock of this machine, and the heartbeat of the driver.

Remote storage has no locks, and the clocks of two machines differ. So a driver that finds the record of a
running driver watches whether it still changes before it takes the output over, and each looks before every
write whether the record is still its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from nst_ops.collection.constants import PROGRESS_FILE, RUN_FILE, TEXT_STYLES
from nst_ops.collection.progress import RunStats, State, read_progress, this_account
from nst_ops.config.errors import ConfigError
from nst_ops.config.stylize import RETRY_KEYS
from nst_ops.storage import Folder

EVERY_S = 10.0
"""Seconds between two heartbeats: on S3 360 small PUT requests an hour."""
MISSED_BEATS = 3
"""Heartbeats that may be missing before a driver is taken for dead."""

_PACKAGES = "nst-ops", "torch", "ray", "av", "pillow", "pyarrow", "numpy"
_log = logging.getLogger(__name__)


class OutputInUseError(ConfigError):
    """The output holds another run, or one is writing to it; the message names the difference."""


def write_run_record(
    output: Folder,
    run_id: str,
    config: dict[str, Any],
    fingerprint: dict[str, Any],
    configs: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    """Write ``run.json``; two runs may share a folder only if ``fingerprint``, all that shapes outputs, is the same.

    ``configs`` are those that rows of the output were made with, by their ``config_sha256``.
    """
    record = {
        "run_id": run_id,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config,
        "configs": dict(configs or {}),
        "fingerprint": fingerprint,
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]},
        "git_revision": _git_revision(),
    }
    _write_record(output, record)


def amend_run_record(output: Folder, **more: object) -> None:
    """Add to ``run.json`` what is only known at the end."""
    _write_record(output, json.loads(output.read_bytes(RUN_FILE)) | more)


def _write_record(output: Folder, record: dict[str, Any]) -> None:
    output.write_bytes(RUN_FILE, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())


def read_configs(output: Folder) -> dict[str, dict[str, Any]]:
    """Return the configurations that rows of an output were made with, by ``config_sha256``; none if it does not say.

    There are several where ``--retry-failed`` came with other values of ``RETRY_KEYS``.
    """
    try:
        return dict(json.loads(output.read_bytes(RUN_FILE)).get("configs", {}))
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError, TypeError):
        return {}


def read_fingerprint(output: Folder) -> dict[str, Any]:
    """Return the fingerprint of the run that an output holds; empty if it does not say."""
    try:
        return dict(json.loads(output.read_bytes(RUN_FILE))["fingerprint"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return {}


def differing_keys(configs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the values of the ``RETRY_KEYS`` that are not the same in all ``configs``, by ``config_sha256``."""
    values: dict[str, dict[str, Any]] = {}
    for sha256, config in configs.items():
        parts = (key.split(".") for key in sorted(RETRY_KEYS))
        values[sha256] = {f"{section}.{key}": config.get(section, {}).get(key) for section, key in parts}
    same = {key for key in RETRY_KEYS if len({str(each[key]) for each in values.values()}) < 2}
    return {sha256: {k: v for k, v in each.items() if k not in same} for sha256, each in values.items()}


def describe_configs(output: Folder) -> str:
    """Say in which keys the rows of an output were made with several configurations; empty where there is one."""
    values = differing_keys(read_configs(output)).items()
    parts = (f"{', '.join(f'{k} {v}' for k, v in keys.items())} ({sha256[:8]})" for sha256, keys in values)
    return f"several, by config_sha256: {'; '.join(parts)}" if len(values) > 1 else ""


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _git_revision() -> str | None:
    """Return the commit of the checkout that this code lies in, if it lies in one."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", os.path.dirname(__file__), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None


def refuse_other_run(
    output: Folder,
    fingerprint: dict[str, Any],
    present: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    retry_keys: Collection[str] = (),
    retries: bool = False,
) -> None:
    """Raise OutputInUseError where an output was made with another fingerprint, or by somebody else.

    ``present`` gives the fingerprint of an earlier run, maybe by an older version, today's keys and values.
    ``retry_keys`` may differ if only what has failed is done again: if ``retries``.
    """
    if not output.exists(RUN_FILE):
        # A run that was killed while it planned leaves its heartbeat there, or the style of its words.
        if not output.is_empty() and not any(map(output.exists, (PROGRESS_FILE, TEXT_STYLES))):
            raise OutputInUseError(
                f"'{output.uri()}' holds files, but no {RUN_FILE} of nst-ops: take an empty folder, "
                "or --overwrite what has the same names"
            )
        return
    try:
        earlier = present(json.loads(output.read_bytes(RUN_FILE))["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise OutputInUseError(
            f"'{output.uri(RUN_FILE)}' is not a run record of nst-ops: take another output, or --overwrite"
        ) from error
    differing = [key for key in sorted({*earlier, *fingerprint}) if earlier.get(key) != fingerprint.get(key)]
    only_retries = set(differing) <= set(retry_keys)
    if differing and not (retries and only_retries):
        differences = "; ".join(f"{key} was {earlier.get(key)!r}, is now {fingerprint.get(key)!r}" for key in differing)
        retry = "Add --retry-failed to try with it what has failed, take" if only_retries else "Take"
        raise OutputInUseError(
            f"'{output.uri()}' holds another run: {differences}. {retry} another output, or --overwrite"
        )


@contextlib.contextmanager
def run_lock(output: Folder, run_id: str, every_s: float = EVERY_S) -> Iterator[Heartbeat]:
    """Hold the output for one run, and show there that it lives and how far it is.

    What the output holds must have been looked at before. Raises OutputInUseError where another run writes.
    """
    with machine_lock(output):
        refuse_live_run(output)
        heartbeat = Heartbeat(output, run_id, every_s)
        heartbeat.start()
        try:
            yield heartbeat
        except Exception as error:
            heartbeat.end("failed", str(error))
            raise
        except BaseException:
            heartbeat.end("stopped")
            raise
        heartbeat.end("finished")
        output.remove_scratch()


@contextlib.contextmanager
def machine_lock(output: Folder) -> Iterator[None]:
    """Keep other runs of this account and machine out of a local output; a killed one frees its lock.

    Raises OutputInUseError. Other accounts could not open a lock of this one: their runs are known by the heartbeat.
    """
    if not output.is_local:
        yield
        return
    output_id = hashlib.sha256(output.root.encode(errors="surrogateescape")).hexdigest()[:16]
    lock = FileLock(os.path.join(tempfile.gettempdir(), f"nst-ops-{this_account()}-{output_id}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputInUseError(f"another run is writing to '{output.uri()}': wait for it or stop it") from error
    try:
        yield
    finally:
        lock.release()


def refuse_live_run(output: Folder) -> None:
    """Watch the output for as long as it takes to see whether its run is alive; raise OutputInUseError if it is."""
    earlier = read_progress(output)
    if earlier is None or earlier.state != "running":
        return
    if output.is_local and (earlier.host, earlier.account) == (platform.node(), this_account()):
        return  # the lock has settled it
    wait_s = MISSED_BEATS * earlier.every_s
    _log.info("%s may be in use by a run on %s: watching it for %.0f s", output.uri(), earlier.host, wait_s)
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        time.sleep(earlier.every_s / 5)
        now = read_progress(output)
        if now is None or now.state != "running":
            return
        if (now.run_id, now.beat) != (earlier.run_id, earlier.beat):
            raise OutputInUseError(
                f"another run is writing to '{output.uri()}', from {now.host}: wait for it or stop it"
            )


class Heartbeat(RunStats):
    """Statistics of a run that a thread writes into the output every few seconds."""

    def __init__(self, output: Folder, run_id: str, every_s: float = EVERY_S) -> None:
        super().__init__(run_id, every_s)
        self._output, self._beat, self._warned = output, 0, False
        self._new_host: str | None = None
        """Machine of another run that has taken the output over."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Give the first heartbeat, and go on; raise OutputInUseError where another run has begun at the same time."""
        self._write("running")
        if not self._output.is_local:
            time.sleep(self.every_s / 5)  # of two that begin at once, the last to write stays
            self._look()
            self.check()
        self._thread.start()

    def check(self) -> None:
        """Raise OutputInUseError where another run has taken the output over, because this one seemed dead."""
        if self._new_host is not None:
            where = f"'{self._output.uri()}' was taken over by a run on {self._new_host}"
            raise OutputInUseError(f"{where}: let that one go on")

    def count(self, statuses: Mapping[str, int], num_images: int = 0) -> None:
        """Count rows that are settled, if the output is still this run's; see ``check``."""
        self.check()
        super().count(statuses, num_images)

    def end(self, state: State, reason: str = "") -> None:
        """Give the last heartbeat."""
        self._stop.set()
        self._thread.join()
        self._write(state, reason)

    def _run(self) -> None:
        while not self._stop.wait(self.every_s) and self._new_host is None:
            self.measure()
            self._write("running")

    def _look(self) -> None:
        """See whether the record is still this run's."""
        found = read_progress(self._output) if self._beat else None
        if found and found.run_id != self.run_id:
            self._new_host = found.host

    def _write(self, state: State, reason: str = "") -> None:
        """Write the record; a failure is no reason to stop the work."""
        # Before run.json there is nothing to see, and a bad configuration should leave no folder behind.
        if self._output.is_local and not self._output.exists(RUN_FILE):
            return
        try:
            self._look()
            if self._new_host is None:
                record = self.progress(state, reason, self._beat + 1)
                self._output.write_bytes(PROGRESS_FILE, record.model_dump_json(indent=1).encode())
                self._beat += 1
        except Exception as error:  # of any storage; the work itself will say if nothing can be written
            if not self._warned:
                _log.warning("cannot write %s: %s", self._output.uri(PROGRESS_FILE), error)
            self._warned = True
