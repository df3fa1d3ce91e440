"""A prior whose answers are exact: frames are a Gaussian process, so windows at any levels have a known posterior mean.

Only the plan is put to the test. Slow part (60 %, the scene) and fast part (40 %, motion), as covariances over frames.
"""

from functools import cached_property, lru_cache

import numpy as np
import torch

from vrestore.executor import weighted_mean
from vrestore.noise_sources import Independent
from vrestore.prior import PriorFacts
from vrestore.sampling import ddim_ladder
from vrestore.synthesis import synthesis

FACTS = PriorFacts(
    name="gaussian process", licence="none", window=16, per_frame_levels=True, latent_channels=4, spatial_factor=1,
    temporal_factor=1, size_multiple=1, conditionings=frozenset({"place"}), call_bytes=1, frame_bytes=1,
)  # fmt: skip


class GaussianPrior:
    """Conditioning: ``place``, the frame's position. ``bias`` is added to every prediction, as a fault of colour is."""

    facts = FACTS
    device = torch.device("cpu")

    def __init__(self, slow=30.0, fast=4.0, bias=0.0):
        self.slow, self.fast, self.bias = slow, fast, bias
        self._gain = lru_cache(maxsize=4096)(self._gain_of)

    def covariance(self, apart):
        """Of two frames."""
        apart = np.asarray(apart, float)
        nugget = 1e-6 * (apart == 0)
        return 0.6 * np.exp(-0.5 * (apart / self.slow) ** 2) + 0.4 * np.exp(-0.5 * (apart / self.fast) ** 2) + nugget

    @cached_property
    def products(self):
        """A cosine schedule."""
        return np.cos(np.linspace(0, 1, 1001)[1:] * np.pi / 2 * 0.98) ** 2

    def ladder(self, steps):
        return ddim_ladder(steps, self.products.tolist())

    def encode(self, frames):
        return frames.repeat_interleave(2, 1)[:, :4]

    def decode(self, latents, conditioning):
        return latents[:, :3]

    def conditions(self, frames):
        return ({"degraded": frame} for frame in frames)

    def surroundings(self, before, here, after):
        return {}

    def _gain_of(self, places, times):
        places = np.array(places)
        kernel = self.covariance(np.abs(places[:, None] - places))
        squared = np.array([1.0 if t == 0 else self.products[int(t)] for t in times])
        alpha = np.sqrt(squared)
        noisy = alpha[:, None] * kernel * alpha + np.diag(1 - squared + 1e-9)
        return torch.from_numpy(np.linalg.solve(noisy, alpha[:, None] * kernel).T.copy())

    def predict(self, latents, times, conditioning, attend=None):
        out = []
        for z, t, places in zip(latents, times, conditioning["place"], strict=True):
            first = int(places.min())  # stationary: only distances count
            gain = self._gain(tuple((places - first).tolist()), tuple(t.tolist()))
            out.append((gain @ z.double().flatten(1)).view(z.shape) + self.bias)
        return torch.stack(out).float()


def place(frame):
    return {"place": torch.tensor(frame)}


SHAPE = (4, 25, 30)
"""Of a latent: so many samples of the process."""


def straight(ladder, frame, z, x0, level, to):
    """The deterministic step of DDIM, in a line: thousands of them are taken here."""
    a, b, s, r = ladder.alpha[level], ladder.alpha[to], ladder.sigma[level], ladder.sigma[to]
    return b * x0 + r / s * (z - a * x0)


def sample(plan, prior, *, start=None, moves=straight, reduce=weighted_mean, batch=16, shape=SHAPE):
    """(frames, samples) that a plan draws from a prior, each pixel a sample."""
    source = Independent(0, shape, plan.levels) if start is None else start
    run = synthesis(plan, prior, source, place, moves=moves, reduce=reduce, batch=batch)
    return torch.stack([latent.flatten() for _, latent in run.run()]).numpy()


def figures(prior, x):
    """Variance, mean and worst difference of neighbours over the true one, correlation of frames some places apart."""
    apart, jump = np.corrcoef(x), (x[1:] - x[:-1]).std(1) / np.sqrt(x.var(1).mean())
    true = float(np.sqrt(2 * (1 - prior.covariance(1))))
    row = {"variance": x.var(1).mean(), "jump": jump.mean() / true, "worst": jump.max() / true}
    n = len(x)
    return row | {f"at {k}": np.mean([apart[i, i + k] for i in range(8, n - k - 8)]) for k in (8, 16, 32, 60)}


def drift(x):
    """Mean of the last sixteen frames less that of the first."""
    return float(x[-16:].mean() - x[:16].mean())
