"""A node that does not see the input or the output of the run."""

from pathlib import Path

import pytest
from job_runner import write_image

from nst_ops.collection.run_lock import write_run_record
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.executors.ray_worker import NotSharedError, check_shared
from nst_ops.pipeline.run_spec import RunSpec, new_run_spec
from nst_ops.storage import Folder


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """A run whose driver has written ``run.json``."""
    write_image(tmp_path / "in/1.png")
    config = StylizeConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), model={"kind": "identity"})
    spec = new_run_spec(config, config.input)
    write_run_record(Folder(spec.config.output), spec.run_id, {}, {})
    return spec


def test_a_node_that_sees_both_may_work(spec: RunSpec) -> None:
    check_shared(spec)


def test_an_output_of_its_own_is_noticed(spec: RunSpec, tmp_path: Path) -> None:
    write_run_record(Folder(spec.config.output), "another", {}, {})
    with pytest.raises(NotSharedError, match="of another run, another: use s3://"):
        check_shared(spec)
    (tmp_path / "out/run.json").unlink()
    with pytest.raises(NotSharedError, match="does not see"):
        check_shared(spec)


def test_an_input_that_is_not_mounted_is_noticed(spec: RunSpec, tmp_path: Path) -> None:
    (tmp_path / "in/1.png").unlink()
    with pytest.raises(NotSharedError, match="does not see the input"):
        check_shared(spec)
    (tmp_path / "in").rmdir()
    with pytest.raises(NotSharedError, match="does not see the input"):
        check_shared(spec)
