"""Between coded R'G'B' and linear light: IEC 61966-2-1 (sRGB), ITU-R BT.709 / BT.601 / BT.2020, pure powers.

All curves are odd and go on beyond 1, so that what lies outside of [0, 1] comes back too.
"""

import numpy as np

from vrestore.errors import ConfigError
from vrestore.video.info import Rgb, VideoInfo
from vrestore.video.planes import pixel_layout

CAMERA, GAMMA22, GAMMA28, LINEAR, SRGB = 1, 4, 5, 8, 13
"""Transfer codes of H.273, table 3."""
_LIKE_CAMERA = (1, 6, 14, 15)
_UNSPECIFIED = 2
_POWERS = {GAMMA22: 2.2, GAMMA28: 2.8}


def transfer_of(info: VideoInfo) -> int:
    """The curve by which an input's samples are brought to linear light.

    As tagged; untagged Y'CbCr is BT.709, untagged R'G'B' (pictures) and what was read from linear light is sRGB.

    Raises:
        ConfigError: a curve that is not handled (PQ, HLG: their light is not relative to a white).
    """
    if info.linear:
        return SRGB
    tag = info.color.transfer
    if tag == _UNSPECIFIED:
        layout = pixel_layout(info.pix_fmt)
        return CAMERA if layout is not None and layout.kind == "yuv" else SRGB
    if tag in _LIKE_CAMERA:
        return CAMERA
    if tag not in (GAMMA22, GAMMA28, LINEAR, SRGB):
        raise ConfigError(
            f"{info.path} has the transfer curve {tag} (H.273; 16 is PQ, 18 is HLG), which is not brought to linear "
            "light; write .png, .tif or a video instead of .exr"
        )
    return tag


def from_linear(light: Rgb) -> Rgb:
    """Linear light, coded by the sRGB curve."""
    size = np.abs(light)
    curved = np.float32(1.055) * np.power(size, np.float32(1 / 2.4)) - np.float32(0.055)
    coded: Rgb = np.copysign(np.where(size <= 0.0031308, np.float32(12.92) * size, curved), light)
    return coded


def to_linear(coded: Rgb, transfer: int) -> Rgb:
    """Linear light of samples that are coded by a curve which `transfer_of` gives."""
    if transfer == LINEAR:
        return coded
    size = np.abs(coded)
    if transfer in _POWERS:
        light = np.power(size, np.float32(_POWERS[transfer]))
    elif transfer == SRGB:
        curved = np.power((size + np.float32(0.055)) / np.float32(1.055), np.float32(2.4))
        light = np.where(size <= 0.04045, size / np.float32(12.92), curved)
    else:
        curved = np.power((size + np.float32(0.099)) / np.float32(1.099), np.float32(1 / 0.45))
        light = np.where(size < 0.081, size / np.float32(4.5), curved)
    signed: Rgb = np.copysign(light, coded)
    return signed
