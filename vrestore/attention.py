"""Attention under directives, on the stock modules of diffusers: UNets, also with motion, and ControlNets.

`attending` puts processors into the spatial self-attention of networks; `directed` runs a prior under the directive of
a step. Without a directive the processors are those that were there before. Frames that a directive wants to be seen
alone (an anchor that every window looks at) go through the networks by themselves; the keys and values of their layers
are kept in a bank, by all that enters the prior with them, so no other window, tile or batch computes them again, and
none depends on who was first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from diffusers import UNetMotionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor

from vrestore.attention_bank import Bank, Entry, fingerprint
from vrestore.attention_history import behind_history
from vrestore.attention_layers import Looking, Processor, Recording, Sampled, Switch, Told
from vrestore.attention_subject import NAME, SeeingSubject, guided
from vrestore.attention_time import in_time
from vrestore.errors import PriorError
from vrestore.memory import BANK_BYTES
from vrestore.plan.attend import Attend, CleanHistory, Consistent, CrossWindow, InTime, Subject
from vrestore.prior import Conditioning
from vrestore.shapes import Times, Windows

__all__ = ["Attend", "Attending", "Consistent", "CrossWindow", "attending", "directed"]

Predict = Callable[[Windows, Times, Conditioning], Windows]
"""A prior's prediction without directives: latents, times and conditioning of some windows to clean latents.

