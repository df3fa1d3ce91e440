"""Plans: which frames a prior sees together, at which levels, and in which order. numpy only."""

from vrestore.plan.attend import Consistent, CrossWindow
from vrestore.plan.cover import Cover
from vrestore.plan.keyframes import KeyframesPlan
from vrestore.plan.ledger import Ledger, Move, Outcome
from vrestore.plan.steps import Plan, Step, Tile, is_call
from vrestore.plan.tiles import split
from vrestore.plan.validate import validate
from vrestore.plan.windows import WindowsPlan

__all__ = [
    "Consistent",
    "Cover",
    "CrossWindow",
    "KeyframesPlan",
    "Ledger",
    "Move",
    "Outcome",
    "Plan",
    "Step",
    "Tile",
    "WindowsPlan",
    "is_call",
    "split",
    "validate",
]
