"""Evaluate the images of a run: how near they are to the style, and what they keep of their source."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from PIL import Image

from nst_ops.config import ConfigError, EvaluateConfig
from nst_ops.evaluation.classifier import Classifier
from nst_ops.evaluation.evaluator import Evaluator, Pair
from nst_ops.evaluation.image_metrics import SMALLEST
from nst_ops.evaluation.image_report import choose_shown, histograms, image_page, style_content_plot, terminal_tables
from nst_ops.evaluation.metrics import ImageResults, metric
from nst_ops.evaluation.run import SUMMARY, FinishedRun, Outcome, Row, progress, read_image
from nst_ops.evaluation.text_score import TextScore
from nst_ops.media.errors import MediaError, UnsupportedMediaError
from nst_ops.media.style_images import Style
from nst_ops.report.html import figure, thumbnail

METRICS, _NEEDS_NO_NETWORK = "metrics.parquet", "palette"


def evaluate_images(config: EvaluateConfig) -> Outcome[ImageResults]:
    """Compare the images of ``config.run`` with sources and style, and write to ``config.output``.

    Raises ConfigError, before anything is written, for no such run, style, weights, tap, metric or device, or if no
    image can be read; StorageFullError if there is no space for the output.
    """
    by = config.page.rank_by
    try:
        metric(by)
    except KeyError as error:
        raise ConfigError(f"page.rank_by: there is no metric {error}") from error
    run = FinishedRun.open(config, {*config.taps.style, *config.taps.content, *config.taps.distribution})
    rows = run.rows("image")
    styles = run.styles({row["style"] for row in rows})
    # By style and size, so that neighbors fall into batches.
    rows.sort(key=lambda row: (row["style"] or "", row["output_width"], row["output_height"]))
    unreadable: dict[str, str] = {}
    pairs = _read_pairs(rows, config, unreadable)
    try:
        weights, architecture = config.classifier.weights, config.classifier.architecture
        classifier = Classifier(architecture, weights, run.device) if weights else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"classifier: {error}") from error
    text_score = _text_score(run)
    keys: dict[str, Any] = {"batch_size": config.batch_size, "device": run.device, "seed": config.seed}
    keys |= {"missing": run.missing, "classifier": classifier, "text_score": text_score}
    results = Evaluator(styles, run.vgg, config.taps, **keys)(pairs)
    if not results.rows:
        source, reason = next(iter(unreadable.items()))
        raise ConfigError(f"run: none of its {len(rows)} images can be read, such as '{source}': {reason}")
    if by not in results.metrics():
        results.notes.append(f"{by} was not measured, so {_NEEDS_NO_NETWORK} says which images are the best")
        by = _NEEDS_NO_NETWORK
    results.notes.extend(_notes(run, results, len(rows), unreadable))
    return Outcome(results, terminal_tables(results), _write(run, results, styles, by, unreadable), unreadable)


def _text_score(run: FinishedRun) -> TextScore | None:
    """Load CLIP for the words that images are compared with; None where nobody has asked for it."""
    config = run.config
    if not (config.clip.weights or config.text):
        return None
    if not (text := config.text or run.text()):
        raise ConfigError("clip.weights: the run has no style.text: give --text, the words to compare with")
    try:
        return TextScore(config.clip, text, run.device)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _read_pairs(rows: list[Row], config: EvaluateConfig, unreadable: dict[str, str]) -> Iterator[Pair]:
    """Pairs in the order of ``rows``, decoded by threads while the network is busy."""
    with ThreadPoolExecutor(config.threads, thread_name_prefix="decode") as pool:

        def decoded() -> Iterator[tuple[Row, Future[Pair]]]:
            ahead: deque[tuple[Row, Future[Pair]]] = deque()
            for row in rows:
                ahead.append((row, pool.submit(_read_pair, row, config.max_side)))
                if len(ahead) > 2 * config.batch_size:
                    yield ahead.popleft()
            yield from ahead

        for row, pair in progress(decoded(), "images", len(rows)):
            try:
                yield pair.result()
            except (OSError, MediaError) as error:
                unreadable[row["source_uri"]] = f"{type(error).__name__}: {error}"


def _read_pair(row: Row, max_side: int) -> Pair:
    images = _read_both(row, max_side)
    width, height = images[0].size
    if min(width, height) < SMALLEST:
        raise UnsupportedMediaError(f"{width}x{height} px: sides below {SMALLEST} cannot be measured")
    source, stylized = (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in images)
    name = row["source_uri"].rsplit("/", 1)[-1]
    return Pair(name, source, stylized, row["style"] or "", row["source_uri"], row["output_uri"])


def _read_both(row: Row, max_side: int) -> tuple[Image.Image, Image.Image]:
    """Source and stylized image of a row, both of one size, at most ``max_side``."""
    stylized = read_image(row["output_uri"])
    # At the size that the worker has read: a run that shrinks reads its sources at the size it writes.
    source = read_image(row["source_uri"], max(stylized.size))
    if source.size != stylized.size:
        source = source.resize(stylized.size, Image.Resampling.LANCZOS)
    for image in (source, stylized):
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return source, stylized


def _notes(run: FinishedRun, results: ImageResults, num_chosen: int, unreadable: dict[str, str]) -> Iterator[str]:
    ok = run.manifest.filter(pc.equal(run.manifest["status"], "ok"))
    num_images = ok.filter(pc.equal(ok["kind"], "image")).num_rows
    if num_videos := ok.num_rows - num_images:
        yield f"{num_videos:,} videos of the run were left out: only images are measured"
    if others := run.manifest.num_rows - ok.num_rows:
        yield f"{others:,} items of the run are not ok and were left out"
    if num_chosen < num_images:
        yield f"{num_chosen:,} of {num_images:,} images were chosen (limit)"
    own = sum(bool(row["style"]) for row in results.rows)
    if 0 < own < len(results.rows):
        yield (
            f"{own:,} images name a style that is among those used here and are compared with it alone, "
            f"{len(results.rows) - own:,} with the average"
        )
    if unreadable:
        source, reason = next(iter(unreadable.items()))
        yield f"{len(unreadable):,} images could not be read (all in {SUMMARY}), such as {source}: {reason}"


def _write(run: FinishedRun, results: ImageResults, styles: list[Style], by: str, unreadable: dict[str, str]) -> str:
    """Write figures, plots and page: the URI of the page."""
    config, style_by_name = run.config, {style.name: style for style in styles}

    def thumbnails(row: Row) -> str:
        """HTML of source, stylized image and style."""
        try:
            source, stylized = _read_both(row, config.max_side)
        except Exception as error:  # an image that has gone since is no reason to lose the page
            return f"<p class=small>cannot be shown: {escape(str(error))}</p>"
        style = style_by_name[row["nearest_style"]]
        caption = f"{'its style' if row['style'] else 'nearest style image'}: {style.name}"
        images = {"source": source, "stylized": stylized, caption: Image.fromarray(style.pixels_hwc)}
        return "".join(figure(thumbnail(image), caption) for caption, image in images.items())

    models = sorted({name for name in run.manifest["model"].to_pylist() if name})
    facts = {
        "run": f"{config.run} ({', '.join(models)})",
        "style": f"{config.style or 'thumbnails of the checkpoint'} ({len(styles):,} used)",
        "measured": f"{len(results.rows):,} images, at most {config.max_side} px",
        "network": f"VGG19 of {config.vgg.weights or 'torchvision (ImageNet)'}",
        "figures": f"{METRICS}: a row for each image; {SUMMARY}",
    }
    plots = {"histograms.png": histograms(results), "style_content.png": style_content_plot(results)}
    groups = choose_shown(results, by, config.page.images)
    shown = {title: [(row, thumbnails(row)) for row in rows] for title, rows in groups.items()}
    page = image_page(results, facts, list(plots.values()), shown, by)
    return run.write(results.rows, METRICS, {**results.summary(), "unreadable": unreadable}, plots, page)
