"""Recipes side by side: trained on the same, measured alike, shown in one table and one image."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from training_factory import write_files
from vgg_factory import write_vgg19

from benchmarks.ablation_benchmark import CONTENT, AblationConfig, ablate, merged
from nst_ops.config import ConfigError

TINY = {
    "network": {
        "encoder": "vit_tiny_patch16_224",
        "encoder_options": {"depth": 1, "embed_dim": 24, "num_heads": 2},
        "encoder_weights": "none",
        "frozen": False,
        "widths": [8, 8, 8, 8],
    },
    "loss": {"content": {"taps": {"relu2_1": 1.0}}, "gram": {"taps": {"relu1_2": 1.0}, "scales": {1.0: 1.0}}},
    "train": {"steps": 2, "batch_size": 2, "image_size": 32, "precision": "fp32", "save_every": 2},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``content/`` and ``vgg19.safetensors``."""
    root = write_files(tmp_path_factory.mktemp("files"))
    write_vgg19(root / "vgg19.safetensors")
    return root


def config(files: Path, output: Path, **more: Any) -> AblationConfig:
    images = str(files / "content")
    settings = {
        "data": {"content": images, "style": images},
        "test": images,
        "output": str(output),
        "vgg_weights": str(files / "vgg19.safetensors"),
        "base": TINY,
        "recipes": {"first": {}, "a stem": {"network": {"stem": 4}}},
    }
    return AblationConfig(**settings | more)


def test_recipes_are_trained_and_measured_alike(files, tmp_path):
    text = ablate(config(files, tmp_path))
    assert (tmp_path / "ablation.md").read_text() == text
    results = json.loads((tmp_path / "ablation.json").read_text())
    assert [result["recipe"] for result in results] == [CONTENT, "first", "a stem"]
    content, first, stem = (result["metrics"] for result in results)
    assert content["ssim"] == pytest.approx(1)
    assert first["ssim"] < 1
    assert first != stem
    assert results[2]["parameters"] > results[1]["parameters"] > 0
    assert {"frechet_relu2_2", "gram", "palette", "ssim"} <= first.keys()
    assert "content_relu3_1" not in first  # the weights at hand do not reach it
    for words in ("| first |", "| a stem |", "SSIM"):
        assert words in text
    with Image.open(tmp_path / "ablation.png") as image:
        assert image.height > image.width / 2


def test_the_same_again_is_the_same(files, tmp_path):
    runs = []
    for name in ("one", "two"):
        ablate(config(files, tmp_path / name, recipes={"only": {}}))
        runs.append(json.loads((tmp_path / name / "ablation.json").read_text()))
    assert [result["metrics"] for result in runs[0]] == [result["metrics"] for result in runs[1]]


def test_each_recipe_changes_the_one_before(files, tmp_path):
    recipes = {
        "first": {"loss": {"gram": {"taps": {"relu2_1": 1.0}}}},
        "more": {"network": {"stem": 4}},
        "less": {"loss": {"gram": {"weight": 0.5}}},
    }
    runs = config(files, tmp_path, recipes=recipes).runs()
    assert [run.network.stem for run in runs.values()] == [0, 4, 4]
    assert [run.loss.gram.weight for run in runs.values()] == [12, 12, 0.5]
    assert all(run.loss.gram.taps == {"relu2_1": 1.0} for run in runs.values())  # replaced, not added to


def test_sections_are_merged_and_the_rest_replaced():
    base = {"a": {"b": 1, "c": {"d": 2}}, "taps": {"x": 1}}
    assert merged(base, {"a": {"c": {"e": 3}}, "taps": {"y": 1}}) == {
        "a": {"b": 1, "c": {"d": 2, "e": 3}},
        "taps": {"y": 1},
    }
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "taps": {"x": 1}}


def test_a_mistake_in_a_recipe_is_named(files, tmp_path):
    with pytest.raises(ValueError, match=r"recipes: network\.stemm"):
        config(files, tmp_path, recipes={"typo": {"network": {"stemm": 4}}})
    with pytest.raises(ValueError, match=r"one train\.image_size"):
        config(files, tmp_path, recipes={"a": {}, "b": {"train": {"image_size": 64}}})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"test: there is no folder '.*nowhere'"):
        ablate(config(files, tmp_path, test=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match=r"vgg_weights: .*nowhere\.pth"):
        ablate(config(files, tmp_path, vgg_weights=str(tmp_path / "nowhere.pth")))
    with pytest.raises(ConfigError, match="test: no readable images"):
        ablate(config(files, tmp_path, test=str(tmp_path / "empty")))
