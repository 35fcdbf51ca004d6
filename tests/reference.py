"""What `curate` computes, in plain Python: slow and obvious, one text at a time.

The compiled kernels and the streaming cuts must equal these definitions, to the last bit where they count or add.
"""

import hashlib
import itertools
import json
import math
import re
import string
import struct
import unicodedata
from collections import Counter

import numpy as np

MASK = (1 << 64) - 1
K1, K2, K3, K4 = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB
FIT, GUMBEL, UNIFORM, TIE = 1, 2, 3, 4
ORDER, PAIR = 1001, 1002


# ---- tokens and n-grams


def tokens(text):
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def ngrams(items, n):
    """At each token the n-grams that end there, from order 1 up."""
    return [
        tuple(items[end - order + 1 : end + 1]) for end in range(len(items)) for order in range(1, min(n, end + 1) + 1)
    ]


# ---- hashes and buckets


def fold_product(a, b):
    product = a * b
    return (product & MASK) ^ (product >> 64)


def seed_state(seed):
    return fold_product(seed ^ K4, K2)


def hash_bytes(data, seed=0):
    h = seed_state(seed) ^ len(data)
    for i in range(0, len(data), 8):
        h = fold_product(h ^ int.from_bytes(data[i : i + 8], "little"), K1)
    return fold_product(h ^ K4, K2)


def hash_gram(token_hashes):
    """Of an n-gram, from the hashes of its tokens."""
    h = token_hashes[0]
    for token in token_hashes[1:]:
        h = fold_product(h ^ K2, token ^ K3)
    return h


def fast_bucket(gram, n_buckets, seed=0):
    return hash_gram([hash_bytes(token.encode(), seed) for token in gram]) * n_buckets >> 64


def sha256_bucket(gram, n_buckets):
    return int(hashlib.sha256(" ".join(gram).encode()).hexdigest(), 16) % n_buckets


def buckets(text, *, n=2, n_buckets=10_000, hash="fast", seed=0):
    grams = ngrams(tokens(text), n)
    if hash == "sha256":
        return [sha256_bucket(gram, n_buckets) for gram in grams]
    return [fast_bucket(gram, n_buckets, seed) for gram in grams]


def counts(of, n_buckets):
    found = Counter(of)
    return [found[b] for b in range(n_buckets)]


def hashed_vector(text, dim, n, seed, nonzeros, damped, n_buckets):
    """A sparse signed projection of a text's n-grams, of unit length."""
    vector = [0.0] * dim
    for bucket, count in Counter(buckets(text, n=n, n_buckets=n_buckets, seed=seed)).items():
        mixed = fold_product(bucket ^ seed_state(seed) ^ K3, K1)
        for block in range(nonzeros):
            bits = mixed >> (16 * block) & 0xFFFF
            low, high = block * dim // nonzeros, (block + 1) * dim // nonzeros
            place = low + ((bits >> 1) * (high - low) >> 15)
            vector[place] += (1 if bits & 1 else -1) * (math.log1p(count) if damped else count)
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector] if length > 1e-10 else [0.0] * dim


# ---- weights


def lane_sum(values):
    """In four lanes: value i goes to lane i mod 4, then (0 + 1) + (2 + 3)."""
    lanes = [0.0] * 4
    for i, value in enumerate(values):
        lanes[i % 4] += value
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])


def add_alpha_log_ratio(target, raw, alpha):
    def probability(c, of):
        return (c + alpha) / (sum(of) + alpha * len(of))

    return [math.log(probability(t, target)) - math.log(probability(r, raw)) for t, r in zip(target, raw, strict=True)]


def epsilon_log_ratio(target, raw, epsilon=1e-8):
    return [
        math.log(t / sum(target) + epsilon) - math.log(r / sum(raw) + epsilon) for t, r in zip(target, raw, strict=True)
    ]


def normalized(total, n_ngrams, how, n):
    """A sum over n-grams as a score; a chunk is 128 tokens, which hold 128 + 127 + ... n-grams."""
    if how == "sum":
        return total
    if how == "sqrt":
        return total / math.sqrt(n_ngrams)
    mean = total / n_ngrams
    return mean if how == "mean" else mean * sum(128 - i for i in range(n))


# ---- chance


def mix(h):
    h ^= h >> 30
    h = h * 0xBF58476D1CE4E5B9 & MASK
    h ^= h >> 27
    h = h * 0x94D049BB133111EB & MASK
    return h ^ (h >> 31)


def keyed_hash(doc_id, seed, purpose):
    return mix(hash_bytes(doc_id.encode(), (seed * K1 + purpose * K2) & MASK))


def uniform(doc_id, seed, purpose=UNIFORM):
    """The middle of one of 2**52 equal parts of (0, 1)."""
    return ((keyed_hash(doc_id, seed, purpose) >> 12) + 0.5) / 2**52


def gumbel(doc_id, seed):
    return -math.log(-math.log(uniform(doc_id, seed, GUMBEL)))


def level(doc_id, n_levels):
    """Leading zero bits of the hash, up to the highest level."""
    return min(64 - keyed_hash(doc_id, 0, FIT).bit_length(), n_levels - 1)


# ---- cuts


def budget_cut(rows, budget):
    """The places of the longest prefix, by (-key, tie, place), whose sizes add up to at most the budget.

    ``rows``: (key, tie, place, size).
    """
    kept, used = set(), 0
    for _, _, place, size in sorted(rows, key=lambda row: (-row[0], row[1], row[2])):
        used += size
        if used > budget:
            break
        kept.add(place)
    return kept


# ---- measures


def effective_sample_size(weights):
    return math.fsum(weights) ** 2 / math.fsum(w * w for w in weights)


