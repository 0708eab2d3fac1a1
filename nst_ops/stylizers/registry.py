"""The contract of a stylizer, and the table of the kinds of models that ``model.kind`` may name.

To add a kind: write a class with the ``Stylizer`` call and ``register`` a ``ModelKind`` that loads it.
Everything that differs between kinds is a field of their entry: nothing else asks for a kind's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nst_ops.config import ModelConfig
from nst_ops.config.stylize import StyleConfig
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.checkpoint_files import PRETRAINED, read_architecture, resolve_checkpoint


class Stylizer(Protocol):
    """Callable that a worker applies to every batch of frames.

    One with an attribute ``takes_tensors`` that is True is also given tensors, uint8 (N, H, W, 3) on its ``device``,
    and gives one of the same shape there: on a GPU frames of videos stay there.

    It may have ``last_notes``, for each frame of the calling thread's last call what is not as wished: rows of images
    get them.
    """

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """Stylize a batch of uint8 sRGB, (N, H, W, 3), any H and W from 1 on, to the same shape.

        Args:
            frames_nhwc: the batch.
            styles: the style of each frame, N of them, for a kind that ``takes_style_images`` or
                ``has_named_styles``; others leave them unread. The same ``Style`` object comes again and again: keep
                what is computed from it.

        Raises:
            MemoryError: one frame does not fit into the device's memory, nor in tiles where those serve.
        """
        ...


@dataclass(frozen=True)
class ModelKind:
    """One kind of model and everything that a run asks about it. It is pickled to the workers."""

    name: str
    """Value of ``model.kind``."""
    load: Callable[[ModelConfig, float], Stylizer]
    """Make the stylizer of a ``model`` section and of ``style.alpha``. It imports torch inside, if at all:
    runs of other kinds then start without it. Raises FileNotFoundError for weights that do not exist and
    ValueError for anything else that is wrong with the configuration. A stylizer may have ``settled``: the
    ``own_section`` with what was found in the weights in the place of what it left open."""
    weights_key: str = ""
    """Key under ``model`` that names the file of the weights: ``checkpoint`` or ``<own_section>.weights``;
    empty where there is none. Weights count in a run's fingerprint by their hash, not by this key."""
    own_section: str = ""
    """Section under ``model`` that no other kind reads: only this one's fingerprint holds it."""
    takes_style_images: bool = False
    """True if the style comes with each frame, from ``style.images``."""
    style_side: int = StyleConfig.model_fields["side"].default
    """Shorter side in pixels to which style images are resized where ``style.side`` is not set."""
    takes_alpha: bool = False
    """True if ``style.alpha`` is the strength of the style."""
    strength_key: str = "style.strength"
    """Key that sets the strength of the style where ``style.alpha`` does not, for the message."""
    has_named_styles: bool = False
    """True if its checkpoint holds styles by name."""
    can_freeze: bool = False
    """True if the stylizer has ``measure`` and ``frozen``, for ``temporal.freeze_statistics``."""
    uses_device: bool = True
    """True if it runs on ``model.device`` and in torch's threads."""
    one_thread_pixels: int = 0
    """Pixels up to which a frame on a CPU, or without a device, is stylized in one thread, beside others in theirs: the
    stylizer is called from several threads at once. Larger frames come one after another, each in all threads."""
    smooths: bool = True
    """True if its videos flicker, so that they are smoothed over time."""
    warms_up: bool = True
    """True if a first call on a small frame is worth its time, before anything is measured."""
    has_losses: bool = False
    """True if the stylizer has ``last_losses``, rows of figures for each frame of its last call, to be drawn
    as curves: one image at a time."""

    def weights_file(self, model: ModelConfig) -> Path | None:
        """Return the local file of the weights; None for a kind without them or with downloaded ones.

        Raises:
            FileNotFoundError: ``model.checkpoint`` is neither a file nor a shipped style.
            ValueError: ``model.checkpoint`` is a URI of an unknown file system.
        """
        if self.weights_key == "checkpoint":
            return resolve_checkpoint(model.checkpoint)
        section, _, key = self.weights_key.rpartition(".")
        named = getattr(getattr(model, section), key) if section else None
        return Path(named) if named else None

    def describe(self, model: ModelConfig) -> str:
        """Return the kind in words, with the file name of its checkpoint where it has one."""
        file = f", {str(model.checkpoint).rsplit('/', 1)[-1]}" if self.weights_key == "checkpoint" else ""
        return self.name + file

    def with_weights_file(self, model: ModelConfig, path: str | Path) -> ModelConfig:
        """Return ``model`` with ``path`` as the file of its weights."""
        section, _, key = self.weights_key.rpartition(".")
        if not section:
            return model.model_copy(update={key: str(path)} if key else {})
        inner = getattr(model, section).model_copy(update={key: str(path)})
        return model.model_copy(update={section: inner})


# A megapixel: up to there threads lose more time by waiting for each other at the end of every layer, with a decoder,
# smoothing and an encoder beside them, than frames side by side lose by sharing the caches.
_ONE_THREAD_PIXELS = 2**20

KINDS: dict[str, ModelKind] = {}
"""The known kinds by name."""


def register(kind: ModelKind) -> ModelKind:
    """Make ``kind`` known to ``model.kind``, in the place of one of the same name; returns it."""
    KINDS[kind.name] = kind
    return kind


