"""Photographs are drawn: with one face, many, half a one, none; every option shows."""

from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from nst_ops.anime.arrays import FloatArray, UInt8Array, to_lab
from nst_ops.anime.drawing import NO_FACE, draw_head, draw_photograph
from nst_ops.anime.faces import find_faces
from nst_ops.anime.networks import FaceNetworks
from nst_ops.anime.portrait import take_portrait
from nst_ops.anime.raster import Canvas, Region, curve, taper
from nst_ops.anime.regions import GROUND, HAIR, SKIN, find_regions
from nst_ops.anime.sketch import Head
from nst_ops.anime.traits import measure_traits
from nst_ops.config.stylize import AnimeConfig


@pytest.fixture(scope="module")
def head(portrait: UInt8Array, networks: FaceNetworks) -> Head:
    (face,) = find_faces(portrait, networks)
    seen = take_portrait(portrait, face, networks)
    return Head(seen, find_regions(seen))


@pytest.fixture(scope="module")
def drawing(portrait: UInt8Array, networks: FaceNetworks) -> UInt8Array:
    drawn, notes = draw_photograph(portrait, AnimeConfig(), networks)
    assert notes == []
    return drawn


def _flat(rgb_hwc: UInt8Array) -> float:
    """Share of pixels that are as their neighbors."""
    gray = cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)) / 8
    return float((slope < 1).mean())


def _eye(rgb_hwc: UInt8Array) -> UInt8Array:
    return rgb_hwc[88:122, 52:86]


def test_regions_lie_where_they_should(head: Head) -> None:
    labels = head.regions.probabilities.argmax(2)
    x, y = head.portrait.frame.grid(100.0)
    assert (labels[(abs(x) < 0.2) & (y > -0.6) & (y < -0.1)] == SKIN).mean() > 0.95
    assert (labels[(abs(x) < 0.2) & (y > -1.3) & (y < -1.15)] == HAIR).mean() > 0.9
    assert (labels[(abs(x) > 0.85) & (y < -1.0)] == GROUND).mean() > 0.95
    assert head.regions.has_hair
    assert not head.regions.has_hat
    assert not head.regions.is_bald


def test_traits_of_a_smiling_woman(head: Head) -> None:
    traits = measure_traits(head.portrait, head.regions)
    assert traits.beard == 0
    assert not traits.glasses
    assert not traits.eyes_closed
    assert traits.smile > 0.3
    assert traits.mouth_open < 0.5


def test_colored_light_is_taken_off(portrait: UInt8Array, networks: FaceNetworks, head: Head) -> None:
    violet = np.clip(portrait * np.array([0.95, 0.62, 1.15]), 0, 255).astype(np.uint8)
    (face,) = find_faces(violet, networks)
    seen = take_portrait(violet, face, networks)
    assert seen.tint > 5
    off = find_regions(seen).skin - head.regions.skin
    raw = np.median(to_lab(violet)[130:150, 80:100].reshape(-1, 3), 0) - np.median(
        to_lab(portrait)[130:150, 80:100].reshape(-1, 3), 0
    )
    assert np.hypot(*off[1:]) < 0.6 * np.hypot(*raw[1:])


def test_a_drawing_is_flat_and_keeps_the_size(portrait: UInt8Array, drawing: UInt8Array) -> None:
    assert drawing.shape == portrait.shape
    assert drawing.dtype == np.uint8
    assert _flat(drawing) > 1.5 * _flat(portrait)


def test_the_same_photograph_is_drawn_the_same(
    portrait: UInt8Array, drawing: UInt8Array, networks: FaceNetworks
) -> None:
    assert (draw_photograph(portrait, AnimeConfig(), networks)[0] == drawing).all()
    assert (draw_photograph(portrait, AnimeConfig(), FaceNetworks())[0] == drawing).all()


def test_a_larger_picture_has_the_same_drawing(portrait: UInt8Array, networks: FaceNetworks, head: Head) -> None:
    """Lines, locks and tones scale: only the pixels are finer."""
    small, small_opacity = draw_head(head, AnimeConfig(), 200.0)
    large, large_opacity = draw_head(head, AnimeConfig(), 600.0)
    height, width, _ = small.shape
    reduced = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    opacity = np.minimum(small_opacity, cv2.resize(large_opacity, (width, height), interpolation=cv2.INTER_AREA))
    off = np.abs(reduced - small).mean(2)[opacity > 0.99]
    assert np.median(off) < 2
    assert (off > 40).mean() < 0.08


