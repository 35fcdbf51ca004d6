"""Charts of a report: Vega-Lite specs with binned data, whose colours are the page's CSS variables.

One drawing serves light and dark: ``var(--raw)`` is a colour to the browser, and passes through Vega as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from unicodedata import east_asian_width

from curate._optional import require
from curate.io.run import finite
from curate.report.safe import label
from curate.report.summary import (
    Arm,
    Distribution,
    DocumentWeights,
    GroupWeight,
    Metric,
    Nearness,
    Ngram,
    Removals,
    ScoreHistogram,
    Series,
    Share,
)

Spec = dict[str, Any]
SERIES = ("raw", "target", "selected")
WIDTH, HEIGHT = 350, 220  # fits a telephone without being made smaller
OUTERMOST = 0.995
NAME_WIDTH = 24
STAGES_WITH_NUMBERS, LABELLED_STAGES = 6, 10
FARTHEST = 3.0  # multiples of the distance of raw
_SHAPES = ("circle", "diamond", "square")
CONFIG: Spec = {
    "background": None,
    "aria": False,  # the figure around it says what it shows
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)", "titleColor": "var(--muted)", "titleFontWeight": "normal", "labelFontSize": 11,
        "titleFontSize": 11, "gridColor": "var(--rule)", "domainColor": "var(--rule)", "tickColor": "var(--rule)",
        "labelLimit": 0, "tickCount": 5,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A drawing; ``live`` is the spec for a browser that runs scripts, ``alt`` what it shows in words."""

    spec: Spec
    live: Spec
    alt: str
    key: tuple[str, ...] = ()  # series that it shows


def svg(chart: Chart) -> str:
    """The drawing as SVG, the same bytes each time.

    Raises
    ------
    MissingExtraError : vl-convert is not installed.
    """
    return str(converter().vegalite_to_svg(finite(chart.spec)))


def converter() -> Any:
    return require("vl_convert", extra="report", purpose="an HTML report")


def _whole(layers: Sequence[Spec], *, height: int = HEIGHT, **rest: Any) -> Spec:
    size: Spec = {"width": WIDTH, "height": height, "autosize": {"type": "fit", "contains": "padding"}}
    return {**size, **rest, "layer": list(layers), "config": CONFIG}


def _plain(layers: Sequence[Spec], alt: str, key: Sequence[str] = (), **rest: Any) -> Chart:
    spec = _whole(layers, **rest)
    return Chart(spec, spec, alt, tuple(key))


def _axis(field: str, title: str | None, **rest: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **rest}


def _rows(field: str) -> Spec:
    """A row for each name, in the order given."""
    return {"field": field, "type": "nominal", "sort": None, "title": None, "axis": {"grid": True}}


def _colour(names: Sequence[str]) -> Spec:
    colours = [f"var(--{name})" for name in names]
    return {"field": "series", "type": "nominal", "legend": None, "scale": {"domain": list(names), "range": colours}}


def _shape(names: Sequence[str]) -> Spec:
    shapes = [_SHAPES[SERIES.index(name)] for name in names]
    return {"field": "series", "type": "nominal", "legend": None, "scale": {"domain": list(names), "range": shapes}}


def _short(name: str) -> str:
    """A name cut to some `NAME_WIDTH` columns. Not left to Vega, which cuts characters beyond U+FFFF in two."""
    text = label(name)
    widths = accumulate(1 + (east_asian_width(character) in "WF") for character in text)
    fitting = sum(width < NAME_WIDTH for width in widths)
    return text if fitting + 1 >= len(text) else f"{text[:fitting]}\u2026"


def _unique(names: Sequence[str]) -> list[str]:
    """Labels that stay apart when they were cut to the same beginning."""
    found: dict[str, None] = {}
    for name in names:
        text, number = name, 2
        while text in found:
            text, number = f"{name} ({number})", number + 1
        found[text] = None
    return list(found)


def shown(items: Sequence[Any], series: Sequence[str] = SERIES) -> list[str]:
    """The series that at least one of the items has."""
    return [name for name in series if any(getattr(item, name) is not None for item in items)]


