"""The manifest is the memory of a run: whole parts, no row twice, another run's output refused."""

from datetime import UTC, datetime

import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from nst_ops.collection.manifest import SCHEMA, Manifest, row_keys
from nst_ops.storage import Folder

FIELDS_OF_THE_CONTRACT = """
item_id source_uri source_bytes source_version kind style output_uri output_bytes output_sha256 status
error_type error_message attempts width height output_width output_height num_frames frame_rate duration_s
video_codec audio_codec model model_sha256 config_sha256 run_id unit_id worker decode_s stylize_s encode_s
finished_at
"""


@pytest.fixture(params=["local", "memory"])
def manifest(request, tmp_path) -> Manifest:
    return Manifest(Folder(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"))


def row(item_id: str, status: str = "ok", style: str = "s", **more: object) -> dict[str, object]:
    finished_at = datetime(2024, 1, 2, tzinfo=UTC)
    keys = {"item_id": item_id, "source_uri": item_id, "style": style}
    return {**keys, "status": status, "finished_at": finished_at, **more}


def keys(*item_ids: str, style: str = "s") -> set[tuple[str, str]]:
    return {(item_id, style) for item_id in item_ids}


def statuses(manifest: Manifest) -> dict[str, str]:
    table = manifest.table()
    ids = table["item_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, table["status"].to_pylist(), strict=True))


def test_the_schema_holds_what_was_promised():
    assert set(FIELDS_OF_THE_CONTRACT.split()) <= set(SCHEMA.names)


def test_an_output_without_a_run_has_no_rows(manifest):
    assert manifest.table().equals(SCHEMA.empty_table())


def test_a_commit_adds_rows_and_replaces_those_of_its_items(manifest):
    manifest.commit("one", [row("a"), row("b", "failed")])
    manifest.commit("two", [row("c")])
    manifest.commit("one", [row("b"), row("d", "failed")])
    assert statuses(manifest) == {"a": "ok", "b": "ok", "c": "ok", "d": "failed"}


def test_each_style_of_an_item_has_a_row_of_its_own(manifest):
    manifest.commit("one", [row("a", style="x"), row("a", "failed", style="y")])
    manifest.commit("one", [row("a", style="y"), row("a", style="z")])
    manifest.commit("two", [row("b", style="y")])
    table = manifest.table()
    assert sorted(row_keys(table)) == [("a", "x"), ("a", "y"), ("a", "z"), ("b", "y")]
    assert set(table["status"].to_pylist()) == {"ok"}
    manifest.forget({("a", "y"), ("b", "x")})
    assert sorted(row_keys(manifest.table())) == [("a", "x"), ("a", "z"), ("b", "y")]


def test_committing_twice_is_as_good_as_once(manifest):
    for _ in range(2):
        manifest.commit("one", [row("a"), row("b")])
    assert statuses(manifest) == {"a": "ok", "b": "ok"}


def test_forgotten_rows_are_gone_and_the_others_stay(manifest):
    manifest.commit("one", [row("a"), row("b")])
    manifest.commit("two", [row("c")])
    manifest.forget(keys("a", "c", "unknown"))
    assert statuses(manifest) == {"b": "ok"}
    manifest.forget(set())
    manifest.commit("two", [row("c", "failed")])
    assert statuses(manifest) == {"b": "ok", "c": "failed"}


def test_a_row_keeps_every_value_through_the_file(manifest):
    manifest.commit("one", [row("a", source_bytes=2**40, frame_rate=29.97, error_message="ü", width=7)])
    (read,) = manifest.table().to_pylist()
    assert set(read) == set(SCHEMA.names)
    assert (read["source_bytes"], read["frame_rate"], read["error_message"], read["width"]) == (2**40, 29.97, "ü", 7)
    assert read["finished_at"] == datetime(2024, 1, 2, tzinfo=UTC)
    assert read["note"] is None


def test_pandas_and_arrow_read_the_folder_as_it_is(tmp_path):
    manifest = Manifest(Folder(str(tmp_path)))
    manifest.commit("one", [row("a", width=1)])
    manifest.commit("two", [row("b"), row("c")])
    manifest.forget(keys("a"))
    frame = pd.read_parquet(tmp_path / "manifest")
    assert sorted(frame["item_id"]) == ["b", "c"]
    dataset = pyarrow.dataset.dataset(tmp_path / "manifest")
    assert dataset.schema.equals(SCHEMA)
    assert dataset.count_rows() == pq.read_table(tmp_path / "manifest").num_rows == 2
    assert not list(tmp_path.glob("manifest/*.tmp")) + list(tmp_path.glob("manifest/.*"))


def test_forgetting_removes_the_outputs_of_the_rows_only(manifest):
    for name in ("a.jpg", "b/b.jpg", "c.jpg", "foreign.jpg"):
        with manifest.output.atomic_write(name) as temporary:
            temporary.write_bytes(b"x")
    output = manifest.output.uri
    manifest.commit("one", [row("a", output_uri=output("a.jpg")), row("b", output_uri=output("b/b.jpg"))])
    manifest.commit("two", [row("c", output_uri=output("c.jpg")), row("d", "failed")])
    manifest.forget(keys("b"))
    left = ("a.jpg", "b/b.jpg", "c.jpg", "foreign.jpg")
    assert [manifest.output.exists(name) for name in left] == [True, False, True, True]
    manifest.forget(None)
    assert statuses(manifest) == {}
    assert [manifest.output.exists(name) for name in left] == [False, False, False, True]
