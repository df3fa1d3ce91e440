"""The head that changes nothing, run by the real engine as a process: what comes in comes out, bit for bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np

HEAD = Path(__file__).parent / "identity" / "identity_head.py"


def identity(*arguments):
    return subprocess.run(
        [sys.executable, str(HEAD), "identity", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_frames_times_and_sound_come_out_as_they_came(clips, tmp_path):
    frames = clips.scene(20, (46, 62))
    pts = [2 * i + i // 5 for i in range(20)]
    source = clips.write(tmp_path / "in.mkv", frames, pts=pts, audio=True)
    done = identity(source, "-o", tmp_path / "out.mkv", "--window", 8, "--overlap", 2)
    assert done.returncode == 0, done.stderr
    found, times = clips.read(tmp_path / "out.mkv")
    assert np.array_equal(found, frames)
    assert times == clips.read(source)[1]
    assert clips.audio_packets(tmp_path / "out.mkv") == clips.audio_packets(source)


def test_a_head_that_fails_leaves_no_output(clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(8, (32, 48)))
    done = identity(source, "-o", tmp_path / "out.mkv", "--fail-at", 5)
    assert done.returncode == 1
    assert "asked to fail" in done.stderr
    assert list(tmp_path.iterdir()) == [source]
