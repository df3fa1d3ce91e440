"""Which device and precision a run uses, and the memory that is free there."""

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
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
    """``auto`` is bfloat16 where the device computes it natively and faster, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cpu":
        native = _quick_in_bfloat16()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def _quick_in_bfloat16() -> bool:
    """Whether this CPU multiplies faster in bfloat16 than in float32.

    Of x86 those with AMX, and those of AMD (which alone have SSE4a) with AVX-512 for it. With the latter, Intel's take
    twice as long for a convolution as in float32.
    """
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return True
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("amx_bf16") or (able.get("avx512_bf16") and able.get("sse4a")))


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take on a device; of the machine: what its limits leave of what is free."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(held)
    free = [int(psutil.virtual_memory().available), *_left_by_groups(), *_left_of_address_space()]
    return max(0, min(free))


def _left_of_address_space() -> list[int]:
    try:
        import resource
    except ImportError:  # not on every system
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [limit - int(psutil.Process().memory_info().vms)]


def _left_by_groups(root: Path = Path("/")) -> list[int]:
    """What the control groups of this process, and those above them, leave of their limits (versions 1 and 2)."""
    left = []
    for folder, names in _groups(root):
        most, used = _number(folder / names[0]), _number(folder / names[1])
        if most is not None and used is not None:
            left.append(most - used + _reclaimable(folder / "memory.stat", names[2]))
    return left


def _groups(root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folders of the control groups that count memory, and the names of what they say."""
    top = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = top, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = top / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = base / path[1:]  # inside a container the path may be one of the host: the top then holds the limit
        yield from ((folder, names) for folder in (own, *own.parents) if folder.is_relative_to(base))


def _reclaimable(path: Path, name: str) -> int:
    """Cached files that a group counts as used, and gives up when memory is wanted."""
    rows: dict[str, Any] = dict(line.split(" ", 1) for line in _text(path).splitlines() if " " in line)
    return int(rows.get(name, 0))


def _number(path: Path) -> int | None:
    """None where there is no such file, or it says "max"."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
