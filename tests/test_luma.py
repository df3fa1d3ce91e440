"""PSNR of luma in tensors agrees with that of pictures."""

import numpy as np
import pytest
import torch

from vrestore import metrics
from vrestore.luma import psnr_y


def test_it_is_the_measure_of_the_comparison():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (24, 20, 3), np.uint8) for _ in range(2))
    frames = [torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in (first, second)]
    assert psnr_y(*frames) == pytest.approx(metrics.psnr_y(first, second), abs=0.01)
    assert psnr_y(*frames, 4) == pytest.approx(metrics.psnr_y(first, second, 4), abs=0.01)


def test_equal_frames_have_a_hundred_and_clips_the_mean():
    clip = torch.rand(3, 3, 8, 8)
    assert psnr_y(clip, clip) == 100
    other = clip.clone()
    other[1:] = 1 - other[1:]
    assert psnr_y(clip, other) == pytest.approx((100 + psnr_y(clip[1], other[1]) + psnr_y(clip[2], other[2])) / 3)
