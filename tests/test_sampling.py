"""Budgets say what they read, chance depends on seed and id alone, cuts are where the definition has them."""

import itertools
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.sampling.budget import Budget, parse_budget
from curate.sampling.cut import ALL, NONE, Cut, Ranked, descending, find_cuts
from curate.sampling.draws import DRAWS, gumbel_top_k
from curate.sampling.noise import FIT, GUMBEL, TIE, UNIFORM, centred, gumbel, keyed_hashes, levels, mix, uniform

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=10)

# ---- budgets


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        (7, 7, "documents"),
        ("10000", 10_000, "documents"),
        ("10_000", 10_000, "documents"),
        ("10,000 docs", 10_000, "documents"),
        ("10k", 10_000, "documents"),
        ("1.5k", 1500, "documents"),
        ("1.001k", 1001, "documents"),
        (".5M", 500_000, "documents"),
        ("20k docs", 20_000, "documents"),
        ("2B documents", 2 * 10**9, "documents"),
        ("1 document", 1, "documents"),
        ("10%", 10, "percent"),
        ("0.5 %", 0.5, "percent"),
        ("100%", 100, "percent"),
        ("500MB", 5 * 10**8, "bytes"),
        ("500 mb", 5 * 10**8, "bytes"),
        ("1.5GB", 1_500_000_000, "bytes"),
        ("2TB", 2 * 10**12, "bytes"),
        ("2B", 2, "bytes"),
        ("300bytes", 300, "bytes"),
        ("2B-tokens", 2 * 10**9, "tokens"),
        ("2G tokens", 2 * 10**9, "tokens"),
        ("300k tokens", 300_000, "tokens"),
        ("1Mtokens", 10**6, "tokens"),
        (" 5 tokens ", 5, "tokens"),
    ],
)
def test_budgets_are_read_as_written(text, amount, unit) -> None:
    assert parse_budget(text) == Budget(amount, unit)
    assert parse_budget(parse_budget(text)) == Budget(amount, unit)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0, "above 0"),
        (-3, "above 0"),
        ("0", "above 0"),
        ("0%", "above 0"),
        ("0MB", "above 0"),
        ("-5", "cannot be read"),
        ("-5%", "cannot be read"),
        ("101%", "more than 100%"),
        ("0.5", "less than one"),
        ("0.4 tokens", "less than one"),
        (0.1, "less than one"),
        ("", "cannot be read"),
        ("k", "cannot be read"),
        ("ten", "cannot be read"),
        ("10 percent", "cannot be read"),
        ("10%%", "cannot be read"),
        ("10x", "cannot be read"),
        ("1e3", "cannot be read"),
        ("1.2.3", "cannot be read"),
        ("10 MB tokens", "cannot be read"),
        ("nan", "cannot be read"),
        ("٣", None),
    ],
)
def test_budgets_that_make_no_sense_are_refused(budget, message) -> None:
    if message is None:  # digits of other scripts are digits
        assert parse_budget(budget) == Budget(3, "documents")
        return
    with pytest.raises(UsageError, match=message):
        parse_budget(budget)


@given(st.integers(1, 100_000), st.integers(0, 10**7))
@example(570, 10_000)
@example(690, 10_000)
def test_a_share_is_rounded_down_exactly(thousandths, n_documents) -> None:
    assert parse_budget(f"{thousandths / 1000:.3f}%").total(n_documents) == thousandths * n_documents // 100_000


@given(st.integers(1000, 10**8))
def test_an_amount_with_a_suffix_is_exact(n) -> None:
    assert parse_budget(f"{n // 1000}.{n % 1000:03}k").total(1) == n


@pytest.mark.parametrize(("text", "column"), [("5", None), ("5%", None), ("5MB", "n_bytes"), ("5k tokens", "n_tokens")])
def test_a_budget_knows_what_it_adds_up(text, column) -> None:
    assert parse_budget(text).size_column == column


# ---- keyed noise


