"""Plans that climb: the windows of a sampling, from clean latents to those that it starts from."""

from dataclasses import replace

from vrestore.errors import PlanError
from vrestore.plan.crossed import ConsistentPlan, CrossedPlan
from vrestore.plan.windows import WindowsPlan

Sampling = WindowsPlan | CrossedPlan | ConsistentPlan
"""Plans of which there is an inversion."""


def climbing(sampling: Sampling, guesses: int = 1) -> Sampling:
    """The plan of an inversion with the windows, tiles and attention of a sampling.

    Each of its levels takes as many steps as there are guesses at the latent there: level p of this plan is the guess
    ``p % guesses`` on the way from level ``p // guesses`` of the sampling to the next.

    Raises:
        PlanError: no guess, or a plan that climbs already.
    """
    if guesses < 1:
        raise PlanError(f"An inversion with {guesses} guesses a level climbs nowhere; use at least 1.")
    windows = sampling if isinstance(sampling, WindowsPlan) else sampling.windows
    if windows.inverse:
        raise PlanError("The plan climbs already; give the plan of the sampling.")
    upwards = replace(windows, inverse=True, levels=windows.levels * guesses)
    return upwards if isinstance(sampling, WindowsPlan) else replace(sampling, windows=upwards)
