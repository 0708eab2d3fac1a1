"""Whole runs with ``style.text``: the row is fitted once, kept for those that resume, and not for other words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clip_factory import write_clip
from job_runner import read_manifest, write_image
from media_factory import moving_frames, write_video
from pydantic import ValidationError

from nst_ops.collection.integrity import verify
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.models.checkpoint_files import read_facts, read_styles
from nst_ops.pipeline.run import stylize_collection
from nst_ops.storage import Folder

pytest.importorskip("open_clip", reason="extra nst-ops[clip]")
TEXT, NAME, FILE = "An oil painting of waves", "an_oil_painting_of_waves", "styles_from_text.safetensors"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


def config_of(root: Path, styles: Path, clip: Path | None, text: str = TEXT, **sections: Any) -> StylizeConfig:
    sections = {
        "executor": "local",
        "model": {"checkpoint": str(styles), "device": "cpu"},
        "style": {"text": text},
        "clip": {"weights": str(clip)} if clip else {},
        "text_fit": {"steps": 2, "size": 96, "patches": 2},
        "report": {"pairs": 0},
        **sections,
    }
    return StylizeConfig(input=str(root / "in"), output=str(root / "out"), **sections)


def test_a_run_is_in_the_style_of_its_words_and_resumes(tmp_path: Path, named_styles: Path, clip: Path) -> None:
    write_image(tmp_path / "in" / "0.png")
    (tmp_path / "in" / "1.png").write_bytes(b"no image")
    write_video(tmp_path / "in" / "video.mp4", moving_frames(3, 48, 32))
    config = config_of(tmp_path, named_styles, clip)
    assert stylize_collection(config).exit_code == 3
    file = tmp_path / "out" / FILE
    assert [*read_styles(file)] == [NAME, "waves", "stars", "identity", "moss", "amber"]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["config"]["style"]["text"] == record["fingerprint"]["style.text"] == TEXT
    assert len(read_facts(file)["fitted_to_text"]["row_sha256"]) == 64

    written, when = file.read_bytes(), file.stat().st_mtime_ns
    write_image(tmp_path / "in" / "2.png", seed=2)
    assert stylize_collection(config).exit_code == 3
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (written, when)
    rows = [row for row in read_manifest(tmp_path / "out") if row["status"] == "ok"]
    assert len(rows) == 3
    assert {(row["style"], row["style_mix"]) for row in rows} == {(NAME, f'{{"{NAME}": 1.0}}')}
    assert {row["model_sha256"] for row in rows} == {record["fingerprint"]["model_sha256"]}
    assert verify(Folder(str(tmp_path / "out"))).is_whole


def test_a_run_that_stopped_after_the_fit_goes_on_with_it(tmp_path: Path, named_styles: Path, clip: Path) -> None:
    write_image(tmp_path / "in" / "0.png")
    flow = {"flow": "raft", "flow_weights": "nothing.pth"}
    with pytest.raises(ConfigError, match=r"nothing\.pth"):
        stylize_collection(config_of(tmp_path, named_styles, clip, temporal=flow))
    file = tmp_path / "out" / FILE
    when = file.stat().st_mtime_ns
    assert not (tmp_path / "out" / "run.json").exists()
    assert stylize_collection(config_of(tmp_path, named_styles, clip)).exit_code == 0
    assert file.stat().st_mtime_ns == when


def test_other_words_are_another_run(tmp_path: Path, named_styles: Path, clip: Path) -> None:
    write_image(tmp_path / "in" / "0.png")
    stylize_collection(config_of(tmp_path, named_styles, clip))
    with pytest.raises(
        ConfigError, match=r"holds another run: style\.text was 'An oil painting of waves', is now 'fog'"
    ):
        stylize_collection(config_of(tmp_path, named_styles, clip, "fog"))
    with pytest.raises(ConfigError, match=r"its style\.text was fitted with other weights or keys of text_fit"):
        stylize_collection(config_of(tmp_path, named_styles, clip, text_fit={"steps": 3, "size": 96}))
    assert next(iter(read_styles(tmp_path / "out" / FILE))) == NAME
    assert stylize_collection(config_of(tmp_path, named_styles, clip, "fog", overwrite=True)).exit_code == 0
    assert {row["style"] for row in read_manifest(tmp_path / "out")} == {"fog"}


def test_a_dry_run_fits_nothing(tmp_path: Path, named_styles: Path, clip: Path) -> None:
    write_image(tmp_path / "in" / "0.png")
    assert "multi_style" in stylize_collection(config_of(tmp_path, named_styles, clip, dry_run=True)).table()
    assert not (tmp_path / "out").exists()


def test_words_that_cannot_be_had_are_refused_first(tmp_path: Path, named_styles: Path, clip: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no media")
    with pytest.raises(ConfigError, match=r"style\.text is fitted on images or videos, and none can be read"):
        stylize_collection(config_of(tmp_path, named_styles, clip))
    write_image(tmp_path / "in" / "0.png")
    with pytest.raises(ConfigError, match=r"style\.text needs the weights of CLIP: give --clip\.weights FILE"):
        stylize_collection(config_of(tmp_path, named_styles, None))
    with pytest.raises(ConfigError, match=r"model\.kind johnson takes no style\.text"):
        stylize_collection(config_of(tmp_path, named_styles, clip, model={"kind": "johnson"}))
    with pytest.raises(ConfigError, match=r"missing\.safetensors"):
        stylize_collection(config_of(tmp_path, named_styles, clip.with_name("missing.safetensors")))
    (tmp_path / "out").mkdir(exist_ok=True)
    write_image(tmp_path / "out" / "mine.png")
    with pytest.raises(ConfigError, match=r"holds files, but no run\.json"):
        stylize_collection(config_of(tmp_path, named_styles, clip))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.png"]


@pytest.mark.parametrize("other", [{"name": "moss"}, {"blend": {"moss": 1.0}}, {"names": ["moss"]}, {"mode": "each"}])
def test_words_are_the_one_style(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"style\.text"):
        StylizeConfig(input="in", output="out", style={"text": TEXT, **other})
