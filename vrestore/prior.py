"""What the engine needs of a diffusion model: a few calls, and the facts that decide how it may be used."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from vrestore.sampling import Ladder
from vrestore.shapes import Frame, Frames, Latent, Latents, Times, Windows

Conditioning = Mapping[str, Tensor]
"""What enters a prior beside latents, by name. Of one frame: without leading axes; in a call: (batch, time, ...)."""


@dataclass(frozen=True, kw_only=True)
class PriorFacts:
    """What is known of a prior before it is loaded or run."""

    name: str
    licence: str
    window: int
    """Frames that it was trained on together."""
    per_frame_levels: bool
    """Whether frames of one call may stand at different levels."""
    latent_channels: int
    spatial_factor: int
    """Pixels along one side of a latent pixel."""
    temporal_factor: int
    """Frames per latent frame."""
    size_multiple: int
    """Frames are padded so that both sides are multiples of this."""
    conditionings: frozenset[str]
    """Names of the conditionings that `Prior.predict` takes. The engine itself gives ``source``, the frame as it was
    decoded, padded, and ``noise``, normal noise of a latent's shape that belongs to the frame."""
    call_bytes: int
    """Working memory of `Prior.predict` per latent pixel and frame, in bytes, its gathered inputs included."""
    frame_bytes: int
    """Working memory per latent pixel of whatever handles a single frame whole: `encode`, `decode`, `conditions`."""
    bank_bytes: int = 0
    """Keys and values of a frame at a level that other windows look at, per latent pixel, in bytes."""
    frame_tile: int | None = None
    """Side in latent pixels beyond which those cut a frame into tiles; None: they never do."""
    together: int | None = None
    """Frames of a call that are worked on at once; None: all of them."""
    scale: int | None = None
    """How many times larger than the source the output must be; None: anything goes."""
    reach: int = 1
    """Frames before it, in the same shot, that the conditioning of a frame depends on."""
    group: int = 1
    """Frames that `conditions` looks at together, counted from the start of the shot: it begins with a whole group."""
    ahead: int = 1
    """Frames after it that `conditions` reads before it answers for a frame, where they belong to the shot."""
    told_bytes: int = 0
    """What `conditions` says of a frame beside latents and motion of their size, per latent pixel, in bytes."""
    usual_steps: int = 1
    """Sampling steps that it is made to be run with: as many are taken where no number is asked for."""
    most_steps: int | None = None
    """Sampling steps that it can be run with; None: any number."""
    usual_size: tuple[int, int] | None = None
    """(height, width) of the pictures that it is made for, where it says so."""
    usual_fps: int = 24
    """Frames per second that what it makes anew is meant to be shown at."""


@runtime_checkable
class Prior(Protocol):
    """A pretrained diffusion model behind one protocol."""

    facts: PriorFacts
    device: torch.device

    def ladder(self, steps: int) -> Ladder:
        """What the levels ``steps`` .. 0 mean to this prior."""
        ...

    def encode(self, frames: Frames) -> Latents:
        """Frames in [0, 1], sides multiples of ``facts.size_multiple``, to latents."""
        ...

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """Latents to frames, about [0, 1].

        ``conditioning``, stacked to (time, ...): what `conditions` gave, and what `surroundings` made of it.
        """
        ...

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """What `decode` wants to know of a frame's neighbours in the shot, from their conditioning.

        It is asked for when the frame is decoded: what is as large as the output need not be held until then.
        """
        ...

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """The conditioning of every degraded frame of a shot, in order, reading ``facts.ahead`` frames ahead.

        Always holds ``degraded``, the frame itself, and ``degraded_latents``, its latent. The engine holds ``degraded``
        in half precision for `predict` and `surroundings`; `decode` gets the frame as it was.
        """
        ...

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """The clean latents that the prior expects behind ``latents`` at ``times``."""
        ...


MadeOf = Literal["words", "picture"]


@runtime_checkable
class Generative(Prior, Protocol):
    """A prior that makes frames anew, out of words or of a picture: the optional part of the protocol."""

    made_of: ClassVar[MadeOf]
    """What it must be given; known before it is loaded."""

    def told(self, texts: Sequence[str], picture: Frame | None, seed: int) -> list[dict[str, Tensor]]:
        """The conditioning of a latent frame for each text. What is ``made_of`` a picture has the same for all.

        ``picture``: (3, height, width) in [0, 1], padded; ``seed``: of the noise that it gets, if any.
        """
        ...


@runtime_checkable
class Streams(Prior, Protocol):
    """A prior whose latents mean something only after those before them, as of a causal video autoencoder."""

    def decoder(self) -> Callable[[Latent], Frames]:
        """What turns the latents of a video, given one after the other from the first on, into their frames."""
        ...
