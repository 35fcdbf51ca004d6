"""A selection beside raw and target: the comparison itself, of files, of a run, and what the command line prints."""

import json
import math
import random
import shutil

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from corpora import COOKING, encoded, lines, rows, select, sharded, target_rows, write

import curate.survey.comparison as of_comparison
from curate.cli import main
from curate.compare import compare
from curate.engines import LocalEngine
from curate.errors import InputError, RunError, UsageError
from curate.metrics.divergences import DIVERGENCES
from curate.metrics.sinkhorn import sinkhorn_divergence
from curate.report.terminal import comparison_text
from curate.survey import Survey, facts
from curate.survey.comparison import ATTRIBUTES, Corner
from curate.survey.comparison import compare as compare_corners

ENGINE = LocalEngine(2)


@pytest.fixture(autouse=True)
def _compare_corners(monkeypatch):
    """Small clouds, few permutations and resamples: what is tested holds for any number of them."""
    monkeypatch.setitem(compare_corners.__kwdefaults__, "n_resamples", 20)
    monkeypatch.setattr(of_comparison, "N_CLOUD", 60)
    monkeypatch.setattr(of_comparison, "N_FREQUENCIES", 64)
    monkeypatch.setattr(of_comparison, "N_PERMUTATIONS", 20)


def corner(name, of):
    texts = pa.array(of, pa.large_string())
    return Corner(Survey(name, n_documents=len(of), texts=texts), facts(texts, ENGINE))


@pytest.fixture(scope="module")
def corners():
    """A target about maths, other documents about maths, and raw of three kinds."""
    of = rows(600)
    maths = [row["text"] for row in of if row["source"] == "maths"]
    return {
        "target": corner("target", maths[:100]),
        "maths": corner("maths", maths[100:]),
        "raw": corner("raw", [row["text"] for row in of]),
    }


def distances(of):
    """By name, (raw, selected) of every distance of a comparison."""
    before, after = of.characteristic_raw, of.characteristic_selected
    found = {name: (d.raw, d.selected) for name, d in of.divergences.items()}
    found["sinkhorn"] = of.sinkhorn.raw, of.sinkhorn.selected
    found["characteristic"] = before.squared if before else math.nan, after.squared
    return found


def values(of):
    """Every number of a comparison, for equality: nan is nan."""
    return repr(of)


# ---- the comparison


def test_random_documents_of_raw_are_neither_nearer_nor_farther(corners):
    texts = [row["text"] for row in rows(1200)]
    random.Random(0).shuffle(texts)
    raw, differences = corner("raw", texts), []
    for i in range(12):
        found = compare_corners(corners["target"], corner("random", texts[i * 60 : i * 60 + 60]), raw, seed=i)
        differences.append(found.reduction.value - found.at_random)
    assert abs(np.mean(differences)) < 3 * np.std(differences) / math.sqrt(len(differences)) + 0.01


def test_a_corpus_beside_itself_is_at_no_distance(corners):
    raw = corners["raw"]
    found = compare_corners(raw, raw, raw)
    assert found.reduction.value == found.parity == found.reduction.bound == 0
    assert found.reduction.low <= 0 <= found.reduction.high
    for name, both in distances(found).items():
        assert both == pytest.approx((0, 0), abs=1e-5), name
    for attribute in found.attributes.values():
        assert (attribute.raw.distance, attribute.selected.distance) == (0, 0)
        assert (attribute.p_raw, attribute.p_selected) == (1, 1)


def test_of_three_samples_of_one_corpus_none_is_nearer():
    of = [row["text"] for row in rows(900, seed=5)]
    found = compare_corners(*(corner(str(i), of[300 * i : 300 * (i + 1)]) for i in range(3)))
    assert found.reduction.low < 0 < found.reduction.high
    assert found.characteristic_selected.p_value > 0.01
    assert all(attribute.p_selected > 0.01 for attribute in found.attributes.values())


def test_documents_like_the_target_are_nearer_to_it_than_raw_by_every_distance(corners):
    found = compare_corners(corners["target"], corners["maths"], corners["raw"])
    assert 0 < found.reduction.low <= found.reduction.value <= found.reduction.high
    for name, (raw, selected) in distances(found).items():
        assert selected < raw, name


def test_the_target_itself_is_nearer_than_anything_else(corners):
    target, raw = corners["target"], corners["raw"]
    itself = compare_corners(target, target, raw).reduction.value
    assert itself > compare_corners(target, corners["maths"], raw).reduction.value > 0
    assert compare_corners(target, raw, raw).reduction.value == 0


def test_a_selection_of_what_the_target_is_not_is_farther_than_raw(corners):
    cooking = corner("cooking", [row["text"] for row in target_rows(100, words=COOKING)])
    found = compare_corners(corners["target"], cooking, corners["raw"])
    assert found.reduction.high < 0
    assert "farther from the target than random documents of raw" in comparison_text(found)


