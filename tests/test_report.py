"""Reports: one structure, three renderings, harmless whatever the texts are."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from corpora import rows, sharded, target_rows, write
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.cli import main
from curate.evidence import evaluate
from curate.report.charts import svg
from curate.report.safe import escape, visible
from curate.report.sections import Table, sections
from curate.report.summary import (
    Amount,
    Arm,
    Distribution,
    Example,
    Examples,
    Fact,
    FileHash,
    GroupWeight,
    Metric,
    Ngram,
    ScoreHistogram,
    Series,
    Share,
    Summary,
    Verdict,
    as_json,
)
from curate.report.text import markdown

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
        sources=(Share(text, 0.25, 0.5, 0.75), Share("other", 0.75, 0.5, 0.25)),
        scores=(ScoreHistogram(text, "nats", (0.0, 1.0, 2.0), (10, 5), (0, 5), 1.25),),
        distributions=(Distribution("length", "tokens", lengths, 0.4321, 0.4, 0.46, log=True),),
        gained=(Ngram(text, 1.5, 2.5, 345.6),),
        lost=(Ngram(text, 345.6, None, 0.0),),
        documents=Examples((one,), (one,), (one,), text),
        duplicates=(Fact("exact", text),),
        curriculum=(GroupWeight(text, 0.625), GroupWeight("other", 0.375)),
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
                 "1.25 nats", "62.5%", "7 more characters", "ab" * 32):  # fmt: skip
        assert text in shown
        assert text in written


def test_every_chart_has_words_and_a_table(bundle):
    charts = [b for s in sections(example()) for b in s.blocks if isinstance(b, Table) and b.chart]
    html = without_scripts(page(example(), bundle))
    assert len(charts) == html.count('role="img" aria-label="') == html.count("<details>") >= 8
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
    assert [d["attribute"] for d in found["distributions"]] == ["length", "size", "bytes a token", "compression ratio"]


def test_evidence_is_shown_and_of_another_run_told(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    heldout = write(tmp_path / "heldout.jsonl", target_rows())
    evidence = evaluate(copy, heldout=heldout, seeds=2)
    report(copy)
    page = (copy / "report.html").read_text()
    assert escape(evidence.sentence) in page
    assert all(arm.name in page for arm in evidence.arms)
    assert evidence.sentence in (copy / "README.md").read_text().replace("\\", "")
    found = json.loads((copy / "evidence.json").read_text())
    found["run"]["uuid"] = "other"
    (copy / "evidence.json").write_text(json.dumps(found))
    report(copy)
    assert escape(evidence.sentence) not in (copy / "report.html").read_text()
    assert "of another run" in (copy / "report.html").read_text()


def test_missing_raw_files_are_told(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    commit = (copy / "scores" / "scores.json").read_text()
    (copy / "scores" / "scores.json").write_text(commit.replace(str(run.parent / "raw"), str(tmp_path / "gone")))
    report(copy, "--format", "md")
    assert "are not shown: the raw files are gone" in (copy / "report.md").read_text()


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


# ---- in a browser


@pytest.mark.slow
def test_a_browser_draws_the_charts_without_a_complaint(tmp_path, bundle):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH")
    (tmp_path / "r.html").write_text(page(example(HOSTILE), bundle), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
             "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=6000",
             "--enable-logging=stderr", "--dump-dom"]  # fmt: skip
    done = subprocess.run([chromium, *flags, f"file://{tmp_path}/r.html"], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    drawings = done.stdout.split('class="drawing"')[1:]
    assert len(drawings) >= 8
    assert all('class="vega-embed' in drawing.split("<details>")[0] for drawing in drawings)
