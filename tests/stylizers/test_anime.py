"""The kind ``anime`` in the registry, in a run and without its extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_factory import natural_image
from PIL import Image

from nst_ops.collection.manifest import Manifest
from nst_ops.config import ModelConfig, StylizeConfig
from nst_ops.pipeline.run import stylize_collection
from nst_ops.storage import Folder
from nst_ops.stylizers import load_stylizer, model_kind


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A portrait in color, in gray and with alpha, and a picture without a face."""
    folder = tmp_path / "faces"
    folder.mkdir()
    portrait = natural_image("astronaut", 512, 512).crop((135, 0, 313, 218))
    portrait.save(folder / "color.png")
    portrait.convert("L").save(folder / "gray.png")
    with_alpha = portrait.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(portrait.size))
    with_alpha.save(folder / "alpha.png")
    natural_image("coffee", 178, 218).save(folder / "coffee.png")
    return folder


def test_it_needs_no_device_and_no_weights() -> None:
    kind = model_kind("anime")
    assert not kind.uses_device
    assert kind.weights_file(ModelConfig(kind="anime")) is None


def test_a_run_draws_every_face_and_notes_what_has_none(faces: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    config = StylizeConfig(
        input=str(faces), output=str(output), executor="local", model=ModelConfig(kind="anime", batch_size=3)
    )
    assert stylize_collection(config).exit_code == 0
    rows = Manifest(Folder(str(output))).table(("source_uri", "note")).to_pylist()
    notes = {row["source_uri"].rsplit("/", 1)[-1]: row["note"] for row in rows}
    assert notes == {
        "color.png": None,
        "gray.png": None,
        "alpha.png": None,
        "coffee.png": "no face found: painted as a whole",
    }
    alpha, color = (np.asarray(Image.open(output / name)) for name in ("alpha.png", "color.png"))
    assert (alpha[..., 3] == np.asarray(Image.open(faces / "alpha.png"))[..., 3]).all()
    assert (alpha[..., :3] == color[..., :3]).all()
    gray = np.asarray(Image.open(output / "gray.png").convert("RGB"))
    assert np.ptp(gray.astype(int), axis=2).max() <= 1


def test_batches_and_threads_change_nothing() -> None:
    portrait = np.asarray(natural_image("astronaut", 512, 512).crop((135, 0, 313, 218)))
    frames = np.stack([portrait, portrait[:, ::-1], portrait])
    together = load_stylizer(ModelConfig(kind="anime"))(frames)
    stylizer = load_stylizer(ModelConfig(kind="anime"))
    assert (together[0] == together[2]).all()
    assert all((stylizer(frame[None])[0] == drawn).all() for frame, drawn in zip(frames, together, strict=True))


def test_without_the_extra_one_line_says_what_to_install(faces: Path, tmp_path: Path) -> None:
    without = "import sys; sys.modules['ai_edge_litert'] = None; from nst_ops.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", without, "stylize", "--input", str(faces), "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, "--model.kind", "anime"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: model.kind anime needs ai-edge-litert: pip install 'nst-ops[anime]'"
    ]
