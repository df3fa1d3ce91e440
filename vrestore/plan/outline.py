"""What a plan will cost, known before it runs."""

from dataclasses import dataclass

from vrestore.plan.steps import Plan, is_call


@dataclass(frozen=True)
class Outline:
    """Calls of the prior, how many of them must wait for one another, and the latents held."""

    frames: int
    calls: int
    critical_path: int
    """Calls in sequence, however many machines share the work."""
    live: int
    """Latents held at most."""

    @property
    def calls_per_frame(self) -> float:
        """Calls for each latent frame."""
        return self.calls / self.frames

    @property
    def memory(self) -> str:
        """Either "streaming": the latents under way; "whole": every latent of the sequence."""
        return "streaming" if self.live < self.frames else "whole"


def outline(plan: Plan) -> Outline:
    """The costs of a plan. One that does not name its ``critical_path`` is run through to count it."""
    path = getattr(plan, "critical_path", None)
    if path is None:
        path = sum(any(is_call(step, plan) for step in steps) for steps in plan.ticks())
    return Outline(plan.frames, plan.calls, path, plan.live_bound)
