"""Known degradations y = A(x) + n: resize and blur with their exact adjoints, noise, and the codec.

They make training pairs, tell a restored frame from its input (consistency), and project onto what the input allows.
"""

import io
from collections.abc import Sequence

import av
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vrestore.bicubic import BICUBIC, Kernel, taps
from vrestore.errors import ConfigError

BLOCK = 64
"""Outputs of a resampled axis that one product of matrices makes."""

Pictures = Float[Tensor, "*batch height width"]
Resized = Float[Tensor, "*batch new_height new_width"]


class _Axis:
    """Resampling of one axis as a banded matrix, kept in blocks of outputs with the inputs that they reach."""

    def __init__(self, n_in: int, n_out: int, kernel: Kernel) -> None:
        folded, weight = taps(n_in, n_out, kernel)
        self._n_in = n_in
        self._blocks = [_block(folded[at : at + BLOCK], weight[at : at + BLOCK], at) for at in range(0, n_out, BLOCK)]

    def apply(self, x: Tensor, dim: int) -> Tensor:
        """Resample dimension -1 or -2."""
        parts = []
        for _, low, matrix in self._blocks:
            part, m = x.narrow(dim, low, len(matrix)), matrix.to(x)
            parts.append(part @ m if dim == -1 else m.T @ part)
        return torch.cat(parts, dim)

    def adjoint(self, y: Tensor, dim: int) -> Tensor:
        """The transposed matrix on dimension -1 or -2."""
        shape = list(y.shape)
        shape[dim] = self._n_in
        out = y.new_zeros(shape)
        for at, low, matrix in self._blocks:
            part, m = y.narrow(dim, at, matrix.shape[1]), matrix.to(y)
            out.narrow(dim, low, len(matrix)).add_(part @ m.T if dim == -1 else m @ part)
        return out


def _block(reached: np.ndarray, weight: np.ndarray, at: int) -> tuple[int, int, Tensor]:
    """First output, first input and matrix (inputs, outputs) of a block of outputs."""
    low = int(reached.min())
    matrix = np.zeros((int(reached.max()) - low + 1, len(reached)))
    np.add.at(matrix, (reached - low, np.arange(len(reached))[:, None]), weight)
    return at, low, torch.from_numpy(matrix).float()


class Resize:
    """Antialiased resampling and its adjoint; bicubic is the protocol of super-resolution benchmarks ("BI").

    Sizes are (height, width). Pixel centres align at the picture's edges, which are mirrored.
    """

    def __init__(self, size: tuple[int, int], to: tuple[int, int], kernel: Kernel = BICUBIC) -> None:
        if min(*size, *to) < 1:
            raise ConfigError(f"cannot resize {size} to {to}: every side must be at least 1 pixel")
        self._y, self._x = (_Axis(old, new, kernel) for old, new in zip(size, to, strict=True))

    def apply(self, x: Pictures) -> Resized:
        """A x."""
        return self._x.apply(self._y.apply(x, -2), -1)

    def adjoint(self, y: Resized) -> Pictures:
        """A^T y, with <A x, y> = <x, A^T y>."""
        return self._y.adjoint(self._x.adjoint(y, -1), -2)


class Blur:
    """Convolution with an odd-sized kernel over mirrored edges (without repeating the edge), and its adjoint."""

    def __init__(self, kernel: Float[Tensor, "k k"]) -> None:
        if kernel.shape[0] % 2 == 0:
            raise ConfigError(f"blur kernel of {kernel.shape[0]} taps; give an odd number, so that it has a centre")
        self._kernel = kernel
        self._pad = kernel.shape[0] // 2

    def apply(self, x: Float[Tensor, "time 3 height width"]) -> Float[Tensor, "time 3 height width"]:
        """A x."""
        padded = F.pad(x, [self._pad] * 4, mode="reflect")
        return F.conv2d(padded, self._kernel.to(x).flip(0, 1).expand(3, 1, -1, -1), groups=3)

    def adjoint(self, y: Float[Tensor, "time 3 height width"]) -> Float[Tensor, "time 3 height width"]:
        """A^T y: correlate, then fold the mirrored margins back."""
        with torch.enable_grad():  # A is linear: its adjoint is the derivative of <A x, y>
            x = torch.zeros_like(y, requires_grad=True)
            (gradient,) = torch.autograd.grad((self.apply(x) * y).sum(), x)
        return gradient


def gaussian_kernel(sigma_x: float, sigma_y: float, angle: float = 0.0, radius: int = 10) -> Float[Tensor, "k k"]:
    """A normalised anisotropic Gaussian; sigmas in pixels, ``angle`` in radians."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    kernel = np.exp(-(u**2) / (2 * sigma_x**2) - v**2 / (2 * sigma_y**2))
    return torch.from_numpy(kernel / kernel.sum()).float()


def add_noise(frames: Tensor, read: float, shot: float, generator: torch.Generator) -> Tensor:
    """Sensor noise on frames in [0, 1]: variance ``read``^2 + ``shot`` * signal, both in 8-bit levels; not clamped."""
    variance = read**2 + shot * 255 * frames.clamp(0, 1)
    return frames + torch.randn(frames.shape, generator=generator) * variance.sqrt() / 255


def to_uint8(frames: Tensor) -> Tensor:
    """Frames in [0, 1], clamped and rounded to 8 bits."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


def through_h264(frames: Sequence[np.ndarray], crf: int) -> list[np.ndarray]:
    """8-bit RGB frames (height, width, 3) as they come back from H.264, yuv420p, at constant rate factor ``crf``."""
    if not 0 <= crf <= 51:
        raise ConfigError(f"crf {crf}; H.264 takes 0 (lossless) to 51")
    memory = io.BytesIO()
    # libx264's code for AVX-512 reads memory that nothing was written to, and that for AVX2 gives other bits than plain
    # C does: here, where no film is long, the same bits everywhere are worth its time
    options = {"crf": str(crf), "preset": "medium", "threads": "1", "x264-params": "asm=0"}
    with av.open(memory, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=24, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
