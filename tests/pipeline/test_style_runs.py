"""Whole runs with style images: every row there, every style where it belongs, on any pool."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from job_runner import check_invariants, read_manifest, visible_files, write_image
from media_factory import moving_frames, write_video
from PIL import Image

from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.run_spec import fingerprint, new_run_spec


def config_of(root: Path, styles: Path, vit_adain: Path, out: str = "out", **sections: object) -> StylizeConfig:
    style = {"images": str(styles), "side": 32, **dict(sections.pop("style", {}))}
    model = {"kind": "vit_adain", "checkpoint": str(vit_adain), "device": "cpu"}
    sections = {"executor": "local", "model": model, "style": style, **sections}
    return StylizeConfig(input=str(root / "in"), output=str(root / out), **sections)


def fill(source: Path) -> None:
    for folder in ("cats", "dogs"):
        for index in range(4):
            write_image(source / folder / f"{index}.png", 40, 30, seed=index)


def test_three_styles_for_each_input(tmp_path: Path, styles: Path, vit_adain: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    fill(source)
    write_video(source / "video.mp4", moving_frames(4, 48, 32))
    (source / "bad.jpg").write_bytes(b"no image")
    (source / "notes.txt").write_text("no medium")
    write_image(source / "x.png")
    (source / "x.png").rename(source / "x.gif")
    write_image(source / "x.gif.png")
    config = config_of(tmp_path, styles, vit_adain, style={"mode": "each"}, units={"images": 8})

    preflight = stylize_collection(config.model_copy(update={"dry_run": True})).table()
    assert "3 pictures, " in preflight
    assert "39: 3 styles for each file" in preflight
    assert "images to do     │ 30" in preflight
    assert "~12 frames" in preflight

    summary = stylize_collection(config)
    rows = read_manifest(output)
    check_invariants(output)
    assert len(rows) == 13 * 3
    assert Counter(row["status"] for row in rows) == {"ok": 10 * 3, "failed": 2 * 3, "skipped": 3}
    assert summary.counts == {"ok": 30, "failed": 6, "skipped": 3}
    assert "files x 3 styles" in summary.table()
    assert summary.exit_code == 3
    assert Counter(row["style"] for row in rows) == {"amber": 13, "moss": 13, "navy": 13}
    tree = {"cats", "dogs", "video.mp4", "x.gif.png"}
    for style in ("amber", "moss", "navy"):
        assert {path.name for path in (output / style).iterdir()} == tree
    one = [np.asarray(Image.open(output / style / "cats/0.png")) for style in ("amber", "moss", "navy")]
    assert all((a != b).any() for a, b in zip(one, one[1:] + one[:1], strict=True))
    with Image.open(output / "report/contact_sheet.png") as sheet:
        assert sheet.width > 2 * 3 * 256  # before, style, after

    again = stylize_collection(config)
    assert again.num_already_done == 39
    assert read_manifest(output) == rows
    for other, difference in (
        ({"mode": "random"}, "style.mode was 'each', is now 'random'"),
        ({"mode": "each", "alpha": 0.5}, r"style\.alpha was 1\.0, is now 0\.5"),
        ({"mode": "each", "preserve_color": True}, r"style\.preserve_color was False"),
        ({"images": str(styles / "moss.png")}, r"style\.images was '3 pictures, \w+', is now '1 picture, "),
    ):
        with pytest.raises(ConfigError, match=difference):
            stylize_collection(config_of(tmp_path, styles, vit_adain, style=other))


@pytest.mark.slow
def test_a_random_style_is_the_same_with_more_workers(tmp_path: Path, styles: Path, vit_adain: Path) -> None:
    fill(tmp_path / "in")
    drawn = []
    for count in (1, 2):
        config = config_of(
            tmp_path,
            styles,
            vit_adain,
            f"out {count}",
            style={"mode": "random", "seed": 3},
            workers={"count": count, "threads": count},
            units={"images": 2},
        )
        assert stylize_collection(config).exit_code == 0
        output = tmp_path / f"out {count}"
        stylized = [path for path in visible_files(output) if path.parent.parent == output]
        assert {path.relative_to(output) for path in stylized if path.suffix == ".png"} >= {
            path.relative_to(tmp_path / "in") for path in visible_files(tmp_path / "in")
        }  # class folders are kept
        rows = read_manifest(output)
        drawn.append({(row["source_uri"], row["style"], row["output_sha256"]) for row in rows})
    assert drawn[0] == drawn[1]
    assert len({style for _, style, _ in drawn[0]}) > 1


def test_what_does_not_go_together_is_refused_at_first(tmp_path: Path, styles: Path, vit_adain: Path) -> None:
    fill(tmp_path / "in")
    each, half = {"mode": "each"}, {"mode": "each", "alpha": 0.5}
    identity, johnson, gatys = ({"kind": kind} for kind in ("identity", "johnson", "gatys"))
    for sections, words in (
        ({"style": {"images": None}}, r"takes its style from images: give --style\.images"),
        ({}, r"holds 3 images, and style\.mode is one"),
        ({"model": identity}, r"identity takes no style\.images"),
        ({"model": johnson}, r"johnson takes no style\.images"),
        ({"model": johnson, "style": each | {"images": None}}, r"johnson takes no style\.mode"),
        ({"model": gatys, "style": half}, r"gatys takes no style\.alpha"),
        ({"model": {"kind": "vit_adain"}, "style": each}, "holds a multi_style network, not vit_adain"),
        ({"style": {"images": str(tmp_path / "none")}}, "does not exist"),
        ({"style": each | {"images": str(tmp_path)}}, r"lies in style\.images"),
    ):
        with pytest.raises(ConfigError, match=words):
            stylize_collection(config_of(tmp_path, styles, vit_adain, **sections))
    assert not (tmp_path / "out").exists()


def test_a_style_whose_folder_the_run_needs_is_refused(tmp_path: Path, vit_adain: Path) -> None:
    fill(tmp_path / "in")
    write_image(tmp_path / "styles" / "manifest.png")
    config = config_of(tmp_path, tmp_path / "styles", vit_adain, style={"mode": "each"})
    with pytest.raises(ConfigError, match=r"'manifest\.png' would get the folder 'manifest'"):
        stylize_collection(config)


def test_a_fingerprint_without_styles_has_no_style_keys(tmp_path: Path) -> None:
    fill(tmp_path / "in")
    config = StylizeConfig(input=str(tmp_path / "in"), output="out", model={"kind": "identity"})
    assert not [
        key for key in fingerprint(new_run_spec(config, config.input)) if key.startswith("style.") or "gatys" in key
    ]
