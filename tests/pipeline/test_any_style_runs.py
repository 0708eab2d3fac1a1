"""Whole runs with a network for any style: images and a video, every mode, strength, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_runner import check_invariants, read_manifest, write_image
from media_factory import moving_frames, write_video
from PIL import Image

from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.run_spec import fingerprint, new_run_spec


@pytest.fixture(scope="module")
def any_style(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny network for any style, with random weights."""
    import torch

    from nst_ops.models.any_style import AnyStyleNet
    from nst_ops.models.checkpoint import save_checkpoint

    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(width=8, num_blocks=1, encoder=(4, 8), decoder=(4, 4))
    network = AnyStyleNet(**sizes, stages=((1, 8, 1, 1), (2, 8, 2, 2)), stem=4, head=16, bottleneck=6)
    with torch.no_grad():
        network.predictor.to_row.weight.mul_(20)
    path = tmp_path_factory.mktemp("any_style") / "tiny.safetensors"
    save_checkpoint(path, network, {}, int8=True)
    return path


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", 60, 40, seed=number)
    write_video(tmp_path / "in" / "video.mp4", moving_frames(5, 48, 32))
    return tmp_path


def config_of(root: Path, checkpoint: Path, styles: Path, out: str = "out", **sections: Any) -> StylizeConfig:
    style = {"images": str(styles), **sections.pop("style", {})}
    model = {"checkpoint": str(checkpoint), "device": "cpu"}
    sections = {"executor": "local", "model": model, "style": style, "report": {"pairs": 0}, **sections}
    return StylizeConfig(input=str(root / "in"), output=str(root / out), **sections)


def pixels(path: object) -> np.ndarray:
    return np.asarray(Image.open(path), int)


def test_each_style_image_for_images_and_a_video(collection: Path, styles: Path, any_style: Path) -> None:
    config = config_of(collection, any_style, styles, style={"mode": "each"}, temporal={"freeze_statistics": True})
    table = stylize_collection(config.model_copy(update={"dry_run": True})).table()
    assert "any_style" in table
    assert "3 styles for each file" in table
    assert not (collection / "out" / "amber").exists()

    assert stylize_collection(config).exit_code == 0
    check_invariants(collection / "out")
    rows = read_manifest(collection / "out")
    assert {(row["model"], row["status"], row["note"]) for row in rows} == {("any_style", "ok", None)}
    assert len(rows) == 12
    one = [pixels(collection / "out" / style / "0.png") for style in ("amber", "moss", "navy")]
    assert all((a != b).any() for a, b in zip(one, one[1:] + one[:1], strict=True))


def test_a_random_style_image_is_drawn_for_each_input(collection: Path, styles: Path, any_style: Path) -> None:
    config = config_of(collection, any_style, styles, style={"mode": "random", "seed": 3})
    assert stylize_collection(config).exit_code == 0
    rows = read_manifest(collection / "out")
    assert len(rows) == 4
    assert len({row["style"] for row in rows}) > 1


def test_strength_zero_is_the_input_and_half_is_between(collection: Path, styles: Path, any_style: Path) -> None:
    for strength in (0.0, 0.5, 1.0):
        config = config_of(collection, any_style, styles / "moss.png", f"{strength}", style={"strength": strength})
        assert stylize_collection(config).exit_code == 0
    none, half, full = (pixels(collection / out / "1.png") for out in ("0.0", "0.5", "1.0"))
    assert np.array_equal(none, pixels(collection / "in" / "1.png"))
    assert (none != full).any()
    assert np.abs(half - (none + full) / 2).max() <= 1


def test_a_style_image_of_one_color_gives_rows_a_note(collection: Path, any_style: Path) -> None:
    Image.new("RGBA", (30, 20), (0, 0, 0, 0)).save(collection / "blank.png")
    assert stylize_collection(config_of(collection, any_style, collection / "blank.png")).exit_code == 0
    notes = {Path(row["source_uri"]).suffix: row["note"] for row in read_manifest(collection / "out")}
    assert "'blank' is one even color, or transparent" in str(notes[".png"])


def test_style_images_are_seen_at_the_size_of_training(collection: Path, styles: Path, any_style: Path) -> None:
    seen = []
    for style in ({}, {"side": 256}, {"side": 512}):
        config = config_of(collection, any_style, styles, style={"mode": "each", **style})
        spec = new_run_spec(config, config.input)
        assert spec.style_images
        seen.append((spec.style_images.read("moss").pixels_hwc.shape[1], fingerprint(spec)["style.side"]))
    assert seen == [(256, 256), (256, 256), (512, 512)]


def test_what_it_would_not_heed_is_refused(collection: Path, styles: Path, any_style: Path) -> None:
    for style, words in (
        ({"images": None}, r"any_style takes its style from images: give --style\.images"),
        ({}, r"holds 3 images, and style\.mode is one"),
        ({"mode": "each", "alpha": 0.5}, r"any_style takes no style\.alpha: its strength is style\.strength"),
        ({"mode": "each", "names": ["moss"]}, r"any_style takes no style\.names"),
    ):
        with pytest.raises(ConfigError, match=words):
            stylize_collection(config_of(collection, any_style, styles, style=style))
    config = config_of(collection, any_style, styles, style={"images": None})
    johnson = config.model_copy(update={"model": config.model.model_copy(update={"kind": "johnson"})})
    with pytest.raises(ConfigError, match=r"holds an any_style network, not johnson: .*--model\.kind any_style"):
        stylize_collection(johnson)
