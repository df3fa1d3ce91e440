"""A film of two shots, a head with small windows, and how a run is broken off."""

from types import SimpleNamespace

import numpy as np
import pytest

from vrestore import engine
from vrestore.priors.embedded import EmbeddedPrior
from vrestore.tasks.super_resolution import SuperResolution

SIZE = (24, 32)


@pytest.fixture
def shots(clips):
    """A bright shot and a dark one: a cut that shows also at this size."""
    return clips.scene(9, SIZE, seed=1) // 2 + 127, clips.scene(13, SIZE, seed=2) // 4


@pytest.fixture
def film(clips, shots, tmp_path):
    """Two shots with sound."""
    return clips.write(tmp_path / "film.mkv", np.concatenate(shots), audio=True)


@pytest.fixture
def head(tiny_prior):
    """head(setting=...) -> a task on the tiny prior: small windows, twice the size."""
    defaults = {"scale": 2, "window": 5, "overlap": 2, "prior": str(tiny_prior), "device": "cpu", "dtype": "float32"}
    return lambda **settings: SuperResolution(**defaults | settings)


@pytest.fixture
def small_segments(monkeypatch):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 4)


@pytest.fixture
def watched(monkeypatch):
    """Counts windows predicted (calls), and calls of the network."""
    seen = SimpleNamespace(calls=0)
    original = EmbeddedPrior.predict

    def predict(self, latents, times, conditioning, attend=None):
        seen.calls += latents.shape[0]
        return original(self, latents, times, conditioning, attend)

    monkeypatch.setattr(EmbeddedPrior, "predict", predict)
    return seen


@pytest.fixture
def interrupt_after():
    """interrupt_after(frames) -> a callback that breaks a run off once so many frames are done, as Ctrl-C does."""

    def after(frames):
        def progress(now):
            if now.done >= frames:
                raise KeyboardInterrupt

        return progress

    return after


@pytest.fixture
def left_over():
    """left_over(folder) -> what lies there beside the film."""
    return lambda folder: sorted(path.name for path in folder.iterdir() if path.name != "film.mkv")
