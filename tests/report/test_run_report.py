"""The report opens from a file, shows what there is, and escapes every name."""

import contextlib
import re
import uuid
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from media_factory import decoded, moving_frames, write_video
from PIL import Image

from nst_ops.collection.manifest import SCHEMA
from nst_ops.collection.progress import Planned, Progress, Totals
from nst_ops.collection.results import ErrorGroup
from nst_ops.config import StylizeConfig, VideoConfig
from nst_ops.media.video.segments import Selection
from nst_ops.report.run_report import plot_speed, write_clip, write_report
from nst_ops.storage import Folder

NAME = "<b>bold & 'fine'#%.mp4"
PROGRESS = Progress(
    run_id="20260101T000000-abcdef",
    state="finished",
    host="node",
    planned=Planned(num_rows=40, num_done_before=7, num_workers=2, num_gpus=2),
    done=Totals(100, 40, 800, 3, 150, 20),
    num_retries=1,
    history=[Totals(), Totals(50, 10, 300, 0, 60, 5), Totals(100, 40, 800, 3, 150, 20)],
)


def video(path: Path, color: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, [np.roll(frame, color, axis=2) for frame in moving_frames(30, 96, 64)])


def rows_of(*pairs: tuple[str, str, str]) -> pa.Table:
    """Rows of (source, output, kind) that are ok."""
    return pa.Table.from_pylist(
        [
            {"source_uri": source, "output_uri": output, "kind": kind, "status": "ok", "output_bytes": number}
            for number, (source, output, kind) in enumerate(pairs)
        ],
        schema=SCHEMA,
    )


def write(output: Folder, source: Path, rows: pa.Table, errors: object = (), **sections: object) -> str:
    config = StylizeConfig(input=str(source), output=output.uri(), **sections)
    places = write_report(output, config, config.model.kind, PROGRESS, rows, {"ok": 37, "failed": 3}, errors)
    assert places["report"] == output.uri("report/index.html")
    return output.read_bytes("report/index.html").decode()


def links(page: str) -> list[str]:
    return [unquote(unescape(link)) for link in re.findall(r"(?:src|href)='([^']*)'", page)]


@pytest.fixture
def remote() -> Iterator[Folder]:
    folder = Folder(f"memory://{uuid.uuid4().hex}/out")
    yield folder
    with contextlib.suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(folder.root, recursive=True)


def test_it_says_what_came_out_and_how_fast(tmp_path):
    page = unescape(write(Folder(str(tmp_path / "out")), tmp_path / "in", SCHEMA.empty_table()))
    assert "<b>37</b> ok" in page
    assert "<b>3</b> failed" in page
    assert "40 of 40 rows in 100 s, 0.4 rows/s, 8.0 frames/s" in page
    assert "busy 75% of the time, waiting for input 10%" in page
    assert page.count("data:image/svg+xml") == 1


def test_the_speed_is_drawn_to_scale():
    history = [Totals(10 * n, 0, frames, 0, 10, 2) for n, frames in enumerate((0, 100, 150))]
    drawn = ElementTree.fromstring(plot_speed(history, 1))
    speed = next(element.get("d") for element in drawn if element.tag.endswith("path"))
    # 10, then 5 frames/s over 10 s each; the axes end at 10 and 20.
    assert speed == "M60.0 30.0 V30.0 H530.0 V125.0 H1000.0"


def test_names_are_escaped_and_every_link_leads_somewhere(tmp_path):
    source, output = video(tmp_path / "in" / NAME), Folder(str(tmp_path / "out"))
    stylized = video(tmp_path / "out" / NAME, 1)
    (tmp_path / "out" / "manifest").mkdir()
    message = "<script>alert('gone')</script>"
    rows = rows_of((str(source), str(stylized), "video"))
    page = write(output, source.parent, rows, [ErrorGroup(3, "UnreadableImageError", message, f"in/{NAME}")])
    assert "<script" not in page
    assert "<b>bold" not in page
    assert message in unescape(page)
    found = links(page)
    assert f"../{NAME}" in found
    assert all((tmp_path / "out" / "report" / link).exists() for link in found)
    assert not re.search(r"(src|href)=.?(https?:)?//", page)


def test_other_containers_are_shown_as_clips_beside_their_source(tmp_path):
    source, stylized = video(tmp_path / "in" / "a.mp4"), video(tmp_path / "out" / "a.mp4.mkv", 1)
    page = write(Folder(str(tmp_path / "out")), source.parent, rows_of((str(source), str(stylized), "video")))
    assert links(page) == ["clips/00.mp4"]
    frames = decoded(tmp_path / "out/report/clips/00.mp4")
    assert (len(frames), frames[0].width, frames[0].height, frames[0].format.name) == (30, 192, 64, "yuv420p")
    left, right = np.hsplit(frames[0].to_ndarray(format="rgb24").astype(int), 2)
    assert np.abs(np.roll(left, 1, axis=2) - right).mean() < 12 < np.abs(left - right).mean()


def test_on_remote_storage_the_clips_lie_beside_the_page(tmp_path, remote):
    source = video(tmp_path / "in" / "a.mp4")
    remote.write_bytes("a.mp4", video(tmp_path / "a.mp4", 1).read_bytes())
    page = write(remote, source.parent, rows_of((str(source), remote.uri("a.mp4"), "video")))
    assert links(page) == ["clips/00.mp4"]
    assert remote.exists("report/clips/00.mp4")


def test_clips_of_an_earlier_run_are_removed(tmp_path):
    output = Folder(str(tmp_path))
    output.write_bytes("report/clips/02.mp4", b"old")
    write(output, tmp_path / "in", SCHEMA.empty_table())
    assert not output.exists("report/clips")


def test_a_missing_video_leaves_the_rest_of_the_page(tmp_path):
    still = tmp_path / "still.png"
    Image.new("RGB", (40, 30), "red").save(still)
    gone = str(tmp_path / "gone.mkv")
    rows = rows_of((gone, gone, "video"), (str(still), str(still), "image"))
    page = write(Folder(str(tmp_path / "out")), tmp_path, rows)
    assert links(page) == []
    assert page.count("data:image/jpeg") == 2


@pytest.mark.parametrize("rotation", [0, 90, 180])
def test_a_clip_is_upright_and_starts_where_the_run_did(tmp_path, rotation):
    shades = [np.full((48, 80, 3), 8 * number, np.uint8) for number in range(30)]
    source = write_video(tmp_path / "a.mp4", shades, rotation=rotation)
    stylized = write_video(tmp_path / "b.mp4", shades[10:20], rotation=rotation)
    write_clip(str(tmp_path / "clip.mp4"), str(stylized), str(source), Selection(0.4, 0.4))
    frames = decoded(tmp_path / "clip.mp4")
    size = (96, 80) if rotation == 90 else (160, 48)
    assert [(frame.width, frame.height, frame.rotation) for frame in frames] == [(*size, 0)] * 10
    for frame in frames:
        left, right = np.hsplit(frame.to_ndarray(format="rgb24").astype(int), 2)
        assert abs(left.mean() - right.mean()) < 2


def test_videos_that_hold_their_source_are_shown_alone(tmp_path):
    source, stylized = video(tmp_path / "in" / "a.mp4"), video(tmp_path / "out" / "a.mkv")
    rows = rows_of((str(source), str(stylized), "video"))
    write(Folder(str(tmp_path / "out")), source.parent, rows, video=VideoConfig(side_by_side=True))
    assert decoded(tmp_path / "out/report/clips/00.mp4")[0].width == 96
