"""What the output is encoded as: what was asked for, else what follows from the input and the output's name."""

import errno
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np

from vrestore.errors import ConfigError, OutputError
from vrestore.video.colour import LEFT, LIMITED
from vrestore.video.encode import VIDEO_FORMATS, Encoding, SegmentWriter, codec_options, output_aspect, output_color
from vrestore.video.formats import CODECS, PIPE, Formats, check_crf, codecs_for
from vrestore.video.info import ColorTags, VideoInfo
from vrestore.video.planes import PixelLayout, has_alpha, pixel_layout, readable_format
from vrestore.video.sequence import Pattern
from vrestore.video.source import reason
from vrestore.video.stills import STILL_SUFFIXES

log = logging.getLogger(__name__)

_SUBSAMPLING = {(2, 2): "420", (1, 2): "422", (1, 1): "444", (2, 1): "440", (1, 4): "411", (4, 4): "410"}
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_TRIAL, _TRIAL_FRAMES = 128, 3
"""Pixels a side, and frames, of a trial."""
_TINY = 64
"""Pixels; encoders have their limits below, so that they are tried out first."""
_SLICE_COUNTS = ("4", "6", "9", "12", "16", "24", "30")
_QUIET = {"libx265": {"x265-params": "log-level=none"}}
_SHAPELESS = {"av1": (".mp4",), "vp9": (".mp4",), "prores": (".mov",), "prores4444": (".mov",)}
"""Codecs whose stream says nothing of the shape of a pixel, as libav's Matroska would need it; containers that do."""
_IGNORED = re.compile(r"nknown option|rror parsing option")


def output_beside(path: Path, tag: str) -> Path:
    """``clip_TAG.mp4`` beside ``clip.mp4``; .mkv, which holds everything, where outputs cannot have the suffix.

    Raises:
        ConfigError: the input is stdin, beside which there is nothing.
    """
    if str(path) == PIPE:
        raise ConfigError("the input is stdin; name the output with -o (-o - is Y4M on stdout)")
    known = path.suffix.lower() in (*VIDEO_FORMATS, *STILL_SUFFIXES)
    pattern = Pattern.of(path)
    suffix = path.suffix if known else ".tif" if pattern else ".mkv"
    if pattern:  # shot.%04d.png: shot_TAG.%04d.png
        name, point, number = path.stem.rpartition(".")
        return path.with_name(f"{name}_{tag}.{number}{suffix}" if point else f"{tag}_{number}{suffix}")
    return path.with_name(f"{path.stem}_{tag}{suffix}")


def choose_encoding(
    info: VideoInfo, output: Path | str, size: tuple[int, int], formats: Formats | None = None
) -> Encoding:
    """How an output of ``size`` (height, width) is encoded: as asked, else from the input and the output's suffix.

    Lossless stays lossless in .mkv (FFV1, same sampling and depth). Else H.264 for 8 bits, H.265 for more or where the
    input is H.265; VP9 or AV1 in .webm; at high quality, with the input's chroma sampling. Odd sizes, which 4:2:0
    codecs cannot hold, become 4:4:4. Alpha is carried: .mov gets ProRes 4444, .mkv that or FFV1. Colour tags stay what
    they are; an untagged input gets the tags of what was used where the output's size alone would suggest others, and
    an RGB input always gets them.

    Raises:
        ConfigError: a suffix that is not one of `VIDEO_FORMATS`, or a combination that cannot be.
    """
    formats = formats or Formats()
    suffix = Path(output).suffix.lower()
    piped = str(output) == PIPE
    if suffix not in VIDEO_FORMATS and not piped:
        hint = "a picture is written by write_still" if suffix in STILL_SUFFIXES else "choose one of them"
        raise ConfigError(f"output suffix {suffix or '(none)'} is not one of {', '.join(VIDEO_FORMATS)}; {hint}")
    layout = PixelLayout("rgb", 16) if info.linear else pixel_layout(readable_format(info.pix_fmt))
    if layout is None:
        raise ConfigError(f"pixel format {info.pix_fmt} of the input is not handled")
    alpha = formats.alpha and has_alpha(info.pix_fmt)
    name = "y4m" if piped else formats.codec or _default_codec(info, layout, suffix, alpha)
    _check(name, info, suffix, alpha, formats)
    pix_fmt = formats.pix_fmt and named_format(name, formats.pix_fmt, size, alpha)
    pix_fmt = pix_fmt or _format(name, layout, size, alpha)
    color = output_color(info, layout, pix_fmt, size)
    if CODECS[name].encoder == "prores_ks":  # neither it nor .mov can say anything else of range and chroma location
        color = replace(color, range=min(color.range, LIMITED), chroma_location=min(color.chroma_location, LEFT))
    aspect = output_aspect(info, size)
    if aspect != 1 and (suffix == ".webm" or (suffix == ".mkv" and name in _SHAPELESS)):
        log.warning("%s: pixels that are not square cannot be marked: %s in %s has no place for it that is written; "
                    "choose %s", output, name, suffix, " or ".join(_SHAPELESS.get(name, (".mp4",))))  # fmt: skip
    lossless = name in ("ffv1", "y4m")
    options = _all_options(name, info, color, formats)
    if name == "ffv1":
        options |= _slices(pix_fmt, size, formats)
    encoding = Encoding(
        codec=CODECS[name].encoder, pix_fmt=pix_fmt, options=tuple(options.items()), color=color,
        sample_aspect=aspect, lossless=lossless, dither=not lossless and not pix_fmt.endswith("le"),
    )  # fmt: skip
    if formats.codec or formats.pix_fmt or formats.encoder_args or min(size) < _TINY:
        _try_out(encoding, size, info)
    return encoding


