"""Pictures and videos that show several versions of the same frames beside one another, with their names on top."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vrestore.errors import ConfigError
from vrestore.video import STILL_SUFFIXES, Formats, SegmentWriter, VideoInfo, choose_encoding, mux, write_still

Picture = UInt8[np.ndarray, "height width 3"]
Banner = UInt8[np.ndarray, "banner_height row_width 3"]
Row = UInt8[np.ndarray, "row_height row_width 3"]
Pictures = Mapping[str, UInt8[np.ndarray, "_ _ 3"]]
"""One frame of every file, by role; the low-resolution input may be of another size."""
GAP_PX = 4


class Montage:
    """Writes rows of pictures to a still (one frame) or a video (all of them); a context manager.

    Nothing is left behind unless ``finish`` is reached.
    """

    def __init__(
        self, path: Path, labels: Mapping[str, str], size: tuple[int, int], info: VideoInfo, frame: int | None
    ) -> None:
        """``labels``: name to write on each role's panel, in order. ``info``: where times and sound come from."""
        self._path, self._labels, self._info = path, labels, info
        self._banner = _banner(list(labels.values()), *size)
        self._still = path.suffix.lower() in STILL_SUFFIXES
        self._frame = info.frames // 2 if frame is None else frame
        if not 0 <= self._frame < info.frames:
            raise ConfigError(f"frame is {self._frame}; {info.path} has the frames 0 to {info.frames - 1}.")
        if info.is_still and not self._still:
            raise ConfigError(f"{path}: stills are shown beside one another in a picture; give a name ending in .png.")
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writer: SegmentWriter | None = None

    def __enter__(self) -> "Montage":
        return self

    def write(self, index: int, pts: int, pictures: Pictures) -> None:
        """Take the pictures of one frame; those of roles without a label are not shown."""
        if self._still and index != self._frame:
            return
        row = _row([pictures[role] for role in self._labels], self._banner)
        rgb = np.ascontiguousarray(np.moveaxis(row, -1, 0), dtype=np.float32) / 255
        if self._still:
            write_still(self._path, rgb)
        else:
            self._open(row).write(rgb, pts)

    def finish(self) -> None:
        """Put the file in its place."""
        if self._writer is not None:
            self._writer.close()
            mux([self._segment()], self._info, self._path)
            self._writer = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.abort()
        if self._folder is not None:
            self._folder.cleanup()

    def _open(self, row: Row) -> SegmentWriter:
        if self._writer is None:
            size = (row.shape[0], row.shape[1])
            self._folder = tempfile.TemporaryDirectory(prefix="vrestore-")
            encoding = choose_encoding(self._info, self._path, size, Formats(alpha=False))
            self._writer = SegmentWriter(self._segment(), size, encoding, self._info)
        return self._writer

    def _segment(self) -> Path:
        return Path(self._folder.name if self._folder else "") / "segment.nut"


def _row(pictures: list[Picture], banner: Banner) -> Row:
    """Pictures of one size from left to right under the banner."""
    gap = np.zeros((pictures[0].shape[0], GAP_PX, 3), np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate([banner, np.concatenate(parts, axis=1)])


def _banner(labels: list[str], height: int, width: int) -> Banner:
    """A dark strip with a label centred above every panel."""
    text_px = max(10, height // 30)
    strip_px = 2 * (text_px * 3 // 4)  # even, so that it does not make an even height odd
    font = ImageFont.load_default(size=text_px)
    image = Image.new("RGB", (len(labels) * (width + GAP_PX) - GAP_PX, strip_px))
    draw = ImageDraw.Draw(image)
    for position, label in enumerate(labels):
        middle = position * (width + GAP_PX) + width / 2
        draw.text((middle, strip_px / 2), label, fill=(235, 235, 235), font=font, anchor="mm")
    return np.asarray(image).copy()
