"""The heads: one file each. The table is all that the program knows of them."""

from collections.abc import Mapping

if __name__ != "vrestore.tasks":
    raise ImportError("import this as vrestore.tasks; as a top-level package it would be a second copy")

TASKS: Mapping[str, str] = {
    "sr": "vrestore.tasks.super_resolution:SuperResolution",
    "interpolate": "vrestore.tasks.interpolation:Interpolation",
    "deblur": "vrestore.tasks.deblurring:Deblurring",
    "edit": "vrestore.tasks.editing:Editing",
    "depth": "vrestore.tasks.depth:Depth",
}
"""Command -> "module:class", imported when it is used."""
MAKERS: Mapping[str, str] = {
    "generate": "vrestore.tasks.generation:Generation",
}
"""The same of heads without a source."""
