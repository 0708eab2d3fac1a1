"""Gatys: both losses fall, images are judged alone, targets are computed once; it says what it lacks."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError

from nst_ops.config.stylize import GatysConfig
from nst_ops.losses import content_loss, gram_loss, gram_matrix
from nst_ops.media.style_images import Style
from nst_ops.models.vgg import VGGFeatures, WeightsError
from nst_ops.report.loss_curve import plot_losses
from nst_ops.stylizers.gatys import GatysStylizer

CONTENT, STYLES = {"relu2_1": 1.0}, {"relu1_1": 1.0, "relu2_1": 1.0}


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of VGG19, up to relu2_2, with random weights."""
    torch.manual_seed(0)
    features = torchvision.models.vgg19().features[:10].state_dict()
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save({f"features.{key}": value for key, value in features.items()}, path)
    return path


@pytest.fixture
def gatys(vgg_file: Path) -> Any:
    """``gatys(gram={...}, **settings)``: a stylizer with the small network."""

    def build(gram: dict[str, Any] | None = None, **settings: Any) -> GatysStylizer:
        settings = {"optimizer": "adam", "steps": 12, "levels": 1} | settings
        terms = {"content": {"taps": CONTENT}, "gram": {"taps": STYLES, "weight": 30.0} | (gram or {})}
        return GatysStylizer(GatysConfig(weights=str(vgg_file), **terms, **settings), "cpu")

    return build


