"""Whole runs with the network of an ONNX file: images, shards and videos, here and on Ray."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from job_runner import check_invariants, read_manifest, run_job
from media_factory import decoded, moving_frames, natural_image, psnr, write_video
from PIL import Image
from shard_factory import image_bytes, pixels, read_tar, write_tar

pytest.importorskip("onnxruntime")
import onnx
from onnx_factory import Graph, expected, image_input, write_network


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "net.onnx", "nhwc", "byte", "symmetric", stride=4)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    natural_image("coffee", 150, 101).save(folder / "coffee.png")
    natural_image("astronaut", 96, 96).save(folder / "astronaut.png")
    write_video(folder / "clip.mp4", moving_frames(6, 96, 64))
    write_tar(folder / "some.tar", [("a.png", image_bytes(1)), ("b.png", image_bytes(2, size=(80, 70)))])
    return folder


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_a_run_stylizes_images_shards_and_videos(
    source: Path, network: Path, tmp_path: Path, executor: str, request: pytest.FixtureRequest
) -> None:
    output = tmp_path / "out"
    arguments = "--model.checkpoint", str(network), "--temporal.mode", "none", "--report.pairs", "0"
    address = request.getfixturevalue("cluster") if executor == "ray" else ""
    done = run_job(source, output, *arguments, ray_address=address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{network}: found by trying" in done.stderr
    assert "--model.onnx.layout nhwc --model.onnx.input_range byte --model.onnx.output_range symmetric" in done.stderr
    assert len([row for row in read_manifest(output) if row["status"] == "ok"]) == 5
    for name in ("coffee.png", "astronaut.png"):
        stylized = np.asarray(Image.open(output / name))
        difference = stylized.astype(int) - expected(np.asarray(Image.open(source / name).convert("RGB")))
        assert np.abs(difference).max() <= 1
    members = read_tar(output / "some.tar")
    assert np.abs(pixels(members["b.png"]).astype(int) - expected(pixels(image_bytes(2, size=(80, 70))))).max() <= 1
    frames = [frame.to_ndarray(format="rgb24") for frame in decoded(output / "clip.mp4")]
    sources = [frame.to_ndarray(format="rgb24") for frame in decoded(source / "clip.mp4")]
    assert min(psnr(made, expected(given)) for made, given in zip(frames, sources, strict=True)) > 28
    # What was found is recorded, and a run that gives it goes on with this one.
    found = json.loads((output / "run.json").read_text())["config"]["model"]["onnx"]
    assert found == {
        "layout": "nhwc", "input_range": "byte", "output_range": "symmetric", "channels": "rgb", "stride": 4
    }  # fmt: skip
    keys = [text for key, value in found.items() for text in (f"--model.onnx.{key}", str(value))]
    again = run_job(source, output, *arguments, *keys, ray_address=address)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "found by trying" not in again.stderr
    assert "4 done before" in again.stdout + again.stderr


def test_a_dry_run_loads_the_network_and_writes_nothing(source: Path, network: Path, tmp_path: Path) -> None:
    done = run_job(source, tmp_path / "out", "--model.checkpoint", str(network), "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "net (onnx)" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_network_that_fails_on_an_image_costs_that_alone(source: Path, tmp_path: Path) -> None:
    natural_image("coffee", 40, 320).save(source / "high.png")
    graph = Graph()
    height = graph.node("Gather", graph.node("Shape", "image"), graph.weight(np.int64(2)))
    zero = graph.node("Gather", graph.weight(np.zeros(300, np.float32)), height)  # of heights below 300
    path = graph.save(tmp_path / "net.onnx", [image_input()], graph.node("Add", "image", zero))
    done = run_job(source, tmp_path / "out", "--model.checkpoint", str(path), "--report.pairs", "0")
    assert done.returncode == 3, done.stdout + done.stderr
    rows = {
        str(row["source_member"] or row["source_uri"]).rsplit("/", 1)[-1]: row
        for row in read_manifest(tmp_path / "out")
    }
    failed = rows.pop("high.png")
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert (failed["status"], failed["error_type"], failed["attempts"]) == ("failed", "NetworkError", 1)
    assert "the network failed on 64x320 pixels" in str(failed["error_message"])


def test_a_network_that_cannot_be_used_ends_the_run_at_once(source: Path, tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].domain = "my.company"
    onnx.save(model, str(path))
    done = run_job(source, tmp_path / "out", "--model.checkpoint", str(path))
    assert done.returncode == 2
    assert "net.onnx: needs the custom operator my.company." in done.stderr
    assert "Traceback" not in done.stderr
    assert not check_invariants(tmp_path / "out")
