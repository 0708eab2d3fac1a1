"""The examples of docs/extending.md run as they stand there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from job_runner import ROOT, write_image

SECTIONS = (ROOT / "docs/extending.md").read_text().split("\n## ")[1:]
EXAMPLES = {section.split("\n")[0]: section.split("```python\n")[1].split("```")[0] for section in SECTIONS}


def test_there_is_an_example_for_every_way_to_extend():
    assert list(EXAMPLES) == ["A kind of model", "A loss", "An input format", "An output"]
    assert all(len(example.splitlines()) < 40 for example in EXAMPLES.values())


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_example_runs(title: str, tmp_path: Path):
    for number in range(3):
        write_image(tmp_path / "photos" / f"{number}.png", 96, 80, seed=number)
    (tmp_path / "example.py").write_text(EXAMPLES[title])
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
