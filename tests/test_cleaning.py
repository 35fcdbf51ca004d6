"""Cleaning before a selection: what goes is told, what stays is as it would be without it, nothing goes in silence."""

import json
import random
import shlex

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from corpora import FORMATS, NEWS, jsonl_shards, kept_ids, ledger, rows, scores, select, sharded, shards, tree, write
from killing import killed_at_every_commit, stride

import curate
from curate.cli import main
from curate.dedup import DedupSpec
from curate.engines.resources import Resources
from curate.errors import RemovalError, RunError, UsageError
from curate.plan import estimate
from curate.steps import clean
from curate.steps.clean import Sources

RNG = random.Random(5)
QUESTION = "how many apples does Natalia have left after she gave forty eight of them to her friends in April and half"
ITEMS = [{"id": "q1", "text": QUESTION}, {"id": "q2", "text": "which of the seven rivers in the valley is the longest "
          "one that ships can still go up in the summer of a dry year"}]  # fmt: skip


def changed(text: str, at: int) -> str:
    """A text with one word replaced."""
    words = text.split()
    return " ".join([*words[:at], "changed", *words[at + 1 :]])


def corpus() -> list[dict[str, object]]:
    """120 documents: 10 have an equal twin, 10 a near one, two hold an item, three an address, three are short."""
    found = rows(120, seed=3)
    for i in range(10):
        found[i]["text"] = " ".join(f"{w}{RNG.randrange(50)}" for w in NEWS * 4)
    twins = [{**found[i], "id": f"exact{i}"} for i in range(10)]
    near = [{**found[i], "id": f"near{i}", "text": changed(str(found[i]["text"]), 30)} for i in range(10)]
    for i, item in enumerate(ITEMS):
        found[20 + i]["text"] = f"{found[20 + i]['text']} {item['text']}? {found[30 + i]['text']}"
    for i in range(40, 43):
        found[i]["text"] = f"{found[i]['text']} write to someone{i}@example.org for more"
    for i in range(50, 53):
        found[i]["text"] = "two words"
    return [*found, *twins, *near]


ROWS = corpus()
DEDUP = {"dedup": True}
RULES = {"filters": {"where": {"few_words": "n_words < 5"}, "mask": ["email"]}}
ALL = RULES | DEDUP


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """The options for everything: dedup, filters, and decontamination against two items."""
    path = write(tmp_path_factory.mktemp("items") / "quiz.parquet", ITEMS)
    return ALL | {"decontaminate": {"against": {"quiz": [str(path)]}}}


def reasons(out) -> dict[str, str]:
    """Why documents are not kept, by id."""
    return {row["doc_id"]: row["reason"] for row in ledger(out) if not row["kept"]}


def matched(out) -> dict[str, tuple[str, float]]:
    """Which document stays for one that goes, and how near they are."""
    found = pq.read_table(out / "duplicates.parquet").to_pylist()
    return {row["doc_id"]: (row["cluster"], row["similarity"]) for row in found}


def test_each_removal_is_in_the_ledger_with_its_reason(tmp_path, items):
    write(tmp_path / "raw.jsonl", ROWS)
    done = curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", **items)
    wanted = {f"exact{i}": "exact_duplicate" for i in range(10)} | {f"near{i}": "near_duplicate" for i in range(10)}
    wanted |= {"d20": "contaminated", "d21": "contaminated"} | {f"d{i}": "few_words" for i in range(50, 53)}
    assert reasons(tmp_path / "out") == wanted
    assert done.n_selected == len(ROWS) - len(wanted)
    found = done.manifest["stats"]["cleaning"]
    assert sum(n for of in found["sources"].values() for n in of["removed"].values()) == len(wanted)
    assert found["contamination"]["quiz"]["n_documents"] == 2
    assert found["masked"] == {"email": 3}