@given(ids, st.integers(0, 2**64 - 1), st.sampled_from([FIT, GUMBEL, UNIFORM, TIE]))
def test_noise_equals_the_definition(doc_ids, seed, purpose) -> None:
    array = pa.array(doc_ids, pa.string())
    assert keyed_hashes(array, seed, purpose).tolist() == [reference.keyed_hash(i, seed, purpose) for i in doc_ids]
    assert uniform(array, seed, purpose).tolist() == [reference.uniform(i, seed, purpose) for i in doc_ids]
    assert gumbel(array, seed) == pytest.approx([reference.gumbel(i, seed) for i in doc_ids], rel=1e-12, abs=1e-12)


@given(ids, st.integers(1, 30))
def test_levels_equal_the_definition(doc_ids, n_levels) -> None:
    found = levels(pa.array(doc_ids, pa.string()), n_levels)
    assert found.tolist() == [reference.level(i, n_levels) for i in doc_ids]


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_the_last_stirring_equals_the_definition_and_leaves_its_input(hashes) -> None:
    array = np.array(hashes, np.uint64)
    assert mix(array).tolist() == [reference.mix(h) for h in hashes]
    assert array.tolist() == hashes


def test_uniform_noise_is_strictly_between_0_and_1_for_every_hash() -> None:
    lowest, highest = centred(np.array([0, 2**64 - 1], np.uint64))
    assert 0 < lowest < highest < 1
    assert math.isfinite(-math.log(-math.log(lowest)))
    assert math.isfinite(-math.log(-math.log(highest)))


MANY = pa.array([f"doc-{i}" for i in range(50_000)])


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_uniform_noise_is_uniform_and_gumbel_noise_is_gumbel(seed) -> None:
    for u in (uniform(MANY, seed), np.exp(-np.exp(-gumbel(MANY, seed)))):
        distance = np.abs(np.sort(u) - (np.arange(len(u)) + 0.5) / len(u)).max()  # Kolmogorov-Smirnov
        assert distance * len(u) ** 0.5 < 2.2  # p = 1e-4


def test_noise_of_other_seeds_and_purposes_is_independent() -> None:
    draws = [uniform(MANY, seed, purpose) for seed in (0, 1, 2) for purpose in (GUMBEL, UNIFORM, TIE)]
    for a, b in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / len(MANY) ** 0.5


def test_each_level_up_is_half_of_the_one_below() -> None:
    found = levels(MANY, 12)
    for level in range(8):
        n, p = len(found), 2.0**-level
        assert abs((found >= level).sum() - n * p) <= 5 * (n * p * (1 - p)) ** 0.5


# ---- draws


def plackett_luce(weights, k) -> dict[frozenset, float]:
    """The probability of every set of k winners, drawn one after the other."""
    found: Counter = Counter()
    for order in itertools.permutations(range(len(weights)), k):
        p, left = 1.0, sum(weights)
        for i in order:
            p *= weights[i] / left
            left -= weights[i]
        found[frozenset(order)] += p
    return dict(found)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_gumbel_top_k_draws_sets_as_often_as_sequential_sampling(k) -> None:
    weights, n_draws = [1.0, 2.0, 3.0, 6.0], 10_000
    items = pa.array([f"draw-{draw}-item-{item}" for draw in range(n_draws) for item in range(4)])
    noise = gumbel(items, seed=0).reshape(n_draws, 4)
    found = Counter(frozenset(gumbel_top_k(np.log(weights), k, noise=row).tolist()) for row in noise)
    expected = plackett_luce(weights, k)
    assert sum(expected.values()) == pytest.approx(1)
    chi_square = sum((found[s] - n_draws * p) ** 2 / (n_draws * p) for s, p in expected.items())
    assert chi_square < {4: 16.3, 6: 20.6}[len(expected)]  # p = 0.001


