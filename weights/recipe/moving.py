"""Training of the edit prior's motion modules: frames of a clip in one look, so that each helps the others.

What has learned looks stays as it is; the adapter between its layers learns from short clips (Guo et al.,
"AnimateDiff", ICLR 2024, section 4.2).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import MotionAdapter, UNetMotionModel
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPTokenizer

from vrestore.weights.recipe.editing import KINDS, Editor, Lesson, Looking, structure
from vrestore.weights.recipe.fit import Moment

CLIPS = 2
"""Of a step."""
MOST_FRAMES = 32
SHORT, SHORT_SHARE = 8, 0.5
"""Frames that are seen of a clip in a share of the steps; in the others all of them are."""
ALIKE, OWN = 0.25, 0.4
"""Share of steps with one noise for all frames, and with a noise for each; in the others they have a part in common."""


def adapter() -> MotionAdapter:
    """The untrained motion modules of `Editor`; they start as the identity."""
    return MotionAdapter(
        block_out_channels=(64, 96),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=16,
        motion_max_seq_length=MOST_FRAMES,
        use_motion_mid_block=True,
    )


class Mover(nn.Module):
    """A trained `Editor` that is held, with motion modules that learn."""

    def __init__(self, editor: Editor) -> None:
        super().__init__()
        self.editor = editor.requires_grad_(False)
        self.unet = UNetMotionModel.from_unet2d(editor.unet, adapter())
        self.unet.freeze_unet2d_params()

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor, maps: Tensor) -> Tensor:
        """The v-prediction (clips, time, 16, h, w). ``times`` (clips,), ``maps`` (clips, time, 3, 8 h, 8 w)."""
        frames = latents.shape[1]
        each = times.repeat_interleave(frames)
        with torch.no_grad():
            told = self.editor.text(tokens)[0].repeat_interleave(frames, 0)
            down, middle = self.editor.controlnet(
                latents.flatten(0, 1), each, told, maps.flatten(0, 1), return_dict=False
            )
        found: Tensor = self.unet(
            rearrange(latents, "b t c h w -> b c t h w"),
            times,
            told,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return rearrange(found, "b c t h w -> b t c h w")


class Animating(Looking[Mover]):
    """The loss: error of the v-prediction of all frames of a clip, at one time."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer, batch: int = CLIPS) -> None:
        super().__init__(folder, tokenizer, batch or CLIPS)

    def maps(self, rng: np.random.Generator, sources: Sequence[np.ndarray]) -> np.ndarray:
        """Of one kind for all frames of a clip, made alike."""
        made = []
        for clip in sources:
            kind, own = rng.choice(list(KINDS), p=list(KINDS.values())), int(rng.integers(1 << 30))
            made.append(np.stack([structure(kind, frame, np.random.default_rng(own)) for frame in clip]))
        return np.stack(made)

    def part(self, rng: np.random.Generator) -> slice:
        """Neighbouring frames: some of the clip, or all."""
        frames = self._arrays[0].shape[1]
        if frames <= SHORT or rng.random() >= SHORT_SHARE:
            return slice(None)
        first = int(rng.integers(frames - SHORT + 1))
        return slice(first, first + SHORT)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
        """Of frames that have none of it in common, a part, or all: as edits are drawn with one noise or with many
        (the mixed noise of Ge et al., "Preserve Your Own Correlation", ICCV 2023)."""
        kind = rng.random()
        common = 1.0 if kind < ALIKE else 0.0 if kind < ALIKE + OWN else float(rng.random())
        whole, own = super().noise(rng, (shape[0], 1, *shape[2:])), super().noise(rng, shape)
        mixed: Tensor = common**0.5 * whole + (1 - common) ** 0.5 * own
        return mixed

    def times(self, rng: np.random.Generator) -> Tensor:
        """Anywhere."""
        return torch.from_numpy(rng.integers(1000, size=self._batch))

    def led(self, rng: np.random.Generator) -> np.ndarray:
        """All of them."""
        return np.ones(self._batch)

    def losses(self, model: Mover, batch: Lesson, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        found = model(batch.place, batch.times, batch.tokens, batch.shown())
        return {"v": F.mse_loss(found.float(), batch.wanted)}


def export(model: Mover, folder: Path) -> None:
    """Write ``folder/motion_adapter`` in fp16."""
    learned = {k: v for k, v in model.unet.state_dict().items() if "motion_modules" in k}
    made = adapter()
    made.load_state_dict(learned)
    made.to(torch.float16).save_pretrained(folder / "motion_adapter")
