"""A long video end to end: memory minute by minute, and the share of reading and writing. See README.md beside this."""

import importlib.util
import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import click
import cv2
import numpy as np
import psutil

from vrestore import engine
from vrestore.report import RunOptions
from vrestore.tasks.super_resolution import SuperResolution

RATE = 24
SIZE = (180, 320)
SETTLED = 2
"""Minutes of video after which memory must no longer grow."""
MEDIA_STAGES = ("inspect", "decode", "write")


def made_clip(path: Path, frames: int) -> Path:
    """A drifting texture with a hard cut every ten seconds, and a tone: H.264 and AAC."""
    height, width = SIZE
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, width=width, height=height, pix_fmt="yuv420p")
        track = container.add_stream("aac", rate=48000)
        track.layout = "stereo"
        for n in range(frames):
            if n % (10 * RATE) == 0:
                coarse = noise.integers(0, 256, (height // 6, width // 6, 3), np.uint8)
                texture = cv2.resize(coarse, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
            part = np.roll(texture, (n // 2, n), (0, 1))[:height, :width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(part), format="rgb24")))
            for start in range(48000 * n // RATE, 48000 * (n + 1) // RATE, 1000):
                wave = np.sin(np.arange(start, start + 1000) * 0.05, dtype=np.float32)
                sound = av.AudioFrame.from_ndarray(np.stack([wave, wave]) / 4, format="fltp", layout="stereo")
                sound.sample_rate, sound.pts, sound.time_base = 48000, start, Fraction(1, 48000)
                container.mux(track.encode(sound))
        container.mux(stream.encode())
        container.mux(track.encode())
    return path


def identity():
    """The head that changes nothing."""
    path = Path(__file__).parents[1] / "identity" / "identity_head.py"
    spec = importlib.util.spec_from_file_location("identity_head", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["identity_head"] = module
    spec.loader.exec_module(module)
    module.install()
    return module.Identity()


@click.command(help=__doc__)
@click.option("--seconds", default=1200, show_default=True, help="Length of the video.")
@click.option("--head", type=click.Choice(["identity", "sr"]), default="identity", show_default=True)
@click.option("--steps", default=1, show_default=True, help="Sampling steps of sr.")
def main(seconds: int, head: str, steps: int) -> None:
    task = identity() if head == "identity" else SuperResolution(scale=2, steps=steps)
    process, peaks = psutil.Process(), {}

    def watch(now):
        minute = (now.done - 1) // (60 * RATE)
        peaks[minute] = max(peaks.get(minute, 0), process.memory_info().rss)

    with tempfile.TemporaryDirectory() as folder:
        clip = made_clip(Path(folder) / "in.mp4", seconds * RATE)
        result = engine.run(task, clip, Path(folder) / "out.mp4", RunOptions(progress=watch))
    settled = [size for minute, size in sorted(peaks.items()) if minute >= SETTLED]
    click.echo(json.dumps({"mib_by_minute": [round(size / 2**20) for _, size in sorted(peaks.items())]}))
    growth = round(max(settled) / min(settled), 4) if settled else None
    shares = {name: round(share, 4) for name, share in result.shares.items()}
    media = round(sum(result.shares.get(name, 0) for name in MEDIA_STAGES), 4)
    row = {"head": head, "frames": result.frames, "seconds": round(result.seconds, 1), "largest_over_least": growth}
    click.echo(json.dumps(row | {"media_share": media, "shares": shares}))


if __name__ == "__main__":
    main()
