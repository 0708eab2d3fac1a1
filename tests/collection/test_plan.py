"""Every item is in exactly one place: to do, refused or done."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.collection.discover import CATALOG_SCHEMA, item_id
from nst_ops.collection.manifest import SCHEMA
from nst_ops.collection.plan import Plan, plan_units, split_unit
from nst_ops.media.formats import likely_output, media_kind


def catalog_of(*names: str, version: str = "1", problems: dict[str, str] | None = None) -> pa.Table:
    rows = [
        {
            "item_id": item_id(name),
            "relpath": name,
            "source_uri": name,
            "source_bytes": len(name),
            "source_version": version,
            "kind": media_kind(name),
            "problem": (problems or {}).get(name),
        }
        for name in sorted(names)
    ]
    return pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)


def manifest_of(catalog: pa.Table, **statuses: str) -> pa.Table:
    """Rows for the items of ``catalog`` by relpath, dots as underscores, with their statuses."""
    rows = [
        {
            "item_id": item["item_id"],
            "source_bytes": item["source_bytes"],
            "source_version": item["source_version"],
            "status": statuses[item["relpath"].replace(".", "_")],
        }
        for item in catalog.to_pylist()
        if item["relpath"].replace(".", "_") in statuses
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


NOTHING = SCHEMA.empty_table()


def to_do(plan: Plan) -> list[str]:
    return sorted(item["relpath"] for unit in plan.units for item in unit.items)


def refused(plan: Plan) -> dict[str, tuple[str, str]]:
    return {refusal.item["relpath"]: (refusal.status, refusal.error_type) for refusal in plan.refusals}


FOLDERS = st.sampled_from(["", "a/", "manifest/", "report/", ".tmp/", "b/.tmp/"])
STEMS = st.sampled_from(["x", "y", "run", "x.webm", "x.gif", "é ü", "a.jpg"])
EXTENSIONS = st.sampled_from(
    [".jpg", ".png", ".gif", ".webm", ".mkv", ".mp4", ".txt", ".gif.mp4", ".gif.png", ""]
)
NAMES = st.builds("{}{}{}".format, FOLDERS, STEMS, EXTENSIONS)
STATUSES = st.sampled_from(["ok", "failed", "skipped", "crashed", "changed", None])


@given(st.dictionaries(NAMES, STATUSES, max_size=25), st.integers(1, 7), st.booleans())
def test_every_item_is_to_do_refused_or_done(statuses, images_per_unit, retry_failed):
    catalog = catalog_of(*statuses)
    rows = [
        {
            **item,
            "source_version": "0" if status == "changed" else "1",
            "status": "ok" if status == "changed" else status,
        }
        for item in catalog.to_pylist()
        if (status := statuses[item["relpath"]])
    ]
    rows = [
        {key: row[key] for key in ("item_id", "source_version", "source_bytes", "status")} for row in rows
    ]
    plan = plan_units(catalog, pa.Table.from_pylist(rows, schema=SCHEMA), images_per_unit, retry_failed)
    again = {"changed", None, *(("failed", "crashed") if retry_failed else ())}
    left = sorted(name for name, status in statuses.items() if status in again)
    assert sorted([*to_do(plan), *refused(plan)]) == left
    assert plan.num_done == len(statuses) - len(left)
    assert plan.stale_ids == {item_id(name) for name in left if statuses[name]}
    outputs = [likely_output(name) for name in to_do(plan)]
    assert len(set(outputs)) == len(outputs)
    for unit in plan.units:
        kinds = {item["kind"] for item in unit.items}
        assert kinds == {"image"} or (kinds == {"video"} and len(unit.items) == 1)
        assert len(unit.items) <= images_per_unit
    assert len({unit.unit_id for unit in plan.units}) == len(plan.units)


@given(st.sets(NAMES, max_size=25), st.integers(1, 7))
def test_the_same_input_gives_the_same_units_and_a_resume_keeps_their_ids(names, images_per_unit):
    catalog = catalog_of(*names)
    plan = plan_units(catalog, NOTHING, images_per_unit, retry_failed=False)
    assert plan_units(catalog, NOTHING, images_per_unit, retry_failed=False) == plan
    units = {unit.unit_id: unit for unit in plan.units}
    first_of_each = [unit.items[0] for unit in plan.units]
    rows = [
        {key: item[key] for key in ("item_id", "source_version", "source_bytes")} | {"status": "ok"}
        for item in first_of_each
    ]
    resumed = plan_units(
        catalog, pa.Table.from_pylist(rows, schema=SCHEMA), images_per_unit, retry_failed=False
    )
    for unit in resumed.units:
        assert unit.items == units[unit.unit_id].items[1:]
    assert to_do(resumed) == sorted(set(to_do(plan)) - {item["relpath"] for item in first_of_each})


def test_images_are_cut_in_order_and_the_largest_units_come_first():
    names = [f"{n}.jpg" for n in range(5)]
    plan = plan_units(
        catalog_of(*names, "a_very_long_name_is_a_large_file.mp4"), NOTHING, 2, retry_failed=False
    )
    assert [[item["relpath"] for item in unit.items] for unit in plan.units] == [
        ["a_very_long_name_is_a_large_file.mp4"],
        ["0.jpg", "1.jpg"],
        ["2.jpg", "3.jpg"],
        ["4.jpg"],
    ]
    assert [unit.num_bytes for unit in plan.units] == [36, 10, 10, 5]


def test_a_changed_source_is_done_again_even_if_it_is_now_refused():
    old = catalog_of("a.jpg", "b.jpg")
    done = manifest_of(old, a_jpg="ok", b_jpg="ok")
    new = catalog_of("a.jpg", "b.jpg", version="2", problems={"b.jpg": "a pipe now"})
    plan = plan_units(new, done, 10, retry_failed=False)
    assert to_do(plan) == ["a.jpg"]
    assert refused(plan) == {"b.jpg": ("failed", "UnreadableFileError")}
    assert plan.stale_ids == {item_id("a.jpg"), item_id("b.jpg")}
    assert plan.num_done == 0


@pytest.mark.parametrize("retry_failed", [False, True])
def test_failures_are_tried_again_only_when_asked(retry_failed):
    catalog = catalog_of("a.jpg", "b.jpg", "c.jpg", "d.txt")
    done = manifest_of(catalog, a_jpg="ok", b_jpg="failed", c_jpg="crashed", d_txt="skipped")
    plan = plan_units(catalog, done, 10, retry_failed)
    assert to_do(plan) == (["b.jpg", "c.jpg"] if retry_failed else [])
    assert plan.num_done == (2 if retry_failed else 4)


def test_a_row_of_a_file_that_has_gone_does_not_count():
    done = manifest_of(catalog_of("gone.jpg"), gone_jpg="ok")
    plan = plan_units(catalog_of("a.jpg"), done, 10, retry_failed=False)
    assert (to_do(plan), plan.num_done, plan.stale_ids) == (["a.jpg"], 0, set())


def test_two_inputs_that_share_an_output_by_name_are_refused():
    names = [
        "a.webm",
        "a.webm.mkv",
        "b.gif",
        "b.gif.png",
        "e.mp4",
        "e.MP4",
    ]
    plan = plan_units(catalog_of(*names), NOTHING, 100, retry_failed=False)
    collision = ("failed", "OutputCollisionError")
    assert refused(plan) == {name: collision for name in ("a.webm", "b.gif")}
    assert "a.webm.mkv" in next(r.message for r in plan.refusals if r.item["relpath"] == "a.webm")


def test_names_the_run_needs_for_itself_are_refused():
    names = [
        "manifest/a.jpg",
        "report/a.jpg",
        ".tmp/a.jpg",
        "in/manifest/a.jpg",
        "manifest.jpg",
        "reports/a.jpg",
    ]
    plan = plan_units(catalog_of(*names), NOTHING, 100, retry_failed=False)
    assert set(refused(plan)) == {"manifest/a.jpg", "report/a.jpg", ".tmp/a.jpg"}
    assert set(refused(plan).values()) == {("failed", "OutputCollisionError")}


def test_what_is_no_media_is_skipped_and_says_why():
    plan = plan_units(catalog_of("notes.txt", "a.jpg"), NOTHING, 100, retry_failed=False)
    assert refused(plan) == {"notes.txt": ("skipped", "UnsupportedMediaError")}
    assert "extension" in plan.refusals[0].message


def test_a_unit_that_killed_its_worker_is_split_into_its_items():
    (unit,) = plan_units(catalog_of("a.jpg", "b.jpg"), NOTHING, 10, retry_failed=False).units
    parts = split_unit(unit)
    assert [part.items for part in parts] == [(item,) for item in unit.items]
    assert {part.attempt for part in parts} == {2}
    assert split_unit(parts[0])[0].unit_id == parts[0].unit_id
    assert len({unit.unit_id, *(part.unit_id for part in parts)}) == 3
