"""Wan: a transformer over all places of a clip, on the latents of a causal video autoencoder.

By the layout of diffusers' ``WanPipeline``; Wan team, "Wan: Open and Advanced Large-Scale Video Generative Models",
2025. Wan 2.2 TI2V was trained with a time for every token, so its frames may stand at different levels, and a given
picture is a frame at level 0. The autoencoder makes one latent of the first frame and one of every four more: a clip
has 4 k + 1 frames. In a window that begins later, the first latent is one of four frames, too, unlike in training.
Agrees with that pipeline on small random networks; published weights were not run with this code.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from jaxtyping import Float
from torch import Tensor
from transformers import UMT5EncoderModel

from vrestore.errors import PriorError
from vrestore.guidance import classifier_free
from vrestore.prior import Conditioning, MadeOf, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.priors.folder import NETWORK, TEXT, load_network, load_text, read_json, weights_of
from vrestore.priors.frugal import placed
from vrestore.priors.text import load_t5_tokenizer
from vrestore.sampling import Ladder
from vrestore.shapes import Frame, Frames, Latent, Times, Windows

TOKENS = 512
"""Of a prompt; what is beyond is left out."""
GUIDANCE = 5.0
Few = Float[Tensor, "few channels h w"]
"""Latents of a clip; there are fewer of them than frames."""


class WanPrior:
    """Conditioning of a latent frame: ``text`` (tokens, width), and ``negative_text`` where guidance is above 1.

    A call has the texts of its first frame.

    Args:
        facts, device: as of every prior.
        vae, transformer: the networks; the latter where it shall lie.
        folder: where the text encoder lies, which is read when it is asked.
        shift: of the flow's times.
        guidance: scale, 1 or more.
        texts: the prompt of what has no text of its own, and what guidance leads away from.
    """

    options: ClassVar[frozenset[str]] = frozenset(
        {"prompt", "negative_prompt", "guidance_scale", "offload", "small_weights"}
    )
    made_of: ClassVar[MadeOf] = "words"
    only_makes: ClassVar[bool] = True

    def __init__(
        self,
        facts: PriorFacts,
        vae: AutoencoderKLWan,
        transformer: WanTransformer3DModel,
        device: torch.device,
        folder: Path,
        *,
        shift: float = 5.0,
        guidance: float = GUIDANCE,
        texts: tuple[str, str] = ("", ""),
    ) -> None:
        self.facts, self.device = facts, device
        self._folder, self._texts = folder, texts
        self._vae, self._transformer = vae.to(device), transformer
        self._shift, self._guidance = shift, guidance
        mean, deviation = (torch.tensor(vae.config[name]) for name in ("latents_mean", "latents_std"))
        self._mean, self._deviation = (each.view(-1, 1, 1).to(device) for each in (mean, deviation))

    @classmethod
    def facts_of(cls, folder: Path, options: PriorOptions | None = None) -> PriorFacts:
        """From the settings in a folder, without its weights. PriorError for a part that is missing."""
        vae, network = (read_json(folder / part / "config.json") for part in ("vae", "transformer"))
        index = read_json(folder / "model_index.json")
        guided = _guidance(options) > 1
        factor, patch = int(vae.get("scale_factor_spatial", 8)), network.get("patch_size", [1, 2, 2])
        return PriorFacts(
            name="wan",
            licence="Apache-2.0",
            window=31 if index.get("expand_timesteps") else 21,
            per_frame_levels=bool(index.get("expand_timesteps")),
            latent_channels=int(vae.get("z_dim", 16)),
            spatial_factor=factor,
            temporal_factor=int(vae.get("scale_factor_temporal", 4)),
            size_multiple=factor * int(patch[1]),
            conditionings=frozenset({"text", "negative_text"} if guided else {"text"}),
            call_bytes=200_000,  # not measured
            frame_bytes=600_000,
            usual_steps=50,
        )

    @classmethod
    def weights_of(cls, folder: Path, options: PriorOptions | None = None) -> list[Path]:
        """The files of weights that are read. PriorError for a part that is missing."""
        networks = [path for part in ("vae", "transformer") for path in weights_of(folder / part, NETWORK)]
        return [*networks, *weights_of(folder / "text_encoder", TEXT)]

    @classmethod
    def from_pretrained(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PriorOptions | None = None
    ) -> "WanPrior":
        """Load a folder; PriorError if a part is not there or does not fit. Never downloads."""
        schedule = read_json(folder / "scheduler" / "scheduler_config.json")
        return cls(
            cls.facts_of(folder, options),
            load_network(AutoencoderKLWan, folder / "vae", torch.float32),
            placed(load_network(WanTransformer3DModel, folder / "transformer", dtype), device, options),
            device,
            folder,
            shift=float(schedule.get("flow_shift", schedule.get("shift", 1.0))),
            guidance=_guidance(options),
            texts=("", "") if options is None else (options.prompt or "", options.negative_prompt or ""),
        )

    def ladder(self, steps: int) -> Ladder:
        """The times of diffusers' flow-matching Euler scheduler, shifted as the folder says."""
        scheduler = FlowMatchEulerDiscreteScheduler(shift=self._shift)
        scheduler.set_timesteps(steps)
        times = tuple(float(s) for s in scheduler.sigmas.flip(0))
        return Ladder("flow", times, tuple(1 - t for t in times), times)

    def encode(self, frames: Frames) -> Few:
        """Frames in [0, 1], 4 k + 1 of them, to k + 1 latents. PriorError for another number."""
        if len(frames) % self.facts.temporal_factor != 1 % self.facts.temporal_factor:
            raise PriorError(
                f"{len(frames)} frames are no whole number of latents; the prior {self.facts.name} takes "
                f"{self.facts.temporal_factor} k + 1"
            )
        return torch.stack(list(self.encoding(iter(frames))))

    def decode(self, latents: Few, conditioning: Conditioning) -> Frames:
        """k latents, from the first of a video on, to 4 (k - 1) + 1 frames, clamped to [0, 1]."""
        return torch.stack(list(self.decoding(iter(latents))))

    def encoding(self, frames: Iterator[Frame]) -> Iterator[Latent]:
        """Latents of a video of any length: what the encoder must remember does not grow. Few frames are read ahead."""
        remembered: list[Any] = [None] * self._vae._cached_conv_counts["encoder"]
        many = 1
        while group := [frame for _, frame in zip(range(many), frames, strict=False)]:
            group += [group[-1]] * (many - len(group))  # the end of a length that is no 4 k + 1
            clip = 2 * torch.stack(group, 1)[None].to(self.device) - 1
            with torch.inference_mode():
                if self._vae.config.patch_size is not None:
                    clip = patchify(clip, patch_size=self._vae.config.patch_size)
                coded = self._vae.encoder(clip, feat_cache=remembered, feat_idx=[0])
                likeliest = self._vae.quant_conv(coded)[0, : self.facts.latent_channels, 0]
            yield (likeliest - self._mean) / self._deviation
            many = self.facts.temporal_factor

    def decoding(self, latents: Iterable[Latent]) -> Iterator[Frame]:
        """Frames of a video of any length, in [0, 1]: one of the first latent, four of each more."""
        decode = self.decoder()
        for latent in latents:
            yield from decode(latent)

    def decoder(self) -> Callable[[Latent], Frames]:
        """The same, latent by latent; see `vrestore.prior.Streams`."""
        remembered: list[Any] = [None] * self._vae._cached_conv_counts["decoder"]
        first = True

        def frames_of(latent: Latent) -> Frames:
            nonlocal first
            z = (latent.to(self.device) * self._deviation + self._mean)[None, :, None]
            with torch.inference_mode():
                clip = self._vae.decoder(
                    self._vae.post_quant_conv(z), feat_cache=remembered, feat_idx=[0], first_chunk=first
                )
                if self._vae.config.patch_size is not None:
                    clip = unpatchify(clip, patch_size=self._vae.config.patch_size)
            first = False
            frames: Frames = clip[0].transpose(0, 1).clamp(-1, 1) / 2 + 0.5
            return frames

        return frames_of

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "texts tokens width"]:
        """Prompts as the conditioning ``text`` has them: zero beyond their end. The encoder is read for each call."""
        tokenizer = load_t5_tokenizer(self._folder / "tokenizer")
        encoder = load_text(UMT5EncoderModel, self._folder / "text_encoder", self._transformer.dtype)
        found = []
        for text in texts:
            told = tokenizer(
                " ".join(text.split()), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
            )
            mask = told.attention_mask
            with torch.inference_mode():
                hidden = encoder(told.input_ids, mask)[0][0].float()
            found.append(hidden * mask[0, :, None])
        return torch.stack(found)

    def told(self, texts: Sequence[str], picture: Frame | None, seed: int) -> list[dict[str, Tensor]]:
        """``text`` for each, and ``negative_text`` where guidance leads away from it."""
        *found, away = self.embed([*texts, self._texts[1]]).unbind(0)
        more = {"negative_text": away} if self._guidance > 1 else {}
        return [{"text": text, **more} for text in found]

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of every latent its first frame, itself, and the texts of the options."""
        (texts,) = self.told([self._texts[0]], None, 0)
        kept: list[Frame] = []

        def read() -> Iterator[Frame]:
            for frame in frames:
                kept.append(frame.to(self.device))
                yield kept[-1]

        for latent in self.encoding(read()):
            yield {"degraded": kept[0], "degraded_latents": latent, **texts}
            kept.clear()

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """Clean latents, guided. ``attend`` must be None."""
        if attend is not None:
            raise PriorError(f"the prior {self.facts.name} takes no attention directives; use a plan without")
        if not self.facts.per_frame_levels and bool((times != times[:, :1]).any()):
            raise PriorError(
                f"the prior {self.facts.name} takes one level for all frames of a call; use a windows plan"
            )
        z, kind = latents.to(self.device).float(), self._transformer.dtype
        told = 1000 * times.to(self.device, torch.float32)
        time = told[:, 0]
        if self.facts.per_frame_levels:
            rows, columns = (z.shape[i] // self._transformer.config.patch_size[i - 2] for i in (3, 4))
            time = told.repeat_interleave(rows * columns, 1)
        names = ["text", "negative_text"] if self._guidance > 1 else ["text"]
        with torch.inference_mode():
            found = [
                self._transformer(
                    z.transpose(1, 2).to(kind), time, conditioning[name][:, 0].to(self.device, kind), return_dict=False
                )[0].float()
                for name in names
            ]
        speed = found[0] if len(found) == 1 else classifier_free(found[0], found[1], self._guidance)
        t = times.to(z)[:, :, None, None, None]
        clean: Windows = z - t * speed.transpose(1, 2)
        return clean


def _guidance(options: PriorOptions | None) -> float:
    return GUIDANCE if options is None or options.guidance_scale is None else options.guidance_scale
