"""Plans: which frames a prior sees together, at which levels, and in which order. numpy only."""

from vrestore.plan.attend import CleanHistory, Consistent, CrossWindow, SpectralTime, Subject, WindowedTime
from vrestore.plan.bands import BandsPlan
from vrestore.plan.cover import Cover
from vrestore.plan.crossed import ConsistentPlan, CrossedPlan, DirectedPlan
from vrestore.plan.diagonal import DiagonalPlan
from vrestore.plan.hierarchy import HierarchyPlan
from vrestore.plan.keyframes import KeyframesPlan
from vrestore.plan.ledger import Ledger, Move, Outcome
from vrestore.plan.outline import Outline, outline
from vrestore.plan.shuffled import CutsPlan, GridsPlan
from vrestore.plan.snippets import RefinementPlan, SnippetsPlan
from vrestore.plan.steps import Lingers, Plan, Step, Tile, is_call
from vrestore.plan.tiles import split
from vrestore.plan.validate import validate
from vrestore.plan.windows import WindowsPlan

__all__ = [
    "BandsPlan",
    "CleanHistory",
    "Consistent",
    "ConsistentPlan",
    "Cover",
    "CrossWindow",
    "CrossedPlan",
    "CutsPlan",
    "DiagonalPlan",
    "DirectedPlan",
    "GridsPlan",
    "HierarchyPlan",
    "KeyframesPlan",
    "Ledger",
    "Lingers",
    "Move",
    "Outcome",
    "Outline",
    "Plan",
    "RefinementPlan",
    "SnippetsPlan",
    "SpectralTime",
    "Step",
    "Subject",
    "Tile",
    "WindowedTime",
    "WindowsPlan",
    "is_call",
    "outline",
    "split",
    "validate",
]
