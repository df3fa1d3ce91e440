"""Canny's edges: as OpenCV finds them, and without harm to the process."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from vrestore.edges import canny_edges


def blurred(shape, deviation, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(values, (0, 0), deviation), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize("shape", [(64, 96), (61, 97, 3), (200, 33)])
@pytest.mark.parametrize("deviation", [1.5, 4])
def test_edges_are_those_of_opencv(shape, deviation):
    picture = blurred(shape, deviation)
    found = canny_edges(picture, 50, 120)
    assert found.any()
    np.testing.assert_array_equal(found, cv2.Canny(picture, 50, 120))


DENSE = """
import cv2, numpy as np
from vrestore.edges import canny_edges
cv2.setNumThreads(1)
y, x = np.mgrid[:48, :72]
mesh = (np.abs(x % 4 - 2) + np.abs(y % 4 - 2)) / 4 * 255
for _ in range(50):
    found = canny_edges(mesh.astype(np.uint8), 40, 90)
assert found.mean() > 127
"""


def test_a_mesh_all_of_edges_does_no_harm():
    """OpenCV 5.0 corrupts the heap when it is asked for these edges by the picture; the process is aborted."""
    done = subprocess.run([sys.executable, "-c", DENSE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