def soft(seed: int, height: int, width: int) -> np.ndarray:
    """Soft shapes, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def stripes(period: int, side: int = 48) -> Style:
    on = np.indices((side, side)).sum(axis=0) // period % 2
    return Style(f"stripes {period}", (on[..., None] * np.array([240, 180, 40])).astype(np.uint8))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_style_comes_and_content_stays(gatys: Any, vgg_file: Path, optimizer: str) -> None:
    content, style = np.stack([soft(0, 40, 48), soft(7, 40, 48)]), stripes(4)
    stylize = gatys(optimizer=optimizer, steps=50 if optimizer == "adam" else 30)
    stylized = stylize(content, [style, style])
    vgg = VGGFeatures("vgg19", STYLES, vgg_file, "reflect")

    def features(pixels_hwc: np.ndarray) -> dict[str, torch.Tensor]:
        """Afresh, from the bytes that are written."""
        return vgg(torch.tensor(pixels_hwc).permute(2, 0, 1)[None] / 255)

    def style_error(pixels_hwc: np.ndarray) -> float:
        seen, wanted = features(pixels_hwc), features(style.pixels_hwc)
        return sum(float(gram_loss(seen[tap], gram_matrix(wanted[tap]))) for tap in STYLES) / len(STYLES)

    def content_error(a_hwc: np.ndarray, b_hwc: np.ndarray) -> float:
        return float(content_loss(features(a_hwc)["relu2_1"], features(b_hwc)["relu2_1"]))

    for i in range(2):
        rows = stylize.last_losses[i]
        assert rows[0]["gram"] == pytest.approx(style_error(content[i]), rel=0.02)
        assert style_error(stylized[i]) < 0.2 * style_error(content[i])
        assert min(row["total"] for row in rows) == pytest.approx(rows[-1]["total"], rel=0.05)
        # each is nearer to its own content image than the other one with the same style
        assert content_error(stylized[i], content[i]) < 0.9 * content_error(stylized[1 - i], content[i])


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_content_falls_from_noise(gatys: Any, optimizer: str) -> None:
    stylize = gatys({"weight": 1.0}, optimizer=optimizer, start="noise", steps=40)
    stylize(soft(0, 40, 48)[None], [stripes(4)])
    first, last = stylize.last_losses[0][0], stylize.last_losses[0][-1]
    assert last["content"] < 0.7 * first["content"]
    assert last["gram"] < 0.9 * first["gram"]


@pytest.mark.parametrize(("optimizer", "levels"), [("adam", 1), ("adam", 2), ("lbfgs", 1)])
def test_a_batch_is_its_images_one_by_one(gatys: Any, optimizer: str, levels: int) -> None:
    frames, styles = np.stack([soft(0, 32, 40), soft(1, 32, 40)]), [stripes(4), stripes(9)]
    stylize = gatys(optimizer=optimizer, levels=levels, steps=8)
    together, losses = stylize(frames, styles), stylize.last_losses
    assert len(losses) == 2
    for i in range(2):
        alone = stylize(frames[i : i + 1], styles[i : i + 1])[0]
        # Rounding is all that differs. Adam divides by the gradient, so where there is hardly one it grows.
        assert np.abs(together[i].astype(int) - alone).mean() < 0.5
        for step, (a, b) in enumerate(zip(losses[i], stylize.last_losses[0], strict=True)):
            assert a == pytest.approx(b, rel=1e-5 if step < 4 else 1e-3, abs=1e-6)


def test_what_a_batch_does_not_hold_goes_in_parts(gatys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stylize = gatys()
    frames, styles = np.stack([soft(seed, 32, 40) for seed in range(3)]), [stripes(4), stripes(9), stripes(4)]
    whole = stylize(frames, styles)
    monkeypatch.setattr("nst_ops.stylizers.memory.frames_that_fit", lambda *_: 2)
    parts = stylize(frames, styles)
    assert len(stylize.last_losses) == 3
    assert np.abs(parts.astype(int) - whole).mean() < 0.5


def test_targets_are_computed_once(gatys: Any) -> None:
    stylize = gatys(steps=5)
    seen: list[tuple[int, ...]] = []
    stylize.vgg.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    frames, style = np.stack([soft(0, 32, 40), soft(1, 32, 40)]), stripes(4)
    stylize(frames, [style, style])
    assert seen.count((1, 3, 48, 48)) == 1  # the style_image
    assert seen.count((2, 3, 32, 40)) == 1 + 5  # the content images, then the steps
    stylize(frames, [style, style])
    assert seen.count((1, 3, 48, 48)) == 1
    stylize(frames[:1], [stripes(4)])  # alike, but another
    assert seen.count((1, 3, 48, 48)) == 2


@pytest.mark.parametrize("size", [(1, 1), (2, 70), (15, 17), (33, 50)])
@pytest.mark.parametrize("scales", [{1.0: 1.0}, {1.0: 1.0, 0.25: 1.0}])
def test_any_size_comes_back_as_it_was(gatys: Any, size: tuple[int, int], scales: dict[float, float]) -> None:
    frames = np.stack([soft(seed, *size) for seed in range(2)])
    stylize = gatys({"scales": scales}, steps=2, levels=3)
    stylized = stylize(frames, [Style("tiny", soft(3, 5, 9)), stripes(4)])
    assert stylized.shape == frames.shape
    assert stylized.dtype == np.uint8


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_images_stay_in_range_while_they_are_stylized(gatys: Any, optimizer: str) -> None:
    """A cut at the end would hide pixels that ran away, whose losses are not those of what is written."""
    stylize = gatys(optimizer=optimizer, steps=15, learning_rate=0.5)
    ranges: list[float] = []
    stylize.vgg.register_forward_pre_hook(lambda _, args: ranges.extend([args[0].min().item(), args[0].max().item()]))
    black_and_white = np.repeat(np.where(np.indices((32, 32)).sum(0) // 8 % 2, 255, 0)[None, ..., None], 3, 3)
    stylize(black_and_white.astype(np.uint8), [stripes(4)])
    assert 0 <= min(ranges) < max(ranges) <= 1


def test_noise_depends_on_the_seed_alone(gatys: Any) -> None:
    content, style = soft(0, 32, 40), stripes(4)
    first = gatys(start="noise", seed=1)(content[None], [style])
    in_a_batch = gatys(start="noise", seed=1)(np.stack([soft(5, 32, 40), content]), [style, style])
    assert np.abs(first[0].astype(int) - in_a_batch[1]).mean() < 0.5
    assert np.array_equal(gatys(start="noise", seed=1)(content[None], [style]), first)
    assert not np.array_equal(gatys(start="noise", seed=2)(content[None], [style]), first)


def test_coarse_levels_go_on_into_fine_ones(gatys: Any) -> None:
    content, style = soft(0, 64, 80)[None], stripes(4)
    stylize = gatys(steps=20, levels=2)
    inputs: list[torch.Tensor] = []
    stylize.vgg.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
    stylize(content, [style])
    assert [row["step"] for row in stylize.last_losses[0]] == list(range(1, 41))
    coarse = [x_bchw for x_bchw in inputs if x_bchw.shape[2:] == (32, 40)]
    fine = [x_bchw for x_bchw in inputs if x_bchw.shape[2:] == (64, 80)]
    content_bchw, first, last = (fine[0], fine[1], coarse[-1])  # content features come before the first step
    enlarged = torch.nn.functional.interpolate(last, (64, 80), mode="bilinear")
    assert (first - enlarged).abs().max() < 0.02  # a last small step of Adam lies between
    assert (first - content_bchw).abs().mean() > 0.05


def test_the_time_it_takes_is_told_once_for_each_image(gatys: Any, caplog: pytest.LogCaptureFixture) -> None:
    frames, style = np.stack([soft(0, 32, 40), soft(1, 32, 40)]), stripes(4)
    with caplog.at_level(logging.INFO, "nst_ops"):
        gatys(optimizer="lbfgs")(frames, [style, style])
    assert len(caplog.messages) == 2
    assert "40x32" in caplog.messages[0]
    assert "minutes" in caplog.messages[0]


def test_losses_that_are_no_numbers_fail(gatys: Any) -> None:
    stylize = gatys()
    stylize.vgg.features[0].weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        stylize(soft(0, 32, 40)[None], [stripes(4)])


def test_a_frame_without_style_is_refused(gatys: Any) -> None:
    with pytest.raises(ValueError, match="1 frames and 0 styles"):
        gatys()(soft(0, 32, 40)[None])


def test_missing_weights_name_the_remedy(vgg_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"relu2_2.*set model\.gatys\.content\.taps"):
        GatysStylizer(GatysConfig(weights=str(vgg_file)), "cpu")
    with pytest.raises(WeightsError, match=r"nowhere\.pth.*model\.gatys\.weights"):
        GatysStylizer(GatysConfig(weights="nowhere.pth"), "cpu")

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(WeightsError, match=r"no route to host.*model\.gatys\.weights"):
        GatysStylizer(GatysConfig(), "cpu")


def test_fp16_is_refused_and_bf16_works(vgg_file: Path) -> None:
    config = GatysConfig(
        weights=str(vgg_file), content={"taps": CONTENT}, gram={"taps": STYLES}, optimizer="adam", steps=15
    )
    with pytest.raises(ValueError, match="fp16"):
        GatysStylizer(config, "cpu", "fp16")
    stylize = GatysStylizer(config, "cpu", "bf16")
    stylize(soft(0, 32, 40)[None], [stripes(4)])
    rows = stylize.last_losses[0]
    assert rows[-1]["gram"] < 0.7 * rows[0]["gram"]


def test_the_curve_is_an_image(gatys: Any, tmp_path: Path) -> None:
    stylize = gatys(steps=6)
    stylize(soft(0, 32, 40)[None], [stripes(4)])
    plot_losses(tmp_path / "curve.png", ["content", "gram", "variation"], stylize.last_losses[0], smooth=False)
    with Image.open(tmp_path / "curve.png") as image:
        image.load()
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10


def test_a_weight_alone_keeps_the_taps_of_the_paper() -> None:
    config = GatysConfig(gram={"weight": 5.0})
    assert list(config.gram.taps) == [f"relu{block}_1" for block in range(1, 6)]
    with pytest.raises(ValidationError):
        GatysConfig(optimizer="sgd")
