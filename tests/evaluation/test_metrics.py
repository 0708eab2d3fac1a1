"""Each metric against an independent reference, and in the right order."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import skimage.color
import skimage.metrics
import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.evaluation import image_metrics
from nst_ops.evaluation.distribution import Gaussian, distribution_distance, frechet_distance
from nst_ops.evaluation.image_metrics import MAX_POINTS, directions, pool, quantiles, sample
from nst_ops.evaluation.image_metrics import squared_distance as sw2
from nst_ops.evaluation.metrics import metric


def image(seed: int = 0, height: int = 48, width: int = 64, cells: int = 8) -> Tensor:
    """Smooth random colors, (1, 3, H, W)."""
    coarse = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (4, 4, 4, 4), mode="replicate"), 9, 1)


# Distribution


def fitted(mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
    return Gaussian(torch.from_numpy(mean), torch.from_numpy(covariance))


def test_frechet_distance_of_independent_dimensions() -> None:
    rng = np.random.default_rng(0)
    m1, m2, s1, s2 = rng.normal(size=(4, 7))
    closed_form = ((m1 - m2) ** 2).sum() + ((abs(s1) - abs(s2)) ** 2).sum()
    distance = frechet_distance(fitted(m1, np.diag(s1**2)), fitted(m2, np.diag(s2**2)))
    assert distance == pytest.approx(closed_form, rel=1e-9)


@pytest.mark.parametrize("num_vectors", [200, 12])
def test_frechet_distance_equals_the_general_matrix_root(num_vectors: int) -> None:
    """Fewer vectors than dimensions are enough; the general root needs a little on the diagonal there."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=(num_vectors, 20)) @ rng.normal(size=(20, 20))
    b = rng.normal(size=(num_vectors, 20)) @ rng.normal(size=(20, 20)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    jitter = 0 if num_vectors > 20 else 1e-9 * np.eye(20)
    root = scipy.linalg.sqrtm((cov_a + jitter) @ (cov_b + jitter)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    distance = frechet_distance(Gaussian.fit(torch.from_numpy(a)), Gaussian.fit(torch.from_numpy(b)))
    assert distance == pytest.approx(expected, rel=1e-3 if num_vectors < 20 else 1e-8)


def test_frechet_distance_to_itself_is_nearly_zero() -> None:
    vectors = 4000 * torch.rand(30, 64, dtype=torch.float64)
    of_itself = Gaussian.fit(vectors)
    assert frechet_distance(of_itself, of_itself) < 1e-6 * of_itself.energy()


def test_distribution_distance_is_a_share_of_the_style_energy() -> None:
    generator = torch.Generator().manual_seed(0)
    styles = 5 + torch.randn(400, 6, generator=generator)
    sources = -5 + torch.randn(300, 6, generator=generator)
    distance = distribution_distance((styles[:300] + sources) / 2, sources, styles)
    scaled = distribution_distance((styles[:300] + sources) * 50, sources * 100, styles * 100)
    assert distance.outputs == pytest.approx(scaled.outputs)
    assert distance.floor is not None
    assert distance.floor < 0.01 < distance.outputs < distance.sources
    assert distance.sources == pytest.approx(4, rel=0.1)  # 10 away in each, of sets 5 from nothing
    assert not distance.warnings
    assert distribution_distance(torch.zeros(2, 6), sources, styles).outputs == pytest.approx(1)


def test_few_images_are_a_warning_and_a_single_one_is_refused() -> None:
    few = torch.rand(5, 8)
    warnings = distribution_distance(few, few, torch.rand(20, 8)).warnings
    assert len(warnings) == 1
    assert "5 stylized images are few for 8 dimensions" in warnings[0]
    with pytest.raises(ValueError, match="1 style image cannot show a distribution"):
        distribution_distance(few, few, few[:1])


# Sliced Wasserstein


def cloud_distance(a: Tensor, b: Tensor, num_directions: int, count: int = 256) -> float:
    along = directions(a.shape[1], num_directions, seed=3)
    return float(sw2(quantiles(a[None], along, count), quantiles(b[None], along, count)[0]))


def test_a_shifted_cloud_is_the_shift_away() -> None:
    cloud = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([1.0, -2.0, 0.5, 3.0])
    assert cloud_distance(cloud, cloud[torch.randperm(500)], 8) == 0
    assert cloud_distance(cloud, cloud + shift, 8) == pytest.approx(float(shift.square().sum()) / 4, rel=1e-4)


def test_on_a_line_it_is_the_distance_of_matched_points() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=64), rng.exponential(size=64)
    cost = (a[:, None] - b[None]) ** 2
    matched = scipy.optimize.linear_sum_assignment(cost)
    distance = cloud_distance(torch.tensor(a)[:, None], torch.tensor(b)[:, None], 1, count=64)
    assert distance == pytest.approx(cost[matched].mean(), rel=1e-5)


def test_clouds_may_differ_in_their_number_of_points() -> None:
    generator = torch.Generator().manual_seed(0)
    few, many = torch.randn(700, 3, generator=generator), torch.randn(9000, 3, generator=generator)
    assert cloud_distance(few, few.repeat(3, 1), 12) < 1e-3
    assert cloud_distance(few, many, 12) < 0.02 < cloud_distance(few, 2 * many, 12)


def test_pooled_quantiles_are_those_of_all_points_together() -> None:
    clouds = torch.randn(3, 256, 2, generator=torch.Generator().manual_seed(0)) + torch.arange(3)[:, None, None]
    along = directions(2, 4)
    together = quantiles(clouds.reshape(1, -1, 2), along)[0]
    torch.testing.assert_close(pool(quantiles(clouds, along)), together)


def test_the_same_seed_draws_the_same_points_of_large_maps() -> None:
    large = torch.rand(2, 3, 200, 200)
    assert sample(large, 1).shape == (2, MAX_POINTS, 3)
    assert torch.equal(sample(large, 1), sample(large, 1))
    assert not torch.equal(sample(large, 1), sample(large, 2))


# Style


def test_style_errors_are_0_for_the_style_and_1_for_no_features() -> None:
    features = 5000 * torch.rand(1, 8, 20, 30, generator=torch.Generator().manual_seed(0))
    known = image_metrics.style_statistics(features)
    compared = torch.cat([features, features.flip(3), torch.zeros_like(features)])
    for error in (image_metrics.gram_error, image_metrics.sliced_wasserstein, image_metrics.mean_std_error):
        figures = error(compared, known)
        assert figures.shape == (3,)
        np.testing.assert_allclose(figures, [0, 0, 1], atol=1e-4)


def test_style_errors_ignore_feature_scale_and_map_size() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(1, 6, 40, 40, generator=generator), torch.rand(1, 6, 70, 30, generator=generator) ** 2
    for error in (image_metrics.gram_error, image_metrics.sliced_wasserstein, image_metrics.mean_std_error):
        once = float(error(a, image_metrics.style_statistics(b)))
        assert once > 0.05
        assert float(error(100 * a, image_metrics.style_statistics(100 * b))) == pytest.approx(once, rel=1e-2)
        assert float(error(a.repeat(1, 1, 2, 3), image_metrics.style_statistics(b))) == pytest.approx(once, rel=1e-2)


def test_sliced_wasserstein_sees_what_a_gram_matrix_cannot() -> None:
    """Two-valued and normal features of the same second moments."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 1, 100, 100, generator=generator)
    coin = torch.where(normal > normal.median(), 1.0, -1.0) * normal.square().mean().sqrt()
    known = image_metrics.style_statistics(normal)
    assert float(image_metrics.gram_error(coin, known)) < 1e-6
    assert float(image_metrics.sliced_wasserstein(coin, known)) > 0.2


def test_the_average_style_lies_between_its_members() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 1, 4, 16, 16, generator=generator) * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1, 1)
    known = [image_metrics.style_statistics(features) for features in (one, other)]
    both = image_metrics.average(known)
    torch.testing.assert_close(both.gram, (known[0].gram + known[1].gram) / 2)
    for error in (image_metrics.gram_error, image_metrics.sliced_wasserstein, image_metrics.mean_std_error):
        assert float(error(one, both)) < float(error(one, known[1]))


# Structure


def test_ssim_is_that_of_scikit_image() -> None:
    source = image(0)
    for changed in (image(1), blurred(source), 1 - source, (source + 0.1 * image(2)).clamp(0, 1), source / 2):
        gray = [np.dot(x[0].permute(1, 2, 0).double().numpy(), (0.299, 0.587, 0.114)) for x in (changed, source)]
        expected = skimage.metrics.structural_similarity(
            *gray, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(image_metrics.ssim(changed, source)) == pytest.approx(expected, abs=1e-5)
    assert float(image_metrics.ssim(source, source)) == 1


def test_edges_of_a_square_are_its_outline_one_pixel_thin() -> None:
    x = torch.zeros(1, 3, 40, 40)
    x[..., 10:30, 10:30] = 1
    found = image_metrics.edges(x)[0, 0]
    rows, columns = found.nonzero(as_tuple=True)
    assert 60 <= len(rows) <= 84
    from_outline = torch.minimum(
        torch.stack([(rows - 9.5).abs(), (rows - 29.5).abs()]).amin(0),
        torch.stack([(columns - 9.5).abs(), (columns - 29.5).abs()]).amin(0),
    )
    assert from_outline.max() <= 1.5
    assert found[20].sum() == 2
    assert found[:, 20].sum() == 2


def test_diagonal_edges_are_thin_too() -> None:
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    for x in (rows + columns < 40, rows - columns < 0):
        found = image_metrics.edges(x.float().expand(1, 3, 40, 40))[0, 0]
        assert 1 <= found[20].sum() <= 2


def test_edge_f1_falls_with_blur_shift_and_foreign_strokes() -> None:
    source = image(0, cells=12)
    strokes = (source + 0.5 * (torch.arange(64) % 6 < 3)).clamp(0, 1)
    f1 = {
        name: float(image_metrics.edge_f1(changed, source))
        for name, changed in {
            "same": source,
            "shifted": source.roll(1, dims=3),
            "far": source.roll(6, dims=3),
            "blurred": blurred(source),
            "strokes": strokes,
        }.items()
    }
    assert f1["same"] == 1
    assert f1["shifted"] > 0.9
    assert max(f1["far"], f1["blurred"], f1["strokes"]) < 0.8
    flat = torch.full((1, 3, 20, 20), 0.5)
    assert float(image_metrics.edge_f1(flat, flat)) == 1
    assert float(image_metrics.edge_f1(source, torch.full_like(source, 0.5))) == 0


def test_content_error_is_that_of_each_image_alone() -> None:
    features = torch.rand(2, 4, 5, 5)
    errors = image_metrics.content_error(torch.stack([features[0], 0 * features[1]]), features)
    np.testing.assert_allclose(errors, [0, 1], atol=1e-6)


# Color


def test_lab_is_that_of_scikit_image() -> None:
    x = torch.cat([image(3), torch.zeros(1, 3, 48, 64), torch.ones(1, 3, 48, 64), 0.02 * image(4)])
    expected = skimage.color.rgb2lab(x.permute(0, 2, 3, 1).double().numpy())
    np.testing.assert_allclose(image_metrics.rgb_to_lab(x).permute(0, 2, 3, 1), expected, atol=2e-3)


def test_color_difference_is_the_mean_delta_e() -> None:
    a, b = image(5), image(6)
    lab = [skimage.color.rgb2lab(x[0].permute(1, 2, 0).numpy()) for x in (a, b)]
    expected = skimage.color.deltaE_cie76(*lab).mean()
    assert float(image_metrics.color_difference(a, b)) == pytest.approx(expected, rel=1e-4)


def test_palette_distance_ignores_places_and_is_in_lab_units() -> None:
    a = image(7)
    known = image_metrics.color_quantiles(a)[0]
    assert float(image_metrics.palette_distance(a.flip(2), known)) == 0
    black, white = torch.zeros(1, 3, 20, 20), torch.ones(1, 3, 30, 10)
    assert float(image_metrics.palette_distance(white, image_metrics.color_quantiles(black)[0])) == pytest.approx(
        100, rel=1e-3
    )


def test_every_metric_has_a_meaning_and_an_unknown_one_has_none() -> None:
    assert metric("gram_relu3_1").label == "Gram error relu3_1"
    assert metric("ssim").better == "higher"
    with pytest.raises(KeyError):
        metric("beauty")