def _dots(names: Sequence[str], items: Sequence[Any], title: str, alt: str, scale: Spec, form: str) -> Chart:
    """A row an item, a dot a series, and a line from the least to the greatest."""
    series = shown(items)
    if len(series) == 1:
        return _bars(names, [getattr(item, series[0]) for item in items], title, alt, form, f"var(--{series[0]})")
    rows = _unique([_short(name) or "(none)" for name in names])
    values = [
        {"name": row, "series": s, "value": getattr(item, s)}
        for row, item in zip(rows, items, strict=True)
        for s in series
        if getattr(item, s) is not None
    ]
    tooltip = [{"field": "name"}, {"field": "series"}, {"field": "value", "type": "quantitative", "format": form}]
    x = _axis("value", title, scale=scale, axis={"format": form.replace(".1", ".0"), "labelOverlap": True})
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "stroke": "var(--muted)", "strokeWidth": 1},
            "encoding": {
                "y": _rows("name"),
                "x": {"aggregate": "min", "field": "value", "type": "quantitative", "title": title, "scale": scale},
                "x2": {"aggregate": "max", "field": "value"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"y": _rows("name"), "x": x, "color": _colour(series), "shape": _shape(series),
                         "tooltip": tooltip},
        },
    ]  # fmt: skip
    return _plain(layers, alt, series, height=60 + 18 * len(items), data={"values": values})


def shares_chart(kind: str, items: Sequence[Share]) -> Chart:
    """Shares of each source, or whatever ``kind`` is, in raw, target and selected."""
    alt = f"Shares of documents by {kind} in {', '.join(shown(items))}; the numbers are in the table."
    return _dots([item.name for item in items], items, "share of documents", alt, {"zero": True}, ".1%")


def removed_chart(items: Sequence[Removals]) -> Chart:
    """How much of each source was removed."""
    most = max(items, key=lambda item: item.share)
    alt = f"Share removed of {len(items)} sources; the most is {most.share:.1%} of {label(most.source) or '(none)'}."
    names, values = [item.source for item in items], [item.share for item in items]
    return _bars(names, values, "share of documents removed", alt, ".1%", "var(--raw)")


def ngrams_chart(items: Sequence[Ngram], change: str) -> Chart:
    """How often n-grams occur in raw, target and selected."""
    alt = f"Occurrences per million of {len(items)} n-grams {change}; the numbers are in the table."
    scale: Spec = {"type": "symlog", "constant": 10}
    return _dots([item.ngram for item in items], items, "per million n-grams", alt, scale, ",.1f")


