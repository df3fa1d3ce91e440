"""Video from stdin and to stdout, in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

HEAD = Path(__file__).parents[1] / "identity" / "identity_head.py"


def vrestore_process(*arguments, data=None):
    return subprocess.run(
        [sys.executable, str(HEAD), "identity", *map(str, arguments)], input=data, capture_output=True, check=False
    )


def test_y4m_from_pipe_to_pipe(tmp_path, noise_clip, assert_same_frames):
    source = noise_clip(tmp_path / "in.mkv", "yuv420p10le", size=(31, 45))
    before = sorted(tmp_path.iterdir())
    once = vrestore_process(source, "-o", "-", "--json")
    assert once.returncode == 0, once.stderr
    assert json.loads(once.stderr[once.stderr.index(b"{") :])["frames"] == 3
    assert once.stdout.startswith(b"YUV4MPEG2 W45 H31 F25:1 Ip A1:1 C42")
    twice = vrestore_process("-", "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--no-record", data=once.stdout)
    assert twice.returncode == 0, twice.stderr
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out.mkv"])  # the copy of stdin is gone
    assert_same_frames(source, tmp_path / "out.mkv")


def test_a_reader_that_goes_away(tmp_path, noise_clip):
    source = noise_clip(tmp_path / "in.mkv", "yuv444p", count=12, size=(240, 320))
    with subprocess.Popen(
        [sys.executable, str(HEAD), "identity", str(source), "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(9) == b"YUV4MPEG2"
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 1
    assert "the program that reads stdout has ended after" in told
    assert "Traceback" not in told
    assert "Exception ignored" not in told


def test_stdin_that_is_no_video():
    done = vrestore_process("-", "-o", "-", data=b"nothing that is a video")
    assert (done.returncode, done.stdout) == (1, b"")
