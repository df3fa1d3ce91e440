"""Detail given back: bands as strong as in natural pictures, and no more than that."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d

from vrestore import detail
from vrestore.detail import MOST_GAIN, NATURAL, with_detail
from vrestore.errors import ConfigError
from vrestore.luma import luma


def noise(seed=0, size=(96, 128), blur=0.0, power=0.0):
    """Of an amplitude that falls with that power of the frequency, then blurred; a deviation of .1 about .5."""
    frame = torch.randn(3, *size, generator=torch.Generator().manual_seed(seed))
    if power:
        rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
        frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / max(size))
        frame = torch.fft.irfft2(torch.fft.rfft2(frame) / frequency**power, s=size)
    frame = 0.5 + 0.1 * frame / frame.std(correction=0).clamp(min=1e-6)
    if blur > 0.1:
        side = 2 * round(3 * blur) + 1
        frame = gaussian_blur2d(frame[None], (side, side), (blur, blur))[0]
    return frame


def deviations(frame):
    return [float(luma(band).std(correction=0)) for band in detail._bands(frame)]


def ratios(frame):
    found = deviations(frame)
    return found[0] / found[1], found[1] / found[2]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(0, 1), st.floats(0, 3), st.integers(1, 40), st.integers(1, 40))
def test_what_is_added_grows_with_the_share_in_proportion(seed, share, blur, height, width):
    frame = noise(seed, (height + 16, width + 16), blur)
    whole, part = (with_detail(frame, s) - frame for s in (1.0, share))
    torch.testing.assert_close(part, share * whole, atol=1e-5, rtol=1e-3)
    assert torch.equal(with_detail(frame, 0.0), frame)


def test_bands_come_to_what_natural_pictures_have():
    """A picture whose two finest bands are too weak, by less than the largest gain: band by band it gets there."""
    frame = noise(power=1.0, blur=1.3)
    assert all(found < natural for found, natural in zip(ratios(frame), NATURAL, strict=True))
    gains = detail._gains(deviations(frame))
    assert all(1 < gain < MOST_GAIN for gain in gains)
    bands, raised = deviations(frame), [gain * band for gain, band in zip(gains, deviations(frame), strict=False)]
    assert raised[1] == pytest.approx(NATURAL[1] * bands[2])
    assert raised[0] == pytest.approx(NATURAL[0] * raised[1])
    halfway, there = (ratios(with_detail(frame, share)) for share in (0.5, 1.0))
    assert all(a < b < c for a, b, c in zip(ratios(frame), halfway, there, strict=True))


def test_a_sharp_picture_stays_as_it_is():
    frame = noise()
    assert all(found > natural for found, natural in zip(ratios(frame), NATURAL, strict=True))
    assert torch.equal(with_detail(frame, 1.0), frame)


def test_what_is_hardly_there_is_not_raised_for_ever():
    frame = noise(power=1.0, blur=5.0)
    bands = detail._bands(frame)
    most = (MOST_GAIN - 1) * (bands[0].abs() + bands[1].abs())
    assert ((with_detail(frame, 1.0) - frame).abs() <= most + 1e-6).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 64)])
def test_flat_and_tiny_pictures_stay(size):
    flat = torch.full((3, *size), 0.5)
    torch.testing.assert_close(with_detail(flat, 1.0), flat)
    assert with_detail(noise(size=size), 1.0).isfinite().all()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ConfigError, match="detail is"):
        with_detail(noise(), share)