@given(st.lists(st.floats(-50, 50) | st.sampled_from([-np.inf, np.nan]), max_size=12), st.data())
def test_gumbel_top_k_equals_the_definition(log_weights, data) -> None:
    noise = data.draw(st.lists(st.floats(-3, 10), min_size=len(log_weights), max_size=len(log_weights)))
    rows = [(w + g, 0, i, 1) for i, (w, g) in enumerate(zip(log_weights, noise, strict=True)) if math.isfinite(w)]
    k = data.draw(st.integers(0, len(rows)))
    found = gumbel_top_k(np.array(log_weights), k, noise=np.array(noise))
    assert found.tolist() == sorted(reference.budget_cut(rows, k))
    with pytest.raises(InputError, match=f"cannot keep {len(rows) + 1} documents: only {len(rows)}"):
        gumbel_top_k(np.array(log_weights), len(rows) + 1, noise=np.array(noise))


def test_the_worked_draw() -> None:
    noise = np.array([0.22831376, -0.22787694, 0.07988431, 0.23927147])
    assert np.random.RandomState(0).gumbel(size=4) == pytest.approx(noise, abs=1e-7)
    log_weights = np.array([-2.953514, -5.400680, 0.015203, -2.940399])
    assert gumbel_top_k(log_weights, 2, noise=noise).tolist() == [2, 3]


def test_keys_of_a_draw_are_scores_scores_and_noise_or_noise() -> None:
    scores, doc_ids = np.array([1.5, np.nan, -2.0]), pa.array(["a", "b", "c"])
    for draw in ("topk", "threshold"):
        assert np.array_equal(DRAWS[draw](scores, doc_ids, 4), scores, equal_nan=True)
    assert np.array_equal(DRAWS["gumbel"](scores, doc_ids, 4), scores + gumbel(doc_ids, 4), equal_nan=True)
    assert np.array_equal(
        DRAWS["uniform"](scores, doc_ids, 4), np.where(np.isnan(scores), np.nan, uniform(doc_ids, 4)), equal_nan=True
    )


@pytest.mark.parametrize("draw", DRAWS)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.randoms())
def test_a_document_has_its_key_wherever_it_stands(draw, scores, random) -> None:
    doc_ids = [f"id{i}" for i in range(len(scores))]
    order = list(range(len(scores)))
    random.shuffle(order)
    keys = DRAWS[draw](np.array(scores), pa.array(doc_ids), 9)
    moved = DRAWS[draw](np.array([scores[i] for i in order]), pa.array([doc_ids[i] for i in order]), 9)
    assert moved.tolist() == [keys[i] for i in order]


# ---- cuts


@given(st.lists(st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, np.inf, -np.inf]), max_size=10))
def test_descending_turns_the_order_of_floats_around(keys) -> None:
    order = descending(np.array(keys, float))
    for (a, i), (b, j) in itertools.product(zip(keys, order, strict=True), repeat=2):
        assert (a > b) == (i < j)
        assert (a == b) == (i == j)


few = st.sampled_from([-1.0, 0.0, -0.0, 0.5, 1.0, 1.0 + 2**-52, 1e300, -np.inf])
keys = few | st.floats(allow_nan=False)
ties = st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
rows = st.lists(st.tuples(keys, ties, st.integers(0, 5), st.integers(0, 2)), max_size=30)


def ranked(documents) -> Ranked:
    """``documents``: (place, (key, tie, size, group))."""
    places = [place for place, _ in documents]
    of = list(zip(*(values for _, values in documents), strict=True)) or [[], [], [], []]
    return Ranked(
        descending(np.array(of[0], float)),
        np.array(of[1], np.uint64),
        np.array(places, np.int64),
        np.array(of[2], np.int64),
        np.array(of[3], np.int64),
    )


def kept_by(cuts, whole: Ranked) -> dict[int, set[int]]:
    return {g: set(whole.place[cut.keeps(whole) & (whole.group == g)].tolist()) for g, cut in cuts.items()}


