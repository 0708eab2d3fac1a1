"""Who gets which style: fair, and the same on every rerun."""

import subprocess
import sys
from collections import Counter

from nst_ops.collection.styles import StyleChoice

NAMES = tuple("abcde")
PATHS = [f"class {n % 7}/{n}.jpg" for n in range(2000)]


def drawn(seed: int, names: tuple[str, ...] = NAMES) -> list[str]:
    choice = StyleChoice(names, "random", seed)
    return [choice.of(path)[0] for path in PATHS]


def test_a_draw_depends_on_path_seed_and_names_and_on_nothing_else():
    code = (
        "from nst_ops.collection.styles import StyleChoice\n"
        f"print([StyleChoice({NAMES!r}, 'random', 1).of(path)[0] for path in reversed({PATHS!r})])"
    )
    environment = {"PYTHONHASHSEED": "99"}
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert other.stdout.strip() == repr(drawn(1)[::-1])
    assert drawn(1) != drawn(2)
    assert drawn(1) != drawn(1, NAMES[:4])


def test_every_style_has_its_share():
    shares = Counter(drawn(0))
    assert set(shares) == set(NAMES)
    assert max(shares.values()) < 1.2 * len(PATHS) / len(NAMES)
    # A draw of its own for each: neighbors agree as often as chance lets them.
    agreements = sum(a == b for a, b in zip(drawn(0), drawn(0)[1:], strict=False))
    assert 0.15 < agreements / len(PATHS) < 0.25


def test_each_gives_all_and_one_gives_one():
    assert StyleChoice(NAMES, "each").of("x.jpg") == NAMES
    assert StyleChoice(("a",)).of("x.jpg") == ("a",)
    assert [StyleChoice(NAMES, mode).per_item for mode in ("each", "random")] == [5, 1]


def test_only_each_has_folders():
    assert StyleChoice(NAMES, "each").output("a", "d/x.jpg") == "a/d/x.jpg"
    assert StyleChoice(NAMES, "random").output("a", "d/x.jpg") == "d/x.jpg"
    assert StyleChoice(("a",)).output("a", "d/x.jpg") == "d/x.jpg"
