"""Names of tests say the behavior, and can be read in a list of failures."""

import ast
from collections import Counter
from pathlib import Path

FILES = sorted(Path(__file__).parent.rglob("test_*.py"))
MAX_CHARACTERS = 70  # 60 is the aim


def test_names_of_tests_are_short_enough_to_read():
    nodes = [node for path in FILES for node in ast.walk(ast.parse(path.read_text()))]
    functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = [name for name in functions if name.startswith("test_")]
    assert names
    assert [name for name in names if len(name) > MAX_CHARACTERS] == []


def test_no_two_files_of_tests_have_the_same_name():
    counts = Counter(path.name for path in FILES)  # pytest imports them all as top-level modules
    assert [name for name, count in counts.items() if count > 1] == []
