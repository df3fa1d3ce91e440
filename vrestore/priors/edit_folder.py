"""What a folder of the Stable Diffusion family holds for editing: its networks beside the UNet, and what they need."""

from collections.abc import Sequence
from pathlib import Path

from vrestore.prior_options import EditOptions
from vrestore.priors.animated import motion_settings
from vrestore.priors.folder import part_folder, read_json
from vrestore.priors.hub import named_folder

NONE = "none"
"""In place of a folder: do without."""


def usual_size(folder: Path, factor: int) -> tuple[int, int] | None:
    """(height, width) in pixels for which the UNet's settings say that it is made."""
    side = read_json(part_folder(folder, "unet") / "config.json").get("sample_size")
    height, width = side if isinstance(side, list) and len(side) == 2 else (side, side)
    return (factor * height, factor * width) if isinstance(height, int) and isinstance(width, int) else None


def controlnet_folders(folder: Path, options: EditOptions) -> list[Path]:
    """Of the ControlNets that are used: those that were asked for, or the one in the prior's own folder, if any."""
    if options.controlnet is not None:
        names = [name.strip() for name in options.controlnet.split(",") if name.strip()]
        return [] if names == [NONE] else [_named(name, options) for name in names]
    own = part_folder(folder, "controlnet")
    return [own] if own.is_dir() else []


def motion_folder(folder: Path, options: EditOptions) -> Path | None:
    """Of the motion modules that are used; that of the UNet where it has some itself. None: there are none.

    PriorError for a folder that holds none.
    """
    unet = part_folder(folder, "unet")
    if read_json(unet / "config.json").get("_class_name") == "UNetMotionModel":
        return unet
    if options.motion_adapter == NONE:
        return None
    own = part_folder(folder, "motion_adapter")
    found = _named(options.motion_adapter, options) if options.motion_adapter else own
    if options.motion_adapter is None and not own.is_dir():
        return None
    motion_settings(found)
    return found


def kept_bytes(unet: Path, controlnets: Sequence[Path]) -> int:
    """What the networks keep of a frame that other windows look at, per latent pixel: keys and values of two branches
    of guidance, float32, of the layers that look beyond the own frame (downsampled twice or more)."""
    total = 0.0
    for folder in (unet, *controlnets):
        settings = read_json(folder / "config.json")
        widths, layers = settings["block_out_channels"], settings.get("layers_per_block", 2)
        layers = layers if isinstance(layers, int) else max(layers)
        for i, kind in enumerate(settings.get("down_block_types", ())):
            if "CrossAttn" in kind and i > 0:
                sides = 2 * layers + 1 if folder == unet else layers  # on the way up there is one more
                total += sides * widths[i] / 4**i
        total += widths[-1] / 4 ** (len(widths) - 1)
    return round(2 * 2 * 4 * total)


def _named(name: str, options: EditOptions) -> Path:
    return named_folder(name, download=options.download)