def _intervals(values: Sequence[Mapping[str, Any]], title: str, alt: str, null: float | None = None) -> Chart:
    """A row a value, with its interval; ``null`` is marked."""
    data = {"values": list(values)}
    scale = {"zero": False, "nice": True}
    x = _axis("value", title, scale=scale)
    tooltip = [{"field": name} for name in ("name", "value", "low", "high")]
    layers: list[Spec] = []
    if null is not None:
        mark = {"type": "rule", "stroke": "var(--muted)", "strokeDash": [4, 3]}
        layers.append({"data": {"values": [{"at": null}]}, "mark": mark, "encoding": {"x": _axis("at", title)}})
    layers += [
        {
            "mark": {"type": "rule", "stroke": "var(--selected)", "strokeWidth": 2},
            "encoding": {"y": _rows("name"), "x": _axis("low", title, scale=scale), "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "color": "var(--selected)", "opacity": 1},
            "encoding": {"y": _rows("name"), "x": x, "tooltip": tooltip},
        },
    ]
    return _plain(layers, alt, height=60 + 24 * len(values), data=data)


def _interval(name: str, value: float, low: float | None, high: float | None) -> Spec:
    return {"name": name, "value": value, "low": value if low is None else low, "high": value if high is None else high}


def arms_chart(arms: Sequence[Arm]) -> Chart:
    """Bits per byte of each arm."""
    best = min(arms, key=lambda arm: arm.bits_per_byte)
    alt = f"Bits per byte of {len(arms)} arms with intervals; the lowest is {label(best.name)}."
    names = _unique([_short(arm.name) for arm in arms])
    values = [_interval(n, a.bits_per_byte, a.low, a.high) for n, a in zip(names, arms, strict=True)]
    return _intervals(values, "bits per byte of held-out text (lower is better)", alt)


def metrics_chart(metrics: Sequence[Metric]) -> Chart:
    """One measure over several targets."""
    first = metrics[0]
    alt = f"{first.name} of {len(metrics)} targets with intervals; the numbers are in the table."
    names = _unique([_short(m.target) for m in metrics])
    values = [_interval(n, m.value, m.low, m.high) for n, m in zip(names, metrics, strict=True)]
    return _intervals(values, f"{first.name} {f'({first.unit})' if first.unit else ''}".strip(), alt, first.null)


def nearness_chart(of: Nearness) -> Chart | None:
    """Every distance as a multiple of raw's, which is 1; without raw, of its noise; None where neither is known."""
    measured = [r for r in of.rows if math.isfinite(r.selected)]
    known = [r for r in measured if r.raw and math.isfinite(r.raw)]
    unit, key = ("raw", ("raw", "selected", "noise")) if known else ("noise", ("selected", "noise"))
    rows = known or [r for r in measured if r.noise and math.isfinite(r.noise)]
    if not rows:
        return None
    wholes = [(r.raw if known else r.noise) or 1.0 for r in rows]
    ratios = [r.selected / whole for r, whole in zip(rows, wholes, strict=True)]
    values = [
        {"name": name, "ratio": ratio, "shown": min(ratio, FARTHEST), "raw": 1.0,
         "noise": None if r.noise is None else min(r.noise / whole, FARTHEST)}
        for name, r, whole, ratio in zip(_unique([_short(r.name) for r in rows]), rows, wholes, ratios, strict=True)
    ]  # fmt: skip
    beyond = f"; {FARTHEST:g} and more at the edge" if any(r > FARTHEST for r in ratios) else ""
    title = f"distance to the target, as a multiple of {unit}'s{beyond}"
    tooltip = [{"field": "name"}] + [{"field": f, "type": "quantitative", "format": ".2~f"} for f in ("ratio", "noise")]
    y = _rows("name")
    x = _axis("shown", title, scale={"zero": True, "nice": False})
    layers: list[Spec] = [
        {"data": {"values": [{"at": 1}]}, "mark": {"type": "rule", "stroke": "var(--raw)", "strokeWidth": 2},
         "encoding": {"x": _axis("at", title)}},
        {"mark": {"type": "rule", "stroke": "var(--muted)", "strokeWidth": 1},
         "encoding": {"y": y, "x": x, "x2": {"field": "raw"}}},
        {"mark": {"type": "tick", "color": "var(--ink)", "thickness": 2, "size": 12},
         "encoding": {"y": y, "x": _axis("noise", title)}},
        {"mark": {"type": "point", "filled": True, "size": 70, "color": "var(--selected)", "opacity": 1,
                  "shape": "square"},
         "encoding": {"y": y, "x": x, "tooltip": tooltip}},
    ]  # fmt: skip
    alt = f"By {sum(r < 1 for r in ratios)} of {len(rows)} distances the selection is below 1, where {unit} is."
    return _plain(layers, alt, key, height=60 + 20 * len(rows), data={"values": values})


def scores_chart(of: ScoreHistogram) -> Chart:
    """How scores are spread, each series as shares of its own documents, so that a small selection is seen too."""
    values = []
    for name, counts in (("raw", of.raw), ("selected", of.selected)):
        whole = sum(counts) or 1
        for i, count in enumerate(counts):
            bounds = {"from": of.edges[i], "to": of.edges[i + 1]}
            values.append({**bounds, "series": name, "share": count / whole, "documents": count})
    x = _axis("from", f"score{f' ({of.unit})' if of.unit else ''}", scale={"zero": False, "nice": False})
    y = _axis("share", "share of its documents", stack=None, axis={"format": ".0%"})
    tooltip = [{"field": n, "format": f} for n, f in (("from", ".4~g"), ("to", ".4~g"), ("documents", ","))]
    bars: Spec = {
        "mark": {"type": "bar", "opacity": 0.6, "binSpacing": 0},
        "encoding": {
            "x": x,
            "x2": {"field": "to"},
            "y": y,
            "y2": {"datum": 0},
            "color": _colour(("raw", "selected")),
            "tooltip": tooltip,
        },
    }
    layers = [bars]
    alt = f"Scores of {sum(of.raw):,} raw and {sum(of.selected):,} selected documents"
    if of.threshold is not None:
        mark = {"type": "rule", "stroke": "var(--ink)", "strokeDash": [4, 3]}
        layers.append({"data": {"values": [{"from": of.threshold}]}, "mark": mark, "encoding": {"x": x}})
        alt += f", {'as many as were kept above' if of.about else 'with the cut at'} {of.threshold:.4g}"
    return _plain(layers, alt + ".", ("raw", "selected"), data={"values": values})


def cut(of: Distribution) -> tuple[float, float] | None:
    """All but the outermost 0.5% of every series on either side, where drawing these would take a third or more."""
    drawn = [s for s in of.series if s.x and s.F[-1] >= OUTERMOST]
    if of.log or not drawn:
        return None
    low = min(_quantile(s, 1 - OUTERMOST) for s in drawn)
    high = max(_quantile(s, OUTERMOST) for s in drawn)
    whole = max(s.x[-1] for s in drawn) - min(s.x[0] for s in drawn)
    return (low, high) if low < high and whole > 1.5 * (high - low) else None


def _quantile(of: Series, share: float) -> float:
    return next(x for x, f in zip(of.x, of.F, strict=True) if f >= share)


def distribution_chart(of: Distribution) -> Chart:
    """Distribution functions; with scripts, the value under the pointer is shown."""
    names = [series.name for series in of.series]
    low, high = cut(of) or (math.ulp(0.0) if of.log else -math.inf, math.inf)
    values = [{"x": x, "F": f, "series": s.name} for s in of.series for x, f in zip(s.x, s.F, strict=True)
              if low <= x <= high]  # fmt: skip
    title = f"{of.attribute}{f' ({of.unit})' if of.unit else ''}"
    scale: Spec = {"type": "log", "nice": False} if of.log else {"zero": False, "nice": False}
    x = _axis("x", title, scale=scale, axis={"format": "~s", "labelOverlap": True})
    y = _axis("F", "share of documents up to it", scale={"domain": [0, 1]}, axis={"format": ".0%"})
    line: Spec = {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "color": _colour(names)},
    }
    tooltip = [{"field": "series"}, {"field": "x", "title": title, "format": ".4~g"}, {"field": "F", "format": ".1%"}]
    under = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    point: Spec = {
        "params": [{"name": "near", "select": {"type": "point", "nearest": True, "on": "pointerover"}}],
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {"x": x, "y": y, "color": _colour(names), "opacity": under, "tooltip": tooltip},
    }
    data = {"values": values}
    medians = ", ".join(f"{s.name} {s.quantiles['50%']:,.4g}" for s in of.series if "50%" in s.quantiles)
    alt = f"Distribution of {of.attribute} in {', '.join(names)}{f'; medians: {medians}' if medians else ''}."
    return Chart(_whole([line], data=data), _whole([line, point], data=data), alt, tuple(names))


