"""Which documents are copies of others, to the letter, nearly, or in what they say."""

from curate.dedup.pairs import Pairs, near_pairs
from curate.dedup.signing import Signed, Signer
from curate.dedup.spec import DedupSpec

__all__ = ["DedupSpec", "Pairs", "Signed", "Signer", "near_pairs"]
