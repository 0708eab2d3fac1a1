"""Ray clusters, for ``pipeline`` and ``training`` only: find, join or start one, and what it has. Imports Ray late."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from nst_ops.config.errors import ConfigError, FatalError

_log = logging.getLogger(__name__)

_ANSWER_S = 2.0  # seconds that the head of a cluster has to accept a connection


def cluster_at_hand(ray_address: str) -> bool:
    """Return whether ``ray_address`` leads to a Ray cluster, without starting one or importing Ray.

    An address counts as it is, ``local`` never; ``auto`` if Ray is connected in this process, RAY_ADDRESS is set (as
    inside ``ray job submit``), or a head or node that ``ray start`` left on this machine answers.
    """
    if ray_address != "auto":
        return ray_address != "local"
    ray = sys.modules.get("ray")
    return bool(ray and ray.is_initialized()) or _find_cluster() is not None


def _find_cluster() -> str | None:
    """Return the address that Ray's own ``auto`` would take, if something answers there.

    Ray also takes the private Ray of any other program, which ends with that program: here only what ``ray start``
    left counts. And it waits half a minute for a head that has died.
    """
    if given := os.environ.get("RAY_ADDRESS"):
        return None if given == "local" else given
    folder = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")
    addresses = []
    with contextlib.suppress(OSError):
        addresses = [(folder / "ray_current_cluster").read_text().strip()]
    return next((address for address in [*addresses, *_nodes_here()] if _answers(address)), None)


def _nodes_here() -> Iterator[str]:
    """Yield the clusters whose nodes run here, such as those started with ``--temp-dir``."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if os.path.basename(command[0]) != "raylet":
            continue
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            started_by = parent.cmdline() if parent else []
            if "python" in "".join(started_by[:1]) and "start" not in started_by:
                continue  # the private Ray of another program
        yield from (arg.partition("=")[2] for arg in command if arg.startswith("--gcs-address="))


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError):
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        return True
    return False


@contextlib.contextmanager
def connected(address: str) -> Iterator[bool]:
    """Join the cluster at ``address`` (``auto``: the one at hand, or a new one here) and leave it again.

    Yields whether Ray was started here, so that no more nodes can come. Raises ConfigError if there is no Ray at
    ``address``, FatalError if Ray does not start on this machine.
    """
    import ray

    if ray.is_initialized():  # the caller's own; not ours to stop
        yield False
        return
    _log.info("connecting to Ray ...")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if address == "auto":
        address = _find_cluster() or "local"
    _start(address)
    if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # the caller's way to stop; Ray has put its own there
    try:
        yield address == "local"
    finally:
        ray.shutdown()


def _start(address: str) -> None:
    """Join ``address`` or start Ray here, in two tries: a busy machine may miss Ray's own limit of 30 s."""
    import ray

    where = f"no Ray at '{address}'"
    check = "check ray_address and RAY_ADDRESS, or take --executor local"
    if address != "local" and "://" not in address and not _answers(address):
        raise ConfigError(f"{where}: nothing answers there; {check}")  # Ray would try for half a minute
    dashboard = False if address == "local" else None  # takes seconds to start, and a run here shows its progress
    for attempt in (1, 2):
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=dashboard)
            break
        except (OSError, RuntimeError, ValueError) as error:  # ConnectionError and TimeoutError are OSErrors
            ray.shutdown()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if attempt == 1 and not isinstance(error, ValueError):
                _log.warning("Ray did not start (%s): trying once more", reason)
            elif address == "local":
                advice = "try again when it is less busy, or take --executor local, which needs no Ray"
                raise FatalError(f"Ray does not start on this machine ({reason}): {advice}") from error
            else:
                raise ConfigError(f"{where}: {reason}; {check}") from error
    if address != "local":
        _log.info("joined the Ray cluster at %s", ray.get_runtime_context().gcs_address)


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has for workers."""

    node_id: str
    cpus: float
    gpus: float


def nodes() -> list[Node]:
    """Return the nodes that are alive."""
    import ray

    alive = ((node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"])
    return [Node(node_id, resources.get("CPU", 0), resources.get("GPU", 0)) for node_id, resources in alive]


def num_gpus() -> int:
    """Return the number of GPUs of the cluster."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def num_cpus() -> int:
    """Return the number of CPU cores of the cluster that tasks and workers may take."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def num_nodes() -> int:
    """Return the number of nodes that are alive, at least 1."""
    return max(1, len(nodes()))


def cores_per_node() -> int:
    """Return the number of CPU cores of this node, which stands for all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