def model_kind(name: str) -> ModelKind:
    """Return the kind of this name; ValueError names those there are, and the one that was meant."""
    if name in KINDS:
        return KINDS[name]
    near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.5)
    meant = f", did you mean '{near[0]}'?" if near else ";"
    raise ValueError(f"'model.kind': no model of kind '{name}'{meant} known kinds: {', '.join(sorted(KINDS))}")


def kind_of(model: ModelConfig) -> ModelKind:
    """Return the kind that ``model.kind`` names, or where nobody has set it the one that the checkpoint names.

    Raises FileNotFoundError and ValueError as ``model_kind`` and ``ModelKind.weights_file`` do.
    """
    kind = model_kind(model.kind)
    if "kind" in model.model_fields_set:
        return kind
    return KINDS.get(read_architecture(resolve_checkpoint(model.checkpoint)), kind)


def is_shipped(path: Path) -> bool:
    """Return whether a file of weights comes with nst-ops: every machine has its own copy."""
    return path.parent == PRETRAINED


def load_stylizer(model: ModelConfig, alpha: float = 1.0) -> Stylizer:
    """Make the stylizer that ``model`` describes; ``alpha`` is the strength of the style, for kinds that take it.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: no such kind or device; or, as ``nst_ops.models.checkpoint.CheckpointError``, the checkpoint cannot
            be used or holds another kind of network.
    """
    return kind_of(model).load(model, alpha)


def _load_johnson(model: ModelConfig, alpha: float) -> Stylizer:
    from nst_ops.models.checkpoint import load_checkpoint
    from nst_ops.models.johnson import JohnsonNet
    from nst_ops.stylizers.johnson import JohnsonStylizer

    network = load_checkpoint(resolve_checkpoint(model.checkpoint)).expect(JohnsonNet)
    return JohnsonStylizer(network, model.device, model.precision, model.tile)


def _load_multi_style(model: ModelConfig, alpha: float) -> Stylizer:
    from nst_ops.models.checkpoint import load_checkpoint
    from nst_ops.models.conditional import ConditionalNet
    from nst_ops.stylizers.multi_style import MultiStyleStylizer

    network = load_checkpoint(resolve_checkpoint(model.checkpoint)).expect(ConditionalNet)
    return MultiStyleStylizer(network, model.device, model.precision, model.tile)


def _load_any_style(model: ModelConfig, alpha: float) -> Stylizer:
    from nst_ops.models.any_style import AnyStyleNet
    from nst_ops.models.checkpoint import load_checkpoint
    from nst_ops.stylizers.any_style import AnyStyleStylizer

    network = load_checkpoint(resolve_checkpoint(model.checkpoint)).expect(AnyStyleNet)
    return AnyStyleStylizer(network, model.device, model.precision, model.tile)


def _load_vit_adain(model: ModelConfig, alpha: float) -> Stylizer:
    from nst_ops.models.checkpoint import load_checkpoint
    from nst_ops.models.vit_adain import ViTAdaIN
    from nst_ops.stylizers.vit_adain import VitAdainStylizer

    network = load_checkpoint(resolve_checkpoint(model.checkpoint)).expect(ViTAdaIN)
    return VitAdainStylizer(network, model.device, model.precision, alpha)


def _load_gatys(model: ModelConfig, alpha: float) -> Stylizer:
    from nst_ops.stylizers.gatys import GatysStylizer

    return GatysStylizer(model.gatys, model.device, model.precision)


def _load_anime(model: ModelConfig, alpha: float) -> Stylizer:
    from nst_ops.stylizers.anime import AnimeStylizer

    return AnimeStylizer(model.anime)


def _load_onnx(model: ModelConfig, alpha: float) -> Stylizer:
    from nst_ops.stylizers.onnx import OnnxStylizer

    if model.precision != "auto":
        raise ValueError(f"model.precision {model.precision}: an ONNX network has that of its file: leave it out")
    return OnnxStylizer(resolve_checkpoint(model.checkpoint), model.onnx, model.device, model.tile)


def _load_identity(model: ModelConfig, alpha: float) -> Stylizer:
    return lambda frames_nhwc, styles=(): frames_nhwc


register(
    ModelKind("johnson", _load_johnson, weights_key="checkpoint", can_freeze=True, one_thread_pixels=_ONE_THREAD_PIXELS)
)
register(
    ModelKind(
        "multi_style",
        _load_multi_style,
        weights_key="checkpoint",
        has_named_styles=True,
        can_freeze=True,
        one_thread_pixels=_ONE_THREAD_PIXELS,
    )
)
register(
    ModelKind(
        "any_style",
        _load_any_style,
        weights_key="checkpoint",
        takes_style_images=True,
        style_side=256,  # at which it was trained
        can_freeze=True,
        one_thread_pixels=_ONE_THREAD_PIXELS,
    )
)
register(ModelKind("vit_adain", _load_vit_adain, weights_key="checkpoint", takes_style_images=True, takes_alpha=True))
register(
    ModelKind(
        "gatys",
        _load_gatys,
        weights_key="gatys.weights",
        own_section="gatys",
        takes_style_images=True,
        strength_key="model.gatys.gram.weight",
        warms_up=False,  # its shortest call runs for seconds
        has_losses=True,
    )
)
register(ModelKind("anime", _load_anime, own_section="anime", uses_device=False, one_thread_pixels=2**24))
register(
    ModelKind("onnx", _load_onnx, weights_key="checkpoint", own_section="onnx", one_thread_pixels=_ONE_THREAD_PIXELS)
)
register(ModelKind("identity", _load_identity, uses_device=False, smooths=False, warms_up=False))
