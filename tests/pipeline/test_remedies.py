"""Messages that name a remedy: applied as it is written, it helps."""

import builtins
import errno
import json
import os
import re
import shutil
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runner import check_invariants, read_manifest, run_job, write_image
from media_factory import moving_frames, write_video
from PIL import Image
from s3_server import client, reached_by
from shard_factory import image_bytes, write_tar

from nst_ops.cli import main
from nst_ops.collection.integrity import verify
from nst_ops.config import ConfigError, FatalError, StylizeConfig, parse_config
from nst_ops.pipeline.console import Summary
from nst_ops.pipeline.executors.local import LocalExecutor
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import Folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_image(tmp_path / "in" / "a.png")
    return tmp_path / "in"


def run(source: Path, *arguments: str, output: str = "out") -> Summary:
    """The run that a person starts with these arguments, into a folder beside the input."""
    paths = ("--input", str(source), "--output", str(source.parent / output), "--executor", "local")
    return stylize_collection(parse_config(StylizeConfig, [*paths, "--model.kind", "identity", *arguments]))


def messages(source: Path, output: str = "out") -> dict[str, str]:
    """What rows that are not ok say, by file name."""
    rows = read_manifest(source.parent / output)
    return {Path(str(row["source_uri"])).name: str(row["error_message"]) for row in rows if row["status"] != "ok"}


