"""Batches of images as a GPU gets them, here on a CPU: of one size each, and every result where its image was."""

from pathlib import Path

import numpy as np
import pytest
from job_runner import check_invariants
from PIL import Image
from planning import spec_of, units_of

from nst_ops.config import StylizeConfig
from nst_ops.pipeline.worker import Worker

SIZES = [(40, 32), (32, 48), (40, 32), (24, 24), (32, 48), (40, 32), (32, 48), (40, 32)]


class Batches:
    """A stylizer that notes the shapes it is called with, and turns light into dark."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, frames_nhwc: np.ndarray, styles: object = ()) -> np.ndarray:
        self.shapes.append(frames_nhwc.shape[:3])
        return 255 - frames_nhwc


def worker_of(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch, **model: object
) -> tuple[Worker, Batches]:
    """Make a worker as on a GPU, for images of several sizes in turn and one that is broken."""
    source = tmp_path / "in"
    source.mkdir()
    for number, (height, width) in enumerate(SIZES):
        Image.new("RGB", (width, height), (number, 10 * number, 0)).save(source / f"{number}.png")
    (source / "3b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    paths = {"input": str(source), "output": str(tmp_path / "out")}
    worker = Worker(spec_of(StylizeConfig(**paths, model={"checkpoint": str(network), "device": "cpu", **model})))
    worker.on_gpu, stylizer = True, Batches()
    monkeypatch.setattr(worker, "_is_single", lambda height, width: False)
    worker.stylizer = stylizer
    return worker, stylizer


def test_images_of_one_size_are_stylized_at_once(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, stylizer = worker_of(tmp_path, network, monkeypatch)
    (unit,) = units_of(worker)
    result = worker(unit)
    assert result.statuses == {"ok": len(SIZES), "failed": 1}
    assert sorted(stylizer.shapes) == [(1, 24, 24), (3, 32, 48), (4, 40, 32)]
    check_invariants(tmp_path / "out")
    for number, (height, width) in enumerate(SIZES):
        image = Image.open(tmp_path / "out" / f"{number}.png")
        assert (image.height, image.width) == (height, width)
        assert image.getpixel((5, 5)) == (255 - number, 255 - 10 * number, 255)


def test_a_batch_size_that_is_given_is_kept(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, stylizer = worker_of(tmp_path, network, monkeypatch, batch_size=2)
    (unit,) = units_of(worker)
    assert worker(unit).statuses["ok"] == len(SIZES)
    assert max(count for count, _, _ in stylizer.shapes) <= 2


def test_small_images_fill_a_gpu(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, _ = worker_of(tmp_path, network, monkeypatch)
    sizes = {(256, 256): 31, (89, 109): 64, (480, 852): 5, (1080, 1920): 4, (2160, 3840): 4}
    assert {size: worker.batch_size(*size) for size in sizes} == sizes
    worker.on_gpu = False
    assert {worker.batch_size(*size) for size in sizes} == {4}
