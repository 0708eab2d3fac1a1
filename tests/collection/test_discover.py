"""The catalog names every file once, the same way every time."""

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.collection.constants import CATALOG_SCHEMA
from nst_ops.collection.inputs import Source, discover
from nst_ops.collection.units import item_id, unit_id
from nst_ops.config.stylize import DiscoveryConfig
from nst_ops.storage import Folder


def tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def catalog_of(uri: str | Path) -> pa.Table:
    """What is found, by path."""
    return discover(Source.open(str(uri))).read_all().sort_by("relpath")


def test_every_file_is_listed_once_by_kind(tmp_path):
    names = ["b/2.MP4", "b/10.jpg", "a.png", "notes.txt", ".hidden.jpg", "b/c/d.gif"]
    catalog = catalog_of(tree(tmp_path, names))
    assert catalog.schema == CATALOG_SCHEMA
    assert catalog["relpath"].to_pylist() == sorted(names)
    kinds = dict(zip(catalog["relpath"].to_pylist(), catalog["kind"].to_pylist(), strict=True))
    assert kinds["b/2.MP4"] == "video"
    assert kinds["notes.txt"] == "other"
    assert kinds["b/c/d.gif"] == "image"
    assert kinds[".hidden.jpg"] == "other", "hidden files are skipped, and say so"
    assert Source.open(str(tmp_path)).root == f"{tmp_path}/"
    assert catalog["source_bytes"].to_pylist() == [len(name) for name in sorted(names)]
    assert catalog["problem"].null_count == len(names)


def test_the_name_of_the_input_does_not_change_its_catalog(tmp_path, monkeypatch):
    tree(tmp_path / "in", ["a.jpg", "b.jpg"])
    monkeypatch.chdir(tmp_path)
    tables = [catalog_of(uri) for uri in (str(tmp_path / "in"), "in", "./in/", f"file://{tmp_path}/in")]
    assert all(table.equals(tables[0]) for table in tables)


def test_a_version_changes_with_the_content(tmp_path):
    before = catalog_of(tree(tmp_path, ["b.jpg"]))
    (tmp_path / "b.jpg").write_bytes(b"longer than before")
    assert catalog_of(tmp_path)["source_version"] != before["source_version"]


def test_one_file_is_a_source_of_its_own(tmp_path):
    tree(tmp_path, ["in/a.jpg", "in/b.jpg", "in/c/a.jpg"])
    whole = catalog_of(tmp_path / "in").to_pylist()
    assert catalog_of(tmp_path / "in/a.jpg").to_pylist() == [whole[0]]


def test_one_file_of_a_remote_folder_is_a_source_of_its_own():
    folder = Folder("memory://single")
    for name in ("a.jpg", "b.jpg"):
        with folder.atomic_write(name) as temporary:
            temporary.write_bytes(b"x")
    (row,) = catalog_of("memory://single/a.jpg").to_pylist()
    assert row["relpath"] == "a.jpg"
    assert Source.open("memory://single/a.jpg").root == Source.open("memory://single").root


def test_one_file_needs_no_look_at_its_neighbors(tmp_path, monkeypatch):
    tree(tmp_path, ["a.jpg", "b.jpg"])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("listed the folder")

    monkeypatch.setattr(os, "walk", refuse)
    assert catalog_of(tmp_path / "a.jpg").num_rows == 1


def test_what_cannot_be_opened_is_listed_with_its_problem(tmp_path):
    tree(tmp_path, ["good.jpg"])
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.jpg").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).write_bytes(b"x")
    rows = {row["relpath"]: row for row in catalog_of(tmp_path).to_pylist()}
    assert set(rows) == {"good.jpg", "pipe.mp4", "link.jpg", "bad\\xff.jpg"}
    assert rows["good.jpg"]["problem"] is None
    assert "not a regular file" in rows["pipe.mp4"]["problem"]
    assert "not a regular file" in rows["link.jpg"]["problem"]
    assert "not valid UTF-8" in rows["bad\\xff.jpg"]["problem"]
    assert rows["pipe.mp4"]["kind"] == "video"


def test_an_input_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Source.open(str(tmp_path / "nothing"))


def test_an_empty_folder_is_an_empty_table(tmp_path):
    assert catalog_of(tmp_path).equals(CATALOG_SCHEMA.empty_table())


@given(st.lists(st.text(max_size=10), unique=True, min_size=2, max_size=8))
def test_ids_differ_where_uris_or_units_do(uris):
    ids = [item_id(uri) for uri in uris]
    assert len(set(ids)) == len(uris)
    assert unit_id(ids) == unit_id(list(ids))
    assert unit_id(ids) != unit_id(ids[::-1])
    assert unit_id(ids) != unit_id(ids[:-1])


