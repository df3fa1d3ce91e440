"""What priors of the Stable Diffusion family share: an autoencoder, a text prompt, a UNet on a DDIM ladder.

A UNet of this family sees frames one by one: those of a window are its batch, and each is given its own time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ControlNetModel, UNet2DConditionModel, UNetMotionModel
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.guidance import classifier_free
from vrestore.prior import Conditioning, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.priors.autoencoder import Autoencoder, autoencoder_shape, load_autoencoder
from vrestore.priors.folder import NETWORK, TEXT, licence_of, load_network, part_folder, read_json, weights_of
from vrestore.priors.frugal import placed
from vrestore.priors.schedule import Schedule, read_schedule
from vrestore.priors.text import Embedding, embeddings
from vrestore.sampling import Ladder
from vrestore.shapes import Frame, Frames, Latents, Times, Windows

AUTOENCODER_TILE = 1024
"""Side in pixels beyond which the autoencoder cuts a picture into tiles that overlap by a quarter: its middle attends
to every place from every other."""


@dataclass(frozen=True)
class Parts:
    """A prior's networks and what belongs to them."""

    vae: Autoencoder
    unet: UNet2DConditionModel | UNetMotionModel
    schedule: Schedule
    prompts: tuple[Embedding, ...]
    """The prompt, and what guidance leads away from; the latter only where it changes anything."""
    controlnet: ControlNetModel | None = None
    low: Schedule | None = None
    """Of the noise that the source gets, if it gets any."""
    folder: Path | None = None
    """Where they came from, for what is only read when it is wanted."""


