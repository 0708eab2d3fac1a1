"""Every item is in exactly one place: to do, refused or done."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.collection.discover import CATALOG_SCHEMA, item_id
from nst_ops.collection.manifest import SCHEMA, row_keys
from nst_ops.collection.plan import Plan, WorkUnit, cut_unit, plan_units, split_unit, without
from nst_ops.collection.styles import StyleChoice
from nst_ops.media.formats import likely_output, media_kind
from nst_ops.media.video.segments import Segment


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


def row_of(item: dict[str, object], status: str = "ok", style: str = "s") -> dict[str, object]:
    """The manifest's row of an item of a catalog."""
    keys = ("item_id", "source_bytes", "source_version")
    return {**{key: item[key] for key in keys}, "style": style, "status": status}


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def manifest_of(catalog: pa.Table, **statuses: str) -> pa.Table:
    """Rows for the items of ``catalog`` by relpath, dots as underscores, with their statuses."""
    named = {item["relpath"].replace(".", "_"): item for item in catalog.to_pylist()}
    return table_of([row_of(named[name], status) for name, status in statuses.items()])


NOTHING = SCHEMA.empty_table()
ONE = StyleChoice(("s",))


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


CHOICES = st.sampled_from(
    [
        ONE,
        StyleChoice(("x", "y", "z"), "each"),
        StyleChoice(("x",), "each"),
        StyleChoice(("x", "y"), "random", 3),
    ]
)


@given(
    st.dictionaries(NAMES, st.lists(STATUSES, min_size=3, max_size=3), max_size=25),
    st.integers(1, 7),
    st.booleans(),
    CHOICES,
)
def test_every_item_is_to_do_refused_or_done_in_every_style(statuses, images_per_unit, retry_failed, choice):
    catalog = catalog_of(*statuses)
    given_rows, left = [], set()
    again = {"changed", None, *(("failed", "crashed") if retry_failed else ())}
    for item in catalog.to_pylist():
        for status, style in zip(statuses[item["relpath"]], choice.of(item["relpath"]), strict=False):
            if status:
                row = row_of(item, "ok" if status == "changed" else status, style)
                given_rows.append(row | ({"source_version": "0"} if status == "changed" else {}))
            if status in again:
                left.add((item["item_id"], style))
    plan = plan_units(catalog, table_of(given_rows), images_per_unit, retry_failed, choice)
    items = [item for unit in plan.units for item in unit.items]
    found = [key for unit in plan.units for key in keys_of(unit)]
    found += [(refusal.item["item_id"], name) for refusal in plan.refusals for name in refusal.item["styles"]]
    assert len(found) == len(set(found))
    assert set(found) == left
    assert plan.num_done == len(statuses) * choice.per_item - len(left)
    assert plan.stale == left & set(row_keys(table_of(given_rows)))
    outputs = [
        choice.output(name, likely_output(item["relpath"])) for item in items for name in item["styles"]
    ]
    assert len(set(outputs)) == len(outputs)
    for unit in plan.units:
        kinds = {item["kind"] for item in unit.items}
        assert kinds == {"image"} or (kinds == {"video"} and unit.num_rows == 1)
        assert unit.num_rows <= max(images_per_unit, choice.per_item)
    assert len({unit.unit_id for unit in plan.units}) == len(plan.units)


@given(st.sets(NAMES, max_size=25), st.integers(1, 7), CHOICES)
def test_the_same_input_gives_the_same_units_and_a_resume_keeps_their_ids(names, images_per_unit, choice):
    catalog = catalog_of(*names)
    plan = plan_units(catalog, NOTHING, images_per_unit, retry_failed=False, choice=choice)
    assert plan_units(catalog, NOTHING, images_per_unit, retry_failed=False, choice=choice) == plan
    units = {unit.unit_id: unit for unit in plan.units}
    first_of_each = [(unit.items[0], unit.items[0]["styles"][0]) for unit in plan.units]
    rows = table_of([row_of(item, style=style) for item, style in first_of_each])
    resumed = plan_units(catalog, rows, images_per_unit, retry_failed=False, choice=choice)
    assert resumed.num_done == len(first_of_each)
    for unit in resumed.units:
        before = keys_of(units[unit.unit_id])
        assert keys_of(unit) == before[1:]
        assert keys_of(without(unit, set(before[1:2])) or WorkUnit("", ())) == before[2:]


def keys_of(unit: WorkUnit) -> list[tuple[str, str]]:
    return [(item["item_id"], style) for item in unit.items for style in item["styles"]]


def test_an_image_of_several_styles_is_one_item_and_a_video_a_unit_for_each():
    choice = StyleChoice(("x", "y", "z"), "each")
    plan = plan_units(catalog_of("a.jpg", "b.jpg", "c.mp4"), NOTHING, 7, retry_failed=False, choice=choice)
    held = [[(item["relpath"], item["styles"]) for item in unit.items] for unit in plan.units]
    assert held == [
        [("a.jpg", choice.names), ("b.jpg", choice.names)],
        *([("c.mp4", (style,))] for style in choice.names),
    ]


def test_a_style_has_its_own_folder_and_so_the_names_of_the_run_are_free_below_it():
    plan = plan_units(catalog_of("manifest/a.jpg"), NOTHING, 7, False, StyleChoice(("x",), "each"))
    assert to_do(plan) == ["manifest/a.jpg"]
    assert refused(plan_units(catalog_of("manifest/a.jpg"), NOTHING, 7, False, ONE))


