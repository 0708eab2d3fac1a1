"""Comparing images in memory: what is nearer to the style gets the better figures."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from nst_ops.config.evaluate import TapsConfig
from nst_ops.evaluation.evaluator import Evaluator, Pair, load_vgg, make_pairs
from nst_ops.evaluation.image_report import choose_shown
from nst_ops.evaluation.metrics import ImageResults
from nst_ops.models.vgg import VGGFeatures
from nst_ops.stylizers import Style

TAPS = TapsConfig(style=("relu1_1", "relu2_1"), content=("relu2_1",), distribution=("relu1_1",))
RED, BLUE = (220, 40, 30), (20, 60, 200)


def evaluate(pairs: Iterable[Pair], styles: list[Style], vgg: VGGFeatures | None, **keys: int) -> ImageResults:
    return Evaluator(styles, vgg, TAPS, **keys)(pairs)


@pytest.fixture(scope="module")
def vgg(vgg_file: Path) -> VGGFeatures:
    network, missing = load_vgg({*TAPS.style, *TAPS.content, *TAPS.distribution}, vgg_file)
    assert network is not None
    assert not missing
    return network


def stripes(color: tuple[int, int, int], seed: int, height: int = 32, width: int = 40) -> np.ndarray:
    """Stripes of a color in noise: a style, whose images differ by ``seed``."""
    rng = np.random.default_rng(seed)
    bars = (np.arange(width) + rng.integers(8)) // 4 % 2
    noise = rng.normal(0, 12, (height, width, 3))
    return (bars[None, :, None] * np.array(color) + 20 + noise).clip(0, 255).astype(np.uint8)


def tensor(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def sources_of(count: int, height: int = 32, width: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


def styles(color: tuple[int, int, int] = RED, count: int = 4, first: str = "red") -> list[Style]:
    return [Style(f"{first}{seed}", stripes(color, seed, 48, 56)) for seed in range(count)]


def test_a_stylized_image_is_nearer_to_the_style_than_its_source(vgg: VGGFeatures) -> None:
    sources = sources_of(6)
    stylized = tensor(*(stripes(RED, 100 + seed) for seed in range(6)))
    results = evaluate(make_pairs(sources, stylized), styles(), vgg)
    assert len(results.rows) == 6
    for row in results.rows:
        for name in ("gram", "mean_std", "swd", "palette", "gram_relu2_1", "swd_relu1_1"):
            assert row[name] < 0.5 * row[f"source_{name}"], name
    for distance in results.distribution.values():
        assert distance.floor is not None
        assert distance.floor < 0.1 * distance.sources
        assert distance.outputs < 0.1 * distance.sources


def test_an_unchanged_image_keeps_all_content_and_gains_no_style(vgg: VGGFeatures) -> None:
    sources = sources_of(3)
    results = evaluate(make_pairs(sources, sources), styles(), vgg)
    for row in results.rows:
        assert (row["content_relu2_1"], row["edge_f1"], row["color_difference"]) == (0, 1, 0)
        assert row["ssim"] == pytest.approx(1)
        assert row["gram"] == row["source_gram"]
    assert results.distribution["relu1_1"].outputs == pytest.approx(results.distribution["relu1_1"].sources)


def test_more_of_the_style_is_better_style_and_worse_structure(vgg: VGGFeatures) -> None:
    sources, stylized = sources_of(4), tensor(*(stripes(RED, 50 + seed) for seed in range(4)))
    figures = [
        evaluate(make_pairs(sources, torch.lerp(sources, stylized, alpha)), styles(), vgg) for alpha in (0.2, 0.5, 0.9)
    ]
    for name, better in (("gram", "less"), ("swd", "less"), ("ssim", "less"), ("color_difference", "more")):
        means = [results.spread(name).mean for results in figures]
        assert means == sorted(means, reverse=better == "less"), name


def test_an_image_is_compared_with_its_own_style_if_it_names_one(vgg: VGGFeatures) -> None:
    both = styles(RED, 1) + styles(BLUE, 1, "blue")
    source, stylized = sources_of(1)[0], tensor(stripes(BLUE, 77))[0]
    pairs = [Pair("own", source, stylized, "blue0"), Pair("set", source, stylized), Pair("no", source, stylized, "x")]
    own, of_set, unknown = evaluate(pairs, both, vgg).rows
    assert own["gram"] < 0.5 * of_set["gram"]
    assert own["palette"] < 0.5 * of_set["palette"]
    assert unknown["gram"] == of_set["gram"]
    assert [row["nearest_style"] for row in (own, of_set, unknown)] == ["blue0"] * 3
    assert [row["style"] for row in (own, of_set, unknown)] == ["blue0", "", ""]


def test_the_style_set_is_that_of_the_styles_used(vgg: VGGFeatures) -> None:
    both = styles(RED, 3) + styles(BLUE, 3, "blue")
    stylized = tensor(*(stripes(BLUE, 60 + seed) for seed in range(3)))
    pairs = [Pair(str(i), sources_of(3)[i], stylized[i], f"blue{i}") for i in range(3)]
    distance = evaluate(pairs, both, vgg).distribution["relu1_1"]
    assert distance.num_styles == 3
    against_all = evaluate(make_pairs(sources_of(3), stylized), both, vgg).distribution["relu1_1"]
    assert against_all.num_styles == 6
    assert distance.outputs < 0.5 * against_all.outputs


def test_figures_do_not_depend_on_batch_size(vgg: VGGFeatures) -> None:
    small, large = sources_of(3), sources_of(2, 50, 37)
    pairs = [*make_pairs(small, small.flip(3)), *make_pairs(large, large.flip(2), ["x", "y"])]
    one_by_one = evaluate(pairs, styles(), vgg, batch_size=1)
    together = evaluate(pairs, styles(), vgg, batch_size=8)
    assert [row["name"] for row in together.rows] == ["0", "1", "2", "x", "y"]
    for name in together.metrics():
        for a, b in zip(one_by_one.rows, together.rows, strict=True):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), name


def test_missing_layers_are_not_measured_and_the_reason_is_given(vgg_file: Path) -> None:
    pairs = list(make_pairs(sources_of(2), sources_of(2)))
    taps = TapsConfig(style=("relu1_1", "relu4_1"), content=("relu4_2",), distribution=("relu5_1",))
    network, missing = load_vgg({*taps.style, *taps.content, *taps.distribution}, vgg_file)
    results = Evaluator(styles(), network, taps, missing=missing)(pairs)
    absent = {"gram_relu4_1", "mean_std_relu4_1", "swd_relu4_1", "content_relu4_2", "frechet_relu5_1"}
    assert set(results.not_measured) == absent
    assert "serves those up to relu1_1" in results.not_measured["content_relu4_2"]
    assert "gram_relu1_1" in results.metrics()
    assert not absent & set(results.rows[0])
    with pytest.raises(KeyError, match=vgg_file.name):
        results.spread("gram_relu4_1")

    blind = Evaluator(styles(), None, taps)(pairs)
    assert {"ssim", "edge_f1", "palette", "color_difference"} == set(blind.metrics())
    assert "gram_relu1_1" in blind.not_measured
    assert blind.rows[0]["nearest_style"].startswith("red")


def test_weights_that_cannot_be_fetched_are_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    network, missing = load_vgg({"relu1_1"})
    assert network is None
    assert "cannot be fetched" in missing["relu1_1"]


def test_a_missing_file_and_an_unknown_tap_are_refused(vgg_file: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_vgg({"relu1_1"}, "nowhere.safetensors")
    with pytest.raises(ValueError, match="relu9_9"):
        load_vgg({"relu9_9"}, vgg_file)


@pytest.mark.parametrize("shape", [(3, 30, 40), (3, 32, 41), (1, 32, 40)])
def test_make_pairs_different_sizes_are_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="wrong one"):
        evaluate([Pair("wrong one", torch.rand(3, 32, 40), torch.rand(shape))], styles(), None)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="16 pixels"):
        evaluate(make_pairs(torch.rand(1, 3, 12, 40), torch.rand(1, 3, 12, 40)), styles(), None)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_no_image_is_shown_twice_and_the_best_comes_first(count: int) -> None:
    rows = [{"name": str(i), "ssim": i / count} for i in range(count)]
    groups = choose_shown(ImageResults(rows, {}, {}, []), "ssim", 4)
    names = [row["name"] for group in groups.values() for row in group]
    assert len(names) == len(set(names))
    assert groups["best"][0]["name"] == str(count - 1)
    if count > 1:
        assert groups["worst"][0]["name"] == "0"
    if count == 20:
        assert [row["name"] for row in groups["median"]] == ["11", "10", "9", "8"]