def test_without_raw_what_needs_it_is_missing_and_the_rest_is_there(corners):
    target, maths = corners["target"], corners["maths"]
    found = compare_corners(target, maths)
    assert (found.reduction, found.characteristic_raw) == (None, None)
    assert math.isnan(found.parity)
    for raw, selected in distances(found).values():
        assert math.isnan(raw)
        assert selected >= 0
    for attribute in found.attributes.values():
        assert attribute.raw is None
        assert math.isnan(attribute.p_raw)
        assert 0 <= attribute.p_selected <= 1
    assert "KL reduction" not in comparison_text(found)
    assert "nan" not in comparison_text(found)


def test_what_does_not_depend_on_raw_is_the_same_with_it(corners):
    target, maths, raw = corners["target"], corners["maths"], corners["raw"]
    beside, alone = compare_corners(target, maths, raw), compare_corners(target, maths)
    assert beside.sinkhorn.selected == alone.sinkhorn.selected
    for name in ATTRIBUTES:
        assert beside.attributes[name].selected.distance == alone.attributes[name].selected.distance


def test_the_same_seed_gives_the_same_result_and_another_does_not(corners):
    three = corners["target"], corners["maths"], corners["raw"]
    assert values(compare_corners(*three, seed=1)) == values(compare_corners(*three, seed=1))
    assert values(compare_corners(*three, seed=1)) != values(compare_corners(*three, seed=2))


@pytest.mark.parametrize("which", ["target", "selected", "raw"])
def test_one_document_is_enough_to_be_compared(corners, which):
    three = {"target": corners["target"], "selected": corners["maths"], "raw": corners["raw"]}
    three[which] = corner(which, ["one document about the prime number"])
    found = compare_corners(**three)
    assert math.isfinite(found.reduction.value)
    assert all(math.isfinite(selected) for _, selected in distances(found).values())
    assert "nan" not in comparison_text(found)
    if which == "target":
        assert "too few for these metrics" in comparison_text(found)


@pytest.mark.parametrize("which", ["target", "selected", "raw"])
@pytest.mark.parametrize("of", [[], ["", ""], [" \n "]])
def test_a_corpus_without_text_is_an_error_that_names_it(corners, which, of):
    three = {"target": corners["target"], "selected": corners["maths"], "raw": corners["raw"]}
    three[which] = corner(which, of)
    with pytest.raises(InputError, match=rf"^{which}: no text to compare in {len(of)} documents; pass --text-column"):
        compare_corners(**three)


def test_distances_are_of_as_many_ngrams_of_raw_as_of_the_selection(corners):
    """Thinned to its size, raw is as far from itself as noise is, not as a small corpus is from a large one."""
    raw = corners["raw"]
    few = corner("few", [row["text"] for row in rows(30, seed=7)])
    found = compare_corners(raw, few, raw)
    for name in DIVERGENCES:
        assert 0 < found.divergences[name].raw <= found.divergences[name].selected, name


def test_the_noise_of_the_sinkhorn_divergence_is_that_of_two_halves_of_the_target(corners):
    target = corners["target"]
    halves = target.facts.vectors[::2], target.facts.vectors[1::2]
    found = compare_corners(target, corners["maths"]).sinkhorn
    assert found.floor == sinkhorn_divergence(*halves, max_iterations=200).value > 0


# ---- what is printed


def test_the_table_holds_every_metric(corners):
    found = compare_corners(corners["target"], corners["maths"], corners["raw"])
    printed = comparison_text(found)
    for name in (*(DIVERGENCES[n].title for n in found.divergences), "Sinkhorn divergence", "characteristic function"):
        line = next(line for line in printed.splitlines() if line.lower().startswith(name.lower() + "  "))
        assert len(line.split("  ")) >= 4, line
    for name in (
        *ATTRIBUTES,
        "its amplitude",
        "its phase",
        "KL reduction",
        "nearer to the target than random documents of raw",
    ):
        assert name in printed
    assert f"{found.reduction.value:+.4f} nats" in printed
    assert f"{found.sinkhorn.selected:.4f}" in printed


# ---- files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Raw, target, another target, and a selection of raw for the first: the folder of a run."""
    folder = tmp_path_factory.mktemp("files")
    sharded(folder / "raw", rows(90), 3)
    write(folder / "target.jsonl", target_rows())
    write(folder / "cooking.jsonl", target_rows(words=COOKING))
    select(folder / "raw", folder / "out", target=folder / "target.jsonl", budget=20)
    return folder


def test_a_run_is_compared_with_what_it_was_made_from(files):
    of_run = compare(files / "target.jsonl", files / "out")
    named = compare(files / "target.jsonl", files / "out" / "shards", raw=files / "raw")
    assert values(of_run) == values(named)
    assert of_run.reduction.low > 0


