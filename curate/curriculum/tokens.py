"""Which tokens of a text to leave out of the loss: those that a model is least sure of, or has moved furthest on.

After EKSFT (entropy and KL token masking), offline: from the logits of a model and of a reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curate.errors import InputError, UsageError, unknown

SHARE = 0.2  # of the tokens, by each of the two: rho of the reference
ALIGNED = ("next", "same")
COMBINE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"union": np.logical_or, "both": np.logical_and}
_CHUNK_BYTES = 4_000_000  # stays near the processor


@dataclass(frozen=True)
class TokenMask:
    """Which tokens are masked, and why.

    Attributes
    ----------
    masked : bool[n_tokens]; True: leave it out of the loss. by_entropy, by_kl : bool[n_tokens], each for itself.
    entropy, kl : float64[n_tokens], nats, of the prediction of each token; nan where nothing predicts it. ``kl`` is
        None without a reference.
    lowest_entropy, lowest_kl : of the tokens masked by it; None where there is none.
    """

    masked: np.ndarray
    by_entropy: np.ndarray
    by_kl: np.ndarray
    entropy: np.ndarray
    kl: np.ndarray | None
    lowest_entropy: float | None
    lowest_kl: float | None


def mask_tokens(
    logits: np.ndarray,
    reference: np.ndarray | None = None,
    *,
    aligned: str,
    documents: np.ndarray | None = None,
    valid: np.ndarray | None = None,
    mode: str = "topk",
    share: float = SHARE,
    above_entropy: float | None = None,
    above_kl: float | None = None,
    combine: str = "union",
    per_document: bool = False,
) -> TokenMask:
    """Mask the tokens with the highest entropy -sum p log p and with the highest KL sum p log(p / p_ref).

    Parameters
    ----------
    logits : float[n_tokens, n_vocab], or log-probabilities; may be a memory map, is read in parts.
    reference : the same of the reference model; without it tokens are masked by entropy alone.
    aligned : "same": row t predicts token t. "next": row t predicts token t + 1, as causal models give logits; the
        first token of each document is then predicted by nothing, and never masked.
    documents : int[n_tokens], which document each token is of, those of one side by side; None: all of one.
    valid : bool[n_tokens], the tokens that count in the loss, such as those of the response; None: all.
    mode : "topk": the int(share * valid tokens) highest of each, in each document or in all, the earlier one of
        equals. "quantile": those above the quantile 1 - share. "above": those above ``above_entropy`` and
        ``above_kl`` (nats; None masks nothing).
    combine : "union" of the two, or "both".

    Returns
    -------
    TokenMask. By topk at most 2 int(share * valid tokens) are masked. Only what is above 0 is masked: a model that
    does not differ from its reference masks nothing by KL, where the k highest of equal values would be arbitrary.

    Raises
    ------
    InputError : arrays that do not fit each other, logits that are nan or inf, a row that is -inf throughout.
    UsageError : no such mode, or values that make no sense.
    """
    _check(aligned, mode, share, combine)
    entropy, kl = entropy_and_kl(logits, reference)
    docs = np.zeros(len(entropy), np.int64) if documents is None else np.asarray(documents)
    counts = np.ones(len(entropy), np.bool_) if valid is None else np.asarray(valid, np.bool_)
    for name, array in (("documents", docs), ("valid", counts)):
        if array.shape != entropy.shape:
            raise InputError(f"{name} has shape {array.shape}, there are {len(entropy):,} tokens")
    if aligned == "next":
        first = np.append(True, docs[1:] != docs[:-1])[: len(docs)]
        entropy = _shifted(entropy, first)
        kl = None if kl is None else _shifted(kl, first)
    counts = counts & ~np.isnan(entropy)
    groups = docs if per_document else np.zeros(len(docs), np.int64)

    def chosen(values: np.ndarray | None, above: float | None) -> np.ndarray:
        found = np.zeros(len(entropy), np.bool_)
        if values is None:
            return found
        if mode == "above":
            return found if above is None else counts & (np.nan_to_num(values, nan=0.0) > max(above, 0.0))
        for group in np.unique(groups[counts]):
            rows = np.flatnonzero(counts & (groups == group))
            found[rows[_highest(values[rows], share, mode)]] = True
        return found

    by_entropy, by_kl = chosen(entropy, above_entropy), chosen(kl, above_kl)
    masked = by_entropy if kl is None else COMBINE[combine](by_entropy, by_kl)
    return TokenMask(masked, by_entropy, by_kl, entropy, kl, _lowest(entropy, by_entropy), _lowest(kl, by_kl))


def _check(aligned: str, mode: str, share: float, combine: str) -> None:
    for kind, name, known in (
        ("alignment", aligned, ALIGNED),
        ("mode", mode, ("topk", "quantile", "above")),
        ("combination", combine, COMBINE),
    ):
        if name not in known:
            raise unknown(kind, name, known)
    if not 0 <= share <= 1:
        raise UsageError(f"share {share}: of the tokens to mask, must be 0 to 1")


def _shifted(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Of the prediction of each token, where row t predicts token t + 1."""
    return np.where(first, np.nan, np.append(np.nan, values[:-1])[: len(values)])