@given(rows, st.dictionaries(st.integers(0, 2), st.integers(0, 40)), st.sampled_from([0, 1, 5, 100]), st.data())
@example([(1.0, 7, 1, 0)] * 12, {0: 5}, 0, None)  # equal keys and ties: the place decides
@example([(float(i % 3), 7, 0, 0) for i in range(12)], {0: 0}, 0, None)  # documents without size cost nothing
@example([(1.0, 2**64 - 1, 3, 0), (1.0, 2**64 - 1, 3, 0), (-1.0, 0, 1, 0)], {0: 3}, 0, None)
@example([(1.0, 5, 9, 0), (0.5, 5, 1, 0), (1.0, 5, 9, 1)], {0: 3, 1: 9}, 1, None)
def test_cuts_equal_the_definition(documents, budgets, collect, data) -> None:
    numbered = list(enumerate(documents))
    shuffled = data.draw(st.permutations(numbered)) if data else numbered[::-1]
    borders = sorted(data.draw(st.lists(st.integers(0, len(numbered)), max_size=3))) if data else [1, 1, 2]
    parts = [shuffled[a:b] for a, b in zip([0, *borders], [*borders, None], strict=True)]
    found = find_cuts(lambda of: (of([ranked(part)]) for part in parts), budgets, collect=collect)
    assert set(found) == set(budgets)
    for group, budget in budgets.items():
        own = [(key, tie, place, size) for place, (key, tie, size, g) in numbered if g == group]
        expected = reference.budget_cut(own, budget)
        assert kept_by(found, ranked(numbered))[group] == expected
        if own and not expected:
            assert found[group] == NONE


@given(rows, st.integers(0, 200))
def test_how_many_documents_are_collected_does_not_matter(documents, budget) -> None:
    whole = ranked(list(enumerate(documents)))
    kept = [kept_by(find_cuts(lambda of: [of([whole])], {0: budget}, collect=c), whole) for c in (0, 1, 5, 1000)]
    assert kept[0] == kept[1] == kept[2] == kept[3]


def test_a_budget_for_all_keeps_all_and_one_that_is_too_small_is_none() -> None:
    whole = ranked([(i, (float(i), i, 10, 0)) for i in range(50)])
    for collect in (0, 5, 1000):
        for budget in (500, 501, 2**63 - 1, 10**30):
            (cut,) = find_cuts(lambda of: [of([whole])], {0: budget}, collect=collect).values()
            assert cut.keeps(whole).all()
        for budget in (0, 9):
            assert find_cuts(lambda of: [of([whole])], {0: budget}, collect=collect) == {0: NONE}
    assert ALL.keeps(whole).all()
    assert not NONE.keeps(whole).any()
    assert find_cuts(lambda of: [of([whole])], {}) == {}


@pytest.mark.parametrize("collect", [0, 10, 10_000])
@pytest.mark.parametrize("kind", ["distinct", "few keys", "one key", "one id"])
def test_cuts_of_many_documents_equal_a_sort(collect, kind) -> None:
    rng = np.random.default_rng(0)
    n = 5000
    scores = {"distinct": rng.normal(size=n), "few keys": rng.integers(0, 3, n).astype(float)}.get(kind, np.ones(n))
    tie = np.full(n, 42, np.uint64) if kind == "one id" else rng.integers(0, 2**64, n, np.uint64)
    whole = Ranked(descending(scores), tie, rng.permutation(n), rng.integers(0, 50, n), rng.integers(0, 3, n))
    budgets = {0: 1000, 1: 20_000, 2: 10**9}
    parts = [[whole.where(whole.place % 7 == r) for r in range(7) if r % 3 == i] for i in range(3)]
    found = find_cuts(lambda of: map(of, parts), budgets, collect=collect)
    by = np.lexsort((whole.place, whole.tie, -scores))
    for group, budget in budgets.items():
        own = by[whole.group[by] == group]
        expected = np.sort(own[np.cumsum(whole.size[own]) <= budget])
        assert np.array_equal(np.flatnonzero(found[group].keeps(whole) & (whole.group == group)), expected)


@given(rows.filter(len), st.data())
def test_a_cut_keeps_what_is_at_or_before_it(documents, data) -> None:
    whole = ranked(list(enumerate(documents)))
    places = list(zip(whole.order.tolist(), whole.tie.tolist(), whole.place.tolist(), strict=True))
    last = data.draw(st.sampled_from(places))
    assert Cut(*last).keeps(whole).tolist() == [place <= last for place in places]
