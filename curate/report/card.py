"""The dataset card (Hugging Face README) and the Croissant description of a selection."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.metrics.spending import weights_text
from curate.report.cleaning import cleaning_of, contamination_line, duplicates_line, in_words, only_cleans
from curate.report.safe import visible
from curate.report.summary import Cleaning, Summary
from curate.sampling.budget import Budget
from curate.sampling.draws import BY_CHANCE

_SIZES = (
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
    "100B<n<1T", "n>1T",
)  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|&~$])")
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def plain(text: str) -> str:
    """Text from a corpus or a path, made harmless in Markdown and HTML."""
    return _MARKDOWN.sub(r"\\\1", visible(" ".join(text.split())[:200]))


def size_category(n: int) -> str:
    """The Hugging Face size category of a number of rows."""
    return next((name for i, name in enumerate(_SIZES[:-1]) if n < 10 ** (3 + i)), _SIZES[-1])


def measured(summary: Summary) -> list[str]:
    """What was measured of a selection, a sentence each: the verdict, and the KL reduction for each target."""
    found = [summary.verdict.sentence] if summary.verdict else []
    for m in summary.metrics:
        if m.name == "KL reduction":
            around = "" if m.low is None or m.high is None else f" ({m.low:.4g} to {m.high:.4g})"
            found.append(f"{m.name}{f' for {m.target}' if m.target else ''}: {m.value:.4g} {m.unit}".strip() + around)
    return found


_MARKS = ("<!-- curate: measured -->", "<!-- /curate -->")


def with_measured(card: str, summary: Summary) -> str:
    """A card, which somebody may have edited, with what was measured between its marks; the rest stays as it is."""
    before, mark, rest = card.partition(_MARKS[0])
    _, end, after = rest.partition(_MARKS[1])
    found = [f"- {plain_long(text)}" for text in measured(summary)]
    if not mark or not end or not found:
        return card
    return before + "\n".join([mark, *found, end]) + after


def dataset_card(manifest: Mapping[str, Any]) -> str:
    """README.md with the ``configs`` block that ``datasets.load_dataset`` reads, and room for what is measured."""
    stats, drawing = manifest["stats"], manifest["recipe"]["draw"]
    cleaning = cleaning_of(manifest)
    pattern = "shards/*.parquet" if manifest["shards"][0]["path"].endswith("parquet") else "shards/*.jsonl.zst"
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {pattern}",
        "size_categories:",
        f"- {size_category(stats['n_selected'])}",
        "tags:",
        "- curate",
        "---",
        "",
        f"# {plain(manifest['name'])}",
        "",
        f"{stats['n_selected']:,} of {stats['n_documents']:,} documents "
        f"({stats['n_bytes_selected']:,} bytes of text, {stats['n_tokens_selected']:,} tokens), "
        f"{'cleaned' if only_cleans(manifest['recipe']) else 'selected'} by "
        f"[curate](https://pypi.org/project/curate-data/) {manifest['tool_version']}.",
        "",
        "| | |",
        "| --- | --- |",
        *([] if only_cleans(manifest["recipe"]) else _selected_by(manifest)),
        f"| tokens | {plain(manifest['tokenizer'])} |",
        f"| recipe | `{manifest['recipe_sha256'][:16]}` |",
        "",
        *_MARKS,
        "",
        *_length_table(stats["diagnostics"]),
        *_source_table(stats["diagnostics"]),
        *(_cleaning(cleaning) if cleaning else []),
        *_warnings(stats["warnings"]),
        "`curate_score` is the document's score (higher is better), `curate_weight` its sampling weight. "
        f"{_about_weights(drawing['draw'])}The licence of each document is that of its origin. `manifest.json` has "
        "every input with its hash; `ledger.parquet` says of every document why it was kept or not.",
        "",
    ]
    return "\n".join(lines)


def _selected_by(manifest: Mapping[str, Any]) -> list[str]:
    """Rows that say how a selection was made."""
    drawing = manifest["recipe"]["draw"]
    budget = str(Budget(**drawing["budget"])) if drawing["budget"] else f"scores from {drawing['threshold']}"
    return [
        f"| method | {plain(manifest['recipe']['method'])} |",
        f"| target | {plain(', '.join(t['name'] for t in manifest['targets']) or 'none')} |",
        f"| draw | {plain(drawing['draw'] + weights_text(drawing.get('weights', {})))}, seed {manifest['seed']} |",
        f"| budget | {plain(budget)} |",
    ]


def _cleaning(of: Cleaning) -> list[str]:
    """What cleaning removed, by what rules, and of which sources."""
    why = f": {in_words(of.whole, 6)}" if of.whole.removed else ""
    found = [f"{fact.label}: {fact.value}" for fact in of.asked]
    found += [f"duplicates found: {duplicates_line(of.duplicates)}"] if of.duplicates else []
    found += [f"contamination: {contamination_line(benchmark)}" for benchmark in of.benchmarks]
    found += [f"masked in texts: {', '.join(f'{n:,} {kind}' for kind, n in of.masked.items())}"] * bool(of.masked)
    rows = [
        f"| {plain(s.source) or '(none)'} | {s.documents:,} | {s.removed:,} | {s.share:.1%} | {plain(in_words(s))} |"
        for s in of.sources
        if s.removed
    ]
    head = ["| source | documents | removed | share | why |", "| --- | ---: | ---: | ---: | --- |"]
    return [
        "## Cleaning",
        "",
        f"Cleaning removed {of.whole.removed:,} of {of.whole.documents:,} documents "
        f"({of.whole.share:.1%}){plain_long(why)}.",
        "",
        *(f"- {plain_long(text)}" for text in found),
        "",
        *([*head, *rows, ""] if rows else []),
    ]


def _about_weights(draw: str) -> str:
    """What to do with weights that are not all the same."""
    if draw not in BY_CHANCE:
        return ""
    return (
        "It is one over the chance with which the document was kept (`inclusion` in the ledger), over their sum: what "
        "is averaged with it is an estimate for all documents with a score and any chance. To train on the selection, "
        "take every document once and leave the weight out: with it a loss is that of raw again. "
    )


def _length_table(diagnostics: Sequence[Mapping[str, Any]]) -> list[str]:
    raw, selected = diagnostics[0]["length_raw"], diagnostics[0]["length_selected"]
    if not selected:
        return []
    head = "| tokens | " + " | ".join(raw) + " |"
    rows = [
        f"| {name} | " + " | ".join(f"{v:,}" for v in of.values()) + " |"
        for name, of in (("raw", raw), ("selected", selected))
    ]
    return [head, "| --- |" + " ---: |" * len(raw), *rows, ""]


def _source_table(diagnostics: Sequence[Mapping[str, Any]]) -> list[str]:
    raw, selected = diagnostics[0]["sources_raw"], diagnostics[0]["sources_selected"]
    if not raw:
        return []
    names = list(dict.fromkeys([*list(selected)[:15], *list(raw)[:15]]))
    rows = [f"| {plain(n) or '(none)'} | {raw.get(n, 0):.1%} | {selected.get(n, 0):.1%} |" for n in names]
    return ["| source | raw | selected |", "| --- | ---: | ---: |", *rows, ""]


def _warnings(found: Sequence[str]) -> list[str]:
    return ["## Warnings", "", *(f"- {plain_long(w)}" for w in found), ""] if found else []


def plain_long(text: str) -> str:
    """A sentence of curate's own that may quote names of files or values."""
    return _MARKDOWN.sub(r"\\\1", visible(" ".join(text.split())))


