"""Every item is in exactly one place: to do, refused or done."""

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.collection.constants import CATALOG_SCHEMA
from nst_ops.collection.manifest import SCHEMA, row_keys
from nst_ops.collection.planner import Plan, PlanRules, Refusal
from nst_ops.collection.styles import StyleChoice
from nst_ops.collection.units import WorkUnit, cut_unit, in_each_style, split_unit, without
from nst_ops.media.formats import likely_output, media_kind
from nst_ops.media.video.segments import Segment
from nst_ops.storage import NameRules

NOTHING = SCHEMA.empty_table()
ONE = StyleChoice(("s",))


def catalog_of(*names: str, version: str = "1", problems: dict[str, str] | None = None) -> pa.Table:
    rows = [
        {
            "relpath": name,
            "source_bytes": len(name),
            "source_version": version,
            "kind": media_kind(name),
            "problem": (problems or {}).get(name),
        }
        for name in names
    ]
    return pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)


def row_of(item: dict[str, object], status: str = "ok", style: str = "s") -> dict[str, object]:
    """The manifest's row of an item of a catalog."""
    keys = ("source_bytes", "source_version", "kind")
    uri = item["relpath"]
    return {**{key: item[key] for key in keys}, "source_uri": uri, "style": style, "status": status}


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def manifest_of(catalog: pa.Table, **statuses: str) -> pa.Table:
    """Rows for the items of ``catalog`` by relpath, dots as underscores, with their statuses."""
    named = {item["relpath"].replace(".", "_"): item for item in catalog.to_pylist()}
    return table_of([row_of(named[name], status) for name, status in statuses.items()])


def styles_of(choice: StyleChoice, relpath: str) -> tuple[str, ...]:
    """The styles that an input is to get."""
    if choice.mode != "random":
        return choice.names
    digest = hashlib.sha256(f"{choice.seed}\n{relpath}".encode()).digest()
    return (choice.names[int.from_bytes(digest[:8]) % len(choice.names)],)


def plan_of(catalog: pa.Table, recorded: pa.Table = NOTHING, **rules: object) -> Plan:
    return Plan(catalog, recorded, PlanRules(**{"choice": ONE, **rules}))


def to_do(plan: Plan) -> list[str]:
    return sorted(item["relpath"] for unit in plan.units() for item in unit.items)


def refusals(plan: Plan) -> list[Refusal]:
    return [refusal for batch in plan.refusals() for refusal in batch]


def refused(plan: Plan) -> dict[str, tuple[str, str]]:
    return {refusal.item["relpath"]: (refusal.status, refusal.error_type) for refusal in refusals(plan)}


FOLDERS = st.sampled_from(["", "a/", "manifest/", "report/", ".tmp/", "b/.tmp/"])
STEMS = st.sampled_from(["x", "y", "run", "x.webm", "x.gif", "é ü", "a.jpg"])
EXTENSIONS = st.sampled_from([".jpg", ".png", ".gif", ".webm", ".mkv", ".mp4", ".txt", ".gif.mp4", ".gif.png", ""])
NAMES = st.builds("{}{}{}".format, FOLDERS, STEMS, EXTENSIONS)
STATUSES = st.sampled_from(["ok", "failed", "skipped", "crashed", "changed", None])


