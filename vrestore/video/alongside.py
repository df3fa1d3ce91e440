"""Files of the user that go with a video frame by frame: a mask or a control video, or one picture for all frames."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from vrestore.errors import ConfigError
from vrestore.video.info import DecodedFrame, FrameReader, Rgb, VideoInfo
from vrestore.video.probe import probe
from vrestore.video.read import open_reader

AnyRgb = Float32[np.ndarray, "3 _ _"]
"""One picture, of any size."""


def check_alongside(path: Path, info: VideoInfo, what: str) -> None:
    """Whether a file goes with a video: a picture, or as many frames.

    Raises:
        ConfigError: it has another number of frames.
        VRestoreError: it is not there, or cannot be read.
    """
    found = probe(path)
    if found.frames not in (1, info.frames):
        raise ConfigError(
            f"the {what} {path} has {found.frames} frames, but {info.path} has {info.frames}; give a picture, or a "
            "video with a frame for each"
        )


class Alongside:
    """The frames of such a file by the number of the video's frame, best asked in order. Close it after use."""

    def __init__(self, path: Path) -> None:
        self._info = probe(path)
        self._reader: FrameReader | None = None
        self._frames: Iterator[DecodedFrame] = iter(())
        self._next = 0
        self._still: Rgb | None = None

    def at(self, index: int, size: tuple[int, int]) -> AnyRgb:
        """The picture for a frame, of ``size`` (height, width): averaged to make it smaller, else bilinear."""
        picture = self._still
        if picture is None:
            picture = self._read(0 if self._info.frames == 1 else index)
        if self._info.frames == 1:
            self._still = picture
        return fitted(picture, size)

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _read(self, index: int) -> Rgb:
        if self._reader is None:
            self._reader = open_reader(self._info)
            self._next = -1
        if index != self._next:
            self._frames, self._next = self._reader.frames(index), index
        self._next += 1
        return next(self._frames).rgb


def fitted(picture: Rgb, size: tuple[int, int]) -> AnyRgb:
    """A picture brought to ``size`` (height, width), where it has another."""
    height, width = size
    if picture.shape[1:] == size:
        return picture
    shrinks = picture.shape[1] >= height and picture.shape[2] >= width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(plane, (width, height), interpolation=how) for plane in picture])
