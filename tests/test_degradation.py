"""Known degradations: exact adjoints, constants, noise as stated, and the codec; and the padding of frames."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.degradation import Blur, Resize, add_noise, gaussian_kernel, through_h264, to_uint8
from vrestore.errors import ConfigError
from vrestore.padding import pad_to, padded_size, unpad

sides = st.integers(1, 21)


def inner(a, b):
    return float((a.double() * b.double()).sum())


# ---------------------------------------------------------------- resize


@settings(max_examples=25, deadline=None)
@given(size=st.tuples(sides, sides), to=st.tuples(sides, sides), seed=st.integers(0, 99))
def test_the_adjoint_of_a_resize_is_exact(size, to, seed):
    generator = torch.Generator().manual_seed(seed)
    resize = Resize(size, to)
    x = torch.randn(2, *size, generator=generator, dtype=torch.float64)
    y = torch.randn(2, *to, generator=generator, dtype=torch.float64)
    scale = math.sqrt(inner(x, x) * inner(y, y))
    assert abs(inner(resize.apply(x), y) - inner(x, resize.adjoint(y))) <= 1e-10 * scale


@settings(max_examples=25, deadline=None)
@given(size=st.tuples(sides, sides), to=st.tuples(sides, sides))
def test_a_constant_stays_constant_when_resized(size, to):
    resized = Resize(size, to).apply(torch.full((3, *size), 0.4))
    assert resized.shape == (3, *to)
    assert torch.allclose(resized, torch.tensor(0.4), atol=1e-6)


def test_a_resize_to_the_same_size_changes_nothing():
    x = torch.rand(3, 7, 9)
    assert torch.equal(Resize((7, 9), (7, 9)).apply(x), x)


def test_a_ramp_stays_a_ramp():
    """Cubic convolution reproduces straight lines away from the edges (Keys, 1981)."""
    ramp = torch.arange(32.0).expand(1, 4, 32)
    enlarged = Resize((4, 32), (4, 128)).apply(ramp)[0, 0]
    expected = (torch.arange(128.0) + 0.5) / 4 - 0.5
    assert torch.allclose(enlarged[16:-16], expected[16:-16], atol=1e-4)


def test_a_resize_mirrors_as_the_picture_does():
    x = torch.rand(3, 12, 20)
    resize = Resize((12, 20), (5, 33))
    assert torch.allclose(resize.apply(x.flip(-1)), resize.apply(x).flip(-1), atol=1e-6)


def test_known_weights_of_a_reduction_by_two():
    """A spike spreads as Keys' kernel of twice the width, sampled at its odd quarters."""
    x = torch.zeros(1, 1, 32)
    x[0, 0, 16] = 1
    reduced = Resize((1, 32), (1, 16)).apply(x)[0, 0]
    near = [1.5 * a**3 - 2.5 * a**2 + 1 for a in (0.25, 0.75)]
    far = [-0.5 * a**3 + 2.5 * a**2 - 4 * a + 2 for a in (1.25, 1.75)]
    expected = [far[1], near[1], near[0], far[0]]
    assert reduced[6:10].tolist() == pytest.approx([v / 2 for v in expected], abs=1e-6)


@pytest.mark.parametrize(("size", "to"), [((0, 4), (2, 2)), ((4, 4), (2, 0))])
def test_sizes_without_pixels(size, to):
    with pytest.raises(ConfigError, match="at least 1 pixel"):
        Resize(size, to)


