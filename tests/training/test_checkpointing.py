"""The state a run goes on from: whole or not there, and never code."""

import contextlib
import pickle
from pathlib import Path

import pytest
import torch

from nst_ops.config import ConfigError
from nst_ops.storage import Folder, StorageFullError
from nst_ops.storage.base import storage_full_errors
from nst_ops.training.checkpointing import OWN, STATE, read_state, write_state

KEPT = {"done": 7, "best": float("inf"), "stopped": False, "history": "{}", "step": {"model": {"a": 1.5}}}


def test_what_was_written_is_read(tmp_path):
    weights = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_state(Folder(str(tmp_path)), {**KEPT, "weights": weights})
    state = read_state(Folder(str(tmp_path)))
    assert {key: state[key] for key in KEPT} == KEPT
    assert torch.equal(state["weights"], weights)
    assert state["weights"].is_contiguous(memory_format=torch.channels_last)


def test_where_nothing_was_written_there_is_no_state(tmp_path):
    assert read_state(Folder(str(tmp_path))) is None
    assert read_state(Folder(str(tmp_path / "nowhere"))) is None


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_a_later_version(path: Path) -> None:
    torch.save({"format": "nst-ops-state/99"}, path)


def of_another_program(path: Path) -> None:
    torch.save({"state_dict": {}}, path)


def not_even_a_mapping(path: Path) -> None:
    torch.save(["model"], path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [half, empty, of_a_later_version, of_another_program, not_even_a_mapping])
def test_what_cannot_be_used_is_refused_with_the_remedy(damage, tmp_path):
    write_state(Folder(str(tmp_path)), KEPT)
    damage(tmp_path / STATE)
    with pytest.raises(ConfigError, match=r"cannot be read.*take another output, or --overwrite") as refused:
        read_state(Folder(str(tmp_path)))
    assert str(tmp_path / STATE) in str(refused.value)


def test_a_later_version_is_named(tmp_path):
    of_a_later_version(tmp_path / STATE)
    with pytest.raises(ConfigError, match="nst-ops-state/99, this version reads nst-ops-state/1"):
        read_state(Folder(str(tmp_path)))


class Code:
    """Writes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state, 2))])
def test_code_is_not_run(save, tmp_path):
    save({"format": "nst-ops-state/1", "done": Code(tmp_path / "ran")}, tmp_path / STATE)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_state(Folder(str(tmp_path)))
    assert not (tmp_path / "ran").exists()


def test_a_failed_write_keeps_the_state_before(tmp_path, monkeypatch):
    write_state(Folder(str(tmp_path)), KEPT)

    def half(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(StorageFullError, match="no space left"):
        write_state(Folder(str(tmp_path)), {**KEPT, "done": 8})
    assert read_state(Folder(str(tmp_path)))["done"] == 7
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [STATE]


class FullDisk(Folder):
    """A folder on a disk without space, as the kernel has it."""

    @contextlib.contextmanager
    def atomic_write(self, relpath):
        with storage_full_errors(self.uri()):
            yield Path("/dev/full")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_a_full_disk_is_told_as_such(tmp_path):
    with pytest.raises(StorageFullError, match="no space left"):
        write_state(FullDisk(str(tmp_path)), {**KEPT, "weights": torch.zeros(100_000)})


def test_a_run_that_starts_anew_forgets_its_wandb_run():
    """``tracking`` names it in wandb_id.txt; with the old one, new figures are not shown."""
    assert {"wandb_id.txt", "wandb"} <= set(OWN)
