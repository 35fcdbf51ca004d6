"""In what proportion to mix the sources of a corpus: as they are, by hand, by scores, by rewards, by regression."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.curriculum import regression
from curate.curriculum.proportions import capped, given, proportions, tempered, tilted_by
from curate.curriculum.regression import Best, LossModel
from curate.curriculum.sources import Sources, sources_of_files, sources_of_run
from curate.curriculum.state import STATE
from curate.errors import InputError, RunError, UsageError, unknown
from curate.io.curriculum import Curriculum, method_in, read_curriculum, write_curriculum
from curate.io.paths import atomic, folder_path
from curate.io.run import is_run
from curate.io.targets import Paths, listed_paths
from curate.sampling.budget import Budget, parse_budget

BY = ("raw", "selected", "scores")
WEIGHTS_OF = ("text", "documents")
DESIGN = "mixtures.csv"
METHOD = "mix"


@dataclass(frozen=True)
class Fit:
    """How well the loss of proxies is predicted from the others, leaving one out at a time.

    ``weight``: of the loss among all. ``loss``: predicted for the mixture.
    """

    column: str
    weight: float
    n_proxies: int
    spearman: float
    rmse: float
    loss: float


@dataclass(frozen=True)
class Mixture:
    """In what proportion to train on sources.

    Attributes
    ----------
    names, weights : of the sources; weights float64[n_sources] add up to 1, shares of the text.
    unit : of text: "tokens" where the budget is of these, else "bytes".
    natural, amounts, n_documents : float64[n_sources], shares of raw, and what there is; None where raw is not known.
    epochs : float64[n_sources], how often each source is gone through; None where the budget or raw is not known.
    capped : sources that get less than they would, for more than ``max_epochs`` of them would be needed.
    scores : float64[n_sources], means by bytes; None where they were not looked at.
    best, fits : what proxies tell, where they were asked.
    about : what was asked for.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    unit: str = "bytes"
    natural: np.ndarray | None = None
    amounts: np.ndarray | None = None
    n_documents: np.ndarray | None = None
    epochs: np.ndarray | None = None
    capped: tuple[str, ...] = ()
    scores: np.ndarray | None = None
    best: Best | None = None
    fits: tuple[Fit, ...] = ()
    n_bad_rows: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of_documents(self) -> np.ndarray | None:
        """float64[n_sources], the same mixture as shares of documents, for loops that draw documents."""
        if self.amounts is None or self.n_documents is None:
            return None
        return proportions(self.weights * self.n_documents / np.maximum(self.amounts, 1))

    def curriculum(self) -> Curriculum:
        """As the files of a curriculum have it: one stage, its weights shares of what ``about["weights_of"]`` says."""
        weights = self.of_documents if self.about.get("weights_of") == "documents" else self.weights
        columns = {
            f"share_of_{self.unit}": self.weights if weights is not self.weights else None,
            "raw_share": self.natural,
            f"raw_{self.unit}": self.amounts,
            "raw_documents": self.n_documents,
            "epochs": self.epochs,
            "mean_score": self.scores,
        }
        return Curriculum(
            "group",
            pa.array(self.names, pa.large_string()),
            np.zeros(len(self.names), np.int32),
            self.weights if weights is None else weights,
            {name: values for name, values in columns.items() if values is not None},
            self.about,
        )

    def as_text(self) -> str:
        """A row for each source, and what was found."""
        from curate.report.safe import label
        from curate.report.terminal import table

        columns = [("source", [label(name, 40) or "(none)" for name in self.names])]
        if self.natural is not None:
            columns.append(("of raw", [f"{share:.2%}" for share in self.natural]))
        if self.scores is not None:
            columns.append(("mean score", [f"{score:.4g}" for score in self.scores]))
        columns.append(("weight", [f"{weight:.2%}" for weight in self.weights]))
        if self.about.get("weights_of") == "documents" and self.of_documents is not None:
            columns.append(("of documents", [f"{weight:.2%}" for weight in self.of_documents]))
        if self.epochs is not None:
            columns.append(("epochs", [f"{n:.2f}" for n in self.epochs]))
        if self.capped:
            columns.append(("", ["at most" if name in self.capped else "" for name in self.names]))
        rows = [tuple(name for name, _ in columns), *zip(*(cells for _, cells in columns), strict=True)]
        return "\n".join([table(rows, " " + "r" * (len(columns) - 1)), *self._notes()])

    def _notes(self) -> Iterator[str]:
        from curate.report.safe import label

        if self.natural is not None:
            yield f"\nof raw, weight: shares of the {self.unit} of text"
        if self.capped:
            yield f"at most: would be more without --max-epochs {self.about['max_epochs']:g}"
        if self.fits:
            yield ""
        for fit in self.fits:
            yield (
                f"{label(fit.column, 60)}: {fit.n_proxies:,} proxies, each predicted from the others: "
                f"rank correlation {fit.spearman:.3f}, error {fit.rmse:.4f}; this mixture: {fit.loss:.4f}"
            )
        if (best := self.best) is not None:
            of = "mean of these" if len(self.fits) > 1 else "loss of a proxy"
            usual = "on the proxies' mean" if self.natural is None else "in natural proportions"
            yield (
                f"{of} on this mixture: {best.loss:.4f} +- {best.uncertainty:.4f} predicted; "
                f"{usual} {best.natural_loss:.4f}, on the best proxy's mixture {best.best_proxy_loss:.4f}"
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: a row for each source, and what was found."""
        rows = self.curriculum()
        sources = [
            {"source": name, "weight": float(weight)} | {key: values[i].item() for key, values in rows.columns.items()}
            for i, (name, weight) in enumerate(zip(self.names, rows.weights, strict=True))
        ]
        found: dict[str, Any] = {"sources": sources, "capped": list(self.capped), "n_bad_rows": self.n_bad_rows}
        if self.best is not None:
            found |= {name: value for name, value in vars(self.best).items() if name != "mixture"}
            found["fits"] = [vars(fit) for fit in self.fits]
        return found | {"about": dict(self.about)}


def mix(
    raw: Paths | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    column: str = "source",
    by: str = "raw",
    max_kl: float | None = None,
    temperature: float = 1.0,
    weights: Mapping[str, float] | None = None,
    rest: bool = True,
    curriculum: str | os.PathLike[str] | None = None,
    proxies: str | os.PathLike[str] | None = None,
    losses: str | os.PathLike[str] | None = None,
    loss: Mapping[str, float] | None = None,
    risk: float | None = None,
    budget: str | Budget | None = None,
    max_epochs: float | None = None,
    weights_of: str = "text",
    seed: int = 0,
    overwrite: bool = False,
    **reading: Any,
) -> Mixture:
    """Find proportions of sources, and write them as a curriculum where ``out`` is given.

    Parameters
    ----------
    raw : files, or the folder of a run: all documents that it scored. None: proportions come from ``curriculum`` or
        ``proxies`` alone, and epochs are not known.
    column : whose values are the sources.
    by : "raw", the shares of the text; "selected", those of what a run selected; "scores", those of raw
        tilted towards sources whose documents score high on average, by ``max_kl`` nats.
    temperature : above 1 makes proportions more even, before all else.
    weights, rest : of some sources, given; see `curate.curriculum.proportions.given`.
    curriculum : a folder whose last stage has the proportions, such as that of rewards; its weights are shares of
        documents unless it says otherwise.
    proxies, losses, loss : tables of proxy models and the losses that count, with their weights; see
        `curate.curriculum.regression`. risk : standard deviations that are added to a predicted loss; by
        default 1.
    budget : bytes or tokens of the training to come, for epochs; max_epochs : of any source.
    weights_of : what the weights that are written are shares of: "text", or "documents", for loops that draw
        documents. All other shares are of text: of its bytes, or of its tokens where the budget is of tokens.
    reading : ``text_column``, ``id_column``, ``on_bad_row``, ``workers``, ``progress``, of files.

    Raises
    ------
    UsageError : what does not go together, or is not there.
    RunError : ``out`` holds a curriculum that was made by something else, unless ``overwrite``.
    InputError : a budget that the sources are not enough for; tables that cannot be used.
    """
    _check(raw, by, max_kl, temperature, weights, rest, curriculum, proxies, losses, loss)
    if weights_of not in WEIGHTS_OF:
        raise unknown("--weights-of", weights_of, WEIGHTS_OF)
    if weights_of == "documents" and raw is None:
        raise UsageError("--weights-of documents needs RAW: how long are the documents of each source?")
    if risk is not None and (proxies is None or not risk >= 0):
        raise UsageError(f"--risk {risk:g}: must be from 0 on, and goes with --proxies")
    risk = regression.RISK if risk is None else risk
    by_what = None if out is None else method_in(folder_path(out))
    if by_what not in (None, METHOD) and not overwrite:
        raise RunError(f"{out}: holds a curriculum that {by_what} made; choose another folder or pass --overwrite")
    supply = _Supply.of(raw, column, by, budget, max_epochs, reading)
    best: Best | None = None
    fits: tuple[Fit, ...] = ()
    unit = supply.unit
    if proxies is not None and losses is not None and loss is not None:
        names, base, best, fits = _by_regression(proxies, losses, loss, supply, risk, seed)
    elif curriculum is not None:
        names, base, unit = _of_curriculum(curriculum, supply)
        base = tempered(base, temperature)
    else:
        names, base = supply.names, _of_sources(supply, by, temperature, max_kl)
    base = given(names, base, weights, rest=rest) if weights else base
    found = supply.within(base)
    asked = {
        "by": "proxies" if proxies is not None else "curriculum" if curriculum is not None else by,
        "max_kl": max_kl,
        "temperature": None if temperature == 1 else temperature,
        "given": dict(weights) if weights else None,
        "rest": None if rest else "none",
        "loss": {fit.column: fit.weight for fit in fits} or None,
        "risk": risk if fits else None,
        "seed": seed if fits else None,
        "budget": None if supply.budget is None else str(supply.budget),
        "max_epochs": max_epochs,
        "weights_of": unit if weights_of == "text" else weights_of,
    }
    sources = supply.sources
    made = Mixture(
        tuple(names),
        found,
        unit,
        supply.natural,
        None if sources is None else supply.amounts,
        None if sources is None else sources.n_documents,
        supply.epochs(found),
        tuple(name for name, before, after in zip(names, base, found, strict=True) if after < before),
        None if sources is None else sources.scores,
        best,
        fits,
        0 if sources is None else sources.n_bad_rows,
        {"method": METHOD, "column": column, **{key: value for key, value in asked.items() if value is not None}},
    )
    if out is not None:
        if by_what != METHOD:
            (folder_path(out) / STATE).unlink(
                missing_ok=True
            )  # from which an update would make the other weights again
        write_curriculum(out, made.curriculum())
    return made


def propose(
    raw: Paths,
    n: int,
    *,
    out: str | os.PathLike[str],
    column: str = "source",
    budget: str | Budget | None = None,
    max_epochs: float | None = None,
    seed: int = 0,
    **reading: Any,
) -> tuple[Path, Sequence[str], np.ndarray]:
    """Write ``mixtures.csv`` into ``out``: mixtures to train proxy models on, a row each (`regression.design`).

    Returns
    -------
    Its path, the sources, and the mixtures float64[n, n_sources].

    Raises
    ------
    As of `mix`.
    """
    import polars as pl

    if n < regression.MIN_PROXIES:
        raise UsageError(f"--design {n}: a regression needs at least {regression.MIN_PROXIES} mixtures")
    supply = _Supply.of(raw, column, "raw", budget, max_epochs, reading)
    assert supply.natural is not None
    supply.within(supply.natural)
    mixtures = np.round(regression.design(supply.natural, n, seed=seed, caps=supply.caps), 6)
    key = "proxy"
    while key in supply.names:
        key += "_"
    table = pl.DataFrame({key: np.arange(1, n + 1)}).hstack(
        [pl.Series(name, mixtures[:, i]) for i, name in enumerate(supply.names)]
    )
    path = folder_path(out) / DESIGN
    with atomic(path) as part:
        table.write_csv(part)
    return path, supply.names, mixtures


@dataclass(frozen=True)
class _Supply:
    """What there is of each source, and how much training is to come."""

    sources: Sources | None
    budget: Budget | None = None
    max_epochs: float | None = None

    @classmethod
    def of(
        cls,
        raw: Paths | None,
        column: str,
        by: str,
        budget: str | Budget | None,
        max_epochs: float | None,
        reading: Mapping[str, Any],
    ) -> _Supply:
        """Count the sources.

        Raises
        ------
        InputError : all of them together are not enough.
        """
        amount = None if budget is None else parse_budget(budget)
        if amount is not None and amount.unit not in ("bytes", "tokens"):
            raise UsageError(f"--budget {budget}: must be of bytes or tokens, such as 500GB or 300B-tokens")
        if max_epochs is not None and not max_epochs > 0:
            raise UsageError(f"--max-epochs {max_epochs:g}: must be above 0")
        if max_epochs is not None and amount is None:
            raise UsageError("--max-epochs needs --budget: how much is to be trained on?")
        if raw is None:
            if amount is not None:
                raise UsageError("--budget needs RAW: how much is there of each source?")
            return cls(None)
        run = next((path for path in listed_paths(raw) if is_run(path, finished=False)), None)
        if run is None:
            if by != "raw":
                raise UsageError(f"--by {by} needs the folder of a run instead of files")
            tokens = amount is not None and amount.unit == "tokens"
            return cls(sources_of_files(raw, column, count_tokens=tokens, **reading), amount, max_epochs)
        if len(listed_paths(raw)) > 1:
            raise UsageError(f"{run}: is the folder of a run, and stands alone")
        found = sources_of_run(run, column, selected=by == "selected", scores=by == "scores")
        return cls(found, amount, max_epochs)

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.sources is None else self.sources.names

    @property
    def unit(self) -> str:
        """Of text: that of the budget, else bytes."""
        return "bytes" if self.budget is None else self.budget.unit

    @property
    def amounts(self) -> np.ndarray:
        """int64[n_sources], what there is of each; none without sources."""
        if self.sources is None:
            return np.zeros(0, np.int64)
        return self.sources.n_tokens if self.unit == "tokens" else self.sources.n_bytes

    @property
    def natural(self) -> np.ndarray | None:
        return None if self.sources is None else proportions(self.amounts)

    @property
    def _budgets(self) -> np.ndarray | None:
        """What part of the budget there is of each source."""
        return None if self.sources is None or self.budget is None else self.amounts / self.budget.amount

    @property
    def caps(self) -> np.ndarray | None:
        """float64[n_sources], the highest weights that max_epochs allows."""
        there = self._budgets
        return None if there is None or self.max_epochs is None else self.max_epochs * there

    def epochs(self, weights: np.ndarray) -> np.ndarray | None:
        """float64[n_sources], how often each source is gone through."""
        there = self._budgets
        if there is None:
            return None
        return np.divide(weights, there, out=np.where(weights > 0, np.inf, 0.0), where=there > 0)

    def within(self, p: np.ndarray) -> np.ndarray:
        """Proportions with no more epochs of a source than there may be."""
        caps = self.caps
        if caps is None:
            return p
        try:
            return capped(p, caps)
        except InputError as error:
            most = float(caps[p > 0].sum() * self.budget.amount) if self.budget else 0.0
            raise InputError(
                f"--max-epochs {self.max_epochs:g} of the sources that have a weight is {most:,.0f} "
                f"{self.budget.unit if self.budget else ''}, less than --budget {self.budget}: "
                "allow more epochs, or train on less"
            ) from error


def _check(
    raw: Paths | None,
    by: str,
    max_kl: float | None,
    temperature: float,
    weights: Mapping[str, float] | None,
    rest: bool,
    curriculum: Any,
    proxies: Any,
    losses: Any,
    loss: Mapping[str, float] | None,
) -> None:
    """Refuse what does not go together."""
    if by not in BY:
        raise unknown("--by", by, BY)
    given_proxies = {"--proxies": proxies, "--losses": losses, "--loss": loss}
    missing = [name for name, value in given_proxies.items() if not value]
    if 0 < len(missing) < 3:
        raise UsageError(f"--proxies, --losses and --loss go together: give {' and '.join(missing)} too")
    ways = [name for name, value in (("--proxies", proxies), ("--curriculum", curriculum)) if value]
    ways += [f"--by {by}"] if by != "raw" else []
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)} each give the proportions: give one of them")
    if not ways and raw is None:
        raise UsageError("nothing to mix: name RAW (files or the folder of a run), --curriculum or --proxies")
    if (by == "scores") != (max_kl is not None):
        raise UsageError(
            "--by scores and --max-kl go together: scores say which sources, --max-kl 0.5 how far to go from raw (nats)"
        )
    if proxies and (weights or temperature != 1):
        raise UsageError("--proxies find the best proportions: leave out --weight and --temperature")
    if not rest and not weights:
        raise UsageError("--rest none needs --weight: no source would be left")


def _of_sources(supply: _Supply, by: str, temperature: float, max_kl: float | None) -> np.ndarray:
    sources, natural = supply.sources, supply.natural
    assert sources is not None
    assert natural is not None
    selected = sources.selected_tokens if supply.unit == "tokens" else sources.selected_bytes
    if selected is not None:
        return tempered(proportions(selected), temperature)
    base = tempered(natural, temperature)
    return base if sources.scores is None or max_kl is None else tilted_by(base, sources.scores, max_kl)


def _of_curriculum(path: str | os.PathLike[str], supply: _Supply) -> tuple[Sequence[str], np.ndarray, str]:
    """Weights of its last stage, and what they are shares of: of text where raw is known.

    Sources of raw that it does not name have none.
    """
    read = read_curriculum(path)
    if read.unit != "group":
        raise UsageError(f"{path}: has weights of documents, not of sources")
    last = read.stage(read.n_stages - 1)
    is_of = str(read.about.get("weights_of", "documents"))
    sources = supply.sources
    if sources is None:
        return tuple(last), np.array(list(last.values())), is_of
    for name in last:
        if name not in sources.names and last[name] > 0:
            raise unknown(f"source of {path}", name, sources.names)
    found = np.array([last.get(name, 0.0) for name in sources.names])
    if is_of == "documents":
        found = found * supply.amounts / np.maximum(sources.n_documents, 1)
    return sources.names, proportions(found), supply.unit


def _by_regression(
    proxies: str | os.PathLike[str],
    losses: str | os.PathLike[str],
    loss: Mapping[str, float],
    supply: _Supply,
    risk: float,
    seed: int,
) -> tuple[Sequence[str], np.ndarray, Best, tuple[Fit, ...]]:
    """The mixture that proxies tell; sources of raw that no proxy was trained on have no weight."""
    table = regression.read_proxies(proxies, losses)
    names = supply.names or table.sources
    for name in table.sources:
        if name not in names:
            raise unknown(f"source of {proxies}", name, names)
    place = [names.index(name) for name in table.sources]
    natural = table.mixtures.mean(axis=0) if supply.natural is None else proportions(supply.natural[place])
    caps = None if supply.caps is None else supply.caps[place]
    if caps is not None:
        supply.within(_spread(natural, place, len(names)))  # there must be enough of what proxies were trained on
    elif supply.natural is not None:
        caps = np.where(natural > 0, 1.0, 0.0)  # of a source without text nothing can be had
    columns = {regression.column_called(name, list(table.losses)): weight for name, weight in loss.items()}
    if not all(0 <= weight < np.inf for weight in columns.values()) or not sum(columns.values()) > 0:
        raise UsageError("--loss: weights must be numbers from 0 on, not all 0")
    models = [(LossModel.fit(table.mixtures, table.losses[c], table.sources, c), w) for c, w in columns.items()]
    best = regression.best_mixture(models, table.mixtures, natural, caps=caps, risk=risk, seed=seed)
    fits = tuple(
        Fit(m.column, w, len(table.mixtures), m.spearman, m.rmse, float(m.predict(best.mixture[None])[0][0]))
        for m, w in models
    )
    return names, _spread(best.mixture, place, len(names)), best, fits


def _spread(values: np.ndarray, place: Sequence[int], n: int) -> np.ndarray:
    found = np.zeros(n)
    found[list(place)] = values
    return found