def break_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def break_middle(path: Path) -> None:
    """Overwrite some packets of a video."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size][25:28]
    data = bytearray(path.read_bytes())
    for packet in packets:
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "damage"), [("bad.mkv", break_off), ("bad.mp4", break_middle)])
def test_what_decodes_of_a_damaged_video_is_written_on_retry(source, capsys, name, damage):
    write_video(source / "whole.mkv", moving_frames(40, 64, 48))
    write_video(source / name, moving_frames(40, 64, 48))
    damage(source / name)
    assert run(source).counts == {"ok": 2, "failed": 1}
    before = {row["source_uri"]: row for row in read_manifest(source.parent / "out")}
    assert "--video.keep_damaged true --retry-failed" in messages(source)[name]
    with pytest.raises(ConfigError, match=r"keep_damaged was False, is now True\. Add --retry-failed"):
        run(source, "--video.keep_damaged", "true")
    assert run(source, "--video.keep_damaged", "true", "--retry-failed").counts == {"ok": 3}
    rows = check_invariants(source.parent / "out")
    assert "damaged place" in str(rows[name]["note"]) or damage is break_off
    for other in ("a.png", "whole.mkv"):  # not touched, and their configuration is the one they were made with
        assert rows[other] == before[rows[other]["source_uri"]]
    assert rows[name]["config_sha256"] != rows["a.png"]["config_sha256"]
    configs = json.loads((source.parent / "out/run.json").read_text())["configs"]
    for row in rows.values():
        assert configs[row["config_sha256"]]["video"]["keep_damaged"] is (row is rows[name])
    assert verify(Folder(str(source.parent / "out"))).is_whole
    for command in ("status", "verify"):
        assert main([command, str(source.parent / "out")]) == 0
        shown = "".join(capsys.readouterr().out.split())
        assert "video.keep_damagedFalse" in shown
        assert "video.keep_damagedTrue" in shown
    assert "video.keep_damaged True" in (source.parent / "out/report/index.html").read_text()


@pytest.mark.slow
def test_a_column_of_images_is_named_on_retry(source):
    images = [image_bytes(seed) for seed in range(2)]
    one = pa.table({"image": images[:1]})
    two = pa.table({"photo": images, "mask": images[::-1]})
    pq.write_table(one, source / "one.parquet")
    pq.write_table(two, source / "two.parquet")
    assert run(source).counts == {"ok": 2, "failed": 1}
    assert "give --shards.image_column, with --retry-failed" in messages(source)["two.parquet"]
    assert run(source, "--shards.image_column", "photo", "--retry-failed").counts == {"ok": 4}
    assert verify(Folder(str(source.parent / "out"))).is_whole
    assert pq.read_table(source.parent / "out/two.parquet")["mask"].to_pylist() == images[::-1]


@pytest.mark.slow
def test_a_key_that_shapes_all_outputs_is_refused_on_retry_too(source):
    (source / "bad.png").write_bytes(b"no picture")
    assert run(source).counts == {"ok": 1, "failed": 1}
    with pytest.raises(ConfigError, match=r"crf.*Take another output, or --overwrite"):
        run(source, "--video.crf", "30", "--video.keep_damaged", "true", "--retry-failed")
    assert run(source, "--video.crf", "30", output="another").counts == {"ok": 1, "failed": 1}
    shutil.copy(source / "a.png", source / "bad.png")
    assert run(source, "--video.crf", "30", "--overwrite").counts == {"ok": 2}
    assert len(json.loads((source.parent / "out/run.json").read_text())["configs"]) == 1


def test_files_that_are_mended_are_done_again(source):
    write_video(source / "cut.mkv", moving_frames(20, 64, 48))
    write_tar(source / "cut.tar", [(f"{n}.png", image_bytes(n, size=(96, 64))) for n in range(3)])
    pq.write_table(pa.table({"image": [image_bytes(3)]}), source / "cut.parquet")
    (source / "text.mp4").write_text("no video")
    (source / "empty.png").touch()
    shutil.copytree(source, source.parent / "whole")
    for name in ("cut.mkv", "cut.tar", "cut.parquet", "a.png"):
        break_off(source / name)
    assert run(source).counts["failed"] == 6
    said = messages(source)
    assert all(re.search("copy it again|copy or make it again", said[name]) for name in said), said
    write_video(source.parent / "whole/text.mp4", moving_frames(20, 64, 48))
    write_image(source.parent / "whole/empty.png")
    shutil.copytree(source.parent / "whole", source, dirs_exist_ok=True)
    assert run(source).counts == {"ok": 8}
    assert verify(Folder(str(source.parent / "out"))).is_whole


@pytest.mark.slow
def test_files_that_are_renamed_come_out(source):
    for name in ("x.gif", "x.gif.png", "manifest/b.png", "text.txt"):
        write_image(source / "a.tmp.png")
        (source / name).parent.mkdir(exist_ok=True)
        (source / "a.tmp.png").rename(source / name)
    assert run(source).counts == {"ok": 2, "failed": 2, "skipped": 1}
    assert all("rename" in message for message in messages(source).values())
    (source / "x.gif").rename(source / "y.gif")
    (source / "manifest").rename(source / "manifests")
    (source / "text.txt").rename(source / "text.png")
    assert run(source).counts == {"ok": 5}


@pytest.mark.slow
def test_links_are_read_on_retry(source):
    write_image(source.parent / "elsewhere/b.png")
    (source / "b.png").symlink_to("../elsewhere/b.png")
    (source / "more").symlink_to("../elsewhere")
    assert run(source).counts == {"ok": 1, "failed": 2}
    assert all("--discovery.follow_links true" in message for message in messages(source).values())
    assert run(source, "--discovery.follow_links", "true", "--retry-failed").counts == {"ok": 3}
    assert verify(Folder(str(source.parent / "out"))).is_whole


def test_a_folder_that_cannot_be_listed_costs_a_row_until_it_can(source, monkeypatch):
    write_image(source / "locked" / "b.png")
    (source / "locked" / "bad.png").write_bytes(b"no image")
    scandir = os.scandir

    def denied(path):
        if str(path).rstrip("/") == str(source / "locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    assert run(source).counts == {"ok": 2, "failed": 1}
    monkeypatch.setattr(os, "scandir", denied)
    summary = run(source)
    assert (summary.counts, summary.exit_code, summary.num_dropped) == ({"ok": 1, "failed": 1}, 3, 0)
    assert set(messages(source)) == {"bad.png", "locked"}, "what may still be there keeps its row"
    assert "'locked' cannot be listed" in messages(source)["locked"]
    assert run(source, "--retry-failed").exit_code == 3
    monkeypatch.setattr(os, "scandir", scandir)
    (source / "locked" / "bad.png").unlink()
    summary = run(source)
    assert (summary.counts, summary.exit_code, summary.num_dropped) == ({"ok": 2}, 0, 2)
    assert "2: rows without an output, of files that have gone" in summary.table()
    assert messages(source) == {}
    assert verify(Folder(str(source.parent / "out"))).is_whole


class InThisProcess(LocalExecutor):
    """Works in the process of the test, where a file that may not be read can be had as root, too."""

    def run(self, spec, pending):
        yield from map(Worker(spec), iter(pending.take, None))

    def call(self, function, *args, **_):
        return function(*args)


def shut(patched: pytest.MonkeyPatch, *paths: Path) -> None:
    """Let files refuse to be opened."""
    opened, refused = open, set(map(str, paths))

    def denied(path, *arguments, **options):
        if str(path) in refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *arguments, **options)

    patched.setattr(builtins, "open", denied)


def test_files_that_may_not_be_read_are_read_on_retry(source, monkeypatch):
    write_video(source / "b.mp4", moving_frames(3, 48, 32))
    write_tar(source / "c.tar", [("c.png", image_bytes())])
    pq.write_table(pa.table({"image": [image_bytes()]}), source / "d.parquet")
    with monkeypatch.context() as patched:
        shut(patched, *(source / name for name in ("a.png", "b.mp4", "c.tar", "d.parquet")))
        patched.setattr("nst_ops.pipeline.run.new_executor", InThisProcess)
        assert run(source).counts == {"failed": 4}
    assert len(messages(source)) == 4
    for message in messages(source).values():
        assert "(chmod u+r), or run as an account that may read it" in message
        assert message.endswith("; then run the same command again with --retry-failed")
    assert run(source).num_already_done == 4
    assert run(source, "--retry-failed").counts == {"ok": 4}


def test_a_list_that_may_not_be_read_says_what_to_do(source, monkeypatch):
    (source / "list.txt").write_text("a.png")
    with monkeypatch.context() as patched:
        shut(patched, source / "list.txt")
        with pytest.raises(ConfigError, match=r"cannot read .*list\.txt.*chmod u\+r"):
            run(source / "list.txt", output="../out")
    assert run(source / "list.txt", output="../out").counts == {"ok": 1}


@pytest.mark.slow
def test_a_folder_in_a_list_is_given_as_the_input(source):
    folders = ("photos", "more/photos", "album.jpg", "clips.mp4", "s.tar", "t.parquet")
    for name in folders:
        write_image(source / name / "b.png")
    listed = ["a.png", "photos", "more/photos/", *folders[2:]]
    (source / "list.txt").write_text("\n".join(listed))
    assert run(source / "list.txt", output="../out").counts == {"ok": 1, "failed": len(folders)}
    for message in messages(source).values():
        assert "it is a folder, and a list names files: give it as --input, or its files by a pattern" in message
    assert run(source / "photos", output="../../one").counts == {"ok": 1}
    assert run(source / "photos/**", output="../../../two").counts == {"ok": 1}


def test_a_file_that_failed_and_has_gone_has_no_row_any_more(source):
    (source / "bad.jpg").write_bytes(b"no image")
    (source / "link.png").symlink_to("nowhere.png")
    (source / "notes.txt").write_text("no image")
    write_image(source / "b.png")
    assert run(source).counts == {"ok": 2, "failed": 2, "skipped": 1}
    for name in ("bad.jpg", "link.png", "notes.txt", "b.png"):
        (source / name).unlink()
    summary = run(source)
    assert (summary.counts, summary.exit_code, summary.num_dropped) == ({"ok": 1}, 0, 3)
    assert {Path(row["source_uri"]).name for row in read_manifest(source.parent / "out")} == {"a.png", "b.png"}
    assert verify(Folder(str(source.parent / "out"))).is_whole, "an output stays, with its row"
    assert run(source).num_dropped == 0


def test_a_shorter_list_drops_no_row(source):
    (source / "bad.jpg").write_bytes(b"no image")
    (source / "list.txt").write_text("a.png\nbad.jpg\n")
    assert run(source / "list.txt", output="../out").counts == {"ok": 1, "failed": 1}
    (source / "list.txt").write_text("a.png\n")
    summary = run(source / "list.txt", output="../out")
    assert (summary.counts, summary.exit_code, summary.num_dropped) == ({"ok": 1}, 0, 0)
    assert set(messages(source)) == {"bad.jpg"}


@pytest.mark.slow
def test_larger_frames_are_read_when_told_to(source):
    write_video(source / "large.mp4", moving_frames(3, 640, 480))
    assert run(source, "--video.max_megapixels", "0.3").counts == {"ok": 1, "failed": 1}
    assert "0.3072 megapixels, and video.max_megapixels is 0.3: shrink" in messages(source)["large.mp4"]
    assert run(source, "--video.max_megapixels", "0.31", "--retry-failed").counts == {"ok": 2}


@pytest.mark.slow
def test_larger_images_and_hidden_files_are_read_when_told_to(source):
    write_image(source / "large.png", 1200, 1000)
    write_image(source / ".hidden.png")
    assert run(source, "--images.max_megapixels", "1").counts == {"ok": 1, "failed": 1, "skipped": 1}
    said = messages(source)
    assert "raise that, with --retry-failed" in said["large.png"]
    assert "set discovery.hidden" in said[".hidden.png"]
    assert run(source, "--images.max_megapixels", "2", "--retry-failed").counts == {"ok": 2, "skipped": 1}
    assert run(source, "--discovery.hidden", "true").counts == {"ok": 3}
    assert verify(Folder(str(source.parent / "out"))).is_whole


@pytest.mark.slow
def test_an_animation_that_no_shard_holds_becomes_a_video(source):
    frames = [Image.new("RGB", (48, 32), color) for color in ("red", "blue")]
    frames[0].save(source / "b.gif", save_all=True, append_images=frames[1:], duration=100)
    assert run(source, "--shards.format", "webdataset").counts == {"ok": 1, "failed": 1}
    assert "take another output, with --shards.format files" in messages(source)["b.gif"]
    assert run(source, "--shards.format", "files", output="another").counts == {"ok": 2}


@pytest.mark.slow
def test_a_codec_that_takes_no_such_frames_is_changed_elsewhere(source):
    write_video(source / "small.mp4", moving_frames(3, 8, 8))
    assert run(source, "--video.codec", "h265").counts == {"ok": 1, "failed": 1}
    assert "another output with --video.codec h264" in messages(source)["small.mp4"]
    assert run(source, "--video.codec", "h264", output="another").counts == {"ok": 2}


@pytest.mark.slow
def test_an_output_of_somebody_else_is_taken_over_or_left_alone(source):
    write_image(source.parent / "out/mine.png")
    with pytest.raises(ConfigError, match="take an empty folder, or --overwrite"):
        run(source)
    assert run(source, output="another").counts == {"ok": 1}
    assert run(source, "--overwrite").counts == {"ok": 1}
    assert (source.parent / "out/mine.png").exists()
    (source.parent / "out/run.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a run record of nst-ops: take another output, or --overwrite"):
        run(source)
    assert run(source, "--overwrite").counts == {"ok": 1}


@pytest.mark.slow
def test_what_verify_advises_makes_an_output_whole(source, capsys):
    output = source.parent / "out"
    for name in ("b.png", "c.png"):
        write_image(source / name, seed=ord(name[0]))
    run(source, "--units.images", "1")
    parts = {pq.read_table(part)["source_uri"][0].as_py(): part for part in (output / "manifest").iterdir()}
    parts[str(source / "a.png")].write_bytes(b"damaged")
    assert main(["verify", str(output)]) == 3
    assert "delete it and run the job's command again" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    parts[str(source / "a.png")].unlink()
    table = pq.read_table(parts[str(source / "b.png")])
    (row,) = pq.read_table(parts[str(source / "c.png")]).to_pylist()
    row.update({key: table[key][0].as_py() for key in ("output_uri", "output_bytes", "output_sha256")})
    pq.write_table(pa.Table.from_pylist([row], schema=table.schema), parts[str(source / "c.png")])
    assert main(["verify", str(output)]) == 3
    assert "verify with --repair, then run the job's command again" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )
    assert main(["verify", str(output), "--repair"]) == 3
    assert run(source, "--units.images", "1").counts == {"ok": 3}
    assert main(["verify", str(output)]) == 0


def specify(source: Path, *arguments: str) -> None:
    """Check a configuration as a run does before it begins."""
    paths = ("--input", str(source), "--output", str(source.parent / "out"))
    new_run_spec(parse_config(StylizeConfig, [*paths, "--model.kind", "identity", *arguments]), str(source))


@pytest.mark.parametrize(
    ("wrong", "message", "remedies"),
    [
        ("--video.crf 20 --video.bitrate_kbps 500", "set one of them", ["--video.crf 20", "--video.bitrate_kbps 500"]),
        (
            "--video.codec av1 --video.container mov",
            "set it to mp4, mkv or auto",
            [f"--video.codec av1 --video.container {container}" for container in ("mp4", "mkv", "auto")],
        ),
        (
            "--video.codec av1 --video.pixel_format yuv444p",
            "takes only yuv420p or yuv420p10le",
            [f"--video.codec av1 --video.pixel_format {name}" for name in ("yuv420p", "yuv420p10le")],
        ),
        ("--style.mode each", "takes no style.mode: leave it out", [""]),
        ("--style.alpha 0.5", "takes no style.alpha: leave it out", [""]),
        ("--temporal.freeze_statistics true", "takes no temporal.freeze_statistics: leave it out", [""]),
    ],
)
def test_a_configuration_that_is_refused_says_which_is_not(source, wrong, message, remedies):
    with pytest.raises(ConfigError, match=message):
        specify(source, *wrong.split())
    for remedy in remedies:
        specify(source, *remedy.split())


def test_a_cluster_that_does_not_answer_is_left_out(source):
    # In a process of its own: where Ray runs already, that one is taken, whatever the address.
    done = run_job(source, source.parent / "out", ray_address="127.0.0.1:1")
    assert done.returncode == 2
    assert "take --executor local" in done.stderr
    assert run(source, "--executor", "local").counts == {"ok": 1}


def test_an_output_beside_the_input_is_taken(source):
    with pytest.raises(ConfigError, match="take a folder beside it"):
        run(source, output="in/out")
    assert run(source, output="beside").counts == {"ok": 1}


@pytest.mark.slow
def test_a_bucket_that_is_made_and_a_key_that_is_right_are_taken(source, s3):
    with reached_by(s3.endpoint):
        bucket = s3.new_bucket()
        missing = f"{bucket}-missing"
        write = ("--executor", "local", "--model.kind", "identity", "--input", str(source), "--output")

        def start(output: str) -> Summary:
            return stylize_collection(parse_config(StylizeConfig, [*write, output]))

        with pytest.raises(FatalError, match="no such bucket: make it"):
            start(f"{missing}/out")
        client(s3.endpoint).call_s3("create_bucket", Bucket=missing.removeprefix("s3://"))
        assert start(f"{missing}/out").counts == {"ok": 1}
    with (
        reached_by(s3.endpoint, AWS_SECRET_ACCESS_KEY="wrong"),
        pytest.raises(FatalError, match=r"AWS_SECRET_ACCESS_KEY|the credentials need"),
    ):
        start(f"{bucket}/out")
    with reached_by(s3.endpoint):
        assert start(f"{bucket}/out").counts == {"ok": 1}
