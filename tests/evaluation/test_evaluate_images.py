"""Evaluating the images of a run: rows, figures, page, exit codes."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clip_factory import CONFIG, write_clip
from job_runner import ROOT, write_image
from media_factory import moving_frames, write_video
from PIL import Image, ImageFilter
from planning import units_of
from safetensors.torch import load_file
from torchvision.models import get_model, get_model_weights

from nst_ops.cli import main
from nst_ops.collection.styles import StyleChoice
from nst_ops.config import ConfigError, EvaluateConfig, StylizeConfig
from nst_ops.config.text import ClipConfig
from nst_ops.evaluation.classifier import Classifier, labels_kept
from nst_ops.evaluation.images import evaluate_images
from nst_ops.evaluation.text_score import TextScore
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker


def write_smooth_image(path: Path, seed: int, size: tuple[int, int] = (48, 36)) -> None:
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``in/``, ``run/`` (by a worker that changes nothing) and ``styles/``."""
    root = tmp_path_factory.mktemp("finished")
    for number in range(5):
        write_smooth_image(root / "in" / "deep" / f"image{number}.png", number, (48, 36 + 4 * (number % 2)))
    Image.new("RGBA", (40, 40), (200, 10, 10, 128)).save(root / "in" / "<glass>.png")
    (root / "in" / "broken.jpg").write_bytes(b"no image")
    write_video(root / "in" / "video.mp4", moving_frames(3, 64, 48))
    for name in ("waves", "dots"):
        write_image(root / "styles" / f"{name}.png", 40, 32, seed=len(name))
    run(root)
    return root


def run(root: Path, style: str = "identity", **sections: object) -> None:
    config = StylizeConfig(
        input=str(root / "in"), output=str(root / "run"), **{"model": {"kind": "identity"}, **sections}
    )
    worker = Worker(replace(new_run_spec(config, config.input), choice=StyleChoice((style,))))
    for unit in units_of(worker, images=9):
        result = worker(unit)
        assert not result.error


def config(root: Path, vgg_file: Path, **keys: object) -> EvaluateConfig:
    given = {
        "run": str(root / "run"),
        "style": str(root / "styles"),
        "output": str(root / "evaluation"),
        "vgg": {"weights": str(vgg_file)},
        "device": "cpu",
    }
    return EvaluateConfig(**given | keys)