def weights_chart(groups: Sequence[GroupWeight]) -> Chart:
    """Weights of groups as bars, with a mark where the share of raw and of selected is."""
    alt = f"Curriculum weights of {len(groups)} groups; the numbers are in the table."
    rows = _unique([_short(g.group) or "(none)" for g in groups])
    series = shown(groups, ("raw", "selected"))
    bars = [{"name": row, "series": "weight", "value": g.weights[0]} for row, g in zip(rows, groups, strict=True)]
    marks = [
        {"name": row, "series": s, "value": getattr(g, s)} for row, g in zip(rows, groups, strict=True) for s in series
    ]
    title = "share of the training" if not series else "share of the training, and of documents"
    x = _axis("value", title, axis={"format": ".0%", "labelOverlap": True})
    tooltip = [{"field": "name"}, {"field": "series"}, {"field": "value", "type": "quantitative", "format": ".1%"}]
    layers: list[Spec] = [
        {"data": {"values": bars}, "mark": {"type": "bar", "color": "var(--ink)", "opacity": 0.3},
         "encoding": {"y": _rows("name"), "x": x, "tooltip": tooltip}},
    ]  # fmt: skip
    if series:
        encoding = {"y": _rows("name"), "x": x, "color": _colour(series), "shape": _shape(series), "tooltip": tooltip}
        mark = {"type": "point", "filled": True, "size": 60, "opacity": 1}
        layers.append({"data": {"values": marks}, "mark": mark, "encoding": encoding})
    return _plain(layers, alt, ("weight", *series), height=60 + 18 * len(groups))