CHOICES = st.sampled_from(
    [ONE, StyleChoice(("x", "y", "z"), "each"), StyleChoice(("x",), "each"), StyleChoice(("x", "y"), "random", 3)]
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
        for status, style in zip(statuses[item["relpath"]], styles_of(choice, item["relpath"]), strict=False):
            if status:
                row = row_of(item, "ok" if status == "changed" else status, style)
                given_rows.append(row | ({"source_version": "0"} if status == "changed" else {}))
            if status in again:
                left.add((item["relpath"], style))
    recorded = table_of(given_rows)
    plan = plan_of(catalog, recorded, images=images_per_unit, retry_failed=retry_failed, choice=choice)
    units = list(plan.units())
    items = [item for unit in units for item in unit.items]
    found = [key for unit in units for key in unit.keys]
    found += [(refusal.item["relpath"], name) for refusal in refusals(plan) for name in refusal.item["styles"]]
    assert len(found) == len(set(found))
    assert set(found) == left
    assert plan.num_done == len(statuses) * choice.per_item - len(left)
    assert plan.stale() == left & set(row_keys(recorded))
    assert (plan.num_units, plan.num_left) == (len(units), sum(len(unit.keys) for unit in units))
    outputs = [choice.output(name, likely_output(item["relpath"])) for item in items for name in item["styles"]]
    assert len(set(outputs)) == len(outputs)
    for unit in units:
        kinds = {item["kind"] for item in unit.items}
        assert kinds == {"image"} or (kinds == {"video"} and len(unit.items) == 1)
        assert len(unit.keys) <= max(images_per_unit, choice.per_item)
    assert len({unit.unit_id for unit in units}) == len(units)


@given(st.sets(NAMES, max_size=25), st.integers(1, 7), CHOICES)
def test_the_same_input_gives_the_same_units(names, images_per_unit, choice):
    catalog = catalog_of(*names)
    units = list(plan_of(catalog, images=images_per_unit, choice=choice).units())
    backwards = catalog.take(pa.array(range(len(names))[::-1], pa.int64()))
    assert list(plan_of(backwards, images=images_per_unit, choice=choice).units()) == units
    first_of_each = [(unit.items[0], unit.items[0]["styles"][0]) for unit in units]
    rows = table_of([row_of(item, style=style) for item, style in first_of_each])
    resumed = plan_of(catalog, rows, images=images_per_unit, choice=choice)
    assert resumed.num_done == len(first_of_each)
    by_id = {unit.unit_id: unit for unit in units}
    for unit in resumed.units():
        before = by_id[unit.unit_id].keys
        assert unit.keys == before[1:]
        assert (without(unit, set(before[1:2])) or WorkUnit("", ())).keys == before[2:]


def test_styles_of_an_image_share_a_unit_and_of_a_video_few():
    choice = StyleChoice(tuple("tuvwxyz"), "each")
    plan = plan_of(catalog_of("a.jpg", "b.jpg", "c.mp4"), images=14, choice=choice)
    held = [[(item["relpath"], item["styles"]) for item in unit.items] for unit in plan.units()]
    assert held == [
        [("a.jpg", choice.names), ("b.jpg", choice.names)],
        [("c.mp4", ("t", "u", "v", "w"))],
        [("c.mp4", ("x", "y", "z"))],
    ]


def test_a_video_keeps_its_units_whatever_styles_are_done():
    choice, catalog = StyleChoice(tuple("tuvwxyz"), "each"), catalog_of("c.mp4")
    (item,) = catalog.to_pylist()
    before = {unit.unit_id: unit.keys for unit in plan_of(catalog, choice=choice).units()}
    done = table_of([row_of(item, style=style) for style in "tvz"])
    after = {unit.unit_id: unit.keys for unit in plan_of(catalog, done, choice=choice).units()}
    assert list(after.values()) == [[("c.mp4", "u"), ("c.mp4", "w")], [("c.mp4", "x"), ("c.mp4", "y")]]
    assert all(set(keys) < set(before[unit_id]) for unit_id, keys in after.items())


def test_reserved_names_are_free_below_a_style():
    plan = plan_of(catalog_of("manifest/a.jpg"), choice=StyleChoice(("x",), "each"))
    assert to_do(plan) == ["manifest/a.jpg"]
    assert refused(plan_of(catalog_of("manifest/a.jpg"), images=7, choice=ONE))


def test_images_are_cut_in_order_the_largest_units_first():
    names = [f"{n}.jpg" for n in range(5)]
    plan = plan_of(catalog_of(*names, "a_very_long_name_is_a_large_file.mp4"), images=2, choice=ONE)
    assert [[item["relpath"] for item in unit.items] for unit in plan.units()] == [
        ["a_very_long_name_is_a_large_file.mp4"],
        ["0.jpg", "1.jpg"],
        ["2.jpg", "3.jpg"],
        ["4.jpg"],
    ]


def test_a_changed_source_is_done_again_or_refused():
    old = catalog_of("a.jpg", "b.jpg")
    done = manifest_of(old, a_jpg="ok", b_jpg="ok")
    new = catalog_of("a.jpg", "b.jpg", version="2", problems={"b.jpg": "a pipe now"})
    plan = plan_of(new, done)
    assert to_do(plan) == ["a.jpg"]
    assert refused(plan) == {"b.jpg": ("failed", "UnreadableFileError")}
    assert plan.stale() == {("a.jpg", "s"), ("b.jpg", "s")}
    assert plan.num_done == 0


@pytest.mark.parametrize("retry_failed", [False, True])
def test_failures_are_tried_again_only_when_asked(retry_failed):
    catalog = catalog_of("a.jpg", "b.jpg", "c.jpg", "d.txt")
    done = manifest_of(catalog, a_jpg="ok", b_jpg="failed", c_jpg="crashed", d_txt="skipped")
    plan = plan_of(catalog, done, retry_failed=retry_failed)
    assert to_do(plan) == (["b.jpg", "c.jpg"] if retry_failed else [])
    assert plan.num_done == (2 if retry_failed else 4)


def test_a_row_of_a_file_that_has_gone_does_not_count():
    done = manifest_of(catalog_of("gone.jpg"), gone_jpg="ok")
    plan = plan_of(catalog_of("a.jpg"), done)
    assert (to_do(plan), plan.num_done, plan.stale()) == (["a.jpg"], 0, set())


def test_two_inputs_that_share_an_output_by_name_are_refused():
    names = ["a.webm", "a.webm.mkv", "b.gif", "b.gif.png", "e.mp4", "e.MP4"]
    plan = plan_of(catalog_of(*names), images=100, choice=ONE)
    collision = ("failed", "OutputCollisionError")
    assert refused(plan) == {name: collision for name in ("a.webm", "b.gif")}
    assert "a.webm.mkv" in next(r.message for r in refusals(plan) if r.item["relpath"] == "a.webm")


def test_names_the_run_needs_for_itself_are_refused():
    names = ["manifest/a.jpg", "report/a.jpg", ".tmp/a.jpg", "in/manifest/a.jpg", "manifest.jpg", "reports/a.jpg"]
    plan = plan_of(catalog_of(*names), images=100, choice=ONE)
    assert set(refused(plan)) == {"manifest/a.jpg", "report/a.jpg", ".tmp/a.jpg"}
    assert set(refused(plan).values()) == {("failed", "OutputCollisionError")}


def targets(plan: Plan) -> dict[str, str]:
    """Where outputs lie that do not keep their source's path."""
    return dict(plan.database.rows("SELECT relpath, target FROM renamed_outputs"))


def test_keys_that_are_no_paths_get_outputs_of_their_own() -> None:
    names = [
        "a/x.jpg",
        "a//x.jpg",
        "/lead.jpg",
        "../../escaped.jpg",
        "b/../up.jpg",
        "./dot.jpg",
        "e\0\n.jpg",
        "q?v=1.jpg",
    ]
    plan = plan_of(catalog_of(*names))
    assert to_do(plan) == sorted(names)
    paths = [targets(plan).get(name, name) for name in names]
    assert len(set(paths)) == len(names)
    assert paths == [NameRules().path(name) for name in names]


def test_names_too_long_for_the_disk_get_shorter_ones() -> None:
    names = ["x" * 251 + ".jpg", "x" * 250 + ".webm", "x" * 250 + ".gif", "é" * 125 + ".gif"]
    plan = plan_of(catalog_of(*names))
    assert to_do(plan) == sorted(names)
    assert set(targets(plan)) == set(names[1:])
    assert {len(path.encode()) for path in targets(plan).values()} == {255}


def test_a_changed_name_does_not_land_among_the_runs_files() -> None:
    plan = plan_of(catalog_of("/manifest/a.png", "../report/b.png", "x/../run.json/c.png"))
    assert set(refused(plan)) == {"/manifest/a.png", "../report/b.png"}


def test_a_key_that_is_a_file_and_a_folder_is_refused_as_a_file() -> None:
    plan = plan_of(catalog_of("a.jpg", "a.jpg/b.png", "c.gif", "c.gif.png/d.png"))
    assert to_do(plan) == ["a.jpg/b.png", "c.gif.png/d.png"]
    assert {status for status, _ in refused(plan).values()} == {"failed"}


def test_names_that_a_disk_folds_are_refused_there() -> None:
    names = [
        "a.jpg",
        "A.jpg",
        "é.png",
        "e\u0301.png",
        "b.gif",
        "B.GIF.png",
        "Manifest/x.png",
        "folder/y.png",
        "Folder/z.png",
    ]
    assert to_do(plan_of(catalog_of(*names))) == sorted(names)
    plan = plan_of(catalog_of(*names), names=NameRules(folds=True))
    assert to_do(plan) == ["Folder/z.png", "folder/y.png"]
    assert "other letters" in next(r.message for r in refusals(plan) if r.item["relpath"] == "a.jpg")


def test_what_an_earlier_run_has_written_is_not_overwritten() -> None:
    before = catalog_of("x.gif", "y.gif")
    made = [row_of(item) | {"output_uri": f"out/{item['relpath']}.png"} for item in before.to_pylist()]
    now = catalog_of("x.gif", "x.gif.png", "y.gif.png")  # x.gif is still there, y.gif was converted
    plan = plan_of(now, table_of(made), output_root="out/")
    assert to_do(plan) == ["y.gif.png"]
    assert refused(plan) == {"x.gif.png": ("failed", "OutputCollisionError")}
    assert "earlier run, for x.gif: rename" in refusals(plan)[0].message
    assert plan.stale() == {("y.gif", "s")}
    assert (plan.num_done, plan.num_left) == (1, 1)


def test_a_style_has_its_own_outputs_of_an_earlier_run() -> None:
    choice = StyleChoice(("s", "t"), "each")
    made = [row_of(item) | {"output_uri": "out/s/x.gif.mp4"} for item in catalog_of("x.gif").to_pylist()]
    plan = plan_of(catalog_of("x.gif", "x.gif.mp4"), table_of(made), output_root="out/", choice=choice)
    assert [(refusal.item["relpath"], refusal.item["styles"]) for refusal in refusals(plan)] == [("x.gif.mp4", ("s",))]


def test_what_is_no_media_is_skipped_and_says_why():
    plan = plan_of(catalog_of("notes.txt", "a.jpg"), images=100, choice=ONE)
    assert refused(plan) == {"notes.txt": ("skipped", "UnsupportedMediaError")}
    assert "extension" in refusals(plan)[0].message


def test_what_was_no_media_before_is_done_once_it_is() -> None:
    was = table_of([row_of(item, "skipped") | {"kind": None} for item in catalog_of("photo", "notes").to_pylist()])
    now = catalog_of("photo", "notes").to_pylist()
    now[0]["kind"] = "image"  # by a look inside, say
    plan = plan_of(pa.Table.from_pylist(now, schema=CATALOG_SCHEMA), was)
    assert to_do(plan) == ["photo"]
    assert (plan.stale(), plan.num_done, refusals(plan)) == ({("photo", "s")}, 1, [])


def test_a_unit_that_killed_its_worker_is_split_by_item():
    (unit,) = plan_of(catalog_of("a.jpg", "b.jpg"), images=10, choice=ONE).units()
    parts = split_unit(unit)
    assert [part.items for part in parts] == [(item,) for item in unit.items]
    assert {part.attempt for part in parts} == {2}
    assert split_unit(parts[0])[0].unit_id == parts[0].unit_id
    assert len({unit.unit_id, *(part.unit_id for part in parts)}) == 3


def test_an_item_that_killed_its_worker_is_split_by_style():
    choice = StyleChoice(("x", "y"), "each")
    (unit,) = plan_of(catalog_of("a.jpg", "b.jpg"), images=10, choice=choice).units()
    (first, second) = split_unit(unit)
    assert first.keys + second.keys == unit.keys
    parts = split_unit(first)
    assert [part.keys for part in parts] == [[key] for key in first.keys]
    assert {part.attempt for part in parts} == {3}
    assert len({unit.unit_id, first.unit_id, second.unit_id, *(part.unit_id for part in parts)}) == 5


def test_a_folder_of_frames_never_mixes_with_another_output() -> None:
    catalog = catalog_of("clip.mp4", "clip.mp4.frames/a.png", "other.mp4")
    plan = plan_of(catalog, images=10, container="frames")
    assert to_do(plan) == ["clip.mp4.frames/a.png", "other.mp4"]
    assert refused(plan)["clip.mp4"][1] == "OutputCollisionError"


def test_segments_of_a_video_share_its_part_of_the_manifest() -> None:
    (video,) = plan_of(catalog_of("video.mp4"), images=10, choice=ONE).units()
    segments = [Segment(number, 3, 100 * number, 100 * number, None, 100) for number in range(3)]
    units = cut_unit(video, segments)
    assert [unit.segment for unit in units] == segments
    assert len({unit.unit_id for unit in units} | {video.unit_id}) == 4
    assert {unit.part for unit in units} == {video.part} == {video.unit_id}
    assert {key for unit in units for key in unit.keys} == set(video.keys)
    (again,) = split_unit(units[1])
    assert (again.unit_id, again.segment, again.attempt) == (units[1].unit_id, segments[1], 2)
    assert without(units[1], set(video.keys)) is None
    assert without(units[1], set()) == units[1]


def test_a_segment_in_two_styles_is_split_into_them() -> None:
    choice = StyleChoice(("x", "y"), "each")
    (video,) = plan_of(catalog_of("video.mp4"), choice=choice).units()
    segments = [Segment(number, 3, 100 * number, 100 * number, None, 100) for number in range(3)]
    units = cut_unit(video, segments)
    assert [unit.keys for unit in units] == [video.keys] * 3
    split = [split_unit(unit) for unit in units]
    assert [[one.keys for one in parts] for parts in split] == [[[key] for key in video.keys]] * 3
    for parts, unit in zip(split, units, strict=True):
        assert [one.part for one in parts] == [one.part for one in in_each_style(unit)]
        assert [(one.segment, one.video_id, one.attempt) for one in parts] == [(unit.segment, unit.video_id, 2)] * 2
    assert len({one.unit_id for parts in split for one in parts}) == 6
    assert len({one.part for parts in split for one in parts}) == 2


def test_a_shard_is_done_once_its_images_have_rows() -> None:
    catalog = catalog_of("a.tar", "b.tar", "c.parquet", "d.tar")
    items = {item["relpath"]: item for item in catalog.to_pylist()}

    def member(shard: str, name: str, status: str = "ok", version: str = "1") -> dict[str, object]:
        own = {"source_member": name, "source_bytes": 7, "kind": "image", "source_version": version}
        return {**row_of(items[shard], status), **own}

    rows = [member("a.tar", "1.jpg"), member("a.tar", "2.jpg", "failed"), member("b.tar", "1.jpg", version="0")]
    plan = plan_of(catalog, table_of([*rows, row_of(items["d.tar"], "failed")]))
    assert [[item["relpath"] for item in unit.items] for unit in plan.units()] == [["c.parquet"], ["b.tar"]]
    assert plan.stale() == {("b.tar", "s")}
    again = plan_of(catalog, table_of([*rows, row_of(items["d.tar"], "failed")]), retry_failed=True)
    assert to_do(again) == ["a.tar", "b.tar", "c.parquet", "d.tar"]
    assert again.stale() == {("a.tar", "s"), ("b.tar", "s"), ("d.tar", "s")}


def test_files_for_shards_are_cut_by_size() -> None:
    catalog = catalog_of(*(f"{number}.jpg" for number in range(10)))  # of five bytes each
    units = list(plan_of(catalog, shards="webdataset", shard_bytes=20).units())
    assert sorted(len(unit.items) for unit in units) == [2, 4, 4]
    assert len({unit.shard for unit in units}) == 3
    rows = [
        {**row_of(item), "output_uri": f"/out/{unit.shard}.tar", "output_member": item["relpath"]}
        for unit in units
        for item in unit.items
    ]
    assert not to_do(plan_of(catalog, table_of(rows), shards="webdataset", shard_bytes=20))
    failed = [{**row, "status": "failed", "output_member": None} for row in rows[:1]]
    (alone,) = plan_of(
        catalog, table_of(failed + rows[1:]), shards="webdataset", shard_bytes=20, retry_failed=True
    ).units()
    assert alone.keys == [(rows[0]["source_uri"], "s")]
    assert alone.shard not in {unit.shard for unit in units}
    changed = [{**rows[0], "source_version": "0"}, *rows[1:]]
    (again,) = plan_of(catalog, table_of(changed), shards="webdataset", shard_bytes=20).units()
    assert set(again.keys) == {(row["source_uri"], "s") for row in rows[:4]}
    assert again.shard == units[0].shard


def test_files_of_unknown_size_make_shards_of_bounded_length() -> None:
    catalog = catalog_of(*(f"{number:02d}.jpg" for number in range(30)))
    unknown = pa.array([None] * 30, pa.int64())
    catalog = catalog.set_column(catalog.schema.get_field_index("source_bytes"), "source_bytes", unknown)
    units = list(plan_of(catalog, shards="parquet", shard_bytes=1_000_000).units())
    assert sorted(len(unit.items) for unit in units) == [10, 10, 10]


def test_what_was_no_media_is_done_once_it_is_found_to_be_some():
    before = catalog_of("a", "b.txt")
    recorded = table_of([{**row_of(item, "skipped"), "kind": None} for item in before.to_pylist()])
    assert (to_do(plan_of(before, recorded)), refusals(plan_of(before, recorded))) == ([], [])
    kinds = pa.array(["image", "other"])
    after = before.set_column(before.schema.get_field_index("kind"), "kind", kinds)
    plan = plan_of(after, recorded)
    assert to_do(plan) == ["a"]
    assert plan.stale() == {("a", "s")}
    assert refusals(plan) == []


@pytest.mark.parametrize("is_whole", [True, False])
def test_rows_without_an_output_go_with_their_sources(is_whole):
    earlier = catalog_of("a.jpg", "b.jpg", "c.jpg", "d.txt", "x/e.jpg", "xe.jpg")
    statuses = {"a.jpg": "ok", "b.jpg": "ok", "c.jpg": "failed", "d.txt": "skipped", "x/e.jpg": "crashed"}
    rows = [row_of(item, statuses.get(item["relpath"], "failed")) for item in earlier.to_pylist()]
    catalog = catalog_of("a.jpg", "x/", problems={"x/": "cannot be listed"})
    plan = Plan(catalog, table_of(rows), PlanRules(ONE), is_whole=is_whole)
    dropped = {("c.jpg", "s"), ("d.txt", "s"), ("xe.jpg", "s")} if is_whole else set()
    assert plan.stale() == dropped
    assert plan.num_dropped == len(dropped)
    assert refused(plan) == {"x/": ("failed", "UnreadableFileError")}


def test_a_shard_that_has_gone_keeps_its_rows_if_one_has_an_output():
    member = {"source_uri": "s.tar", "style": "s", "kind": "image", "source_bytes": 1, "source_version": "1"}
    rows = [{**member, "source_member": name, "status": status} for name, status in (("a", "ok"), ("b", "failed"))]
    gone = [{**member, "source_uri": "t.tar", "source_member": "a", "status": "failed"}]
    plan = Plan(catalog_of("a.jpg"), table_of(rows + gone), PlanRules(ONE), is_whole=True)
    assert plan.stale() == {("t.tar", "s")}
