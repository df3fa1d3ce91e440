"""Settings of a batch, apart from those of the head."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vrestore.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Which clips, and how they are shared out."""

    recursive: Annotated[bool, "Also the clips in folders below; the tree is mirrored."] = False
    pattern: Annotated[str, "Only clips whose name fits, such as 'A001*.mov'; with a / their path below IN_DIR."] = "*"
    suffix: Annotated[
        str | None, "Suffix of the outputs, .mkv; none: that of the input, or .mkv added where it cannot be written."
    ] = None
    units: Annotated[
        Literal["clip", "shot"],
        "What is shared out: whole clips, or their shots, so that several workers do one long clip.",
    ] = "clip"
    jobs: Annotated[
        int | None, "Clips at a time, each in a process of its own; none: 1, on Ray as many as its machines hold."
    ] = None
    attempts: Annotated[int, "How often a clip is tried whose worker dies."] = 3
    lease: Annotated[
        float, "Seconds without a sign of life after which another process takes over a clip from a machine."
    ] = 120.0
    ray: Annotated[str | None, "Work on Ray: 'local', or the address of a cluster that sees the same paths."] = None
    ray_cpus: Annotated[int, "CPU cores that a clip takes on Ray; at most those of its largest machine."] = 4
    ray_gpus: Annotated[float | None, "GPUs that a clip takes on Ray; none: one where the cluster has any."] = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        if self.units not in ("clip", "shot"):
            raise ConfigError(f"units is {self.units!r}; give clip or shot")
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"jobs is {self.jobs}; give 1 or more")
        if self.attempts < 1:
            raise ConfigError(f"attempts is {self.attempts}; give 1 or more")
        if not 1 <= self.lease <= 86400:
            raise ConfigError(f"lease is {self.lease}; give 1 to 86400 seconds")
        if not self.pattern:
            raise ConfigError("pattern is empty; give one such as '*.mov', or leave it out")
        if self.suffix is not None and (not self.suffix[1:].isalnum() or self.suffix[0] != "."):
            raise ConfigError(f"suffix is {self.suffix!r}; give one such as .mkv")
        if self.ray_cpus < 1:
            raise ConfigError(f"ray_cpus is {self.ray_cpus}; give 1 or more")
        if self.ray_gpus is not None and not 0 <= self.ray_gpus <= 64:
            raise ConfigError(f"ray_gpus is {self.ray_gpus}; give 0 to 64, such as 0.5 for two clips on a GPU")
