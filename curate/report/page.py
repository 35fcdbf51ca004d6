"""A report as one HTML file: no network, complete without scripts, drawn again by Vega where they run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from itertools import groupby
from pathlib import Path

from curate.io.paths import atomic
from curate.io.run import finite
from curate.report.charts import Chart, converter, svg
from curate.report.safe import escape, label
from curate.report.sections import (
    Amounts,
    Block,
    Bullets,
    Code,
    Facts,
    Pairs,
    Paragraph,
    Reading,
    Section,
    Table,
    about,
    about_pair,
    about_passage,
    amount,
    sections,
)
from curate.report.summary import Example, Fact, Pair, Passage, Summary

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--panel:#f5f6f8;--ink:#1b212b;--muted:#59636f;--rule:#dce0e5;
--raw:#8b94a0;--target:#b3520a;--selected:#0b62c4}
@media (prefers-color-scheme:dark){:root{--paper:#14171c;--panel:#1c2027;--ink:#e6e9ee;--muted:#a0aab6;--rule:#323943;
--raw:#8892a0;--target:#f0a35e;--selected:#6cb2ff}
}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
.page{max-width:1200px;margin:auto;padding:1rem}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.25rem;margin:0 0 .8rem}
h3{font-size:1rem;margin:1rem 0 .4rem}
section{border-top:1px solid var(--rule);padding:1.4rem 0;scroll-margin-top:1rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;margin:1rem 0;font-size:.9rem}
a{color:var(--selected)}
:focus-visible{outline:2px solid var(--selected);outline-offset:2px}
.muted,figcaption p,dt{color:var(--muted)}
.muted,figcaption p{font-size:.9rem;margin:.2rem 0}
.strong{font-size:1.15rem;font-weight:600;max-width:48rem}
p,.bullets{max-width:48rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem;margin:0 0 1.2rem}
.tiles>div{background:var(--panel);border-radius:8px;padding:.8rem 1.1rem}
.tiles h3{margin:0;font-size:.9rem;color:var(--muted)}
.tiles p{margin:0}
.tiles b{font-size:1.6rem;font-variant-numeric:tabular-nums}
.tiles span{color:var(--muted);font-size:.9rem;margin-right:.8rem}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 2.5rem;align-items:start}
dl{display:grid;grid-template-columns:minmax(6rem,auto) minmax(0,1fr);gap:.25rem 1rem;margin:.5rem 0}
dd{margin:0}
code,pre{font:13px/1.5 ui-monospace,monospace}
pre{background:var(--panel);border-radius:8px;padding:.8rem;margin:.5rem 0;
white-space:pre-wrap;max-height:16rem;overflow:auto}
.figures{display:grid;gap:1.8rem 2.2rem}
.two{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.three{grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr))}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:.4rem 2.2rem;
align-items:start;margin-bottom:1.8rem}
.beside figcaption{grid-column:1/-1}
.beside caption{display:none}
.beside table{width:100%}
.reading{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:0 2.2rem}
.reading>*{min-width:0}
mark{background:none;color:var(--target);text-decoration:underline;font-weight:600;white-space:pre-wrap}
figure{margin:0;min-width:0}
.figures figure{display:grid;grid-template:subgrid/minmax(0,1fr);grid-row:span 3;gap:0}
figcaption b{display:block}
.drawing{max-width:470px;margin:.4rem 0}
.drawing svg{display:block;width:100%!important;height:auto!important}
.key{display:flex;gap:.2rem 1rem;flex-wrap:wrap;font-size:.85rem}
.key span::before{content:"";display:inline-block;
width:.75em;height:.75em;margin-right:.4em;background:var(--colour)}
.key .raw{--colour:var(--raw)}
.key .raw::before{border-radius:50%}
.key .target{--colour:var(--target)}
.key .target::before{transform:rotate(45deg) scale(.85)}
.key .selected{--colour:var(--selected)}
.key .weight{--colour:var(--muted)}
.key .noise{--colour:var(--ink)}
.key .noise::before{width:2px}
.scroll{overflow-x:auto;max-width:100%}
.scroll+.figures{margin-top:1.4rem}
details{margin:.3rem 0}
summary{cursor:pointer;font-size:.9rem;color:var(--muted)}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;
padding:.3rem 0}
th,td{padding:.25rem .8rem .25rem 0;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
tbody th{font-weight:400;white-space:normal;min-width:8rem;max-width:22rem}
thead th{color:var(--muted);font-weight:600}
article{margin:.8rem 0}
article h4{margin:0;font-size:.95rem}
#vg-tooltip-element{background:var(--paper);color:var(--ink);
border:1px solid var(--rule);font:13px system-ui,sans-serif}
#vg-tooltip-element td.key{color:var(--muted);display:table-cell}
@media print{:root{color-scheme:light;--paper:#fff;--panel:#fff;--ink:#000;--muted:#444;--rule:#bbb;--raw:#777;
--target:#b3520a;--selected:#0b62c4}
nav{display:none}
figure,article,tr{break-inside:avoid}
h2,h3{break-after:avoid}
pre{max-height:none;border:1px solid var(--rule)}
.scroll{overflow:visible}
th,td{white-space:normal}
details::details-content{content-visibility:visible;display:block;height:auto}
}
"""
DRAW = """
(function () {
  "use strict";
  var specs = JSON.parse(document.getElementById("specs").textContent);
  Object.keys(specs).forEach(function (id) {
    try {
      var place = document.getElementById(id), live = document.createElement("div");
      var how = {mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false};
      window.vegaEmbed(live, specs[id], how).then(function () {
        place.replaceChildren(live);
      }, function () {});
    } catch (error) { /* the drawing that is there stays */ }
  });
})();
"""


