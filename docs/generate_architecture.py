"""Draw docs/architecture.png, the way of a file and the packages: `python docs/generate_architecture.py`.

Floors come from the contract in pyproject.toml, arrows from the imports; only the words stand here.
"""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import grimp
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "cli": "commands of nst-ops",
    "pipeline": "a run: plan, workers, retries",
    "training": "networks learn styles",
    "evaluation": "how good outputs are",
    "report": "pages, contact sheets, curves",
    "collection": "inputs, plan, manifest, progress",
    "stylizers": "kinds of models, inference",
    "temporal": "scene cuts, flow, smoothing",
    "anime": "faces drawn as anime",
    "losses": "what a network is trained for",
    "media": "images, videos and shards\nto arrays and back",
    "models": "networks, checkpoints",
    "storage": "any URI: list, read, write",
    "ray_cluster": "find or start Ray",
    "config": "every key, with its help",
}
DRIVER = [("discover", "list the input"), ("plan", "subtract what is done"), ("units", "file references")]
WORKER = [
    ("read", "bytes to frames,\nin a thread"),
    ("stylize", "batches\non the device"),
    ("smooth", "along the flow\n(video)"),
    ("encode", "frames to a file,\nin a thread"),
    ("commit", "outputs first,\nrows last"),
]
INK, PAPER, LINE = "#1f2933", "#ffffff", "#9aa5b1"
FLOORS = ["#fde8d7", "#fdf3d0", "#e4f3dc", "#d9eff0", "#dbe7f8", "#e6e0f5", "#f3e0ee", "#eceff1"]


def main() -> None:
    """Write the picture."""
    mpl.rcParams.update({"font.family": "DejaVu Sans", "text.color": INK})
    figure = Figure(figsize=(11, 9.6), facecolor=PAPER)
    grid = figure.add_gridspec(2, 1, height_ratios=(2.6, 7), left=0.01, right=0.99, top=0.99, bottom=0.01, hspace=0.02)
    draw_way(figure.add_subplot(grid[0]))
    draw_packages(figure.add_subplot(grid[1]))
    figure.savefig(ROOT / "docs/architecture.png", dpi=100, metadata={"Software": None})


def imports() -> dict[str, set[str]]:
    """Return each package of nst_ops with the packages that it imports."""
    graph = grimp.build_graph("nst_ops")
    packages = sorted(graph.find_children("nst_ops") - {"nst_ops.__main__"})
    short = {package: package.removeprefix("nst_ops.") for package in packages}
    return {
        short[importer]: {
            short[imported]
            for imported in packages
            if imported != importer
            and graph.direct_import_exists(importer=importer, imported=imported, as_packages=True)
        }
        for importer in packages
    }


