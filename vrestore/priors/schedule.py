"""Noise schedules of public priors: the ladder and the clean latents, from a ``scheduler_config.json``.

The levels are those of DDIM, whichever sampler the file names: samplers of this family are run on one network and one
schedule. Latent consistency models (``LCMScheduler``) have levels and steps of their own.
"""

import inspect
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from diffusers import DDIMScheduler
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.priors.folder import ADVICE, read_json
from vrestore.sampling import Ladder, ddim_ladder, lcm_ladder

CLIPPING = ("DDIMScheduler", "DDPMScheduler")
"""Samplers that clip the prediction unless their file says otherwise."""


@dataclass(frozen=True)
class Schedule:
    """A variance-preserving schedule and what a network trained on it predicts."""

    products: Tensor
    """Cumulative products of alpha at each training timestep, float32, (train,)."""
    prediction: Literal["epsilon", "v_prediction", "sample"]
    spacing: Literal["leading", "trailing", "linspace"]
    offset: int
    clean: bool
    """Level 0 is free of noise; otherwise it has that of training timestep 0."""
    clip: float | None
    """Largest magnitude of a predicted clean latent; None: any."""
    consistency: tuple[int, float] | None = None
    """Of a latent consistency model: timesteps that it was distilled on, and their scaling."""

    def ladder(self, steps: int, strength: float = 1.0) -> Ladder:
        """The lowest ``steps`` levels of a ladder of which they are the share ``strength``.

        With n levels in all, diffusers' image-to-image pipelines walk the lowest int(n strength); here n is the
        smallest number that makes that ``steps``. A step ends on the next timestep; diffusers' DDIM takes
        train // steps from the present one, which is the same but for "linspace" and uneven "trailing" spacing.
        """
        if self.consistency is not None:
            original, scaling = self.consistency
            return lcm_ladder(steps, self.products, original=original, strength=strength, scaling=scaling)
        total = steps if strength == 1 else math.ceil(steps / strength - 1e-9)
        whole = ddim_ladder(total, self.products, self.spacing, offset=self.offset, clean=self.clean)
        time, alpha, sigma = (values[: steps + 1] for values in (whole.time, whole.alpha, whole.sigma))
        return replace(whole, time=time, alpha=alpha, sigma=sigma, mixed=strength < 1)

    def most_steps(self, strength: float = 1.0) -> int:
        """The longest ladder of that strength that the training timesteps hold."""
        train = len(self.products)
        if self.consistency is not None:
            return int(self.consistency[0] * strength)
        total = train
        while self.spacing == "leading" and total > 1 and (total - 1) * (train // total) + self.offset >= train:
            total -= 1
        return int(total * strength + 1e-9)

    def clean_latents(self, output: Tensor, z: Tensor, times: Tensor) -> Tensor:
        """The clean latents behind ``z`` (n, c, h, w) at ``times`` (n,), from the network's output.

        v: Salimans and Ho, "Progressive Distillation", ICLR 2022, appendix D.
        """
        product = self.products.to(z.device)[times.long()].view(-1, 1, 1, 1)
        alpha, sigma = product.sqrt(), (1 - product).sqrt()
        if self.prediction == "epsilon":
            found = (z - sigma * output) / alpha
        elif self.prediction == "v_prediction":
            found = alpha * z - sigma * output
        else:
            found = output
        return found if self.clip is None else found.clamp(-self.clip, self.clip)

    def noised(self, pictures: Tensor, noise: Tensor, time: int) -> Tensor:
        """Pictures with the noise of a training timestep."""
        product = self.products.to(pictures.device)[time]
        return product.sqrt() * pictures + (1 - product).sqrt() * noise


def read_schedule(folder: Path) -> Schedule:
    """The schedule in ``folder/scheduler_config.json``.

    Raises:
        PriorError: the file is missing or damaged, or says what is not handled (a flow, dynamic thresholds).
    """
    path = folder / "scheduler_config.json"
    config = read_json(path)
    kind = str(config.get("_class_name"))
    if "Flow" in kind or config.get("use_flow_sigmas") or config.get("thresholding"):
        raise PriorError(
            f"{path} is of a {kind} with flow matching or dynamic thresholds, which is not supported; use the prior's "
            "DDIM, DDPM, PNDM, Euler or DPM-Solver schedule"
        )
    known = inspect.signature(DDIMScheduler.__init__).parameters
    try:
        scheduler = DDIMScheduler(**{name: value for name, value in config.items() if name in known})
        prediction, spacing = scheduler.config.prediction_type, scheduler.config.timestep_spacing
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"prediction_type is {prediction!r}")
        if spacing not in ("leading", "trailing", "linspace"):
            raise ValueError(f"timestep_spacing is {spacing!r}")
        clips = config.get("clip_sample", kind in CLIPPING)
        return Schedule(
            products=scheduler.alphas_cumprod.float(),
            prediction=prediction,
            spacing=spacing,
            offset=int(scheduler.config.steps_offset),
            clean=bool(scheduler.config.set_alpha_to_one),
            clip=float(scheduler.config.clip_sample_range) if clips else None,
            consistency=_consistency(config) if kind == "LCMScheduler" else None,
        )
    except (ValueError, TypeError, NotImplementedError) as error:
        raise PriorError(f"{path} is no usable schedule: {str(error).splitlines()[0]}; {ADVICE}") from error


def _consistency(config: dict[str, Any]) -> tuple[int, float]:
    """diffusers' defaults where the file says nothing."""
    return int(config.get("original_inference_steps", 50)), float(config.get("timestep_scaling", 10.0))
