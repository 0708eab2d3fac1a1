"""The catalog names every file once, the same way every time."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.collection.discover import CATALOG_SCHEMA, Source, discover, item_id, unit_id
from nst_ops.storage import Folder


def tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_every_file_is_listed_once_by_kind(tmp_path):
    names = ["b/2.MP4", "b/10.jpg", "a.png", "notes.txt", ".hidden.jpg", "b/c/d.gif"]
    catalog = discover(Source.open(str(tree(tmp_path, names))))
    assert catalog.schema == CATALOG_SCHEMA
    assert catalog["relpath"].to_pylist() == sorted(names)
    kinds = dict(zip(catalog["relpath"].to_pylist(), catalog["kind"].to_pylist(), strict=True))
    assert kinds["b/2.MP4"] == "video"
    assert kinds["notes.txt"] == "other"
    assert kinds["b/c/d.gif"] == kinds[".hidden.jpg"] == "image"
    assert catalog["source_uri"].to_pylist() == [f"{tmp_path}/{name}" for name in sorted(names)]
    assert catalog["source_bytes"].to_pylist() == [len(name) for name in sorted(names)]
    assert catalog["problem"].null_count == len(names)


def test_the_same_files_give_the_same_table_however_the_input_is_named(tmp_path, monkeypatch):
    tree(tmp_path / "in", ["a.jpg", "b.jpg"])
    monkeypatch.chdir(tmp_path)
    tables = [
        discover(Source.open(uri)) for uri in (str(tmp_path / "in"), "in", "./in/", f"file://{tmp_path}/in")
    ]
    assert all(table.equals(tables[0]) for table in tables)


def test_an_id_stays_when_others_come_and_content_changes(tmp_path):
    before = discover(Source.open(str(tree(tmp_path, ["b.jpg"]))))
    tree(tmp_path, ["a.jpg"])
    (tmp_path / "b.jpg").write_bytes(b"longer than before")
    after = discover(Source.open(str(tmp_path)))
    assert after["item_id"].to_pylist()[1] == before["item_id"].to_pylist()[0]
    assert after["source_version"].to_pylist()[1] != before["source_version"].to_pylist()[0]


def test_one_file_is_a_source_of_its_own(tmp_path):
    tree(tmp_path, ["in/a.jpg", "in/b.jpg", "in/c/a.jpg"])
    whole = discover(Source.open(str(tmp_path / "in"))).to_pylist()
    assert discover(Source.open(str(tmp_path / "in/a.jpg"))).to_pylist() == [whole[0]]


def test_one_file_of_a_remote_folder_is_a_source_of_its_own():
    folder = Folder("memory://single")
    for name in ("a.jpg", "b.jpg"):
        with folder.atomic_write(name) as temporary:
            temporary.write_bytes(b"x")
    (row,) = discover(Source.open("memory://single/a.jpg")).to_pylist()
    assert (row["relpath"], row["source_uri"]) == ("a.jpg", "memory:///single/a.jpg")
    assert row["item_id"] == discover(Source.open("memory://single")).to_pylist()[0]["item_id"]


def test_one_file_needs_no_look_at_its_neighbours(tmp_path, monkeypatch):
    tree(tmp_path, ["a.jpg", "b.jpg"])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("listed the folder")

    monkeypatch.setattr(os, "walk", refuse)
    assert discover(Source.open(str(tmp_path / "a.jpg"))).num_rows == 1


def test_what_cannot_be_opened_is_listed_with_its_problem(tmp_path):
    tree(tmp_path, ["good.jpg"])
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.jpg").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).write_bytes(b"x")
    rows = {row["relpath"]: row for row in discover(Source.open(str(tmp_path))).to_pylist()}
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
    assert discover(Source.open(str(tmp_path))).equals(CATALOG_SCHEMA.empty_table())


@given(st.lists(st.text(max_size=10), unique=True, min_size=2, max_size=8))
def test_ids_differ_where_uris_or_units_do(uris):
    ids = [item_id(uri) for uri in uris]
    assert len(set(ids)) == len(uris)
    assert unit_id(ids) == unit_id(list(ids))
    assert unit_id(ids) != unit_id(ids[::-1])
    assert unit_id(ids) != unit_id(ids[:-1])
