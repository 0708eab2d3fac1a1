"""Style images: whatever a person has, or why it will not do."""

import logging

import numpy as np
import pytest
from PIL import Image

from nst_ops.config import ConfigError
from nst_ops.training.data import read_style_image


def saved(folder, size, mode="RGB", color="red", name="klimt.png") -> str:
    Image.new(mode, size, color).save(folder / name)
    return str(folder / name)


@pytest.mark.parametrize("size", [(100, 160), (160, 100), (100, 100)])
def test_its_shorter_side_is_as_asked_and_its_shape_is_kept(size, tmp_path):
    style_image = read_style_image(saved(tmp_path, size), 80)
    assert style_image.dtype == np.uint8
    assert style_image.shape == (size[1] * 80 // 100, size[0] * 80 // 100, 3)
    assert (style_image == [255, 0, 0]).all()


@pytest.mark.parametrize(("size", "margin"), [((63, 300), 0.0), ((100, 300), 0.2), ((3, 3), 0.4)])
def test_a_tiny_one_is_refused_with_its_size_and_the_remedy(size, margin, tmp_path):
    uri = saved(tmp_path, size)
    left = tuple(side - 2 * round(side * margin) for side in size)
    with pytest.raises(ConfigError, match=f"{left[0]}x{left[1]} px.*at least 64 px, better 512") as refused:
        read_style_image(uri, 512, margin)
    assert uri in str(refused.value)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "CMYK", "I;16"])
def test_every_kind_of_image_is_taken(mode, tmp_path):
    name = "klimt.tif" if mode == "CMYK" else "klimt.png"
    assert read_style_image(saved(tmp_path, (80, 90), mode, 0 if mode != "LA" else (0, 255), name), 80).shape == (
        90,
        80,
        3,
    )


def test_a_gray_one_is_taken_with_a_word(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert (read_style_image(saved(tmp_path, (80, 80), "L", 77), 80) == 77).all()
    assert "klimt.png' is gray" in caplog.text


def test_what_is_transparent_is_white(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    image = Image.new("RGBA", (80, 80), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 40, 80))
    image.save(tmp_path / "klimt.png")
    style_image = read_style_image(str(tmp_path / "klimt.png"), 80)
    assert (style_image[:, :40] == 255).all()
    assert (style_image[:, 40:] == [200, 0, 0]).all()
    assert "transparent in parts" in caplog.text


def test_the_margin_is_cut_off_at_each_side_before_resizing(tmp_path):
    framed = np.full((200, 400, 3), 255, np.uint8)
    framed[20:180, 40:360] = (200, 10, 30)
    Image.fromarray(framed).save(tmp_path / "klimt.png")
    inner = read_style_image(str(tmp_path / "klimt.png"), 80, margin=0.1)
    assert inner.shape == (80, 160, 3)
    assert (inner == [200, 10, 30]).all()


@pytest.mark.parametrize(("size", "said"), [((70, 90), True), ((160, 200), False)])
def test_much_enlarging_is_said(size, said, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert min(read_style_image(saved(tmp_path, size), 256).shape[:2]) == 256
    assert ("enlarged 3.7 times" in caplog.text) == said
    assert not said or "klimt.png" in caplog.text


@pytest.mark.parametrize("name", ["klimt.png", "nowhere/klimt.png", ""])
def test_a_file_that_is_not_there_is_named(name, tmp_path):
    uri = str(tmp_path / name)
    with pytest.raises(ConfigError, match="style: there is no file") as refused:
        read_style_image(uri, 512)
    assert uri in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n damaged"])
def test_a_file_that_is_no_image_is_named_with_the_reason(data, tmp_path):
    (tmp_path / "klimt.png").write_bytes(data)
    with pytest.raises(ConfigError, match=r"style: '.*klimt\.png' cannot be read: ."):
        read_style_image(str(tmp_path / "klimt.png"), 512)


def test_a_name_in_the_folder_at_hand_is_a_path(tmp_path, monkeypatch):
    saved(tmp_path, (80, 80))
    monkeypatch.chdir(tmp_path)
    assert read_style_image("klimt.png", 80).shape == (80, 80, 3)


def test_an_unknown_file_system_is_a_config_error():
    with pytest.raises(ConfigError, match=r"style: 'nowhere://a/klimt\.png' cannot be read"):
        read_style_image("nowhere://a/klimt.png", 80)
