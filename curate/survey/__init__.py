"""What is in a corpus, and how near one corpus is to another: by one pass over each, in flat memory."""

from curate.survey.corpus import Survey, survey
from curate.survey.sample import Facts, facts

__all__ = ["Facts", "Survey", "facts", "survey"]
