"""Stable Diffusion for editing: text for every frame, any number of ControlNets, motion modules where there are some.

For the layouts of diffusers' ``StableDiffusion(ControlNet)(Img2Img)Pipeline`` and ``AnimateDiff*Pipeline``: SD 1.5 and
what is made of it (Rombach et al., CVPR 2022; Zhang, Rao and Agrawala, ICCV 2023; Guo et al., "AnimateDiff", ICLR 2024;
Wang et al., "AnimateLCM", 2024). Agrees with those pipelines on small random networks; published weights were not run
with this code.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ControlNetModel, UNet2DConditionModel, UNetMotionModel
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel

from vrestore.attention import attending, directed
from vrestore.errors import PriorError
from vrestore.guidance import classifier_free
from vrestore.plan.attend import InTime
from vrestore.prior import Conditioning, MadeOf, PriorFacts
from vrestore.prior_options import EditOptions, PriorOptions, edit_options
from vrestore.priors.animated import TRAINED_FRAMES, TRAINED_RATE, FrameTimes, animate, longest_window
from vrestore.priors.autoencoder import Autoencoder
from vrestore.priors.edit_folder import controlnet_folders, kept_bytes, motion_folder, usual_size
from vrestore.priors.folder import NETWORK, load_network, load_text, part_folder, read_json, weights_of
from vrestore.priors.lora import read_lora
from vrestore.priors.single_file import autoencoder_of, text_encoder_of, unet_of
from vrestore.priors.stable import Parts, StablePrior
from vrestore.priors.text import Embedding, embeddings, places_of
from vrestore.shapes import Frame, Latents, Times, Windows


class EditPrior(StablePrior):
    """Redraws frames after a text and control maps, together where there are motion modules.

    Conditioning of a frame: ``text`` (tokens, width) as `embed` gives it; ``source_text``, the same of what the source
    shows, for `inverting`; ``control`` (3 n, H, W) in [0, 1], n maps one after another, for a prior with a ControlNet.
    Its own `conditions` give the text of the option ``prompt`` and the frame itself for a map.
    """

    options: ClassVar[frozenset[str]] = StablePrior.options | {
        "controlnet", "control_scale", "control_weights", "motion_adapter", "checkpoint", "lora", "lora_scale",
        "offload", "small_weights",
    }  # fmt: skip
    licence: ClassVar[str] = "CreativeML Open RAIL-M (Stable Diffusion 1.5 and its ControlNets)"
    made_of: ClassVar[MadeOf] = "words"

    def __init__(
        self,
        facts: PriorFacts,
        parts: Parts,
        options: PriorOptions,
        device: torch.device,
        folder: Path,
        controlnets: Sequence[ControlNetModel] = (),
    ) -> None:
        super().__init__(facts, parts, options, device)
        self._edit, self._folder = edit_options(options), folder
        self._controlnets = [network.to(device=device) for network in controlnets]
        self._times = FrameTimes(parts.unet) if isinstance(parts.unet, UNetMotionModel) else None
        self._inverts = False
        self._attending = attending(parts.unet, *self._controlnets)

    @classmethod
    def facts_of(cls, folder: Path, options: PriorOptions) -> PriorFacts:
        """As its base; PriorError for a ControlNet or a motion adapter that is missing or of another kind."""
        edit = edit_options(options)
        facts = super().facts_of(folder, options)
        controls, motion = controlnet_folders(folder, edit), motion_folder(folder, edit)
        for control in controls:
            kind = read_json(control / "config.json").get("_class_name")
            if kind != "ControlNetModel":
                raise PriorError(f"{control} holds a {kind}, which is no ControlNet; name another folder")
        # Measured as for the prior "controlnet-tile": 93,000 for the UNet. Not measured: half of that for a ControlNet
        # (one runs at a time), and what each leaves. Motion modules are not counted.
        more = 47_000 + 4_000 * (len(controls) - 1) if controls else 0
        return replace(
            facts,
            name="stable-diffusion" if motion is None else "animatediff",
            window=1 if motion is None else min(TRAINED_FRAMES, longest_window(motion)),
            usual_size=usual_size(folder, facts.spatial_factor),
            usual_fps=TRAINED_RATE,
            conditionings=frozenset({"text", "control"} if controls else {"text"}),
            call_bytes=facts.call_bytes + more,
            bank_bytes=kept_bytes(part_folder(folder, "unet"), controls),
        )

    @classmethod
    def own_facts(cls, factor: int) -> dict[str, Any]:
        """What the folder's settings do not say; the rest in `facts_of`."""
        return {
            "name": "stable-diffusion",
            "window": 1,
            "per_frame_levels": True,
            "conditionings": frozenset({"text"}),
            "usual_steps": 20,
            "call_bytes": 93_000,
            "frame_bytes": 272_000,
        }

    @classmethod
    def weights_of(cls, folder: Path, options: PriorOptions) -> list[Path]:
        """As its base, and those of the ControlNets and of the motion adapter."""
        edit = edit_options(options)
        motion, unet = motion_folder(folder, edit), part_folder(folder, "unet")
        beside = [*controlnet_folders(folder, edit), *([motion] if motion not in (None, unet) else [])]
        more = [path for each in beside if each for path in weights_of(each, NETWORK)]
        if edit.lora is not None:
            more.append(edit.lora)
        if edit.checkpoint is None:
            return [*super().weights_of(folder, options), *more]
        return [edit.checkpoint, *more]

    @classmethod
    def from_pretrained(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PriorOptions
    ) -> "EditPrior":
        """As its base."""
        edit, facts = edit_options(options), cls.facts_of(folder, options)
        controls = [load_network(ControlNetModel, each, dtype) for each in controlnet_folders(folder, edit)]
        return cls(facts, cls._parts_of(folder, edit, dtype), edit, device, folder, controls)

    @classmethod
    def _texts(cls, options: PriorOptions) -> list[str]:
        """The prompt of frames that have no text of their own, and what guidance leads away from."""
        return [options.prompt or "", options.negative_prompt or ""]

    @classmethod
    def _unet(cls, folder: Path, options: PriorOptions, dtype: torch.dtype) -> UNet2DConditionModel | UNetMotionModel:
        edit = edit_options(options)
        where, motion = part_folder(folder, "unet"), motion_folder(folder, edit)
        network: UNet2DConditionModel | UNetMotionModel
        if motion == where:
            if edit.checkpoint is not None:
                raise PriorError(
                    f"{where} holds a UNet with motion modules; a checkpoint needs one without, or --motion-adapter"
                )
            network = load_network(UNetMotionModel, where, dtype)
        elif edit.checkpoint is not None:
            network = unet_of(edit.checkpoint, folder, dtype)
        else:
            network = load_network(UNet2DConditionModel, where, dtype)
        if motion is not None and motion != where:
            network = animate(network, motion)
        if edit.lora is not None:
            read_lora(edit.lora).merge(network, _lora_scale(edit))
        return network

    @classmethod
    def _autoencoder(cls, folder: Path, options: PriorOptions) -> Autoencoder:
        checkpoint = edit_options(options).checkpoint
        return super()._autoencoder(folder, options) if checkpoint is None else autoencoder_of(checkpoint, folder)

    @classmethod
    def _embedded(cls, folder: Path, options: PriorOptions, texts: Sequence[str]) -> list[Embedding]:
        edit = edit_options(options)
        if edit.checkpoint is None and edit.lora is None:
            return embeddings(folder, texts)
        if edit.checkpoint is None:
            encoder = load_text(CLIPTextModel, part_folder(folder, "text_encoder"))
        else:
            encoder = text_encoder_of(edit.checkpoint, folder)
        if edit.lora is not None:
            read_lora(edit.lora).merge_text(encoder, _lora_scale(edit))
        return embeddings(folder, texts, encoder)

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "texts tokens width"]:
        """Prompts as the conditioning ``text`` has them, float32 on the CPU. The text encoder is read for each call."""
        return torch.cat(self._embedded(self._folder, self._options, texts))

    def told(self, texts: Sequence[str], picture: Frame | None, seed: int) -> list[dict[str, Tensor]]:
        """``text`` for each; it sees no picture beside the latents."""
        return [{"text": text} for text in self.embed(texts)]

    @property
    def unet(self) -> UNet2DConditionModel | UNetMotionModel:
        """The network."""
        return self._parts.unet

    def places(self, text: str, words: str) -> tuple[int, ...]:
        """Positions of the tokens of some words within those of a text. ConfigError if they are not in it."""
        return places_of(self._folder, text, words)

    def glance(self, latents: Latents, time: float, text: Float[Tensor, "tokens width"]) -> None:
        """Run the UNet on frames at a time with one text, without guidance and maps, for whoever watches its layers."""
        x = latents.to(self.device, self._parts.unet.dtype)
        times = torch.full((len(x),), time, device=self.device)
        told = text.to(x).expand(len(x), -1, -1)
        with self._times.at(times) if self._times is not None else nullcontext():
            self._answer(x, times, told, {}, len(x))

    def inverting(self) -> "EditPrior":
        """The same networks for an inversion: no guidance, and ``source_text`` in place of ``text``."""
        other = copy.copy(self)
        other._inverts = True
        other.facts = replace(self.facts, conditionings=self.facts.conditionings - {"text"} | {"source_text"})
        return other

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """As its base, with the prompt of the options and the frame itself where a head gives nothing else."""
        text = self._prompts[0][0].float()
        for entry in super().conditions(frames):
            entry |= {"text": text, "source_text": text}
            yield entry | {"control": entry["degraded"]} if self._controlnets else entry

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """Clean latents, float32. PriorError for a directive that is not known, or too long a window."""
        given = {name: value.to(self.device) for name, value in conditioning.items()}
        here = partial(self._undirected, any_length=isinstance(attend, InTime))
        with torch.inference_mode():
            return directed(self._attending, attend, here, latents.to(self.device), times.to(self.device), given)

    def seeing_subject(self) -> "EditPrior":
        """The same networks, told by the conditioning ``subject`` where it is, as the directive `Subject` needs."""
        other = copy.copy(self)
        other.facts = replace(self.facts, conditionings=self.facts.conditionings | {"subject"})
        return other

    def _undirected(
        self, latents: Windows, times: Times, conditioning: Conditioning, *, any_length: bool = False
    ) -> Windows:
        count = latents.shape[1]
        if self._times is not None and count > self._longest and not any_length:
            raise PriorError(
                f"the motion modules of {self.facts.name} have positions for {self._longest} frames, not for {count}; "
                f"give a window of at most {self._longest}, best {self.facts.window}"
            )
        given = {name: value.flatten(0, 1) for name, value in conditioning.items()}
        z, at = latents.flatten(0, 1).float(), times.flatten()
        with self._times.at(at) if self._times is not None else nullcontext():
            output = self._guided(z.to(self._parts.unet.dtype), at, given, count)
        found: Windows = self._parts.schedule.clean_latents(output, z, at).unflatten(0, latents.shape[:2])
        return found

    @property
    def _longest(self) -> int:
        """Frames that the motion modules have positions for."""
        return int(self._parts.unet.config.motion_max_seq_length)

    def _guided(self, x: Latents, times: Tensor, given: Conditioning, count: int) -> Latents:
        """The network's output for frames of windows of ``count``, with guidance unless it inverts."""
        text = given["source_text" if self._inverts else "text"].to(x.dtype)
        output = self._answer(x, times, text, given, count)
        if self._inverts or self._scale == 1:
            return output
        away = self._prompts[1].expand(len(x), -1, -1)
        return classifier_free(output, self._answer(x, times, away, given, count, away=True), self._scale)

    def _answer(
        self, x: Latents, times: Tensor, text: Tensor, given: Conditioning, count: int, *, away: bool = False
    ) -> Latents:
        """The UNet's own answer to one text, float32; ``away``: to what guidance leads away from."""
        more = self._residuals(x, times, text, given.get("control"), away)
        unet = self._parts.unet
        if self._times is None:
            found: Tensor = unet(x, times, encoder_hidden_states=text, return_dict=False, **more)[0]
        else:
            clip = x.unflatten(0, (-1, count)).transpose(1, 2)  # (windows, channels, frames, h, w)
            moved: Tensor = unet(clip, times[0], encoder_hidden_states=text, return_dict=False, **more)[0]
            found = moved.transpose(1, 2).flatten(0, 1)
        return found.float()

    def _residuals(self, x: Latents, times: Tensor, text: Tensor, control: Tensor | None, away: bool) -> dict[str, Any]:
        """What the ControlNets add to the UNet, summed over all maps."""
        if control is None or not self._controlnets:
            return {}
        maps, weights = control.to(x.dtype).split(3, dim=1), self._weights(control.shape[1] // 3)
        networks = self._controlnets * (len(maps) if len(self._controlnets) == 1 else 1)
        if len(networks) != len(maps):
            raise PriorError(f"there are {len(maps)} control maps and {len(networks)} ControlNets; give one for each")
        total: list[Tensor] = []
        for network, picture, weight in zip(networks, maps, weights, strict=True):
            if weight == 0 or (
                away and network.config.global_pool_conditions
            ):  # such know nothing but the prompt's side
                continue
            down, middle = network(
                x, times, encoder_hidden_states=text, controlnet_cond=picture, conditioning_scale=weight,
                return_dict=False,
            )  # fmt: skip
            found = [*down, middle]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        if not total:
            return {}
        return {"down_block_additional_residuals": total[:-1], "mid_block_additional_residual": total[-1]}

    def _weights(self, count: int) -> list[float]:
        each = self._edit.control_weights or (1.0,) * count
        if len(each) != count:
            raise PriorError(f"there are {count} control maps and {len(each)} control_weights; give one for each")
        scale = 1.0 if self._edit.control_scale is None else self._edit.control_scale
        return [scale * weight for weight in each]


def _lora_scale(options: EditOptions) -> float:
    return 1.0 if options.lora_scale is None else options.lora_scale
