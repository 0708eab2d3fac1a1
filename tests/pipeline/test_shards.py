"""Shards in a worker: what is stylized, what comes along, what is recorded."""

import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runner import read_manifest, visible_files, write_image
from media_factory import moving_frames
from PIL import Image
from planning import spec_of, units_of
from shard_factory import image_bytes, pixels, read_tar, read_webdataset, write_hf_parquet, write_tar

from nst_ops.collection.inputs import Source
from nst_ops.collection.units import item_id
from nst_ops.config import StylizeConfig
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.media.shards import open_shard
from nst_ops.pipeline import images
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import StorageUnavailableError
from nst_ops.stylizers import Style

Row = dict[str, object]


def make_worker(source: Path, styles: Path | None = None, output_name: str = "out", **sections: object) -> Worker:
    if styles:
        sections["style"] = {"images": str(styles), "mode": "each", "side": 32}
    output = str(source.parent / output_name)
    model = {"kind": "identity"}
    config = StylizeConfig(input=str(source), output=output, **{"model": model, **sections})
    return Worker(spec_of(config))


def stylize(worker: Worker, shard: str = "", extra: Sequence[dict[str, object]] = ()) -> dict[str, Row]:
    """Every input as planned, its files in a shard of this name; rows by member or by file."""
    units = units_of(worker)
    if shard:
        (unit,) = units
        items = [{**item, "extra": more} for item, more in zip(unit.items, extra, strict=True)]
        units = [replace(unit, items=tuple(items), shard=shard)]
    for unit in units:
        result = worker(unit)
        assert not result.fatal
        assert not result.error
    return check_rows(worker)


def check_rows(worker: Worker) -> dict[str, Row]:
    """Each image in each style once, and every ok row's image in its shard with its hash; no other image."""
    output, several = Path(worker.config.output), len(worker.run_spec.choice.names) > 1
    rows = read_manifest(output)
    keys = [(row["item_id"], row["style"]) for row in rows]
    assert len(keys) == len(set(keys))
    held = {}
    for path in visible_files(output):
        if path.suffix in (".tar", ".parquet") and path.parent.name != "manifest":
            for sample in open_shard(str(path), worker.config.shards.image_column).samples():
                held.update({(str(path), image.member): image.data for image in sample.images})
    for row in rows:
        assert (row["status"] == "ok") == (row["error_type"] is None)
        if row["status"] == "ok":
            place = (row["output_uri"], row["output_member"])
            data = held.pop(place) if place[1] else Path(str(place[0])).read_bytes()
            assert len(data) == row["output_bytes"]
            assert hashlib.sha256(data).hexdigest() == row["output_sha256"]
    assert held == {}
    return {
        (f"{row['style']}/" if several else "") + str(row["source_member"] or Path(str(row["source_uri"])).name): row
        for row in rows
    }


