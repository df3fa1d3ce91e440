"""Absurd, damaged and hostile inputs as a process gets them: a clear line, or it works."""

import os
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

material = sys.modules["material"]


def restored(server, folder, source, output="out.mkv", **options):
    return server.run("identity", source, "-o", output, "--device", "cpu", "--quiet", folder=folder, **options)


# ---------------------------------------------------------------- makers: (folder) -> the input's name


def no_frames(folder):
    with av.open(str(folder / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=32, height=32, pix_fmt="bgr0")
        container.start_encoding()
        stream.encode(None)
    return "in.mkv"


def sound_only(folder):
    material.write(folder / "whole.mp4", 8)
    with av.open(str(folder / "whole.mp4")) as whole, av.open(str(folder / "in.m4a"), "w", format="mp4") as container:
        (track,) = whole.streams.audio
        copy = container.add_stream_from_template(track)
        for packet in whole.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    (folder / "whole.mp4").unlink()
    return "in.m4a"


def cover_art(folder):
    with av.open(str(folder / "in.mp3"), "w") as container:
        track = container.add_stream("libmp3lame", rate=48000)
        track.layout = "stereo"
        picture = container.add_stream("mjpeg", width=32, height=32, pix_fmt="yuvj420p")
        picture.disposition = av.stream.Disposition.attached_pic
        container.mux(picture.encode(av.VideoFrame(32, 32, "yuvj420p")))
        container.mux(picture.encode(None))
        material._write_sound(container, track, 0.2, np.random.default_rng(0))
    return "in.mp3"


def text(folder):
    (folder / "in.mp4").write_text("#!/bin/sh\necho this is no video\n" * 40)
    return "in.mp4"


def playlist(folder):
    """Names other files, one of them secret: nothing must be read through it."""
    (folder / "in.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    return "in.mp4"


def list_of_files(folder):
    material.write(folder / "other.mkv", 2)
    (folder / "in.mkv").write_text("ffconcat version 1.0\nfile other.mkv\n")
    return "in.mkv"


def a_folder(folder):
    (folder / "in.mp4").mkdir()
    return "in.mp4"


def fifo(folder):
    os.mkfifo(folder / "in.mp4")
    return "in.mp4"


def device(folder):
    (folder / "in.mp4").symlink_to("/dev/zero")
    return "in.mp4"


def dangling(folder):
    (folder / "in.mp4").symlink_to(folder / "nowhere.mp4")
    return "in.mp4"


def loop(folder):
    (folder / "in.mp4").symlink_to(folder / "in.mp4")
    return "in.mp4"


def empty(folder):
    (folder / "in.mp4").touch()
    return "in.mp4"


def truncated(folder):
    path = material.write(folder / "in.mp4", 20)
    path.write_bytes(path.read_bytes()[:-900])
    return "in.mp4"


def picture_of_nothing(folder):
    (folder / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return "in.png"


def huge_picture(folder):
    """A few bytes that claim to be 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    (folder / "in.png").write_bytes(data)
    return "in.png"


def times_that_jump_back(folder):
    """Two recordings in one transport stream: the second starts at zero again."""
    path = material.write(folder / "in.ts", 20)
    path.write_bytes(path.read_bytes() * 2)
    return "in.ts"


REFUSED = [
    (no_frames, 1, "not a readable video"),
    (sound_only, 1, "no video"),
    (cover_art, 1, "no video"),
    (text, 1, "in.mp4"),
    (playlist, 1, "in.mp4"),
    (list_of_files, 1, "list of other files"),
    (a_folder, 1, "folder"),
    (fifo, 1, "not a regular file"),
    (device, 1, "not a regular file"),
    (dangling, 2, "does not exist"),
    (loop, 2, "in.mp4"),
    (empty, 1, "empty"),
    (truncated, 1, "truncated"),
    (times_that_jump_back, 1, "its times jump back by"),
    (picture_of_nothing, 1, "not a readable picture"),
    (huge_picture, 1, "too large"),
]


@pytest.mark.parametrize(("make", "code", "message"), REFUSED, ids=[make.__name__ for make, _, _ in REFUSED])
def test_a_clear_line(server, tmp_path, make, code, message):
    source = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = restored(server, tmp_path, source, limit_s=60)
    assert (done.code, done.out, done.timed_out) == (code, "", False), done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("Error: ")
    assert message in done.err
    assert sorted(tmp_path.iterdir()) == before


# ---------------------------------------------------------------- what works


def one_frame(folder):
    return material.write(folder / "in.mkv", 1, sound=False), 1


def one_pixel(folder):
    return material.write(folder / "in.mkv", 5, size=(1, 1)), 5


def one_pixel_lossy(folder):
    path = folder / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=1, height=1, pix_fmt="yuv444p")
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(1, 1, "yuv444p")))
        container.mux(stream.encode())
    return path, 3


def very_wide(folder):
    return material.write(folder / "in.mkv", 2, size=(2, 16384), sound=False), 2


def very_high(folder):
    return material.write(folder / "in.mp4", 2, size=(16384, 2), sound=False), 2


def very_slow(folder):
    return material.write(folder / "in.mkv", 3, rate=Fraction(1, 1000), sound=False), 3


def very_slow_mp4(folder):
    return material.write(folder / "in.mp4", 3, rate=Fraction(1, 1000), sound=False), 3


def very_fast(folder):
    return material.write(folder / "in.mp4", 6, rate=Fraction(2000), sound=False), 6


def far_apart(folder):
    return material.write(folder / "in.mkv", 4, pts=[0, 1, 2_000_000, 2_000_001], sound=False), 4


def wrong_name(folder):
    path = folder / "in.avi"
    material.write(path, 6)
    path.rename(folder / "in.mp4")
    return folder / "in.mp4", 6


WORKS = [
    one_frame,
    one_pixel,
    one_pixel_lossy,
    very_wide,
    very_high,
    very_slow,
    very_slow_mp4,
    very_fast,
    far_apart,
    wrong_name,
]


@pytest.mark.parametrize("make", WORKS, ids=[make.__name__ for make in WORKS])
def test_it_works(server, tmp_path, make):
    source, frames = make(tmp_path)
    output = f"out{source.suffix if source.suffix in ('.mkv', '.mp4') else '.mkv'}"
    done = restored(server, tmp_path, source, output)
    assert done.code == 0, done.err
    shown, _ = material.decoded(tmp_path / output)
    assert len(shown) == frames
    times = [time for time, _ in shown]
    assert times == sorted(set(times))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, output])
    assert len(done.err.splitlines()) <= 3, done.err


def test_a_file_that_grows_while_it_is_read(server, tmp_path):
    """A recording under way: what was there when it was looked at is restored."""
    whole = material.write(tmp_path / "whole.ts", 150).read_bytes()
    source = tmp_path / "in.ts"
    source.write_bytes(whole[: len(whole) // 2 // 188 * 188])
    rest, stop = whole[source.stat().st_size :], threading.Event()

    def grow():
        for at in range(0, len(rest), 1880):
            with source.open("ab") as file:
                file.write(rest[at : at + 1880])
            if stop.wait(0.02):
                return

    thread = threading.Thread(target=grow)
    thread.start()
    done = restored(server, tmp_path, source)
    stop.set()
    thread.join()
    assert done.code == 0, done.err
    assert 50 < len(material.decoded(tmp_path / "out.mkv")[0]) <= 150


def test_an_input_that_vanishes_while_it_is_read(server, tmp_path):
    source = material.write(tmp_path / "in.mp4", 200)
    run = server.start("identity", source, "-o", tmp_path / "out.mp4", "--device", "cpu", "--quiet")
    while not Path(tmp_path / "out.mp4.vrestore").exists() and not run.ended_within(0):
        time.sleep(0.002)
    source.unlink()
    done = run.wait()
    assert done.code == 1
    assert len(done.err.splitlines()) == 1, done.err
    assert "in.mp4" in done.err
    assert not (tmp_path / "out.mp4").exists()