# ---------------------------------------------------------------- blur


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    radius=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_the_adjoint_of_a_blur_is_exact(size, radius, seed):
    generator = torch.Generator().manual_seed(seed)
    blur = Blur(torch.rand(2 * radius + 1, 2 * radius + 1, generator=generator))
    x, y = (torch.randn(2, 3, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    scale = math.sqrt(inner(x, x) * inner(y, y))
    assert abs(inner(blur.apply(x), y) - inner(x, blur.adjoint(y))) <= 1e-6 * scale


@pytest.mark.parametrize("sigmas", [(0.5, 0.5), (2.0, 0.7), (3.0, 3.0)])
def test_a_gaussian_blur_keeps_constants_and_energy(sigmas):
    kernel = gaussian_kernel(*sigmas, angle=0.3)
    assert kernel.shape == (21, 21)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    blurred = Blur(kernel).apply(torch.full((1, 3, 24, 24), 0.7))
    assert torch.allclose(blurred, torch.tensor(0.7), atol=1e-5)


def test_a_blur_convolves():
    """It answers a spike with the kernel itself, not with the kernel turned round."""
    kernel = torch.arange(9.0).view(3, 3)
    x = torch.zeros(1, 3, 7, 7)
    x[:, :, 3, 3] = 1
    assert torch.equal(Blur(kernel).apply(x)[0, 0, 2:5, 2:5], kernel)


def test_a_gaussian_turns_with_its_angle():
    lying, standing = gaussian_kernel(3.0, 1.0), gaussian_kernel(3.0, 1.0, angle=math.pi / 2)
    assert torch.allclose(lying.T, standing, atol=1e-6)
    assert lying[10, 13] > lying[13, 10]


def test_a_kernel_without_centre():
    with pytest.raises(ConfigError, match="odd number"):
        Blur(torch.ones(4, 4))


# ---------------------------------------------------------------- noise and codec


@pytest.mark.parametrize(("read", "shot"), [(5.0, 0.0), (0.0, 0.5), (3.0, 0.2)])
@pytest.mark.parametrize("signal", [0.2, 0.8])
def test_noise_has_the_stated_variance(read, shot, signal):
    frames = torch.full((4, 3, 64, 64), signal)
    noise = (add_noise(frames, read, shot, torch.Generator().manual_seed(0)) - frames) * 255
    assert float(noise.var()) == pytest.approx(read**2 + shot * 255 * signal, rel=0.04)  # 49,152 samples: 0.6 %
    assert abs(float(noise.mean())) < 5 * math.sqrt(float(noise.var()) / noise.numel())


def test_noise_belongs_to_its_generator():
    frames = torch.rand(2, 3, 8, 8)
    one, two = (add_noise(frames, 2.0, 0.1, torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(one, two)


def test_eight_bits():
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize("crf", [18, 40])
def test_h264_keeps_count_and_size(clips, crf):
    frames = list(clips.scene(7, (48, 64)))
    coded = through_h264(frames, crf)
    assert [f.shape for f in coded] == [(48, 64, 3)] * 7
    assert all(f.dtype == np.uint8 for f in coded)


def test_a_higher_rate_factor_loses_more(clips):
    frames = list(clips.scene(4, (48, 64)))
    errors = [np.abs(np.stack(through_h264(frames, crf)).astype(int) - np.stack(frames)).mean() for crf in (10, 45)]
    assert errors[0] < errors[1]


def test_h264_gives_the_same_frames_again():
    """Of so many, some differed where libx264 ran its code for AVX-512."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        frames = [rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(6)]
        np.testing.assert_array_equal(through_h264(frames, 26), through_h264(frames, 26))


@pytest.mark.parametrize("crf", [-1, 52])
def test_a_rate_factor_that_h264_has_not(crf):
    with pytest.raises(ConfigError, match=f"crf {crf}"):
        through_h264([np.zeros((16, 16, 3), np.uint8)], crf)


# ---------------------------------------------------------------- padding


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.sampled_from([1, 8, 16]))
def test_padding_is_taken_back_exactly(height, width, multiple):
    frame = torch.rand(3, height, width)
    padded = pad_to(frame, multiple)
    assert tuple(padded.shape[1:]) == padded_size((height, width), multiple)
    assert all(side % multiple == 0 for side in padded.shape[1:])
    assert torch.equal(unpad(padded, (height, width)), frame)
    assert set(padded.unique().tolist()) == set(frame.unique().tolist())


def test_padding_mirrors_without_repeating_the_edge():
    frame = torch.arange(3.0).expand(3, 1, 3)
    assert pad_to(frame, 8)[0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