def test_images_are_cut_in_order_and_the_largest_units_come_first():
    names = [f"{n}.jpg" for n in range(5)]
    plan = plan_units(
        catalog_of(*names, "a_very_long_name_is_a_large_file.mp4"), NOTHING, 2, retry_failed=False, choice=ONE
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
    plan = plan_units(new, done, 10, retry_failed=False, choice=ONE)
    assert to_do(plan) == ["a.jpg"]
    assert refused(plan) == {"b.jpg": ("failed", "UnreadableFileError")}
    assert plan.stale == {(item_id("a.jpg"), "s"), (item_id("b.jpg"), "s")}
    assert plan.num_done == 0


@pytest.mark.parametrize("retry_failed", [False, True])
def test_failures_are_tried_again_only_when_asked(retry_failed):
    catalog = catalog_of("a.jpg", "b.jpg", "c.jpg", "d.txt")
    done = manifest_of(catalog, a_jpg="ok", b_jpg="failed", c_jpg="crashed", d_txt="skipped")
    plan = plan_units(catalog, done, 10, retry_failed, ONE)
    assert to_do(plan) == (["b.jpg", "c.jpg"] if retry_failed else [])
    assert plan.num_done == (2 if retry_failed else 4)


def test_a_row_of_a_file_that_has_gone_does_not_count():
    done = manifest_of(catalog_of("gone.jpg"), gone_jpg="ok")
    plan = plan_units(catalog_of("a.jpg"), done, 10, retry_failed=False, choice=ONE)
    assert (to_do(plan), plan.num_done, plan.stale) == (["a.jpg"], 0, set())


def test_two_inputs_that_share_an_output_by_name_are_refused():
    names = [
        "a.webm",
        "a.webm.mkv",
        "b.gif",
        "b.gif.png",
        "e.mp4",
        "e.MP4",
    ]
    plan = plan_units(catalog_of(*names), NOTHING, 100, retry_failed=False, choice=ONE)
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
    plan = plan_units(catalog_of(*names), NOTHING, 100, retry_failed=False, choice=ONE)
    assert set(refused(plan)) == {"manifest/a.jpg", "report/a.jpg", ".tmp/a.jpg"}
    assert set(refused(plan).values()) == {("failed", "OutputCollisionError")}


def test_what_is_no_media_is_skipped_and_says_why():
    plan = plan_units(catalog_of("notes.txt", "a.jpg"), NOTHING, 100, retry_failed=False, choice=ONE)
    assert refused(plan) == {"notes.txt": ("skipped", "UnsupportedMediaError")}
    assert "extension" in plan.refusals[0].message


def test_a_unit_that_killed_its_worker_is_split_into_its_items():
    (unit,) = plan_units(catalog_of("a.jpg", "b.jpg"), NOTHING, 10, retry_failed=False, choice=ONE).units
    parts = split_unit(unit)
    assert [part.items for part in parts] == [(item,) for item in unit.items]
    assert {part.attempt for part in parts} == {2}
    assert split_unit(parts[0])[0].unit_id == parts[0].unit_id
    assert len({unit.unit_id, *(part.unit_id for part in parts)}) == 3


def test_an_item_that_killed_its_worker_alone_is_split_into_its_styles():
    choice = StyleChoice(("x", "y"), "each")
    (unit,) = plan_units(catalog_of("a.jpg", "b.jpg"), NOTHING, 10, retry_failed=False, choice=choice).units
    (first, second) = split_unit(unit)
    assert keys_of(first) + keys_of(second) == keys_of(unit)
    parts = split_unit(first)
    assert [keys_of(part) for part in parts] == [[key] for key in keys_of(first)]
    assert {part.attempt for part in parts} == {3}
    assert len({unit.unit_id, first.unit_id, second.unit_id, *(part.unit_id for part in parts)}) == 5


def test_a_folder_of_frames_never_mixes_with_another_output() -> None:
    catalog = catalog_of("clip.mp4", "clip.mp4.frames/a.png", "other.mp4")
    plan = plan_units(catalog, NOTHING, 10, retry_failed=False, choice=ONE, container="frames")
    assert to_do(plan) == ["clip.mp4.frames/a.png", "other.mp4"]
    assert refused(plan)["clip.mp4"][1] == "OutputCollisionError"


def test_segments_of_a_film_are_units_of_their_own_that_share_its_part() -> None:
    (film,) = plan_units(catalog_of("film.mp4"), NOTHING, 10, retry_failed=False, choice=ONE).units
    segments = [Segment(number, 3, 100 * number, 100 * number, None, 100) for number in range(3)]
    units = cut_unit(film, segments)
    assert [unit.segment for unit in units] == segments
    assert len({unit.unit_id for unit in units} | {film.unit_id}) == 4
    assert {unit.part for unit in units} == {film.part} == {film.unit_id}
    assert {key for unit in units for key in unit.keys} == set(film.keys)
    (again,) = split_unit(units[1])
    assert (again.unit_id, again.segment, again.attempt) == (units[1].unit_id, segments[1], 2)
    assert without(units[1], set(film.keys)) is None
    assert without(units[1], set()) == units[1]
