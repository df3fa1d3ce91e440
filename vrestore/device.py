"""Which device and precision a run uses."""

import torch

from vrestore.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA, then MPS, then the CPU. DeviceError if this machine does not have what was asked for."""
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is not a device; give auto, cpu, cuda, cuda:0 or mps") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in counts or (device.index or 0) >= counts[device.type]:
        here = ", ".join(kind for kind, count in counts.items() if count)
        raise DeviceError(f"device {name!r} is not on this machine; here are: {here}. Use --device auto")
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the device computes it natively, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cpu":
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32