def test_a_pattern_chooses_files_below_its_folder(tmp_path):
    tree(tmp_path, ["in/a.jpg", "in/b.png", "in/x1/c.jpg", "in/x2/d.jpg", "in/x1/y/e.jpg"])

    def paths(pattern: str) -> list[str]:
        return catalog_of(tmp_path / pattern)["relpath"].to_pylist()

    assert paths("in/*.jpg") == ["a.jpg"]
    assert paths("in/**/*.jpg") == ["a.jpg", "x1/c.jpg", "x1/y/e.jpg", "x2/d.jpg"]
    assert paths("in/x[12]/?.jpg") == ["x1/c.jpg", "x2/d.jpg"]
    tree(tmp_path, ["in/[1]/f.jpg"])
    assert paths("in/[1]") == ["f.jpg"], "a folder of that name is no pattern"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Source.open(str(tmp_path / "nowhere/*.jpg"))


# Names that say nothing, and names that say too much.

JPEG, MP4, PROGRAM = b"\xff\xd8\xff\xe0" + bytes(60), b"\0\0\0\x20ftypisom" + bytes(60), b"#!/bin/sh\n"


def kinds_of(uri: str | Path, **config: object) -> dict[str, tuple[str, str | None]]:
    """Kind and reason of every file."""
    rows = discover(Source.open(str(uri)), DiscoveryConfig(**config)).read_all().to_pylist()
    return {row["relpath"]: (row["kind"], row["no_media"]) for row in rows}


def write_all(root: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_unknown_names_are_looked_into_on_a_disk(tmp_path):
    contents = {"0a1b2c": JPEG, "PXL.MP": MP4, "MOV1.MOD": b"\0\0\1\xba" + bytes(60), "a.weird": PROGRAM, "empty": b""}
    write_all(tmp_path, contents)
    found = kinds_of(tmp_path)
    assert {name: kind for name, (kind, _) in found.items()} == {
        "0a1b2c": "image",
        "PXL.MP": "video",
        "MOV1.MOD": "video",
        "a.weird": "other",
        "empty": "other",
    }
    assert "neither by its name nor by its first bytes" in found["a.weird"][1]
    assert {kind for kind, _ in kinds_of(tmp_path, look_inside="never").values()} == {"other"}


def test_unknown_names_in_a_bucket_are_looked_into_only_if_asked():
    folder = Folder("memory://unknown-names")
    folder.write_bytes("0a1b2c", JPEG)
    folder.write_bytes("b", b"")
    kind, reason = kinds_of("memory://unknown-names")["0a1b2c"]
    assert kind == "other"
    assert "--discovery.look_inside always" in reason, "the remedy that the next line tries"
    assert kinds_of("memory://unknown-names", look_inside="always")["0a1b2c"] == ("image", None)
    assert kinds_of("memory://unknown-names/0a1b2c")["0a1b2c"] == ("image", None), "a file that is named is wanted"


def test_texts_are_not_even_opened(tmp_path):
    write_all(tmp_path, {"a.json": JPEG, "b.txt": JPEG})
    assert set(kinds_of(tmp_path).values()) == {("other", None)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DCIM/._IMG_0001.JPG", "AppleDouble"),
        (".thumbnails/a.jpg", "hidden"),
        (".hidden.jpg", "hidden"),
        ("GOPR0001.THM", "preview of the video"),
        ("GOPR0001.LRV", "preview of the video"),
        ("a.jpg_original", "ExifTool"),
        ("IMG_1.CR2", "raw file"),
        ("IMG_1.dng", "raw file"),
    ],
)
def test_sidecars_and_hidden_files_are_no_media(tmp_path, name, reason):
    write_all(tmp_path, {name: JPEG, "a.jpg": JPEG})
    found = kinds_of(tmp_path)
    assert found["a.jpg"] == ("image", None)
    kind, why = found[name]
    assert kind == "other"
    assert reason in why


@pytest.mark.parametrize(
    "folder",
    [
        *("__MACOSX", "@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found", "System Volume Information"),
        *(".Trash-1000", ".Trashes", ".Spotlight-V100", ".fseventsd"),
    ],
)
@pytest.mark.parametrize("parent", ["", "b/"])
def test_folders_of_systems_are_not_entered(tmp_path, monkeypatch, parent, folder):
    write_all(tmp_path, {f"{parent}{folder}/sub/a.jpg": JPEG, "a.jpg": JPEG})
    lock(monkeypatch, folder)
    found = kinds_of(tmp_path)
    assert found["a.jpg"] == ("image", None)
    assert set(found) == {"a.jpg", f"{parent}{folder}/"}
    kind, why = found[f"{parent}{folder}/"]
    assert kind == "other"
    assert "a system keeps" in why
    assert catalog_of(tmp_path)["problem"].null_count == 2


