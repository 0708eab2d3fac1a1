"""What SECURITY.md promises of inputs that come from anywhere."""

import ast
import contextlib
import os
import re
import stat
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runner import ROOT, read_manifest, write_image
from media_factory import moving_frames, write_video
from planning import spec_of, units_of
from shard_factory import image_bytes

from nst_ops.collection.inputs import Source, discover
from nst_ops.config import StylizeConfig
from nst_ops.media.errors import MediaError, UnreadableVideoError
from nst_ops.media.images import decode_image
from nst_ops.media.video.container import open_input
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.worker import Worker

SECRET = image_bytes(99)


@contextlib.contextmanager
def web_server() -> Iterator[tuple[str, list[str]]]:
    """An address on loopback, and the paths that were asked for there."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def rows_of(source: Path, **sections: object) -> dict[str, dict[str, object]]:
    """What a worker makes of an input, by member or file name."""
    output = source.parent / "out"
    worker = Worker(
        spec_of(StylizeConfig(input=str(source), output=str(output), model={"kind": "identity"}, **sections))
    )
    for unit in units_of(worker):
        assert not worker(unit).error
    return {str(row["source_member"] or Path(str(row["source_uri"])).name): row for row in read_manifest(output)}


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{place}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{place}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT1S"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{place}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "asx": '<asx version="3.0"><entry><ref href="{place}"/></entry></asx>',
    "smil": '<smil><body><video src="{place}"/></body></smil>',
    "rtsp": "rtsptextRTSP://127.0.0.1/{place}",
}


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".ts", ".avi", ".m2v", ".wmv"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_no_other_file_and_no_address(tmp_path: Path, kind: str, extension: str) -> None:
    write_video(tmp_path / "secret.mp4", moving_frames(3, 48, 32))
    with web_server() as (address, asked):
        places = f"{address}/a.ts", str(tmp_path / "secret.mp4"), "secret.mp4", f"concat:{tmp_path}/secret.mp4"
        for place in places:
            path = tmp_path / f"list{extension}"
            path.write_text(PLAYLISTS[kind].format(place=place))
            with contextlib.suppress(UnreadableVideoError), open_input(str(path)) as container:
                assert not [packet for packet in container.demux() if packet.size]
    assert asked == []


def test_names_of_videos_are_no_patterns_or_protocols(tmp_path: Path) -> None:
    for name in ("a%03d.mp4", "concat:a.mp4", "a*.mp4", "http:a.mp4", "a|b.mp4"):
        write_video(tmp_path / name, moving_frames(2, 48, 32))
        with open_input(str(tmp_path / name)) as container:
            assert container.streams.video


def test_drawings_are_not_run_and_fetch_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "was_run"
    for program in ("gs", "gswin32c", "gswin64c", "inkscape", "convert", "rsvg-convert"):
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (tmp_path / program).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) show\n%%EOF\n"
    with web_server() as (address, asked):
        xmlns = 'xmlns="http://www.w3.org/2000/svg" width="9" height="9"'
        svg = f'<svg {xmlns}><image href="{address}/a.png" width="9" height="9"/></svg>'.encode()
        xml = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "{address}/e">]>'.encode() + svg
        for data in (eps, svg, xml):
            with pytest.raises(MediaError):
                decode_image(data)
    assert asked == []
    assert not marker.exists()


def test_paths_in_a_table_and_links_in_a_tar_are_not_read(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (tmp_path / "secret.png").write_bytes(SECRET)
    places = [str(tmp_path / "secret.png"), "../secret.png", f"file://{tmp_path}/secret.png"]
    with web_server() as (address, asked):
        rows = [{"image": {"bytes": None, "path": place}} for place in [*places, f"{address}/a.png"]]
        pq.write_table(
            pa.Table.from_pylist([{"image": {"bytes": image_bytes(), "path": "a.png"}}, *rows]), source / "t.parquet"
        )
        with tarfile.open(source / "t.tar", "w") as tar:
            for number, place in enumerate(places):
                for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                    info = tarfile.TarInfo(f"{number}{kind.decode()}.png")
                    info.type, info.linkname = kind, place
                    tar.addfile(info)
        rows = rows_of(source, shards={"format": "files"})
    assert asked == []
    assert [name for name, row in rows.items() if row["status"] == "ok"] == ["a.png"]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and SECRET in path.read_bytes()]


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with links inside, out of it, to folders and back."""
    source = tmp_path / "in"
    write_image(source / "deep/a.png")
    write_image(tmp_path / "elsewhere/secret.png")
    (source / "inside.png").symlink_to("deep/a.png")
    (source / "out.png").symlink_to("../elsewhere/secret.png")
    (source / "absolute.png").symlink_to(tmp_path / "elsewhere/secret.png")
    (source / "twice.png").symlink_to("out.png")
    (source / "nowhere.png").symlink_to("nothing")
    (source / "folder").symlink_to("../elsewhere")
    (source / "deep/back").symlink_to("..")
    (tmp_path / "in-too").mkdir()
    write_image(tmp_path / "in-too/b.png")
    (source / "namesake.png").symlink_to("../in-too/b.png")
    return source


