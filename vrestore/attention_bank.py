"""Keys and values of frames that many windows attend to, kept for the next one."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vrestore.prior import Conditioning

PATIENCE = 4
"""An entry that was not asked for in so many times the number of entries (and some more) is of the past: another shot,
or a level that the last window has passed."""
SOME_MORE = 64


@dataclass(frozen=True)
class Entry:
    """What a frame gives: layer, keys and values (branches, heads, tokens, dim), in the order in which layers run."""

    layers: tuple[tuple[int, Tensor, Tensor], ...]

    @cached_property
    def size(self) -> int:
        """Size of the keys and values."""
        return sum(key.nbytes + value.nbytes for _, key, value in self.layers)


def fingerprint(latent: Tensor, time: Tensor, conditioning: Conditioning, downsampling: int) -> bytes:
    """Of all that the keys and values of a frame seen alone depend on, but the networks: equal only if all is equal."""
    digest = hashlib.blake2b(digest_size=20)
    for name, value in (("latent", latent), ("time", time), *sorted(conditioning.items())):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} {downsampling};".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


class Bank:
    """Entries by fingerprint, as many as fit.

    Windows go round the levels, so what was used last is needed last again: a full bank keeps what it has, and takes
    nothing new until something in it has gone out of use.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.hits = self.misses = 0
        self._entries: dict[bytes, Entry] = {}
        self._used: dict[bytes, int] = {}

    @property
    def size(self) -> int:
        """Size of all that is held."""
        return sum(entry.size for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """An entry, if it is held."""
        found = self._entries.get(key)
        self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        if found is not None:
            self._used[key] = self.hits + self.misses
        return found

    def put(self, key: bytes, entry: Entry) -> None:
        """Hold an entry, if there is room, and forget those out of use."""
        now = self.hits + self.misses
        patience = PATIENCE * len(self._entries) + SOME_MORE
        for old in [old for old, used in self._used.items() if now - used > patience]:
            del self._entries[old], self._used[old]
        if self.size + entry.size <= self.limit:
            self._entries[key], self._used[key] = entry, now

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._used.clear()