def lock(monkeypatch, *names: str) -> None:
    """Let nobody, root included, list folders of these names."""
    scandir = os.scandir

    def denied(path):
        if os.path.basename(str(path).rstrip("/")) in names:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)


def test_a_folder_that_cannot_be_listed_is_a_row(tmp_path, monkeypatch):
    write_all(tmp_path, {"a.jpg": JPEG, "b/c.jpg": JPEG, "b/locked/d.jpg": JPEG, ".cache/locked/e.jpg": JPEG})
    lock(monkeypatch, "locked")
    rows = {row["relpath"]: row for row in catalog_of(tmp_path).to_pylist()}
    assert set(rows) == {"a.jpg", "b/c.jpg", "b/locked/", ".cache/locked/"}
    assert "the folder 'b/locked' cannot be listed (Permission denied)" in rows["b/locked/"]["problem"]
    assert "chmod" in rows["b/locked/"]["problem"]
    assert rows["b/c.jpg"]["problem"] is None
    assert rows[".cache/locked/"]["problem"] is None, "nothing would be made of hidden files"
    assert "hidden" in rows[".cache/locked/"]["no_media"]


@pytest.mark.parametrize(
    ("pattern", "matters"),
    [
        *(("**/*.jpg", True), ("?/*/*.jpg", True), ("[b]/**", True), ("b/*/*.jpg", True), ("b/**", True)),
        *(("*/*.jpg", False), ("[c]/**/*.jpg", False), ("b?/*/x", False), ("b/*.jpg", False), ("?/x/**", False)),
    ],
)
def test_a_folder_that_cannot_be_listed_is_a_row_where_patterns_lead(tmp_path, monkeypatch, pattern, matters):
    write_all(tmp_path, {"a.jpg": JPEG, "b/locked/d.jpg": JPEG})
    lock(monkeypatch, "locked")
    found = catalog_of(f"{tmp_path}/{pattern}")["relpath"].to_pylist()
    assert any(name.endswith("locked/") for name in found) == matters


def test_an_input_that_may_not_be_listed_is_an_error(tmp_path, monkeypatch):
    write_all(tmp_path / "locked", {"a.jpg": JPEG})
    lock(monkeypatch, "locked")
    with pytest.raises(PermissionError):
        catalog_of(tmp_path / "locked")


def test_a_remote_folder_that_may_not_be_listed_is_a_row(monkeypatch):
    folder = Folder("memory://locked-rows")
    for name in ("a.jpg", "b/c.jpg", "locked/d.jpg", "lost+found/e.jpg"):
        folder.write_bytes(name, JPEG)
    listed = type(folder.fs).ls

    def ls(self, path, **options):
        if path.endswith("/locked"):
            raise PermissionError(path)
        return listed(self, path, **options)

    monkeypatch.setattr(type(folder.fs), "ls", ls)
    rows = {row["relpath"]: row for row in catalog_of("memory://locked-rows").to_pylist()}
    assert set(rows) == {"a.jpg", "b/c.jpg", "locked/", "lost+found/"}
    assert "'locked' cannot be listed" in rows["locked/"]["problem"]
    with pytest.raises(PermissionError):
        list(folder.files())


@pytest.mark.parametrize("name", ["a.yaml", "a.lst", "a.zip", "list"])
def test_an_input_that_is_neither_media_nor_a_list_is_an_error(tmp_path, name):
    (tmp_path / name).write_text("a.jpg\n")
    with pytest.raises(ValueError, match=r"no list, which are \.txt, .*\.jsonl.*\.parquet"):
        Source.open(str(tmp_path / name))


def test_hidden_files_are_taken_if_asked_and_if_a_list_names_them(tmp_path):
    write_all(tmp_path / "in", {".cache/a.jpg": JPEG, ".b.jpg": JPEG, "._b.jpg": JPEG})
    shown = kinds_of(tmp_path / "in", hidden=True)
    assert {name: kind for name, (kind, _) in shown.items()} == {
        ".cache/a.jpg": "image",
        ".b.jpg": "image",
        "._b.jpg": "other",
    }
    (tmp_path / "in" / "list.txt").write_text(".cache/a.jpg\n")
    assert kinds_of(tmp_path / "in" / "list.txt") == {".cache/a.jpg": ("image", None)}
    assert kinds_of(tmp_path / "in" / ".b.jpg") == {".b.jpg": ("image", None)}
    assert set(kinds_of(tmp_path / "in" / ".*.jpg").values()) >= {("image", None)}


def test_a_list_that_names_what_is_not_there_says_so(tmp_path):
    (tmp_path / "list.txt").write_text("0a1b2c\n")
    (row,) = catalog_of(tmp_path / "list.txt").to_pylist()
    assert "not there" in row["problem"]
