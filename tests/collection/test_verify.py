"""Verification finds what is wrong with the output of a worker, and nothing else."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runner import read_manifest, write_image
from media_factory import moving_frames, write_video
from planning import units_of
from s3_server import S3Server, client, reached_by
from shard_factory import image_bytes, write_hf_parquet, write_tar

from nst_ops.cli import main
from nst_ops.collection.integrity import verify
from nst_ops.collection.integrity_database import IntegrityDatabase, ProblemKind
from nst_ops.collection.manifest import SCHEMA, Manifest
from nst_ops.collection.run_lock import OutputInUseError, machine_lock, write_run_record
from nst_ops.collection.styles import StyleChoice
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.pipeline.run_spec import RunSpec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import Folder
from nst_ops.stylizers.registry import model_kind

FRAMES = "film.mp4.frames"


def stylize(source: Path, output: Path, **sections: object) -> None:
    """Do what is left to do, as a run does."""
    always = {"model": {"kind": "identity"}, "video": {"container": "frames"}}
    config = StylizeConfig(input=str(source), output=str(output), **always, **sections)
    choice = StyleChoice(("identity",))
    worker = Worker(RunSpec(config, model_kind("identity"), "run", "", "", choice, config.input))
    write_run_record(worker.output, "run", config.model_dump(mode="json"), {})
    for unit in units_of(worker, images=2):
        assert not worker(unit).error


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The input ``in`` and the output ``out`` of a run: images, one of them bad, and frames."""
    folder = tmp_path_factory.mktemp("run")
    for index, name in enumerate(("a.png", "b.png", "deep/c d#1.png", "e.png")):
        write_image(folder / "in" / name, seed=index)
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    write_video(folder / "in" / "film.mp4", moving_frames(4, 48, 32))
    stylize(folder / "in", folder / "out")
    return folder


@pytest.fixture
def output(run: Path, tmp_path: Path) -> Path:
    """A copy of the output, to be spoilt; its rows name the places where it was written."""
    return Path(shutil.copytree(run / "out", tmp_path / "copy"))


def problems(output: Path | str, **options: object) -> dict[str, list[str]]:
    """What is wrong, by kind."""
    report = verify(Folder(str(output)), **options)
    assert {kind: len(found) for kind, found in report.examples.items()} == report.counts
    return {kind.value: [problem.what for problem in found] for kind, found in report.examples.items()}


