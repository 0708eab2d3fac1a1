"""The protocol of an executor: pending units in, outcomes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from nst_ops.collection.progress import Totals
from nst_ops.collection.units import WorkUnit
from nst_ops.config import ModelConfig
from nst_ops.pipeline.run_spec import RunSpec
from nst_ops.pipeline.worker import UnitResult
from nst_ops.stylizers.registry import ModelKind

R = TypeVar("R")


DIES_AT_START = (
    "the worker process dies while it loads the model, most likely for lack of memory: "
    "take fewer workers (--workers.count 1) or a smaller model"
)


@dataclass(frozen=True)
class LostUnit:
    """A unit whose worker died before it could report a result."""

    unit_id: str
    node_died: bool = False  # whether the whole machine was lost: then the unit is not the suspect
    timed_out: bool = False  # whether the worker was ended because the unit made no progress


Outcome = UnitResult | LostUnit


class PendingUnits(Protocol):
    """The units that a run has not settled yet: an executor takes them one by one."""

    def take(self) -> WorkUnit | None:
        """Return the next unit; None where none is at hand, but one may come back from a worker."""

    @property
    def finished(self) -> bool:
        """Whether there is none at hand, and none at work that could come back."""

    at_most: int | None  # number of units, so that no worker starts for nothing; None where nobody knows


class Executor(Protocol):
    """Runs units on worker processes, each unit in one of them; a context manager: leaving it ends them.

    An executor never tries a unit again: it reports it as lost, and the run decides.
    """

    @property
    def num_workers(self) -> int:
        """Workers that the run begins with."""

    @property
    def num_gpus(self) -> int:
        """GPUs of this machine, or of the cluster."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, spec: RunSpec, pending: PendingUnits) -> Iterator[Outcome]:
        """Run units until ``pending`` is finished; yield their outcomes as they come, in any order.

        An outcome is settled, and perhaps adds to ``pending``, before the next one is asked for. Raises FatalError
        if no worker could start, or the executor itself was lost.
        """

    def call(
        self, function: Callable[..., R], *args: object, gpu: bool = False, limit_s: float | None = None
    ) -> R | None:
        """Call an importable function in a process apart, on a GPU if wanted.

        Returns None if it killed that, or took longer than ``limit_s``.
        """

    def load_model(self, kind: ModelKind, model: ModelConfig, alpha: float) -> ModelConfig:
        """Load a model once, to see whether it does: in a process where the workers are on this machine, else here.

        Returns its configuration, with what the weights say in the place of what was left open.

        Raises OSError or ValueError where it does not, and FatalError where it kills the process.
        """
        ...

    def totals(self) -> Totals:
        """Return what the workers have done so far, units at work included."""