def test_a_tilted_head_is_drawn_tilted(photograph: UInt8Array, networks: FaceNetworks) -> None:
    turn = cv2.getRotationMatrix2D((224, 120), 20, 1.0)
    turned = np.asarray(cv2.warpAffine(photograph, turn, (448, 300), borderMode=cv2.BORDER_REFLECT))
    upright = np.asarray(draw_photograph(photograph, AnimeConfig(), networks)[0])
    expected = cv2.warpAffine(upright, turn, (448, 300), borderMode=cv2.BORDER_REFLECT)[70:165, 175:265]
    drawn = draw_photograph(turned, AnimeConfig(), networks)[0][70:165, 175:265]
    off = np.abs(drawn.astype(np.float32) - expected).mean(2)
    assert np.median(off) < 8


@pytest.mark.parametrize("option", ["eye_size", "line_weight", "palette_strength", "blush"])
def test_every_strength_shows(option: str, portrait: UInt8Array, networks: FaceNetworks) -> None:
    weak, strong = (
        draw_photograph(portrait, AnimeConfig(**{option: value}), networks)[0]  # type: ignore[arg-type]
        for value in {"eye_size": (0.7, 1.3), "line_weight": (0.5, 2.5)}.get(option, (0.0, 2.0))
    )
    if option == "eye_size":
        assert (_dark(_eye(strong))).sum() > 1.3 * (_dark(_eye(weak))).sum()
    elif option == "line_weight":
        assert _dark(strong).sum() > 1.1 * _dark(weak).sum()
    else:
        cheeks = [to_lab(drawn)[118:132, 62:72].mean((0, 1)) for drawn in (weak, strong)]
        assert np.linalg.norm(cheeks[0] - cheeks[1]) > 2


def _dark(rgb_hwc: UInt8Array) -> FloatArray:
    return np.asarray(rgb_hwc.max(2) < 110, np.float32)


def test_backgrounds(portrait: UInt8Array, networks: FaceNetworks) -> None:
    """Far from the head: kept is the photograph, flat is one color, painted is smooth but not flat."""
    corner = np.s_[0:40, 0:20]
    painted, flat, kept = (
        draw_photograph(portrait, AnimeConfig(background=background), networks)[0][corner]
        for background in ("painted", "flat", "kept")
    )
    assert np.abs(kept.astype(int) - portrait[corner]).max() <= 1
    assert np.ptp(flat, axis=(0, 1)).max() == 0
    assert 0 < painted.std() < portrait[corner].std()


def test_no_face_is_painted_with_a_note(networks: FaceNetworks) -> None:
    rng = np.random.default_rng(1)
    scene = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(scene + rng.normal(0, 12, scene.shape), 0, 255).astype(np.uint8)
    painted, notes = draw_photograph(noisy, AnimeConfig(), networks)
    assert notes == [NO_FACE]
    assert painted.shape == noisy.shape
    assert _flat(painted) > 2 * _flat(noisy)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (5, 7), (16, 16), (40, 2000)])
def test_tiny_and_thin_pictures(size: tuple[int, int], networks: FaceNetworks) -> None:
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    drawn, notes = draw_photograph(picture, AnimeConfig(), networks)
    assert drawn.shape == picture.shape
    assert notes == [NO_FACE]


def test_a_face_of_twenty_pixels(photograph: UInt8Array, networks: FaceNetworks) -> None:
    small = np.asarray(cv2.resize(photograph, (110, 110), interpolation=cv2.INTER_AREA))
    (face,) = find_faces(small, networks)
    assert face.height < 25
    drawn, notes = draw_photograph(small, AnimeConfig(), networks)
    assert notes == []
    assert drawn.shape == small.shape


def test_a_huge_face_takes_bounded_time(portrait: UInt8Array, networks: FaceNetworks) -> None:
    huge = np.asarray(cv2.resize(portrait, (2848, 3488), interpolation=cv2.INTER_CUBIC))
    drawn, notes = draw_photograph(huge, AnimeConfig(), networks)
    assert drawn.shape == huge.shape
    assert notes == []
    assert _flat(drawn) > 0.6


