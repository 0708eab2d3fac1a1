"""Lists of files: text, CSV, JSON, JSON lines and Parquet, with what they say of each file."""

import base64
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_factory import image_bytes

from nst_ops.collection.inputs import Source, discover
from nst_ops.media.shards import file_samples
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


def test_dots_within_a_path_are_left_out_on_a_disk(tmp_path):
    text = "./src/./a.jpg\nsrc/././b.jpg\nsrc/a.jpg\nc/./\n"
    found = entries(write(tmp_path / "list.txt", text))
    assert set(found) == {"src/a.jpg", "src/b.jpg", "c/"}
    assert not any("empty parts" in str(row["problem"]) for row in found.values())
    found = entries(write(tmp_path / "absolute.txt", "/d/./a.jpg\nfile:///d/./b.jpg\n"))
    assert set(found) == {"d/a.jpg", "d/b.jpg"}
    found = entries(write(tmp_path / "remote.txt", "memory://x/./a.jpg\n"))
    assert set(found) == {"x/./a.jpg"}, "in a bucket it is another object"


@pytest.mark.parametrize(
    "text",
    [
        '["a.jpg", "b.jpg"]',
        '\ufeff [\n  "a.jpg",\n  "b.jpg"\n]\n',
        '[{"path": "a.jpg"}, {"path": "b.jpg"}]',
        '{"path": "a.jpg"}\n{"path": "b.jpg"}\n',
    ],
)
def test_a_list_may_be_json(tmp_path, text):
    found = entries(write(tmp_path / "list.json", text))
    assert {name: (row["kind"], row["extra"]) for name, row in found.items()} == {
        "a.jpg": ("image", None),
        "b.jpg": ("image", None),
    }


def test_labels_of_an_array_of_json_travel(tmp_path):
    text = '[{"file_name": "a.jpg", "label": "007", "n": 12345678901234567890}, {"file_name": "b.jpg"}]'
    found = entries(write(tmp_path / "list.json", text))
    assert json.loads(str(found["a.jpg"]["extra"])) == {"label": "007", "n": 12345678901234567890}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  "images": []\n}', "a .json is an array of paths or of objects, or one object a line"),
        ('{"images": [], "annotations": []}', "none of its columns"),
        ('["a.jpg", 3]', "entry 2 is neither a path nor an object"),
        ('["a.jpg"', "a .json is an array"),
        ("[]", "none of its columns"),
        ("3", "no object of JSON"),
    ],
)
def test_json_that_is_no_list_is_an_error(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"list\.json.*{message}"):
        Source.open(str(write(tmp_path / "list.json", text)))


@pytest.mark.parametrize("begin", ["", "data:image/jpeg;base64,"])
def test_images_in_a_column_of_text_are_no_paths(tmp_path, begin):
    texts = [begin + base64.b64encode(image_bytes()).decode()] * 2
    pq.write_table(pa.table({"image": texts, "label": [1, 2]}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match=r"holds images as text .*, not their paths: decode them"):
        Source.open(str(tmp_path / "list.parquet"))


def test_a_list_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    for name, text in {"no.csv": "label\n3\n", "empty.txt": "# nothing\n", "bad.jsonl": "{"}.items():
        with pytest.raises(ValueError, match=name):
            Source.open(str(write(tmp_path / name, text)))


# Encodings and line ends.

TEXT = "uri,label\na.jpg,1\né ü;漢.jpg,x\n"


ENCODINGS = ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]


@pytest.mark.parametrize(
    ("encoding", "end"), [("utf-8", "\n"), ("utf-8", "\r"), *((each, "\r\n") for each in ENCODINGS)]
)
def test_lists_of_other_encodings_are_read_as_well(tmp_path, encoding, end):
    names = {"a.jpg", "é ü;漢.jpg"}
    lines = {
        "list.csv": TEXT,
        "list.txt": "# files\n\na.jpg\né ü;漢.jpg\n",
        "list.tsv": TEXT.replace(",", "\t"),
        "list.jsonl": '{"uri": "a.jpg"}\n\n{"uri": "é ü;漢.jpg"}\n',
    }
    for name, text in lines.items():
        content = text.replace("\n", end)
        if encoding in ("utf-16-le", "utf-16-be") and name == "list.txt":
            content = content.removeprefix("# files" + end)  # nothing says what it is but zeros
        (tmp_path / name).write_bytes(content.encode(encoding))
        assert set(entries(tmp_path / name)) == names


