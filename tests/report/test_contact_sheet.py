"""The contact sheet shows what the manifest names, upright, and never fails a finished run."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import natural_image, write_video
from PIL import Image

from nst_ops.collection.manifest import SCHEMA
from nst_ops.report.contact_sheet import choose_rows, read_strips, write_contact_sheet
from nst_ops.storage import Folder

GROUND, CELL, FRAME = (250, 250, 250), (232, 232, 232), 256


def manifest_of(*rows: tuple[Path | str, Path | str, str, str]) -> pa.Table:
    names = ("source_uri", "output_uri", "kind", "status")
    return pa.Table.from_pylist([dict(zip(names, map(str, row), strict=True)) for row in rows], schema=SCHEMA)


def draw(rows: pa.Table, folder: Path, count: int, read_style: Any = None) -> str:
    return write_contact_sheet(read_strips(rows, count, read_style), Folder(str(folder)), "sheet.png")


def color(path: Path, rgb: tuple[int, int, int], size: tuple[int, int] = (300, 200)) -> Path:
    Image.new("RGB", size, rgb).save(path)
    return path


def cells(sheet: Path) -> list[tuple[int, int, int]]:
    """The color in the middle of each cell that was drawn, in reading order, pairs one after another."""
    pixels = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    colors = []
    row_height = FRAME + 20 + 12
    for top in range(12 + 20, pixels.shape[0] - FRAME, row_height):
        left = 12
        while left + 2 * FRAME + 4 <= pixels.shape[1]:
            for x in (left, left + FRAME + 4):
                middle = tuple(pixels[top + FRAME // 2, x + FRAME // 2])
                if middle != GROUND:
                    colors.append(middle)
            left += 2 * FRAME + 4 + 12
    return colors


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 12])
def test_every_pair_is_drawn_before_beside_after(tmp_path, count):
    rows = []
    for n in range(count):
        before = color(tmp_path / f"{n:02}.png", (10 * n, 0, 0))
        rows.append((before, color(tmp_path / f"{n:02}_after.png", (0, 10 * n, 0)), "image", "ok"))
    uri = draw(manifest_of(*rows), tmp_path / "out", 12)
    assert uri == str(tmp_path / "out/sheet.png")
    expected = [cell for n in range(count) for cell in ((10 * n, 0, 0), (0, 10 * n, 0))]
    assert cells(Path(uri)) == expected


def test_no_more_pairs_than_asked_and_none_of_failed_items(tmp_path):
    red, blue = color(tmp_path / "red.png", (255, 0, 0)), color(tmp_path / "blue.png", (0, 0, 255))
    rows = [(red, blue, "image", "ok")] * 5 + [(blue, red, "image", "failed")] * 5
    uri = draw(manifest_of(*rows), tmp_path, 3)
    assert cells(Path(uri)) == [(255, 0, 0), (0, 0, 255)] * 3


def test_what_has_gone_or_is_broken_is_left_out(tmp_path):
    red = color(tmp_path / "red.png", (255, 0, 0))
    (tmp_path / "broken.png").write_bytes(b"words")
    rows = [
        (tmp_path / "gone.png", red, "image", "ok"),
        (red, tmp_path / "broken.png", "image", "ok"),
        (red, tmp_path / "gone.mp4", "video", "ok"),
        (red, red, "image", "ok"),
    ]
    uri = draw(manifest_of(*rows), tmp_path, 12)
    assert cells(Path(uri)) == [(255, 0, 0)] * 2


def test_nothing_to_draw_is_no_strip(tmp_path):
    assert read_strips(SCHEMA.empty_table(), 12) == []
    assert read_strips(manifest_of((tmp_path / "a.png", tmp_path / "b.png", "image", "ok")), 12) == []


def halves(rotation: int) -> list[np.ndarray]:
    """Frames that are red above and blue below once they are turned by ``rotation``."""
    upright = np.zeros((64, 64, 3), np.uint8)
    upright[:32, :, 0], upright[32:, :, 2] = 255, 255
    return [np.ascontiguousarray(np.rot90(upright, -rotation // 90))] * 3


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_videos_stand_upright(tmp_path, rotation):
    video = write_video(tmp_path / "a.mp4", halves(rotation), rotation=rotation)
    uri = draw(manifest_of((video, video, "video", "ok")), tmp_path, 1)
    pixels = np.asarray(Image.open(uri)).astype(int)
    above, below = pixels[12 + 20 + 128 - 16, 12 + 128], pixels[12 + 20 + 128 + 16, 12 + 128]
    assert above[0] > 200 > 60 > above[2]
    assert below[2] > 200 > 60 > below[0]


@pytest.mark.parametrize(("extension", "output"), [("gif", "gif.mp4"), ("webp", "webp.mp4")])
def test_an_animation_is_shown_beside_its_video(tmp_path, extension, output):
    frames = [natural_image("coffee", 64, 48), natural_image("chelsea", 64, 48)]
    source = tmp_path / f"a.{extension}"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=100)
    video = write_video(tmp_path / f"a.{output}", [np.asarray(frame) for frame in frames])
    uri = draw(manifest_of((source, video, "video", "ok")), tmp_path, 1)
    before, after = cells(Path(uri))
    assert np.abs(np.subtract(before, after)).max() < 30
    assert before != CELL


def test_transparency_shows_the_ground_of_the_cell(tmp_path):
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    row = (tmp_path / "clear.png", tmp_path / "clear.png", "image", "ok")
    uri = draw(manifest_of(row), tmp_path, 1)
    assert cells(Path(uri)) == [CELL, CELL]


@pytest.mark.parametrize("name", ["фильм 映画.png", "a" * 120 + ".png", "100% #1?.png"])
def test_any_name_can_stand_above_a_pair(tmp_path, name):
    red = color(tmp_path / name, (255, 0, 0))
    row = (red, red, "image", "ok")
    assert draw(manifest_of(row), tmp_path, 1)


def styled(rows: list[tuple[str, str]], kind: str = "image") -> pa.Table:
    names = ("source_uri", "style", "output_uri", "kind", "status")
    filled = [(source, style, f"{style}/{source}", kind, "ok") for source, style in rows]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in filled], schema=SCHEMA)


@given(st.integers(0, 60), st.integers(0, 20))
def test_a_choice_is_spread_over_the_collection(length, count):
    chosen = [int(row["source_uri"]) for row in choose_rows(styled([(f"{n:02}", "s") for n in range(length)]), count)]
    assert len(chosen) == min(length, count)
    assert chosen == sorted(set(chosen))
    if 0 < count < length:
        assert chosen[0] == 0
        assert max(np.diff([*chosen, length])) <= length / count + 1


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 12))
def test_videos_and_images_share_the_sheet(num_videos, num_images, count):
    rows = [(f"v{n}", f"V{n}", "video", "ok") for n in range(num_videos)]
    rows += [(f"i{n}", f"I{n}", "image", "ok") for n in range(num_images)]
    kinds = [row["kind"] for row in choose_rows(manifest_of(*rows), count)]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds.count("video") >= min(num_videos, (count + 1) // 2)
    assert len(kinds) == min(count, num_videos + num_images)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 12), st.sampled_from(["image", "video"]))
def test_a_sheet_shows_as_many_inputs_and_styles_as_fit(num_files, num_styles, count, kind):
    rows = [(f"{file:02}", f"s{style}") for file in range(num_files) for style in range(num_styles)]
    keys = {(row["source_uri"], row["style"]) for row in choose_rows(styled(rows, kind), count)}
    assert len(keys) == min(count, len(rows))
    assert len({source for source, _ in keys}) == min(count, num_files)
    assert len({style for _, style in keys}) == min(count, num_styles)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.booleans()), min_size=1, unique=True), st.randoms())
def test_every_style_is_shown_whatever_the_order_of_the_rows(items, random):
    """Rows are drawn where each file has a style of its own, or lacks some, and some styles have no video."""
    tables = [
        styled([(f"{kind}{file}", f"s{style}") for file, style, video in items if video == is_video], kind)
        for kind, is_video in (("video", True), ("image", False))
    ]
    table = pa.concat_tables(tables)
    shuffled = table.take(random.sample(range(len(table)), len(table)))
    chosen = choose_rows(shuffled, 12)
    assert {row["style"] for row in chosen} == {f"s{style}" for _, style, _ in items}
    assert chosen == choose_rows(table, 12)


def test_the_style_image_stands_between_before_and_after(tmp_path):
    red, blue = color(tmp_path / "red.png", (255, 0, 0)), color(tmp_path / "blue.png", (0, 0, 255))
    table = manifest_of((red, blue, "image", "ok"))
    table = table.set_column(table.column_names.index("style"), "style", pa.array(["moss"]))
    asked = []

    def read_style(name: str) -> np.ndarray:
        asked.append(name)
        return np.full((600, 700, 3), (0, 99, 0), np.uint8)

    uri = draw(table, tmp_path, 1, read_style)
    pixels = np.asarray(Image.open(uri).convert("RGB"))
    middles = [tuple(pixels[12 + 20 + 128, 12 + 128 + number * (FRAME + 4)]) for number in range(3)]
    assert middles == [(255, 0, 0), (0, 99, 0), (0, 0, 255)]
    assert asked == ["moss"]
