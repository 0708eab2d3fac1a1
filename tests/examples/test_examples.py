"""The examples do what they say, on tiny collections, in workers of this machine."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runner import ROOT, read_manifest, write_image
from PIL import Image
from s3_server import S3Server, reached_by
from shard_factory import image_bytes, pixels, write_hf_parquet

from nst_ops.config import ModelConfig
from nst_ops.storage import Folder
from nst_ops.stylizers.registry import KINDS, Stylizer


def run_example(name: str, *arguments: object) -> int:
    main: Any = runpy.run_path(str(ROOT / "examples" / name))["main"]
    return main([str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images."""
    for number in range(2):
        write_image(tmp_path / "in" / f"{number}.png", seed=number)
    return tmp_path / "in"


@pytest.fixture
def inverter(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inverter in the place of the networks, whose start takes seconds."""

    def load(model: ModelConfig, alpha: float) -> Stylizer:
        return lambda frames_nhwc, styles=(): 255 - frames_nhwc

    for name in ("johnson", "any_style"):
        kind = replace(KINDS[name], load=load, weights_key="", uses_device=False)
        monkeypatch.setitem(KINDS, name, kind)


@pytest.mark.usefixtures("inverter")
def test_a_folder_is_stylized_and_failures_are_listed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "broken.jpg").write_bytes(b"no image")
    assert run_example("stylize_folder.py", source, tmp_path / "out") == 3
    rows = {Path(row["source_uri"]).name: row["status"] for row in read_manifest(tmp_path / "out")}
    assert rows == {"0.png": "ok", "1.png": "ok", "broken.jpg": "failed"}
    assert "broken.jpg: failed, " in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_is_stylized_by_the_network(source: Path, tmp_path: Path) -> None:
    assert run_example("stylize_folder.py", source, tmp_path / "out") == 0
    for path in source.iterdir():
        assert (pixels((tmp_path / "out" / path.name).read_bytes()) != pixels(path.read_bytes())).any()


@pytest.mark.usefixtures("inverter")
def test_a_parquet_keeps_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [image_bytes(seed) for seed in range(3)]
    write_hf_parquet(tmp_path / "in" / "train.parquet", images, label=pa.array([4, 5, 6]))
    assert run_example("hugging_face_parquet.py", tmp_path / "in", tmp_path / "out") == 0
    written = pq.read_table(tmp_path / "out" / "train.parquet")
    assert written["label"].to_pylist() == [4, 5, 6]
    for before, after in zip(images, written["image"].to_pylist(), strict=True):
        assert (pixels(after["bytes"]) == 255 - pixels(before)).all()
    assert "3 rows of image, label" in capsys.readouterr().out


@pytest.mark.s3
def test_a_bucket_is_stylized_into_a_bucket(s3: S3Server, source: Path) -> None:
    bucket = s3.new_bucket()
    with reached_by(s3.endpoint):
        for path in source.iterdir():
            Folder(f"{bucket}/in").write_bytes(path.name, path.read_bytes())
        keys = ("--endpoint", s3.endpoint, "--kind", "identity")
        assert run_example("bucket.py", f"{bucket}/in", f"{bucket}/out", *keys) == 0
        output = Folder(f"{bucket}/out")
        for path in source.iterdir():
            assert (pixels(output.read_bytes(path.name)) == pixels(path.read_bytes())).all()


@pytest.fixture
def styles(tmp_path: Path) -> Path:
    """Two style images."""
    for number, name in enumerate(("moss", "waves")):
        write_image(tmp_path / "styles" / f"{name}.png", seed=10 + number)
    return tmp_path / "styles"


@pytest.mark.usefixtures("inverter")
def test_every_input_comes_out_in_every_style(
    source: Path, styles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_example("several_styles.py", source, styles, tmp_path / "out") == 0
    outputs = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert {f"{style}/{n}.png" for style in ("moss", "waves") for n in range(2)} <= outputs
    assert "moss: 2 ok\nwaves: 2 ok" in capsys.readouterr().out


def test_styles_differ_by_the_network(source: Path, styles: Path, tmp_path: Path) -> None:
    assert run_example("several_styles.py", source, styles, tmp_path / "out") == 0
    for path in source.iterdir():
        moss, waves = (pixels((tmp_path / "out" / style / path.name).read_bytes()) for style in ("moss", "waves"))
        assert (moss != waves).any()


def test_ones_own_stylizer_runs_like_any_other(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nst_ops.stylizers.registry.KINDS", dict(KINDS))
    assert run_example("own_stylizer.py", source, tmp_path / "out") == 0
    for path in source.iterdir():
        drawn = np.asarray(Image.open(tmp_path / "out" / path.name).convert("RGB"))
        assert drawn.shape == np.asarray(Image.open(path)).shape
        assert (drawn[..., 0] == drawn[..., 1]).all()
