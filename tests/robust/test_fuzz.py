"""The short form of `fuzz.py`."""

import sys


def test_damaged_inputs():
    findings, outcomes = sys.modules["fuzz"].run(100, seed=7, tell=lambda text: None)
    assert findings == []
    assert outcomes.total() == 100
    assert 20 < outcomes["restored"] < 80  # some damage matters, some does not
