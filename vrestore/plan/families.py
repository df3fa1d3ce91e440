"""The plans of published methods by name, with their own constants."""

from vrestore.plan.diagonal import DiagonalPlan
from vrestore.plan.hierarchy import HierarchyPlan


def fifo(frames: int, window: int = 16, parts: int = 4) -> DiagonalPlan:
    """FIFO-Diffusion (Kim et al., NeurIPS 2024): as many levels as ``parts`` windows have frames, with lookahead."""
    return DiagonalPlan(frames, window * parts, part=window)


def pa_vdm(frames: int, levels: int = 30, chunk: int = 5) -> DiagonalPlan:
    """PA-VDM (Xie et al., 2024): chunks of five latents, five levels apart, behind one clean chunk."""
    return DiagonalPlan(frames, levels, chunk, chunk, history=chunk)


def rolling_forcing(frames: int, levels: int = 5, chunk: int = 3, history: int = 6) -> DiagonalPlan:
    """Rolling Forcing (Liu et al., 2025): five levels of three latents each under way, behind clean ones."""
    return DiagonalPlan(frames, levels, chunk, 1, history)


def diffusion_forcing(frames: int, levels: int, pace: int, history: int, held: int = 1) -> DiagonalPlan:
    """Diffusion forcing (Chen et al., NeurIPS 2024): a pyramid of levels behind a slightly noised history."""
    return DiagonalPlan(frames, levels, 1, pace, history, held)


def autoregressive(frames: int, levels: int, chunk: int, history: int, held: int = 0) -> DiagonalPlan:
    """One chunk after the other, each behind ``history`` frames that are clean, or at level ``held``."""
    return DiagonalPlan(frames, levels, chunk, levels, history, held)


def ca2_vdm(frames: int, levels: int, chunk: int = 8, history: int = 25) -> DiagonalPlan:
    """Ca2-VDM (Gao et al., ICML 2025): chunks behind clean frames whose keys and values are computed once."""
    return DiagonalPlan(frames, levels, chunk, levels, history, keeps=True)


def nuwa_xl(frames: int, window: int, levels: int) -> HierarchyPlan:
    """NUWA-XL (Yin et al., ACL 2023): every window reaches from one key to the next, all of a depth in parallel."""
    return HierarchyPlan(frames, window, levels, overlap=1, ratio=window - 1)
