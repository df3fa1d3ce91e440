"""What a sequence from noise is given of itself: pictures at its ends, and the end of a video that goes on."""

from pathlib import Path

import torch

from vrestore.degradation import Resize
from vrestore.errors import ConfigError, UnsupportedMediaError
from vrestore.shapes import Frame, OutputFrame
from vrestore.video import VideoInfo, open_reader, probe

STRETCH = 0.02
"""How far the shape of a picture may be from that of the output, as a share."""


def picture_of(path: Path) -> Frame:
    """A picture of any size, in [0, 1].

    Raises:
        ConfigError: it is a video.
        MissingInputError, MediaError: it is not there, or cannot be read.
    """
    info = probe(path)
    if info.frames != 1:
        raise ConfigError(f"{path} holds {info.frames} frames; give one picture, or go on from a video with --from")
    with open_reader(info) as reader:
        return torch.from_numpy(next(reader.frames()).rgb)


def fitted(picture: Frame, size: tuple[int, int], path: Path) -> OutputFrame:
    """The picture at a (height, width), resized bicubically. ConfigError for another shape: nothing is cut off."""
    height, width = picture.shape[-2:]
    if (height, width) == size:
        return picture
    stretch = (width * size[0]) / (height * size[1])
    if abs(stretch - 1) > STRETCH:
        raise ConfigError(
            f"{path} has {width}x{height} pixels, another shape than {size[1]}x{size[0]}; crop it, or leave --width "
            "and --height out"
        )
    return Resize((height, width), size).apply(picture).clamp(0, 1)


def checked_video(info: VideoInfo, factor: int, wanted: int) -> int:
    """How many frames of the end of a video can be seen: at most ``wanted``, a whole number of latents.

    ``factor``: frames of each latent but the first. UnsupportedMediaError for fields.
    """
    if info.interlaced:
        raise UnsupportedMediaError(
            f"{info.path} is interlaced: its frames are two fields of different times; make whole pictures of them "
            "first"
        )
    frames = min(wanted, info.frames)
    return frames - (frames - 1) % factor


def end_of(info: VideoInfo, frames: int) -> list[Frame]:
    """The last frames of a video, in [0, 1]."""
    with open_reader(info) as reader:
        return [torch.from_numpy(frame.rgb) for frame in reader.frames(info.frames - frames, info.frames)]
