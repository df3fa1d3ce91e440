"""Stable Diffusion with motion modules (AnimateDiff), and a level for each of its frames.

Guo et al., "AnimateDiff: Animate Your Personalized Text-to-Image Diffusion Models without Specific Tuning", ICLR 2024.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.priors.folder import ADVICE, load_network, read_json

TRAINED_FRAMES = 16
"""Frames that published motion modules were trained on; they can be given more, up to `longest_window`."""
TRAINED_RATE = 8
"""Frames per second of what they make: 16 frames of clips of two seconds."""


def motion_settings(folder: Path) -> dict[str, Any]:
    """Settings of the motion adapter, or of the whole network with motion modules, in a folder.

    Raises:
        PriorError: no settings, or those of another class or of an adapter that needs another input.
    """
    config = read_json(folder / "config.json")
    kind = str(config.get("_class_name"))
    if kind not in ("MotionAdapter", "UNetMotionModel"):
        raise PriorError(f"{folder} holds a {kind}, which is no motion adapter; name one such as AnimateDiff's")
    if config.get("conv_in_channels"):
        raise PriorError(f"the motion adapter in {folder} needs pictures beside the latents, which is not supported")
    return config


def longest_window(folder: Path) -> int:
    """Frames that the motion modules in a folder have positions for."""
    return int(motion_settings(folder).get("motion_max_seq_length", 32))


def animate(unet: UNet2DConditionModel, folder: Path) -> UNetMotionModel:
    """The network for pictures and the motion adapter in a folder as one, in the precision of the former.

    PriorError if they do not belong together.
    """
    settings = motion_settings(folder)
    groups = settings.get("motion_norm_num_groups", 32)
    if groups != unet.config.norm_num_groups:  # diffusers would take those of the network, without a word
        raise PriorError(
            f"the motion adapter in {folder} normalises {groups} groups, the network {unet.config.norm_num_groups}; "
            "name an adapter that was trained on this network"
        )
    adapter = load_network(MotionAdapter, folder, unet.dtype)
    noisy = logging.getLogger(
        "diffusers.models.modeling_utils"
    )  # it warns of layers for float32, of which there are none
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        network: UNetMotionModel = UNetMotionModel.from_unet2d(unet, adapter)
    except (ValueError, RuntimeError, KeyError) as error:
        raise PriorError(
            f"the motion adapter in {folder} does not fit the network: {str(error).splitlines()[0]}; {ADVICE}"
        ) from error
    finally:
        noisy.setLevel(level)
    return network.eval().requires_grad_(False)


Changed = tuple[tuple[Any, ...], dict[str, Any]] | None


class FrameTimes:
    """A time for each frame of a network whose frames share one.

    Frames lie in the batch wherever the time enters, which is in residual blocks only: there each gets the embedding of
    its own time instead of the shared one. With equal times that is what the network does by itself.
    """

    def __init__(self, network: UNetMotionModel) -> None:
        self._network = network
        self._embedding: Tensor | None = None
        for module in network.modules():
            if isinstance(module, ResnetBlock2D):
                module.register_forward_pre_hook(self._own, with_kwargs=True)

    @contextmanager
    def at(self, times: Float[Tensor, " frames"]) -> Iterator[None]:
        """While the block runs, the frames of all windows of a call, one after another, stand at these times."""
        network = self._network
        self._embedding = network.time_embedding(network.time_proj(times).to(network.dtype))
        try:
            yield
        finally:
            self._embedding = None

    def _own(self, module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Changed:
        if self._embedding is None:
            return None
        x = given[0] if given else named["input_tensor"]
        rest = {name: value for name, value in named.items() if name not in ("input_tensor", "temb")}
        return (x, self._embedding, *given[2:]), rest
