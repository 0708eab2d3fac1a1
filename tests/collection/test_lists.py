"""Lists of files: text, CSV, JSON lines and Parquet, with what they say of each file."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nst_ops.collection.inputs import Source, discover
from nst_ops.storage import Folder


def entries(path: Path | str) -> dict[str, dict[str, object]]:
    """The catalog of a list, by path."""
    rows = discover(Source.open(str(path))).read_all().to_pylist()
    assert len({row["relpath"] for row in rows}) == len(rows)
    return {row["relpath"]: row for row in rows}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_of_text_are_paths_beside_the_list(tmp_path):
    text = '# comment\n\na.jpg\n./b.png\nsub/with "quotes", comma.mp4\né ü.jpg\na.jpg\n'
    found = entries(write(tmp_path / "list.txt", text))
    assert set(found) == {"a.jpg", "b.png", 'sub/with "quotes", comma.mp4', "é ü.jpg"}
    assert found["b.png"]["kind"] == "image"
    assert found['sub/with "quotes", comma.mp4']["kind"] == "video"
    assert Source.open(str(tmp_path / "list.txt")).root == f"{tmp_path}/"


def test_absolute_paths_and_uris_keep_all_of_their_path(tmp_path):
    found = entries(write(tmp_path / "local.txt", "/data/x/a.jpg\nfile:///data/y/a.jpg\n"))
    assert set(found) == {"data/x/a.jpg", "data/y/a.jpg"}
    assert Source.open(str(tmp_path / "local.txt")).root == "/"
    found = entries(write(tmp_path / "remote.txt", "memory://one/a.jpg\nmemory://two/a.jpg\n"))
    assert set(found) == {"one/a.jpg", "two/a.jpg"}
    Folder("memory://one").write_bytes("a.jpg", b"1")
    assert Source.open(str(tmp_path / "remote.txt")).folder.read_bytes("one/a.jpg") == b"1"


def test_columns_beside_the_uri_travel_with_the_file(tmp_path):
    found = entries(write(tmp_path / "list.csv", 'file_name,label,Size,note\na.jpg,3,12,\nb.jpg,4,,"x,y"\n'))
    assert found["a.jpg"]["source_bytes"] == 12
    assert found["b.jpg"]["source_bytes"] is None
    assert json.loads(str(found["a.jpg"]["extra"])) == {"label": 3, "note": None}
    assert json.loads(str(found["b.jpg"]["extra"])) == {"label": 4, "note": "x,y"}
    lines = '{"url": "a.jpg", "tags": [1, 2]}\n{"url": "b.jpg", "tags": null}\n'
    found = entries(write(tmp_path / "list.jsonl", lines))
    assert json.loads(str(found["a.jpg"]["extra"])) == {"tags": [1, 2]}


def test_a_table_of_buckets_and_keys_is_an_inventory(tmp_path):
    columns = {"bucket": ["b", "b"], "key": ["x/1.jpg", "x/2.jpg"], "size": [5, 6], "e_tag": ["aa", "bb"]}
    pq.write_table(pa.table(columns), tmp_path / "inventory.parquet")
    found = entries(tmp_path / "inventory.parquet")
    assert {name: (row["source_bytes"], row["source_version"]) for name, row in found.items()} == {
        "b/x/1.jpg": (5, "aa"),
        "b/x/2.jpg": (6, "bb"),
    }
    assert {row["extra"] for row in found.values()} == {None}


def test_a_table_with_pixels_is_no_list(tmp_path):
    columns = {"image": [{"bytes": b"x", "path": "a.jpg"}], "file_name": ["a.jpg"]}
    pq.write_table(pa.table(columns), tmp_path / "shard.parquet")
    assert Source.open(str(tmp_path / "shard.parquet")).only == "shard.parquet"


@pytest.mark.parametrize("entry", ["../a.jpg", "x/../../a.jpg", "x//a.jpg", "/etc/a.jpg", "s3://b/a.jpg"])
def test_an_entry_outside_the_folder_has_a_problem(tmp_path, entry):
    found = entries(write(tmp_path / "list.txt", f"good.jpg\n{entry}\n"))
    assert found.pop("good.jpg")["problem"] is None
    (row,) = found.values()
    assert row["problem"]


def test_a_list_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    for name, text in {"no.csv": "label\n3\n", "empty.txt": "# nothing\n", "bad.jsonl": "{"}.items():
        with pytest.raises(ValueError, match=name):
            Source.open(str(write(tmp_path / name, text)))
