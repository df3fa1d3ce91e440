"""Directives of a step to the prior's self-attention: which frames give keys and values to the frames of the window."""

from dataclasses import dataclass

from vrestore.errors import PlanError


@dataclass(frozen=True)
class CrossWindow:
    """Every frame of the window attends to itself and to the same few others, so the cost does not grow.

    Frames are named by their place in the step. LOVECon (Liao and Deng, 2023) has the first frame of the video, the
    last of the window before, and the last of the window, but not the own frame.

    Raises:
        PlanError: a place that is negative, named twice, or context that gives nothing; no keys at all.
    """

    alone: tuple[int, ...] = ()
    """Frames that give the keys and values which they have when they are seen by themselves: the same in every window,
    so they are computed once and kept in a bank. May be frames of the window."""
    together: tuple[int, ...] = ()
    """Frames of the window that give the keys and values which they have in this call."""
    context: tuple[int, ...] = ()
    """Those of ``alone`` that are no part of the window: nothing is predicted for them."""
    own: bool = True
    """Whether a frame attends to itself."""
    downsampling: int = 2
    """In layers where the latents are downsampled at least so many times along a side; 1: in all. Elsewhere a frame
    attends to itself only."""

    def __post_init__(self) -> None:
        for places in (self.alone, self.together, self.context):
            _check_places(places)
        if not set(self.context) <= set(self.alone) or set(self.context) & set(self.together):
            raise PlanError(
                f"The frames {self.context} are context, those seen alone are {self.alone} and those seen together "
                f"{self.together}; context is seen alone."
            )
        if not (self.own or self.alone or self.together):
            raise PlanError("No frame gives keys and values; name one in alone or together, or allow the own frame.")
        _check_downsampling(self.downsampling)


@dataclass(frozen=True)
class Consistent:
    """Every frame of the window attends to itself and to a random share of the tokens of all others.

    StoryDiffusion's consistent self-attention (Zhou et al., NeurIPS 2024). Which tokens a frame gives depends on seed,
    frame, level and layer, so windows that overlap draw alike.

    Raises:
        PlanError: a share outside (0, 1], a frame that is negative or named twice.
    """

    frames: tuple[int, ...]
    """Position in the sequence of every frame of the step."""
    level: int
    """Level of the call."""
    share: float = 0.5
    """Part of the tokens that are drawn of each other frame."""
    seed: int = 0
    """0 to 2**64 - 1."""
    downsampling: int = 2
    """As in `CrossWindow`."""

    def __post_init__(self) -> None:
        _check_places(self.frames)
        if not 0 < self.share <= 1:
            raise PlanError(f"A share of {self.share} of the tokens cannot be drawn; use more than 0, at most 1.")
        _check_downsampling(self.downsampling)


Attend = CrossWindow | Consistent


def _check_places(places: tuple[int, ...]) -> None:
    if min(places, default=0) < 0 or len(set(places)) < len(places):
        raise PlanError(f"The frames {places} of a directive are not different places of 0 or more.")


def _check_downsampling(downsampling: int) -> None:
    if downsampling < 1:
        raise PlanError(f"Layers cannot be downsampled {downsampling} times; use 1 for all, 2, 4 or 8.")
