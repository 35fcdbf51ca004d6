"""Reports: one structure, three renderings, harmless whatever the texts are."""

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from corpora import ledger, rows, sharded, target_rows, write
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.cli import main
from curate.evidence import evaluate
from curate.io.curriculum import Curriculum, write_curriculum
from curate.io.run import RunFolder
from curate.report.card import plain
from curate.report.charts import distribution_chart, nearness_chart, stages_chart, svg, weights_chart
from curate.report.removed import choose_removed, first_difference
from curate.report.safe import escape, visible
from curate.report.sections import PREDICTS, Table, number, sections
from curate.report.summary import (
    Amount,
    Arm,
    Benchmark,
    Cleaning,
    DistanceRow,
    Distribution,
    DocumentWeights,
    Duplicates,
    Example,
    Examples,
    Fact,
    FileHash,
    GroupWeight,
    Match,
    Metric,
    Nearness,
    Ngram,
    Pair,
    Passage,
    Removals,
    ScoreHistogram,
    Series,
    Share,
    Summary,
    Verdict,
    Weighing,
    as_json,
)
from curate.report.surveyed import listed_shares
from curate.report.text import markdown
from curate.report.weighing import weighing_of
from curate.steps.holdout import held_out

pytest.importorskip("vl_convert", reason="the extra report is not installed")
from curate.report.page import Bundle, page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'& \u202eevil\x00 \ud800 ```\n| # [x](javascript:1)"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle()


def example(text: str = "some text") -> Summary:
    """A summary with every part, whose texts are ``text``."""
    lengths = tuple(
        Series(n, (1.0, 10.0, 100.0), (0.2, 0.5, 1.0), {"50%": 10.0}) for n in ("raw", "target", "selected")
    )
    one = Example(text, text, 1.5, 9, text, 7)
    return Summary(
        title=text,
        kind="selection",
        asked=(Fact("raw", text, code=True),),
        done=(Fact("selected", text),),
        amounts=(Amount("raw", 1234, 5_000_000, 999), Amount("selected", 123)),
        verdict=Verdict("better", text, (Arm(text, 1.812, 1.8, 1.82, -0.119, -0.131, -0.107), Arm("random", 1.931))),
        metrics=tuple(
            Metric("KL reduction", text, v, v - 0.1, v + 0.1, "nats", 0.0, "higher", text) for v in (0.321, 1)
        ),
        nearness=(Nearness(text, (DistanceRow(text, 0.5, 0.25, 0.125), DistanceRow("KS", None, 0.5, None)), text),),
        sources=(Share(text, 0.25, 0.5, 0.75), Share("other", 0.75, 0.5, 0.25)),
        scores=(ScoreHistogram(text, "nats", (0.0, 1.0, 2.0), (10, 5), (0, 5), 1.25),),
        distributions=(Distribution("length", "tokens", lengths, 0.4321, 0.4, 0.46, log=True),),
        gained=(Ngram(text, 1.5, 2.5, 345.6),),
        lost=(Ngram(text, 345.6, None, 0.0),),
        documents=Examples((one,), (one,), (one,), text),
        cleaning=Cleaning(
            (Fact("rules", text),),
            Removals("", 1000, 250, 0.25, {text: 200, "few": 50}),
            (Removals(text, 500, 200, 0.4, {text: 200}), Removals("other", 500, 50, 0.1, {"few": 50})),
            {text: 17},
            Duplicates(11, 12, 13, 14, 15, 16, 17, 18),
            (Benchmark(text, 1319, 24, 23, 2, 28, 3),),
            (
                Pair(text, 0.9375, Passage(text, text, text, 5, text, text, text, 6), Passage("other", known=False)),
                Pair(text, 1.0, Passage(text, text, before=text), Passage(text, text, before=text), True, text),
                Pair(text, 0.75, Passage(text, text, before=text, difference=""), Passage(text, difference=text)),
            ),
            (Match(text, text, text, "edited", 0.875, 43, text),),
            text,
        ),
        curriculum=Weighing(
            text,
            1,
            (0,),
            2,
            (GroupWeight(text, (0.625,), 0.25, 0.75), GroupWeight("other", (0.375,), 0.75, 0.25)),
            (DocumentWeights(0, (0.0, 1.0, 2.0), (7, 8), 15, 13, 9.875, 4.5, 0.123),),
        ),
        warnings=(text,),
        command=text,
        versions=(Fact("curate", text),),
        hashes=(FileHash("input", text, 10, "ab" * 32, 3),),
        sampling=text,
    )


class _Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def without_scripts(html: str) -> str:
    return re.sub(r"<script.*?</script>", "", html, flags=re.S)


def test_the_same_summary_gives_the_same_bytes(bundle):
    assert page(example(), bundle) == page(example(), Bundle())


def test_a_strict_policy_names_each_script_by_its_hash(bundle):
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page(example(), bundle)).group(1)
    assert "default-src 'none'" in policy
    scripts = re.search("script-src ([^;]*)", policy).group(1)
    assert re.fullmatch(r"('sha256-[\w+/=]+' ?){2}", scripts)


def test_nothing_is_taken_from_outside(bundle):
    parsed = _Parsed(without_scripts(page(example(), bundle)))
    for name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert value.startswith(("#", "data:,")), (name, value)
    assert not {"iframe", "object", "embed", "base", "form"} & parsed.tags.keys()


@given(st.one_of(st.just(HOSTILE), st.text(max_size=60)))
@settings(max_examples=15)
def test_hostile_texts_add_no_tag_and_no_attribute(bundle, text):
    tame, wild = (_Parsed(without_scripts(page(example(t), bundle))) for t in ("text", f"x{text}"))
    drawn = ("text", "tspan", "path", "line", "g")  # how many of them a drawing has depends on its labels
    count = [{tag: n for tag, n in p.tags.items() if tag not in drawn} for p in (tame, wild)]
    assert count[0] == count[1]
    assert {n for n, _ in wild.attributes} <= {n for n, _ in tame.attributes} | {"transform", "display"}


@given(st.text())
def test_what_is_shown_has_no_control_character(text):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", visible(text))
    assert not re.search("[<>\"']", escape(text))


