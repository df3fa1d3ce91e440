"""Restored frames one by one, in a program of your own: here the mean brightness of each. Nothing is written.

python examples/frames.py in.mp4
"""

import sys

import vrestore


def main(source: str) -> None:
    head = vrestore.SuperResolution(scale=2, window=8, overlap=2)
    for number, frame in enumerate(head.stream(source)):  # a torch tensor (3, height, width) in [0, 1]
        print(number, f"{float(frame.mean()):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
