"""What an edit wants of every frame: the prompts that hold, maps of the structure, where, and what is shown beside."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vrestore.controls import control_maps
from vrestore.errors import PriorError
from vrestore.fusion import LatentMask, Mask, Mode, composite, edited, fused, takes_source
from vrestore.masks import GLANCES, Reads, feathered, mask_of, on_latents, word_map
from vrestore.noise import noise
from vrestore.padding import pad_to, unpad
from vrestore.prior import Conditioning, Prior
from vrestore.prompts import Mixture, Timeline
from vrestore.sampling import interpolate
from vrestore.shapes import AnyFrame, Frame, Latent, OutputFrame
from vrestore.task import Scene, Seen
from vrestore.video import VideoInfo
from vrestore.video.alongside import Alongside

MASK_LEVEL = 65000
"""Level of the noise with which a text is read for a mask: beyond all that a ladder can have."""
GLANCE_STEPS = 10
"""Of the ladder on which it is read."""
MOST_SEED = 1 << 32
GAP = 4
"""Pixels between pictures side by side."""
MIXTURES = 64
"""Mixtures of prompts that are remembered: frames that have one share it."""
SIDE_BY_SIDE, MASK = "side-by-side", "mask"

Text = Float[Tensor, "tokens width"]
Bytes = UInt8[Tensor, "channels padded_height padded_width"]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An edit, as a head is asked for it."""

    prompts: Timeline
    source: str = ""
    """What the source shows."""
    controls: tuple[str, ...] = ()
    """Names of the maps, in their order."""
    given: Mapping[str, Path]
    """Maps that the user has made, by name."""
    shots: Mapping[str, Callable[[int, int], Iterator[Frame]]] = field(default_factory=dict)
    """What makes maps of a whole shot, by name, of its first frame and their number."""
    masks: tuple[Path, ...] = ()
    words: str = ""
    """Words of ``source``: the mask is what they mean."""
    guesses: int = 0
    """Of the inversion; 0: none."""
    mode: Mode | None = None
    feather: int = 0
    levels: int
    """Steps of the ladder."""
    seed: int = 0
    one_noise: bool = True
    """Whether all frames have the same noise."""
    beside: tuple[str, ...] = ()
    """Names of the pictures beside the edit."""

    @property
    def masked(self) -> bool:
        """Whether only a part of the picture is edited."""
        return bool(self.masks or self.words)