def croissant(manifest: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """The Croissant 1.0 JSON-LD of a selection: each shard with its hash, and the columns."""
    parquet = manifest["shards"][0]["path"].endswith("parquet")
    encoding = "application/x-parquet" if parquet else "application/jsonlines"
    files = [
        {
            "@type": "cr:FileObject",
            "@id": shard["path"],
            "name": shard["path"],
            "contentUrl": shard["path"],
            "contentSize": f"{shard['bytes']} B",
            "encodingFormat": encoding if parquet else "application/zstd",
            "sha256": shard["sha256"],
        }
        for shard in manifest["shards"]
    ]
    file_set = {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "encodingFormat": encoding,
        "includes": f"shards/*.{'parquet' if parquet else 'jsonl.zst'}",
    }
    columns = [field for field in schema if _data_type(field.type)]
    names = _distinct([re.sub(r"[^A-Za-z0-9_.-]+", "-", column.name) for column in columns])
    fields = [_field(column, name, parquet) for column, name in zip(columns, names, strict=True)]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": re.sub(r"[^A-Za-z0-9_.-]+", "-", manifest["name"]) or "selection",
        "description": _description(manifest),
        "version": "1.0.0",
        "datePublished": manifest["creation_date"],
        "license": "see the licence of each document's origin",
        "url": "https://pypi.org/project/curate-data/",
        "creator": {"@type": "sc:Organization", "name": "curate"},
        "citeAs": "curate",
        "distribution": [*files, file_set],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "documents", "name": "documents", "field": fields}],
    }


def _description(manifest: Mapping[str, Any]) -> str:
    stats, how = manifest["stats"], "cleaned" if only_cleans(manifest["recipe"]) else "selected"
    return f"{stats['n_selected']:,} of {stats['n_documents']:,} documents, {how} by curate {manifest['tool_version']}."


def described(of: dict[str, Any], manifest: Mapping[str, Any], summary: Summary) -> dict[str, Any]:
    """A Croissant description with what has been measured since."""
    return of | {"description": " ".join([_description(manifest), *measured(summary)])}


def _distinct(names: Sequence[str]) -> list[str]:
    """The same names, with a number behind those that were there before."""
    found: list[str] = []
    for name in names:
        number = 1
        while (other := name if number == 1 else f"{name}-{number}") in found:
            number += 1
        found.append(other)
    return found


def _field(field: pa.Field, name: str, parquet: bool) -> dict[str, Any]:
    extract = {"column": field.name} if parquet else {"jsonPath": f"$.{field.name}"}
    return {
        "@type": "cr:Field",
        "@id": f"documents/{name}",
        "name": name,
        "dataType": _data_type(field.type),
        "source": {"fileSet": {"@id": "shards"}, "extract": extract},
    }


def _data_type(kind: pa.DataType) -> str | None:
    """Croissant's name of a type; None for nested ones, which it would need spelt out."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "sc:Text"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "sc:Date"
    return None


def croissant_json(manifest: Mapping[str, Any], schema: pa.Schema) -> str:
    """`croissant` as text."""
    return json.dumps(croissant(manifest, schema), indent=2, ensure_ascii=False) + "\n"