def test_everyone_in_a_crowd_is_drawn_in_place(portrait: UInt8Array, networks: FaceNetworks) -> None:
    small = np.asarray(cv2.resize(portrait, (89, 109), interpolation=cv2.INTER_AREA))
    crowd = np.tile(small, (5, 8, 1))
    started = time.monotonic()
    drawn, notes = draw_photograph(crowd, AnimeConfig(), networks)
    assert time.monotonic() - started < 120  # some 8 s on a free core
    assert notes == []
    changed = np.abs(drawn.astype(int) - crowd).mean(2).reshape(5, 109, 8, 89)[:, 35:75, :, 25:65].mean((1, 3))
    assert (changed > 12).all()


@pytest.mark.parametrize("cut", ["left", "right", "top", "bottom"])
def test_half_a_face_at_the_border(cut: str, photograph: UInt8Array, networks: FaceNetworks) -> None:
    halves = {"left": np.s_[:, 225:], "right": np.s_[:, :225], "top": np.s_[110:, :], "bottom": np.s_[:130, :]}
    half = np.ascontiguousarray(photograph[halves[cut]])
    drawn, _ = draw_photograph(half, AnimeConfig(), networks)
    assert drawn.shape == half.shape


def test_gray_photographs_have_gray_drawings(portrait: UInt8Array, networks: FaceNetworks) -> None:
    gray = np.repeat(np.asarray(cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY))[..., None], 3, axis=2)
    drawn, notes = draw_photograph(gray, AnimeConfig(), networks)
    assert notes == []
    assert (drawn == drawn[..., :1]).all()
    assert _flat(drawn) > 1.5 * _flat(gray)


def test_a_picture_that_is_a_drawing_already(drawing: UInt8Array, networks: FaceNetworks) -> None:
    again, _ = draw_photograph(drawing, AnimeConfig(), networks)
    assert again.shape == drawing.shape


def test_heads_without_regions_are_still_drawn(head: Head) -> None:
    """Where the person mask is empty nothing is opaque, and nothing fails."""
    seen = replace(head.portrait, person=np.zeros_like(head.portrait.person))
    rgb, opacity = draw_head(Head(seen, find_regions(seen)), AnimeConfig(), 150.0)
    assert rgb.shape[:2] == opacity.shape
    assert np.isfinite(opacity).all()


def test_shapes_on_a_canvas(head: Head) -> None:
    canvas = Canvas(head.portrait.frame, 100.0)
    square = np.array([[-0.2, -0.2], [0.2, -0.2], [0.2, 0.2], [-0.2, 0.2]], np.float32)
    assert canvas.coverage(square).sum() == pytest.approx(1600, rel=0.08)
    canvas.fill(square, (10, 20, 30))
    assert (canvas.rgb[(abs(canvas.x) < 0.15) & (abs(canvas.y) < 0.15)] == (10, 20, 30)).all()
    canvas.stroke(np.array([[-0.3, 0.0], [0.3, 0.0]], np.float32), 0.1, (200, 0, 0))
    column = canvas.rgb[:, np.abs(canvas.x[0]).argmin(), 0] > 150
    assert 8 <= column.sum() <= 13


def test_outlines_have_the_width_asked_for() -> None:
    y, x = np.mgrid[0:200, 0:200]
    disk = Region((np.hypot(x - 100, y - 100) < 60).astype(np.float32), 2.0)
    assert disk.inside.sum() == pytest.approx(np.pi * 60**2, rel=0.02)
    assert disk.outline(4.0).sum() == pytest.approx(4.0 * 2 * np.pi * 60, rel=0.15)


def test_curves_pass_through_their_points() -> None:
    points = np.array([[0, 0], [1, 0.5], [2, 0], [3, 1]], np.float32)
    path = curve(points, 301)
    assert all(np.linalg.norm(path - point, axis=1).min() < 0.02 for point in points)
    assert path[:, 1].max() < 1.05
    assert taper(5, 0.5, 0.5, 0.0).tolist() == pytest.approx([0, 0.5, 1, 0.5, 0])
