"""Make a small collection to try nst-ops on: free pictures, and a video with sound made of them.

The pictures ship in scikit-image's wheel: astronaut, rocket and Hubble field (NASA, SpaceX:
public domain), coffee and the cat Chelsea (CC0).
"""

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from skimage import data

FRAME_RATE = 24
SECONDS = 2
SIZE = (384, 256)
SAMPLE_RATE = 44100


def main() -> int:
    """Write the collection to the folder given."""
    if len(sys.argv) != 2:
        print("usage: make_demo_collection.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    (folder / "animals").mkdir(parents=True, exist_ok=True)
    (folder / "space").mkdir(exist_ok=True)
    Image.fromarray(data.coffee()).save(folder / "coffee.jpg", quality=95)
    Image.fromarray(data.chelsea()).save(folder / "animals" / "chelsea.png")
    Image.fromarray(data.astronaut()).save(folder / "space" / "astronaut.png")
    Image.fromarray(data.rocket()).save(folder / "space" / "rocket.jpg", quality=95)
    Image.fromarray(data.hubble_deep_field()).reduce(2).save(folder / "space" / "hubble.webp", quality=90)
    write_video(folder / "launch pad.mp4")
    print(f"demo collection: {folder}")
    return 0


def write_video(path: Path) -> None:
    """A slow zoom over the rocket, with a chord that swells and fades."""
    picture = Image.fromarray(data.rocket())
    num_frames = FRAME_RATE * SECONDS
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "18"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE)
        for index in range(num_frames):
            zoom = 1 + index / num_frames
            width, height = picture.width / zoom, picture.width / zoom * SIZE[1] / SIZE[0]
            left, top = (picture.width - width) / 2, (picture.height - height) * 0.6
            box = (left, top, left + width, top + height)
            frame = av.VideoFrame.from_image(picture.resize(SIZE, Image.Resampling.LANCZOS, box=box))
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        time_s = np.arange(SAMPLE_RATE * SECONDS) / SAMPLE_RATE
        chord = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (220.0, 277.2, 329.6)) / 3
        swell = np.sin(np.pi * time_s / SECONDS) ** 2
        sound = av.AudioFrame.from_ndarray((chord * swell * 0.5).astype(np.float32)[None], "fltp", "mono")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


if __name__ == "__main__":
    raise SystemExit(main())
