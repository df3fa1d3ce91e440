"""What encoders get wrong, kept away: bits that differ from run to run, and memory that they damage."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENCODE = """
import hashlib, json, sys, tempfile
from fractions import Fraction
from pathlib import Path
import numpy as np
from vrestore.video import ColorTags, SegmentWriter, VideoInfo, choose_encoding
digests = []
for suffix, codec, depth, height, width in json.loads(sys.argv[1]):
    info = VideoInfo(path=Path("x"), width=width, height=height, frames=16, fps=Fraction(25), time_base=Fraction(1, 25),
                     start_pts=0, duration_s=1, codec=codec, pix_fmt="yuv420p" if depth == 8 else "yuv420p10le",
                     bit_depth=depth, color=ColorTags())
    texture = np.random.default_rng(0).random((3, 2 * height, 2 * width), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment.nut"
        with SegmentWriter(path, (height, width), choose_encoding(info, "out" + suffix, (height, width)), info) as out:
            for n in range(16):
                out.write(np.ascontiguousarray(np.roll(texture, (n // 2, n), (1, 2))[:, :height, :width]), n)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
print(json.dumps(digests))
"""
CASES = [
    (".mp4", "h264", 8, 48, 64),
    (".mp4", "h264", 8, 64, 112),
    (".mp4", "h264", 8, 64, 704),
    (".mp4", "hevc", 8, 48, 64),
    (".mp4", "h264", 10, 64, 48),
    (".mp4", "h264", 10, 40, 40),
    (".webm", "vp9", 8, 48, 64),
    (".webm", "vp9", 10, 64, 64),
    (".mkv", "ffv1", 8, 2, 3),
]


def encoded(filling):
    """Digests of all cases in a process whose fresh memory is filled with a byte (by glibc; elsewhere it is not)."""
    environment = {**os.environ, "MALLOC_PERTURB_": str(filling), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, json.dumps(CASES)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_segments_are_the_same_whatever_lies_in_memory():
    one, other = encoded(0), encoded(170)
    assert [case for case, a, b in zip(CASES, one, other, strict=True) if a != b] == []