def rewrite(output: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change every row of the manifest."""
    for part in sorted((output / "manifest").iterdir()):
        table = pq.read_table(part)
        rows = table.to_pylist()
        for row in rows:
            change(row)
        pq.write_table(table.from_pylist(rows, schema=table.schema), part)


def test_an_output_is_whole_in_place_and_as_a_copy(run: Path, output: Path) -> None:
    for place in (run / "out", output):
        report = verify(Folder(str(place)))
        assert report.is_whole
        assert report.statuses == {"failed": 1, "ok": 5}
        assert report.num_files == 4 + 1 + 4  # images, the table of frames, frames
        seen = [path for path in place.rglob("*.png") if "report" not in path.parts]
        assert report.num_bytes == sum(path.stat().st_size for path in seen)


def test_a_missing_file_is_found(output: Path) -> None:
    (output / "deep" / "c d#1.png").unlink()
    assert problems(output) == problems(output, quick=True) == {"missing": ["deep/c d#1.png"]}


def test_a_truncated_file_is_found_without_reading_it(output: Path) -> None:
    data = (output / "a.png").read_bytes()
    (output / "a.png").write_bytes(data[:-1])
    assert problems(output) == problems(output, quick=True) == {"damaged": ["a.png"]}


def test_a_changed_byte_is_found_unless_quick(output: Path) -> None:
    spoil(output / "b.png")
    spoil(output / FRAMES / "000002.png")
    assert problems(output) == {"damaged": ["b.png", f"{FRAMES}/000002.png"]}
    assert problems(output, quick=True) == {}
    assert verify(Folder(str(output)), quick=True).quick


def test_extra_files_are_found_but_not_the_runs_own(output: Path) -> None:
    for name in (".tmp/1.png", ".segments/x/00000.mp4", "report/contact_sheet.png", "deep/.DS_Store"):
        (output / name).parent.mkdir(exist_ok=True, parents=True)
        (output / name).write_bytes(b"x")
    assert problems(output) == {}
    extra = ["deep/extra.png", f"{FRAMES}/000004.png", "run.json.bak"]
    for name in extra:
        (output / name).write_bytes(b"x")
    assert problems(output) == {"extra": extra}


def test_a_folder_that_cannot_be_listed_is_an_error_if_it_is_no_systems(output: Path, monkeypatch) -> None:
    closed, scandir = {"lost+found"}, os.scandir

    def denied(path):
        if os.path.basename(str(path).rstrip("/")) in closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    (output / "lost+found").mkdir()
    assert problems(output, quick=True) == {}
    closed.add("deep")
    with pytest.raises(PermissionError, match="the folder 'deep' cannot be listed"):
        problems(output, quick=True)


def test_labels_of_a_shard_written_as_files_are_not_extra(output: Path) -> None:
    name = next(str(row["output_uri"]) for row in read_manifest(output) if str(row["output_uri"]).endswith("/a.png"))
    moved = name.replace("/a.png", "/000.tar.files/a.png")
    (output / "000.tar.files").mkdir()
    (output / "a.png").rename(output / "000.tar.files" / "a.png")
    rewrite(output, lambda row: row.update(output_uri=moved) if row["output_uri"] == name else None)
    for label in ("000.tar.files/a.cls", "001.tar.files/b.cls", "000.tar.files/b.png"):
        (output / label).parent.mkdir(exist_ok=True)
        (output / label).write_bytes(b"1")
    assert problems(output) == {"extra": ["000.tar.files/b.png", "001.tar.files/b.cls"]}


def test_missing_frames_and_damaged_frame_tables_are_found(output: Path) -> None:
    (output / FRAMES / "000001.png").unlink()
    assert problems(output) == {"missing": [f"{FRAMES}/000001.png"]}
    spoil(output / FRAMES / "frames.csv")
    assert problems(output) == problems(output, quick=True) == {"damaged": [f"{FRAMES}/frames.csv"]}
    (output / FRAMES / "frames.csv").unlink()
    assert problems(output) == {"missing": [f"{FRAMES}/frames.csv"]}


def test_a_source_with_two_rows_in_one_style_is_found(output: Path) -> None:
    part = next(part for part in sorted((output / "manifest").iterdir()) if len(pq.read_table(part)) == 1)
    shutil.copy(part, part.with_name("again.parquet"))
    (row,) = pq.read_table(part).to_pylist()
    assert problems(output) == {"twice": [row["source_uri"]]}


def test_an_output_that_two_sources_claim_is_found(output: Path) -> None:
    rows = {Path(str(row["source_uri"])).name: row for row in read_manifest(output)}
    claimed = {key: rows["b.png"][key] for key in ("output_uri", "output_bytes", "output_sha256")}
    rewrite(output, lambda row: row.update(claimed) if str(row["source_uri"]).endswith("/a.png") else None)
    assert problems(output) == {"shared": ["b.png"], "extra": ["a.png"]}


@pytest.mark.parametrize("way_out", ["{}/../in/a.png", "{}/deep/../../x.png", "{}//etc/passwd"])
def test_a_row_that_leads_out_of_the_output_is_found(run: Path, output: Path, way_out: str) -> None:
    def lead_out(row: dict[str, object]) -> None:
        if str(row["source_uri"]).endswith("/a.png"):
            row["output_uri"] = way_out.format(output)

    rewrite(output, lead_out)
    assert problems(output) == {"row": [str(run / "in/a.png")], "extra": ["a.png"]}
    assert verify(Folder(str(output)), repair=True).num_repaired == 1
    assert (run / "in/a.png").exists()


def test_a_shard_that_two_sources_claim_is_found(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / "in" / name, [(f"{name}.png", image_bytes())])
    stylize(tmp_path / "in", tmp_path / "out")
    merged = str(tmp_path / "out/a.tar")
    rewrite(tmp_path / "out", lambda row: row.update(output_uri=merged))
    assert problems(tmp_path / "out", quick=True) == {"shared": ["a.tar"], "extra": ["b.tar"]}


def test_two_names_of_one_file_are_found_where_the_disk_folds() -> None:
    names = ["Fotos/É.JPG", "fotos/e\u0301.jpg", "x.png"]
    rows = [{"source_uri": name, "style": "s", "status": "ok", "output_uri": f"/out/{name}"} for name in names]
    whole = [{**row, "output_bytes": 1, "output_sha256": "0"} for row in rows]
    columns = IntegrityDatabase.row_columns
    for folds, expected in ((False, {ProblemKind.MISSING: 1}), (True, {ProblemKind.SHARED: 1})):
        database = IntegrityDatabase("1GB", "/out", "/out", folds)
        schema = pa.schema([SCHEMA.field(name) for name in columns])
        database.add_rows(pa.Table.from_pylist(whole, schema=schema))
        database.add_files([("Fotos/É.JPG", 1, True), ("X.PNG" if folds else "x.png", 1, True)])
        database.compare()
        assert database.counts() == expected


def test_rows_that_lack_what_their_status_demands(run: Path, output: Path) -> None:
    def spoil_rows(row: dict[str, object]) -> None:
        name = Path(str(row["source_uri"])).name
        row.update({"bad.png": {"error_message": None}, "a.png": {"output_sha256": None}}.get(name, {}))
        if name == "e.png":
            row["output_uri"] = "/elsewhere/e.png"

    rewrite(output, spoil_rows)
    lacking = [str(run / "in" / name) for name in ("a.png", "bad.png", "e.png")]
    assert problems(output) == {"row": lacking, "extra": ["e.png"]}


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_damaged_part_of_the_manifest_is_a_problem(output: Path, keep: float) -> None:
    part = min((output / "manifest").iterdir())
    data = part.read_bytes()
    part.write_bytes(data[: int(keep * len(data))])
    found = problems(output)
    assert found.pop("part") == [f"manifest/{part.name}"]
    assert set(found) <= {"extra"}
    with pytest.raises(ConfigError, match="restore or delete"):
        verify(Folder(str(output)), repair=True)
    assert part.exists()


def test_the_next_run_does_what_was_repaired_and_no_more(run: Path, tmp_path: Path) -> None:
    source, output = run / "in", tmp_path / "out"
    stylize(source, output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    (output / "a.png").unlink()
    spoil(output / "b.png")
    (output / FRAMES / "000001.png").unlink()
    (output / "extra.png").write_bytes(b"mine")
    report = verify(Folder(str(output)), repair=True)
    assert report.num_repaired == 3
    assert not (output / "b.png").exists()
    stylize(source, output)
    assert problems(output) == {"extra": ["extra.png"]}
    assert (output / "e.png").stat().st_mtime_ns == before[output / "e.png"]


def test_a_run_that_is_going_on_is_not_repaired(output: Path) -> None:
    with machine_lock(Folder(str(output))), pytest.raises(OutputInUseError):
        verify(Folder(str(output)), repair=True)


def test_an_output_on_any_file_system_is_verified(output: Path) -> None:
    there = "memory://verify/out"
    fsspec.filesystem("memory").put(f"{output}/", "/verify/out/", recursive=True)
    assert problems(there) == {}
    folder = Folder(there)
    folder.remove("a.png")
    folder.write_bytes("b.png", b"x" * (output / "b.png").stat().st_size)
    folder.write_bytes("extra.png", b"x")
    assert problems(there) == {"missing": ["a.png"], "damaged": ["b.png"], "extra": ["extra.png"]}
    verify(folder, repair=True)
    assert problems(there) == {"extra": ["b.png", "extra.png"]}
    assert Manifest(folder).table().num_rows == 4


@pytest.mark.s3
def test_an_output_in_a_bucket_is_verified(output: Path, s3: S3Server) -> None:
    there = f"{s3.new_bucket()}/out"
    client(s3.endpoint).put(f"{output}/", f"{there}/", recursive=True)
    with reached_by(s3.endpoint):
        assert problems(there, threads=4) == {}
        folder = Folder(there)
        folder.remove("a.png")
        folder.write_bytes("b.png", b"x" * (output / "b.png").stat().st_size)
        folder.write_bytes("deep/extra.png", b"x")
        found = {"missing": ["a.png"], "damaged": ["b.png"], "extra": ["deep/extra.png"]}
        assert problems(there, threads=4) == found


def test_large_files_are_read_in_pieces(output: Path) -> None:
    data = bytes(9 * 2**20)
    (output / "e.png").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()

    def enlarge(row: dict[str, object]) -> None:
        if str(row["source_uri"]).endswith("/e.png"):
            row.update(output_bytes=len(data), output_sha256=sha256)

    rewrite(output, enlarge)
    assert problems(output) == {}
    (output / "e.png").write_bytes(data[:-1] + b"x")
    assert problems(output) == {"damaged": ["e.png"]}


def test_an_unreadable_file_does_not_stop_the_check(output: Path) -> None:
    (output / "a.png").unlink()
    (output / "a.png").symlink_to(output / "nowhere")
    (output / "b.png").unlink()
    (output / "b.png").mkdir()
    spoil(output / "e.png")
    assert problems(output) == {"missing": ["b.png"], "damaged": ["a.png", "e.png"]}


def write_shard(path: Path, images: dict[str, bytes]) -> None:
    """A shard of images, each of a tar with a label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tar":
        write_tar(path, [pair for name, data in images.items() for pair in ((name, data), (f"{name[0]}.cls", b"1"))])
    else:
        rows = [{"image": {"bytes": data, "path": name}, "label": 1} for name, data in images.items()]
        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(params=["tar", "parquet"])
def shard(request: pytest.FixtureRequest, output: Path, run: Path) -> tuple[Path, dict[str, bytes]]:
    """A shard of three images in the output, beside the files, and its images."""
    images = {name: (run / "in" / name).read_bytes() for name in ("a.png", "b.png", "e.png")}
    path = output / "shards" / f"000.{request.param}"
    write_shard(path, images)
    rows = [
        {
            "item_id": name,
            "source_uri": "/elsewhere/000.tar",
            "source_member": name,
            "style": "identity",
            "status": "ok",
            "output_uri": str(path),
            "output_member": name,
            "output_bytes": len(data),
            "output_sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in images.items()
    ]
    Manifest(Folder(str(output))).commit("shard", rows)
    return path, images


def test_a_shard_holds_exactly_the_images_that_rows_name(shard: tuple[Path, dict[str, bytes]]) -> None:
    path, images = shard
    output, place = path.parents[1], f"shards/{path.name}"
    assert problems(output) == {}
    changed = {**images, "b.png": images["a.png"][::-1]}
    write_shard(path, changed)
    assert problems(output) == {"damaged": [f"{place}#b.png"]}
    assert problems(output, quick=True) == {}
    del changed["b.png"]
    write_shard(path, {**changed, "c.png": b"x"})
    assert problems(output) == {"missing": [f"{place}#b.png"], "damaged": [f"{place}#c.png"]}


@pytest.mark.parametrize("form", ["auto", "files", "webdataset", "parquet"])
def test_shards_that_a_worker_has_written_are_whole(tmp_path: Path, form: str) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    members = [(f"{n}.{end}", data) for n in range(3) for end, data in (("png", image_bytes(n)), ("cls", b"7"))]
    write_tar(source / "000.tar", [*members, ("3.png", b"no picture"), ("4.json", b"{}"), ("photo", image_bytes(4))])
    masks = [image_bytes(n) for n in range(3)]  # of which each is a label, whatever it holds
    write_hf_parquet(source / "001.parquet", [image_bytes(n) for n in range(3)], label=[1, 2, 3], mask=masks)
    stylize(source, output, shards={"format": form})
    report = verify(Folder(str(output)))
    assert report.is_whole, report.examples
    assert (report.statuses, report.num_files) == ({"failed": 1, "ok": 7}, 7)


def test_a_shard_with_one_bad_image_is_repaired_as_a_whole(shard: tuple[Path, dict[str, bytes]]) -> None:
    path, images = shard
    output = Folder(str(path.parents[1]))
    write_shard(path, {**images, "b.png": b"x"})
    assert verify(output, repair=True).num_repaired == 1
    assert Manifest(output).table().num_rows == 6


def test_a_shard_that_is_cut_off_or_gone_is_found(shard: tuple[Path, dict[str, bytes]]) -> None:
    path, images = shard
    place = f"shards/{path.name}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert place in problems(path.parents[1])["damaged"]
    path.unlink()
    assert problems(path.parents[1], quick=True) == {"missing": [place] * len(images)}


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError):
        verify(Folder(str(tmp_path)))
    for place in (str(tmp_path), str(tmp_path / "nowhere"), "nosuch://bucket/out"):
        assert main(["verify", place]) == 2
        assert place in capsys.readouterr().err


def test_the_command_names_problems_and_remedies(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(output)]) == 0
    assert "5 ok" in capsys.readouterr().out
    for name in ("1.png", "2.png", "3.png"):
        (output / name).write_bytes(b"x")
    (output / "a.png").unlink()
    assert main(["verify", str(output), "--show", "1", "--quick"]) == 3
    out = capsys.readouterr().out
    assert "a.png: is not there" in out
    assert "2 more" in out
    assert "--repair" in out
    assert "contents were not read" in out
    assert main(["verify", str(output), "--json", "--show", "0"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["whole"] is False
    assert {kind: found["problems"][kind]["count"] for kind in found["problems"]} == {"missing": 1, "extra": 3}
    with pytest.raises(SystemExit, match="2"):
        main(["verify", str(output), "--threads", "0"])
    with pytest.raises(SystemExit, match="0"):
        main(["verify", "--help"])
    assert "exit codes: 0 whole" in capsys.readouterr().out


def spoil(path: Path) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
