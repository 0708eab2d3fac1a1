"""The time that a dry run lets expect: without what only a first call costs, and with all that the cores have to do."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from job_runner import write_image
from planning import plan_of, spec_of

from nst_ops.config import StylizeConfig
from nst_ops.media.images import UInt8Array
from nst_ops.pipeline.dry_run import _measure, _pace_s
from nst_ops.pipeline.worker import Worker
from nst_ops.stylizers import Style
from nst_ops.stylizers.registry import KINDS, ModelKind

FIRST_S, BUSY_S = 2.0, 0.2


class SlowAtFirst:
    """Changes nothing; takes long the first time, as a network that chooses its kernels, and then some CPU time."""

    def __init__(self) -> None:
        self.is_first = True

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        if self.is_first:
            time.sleep(FIRST_S)
        self.is_first = False
        until = time.process_time() + BUSY_S
        while time.process_time() < until:
            np.sqrt(np.arange(1000.0))
        return frames_nhwc


def test_the_first_call_of_a_network_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ModelKind("slow_at_first", lambda model, alpha: SlowAtFirst(), uses_device=False)
    monkeypatch.setitem(KINDS, kind.name, kind)
    write_image(tmp_path / "in" / "a.png", 64, 64)
    paths = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out")}
    worker = Worker(spec_of(StylizeConfig(**paths, model={"kind": kind.name})))
    cost = _measure(worker.run_spec, plan_of(worker).sample("image", 1), "image")
    assert cost is not None
    assert BUSY_S / 2 <= cost.seconds * 64 * 64 < FIRST_S


def test_stages_side_by_side_take_as_long_as_the_longest_or_as_all_cores() -> None:
    assert _pace_s([1.0, 5.0, 2.0], 8.0, cores=8) == 5.0
    assert _pace_s([1.0, 5.0, 2.0], 14.0, cores=2) == 7.0
    assert _pace_s([1.0], 0.0, cores=None) == 1.0