def test_all_numbers_stand_in_the_page_without_scripts_and_in_markdown(bundle):
    shown = " ".join(_Parsed(without_scripts(page(example(), bundle))).texts)
    written = markdown(example()).replace("\\", "")
    for text in ("1,234", "5.0 MB", "1.812", "-0.119", "-0.131 to -0.107", "0.321 nats", "75.0%", "0.4321", "345.6",
                 "1.25 nats", "62.5%", "9.875", "12.3%", "25.0%", "1,319", "0.9375",
                 "43 words, 88%", "7 more characters", "ab" * 32):  # fmt: skip
        assert text in shown
        assert text in written


def test_every_chart_has_words_and_a_table(bundle):
    charts = [b for s in sections(example()) for b in s.blocks if isinstance(b, Table) and b.chart]
    html = without_scripts(page(example(), bundle))
    assert len(charts) == html.count('role="img" aria-label="') >= 9
    assert html.count("<details>") + sum(b.beside for b in charts) == len(charts)
    for block in charts:
        assert " id=" not in svg(block.chart)  # ids of several drawings in a page would clash


def test_json_is_the_structure_without_what_json_has_not():
    summary = replace(example(HOSTILE), metrics=(Metric("x", "", float("nan"), float("inf")),))
    found = json.loads(as_json(summary).encode())
    assert found["title"] == HOSTILE
    assert found["metrics"][0]["value"] is found["metrics"][0]["low"] is None
    assert found["amounts"][0]["documents"] == 1234


def test_missing_parts_are_left_out(bundle):
    html = page(Summary("nothing", "corpus"), bundle)
    assert "<section" not in html
    assert "script-src 'none'" in html
    assert "## " not in markdown(Summary("nothing", "corpus"))


def test_markdown_fences_hold_whatever_a_document_says():
    text = markdown(example("``` end\n# not a heading\n````"))
    assert "`````text\n``` end\n# not a heading\n````\n`````" in text


# ---- of runs


