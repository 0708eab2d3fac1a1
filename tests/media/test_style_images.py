"""Style images: found, named, checked early and read when they are needed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from job_runner import write_image
from PIL import Image

from nst_ops.config import ConfigError
from nst_ops.config.stylize import StyleConfig
from nst_ops.media.style_images import StyleImages, _safe, read_styles


def config_of(images: Path | str, mode: str = "each", **more: object) -> StyleConfig:
    return StyleConfig(images=str(images), mode=mode, **more)


def test_a_folder_gives_its_images_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "deep/er/c.webp", ".hidden.png", ".trash/d.png"):
        write_image(tmp_path / name)
    (tmp_path / "LICENCE.txt").write_text("free")
    styles = read_styles(config_of(tmp_path, side=64))
    assert [style.name for style in styles] == ["a", "b", "deep_er_c"]
    assert {style.pixels_hwc.shape for style in styles} == {(64, 96, 3)}
    assert styles[0].pixels_hwc.dtype == np.uint8


def test_one_image_by_its_own_name_on_any_file_system(tmp_path: Path) -> None:
    write_image(tmp_path / "wave.png", 40, 40, seed=1)
    MemoryFileSystem().pipe("/styles/of mine/wave.png", (tmp_path / "wave.png").read_bytes())
    (local,) = read_styles(config_of(tmp_path / "wave.png", "one", side=40))
    (remote,) = read_styles(config_of("memory://styles/of mine/wave.png", "one", side=40))
    (in_folder,) = read_styles(config_of("memory://styles", "one", side=40))
    assert [local.name, remote.name, in_folder.name] == ["wave", "wave", "of mine_wave"]
    np.testing.assert_array_equal(local.pixels_hwc, np.asarray(Image.open(tmp_path / "wave.png")))
    np.testing.assert_array_equal(local.pixels_hwc, remote.pixels_hwc)


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (96, 64)), ((20, 40), (64, 128)), ((1000, 10), (256, 3))])
def test_the_shorter_side_is_what_was_asked_for(tmp_path, size, expected):
    write_image(tmp_path / "a.png", *size)
    (style,) = read_styles(config_of(tmp_path, side=64))
    assert style.pixels_hwc.shape[1::-1] == expected


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    (style,) = read_styles(config_of(tmp_path, side=64))
    assert (style.pixels_hwc == 255).all()


def test_names_that_meet_keep_their_extension(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        write_image(tmp_path / name)
    assert StyleImages.open(config_of(tmp_path)).names == ("a.jpg", "a.png", "b")
    write_image(tmp_path / "a_b.png")
    write_image(tmp_path / "a" / "b.png")
    with pytest.raises(ConfigError, match=r"two style images would be named 'a_b\.png': rename one"):
        StyleImages.open(config_of(tmp_path))


@given(st.text(st.characters(), min_size=1))
def test_a_name_is_one_visible_part_of_a_path(relpath):
    name = _safe(relpath)
    assert name
    assert not name.startswith(".")
    assert "/" not in name
    assert "\x00" not in name
    name.encode()  # and can be written into a manifest


def test_what_cannot_be_a_style_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no style images: give --style\.images"):
        StyleImages.open(StyleConfig())
    with pytest.raises(ConfigError, match="nowhere' does not exist"):
        StyleImages.open(config_of(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="holds no images"):
        StyleImages.open(config_of(tmp_path))
    with pytest.raises(ConfigError, match="nosuchscheme"):
        StyleImages.open(config_of("nosuchscheme://styles"))
    write_image(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"words")
    with pytest.raises(ConfigError, match=r"bad\.png' cannot be read"):
        StyleImages.open(config_of(tmp_path))
    with pytest.raises(ConfigError, match=r"bad\.png' cannot be read"):
        StyleImages.open(config_of(tmp_path / "bad.png", "one"))
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"bad\.png' is empty"):
        StyleImages.open(config_of(tmp_path))


def test_several_images_are_not_one_style(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    with pytest.raises(ConfigError, match=r"holds 2 images.*--style\.mode each .* or random"):
        StyleImages.open(config_of(tmp_path, "one"))
    assert StyleImages.open(config_of(tmp_path / "a.png", "one")).names == ("a",)


def test_a_fingerprint_costs_no_reading_of_all_images(tmp_path: Path) -> None:
    for index in range(200):
        write_image(tmp_path / f"{index:03}.png", seed=index)
    images = StyleImages.open(config_of(tmp_path))
    assert images.fingerprint.startswith("200 pictures, ")
    assert StyleImages.open(config_of(tmp_path, "random", seed=3)).fingerprint == images.fingerprint
    assert len(pickle.dumps(images)) < 200 * 40  # names travel to the workers, pixels do not

    (tmp_path / "001.png").write_bytes(b"damaged, and not among those that are looked at")
    changed = StyleImages.open(config_of(tmp_path))
    with pytest.raises(ConfigError, match=r"001\.png' cannot be read"):
        changed.read("001")
    (tmp_path / "001.png").rename(tmp_path / "200.png")
    renamed = StyleImages.open(config_of(tmp_path))
    (tmp_path / "200.png").unlink()
    fewer = StyleImages.open(config_of(tmp_path))
    assert len({each.fingerprint for each in (images, changed, renamed, fewer)}) == 4


@pytest.mark.skipif(os.name != "posix", reason="names that are no text")
def test_a_name_that_is_no_text_can_be_a_style(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(str(tmp_path)) + b"/caf\xe9.png")
    (style,) = read_styles(config_of(tmp_path, "one", side=32))
    assert style.name == "caf_"