def test_only_a_hash_before_a_space_is_a_comment(tmp_path):
    (tmp_path / "list.txt").write_text("#EXTM3U\n#\n# a comment.jpg\n#1.jpg\na.jpg\n")
    assert set(entries(tmp_path / "list.txt")) == {"#1.jpg", "a.jpg"}


def test_line_ends_of_several_systems_may_stand_in_one_list(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a.jpg\r\nb.jpg\nc.jpg\rd.jpg")
    assert set(entries(tmp_path / "list.txt")) == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}
    (tmp_path / "list.csv").write_bytes(b'path,text\r\na.jpg,"two\r\nlines"\nb.jpg,one\r\n\r\n\nc.jpg,\n')
    found = entries(tmp_path / "list.csv")
    assert set(found) == {"a.jpg", "b.jpg", "c.jpg"}
    assert labels(found["a.jpg"]) == {"text": "two\r\nlines"}


@pytest.mark.parametrize("content", [b"path,label\na.jpg,1\n\xe9t\xe9.jpg,2\n", b"a.jpg\nb.jpg\n\xe9t\xe9.jpg\n"])
def test_a_list_in_no_known_encoding_says_where_and_what_to_do(tmp_path, content):
    path = tmp_path / ("list.csv" if b"," in content else "list.txt")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"no UTF-8 in line 3: save it as UTF-8, or convert it: iconv"):
        Source.open(str(path))
    path.write_text(content.decode("cp1252"), encoding="utf-8")  # the remedy
    assert "été.jpg" in entries(path)


# Values.


def labels(row: dict[str, object]) -> dict[str, object]:
    return json.loads(str(row["extra"]))


def test_a_value_late_in_a_list_is_what_was_written(tmp_path):
    rows = [f"{n}.png,{n % 10},{n % 10}.5,true" for n in range(30_000)]
    path = write(tmp_path / "list.csv", "\n".join(["path,label,score,good", *rows, "b.png,007,3.70,TRUE", ""]))
    found = entries(path)
    assert labels(found["b.png"]) == {"label": "007", "score": "3.70", "good": "TRUE"}
    assert labels(found["3.png"]) == {"label": "3", "score": "3.5", "good": "true"}
    path = write(tmp_path / "list.csv", "\n".join(["path,label,score,good", *rows, "b.png,7,3.7,false", ""]))
    assert labels(entries(path)["b.png"]) == {"label": 7, "score": 3.7, "good": False}
    assert Source.open(str(path)).labels == {"label": pa.int64(), "score": pa.float64(), "good": pa.bool_()}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("NA", "NA"), ("null", "null"), ("nan", "nan"), ("None", "None"), ("", None), ('""', None)],
        *[("2024-01-02", "2024-01-02"), ("1e5", "1e5"), ("+3", "+3"), ("0x10", "0x10"), ("1_000", "1_000")],
        *[("9007199254740993", 2**53 + 1), (str(2**70), str(2**70)), ("-0", "-0"), (" 3", " 3"), ("3 ", "3 ")],
        *[('"a ""b"" c"', 'a "b" c'), ('"x\ny"', "x\ny"), ("it's; a|b", "it's; a|b"), ("yes", "yes"), ("inf", "inf")],
        ("long " * 100_000, "long " * 100_000),
    ],
)
def test_a_value_of_a_table_comes_as_it_was_written(tmp_path, text, value):
    found = entries(write(tmp_path / "list.csv", f"path,v\na.jpg,{text}\n"))
    assert labels(found["a.jpg"]) == {"v": value}