def test_files_are_compared_without_raw_unless_it_is_named(files):
    found = compare(files / "target.jsonl", [files / "out" / "shards"])
    assert found.reduction is None
    assert compare(files / "target.jsonl", files / "out", raw=files / "cooking.jsonl").reduction.value > 0


def test_of_two_targets_each_is_compared_by_itself(files):
    found = {name: compare(files / f"{name}.jsonl", files / "out") for name in ("target", "cooking")}
    assert found["target"].reduction.value > 0 > found["cooking"].reduction.value


def test_neither_workers_nor_the_cut_of_raw_changes_a_comparison(files, tmp_path):
    sharded(tmp_path / "raw", list(reversed(rows(90))), 5, "parquet")
    one = compare(files / "target.jsonl", files / "out", workers=1)
    two = compare(files / "target.jsonl", files / "out", raw=tmp_path / "raw", workers=3)
    assert values(one) == values(two)


def test_a_run_whose_raw_is_gone_says_what_to_do_and_does_with_it(files, tmp_path):
    shutil.copytree(files / "raw", tmp_path / "raw")
    select(tmp_path / "raw", tmp_path / "out", target=files / "target.jsonl", budget=20)
    wanted = compare(files / "target.jsonl", tmp_path / "out")
    (tmp_path / "raw").rename(tmp_path / "moved")
    with pytest.raises(RunError, match=r"part-000\.jsonl: gone since .* was made; say where raw is with --raw"):
        compare(files / "target.jsonl", tmp_path / "out")
    assert values(compare(files / "target.jsonl", tmp_path / "out", raw=tmp_path / "moved")) == values(wanted)


def test_a_run_is_read_by_the_columns_and_with_the_bad_rows_that_it_was_made_with(tmp_path):
    of = [{"key": row["id"], "body": row["text"]} for row in rows(60)]
    lines(tmp_path / "raw.jsonl", *encoded("jsonl", of).splitlines(), b'{"body":')
    target = write(tmp_path / "target.jsonl", [{"content": row["text"]} for row in target_rows()])
    select(tmp_path / "raw.jsonl", tmp_path / "out", target=target, text_column="body", id_column="key",
           target_text_column="content", on_bad_row="quarantine", budget=20)  # fmt: skip
    found = compare(target, tmp_path / "out")
    assert found.n_bad_rows == {"target": 0, "selected": 0, "raw": 1}
    assert comparison_text(found).endswith("raw: 1 rows could not be read and are left out")
    with pytest.raises(InputError, match=r"raw\.jsonl line 61: not JSON"):
        compare(target, tmp_path / "out", on_bad_row="raise")
    other = write(tmp_path / "other.jsonl", target_rows())
    assert compare(other, tmp_path / "out", target_text_column="text").reduction.value > 0


def test_nothing_to_compare_is_an_error(files, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([], files / "out")
    with pytest.raises((UsageError, InputError), match="empty"):
        compare(files / "target.jsonl", tmp_path / "empty")


# ---- the command line


def curate(*words):
    return CliRunner().invoke(main, ["compare", *map(str, words)], catch_exceptions=False)


def forbidden(name):
    raise ValueError(f"{name} is not JSON")


@pytest.mark.parametrize("raw", [True, False])
def test_the_json_is_whole_and_holds_no_number_that_json_does_not_know(files, raw):
    selected = files / "out" if raw else files / "out" / "shards"
    result = curate(files / "target.jsonl", selected, "--json", "-q")
    assert result.exit_code == 0
    found = json.loads(result.stdout, parse_constant=forbidden)
    assert set(found["divergences"]) == set(DIVERGENCES)
    assert set(found["attributes"]) == set(ATTRIBUTES)
    assert (found["reduction"] is not None) == raw
    assert (found["divergences"]["kl"]["raw"] is not None) == raw
    assert found["adequacy"]["n_documents"] == 40


def test_one_document_gives_json_too(files, tmp_path):
    write(tmp_path / "one.jsonl", [{"text": "the sum of the angles"}])
    result = curate(tmp_path / "one.jsonl", files / "out", "--json", "-q")
    found = json.loads(result.stdout, parse_constant=forbidden)
    assert found["adequacy"]["risk"] is None
    assert found["sinkhorn"]["floor"] is None


def test_the_command_prints_what_the_library_finds(files):
    result = curate(files / "target.jsonl", files / "out", "--raw", files / "raw", "--sample", "1MB", "-w", 1)
    assert result.exit_code == 0
    assert result.stdout == comparison_text(compare(files / "target.jsonl", files / "out", sample_bytes=1e6)) + "\n"


def test_a_corpus_without_text_is_one_line_at_the_command_line(files, tmp_path):
    write(tmp_path / "empty.jsonl", [{"text": ""}])
    result = curate(tmp_path / "empty.jsonl", files / "out", "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.strip().endswith(
        "target: no text to compare in 1 documents; pass --text-column with the column that has it"
    )
