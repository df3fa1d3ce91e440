"""A small copy of the data, for a machine to which little can be sent: the same places and motion, smaller and shorter.

Photographs are reduced until they fit, so that they stay as sharp as they were; footage is cut, not encoded again, for
what a codec leaves of detail once it leaves less of twice.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from vrestore.errors import ConfigError
from vrestore.weights.recipe.judge import load_sequences

QUALITY = 92
"""Of photographs that are encoded again."""
SHORTEST = 12
"""Frames of a clip that is worth its place."""
MARGIN = 0.98
"""Part of the room that is given away: containers hold a little more than what is put in."""


def pack(data: Path, folder: Path, mib: float, say: Callable[[str], None], sequences: Path | None = None) -> None:
    """Copy ``data/stills`` and ``data/clips`` to ``folder`` in at most ``mib`` MiB, each file in its share of them.

    ``sequences``: folders of real frames to judge on; what is judged of them goes along without loss.

    Raises:
        ConfigError: there is no photograph, ``folder`` is not empty, or nothing fits.
    """
    stills = [p for kind in ("*.jpg", "*.png") for p in sorted((data / "stills").glob(kind))]
    clips = sorted((data / "clips").glob("*.mp4"))
    if not stills:
        raise ConfigError(f"no photographs (*.jpg, *.png) in {data / 'stills'}; give a folder that holds some")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; give another folder")
    for name in ("stills", "clips"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if sequences is not None:
        _pack_sequences(sequences, folder / "sequences")
    room = mib * 2**20 * MARGIN - _size(folder)
    share = min(1.0, room / sum(p.stat().st_size for p in [*stills, *clips]))
    if share <= 0:
        raise ConfigError(f"{mib} MiB hold no more than the sequences; give more --mib")
    for path in stills:
        _pack_still(path, folder / "stills", share)
    kept = [path for path in clips if _pack_clip(path, folder / "clips" / path.name, share)]
    say(f"{len(stills)} photographs, {len(kept)} of {len(clips)} clips, {_size(folder) / 2**20:.1f} MiB")


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _pack_sequences(sequences: Path, folder: Path) -> None:
    """What `judge` looks at of every sequence, as it is."""
    for name, clip in load_sequences(sequences).items():
        (folder / name).mkdir(parents=True)
        for i, frame in enumerate(clip.mul(255).round().byte().permute(0, 2, 3, 1).numpy()):
            cv2.imwrite(str(folder / name / f"{i:05}.png"), frame[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _pack_still(path: Path, folder: Path, share: float) -> None:
    """The file itself where it fits, else the picture, as much smaller as it must be."""
    room = path.stat().st_size * share
    if share == 1:
        shutil.copyfile(path, folder / path.name)
        return
    picture = cv2.imread(str(path))
    if picture is None:
        raise ConfigError(f"{path} is no picture that can be read; take it out of the data")
    scale, coded = 1.0, _jpeg(picture)
    while len(coded) > room and min(picture.shape[:2]) * scale > 16:
        scale *= min(0.97, float(np.sqrt(room / len(coded))))
        coded = _jpeg(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    name = path.name if path.suffix == ".jpg" else f"{path.name}.jpg"
    (folder / name).write_bytes(coded)


def _jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _pack_clip(path: Path, target: Path, share: float) -> bool:
    """The beginning of a clip, packet by packet; False, and no file, where too few frames fit."""
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size and packet.pts is not None]
        room, sizes = path.stat().st_size * share, np.cumsum([packet.size for packet in packets])
        count = next((n for n in _cuts(packets) if share == 1 or sizes[n - 1] <= room), 0)
        if not count:
            return False
        with av.open(str(target), "w") as sink:
            copy = sink.add_stream_from_template(stream)
            for packet in packets[:count]:
                packet.stream = copy
                sink.mux(packet)
    return True


def _cuts(packets: "list[av.Packet]") -> Iterator[int]:
    """How many packets may stay, most first: before the next one every frame has been shown, none waits for another."""
    shown = [packet.pts or 0 for packet in packets]
    earliest = np.minimum.accumulate(shown[::-1])[::-1]
    latest = np.maximum.accumulate(shown)
    for count in range(len(packets), SHORTEST - 1, -1):
        if count == len(packets) or latest[count - 1] < earliest[count]:
            yield count
