"""Plans: which frames a prior sees together, at which levels, and in which order. numpy only."""

from vrestore.plan.attend import Consistent, CrossWindow
from vrestore.plan.bands import BandsPlan
from vrestore.plan.cover import Cover
from vrestore.plan.crossed import ConsistentPlan, CrossedPlan
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
    "Consistent",
    "ConsistentPlan",
    "Cover",
    "CrossWindow",
    "CrossedPlan",
    "CutsPlan",
    "DiagonalPlan",
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
    "Step",
    "Tile",
    "WindowsPlan",
    "is_call",
    "outline",
    "split",
    "validate",
]
