"""CLIP of a file of weights: the same vectors as open_clip's own, nothing loaded in part, nothing fetched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from clip_factory import CONFIG, write_clip
from safetensors.torch import load_file, save_file

from nst_ops.models.clip import Clip, MissingExtraError

open_clip = pytest.importorskip("open_clip", reason="extra nst-ops[clip]")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


def test_vectors_are_those_of_open_clip(weights: Path) -> None:
    clip, theirs = Clip(weights), open_clip.CLIP(**CONFIG).eval()
    theirs.load_state_dict(load_file(weights))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        of_images = theirs.encode_image((images - 0.5) / 0.25, normalize=True)
        of_texts = theirs.encode_text(open_clip.tokenize(["An oil painting, of WAVES!", "a photo"]), normalize=True)
    torch.testing.assert_close(clip.encode_images(images), of_images)
    found = torch.stack([clip.encode_text("An oil painting, of WAVES!"), clip.encode_text("a photo")])
    torch.testing.assert_close(found, of_texts)
    assert of_texts[0] @ of_texts[1] < 0.95


def test_middle_squares_are_seen_and_have_a_gradient(weights: Path) -> None:
    clip, images = Clip(weights), torch.rand(1, 3, 40, 90, requires_grad=True)
    clip.encode_images(images)[0, 0].backward()
    assert images.grad is not None
    seen = images.grad[0].abs().amax((0, 1)).nonzero()
    assert 20 <= seen.min() < 30
    assert 60 <= seen.max() < 70


def test_text_in_sentences_is_their_mean(weights: Path) -> None:
    clip = Clip(weights)
    sentences = [template("waves") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    mean = torch.stack([clip.encode_text(sentence) for sentence in sentences]).mean(0)
    torch.testing.assert_close(clip.encode_text("waves", in_sentences=True), mean / mean.norm())


def test_activation_is_that_of_the_configuration(weights: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "gelu", quick_gelu=False)
    assert all(torch.equal(*pair) for pair in zip(load_file(weights).values(), load_file(other).values(), strict=True))
    images = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(Clip(weights).encode_images(images), Clip(other).encode_images(images), atol=1e-4)


def test_wrong_files_are_refused(weights: Path, tmp_path: Path) -> None:
    state = load_file(weights)
    lacking = write_clip(tmp_path / "lacking")
    save_file({key: value for key, value in state.items() if key != "text_projection"}, lacking)
    with pytest.raises(ValueError, match="not this architecture: missing text_projection"):
        Clip(lacking)
    with pytest.raises(ValueError, match=r"missing visual\.transformer\.resblocks\.2"):
        Clip(weights, "ViT-S-32-alt")
    with pytest.raises(ValueError, match="open_clip knows no 'VIT-32'"):
        Clip(weights, "VIT-32")
    with pytest.raises(ValueError, match="knows no 'hf-hub:a/b'"):
        Clip(weights, "hf-hub:a/b")
    with pytest.raises(ValueError, match=r"not the two towers of CLIP \(custom_text\)"):
        Clip(weights, "ViT-B-16-SigLIP")
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        Clip(tmp_path / "nothing.pt")
    lone = tmp_path / "lone.safetensors"
    save_file(state, lone)
    with pytest.raises(ValueError, match=r"give --clip\.architecture"):
        Clip(lone)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 32}}))
    with pytest.raises(ValueError, match=r"open_clip_config\.json: not a configuration of CLIP"):
        Clip(lone)


def test_state_dict_of_training_loads_without_its_prefix(weights: Path, tmp_path: Path) -> None:
    file = write_clip(tmp_path / "trained").with_suffix(".pt")
    torch.save({"state_dict": {f"module.{key}": value for key, value in load_file(weights).items()}}, file)
    assert torch.equal(Clip(file).encode_text("waves"), Clip(weights).encode_text("waves"))


def test_long_texts_are_refused(weights: Path) -> None:
    clip = Clip(weights)
    clip.encode_text("wave " * 75)
    with pytest.raises(ValueError, match="78 tokens are more than the 77"):
        clip.encode_text("wave " * 76)


def test_missing_package_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nst-ops\[clip\]'"):
        Clip(weights)
