"""The columns of the conformance table: codecs in containers, kinds of picture, and what their inputs are like."""

from dataclasses import dataclass, field
from typing import Any

PICTURES = (".png", ".exr")


@dataclass(frozen=True)
class Column:
    """A codec in a container, or a kind of picture in a sequence."""

    name: str
    suffix: str
    codec: str
    """libav's name of what must come out."""
    depth: int = 8
    lossless: bool = False
    sound: str = "aac"
    text: str = "subrip"
    film: str | None = None
    """Pixel format of the film, where it is not 4:2:0 of the depth."""
    decoded: str | None = None
    """Pixel format that pictures must have."""
    full: bool = True
    """Whether the ramp is of full range; ProRes holds limited range only, of which 4 to 1019 are codes of pictures."""
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """Fields of Formats that choose the codec, where the input and the suffix do not."""

    @property
    def pictures(self) -> bool:
        """A sequence: nothing but pictures."""
        return self.suffix in PICTURES

    @property
    def film_depth(self) -> int:
        """Bits of the film's samples."""
        return 16 if self.film == "gbrp16le" else self.depth

    @property
    def film_format(self) -> str:
        """Pixel format of the film."""
        return self.film or ("yuv420p" if self.depth == 8 else f"yuv420p{self.depth}le")


COLUMNS = (
    Column("H.264 mp4", ".mp4", "h264"),
    Column("H.264 mov", ".mov", "h264"),
    Column("H.264 mkv", ".mkv", "h264"),
    Column("HEVC 10 mp4", ".mp4", "hevc", depth=10),
    Column("HEVC 10 mov", ".mov", "hevc", depth=10),
    Column("HEVC 10 mkv", ".mkv", "hevc", depth=10),
    Column("VP9 webm", ".webm", "vp9", sound="libopus", text="webvtt"),
    Column("AV1 10 webm", ".webm", "av1", depth=10, sound="libopus", text="webvtt"),
    Column("AV1 10 mp4", ".mp4", "av1", depth=10, settings={"codec": "av1"}),
    Column("AV1 10 mkv", ".mkv", "av1", depth=10, settings={"codec": "av1"}),
    Column("ProRes 422 HQ mov", ".mov", "prores", depth=10, film="yuv422p10le", full=False,
           settings={"codec": "prores"}),
    Column("ProRes 4444 mov", ".mov", "prores", depth=10, film="yuv444p10le", full=False,
           settings={"codec": "prores4444"}),
    Column("FFV1 10 mkv", ".mkv", "ffv1", depth=10, lossless=True),
    Column("PNG 8", ".png", "png", lossless=True, film="bgr0", decoded="rgb24"),
    Column("PNG 16", ".png", "png", depth=10, lossless=True, film="gbrp16le", decoded="rgb48be"),
    Column("EXR half", ".exr", "exr", depth=10, lossless=True, film="gbrp10le", decoded="gbrpf16le"),
)  # fmt: skip
