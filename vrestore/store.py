"""Where the latents of the frames under way are held: in memory, or in a memory-mapped file."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vrestore.errors import OutputError, PlanError
from vrestore.shapes import Latent


@runtime_checkable
class Store(Protocol):
    """Latents by frame, float32, all of one shape. What is put is copied, what is got may be changed freely."""

    @property
    def live(self) -> int:
        """Frames held now."""
        ...

    @property
    def peak(self) -> int:
        """The largest number of frames ever held."""
        ...

    @property
    def bytes(self) -> int:
        """Size of the latents held now."""
        ...

    def put(self, frame: int, latent: Latent) -> None:
        """Hold a latent, in place of the frame's former one. Raises PlanError: not the shape of the others."""
        ...

    def get(self, frame: int) -> Latent:
        """A copy of a frame's latent. Raises PlanError: the frame is not held."""
        ...

    def release(self, frame: int) -> None:
        """Forget a frame. Raises PlanError: the frame is not held."""
        ...

    def __contains__(self, frame: object) -> bool: ...

    def clear(self) -> None:
        """Forget every frame."""
        ...


class RamStore:
    """Latents in the memory of a device; the executor computes where its store keeps the latents.

    ``half``: held as float16, for what need not be exact.
    """

    def __init__(self, device: torch.device | str = "cpu", *, half: bool = False) -> None:
        self._device = torch.device(device)
        self._dtype = torch.float16 if half else torch.float32
        self._latents: dict[int, Tensor] = {}
        self.peak = 0

    @property
    def live(self) -> int:
        """Frames held now."""
        return len(self._latents)

    @property
    def bytes(self) -> int:
        """Size of the latents held now."""
        return sum(latent.nbytes for latent in self._latents.values())

    def put(self, frame: int, latent: Latent) -> None:
        """Hold a copy of a latent."""
        if self._latents:
            _check_shape(frame, latent, tuple(next(iter(self._latents.values())).shape))
        self._latents[frame] = latent.detach().to(self._device, self._dtype, copy=True)
        self.peak = max(self.peak, self.live)

    def get(self, frame: int) -> Latent:
        """A copy of a frame's latent."""
        _check_held(frame, frame in self)
        return self._latents[frame].to(torch.float32, copy=True)

    def release(self, frame: int) -> None:
        """Forget a frame."""
        _check_held(frame, frame in self)
        del self._latents[frame]

    def __contains__(self, frame: object) -> bool:
        return frame in self._latents

    def clear(self) -> None:
        """Forget every frame."""
        self._latents.clear()


class MmapStore:
    """Latents in memory-mapped files of a folder; the operating system keeps in memory what fits.

    The files grow by ``slots`` latents when needed and slots are used again, so the disk holds about as many latents
    as were ever live. The files are deleted by :meth:`close`, or at the end of the ``with`` block.

    Args:
        folder: created if missing.
        slots: latents per file, at least 1.
        half: held as float16, for what need not be exact.

    Raises:
        OutputError: the folder cannot be written, or the disk is full (at :meth:`put`).
    """

    def __init__(self, folder: Path, *, slots: int = 64, half: bool = False) -> None:
        self._folder = Path(folder)
        self._dtype = np.dtype(np.float16 if half else np.float32)
        self._slots = max(1, slots)
        self._files: list[Path] = []
        self._maps: list[np.memmap] = []
        self._slot_of: dict[int, int] = {}
        self._free: list[int] = []
        self._shape: tuple[int, ...] | None = None
        self.peak = 0

    @property
    def live(self) -> int:
        """Frames held now."""
        return len(self._slot_of)

    @property
    def bytes(self) -> int:
        """Size of the latents held now."""
        return 0 if self._shape is None else self.live * self._dtype.itemsize * int(np.prod(self._shape))

    def put(self, frame: int, latent: Latent) -> None:
        """Write a latent."""
        shape = tuple(latent.shape) if self._shape is None else self._shape
        _check_shape(frame, latent, shape)
        if frame not in self._slot_of:
            if not self._free:
                self._grow(shape)
            self._slot_of[frame] = self._free.pop()
        self._shape = shape
        self._slot(frame)[...] = latent.detach().to("cpu", torch.float32).numpy()
        self.peak = max(self.peak, self.live)

    def get(self, frame: int) -> Latent:
        """A copy of a frame's latent, in memory."""
        _check_held(frame, frame in self)
        return torch.from_numpy(np.array(self._slot(frame), np.float32))

    def release(self, frame: int) -> None:
        """Forget a frame; its slot is used again."""
        _check_held(frame, frame in self)
        self._free.append(self._slot_of.pop(frame))

    def __contains__(self, frame: object) -> bool:
        return frame in self._slot_of

    def clear(self) -> None:
        """Forget every frame; the files stay for use."""
        self._free.extend(self._slot_of.values())
        self._slot_of.clear()

    def close(self) -> None:
        """Forget every frame and delete the files. The store is empty then, and may be used again."""
        self._maps.clear()
        for file in self._files:
            file.unlink(missing_ok=True)
        self._files.clear()
        self._slot_of.clear()
        self._free.clear()
        self._shape = None

    def __enter__(self) -> "MmapStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _slot(self, frame: int) -> np.ndarray:
        slot = self._slot_of[frame]
        return np.asarray(self._maps[slot // self._slots][slot % self._slots])

    def _grow(self, shape: tuple[int, ...]) -> None:
        """One more file. It is written in full at once: a full disk is an error here, not a crash in a later write."""
        file = self._folder / f"latents-{len(self._files):04d}.f{8 * self._dtype.itemsize}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            np.zeros((self._slots, *shape), self._dtype).tofile(file)
            self._maps.append(np.memmap(file, self._dtype, mode="r+", shape=(self._slots, *shape)))
        except OSError as error:
            with suppress(OSError):
                file.unlink()
            raise OutputError(
                f"Cannot hold latents in {file}: {error.strerror or error}. Free some space, or choose another folder."
            ) from error
        self._files.append(file)
        first = (len(self._maps) - 1) * self._slots
        self._free.extend(reversed(range(first, first + self._slots)))


def _check_shape(frame: int, latent: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(latent.shape) != shape:
        raise PlanError(f"Frame {frame} has a latent of shape {tuple(latent.shape)}; the others have {shape}.")


def _check_held(frame: int, held: bool) -> None:
    if not held:
        raise PlanError(f"Frame {frame} is not in the store: it has not been started, or has been released.")