def problems(source: Source) -> dict[str, str]:
    """Why each file that is found is not read, or nothing."""
    return {row["relpath"]: row["problem"] or "" for batch in discover(source) for row in batch.to_pylist()}


def test_no_link_leads_out_of_the_input_unless_asked(linked: Path) -> None:
    found = problems(Source.open(str(linked)))
    assert {name for name, problem in found.items() if not problem} == {"deep/a.png", "inside.png"}
    assert all(
        "--discovery.follow_links true" in found[name] for name in ("out.png", "absolute.png", "twice.png", "folder")
    )
    assert "leads out" in found["namesake.png"]
    assert problems(Source.open(f"{linked}/*.png")).keys() == {name for name in found if "/" not in name} - {"folder"}


def test_links_that_are_asked_for_are_followed_but_not_in_a_circle(linked: Path) -> None:
    found = problems(Source.open(str(linked), "all"))
    read = {"deep/a.png", "inside.png", "out.png", "absolute.png", "twice.png", "namesake.png", "folder/secret.png"}
    assert {name for name, problem in found.items() if not problem} == read
    assert set(found) - read == {"nowhere.png", "deep/back"}


def test_links_that_lead_to_one_another_end(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        write_image(tmp_path / "in" / name / "x.png")
        (tmp_path / "in" / name / "to").symlink_to(f"../{other}")
    found = problems(Source.open(str(tmp_path / "in"), "all"))
    assert {name for name, problem in found.items() if not problem} == {
        "a/x.png",
        "b/x.png",
        "a/to/x.png",
        "b/to/x.png",
    }


def test_a_name_is_text_on_the_page_and_on_the_terminal(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\x1b[2J'\".png"
    write_image(tmp_path / "in" / evil)
    (tmp_path / "in" / f"bad{evil}").write_bytes(b"no picture")
    config = StylizeConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), model={"kind": "identity"})
    summary = stylize_collection(config.model_copy(update={"executor": "local"}))
    assert summary.counts == {"ok": 1, "failed": 1}
    page = (tmp_path / "out/report/index.html").read_text()
    assert "onerror" in page
    assert "<img src=x" not in page
    assert not re.search(r"<script|javascript:|(src|href)=.?(https?:)?//", page)
    assert "\\x1b[2J" in summary.table()
    assert "\x1b" not in summary.table()


def test_the_content_of_a_list_is_no_sql(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    evil = f"x\"); COPY (SELECT 1) TO '{tmp_path}/was_run'; --"
    quoted = evil.replace('"', '""')
    (tmp_path / "list.csv").write_text(f'uri,"{quoted}"\na.png,"{quoted}"\n"\'; {quoted}.png",1\n')
    found = problems(Source.open(str(tmp_path / "list.csv")))
    assert len(found) == 2
    assert not (tmp_path / "was_run").exists()


FORBIDDEN_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load"}


def test_nothing_in_the_package_evaluates_unpickles_or_calls_a_shell() -> None:
    paths = [path for folder in ("nst_ops", "jobs") for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 100
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert name not in FORBIDDEN_CALLS, f"{path}:{node.lineno}"
                assert "shell" not in keywords, f"{path}:{node.lineno}"
                assert name != "torch.load" or keywords["weights_only"] == "True", f"{path}:{node.lineno}"
