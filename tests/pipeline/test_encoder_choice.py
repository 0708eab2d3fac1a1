"""``video.encoder auto``: one encoder for all of a run, and for what goes on with it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_runner import read_manifest
from media_factory import moving_frames, write_video

from nst_ops.collection.run_lock import read_fingerprint, write_run_record
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.pipeline.run import settle_encoder, stylize_collection
from nst_ops.storage import Folder


class Cluster:
    """Executor of workers whose GPU gives this answer to the trial of its encoder: what goes wrong, or nothing."""

    def __init__(self, answer: str | None, num_gpus: int = 1) -> None:
        self.answer, self.num_gpus, self.asked = answer, num_gpus, 0

    def call(self, function: Callable[..., Any], *args: object, gpu: bool = False, limit_s: float = 0) -> str | None:
        assert gpu
        self.asked += 1
        return self.answer


def settle(output: Path, cluster: Cluster, **sections: Any) -> str:
    config = StylizeConfig(input="in", output=str(output), **{"video": {"encoder": "auto"}} | sections)
    executor: Any = cluster
    return settle_encoder(config, Folder(str(output)), executor).video.encoder


def begun(output: Path, encoder: str) -> None:
    write_run_record(Folder(str(output)), "run", {}, {"video.encoder": encoder})


def test_a_new_run_takes_what_the_gpu_of_its_workers_starts(tmp_path: Path) -> None:
    assert settle(tmp_path, Cluster("")) == "nvenc"
    assert settle(tmp_path, Cluster("this FFmpeg was built without it")) == "software"
    assert settle(tmp_path, Cluster(None)) == "software"
    without = Cluster("", num_gpus=0)
    assert (settle(tmp_path, without), without.asked) == ("software", 0)
    named = Cluster("")
    assert settle(tmp_path, named, video={"encoder": "software"}) == "software"
    assert named.asked == 0


def test_a_run_goes_on_with_the_encoder_it_began_with(tmp_path: Path) -> None:
    begun(tmp_path, "software")
    cluster = Cluster("")
    assert (settle(tmp_path, cluster), cluster.asked) == ("software", 0)
    assert settle(tmp_path, cluster, overwrite=True) == "nvenc"
    begun(tmp_path, "nvenc")
    assert settle(tmp_path, cluster) == "nvenc"
    for other, reason in ((Cluster("No capable devices found"), "No capable devices"), (Cluster("", 0), "is no GPU")):
        with pytest.raises(ConfigError, match=rf"begun with nvenc, which does not start now \(.*{reason}.*\): go on"):
            settle(tmp_path, other)


def test_nvenc_is_tried_before_any_video(tmp_path: Path) -> None:
    assert settle(tmp_path, Cluster(""), video={"encoder": "nvenc"}) == "nvenc"
    slow = Cluster(None)  # the trial did not end: the workers will see
    assert (settle(tmp_path, slow, video={"encoder": "nvenc"}), slow.asked) == ("nvenc", 1)
    with pytest.raises(ConfigError, match=r"nvenc does not start .* \(No capable devices found\): set it to auto or"):
        settle(tmp_path, Cluster("No capable devices found"), video={"encoder": "nvenc"})
    frames = {"encoder": "nvenc", "container": "frames"}  # images, which no encoder writes
    assert settle(tmp_path, Cluster("No capable devices found"), video=frames) == "nvenc"


def test_the_manifest_says_which_encoder_wrote(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nst_ops")
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", moving_frames(4, 64, 48))
    paths = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "executor": "local"}
    first, again = (
        StylizeConfig.model_validate({**paths, "model": {"kind": "identity"}, "video": {"encoder": encoder}})
        for encoder in ("auto", "software")
    )
    assert stylize_collection(first).exit_code == 0
    (settled,) = [message for message in caplog.messages if message.startswith("video.encoder auto: ")]
    encoder = settled.split()[2]
    assert read_fingerprint(Folder(str(tmp_path / "out")))["video.encoder"] == encoder
    assert [row["encoder"] for row in read_manifest(tmp_path / "out")] == [
        {"software": "libx264", "nvenc": "h264_nvenc"}[encoder]
    ]
    if encoder == "software":  # it is the same run
        assert stylize_collection(again).exit_code == 0