class StablePrior:
    """The common part; a subclass says what enters the UNet beside the latents, and its facts."""

    options: ClassVar[frozenset[str]] = frozenset({"prompt", "negative_prompt", "guidance_scale", "strength"})
    guidance: ClassVar[float] = 7.5
    """The guidance scale where none is asked for."""
    usual_strength: ClassVar[float] = 1.0
    beside: ClassVar[int] = 0
    """Channels that the UNet sees beside the latents."""
    licence: ClassVar[str] = "unknown"

    def __init__(self, facts: PriorFacts, parts: Parts, options: PriorOptions, device: torch.device) -> None:
        self.facts, self.device = facts, device
        self._parts, self._options = parts, options
        self._scale = options.guidance_scale or self.guidance
        self._strength = options.strength or self.usual_strength
        parts.vae.network.to(device=device)
        parts.vae.tile(AUTOENCODER_TILE)
        placed(parts.unet, device, options)
        if parts.controlnet is not None:
            parts.controlnet.to(device=device)
        self._prompts = [prompt.to(device, parts.unet.dtype) for prompt in parts.prompts]

    @classmethod
    def facts_of(cls, folder: Path, options: PriorOptions) -> PriorFacts:
        """From the settings in a folder, without its weights. PriorError for a part that is missing."""
        channels, factor = autoencoder_shape(part_folder(folder, "vae"))
        unet = read_json(part_folder(folder, "unet") / "config.json")
        strength = options.strength or cls.usual_strength
        if unet.get("in_channels", 4) != channels + cls.beside:
            raise PriorError(
                f"the UNet in {folder} takes {unet.get('in_channels', 4)} channels, not {channels + cls.beside} as in "
                "the layouts that are supported; name another prior"
            )
        return PriorFacts(
            **cls.own_facts(factor),
            licence=licence_of(folder, cls.licence),
            latent_channels=channels,
            spatial_factor=factor,
            temporal_factor=1,
            size_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
            frame_tile=AUTOENCODER_TILE // factor,
            most_steps=read_schedule(part_folder(folder, "scheduler")).most_steps(strength),
        )

    @classmethod
    def own_facts(cls, factor: int) -> dict[str, Any]:
        """The facts that a subclass adds; ``factor``: pixels along one side of a latent pixel."""
        raise NotImplementedError

    @classmethod
    def weights_of(cls, folder: Path, options: PriorOptions) -> list[Path]:
        """The files of weights that are read. PriorError for a part that is missing."""
        networks = [path for part in ("vae", "unet") for path in weights_of(part_folder(folder, part), NETWORK)]
        return [*networks, *weights_of(part_folder(folder, "text_encoder"), TEXT)]

    @classmethod
    def from_pretrained(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PriorOptions
    ) -> "StablePrior":
        """Load a folder; PriorError if a part is not there or does not fit. Never downloads."""
        facts = cls.facts_of(folder, options)
        return cls(facts, cls._parts_of(folder, options, dtype), options, device)

    @classmethod
    def _parts_of(cls, folder: Path, options: PriorOptions, dtype: torch.dtype) -> Parts:
        return Parts(
            vae=cls._autoencoder(folder, options),
            unet=cls._unet(folder, options, dtype),
            schedule=read_schedule(part_folder(folder, "scheduler")),
            prompts=tuple(cls._embedded(folder, options, cls._texts(options))),
            controlnet=cls._controlnet(folder, options, dtype),
            low=cls._low(folder),
            folder=folder,
        )

    @classmethod
    def _autoencoder(cls, folder: Path, options: PriorOptions) -> Autoencoder:
        return load_autoencoder(part_folder(folder, "vae"))

    @classmethod
    def _embedded(cls, folder: Path, options: PriorOptions, texts: Sequence[str]) -> list[Embedding]:
        return embeddings(folder, texts)

    @classmethod
    def _unet(cls, folder: Path, options: PriorOptions, dtype: torch.dtype) -> UNet2DConditionModel | UNetMotionModel:
        return load_network(UNet2DConditionModel, part_folder(folder, "unet"), dtype)

    @classmethod
    def _texts(cls, options: PriorOptions) -> list[str]:
        """What the text encoder is asked: guidance away from the prompt itself would change nothing."""
        texts = [options.prompt or "", options.negative_prompt or ""]
        return texts if (options.guidance_scale or cls.guidance) > 1 and texts[0] != texts[1] else texts[:1]

    @classmethod
    def _controlnet(cls, folder: Path, options: PriorOptions, dtype: torch.dtype) -> ControlNetModel | None:
        return None

    @classmethod
    def _low(cls, folder: Path) -> Schedule | None:
        return None

    def ladder(self, steps: int) -> Ladder:
        """DDIM levels among the training timesteps, up to the strength."""
        return self._parts.schedule.ladder(steps, self._strength)

    def encode(self, frames: Frames) -> Latents:
        """Frames in [0, 1] to latents, the likeliest ones, one by one."""
        with torch.inference_mode():
            return self._parts.vae.encode(self._picture(frames))

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """Latents to frames, not clamped, one by one; the conditioning has no say."""
        with torch.inference_mode():
            return self._rgb(latents) / 2 + 0.5

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of each frame of a shot ``degraded`` (3, H, W) and ``degraded_latents`` (C, h, w)."""
        for frame in frames:
            here = frame.to(self.device)
            yield {"degraded": here, "degraded_latents": self.encode(here[None])[0]}

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """Nothing: a frame is decoded by itself."""
        return {}

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """Clean latents; the frames of all windows are one batch. ``attend`` must be None."""
        self._refuse(attend)
        flat = {name: value.flatten(0, 1).to(self.device) for name, value in conditioning.items()}
        with torch.inference_mode():
            found = self._clean(latents.flatten(0, 1).to(self.device), times.flatten().to(self.device), flat)
        apart: Windows = found.unflatten(0, latents.shape[:2])
        return apart

    def _refuse(self, attend: object) -> None:
        if attend is not None:
            raise PriorError(
                f"the prior {self.facts.name} takes no attention directives, but a step asks for {attend!r}; use a "
                "plan without"
            )

    def _clean(self, z: Latents, times: Tensor, conditioning: Conditioning, control: Tensor | None = None) -> Latents:
        """Clean latents of frames that stand for themselves, at a time each; guided, float32."""
        x = self._input(z.float(), conditioning).to(self._parts.unet.dtype)
        outputs = [self._output(x, times, prompt.expand(len(x), -1, -1), control).float() for prompt in self._prompts]
        output = outputs[0] if len(outputs) == 1 else classifier_free(outputs[0], outputs[1], self._scale)
        return self._parts.schedule.clean_latents(output, z.float(), times)

    def _input(self, z: Latents, conditioning: Conditioning) -> Tensor:
        """What the UNet sees: the latents and what lies beside them, by channels."""
        return z

    def _output(self, x: Tensor, times: Tensor, prompt: Tensor, control: Tensor | None) -> Tensor:
        """The UNet's own answer; ``control`` (n, 3, H, W) goes through the ControlNet."""
        more: dict[str, Any] = {} if self._labels(len(x)) is None else {"class_labels": self._labels(len(x))}
        if control is not None and self._parts.controlnet is not None:
            down, middle = self._parts.controlnet(
                x,
                times,
                encoder_hidden_states=prompt,
                controlnet_cond=control.to(x.dtype),
                conditioning_scale=1.0 if self._options.control_scale is None else self._options.control_scale,
                return_dict=False,
                **more,
            )
            more |= {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        output: Tensor = self._parts.unet(x, times, encoder_hidden_states=prompt, return_dict=False, **more)[0]
        return output

    def _labels(self, count: int) -> Tensor | None:
        return None

    def _rgb(self, latents: Latents) -> Frames:
        """Pictures in [-1, 1], about."""
        return self._parts.vae.decode(latents.to(self.device).float())

    def _picture(self, frames: Frames) -> Frames:
        return frames.to(self.device, torch.float32) * 2 - 1