def job(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "jobs/evaluate.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def printed(finished: Path, vgg_file: Path) -> str:
    """Output of the job for a whole run."""
    arguments = ["--run", finished / "run", "--style", finished / "styles", "--page.images", 1]
    arguments += ["--output", finished / "evaluation", "--vgg.weights", vgg_file]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(["evaluate", *map(str, arguments)]) == 0
    return text.getvalue()


def test_every_image_that_is_ok_is_measured(finished: Path, printed: str) -> None:
    rows = pq.read_table(finished / "evaluation" / "metrics.parquet").to_pylist()
    assert {row["name"] for row in rows} == {"<glass>.png", *(f"image{i}.png" for i in range(5))}
    for row in rows:
        assert Path(row["source_uri"]).is_file()
        assert row["ssim"] == pytest.approx(1)  # nothing was changed, and PNG loses nothing
        assert row["edge_f1"] == 1
        assert row["color_difference"] == 0
        assert row["gram"] == row["source_gram"] > 0
        assert row["nearest_style"] in ("waves", "dots")
    assert "SSIM" in printed
    assert str(finished / "evaluation" / "index.html") in printed


def test_the_summary_has_figures_reasons_and_notes(finished: Path, printed: str) -> None:
    summary = json.loads((finished / "evaluation" / "summary.json").read_text())
    assert summary["images"] == 6
    assert summary["metrics"]["ssim"]["mean"] == pytest.approx(1)
    assert summary["sources_to_style"]["gram"] == summary["metrics"]["gram"]
    assert summary["distribution"]["relu2_2"]["num_outputs"] == 6
    assert "relu2_2" in summary["not_measured"]["gram_relu3_1"]
    assert any("1 videos" in note for note in summary["notes"])
    assert any("1 items" in note for note in summary["notes"])
    assert summary["config"]["style"] == str(finished / "styles")


def test_the_page_holds_everything_and_escapes_names(finished: Path, printed: str) -> None:
    page = (finished / "evaluation" / "index.html").read_text()
    rows = pq.read_table(finished / "evaluation" / "metrics.parquet").to_pylist()
    ranked = sorted(rows, key=lambda row: row["gram"])
    for row in (ranked[0], ranked[-1]):
        assert row["name"].replace("<", "&lt;").replace(">", "&gt;") in page
    assert "<glass>" not in page
    assert page.count("data:image/jpeg;base64,") == 9  # best, median, worst: source, output, style
    assert page.count("data:image/png;base64,") == 2
    assert "src=" not in page.replace('src="data:', "")
    assert "not measured" in page
    for name in ("histograms.png", "style_content.png"):
        with Image.open(finished / "evaluation" / name) as plot:
            assert plot.width > 500


@pytest.mark.slow
def test_a_worse_copy_gets_worse_figures(finished: Path, tmp_path: Path, vgg_file: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(root / "run")
    run(root)
    with Image.open(root / "run/deep/image3.png") as sharp:
        sharp.filter(ImageFilter.GaussianBlur(4)).save(root / "run/deep/image3.png")
    results = evaluate_images(config(root, vgg_file, taps={"content": ["relu2_1"]})).results
    worst = results.ranked("ssim")[-1]
    assert worst["name"] == "image3.png"
    assert worst["edge_f1"] < 0.7
    assert results.ranked("content_relu2_1")[-1] is worst


def test_missing_images_are_reported_and_the_others_measured(finished: Path, tmp_path: Path, vgg_file: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(root / "run")
    run(root)
    (root / "in/deep/image1.png").unlink()
    (root / "run/deep/image2.png").write_bytes(b"cut")
    outcome = evaluate_images(config(root, vgg_file))
    assert outcome.exit_code == 3
    assert {Path(uri).name for uri in outcome.unreadable} == {"image1.png", "image2.png"}
    assert len(outcome.results.rows) == 4
    assert any("2 images could not be read" in note for note in outcome.results.notes)


def test_shrunk_outputs_are_compared_at_their_size(tmp_path: Path, vgg_file: Path) -> None:
    write_smooth_image(tmp_path / "in" / "large.png", 1, (120, 90))
    write_image(tmp_path / "styles" / "a.png", 40, 32)
    run(tmp_path, resize={"max_side": 60})
    (row,) = evaluate_images(config(tmp_path, vgg_file)).results.rows
    assert row["ssim"] == pytest.approx(1)


@pytest.mark.slow
def test_a_run_of_one_style_is_compared_with_it_alone(tmp_path: Path, vgg_file: Path) -> None:
    for name in ("a", "b"):
        write_smooth_image(tmp_path / "in" / f"{name}.png", ord(name))
    for number, name in enumerate(("waves", "deep/waves", "dots")):
        write_image(tmp_path / "styles" / f"{name}.png", 40, 32, seed=number)
    run(tmp_path, "deep_waves")
    results = evaluate_images(config(tmp_path, vgg_file)).results
    assert results.styles == ["deep_waves"]
    alone = evaluate_images(config(tmp_path, vgg_file, style=str(tmp_path / "styles/deep/waves.png"))).results
    assert results.spread("gram") == alone.spread("gram")
    others = evaluate_images(config(tmp_path, vgg_file, style=str(tmp_path / "styles/dots.png"))).results
    assert results.spread("gram") != others.spread("gram")
    assert "1 style image" in results.not_measured["frechet_relu2_2"]


def test_outputs_and_limit_work_on_any_file_system(finished: Path, vgg_file: Path) -> None:
    import fsspec

    outcome = evaluate_images(config(finished, vgg_file, output="memory://evaluation", limit=2))
    assert len(outcome.results.rows) == 2
    assert any("2 of 6 images were chosen" in note for note in outcome.results.notes)
    assert fsspec.filesystem("memory").cat("/evaluation/index.html").startswith(b"<!doctype html>")


def test_without_weights_structure_and_color_are_measured(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    keys = {"vgg": {}, "output": str(tmp_path / "evaluation")}
    results = evaluate_images(config(finished, Path(), **keys)).results
    assert results.metrics() == ["palette", "ssim", "edge_f1", "color_difference"]
    assert any("palette says which" in note for note in results.notes)
    assert "cannot be fetched" in (tmp_path / "evaluation" / "index.html").read_text()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"run": "nowhere"}, "give the output folder"),
        ({"style": "nowhere"}, "does not exist"),
        ({"vgg": {"weights": "nowhere.safetensors"}}, "nowhere"),
        ({"taps": {"style": ["relu7_1"]}}, "relu7_1"),
        ({"page": {"rank_by": "beauty"}}, "beauty"),
        ({"device": "cuda:99"}, "device"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    finished: Path, tmp_path: Path, vgg_file: Path, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_images(config(finished, vgg_file, **{"output": str(tmp_path / "out"), **keys}))
    assert not (tmp_path / "out").exists()


def test_bad_arguments_are_one_line_and_exit_code_2(finished: Path, tmp_path: Path) -> None:
    result = job("--run", finished / "run", "--style", "x", "--output", tmp_path, "--stile", "y")
    assert result.returncode == 2
    assert result.stderr == "error: unknown option '--stile', did you mean '--style'?\n"


def test_a_missing_style_is_one_line_and_exit_code_2(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", finished / "run", "--style", tmp_path / "no.png", "--output", tmp_path / "out"]
    assert main(["evaluate", *map(str, arguments)]) == 2
    assert capsys.readouterr().err.strip().endswith(f"style '{tmp_path}/no.png' does not exist")


def test_labels_are_compared_with_those_of_the_sources(finished: Path, tmp_path: Path, vgg_file: Path) -> None:
    """Random weights serve: their classes of a picture are as good as any to be kept or lost."""
    torch.manual_seed(0)
    network = get_model("squeezenet1_1")
    torch.save(network.state_dict(), tmp_path / "squeezenet.pth")
    classifier = {"weights": str(tmp_path / "squeezenet.pth"), "architecture": "squeezenet1_1"}
    results = evaluate_images(config(finished, vgg_file, classifier=classifier)).results
    assert all(row["label_kept"] == row["label_in_top5"] == 1 for row in results.rows)  # nothing was changed
    prepare = get_model_weights("squeezenet1_1").DEFAULT.transforms()
    noise = torch.rand(8, 3, 48, 64)
    with torch.inference_mode():
        before, after = (network.eval()(prepare(images)) for images in (noise, 1 - noise))
    classify = Classifier("squeezenet1_1", tmp_path / "squeezenet.pth")
    assert torch.allclose(classify(noise), before, atol=1e-5)
    kept = labels_kept(after, before)
    assert kept["label_kept"].tolist() == (after.argmax(1) == before.argmax(1)).tolist()
    assert labels_kept(before, before)["label_in_top5"].tolist() == [1] * 8
    lost = before.clone().scatter_(1, before.argmax(1, keepdim=True), -1e9)
    assert labels_kept(lost, before)["label_in_top5"].tolist() == [0] * 8


@pytest.mark.parametrize(
    ("classifier", "reason"),
    [
        ({"weights": "missing.pth"}, "missing.pth"),
        ({"weights": __file__}, "not a plain file of tensors"),
        ({"weights": __file__, "architecture": "resnet5"}, "no classifier 'resnet5'"),
    ],
)
def test_a_bad_classifier_is_refused(finished: Path, vgg_file: Path, classifier: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        evaluate_images(config(finished, vgg_file, classifier=classifier))


def test_named_styles_need_no_style_images(tmp_path: Path, vgg_file: Path) -> None:
    """The pictures of the paintings lie in the checkpoint."""
    styles: list[dict[str, Any]] = [{"name": "the_scream"}, {"random": {"seed": 3}}]
    for style in styles:
        write_smooth_image(tmp_path / "in" / "photo.png", 1)
        keys: dict[str, object] = {"input": str(tmp_path / "in"), "output": str(tmp_path / "run"), "style": style}
        keys |= {"model": {"checkpoint": "styles", "device": "cpu"}, "executor": "local"}
        assert stylize_collection(StylizeConfig.model_validate(keys)).exit_code == 0
        (row,) = evaluate_images(config(tmp_path, vgg_file, style=None)).results.rows
        assert row["style"] == style.get("name", "")
        assert row["palette"] < row["source_palette"]
        shutil.rmtree(tmp_path / "run")


def test_a_run_without_pictures_of_styles_needs_them(finished: Path, tmp_path: Path, vgg_file: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text('{"config": {"model": {"checkpoint": "mosaic.pth"}}}')
    with pytest.raises(ConfigError, match=r"mosaic\.pth.*give --style"):
        evaluate_images(config(tmp_path, vgg_file, style=None))


def test_words_are_compared_by_clip(finished: Path, tmp_path: Path, vgg_file: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason="extra nst-ops[clip]")
    weights = write_clip(tmp_path / "clip")
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text('{"config": {"style": {"text": "waves"}}}')
    keys: dict[str, Any] = {"style": str(finished / "styles"), "clip": {"weights": str(weights)}}
    outcome = evaluate_images(config(tmp_path, vgg_file, **keys))
    row = next(row for row in outcome.results.rows if row["name"].endswith("image0.png"))
    model = open_clip.CLIP(**CONFIG).eval()
    model.load_state_dict(load_file(weights))
    pixels = torch.from_numpy(np.array(Image.open(finished / "in" / "deep" / "image0.png").convert("RGB")))
    image = torch.nn.functional.interpolate(
        pixels.permute(2, 0, 1)[None] / 255, (32, 43), mode="bicubic", antialias=True
    ).clamp(0, 1)[..., 5:37]
    with torch.no_grad():
        of_image, of_text = model.encode_image((image - 0.5) / 0.25), model.encode_text(open_clip.tokenize("waves"))
    expected = torch.nn.functional.cosine_similarity(of_image, of_text).item()
    assert row["clip_text"] == pytest.approx(expected, abs=1e-4)
    assert row["source_clip_text"] == pytest.approx(row["clip_text"], abs=1e-5)  # nothing was changed
    assert "CLIP similarity" in Path(outcome.page).read_text()
    other = evaluate_images(config(tmp_path, vgg_file, text="a mosaic", **keys)).results.rows[0]
    assert abs(other["clip_text"] - outcome.results.rows[0]["clip_text"]) > 1e-3


def test_way_to_the_words_is_one_for_an_image_that_goes_it(tmp_path: Path) -> None:
    pytest.importorskip("open_clip", reason="extra nst-ops[clip]")
    score = TextScore(ClipConfig(weights=str(write_clip(tmp_path / "clip"))), "waves")
    before = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    after = before.clone().requires_grad_()
    for _ in range(40):
        score(after, before)["clip_direction"].sum().backward()
        assert after.grad is not None
        after = (after + 0.02 * after.grad.sign()).clamp(0, 1).detach().requires_grad_()
    figures = score(after, before)
    assert figures["clip_direction"].item() > 0.5
    assert figures["clip_text"] > figures["source_clip_text"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"text": "waves"}, "text needs the weights of CLIP"),
        ({"clip": {"weights": "missing.pt"}}, "give --text"),
        ({"clip": {"weights": "missing.pt"}, "text": "waves"}, r"no file of weights at missing\.pt"),
    ],
)
def test_words_or_weights_that_are_missing_are_named(
    finished: Path, vgg_file: Path, keys: dict[str, Any], reason: str
) -> None:
    pytest.importorskip("open_clip", reason="extra nst-ops[clip]")
    with pytest.raises(ConfigError, match=reason):
        evaluate_images(config(finished, vgg_file, **keys))
