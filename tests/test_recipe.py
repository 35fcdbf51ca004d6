"""Recipes: what they refuse and how, that all ways to run one are the same way, and that nothing is done twice."""

import inspect
import json
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import ROOT
from corpora import rows, sharded, target_rows, tree, write
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate import stages
from curate.cli import main
from curate.errors import CurateError, InputError, UsageError
from curate.io.credentials import credentials_in
from curate.recipe import Recipe
from curate.recipe.keys import CLEANING, NOT_PASSED, PASSED_AS, SECTIONS, SELECTING, WEIGHTS, OneOf, Section
from curate.recipe.values import numbers, settings, targets

GOLDEN = ROOT / "tests" / "golden" / "recipes"
SHIPPED = ROOT / "pipelines" / "recipes"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def manifest(out: Path) -> dict[str, Any]:
    return json.loads((out / "manifest.json").read_text())


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder to be in, with a small corpus, a target and text held out."""
    sharded(tmp_path / "raw", rows(60), 3)
    write(tmp_path / "target.jsonl", target_rows())
    write(tmp_path / "heldout.jsonl", target_rows(30))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(**sections: Any) -> dict[str, Any]:
    """A recipe over that corpus."""
    inputs = {"raw": "raw", "target": "target.jsonl"}
    return {
        "out": "out", "inputs": inputs, "score": {"settings": {"n_buckets": 500}}, "draw": {"budget": 20}
    } | sections  # fmt: skip


def saved(recipe: Recipe | dict[str, Any], path: str = "recipe.yaml") -> str:
    made = recipe if isinstance(recipe, Recipe) else Recipe.from_dict(recipe)
    Path(path).write_text(made.as_yaml(), encoding="utf-8")
    return path


# ---- the table


def functions() -> list[tuple[tuple[str, ...], Section]]:
    found: list[tuple[tuple[str, ...], Section]] = []
    for name, section in SECTIONS.items():
        if isinstance(section, OneOf):
            found += [((name, kind), one) for kind, one in section.sections.items()]
        else:
            found.append(((name,), section))
    return found


@pytest.mark.parametrize(("path", "section"), functions(), ids=lambda of: ".".join(of) if isinstance(of, tuple) else "")
def test_every_key_is_an_argument_of_the_function_that_takes_its_section(path, section):
    module, _, name = section.takes.partition(":")
    arguments = dict(inspect.signature(getattr(import_module(module), name)).parameters)
    if name == "mix":
        arguments |= dict.fromkeys(("text_column", "id_column", "on_bad_row"))
    for key, of in section.keys.items():
        if key in NOT_PASSED.get(path[0], ()) or (path[0] == "draw" and key in WEIGHTS):
            continue
        called = PASSED_AS.get((path[-1], key), key)
        assert called in arguments
        usual = of.default_in({})
        if usual is not None and called == key:
            default = arguments[key].default
            assert usual in (default, list(default) if default == () else {})  # or a dictionary of one's own


def test_every_argument_of_select_is_in_a_recipe_or_for_one_call_only():
    keys = {*CLEANING, *(key for name in SELECTING if name not in CLEANING for key in SECTIONS[name].keys)}
    arguments = set(inspect.signature(curate.select).parameters)
    assert arguments - keys == {"out", "name", "weights", "engine_options", "steps", "overwrite", "progress"}


def test_every_option_of_select_is_a_key_of_the_same_name():
    keys = {key for name in SELECTING for key in SECTIONS[name].keys} | {"out", "name", "dedup", "decontaminate"}
    options = {p.name for p in main.commands["select"].params}
    of_a_call = {"targets", "tokenizer", "dry_run", "save_recipe", "overwrite", "quiet", "as_json", "update", "rehash"}
    assert options - keys == of_a_call


# ---- what is refused, and how

GOLDENS = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


def test_every_golden_recipe_has_its_message_and_the_other_way_round():
    assert GOLDENS
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == GOLDENS


@pytest.mark.parametrize("name", GOLDENS)
def test_a_recipe_is_refused_in_one_line_that_says_where_and_how_to_go_on(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(GOLDEN / f"{name}.yaml", tmp_path)
    result = run("run", f"{name}.yaml")
    assert result.stdout == ""
    assert result.stderr == f"curate: {(GOLDEN / f'{name}.txt').read_text()}"
    assert result.stderr.count("\n") == 1
    assert result.exit_code in (1, 2)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfeout", "not UTF-8"),
        (b"out: \x07", "line 1: not YAML"),
        (b'out: "\\UFFFFFFFF"', "not YAML"),
        (b'out: "\\ud800"', "no text"),
        (b"#" * 1_100_000, "are no recipe"),
        (b"[" * 100_000, "brackets within each other"),
        (b"? {a: b}\n: c", "a key must be a word"),
        (b"draw: {seed: " + b"9" * 5000 + b"}", "must be a whole number"),
    ],
)
def test_files_that_are_no_recipes_are_refused(tmp_path, data, message):
    with pytest.raises(CurateError, match=message):
        Recipe.load(write(tmp_path / "recipe.yaml", data))


def test_a_file_that_is_not_there_is_told_of(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        Recipe.load(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a directory"):
        Recipe.load(tmp_path)


def test_what_is_refused_while_it_runs_is_led_by_its_line_too(here):
    words = ("run", saved(small(score={"per": "sorce"})))
    assert run(*words).stderr == (
        "curate: recipe.yaml line 9: no column to draw by called 'sorce'; did you mean 'source'? "
        "(there are: id, path, source, text)\n"
    )


# ---- values


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("draw: {seed: 1e3}", {"seed": 1000}),
        ("draw: {seed: 1_000}", {"seed": 1000}),
        ("draw: {seed: 010}", {"seed": 10}),
        ("draw: {budget: 10%}", {}),
        ("draw: {budget: 10}", {"budget": 10}),
        ("draw: {budget: '10'}", {"budget": 10}),
        ("draw: {budget: 10%, draw: threshold, threshold: 1}", {"budget": "10%", "draw": "threshold", "threshold": 1}),
        ("draw: {threshold: , max_kl: 1}", {"max_kl": 1.0}),
        ("draw: {proportions: {no: 1, 2026: 2}}\nscore: {per: source}", {"proportions": {"no": 1.0, "2026": 2.0}}),
        ("draw:", {}),
    ],
)
def test_values_are_those_of_yaml_1_2_and_defaults_are_left_out(tmp_path, written, read):
    path = write(tmp_path / "recipe.yaml", f"out: o\ninputs: {{raw: r, target: t}}\n{written}".encode())
    assert Recipe.load(path).section("draw") == read


def test_settings_of_fused_scorers_may_be_nested():
    nested = small(score={"method": "dsir+primed", "settings": {"dsir": {"n": 1}, "fusion": "reciprocal"}})
    flat = small(score={"method": "dsir+primed", "settings": {"dsir.n": 1, "fusion": "reciprocal"}})
    assert Recipe.from_dict(nested) == Recipe.from_dict(flat)


def test_how_and_where_a_recipe_runs_are_not_what_it_is_known_by():
    one, two = Recipe.from_dict(small()), Recipe.from_dict(small(out="elsewhere", run={"workers": 1}))
    assert one.digest == two.digest
    assert one != two
    assert one.digest != Recipe.from_dict(small(draw={"seed": 1})).digest


def test_a_step_may_be_switched_on_and_off_with_true_and_false():
    assert Recipe.from_dict(small(report=True)) == Recipe.from_dict(small(report={}))
    assert Recipe.from_dict(small(report=False)) == Recipe.from_dict(small())


# ---- the environment


def test_variables_are_taken_from_the_environment(tmp_path):
    text = "out: ${ROOT}/x$$y\ninputs: {raw: '${RAW:-raw}', target: t}\ndraw: {seed: '${SEED}', budget: '${B:-5%}'}\n"
    found = Recipe.load(write(tmp_path / "r.yaml", text.encode()), environ={"ROOT": "/data", "SEED": "7", "RAW": ""})
    assert found.as_dict() == {
        "out": "/data/x$y",
        "inputs": {"raw": ["raw"], "target": ["t"]},
        "draw": {"budget": "5%", "seed": 7},
    }
    assert type(found.section("draw")["budget"]) is type(found.as_dict()["out"]) is str


def test_keys_are_never_taken_from_the_environment(tmp_path):
    text = "out: o\ninputs: {raw: r, target: {'${NAME}': t}}"
    found = Recipe.load(write(tmp_path / "r.yaml", text.encode()), environ={"NAME": "x"})
    assert found.section("inputs")["target"] == {"${NAME}": ["t"]}


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY",
        "apikey",
        "HF_TOKEN",
        "DB_PASSWORD",
        "MY_CREDENTIALS",
        "client_secret",
        "DB_PASS",
        "HF_PAT",
        "AUTH",
        "DB_PWD",
    ],
)
def test_secrets_are_refused_set_or_not_and_with_a_default(tmp_path, name):
    for text in (f"out: ${{{name}}}", f"out: x${{{name}:-none}}"):
        with pytest.raises(UsageError, match="a manifest would show them") as error:
            Recipe.load(write(tmp_path / "r.yaml", text.encode()), environ={name: "hunter2"})
        assert "hunter2" not in str(error.value)


def test_a_tokenizer_is_no_token(tmp_path):
    text = "out: '${TOKENIZER}'\ninputs: {raw: r, target: t}"
    assert Recipe.load(write(tmp_path / "r.yaml", text.encode()), environ={"TOKENIZER": "m"}).as_dict()["out"] == "m"


@pytest.mark.parametrize("name", ["PWD", "PATH_TO_RAW", "AUTHOR", "COMPASS", "BYPASS_DIR"])
def test_a_name_with_the_letters_of_a_secret_in_it_is_none(tmp_path, name):
    text = f"out: '${{{name}}}'\ninputs: {{raw: r, target: t}}"
    assert Recipe.load(write(tmp_path / "r.yaml", text.encode()), environ={name: "m"}).as_dict()["out"] == "m"


SECRET_URLS = (
    "s3://AKIA:hunter2/x@bucket/raw", "s3://AKIA:a/hunter2@bucket", "https://user:p@hunter2@host/x", "https://hunter2@host/f",
    "https://h/x?api_key=hunter2", "https://h/f?sv=1&sig=hunter2", "https://h/f?a=1;token=hunter2", "https://h/f?key=hunter2",
    "https://h/x?X-Amz-Credential=hunter2", "https://h/x?accessToken=hunter2", "simplecache::s3://k:hunter2@b/x",
)  # fmt: skip
PLAIN_URLS = (
    "abfss://c@a.dfs.core.windows.net/x", "hf://datasets/o/n@main/x", "s3://b/a@b:c", "http://h:8080/a@b", "s3://b/x?.jsonl",
    "http://[::1]:80/a@b", "https://h/x?page=2&tokenizer=m", "a:b@c", "sftp://me@h/x",
)  # fmt: skip


@pytest.mark.parametrize("url", SECRET_URLS)
def test_urls_that_let_in_who_reads_them_are_refused_however_they_come(tmp_path, url):
    ways = (
        lambda: Recipe.from_dict({"out": "o", "inputs": {"raw": url, "target": "t"}}),
        lambda: curate.select([url], target="t", out=tmp_path / "o"),
        lambda: curate.select("raw", target={"x": [url]}, out=tmp_path / "o"),
        lambda: curate.select("raw", target="t", domains=url, out=tmp_path / "o"),
        lambda: stages.prepare(url, target="t", out=tmp_path / "o"),
    )
    for way in ways:
        with pytest.raises(UsageError, match="credentials are no part of a recipe") as error:
            way()
        assert "hunter2" not in str(error.value)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("url", PLAIN_URLS)
def test_urls_that_let_nobody_in_are_not_refused(url):
    assert credentials_in(url) == ""


def test_an_update_refuses_a_url_with_a_password_and_leaves_the_run_as_it_is(tmp_path):
    raw, target = write(tmp_path / "raw" / "a.jsonl", rows(30)), write(tmp_path / "t.jsonl", target_rows())
    out = curate.select(raw.parent, target=target, out=tmp_path / "out", settings={"n_buckets": 500}).out
    before = tree(out)
    with pytest.raises(UsageError, match="raw: a URL with a password"):
        curate.update(out, "s3://me:hunter2@host/raw")
    assert tree(out) == before


def test_a_url_with_a_password_does_not_come_in_by_a_variable_or_an_override(here):
    url = "s3://me:hunter2@host/raw"
    (here / "r.yaml").write_text("out: o\ninputs: {raw: '${WHERE:-raw}', target: t}")
    for overrides, environ in (((), {"WHERE": url}), ((f"inputs.raw={url}",), {})):
        with pytest.raises(UsageError, match="a URL with a password") as error:
            Recipe.load("r.yaml", overrides, environ)
        assert "hunter2" not in str(error.value).removeprefix(f"inputs.raw={url}")


# ---- overrides


def test_overrides_replace_values_by_their_dotted_keys(here):
    path = saved(small())
    found = Recipe.load(
        path,
        [
            "draw.budget=5%",
            "score.settings.n_buckets=20000",
            "score.settings.hash=fast",
            "out=elsewhere",
            "inputs.raw=[a, b]",
            "draw.draw=topk",
            "draw.draw=",
            "evaluate={heldout: heldout.jsonl, seeds: 3}",
            "evaluate.seeds=4",
            "report=true",
            "curriculum.offline.bins=3",
        ],
    )
    assert found.as_dict() == {
        "out": "elsewhere",
        "inputs": {"raw": ["a", "b"], "target": ["target.jsonl"]},
        "score": {"settings": {"n_buckets": 20000, "hash": "fast"}},
        "draw": {"budget": "5%"},
        "evaluate": {"heldout": ["heldout.jsonl"], "seeds": 4},
        "curriculum": {"offline": {"bins": 3}},
        "report": {},
    } | {"draw": {"budget": "5%"}}
    assert Recipe.load(path, {"draw.seed": 3}) == Recipe.from_dict(small(), ["draw.seed=3"])


def test_overrides_reach_names_with_dots_and_settings_that_are_nested():
    recipe = small(
        inputs={"raw": "raw", "target": {"a.b": "x"}},
        score={"method": "dsir+primed", "settings": {"dsir": {"n": 1}}, "per": "source"},
    )
    found = Recipe.from_dict(
        recipe, ["inputs.target.a.b=y", "inputs.target.c=z", "score.settings.dsir.n=2", "draw.proportions.x.y=0.5"]
    )
    assert found.section("inputs")["target"] == {"a.b": ["y"], "c": ["z"]}
    assert found.section("score")["settings"] == {"dsir.n": 2}
    assert found.section("draw")["proportions"] == {"x.y": 0.5}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("draw.buget=5%", r"^draw\.buget=5%: no key 'buget' in draw; did you mean 'budget'\?"),
        ("drw.budget=5%", r"no key 'drw' in a recipe; did you mean 'draw'\?"),
        ("budget=5%", r"did you mean 'draw\.budget'\?"),
        ("draw.seed=x", r"^draw\.seed=x: draw\.seed 'x': must be a whole number"),
        ("draw.budget.x=5%", "draw.budget has nothing below it"),
        ("inputs.target.name=x", "inputs.target has no names where it stands"),
        ("draw", "must be KEY=VALUE"),
        ("=5", "must be KEY=VALUE"),
        ("inputs.raw=[a", "not YAML"),
        ("out=", "no out"),
        ("", "must be KEY=VALUE"),
        ("...=1", "no key"),
    ],
)
def test_an_override_that_makes_no_sense_says_so(override, message):
    with pytest.raises(CurateError, match=message):
        Recipe.from_dict(small(), [override])


# ---- one way to run


def test_a_recipe_and_the_same_command_make_the_same_bytes(here):
    words = ("--target", "target.jsonl", "--budget", "20", "--set", "n_buckets=500", "--draw", "topk", "--name", "x")
    more = ("--per", "source", "--proportion", "maths=2", "--proportion", "news=1", "--holdout", "0.2")
    assert run("select", "raw", *words, *more, "--out", "a/out").exit_code == 0
    recipe = small(
        name="x",
        out="b/out",
        inputs={"raw": "raw", "target": "target.jsonl", "holdout": 0.2},
        score={"settings": {"n_buckets": 500}, "per": "source"},
        draw={"budget": 20, "draw": "topk", "proportions": {"maths": 2, "news": 1}},
        write={"format": "parquet", "shard_size": "128MB"},
    )
    assert run("run", saved(recipe)).exit_code == 0
    assert tree(here / "a" / "out") == tree(here / "b" / "out")
    arguments = Recipe.from_dict(recipe).select_arguments()
    curate.select(**arguments | {"out": "c/out"})
    assert tree(here / "a" / "out") == tree(here / "c" / "out")


COMMANDS = [
    "",
    "--budget 3kB --seed 7 --draw topk",
    "--draw threshold --threshold -30.5",
    "--budget 123.5-tokens",
    "--max-kl 0.5 --draw pivotal --budget 15",
    "--set compat=true --set min_tokens=20 --budget 30%",
    "--method dsir+zipfit --set dsir.n=1 --set zipfit.max_target_texts=4 --set fusion=reciprocal --budget 9",
    "--per source --proportion maths=2 --proportion news=0.5 --format jsonl.zst --shard-size 1500 --name 'it''s $HOME'",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_the_recipe_that_select_saves_and_the_one_in_the_manifest_make_the_same_run(here, words):
    command = ["select", "raw", "--target", "a=target.jsonl", *shlex.split(words), "--out", "one"]
    assert run(*command, "--save-recipe", "kept/recipe.yaml").exit_code == 0
    once = manifest(here / "one")["recipe_sha256"]
    assert run("run", "kept/recipe.yaml", "out=two").exit_code == 0
    assert run("run", "one/manifest.json", "out=three").exit_code == 0
    assert manifest(here / "two")["recipe_sha256"] == manifest(here / "three")["recipe_sha256"] == once
    assert tree(here / "one") == tree(here / "two") == tree(here / "three")
    of_manifest = Recipe.of_manifest(manifest(here / "one"), out="one")
    assert Recipe.load("kept/recipe.yaml").section("score") == of_manifest.section("score")
    assert of_manifest.section("draw").get("draw") == Recipe.load("kept/recipe.yaml").section("draw").get("draw")
    done = of_manifest.run()
    assert done.seconds == {}


def test_saving_writes_the_recipe_of_a_dry_run_and_replaces_nothing_unasked(here):
    command = ("select", "raw", "--target", "target.jsonl", "--out", "out", "--save-recipe", "r.yaml", "--dry-run")
    assert run(*command).exit_code == 0
    assert not (here / "out").exists()
    assert run(*command).exit_code == 0
    refused = run(*command, "--budget", "5%")
    assert (refused.exit_code, "--overwrite" in refused.stderr) == (2, True)
    assert run(*command, "--budget", "5%", "--overwrite").exit_code == 0
    assert Recipe.load("r.yaml").section("draw") == {"budget": "5%"}


def test_a_manifest_of_a_newer_version_is_refused(here):
    Recipe.from_dict(small()).run()
    found = manifest(here / "out")
    found["recipe"]["paraphrase"] = {}
    with pytest.raises(InputError, match="made with paraphrase"):
        Recipe.of_manifest(found)
    with pytest.raises(InputError, match="not the manifest of a run"):
        Recipe.of_manifest({"recipe_sha256": "x"})


# ---- more than a selection

EVALUATED = {"evaluate": {"heldout": "heldout.jsonl", "seeds": 2}}


def test_steps_are_done_once_and_the_manifest_holds_them(here):
    pytest.importorskip("pyppmd", reason="the extra evaluate is not installed")
    recipe = Recipe.from_dict(
        small(**EVALUATED, curriculum={"offline": {"difficulty": "length", "bins": 2}}, report={"format": "md"})
    )
    first = recipe.run()
    assert first.evidence is not None
    assert first.selection is not None
    assert first.curriculum.out == first.curriculum_out == Path("out/curriculum")
    assert first.report == Path("out/report.md")
    assert set(first.seconds) == {"select", "evaluate", "curriculum", "report"}
    assert manifest(here / "out")["steps"] == recipe.steps
    before = tree(here / "out"), {p: p.stat().st_mtime_ns for p in (here / "out").glob("*.*")}
    again = recipe.run()
    assert again.evidence == first.evidence
    assert again.seconds["evaluate"] == again.seconds["report"] == 0
    assert (tree(here / "out"), {p: p.stat().st_mtime_ns for p in (here / "out").glob("*.*")}) == before
    assert Recipe.load("out/manifest.json").steps == recipe.steps
    assert curate.verify("out").ok
    assert "curriculum" in first.report.read_text().lower()


def test_what_changed_is_done_again(here):
    pytest.importorskip("pyppmd", reason="the extra evaluate is not installed")
    recipe = Recipe.from_dict(small(**EVALUATED, report={"format": "json"}))
    recipe.run()
    write(here / "heldout.jsonl", target_rows(25))
    again = recipe.run()
    assert again.seconds["evaluate"] > 0 < again.seconds["report"]
    (here / "out" / "report.json").write_text("changed by hand")
    assert recipe.run().seconds["report"] > 0
    assert json.loads((here / "out" / "report.json").read_text())


@pytest.mark.parametrize("victim", ["curate.evidence.evaluate", "curate.report.write.report"])
def test_a_recipe_that_is_killed_goes_on_with_the_step_that_it_was_at(here, monkeypatch, victim):
    pytest.importorskip("pyppmd", reason="the extra evaluate is not installed")
    recipe = Recipe.from_dict(small(**EVALUATED, report={"format": "md"}))

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(victim, killed)
        with pytest.raises(KeyboardInterrupt):
            recipe.run()
    before = tree(here / "out")
    done = recipe.run()
    assert "select" not in done.seconds
    assert done.seconds["report"] > 0
    assert (done.seconds["evaluate"] == 0) == ("report" in victim)
    after = tree(here / "out")
    assert {name: after[name] for name in before if name not in ("steps.json", "README.md", "croissant.json")} == {
        name: of for name, of in before.items() if name not in ("steps.json", "README.md", "croissant.json")
    }


def test_a_selection_that_was_there_gets_the_steps_of_the_recipe(here):
    Recipe.from_dict(small()).run()
    before = manifest(here / "out")
    assert "steps" not in before
    Recipe.from_dict(small(report={"format": "md"})).run()
    assert manifest(here / "out") == before | {"steps": {"report": {"format": "md"}}}
    Recipe.from_dict(small()).run()
    assert manifest(here / "out") == before  # what another recipe did with it is not what this one says


def test_another_recipe_in_the_folder_is_refused_and_overwriting_takes_all_away(here):
    Recipe.from_dict(small(curriculum={"offline": {"difficulty": "length"}}, report={"format": "md"})).run()
    assert (here / "out" / "steps.json").exists()
    other = small(draw={"budget": 5})
    refused = run("run", saved(other))
    assert (refused.exit_code, "--overwrite" in refused.stderr) == (1, True)
    assert run("run", saved(other), "--overwrite").exit_code == 0
    assert not any((here / "out" / name).exists() for name in ("curriculum", "report.md", "steps.json"))


def test_a_verdict_that_was_not_asked_for_is_exit_3_after_all_steps(here):
    pytest.importorskip("pyppmd", reason="the extra evaluate is not installed")
    asked = {"evaluate": EVALUATED["evaluate"] | {"fail_unless": "better"}, "report": {"format": "md"}}
    at_random = small(**asked, draw={"budget": 20, "draw": "uniform"})
    result = run("run", saved(at_random))
    assert result.exit_code == 3
    assert (here / "out" / "report.md").exists()
    assert not Recipe.from_dict(at_random).run().passed


@pytest.mark.parametrize(
    "kind",
    [
        {"ucb": {"raw": "raw", "column": "source"}},
        {"ucb": {"groups": ["a", "b"]}},
        {"gaussian": {"raw": "raw", "column": "source"}},
        {"mix": {"raw": "raw", "weights": {"maths": 0.5}}},
        {"offline": {"raw": "raw", "difficulty": "length"}},
    ],
    ids=lambda kind: next(iter(kind)),
)
def test_a_recipe_may_have_a_curriculum_without_a_selection(here, kind):
    recipe = Recipe.from_dict({"out": "course", "curriculum": kind})
    result = run("run", saved(recipe))
    assert result.exit_code == 0, result.stderr
    assert (here / "course" / "curriculum.parquet").exists()
    before = tree(here / "course")
    assert recipe.run().selection is None
    assert tree(here / "course") == before
    with pytest.raises(UsageError, match="no selection"):
        recipe.select_arguments()


def test_mixing_after_a_selection_is_over_its_scores(here):
    made = Recipe.from_dict(small(curriculum={"mix": {"by": "scores", "max_kl": 0.5}})).run()
    assert set(made.curriculum.names) == {"maths", "cooking", "news"}
    assert made.curriculum.scores is not None


# ---- the recipes that come with the repository


def shipped() -> list[Path]:
    return sorted(SHIPPED.glob("*.yaml"))


@pytest.fixture
def at_root(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    return tmp_path / "out"


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_every_recipe_in_pipelines_runs_on_the_samples(path, at_root):
    if "evaluate" in path.read_text():
        pytest.importorskip("pyppmd", reason="the extra evaluate is not installed")
        pytest.importorskip("vl_convert", reason="the extra report is not installed")
    result = run("run", path, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["out"] == str(at_root / path.stem)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(path, at_root):
    if "evaluate" in path.read_text():
        pytest.importorskip("pyppmd", reason="the extra evaluate is not installed")
        pytest.importorskip("vl_convert", reason="the extra report is not installed")
    result = run("run", path, "--dry-run")
    assert result.exit_code == 0, result.stderr
    recipe = Recipe.load(path)
    done = {line.split()[0] for line in result.stdout.splitlines() if line.split()}
    assert done >= set(recipe.steps)
    assert ("free disk" in result.stdout) == recipe.selects
    assert not at_root.exists()
    assert json.loads(run("run", path, "--dry-run", "--json").stdout)["steps"]


def test_the_example_in_the_help_runs(at_root):
    example = main.commands["run"].help.split("Example:")[1].strip().splitlines()[0]
    assert run(*shlex.split(example)[1:]).exit_code == 0
    assert not at_root.exists()


# ---- any recipe, any text

names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
words = st.one_of(
    names, st.sampled_from(["yes", "10", "1e6", ".nan", "null", "~", "$", "${X}", "$$", "- a", "# b", ""])
)
nonempty = words.filter(bool)
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
single = st.one_of(words, st.integers(-(2**60), 2**60), finite, st.booleans(), st.none())
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "text": words,
    "path": nonempty,
    "paths": st.lists(nonempty, min_size=1, max_size=3),
    "texts": st.lists(words, max_size=3),
    "whole": st.integers(-(2**63) + 1, 2**63 - 1),
    "number": finite,
    "flag": st.booleans(),
    "amount": st.one_of(st.integers(1, 10**9), st.sampled_from(["10%", "5%", "3kB", "2B-tokens"])),
    "targets": st.one_of(
        st.lists(nonempty, min_size=1, max_size=3),
        st.dictionaries(names, st.lists(nonempty, min_size=1, max_size=2), min_size=1, max_size=2),
    ),
    "numbers": st.dictionaries(names, finite, max_size=3),
    "named_texts": st.dictionaries(names, words, max_size=3),
    "share_or_shares": st.one_of(finite, st.dictionaries(names, finite, max_size=3)),
    "settings": st.dictionaries(names, st.one_of(single, st.lists(single, max_size=3)), max_size=3),
}


def of_kind(kind: Any) -> st.SearchStrategy[Any]:
    if kind.__name__ != "one_of":
        return KINDS[kind.__name__]
    return st.sampled_from(inspect.getclosurevars(kind).nonlocals["names"])


def section(of: Section) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: of_kind(key.kind) for name, key in of.keys.items()})


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"out": draw(nonempty), "name": draw(words)}
    for name, of in SECTIONS.items():
        if draw(st.booleans()):
            if isinstance(of, OneOf):
                kind = draw(st.sampled_from(sorted(of.sections)))
                found[name] = {kind: draw(section(of.sections[kind]))}
            else:
                found[name] = draw(section(of))
    found["inputs"] = {"raw": draw(KINDS["paths"])} | found.get("inputs", {})
    return found


def allowed(values: dict[str, Any]) -> Recipe | None:
    try:
        return Recipe.from_dict(values)
    except CurateError:
        return None  # such as a name that is a URL with a password


@given(recipes())
def test_a_recipe_is_its_dictionary_and_its_file(tmp_path_factory, values):
    recipe = allowed(values)
    if recipe is None:
        return
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(recipe.as_yaml(), encoding="utf-8", newline="")
    loaded = Recipe.load(path, environ={})
    assert loaded == recipe
    assert (loaded.digest, loaded.as_yaml()) == (recipe.digest, recipe.as_yaml())


pieces = st.sampled_from(
    ["out: o\n", "inputs:\n", "  raw: r\n", "inputs: {raw: r}\n", "draw: {", "budget: ", "10%", "}\n", "score:\n",
     "  settings: {a: {b: 1}}\n", "- ", "[", "]", "{", "}", ": ", "?", "&a ", "*a", "!!str ", "'", '"', "|\n", "\t",
     "${", "}", "$", "evaluate:\n", "curriculum: {ucb: {}}\n", "---\n", "...\n", "%YAML 3.0\n", "<<: ", "#", "\n"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join)))
def test_any_text_is_a_recipe_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any-text.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = Recipe.load(path, environ={})
    except CurateError:
        return
    assert isinstance(found, Recipe)


json_values = st.recursive(
    single, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


@given(st.fixed_dictionaries({"out": json_values}, optional=dict.fromkeys(SECTIONS, json_values)), st.lists(st.text()))
def test_any_values_and_overrides_are_a_recipe_or_refused(values, overrides):
    try:
        Recipe.from_dict(values, overrides)
    except CurateError:
        return


def test_kinds_with_names_below_them_are_the_only_ones_that_overrides_go_below():
    found = {key.kind for _, of in functions() for key in of.keys.values()}
    assert {targets, numbers, settings} <= found


# ---- results at a URL


def test_a_recipe_runs_on_a_url_all_of_its_steps_and_none_twice(here):
    out = f"memory://recipes/{here.name}/run"
    values = small() | {"out": out, "evaluate": {"heldout": "heldout.jsonl", "seeds": 2}, "report": {"format": "json"}}
    values["curriculum"] = {"offline": {"out": str(here / "course"), "bins": 2, "stages": 2}}
    recipe = Recipe.from_dict(values)
    assert f"report      {out}/report.json" in recipe.plan().as_text()
    done = recipe.run()
    assert (str(done.out), str(done.report)) == (out, f"{out}/report.json")
    assert done.report.is_file()
    assert (done.out / "evidence.json").is_file()
    assert (here / "course" / "curriculum.parquet").is_file()
    assert not list(here.glob("memory*"))
    again = recipe.run()
    assert (again.seconds["evaluate"], again.seconds["report"]) == (0.0, 0.0)


def test_a_curriculum_that_follows_training_is_not_kept_at_a_url(here):
    values = small() | {"out": "memory://recipes/refused", "curriculum": {"offline": {"bins": 2}}}
    with pytest.raises(
        UsageError, match=r"curriculum.offline: cannot be kept at memory://recipes/refused; name a local"
    ):
        Recipe.from_dict(values).check()