def statuses(rows: dict[str, Row]) -> dict[str, object]:
    return {name: row["status"] for name, row in rows.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


SAMPLES = [
    *[("a.cls", b"3"), ("a.png", image_bytes(1)), ("a.json", b'{"n": 1}')],
    *[("b.left.png", image_bytes(2)), ("b.right.jpg", image_bytes(3, "jpg")), ("b.cls", b"4")],
    *[("c.gif", image_bytes(4, "gif", (40, 30))), ("c.cls", b"5")],
]


# Tars.


def test_a_tar_becomes_a_tar_with_its_labels(source):
    write_tar(source / "train" / "000.tar", [*SAMPLES, ("README", b"text")])
    rows = stylize(make_worker(source))
    assert statuses(rows) == dict.fromkeys(["a.png", "b.left.png", "b.right.jpg", "c.gif"], "ok")
    path = source.parent / "out/train/000.tar"
    before, after = dict(SAMPLES), read_tar(path)
    assert list(after) == [name.replace(".gif", ".png") for name in before] + ["README"]
    for name in ("a.cls", "a.json", "b.cls", "c.cls"):
        assert after[name] == before[name]
    for name in ("a.png", "b.left.png"):
        np.testing.assert_array_equal(pixels(after[name]), pixels(before[name]))
    np.testing.assert_array_equal(pixels(after["c.png"]), pixels(before["c.gif"]))
    samples = read_webdataset(path)
    assert [(sample["__key__"], sample["cls"]) for sample in samples] == [("a", b"3"), ("b", b"4"), ("c", b"5")]
    uri = str(source / "train/000.tar")
    assert (
        rows["c.gif"]
        | {
            "item_id": item_id(f"{uri}#c.gif"),
            "kind": "image",
            "source_uri": uri,
            "source_bytes": len(before["c.gif"]),
            "output_uri": str(path),
            "output_member": "c.png",
            "width": 40,
            "output_height": 30,
        }
        == rows["c.gif"]
    )


def test_the_same_shard_gives_the_same_bytes(tmp_path):
    for run in ("first", "second"):
        write_tar(tmp_path / run / "in" / "0.tar", SAMPLES)
        write_hf_parquet(tmp_path / run / "in" / "1.parquet", [image_bytes(1)] * 3, label=[1, 2, 3])
        stylize(make_worker(tmp_path / run / "in"))
    for name in ("0.tar", "1.parquet"):
        assert (tmp_path / "first/out" / name).read_bytes() == (tmp_path / "second/out" / name).read_bytes()


def test_a_shard_is_decoded_once_for_all_styles(source, tmp_path, monkeypatch):
    for name in ("amber", "navy"):
        write_image(tmp_path / "styles" / f"{name}.png", seed=len(name))
    write_tar(source / "0.tar", SAMPLES)
    worker = make_worker(source, tmp_path / "styles")
    decoded: Counter[bytes] = Counter()

    def counting(data: bytes, max_side: int | None) -> object:
        decoded[data] += 1
        return decode_image(data, max_side)

    def darken(frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        dark = np.array([1 if style.name == "navy" else 2 for style in styles], np.uint8)
        return frames_nhwc // dark[:, None, None, None]

    monkeypatch.setattr(images, "decode_image", counting)
    worker.stylizer = darken
    rows = stylize(worker)
    assert Counter(row["style"] for row in rows.values()) == {"amber": 4, "navy": 4}
    assert sorted(decoded.values()) == [1] * 4
    amber, navy = (read_tar(source.parent / "out" / style / "0.tar") for style in ("amber", "navy"))
    np.testing.assert_array_equal(pixels(amber["a.png"]), pixels(navy["a.png"]) // 2)
    assert amber["b.cls"] == navy["b.cls"] == b"4"


def test_bad_images_are_left_out_with_their_labels(source):
    frames = [Image.fromarray(frame) for frame in moving_frames(3, 24, 16)]
    frames[0].save(source / "moves.gif", save_all=True, append_images=frames[1:])
    members = [
        *SAMPLES[:3],
        *[("bad.png", b"no image"), ("bad.cls", b"9")],
        *[("empty.jpg", b""), ("empty.cls", b"9")],
        *[("half.left.png", image_bytes(7)), ("half.right.png", image_bytes(8)[:99]), ("half.cls", b"8")],
        *[("moves.gif", (source / "moves.gif").read_bytes()), ("video.mp4", b"frames"), ("video.cls", b"9")],
        *SAMPLES[3:],
    ]
    (source / "moves.gif").unlink()
    write_tar(source / "0.tar", members)
    rows = stylize(make_worker(source))
    errors = {name: row["error_type"] for name, row in rows.items() if row["status"] == "failed"}
    assert errors == {
        "bad.png": "UnreadableImageError",
        "empty.jpg": "EmptyFileError",
        "half.right.png": "UnreadableImageError",
        "moves.gif": "UnsupportedMediaError",
        "video.mp4": "UnsupportedMediaError",
    }
    assert "as a file of its own" in str(rows["moves.gif"]["error_message"])
    assert "as a file of its own" in str(rows["video.mp4"]["error_message"])
    samples = read_webdataset(source.parent / "out/0.tar")
    assert [sample["__key__"] for sample in samples] == ["a", "half", "b", "c"]
    assert samples[1].keys() - {"__local_path__"} == {"__key__", "left.png", "cls"}


def test_what_was_read_of_a_damaged_tar_is_kept(source):
    path = write_tar(source / "0.tar", [(f"{n}.{kind}", image_bytes(n)) for n in range(6) for kind in ("png", "cls")])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rows = stylize(make_worker(source))
    broken = rows.pop("0.tar")
    assert (broken["status"], broken["kind"], broken["error_type"]) == ("failed", "shard", "UnreadableShardError")
    assert "copy or make it again" in str(broken["error_message"])
    assert set(statuses(rows).values()) == {"ok"}
    assert 0 < len(rows) < 6
    assert [sample["__key__"] for sample in read_webdataset(source.parent / "out/0.tar")] == [
        str(n) for n in range(len(rows))
    ]


def test_a_tar_without_an_end_is_whole_with_a_note(source):
    path = write_tar(source / "0.tar", [*SAMPLES, ("README", b"text")])
    with tarfile.open(path) as tar:
        end = list(tar)[-1].offset_data + 512
    path.write_bytes(path.read_bytes()[:end])
    rows = stylize(make_worker(source))
    assert statuses(rows) == dict.fromkeys(["a.png", "b.left.png", "b.right.jpg", "c.gif"], "ok")
    assert [name for name, row in rows.items() if "no end mark" in str(row["note"])] == ["c.gif"]
    assert read_tar(source.parent / "out/0.tar")["README"] == b"text"


def test_images_whose_names_say_nothing_are_stylized(source):
    jpeg, png = image_bytes(1, "jpg"), image_bytes(2)
    write_tar(source / "0.tar", [("photo", jpeg), ("x/1.raster", png), ("x/1.cls", b"3"), ("bad", png[:99])])
    rows = stylize(make_worker(source))
    assert statuses(rows) == {"photo": "ok", "x/1.raster": "ok", "bad": "failed"}
    assert {name: row["output_member"] for name, row in rows.items()} == {
        **{"photo": "photo.jpg", "x/1.raster": "x/1.raster.png", "bad": None}
    }
    files = read_tar(source.parent / "out/0.tar")
    assert list(files) == ["photo.jpg", "x/1.raster.png", "x/1.cls"]
    np.testing.assert_array_equal(pixels(files["x/1.raster.png"]), pixels(png))


def test_thumbnails_that_systems_keep_are_not_stylized(source):
    hidden = [(name, image_bytes(9)) for name in ("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "__MACOSX/._a.png", "._a.png")]
    write_tar(source / "0.tar", [*SAMPLES[:3], *hidden])
    assert statuses(stylize(make_worker(source))) == {"a.png": "ok"}
    assert list(read_tar(source.parent / "out/0.tar").items())[3:] == hidden
    worker = make_worker(source, shards={"format": "parquet"}, output_name="table")
    rows = stylize(worker)
    assert statuses(rows) == {"a.png": "ok", **{name: "skipped" for name, _ in hidden}}
    assert pq.read_schema(source.parent / "table/0.tar.parquet").names == ["image", "__key__", "cls", "json"]


def test_all_of_several_tars_in_one_file_is_stylized(source):
    members = [[(f"{n}.png", image_bytes(n)), (f"{n}.cls", b"7")] for n in range(2)]
    parts = [write_tar(source.parent / f"{n}.part", each).read_bytes() for n, each in enumerate(members)]
    (source / "0.tar").write_bytes(b"".join(parts))
    (source / "1.tar").write_bytes(parts[0] + b"garbage" * 100)
    rows = stylize(make_worker(source))
    assert statuses(rows) == {"0.png": "ok", "1.png": "ok", "1.tar": "failed"}
    assert "what follows its end is no tar" in str(rows["1.tar"]["error_message"])
    assert [sample["__key__"] for sample in read_webdataset(source.parent / "out/0.tar")] == ["0", "1"]


def test_a_label_that_cannot_be_had_has_a_row_of_its_own(source):
    with tarfile.open(write_tar(source / "0.tar", [("README", b"first"), *SAMPLES, ("README", b"more")]), "a") as tar:
        for name, target in (("d.png", "a.png"), ("d.cls", "../../etc/passwd"), ("e.cls", "a.cls")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    rows = stylize(make_worker(source))
    assert (rows["d.cls"]["status"], rows["d.png"]["status"]) == ("failed", "ok")
    assert "a link to nothing inside the shard" in str(rows["d.cls"]["error_message"])
    files = read_tar(source.parent / "out/0.tar")
    assert files["e.cls"] == files["a.cls"]
    assert "d.cls" not in files
    assert (files["README"], rows["README-"]["status"]) == (b"first", "failed")
    assert "another README" in str(rows["README-"]["error_message"])


def test_shards_without_a_single_image_leave_no_output(source):
    write_tar(source / "text.tar", [("a.txt", b"words")])
    write_tar(source / "bad.tar", [("a.png", b"no image")])
    (source / "no.tar").write_bytes(b"no tar")
    (source / "empty.tar").touch()
    (source / "no.parquet").write_bytes(b"PAR1 no table")
    write_hf_parquet(source / "none.parquet", [])
    rows = stylize(make_worker(source))
    assert statuses(rows) == {
        "text.tar": "skipped",
        "none.parquet": "skipped",
        "a.png": "failed",
        "no.tar": "failed",
        "empty.tar": "failed",
        "no.parquet": "failed",
    }
    assert {path.parent.name for path in visible_files(source.parent / "out")} == {"manifest"}


# Parquet.


def test_a_parquet_becomes_a_parquet_with_its_columns(source):
    images = [image_bytes(1), None, image_bytes(3), b"no image", image_bytes(5)]
    path = write_hf_parquet(source / "train-0.parquet", images, label=[1, 2, 3, 4, 5], text=list("abcde"))
    rows = stylize(make_worker(source))
    assert list(statuses(rows).values()) == ["ok", "failed", "ok", "failed", "ok"]
    output = source.parent / "out/train-0.parquet"
    assert pq.read_schema(output).equals(pq.read_schema(path), check_metadata=True)
    frame = pd.read_parquet(output)
    assert frame["label"].tolist() == [1, 3, 5]
    assert frame["text"].tolist() == ["a", "c", "e"]
    for image, row in zip(frame["image"], (0, 2, 4), strict=True):
        assert image["path"] == f"{row}.png"
        np.testing.assert_array_equal(pixels(image["bytes"]), pixels(images[row]))


def test_lists_of_images_are_stylized_one_by_one(source):
    good = [image_bytes(n) for n in range(4)]
    rows = [[(good[0], "a.png"), (b"bad", "b.png"), (good[1], "c.gif")], [], [(good[2], None), (good[3], None)]]
    values = [[{"bytes": data, "path": path, "by": path} for data, path in row] for row in rows]
    fields = [("bytes", pa.binary()), ("path", pa.string()), ("by", pa.string())]
    column = pa.array(values, pa.list_(pa.struct(fields)))
    pq.write_table(pa.table({"images": column, "text": ["one", "two", "three"]}), source / "0.parquet")
    assert statuses(stylize(make_worker(source))) == {
        **{"a.png": "ok", "b.png": "failed", "c.gif": "ok", "row-0000002-0": "ok", "row-0000002-1": "ok"}
    }
    table = pq.read_table(source.parent / "out/0.parquet")
    assert table["text"].to_pylist() == ["one", "two", "three"]
    first, second, third = table["images"].to_pylist()
    assert [image and image["by"] for image in first] == ["a.png", None, "c.gif"]
    assert [image and image["path"] for image in first] == ["a.png", None, "c.png"]
    assert (second, len(third)) == ([], 2)
    np.testing.assert_array_equal(pixels(third[1]["bytes"]), pixels(good[3]))


def test_a_row_without_an_image_needs_no_row_in_the_manifest(source):
    columns = {"image": pa.array([image_bytes(1), None]), "text": ["one", "two"]}
    pq.write_table(pa.table(columns), source / "0.parquet")
    assert statuses(stylize(make_worker(source))) == {"row-0000000": "ok"}
    table = pq.read_table(source.parent / "out/0.parquet")
    assert table["text"].to_pylist() == ["one", "two"]
    assert table["image"][1].as_py() is None


def test_another_column_of_images_by_configuration(source):
    path = write_hf_parquet(source / "0.parquet", [image_bytes(1)], photo=[image_bytes(2)])
    rows = stylize(make_worker(source, shards={"image_column": "photo"}))
    assert statuses(rows) == {"row-0000000": "ok"}
    before, after = pd.read_parquet(path), pd.read_parquet(source.parent / "out/0.parquet")
    assert after["image"][0] == before["image"][0]
    np.testing.assert_array_equal(pixels(after["photo"][0]), pixels(before["photo"][0]))


# From one to the other.


def test_a_tar_becomes_a_parquet(source):
    write_tar(source / "0.tar", [*SAMPLES, ("bad.png", b"no image"), ("bad.cls", b"cat")])
    rows = stylize(make_worker(source, shards={"format": "parquet"}))
    assert rows["a.png"]["output_uri"] == str(source.parent / "out/0.tar.parquet")
    frame = pd.read_parquet(source.parent / "out/0.tar.parquet")
    assert frame["__key__"].tolist() == ["a", "b", "b", "c"]
    assert frame["cls"].tolist() == ["3", "4", "4", "5"]
    assert [image["path"] for image in frame["image"]] == ["a.png", "b.left.png", "b.right.jpg", "c.png"]


def test_labels_anywhere_in_a_tar_come_into_its_parquet(source):
    images = [(f"{n}.png", image_bytes(n)) for n in range(3)]
    labels = [(f"{n}.cls", b"%d" % n) for n in range(3)]
    twice = [("w.txt", b"first"), ("w.txt", b"second")]
    write_tar(source / "0.tar", [*images, ("only.txt", b"text"), twice[0], *labels, ("README", b"text"), twice[1]])
    rows = stylize(make_worker(source, shards={"format": "parquet"}))
    frame = pq.read_table(source.parent / "out/0.tar.parquet")
    assert frame["__key__"].to_pylist() == ["0", "1", "2", "only"]
    assert frame["cls"].to_pylist() == [0, 1, 2, None]
    assert frame["txt"].to_pylist() == [None, None, None, "text"]
    assert {name: row["status"] for name, row in rows.items() if row["status"] != "ok"} == {
        **{"README": "skipped", "w.txt": "failed", "w.txt-": "failed"}
    }
    assert "webdataset to keep it" in str(rows["README"]["error_message"])
    assert rows["README"]["kind"] is None


def test_a_parquet_becomes_a_tar(source):
    write_hf_parquet(source / "0.parquet", [image_bytes(1), b"bad", image_bytes(3)], label=[1, 2, 3])
    stylize(make_worker(source, shards={"format": "webdataset"}))
    samples = read_webdataset(source.parent / "out/0.parquet.tar")
    assert [(sample["__key__"], sample["cls"]) for sample in samples] == [("0", b"1"), ("2", b"3")]
    np.testing.assert_array_equal(pixels(samples[1]["png"]), pixels(image_bytes(3)))


def test_a_shard_becomes_files_below_a_folder_of_its_name(source):
    evil = [("../../evil.png", image_bytes(9)), ("x/./a.png", image_bytes(8)), ("a.png/b.png", image_bytes(7))]
    long = [("y" * 252 + ".c", b"1"), ("y" * 252 + ".png", image_bytes(6))]
    write_tar(source / "0.tar", [*SAMPLES, *evil, *long])
    rows = stylize(make_worker(source, shards={"format": "files"}))
    failed = {name for name, row in rows.items() if row["status"] == "failed"}
    assert failed == {"a.png/b.png"}
    folder = source.parent / "out/0.tar.files"
    names = {path.relative_to(folder).as_posix() for path in visible_files(folder)}
    shortened = {name for name in names if name.startswith("yyy")}
    (changed,) = folder.glob("evil*")
    assert re.fullmatch(r"evil~[0-9a-f]{12}\.png", changed.name)
    assert {Path(name).suffix for name in shortened} == {".c", ".png"}
    assert len({Path(name).stem for name in shortened}) == 1
    assert names - shortened == {name.replace(".gif", ".png") for name, _ in SAMPLES} | {changed.name, "x/a.png"}
    assert rows["c.gif"]["output_uri"] == str(folder / "c.png")
    assert rows["c.gif"]["output_member"] is None
    assert not (source.parent.parent / "evil.png").exists()


@pytest.mark.parametrize("form", ["webdataset", "files"])
def test_names_that_have_to_change_cost_no_other_image(source, form):
    odd = ("../up.png", "up.png", "n", "n.png", "c.gif", "c.png", "caf\xe9.png", "caf\xe8.png")
    kinds = {"c.gif": "gif"}
    with tarfile.open(source / "0.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for seed, name in enumerate(odd):
            data = image_bytes(seed, kinds.get(name, "png"))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    rows = stylize(make_worker(source, shards={"format": form}))
    assert list(statuses(rows).values()) == ["ok"] * len(odd)
    for name in ("up.png", "n.png", "c.png"):
        assert str(rows[name]["output_member"] or rows[name]["output_uri"]).rsplit("/")[-1] == name
    if form == "webdataset":
        samples = read_webdataset(source.parent / "out/0.tar")
        images = [[name for name in sample if name.endswith("png")] for sample in samples]
        assert [len(names) for names in images] == [1, 1, 2, 2, 1, 1]


# Image files into shards.


def test_image_files_become_a_tar(source):
    for name in ("cats/a.png", "cats/a.v2.png", "cats/a_v2.png", "dogs/b.png"):
        write_image(source / name, seed=len(name))
    (source / "bad.png").write_bytes(b"no image")
    extra = [{}, *({"label": n, "names": [str(n)]} for n in range(4))]
    rows = stylize(make_worker(source, shards={"format": "webdataset"}), "images-000000-ab12", extra)
    path = source.parent / "out/images-000000-ab12.tar"
    assert Counter(statuses(rows).values()) == {"failed": 1, "ok": 4}
    samples = {sample["__key__"]: sample for sample in read_webdataset(path)}
    assert [sample["cls"] for sample in samples.values()] == [b"0", b"1", b"2", b"3"]
    assert list(samples)[:2] == ["cats/a", "cats/a_v2"]
    assert list(samples)[2].startswith("cats/a_v2-")
    np.testing.assert_array_equal(pixels(samples["dogs/b"]["png"]), np.asarray(Image.open(source / "dogs/b.png")))
    assert samples["dogs/b"]["json"] == b'{"names": ["3"]}'


def test_image_files_become_a_parquet_for_each_style(source, tmp_path):
    for name in ("amber", "navy"):
        write_image(tmp_path / "styles" / f"{name}.png")
    write_image(source / "a.png")
    write_image(source / "deep" / "b.jpg")
    frames = [Image.fromarray(frame) for frame in moving_frames(3, 40, 30)]
    frames[0].save(source / "moves.webp", save_all=True, append_images=frames[1:])
    worker = make_worker(source, tmp_path / "styles", shards={"format": "parquet"})
    worker.stylizer = lambda frames_nhwc, styles=(): frames_nhwc
    rows = stylize(worker, "images-000000-ab12", [{"label": 1}, {"label": 2}, {"label": 3}])
    assert rows["navy/moves.webp"]["error_type"] == "UnsupportedMediaError"
    for style in ("amber", "navy"):
        frame = pd.read_parquet(source.parent / "out" / style / "images-000000-ab12.parquet")
        assert [image["path"] for image in frame["image"]] == ["a.png", "deep/b.jpg"]
        assert frame["source_uri"].tolist() == [str(source / "a.png"), str(source / "deep/b.jpg")]
        assert frame["label"].tolist() == [1, 2]
        assert rows[f"{style}/a.png"]["output_member"] == "a.png"


@pytest.mark.parametrize("late", ["7", "007"])
def test_all_shards_of_a_list_have_its_types(source, late):
    rows = []
    for n in range(4):
        write_image(source / f"{n}.png", seed=n)
        rows.append(f"{n}.png,{late if n == 3 else n},{'' if n < 2 else n + 0.5},{n}")
    (source / "list.csv").write_text("path,label,score,image\n" + "\n".join(rows))
    found = Source.open(str(source / "list.csv"))
    worker = make_worker(source / "list.csv", shards={"format": "parquet"})
    spec = replace(worker.run_spec, source_root=found.root, labels=found.labels)
    worker = Worker(spec)
    (unit,) = units_of(worker)
    for number in range(2):
        items = unit.items[2 * number : 2 * number + 2]
        assert not worker(replace(unit, unit_id=str(number), items=items, shard=str(number))).error
    tables = [pq.read_table(source / f"out/{n}.parquet") for n in range(2)]
    assert tables[0].schema.equals(tables[1].schema)
    assert tables[0]["score"].to_pylist() == [None, None]
    assert tables[1]["score"].to_pylist() == [2.5, 3.5]
    assert tables[1]["image_"].to_pylist() == [2, 3]
    assert tables[1]["label"].to_pylist() == ([2, 7] if late == "7" else ["2", "007"])


# What is no image's fault.


def test_a_storage_that_is_away_fails_no_image(source, monkeypatch):
    write_image(source / "a.png")
    write_tar(source / "0.tar", SAMPLES)
    worker = make_worker(source, shards={"format": "webdataset"})

    def silent(*_: object) -> None:
        raise StorageUnavailableError("no answer")

    monkeypatch.setattr(worker.source, "read_bytes", silent)
    monkeypatch.setattr(worker.source, "local_copy", silent)
    for unit in units_of(worker):
        assert worker(unit).error == "StorageUnavailableError: no answer"
    assert read_manifest(source.parent / "out") == []
    assert visible_files(source.parent / "out") == []


def test_a_network_that_breaks_leaves_no_shard(source):
    write_tar(source / "0.tar", SAMPLES)
    worker = make_worker(source, model={"kind": "identity", "batch_size": 1})
    num_calls = 0

    def breaks(frames_nhwc: UInt8Array, styles: object = ()) -> UInt8Array:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 3:
            raise RuntimeError("device lost")
        return frames_nhwc

    worker.stylizer = breaks
    (unit,) = units_of(worker)
    result = worker(unit)
    assert result.error == "RuntimeError: device lost"
    assert [path for path in (source.parent / "out").rglob("*") if path.is_file()] == []
