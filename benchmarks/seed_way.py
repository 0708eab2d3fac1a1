"""The way that most scripts for style transfer of videos go, for comparison; it is what nst-ops began from.

Every frame becomes a JPEG, every JPEG goes through the network by itself, in fp32 and with ``nn.InstanceNorm2d``, and
becomes a JPEG again; those are put together to a video of a constant frame rate.

``python -m benchmarks.seed_way VIDEO OUTPUT CHECKPOINT``; without a checkpoint the video is decoded and encoded again.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import nn

from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.models.johnson import ConvLayer, InstanceNorm, JohnsonNet

_STRIDE = JohnsonNet.stride


def plain_network(checkpoint: str) -> nn.Module:
    """Return the network of a checkpoint in fp32, of torch's own layers."""
    return as_plain(load_checkpoint(resolve_checkpoint(checkpoint)).expect(JohnsonNet)).eval()


def as_plain(network: nn.Module) -> nn.Module:
    """Replace the layers of a network, in place, by torch's own in fp32, which have the same weights."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (InstanceNorm, ConvLayer)):
                setattr(module, name, _plain_norm(child) if isinstance(child, InstanceNorm) else _plain_layer(child))
    return network.float()


def _plain_norm(norm: InstanceNorm) -> nn.Module:
    plain = nn.InstanceNorm2d(len(norm.weight), eps=norm.eps, affine=True)
    plain.weight, plain.bias = norm.weight, norm.bias
    return plain


def _plain_layer(layer: ConvLayer) -> nn.Module:
    if isinstance(layer.conv, nn.ConvTranspose2d):
        return layer.conv
    upsampling = [nn.Upsample(scale_factor=2, mode=layer.upsampling)] if layer.upsampling else []
    return nn.Sequential(*upsampling, nn.ReflectionPad2d(layer.conv.kernel_size[0] // 2), layer.conv)


@torch.inference_mode()
def stylize_plainly(network: nn.Module, image: Image.Image) -> Image.Image:
    """Stylize one image, cut to sides that the network takes."""
    width, height = (side - side % _STRIDE for side in image.size)
    x_hwc = np.asarray(image.crop((0, 0, width, height)), np.float32) / 255
    y_bchw = network(torch.from_numpy(x_hwc).permute(2, 0, 1)[None].contiguous())
    return Image.fromarray((y_bchw[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy())


def restyle_video(video: str, output: str, checkpoint: str) -> int:
    """Restyle a video by way of JPEG files; return the number of frames."""
    network = plain_network(checkpoint)
    with tempfile.TemporaryDirectory() as folder, av.open(video) as source, av.open(output, "w") as target:
        stream = source.streams.video[0]
        for index, frame in enumerate(source.decode(stream)):
            frame.to_image().save(Path(folder, f"{index:06}.jpg"), quality=95)
        paths = sorted(Path(folder).iterdir())
        for path in paths:
            with Image.open(path) as image:
                stylize_plainly(network, image).save(path, quality=95)
        written: Any = target.add_stream("libx264", rate=stream.average_rate, options={"crf": "18"})
        sides = (side - side % _STRIDE for side in (stream.width, stream.height))
        written.width, written.height, written.pix_fmt = *sides, "yuv420p"
        for path in paths:
            with Image.open(path) as image:
                target.mux(written.encode(av.VideoFrame.from_image(image)))
        target.mux(written.encode(None))
    return len(paths)


def recode_video(video: str, output: str) -> int:
    """Decode a video to RGB and encode it again, and nothing else; return the number of frames."""
    with av.open(video) as source, av.open(output, "w") as target:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        written: Any = target.add_stream("libx264", rate=stream.average_rate, options={"crf": "18"})
        written.width, written.height, written.pix_fmt = stream.width, stream.height, "yuv420p"
        frames = (
            av.VideoFrame.from_ndarray(f.to_ndarray(format="rgb24"), format="rgb24") for f in source.decode(stream)
        )
        num_frames = 0
        for num_frames, frame in zip(itertools.count(1), frames, strict=False):  # noqa: B007
            target.mux(written.encode(frame))
        target.mux(written.encode(None))
    return num_frames


if __name__ == "__main__":
    paths = sys.argv[1:]
    print(recode_video(*paths) if len(paths) == 2 else restyle_video(*paths))
