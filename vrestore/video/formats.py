"""What can be asked of reading and writing: codec, quality, pixel format, alpha, rate; and what each codec can do."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from vrestore.errors import ConfigError

CodecName = Literal["h264", "hevc", "hevc10", "av1", "vp9", "prores", "prores4444", "ffv1"]
DEFAULT_FPS = Fraction(24)
"""Of an image sequence, which has no rate of its own."""
PIPE = "-"
"""As an input stdin, as an output Y4M on stdout."""
_MP4, _MOV, _MKV, _WEBM = (".mp4", ".m4v"), (".mov",), (".mkv",), (".webm",)


@dataclass(frozen=True)
class Codec:
    """What an encoder takes and where its stream may lie."""

    encoder: str
    """libav's name."""
    suffixes: tuple[str, ...]
    sampling: tuple[str, ...]
    """Chroma samplings, "rgb" where R'G'B' is coded as such."""
    depths: tuple[int, ...]
    most_crf: int | None = None
    """Largest constant rate factor; ``None`` where quality is not chosen that way."""
    alpha: bool = False
    odd: bool = True
    """Whether subsampled chroma goes with odd sizes."""
    params: str | None = None
    """The option through which an encoder's own settings go, ``name=value`` joined by colons."""


_YUV = ("420", "422", "444")
_ALL = ("410", "411", "420", "422", "440", "444", "rgb")
CODECS: dict[str, Codec] = {
    "h264": Codec("libx264", _MP4 + _MOV + _MKV, _YUV, (8, 10), 51, odd=False, params="x264-params"),
    "hevc": Codec("libx265", _MP4 + _MOV + _MKV, _YUV, (8, 10, 12), 51, odd=False, params="x265-params"),
    "hevc10": Codec("libx265", _MP4 + _MOV + _MKV, _YUV, (10,), 51, odd=False, params="x265-params"),
    "av1": Codec("libsvtav1", _MP4 + _MKV + _WEBM, ("420",), (10,), 63, params="svtav1-params"),
    "vp9": Codec("libvpx-vp9", _MP4 + _MKV + _WEBM, _YUV, (8,), 63, odd=False),
    "prores": Codec("prores_ks", _MOV + _MKV, ("422",), (10,)),
    "prores4444": Codec("prores_ks", _MOV + _MKV, ("444",), (10,), alpha=True),
    "ffv1": Codec("ffv1", _MKV, _ALL, (8, 10, 12, 14, 16), alpha=True),
    "y4m": Codec("rawvideo", (), _YUV, (8, 10, 12, 14, 16)),
}
"""By the name that users give. ``y4m`` is what a pipe gets and cannot be asked for."""


@dataclass(frozen=True, kw_only=True)
class Formats:
    """How files are read and written. What is not given follows from the input and the output's name."""

    codec: Annotated[
        CodecName | None,
        "Video codec. None: lossless stays lossless in .mkv (ffv1); else h264 for 8 bits, hevc for more; in .webm vp9 "
        "or av1. hevc has the input's depth, hevc10 and prores (422 HQ) have 10 bits.",
    ] = None
    crf: Annotated[
        int | None, "Constant rate factor: lower is better and larger. h264, hevc: 0 to 51; av1, vp9: 0 to 63."
    ] = None
    pix_fmt: Annotated[
        str | None, "Pixel format by its libav name, such as yuv422p10le; of pictures rgb24, rgb48le, gbrpf32le ..."
    ] = None
    encoder_args: Annotated[
        str | None, "Settings of the encoder as name=value:name=value, such as preset=slow:aq-mode=3."
    ] = None
    alpha: Annotated[bool, "Carry alpha where the input has it; --no-alpha drops it."] = True
    fps: Annotated[
        str | None, f"Frames per second of an image sequence: 25, 23.976, 24000/1001. None: {DEFAULT_FPS}."
    ] = None
    input_fps: Annotated[str | None, "The same, also for heads whose own --fps is the output's rate."] = None
    first_number: Annotated[
        int | None, "Number of the first frame of an output sequence. None: as in the input, else 1."
    ] = None

    def __post_init__(self) -> None:
        """Raises ConfigError for what no input could make right."""
        if self.codec is not None and self.codec not in _asked(CODECS):
            raise ConfigError(f"codec is {self.codec!r}; give one of {', '.join(_asked(CODECS))}")
        if self.crf is not None and self.codec is not None:
            check_crf(self.codec, self.crf)
        if self.first_number is not None and self.first_number < 0:
            raise ConfigError(f"first number is {self.first_number}; give 0 or more")
        self.arguments()
        self.rate()
        self.rate(fps=False)

    def arguments(self) -> dict[str, str]:
        """Settings of the encoder by name."""
        found = {}
        for part in (self.encoder_args or "").split(":"):
            name, equals, value = part.partition("=")
            if part and not (name and equals):
                raise ConfigError(f"encoder argument {part!r} is not name=value; join several by colons")
            if part:
                found[name] = value
        return found

    def rate(self, *, fps: bool = True) -> Fraction | None:
        """Frames per second of an image sequence; ``fps``: whether that field says so, too."""
        named = {"input fps": self.input_fps, "fps": self.fps if fps else None}
        return next((rate_of(text, name) for name, text in named.items() if text is not None), None)


def rate_of(text: str, name: str = "fps") -> Fraction:
    """Frames per second from text, the usual decimals of NTSC rates (23.976, 29.97 ...) made exact.

    Raises:
        ConfigError: no number, or out of range.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{name} is {text!r}; give a number such as 25, 23.976 or 24000/1001") from error
    if not 0 < rate <= 1000:
        raise ConfigError(f"{name} is {text}; give more than 0 and at most 1000")
    ntsc = Fraction(-(-rate // 1) * 1000, 1001)
    return ntsc if "." in text and abs(rate - ntsc) < Fraction(1, 200) else rate


def check_crf(codec: str, crf: int) -> None:
    """ConfigError if the codec takes no such constant rate factor."""
    most = CODECS[codec].most_crf
    if most is None:
        named = ", ".join(name for name in _asked(CODECS) if CODECS[name].most_crf is not None)
        raise ConfigError(f"{codec} has no crf; leave it out, or choose one of {named}")
    if not 0 <= crf <= most:
        raise ConfigError(f"crf is {crf}; {codec} takes 0 to {most}")


def codecs_for(suffix: str, *, alpha: bool = False) -> list[str]:
    """Names of the codecs that a container may hold, or of those of them that hold alpha."""
    return [name for name in _asked(CODECS) if suffix in CODECS[name].suffixes and (CODECS[name].alpha or not alpha)]


def _asked(codecs: dict[str, Codec]) -> list[str]:
    return [name for name in codecs if name != "y4m"]
