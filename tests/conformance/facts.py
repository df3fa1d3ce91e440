"""Everything of a file that the conformance table asks for, read with libav alone."""

from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np


class Track(NamedTuple):
    """What is known of a stream that is not the video."""

    type: str
    packets: list[tuple[Fraction, bytes]]
    tags: dict[str, str]
    disposition: int


class Facts:
    """A video: its streams with all their packets, its tags, its decoded frames (codes of at most ``depth`` bits)."""

    def __init__(self, path: Any, depth: int = 16) -> None:
        with av.open(str(path)) as container:
            self.tags = {name.lower(): text for name, text in container.metadata.items()}
            self.chapters = [
                (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"].get("title"))
                for c in container.chapters()
            ]
            self.files = {s.name: s.data for s in container.streams if s.type == "attachment"}
            self.covers = [s.index for s in container.streams.video if int(s.disposition) & 1024]
            stream = container.streams.video[0]
            self.video_tags = {name.lower(): text for name, text in stream.metadata.items()}
            self.codec = stream.codec_context.codec.canonical_name
            self.timecode_track = any("timecode" in s.metadata for s in container.streams if s.type == "data")
            tracks: dict[int, Track] = {
                s.index: Track(s.type, [], dict(s.metadata), int(s.disposition))
                for s in container.streams
                if s.type in ("audio", "subtitle")
            }
            self.cover = b""
            for packet in container.demux([s for s in container.streams if s.index != stream.index and s.type != "data"
                                           and s.type != "attachment"]):  # fmt: skip
                if packet.size and packet.stream.index in tracks:
                    tracks[packet.stream.index].packets.append((packet.pts * packet.time_base, bytes(packet)))
                elif packet.size:
                    self.cover = bytes(packet)
        self.sounds = [track for track in tracks.values() if track.type == "audio"]
        self.texts = [track for track in tracks.values() if track.type == "subtitle"]
        self._decode(path, depth)

    def _decode(self, path: Any, depth: int) -> None:
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            first = frames[0]
            self.format = first.format.name
            self.times = [frame.pts * frame.time_base for frame in frames]
            more = max(0, first.format.components[0].bits - depth)  # ProRes 4444 comes with 10 or 12, as it is threaded
            self.planes = [[plane >> more for plane in planes_of(frame)] for frame in frames]
            self.rotation = first.rotation
            self.color = [int(v) for v in (first.color_primaries, first.color_trc, first.colorspace, first.color_range)]
            self.hdr = {d.type.name: bytes(d) for d in first.side_data}
        from vrestore.video import probe

        # PyAV has no name for these two: they come by the way that the reader of the engine knows
        info = probe(path)
        self.chroma, self.aspect = info.color.chroma_location, info.sample_aspect


class Pictures:
    """A sequence: its files in order, decoded; R, G and B, floats brought from linear light to ``depth`` bits."""

    def __init__(self, files: list[Any], depth: int) -> None:
        self.planes = []
        for path in files:
            with av.open(str(path)) as container:
                (frame,) = container.decode(video=0)
                self.planes.append(planes_of(frame, depth))
                self.codec = container.streams.video[0].codec_context.codec.canonical_name
                self.format = frame.format.name
                self.color = [int(frame.color_primaries), int(frame.color_trc)]
                self.aspect = container.streams.video[0].sample_aspect_ratio or Fraction(1)
        self.data = files[0].read_bytes()


def planes_of(frame: Any, depth: int = 8) -> list[np.ndarray]:
    """Codes of Y, U and V, or of R, G and B."""
    name = frame.format.name
    if name.startswith("gbrpf"):
        planes = [_samples(plane, np.float16 if "f16" in name else np.float32) for plane in frame.planes]
        return [np.round(_srgb(planes[at]) * (2**depth - 1)).astype(int) for at in (2, 0, 1)]
    deep = np.dtype(np.uint16 if frame.format.components[0].bits > 8 else np.uint8)
    if len(frame.planes) == 1:  # packed
        dtype = deep.newbyteorder(">") if name.endswith("be") else deep
        count = 4 if name in ("bgr0", "rgba", "rgba64be") else 3
        samples = np.frombuffer(bytes(frame.planes[0]), dtype).reshape(frame.height, -1)
        pixels = samples[:, : frame.width * count].reshape(frame.height, frame.width, count).astype(int)
        return [pixels[..., at] for at in ((2, 1, 0) if name == "bgr0" else (0, 1, 2))]
    planes = [_samples(plane, deep).astype(int) for plane in frame.planes]
    return [planes[at] for at in (2, 0, 1)] if name.startswith("gbrp") else planes


def _samples(plane: Any, dtype: Any) -> np.ndarray:
    return np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)[:, : plane.width]


def _srgb(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    light = light.astype(np.float64)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
