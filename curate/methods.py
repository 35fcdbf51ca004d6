"""What each method does and when to use it, for `curate methods`."""

from __future__ import annotations

from dataclasses import dataclass

from curate.scorers import SCORERS


@dataclass(frozen=True)
class Method:
    """One entry of the list. ``gain``: over random, as a multiple of the reference DSIR's, see README."""

    name: str
    what: str
    when: str
    cost: str
    gain: str
    source: str

    @property
    def settings(self) -> str:
        """The names of its settings."""
        return ", ".join(SCORERS[self.name].setting_names()) if self.name in SCORERS else FUSION_SETTINGS


FUSION_SETTINGS = (
    "fusion (quantile, reciprocal), group, rank_constant, NAME.weight, NAME.SETTING; min_tokens, tokenizer"
)
METHODS = (
    Method(
        "dsir",
        "log importance weight: how much likelier a document's hashed word n-grams are in the target than in raw",
        "the default: you have a few hundred example texts or more, and want their kind at the speed of reading",
        "300 MB/s a core",
        "1.51",
        "Xie et al. 2023, arXiv:2302.03169; --set compat=true is their package, bucket for bucket",
    ),
    Method(
        "bytegrams",
        "log-ratio of all byte n-grams of 3 to 8 bytes that the target has, between it and raw; nothing is hashed away",
        "the best single method measured here, also for code, formulas and languages without spaces",
        "45 to 80 MB/s a core, 80 bytes of memory for each of the target's n-grams (1 to 2 a byte)",
        "1.70",
        "measured here; target n-grams as in language-model interpolation, one to eight bytes",
    ),
    Method(
        "primed",
        "share of a document's compressed bytes that the target saves as a dictionary, against plain and against raw",
        "repeated wording matters (templates, boilerplate, code); to fuse with a method that counts n-grams",
        "30 to 45 MB/s a core, whatever the number of target texts",
        "1.60",
        "measured here; it is not ZIP-FIT: no pairs of texts",
    ),
    Method(
        "zipfit",
        "alignment: 1 - the mean normalised compression distance to each of the target's texts; gzip level 6",
        "to reproduce ZIP-FIT, or with few target texts; favours documents as long as these. Costs documents times "
        "texts compressions: --set max_target_texts=64, or curate.race for the best k of a list",
        "33,000 pairs of 2 kB a second and core",
        "0.12 with 32 texts of each target: the shortest documents win",
        "Obbad et al. 2024, arXiv:2410.18194; compat=true with codec and level is their package. Their default, level "
        "0, compresses nothing and is refused",
    ),
    Method(
        "classifier",
        "logit of a logistic regression of target against raw on hashed n-grams, cross-fitted: a log density ratio",
        "the baseline that readers expect of a comparison; to fuse with the others, from which it differs most",
        "300 MB/s a core; needs curate-data[classifier]",
        "1.35",
        "Li et al. 2024 (DCLM), arXiv:2406.11794, use one of this kind; density ratios: Sugiyama et al. 2012",
    ),
    Method(
        "leverage",
        "ridge leverage score, 0 to 1: how little the rest of the corpus says the same; needs no target",
        "you have no target and one kind floods the corpus, or vectors of your own (--set vectors=COLUMN, "
        "--set encoder=FOLDER): sample with chances in proportion to it. The highest scores alone are odd documents",
        "100 MB/s a core, twice; the square of --set dim in memory",
        "no target, so none: see README for what it is good for",
        "Calandriello et al. 2017 (SQUEAK), arXiv:1803.10172; exact by the Gram matrix for the linear kernel",
    ),
    Method(
        "all",
        "no scorer: every document is worth 1",
        "you only clean (curate dedup, filter and decontaminate use it), or want a random sample: --draw uniform",
        "300 MB/s a core, to count tokens",
        "0: it is random",
        "none",
    ),
    Method(
        "bytegrams+primed",
        "any methods joined by +: each one's scores, fused by exact quantile or reciprocal rank over the corpus",
        "you would rather not bet on one method (here none beat its best member on average); with group=source no "
        "source wins by its scale of scores",
        "that of its methods, and a sort on disk",
        "1.65",
        "reciprocal rank: Cormack et al. 2009; quantiles within groups: calibration as in InfAlign",
    ),
)
DRAWS = {
    "gumbel": "sample without replacement with odds exp(score); for log weights: dsir, bytegrams, classifier",
    "topk": "the best scores",
    "threshold": "every score of at least --threshold",
    "uniform": "a random sample of the documents with a score, for comparison",
    "pivotal": "each document with a known chance, in proportion to its weight up to 1: exactly as many as the budget "
    "says, spread over sources; curate_weight is 1 / chance, for totals over raw",
    "systematic": "as pivotal, by one random number: some pairs of documents are never kept together",
    "poisson": "as pivotal, each document for itself: as many as the budget says on average",
    "cover": "of the best scores in eight budgets, those that together have the target's byte n-grams: each document "
    "counts for what it adds to those taken before; with bytegrams 1.88 times the reference DSIR's gain over random",
}
