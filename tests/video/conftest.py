"""Clips for the tests, made with PyAV: a few small frames, with everything that a real file may have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

RATE = 48000


@dataclass
class Spec:
    """What a clip is made of; every frame is different."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (48, 64)
    pts: Sequence[int] = tuple(range(12))
    time_base: Fraction = Fraction(1, 25)
    color: tuple[int, int, int, int] = (2, 2, 2, 0)
    aspect: Fraction | None = None
    options: dict[str, str] = field(default_factory=dict)
    audio: str | None = None
    language: str = "fra"
    subtitles: bool = False
    chapters: bool = False
    rotation: int = 0
    pack: Callable[[int], list[np.ndarray]] | None = None
    """Planes of frame i; by default a moving pattern."""


def pattern(spec: Spec, i: int) -> list[np.ndarray]:
    """Smooth moving waves in every plane, inside the limited range."""
    planes = []
    for number, plane in enumerate(av.VideoFrame(spec.size[1], spec.size[0], spec.pix_fmt).planes):
        depth = int("".join(c for c in spec.pix_fmt.split("p")[-1] if c.isdigit()) or 8) if "p" in spec.pix_fmt else 8
        depth = depth if depth in (10, 12, 16) else 8
        samples = plane.line_size // (1 if depth == 8 else 2)
        y, x = np.mgrid[0 : plane.height, 0:samples]
        wave = 0.5 + 0.3 * np.sin(0.13 * x + 0.4 * i + number) * np.cos(0.11 * y - 0.2 * i)
        planes.append(np.round(wave * (2**depth - 1)).astype("u1" if depth == 8 else "<u2"))
    return planes


def fill(frame: av.VideoFrame, planes: list[np.ndarray]) -> None:
    for plane, values in zip(frame.planes, planes, strict=True):
        target = np.frombuffer(memoryview(plane), values.dtype).reshape(plane.height, -1)
        target[:, : values.shape[1]] = values


def write_clip(path: Path, spec: Spec) -> Path:
    """Writes the clip; sound and subtitles last about as long as the video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            spec.codec, rate=25, width=spec.size[1], height=spec.size[0], pix_fmt=spec.pix_fmt,
            time_base=spec.time_base, options=spec.options,
        )  # fmt: skip
        stream.time_base = spec.time_base
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = spec.color
        if spec.aspect:
            context.sample_aspect_ratio = spec.aspect
        if spec.rotation:
            stream.set_display_rotation(spec.rotation)
        sound = _add_sound(container, spec) if spec.audio else None
        text = _add_subtitles(container) if spec.subtitles else None
        if spec.chapters:
            base = Fraction(1, 1000)
            named = [(0, 200, "one"), (200, 480, "two")]
            container.set_chapters(
                [
                    {"id": i, "start": start, "end": end, "time_base": base, "metadata": {"title": title}}
                    for i, (start, end, title) in enumerate(named)
                ]
            )
        container.metadata["title"] = "a clip"
        for i, pts in enumerate(spec.pts):
            frame = av.VideoFrame(spec.size[1], spec.size[0], spec.pix_fmt)
            fill(frame, spec.pack(i) if spec.pack else pattern(spec, i))
            frame.pts, frame.time_base = pts, spec.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        seconds = float((max(spec.pts) - min(spec.pts) + 1) * spec.time_base)
        if sound:
            _write_sound(container, sound, seconds)
        if text:
            _write_subtitles(container, text)
    return path


def _add_sound(container, spec):
    sound = container.add_stream(spec.audio, rate=RATE)
    sound.metadata["language"] = spec.language
    return sound


def _write_sound(container, sound, seconds):
    noise = np.random.default_rng(0)
    for start in range(0, int(seconds * RATE), 1024):
        samples = (noise.random((2, 1024)) - 0.5).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        container.mux(sound.encode(frame))
    container.mux(sound.encode())


SUBTITLE_TIMES = (40, 240)


def _add_subtitles(container):
    text = container.add_mux_stream("subrip")
    text.time_base = Fraction(1, 1000)
    text.metadata["language"] = "fra"
    return text


def _write_subtitles(container, text):
    for number, start in enumerate(SUBTITLE_TIMES):
        packet = av.Packet(f"line {number}".encode())
        packet.stream, packet.time_base = text, Fraction(1, 1000)
        packet.pts = packet.dts = start
        packet.duration = 100
        container.mux(packet)


def packets(path: Path, kind: str) -> list[SimpleNamespace]:
    """Packets of the first stream of a kind: bytes, times as Fractions in seconds."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [
            SimpleNamespace(
                data=bytes(packet),
                pts=packet.pts * packet.time_base,
                dts=None if packet.dts is None else packet.dts * packet.time_base,
            )
            for packet in container.demux(stream)
            if packet.size
        ]


def decoded(path: Path) -> list[tuple[Fraction, list[np.ndarray]]]:
    """(time, planes) of every frame, straight from libav."""
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, [np.frombuffer(bytes(p), np.uint8) for p in f.planes])
                for f in container.decode(video=0)]  # fmt: skip


@pytest.fixture
def make_clip(tmp_path):
    """make_clip("a.mp4", codec=..., ...) -> the path of a new clip, described by the fields of Spec."""
    return lambda name, **fields: write_clip(tmp_path / name, Spec(**fields))


@pytest.fixture
def tools():
    """The helpers above, for tests (which cannot import this module)."""
    return SimpleNamespace(Spec=Spec, pattern=pattern, fill=fill, write_clip=write_clip, packets=packets,
                           decoded=decoded, subtitle_times=SUBTITLE_TIMES)  # fmt: skip


@pytest.fixture(scope="session")
def clip_tools():
    """The same for fixtures that outlive a test."""
    return SimpleNamespace(Spec=Spec, write_clip=write_clip)
