"""Judging pictures in memory: what is nearer to the style gets the better figures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nst_ops.evaluation.distribution import load_judge
from nst_ops.evaluation.evaluator import Pair, Taps, judge, pairs_of
from nst_ops.evaluation.image_report import Report, chosen_rows
from nst_ops.models.vgg import VGGFeatures
from nst_ops.stylizers import Style

TAPS = Taps(style=("relu1_1", "relu2_1"), content=("relu2_1",), distribution=("relu1_1",))
RED, BLUE = (220, 40, 30), (20, 60, 200)


@pytest.fixture(scope="module")
def vgg(vgg_file: Path) -> VGGFeatures:
    network, lacking = load_judge(TAPS.all(), vgg_file)
    assert network is not None
    assert not lacking
    return network


def stripes(color: tuple[int, int, int], seed: int, height: int = 32, width: int = 40) -> np.ndarray:
    """Stripes of a color in noise: a style, whose pictures differ by ``seed``."""
    rng = np.random.default_rng(seed)
    bars = (np.arange(width) + rng.integers(8)) // 4 % 2
    noise = rng.normal(0, 12, (height, width, 3))
    return (bars[None, :, None] * np.array(color) + 20 + noise).clip(0, 255).astype(np.uint8)


def tensor(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def photos(count: int, height: int = 32, width: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


def styles(color: tuple[int, int, int] = RED, count: int = 4, first: str = "red") -> list[Style]:
    return [Style(f"{first}{seed}", stripes(color, seed, 48, 56)) for seed in range(count)]


def test_what_is_painted_in_the_style_is_nearer_to_it_than_the_photograph(vgg: VGGFeatures) -> None:
    sources = photos(6)
    painted = tensor(*(stripes(RED, 100 + seed) for seed in range(6)))
    report = judge(pairs_of(sources, painted), styles(), vgg, TAPS)
    assert len(report.rows) == 6
    for row in report.rows:
        for name in ("gram", "mean_std", "swd", "palette", "gram_relu2_1", "swd_relu1_1"):
            assert row[name] < 0.5 * row[f"source_{name}"], name
    for distance in report.distribution.values():
        assert distance.floor is not None
        assert distance.floor < 0.1 * distance.sources
        assert distance.outputs < 0.1 * distance.sources


def test_what_is_left_as_it_was_keeps_all_content_and_no_style(vgg: VGGFeatures) -> None:
    sources = photos(3)
    report = judge(pairs_of(sources, sources), styles(), vgg, TAPS)
    for row in report.rows:
        assert (row["content_relu2_1"], row["edge_f1"], row["color_difference"]) == (0, 1, 0)
        assert row["ssim"] == pytest.approx(1)
        assert row["gram"] == row["source_gram"]
    assert report.distribution["relu1_1"].outputs == pytest.approx(report.distribution["relu1_1"].sources)


def test_more_of_the_style_is_better_style_and_worse_structure(vgg: VGGFeatures) -> None:
    sources, painted = photos(4), tensor(*(stripes(RED, 50 + seed) for seed in range(4)))
    figures = [
        judge(pairs_of(sources, torch.lerp(sources, painted, alpha)), styles(), vgg, TAPS)
        for alpha in (0.2, 0.5, 0.9)
    ]
    for name, better in (("gram", "less"), ("swd", "less"), ("ssim", "less"), ("color_difference", "more")):
        means = [report.spread(name).mean for report in figures]
        assert means == sorted(means, reverse=better == "less"), name


def test_a_picture_is_held_against_its_own_style_where_it_names_one(vgg: VGGFeatures) -> None:
    both = styles(RED, 1) + styles(BLUE, 1, "blue")
    source, painted = photos(1)[0], tensor(stripes(BLUE, 77))[0]
    pairs = [
        Pair("own", source, painted, "blue0"),
        Pair("set", source, painted),
        Pair("no", source, painted, "x"),
    ]
    own, of_set, unknown = judge(pairs, both, vgg, TAPS).rows
    assert own["gram"] < 0.5 * of_set["gram"]
    assert own["palette"] < 0.5 * of_set["palette"]
    assert unknown["gram"] == of_set["gram"]
    assert [row["nearest_style"] for row in (own, of_set, unknown)] == ["blue0"] * 3
    assert [row["style"] for row in (own, of_set, unknown)] == ["blue0", "", ""]


def test_the_set_is_that_of_the_styles_used(vgg: VGGFeatures) -> None:
    both = styles(RED, 3) + styles(BLUE, 3, "blue")
    painted = tensor(*(stripes(BLUE, 60 + seed) for seed in range(3)))
    pairs = [Pair(str(i), photos(3)[i], painted[i], f"blue{i}") for i in range(3)]
    distance = judge(pairs, both, vgg, TAPS).distribution["relu1_1"]
    assert distance.num_styles == 3
    against_all = judge(pairs_of(photos(3), painted), both, vgg, TAPS).distribution["relu1_1"]
    assert against_all.num_styles == 6
    assert distance.outputs < 0.5 * against_all.outputs


def test_figures_do_not_depend_on_the_batch_and_sizes_may_change(vgg: VGGFeatures) -> None:
    small, large = photos(3), photos(2, 50, 37)
    pairs = [*pairs_of(small, small.flip(3)), *pairs_of(large, large.flip(2), ["x", "y"])]
    one_by_one = judge(pairs, styles(), vgg, TAPS, batch_size=1)
    together = judge(pairs, styles(), vgg, TAPS, batch_size=8)
    assert [row["name"] for row in together.rows] == ["0", "1", "2", "x", "y"]
    for name in together.metrics():
        for a, b in zip(one_by_one.rows, together.rows, strict=True):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), name


def test_what_needs_a_missing_network_or_layer_is_not_measured_and_says_why(vgg_file: Path) -> None:
    pairs = list(pairs_of(photos(2), photos(2)))
    taps = Taps(style=("relu1_1", "relu4_1"), content=("relu4_2",), distribution=("relu5_1",))
    network, lacking = load_judge(taps.all(), vgg_file)
    report = judge(pairs, styles(), network, taps, lacking=lacking)
    missing = {"gram_relu4_1", "mean_std_relu4_1", "swd_relu4_1", "content_relu4_2", "frechet_relu5_1"}
    assert set(report.not_measured) == missing
    assert "serves those up to relu1_1" in report.not_measured["content_relu4_2"]
    assert "gram_relu1_1" in report.metrics()
    assert not missing & set(report.rows[0])
    with pytest.raises(KeyError, match=vgg_file.name):
        report.spread("gram_relu4_1")

    blind = judge(pairs, styles(), None, taps)
    assert {"ssim", "edge_f1", "palette", "color_difference"} == set(blind.metrics())
    assert "gram_relu1_1" in blind.not_measured
    assert blind.rows[0]["nearest_style"].startswith("red")


def test_without_a_file_and_without_the_internet_there_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    network, lacking = load_judge({"relu1_1"})
    assert network is None
    assert "cannot be fetched" in lacking["relu1_1"]


def test_a_file_that_is_not_there_and_a_tap_that_does_not_exist_are_mistakes(vgg_file: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_judge({"relu1_1"}, "nowhere.safetensors")
    with pytest.raises(ValueError, match="relu9_9"):
        load_judge({"relu9_9"}, vgg_file)


@pytest.mark.parametrize("shape", [(3, 30, 40), (3, 32, 41), (1, 32, 40)])
def test_pairs_of_different_sizes_are_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="wrong one"):
        judge([Pair("wrong one", torch.rand(3, 32, 40), torch.rand(shape))], styles(), None, TAPS)


def test_pictures_too_small_to_judge_are_refused() -> None:
    with pytest.raises(ValueError, match="16 pixels"):
        judge(pairs_of(torch.rand(1, 3, 12, 40), torch.rand(1, 3, 12, 40)), styles(), None, TAPS)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_no_picture_is_chosen_twice_and_the_best_comes_first(count: int) -> None:
    rows = [{"name": str(i), "ssim": i / count} for i in range(count)]
    groups = chosen_rows(Report(rows, {}, {}, []), "ssim", 4)
    names = [row["name"] for group in groups.values() for row in group]
    assert len(names) == len(set(names))
    assert groups["best"][0]["name"] == str(count - 1)
    if count > 1:
        assert groups["worst"][0]["name"] == "0"
    if count == 20:
        assert [row["name"] for row in groups["median"]] == ["11", "10", "9", "8"]
