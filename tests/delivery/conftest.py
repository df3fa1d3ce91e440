"""A head that changes nothing, run within the test, and clips of which every code counts."""

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import vrestore.cli
import vrestore.priors
from vrestore.report import RunOptions
from vrestore.video import Formats

HEAD = Path(__file__).parents[1] / "identity" / "identity_head.py"


@pytest.fixture(scope="session")
def head():
    """The module of the head that changes nothing."""
    spec = importlib.util.spec_from_file_location("identity_head", HEAD)
    module = importlib.util.module_from_spec(spec)
    sys.modules["identity_head"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def deliver(head, monkeypatch):
    """deliver(source, output, codec=..., ...) runs the head in this process; keywords are those of Formats."""
    from vrestore.engine import run

    monkeypatch.setitem(vrestore.priors.FAMILIES, "IdentityPrior", "identity_head")
    monkeypatch.setattr(vrestore.cli, "TASKS", {"identity": "identity_head:Identity"})

    def run_it(source, output, *, options=None, fail_at=None, **formats):
        settings = RunOptions(formats=Formats(**formats), **(options or {}))
        config = head.IdentityConfig(window=8, overlap=2, fail_at=fail_at)
        return run(head.Identity(config), source, output, settings)

    return run_it


def _depth_of(pix_fmt):
    digits = pix_fmt.removesuffix("le").rpartition("p")[2]
    return int(digits) if digits.isdecimal() else 8


def _noise_clip(path, pix_fmt, count=3, size=(30, 44), codec="ffv1"):
    """Every code that the format has, at random: superwhite, colours outside of the gamut, hard chroma edges."""
    noise = np.random.default_rng(1)
    depth = _depth_of(pix_fmt)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, width=size[1], height=size[0], pix_fmt=pix_fmt)
        for i in range(count):
            frame = av.VideoFrame(size[1], size[0], pix_fmt)
            for plane in frame.planes:
                codes = np.frombuffer(memoryview(plane), np.uint8 if depth == 8 else "<u2")
                codes[:] = noise.integers(0, 2**depth, codes.size)
                if pix_fmt == "bgr0":
                    codes[3::4] = 0
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _decoded(path):
    """(format, time, samples of each plane) of every frame."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            dtype = np.uint8 if _depth_of(frame.format.name) == 8 else np.uint16
            wide = 4 if frame.format.name in ("bgr0", "bgra") else 1
            planes = [
                np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)[:, : plane.width * wide]
                for plane in frame.planes
            ]
            found.append((frame.format.name, frame.pts * frame.time_base, planes))
    return found


@pytest.fixture
def noise_clip():
    """noise_clip(path, pix_fmt, count, size, codec) -> the path, of a clip with every code that the format has."""
    return _noise_clip


@pytest.fixture
def depth_of():
    """depth_of(pix_fmt) -> its bits."""
    return _depth_of


@pytest.fixture
def decoded():
    """decoded(path) -> format, time and samples of each plane of every frame."""
    return _decoded


@pytest.fixture
def assert_same_frames():
    """assert_same_frames(a, b): in format, times and every sample."""

    def compare(a, b):
        before, after = _decoded(a), _decoded(b)
        assert [one[:2] for one in before] == [one[:2] for one in after]
        for (_, _, old), (_, _, new) in zip(before, after, strict=True):
            for left, right in zip(old, new, strict=True):
                np.testing.assert_array_equal(left, right)

    return compare