def floors(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the packages by floor, the lowest first, as the contract in pyproject.toml has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    ordered: list[list[str]] = []
    places: dict[str, float] = {}
    for layer in reversed(layers):
        packages = layer.split(" | ")
        # Above what they import, so that few arrows cross.
        packages.sort(key=lambda p: sum(places[below] for below in arrows[p]) / max(1, len(arrows[p])))
        places |= {package: (index + 0.5) / len(packages) for index, package in enumerate(packages)}
        ordered.append(packages)
    return ordered


def essential(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the transitive reduction: every arrow for which no path of several arrows stands."""

    def reaches(start: str) -> set[str]:
        return arrows[start].union(*(reaches(below) for below in arrows[start]))

    return [
        (upper, lower)
        for upper, belows in arrows.items()
        for lower in belows
        if not any(lower in reaches(other) for other in belows - {lower})
    ]


def draw_packages(axes: Axes) -> None:
    """Draw a band for each floor, with its packages and the essential arrows."""
    arrows = imports()
    levels = floors(arrows)
    width, height, step = 2.35, 0.66, 1.0
    axes.set(xlim=(0, 11), ylim=(-0.75, len(levels) - 0.1))
    axes.axis("off")
    places: dict[str, tuple[float, float]] = {}
    for level, packages in enumerate(levels):
        axes.add_patch(
            FancyBboxPatch(
                (0.1, level * step - 0.42), 10.8, 0.86, boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=FLOORS[level % len(FLOORS)], edgecolor="none", zorder=0,
            )
        )  # fmt: skip
        for index, package in enumerate(packages):
            places[package] = (11 * (index + 0.5) / len(packages), level * step)
    for upper, lower in essential(arrows):
        (x0, y0), (x1, y1) = places[upper], places[lower]
        shift = 0.25 * width * (x1 - x0) / 11
        arrow = FancyArrowPatch(
            (x0 + shift, y0 - height / 2), (x1 - shift, y1 + height / 2),
            arrowstyle="-|>", mutation_scale=9, color=LINE, linewidth=1, zorder=1, shrinkA=0, shrinkB=0,
            connectionstyle="arc3,rad=" + ("0.1" if y0 - y1 > step else "0"),
        )  # fmt: skip
        axes.add_patch(arrow)
    for package, (x, y) in places.items():
        box(axes, x, y, width, height, package, PACKAGES[package])
    axes.text(
        0.1, -0.68, "An arrow means: imports. Arrows for which a path of several stands are left out.", fontsize=8
    )


def draw_way(axes: Axes) -> None:
    """Draw what the driver does, what a worker does, and what goes between them."""
    axes.set(xlim=(0, 11), ylim=(0, 2.6))
    axes.axis("off")
    lanes = ((1.55, 0.95, "driver", FLOORS[4]), (0.1, 1.2, "worker, one for each device", FLOORS[2]))
    for y, height, name, color in lanes:
        axes.add_patch(
            FancyBboxPatch(
                (0.1, y), 10.8, height, boxstyle="round,pad=0,rounding_size=0.1", facecolor=color, edgecolor="none"
            )
        )
        axes.text(0.2, y + height - 0.17, name, fontsize=9, fontweight="bold")
    top, bottom = 1.92, 0.58
    driver = [1.2, 3.2, 5.2]
    for x, (name, words) in zip(driver, DRIVER, strict=True):
        box(axes, x, top, 1.6, 0.52, name, words)
    box(axes, 7.4, top, 1.6, 0.52, "rows", "counted, compacted")
    box(axes, 9.7, top, 1.6, 0.52, "report", "summary, pages")
    worker = [1.2, 3.35, 5.5, 7.65, 9.8]
    for x, (name, words) in zip(worker, WORKER, strict=True):
        box(axes, x, bottom, 1.6, 0.72, name, words)
    for x0, x1 in ((driver[0], driver[1]), (driver[1], driver[2]), (7.4, 9.7)):
        line(axes, (x0 + 0.8, top), (x1 - 0.8, top))
    for x0, x1 in itertools.pairwise(worker):
        line(axes, (x0 + 0.8, bottom), (x1 - 0.8, bottom))
    line(axes, (driver[2], top - 0.26), (worker[0] + 0.3, bottom + 0.36))
    line(axes, (worker[4] - 0.3, bottom + 0.36), (7.4, top - 0.26))
    axes.text(2.6, 1.38, "executor: local or ray", fontsize=8.5, ha="center")
    axes.text(9.7, 1.38, "manifest rows, never pixels", fontsize=8.5, ha="center")


def box(axes: Axes, x: float, y: float, width: float, height: float, name: str, words: str) -> None:
    """Draw a box around (x, y) with a name and what it does."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=PAPER, edgecolor=INK, linewidth=0.8, zorder=2,
        )
    )  # fmt: skip
    lines = words.count("\n")
    axes.text(x, y + 0.13 + 0.05 * lines, name, fontsize=10, fontweight="bold", ha="center", va="center", zorder=3)
    axes.text(x, y - 0.12 - 0.02 * lines, words, fontsize=8, ha="center", va="center", zorder=3, linespacing=1.1)


def line(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=INK, linewidth=1.1, shrinkA=0, shrinkB=0)
    )


if __name__ == "__main__":
    main()
