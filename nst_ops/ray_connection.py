"""Ray: join a cluster or start one, and what it has. Only ``pipeline`` and ``training`` may use this."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.fs
import ray

from nst_ops.config import ConfigError
from nst_ops.storage import Folder

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def connected(address: str) -> Iterator[bool]:
    """Join the cluster at ``address`` (``auto``: the one at hand, or a new one here) and leave it again.

    Yields:
        Whether Ray was started here, so that no more nodes can come.
    """
    if ray.is_initialized():  # the caller's own; not ours to stop
        yield False
        return
    _log.info("connecting to Ray ...")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    started = _connect(address)
    if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # the caller's way to stop; Ray has put its own there
    try:
        yield started
    finally:
        ray.shutdown()


def _connect(address: str) -> bool:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "auto":
        try:
            context: Any = ray.init(address="auto", **quiet)
            _log.info("joined the Ray cluster at %s", context.address_info["gcs_address"])
            return False
        except ConnectionError:
            address = "local"
    if address == "local":
        # No dashboard: it takes seconds to start and a laptop run has its own progress bar.
        quiet["include_dashboard"] = False
    try:
        ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise ConfigError(f"no Ray at '{address}': {str(error).splitlines()[0]}") from error
    return address == "local"


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has for workers."""

    node_id: str
    cpus: float
    gpus: float


def nodes() -> list[Node]:
    """The nodes that are alive."""
    return [
        Node(node["NodeID"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def num_gpus() -> int:
    """GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def num_cpus() -> int:
    """CPU cores of the cluster that tasks and workers may take."""
    return int(ray.cluster_resources().get("CPU", 0))


def num_nodes() -> int:
    """Nodes of the cluster."""
    return max(1, sum(bool(node["Alive"]) for node in ray.nodes()))


def cores_per_node() -> int:
    """CPU cores of this node, which stands for all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pyarrow_filesystem(folder: Folder) -> pyarrow.fs.FileSystem | None:
    """How Ray Train and Tune reach ``folder``: through fsspec, whose settings pyarrow alone would ignore."""
    return None if folder.is_local else pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(folder.fs))