def stages_chart(groups: Sequence[GroupWeight], stages: Sequence[int]) -> Chart:
    """Weights of groups by stage: the darker the more; with the number where there is room."""
    alt = f"Curriculum weights of {len(groups)} groups in {len(stages)} stages; the numbers are in the table."
    rows = _unique([_short(g.group) or "(none)" for g in groups])
    most = max(max(g.weights) for g in groups)
    values = [
        {"name": row, "stage": stage, "weight": weight, "dark": weight > 0.6 * most}
        for row, g in zip(rows, groups, strict=True)
        for stage, weight in zip(stages, g.weights, strict=True)
    ]
    y = {**_rows("name"), "axis": {"grid": False, "ticks": False, "domain": False}}
    told = list(stages[:: -(-len(stages) // LABELLED_STAGES)])
    x = {"field": "stage", "type": "ordinal", "title": "stage", "axis": {"labelAngle": 0, "values": told}}
    tooltip = [{"field": "name"}, {"field": "stage"}, {"field": "weight", "type": "quantitative", "format": ".1%"}]
    shade = {"field": "weight", "type": "quantitative", "legend": None,
             "scale": {"domain": [0, most], "range": [0.04, 1], "nice": False}}  # fmt: skip
    layers: list[Spec] = [
        {"mark": {"type": "rect", "color": "var(--selected)", "stroke": "var(--paper)"},
         "encoding": {"y": y, "x": x, "fillOpacity": shade, "tooltip": tooltip}},
    ]  # fmt: skip
    if len(stages) <= STAGES_WITH_NUMBERS:
        ink = {"condition": {"test": "datum.dark", "value": "var(--paper)"}, "value": "var(--ink)"}
        layers.append(
            {"mark": {"type": "text", "fontSize": 10},
             "encoding": {"y": y, "x": x, "color": ink,
                          "text": {"field": "weight", "type": "quantitative", "format": ".0%"}}}
        )  # fmt: skip
    return _plain(layers, alt, height=60 + 20 * len(groups), data={"values": values})


def document_weights_chart(of: DocumentWeights) -> Chart:
    """How many documents have which weight."""
    alt = f"Weights of {of.n_documents:,} documents in stage {of.stage}, as multiples of an even share."
    values = [{"from": of.edges[i], "to": of.edges[i + 1], "documents": count} for i, count in enumerate(of.documents)]
    at = _axis("from", "times an even share", scale={"zero": False, "nice": False})
    tooltip = [{"field": n, "format": f} for n, f in (("from", ".4~g"), ("to", ".4~g"), ("documents", ","))]
    y = _axis("documents", "documents", axis={"format": "~s"})
    encoding = {"x": at, "x2": {"field": "to"}, "y": y, "y2": {"datum": 0}, "tooltip": tooltip}
    bar: Spec = {
        "mark": {"type": "bar", "color": "var(--ink)", "opacity": 0.5, "binSpacing": 0},
        "encoding": encoding,
    }
    return _plain([bar], alt, data={"values": values})


def _bars(names: Sequence[str], values: Sequence[float | None], title: str, alt: str, form: str, colour: str) -> Chart:
    """A row and a bar for each value."""
    rows = _unique([_short(name) or "(none)" for name in names])
    data = [{"name": n, "value": v} for n, v in zip(rows, values, strict=True) if v is not None]
    bar: Spec = {
        "mark": {"type": "bar", "color": colour},
        "encoding": {"y": _rows("name"), "x": _axis("value", title, axis={"format": form.replace(".1", ".0")}),
                     "tooltip": [{"field": "name"}, {"field": "value", "type": "quantitative", "format": form}]},
    }  # fmt: skip
    return _plain([bar], alt, height=60 + 18 * len(data), data={"values": data})