def cluster_risk(documents):
    """(risk in nats, design effect) of the bucket distribution of a target, from the counts of each document."""
    m, n = len(documents), sum(map(sum, documents))
    risk, occupied = 0.0, 0
    for b in range(len(documents[0])):
        p = sum(c[b] for c in documents) / n
        if p > 0:
            variance = m / (m - 1) * sum((c[b] - sum(c) * p) ** 2 for c in documents) / n**2
            risk += variance / p / 2
            occupied += 1
    return risk, risk / ((occupied - 1) / (2 * n))


F_DIVERGENCES = {  # f(r), its value at 0, the limit of f(r) / r
    "kl": (lambda r: r * math.log(r), 0, math.inf),
    "reverse_kl": (lambda r: -math.log(r), math.inf, 0),
    "jensen_shannon": (
        lambda r: (r * math.log(r) - (r + 1) * math.log((r + 1) / 2)) / 2,
        math.log(2) / 2,
        math.log(2) / 2,
    ),
    "jeffreys": (lambda r: (r - 1) * math.log(r), math.inf, math.inf),
    "chi_square": (lambda r: (r - 1) ** 2, 1, math.inf),
    "neyman": (lambda r: (1 - r) ** 2 / r, math.inf, 1),
    "squared_hellinger": (lambda r: (math.sqrt(r) - 1) ** 2, 1, 1),
    "total_variation": (lambda r: abs(r - 1) / 2, 1 / 2, 1 / 2),
}


def f_divergence(name, p, q):
    """Sum of q f(p / q), with the conventions for zeros; "alpha=0.5" is the Amari divergence of that order."""
    if name in F_DIVERGENCES:
        f, at_zero, at_infinity = F_DIVERGENCES[name]
    else:
        a = float(name.removeprefix("alpha="))
        f = lambda r: (r**a - a * r - (1 - a)) / (a * (a - 1))  # noqa: E731
        at_zero = 1 / a if a > 0 else math.inf
        at_infinity = 1 / (1 - a) if a < 1 else math.inf
    terms = []
    for x, y in zip(p, q, strict=True):
        if x > 0 and y > 0:
            terms.append(y * f(x / y))
        elif y > 0:
            terms.append(y * at_zero)
        elif x > 0:
            terms.append(x * at_infinity)
    return math.fsum(terms)


def kl_reduction(targets, raw, selected, *, epsilon=1e-10, pseudo_count=None):
    """The paper's with epsilon; with a pseudo-count the logarithms are of smoothed shares as they are."""
    a, eps = (0, epsilon) if pseudo_count is None else (pseudo_count, 0)

    def share(counts):
        return [(c + a) / (sum(counts) + a * len(counts)) for c in counts]

    def kl(p, q):
        return math.fsum(x * (math.log(x + eps) - math.log(y + eps)) for x, y in zip(p, q, strict=True))

    return sum(kl(share(t), share(raw)) - kl(share(t), share(selected)) for t in targets) / len(targets)


def ks_distance(a, b):
    return max(abs(sum(x <= v for x in a) / len(a) - sum(x <= v for x in b) / len(b)) for v in [*a, *b])


def ks_p_value(a, b):
    """Share of all ways to deal the pooled values that are as far apart."""
    pooled = [*a, *b]
    limit = ks_distance(a, b) - 1e-12
    hits = total = 0
    for chosen in itertools.combinations(range(len(pooled)), len(a)):
        total += 1
        hits += ks_distance([pooled[i] for i in chosen], [x for i, x in enumerate(pooled) if i not in chosen]) >= limit
    return hits / total


def ecdf(points, place, weights):
    hits = [w for x, w in zip(points, weights, strict=True) if all(a <= b for a, b in zip(x, place, strict=True))]
    return sum(hits) / sum(weights)


def laplace_density(points, place, h):
    near = [math.exp(-sum(abs(a - b) for a, b in zip(x, place, strict=True)) / h) for x in points]
    return math.fsum(near) / len(points) / (2 * h) ** len(place)


def gaussian_mmd(x, y, scale):
    """Squared maximum mean discrepancy, every vector with every vector, itself too."""

    def mean_kernel(u, v):
        return sum(math.exp(-(math.dist(a, b) ** 2) / (2 * scale**2)) for a in u for b in v) / len(u) / len(v)

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


# ---- JSON Lines


def json_strings(line, columns):
    """Some members of an object as strings: numbers and literals as they are written, null where there are none."""
    row = json.loads(line, parse_int=str)
    texts = {True: "true", False: "false"}
    return {name: value if isinstance(value := row.get(name), str | None) else texts[value] for name in columns}


# ---- compression


def similarity(x, t, size):
    """1 - NCD of a document and a target text, bytes; ``size`` gives the compressed bytes of a text."""
    alone, other = size(x), size(t)
    return 1 - (size(x + t) - min(alone, other)) / max(alone, other)


def alignment(x, targets, size):
    return sum(similarity(x, t, size) for t in targets) / len(targets)