class EditDirection:
    """See `vrestore.task.Direction`.

    Args:
        prior: with ``embed``, which makes texts of prompts; for words, one that `Reads`.
        info: of the source.
        wish: what is asked for.

    Raises:
        PriorError: the prior takes no texts, or no maps.
    """

    def __init__(self, prior: Prior, info: VideoInfo, wish: Wish) -> None:
        embed: Callable[[Sequence[str]], Tensor] | None = getattr(prior, "embed", None)
        if embed is None:
            raise PriorError(f"the prior {prior.facts.name} takes no text; name one that does")
        self._prior, self._info, self._wish = prior, info, wish
        texts = wish.prompts.texts
        *prompts, self._source_text = embed([*texts, wish.source]).unbind(0)
        self._texts = dict(zip(texts, prompts, strict=True))
        self._mixed = lru_cache(MIXTURES)(self._mix)
        self._masks = [Alongside(path) for path in wish.masks]
        self._given = {name: Alongside(path) for name, path in wish.given.items()}
        self._reader: tuple[Reads, tuple[int, ...]] | None = None
        if wish.words:
            if not isinstance(prior, Reads):
                raise PriorError(f"the prior {prior.facts.name} does not say where it reads words; draw the mask")
            self._reader = prior, prior.places(wish.source, wish.words)

    @property
    def guesses(self) -> int:
        """Of the inversion."""
        return self._wish.guesses

    @property
    def one_noise(self) -> bool:
        """Whether all frames have the same noise: what is drawn then stays as it is drawn, beyond cuts as well."""
        return self._wish.one_noise

    @property
    def takes_source(self) -> bool:
        """Whether the source is mixed in on the way."""
        return self._wish.masked or self._wish.mode is not None

    def conditions(self, scene: Scene, frames: Iterator[Seen]) -> Iterator[dict[str, Tensor]]:
        """``text``, ``source_text``; ``control`` and ``mask`` where there are such; ``matte``, the mask in pixels."""
        cut: Fraction | None = None
        whole: dict[str, Iterator[Frame]] = {}
        for number, (seen, made) in enumerate(self._with_maps(frames)):
            time = (seen.pts - self._info.start_pts) * self._info.time_base
            if cut is None:
                cut, whole = time, {name: of(seen.index, scene.frames) for name, of in self._wish.shots.items()}
            found = {
                "text": self._mixed(self._wish.prompts.at(time, scene.number, cut)),
                "source_text": self._source_text,
            }
            if self._wish.controls:
                found["control"] = self._maps(seen, made, {name: next(maps) for name, maps in whole.items()})
            if self._wish.masked and number >= scene.begin - 1:
                found |= self._masked(seen)
            yield found

    def fused(self, z: Latent, source: Callable[[], Latent], conditioning: Conditioning, share: float) -> Latent:
        """See `vrestore.fusion.fused`."""
        mask, mode = conditioning.get("mask"), self._wish.mode
        if not takes_source(mode, share, masked=mask is not None):
            return z
        return fused(z, source(), mask, mode, share, self._wish.levels)

    def finished(self, edit: OutputFrame, source: Frame, conditioning: Conditioning) -> OutputFrame:
        """The edit, and outside of the mask the very source."""
        return composite(edit, source, _unit(conditioning["matte"])) if self._wish.masked else edit

    def beside(self, edit: OutputFrame, source: Frame, conditioning: Conditioning) -> Mapping[str, AnyFrame]:
        """The pictures that are wanted, of the source's size; side by side: the source, the maps, the edit."""
        wanted, size = self._wish.beside, (int(source.shape[-2]), int(source.shape[-1]))
        found: dict[str, AnyFrame] = {}
        maps = conditioning["control"].split(3) if "control" in conditioning and self._wish.controls else ()
        pictures = [unpad(_unit(picture).cpu(), size) for picture in maps]
        found |= {control_name(name): one for name, one in zip(self._wish.controls, pictures, strict=True)}
        if self._wish.masked:
            found[MASK] = _unit(conditioning["matte"]).expand(3, -1, -1)
        gap = torch.zeros(3, size[0], GAP)
        row = [part for picture in (source, *pictures, edit) for part in (gap, picture)]
        found[SIDE_BY_SIDE] = torch.cat(row[1:], dim=-1)
        return {name: found[name] for name in wanted}

    def _mix(self, mixture: Mixture) -> Text:
        total = torch.zeros_like(self._source_text)
        for text, weight in mixture:
            total = total + weight * self._texts[text]
        return total

    def _masked(self, seen: Seen) -> dict[str, Tensor]:
        """Where a frame is edited, in latents and, soft at its edges, in pixels."""
        height, width = (int(side) for side in seen.source.shape[-2:])
        shown: Mask = torch.ones(1, height, width)
        for drawn in self._masks:
            shown = shown * torch.from_numpy(drawn.at(seen.index, (height, width))).mean(0, keepdim=True).clamp(0, 1)
        if self._reader is not None:
            picture = pad_to(seen.source.cpu(), self._prior.facts.size_multiple)
            shown = shown * mask_of(self._heat(seen, *self._reader), picture)[:, :height, :width]
        matte = (feathered(edited(shown, self._wish.mode), self._wish.feather) * 255).round().to(torch.uint8)
        latents = seen.conditioning["degraded_latents"]
        size = (int(latents.shape[-2]), int(latents.shape[-1]))
        whole = pad_to(_unit(matte).expand(3, -1, -1), self._prior.facts.size_multiple)[:1]
        return {"matte": matte, "mask": on_latents(whole, size).to(latents.device)}

    def _heat(self, seen: Seen, reader: Reads, places: tuple[int, ...]) -> LatentMask:
        """Where the words are, read on the source with noise of some levels."""
        clean = seen.conditioning["degraded_latents"].float().cpu()
        channels, h, w = clean.shape
        drawn = noise(self._wish.seed, seen.index, MASK_LEVEL, (channels, h, w))
        ladder = self._prior.ladder(GLANCE_STEPS)
        levels = [max(1, round(part * ladder.levels)) for part in GLANCES]
        noisy = [(ladder.time[level], interpolate(ladder, clean, drawn, level)) for level in levels]
        return word_map(reader, noisy, self._source_text, places)

    def _with_maps(self, frames: Iterator[Seen]) -> Iterator[tuple[Seen, tuple[Frame, ...]]]:
        """Frames with those maps that are made here."""
        waiting: deque[Seen] = deque()

        def sources() -> Iterator[Frame]:
            for seen in frames:
                waiting.append(seen)
                yield seen.source

        names = [name for name in self._wish.controls if name not in self._given and name not in self._wish.shots]
        if not names:
            yield from ((seen, ()) for seen in frames)
            return
        for maps in control_maps(names, seed=self._wish.seed % MOST_SEED).shot(sources()):
            yield waiting.popleft(), maps.split(3)

    def _maps(self, seen: Seen, made: Sequence[Frame], whole: Mapping[str, Frame]) -> Bytes:
        """All maps one after another, padded like the frame, in 8 bits."""
        size = (int(seen.source.shape[-2]), int(seen.source.shape[-1]))
        ready = iter(made)
        known = {name: torch.from_numpy(one.at(seen.index, size)) for name, one in self._given.items()} | dict(whole)
        pictures = [known[name] if name in known else next(ready) for name in self._wish.controls]
        padded = [pad_to(picture.cpu(), self._prior.facts.size_multiple) for picture in pictures]
        return (torch.cat(padded).clamp(0, 1) * 255).round().to(torch.uint8)


def control_name(name: str) -> str:
    """What the file of a map is called."""
    return f"control-{name}"


def _unit(picture: Tensor) -> Tensor:
    """8 bits to [0, 1]."""
    return picture.float() / 255
