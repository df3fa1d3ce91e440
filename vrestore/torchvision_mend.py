"""torchvision beside a torch that it was not built for: the one place that knows of this trap.

PyPI's torchvision is built for CUDA. Beside torch's CPU wheel its operators do not load, ``import torchvision`` fails,
and with it every import of transformers' text encoders, which look for it. It comes with the extra ``controls``.
"""

import sys
from importlib import import_module
from importlib.util import find_spec

import torch

_declared: list[torch.library.Library] = []
"""Declarations last as long as their library does."""


def mend_torchvision() -> bool:
    """Make torchvision importable, if it is there at all and cannot be imported; whether that was so.

    Its import fails where it describes two of its operators. Declaring these is enough; calling them still fails, but
    nothing here, in transformers or in controlnet-aux does. Where torchvision fits torch, nothing is changed.
    """
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return False
    try:
        import_module("torchvision")
        return False
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    import_module("torchvision")
    return True