def test_masked_texts_are_what_is_scored_and_written(tmp_path):
    for form in ("jsonl", "parquet"):
        write(tmp_path / f"raw.{form}", ROWS)
        curate.clean(tmp_path / f"raw.{form}", out=tmp_path / form, **RULES)
        texts = {row["id"]: row["text"] for row in shards(tmp_path / form).to_pylist()}
        assert texts["d41"].endswith("write to <EMAIL> for more")
        assert not any("@" in text for text in texts.values())
        sizes = {row["doc_id"]: row["n_bytes"] for row in scores(tmp_path / form).to_pylist()}
        assert sizes["d41"] == len(texts["d41"].encode())


def test_cleaned_lines_keep_what_else_is_in_them(tmp_path):
    rows_ = [{"id": "a", "text": "write to me@example.org or not, and so on", "n": 1.50, "x": {"y": [1, None]}}]
    write(tmp_path / "raw.jsonl", rows_)
    curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", format="jsonl.zst", **RULES)
    (found,) = jsonl_shards(tmp_path / "out")
    assert (found["x"], found["n"]) == ({"y": [1, None]}, 1.5)
    assert "<EMAIL>" in found["text"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"per": "source", "draw": "topk"},
        {"method": "bytegrams", "draw": "cover"},
        {"method": "dsir+primed", "settings": {"dsir.n_buckets": 500}},
    ],
    ids=["gumbel", "per", "cover", "fused"],
)
def test_a_selection_that_cleans_is_that_of_a_corpus_that_was_cleaned(tmp_path, items, options):
    mirror = [{**ROWS[0], "id": f"mirror{i:02}", "source": "mirror"} for i in range(60)]
    raw = sharded(tmp_path / "raw", [*ROWS, *mirror, *rows(6, seed=9, source="mirror")], 3)
    curate.clean(raw, out=tmp_path / "clean", format="jsonl.zst", max_removed=1, **items)
    select(tmp_path / "clean" / "shards", tmp_path / "two", budget=20, **options)
    select(raw, tmp_path / "one", budget=20, max_removed=1, **items, **options)
    assert kept_ids(tmp_path / "one") == kept_ids(tmp_path / "two")

    def scored(out):
        return {row["doc_id"]: row["score"] for row in scores(out).to_pylist() if row["score"] is not None}

    assert scored(tmp_path / "one") == scored(tmp_path / "two")


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst", "csv", "arrow", "json"])
def test_format_order_files_and_workers_do_not_matter(tmp_path, monkeypatch, items, form):
    assert form in FORMATS
    monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine: 3_000)
    shuffled = random.Random(form).sample(ROWS, len(ROWS))
    curate.clean(sharded(tmp_path / "raw", shuffled, 4, form), out=tmp_path / "out", workers=3, **items)
    write(tmp_path / "one.jsonl", ROWS)
    curate.clean(tmp_path / "one.jsonl", out=tmp_path / "wanted", workers=1, **items)
    assert reasons(tmp_path / "out") == reasons(tmp_path / "wanted")
    assert matched(tmp_path / "out") == matched(tmp_path / "wanted")


def test_what_is_removed_takes_no_part_in_a_draw_that_is_drawn_again(tmp_path, items):
    write(tmp_path / "raw.jsonl", ROWS)
    select(tmp_path / "raw.jsonl", tmp_path / "out", budget=20, **items)
    curate.draw(tmp_path / "out", out=tmp_path / "all", budget=1_000)
    assert len(kept_ids(tmp_path / "all")) == len(ROWS) - 25
    assert not any("@" in text for text in shards(tmp_path / "all")["text"].to_pylist())
    assert (tmp_path / "all" / "duplicates.parquet").exists()
    assert curate.verify(tmp_path / "all").ok


def test_a_corpus_that_would_nearly_all_go_is_refused_and_then_allowed(tmp_path):
    write(tmp_path / "raw.jsonl", [{"id": f"{i:03}", "text": ROWS[0]["text"]} for i in range(100)])
    with pytest.raises(RemovalError, match=r"99 of 100 documents, 99.0% \(99 exact_duplicate\).*--max-removed 1"):
        curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", **DEDUP)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert pq.read_table(tmp_path / "out" / "duplicates.parquet").num_rows == 99
    done = curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", max_removed=1, **DEDUP)
    assert "--max-removed 1" in done.manifest["command"]
    assert curate.Recipe.of_manifest(done.manifest, out=tmp_path / "again").run().selection.n_selected == 1
    assert done.n_selected == 1
    assert kept_ids(tmp_path / "out") == ["000"]


