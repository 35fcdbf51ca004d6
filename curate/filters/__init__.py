"""Filters: named rules on the quality of texts, languages, masking, and rules of users; each removal has its reason."""

from curate.filters.language import languages
from curate.filters.look import Filtered, Filters
from curate.filters.pii import MASKS, masked
from curate.filters.rules import GROUPS, KINDS, RULES, Rule, explain_rules
from curate.filters.spec import FilterSpec
from curate.filters.statistics import STATISTICS, statistics

__all__ = [
    "GROUPS",
    "KINDS",
    "MASKS",
    "RULES",
    "STATISTICS",
    "FilterSpec",
    "Filtered",
    "Filters",
    "Rule",
    "explain_rules",
    "languages",
    "masked",
    "statistics",
]
