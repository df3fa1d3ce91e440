"""What a sequence from noise is given of itself: pictures at its ends, and the end of a video that goes on."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vrestore.degradation import Resize
from vrestore.errors import ConfigError, UnsupportedMediaError
from vrestore.making import Given, MakingConfig
from vrestore.plans import latent_frames
from vrestore.prior import MadeOf, PriorFacts
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


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What is given, read and brought to the size of the output."""

    start: tuple[Frame, ...] = ()
    end: Frame | None = None
    hidden: int = 0
    picture: Frame | None = None


def read_ends(
    config: MakingConfig, given: Given, facts: PriorFacts, made_of: MadeOf, video: VideoInfo | None
) -> tuple[tuple[int, int], Ends]:
    """The (height, width) of the output, and what is given, of that size."""
    first, last = (None if path is None else picture_of(path) for path in (given.first, given.last))
    own = [(one.shape[-2], one.shape[-1]) for one in (first, last) if one is not None]
    if video is not None:
        own = [(video.height, video.width)]
        for name, side, wanted in (("height", video.height, config.height), ("width", video.width, config.width)):
            if wanted not in (None, side):
                raise ConfigError(f"{name} is {wanted}, but {video.path} has {side}; leave it out")
    size = _size(config, own[0] if own else None, facts)
    sides = [
        None if one is None or path is None else fitted(one, size, path)
        for one, path in ((first, given.first), (last, given.last))
    ]
    if sides[1] is not None and facts.temporal_factor > 1:
        raise ConfigError(
            f"a last picture is given, but a latent of the prior {facts.name} holds {facts.temporal_factor} frames; "
            "leave --last out, or name another prior"
        )
    if made_of == "picture":
        return size, Ends(picture=sides[0], end=sides[1])
    start = () if sides[0] is None else (sides[0],)
    if video is None:
        return size, Ends(start=start, end=sides[1])
    half = max(1, (config.window or facts.window) // 2)
    wanted = given.context or (half - 1) * facts.temporal_factor + 1
    hidden = checked_video(video, facts.temporal_factor, wanted)
    return size, Ends(start=tuple(end_of(video, hidden)), end=sides[1], hidden=hidden)


def _size(config: MakingConfig, own: tuple[int, int] | None, facts: PriorFacts) -> tuple[int, int]:
    """(height, width): as asked; what is left out from what is given, in its shape, or the prior's own."""
    usual = own or facts.usual_size
    if config.height is not None and config.width is not None:
        return config.height, config.width
    if usual is None:
        raise ConfigError(f"the prior {facts.name} does not say which size it is made for; give --width and --height")
    height, width = usual
    if config.height is not None:
        return config.height, max(1, round(width * config.height / height)) if own else width
    if config.width is not None:
        return max(1, round(height * config.width / width)) if own else height, config.width
    return usual


def frames_of(config: MakingConfig, facts: PriorFacts, ends: Ends) -> int:
    """Frames to make: those asked for, or as many as fit into one call with what is given."""
    if config.frames is not None:
        return config.frames
    factor, window = facts.temporal_factor, min(config.window or facts.window, facts.window)
    if ends.hidden:
        return factor * max(1, window - (ends.hidden - 1) // factor - 1)
    return 1 + factor * (window - 1)


def latents_of(frames: int, hidden: int, facts: PriorFacts) -> int:
    """Latents of the frames that are made and those before them; ConfigError if that is no whole number."""
    factor = facts.temporal_factor
    if hidden and frames % factor:
        below = frames // factor * factor
        allowed = f"{below} or {below + factor}" if below else f"{factor}"
        raise ConfigError(
            f"frames is {frames}; going on from a video the prior {facts.name} makes {factor} k of them: give {allowed}"
        )
    return latent_frames(frames + hidden, facts)


def places_of(known: int, ends: Ends, latents: int, facts: PriorFacts) -> frozenset[int]:
    """Places of the latents that are given."""
    start = range(min(latents, (known - 1) // facts.temporal_factor + 1 if known else 0))
    return frozenset((*start, *((latents - 1,) if ends.end is not None else ())))