def test_a_source_that_would_nearly_all_go_is_refused_though_the_corpus_would_not(tmp_path):
    same = [{"id": f"s{i}", "text": ROWS[0]["text"], "source": "mirror"} for i in range(12)]
    write(tmp_path / "raw.jsonl", [*rows(100), *same])
    with pytest.raises(RemovalError, match=r"source 'mirror': 11 of 12 documents.*--max-removed mirror=1"):
        curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", **DEDUP)
    curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", max_removed={"mirror": 1}, **DEDUP)
    with pytest.raises(UsageError, match="max-removed mirror=2"):
        curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", max_removed={"mirror": 2}, **DEDUP)


def test_after_a_refusal_nothing_is_read_again_but_what_came(tmp_path, monkeypatch, items):
    looked: list[int] = []
    look = clean._look
    monkeypatch.setattr(clean, "_look", lambda job, partition: looked.append(partition.index) or look(job, partition))
    raw, out = sharded(tmp_path / "raw", ROWS, 3), tmp_path / "out"
    with pytest.raises(RemovalError):
        curate.clean(raw, out=out, name="x", max_removed=0.01, **items)
    assert sorted(looked) == [0, 1, 2]
    with pytest.raises(RunError, match="written by recipe"):
        curate.clean(raw, out=out, name="x", **DEDUP)
    write(raw / "part-009.jsonl", [{**row, "id": f"late-{row['id']}"} for row in ROWS[5:8]])
    with pytest.raises(RemovalError):
        curate.clean(raw, out=out, name="x", max_removed=0.02, **items)
    curate.clean(raw, out=out, name="x", **items)
    assert looked[3:] == [3]
    curate.clean(raw, out=tmp_path / "wanted", name="x", **items)
    assert tree(out) == tree(tmp_path / "wanted")


def test_nothing_is_left_of_a_file_that_is_another_one_after_a_refusal(tmp_path, items):
    write(tmp_path / "raw" / "a.jsonl", ROWS[20:22])
    raw = sharded(tmp_path / "raw", ROWS[22:50], 1)
    with pytest.raises(RemovalError):
        curate.clean(raw, out=tmp_path / "out", name="x", max_removed=0.01, **items)
    write(raw / "a.jsonl", [{"id": "short", "text": "two words"}])
    for out in ("out", "wanted"):
        curate.clean(raw, out=tmp_path / out, name="x", **items)
    assert tree(tmp_path / "out") == tree(tmp_path / "wanted")


def test_an_update_that_would_remove_too_much_is_refused_and_then_allowed(tmp_path):
    raw = sharded(tmp_path / "raw", ROWS[:20], 1)
    curate.clean(raw, out=tmp_path / "out", max_removed=0.1, **DEDUP)
    before = tree(tmp_path / "out" / "shards")
    write(raw / "part-009.jsonl", [{**row, "id": f"late-{row['id']}"} for row in ROWS[:10]])
    with pytest.raises(RemovalError, match=r"10 of 30 documents.*--max-removed 1"):
        curate.update(tmp_path / "out")
    assert tree(tmp_path / "out" / "shards") == before
    command = ["select", "--update", str(tmp_path / "out"), "--max-removed", "40%", "--quiet"]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert len(reasons(tmp_path / "out")) == 10
    write(raw / "part-010.jsonl", [{**ROWS[15], "id": "one more"}])
    curate.update(tmp_path / "out")  # what was allowed then is allowed now
    assert len(reasons(tmp_path / "out")) == 11


def test_short_texts_are_not_all_equal(tmp_path):
    poems = [
        "白日依山盡",
        "黃河入海流",
        "欲窮千里目",
        "更上一層樓",
        "ok",
        "yes",
        "no",
        "thank you",
        "",
        "😀😀😀😀",
        "😀😀",
    ]
    write(tmp_path / "raw.jsonl", [{"id": str(i), "text": text} for i, text in enumerate([*poems, "ok"])])
    curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", **DEDUP)
    assert reasons(tmp_path / "out") == {"4": "exact_duplicate"}  # "11" is before "4"
    curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "kept", dedup={"short": "keep"})
    assert reasons(tmp_path / "kept") == {}