@pytest.fixture(scope="module", params=["parquet", "jsonl", "jsonl.zst"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    raw = sharded(folder / "raw", rows(60), 3, request.param)
    target = write(folder / "target.jsonl", target_rows())
    curate.select(raw, target=target, budget=10, out=folder / "out", settings={"n_buckets": 500, "min_tokens": 1})
    return folder / "out"


def report(*words) -> str:
    result = CliRunner().invoke(main, ["report", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_a_run_is_reported_the_same_twice_and_still_verifies(run):
    first = (run / "report.html") if report(run) == str(run / "report.html") else None
    before = first.read_bytes()
    report(run, "--workers", 1)
    assert first.read_bytes() == before
    assert curate.verify(run).ok


def test_a_run_shows_its_documents_scores_and_lengths(run, tmp_path):
    found = json.loads((tmp_path / "r.json").read_text()) if report(
        run, "--format", "json", "--out", tmp_path / "r.json") else None  # fmt: skip
    assert sum(found["scores"][0]["selected"]) == found["amounts"][1]["documents"] == 10
    assert sum(found["scores"][0]["raw"]) == 60
    shown = found["documents"]
    assert len(shown["best"]) == len(shown["borderline"]) == len(shown["worst"]) == 4
    assert shown["best"][0]["score"] >= shown["borderline"][0]["score"] >= shown["worst"][0]["score"]
    assert not shown["note"]


def test_evidence_is_shown_and_of_another_run_told(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    heldout = write(tmp_path / "heldout.jsonl", target_rows(41)[1:])
    evidence = evaluate(copy, heldout=heldout, seeds=2)
    report(copy)
    page = (copy / "report.html").read_text()
    assert escape(evidence.sentence) in page
    assert "99% interval" in page
    assert all(arm.name in page for arm in evidence.arms)
    assert evidence.sentence in (copy / "README.md").read_text().replace("\\", "")
    found = json.loads((copy / "evidence.json").read_text())
    found["run"]["uuid"] = "other"
    (copy / "evidence.json").write_text(json.dumps(found))
    report(copy)
    assert escape(evidence.sentence) not in (copy / "report.html").read_text()
    assert "of another run" in (copy / "report.html").read_text()


def test_what_somebody_wrote_in_the_card_stays(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with (copy / "README.md").open("a") as card:
        card.write("Mine.\n")
    report(copy)
    measured = (copy / "README.md").read_text()
    assert measured.endswith("Mine.\n")
    assert "KL reduction" in measured
    shutil.rmtree(copy / "scorer")
    manifest = json.loads((copy / "manifest.json").read_text())
    report(copy)
    assert (copy / "README.md").read_text() == measured
    assert manifest["uuid"] == json.loads((copy / "manifest.json").read_text())["uuid"]


def test_what_is_said_of_metrics_is_what_was_measured():
    found = json.loads((Path(__file__).parent / "benchmarks/results/metrics.json").read_text())
    everyone, aimed = found["correlations"], found["correlations_without_random"]
    assert len(found["selections"]) == 180
    for name in ("KL reduction", "total_variation, reduction"):
        said = [f"{of[name]['spearman']:.2f}" for of in (everyone, aimed)]
        assert all(number in PREDICTS for number in said), (name, said)
    for of in (everyone, aimed):
        assert max(of, key=lambda name: of[name]["spearman"]) == "total_variation, reduction"


def test_missing_raw_files_are_told(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    commit = (copy / "scores" / "scores.json").read_text()
    (copy / "scores" / "scores.json").write_text(commit.replace(str(run.parent / "raw"), str(tmp_path / "gone")))
    report(copy, "--format", "md")
    assert "12 documents are not shown: the raw files are gone" in (copy / "report.md").read_text()


def test_a_corpus_is_reported_without_a_selection(run, tmp_path):
    report(run.parent / "raw", "--format", "md", "--out", tmp_path / "r.md")
    assert "files: 3" in (tmp_path / "r.md").read_text()


def test_without_the_extra_html_says_how_to_get_it_and_markdown_needs_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    result = CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path / "r.html")])
    assert result.exit_code == 1
    assert "pip install 'curate-data[report]'" in result.output
    assert not (tmp_path / "r.html").exists()
    report(run, "--format", "md", "--out", tmp_path / "r.md")


# ---- what the texts say


def as_found(out, *paths, sample="16MB") -> dict:
    report(*paths, "--format", "json", "--out", out, "--sample", sample)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A run and what is reported of it: maths is wanted, of a corpus of maths, cooking and news."""
    folder = tmp_path_factory.mktemp("joined")
    raw = sharded(folder / "raw", rows(300), 3, "jsonl")
    target = write(folder / "target.jsonl", target_rows())
    curate.select(raw, target=target, budget=60, out=folder / "out", settings={"n_buckets": 500, "min_tokens": 1})
    return folder, as_found(folder / "r.json", folder / "out")


def copied(folder, tmp_path, old, new):
    """A run whose raw or target is said to be elsewhere."""
    copy = tmp_path / "out"
    shutil.copytree(folder / "out", copy)
    for path in (copy / "manifest.json", copy / "scores" / "scores.json"):
        path.write_text(path.read_text().replace(str(folder / old), str(new)))
    return copy


def test_a_selection_of_what_was_wanted_is_reported_as_nearer_to_the_target(joined):
    _, found = joined
    (reduction,) = found["metrics"]
    assert reduction["target"] == found["nearness"][0]["target"]
    assert 0 < reduction["low"] <= reduction["value"] <= reduction["high"]
    (nearness,) = found["nearness"]
    rows_of = {row["name"]: row for row in nearness["rows"]}
    assert rows_of["KL divergence"]["selected"] < rows_of["KL divergence"]["raw"]
    assert {"Neyman chi-squared", "Sinkhorn divergence", "characteristic function", "KS, bytes"} <= rows_of.keys()


def test_each_distribution_of_a_run_has_raw_selected_and_target(joined):
    _, found = joined
    assert [d["attribute"] for d in found["distributions"]] == ["length", "size", "bytes a token", "compression ratio"]
    for distribution in found["distributions"]:
        assert {s["name"] for s in distribution["series"]} == {"raw", "selected", "target"}
        assert 0 <= distribution["ks"] <= 1
        for s in distribution["series"]:
            assert s["x"] == sorted(set(s["x"]))
            assert s["F"] == sorted(s["F"])
            assert s["F"][-1] == 1


def test_n_grams_of_what_was_wanted_are_gained_and_others_lost(joined):
    _, found = joined
    assert {"triangle", "equation"} <= {n["ngram"] for n in found["gained"]}
    assert {"onion", "garlic"} <= {n["ngram"] for n in found["lost"]}
    counted = sum(row["text"].lower().count("triangle") for row in rows(300))
    triangle = next(n for n in found["gained"] if n["ngram"] == "triangle")
    n_grams = sum(2 * len(re.findall(r"\w+|[^\w\s]+", row["text"])) - 1 for row in rows(300))
    assert triangle["raw"] == pytest.approx(1e6 * counted / n_grams, rel=0.01)
    assert all(n["selected"] > n["raw"] for n in found["gained"])
    assert all(n["selected"] < n["raw"] for n in found["lost"])


def test_shares_of_languages_add_up_to_one(joined):
    _, found = joined
    for corpus in ("raw", "selected", "target"):
        assert sum(share[corpus] for share in found["languages"]) == pytest.approx(1)


def test_documents_to_read_are_those_of_the_ledger_with_their_texts(joined):
    folder, found = joined
    raw = {row["id"]: row for row in rows(300)}
    kept = {row["doc_id"]: row["kept"] for row in ledger(folder / "out")}
    for name in ("best", "borderline", "worst"):
        assert len(found["documents"][name]) == 4
        for one in found["documents"][name]:
            assert (one["excerpt"], one["source"]) == (raw[one["doc_id"]]["text"], raw[one["doc_id"]]["source"])
    assert all(kept[one["doc_id"]] for one in found["documents"]["best"])
    assert not any(kept[one["doc_id"]] for one in found["documents"]["worst"])


def test_documents_of_equal_score_do_not_depend_on_the_files(tmp_path):
    made = [{"id": f"d{i}", "text": "the same words again and again"} for i in range(60)]
    target = write(tmp_path / "target.jsonl", target_rows())
    shown = []
    for name, of, n_files in (("a", made, 1), ("b", made[::-1], 4)):
        raw = sharded(tmp_path / name, of, n_files)
        curate.select(raw, target=target, budget=20, out=tmp_path / f"{name}-out", draw="topk",
                      settings={"n_buckets": 500, "min_tokens": 1})  # fmt: skip
        shown.append(as_found(tmp_path / "r.json", tmp_path / f"{name}-out")["documents"])
    assert shown[0] == shown[1]


@pytest.mark.parametrize(("drawing", "cut"), [
    ({"budget": 20, "draw": "topk"}, "Cut at"), ({"budget": None, "draw": "threshold", "threshold": 1.0}, "Cut at"),
    ({"budget": 20}, "As many documents as were kept"), ({"budget": 20, "draw": "uniform"}, ""),
    ({"budget": 20, "draw": "topk", "per": "source"}, ""),
], ids=["topk", "threshold", "gumbel", "uniform", "per"])  # fmt: skip
def test_a_cut_is_told_only_where_there_is_one(tmp_path, drawing, cut):
    raw, target = write(tmp_path / "raw.jsonl", rows(60)), write(tmp_path / "target.jsonl", target_rows())
    settings = {"n_buckets": 500, "min_tokens": 1}
    curate.select(raw, target=target, out=tmp_path / "out", settings=settings, **drawing)
    found = as_found(tmp_path / "r.json", tmp_path / "out")
    assert (found["scores"][0]["threshold"] is not None) == bool(found["documents"]["borderline"]) == bool(cut)
    if drawing.get("threshold"):
        assert found["scores"][0]["threshold"] == drawing["threshold"]
    report(tmp_path / "out", "--format", "md", "--out", tmp_path / "r.md")
    told = [c for c in ("Cut at", "As many documents as were kept") if c in (tmp_path / "r.md").read_text()]
    assert told == [cut] * bool(cut)


def test_what_was_held_out_of_the_target_is_not_compared_with(tmp_path):
    raw, texts = write(tmp_path / "raw.jsonl", rows(60)), [f"solve equation number {n} with care" for n in range(60)]
    target = write(tmp_path / "target.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
    settings = {"n_buckets": 500, "min_tokens": 1}
    curate.select(raw, target=target, budget=10, holdout=0.3, out=tmp_path / "out", settings=settings)
    found = as_found(tmp_path / "r.json", tmp_path / "out")
    fitted = [t for t, out in zip(texts, held_out(pa.array(texts), 0.3), strict=True) if not out]
    amount = next(a for a in found["amounts"] if a["name"] == "target")
    assert 0 < len(fitted) < 60
    assert (amount["documents"], amount["bytes"]) == (len(fitted), sum(map(len, fitted)))
    assert {"label": "held out of the target", "value": "30%", "code": False} in found["asked"]
    assert found["verdict_hint"] == "curate evaluate OUT"


def test_how_many_documents_each_figure_is_of_is_told(joined, tmp_path):
    _, found = joined
    assert "N-grams are counted in whole documents with text (300 of raw, 60 of selected, " in found["sampling"]
    assert "languages and compression on as many" in found["sampling"]
    raw = write(tmp_path / "raw.jsonl", [*rows(3_001), {"id": "empty", "text": ""}])
    told = as_found(tmp_path / "r.json", raw)["sampling"]
    assert "with text (3,001 of raw), all there are; languages and compression on 3,000 of raw; distributions" in told
    assert told.endswith("that are not of all documents on as many.")


def test_of_many_files_the_first_are_listed_and_the_others_counted(tmp_path):
    raw = sharded(tmp_path / "raw", rows(203), 203)
    files = as_found(tmp_path / "r.json", raw)["hashes"]
    assert len(files) == 201
    assert files[-1]["name"] == "3 more"
    assert sum(f["bytes"] for f in files) == sum(p.stat().st_size for p in Path(raw).iterdir())


def test_a_source_that_the_selection_has_not_is_shown_by_its_share_of_raw():
    selected = {f"s{n:02}": 0.05 for n in range(20)}
    raw = {"lost": 0.9, **dict.fromkeys(selected, 0.005)}
    shown = listed_shares({"raw": raw, "selected": selected}, 20)
    assert (shown[0].name, shown[0].raw, shown[0].selected) == ("lost", 0.9, 0.0)
    assert shown[-1].name == "1 others"


def test_marks_of_direction_are_visible_in_the_card():
    assert "\u202e" not in plain("a\u202eb")
    assert plain("a\u202eb") == "a\u27e8U\\+202E\u27e9b"


def test_raw_that_is_gone_is_told(joined, tmp_path):
    found = as_found(tmp_path / "r.json", copied(joined[0], tmp_path, "raw", tmp_path / "gone"))
    assert "raw is not what it was: nothing is said of its texts" in found["warnings"]
    assert "12 documents are not shown" in found["documents"]["note"]
    assert found["metrics"] == found["gained"] == []
    assert found["nearness"][0]["rows"][0]["raw"] is None


@pytest.mark.parametrize(
    "change", [lambda t: t + '{"text": "more"}\n', lambda t: t.replace("{", "[", 1), lambda t: t.replace("a", "\t", 9)]
)
def test_raw_that_was_changed_is_told(joined, tmp_path, change):
    raw = tmp_path / "raw"
    shutil.copytree(joined[0] / "raw", raw)
    copy = copied(joined[0], tmp_path, "raw", raw)
    first = raw / "part-000.jsonl"
    first.write_text(change(first.read_text()))
    assert "raw is not what it was: nothing is said of its texts" in as_found(tmp_path / "r.json", copy)["warnings"]


@pytest.mark.parametrize("gone", [True, False])
def test_a_target_that_is_gone_or_changed_is_told(joined, tmp_path, gone):
    target = tmp_path / "other.jsonl"
    if not gone:
        write(target, target_rows(41))
    copy = tmp_path / "out"
    shutil.copytree(joined[0] / "out", copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recipe"]["target"] = {"target": [str(target)]}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    found = as_found(tmp_path / "r.json", copy)
    assert "target target is not what it was: the selection is not compared with it" in found["warnings"]
    assert found["nearness"] == []
    assert found["gained"]


def test_a_run_that_another_process_writes_to_is_left_alone(joined, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(joined[0] / "out", copy)
    before = (copy / "README.md").read_bytes()
    with RunFolder(copy).locked():
        result = CliRunner().invoke(main, ["report", str(copy), "--format", "md"])
    assert result.exit_code == 1
    assert "another run is writing here" in result.output
    assert (copy / "README.md").read_bytes() == before


# ---- of a run that cleans

WORDS = [f"word{n}" for n in range(60)]
EVIL = "<script>alert(1)</script><b>\u202e|```"
QUESTION = "how many of the forty two red apples that grew in the old garden were eaten by someone@example.org in May"


def near(text: str, at: int, word: str) -> str:
    """A text with another word."""
    words = text.split()
    return " ".join([*words[:at], word, *words[at + 1 :]])


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    """A run that cleans, and what is reported of it: an equal pair, a hostile near one, a short text and an item."""
    folder = tmp_path_factory.mktemp("cleaned")
    text = " ".join(WORDS)
    more = [
        {"id": "a1", "text": text, "source": "web"},
        {"id": "a2", "text": text, "source": "web"},
        {"id": "a3", "text": near(text, 50, EVIL), "source": "<i>evil</i>"},
        {"id": "a4", "text": "too short", "source": "web"},
        {"id": "a5", "text": f"{rows(1)[0]['text']} {QUESTION} {rows(9)[8]['text']}", "source": "web"},
    ]
    raw = sharded(folder / "raw", [*rows(60), *more], 3)
    quiz = write(folder / "quiz.jsonl", [{"id": "q1", "text": QUESTION}])
    curate.clean(
        raw, out=folder / "out", dedup=True, filters={"where": {"few_words": "n_words < 5"}, "mask": ["email"]},
        decontaminate={"against": {"quiz": [str(quiz)]}},
    )  # fmt: skip
    return folder, as_found(folder / "r.json", folder / "out")


def test_what_cleaning_removed_is_told_by_source_and_reason(cleaned, tmp_path):
    folder, found = cleaned
    noted = json.loads((folder / "out" / "manifest.json").read_text())["stats"]["cleaning"]
    told = found["cleaning"]
    assert told["whole"]["reasons"] == {"contaminated": 1, "exact_duplicate": 1, "few_words": 1, "near_duplicate": 1}
    assert {s["source"]: s["reasons"] for s in told["sources"]} == {
        s: n["removed"] for s, n in noted["sources"].items()
    }
    assert [s["source"] for s in told["sources"]][:2] == ["<i>evil</i>", "web"]
    assert (told["sources"][1]["documents"], told["sources"][1]["share"]) == (4, 0.75)
    assert (told["duplicates"]["exact"], told["duplicates"]["near"], told["duplicates"]["largest"]) == (1, 1, 3)
    assert told["benchmarks"] == [{"name": "quiz", "items": 1, "found": 1, "verbatim": 1, "edited": 0, "documents": 1,
                                   "undecidable": 0}]  # fmt: skip
    report(folder / "out", "--format", "md", "--out", tmp_path / "r.md")
    written = (tmp_path / "r.md").read_text().replace("\\", "")
    assert "Cleaning removed 4 of 65 documents (6.2%)." in written
    assert "| web | 4 | 3 | 75.0% |" in written
    assert "| quiz | 1 | 1 | 1 | 0 | 1 | 0 |" in written


def test_pairs_that_were_removed_are_shown_with_where_they_differ_and_harmless(cleaned):
    folder, found = cleaned
    exact, one = found["cleaning"]["pairs"]
    assert (exact["reason"], exact["equal"], exact["removed"]["doc_id"]) == ("exact_duplicate", True, "a2")
    assert (one["reason"], one["removed"]["doc_id"], one["matched"]["doc_id"]) == ("near_duplicate", "a3", "a1")
    assert one["removed"]["before"] == one["matched"]["before"]
    assert one["removed"]["before"].endswith("word49 ")
    assert (one["removed"]["difference"], one["matched"]["difference"]) == ("<", "word50")
    assert one["removed"]["beginning"] == " ".join(WORDS)[:200]
    assert one["removed"]["n_between"] == len(" ".join(WORDS[:50])) + 1 - 80 - 200
    report(folder / "out")
    page = without_scripts((folder / "out" / "report.html").read_text())
    assert "<mark>&lt;</mark>script&gt;" in page
    assert not {"i", "script"} & _Parsed(page).tags.keys()
    assert "<mark>word50</mark> word51" in page


def test_what_is_masked_is_masked_in_the_report_too(cleaned):
    _, found = cleaned
    (match,) = found["cleaning"]["matches"]
    assert match["excerpt"].endswith("were eaten by <EMAIL> in May")
    assert "someone@" not in json.dumps(found)
    assert (match["benchmark"], match["item"], match["kind"], match["doc_id"]) == ("quiz", "q1", "verbatim", "a5")


def test_a_run_that_only_cleans_is_no_selection_that_could_beat_another(cleaned):
    _, found = cleaned
    assert (found["verdict_hint"], found["scores"], found["metrics"]) == ("", [], [])
    assert [fact["label"] for fact in found["asked"]] == ["raw", "selection"]
    assert found["documents"]["borderline"] == found["documents"]["worst"] == []
    assert {one["score"] for one in found["documents"]["best"]} == {None}


def test_the_card_says_what_was_removed_and_by_what(cleaned):
    card = (cleaned[0] / "out" / "README.md").read_text().replace("\\", "")
    assert "Cleaning removed 4 of 65 documents (6.2%): 1 contaminated, 1 exact_duplicate, " in card
    assert "- decontaminated against: quiz\n" in card
    assert "13 words in a row of an item, or 50% of its words; documents that have some are removed" in card
    assert "- contamination: 1 of 1 items of quiz found in 1 documents, 1 word for word, 0 edited" in card
    assert "near: of a Jaccard similarity of 0.7 or more" in card
    assert "- own rules: few_words where n_words < 5\n" in card
    assert "| web | 4 | 3 | 75.0% | 1 contaminated, 1 exact_duplicate, 1 few_words |" in card
    assert "<i>" not in (cleaned[0] / "out" / "README.md").read_text()


def test_a_run_without_cleaning_says_nothing_of_it(joined):
    folder, found = joined
    assert found["cleaning"] is None
    assert "leaning" not in (folder / "out" / "README.md").read_text()
    assert not any("cleaning" in section.anchor for section in sections(replace(example(), cleaning=None)))


def test_of_a_match_in_another_corpus_only_the_id_is_shown(cleaned, tmp_path):
    old = [{"id": "part-000.jsonl#0", "text": " ".join(WORDS)}]  # which may be called as one of raw is
    write(tmp_path / "old" / "part-000.jsonl", old)
    write(tmp_path / "new" / "part-000.jsonl", [*({"text": row["text"]} for row in rows(5)), {"text": old[0]["text"]}])
    against = {"against": [str(tmp_path / "old")]}
    curate.clean(tmp_path / "new", out=tmp_path / "out", dedup=against)
    (pair,) = as_found(tmp_path / "r.json", tmp_path / "out")["cleaning"]["pairs"]
    assert (pair["removed"]["known"], pair["matched"]["known"]) == (True, False)
    assert pair["matched"]["doc_id"] == "part-000.jsonl#0"
    gone = as_found(tmp_path / "r.json", copied(cleaned[0], tmp_path / "copy", "raw", tmp_path / "gone"))
    assert not any(one["known"] for pair in gone["cleaning"]["pairs"] for one in (pair["removed"], pair["matched"]))
    assert gone["cleaning"]["note"] == "2 pairs are shown without texts: the raw files are gone or changed."


def test_pairs_are_drawn_from_all_bands_alike_whatever_the_order(tmp_path):
    made = [
        {"doc_id": f"d{i}", "path": "raw", "row": i, "reason": reason, "matched_id": "m", "matched_path": "raw",
         "matched_row": 0, "cluster": "m", "cluster_path": "raw", "cluster_row": 0, "similarity": similarity,
         "against": False}
        for i, (reason, similarity) in enumerate(
            [("exact_duplicate", 1.0)] * 900 + [("near_duplicate", 0.95)] * 50 + [("near_duplicate", 0.85)] * 2
            + [("near_duplicate", 0.75)] * 50 + [("semantic_duplicate", 0.97)] * 50
        )
    ]  # fmt: skip
    drawn = []
    for name, of in (("a", made), ("b", made[::-1])):
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(of), tmp_path / name / "duplicates.parquet", row_group_size=70)
        drawn.append([(row["doc_id"], row["similarity"]) for row in choose_removed(RunFolder(tmp_path / name)).pairs])
    assert drawn[0] == drawn[1]
    assert [s for _, s in drawn[0]] == [1.0] * 4 + [0.95] * 5 + [0.85] * 2 + [0.75] * 5 + [0.97] * 4


@given(st.text("ab"), st.text("ab"), st.sampled_from([0, 4_095, 4_096, 9_000]))
def test_the_first_difference_is_the_first(one, other, before):
    common = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    assert first_difference("x" * before + one, "x" * before + other) == before + common


# ---- of a corpus


def test_a_corpus_has_its_commonest_pairs_sources_and_distributions(tmp_path):
    found = as_found(tmp_path / "r.json", sharded(tmp_path / "raw", rows(90), 2))
    assert found["amounts"] == [found["amounts"][0] | {"name": "raw", "documents": 90}]
    assert found["amounts"][0]["bytes"] == sum(len(row["text"]) for row in rows(90))
    assert {s["name"]: s["raw"] for s in found["sources"]} == pytest.approx(
        {"cooking": 1 / 3, "maths": 1 / 3, "news": 1 / 3}
    )
    assert all(" " in n["ngram"] for n in found["commonest"])
    assert len(found["commonest"]) == 30
    assert [[s["name"] for s in d["series"]] for d in found["distributions"]] == [["raw"]] * 4


def test_a_corpus_says_what_has_no_text_or_could_not_be_read_and_sizes_are_of_all_documents(tmp_path):
    raw = tmp_path / "raw.jsonl"
    texts = ["", *("x" * n for n in range(1, 400))]
    lines = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)]
    raw.write_text("\n".join([*lines, "{no row"]) + "\n")
    assert CliRunner().invoke(main, ["report", str(raw), "--out", str(tmp_path / "r.html")]).exit_code
    found = as_found(tmp_path / "r.json", raw, "--on-bad-row", "quarantine", sample="4KB")
    facts = {fact["label"]: fact["value"] for fact in found["done"]}
    assert (facts["documents without text"], facts["rows that could not be read"]) == ("1", "1")
    (sizes,) = next(d for d in found["distributions"] if d["attribute"] == "size")["series"]
    assert sizes["quantiles"] == {"5%": 19, "25%": 99, "50%": 199, "75%": 299, "95%": 379}
    assert (sizes["x"][0], sizes["x"][-1]) == (0, 399)
    assert all(share == pytest.approx((x + 1) / 400) for x, share in zip(sizes["x"], sizes["F"], strict=True))


def test_a_run_that_was_not_finished_is_told_to_be_none_and_two_are_not_read_as_one_corpus(run, tmp_path):
    shutil.copytree(run, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    for paths, told in (([tmp_path / "out"], "no finished run"), ([run, run], "name it alone")):
        result = CliRunner().invoke(main, ["report", *map(str, paths), "--out", str(tmp_path / "r.html")])
        assert result.exit_code
        assert told in result.output
        assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("of", [
    [{"id": "a", "text": "only one document"}], [{"id": "a", "text": "word"}], [{"id": "a", "text": ""}],
    [{"id": "a", "text": None}, {"id": "b", "text": ""}],
    [{"id": "a", "text": "\x00", "source": None}],
    [{"id": "a", "text": "x" * 1_000_000, "source": "https://example.org/" + "a" * 5_000}],
    [{"id": f"d{i}", "text": HOSTILE.replace("\ud800", ""), "source": "\U0001f600" * 40 + str(i)} for i in range(4)],
], ids=["one", "word", "empty", "no text", "nul", "huge", "hostile"])  # fmt: skip
def test_odd_corpora_are_reported_in_every_form(tmp_path, of):
    raw = write(tmp_path / "raw.jsonl", of)
    for form in ("html", "md", "json"):
        report(raw, "--format", form, "--out", tmp_path / f"r.{form}")
    assert json.loads((tmp_path / "r.json").read_text())["amounts"][0]["documents"] == len(of)
    assert "<script>alert" not in (tmp_path / "r.html").read_text()


def test_a_corpus_gives_the_same_bytes_whatever_the_workers(tmp_path):
    raw = sharded(tmp_path / "raw", rows(90), 3)
    for form in ("html", "md", "json"):
        report(raw, "--format", form, "--out", tmp_path / "1", "--workers", 1)
        report(raw, "--format", form, "--out", tmp_path / "2", "--workers", 3)
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_numbers_of_the_json_stand_in_the_page(joined, tmp_path):
    folder, found = joined
    report(folder / "out", "--out", tmp_path / "r.html")
    shown = set(_Parsed(without_scripts((tmp_path / "r.html").read_text())).texts)
    values = [number(v) for n in found["nearness"] for row in n["rows"] for k, v in row.items() if k != "name"]
    values += [number(n[of]) for n in [*found["gained"], *found["lost"]] for of in ("raw", "target", "selected")]
    values += [number(q) for d in found["distributions"] for s in d["series"] for q in s["quantiles"].values()]
    values += [f"{s[of]:.1%}" for s in found["sources"] for of in ("raw", "selected")]
    values += [f"{s[of]:.1%}" for s in found["languages"] for of in ("raw", "target", "selected")]
    values += [number(n) for of in found["scores"] for n in [*of["raw"], *of["selected"]]]
    values += [number(a[of]) for a in found["amounts"] for of in ("documents",)]
    assert len(values) > 300
    assert not {v for v in values if v not in shown}


def test_drawings_leave_outliers_out_and_say_so():
    x = (*(1 + i / 100 for i in range(199)), 1e6)
    of = Distribution("ratio", "", (Series("raw", x, tuple((i + 1) / 200 for i in range(200))),))
    drawn = distribution_chart(of).spec["data"]["values"]
    assert max(v["x"] for v in drawn) < 3
    (table,) = next(s for s in sections(Summary("t", "corpus", distributions=(of,)))).blocks
    assert "Without the outermost 0.5%" in table.note


def test_distances_are_drawn_as_multiples_of_those_of_raw():
    of = Nearness("t", (DistanceRow("near", 2.0, 1.0, 0.5), DistanceRow("far", 1.0, 9.0, None)), "")
    drawn = nearness_chart(of)
    near, far = drawn.spec["data"]["values"]
    assert (near["shown"], near["noise"], far["ratio"], far["shown"]) == (0.5, 0.25, 9.0, 3.0)
    assert "3 and more at the edge" in json.dumps(drawn.spec)
    assert nearness_chart(Nearness("t", (DistanceRow("near", None, 1.0, 0.5),), "")).spec["data"]["values"][0][
        "ratio"
    ] == 2  # fmt: skip


def test_distances_that_are_not_numbers_are_not_drawn():
    of = Nearness("t", (DistanceRow("a", 2.0, math.inf, 0.5), DistanceRow("b", 1.0, math.nan, None)), "")
    assert nearness_chart(of) is None


def test_a_number_that_is_none_leaves_the_other_drawings_alive(bundle):
    metrics = tuple(Metric("x", "", v, 0.0, math.inf) for v in (math.nan, math.inf, 1.0))
    html = page(replace(example(), metrics=metrics), bundle)
    specs = re.search('id="specs">(.*?)</script>', html).group(1)
    assert not re.search("NaN|Infinity", specs)
    assert len(json.loads(specs)) >= 9


def test_labels_never_cut_a_character_in_two():
    for n in range(1, 40):
        group = GroupWeight("a" * (n % 3) + "\U0001f600" * n, (1.0,))
        assert svg(weights_chart([group]))
        assert svg(stages_chart([group], [0]))


def test_the_scripts_are_kept_and_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = Bundle().text
    (kept,) = (tmp_path / "cache" / "curate").iterdir()
    kept.write_text("kept")
    assert Bundle().text == "kept"
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path / "file.jsonl", b"")))
    assert Bundle().text == first


# ---- of curricula


def staged(text: str, n_stages: int = 3) -> Summary:
    """A summary with a curriculum of several stages."""
    rising = tuple((stage + 1) / (n_stages + 1) for stage in range(n_stages))
    groups = (GroupWeight(text, rising, 0.5), GroupWeight("other", tuple(1 - w for w in rising), 0.5))
    return replace(example(text), curriculum=Weighing(text, n_stages, tuple(range(n_stages)), 2, groups))


@given(st.one_of(st.just(HOSTILE), st.text(max_size=60)))
@settings(max_examples=10)
def test_hostile_groups_of_several_stages_add_no_tag(bundle, text):
    tame, wild = (_Parsed(without_scripts(page(staged(t), bundle))) for t in ("text", f"x{text}"))
    drawn = ("text", "tspan", "path", "line", "g")
    count = [{tag: n for tag, n in p.tags.items() if tag not in drawn} for p in (tame, wild)]
    assert count[0] == count[1]


def curriculum_of(folder, *words) -> dict:
    """What is reported of a curriculum, as JSON."""
    return as_found(folder / "r.json", *words)["curriculum"]


def test_the_curriculum_of_a_run_stands_beside_its_shares_of_raw_and_selected(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    about = {"method": HOSTILE.replace("\ud800", ""), "column": "source", "seed": 0}
    write_curriculum(copy, Curriculum.of({"maths": 3, "cooking": 1, "<b>": 0}, **about))
    found = curriculum_of(tmp_path, copy)
    groups = {g["group"]: g for g in found["groups"]}
    assert list(groups) == ["maths", "cooking", "<b>"]
    assert groups["maths"]["weights"] == [0.75]
    assert groups["maths"]["raw"] == pytest.approx(1 / 3)
    assert groups["<b>"]["raw"] == groups["<b>"]["selected"] == 0
    drawn = json.loads((copy / "manifest.json").read_text())["stats"]["diagnostics"][0]["sources_selected"]
    assert groups["maths"]["selected"] == drawn["maths"]
    assert found["about"].startswith("Weights of groups, by <script>")
    assert "column source, seed 0" in found["about"]
    report(copy)
    html = (copy / "report.html").read_text()
    assert '<h2 id="curriculum-title">' in html
    assert escape(found["about"]) in html
    assert "75.0%" in html
    assert curate.verify(copy).ok


def test_weights_of_text_are_shown_as_shares_of_documents(tmp_path):
    columns = {"raw_bytes": np.array([300, 100]), "raw_documents": np.array([1, 1])}
    about = {"method": "mix", "column": "source", "weights_of": "bytes"}
    write_curriculum(tmp_path, Curriculum("group", pa.array(["long", "short"]), [0, 0], [0.75, 0.25], columns, about))
    found = weighing_of(tmp_path, {})
    assert {group.group: group.weights for group in found.groups} == {"long": (0.5,), "short": (0.5,)}
    assert found.about == "Weights of groups, by mix (column source). Here they are shares of documents."


def test_a_curriculum_elsewhere_is_shown_when_it_is_named(run, tmp_path):
    write_curriculum(tmp_path, Curriculum.of({"maths": 1}, column="other"))
    assert "curriculum" not in (run / "manifest.json").read_text()
    assert curriculum_of(tmp_path, run) is None
    found = curriculum_of(tmp_path, run, "--curriculum", tmp_path)
    assert (found["groups"][0]["group"], found["groups"][0]["raw"]) == ("maths", None)
    of_corpus = curriculum_of(tmp_path, run.parent / "raw", "--curriculum", tmp_path / "curriculum.parquet")
    assert of_corpus == found
    write_curriculum(tmp_path, Curriculum.of({"maths": 1}, column="source"))
    of_corpus = curriculum_of(tmp_path, run.parent / "raw", "--curriculum", tmp_path)
    assert of_corpus["groups"][0]["raw"] == pytest.approx(1 / 3)


def test_groups_of_a_table_have_their_share_of_its_documents(run, tmp_path):
    write_curriculum(tmp_path, Curriculum.of({"a": 1, "b": 3}))
    pq.write_table(pa.table({"doc_id": list("wxyz"), "group": ["a", "b", "a", "a"]}), tmp_path / "groups.parquet")
    groups = curriculum_of(tmp_path, run, "--curriculum", tmp_path)["groups"]
    assert [(g["group"], g["weights"], g["raw"]) for g in groups] == [("b", [0.75], 0.25), ("a", [0.25], 0.75)]


def test_of_many_groups_and_stages_the_largest_and_some_are_shown_and_the_others_counted(run, tmp_path):
    stages = [{f"g{n}": 1.0 + (n == stage) for n in range(100)} for stage in range(100)]
    write_curriculum(tmp_path, Curriculum.of(stages, method="round"))
    found = curriculum_of(tmp_path, run, "--curriculum", tmp_path)
    assert (found["n_groups"], found["n_stages"], len(found["stages"])) == (100, 100, 24)
    assert (found["stages"][0], found["stages"][-1]) == (0, 99)
    assert len(found["groups"]) == 21
    assert found["groups"][-1]["group"] == "80 more"
    for place in range(24):
        assert sum(g["weights"][place] for g in found["groups"]) == pytest.approx(1)
    report(run, "--curriculum", tmp_path, "--format", "md", "--out", tmp_path / "r.md")
    assert "24 of 100 stages are shown" in (tmp_path / "r.md").read_text()


@given(st.lists(st.just(0.0) | st.floats(1e-6, 1e6), min_size=1, max_size=60).filter(any))
def test_the_spread_of_weights_counts_every_document(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("documents")
    names = pa.array([f"d{i}" for i in range(len(weights))])
    stages = np.zeros(len(weights), np.int32)
    write_curriculum(folder, Curriculum("doc_id", names, stages, np.array(weights), about={"method": "x"}))
    (spread,) = weighing_of(folder, {}).documents
    assert sum(spread.documents) == spread.n_documents == len(weights)
    assert spread.n_weighted == sum(w / sum(weights) > 0 for w in weights)
    assert 1 - 1e-9 <= spread.n_effective <= len(weights) * (1 + 1e-9)
    assert spread.n_effective == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert spread.largest == pytest.approx(max(weights) * len(weights) / sum(weights))
    assert 0 < spread.heaviest <= 1 + 1e-9


def test_weights_of_documents_are_drawn_stage_by_stage(run, tmp_path, bundle):
    names, stages = [f"d{i}" for i in range(50)] * 9, np.repeat(np.arange(9), 50)
    weights = np.arange(450) % 50 + stages
    write_curriculum(tmp_path, Curriculum("doc_id", pa.array(names), stages, weights, about={"method": "pace"}))
    found = curriculum_of(tmp_path, run, "--curriculum", tmp_path)
    assert [d["stage"] for d in found["documents"]] == [0, 2, 3, 5, 6, 8]
    report(run, "--curriculum", tmp_path, "--out", tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text()
    assert "Documents by weight, stage 8" in html
    assert "6 of 9 stages are shown" in html
    assert "1 is an even share" in html


# ---- in a browser


def browse(tmp_path, html: str, *flags: str) -> subprocess.CompletedProcess[str]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH")
    (tmp_path / "r.html").write_text(html, encoding="utf-8")
    usual = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
             "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=6000",
             "--enable-logging=stderr", "--dump-dom"]  # fmt: skip
    return subprocess.run([chromium, *usual, *flags, f"file://{tmp_path}/r.html"], capture_output=True, text=True,
                          timeout=120, check=False)  # fmt: skip


@pytest.mark.slow
def test_a_browser_draws_the_charts_without_a_complaint(tmp_path, bundle):
    done = browse(tmp_path, page(example(HOSTILE), bundle))
    assert "CONSOLE" not in done.stderr
    drawings = done.stdout.split('class="drawing"')[1:]
    assert len(drawings) >= 8
    assert all('class="vega-embed' in re.split("<details>|<table>", drawing)[0] for drawing in drawings)


@pytest.mark.slow
def test_a_script_from_elsewhere_would_be_refused_and_seen(tmp_path, bundle):
    html = page(example(), bundle).replace("</body>", "<script>document.title = 'mine'</script></body>")
    done = browse(tmp_path, html)
    assert "CONSOLE" in done.stderr
    assert "<title>mine" not in done.stdout


@pytest.mark.slow
def test_a_browser_asks_for_nothing_outside(tmp_path, bundle):
    def asked(html: str) -> set[str]:
        browse(tmp_path, html, "--proxy-server=127.0.0.1:9", f"--log-net-log={tmp_path / 'net.json'}")
        return set(re.findall(r'"url":"(https?://[^/"]*)', (tmp_path / "net.json").read_text()))

    own = asked("<p>nothing</p>")  # what the browser asks for by itself
    assert "http://example.org" in asked('<img src="http://example.org/x.png">')
    assert asked(page(example(HOSTILE), bundle)) <= own


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1400])
def test_no_width_makes_the_page_scroll_sideways(tmp_path, bundle, width):
    said = (
        "<script>setTimeout(() => parent.postMessage(document.documentElement.scrollWidth, '*'), 2500)</script></body>"
    )
    inner = re.sub("<meta http-equiv[^>]*>", "", page(staged(HOSTILE + "W" * 3_000, 24), bundle))
    (tmp_path / "inner.html").write_text(inner.replace("</body>", said), encoding="utf-8")
    frame = f'<pre></pre><iframe src="inner.html" style="width:{width}px;height:3000px;border:0"></iframe>'
    told = "<script>onmessage = e => document.querySelector('pre').textContent = 'width ' + e.data</script>"
    done = browse(tmp_path, frame + told, "--allow-file-access-from-files", "--window-size=1500,3000")
    assert int(re.search(r"width (\d+)", done.stdout).group(1)) <= width
