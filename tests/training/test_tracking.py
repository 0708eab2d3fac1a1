"""What TensorBoard and Weights & Biases would show of a run, read back from their files."""

import io
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from nst_ops.config import ConfigError
from nst_ops.training.tracking import Tracking, check_wandb

FIGURES = {"total": 3.0, "gram": 0.25, "learning_rate": 0.5, "skipped": True, "images_per_s": 8.0}


def events(folder: Path) -> Iterator[Event]:
    """Every event, in the order in which TensorBoard reads the files."""
    for path in sorted((folder / "tensorboard").glob("*tfevents*")):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (size,) = struct.unpack_from("<Q", data, start)
            yield Event.FromString(data[start + 12 : start + 12 + size])  # length, its CRC, event, its CRC
            start += 12 + size + 4


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves, with what a restart made stale dropped as TensorBoard does."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            for tag in curves:
                curves[tag] = [point for point in curves[tag] if point[0] < event.step]
        for value in event.summary.value:
            curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def test_figures_come_under_their_names(tmp_path):
    with closing(Tracking(tmp_path, 0, None, "run", {})) as tracking:
        tracking.log(10, FIGURES)
        tracking.log(20, FIGURES | {"total": float("nan")})
        tracking.validation(20, {"total": 2.0, "gram": 0.5})
    curves = shown(tmp_path)
    assert curves["loss/gram"] == [(10, 0.25), (20, 0.25)]
    assert curves["loss/total"][0] == (10, 3.0)
    assert np.isnan(curves["loss/total"][1][1])
    assert curves["train/learning_rate"] == [(10, 0.5), (20, 0.5)]
    assert curves["train/images_per_s"] == [(10, 8.0), (20, 8.0)]
    assert curves["train/skipped"] == [(10, 1.0), (20, 1.0)]
    assert curves["validation/total"] == [(20, 2.0)]
    assert not any(tag.startswith("loss/") and tag[5:] not in ("total", "gram") for tag in curves)


def test_the_grid_is_an_image(tmp_path):
    grid = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with closing(Tracking(tmp_path, 0, None, "run", {})) as tracking:
        tracking.validation(5, {"total": 2.0}, grid)
    values = [(event.step, value) for event in events(tmp_path) for value in event.summary.value]
    ((step, png),) = [(step, value.image) for step, value in values if value.tag == "validation/grid"]
    assert step == 5
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png.encoded_image_string))), grid)


@pytest.mark.parametrize("done", [0, 5])
def test_a_run_that_goes_on_does_not_double_its_curves(done, tmp_path):
    """It was killed at step 8, its last checkpoint is of step ``done``."""
    with closing(Tracking(tmp_path, 0, None, "run", {})) as tracking:
        for step in range(1, 9):
            tracking.log(step, {"total": 1.0})
    with closing(Tracking(tmp_path, done, None, "run", {})) as tracking:
        for step in range(done + 1, 11):
            tracking.log(step, {"total": 2.0})
    points = shown(tmp_path)["loss/total"]
    assert [step for step, _ in points] == list(range(1, 11))
    assert [value for _, value in points] == [1.0] * done + [2.0] * (10 - done)


def test_flushed_figures_are_on_disk_before_the_end(tmp_path):
    with closing(Tracking(tmp_path, 0, None, "run", {})) as tracking:
        for step in range(200):
            tracking.log(step, FIGURES)
        tracking.flush()
        assert len(shown(tmp_path)["loss/total"]) > 100


def test_wandb_that_is_missing_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_wandb(None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        check_wandb("styles")
    with pytest.raises(ConfigError, match="pip install wandb"):
        Tracking(tmp_path, 0, "styles", "run", {})


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_wandb("styles")
    ids = []
    for done in (0, 1):
        with closing(Tracking(tmp_path, done, "styles", "klimt", {"train": {"steps": 2}})) as tracking:
            tracking.log(done + 1, FIGURES)
            tracking.validation(done + 1, {"total": 2.0}, np.zeros((8, 8, 3), np.uint8))
            ids.append(tracking._wandb.id)
    assert ids[0] == ids[1] == (tmp_path / "wandb_id.txt").read_text()
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) >= 1
    assert not list((tmp_path / "wandb").rglob("wandb-metadata.json"))  # host, user, paths
    assert len(shown(tmp_path)["loss/total"]) == 2
