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
    once: tuple[int, ...] = ()
    """Those of ``alone`` that no other window looks at: what they give need not be kept."""
    own: bool = True
    """Whether a frame attends to itself."""
    downsampling: int = 2
    """In layers where the latents are downsampled at least so many times along a side; 1: in all. Elsewhere a frame
    attends to itself only."""

    def __post_init__(self) -> None:
        for places in (self.alone, self.together, self.context, self.once):
            _check_places(places)
        if not set(self.context) <= set(self.alone) or set(self.context) & set(self.together):
            raise PlanError(
                f"The frames {self.context} are context, those seen alone are {self.alone} and those seen together "
                f"{self.together}; context is seen alone."
            )
        if not set(self.once) <= set(self.alone):
            raise PlanError(f"The frames {self.once} are looked at once, but those seen alone are {self.alone}.")
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


@dataclass(frozen=True)
class WindowedTime:
    """In layers of time ``window`` frames attend to one another; windows begin ``stride`` frames apart and are fused.

    FreeNoise (Qiu et al., ICLR 2024), section 3.3, so that a call may have more frames than a motion module was trained
    on: places are those within a window. What the windows say of a frame is weighed by a pyramid. The last window is
    shifted back to end with the last frame, and the shares of every frame add up to one, at the tail as elsewhere.

    Raises:
        PlanError: a stride below 1 or beyond the window.
    """

    window: int = 16
    stride: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise PlanError(
                f"Windows of {self.window} frames cannot begin {self.stride} apart; use 1 to {self.window}."
            )


@dataclass(frozen=True)
class SpectralTime:
    """In layers of time the slow part of what all frames of the call say, and the fast part of what near ones say.

    SpectralBlend of FreeLong (Lu et al., NeurIPS 2024, its low-pass equation 6): attention among all frames and
    attention among near ones, blended by frequency over time and picture. Near are, instead of a band around each
    frame, the fused windows of `WindowedTime`, so that no place is beyond those that a motion module knows; among all
    frames the places are spread evenly over the known ones where the call is longer. FreeLong's paper has it in the
    first half of the steps.

    Raises:
        PlanError: as `WindowedTime`, or a cutoff that is not positive.
    """

    window: int = 16
    stride: int = 4
    cutoff: float = 0.25
    """In time, as a share of the highest frequency; infinite: all frames speak at every frequency."""
    space: float = 0.25
    """The same within the picture."""
    downsampling: int = 2
    """In layers where the latents are downsampled at least so many times along a side; 1: in all. Elsewhere only near
    frames speak, as in FreeLong at the finest size."""

    def __post_init__(self) -> None:
        WindowedTime(self.window, self.stride)  # raises PlanError
        if not (self.cutoff > 0 and self.space > 0):
            raise PlanError(f"The cutoffs of a spectral blend are {self.cutoff} and {self.space}; use positive ones.")
        _check_downsampling(self.downsampling)


@dataclass(frozen=True)
class CleanHistory:
    """In layers of time frames attend to clean frames before them as well, and those to one another only.

    What a clean frame gives then depends on clean frames alone, so it is computed once for all steps of a chunk, and
    kept: the cache of Ca2-VDM (Gao et al., ICML 2025) and ViD-GPT (Gao et al., 2024). That is, to the bit, what
    computing it in every step gives; without the directive frames attend both ways, so there would be nothing to keep.
    Motion modules normalise the history by itself, and the others by themselves, for the same reason.

    Raises:
        PlanError: no context, or not the first frames of the step, in order.
    """

    context: tuple[int, ...]
    """Places of the clean frames in the step: 0, 1 and so on. Nothing is predicted for them."""

    def __post_init__(self) -> None:
        if not self.context or self.context != tuple(range(len(self.context))):
            raise PlanError(f"The places {self.context} are no clean history; they must be the first ones, from 0 on.")


@dataclass(frozen=True)
class Subject:
    """Every frame attends to itself and to the subject in its neighbours; the subject of noisier frames is held to it.

    Subject-aware cross-frame attention and self-recurrent guidance of Ouroboros-Diffusion (Chen et al., AAAI 2025).
    Where the subject is in a frame, the conditioning ``subject`` says, (1, h, w) for a latent of h x w: above a half.

    The guidance takes frames from the least noisy to the noisiest. The mean of what layers say at the subject's places
    is remembered as a moving average, and every frame but those at the least level is moved along the gradient towards
    what is remembered so far. The memory is of the call's own frames (its clean history first), not of all that the run
    has seen: so windows do not depend on one another's order, nor on whether a run was resumed.

    Raises:
        PlanError: fewer than 0 neighbours, a negative strength, a memory outside [0, 1).
    """

    neighbours: int = 1
    """Frames of the window to each side whose subject a frame attends to."""
    strength: float = 0.0
    """Of the guidance: latents are moved by so many times the gradient of the summed squared difference, averaged over
    channels and layers. It costs a call and its gradient; 0: none."""
    memory: float = 0.9
    """Share of the moving average that is kept when a frame is added."""
    downsampling: int = 2
    """As in `CrossWindow`."""

    def __post_init__(self) -> None:
        if self.neighbours < 0 or not self.strength >= 0 or not 0 <= self.memory < 1:
            raise PlanError(
                f"A subject cannot be seen in {self.neighbours} neighbours, with the strength {self.strength} and the "
                f"memory {self.memory}; use 0 or more, 0 or more, and 0 to less than 1."
            )
        _check_downsampling(self.downsampling)


Within = CrossWindow | Consistent | Subject
"""Directives to layers within frames."""
InTime = WindowedTime | SpectralTime
"""Directives to layers of time that let a call have more frames than a motion module knows."""
Attend = Within | InTime | CleanHistory


def _check_places(places: tuple[int, ...]) -> None:
    if min(places, default=0) < 0 or len(set(places)) < len(places):
        raise PlanError(f"The frames {places} of a directive are not different places of 0 or more.")


def _check_downsampling(downsampling: int) -> None:
    if downsampling < 1:
        raise PlanError(f"Layers cannot be downsampled {downsampling} times; use 1 for all, 2, 4 or 8.")
