"""Frames of any size for priors that want multiples: reflected at the bottom and right, cropped back exactly."""

import torch
from torch import Tensor

from vrestore.shapes import Frame, OutputFrame


def padded_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """(height, width) rounded up to the next multiple."""
    height, width = (-(-side // multiple) * multiple for side in size)
    return height, width


def _mirror(side: int, padded: int) -> Tensor:
    """Indices 0 .. side - 1, then back and forth between the edges without repeating them."""
    period = max(1, 2 * side - 2)
    index = torch.arange(padded) % period
    return torch.minimum(index, period - index) if side > 1 else index * 0


def pad_to(frame: Frame, multiple: int) -> OutputFrame:
    """The frame (3, height, width) with both sides padded to multiples; any size from 1 pixel on."""
    height, width = frame.shape[-2:]
    to = padded_size((height, width), multiple)
    rows, columns = _mirror(height, to[0]).to(frame.device), _mirror(width, to[1]).to(frame.device)
    return frame.index_select(-2, rows).index_select(-1, columns)


def unpad(frame: Frame, size: tuple[int, int]) -> OutputFrame:
    """The upper left (height, width) of a padded frame."""
    return frame[..., : size[0], : size[1]]
