"""Video restoration and editing on video diffusion priors: one windowed-latent engine, any length.

Every public name is imported when it is first used, so that ``import vrestore`` is silent, immediate and loads
neither torch nor diffusers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vrestore.batch import BatchConfig as BatchConfig
    from vrestore.batch import BatchReport as BatchReport
    from vrestore.batch import run_batch as run_batch
    from vrestore.comparison import CompareConfig as CompareConfig
    from vrestore.comparison import Comparison as Comparison
    from vrestore.comparison import compare as compare
    from vrestore.errors import VRestoreError as VRestoreError
    from vrestore.preset import from_preset as from_preset
    from vrestore.report import JobPlan as JobPlan
    from vrestore.report import MakeOptions as MakeOptions
    from vrestore.report import Progress as Progress
    from vrestore.report import RunOptions as RunOptions
    from vrestore.report import RunResult as RunResult
    from vrestore.tasks.deblurring import Deblurring as Deblurring
    from vrestore.tasks.deblurring import DeblurringConfig as DeblurringConfig
    from vrestore.tasks.deblurring import deblur as deblur
    from vrestore.tasks.depth import Depth as Depth
    from vrestore.tasks.depth import DepthConfig as DepthConfig
    from vrestore.tasks.depth import estimate_depth as estimate_depth
    from vrestore.tasks.editing import Editing as Editing
    from vrestore.tasks.editing import EditingConfig as EditingConfig
    from vrestore.tasks.editing import edit as edit
    from vrestore.tasks.generation import Generation as Generation
    from vrestore.tasks.generation import GenerationConfig as GenerationConfig
    from vrestore.tasks.generation import generate as generate
    from vrestore.tasks.interpolation import Interpolation as Interpolation
    from vrestore.tasks.interpolation import InterpolationConfig as InterpolationConfig
    from vrestore.tasks.interpolation import interpolate as interpolate
    from vrestore.tasks.super_resolution import SuperResolution as SuperResolution
    from vrestore.tasks.super_resolution import SuperResolutionConfig as SuperResolutionConfig
    from vrestore.tasks.super_resolution import super_resolve as super_resolve
    from vrestore.video.formats import Formats as Formats

__version__ = "0.1.0"

_HOME = {
    "BatchConfig": "vrestore.batch",
    "BatchReport": "vrestore.batch",
    "CompareConfig": "vrestore.comparison",
    "Comparison": "vrestore.comparison",
    "Deblurring": "vrestore.tasks.deblurring",
    "DeblurringConfig": "vrestore.tasks.deblurring",
    "Depth": "vrestore.tasks.depth",
    "DepthConfig": "vrestore.tasks.depth",
    "Editing": "vrestore.tasks.editing",
    "EditingConfig": "vrestore.tasks.editing",
    "Formats": "vrestore.video.formats",
    "Generation": "vrestore.tasks.generation",
    "GenerationConfig": "vrestore.tasks.generation",
    "Interpolation": "vrestore.tasks.interpolation",
    "InterpolationConfig": "vrestore.tasks.interpolation",
    "JobPlan": "vrestore.report",
    "MakeOptions": "vrestore.report",
    "Progress": "vrestore.report",
    "RunOptions": "vrestore.report",
    "RunResult": "vrestore.report",
    "SuperResolution": "vrestore.tasks.super_resolution",
    "SuperResolutionConfig": "vrestore.tasks.super_resolution",
    "VRestoreError": "vrestore.errors",
    "compare": "vrestore.comparison",
    "deblur": "vrestore.tasks.deblurring",
    "edit": "vrestore.tasks.editing",
    "estimate_depth": "vrestore.tasks.depth",
    "from_preset": "vrestore.preset",
    "generate": "vrestore.tasks.generation",
    "interpolate": "vrestore.tasks.interpolation",
    "run_batch": "vrestore.batch",
    "super_resolve": "vrestore.tasks.super_resolution",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name from where it lives (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'vrestore' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
