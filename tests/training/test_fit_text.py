"""``nst-ops fit-style --style.text``: words become a style of a file, by a CLIP of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_factory import write_clip
from PIL import Image
from pydantic import ValidationError

from nst_ops.cli import main
from nst_ops.config import ConfigError, FitStyleConfig
from nst_ops.models.checkpoint import load_checkpoint, save_checkpoint
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import StyleFacts
from nst_ops.training.fit_styles import fit_styles

pytest.importorskip("open_clip", reason="extra nst-ops[clip]")
TEXT = "An oil painting of waves"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, a base of three styles, and a tiny CLIP."""
    torch.manual_seed(0)
    folder, rng = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number, color in enumerate([(90, 120, 200), (200, 160, 60)]):
        grain = rng.normal(0, 40, (20, 24, 3)) + color
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).resize((240, 200)).save(
            folder / "photos" / f"{number}.png"
        )
    net = ConditionalNet(["waves", "stars", "identity"], width=8, num_blocks=1, encoder=(4, 8), decoder=(4, 4))
    with torch.no_grad():
        net.rows.add_(0.3 * torch.randn(net.rows.shape))
    save_checkpoint(folder / "base.safetensors", net, {"origin": "random"}, {"waves": StyleFacts(license="free")})
    write_clip(folder / "clip")
    return folder


def config_of(folder: Path, output: Path, text: str = TEXT, **text_fit: Any) -> FitStyleConfig:
    return FitStyleConfig(
        style={"text": text},
        output=str(output),
        base=str(folder / "base.safetensors"),
        data={"content": str(folder / "photos")},
        clip={"weights": str(folder / "clip" / "open_clip_model.safetensors")},
        text_fit={"steps": 3, "size": 96, "patches": 4, **text_fit},
        device="cpu",
    )


def test_words_become_the_first_style_beside_those_of_the_base(folder: Path, tmp_path: Path) -> None:
    outcome = fit_styles(config_of(folder, tmp_path / "text.safetensors"))
    assert outcome.fitted == ["an_oil_painting_of_waves"]
    loaded, base = load_checkpoint(tmp_path / "text.safetensors"), load_checkpoint(folder / "base.safetensors")
    net, base_net = loaded.expect(ConditionalNet), base.expect(ConditionalNet)
    assert net.names == ("an_oil_painting_of_waves", "waves", "stars", "identity")
    assert torch.equal(net.rows[1:], base_net.rows)
    assert torch.equal(net.contract[0].weight, base_net.contract[0].weight)
    assert loaded.styles["an_oil_painting_of_waves"].title == TEXT
    assert loaded.styles["waves"].license == "free"
    facts = loaded.facts["fitted_to_text"]
    assert facts["text"] == TEXT
    assert facts["start"] in ("waves", "stars")
    assert loaded.facts["origin"] == "random"


def test_rows_are_the_same_by_seed_and_other_for_other_words(folder: Path, tmp_path: Path) -> None:
    rows = []
    for number, (text, seed) in enumerate([(TEXT, 0), (TEXT, 0), (TEXT, 1), ("a mosaic of red stones", 0)]):
        fit_styles(config_of(folder, tmp_path / f"{number}.safetensors", text, seed=seed, rate=0.1))
        rows.append(load_checkpoint(tmp_path / f"{number}.safetensors").expect(ConditionalNet).rows[0])
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[3])


def test_fitting_turns_pictures_toward_the_text(folder: Path, tmp_path: Path) -> None:
    losses = []
    for steps in (1, 40):
        output = tmp_path / f"{steps}.safetensors"
        fit_styles(config_of(folder, output, steps=steps, rate=0.1, threshold=0.0, prior=0.0))
        losses.append(load_checkpoint(output).facts["fitted_to_text"]["losses"])
    assert losses[1]["patch"] < losses[0]["patch"] - 0.1


def test_prior_keeps_the_row_near_the_known_ones(folder: Path, tmp_path: Path) -> None:
    distances = []
    for prior in (0.0, 100.0):
        output = tmp_path / f"{prior}.safetensors"
        fit_styles(config_of(folder, output, steps=40, rate=0.1, prior=prior))
        distances.append(load_checkpoint(output).facts["fitted_to_text"]["losses"]["prior"])
    assert distances[1] < 0.5 * distances[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip": {}}, "style.text needs the weights of CLIP: give --clip.weights"),
        ({"clip": {"weights": "nothing.pt"}}, "no file of weights at nothing.pt"),
        ({"style": {"text": "wave " * 90}}, "style.text: .* tokens are more than the 77"),
        ({"base": "starry_night"}, "base: .*holds a johnson network"),
    ],
)
def test_bad_words_and_weights_are_refused(folder: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    config = config_of(folder, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=words):
        fit_styles(FitStyleConfig(**config.model_dump() | change))
    assert not [*tmp_path.iterdir()]


def test_words_and_paintings_exclude_each_other(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path / "x.safetensors").model_dump()
    for change in ({"paintings": ["a.jpg"]}, {"style": {}}):
        with pytest.raises(ValidationError, match="one of the two"):
            FitStyleConfig(**config | change)


def test_empty_words_are_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit-style", "--style.text", " ", "--data.content", str(folder / "photos"), "--output", "x.safetensors"])
    assert stopped.value.code == 2
    assert "'style.text': it is empty: give words, such as 'an oil painting of waves'" in capsys.readouterr().err
