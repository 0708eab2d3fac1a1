"""Photographs: decoded once, the bad ones named, the crops drawn from a seed."""

import numpy as np
import pytest
from PIL import Image

from nst_ops.training.photos import load_photos, read_picture, to_tensor


def test_short_sides_are_equal_and_bad_files_are_named(material):
    photos = load_photos(material / "photos", 48)
    assert [min(image.shape[:2]) for image in photos.images] == [48, 48, 48]
    assert photos.images[1].shape == (72, 48, 3)
    assert list(photos.skipped) == ["broken.jpg"]


def test_a_folder_without_photographs_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="1 files skipped"):
        load_photos(tmp_path, 48)


def test_batches_follow_the_seed_only(material):
    photos = load_photos(material / "photos", 48)
    one, same, other = (photos.batch(np.random.default_rng(seed), 4, 32) for seed in (1, 1, 2))
    assert one.shape == (4, 3, 32, 32)
    assert (one == same).all()
    assert (one != other).any()


def test_crops_reach_every_corner_and_are_mirrored_half_the_time(tmp_path):
    pixels = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)
    numbered = np.stack([pixels >> 8, pixels & 255, pixels * 0], axis=-1).astype(np.uint8)
    Image.fromarray(numbered).save(tmp_path / "a.png")
    photos = load_photos(tmp_path, 48)
    batch = photos.batch(np.random.default_rng(0), 400, 47).numpy().astype(int)
    corner, next_to_it = (batch[:, 0, 0, x] * 256 + batch[:, 1, 0, x] for x in (0, 1))
    mirrored = next_to_it < corner
    assert 0.4 < mirrored.mean() < 0.6
    assert set(corner[~mirrored]) == {0, 1, 48, 49}


def test_margin_is_cut_off_before_resizing(tmp_path):
    framed = np.zeros((100, 200, 3), np.uint8)
    framed[10:90, 20:180] = 200
    Image.fromarray(framed).save(tmp_path / "a.png")
    inner = read_picture(tmp_path / "a.png", 40, margin=0.1)
    assert inner.shape == (40, 80, 3)
    assert (inner == 200).all()
    assert to_tensor(inner).shape == (1, 3, 40, 80)