def test_an_empty_corpus_is_an_error_that_says_so(tmp_path, items):
    write(tmp_path / "raw.jsonl", b"")
    with pytest.raises(curate.CurateError, match="nothing selected"):
        curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", **items)


def test_killed_while_it_cleans_it_goes_on_to_the_same_bytes(tmp_path, items):
    forked = {name: items[name] for name in ("dedup", "decontaminate")}  # a fork has no threads of Polars, for filters
    kills = killed_at_every_commit(tmp_path, of=ROWS, first=5, every=stride(25), **forked)
    assert len(kills) >= 2
    assert all(kill["same"] for kill in kills)
    assert not any(kill["left"] for kill in kills)


def test_what_is_in_another_corpus_goes_and_a_run_stands_for_what_it_kept(tmp_path):
    write(tmp_path / "old.jsonl", ROWS[:60])
    curate.clean(tmp_path / "old.jsonl", out=tmp_path / "old", **DEDUP)
    new = [{**row, "id": f"new-{row['id']}"} for row in ROWS[5:10]] + ROWS[60:90]
    write(tmp_path / "new.jsonl", new)
    for against in ("old.jsonl", "old"):
        out = tmp_path / f"out-{against}"
        curate.clean(tmp_path / "new.jsonl", out=out, dedup={"against": [str(tmp_path / against)]})
        assert reasons(out) == {f"new-d{i}": "exact_duplicate" for i in range(5, 10)}
        found = pq.read_table(out / "duplicates.parquet").to_pylist()
        assert {row["matched_id"] for row in found} == {f"d{i}" for i in range(5, 10)}


def test_other_corpora_may_have_files_of_one_name_which_is_also_that_of_a_file_of_raw(tmp_path):
    for name, of in (("one", ROWS[:3]), ("two", ROWS[3:6]), ("raw", ROWS[:40])):
        write(tmp_path / name / "part.jsonl", of)
    against = [str(tmp_path / name) for name in ("one", "two", "two")]
    curate.clean(tmp_path / "raw", out=tmp_path / "out", dedup={"against": against})
    found = pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist()
    wanted = {f"d{i}": str(tmp_path / ("one" if i < 3 else "two") / "part.jsonl") for i in range(6)}
    assert {row["doc_id"]: row["matched_path"] for row in found} == wanted


