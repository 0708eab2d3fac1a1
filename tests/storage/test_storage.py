"""Files appear whole or not at all, whatever their names, and a full disk is called a full disk."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import Sound, moving_frames, write_video

from nst_ops.collection.manifest import SCHEMA, Manifest
from nst_ops.config import VideoConfig
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.writer import VideoWriter
from nst_ops.storage import FileInfo, Folder, StorageFullError
from nst_ops.storage.local import SCRATCH
from nst_ops.storage.scratch import ScratchFolder, remove_dead_scratch

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path) -> Folder:
    return Folder(str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}/out")


def listing(folder: Folder) -> dict[str, FileInfo]:
    return {info.relpath: info for info in folder.files() if not info.relpath.startswith(SCRATCH)}


def put(folder: Folder, relpath: str, data: bytes) -> None:
    with folder.atomic_write(relpath) as temporary:
        temporary.write_bytes(data)


def test_what_is_written_is_there(folder):
    put(folder, "a/b/c.txt", b"words")
    assert folder.exists("a/b/c.txt")
    assert folder.read_bytes("a/b/c.txt") == b"words"
    assert {name: info.num_bytes for name, info in listing(folder).items()} == {"a/b/c.txt": 5}
    with folder.local_copy("a/b/c.txt") as path:
        assert Path(path).read_bytes() == b"words"
        assert path.endswith(".txt")
    assert Folder(folder.uri("a")).read_bytes("b/c.txt") == b"words"


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.b.jpg", f"a.{'long' * 40}.png"])
def test_a_local_copy_keeps_the_extension(name):
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    put(folder, name, b"words")
    with folder.local_copy(name) as path:
        assert Path(path).name == "file" + name[-7 if ".tar." in name else -4 :]


def test_nothing_is_seen_before_the_end(folder):
    put(folder, "a.txt", b"old")
    with folder.atomic_write("a.txt") as temporary:
        temporary.write_bytes(b"new, but not")
        assert folder.read_bytes("a.txt") == b"old"
        with folder.atomic_write("b.txt") as other:
            other.write_bytes(b"")
            assert not folder.exists("b.txt")
    assert folder.read_bytes("a.txt") == b"new, but not"


def test_an_exception_leaves_nothing(folder):
    seen = []

    def fail() -> None:
        with folder.atomic_write("a/b.txt") as temporary:
            temporary.write_bytes(b"half")
            seen.append(temporary)
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail()
    assert not folder.exists("a/b.txt")
    assert not seen[0].exists()
    assert listing(folder) == {}


def test_the_temporary_file_is_on_the_same_disk(tmp_path):
    folder = Folder(str(tmp_path / "out"))
    with folder.atomic_write("a.mp4") as temporary:
        assert temporary.is_relative_to(tmp_path / "out")
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"x")
        inode = temporary.stat().st_ino
    assert (tmp_path / "out/a.mp4").stat().st_ino == inode
    folder.remove_scratch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_folders_are_removed_if_they_are_there(folder):
    put(folder, "a/b.txt", b"x")
    put(folder, "c.txt", b"x")
    folder.remove("a")
    folder.remove("a")
    assert set(listing(folder)) == {"c.txt"}


def test_many_are_removed_at_once(folder):
    for name in ("a/b.txt", "a/c.txt", "d.txt"):
        put(folder, name, b"x")
    folder.remove_many(["a/b.txt", "d.txt", "nowhere"])
    assert set(listing(folder)) == {"a/c.txt"}


def test_one_folder_is_listed_without_those_below(folder):
    assert folder.list() == folder.list("a") == []
    for name in ("b.txt", "a/c.txt", "a/d/e.txt"):
        put(folder, name, b"x")
    assert [name for name in folder.list() if name != SCRATCH] == ["a", "b.txt"]
    assert folder.list("a") == ["c.txt", "d"]


def test_a_renamed_file_replaces_an_older_one(folder):
    put(folder, "new", b"new")
    put(folder, "a/b.txt", b"old")
    folder.rename("new", "a/b.txt")
    assert folder.read_bytes("a/b.txt") == b"new"
    assert set(listing(folder)) == {"a/b.txt"}


def test_a_media_source_is_a_path_or_read_by_ranges(folder):
    put(folder, "a/b.mp4", b"0123456789")
    media = folder.media_source("a/b.mp4")
    if isinstance(media, str):
        assert Path(media).read_bytes() == b"0123456789"
    else:
        assert (media.name, media.num_bytes) == ("b.mp4", 10)
    with folder.open("a/b.mp4", block_bytes=4) as file:
        assert file.read(3) == b"012"
        assert file.seek(-2, os.SEEK_END) == 8
        assert file.read(5) == b"89"
        assert file.read(5) == b""


def test_a_changed_file_has_another_version(folder):
    put(folder, "a", b"one")
    before = listing(folder)["a"]
    put(folder, "a", b"two")
    after = listing(folder)["a"]
    assert before.num_bytes == after.num_bytes
    assert before.version != after.version
    assert folder.file("a").num_bytes == after.num_bytes
    assert not folder.is_local or folder.file("a") == after


ODD_NAMES = [
    "a b",
    "a#b?c",
    "100%",
    "%20",
    "a::b",
    "x*[y]{z}",
    "-rf",
    "~",
    "$HOME",
    "é",
    "映画",
    'it\'s "q"',
    "a\nb",
    "a\\b",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_only_names(tmp_path, name):
    folder = Folder(str(tmp_path / name))
    put(folder, f"{name}/{name}.txt", b"words")
    assert (tmp_path / name / name / f"{name}.txt").read_bytes() == b"words"
    assert set(listing(folder)) == {f"{name}/{name}.txt"}
    assert folder.read_bytes(f"{name}/{name}.txt") == b"words"
    assert Folder(folder.uri(name)).exists(f"{name}.txt")
    assert folder.file(f"{name}/{name}.txt").num_bytes == 5


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30).filter(
        lambda name: name not in (".", "..")
    )
)
def test_any_name_that_the_disk_takes_is_listed_again(name):
    with tempfile.TemporaryDirectory() as root:
        folder = Folder(root)
        put(folder, name, b"x")
        assert set(listing(folder)) == ({name} if not name.startswith(SCRATCH) else set())
        assert Path(folder.uri(name)).read_bytes() == b"x"


def test_local_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder("a/../b/").root == Folder("~/b").root == Folder(f"file://{tmp_path}/b").root == f"{tmp_path}/b"


def test_an_unknown_file_system_is_a_value_error():
    with pytest.raises(ValueError, match="nosuch"):
        Folder("nosuch://a/b")


def test_remote_listings_are_never_taken_from_a_cache():
    assert not Folder("s3://bucket/prefix").fs.dircache.use_listings_cache


# What must not be opened.


def test_links_pipes_and_links_to_folders_are_not_regular(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.jpg").write_bytes(b"x")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "real/a.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = {name: info.regular for name, info in listing(Folder(str(tmp_path))).items()}
    not_regular = dict.fromkeys(("broken.jpg", "circle", "itself.jpg", "pipe.jpg"), False)
    assert found == {"real/a.jpg": True, "linked.jpg": True} | not_regular


def test_names_that_are_no_utf8_are_listed(tmp_path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))).write_bytes(b"x")
    (name,) = listing(Folder(str(tmp_path)))
    assert os.fsencode(name) == b"\xff\xfe.jpg"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_folder_that_may_not_be_listed_is_an_error():
    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o755)
        (root / "open").mkdir()
        (root / "closed").mkdir(mode=0o700)
        code = "import os, sys; from nst_ops.storage import Folder; os.setuid(65534)\n"
        code += "list(Folder(sys.argv[1]).files())"
        child = subprocess.run(
            [sys.executable, "-c", code, str(root)], cwd=ROOT, capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(root)
    assert child.returncode == 1
    assert "PermissionError" in child.stderr
    assert "closed" in child.stderr


# A full disk.


@contextlib.contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[Folder]:
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a small disk")
    try:
        yield Folder(str(path))
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_is_reported_and_holds_no_half_file(tmp_path):
    with small_disk(tmp_path / "disk", 256) as folder:
        put(folder, "a", bytes(100_000))
        with pytest.raises(StorageFullError, match=r"no space left on .*disk"):
            put(folder, "b", bytes(300_000))
        assert set(listing(folder)) == {"a"}
        put(folder, "b", bytes(100_000))


def test_a_manifest_that_fills_the_disk_is_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", 64) as folder:
        noise = [os.urandom(400).hex() for _ in range(500)]
        rows = [{"item_id": str(uuid.uuid4()), "style": "", "error_message": text} for text in noise]
        assert pa.Table.from_pylist(rows, schema=SCHEMA).nbytes > 64_000
        with pytest.raises(StorageFullError):
            Manifest(folder).commit("unit", rows)


def test_a_video_that_fills_the_disk_is_a_full_disk(tmp_path):
    source = write_video(tmp_path / "a.mp4", moving_frames(20, 160, 90), sounds=[Sound(duration_s=0.8)])

    def write(folder: Folder, container: str) -> int:
        with folder.atomic_write("copy") as temporary:
            with VideoReader(str(source)) as reader:
                size = reader.output_size
                writer = VideoWriter(
                    str(temporary), container, reader.info, size, str(source), VideoConfig(preset="ultrafast")
                )
                with writer:
                    for frame in reader.frames():
                        writer.write(frame)
            return temporary.stat().st_size

    for container in ("mp4", "matroska"):
        needed = write(Folder(str(tmp_path / "whole")), container)
        last_page = needed // 4096 * 4
        for kilobytes in (4, 16, last_page // 2, last_page - 12, last_page - 8, last_page - 4, last_page):
            with small_disk(tmp_path / "disk", kilobytes) as folder:
                with pytest.raises(StorageFullError):
                    write(folder, container)
                assert listing(folder) == {}
        with small_disk(tmp_path / "disk", last_page + 8) as folder:
            assert write(folder, container) == needed


@pytest.mark.parametrize("uri", ["file://{}", "file://localhost{}", "file:{}", "FILE://{}"])
def test_uris_of_local_files_have_their_escapes_undone(tmp_path, uri):
    (tmp_path / "My Photos #1 100%").mkdir()
    (tmp_path / "My Photos #1 100%" / "a.txt").write_bytes(b"1")
    folder = Folder(uri.format(f"{tmp_path}/My%20Photos%20%231%20100%25"))
    assert folder.is_local
    assert folder.list() == ["a.txt"]
    assert folder.root == str(tmp_path / "My Photos #1 100%")


def test_a_file_of_another_machine_is_refused():
    with pytest.raises(ValueError, match="another machine"):
        Folder("file://host/photos")


def test_scratch_of_a_killed_process_goes_that_of_a_living_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "from nst_ops.storage.scratch import ScratchFolder\nimport os, signal\nfolder = ScratchFolder()\n"
    command = [sys.executable, "-c", code + "os.kill(os.getpid(), signal.SIGKILL)"]
    subprocess.run(command, env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    tempfile.mkdtemp(prefix="nst-ops-scratch-")  # killed before it could lock it
    assert len(list(tmp_path.iterdir())) == 2
    with ScratchFolder() as living:
        remove_dead_scratch()
        assert list(tmp_path.iterdir()) == [Path(living)]
    assert not list(tmp_path.iterdir())


def test_scratch_that_another_process_takes_for_dead_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make = tempfile.mkdtemp

    def make_and_lose(*args, **kwargs):
        monkeypatch.setattr(tempfile, "mkdtemp", make)
        folder = make(*args, **kwargs)
        remove_dead_scratch()
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with ScratchFolder() as living:
        assert Path(living).is_dir()
    assert not list(tmp_path.iterdir())
