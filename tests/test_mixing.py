"""Mixtures: the proportions that were asked for, of what is there, within the epochs that are allowed."""

import csv
import json
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
import reference
from click.testing import CliRunner
from corpora import ledger, rows, scores, sharded, target_rows, write
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import curate
from curate.cli import main
from curate.curriculum.loader import CurriculumStream
from curate.curriculum.mixing import DESIGN, mix, propose
from curate.curriculum.online import ucb, update
from curate.curriculum.proportions import capped, proportions, tempered, tilted_by
from curate.curriculum.proportions import given as given_weights
from curate.curriculum.regression import read_proxies
from curate.errors import InputError, RunError, UsageError
from curate.io.curriculum import Curriculum, read_curriculum, write_curriculum

HOSTILE = ["", "(other)", 'a,"b"\n', "=1+1", "\x1b[2J", "../x", "proxy", "weight", "\U0001f600" * 30, "a=b"]
amounts = st.lists(st.integers(0, 1000) | st.floats(1e-3, 1e6), min_size=1, max_size=8).filter(lambda x: sum(x) > 0)


def made_of(sizes: dict[str, int], **more) -> list[dict]:
    """A document of so many bytes for each source."""
    return [{"id": f"d{i}", "text": "a " * (n // 2) + "a" * (n % 2), "source": name, **more}
            for i, (name, n) in enumerate(sizes.items())]  # fmt: skip


@pytest.fixture
def raw(tmp_path):
    return write(tmp_path / "raw.jsonl", made_of({"books": 600, "code": 300, "web": 100}))


@pytest.fixture
def run(tmp_path):
    return selected(tmp_path)


def selected(tmp_path, name="out", n_files=3, **options):
    target = write(tmp_path / "target.jsonl", target_rows())
    files = sharded(tmp_path / f"{name}-raw", rows(60), n_files)
    settings = {"n_buckets": 500}
    curate.select(files, target=target, out=tmp_path / name, budget="10", settings=settings, **options)
    return tmp_path / name


def command(*words):
    result = CliRunner().invoke(main, ["curriculum", "mix", *map(str, words)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def weights_of(found) -> dict[str, float]:
    return dict(zip(found.names, found.weights.tolist(), strict=True))


# ---- proportions


@given(amounts, st.data())
def test_capping_is_cutting_off_and_giving_to_the_others(sizes, data):
    p = proportions(np.array(sizes))
    caps = data.draw(arrays(np.float64, len(p), elements=st.floats(0, 1)))
    assume(caps[p > 0].sum() > 1 + 1e-9)
    found = capped(p, caps)
    np.testing.assert_allclose(found, reference.capped(p, caps), atol=1e-9)
    assert found.sum() == pytest.approx(1)
    assert (found <= caps + 1e-12).all()
    free = (found < caps - 1e-9) & (p > 0)
    np.testing.assert_allclose(found[free] * p[free].sum(), p[free] * found[free].sum(), atol=1e-9)


@given(amounts)
def test_what_is_within_its_caps_stays_as_it_is(sizes):
    p = proportions(np.array(sizes))
    assert capped(p, p).tolist() == p.tolist()


@given(amounts, st.floats(0.2, 5), st.floats(0.2, 5))
def test_temperatures_multiply_and_a_higher_one_is_more_even(sizes, a, b):
    p = proportions(np.array(sizes))
    np.testing.assert_allclose(tempered(tempered(p, a), b), tempered(p, a * b), atol=1e-9)
    assert tempered(p, 1 + a).max() <= p.max() + 1e-12
    assert ((tempered(p, a) == 0) == (p == 0)).all() or p[p > 0].min() < 1e-20


def test_a_temperature_of_2_is_a_square_root():
    np.testing.assert_allclose(
        tempered(np.array([0.64, 0.32, 0.04]), 2) / 0.8 * (0.8 + 0.32**0.5 + 0.2), [1, 0.5**0.5, 0.25]
    )


@given(amounts, st.floats(0.01, 3), st.data())
def test_a_tilt_is_as_far_from_raw_as_was_asked_and_towards_the_best(sizes, max_kl, data):
    p = proportions(np.array(sizes))
    s = data.draw(arrays(np.float64, len(p), elements=st.integers(-9, 9).map(float)))
    found = tilted_by(p, s, max_kl)
    there = found > 0
    kl = float((found[there] * np.log(found[there] / p[there])).sum())
    best = (s == s[p > 0].max()) & (p > 0)
    most = -np.log(p[best].sum())
    assert kl == pytest.approx(min(max_kl, most), abs=1e-6)
    assert (found * s).sum() >= (p * s).sum() - 1e-9


def test_a_source_without_a_score_gets_nothing_from_a_tilt():
    found = tilted_by(np.array([0.5, 0.3, 0.2]), np.array([np.nan, -400.0, 300.0]), 0.1)
    assert found[0] == 0
    assert 0.4 < found[2] < 1
    with pytest.raises(InputError, match="no source has a score"):
        tilted_by(np.array([1.0]), np.array([np.nan]), 1)


def test_given_weights_are_kept_and_the_others_share_the_rest():
    names, p = ["a", "b", "c"], np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(given_weights(names, p, {"a": 0.2}), [0.2, 0.48, 0.32])
    np.testing.assert_allclose(given_weights(names, p, {"a": 2, "b": 6}, rest=False), [0.25, 0.75, 0])
    np.testing.assert_allclose(given_weights(names, p, {"a": 0.5, "c": 0.5}), [0.5, 0, 0.5])
    for wrong, words in (
        ({"d": 0.1}, "no source called 'd'"),
        ({"a": 0.7, "b": 0.7}, "add up to 1.4"),
        ({"a": 0.2, "b": 0.2, "c": 0.2}, "leaves 0.4"),
        ({"a": -0.1}, "from 0 on"),
        ({"a": float("nan")}, "from 0 on"),
    ):
        with pytest.raises(UsageError, match=words):
            given_weights(names, p, wrong)
    with pytest.raises(UsageError, match="all are 0"):
        given_weights(names, p, {"a": 0}, rest=False)


# ---- of files


def test_natural_proportions_are_shares_of_the_bytes_of_text(raw):
    assert weights_of(mix(raw)) == {"books": 0.6, "code": 0.3, "web": 0.1}


def test_bytes_are_those_of_utf_8_and_documents_without_a_source_are_one(tmp_path):
    made = [{"text": "ää"}, {"text": "b" * 12, "source": "b"}, {"text": "", "source": "empty"}]
    assert weights_of(mix(write(tmp_path / "raw.jsonl", made))) == {"": 0.25, "b": 0.75, "empty": 0.0}


def test_cuts_formats_and_workers_do_not_matter(tmp_path):
    made = rows(90)
    random.Random(1).shuffle(made)
    expected = mix(sharded(tmp_path / "a", made, 1), temperature=3, budget="1M-tokens", workers=1)
    for form in ("parquet", "csv", "jsonl.gz"):
        found = mix(sharded(tmp_path / form, made[::-1], 7, form), temperature=3, budget="1M-tokens", workers=3)
        assert found.as_dict() == expected.as_dict()


def test_epochs_are_the_budget_times_the_weight_over_what_there_is(raw):
    found = mix(raw, weights={"web": 0.5}, budget="2kB")
    np.testing.assert_allclose(found.epochs, [0.5 * 2 / 3 * 2000 / 600, 0.5 / 3 * 2000 / 300, 0.5 * 2000 / 100])


def test_tokens_are_words_of_files(raw):
    found = mix(raw, budget="1000-tokens")
    np.testing.assert_allclose(found.epochs, [0.6 * 1000 / 300, 0.3 * 1000 / 150, 0.1 * 1000 / 50])


def test_with_a_budget_of_tokens_shares_are_of_tokens_and_epochs_those_that_there_will_be(tmp_path):
    raw = write(
        tmp_path / "raw.jsonl", [{"text": "a " * 30, "source": "short"}, {"text": "aaaaa " * 10, "source": "long"}]
    )
    assert weights_of(mix(raw)) == {"long": 0.5, "short": 0.5}
    found = mix(raw, budget="80-tokens", weights={"long": 0.5})
    assert weights_of(mix(raw, budget="80-tokens")) == {"long": 0.25, "short": 0.75}
    np.testing.assert_allclose(found.epochs, [4, 4 / 3])
    assert found.about["weights_of"] == "tokens"


def test_no_source_is_gone_through_more_often_than_allowed_and_the_output_says_which_would_be(raw):
    found = mix(raw, weights={"web": 0.9}, budget="1kB", max_epochs=4)
    assert found.capped == ("web",)
    np.testing.assert_allclose(found.weights, [0.4, 0.2, 0.4])
    assert found.epochs.max() == pytest.approx(4)
    code, out, _ = command(raw, "--weight", "web=0.9", "--budget", "1kB", "--max-epochs", "4")
    assert code == 0
    assert [line.split()[-2:] for line in out.splitlines() if line.startswith("web")] == [["at", "most"]]
    assert "would be more without --max-epochs 4" in out


def test_a_budget_that_the_sources_are_not_enough_for_is_refused_with_what_there_is(raw):
    with pytest.raises(InputError, match="is 400 bytes, less than --budget 1,000 bytes: allow more epochs"):
        mix(raw, weights={"web": 1}, rest=False, budget="1kB", max_epochs=4)


def test_hostile_names_of_sources_travel_unharmed(tmp_path):
    raw = write(tmp_path / "raw.jsonl", made_of(dict.fromkeys(HOSTILE, 100)))
    found = mix(raw, weights={"a=b": 0.5}, out=tmp_path / "out")
    assert weights_of(found)["a=b"] == 0.5
    assert set(found.names) == set(HOSTILE)
    assert read_curriculum(tmp_path / "out").stage() == weights_of(found)
    code, out, _ = command(raw, "--weight", "a=b=0.5")
    assert code == 0
    assert "\x1b" not in out
    assert len(out.splitlines()) == len(HOSTILE) + 3
    propose(raw, 8, out=tmp_path / "design")
    with open(tmp_path / "design" / DESIGN, newline="") as file:
        header = next(csv.reader(file))
    assert header == ["proxy_", *sorted(HOSTILE)]
    (tmp_path / "losses.csv").write_text("proxy_,loss\n" + "".join(f"{i},{i}\n" for i in range(1, 9)))
    assert read_proxies(tmp_path / "design" / DESIGN, tmp_path / "losses.csv").sources == tuple(sorted(HOSTILE))


def test_a_column_that_is_not_there_or_too_fine_is_refused(tmp_path, raw):
    with pytest.raises(UsageError, match="did you mean 'source'"):
        mix(raw, column="sources")
    fine = write(tmp_path / "fine.jsonl", [{"text": "a", "source": str(i)} for i in range(1_100)])
    with pytest.raises(UsageError, match="over 1,000 different values"):
        mix(fine)


def test_bad_rows_are_counted(tmp_path):
    raw = write(tmp_path / "raw.jsonl", b'{"text": "aa", "source": "a"}\nnot json\n{"text": "bb", "source": "b"}\n')
    assert mix(raw, on_bad_row="quarantine").n_bad_rows == 1
    with pytest.raises(InputError, match="line 2"):
        mix(raw)
    code, _, err = command(raw, "--on-bad-row", "quarantine")
    assert code == 0
    assert "1 rows could not be read" in err


def test_nothing_to_mix_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to mix"):
        mix(write(tmp_path / "raw.jsonl", [{"text": "", "source": "a"}]))


# ---- of runs


def test_sources_of_a_run_are_those_of_its_raw_files(tmp_path, run):
    of_files = mix(tmp_path / "out-raw", budget="10kB")
    assert mix(run, budget="10kB").as_dict() == of_files.as_dict()


def test_shares_of_the_selected_are_those_of_its_bytes(run):
    sizes: dict[str, int] = {}
    for entry, scored in zip(ledger(run), scores(run).to_pylist(), strict=True):
        assert entry["doc_id"] == scored["doc_id"]
        sizes[scored["source"]] = sizes.get(scored["source"], 0) + entry["kept"] * scored["n_bytes"]
    total = sum(sizes.values())
    assert weights_of(mix(run, by="selected")) == pytest.approx({name: n / total for name, n in sizes.items()})


def test_scores_tilt_raw_by_so_many_nats_towards_the_source_that_scores_high(run):
    found = mix(run, by="scores", max_kl=0.3)
    assert found.names[int(np.argmax(found.scores))] == "maths"
    assert (found.weights * np.log(found.weights / found.natural)).sum() == pytest.approx(0.3, abs=1e-9)
    maths = [(row["score"], row["n_bytes"]) for row in scores(run).to_pylist() if row["source"] == "maths"]
    expected = sum(s * n for s, n in maths) / sum(n for _, n in maths)
    assert weights_of(found)["maths"] == max(found.weights)
    assert found.scores[found.names.index("maths")] == pytest.approx(expected)


def test_cuts_do_not_change_a_mixture_by_scores(tmp_path):
    one, many = (mix(selected(tmp_path, f"run{n}", n), by="scores", max_kl=0.3) for n in (1, 5))
    assert one.weights.tolist() == many.weights.tolist()


def test_a_run_without_what_is_asked_for_is_refused(tmp_path, run):
    with pytest.raises(UsageError, match=r"no column 'licence'.*--per licence"):
        mix(run, column="licence")
    with pytest.raises(UsageError, match="stands alone"):
        mix([run, run])
    two = tmp_path / "two"
    targets = {n: write(tmp_path / f"{n}.jsonl", target_rows()) for n in ("x", "y")}
    settings = {"n_buckets": 500, "separate_targets": True}
    curate.score(tmp_path / "out-raw", target=targets, out=two, settings=settings)
    with pytest.raises(UsageError, match=r"have 2 scores \(score_x, score_y\)"):
        mix(two, by="scores", max_kl=1)
    (run / "ledger.parquet").unlink()
    with pytest.raises(RunError, match="nothing selected there"):
        mix(run, by="selected")


# ---- of curricula


def test_weights_of_the_last_stage_of_a_curriculum_are_taken(tmp_path, raw):
    write_curriculum(tmp_path / "ucb", Curriculum.of([{"books": 1}, {"books": 3, "web": 1}], method="ucb"))
    found = mix(raw, curriculum=tmp_path / "ucb", budget="1kB", max_epochs=2)
    assert weights_of(found) == pytest.approx({"books": 450 / 475, "code": 0.0, "web": 25 / 475})
    alone = mix(curriculum=tmp_path / "ucb")
    assert weights_of(alone) == {"books": 0.75, "web": 0.25}
    assert alone.about["weights_of"] == "documents"


def test_a_mixture_of_documents_is_that_of_bytes_over_the_length_of_documents(tmp_path, raw):
    raw = write(tmp_path / "raw.jsonl", [*made_of({"books": 600, "code": 300}), *made_of({"code": 100}) * 2])
    of_bytes = mix(raw, weights={"code": 0.25}, out=tmp_path / "bytes")
    of_documents = mix(raw, weights={"code": 0.25}, weights_of="documents", out=tmp_path / "documents")
    assert of_documents.weights.tolist() == of_bytes.weights.tolist()
    per_document = {"books": 0.75 / 600, "code": 0.25 / (500 / 3)}
    expected = {name: w / sum(per_document.values()) for name, w in per_document.items()}
    assert read_curriculum(tmp_path / "documents").stage() == pytest.approx(expected)
    for name in ("bytes", "documents"):
        assert read_curriculum(tmp_path / name).about["weights_of"] == name
        again = mix(raw, curriculum=tmp_path / name)
        assert again.weights == pytest.approx(of_bytes.weights)
    code, out, _ = command(raw, "--weights-of", "documents")
    assert code == 0
    assert "of documents" in out


def test_a_curriculum_of_other_sources_is_refused(tmp_path, raw):
    write_curriculum(tmp_path / "ucb", Curriculum.of({"book": 1}, method="ucb"))
    with pytest.raises(UsageError, match="did you mean 'books'"):
        mix(raw, curriculum=tmp_path / "ucb")


def test_a_loop_that_draws_documents_gets_the_text_in_the_proportions_that_were_asked_for(tmp_path):
    raw = write(tmp_path / "raw.jsonl", [*made_of({"books": 900}), *made_of({"code": 90}) * 10])
    mix(raw, weights={"code": 0.3}, weights_of="documents", out=tmp_path / "mixture")
    drawn = CurriculumStream(raw, tmp_path / "mixture", columns=["source"], epochs=200, cache=tmp_path / "cache")
    n_bytes: dict[str, int] = {}
    for document in drawn:
        n_bytes[document["source"]] = n_bytes.get(document["source"], 0) + len(document["text"])
    assert n_bytes["code"] / sum(n_bytes.values()) == pytest.approx(0.3, abs=0.01)


# ---- files and command


def test_what_is_written_is_what_was_found(tmp_path, raw):
    found = mix(raw, temperature=2, budget="3kB", out=tmp_path / "out")
    read = read_curriculum(tmp_path / "out")
    assert read.stage() == weights_of(found) == json.loads((tmp_path / "out" / "weights.json").read_text())
    assert read.about == {
        "method": "mix", "column": "source", "by": "raw", "temperature": 2.0, "budget": "3,000 bytes",
        "weights_of": "bytes",
    }  # fmt: skip
    table = pq.read_table(tmp_path / "out" / "curriculum.parquet")
    assert table.column_names == ["group", "stage", "weight", "raw_share", "raw_bytes", "raw_documents", "epochs"]


def test_the_command_prints_json(raw):
    code, out, _ = command(raw, "--weight", "web=.4", "--budget", "1kB", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["sources"][2] == {
        "source": "web", "weight": 0.4, "raw_share": 0.1, "raw_bytes": 100, "raw_documents": 1, "epochs": 4.0
    }  # fmt: skip
    assert found["about"]["given"] == {"web": 0.4}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name RAW"),
        (("RAW", "--by", "selected"), "--by selected needs the folder of a run"),
        (("RAW", "--by", "scores", "--max-kl", "1"), "--by scores needs the folder of a run"),
        (("RAW", "--by", "scores"), "--by scores and --max-kl go together"),
        (("RAW", "--max-kl", "1"), "--by scores and --max-kl go together"),
        (("RAW", "--max-epochs", "4"), "--max-epochs needs --budget"),
        (("RAW", "--budget", "1kB", "--max-epochs", "0"), "must be above 0"),
        (("RAW", "--budget", "100"), "bytes or tokens"),
        (("RAW", "--temperature", "0"), "--temperature 0: must be above 0"),
        (("RAW", "--rest", "none"), "--rest none needs --weight"),
        (("RAW", "--weight", "web"), "--weight web: must be NAME=NUMBER"),
        (("RAW", "--weight", "web=x"), "--weight web=x: must be NAME=NUMBER"),
        (("--curriculum", "x", "--budget", "1kB"), "--budget needs RAW"),
        (("RAW", "--curriculum", "x", "--proxies", "y", "--losses", "z", "--loss", "l"), "--proxies and --curriculum"),
        (("--curriculum", "x", "--weights-of", "documents"), "--weights-of documents needs RAW"),
        (("RAW", "--risk", "1"), "goes with --proxies"),
        (("--proxies", "x"), "give --losses and --loss too"),
        (("RAW", "--loss", "x"), "give --proxies and --losses too"),
        (("--proxies", "x", "--losses", "y", "--loss", "l", "--temperature", "2"), "leave out --weight"),
        (("RAW", "--design", "20"), "needs --out DIR"),
        (("--design", "20", "--out", "x"), "needs RAW"),
        (("RAW", "--design", "20", "--out", "x", "--weight", "web=1"), "--design goes with"),
        (("RAW", "--design", "2", "--out", "x"), "at least 8 mixtures"),
    ],
)
def test_options_that_do_not_go_together_are_refused_with_those_that_do(raw, words, message):
    code, _, err = command(*(raw if word == "RAW" else word for word in words))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


# ---- a design


def test_a_design_is_of_mixtures_within_the_epochs_that_proxies_are_read_from(tmp_path, raw):
    path, names, mixtures = propose(raw, 40, out=tmp_path / "d", budget="1kB", max_epochs=2)
    np.testing.assert_allclose(mixtures.sum(axis=1), 1, atol=1e-5)
    assert (mixtures <= np.array([1.2, 0.6, 0.2]) + 1e-6).all()
    losses = tmp_path / "losses.csv"
    losses.write_text("proxy,loss\n" + "".join(f"{i},{i / 7}\n" for i in range(40, 0, -1)))
    read = read_proxies(path, losses)
    assert read.sources == names
    np.testing.assert_allclose(read.mixtures, mixtures, atol=1e-5)
    np.testing.assert_allclose(read.losses["loss"], np.arange(1, 41) / 7)


def test_a_design_depends_on_its_seed_alone_and_a_larger_one_begins_alike(tmp_path, raw):
    few, again, many, other = (
        propose(raw, n, out=tmp_path / "d", seed=seed)[2] for n, seed in ((10, 0), (10, 0), (20, 0), (10, 1))
    )
    assert few.tolist() == again.tolist() == many[:10].tolist() != other.tolist()


def test_the_command_says_what_comes_after_a_design(tmp_path, raw):
    code, out, _ = command(raw, "--design", 16, "--out", tmp_path / "d")
    assert code == 0
    assert f"--proxies {tmp_path}/d/mixtures.csv --losses LOSSES" in out


def test_a_curriculum_that_something_else_made_is_not_replaced_unasked(tmp_path):
    raw = write(tmp_path / "raw.jsonl", rows(30))
    ucb(["maths", "news"], out=tmp_path / "out", column="source")
    with pytest.raises(RunError, match="that ucb made; choose another folder or pass --overwrite"):
        mix(raw, out=tmp_path / "out")
    mix(raw, out=tmp_path / "out", overwrite=True)
    mix(raw, out=tmp_path / "out", temperature=2)  # its own are replaced: they follow from the command
    assert read_curriculum(tmp_path / "out").about["temperature"] == 2
    with pytest.raises(InputError, match="curate curriculum gaussian or ucb makes one"):
        update(tmp_path / "out", [])
