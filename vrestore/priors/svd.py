"""Stable Video Diffusion: a picture set in motion, by the layout of diffusers' ``StableVideoDiffusionPipeline``.

Blattmann et al., "Stable Video Diffusion", 2023. Its networks are told a deviation of added noise; here that is a level
of the variance-preserving ladder with the same share of noise, so its Euler steps are DDIM steps. All frames of a call
stand at one level. Agrees with that pipeline on small random networks; published weights were not run with this code.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from vrestore.errors import PriorError
from vrestore.noise import noise
from vrestore.prior import Conditioning, MadeOf, PriorFacts
from vrestore.prior_options import PriorOptions, generation_options
from vrestore.priors.folder import NETWORK, TEXT, load_network, load_text, read_json, weights_of
from vrestore.priors.frugal import placed
from vrestore.sampling import Ladder
from vrestore.shapes import Frame, Frames, Latents, Times, Windows

SEEN = 224
"""Side in pixels of the picture that the image encoder sees."""
RATE = 7
"""Frames per second of its clips."""
IMAGE_LEVEL = 65529
"""Level of the noise that the picture gets, beyond those of any ladder."""


class PicturePrior:
    """Conditioning of a frame: ``image`` (1, width), what the encoder says of the picture; ``image_latents`` (4, h, w).

    Both come from `seen`; they may differ from frame to frame, but a call has the ``image`` of its first frame.

    Args:
        facts, device: as of every prior.
        vae, unet, encoder: the networks; the UNet where it shall lie.
        noises: least and greatest deviation of the noise.
        guidance: scale of the first and of the last frame of a call, in between linear.
        rate: frames per second that the clip shall have, 2 or more.
        motion: how much it shall move, 0 to 255.
        blur: deviation of the noise that the picture gets, 0 or more: more frees the motion.
    """

    options: ClassVar[frozenset[str]] = frozenset(
        {"guidance_scale", "motion", "picture_noise", "rate", "offload", "small_weights"}
    )
    made_of: ClassVar[MadeOf] = "picture"
    only_makes: ClassVar[bool] = True

    def __init__(
        self,
        facts: PriorFacts,
        vae: AutoencoderKLTemporalDecoder,
        unet: UNetSpatioTemporalConditionModel,
        encoder: CLIPVisionModelWithProjection,
        noises: tuple[float, float],
        device: torch.device,
        *,
        guidance: tuple[float, float] = (1.0, 3.0),
        rate: int = RATE,
        motion: int = 127,
        blur: float = 0.02,
    ) -> None:
        self.facts, self.device = facts, device
        self._vae, self._unet, self._encoder = vae.to(device), unet, encoder.to(device)
        self._noises, self._guidance = noises, guidance
        self._labels, self._blur = (rate - 1, motion, blur), blur

    @classmethod
    def facts_of(cls, folder: Path, options: PriorOptions | None = None) -> PriorFacts:
        """From the settings in a folder, without its weights. PriorError for a part that is missing."""
        vae, unet = (read_json(folder / part / "config.json") for part in ("vae", "unet"))
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        return PriorFacts(
            name="stable-video-diffusion",
            licence="Stability AI Community License (Stable Video Diffusion)",
            window=int(unet.get("num_frames", 25)),
            per_frame_levels=False,
            latent_channels=int(vae.get("latent_channels", 4)),
            spatial_factor=factor,
            temporal_factor=1,
            size_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
            conditionings=frozenset({"image", "image_latents"}),
            call_bytes=93_000,  # not measured: as the UNet of SD 1.5, see control_tile.py
            frame_bytes=272_000,
            usual_steps=25,
            usual_fps=RATE,
        )

    @classmethod
    def weights_of(cls, folder: Path, options: PriorOptions | None = None) -> list[Path]:
        """The files of weights that are read. PriorError for a part that is missing."""
        networks = [path for part in ("vae", "unet") for path in weights_of(folder / part, NETWORK)]
        return [*networks, *weights_of(folder / "image_encoder", TEXT)]

    @classmethod
    def from_pretrained(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PriorOptions | None = None
    ) -> "PicturePrior":
        """Load a folder; PriorError if a part is not there or does not fit. Never downloads."""
        schedule = read_json(folder / "scheduler" / "scheduler_config.json")
        told = generation_options(options or PriorOptions())
        wanted = {"prediction_type": "v_prediction", "use_karras_sigmas": True, "timestep_type": "continuous"}
        for name, value in wanted.items():
            if schedule.get(name) != value:
                raise PriorError(
                    f"the schedule in {folder} has {name} {schedule.get(name)!r}, not {value!r} as it must"
                )
        return cls(
            cls.facts_of(folder),
            load_network(AutoencoderKLTemporalDecoder, folder / "vae", torch.float32),
            placed(load_network(UNetSpatioTemporalConditionModel, folder / "unet", dtype), device, options),
            load_text(CLIPVisionModelWithProjection, folder / "image_encoder"),
            (float(schedule["sigma_min"]), float(schedule["sigma_max"])),
            device,
            guidance=(1.0, told.guidance_scale or 3.0),
            rate=max(2, told.rate or RATE),
            motion=127 if told.motion is None else told.motion,
            blur=0.02 if told.picture_noise is None else told.picture_noise,
        )

    def ladder(self, steps: int) -> Ladder:
        """The times are deviations of the noise on a clean latent that is not scaled down, as in Karras et al., eq. 5.

        Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022; rho is 7.
        """
        low, high = (deviation ** (1 / 7) for deviation in self._noises)
        ramp = [i / max(1, steps - 1) for i in range(steps)]
        deviations = [0.0, *((high + r * (low - high)) ** 7 for r in reversed(ramp))]
        scale = [(1 + s * s) ** 0.5 for s in deviations]
        sigma = tuple(s / k for s, k in zip(deviations, scale, strict=True))
        return Ladder("ddim", tuple(deviations), tuple(1 / k for k in scale), sigma)

    def encode(self, frames: Frames) -> Latents:
        """Frames in [0, 1] to latents, one by one."""
        with torch.inference_mode():
            parts = [self._vae.encode(2 * frame[None].to(self.device) - 1).latent_dist.mode() for frame in frames]
            return torch.cat(parts) * float(self._vae.config.scaling_factor)

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """Latents to frames, not clamped, one by one: a frame does not depend on which others are decoded with it."""
        scale = float(self._vae.config.scaling_factor)
        with torch.inference_mode():
            parts = [self._vae.decode(z[None].to(self.device) / scale, num_frames=1).sample for z in latents]
            return torch.cat(parts) / 2 + 0.5

    def seen(self, picture: Frame, seed: int = 0) -> dict[str, Tensor]:
        """The conditioning that a picture gives, (3, H, W) in [0, 1]."""
        plain = 2 * picture[None].to(self.device) - 1
        _, channels, height, width = plain.shape
        grain = noise(seed, 0, IMAGE_LEVEL, (channels, height, width)).to(plain)
        mean = plain.new_tensor([0.48145466, 0.4578275, 0.40821073]).view(-1, 1, 1)  # of CLIP
        deviation = plain.new_tensor([0.26862954, 0.26130258, 0.27577711]).view(-1, 1, 1)
        with torch.inference_mode():
            small = (_resize_with_antialiasing(plain, (SEEN, SEEN)) + 1) / 2
            image = self._encoder((small - mean) / deviation).image_embeds
            latents = self._vae.encode(plain + self._blur * grain).latent_dist.mode()
        return {"image": image, "image_latents": latents[0]}

    def told(self, texts: Sequence[str], picture: Frame | None, seed: int) -> list[dict[str, Tensor]]:
        """What the picture gives, whatever the texts. PriorError without one."""
        if picture is None:
            raise PriorError(f"the prior {self.facts.name} sets a picture in motion; give it one")
        return [self.seen(picture, seed)] * len(texts)

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of each frame itself and its latent; the first one is the picture of all."""
        seen: dict[str, Tensor] = {}
        for frame in frames:
            here = frame.to(self.device)
            seen = seen or self.seen(here)
            yield {"degraded": here, "degraded_latents": self.encode(here[None])[0], **seen}

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """Nothing: a frame is decoded by itself."""
        return {}

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """Clean latents, guided. ``attend`` must be None, and the frames of a call at one level."""
        if attend is not None:
            raise PriorError(f"the prior {self.facts.name} takes no attention directives; use a plan without")
        if bool((times != times[:, :1]).any()):
            raise PriorError(
                f"the prior {self.facts.name} takes one level for all frames of a call; use a windows plan"
            )
        with torch.inference_mode():
            found = [
                self._clean(z[None], float(t[0]), {name: value[i : i + 1] for name, value in conditioning.items()})
                for i, (z, t) in enumerate(zip(latents.to(self.device).float(), times, strict=True))
            ]
        return torch.cat(found)

    def _clean(self, z: Windows, deviation: float, conditioning: Conditioning) -> Windows:
        """One call. The networks see latents of unit variance, which is what those of the ladder have."""
        kind = self._unet.dtype
        beside, image = conditioning["image_latents"].to(z), conditioning["image"][:, 0].to(self.device, kind)
        first, last = self._guidance
        guided = last > 1
        seen = (
            [(beside, image)] if not guided else [(torch.zeros_like(beside), torch.zeros_like(image)), (beside, image)]
        )
        time = torch.tensor(max(deviation, 1e-6), dtype=torch.float64).log().mul(0.25).float()
        labels = torch.tensor([self._labels], dtype=kind, device=self.device)
        outputs = [
            self._unet(
                torch.cat([z, still], 2).to(kind),
                time.to(self.device),
                encoder_hidden_states=embedding,
                added_time_ids=labels,
                return_dict=False,
            )[0].float()
            for still, embedding in seen
        ]
        output = outputs[-1]
        if guided:
            scale = torch.linspace(first, last, z.shape[1], device=z.device).view(1, -1, 1, 1, 1)
            output = outputs[0] + scale * (outputs[1] - outputs[0])
        size = (1 + deviation * deviation) ** 0.5
        clean: Windows = z / size - deviation / size * output
        return clean