class Bundle:
    """Vega's scripts. Making them takes over a second, so they are kept in the user's cache folder."""

    def __init__(self) -> None:
        converter()  # that it is missing is told before anything is read

    @cached_property
    def text(self) -> str:
        """The scripts, fit to stand in a page."""
        module = converter()
        kept = cache_folder() / f"vega-{module.__version__}.js"
        try:
            text = kept.read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = str(module.javascript_bundle())
            with suppress(OSError):  # a cache that cannot be written only costs time
                kept.parent.mkdir(parents=True, exist_ok=True)
                with atomic(kept) as part:
                    part.write_text(text, encoding="utf-8", newline="")
        return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def cache_folder() -> Path:
    """Where this user's caches are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "curate"


def page(summary: Summary, bundle: Bundle | None = None) -> str:
    """The report as HTML, the same bytes for the same summary.

    Raises
    ------
    MissingExtraError : vl-convert is not installed.
    """
    bundle = bundle or Bundle()
    found = sections(summary)
    drawings = _Drawings()
    body = "".join(_section(section, drawings) for section in found)
    vega = bundle.text if drawings.charts else ""
    scripts = [vega, DRAW] if vega else []
    specs = json.dumps(finite({i: c.live for i, c in drawings.charts.items()}), ensure_ascii=True).replace(
        "<", "\\u003c"
    )
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in found)
    title = escape(label(summary.title))
    kind = "Selection report" if summary.kind == "selection" else "Corpus report"
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            f'<div class="page">\n<header><p class="muted">{kind}</p><h1><bdi>{title}</bdi></h1>\n'
            f'</header>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{body}</main>\n</div>\n',
            f'<script type="application/json" id="specs">{specs}</script>\n' if scripts else "",
            *(f"<script>{text}</script>\n" for text in scripts),
            "</body>\n</html>\n",
        ]
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class _Drawings:
    """The charts of a page by their id."""

    def __init__(self) -> None:
        self.charts: dict[str, Chart] = {}

    def add(self, chart: Chart) -> str:
        name = f"chart-{len(self.charts) + 1}"
        self.charts[name] = chart
        return name


def _tiles(block: Amounts) -> str:
    cells = []
    for item in block.items:
        documents, text, tokens = amount(item)
        rest = [f"<span>{escape(v)} {what}</span>" for v, what in ((text, "of text"), (tokens, "tokens")) if v != "-"]
        cells.append(
            f"<div><h3><bdi>{escape(label(item.name))}</bdi></h3><p><b>{escape(documents)}</b> documents</p>"
            f"{' '.join(rest)}</div>"
        )
    return f'<div class="tiles">{"".join(cells)}</div>\n'


def _section(section: Section, drawings: _Drawings) -> str:
    parts: list[str] = []
    for kind, group in groupby(section.blocks, _side_by_side):
        drawn = [_block(block, drawings) for block in group]
        columns = "two" if len(drawn) in (2, 4) else "three"
        parts.append(f'<div class="{kind} {columns}">{"".join(drawn)}</div>\n' if kind else "".join(drawn))
    heading = f'<h2 id="{section.anchor}-title">{escape(section.title)}</h2>'
    named = f'id="{section.anchor}" aria-labelledby="{section.anchor}-title"'
    return f"<section {named}>\n{heading}\n{''.join(parts)}</section>\n"


def _side_by_side(block: Block) -> str:
    """The class of the row that a block shares with its like; empty for one that has the width to itself."""
    if isinstance(block, Facts):
        return "columns"
    return "figures" if isinstance(block, Table) and block.chart is not None and not block.beside else ""


def _block(block: Block, drawings: _Drawings) -> str:
    if isinstance(block, Table):
        return _figure(block, drawings) if block.chart else _note(block.note) + _table(block)
    render: Callable[..., str] = _RENDERERS[type(block)]
    return render(block)


def _paragraph(block: Paragraph) -> str:
    return f"<p{' class=strong' if block.strong else ''}>{escape(block.text)}</p>\n"


def _facts(block: Facts) -> str:
    return f"<dl>{''.join(map(_fact, block.items))}</dl>\n"


def _fact(item: Fact) -> str:
    value = f"<bdi>{escape(item.value)}</bdi>"
    return f"<dt>{escape(item.label)}</dt><dd>{f'<code>{value}</code>' if item.code else value}</dd>"


def _bullets(block: Bullets) -> str:
    return f'<ul class="bullets">{"".join(f"<li>{escape(text)}</li>" for text in block.items)}</ul>\n'


def _code(block: Code) -> str:
    return f"<pre><code>{escape(block.text)}</code></pre>\n"


def _reading(block: Reading) -> str:
    return f"<h3>{escape(block.title)}</h3>\n<div class=reading>{''.join(map(_example, block.items))}</div>\n"


def _example(item: Example) -> str:
    cut = f'<p class="muted">{item.n_cut:,} more characters</p>' if item.n_cut else ""
    line = escape(label(about(item), 200))
    head = f'<h4><bdi>{escape(label(item.doc_id))}</bdi></h4><p class="muted"><bdi>{line}</bdi></p>'
    return f'<article>{head}<pre dir="auto" tabindex="0"><bdi>{escape(item.excerpt)}</bdi></pre>{cut}</article>\n'


def _pairs(block: Pairs) -> str:
    return f"<h3>{escape(block.title)}</h3>\n{''.join(map(_pair, block.items))}"


def _pair(item: Pair) -> str:
    texts = f"{_passage('removed', item.removed)}{_passage('like', item.matched, again=item.equal)}"
    return f"<article><h4><bdi>{escape(about_pair(item))}</bdi></h4><div class=reading>{texts}</div></article>\n"


def _passage(role: str, of: Passage, again: bool = False) -> str:
    """A text of a pair; ``again``: it is that of the other."""
    head = f'<p class="muted">{role} <bdi>{escape(about_passage(of))}</bdi></p>'
    if again or not of.known:
        why = "The same text." if again else "The text is not at hand."
        return f'<div>{head}<p class="muted">{why}</p></div>'
    between = f'<span class="muted"> ({of.n_between:,} more characters) </span>' if of.n_between else ""
    mark = "" if of.difference is None else f"<mark>{escape(of.difference) or '(ends here)'}</mark>"
    cut = f'<p class="muted">{of.n_cut:,} more characters</p>' if of.n_cut else ""
    text = f"{escape(of.beginning)}{between}{escape(of.before)}{mark}{escape(of.after)}"
    return f'<div>{head}<pre dir="auto" tabindex="0"><bdi>{text}</bdi></pre>{cut}</div>'


def _note(text: str) -> str:
    return f'<p class="muted">{escape(text)}</p>\n' if text else ""


def _table(block: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in block.head)
    rows = "".join(
        f'<tr><th scope="row"><bdi>{escape(label(row[0], 120))}</bdi></th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in block.rows
    )
    caption = escape(block.caption)
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _figure(block: Table, drawings: _Drawings) -> str:
    assert block.chart is not None
    name = drawings.add(block.chart)
    key = "".join(f'<span class="{series}">{series}</span>' for series in block.chart.key)
    table = _table(block) if block.beside else f"<details><summary>Table</summary>{_table(block)}</details>"
    return (
        f"<figure{' class=beside' if block.beside else ''}>"
        f"<figcaption><b>{escape(block.caption)}</b>{_note(block.note)}"
        f"{f'<div class=key>{key}</div>' if key else ''}</figcaption>"
        f'<div class="drawing" id="{name}" role="img" aria-label="{escape(block.chart.alt)}">{svg(block.chart)}</div>'
        f"{table}</figure>\n"
    )


_RENDERERS: dict[type, Callable[..., str]] = {
    Paragraph: _paragraph,
    Facts: _facts,
    Bullets: _bullets,
    Code: _code,
    Amounts: _tiles,
    Reading: _reading,
    Pairs: _pairs,
}
