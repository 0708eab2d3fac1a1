"""Names of outputs that come from elsewhere: inside the folder, as the disk takes them, each its own."""

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.storage import Folder, NameRules, folder_and_name
from nst_ops.storage.names import leads_out, rules_of_bucket, rules_of_disk

RULES = [NameRules(), NameRules(windows=True), NameRules(folds=True), NameRules(100, 300), NameRules(255, 64)]
PARTS = st.one_of(
    st.sampled_from(
        ["", ".", "..", "a", "a.jpg", "CON", "nul.png", "a.", " ", "C:\\x", "~", "x" * 250, "é" * 130, "\0"]
    ),
    st.text(max_size=6),
)
FOREIGN = st.lists(PARTS, min_size=1, max_size=30).map("/".join).filter(bool)


@given(FOREIGN, st.sampled_from(RULES))
def test_a_path_stays_inside_and_fits_the_disk(name, rules):
    path = rules.path(name)
    parts = path.split("/")
    assert not leads_out(path)
    assert not {"", ".", ".."} & set(parts)
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") or letter == "\\" for letter in path)
    assert max(len(part.encode()) for part in parts) <= rules.name_bytes
    assert len(path.encode()) <= rules.path_bytes
    if rules.windows:
        assert not re.search(r'[<>:"|?*]|[. ](/|$)', path)
        assert not {re.split(r" *\.", part)[0].upper() for part in parts} & {"CON", "NUL", "COM1"}
    assert rules.path(path) == path


@given(st.lists(FOREIGN, min_size=2, max_size=20, unique=True), st.sampled_from(RULES))
def test_two_names_never_become_one_path(names, rules):
    assert len({rules.path(name) for name in names}) == len(names)


@given(FOREIGN, st.sampled_from(RULES))
def test_every_changed_name_is_odd_or_long(name, rules):
    if rules.path(name) != name and name.isprintable():
        assert re.search(rules.odd, name) or len(name.encode()) > min(rules.name_bytes, rules.path_bytes)


@pytest.mark.parametrize("name", ["a/b.jpg", "a+b c.jpg", "a%2Bb.jpg", "q?v=1.jpg", "h#1.jpg", "trail .jpg", "é/é.png"])
def test_a_name_that_a_disk_takes_stays_as_it_is(name):
    assert NameRules().path(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../escaped.jpg", r"escaped~[0-9a-f]{12}\.jpg"),
        ("a//x.jpg", r"a/x~[0-9a-f]{12}\.jpg"),
        ("/lead.jpg", r"lead~[0-9a-f]{12}\.jpg"),
        ("C:\\x\\y.jpg", r"C:_x_y~[0-9a-f]{12}\.jpg"),
        ("x" * 252 + ".webm.mkv", r"x{238}~[0-9a-f]{12}\.mkv"),
        ("é" * 125 + ".gif.png", r"é{119}~[0-9a-f]{12}\.png"),
        ("d" * 300 + "/x.png", r"d{242}~[0-9a-f]{12}/x~[0-9a-f]{12}\.png"),
    ],
)
def test_a_changed_name_keeps_what_it_can_and_its_extension(name, expected):
    assert re.fullmatch(expected, NameRules().path(name))


def test_files_of_one_long_folder_stay_together():
    paths = [NameRules().path(f"{'d' * 300}/{name}.png") for name in "ab"]
    assert len({path.split("/")[0] for path in paths}) == 1


def test_a_disk_is_asked_and_nothing_stays_there(tmp_path: Path) -> None:
    rules = rules_of_disk(str(tmp_path / "not" / "there"))
    assert rules.name_bytes <= 255
    for name in ("x" * (rules.name_bytes - 4) + ".png", "a?b.png"):
        (tmp_path / rules.path(name)).write_bytes(b"x")
    (tmp_path / "A.png").write_bytes(b"x")
    assert (tmp_path / "a.PNG").exists() is rules.folds
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "not").exists()


def test_a_key_of_a_bucket_is_as_long_as_allowed():
    rules = rules_of_bucket("bucket/some/prefix")
    assert len(f"bucket/some/prefix/{rules.path('folder/' * 300 + 'x.png')}") <= 1024


def test_names_that_a_disk_folds_have_a_common_key():
    rules = NameRules(folds=True)
    assert rules.key("Fotos/É.JPG") == rules.key("fotos/e\u0301.jpg")
    assert NameRules().key("A.jpg") != NameRules().key("a.jpg")


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/in/a.png", "/in", "a.png"),
        ("/a.png", "/", "a.png"),
        ("memory://in/a.png", "memory:///in", "a.png"),
        ("memory://in//a.png", "memory:///in", "/a.png"),
        ("memory://in/b/../a.png", "memory:///in/b/..", "a.png"),
    ],
)
def test_a_key_with_empty_parts_is_found_by_its_uri(uri, folder, name):
    found = folder_and_name(uri)
    assert (found[0].uri(), found[1]) == (folder, name)


@pytest.mark.parametrize("relpath", ["../x", "a/../../x", "/x", ".."])
@pytest.mark.parametrize("root", ["disk", "memory://test-output-names"])
def test_no_file_is_written_or_removed_outside_of_a_folder(tmp_path, root, relpath):
    folder = Folder(str(tmp_path / root) if root == "disk" else root)
    (tmp_path / "x").write_bytes(b"mine")
    for change in (
        lambda: folder.write_bytes(relpath, b"theirs"),
        lambda: folder.remove(relpath),
        lambda: folder.remove_many([relpath]),
        lambda: folder.rename("a", relpath),
    ):
        with pytest.raises(ValueError, match="leads out of its folder"):
            change()
    assert (tmp_path / "x").read_bytes() == b"mine"
    assert folder.relpath_of(folder.uri("a/b.png")) == "a/b.png"
    assert folder.relpath_of(f"{folder.uri()}/../x") is None
    assert folder.relpath_of("/etc/passwd") is None
