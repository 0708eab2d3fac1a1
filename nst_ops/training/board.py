"""How far the workers are, where the driver can see it."""

from __future__ import annotations

from typing import Any

import ray


class _BoardActor:
    def __init__(self) -> None:
        self.latest: dict[str, Any] = {}

    def put(self, latest: dict[str, Any]) -> None:
        self.latest = latest

    def get(self) -> dict[str, Any]:
        return self.latest


class Board:
    """The latest report of a run; cheap to hand to workers."""

    def __init__(self) -> None:
        self._actor: Any = ray.remote(num_cpus=0)(_BoardActor).remote()

    def put(self, latest: dict[str, Any]) -> None:
        """Say how far the run is; does not wait."""
        self._actor.put.remote(latest)

    def get(self) -> dict[str, Any]:
        """The last that was said; empty before the first."""
        latest: dict[str, Any] = ray.get(self._actor.get.remote())
        return latest