It calls the networks in the same order whatever the number of windows and frames, their rows being windows times
frames, or several times that, one branch of guidance after the other."""


@dataclass(frozen=True)
class Attending:
    """Networks whose self-attention can be directed."""

    bank: Bank
    networks: tuple[torch.nn.Module, ...] = ()
    switch: Switch = field(default_factory=Switch)
    """What their layers are told at the moment."""


def attending(*networks: torch.nn.Module, bank_bytes: int = BANK_BYTES) -> Attending:
    """Put processors into the spatial self-attention of networks that are run together in a prior.

    Networks may be used without `directed` as before.

    Raises:
        PriorError: a network has no spatial self-attention of diffusers' ``Transformer2DModel``.
    """
    handle = Attending(Bank(bank_bytes), networks)
    number = 0
    for network in networks:
        found = [
            block.attn1
            for transformer in network.modules()
            if isinstance(transformer, Transformer2DModel)
            for block in getattr(transformer, "transformer_blocks", ())
            if not block.attn1.is_cross_attention
        ]
        if not found:
            raise PriorError(
                f"{type(network).__name__} has no self-attention within frames that could be directed; use a UNet or "
                "ControlNet of the Stable Diffusion family."
            )
        for layer in found:
            plain = layer.processor.plain if isinstance(layer.processor, Processor) else layer.processor
            layer.set_processor(Processor(plain, handle.switch, number))
            number += 1
    return handle


def directed(
    handle: Attending, attend: object, predict: Predict, latents: Windows, times: Times, conditioning: Conditioning
) -> Windows:
    """``predict`` under a directive, the same for all windows of the call; frames of context come back as zeros.

    Args:
        handle: of the networks that ``predict`` runs.
        attend: a directive of `vrestore.plan.attend`; None: plain.
        predict: the prior without directives.
        latents: with the frames of context.
        times: what the levels mean to the prior.
        conditioning: by name, (batch, time, ...).

    Raises:
        PriorError: an unknown directive, or one that names a frame which the call does not have.
    """
    if attend is None:
        return predict(latents, times, conditioning)
    if isinstance(attend, InTime):
        with in_time(moving(handle), attend):
            return predict(latents, times, conditioning)
    if isinstance(attend, CleanHistory):
        return behind_history(handle.networks, handle.bank, attend, predict, latents, times, conditioning)
    if isinstance(attend, Subject):
        return _seeing_subject(handle, attend, predict, latents, times, conditioning)
    windows, frames = latents.shape[:2]
    size = (int(latents.shape[-2]), int(latents.shape[-1]))
    if isinstance(attend, Consistent):
        _check_frames(attend, len(attend.frames), frames, exactly=True)
        with _telling(handle, Sampled(windows, frames, size, attend)):
            return predict(latents, times, conditioning)
    if not isinstance(attend, CrossWindow):
        raise PriorError(f"The attention directive {attend!r} is not known; give one of vrestore.plan.attend, or None.")
    _check_frames(attend, max((*attend.alone, *attend.together), default=0) + 1, frames)
    entries = _seen_alone(handle, attend, predict, latents, times, conditioning)
    kept = [place for place in range(frames) if place not in attend.context]
    with _telling(handle, Looking(windows, len(kept), size, attend, kept, entries)):
        if not attend.context:
            return predict(latents, times, conditioning)
        found = predict(*_frames_of(kept, latents, times, conditioning))
    whole = found.new_zeros(latents.shape)
    whole[:, kept] = found
    return whole


def moving(handle: Attending) -> torch.nn.Module:
    """The network with motion modules, or, where there is none, the first."""
    return next((network for network in handle.networks if isinstance(network, UNetMotionModel)), handle.networks[0])


def _seeing_subject(
    handle: Attending, attend: Subject, predict: Predict, latents: Windows, times: Times, conditioning: Conditioning
) -> Windows:
    """``predict`` where frames see the subject in their neighbours, of latents that are guided before, if they are."""
    if NAME not in conditioning:
        raise PriorError(f"The directive {attend!r} needs the conditioning {NAME!r}: where the subject is, (1, h, w).")
    given = {name: value for name, value in conditioning.items() if name != NAME}
    windows, frames = latents.shape[:2]
    size = (int(latents.shape[-2]), int(latents.shape[-1]))
    masks = (conditioning[NAME][:, :, 0] > 0.5).float()
    if tuple(masks.shape[2:]) != size:
        raise PriorError(
            f"The subject's masks are of {tuple(masks.shape[2:])}, the latents of {size}; they must agree."
        )
    if attend.strength:
        latents = guided(attend, predict, partial(_telling, handle), (latents, times, given), masks)
    with _telling(handle, SeeingSubject(windows, frames, size, attend, masks=masks)):
        return predict(latents, times, given)


def _frames_of(
    kept: Sequence[int], latents: Windows, times: Times, conditioning: Conditioning
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    return latents[:, kept], times[:, kept], {name: value[:, kept] for name, value in conditioning.items()}


def _of(window: int, conditioning: Conditioning) -> dict[str, Tensor]:
    return {name: value[window][None] for name, value in conditioning.items()}


def _seen_alone(
    handle: Attending,
    attend: CrossWindow,
    predict: Predict,
    latents: Windows,
    times: Times,
    conditioning: Conditioning,
) -> list[list[Entry]]:
    """For every window the keys and values of its frames that are seen alone, from the bank where they are there."""
    places = [(window, place) for window in range(len(latents)) for place in attend.alone]
    one = {at: {name: value[at] for name, value in conditioning.items()} for at in places}
    keys = {at: fingerprint(latents[at], times[at], one[at], attend.downsampling) for at in places}
    held = {key: handle.bank.get(key) for key in dict.fromkeys(keys.values())}
    found = {key: entry for key, entry in held.items() if entry is not None}
    size = (int(latents.shape[-2]), int(latents.shape[-1]))
    for (window, place), key in keys.items():
        if key in found:
            continue
        # one by one: in a batch numbers are rounded differently, and would depend on what the bank holds
        one_by_one = _frames_of([place], latents[window][None], times[window][None], _of(window, conditioning))
        told = Recording(1, 1, size, attend)
        with _telling(handle, told):
            predict(*one_by_one)
        found[key] = told.entry()
        if place not in attend.once:
            handle.bank.put(key, found[key])
    return [[found[keys[window, place]] for place in attend.alone] for window in range(len(latents))]


@contextmanager
def _telling(handle: Attending, told: Told) -> Iterator[None]:
    handle.switch.told = told
    try:
        yield
    finally:
        handle.switch.told = None


def _check_frames(attend: object, needed: int, frames: int, *, exactly: bool = False) -> None:
    if needed > frames or (exactly and needed != frames):
        raise PriorError(f"The directive {attend!r} is for a call of {needed} frames; this one has {frames}.")
