"""Whole runs with a network of many styles: images, shards and videos; names, blends, random mixes, strength."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_runner import read_manifest, write_image
from media_factory import moving_frames, write_video
from PIL import Image
from planning import units_of
from shard_factory import image_bytes, read_tar, write_tar

from nst_ops.collection.inputs import Source
from nst_ops.collection.integrity import verify
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.run_spec import fingerprint, new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import Folder

Rows = dict[str, dict[str, Any]]


def config_of(root: Path, checkpoint: Path, out: str = "out", **sections: Any) -> StylizeConfig:
    model = {"checkpoint": str(checkpoint), "device": "cpu", **sections.pop("model", {})}
    sections = {"executor": "local", "model": model, "report": {"pairs": 0}, **sections}
    return StylizeConfig(input=str(root / "in"), output=str(root / out), **sections)


def by_name(output: Path) -> Rows:
    """Rows by the name of the source, or of the member of a shard."""
    rows = read_manifest(output)
    assert all(row["status"] == "ok" for row in rows)
    return {str(row["source_member"] or Path(str(row["source_uri"])).name): row for row in rows}


def stylize(root: Path, checkpoint: Path, out: str = "out", num_threads: int | None = None, **sections: Any) -> Rows:
    """Stylize everything by one worker in this process."""
    config = config_of(root, checkpoint, out, **sections)
    worker = Worker(new_run_spec(config, Source.open(config.input).root), num_threads)
    for unit in units_of(worker):
        result = worker(unit)
        assert not result.fatal
        assert not result.error
    return by_name(root / out)


def pixels(path: object) -> np.ndarray:
    return np.asarray(Image.open(path), int)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", seed=number)
    write_video(tmp_path / "in" / "video.mp4", moving_frames(4, 48, 32))
    write_tar(tmp_path / "in" / "shard.tar", [(f"{name}.png", image_bytes(i)) for i, name in enumerate("ab")])
    return tmp_path


@pytest.mark.slow
def test_random_styles_are_the_same_to_the_bit_on_any_number_of_workers(collection: Path, named_styles: Path) -> None:
    style = {"random": {"seed": 7}}
    config = config_of(collection, named_styles, style=style, units={"images": 1}, workers={"count": 2})
    assert stylize_collection(config).exit_code == 0
    assert verify(Folder(str(collection / "out"))).is_whole
    rows, alone = by_name(collection / "out"), stylize(collection, named_styles, "alone", style=style)
    assert len({row["style_mix"] for row in rows.values()}) == len(rows) == 6
    for key in ("style", "style_mix", "output_sha256"):
        assert {name: row[key] for name, row in rows.items()} == {name: row[key] for name, row in alone.items()}


def test_a_dry_run_knows_the_style(tmp_path: Path, named_styles: Path) -> None:
    write_image(tmp_path / "in" / "0.png")
    config = config_of(tmp_path, named_styles, style={"random": {"seed": 7}}, dry_run=True)
    assert "random (multi_style)" in stylize_collection(config).table()


def test_what_was_stylized_in_another_way_is_not_gone_on_with(tmp_path: Path, named_styles: Path) -> None:
    write_image(tmp_path / "in" / "0.png")
    made = [
        fingerprint(new_run_spec(config_of(tmp_path, named_styles, style=style), str(tmp_path / "in")))
        for style in ({}, {"name": "moss"}, {"random": {"seed": 7}}, {"random": {"seed": 8}}, {"strength": 0.5})
    ]
    assert all(a != b for a, b in itertools.combinations(made, 2))


def test_random_styles_are_the_same_in_any_order_on_any_threads(collection: Path, named_styles: Path) -> None:
    style, made = {"random": {"seed": 7}}, []
    for num_threads, images in ((1, 1), (2, 100)):
        rows = stylize(collection, named_styles, f"out {images}", num_threads, style=style, units={"images": images})
        made.append({name: (row["style"], row["style_mix"], row["output_sha256"]) for name, row in rows.items()})
    assert made[0] == made[1]
    assert len({mix for _, mix, _ in made[0].values()}) == len(made[0]) == 6


def test_the_checkpoint_chooses_the_kind_and_its_first_style(collection: Path, named_styles: Path) -> None:
    rows = stylize(collection, named_styles)
    assert {(row["model"], row["style"], row["style_mix"]) for row in rows.values()} == {
        ("multi_style", "waves", '{"waves": 1.0}')
    }
    assert len(rows) == 6


def test_each_style_has_a_folder(collection: Path, named_styles: Path) -> None:
    stylize(collection, named_styles, style={"mode": "each", "names": ["stars", "moss"]})
    names = ["0.png", "1.png", "2.png", "shard.tar", "video.mp4"]
    for style in ("stars", "moss"):
        assert sorted(path.name for path in (collection / "out" / style).iterdir()) == names
    assert (pixels(collection / "out/stars/0.png") != pixels(collection / "out/moss/0.png")).any()


def test_frozen_statistics_are_those_of_each_style(collection: Path, named_styles: Path) -> None:
    freeze = {"temporal": {"freeze_statistics": True}, "style": {"mode": "each", "names": ["stars", "moss"]}}
    stylize(collection, named_styles, "both", **freeze)
    for style in ("stars", "moss"):
        freeze["style"] = {"name": style}
        alone = stylize(collection, named_styles, style, **freeze)["video.mp4"]
        assert (collection / "both" / style / "video.mp4").read_bytes() == Path(alone["output_uri"]).read_bytes()


def test_an_output_is_made_again_from_the_mix_in_its_row(collection: Path, named_styles: Path) -> None:
    rows = stylize(collection, named_styles, style={"random": {"seed": 7, "mixes": 2}})
    for name in ("0.png", "b.png", "video.mp4"):
        again = stylize(collection, named_styles, f"again {name}", style={"blend": json.loads(rows[name]["style_mix"])})
        assert again[name]["output_sha256"] == rows[name]["output_sha256"]


def test_strength_runs_from_the_input_to_the_style(collection: Path, named_styles: Path) -> None:
    source, distances = pixels(collection / "in" / "0.png"), []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        rows = stylize(collection, named_styles, f"out {strength}", style={"strength": strength})
        distances.append(np.abs(pixels(rows["0.png"]["output_uri"]) - source).mean())
    assert distances[0] == 0
    assert distances == sorted(distances)
    in_shard = read_tar(collection / "out 0.0" / "shard.tar")["a.png"]
    assert np.array_equal(pixels(io.BytesIO(in_shard)), pixels(io.BytesIO(image_bytes(0))))


def test_strokes_are_stylized_at_their_own_size(tmp_path: Path, named_styles: Path, network: Path) -> None:
    write_image(tmp_path / "in" / "large.png", 200, 120)
    for checkpoint in (named_styles, network):
        rows = [
            stylize(tmp_path, checkpoint, f"{checkpoint.stem} {stroke}", style={"stroke": stroke})["large.png"]
            for stroke in (None, 64, 200)
        ]
        assert [(row["output_width"], row["output_height"]) for row in rows] == 3 * [(200, 120)]
        default, coarse, same = (pixels(row["output_uri"]) for row in rows)
        assert np.array_equal(default, same)
        assert not np.array_equal(default, coarse)


@pytest.mark.parametrize(
    ("kind", "style", "words"),
    [
        (None, {"name": "wave"}, "did you mean 'waves'"),
        (None, {"images": "in"}, r"multi_style takes no style\.images: its styles have names, see style\.name"),
        (None, {"alpha": 0.5}, r"multi_style takes no style\.alpha: its strength is style\.strength"),
        ("johnson", {}, r"holds a multi_style network, not johnson: for stylizing it, --model\.kind multi_style"),
        ("vit_adain", {"strength": 0.5, "images": "in"}, r"its strength is style\.alpha"),
        ("gatys", {"strength": 0.5, "images": "in"}, r"its strength is model\.gatys\.gram\.weight"),
        ("identity", {"name": "waves"}, r"identity takes no style\.name: leave it out, or take a --model\.checkpoint"),
    ],
)
def test_what_a_kind_does_not_heed_is_refused(
    collection: Path, named_styles: Path, kind: str | None, style: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        new_run_spec(
            config_of(collection, named_styles, model={"kind": kind} if kind else {}, style=style), str(collection)
        )


def test_a_folder_that_the_run_needs_is_no_style(tmp_path: Path) -> None:
    from nst_ops.models.checkpoint import save_checkpoint
    from nst_ops.models.conditional import ConditionalNet

    write_image(tmp_path / "in" / "0.png")
    save_checkpoint(tmp_path / "s.safetensors", ConditionalNet(["manifest", "a"], 8, 1, (4, 8), (4, 4)), {})
    with pytest.raises(ConfigError, match=r"style 'manifest' would get the folder 'manifest' .*: leave it out"):
        new_run_spec(config_of(tmp_path, tmp_path / "s.safetensors", style={"mode": "each"}), str(tmp_path))


def test_what_a_fingerprint_holds_of_a_style(collection: Path, named_styles: Path, network: Path) -> None:
    def style_keys(checkpoint: Path, **style: object) -> dict[str, object]:
        config = config_of(collection, checkpoint, style=style)
        found = fingerprint(new_run_spec(config, config.input))
        return {key: value for key, value in found.items() if key.startswith("style")}

    assert style_keys(network) == {"style": "random"}
    assert style_keys(network, strength=0.5, stroke=640) == {
        "style": "random",
        "style.strength": 0.5,
        "style.stroke": 640,
    }
    named = style_keys(named_styles, random={"seed": 7})
    assert named["style.random"] == {"seed": 7, "mixes": None}
    assert not {"style.images", "style.alpha", "style.side"} & named.keys()