def test_matches_with_what_an_update_found_there_are_not_of_another_corpus(tmp_path):
    write(tmp_path / "old" / "part-0.jsonl", ROWS[:1])
    write(tmp_path / "raw" / "part-0.jsonl", ROWS[:40])
    curate.clean(tmp_path / "raw", out=tmp_path / "out", dedup={"against": [str(tmp_path / "old")]})
    write(tmp_path / "raw" / "part-1.jsonl", [{**ROWS[i], "id": f"late{i}"} for i in (0, 5)])
    curate.update(tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist()
    elsewhere, own = str(tmp_path / "old" / "part-0.jsonl"), "part-0.jsonl"
    assert {row["doc_id"]: (row["matched_path"], row["against"]) for row in found} == {
        "d0": (elsewhere, True),
        "late0": (elsewhere, True),
        "late5": (own, False),
    }


def test_an_update_without_the_signatures_of_what_was_kept_is_refused(tmp_path):
    raw = sharded(tmp_path / "raw", ROWS[:40], 2)
    write(raw / "part-005.jsonl", b"")  # a file without documents has signatures too: none
    curate.clean(raw, out=tmp_path / "out", **DEDUP)
    (tmp_path / "out" / "signatures" / "part-00001.parquet").unlink()
    write(raw / "part-009.jsonl", ROWS[90:])
    with pytest.raises(RunError, match="signatures of what was kept are gone"):
        curate.update(tmp_path / "out")


def test_of_a_key_that_is_twice_in_a_line_the_first_is_masked_and_written(tmp_path):
    line = b'{"id":"d","text":"%s dora@example.com","text":"a text without any address in it"}\n'
    write(tmp_path / "raw.jsonl", line % "ééé".encode())
    curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", filters={"mask": ["email"]})
    assert shards(tmp_path / "out")["text"].to_pylist() == ["ééé <EMAIL>"]


def test_filters_see_what_is_left_of_a_text_that_is_cut(tmp_path, items):
    of = (QUESTION, f"é me@example.org {QUESTION}", "and four more words")
    write(tmp_path / "raw.jsonl", [{"id": str(i), "text": f"{text} one two three"} for i, text in enumerate(of)])
    asked = {"decontaminate": items["decontaminate"] | {"mode": "cut", "min_left": 0}, "max_removed": 1}
    curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", filters={"min_words": 5, "mask": ["email"]}, **asked)
    assert reasons(tmp_path / "out") == {"0": "length.words"}
    assert shards(tmp_path / "out")["text"].to_pylist()[0] == "é <EMAIL>  one two three"


def test_sources_beyond_those_that_are_told_apart_do_not_depend_on_order(monkeypatch):
    monkeypatch.setattr("curate.steps.clean.MAX_SOURCES", 3)
    counted = [(name, reason) for name in "badecf" for reason in (None, "x", "x")]
    wanted = None
    for seed in range(5):
        random.Random(seed).shuffle(counted)
        parts = Sources(), Sources()
        for i, (name, reason) in enumerate(counted):
            parts[i % 2].count(name, reason, 1, 10, new=True)
        found = Sources().merge(parts[0].as_dict()).merge(parts[1].as_dict()).as_dict()
        wanted = wanted or found
        assert found == wanted
    assert list(wanted) == ["(others)", "a", "b", "c"]
    assert wanted["(others)"] == {"n_documents": 9, "n_bytes": 90, "removed": {"x": 6}}


def test_another_threshold_for_a_run_that_was_has_bands_of_its_own(tmp_path):
    write(tmp_path / "raw.jsonl", ROWS[:40])
    first = curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", dedup={"threshold": 0.9})
    recipe = curate.Recipe.of_manifest(first.manifest, out=tmp_path / "again", overrides=["dedup.threshold=0.5"])
    assert DedupSpec.from_settings(recipe.section("dedup")).banding == DedupSpec(threshold=0.5).banding


def test_an_estimate_reads_the_columns_that_rules_go_by(tmp_path):
    write(tmp_path / "raw.parquet", ROWS)
    asked = {"filters": {"where": {"one": "source = 'news'"}}, "dedup": {"prefer": "length"}}
    write(tmp_path / "numbers.parquet", [row | {"length": len(str(row["text"]))} for row in ROWS])
    found = estimate(tmp_path / "numbers.parquet", target=(), out=tmp_path / "out", method="all", budget=10, **asked)
    assert "clean" in [step.name for step in found.steps]


def test_a_blank_cell_of_csv_is_no_preference(tmp_path):
    twins = [{"id": name, "text": ROWS[0]["text"], "rank": rank} for name, rank in (("a", ""), ("b", "2"), ("c", "1"))]
    write(tmp_path / "raw.csv", [*twins, *({**row, "rank": ""} for row in ROWS[11:20])])
    curate.clean(tmp_path / "raw.csv", out=tmp_path / "out", dedup={"prefer": "rank"})
    assert reasons(tmp_path / "out") == {"a": "exact_duplicate", "c": "exact_duplicate"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"filters": True}, "filters by nothing"),
        ({"filters": {"unknown_language": "remove"}}, "no language is asked for"),
        ({"filters": {"min_language_share": "0.5", "languages": ["en"]}}, "not between 0 and 1"),
        ({"filters": {"where": {"kept": "n_words < 5"}}}, "taken by"),
        ({"filters": {"where": {"few": "key < 5"}}}, r"TRY_CAST\(key AS DOUBLE\)"),
        ({"dedup": {"near": False, "threshold": 0.5}}, "threshold=0.5 is a setting of near duplicates"),
        ({"dedup": {"encoder": "model"}}, "pass semantic=true"),
        ({"dedup": {"semantic": True, "vectors": "vector"}}, "no column to clean by called 'vector'"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_done_is_refused(tmp_path, asked, said):
    write(tmp_path / "raw.jsonl", [{"id": "a", "text": "one two", "key": 3}])
    with pytest.raises(UsageError, match=said):
        curate.clean(tmp_path / "raw.jsonl", out=tmp_path / "out", **asked)


def test_an_update_compares_what_came_with_what_was_kept_and_leaves_that(tmp_path, items):
    raw = sharded(tmp_path / "raw", ROWS[:90], 2)
    curate.clean(raw, out=tmp_path / "out", max_removed={"mirror": 1}, **items)
    before = reasons(tmp_path / "out")
    late = [{**ROWS[2], "id": "a-late", "source": "mirror"}]  # smaller than its twin's id, which was there first
    write(raw / "part-009.jsonl", [*ROWS[90:], *late])
    done = curate.update(tmp_path / "out")
    after = reasons(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    twins = {f"exact{i}": "exact_duplicate" for i in range(10)} | {"a-late": "exact_duplicate"}
    assert after == before | twins | {f"near{i}": "near_duplicate" for i in range(10)}
    assert pq.read_table(tmp_path / "out" / "duplicates.parquet").num_rows == 21
    found = done.manifest["stats"]["cleaning"]
    assert found["sources"]["mirror"] == {
        "n_documents": 1,
        "n_bytes": len(ROWS[2]["text"]),
        "removed": {"exact_duplicate": 1},
    }
    assert sum(of["n_documents"] for of in found["sources"].values()) == len(ROWS) + 1
    assert found["contamination"]["quiz"]["n_documents"] == 2
    assert curate.verify(tmp_path / "out").ok
    assert not curate.update(tmp_path / "out").seconds


def test_what_cleaning_there_was_is_in_the_manifest_and_can_be_done_again(tmp_path, items):
    write(tmp_path / "raw.jsonl", ROWS)
    first = select(tmp_path / "raw.jsonl", tmp_path / "out", budget=20, **items)
    again = curate.Recipe.of_manifest(first.manifest, out=tmp_path / "again").run()
    assert again.selection.manifest["recipe_sha256"] == first.manifest["recipe_sha256"]
    command = first.manifest["command"].replace("OUT", str(tmp_path / "third"))
    done = CliRunner().invoke(main, [*shlex.split(command)[1:], "--quiet"])
    assert done.exit_code == 0, done.output
    third = json.loads((tmp_path / "third" / "manifest.json").read_text())
    assert third["recipe_sha256"] == first.manifest["recipe_sha256"]
    skip = ("manifest.json", "croissant.json")
    assert tree(tmp_path / "third", without=skip) == tree(tmp_path / "out", without=skip)


def test_commands_say_what_went_and_why(tmp_path, items):
    raw = str(write(tmp_path / "raw.jsonl", ROWS))
    quiz = items["decontaminate"]["against"]["quiz"][0]
    for words, said in (
        (["dedup", raw], "exact_duplicate"),
        (["filter", raw, "--where", "few_words=n_words < 5", "--mask", "email"], "few_words"),
        (["decontaminate", raw, "--against", quiz], "2 of 2 items of quiz in 2 documents"),
    ):
        done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / words[0]), "--quiet"])
        assert done.exit_code == 0, done.output
        assert said in done.output
        assert "documents are left" in done.output
        help_text = CliRunner().invoke(main, [words[0], "--help"]).output
        assert "Example" in help_text


def test_tags_are_a_column_of_what_is_kept(tmp_path, items):
    for form in ("jsonl", "parquet"):
        raw = write(tmp_path / f"raw.{form}", ROWS)
        curate.clean(raw, out=tmp_path / form, decontaminate=items["decontaminate"] | {"mode": "tag"})
        tags = {row["id"]: row["curate_tags"] for row in shards(tmp_path / form).to_pylist() if row["curate_tags"]}
        assert tags == {"d20": ["quiz"], "d21": ["quiz"]}
