"""Whole folders: every clip a unit, claimed by lease, worked on by processes here or by Ray, reported at the end.

Any number of these may share one folder, also from several machines over a shared file system: each looks at the same
input tree, and what one has claimed the others leave.
"""

from vrestore.batch.config import BatchConfig
from vrestore.batch.report import BatchReport, Row
from vrestore.batch.run import run_batch

__all__ = ["BatchConfig", "BatchReport", "Row", "run_batch"]