def _highest(values: np.ndarray, share: float, mode: str) -> np.ndarray:
    """Places of the values to mask."""
    if mode == "quantile":
        return np.flatnonzero((values > np.quantile(values, 1 - share, method="higher")) & (values > 0))
    k = int(share * len(values) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    places = np.argsort(-values, kind="stable")[:k]
    return places[values[places] > 0]


def _lowest(values: np.ndarray | None, masked: np.ndarray) -> float | None:
    return float(values[masked].min()) if values is not None and masked.any() else None


def entropy_and_kl(
    logits: np.ndarray, reference: np.ndarray | None = None, *, chunk_bytes: int = _CHUNK_BYTES
) -> tuple[np.ndarray, np.ndarray | None]:
    """Entropy of each row of logits, and its KL divergence from the same row of a reference; nats.

    Parameters
    ----------
    logits, reference : float[n_rows, n_vocab]; -inf is a token that cannot be. chunk_bytes : of the rows at a time.

    Returns
    -------
    float64[n_rows] each, 0 or more; the divergence is inf where the reference holds impossible what is possible.

    Raises
    ------
    InputError : as of `mask_tokens`.
    """
    if logits.ndim != 2 or not logits.shape[1]:
        raise InputError(
            f"logits have shape {logits.shape}; must be one row a token, one column a piece of the vocabulary"
        )
    if reference is not None and reference.shape != logits.shape:
        raise InputError(
            f"logits have shape {logits.shape}, those of the reference {reference.shape}; must be the same"
        )
    n_rows, n_vocab = logits.shape
    entropy = np.empty(n_rows)
    kl = None if reference is None else np.empty(n_rows)
    step = max(1, chunk_bytes // (8 * n_vocab))
    for start in range(0, n_rows, step):
        here = slice(start, start + step)
        x, odds, total = _odds(logits[here], start, "logits")
        log_total = np.log(total)
        entropy[here] = np.maximum(0.0, log_total - _sum(odds, x) / total)
        if reference is not None and kl is not None:
            y, _, total_y = _odds(reference[here], start, "logits of the reference")
            with np.errstate(invalid="ignore"):
                apart = _sum(odds, x - y) / total
            kl[here] = np.maximum(0.0, apart - (log_total - np.log(total_y)))
    return entropy, kl


def _odds(logits: np.ndarray, start: int, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits less their highest, their exponentials, and the sums of these by row."""
    x = np.array(logits, np.float64)
    top = x.max(axis=1, keepdims=True)  # nan and inf show in it
    wrong = ~np.isfinite(top[:, 0])
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{name}, row {start + row:,}: the highest is {top[row, 0]}; must be a number")
    x -= top
    odds = np.exp(x)
    return x, odds, odds.sum(axis=1)


def _sum(p: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of p * values by row, where 0 times anything is 0."""
    if not np.isfinite(values).all():
        values = np.where(p > 0, values, 0.0)
    return np.einsum("ij,ij->i", p, values)


# ---- from the most likely tokens only


def entropy_bounds(top_log_probs: np.ndarray, n_vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest entropy that a distribution can have of which the most likely tokens are known.

    What is left is spread evenly over the rest, or packed into as few tokens as it may: none is likelier than the
    least likely of the known.

    Parameters
    ----------
    top_log_probs : float[n_rows, m], the m highest log-probabilities of each row, in any order.
    n_vocab : all tokens.

    Returns
    -------
    low, high : float64[n_rows], nats.

    Raises
    ------
    InputError : probabilities that add up to more than 1, or to less than the rest can make up for.
    """
    log_p = np.asarray(top_log_probs, np.float64)
    if log_p.ndim != 2 or not 0 < log_p.shape[1] <= n_vocab:
        raise InputError(f"log-probabilities of shape {log_p.shape} are not the highest of {n_vocab:,} of each row")
    p = np.exp(log_p)
    n_left = n_vocab - log_p.shape[1]
    left, smallest = 1 - p.sum(axis=1), p.min(axis=1)
    slack = 1e-4  # of probabilities that were kept as float16
    if not ((left >= -slack) & (left <= n_left * smallest + slack)).all():
        raise InputError(
            f"the {log_p.shape[1]:,} highest probabilities of each row leave between {left.min():.3g} and "
            f"{left.max():.3g} to {n_left:,} others, none of them likelier; give log-probabilities (nats)"
        )
    left = np.clip(left, 0, n_left * smallest)
    known = -_sum(p, log_p)
    full = np.floor(np.divide(left, smallest, out=np.zeros_like(left), where=smallest > 0))
    rest = np.maximum(0.0, left - full * smallest)
    return known + full * _h(smallest) + _h(rest), known + max(n_left, 1) * _h(left / max(n_left, 1))


def _h(p: np.ndarray) -> np.ndarray:
    """-p log p."""
    return -p * np.log(np.where(p > 0, p, 1.0))


def kl_lower_bound(
    top_log_probs: np.ndarray, tokens: np.ndarray, reference_log_probs: np.ndarray, reference_tokens: np.ndarray
) -> np.ndarray:
    """At least how far a prediction is from that of a reference, of which both some tokens are known.

    All other tokens count as one. Merging what is different never makes a divergence larger.

    Parameters
    ----------
    top_log_probs, reference_log_probs : float[n_rows, m]. tokens, reference_tokens : int[n_rows, m], of which tokens;
        the same ones in each row, in any order.

    Returns
    -------
    float64[n_rows], nats.

    Raises
    ------
    InputError : a row with different tokens.
    """
    shapes = {np.shape(a) for a in (top_log_probs, tokens, reference_log_probs, reference_tokens)}
    if len(shapes) > 1 or len(np.shape(tokens)) != 2:
        raise InputError(f"log-probabilities and tokens have shapes {sorted(shapes)}; all must be (rows, tokens)")
    of_p, of_q = np.argsort(tokens, axis=1), np.argsort(reference_tokens, axis=1)
    mine, theirs = (np.take_along_axis(np.asarray(a), o, 1) for a, o in ((tokens, of_p), (reference_tokens, of_q)))
    if (mine != theirs).any():
        row = int(np.argmax((mine != theirs).any(axis=1)))
        raise InputError(
            f"row {row:,}: the model's tokens are not those of the reference; a divergence needs both models' "
            "log-probabilities of the same tokens: take those of the model's most likely tokens under the reference too"
        )
    p, q = (
        _with_rest(np.take_along_axis(np.exp(np.asarray(a, np.float64)), o, 1))
        for a, o in ((top_log_probs, of_p), (reference_log_probs, of_q))
    )
    q[:, -1] = np.maximum(q[:, -1], 1e-12)  # a rest that rounding leaves to one alone is no infinite divergence
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(0.0, _sum(p, np.log(p) - np.log(q)))


def _with_rest(p: np.ndarray) -> np.ndarray:
    return np.column_stack([p, np.maximum(0.0, 1 - p.sum(axis=1))])
