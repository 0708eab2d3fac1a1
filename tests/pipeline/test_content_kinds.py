"""Content decides where the name says otherwise or nothing."""

from pathlib import Path

import av
import pytest
from media_factory import moving_frames, natural_image, write_video
from PIL import Image
from planning import plan_of
from test_worker import make_worker, stylize

from nst_ops.collection.results import ErrorGroup
from nst_ops.pipeline.console import Summary

FRAMES = moving_frames(6, 64, 48)


def gif(path: Path) -> None:
    first, *others = map(Image.fromarray, FRAMES)
    first.save(path, "GIF", save_all=True, append_images=others, duration=40)


def film(path: Path, extension: str = ".mp4", codec: str = "libx264") -> None:
    write_video(path.with_suffix(extension), FRAMES, codec=codec).rename(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def num_frames(path: str) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def test_content_decides_where_the_name_says_otherwise(folders):
    source, output = folders
    film(source / "tenor.gif")
    film(source / "snap.jpg")
    film(source / "webm.mp4", ".webm", "libvpx")
    gif(source / "moves.jpg")
    gif(source / "moves.mp4")
    natural_image("coffee", 64, 48).save(source / "still.mp4", "PNG")
    natural_image("coffee", 64, 48).save(source / "web.jpg", "WEBP")
    rows = stylize(make_worker(source, output, temporal={"mode": "none"}))
    assert {name: (row["status"], row["kind"]) for name, row in rows.items()} == {
        **dict.fromkeys(("tenor.gif", "snap.jpg", "webm.mp4", "moves.jpg", "moves.mp4"), ("ok", "video")),
        **dict.fromkeys(("still.mp4", "web.jpg"), ("ok", "image")),
    }
    for name in ("tenor.gif", "snap.jpg", "webm.mp4", "moves.jpg", "moves.mp4"):
        assert num_frames(rows[name]["output_uri"]) == rows[name]["num_frames"] == 6, name
    assert rows["moves.mp4"]["output_uri"].endswith("/moves.mp4")
    with Image.open(rows["web.jpg"]["output_uri"]) as written:
        assert written.format == "JPEG"


def test_names_that_say_nothing_are_stylized(folders):
    source, output = folders
    natural_image("coffee", 64, 48).save(source / "0a1b2c", "JPEG")
    natural_image("coffee", 64, 48).save(source / "cdn.jpg?w=640", "JPEG")
    natural_image("coffee", 64, 48).save(source / "x.jpg_large", "JPEG")
    film(source / "PXL.MP")
    film(source / "MOV1.MOD", ".mpg", "mpeg2video")
    (source / "notes").write_text("words")
    rows = stylize(make_worker(source, output, temporal={"mode": "none"}))
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(
        ("0a1b2c", "cdn.jpg?w=640", "x.jpg_large", "PXL.MP", "MOV1.MOD"), "ok"
    )
    names = {name: row["output_uri"].rpartition("/")[2] for name, row in rows.items()}
    assert names == {
        "0a1b2c": "0a1b2c.png",
        "cdn.jpg?w=640": "cdn.jpg?w=640.png",
        "x.jpg_large": "x.jpg_large.png",
        "PXL.MP": "PXL.MP.mkv",
        "MOV1.MOD": "MOV1.MOD.mkv",
    }


def test_two_outputs_never_share_a_name_whatever_was_found_inside(folders):
    source, output = folders
    natural_image("coffee", 64, 48).save(source / "a", "JPEG")
    natural_image("coffee", 64, 48).save(source / "a.png")
    film(source / "b")
    film(source / "b.mkv", ".mkv")
    refused = {r.item["relpath"]: r for batch in plan_of(make_worker(source, output)).refusals() for r in batch}
    assert set(refused) == {"a", "b"}
    assert {r.error_type for r in refused.values()} == {"OutputCollisionError"}


def test_what_was_wrong_with_a_picture_is_in_its_note(folders):
    source, output = folders
    natural_image("coffee", 64, 48).save(source / "a.jpg")
    (source / "a.jpg").write_bytes((source / "a.jpg").read_bytes()[:-2])
    natural_image("coffee", 64, 48).save(source / "b.jpg")
    rows = stylize(make_worker(source, output))
    assert "last bytes are missing" in rows["a.jpg"]["note"]
    assert rows["b.jpg"]["note"] is None


def test_the_largest_image_is_a_matter_of_configuration(folders):
    source, output = folders
    natural_image("coffee", 1000, 800).save(source / "a.png")
    rows = stylize(make_worker(source, output, images={"max_megapixels": 0.5}))
    assert "images.max_megapixels" in rows["a.png"]["error_message"]
    assert stylize(make_worker(source, output.with_name("out2")))["a.png"]["status"] == "ok"


def test_the_summary_says_why_files_were_skipped():
    skipped = [ErrorGroup(3, "UnsupportedMediaError", "a hidden file", "in/.a.jpg")]
    assert "3: a hidden file" in Summary({"ok": 1, "skipped": 3}, skipped=skipped).table()