def _default_codec(info: VideoInfo, layout: PixelLayout, suffix: str, alpha: bool) -> str:
    if suffix == ".mkv" and (info.lossless or layout.kind != "yuv"):
        return "ffv1"
    if alpha and suffix in (".mov", ".mkv"):
        return "prores4444"
    if suffix == ".webm":
        return "vp9" if info.bit_depth == 8 else "av1"
    return "hevc" if info.bit_depth > 8 or info.codec == "hevc" else "h264"


def _check(name: str, info: VideoInfo, suffix: str, alpha: bool, formats: Formats) -> None:
    """Refuses what cannot be, and says what can."""
    if name == "y4m":
        if formats.codec or formats.crf is not None or formats.encoder_args:
            raise ConfigError(f"output {PIPE} is uncompressed Y4M; leave out codec, crf and encoder arguments")
    elif suffix not in CODECS[name].suffixes:
        others = ", ".join(codecs_for(suffix))
        raise ConfigError(
            f"{suffix} does not hold {name}; name the output {' or '.join(CODECS[name].suffixes)}, or choose one of "
            f"{others}"
        )
    if alpha and not CODECS[name].alpha:
        holders = codecs_for(suffix, alpha=True)
        way = f"choose {' or '.join(holders)}" if holders else "write .mov, .mkv, or a .png, .tif or .exr sequence"
        holder = f"{name} in {suffix}" if suffix else "Y4M"
        raise ConfigError(f"{info.path} has alpha, which {holder} does not hold; {way}, or drop it with --no-alpha")
    if formats.crf is not None:
        check_crf(name, formats.crf)


def formats_of(name: str) -> list[str]:
    """Pixel formats that are written with a codec."""
    codec, found = CODECS[name], []
    for alpha in ("", "a") if codec.alpha else ("",):
        for sampling in codec.sampling:
            for depth in codec.depths:
                found.append(_format_name(sampling, depth, alpha))
    known = {f.name for f in av.Codec(codec.encoder, "w").video_formats or ()} or set(found)
    return [pix_fmt for pix_fmt in found if pix_fmt in known]


def named_format(name: str, pix_fmt: str, size: tuple[int, int], alpha: bool) -> str:
    """The pixel format that is asked for, its byte order added; ConfigError if it does not go with the rest."""
    allowed = formats_of(name)
    chosen = pix_fmt if pix_fmt in allowed else f"{pix_fmt}le"
    layout = pixel_layout(chosen)
    if chosen not in allowed or layout is None:
        raise ConfigError(f"pixel format {pix_fmt} is not written with {name}; choose one of {', '.join(allowed)}")
    if alpha and not has_alpha(chosen):
        with_alpha = ", ".join(one for one in allowed if has_alpha(one))
        raise ConfigError(f"pixel format {pix_fmt} has no alpha, the input has; choose {with_alpha}, or --no-alpha")
    if layout.factors != (1, 1) and not CODECS[name].odd and (size[0] % 2 or size[1] % 2):
        raise ConfigError(f"{name} takes {pix_fmt} in even sizes only, not {size[1]}x{size[0]}; choose a yuv444p one")
    return chosen


def _format(name: str, layout: PixelLayout, size: tuple[int, int], alpha: bool) -> str:
    """The one that keeps most of the input's."""
    codec = CODECS[name]
    sampling = _SUBSAMPLING[layout.factors] if layout.kind == "yuv" else "rgb"
    if len(codec.sampling) == 1:
        (sampling,) = codec.sampling
    elif sampling not in codec.sampling:
        sampling = "420" if sampling == "rgb" and name != "y4m" else "444"
    if sampling in ("420", "422") and not codec.odd and (size[0] % 2 or size[1] % 2):
        sampling = "444"
    allowed = formats_of(name)
    named = {depth: _format_name(sampling, depth, "a" if alpha else "") for depth in codec.depths}
    depths = [depth for depth in codec.depths if named[depth] in allowed]
    depth = min((depth for depth in depths if depth >= layout.depth), default=depths[-1])
    if depth < layout.depth:
        log.warning("%d bits of the input become %d: %s holds no more", layout.depth, depth, name)
    return named[depth]


