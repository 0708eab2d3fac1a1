"""Curves of a run: written as JSON, as an image, to TensorBoard and to Weights & Biases."""

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from nst_ops.config import ConfigError
from nst_ops.media.images import UInt8Array
from nst_ops.report.loss_curve import plot_losses
from nst_ops.storage import Folder

Row = dict[str, Any]

WANDB_ID = "wandb_id.txt"
MEASURES = ("grad_norm", "learning_rate", "skipped")  # figures of a step beside its losses
_NOT_LOSSES = {*MEASURES, "images_per_s", "data_wait_share"}


@dataclass
class History:
    """Figures of every step and of every validation so far.

    A row of a step has ``step`` (int, from 1), ``total`` (weighted sum), each term (unweighted), ``grad_norm`` (before
    clipping), ``learning_rate`` and ``skipped`` (bool); None where a figure was not finite, as JSON has no name for it.
    """

    rows: list[Row] = field(default_factory=list)  # one per step
    validations: list[Row] = field(default_factory=list)  # one per validation: ``step``, ``total`` and the terms

    def append(self, step: int, figures: Mapping[str, float | bool]) -> None:
        """Keep the figures of ``step`` (counted from 1)."""
        self.rows.append({"step": step} | _rounded(figures))

    def validate(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the losses on validation images after ``step``."""
        self.validations.append({"step": step} | _rounded(figures))

    @property
    def terms(self) -> list[str]:
        """Terms of the loss, in the order of the figures."""
        return list(dict.fromkeys(key for row in self.rows for key in row if key not in ("step", "total", *MEASURES)))

    @property
    def skipped(self) -> int:
        """Number of steps that changed nothing, as they were not finite."""
        return sum(bool(row.get("skipped")) for row in self.rows)

    def recent(self, key: str, steps: int = 25) -> float:
        """Return the mean of ``key`` over the last finite steps; single steps vary. NaN if there is none."""
        finite = (row[key] for row in reversed(self.rows) if not row.get("skipped") and row.get(key) is not None)
        values = list(islice(finite, steps))
        return sum(values) / len(values) if values else math.nan

    def write(self, folder: Path) -> None:
        """Write ``losses.json`` (``{"train": rows, "validation": rows}``) and ``losses.png``."""
        files = Folder(str(folder))
        with files.atomic_write("losses.json") as temporary:
            temporary.write_text(json.dumps({"train": self.rows, "validation": self.validations}))
        with files.atomic_write("losses.png") as temporary:
            plot_losses(temporary, self.terms, self.rows, self.validations)


def _rounded(figures: Mapping[str, float | bool]) -> Row:
    """Round to five digits; None for what is not finite."""
    numbers = {key: float(f"{value:.5g}") if math.isfinite(value) else None for key, value in figures.items()}
    return numbers | {key: value for key, value in figures.items() if isinstance(value, bool)}


def check_wandb(project: str | None) -> None:
    """Raise ConfigError if a Weights & Biases project is asked for and its package is missing; cheap, to call early."""
    if project is None:
        return
    try:
        import wandb  # noqa: F401  # an optional package
    except ImportError as error:
        reason = f"but Weights & Biases cannot be imported ({error}): pip install wandb, or leave the key out"
        raise ConfigError(f"tracking.wandb_project is '{project}', {reason}") from error


class Tracking:
    """Writer of the figures of a run to ``folder/tensorboard``, and to Weights & Biases if ``wandb_project`` is given.

    A run that goes on after ``step`` writes into the same curves and the same W&B run, named in ``wandb_id.txt``:
    figures logged after the checkpoint it goes on from are not shown twice. W&B shows ``config``, which must hold no
    paths of this machine. Raises ConfigError if W&B is asked for and cannot be used.
    """

    def __init__(self, folder: Path, step: int, wandb_project: str | None, run_name: str, config: Row) -> None:
        check_wandb(wandb_project)
        # Names of event files differ by the second only: the suffix keeps a quick second run from overwriting the
        # first. TensorBoard drops older events from purge_step on.
        events, suffix = str(folder / "tensorboard"), f".{step:08d}"
        self._board = SummaryWriter(events, purge_step=step + 1, flush_secs=10, filename_suffix=suffix)
        self._wandb: Any = None
        if wandb_project is not None:
            self._wandb = _start_wandb(folder, wandb_project, run_name, config)
            self._wandb_from: int = self._wandb.step  # a round trip, so asked once

    def log(self, step: int, figures: Mapping[str, float | bool]) -> None:
        """Write the figures of ``step``, which must not fall, as ``loss/<term>`` and ``train/<measure>``."""
        group = {key: "train" if key in _NOT_LOSSES else "loss" for key in figures}
        self._scalars(step, {f"{group[key]}/{key}": value for key, value in figures.items()})

    def validation(self, step: int, losses: Mapping[str, float], grid_hwc: UInt8Array | None = None) -> None:
        """Write ``validation/<term>``, and the grid (uint8 (H, W, 3)) as ``validation/grid``."""
        self._scalars(step, {f"validation/{key}": value for key, value in losses.items()})
        if grid_hwc is None:
            return
        self._board.add_image("validation/grid", grid_hwc, step, dataformats="HWC")
        if self._logs_to_wandb(step):
            import wandb

            self._wandb.log({"validation/grid": wandb.Image(grid_hwc)}, step=step)

    def flush(self) -> None:
        """Write TensorBoard's events to disk, but for the last few on their way there."""
        self._board.flush()

    def close(self, failed: bool = False) -> None:
        """Write all remaining events; ``failed`` marks the W&B run as crashed."""
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=int(failed))

    def _scalars(self, step: int, scalars: Mapping[str, float | bool]) -> None:
        for tag, value in scalars.items():
            self._board.add_scalar(tag, float(value), step)
        if self._logs_to_wandb(step):
            self._wandb.log({tag: float(value) for tag, value in scalars.items()}, step=step)

    def _logs_to_wandb(self, step: int) -> bool:
        """Return whether W&B lacks ``step``: it keeps the first figures of a step and warns of others."""
        return self._wandb is not None and step >= self._wandb_from


def _start_wandb(folder: Path, project: str, run_name: str, config: dict[str, Any]) -> Any:
    import wandb

    # An id in the folder, not one made of the name: two folders may have one name, and a folder that was emptied to
    # start anew must not go on with the old curves.
    kept = folder / WANDB_ID
    if not kept.exists():
        with Folder(str(folder)).atomic_write(WANDB_ID) as temporary:
            temporary.write_text(uuid.uuid4().hex)
    # Neither the machine nor its paths, code and git remote are anyone's business.
    private = {"host": "worker", "disable_git": True, "disable_code": True}
    private |= {"x_disable_meta": True, "x_disable_machine_info": True}
    settings = wandb.Settings(console="off", **private)
    known = {"project": project, "name": run_name, "id": kept.read_text().strip(), "config": config}
    try:
        return wandb.init(**known, resume="allow", dir=str(folder), settings=settings)
    except wandb.errors.Error as error:
        remedy = "wandb login, or leave tracking.wandb_project out"
        raise ConfigError(f"Weights & Biases cannot be used: {error}; {remedy}") from error
