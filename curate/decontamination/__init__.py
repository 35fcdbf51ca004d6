"""Evaluation items in raw documents: found word for word or lightly edited, and removed, cut or tagged."""

from curate.decontamination.found import Found, Summary
from curate.decontamination.index import Index
from curate.decontamination.items import Items, read_items
from curate.decontamination.spec import DecontaminationSpec, benchmark_name

__all__ = ["DecontaminationSpec", "Found", "Index", "Items", "Summary", "benchmark_name", "read_items"]