def pieces(text, size):
    """A text cut into round(len / size) pieces, at least one, each within a byte of the others' length."""
    count = max(1, (2 * len(text) + size) // (2 * size))
    return [text[len(text) * i // count : len(text) * (i + 1) // count] for i in range(count)]


def saved_share(text, size_of_piece, primed, plain, by_raw=None):
    """Share of bytes saved; the last three give the compressed bytes of a piece, less those of an empty one."""
    cut = pieces(text, size_of_piece)
    base = sum(map(plain, cut))
    if by_raw is not None:
        base = math.sqrt(base * sum(map(by_raw, cut)))
    return 1 - sum(map(primed, cut)) / base


# ---- fusion


def ranks(scores, doc_ids):
    """From 1, best first; equal scores by id."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], doc_ids[i], i))
    return [order.index(i) + 1 for i in range(len(scores))]


def quantiles(scores):
    """Chance that another document of the list scores lower, half of one that it scores the same."""
    return [(sum(s < t for s in scores) + sum(s == t for s in scores) / 2) / len(scores) for t in scores]


def fused(columns, doc_ids, weights, *, method, groups=None, constant=60):
    """One score from several (lists with None where there is none), within groups."""
    groups = groups or [""] * len(doc_ids)
    out = [None] * len(doc_ids)
    for group in set(groups):
        rows = [i for i, g in enumerate(groups) if g == group and all(c[i] is not None for c in columns)]
        values = []
        for column in columns:
            scores = [column[i] for i in rows]
            ids = [doc_ids[i] for i in rows]
            values.append(
                [1 / (constant + r) for r in ranks(scores, ids)] if method == "reciprocal" else quantiles(scores)
            )
        for place, i in enumerate(rows):
            total = sum(w * v[place] for w, v in zip(weights, values, strict=True))
            out[i] = total if method == "reciprocal" else total / sum(weights)
    return out


# ---- byte n-grams


def ends(text, order):
    """At each byte the n-gram of an order that ends there, after a blank line; None where there is not so much."""
    whole = b"\n\n" + text
    return [whole[end - order : end] if end >= order else None for end in range(3, len(whole) + 1)]


def gram_counts(texts, order):
    return Counter(gram for text in texts for gram in ends(text, order) if gram is not None)


def longest_gram(text, known, max_order):
    """At each byte the longest n-gram that ends there and is known; b"" where there is none."""
    found = [b""] * len(text)
    for order in range(1, max_order + 1):
        found = [gram if gram in known else before for gram, before in zip(ends(text, order), found, strict=True)]
    return found


def byte_log_ratio(text, target, raw, *, min_order, max_order, mu):
    """Mean over bytes and orders of log((t/T + mu q) / ((1 + mu) q)), q = (r + 1/2) / R, for 640 bytes."""
    T, R = sum(map(len, target)), sum(map(len, raw))
    terms = []
    for order in range(min_order, max_order + 1):
        t, r = gram_counts(target, order), gram_counts(raw, order)
        for gram in ends(text, order):
            q = (r[gram] + 0.5) / R
            terms.append(math.log((t[gram] / T + mu * q) / ((1 + mu) * q)) if gram in t else math.log(mu / (1 + mu)))
    return 640 * math.fsum(terms) / len(terms)


# ---- coverage


def greedy_cover(texts, target, *, sizes, ties, budget, room, rounds, taken_before=0.0):
    """The documents taken, in order: by what a byte of each adds to those taken, found anew in every round.

    An n-gram of the target that has the weight w of its order, t of the target and n of what was taken is worth
    ``w t**(3/4) log((n + 2) / (n + 1))``; a document has its longest n-grams, each once, and with each all that it
    ends in.
    ``taken_before``: the share of all documents that counts as taken.
    """
    weights = {3: 1, 4: 1, 5: 2, 6: 2, 7: 2, 8: 4}
    known = Counter()
    for order in range(1, 9):
        known |= gram_counts(target, order)
    grams = [[g for g in longest_gram(text, known, 8) if len(g) >= 3] for text in texts]
    counts = Counter()
    for gram in itertools.chain(*grams):
        counts.update(gram[-order:] for order in range(3, len(gram) + 1))
    counts = Counter({gram: n * taken_before for gram, n in counts.items()})
    taken, spent, live = [], 0, list(range(len(texts)))
    for done in range(1, rounds + 1):

        def gain(gram):
            parts = (gram[-order:] for order in range(3, len(gram) + 1))
            return sum(
                weights[len(g)] * math.sqrt(known[g] * math.sqrt(known[g])) * np.log((counts[g] + 2) / (counts[g] + 1))
                for g in parts
            )

        scores = {doc: sum(map(gain, dict.fromkeys(grams[doc]))) / max(1, len(texts[doc])) for doc in live}
        new = []
        for doc in sorted(live, key=lambda doc: (-scores[doc], ties[doc], doc)):
            if spent * rounds >= budget * done:
                break
            live.remove(doc)
            if spent + sizes[doc] <= room:
                new.append(doc)
                spent += sizes[doc]
        for gram in itertools.chain(*(grams[doc] for doc in new)):
            counts.update(gram[-order:] for order in range(3, len(gram) + 1))
        taken += new
    return taken


# ---- evidence


def part_of(key):
    """A number between 0 and 1 from a 64-bit hash: the finaliser of SplitMix64, the middle of one of 2**52 parts."""
    mask = (1 << 64) - 1
    h = key ^ (key >> 30)
    h = h * 0xBF58476D1CE4E5B9 & mask
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & mask
    h ^= h >> 31
    return ((h >> 12) + 0.5) * 2.0**-52


def arm_sample(documents, quotas):
    """What `curate.evidence.arms.Draw` takes of ``(key, place, bytes, stratum)``: ``(places, bytes of each)``.

    Every stratum is put in the order of its keys; a document's turn comes when all before it in its stratum and
    some part of it, by a hash of its key, are due. As many as have the bytes of all quotas together, the last one cut.
    """
    turns = []
    for stratum, quota in enumerate(quotas):
        before = 0
        for key, place, n_bytes, of in sorted(documents):
            if of == stratum and quota and before < quota:
                turns.append(((before + part_of(key) * n_bytes) / quota, key, place, n_bytes))
                before += n_bytes
    left, taken = sum(quotas), []
    for _, key, place, n_bytes in sorted(turns):
        if left > 0:
            taken.append((key, place, min(n_bytes, left)))
            left -= n_bytes
    return [(place, n_bytes) for _, place, n_bytes in sorted(taken)]


def passages(text: str, size: int) -> list[bytes]:
    """A text in passages: the definition of `curate.features.passages.cut_passages`, a byte at a time."""
    left, found = text.encode(), []
    while len(left) > size + size // 2:
        ends = [i + 1 for i in range(size - 1, min(len(left), 2 * size)) if left[i : i + 1] == b"\n"]
        ends += [i + 1 for i in range(size + size // 2 - 1, min(len(left), 2 * size)) if left[i : i + 1] == b" "]
        end = ends[0] if ends else min(len(left), 2 * size)
        while not ends and end < len(left) and left[end] & 0xC0 == 0x80:
            end -= 1
        if len(left) - end < size // 2:
            end = len(left)
        found.append(left[:end])
        left = left[end:]
        if not left:
            return found
    return [*found, left]


# ---- samples with given chances


def inclusion(weights, budget, sizes):
    """Cap at 1 and rescale the rest until nothing is above 1."""
    capped = set()
    while True:
        rest = sum(w * s for i, (w, s) in enumerate(zip(weights, sizes, strict=True)) if i not in capped)
        left = budget - sum(sizes[i] for i in capped)
        chances = [
            1.0 if i in capped else (w * left / rest if rest and left > 0 else 0.0) for i, w in enumerate(weights)
        ]
        above = {i for i, p in enumerate(chances) if p > 1}
        if not above:
            return chances
        capped |= above


def pivotal(chances, uniforms):
    """``(rows that are kept for certain, (row, chance) of the live one or None, uniforms used)``."""
    numbers = iter(uniforms)
    kept, live, used = set(), None, 0
    for row, p in enumerate(chances):
        if p <= 1e-12:
            continue
        if p >= 1 - 1e-12:
            kept.add(row)
        elif live is None:
            live = (row, p)
        else:
            a, p_a = live
            u, used = next(numbers), used + 1
            if p_a + p < 1:
                live = (a if u < p_a / (p_a + p) else row, p_a + p)
            elif u < (1 - p) / (2 - (p_a + p)):
                kept.add(a)
                live = (row, p_a + p - 1)
            else:
                kept.add(row)
                live = (a, p_a + p - 1)
            if live[1] >= 1 - 1e-12:
                kept.add(live[0])
                live = None
            elif live[1] <= 1e-12:
                live = None
    return sorted(kept), live, used


def systematic(chances, u):
    ends = list(itertools.accumulate(chances, initial=0.0))
    return [i for i in range(len(chances)) if math.floor(ends[i + 1] - u) > math.floor(ends[i] - u)]


def pair_number(seed, purpose, i):
    """Number i of a row of numbers in (0, 1)."""
    start = mix((seed * K1 + purpose * K2) & MASK)
    return ((mix((start + (i + 1) * K1) & MASK) >> 12) + 0.5) * 2.0**-52


# ---- weights


def transformed(log_ratio, name):
    """The log weight of a document, from the ratio itself where that can be said."""
    r = math.exp(log_ratio)
    if name.startswith("alpha="):
        return math.log(r ** float(name[6:]))
    return {
        "kl": log_ratio,
        "js": math.log(r / (1 + r)),
        "hellinger": math.log(math.sqrt(r)),
        "chi2": math.log(r**2),
        "jeffreys": math.log(1 + r),
        "tv": min(log_ratio, 0),
    }[name]


def lambert(x):
    """w from 0 up with w exp(w) = x, by halving."""
    low, high = 0.0, math.log1p(x)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * math.exp(middle) < x else (low, middle)
    return low


def best_weights(scores, kind, beta):
    """Weights with a mean of 1 that are best for mean(w s) - beta mean(penalty of w), by halving for the level."""

    def weights(level):
        if kind == "chi2":
            return [max(0.0, 1 + (s - level) / (2 * beta)) for s in scores]
        return [lambert(math.exp((s - level) / beta + 1)) for s in scores]

    low, high = min(scores), max(scores)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weights(middle)) > len(scores) else (low, middle)
    return weights(low)


def sampled(documents, draw, seed, budgets, *, by_size):
    """Who is kept, and each one's chance: of documents (id, log weight, size, group, source), by position.

    ``budgets`` by group, in the sum of sizes; ``by_size``: sizes are bytes or tokens.
    """
    key = {i: keyed_hash(d[0], seed, ORDER) for i, d in enumerate(documents)}
    chance, kept = {}, set()
    for number, group in enumerate(sorted(budgets)):
        mine = [i for i, d in enumerate(documents) if d[3] == group]
        log_w, sizes = [documents[i][1] for i in mine], [documents[i][2] for i in mine]
        weights = [math.exp(w - max(log_w)) for w in log_w]
        chances = inclusion(weights, min(budgets[group], sum(sizes)), sizes)
        chance |= dict(zip(mine, chances, strict=True))
        by = (
            (lambda i: (documents[i][4], documents[i][2], key[i])) if by_size else (lambda i: (documents[i][4], key[i]))
        )
        order = sorted(mine, key=by)
        if draw == "poisson":
            kept |= {i for i in mine if ((key[i] >> 12) + 0.5) / 2**52 < chance[i]}
            continue
        ordered = [chance[i] for i in order]
        numbers = [pair_number(seed, PAIR + number, i) for i in range(len(order))]
        if draw == "systematic":
            kept |= {order[i] for i in systematic(ordered, numbers[0])}
            continue
        certain, live, used = pivotal(ordered, numbers)
        kept |= {order[i] for i in certain}
        if live and live[1] > (numbers[used] if by_size and 1e-9 < live[1] < 1 - 1e-9 else 0.5):
            kept.add(order[live[0]])
    return kept, chance


# ---- ridge leverage scores


def leverage(k, ridge):
    """diag(K (K + ridge I)^-1)."""
    return np.diag(k @ np.linalg.inv(k + ridge * np.eye(len(k))))


def precise_leverage(k, ridge):
    """The same to more digits than a float has: 1 - ridge (K + ridge I)^-1_ii, by Cholesky in long doubles."""
    n = len(k)
    a = np.asarray(k, np.longdouble) + np.longdouble(ridge) * np.eye(n, dtype=np.longdouble)
    low, inverse = np.zeros_like(a), np.zeros_like(a)
    for j in range(n):
        low[j, j] = np.sqrt(a[j, j] - low[j, :j] @ low[j, :j])
        low[j + 1 :, j] = (a[j + 1 :, j] - low[j + 1 :, :j] @ low[j, :j]) / low[j, j]
    for i in range(n):
        inverse[i] = ((np.arange(n) == i) - low[i, :i] @ inverse[:i]) / low[i, i]
    return (1 - ridge * (inverse**2).sum(axis=0)).astype(float)


def dictionary_leverage(k, rows, weights, ridge):
    """phi^T (Phi S S^T Phi^T + ridge I)^-1 phi of every point, in coordinates in which Phi^T Phi = K."""
    values, vectors = np.linalg.eigh(k)
    phi = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    m = sum((w * np.outer(phi[:, i], phi[:, i]) for i, w in zip(rows, weights, strict=True)), np.zeros_like(k))
    inverse = np.linalg.inv(m + ridge * np.eye(len(k)))
    return np.array([phi[:, i] @ inverse @ phi[:, i] for i in range(len(k))])


def regularised_nystrom(k, rows, weights, ridge):
    """K S (S^T K S + ridge I)^-1 S^T K."""
    s = np.zeros((len(k), len(rows)))
    s[rows, np.arange(len(rows))] = np.sqrt(weights)
    return k @ s @ np.linalg.inv(s.T @ k @ s + ridge * np.eye(len(rows))) @ s.T @ k


def dictionary_epsilon(k, rows, weights, ridge):
    """|L^-1 (M~ - M) L^-T|_2 with L L^T = M + ridge I and M = Phi Phi^T."""
    values, vectors = np.linalg.eigh(k)
    phi = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    m = phi @ phi.T
    of = sum((w * np.outer(phi[:, i], phi[:, i]) for i, w in zip(rows, weights, strict=True)), np.zeros_like(k))
    low = np.linalg.inv(np.linalg.cholesky(m + ridge * np.eye(len(k))))
    return np.linalg.norm(low @ (of - m) @ low.T, 2)


# ---- curricula


def shared(owed, weights, size):
    """Positions of a round, one by one to the group that is owed most."""
    owed = [o + size * w if w else 0 for o, w in zip(owed, weights, strict=True)]
    count = [0] * len(owed)
    for _ in range(size):
        best = max((i for i in range(len(owed)) if weights[i]), key=lambda i: (owed[i], -i))
        owed[best] -= 2**32
        count[best] += 1
    return owed, count


def byte_chance(byte, context, texts, order, escape):
    """Chance of a byte after a context (bytes), interpolated Witten-Bell; each text begins after a blank line."""
    followers = [Counter() for _ in range(order + 1)]
    for text in texts:
        whole = b"\n\n" + text
        for i in range(2, len(whole)):
            for length in range(min(order, i) + 1):
                if whole[i - length : i] == context[len(context) - length :]:
                    followers[length][whole[i]] += 1
    chance = 1 / 256
    for counts in followers[: len(context) + 1]:
        m = escape * len(counts)
        if counts:
            chance = (counts[byte] + m * chance) / (counts.total() + m)
    return chance


def byte_cost(text, texts, order, escape):
    """Bits of a text under the texts that a model read."""
    whole = b"\n\n" + text
    each = (byte_chance(whole[i], whole[:i][-order:], texts, order, escape) for i in range(2, len(whole)))
    return -sum(map(math.log2, each))


# ---- mixtures and token masks


def capped(p, caps):
    """Cut off at the cap, give what was cut off to the others in their proportions, until nothing is above its cap."""
    p, done = list(p), set()
    while above := {i for i in range(len(p)) if i not in done and p[i] > caps[i] * (1 + 1e-12)}:
        done |= above
        for i in above:
            p[i] = caps[i]
        left, open_ = 1 - sum(p[i] for i in done), [i for i in range(len(p)) if i not in done]
        total = sum(p[i] for i in open_)
        for i in open_:
            p[i] = p[i] * max(left, 0) / total if total else 0.0
    return p


def softmax(logits):
    top = max(logits)
    odds = [math.exp(x - top) for x in logits]
    return [x / sum(odds) for x in odds]


def token_entropy(logits):
    return -sum(p * math.log(p) for p in softmax(logits) if p > 0)


def token_kl(logits, reference):
    return sum(
        p * math.log(p / q) if q else math.inf for p, q in zip(softmax(logits), softmax(reference), strict=True) if p
    )


def top_k(values, share):
    """Places of the int(share * n) highest values above 0; of equal ones the earlier."""
    best = sorted(range(len(values)), key=lambda i: (-values[i], i))[: int(share * len(values) + 1e-9)]
    return {i for i in best if values[i] > 0}


def packed(known, left, n_left):
    """The least entropy: what is left in as few tokens as it may, none likelier than the least likely of the known."""
    p, most = list(known), min(known)
    for _ in range(n_left):
        p.append(min(left, most))
        left = max(0.0, left - p[-1])
    return -sum(x * math.log(x) for x in p if x > 0)


def gaussian_process(x, y, new, kernel, noise):
    """``(means, variances)`` at new places, noise included, given y at x."""
    k = np.array([[kernel(a, b) for b in x] for a in x]) + noise * np.eye(len(x))
    means, variances = [], []
    for place in new:
        here = np.array([kernel(place, b) for b in x])
        means.append(here @ np.linalg.solve(k, y))
        variances.append(kernel(place, place) + noise - here @ np.linalg.solve(k, here))
    return means, variances


# ---- curricula that follow training


def gaussian_weight(p, centre=0.5, sigma=0.35):
    return math.exp(-((p - centre) ** 2) / (2 * sigma**2))


def moving_average(start, pass_rates, alpha=0.9):
    p = start
    for rate in pass_rates:
        p = alpha * p + (1 - alpha) * rate
    return p


def ucb_probabilities(windows, n, temperature=0.1):
    """Of groups by the advantages in their windows and how many sequences there were of each."""
    total = max(1, sum(n))
    bounds = [
        (sum(map(abs, own)) / len(own) if own else 0) + math.sqrt(2 * math.log(total + 1) / (count + 1))
        for own, count in zip(windows, n, strict=True)
    ]
    odds = [math.exp((b - max(bounds)) / temperature) for b in bounds]
    return [o / sum(odds) for o in odds]


def floored(probabilities, min_prob):
    """The fewest of the lowest are raised to the floor such that the rest, scaled to what is left, is not below it."""
    order = sorted(range(len(probabilities)), key=lambda i: probabilities[i])
    for n_raised in range(len(order)):
        rest = order[n_raised:]
        scale = (1 - min_prob * n_raised) / sum(probabilities[i] for i in rest)
        if probabilities[rest[0]] * scale >= min_prob:
            return [probabilities[i] * scale if i in rest else min_prob for i in range(len(order))]
    return [min_prob] * len(order)


def kept_feedback(rows, window, *, by_sequences):
    """The latest of ``(name, step, worker, index, value, n)`` that fill the window of their name, and totals."""
    kept, totals = [], Counter()
    for name in sorted({row[0] for row in rows}):
        filled = 0
        for row in sorted((row for row in rows if row[0] == name), key=lambda row: row[1:4], reverse=True):
            if filled < window:
                kept.append(row)
            filled += row[5] if by_sequences else 1
            totals[name, row[2]] += row[5]
    return sorted(kept), dict(totals)


# ---- shards of MosaicML streaming


MDS_NUMBERS = {"int64": "<q", "uint64": "<Q", "float64": "<d"}


def mds_sample(row, columns):
    """uint32 sizes of the values of variable size, then all values, in the order of ``columns``: {name: encoding}."""
    sizes, values = [], []
    for name, encoding in columns.items():
        value = row[name]
        if encoding in MDS_NUMBERS:
            values.append(struct.pack(MDS_NUMBERS[encoding], value))
            continue
        values.append(value if encoding == "bytes" else (value if encoding == "str" else json.dumps(value)).encode())
        sizes.append(struct.pack("<I", len(values[-1])))
    return b"".join([*sizes, *values])


def mds_row(sample, columns):
    """The row of a sample."""
    varying = [name for name, encoding in columns.items() if encoding not in MDS_NUMBERS]
    sizes = dict(zip(varying, struct.unpack_from(f"<{len(varying)}I", sample), strict=True))
    at, row = 4 * len(varying), {}
    for name, encoding in columns.items():
        value = sample[at : at + sizes.get(name, 8)]
        at += len(value)
        if encoding in MDS_NUMBERS:
            row[name] = struct.unpack(MDS_NUMBERS[encoding], value)[0]
        else:
            row[name] = value if encoding == "bytes" else value.decode() if encoding == "str" else json.loads(value)
    return row


def mds_shards(samples, columns, limit):
    """``({name: bytes}, index)`` of samples."""
    config = {
        "version": 2, "format": "mds", "compression": None, "hashes": ["sha256"], "size_limit": limit,
        "column_names": list(columns), "column_encodings": list(columns.values()),
        "column_sizes": [8 if encoding in MDS_NUMBERS else None for encoding in columns.values()],
    }  # fmt: skip
    head = json.dumps(config, sort_keys=True).encode()
    runs = []
    for sample in samples:
        size = 8 + len(head) + sum(len(s) + 4 for s in [*runs[-1], sample]) if runs else limit + 1
        if size > limit:
            runs.append([])
        runs[-1].append(sample)
    files, entries = {}, []
    for i, run in enumerate(runs):
        offsets = [4 + 4 * (len(run) + 1) + len(head)]
        for sample in run:
            offsets.append(offsets[-1] + len(sample))
        data = struct.pack(f"<{len(run) + 2}I", len(run), *offsets) + head + b"".join(run)
        name = f"shard.{i:05d}.mds"
        files[name] = data
        raw = {"basename": name, "bytes": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
        entries.append({"samples": len(run), "raw_data": raw, "zip_data": None} | config)
    return files, {"version": 2, "shards": entries}


# ---- shingles, digests, MinHash


UNSPACED = [
    (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0xA4CF), (0xA980, 0xA9FF), (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B2FF),
    (0x20000, 0x3FFFF),
]  # fmt: skip


def shingle_words(text):
    """What white space leaves; a character of a script without spaces is a word."""
    is_word = [any(low <= ord(c) <= high for low, high in UNSPACED) for c in text]
    return "".join(f" {c} " if alone else c for c, alone in zip(text, is_word, strict=True)).split()


def shingles(text, n):
    words = shingle_words(text)
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def shingle_hashes(text, n, seed):
    return sorted({hash_gram([hash_bytes(word.encode(), seed) for word in shingle]) for shingle in shingles(text, n)})


def jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else 0.0


def normal_form(text, name):
    spaced = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200d\u2060\ufeff]+", " ", text).strip(" ")
    letters = "".join(c for c in text.lower() if c.isalnum() or unicodedata.category(c)[0] == "M")
    return {"none": text, "whitespace": spaced, "letters": letters or spaced}[name]


def digest(text, name, seed):
    data = normal_form(text, name).encode()
    a, b = (seed_state(2 * seed + i) ^ len(data) for i in range(2))
    for i in range(0, len(data), 16):
        low, high = (int.from_bytes(data[j : j + 8], "little") for j in (i, i + 8))
        a, b = fold_product(a ^ low, high ^ K1), fold_product(b ^ high, low ^ K4)
    return b"".join(fold_product(h ^ K4, K2).to_bytes(8, "little") for h in (a, b))


def signature(hashes, factors, terms):
    """The least of each permutation of the high halves."""
    pairs = zip(map(int, factors), map(int, terms), strict=True)
    return [min(((a * (h >> 32) + b) % 2**32 for h in hashes), default=2**32 - 1) for a, b in pairs]


def near_pairs(texts, n, threshold):
    sets = [shingles(text, n) for text in texts]
    similar = {pair: jaccard(sets[pair[0]], sets[pair[1]]) for pair in itertools.combinations(range(len(texts)), 2)}
    return {pair: value for pair, value in similar.items() if value >= threshold}


# ---- duplicates, of documents {"id", "path", "row", "digest", "set", "keys", "prefer", "against"}, quadratic


def rank_of(doc):
    prefer = doc["prefer"]
    return (not doc["against"], prefer is None, -(prefer or 0.0), doc["id"].encode(), doc["path"], doc["row"])


def duplicates(docs, threshold, short="exact", candidate=lambda a, b: True):
    """{place of a removed document: (reason, place of the matched one, place of the kept one, similarity)}"""
    order = sorted(range(len(docs)), key=lambda i: rank_of(docs[i]))
    removed, first, kept = {}, {}, []
    for i in order:
        doc = docs[i]
        if short == "keep" and not doc["set"]:
            continue
        if (twin := first.setdefault(doc["digest"], i)) != i:
            if not doc["against"]:
                removed[i] = ("exact_duplicate", twin, twin, 1.0)
            continue
        if not doc["set"]:
            continue
        near = [
            (jaccard(doc["set"], docs[j]["set"]), -place, j)
            for place, j in enumerate(kept)
            if not doc["against"] and candidate(doc, docs[j]) and jaccard(doc["set"], docs[j]["set"]) >= threshold
        ]
        if near:
            similarity, _, j = max(near)
            removed[i] = ("near_duplicate", j, j, similarity)
        else:
            kept.append(i)
    return {
        i: (reason, j, removed[j][2] if j in removed else j, similarity)
        for i, (reason, j, _, similarity) in removed.items()
    }


# ---- decontamination


def is_alone(c):
    """Whether a character of a script without spaces is a word by itself."""
    ranges = (0xE00, 0xF00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x3005, 0x3100), (0x31F0, 0x3200), (0x3400, 0x4DC0)
    more = (0x4E00, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0), (0x20000, 0x40000)
    return any(low <= ord(c) < high for low, high in (*ranges, *more))


def overlap_words(text):
    """``(word in lower case, first byte, byte after the last)`` of runs of letters and digits."""
    found, at, open_ = [], 0, False
    for c in text:
        size, lowered = len(c.encode()), "σ" if c == "Σ" else c.lower()
        lowered = lowered if len(lowered) == 1 and len(lowered.encode()) == size else c
        if not re.fullmatch(r"[^\W_]", c):
            open_ = False
        elif open_ and not is_alone(c):
            found[-1] = (found[-1][0] + lowered, found[-1][1], at + size)
        else:
            found.append((lowered, at, at + size))
            open_ = not is_alone(c)
        at += size
    return found


def overlap_hash(word):
    """Of a word; its lowest bits say whether it begins with a digit, and whether that or it is a single byte."""
    number = word[:1] in tuple("0123456789")
    return hash_bytes(word.encode()) & ~3 | (3 if number else 2 if len(word.encode()) == 1 else 0)


def common_runs(document, item):
    """Where lists of words agree, as long as they do: ``(place in document, place in item, length)``."""
    for d, p in itertools.product(range(len(document)), range(len(item))):
        if document[d] == item[p] and not (d and p and document[d - 1] == item[p - 1]):
            length = 1
            while d + length < len(document) and p + length < len(item) and document[d + length] == item[p + length]:
                length += 1
            yield d, p, length


def is_verbatim(document, item, n, coverage=0.5):
    """Whether n words in a row are in both, that say something; an item without boilerplate and numbers."""
    for _, p, length in common_runs(document, item):
        needed = n // 4 if length >= coverage * len(item) else n // 2
        if length >= n and len({word for word in item[p : p + length] if len(word) > 1}) >= needed:
            return True
    return False


# ---- statistics of filters

STOP_WORDS_OF_GOPHER = {"the", "be", "to", "of", "and", "that", "have", "with"}
C4_PHRASES = (
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"
)  # fmt: skip
SENTENCE_ENDS, CLOSING, BULLET_CHARACTERS = ".!?…。！？｡।॥؟۔։።፧", "\"')]}’”»›」』）", "•‣▶◀◦■□▪▫–*-"
SCRIPTS_WITHOUT_SPACES = (
    (0xE00, 0xFFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3347F),
)  # fmt: skip


def ratio(top, bottom):
    return top / bottom if bottom else 0.0


def ascii_lower(text):
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def ends_sentence(word):
    return word.rstrip(CLOSING)[-1:] in set(SENTENCE_ENDS)


def in_c4(line):
    words = line.split()
    return (
        line[-1] in '.!?"”' and not line.endswith("...") and len(words) >= 5 and max(map(len, words)) <= 1000
        and not any(phrase in ascii_lower(line) for phrase in C4_PHRASES)
    )  # fmt: skip


def repeated(items):
    """Those that were there before."""
    return [item for i, item in enumerate(items) if item in items[:i]]


def top_ngram_characters(words, n):
    times = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    most = max((count, sum(map(len, gram))) for gram, count in times.items()) if times else (0, 0)
    return min(most[0] * most[1], sum(map(len, words))) if most[0] > 1 else 0


def repeated_ngram_characters(words, n):
    seen, characters, i = set(), 0, 0
    while i + n <= len(words):
        gram = tuple(words[i : i + n])
        if gram in seen:
            characters += sum(map(len, gram))
            i += n
        else:
            seen.add(gram)
            i += 1
    return characters


def _is_letter(character):
    """A letter, or a mark that combines with one."""
    return character.isalpha() or unicodedata.category(character)[0] == "M"


def document_statistics(text, english, other):
    """All of `curate.filters.STATISTICS`; ``english`` and ``other`` are sets of function words."""
    words, rows = text.split(), text.split("\n")
    lines = [row.strip() for row in rows if row.strip()]
    blocks = itertools.groupby(rows, lambda row: bool(row.strip()))
    paragraphs = ["\n".join(row.strip() for row in block) for there, block in blocks if there]
    paragraph_characters = [len(p.replace("\n", "")) for p in paragraphs]
    total, n_words, n_lines = sum(map(len, words)), len(words), len(lines)
    whole = sum(map(len, lines))
    spaces, letters = sum(map(str.isspace, text)), sum(map(_is_letter, text))
    is_sign = [unicodedata.category(c)[0] in "PS" for c in text]
    of = tokens(text)
    commonest = max(Counter(of).values(), default=0)
    c4 = [line for line in lines if in_c4(line)]
    return {
        "n_characters": len(text),
        "n_words": n_words,
        "n_sentences": sum(map(ends_sentence, words)),
        "n_lines": n_lines,
        "n_paragraphs": len(paragraphs),
        "mean_word_length": ratio(total, n_words),
        "words_per_line": ratio(n_words, n_lines),
        "longest_line": max(map(len, lines), default=0),
        "longest_run": max((len(list(g)) for c, g in itertools.groupby(text) if not c.isspace()), default=0),
        "hash_word_ratio": ratio(text.count("#"), n_words),
        "ellipsis_word_ratio": ratio(text.count("...") + text.count("…"), n_words),
        "alpha_word_fraction": ratio(sum(any(map(_is_letter, word)) for word in words), n_words),
        "n_stop_words": len(STOP_WORDS_OF_GOPHER & set(map(ascii_lower, words))),
        "bullet_line_fraction": ratio(sum(line[0] in BULLET_CHARACTERS for line in lines), n_lines),
        "ellipsis_line_fraction": ratio(sum(line.endswith(("...", "…")) for line in lines), n_lines),
        "ended_line_fraction": ratio(sum(line[-1] in SENTENCE_ENDS + "\"'”’" for line in lines), n_lines),
        "short_line_fraction": ratio(sum(len(line) <= 30 for line in lines), n_lines),
        "indented_line_fraction": ratio(
            sum(row[0] == "\t" or len(row.encode()) - len(row.lstrip().encode()) >= 2 for row in rows if row.strip()),
            n_lines,
        ),
        "newline_word_ratio": ratio(text.count("\n"), n_words),
        "repeated_line_fraction": ratio(len(repeated(lines)), n_lines),
        "repeated_line_characters": ratio(sum(map(len, repeated(lines))), whole),
        "repeated_paragraph_fraction": ratio(len(repeated(paragraphs)), len(paragraphs)),
        "repeated_paragraph_characters": ratio(
            sum(n for i, n in enumerate(paragraph_characters) if paragraphs[i] in paragraphs[:i]), whole
        ),
        "distinct_word_fraction": ratio(len(set(words)), n_words),
        **{f"top_{n}gram_characters": ratio(top_ngram_characters(words, n), total) for n in (2, 3, 4)},
        **{f"repeated_{n}gram_characters": ratio(repeated_ngram_characters(words, n), total) for n in range(5, 11)},
        "c4_lines": len(c4),
        "c4_sentences": sum(max(1, sum(map(ends_sentence, line.split()))) for line in c4),
        "c4_line_fraction": ratio(len(c4), n_lines),
        "n_braces": text.count("{") + text.count("}"),
        "lorem_ipsum": int("lorem ipsum" in ascii_lower(text)),
        "letter_fraction": ratio(letters, len(text)),
        "printed_letter_fraction": ratio(letters, total),
        "digit_fraction": ratio(sum(c.isdecimal() for c in text), len(text)),
        "space_fraction": ratio(spaces, len(text)),
        "punctuation_fraction": ratio(sum(is_sign), len(text)),
        "non_ascii_fraction": ratio(sum(not c.isascii() for c in text), len(text)),
        "unspaced_fraction": ratio(
            sum(any(a <= ord(c) <= b for a, b in SCRIPTS_WITHOUT_SPACES) for c in text), letters
        ),
        "code_fraction": ratio(sum(c in "{}[]();=<>_" for c in text), len(text)),
        "command_word_ratio": ratio(len(re.findall(r"\\(?=[A-Za-z])", text)), n_words),
        "replacement_fraction": ratio(text.count("\ufffd"), len(text)),
        "control_fraction": ratio(sum(unicodedata.category(c) == "Cc" and not c.isspace() for c in text), len(text)),
        "english_fraction": ratio(sum(token in english for token in of), len(of)),
        "other_language_fraction": ratio(sum(token in other - english for token in of), len(of)),
        "dsir_length": len(of),
        "dsir_repeating": ratio(commonest, len(of)),
        "dsir_informative": ratio(sum(t not in english and t not in set(string.punctuation) for t in of), len(of)),
        "dsir_numeric": ratio(sum(t not in set("0123456789") for t in of), len(of)),
    }
