"""Recorder of a run: curves, grids, the checkpoint, its card, and the state to go on from."""

import json
import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from nst_ops.config import TrainingConfig
from nst_ops.media.images import UInt8Array
from nst_ops.models.checkpoint import save_checkpoint
from nst_ops.storage import Folder
from nst_ops.storage.base import storage_full_errors
from nst_ops.training.checkpointing import CARD, MODEL, write_state
from nst_ops.training.grid import ValidationImages, png_bytes
from nst_ops.training.loop import Recorder, Speed
from nst_ops.training.model_card import model_card
from nst_ops.training.step import StepFigures, TrainingStep
from nst_ops.training.tracking import WANDB_ID, History, Tracking

Report = Callable[[dict[str, Any]], None]
_REPORT_EVERY_S = 0.5
_TRACK_EVERY = 10


@dataclass(eq=False)
class RunRecorder(Recorder):
    """Recorder of a run in its output folder; for the first worker."""

    config: TrainingConfig
    training: TrainingStep
    shown: ValidationImages  # images of the grid, on which validation losses are measured
    facts: dict[str, Any]  # those known before the run starts, for checkpoint and card
    state: InitVar[dict[str, Any] | None]  # what the run goes on from, as ``save`` wrote it
    report: Report  # gets {"since", "step", "losses", "images_per_s"} twice a second, see ``ProgressTracker``

    def __post_init__(self, state: dict[str, Any] | None) -> None:
        self.facts = (json.loads(state["facts"]) if state else {}) | self.facts
        self.output = Folder(self.config.output)
        self.history = History(**json.loads(state["history"])) if state else History()
        self.spent_s: float = state["spent_s"] if state else 0.0
        self._started, self._reported = time.monotonic(), 0.0
        self._since: int = state["done"] if state else 0
        self._grid: UInt8Array | None = None
        self._validation: dict[str, float] = {}
        # Event files grow line by line, which an object store cannot do: they are copied at each save.
        self._local = Path(self.output.root if self.output.is_local else tempfile.mkdtemp(prefix="nst-ops-"))
        self._local.mkdir(parents=True, exist_ok=True)
        if not self.output.is_local and self.output.exists(WANDB_ID):
            (self._local / WANDB_ID).write_bytes(self.output.read_bytes(WANDB_ID))
        self._name, project = self.config.output.rstrip("/").rsplit("/", 1)[-1], self.config.tracking.wandb_project
        self._tracking = Tracking(self._local, self._since, project, self._name, self.facts.get("recipe", {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._tracking.close(failed=kind is not None)
        if not self.output.is_local:
            if kind is None:
                self._upload()  # the last events were still on their way to the file
            shutil.rmtree(self._local, ignore_errors=True)

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        """Keep the figures of a step, and report now and then how far the run is."""
        self.history.append(number, figures.flat())
        if number % _TRACK_EVERY == 0 or number == self.config.train.steps:
            self._tracking.log(number, {**figures.flat(), "images_per_s": speed.images_per_s})
        now = time.monotonic()
        if now - self._reported > _REPORT_EVERY_S or number == self.config.train.steps:
            self._reported = now
            losses = {term: self.history.recent(term) for term in figures.terms}
            self.report({"since": self._since, "step": number, "losses": losses, "images_per_s": speed.images_per_s})

    def validate(self, number: int) -> float:
        """Measure the losses of the averaged network on the validation images, and draw them as a grid."""
        self._validation, self._grid = self.training.validate(self.shown, f"step {number}")
        self.history.validate(number, self._validation)
        self._tracking.validation(number, self._validation, self._grid)
        return self._validation["total"]

    def save(self, number: int, state: dict[str, Any], speed: Speed) -> None:
        """Write the checkpoint, its card, grid and curves, and last the state to go on from."""
        self.facts |= self._measured(number, speed)
        with storage_full_errors(self.output.uri()):
            with self.output.atomic_write(MODEL) as temporary:
                network, styles = self.training.result()
                save_checkpoint(temporary, network, self.facts, styles)
            assert self._grid is not None, "validate before save"
            self.output.write_bytes("grid.png", png := png_bytes(self._grid))
            self.output.write_bytes(f"grids/{number:06d}.png", png)
            self.output.write_bytes(CARD, model_card(self._name, self.facts).encode())
            self.history.write(self._local)
            self._tracking.flush()
            if not self.output.is_local:
                self._upload()
            history = json.dumps({"rows": self.history.rows, "validations": self.history.validations})
            facts = json.dumps(self.facts, sort_keys=True)
            write_state(self.output, {**state, "history": history, "spent_s": self._spent(), "facts": facts})

    def _measured(self, number: int, speed: Speed) -> dict[str, Any]:
        """Return losses, speed and software so far."""
        cuda = self.training.device.type == "cuda"
        network, _ = self.training.result()
        return {
            "steps": number,
            "steps_skipped": self.history.skipped,
            "losses": _rounded({term: self.history.recent(term) for term in self.history.terms}),
            "validation": _rounded(self._validation),
            "images_per_s": float(f"{speed.images_per_s:.4g}"),
            "data_wait_share": float(f"{speed.data_wait_share:.3g}"),
            "train_s": round(self._spent()),
            "architecture": network.architecture,
            "parameters": sum(weights.numel() for weights in network.parameters()),
            "workers": self.training.ranks.world,
            "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
            "precision": self.training.precision.name,
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        }

    def _spent(self) -> float:
        return self.spent_s + time.monotonic() - self._started

    def _upload(self) -> None:
        for path in sorted(self._local.rglob("*")):
            relpath = path.relative_to(self._local).as_posix()
            if path.is_file() and not relpath.startswith("wandb/"):  # W&B's own logs, with paths in them
                self.output.write_bytes(relpath, path.read_bytes())


def _rounded(losses: Mapping[str, float]) -> dict[str, float]:
    """Round to five digits, and leave out what is not finite: JSON has no such numbers."""
    return {term: float(f"{value:.5g}") for term, value in losses.items() if math.isfinite(value)}