def _format_name(sampling: str, depth: int, alpha: str) -> str:
    ending = f"{depth}le" if depth > 8 else ""
    if sampling != "rgb":
        return f"yuv{alpha}{sampling}p{ending}"
    return f"gbr{alpha}p{ending}" if depth > 8 else f"bgr{alpha or '0'}"


def _all_options(name: str, info: VideoInfo, color: ColorTags, formats: Formats) -> dict[str, str]:
    """The codec's own settings, and over them those that are asked for."""
    codec = CODECS[name]
    options = dict(codec_options(codec.encoder, info, color))
    if name == "prores4444":
        options["profile"] = "4444"
    if formats.crf is not None:
        options["crf"] = str(formats.crf)
    arguments = formats.arguments()
    unknown = _unknown(name, arguments)
    if unknown and codec.params is None:
        raise ConfigError(f"encoder argument {unknown[0]!r} is not known to {codec.encoder} ({name}); leave it out")
    for key in unknown:
        options[str(codec.params)] = ":".join(filter(None, (options.get(str(codec.params)), f"{key}={arguments[key]}")))
    return options | {key: value for key, value in arguments.items() if key not in unknown}


def _slices(pix_fmt: str, size: tuple[int, int], formats: Formats) -> dict[str, str]:
    """Into how many slices FFV1 cuts a picture of that size; libav's encoder cannot do every size with every number."""
    asked = formats.arguments()
    if "slices" in asked or "level" in asked:
        return {}
    for count in _SLICE_COUNTS:
        options = {"level": "3", "slices": count}
        try:
            _opened("ffv1", pix_fmt, size, options)
            return options
        except (av.error.FFmpegError, ValueError):
            continue
    return {"level": "1", "slices": "0", "slicecrc": "0", "threads": "1"}  # without slices and checksums: any size


def _opened(encoder: str, pix_fmt: str, size: tuple[int, int], options: dict[str, str]) -> dict[str, str]:
    """Opens an encoder; returns the options that it does not know."""
    context = av.CodecContext.create(encoder, "w")
    context.height, context.width = size
    context.pix_fmt, context.time_base = pix_fmt, Fraction(1, 25)
    context.options = options
    context.open()
    return dict(context.options)


def _unknown(name: str, arguments: dict[str, str]) -> list[str]:
    """Those of the arguments that libav's encoder does not take itself."""
    if not arguments:
        return []
    codec = CODECS[name]
    options = _QUIET.get(codec.encoder, {}) | arguments
    try:
        with _listening():
            left = _opened(codec.encoder, formats_of(name)[0], (_TRIAL, _TRIAL), options)
    except (av.error.FFmpegError, ValueError) as error:
        raise ConfigError(f"encoder arguments are refused by {codec.encoder} ({name}): {_told(error)}") from error
    return [key for key in left if key in arguments]


def _try_out(encoding: Encoding, size: tuple[int, int], info: VideoInfo) -> None:
    """Encodes some gray frames: a setting that the encoder does not take must not be found hours later.

    Raises:
        ConfigError: with what the encoder says.
    """
    height, width = (side if side <= _TRIAL else _TRIAL + side % 2 for side in size)
    gray = np.full((3, height, width), 0.5, np.float32)
    try:
        with tempfile.TemporaryDirectory(prefix="vrestore-") as folder, _listening() as told:
            with SegmentWriter(Path(folder) / "trial", (height, width), encoding, info) as writer:
                for number in range(_TRIAL_FRAMES):
                    writer.write(gray, number * max(1, round(1 / info.fps / info.time_base)))
            ignored = [line.strip() for _, _, line in told if _IGNORED.search(line)]
    except OutputError as error:
        if getattr(error.__cause__, "errno", None) in _FULL:  # the fault of the temporary folder, not of the settings
            raise
        raise ConfigError(f"{encoding.codec} refuses its settings: {_told(error.__cause__ or error)}") from error
    if ignored:
        raise ConfigError(f"{encoding.codec} does not take an encoder argument: {ignored[0]}")


@contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """What libav and its encoders say inside the block."""
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as told:
            yield told
    finally:
        av.logging.set_level(None)


def _told(error: BaseException) -> str:
    """What the encoder itself says went wrong, if it does."""
    last = getattr(error, "log", None)
    return str(last[2]).strip() if last else reason(error)