def test_values_of_json_keep_their_kinds(tmp_path):
    rows = [{"path": f"{n}.jpg", "v": n, "when": "2024-01-02"} for n in range(25_000)]
    late = {"path": "b.jpg", "v": 2**70, "when": "2024-01-02T00:00:00Z", "only here": {"x": [1, None]}, "f": 3.7}
    path = write(tmp_path / "list.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, late]))
    found = entries(path)
    assert labels(found["b.jpg"]) == {name: value for name, value in late.items() if name != "path"}
    assert Source.open(str(path)).labels == {
        "v": pa.string(),  # too large for a column of numbers
        "when": pa.string(),
        "only here": pa.struct([("x", pa.list_(pa.int64()))]),
        "f": pa.float64(),
    }


@pytest.mark.parametrize("between", [0, 25_000])
def test_texts_among_other_values_gain_no_quotes(tmp_path, between):
    mixed = [["007", [1]], [7, "x"], [True, {"a": "b"}], [2**70, None], [None, 7], ["7", "7"]]
    rows = [{"path": f"{n}.jpg", "a": a, "b": b} for n, (a, b) in enumerate(mixed)]
    others = [{"path": f"x{n}.jpg", "a": n} for n in range(between)]
    text = "".join(json.dumps(row) + "\n" for row in [*rows[:1], *others, *rows[1:]])
    source, found = Source.open(str(write(tmp_path / "list.jsonl", text))), entries(tmp_path / "list.jsonl")
    extras = [labels(found[f"{n}.jpg"]) for n in range(len(rows))]
    assert [[extra["a"], extra["b"]] for extra in extras] == mixed, "until then they are what was written"
    for types in (source.labels, None):
        samples, _ = file_samples([str(n) for n in range(len(rows))], extras, "image", types)
        columns = pa.Table.from_batches([sample.others for sample in samples])
        assert columns["a"].to_pylist() == ["007", "7", "true", str(2**70), None, "7"]
        assert columns["b"].to_pylist() == ["[1]", '"x"', '{"a": "b"}', None, "7", '"7"']


def test_a_column_that_is_no_size_travels_as_a_label(tmp_path):
    found = entries(write(tmp_path / "list.csv", "path,size\na.jpg,large\nb.jpg,3\n"))
    assert labels(found["a.jpg"]) == {"size": "large"}
    assert found["b.jpg"]["source_bytes"] == 0
    found = entries(write(tmp_path / "list.jsonl", '{"path": "a.jpg", "size": [4, 3]}\n{"path": "b.jpg", "size": 3}\n'))
    assert labels(found["a.jpg"]) == {"size": [4, 3]}


def test_columns_of_one_name_are_told_apart(tmp_path):
    found = entries(write(tmp_path / "list.csv", "Path,label,Label,label,\na.jpg,1,2,3,4\n"))
    assert labels(found["a.jpg"]) == {"label": 1, "Label": 2, "label_2": 3, "column4": 4}


@pytest.mark.parametrize("header", ["path,label", '"path","label"', "path;label", "path\tlabel", " path , label "])
def test_the_header_says_what_parts_the_columns(tmp_path, header):
    delimiter = next(c for c in ";\t," if c in header)
    found = entries(write(tmp_path / "list.csv", f'{header}\n"a;b.jpg"{delimiter}"1,5"\n'))
    assert labels(found["a;b.jpg"]) == {"label": "1,5"}


def test_a_line_of_excel_may_name_what_parts_the_columns(tmp_path):
    for end in ("\n", "\r\n"):
        (tmp_path / "list.csv").write_bytes(f"sep=;{end}path;label{end}a.jpg;1,5{end}".encode("utf-8-sig"))
        assert labels(entries(tmp_path / "list.csv")["a.jpg"]) == {"label": "1,5"}


def test_a_table_of_one_column_needs_no_quotes_for_semicolons(tmp_path):
    assert set(entries(write(tmp_path / "list.csv", "path\na;b.jpg\nc|d.jpg\n"))) == {"a;b.jpg", "c|d.jpg"}


# What is broken is said to be.


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "path,label\na.jpg,1\nb.jp", "line 3 has 1 fields, its header 2"),
        ("list.csv", "path\na,b.jpg\n", "line 2 has 2 fields, its header 1: quote those that hold ','"),
        ("list.csv", 'path,label\na.jpg,"no end\nb.jpg,2\n', "line 3: unexpected end of data"),
        ("list.csv", "a.jpg,1\nb.jpg,2\n", r"none of its columns \['a.jpg', '1'\] holds URIs"),
        ("list.csv", "path,label\n", "is empty"),
        ("list.csv", "", "holds URIs"),
        ("list.jsonl", '{"path": "a.jpg"}\n{"path": "b.j', "line 2 is no JSON"),
        ("list.jsonl", '{"path": "\\ud800.jpg"}\n', "half of a surrogate pair"),
        ("list.jsonl", '[{"path": "a.jpg"}]\n', "line 1 is no object"),
        ("list.jsonl", '{"path": "a.jpg", "x": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "too deeply"),
    ],
)
def test_a_list_that_breaks_off_is_no_short_list(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        Source.open(str(write(tmp_path / name, text)))


def test_a_row_that_names_no_file_is_not_forgotten(tmp_path):
    found = entries(write(tmp_path / "list.csv", "path,label\na.jpg,1\n,2\n,\n"))
    assert set(found) == {"a.jpg", "list.csv#2"}
    assert "entry 2 of the list names no file" in str(found["list.csv#2"]["problem"])
    found = entries(write(tmp_path / "list.jsonl", '{"path": "a.jpg"}\n{"file": "b.jpg"}\n{"path": null}\n'))
    assert set(found) == {"a.jpg", "list.jsonl#2", "list.jsonl#3"}


def test_marks_of_folders_are_no_files_of_an_inventory(tmp_path):
    found = entries(write(tmp_path / "list.csv", "bucket,key\nb,in/\nb,in/a.jpg\nb,\n"))
    assert set(found) == {"b/in/a.jpg", "list.csv#3"}
    found = entries(write(tmp_path / "list.csv", "uri\ns3://b/in/a.jpg\ns3://b/in/\n"))
    assert "it is a folder" in str(found["b/in/"]["problem"])


def test_nul_characters_in_names_are_a_problem_of_the_file(tmp_path):
    found = entries(write(tmp_path / "list.txt", "a.jpg\nlong enough a name\0b.jpg\n"))
    assert "NUL" in str(found["long enough a name\0b.jpg"]["problem"])
    assert found["a.jpg"]["problem"] is None


def test_nul_characters_in_labels_are_letters(tmp_path):
    found = entries(write(tmp_path / "list.csv", "path,label\na.jpg,some text\0more\n"))
    assert labels(found["a.jpg"]) == {"label": "some text\0more"}


def test_rows_of_one_file_travel_together(tmp_path):
    text = "path,box,label\na.jpg,1,x\nb.jpg,2,y\n./a.jpg,3,x\na.jpg,3,x\n"
    found = entries(write(tmp_path / "list.csv", text))
    assert labels(found["a.jpg"]) == {"box": [1, 3], "label": ["x", "x"]}
    assert labels(found["b.jpg"]) == {"box": 2, "label": "y"}
    assert Source.open(str(tmp_path / "list.csv")).labels == {"box": pa.json_(), "label": pa.string()}


# Addresses.


def test_escapes_in_uris_of_files_are_undone(tmp_path):
    text = "file:///d/plain.jpg\nfile:///d/My%20Photos/a%231.jpg\nfile://localhost/d/%C3%A9 100%25.jpg\nfile:/d/x.jpg\n"
    found = entries(write(tmp_path / "list.txt", text + "FILE:///d/y.jpg\n/d/100%20.jpg\n"))
    names = ["plain.jpg", "My Photos/a#1.jpg", "é 100%.jpg", "x.jpg", "y.jpg", "100%20.jpg"]
    assert set(found) == {f"d/{name}" for name in names}
    found = entries(write(tmp_path / "list.csv", "uri\nfile:///d/a.jpg\nfile://host/d/b.jpg\nfile:///d/%E9.jpg\n"))
    assert "another machine" in str(found["file://host/d/b.jpg"]["problem"])
    assert "names no file" in str(found["list.csv#3"]["problem"])


def test_escapes_in_other_uris_are_letters(tmp_path):
    found = entries(write(tmp_path / "list.txt", "memory://b/a%20b.jpg\nmemory://b/a+b.jpg\n"))
    assert set(found) == {"b/a%20b.jpg", "b/a+b.jpg"}


def test_a_list_may_lie_in_a_folder_of_any_name(tmp_path):
    folder = tmp_path / "it's [1] *? ; 100%"
    folder.mkdir()
    pq.write_table(pa.table({"path": ["a.jpg"], "label": [1]}), folder / "list.parquet")
    assert set(entries(folder / "list.parquet")) == {"a.jpg"}
    assert set(entries(write(folder / "list.txt", "a.jpg\n"))) == {"a.jpg"}
    assert set(entries((folder / "list.txt").as_uri())) == {"a.jpg"}


# Parquet.

TYPES = {
    "i8": pa.array([1, None], pa.int8()),
    "big": pa.array([2**53 + 1, 2**63 - 1]),
    "u64": pa.array([2**64 - 1, 0], pa.uint64()),
    "f32": pa.array([3.7, None], pa.float32()),
    "f64": pa.array([0.1, 1e-300]),
    "yes": pa.array([True, False]),
    "text": pa.array(["007", "é\n"], pa.large_string()),
    "view": pa.array(["x", None], pa.string_view()),
    "split": pa.array(["train", "test"]).dictionary_encode(),
    "day": pa.array([0, 1], pa.date32()),
    "when": pa.array([1, 1_700_000_000_123_456_789], pa.timestamp("ns", tz="UTC")),
    "local": pa.array([0, None], pa.timestamp("us")),
    "price": pa.array([Decimal("12345678901234567.80"), None], pa.decimal128(19, 2)),
    "sha": pa.array([b"\0\xff", None]),
    "id": pa.array([b"ab", b"cd"], pa.binary(2)),
    "box": pa.array([{"x": 1, "y": [1.5]}, None]),
    "tags": pa.array([["a", None], []]),
    "nothing": pa.nulls(2),
}


def test_columns_of_parquet_come_back_as_they_were(tmp_path):
    table = pa.table({"path": ["a.jpg", "b.jpg"], **TYPES})
    pq.write_table(table, tmp_path / "list.parquet")
    expected = pq.read_table(tmp_path / "list.parquet")
    source, found = Source.open(str(tmp_path / "list.parquet")), entries(tmp_path / "list.parquet")
    samples, layout = file_samples(list(found), [labels(row) for row in found.values()], "image", source.labels)
    rows = {sample.images[0].member: sample.others for sample in samples}
    assert layout.others.names == list(TYPES)
    for index, name in enumerate(("a.jpg", "b.jpg")):
        for column in TYPES:
            assert rows[name][column].type == expected[column].type or column == "nothing"
            assert rows[name][column][0].as_py() == expected[column][index].as_py(), column


def test_columns_that_json_cannot_give_back_come_as_json(tmp_path):
    column = pa.array([[("k", b"v")]], pa.map_(pa.string(), pa.binary()))
    pq.write_table(pa.table({"path": ["a.jpg"], "map": column}), tmp_path / "list.parquet")
    assert Source.open(str(tmp_path / "list.parquet")).labels == {"map": pa.json_()}
    assert labels(entries(tmp_path / "list.parquet")["a.jpg"]) == {"map": {"k": "v"}}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_all_kinds_name_files(tmp_path, kind):
    pq.write_table(pa.table({"path": pa.array(["a.jpg", "b.jpg"], kind)}), tmp_path / "list.parquet")
    assert set(entries(tmp_path / "list.parquet")) == {"a.jpg", "b.jpg"}


def test_bytes_beside_names_are_images_only_if_they_are(tmp_path):
    picture = image_bytes(1)
    for name, data in {"hashes": b"\1" * 32, "pictures": picture}.items():
        columns = {"path": ["a.jpg", "b.jpg"], "box": [{"x": 1}] * 2, "data": [None, data]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    assert set(entries(tmp_path / "hashes.parquet")) == {"a.jpg", "b.jpg"}
    assert Source.open(str(tmp_path / "pictures.parquet")).only == "pictures.parquet"


def test_a_damaged_table_is_left_to_the_worker_to_report(tmp_path):
    (tmp_path / "list.parquet").write_bytes(b"PAR1 no table PAR1")
    assert Source.open(str(tmp_path / "list.parquet")).only == "list.parquet"


# Inventories.

VERSIONS = [
    # key, version_id, is_latest, is_delete_marker, size, e_tag, last_modified_date
    ("x/kept.jpg", "v1", True, False, 808, "aa", 1),
    ("x/twice.jpg", "v1", False, False, 17, "00", 1),
    ("x/twice.jpg", "v2", True, False, 805, "bb", 2),
    ("x/gone.jpg", "v1", False, False, 99, "11", 1),
    ("x/gone.jpg", "v2", True, True, None, None, 2),
    (" x/ 1.jpg", "null", True, False, 5, "cc", 1),
]
COLUMNS = ("key", "version_id", "is_latest", "is_delete_marker", "size", "e_tag", "last_modified_date")


@pytest.mark.parametrize("without", ["last_modified_date", "is_latest"])
@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_of_a_versioned_bucket_the_latest_objects_count(tmp_path, without, kind):
    rows = [dict(zip(COLUMNS, version, strict=True)) for version in VERSIONS]
    rows = [{"bucket": "photos", **{name: row[name] for name in COLUMNS if name != without}} for row in rows]
    path = tmp_path / f"inventory.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        texts = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
        write(path, "\n".join([",".join(rows[0]), *texts]))
    found = entries(path)
    assert {name: (row["source_bytes"], row["source_version"]) for name, row in found.items()} == {
        "photos/x/kept.jpg": (808, "aa"),
        "photos/x/twice.jpg": (805, "bb"),
        "photos/ x/ 1.jpg": (5, "cc"),
    }


def test_other_lists_may_have_columns_of_these_names(tmp_path):
    found = entries(write(tmp_path / "list.csv", "path,is_latest\na.jpg,false\nb.jpg,true\n"))
    assert labels(found["a.jpg"]) == {"is_latest": False}
