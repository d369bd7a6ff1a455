"""Crafts on their own, from Python and from the command line: audit, evaluate, compare."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import postgrad
from postgrad.doctor import examine
from postgrad.report.evidence import gather
from shared_memory.database import Database
from shared_memory.errors import BadInput, Conflict
from shared_memory.goal_reading import read_goal
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import COMMAND, Cli, cli, environment

__all__ = ["cli", "environment"]

Recipe = Callable[..., None]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A CSV of 40 questions with their answers."""
    path = tmp_path / "sums.csv"
    path.write_text("question,answer\n" + "".join(f"What is {n} + {n}?,{2 * n}\n" for n in range(40)))
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command with nothing replaced."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)


# Audit


def test_audit_tells_what_is_wrong_with_rows(questions: Path) -> None:
    questions.write_text(questions.read_text() + "What is 1 + 1?,2\n")

    found = postgrad.audit(questions)

    assert (found["rows"], found["columns"], found["verdict"]) == (41, ["question", "answer"], "fixable")
    assert found["methods"] == ["sft", "grpo"]
    assert found["duplicates"]["exact"] == 1
    assert [finding["kind"] for finding in found["findings"]] == ["exact_duplicates"]


def test_audit_fails_a_script_only_on_the_severity_that_it_asks_for(cli: Cli, questions: Path) -> None:
    questions.write_text(questions.read_text() + "What is 1 + 1?,2\n")

    assert cli("audit", questions).returncode == 0
    assert cli("audit", questions, "--fail-on", "error").returncode == 0
    failed = cli("audit", questions, "--fail-on", "warning", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["verdict"] == "fixable"
    assert "exact duplicates" in cli("audit", questions).stdout


def test_audit_of_a_missing_file_is_one_line(cli: Cli) -> None:
    done = cli("audit", "nothing.csv")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "does not exist" in done.stderr


def test_audit_of_another_encoding_asks_for_utf_8(tmp_path: Path) -> None:
    for name, row in (("latin.csv", "question,answer\nQué?,Café\n"), ("latin.jsonl", '{"question": "Qué?"}\n')):
        path = tmp_path / name
        path.write_bytes(row.encode("latin-1"))
        with pytest.raises(BadInput, match="save the file as UTF-8"):
            postgrad.audit(path)


# Goal files and the machine


def test_init_names_files_as_they_are_seen_from_the_goal_file(cli: Cli, tmp_path: Path) -> None:
    for folder in ("data", "sub/model", "tiny"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/faq.csv").write_text("question,answer\n")

    done = cli("init", "sub/goal.toml", "--text", "t", "--data", "data/faq.csv", "--base-model", "tiny")
    goal = read_goal(tmp_path / "sub/goal.toml")
    assert (goal.data.train, goal.base_model) == ((str(tmp_path / "data/faq.csv"),), str(tmp_path / "tiny"))
    assert "does not exist" not in done.stderr

    done = cli("init", "b.toml", "--text", "t", "--data", "data/faq.csv", "--data", "no.csv", "--base-model", "./no")
    assert 'train = ["data/faq.csv", "no.csv"]' in (tmp_path / "b.toml").read_text()
    assert "note: no.csv does not exist" in done.stderr
    assert "note: ./no does not exist" in done.stderr


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[benchmark]\npath = "b.csv"\n', r"write \[\[benchmark\]\] with two brackets"),
        ('[run]\nreport_to = "none"\n', r'write a list: \["trackio"\]'),
        ('[data]\ntrain = "a.csv"\n', r'write a list: \["a.csv"\]'),
    ],
)
def test_a_single_value_for_a_list_is_told_how_to_be_written(tmp_path: Path, toml: str, said: str) -> None:
    path = tmp_path / "goal.toml"
    path.write_text(f'text = "t"\n{toml}')
    with pytest.raises(BadInput, match=said):
        read_goal(path)


def test_a_goal_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "goal.toml"
    path.write_text('text = "t"\n', encoding="utf-8-sig")
    assert read_goal(path).text == "t"


def test_doctor_on_a_read_only_home_leaves_the_database_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    settings.database.mkdir(parents=True)  # what cannot be opened, whoever tries
    real = os.access
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != settings.home and real(path, mode))
    checks = {check["name"]: check for check in examine(settings)}
    for name in ("home", "database"):
        assert checks[name]["advice"] == "make the home writable, or set POSTGRAD_HOME to a folder you may write"


def test_the_version_is_told() -> None:
    assert command("--version").stdout == f"postgrad {postgrad.__version__}\n"


# Evaluate


@pytest.mark.usefixtures("noop_jobs")
def test_evaluate_scores_all_items_through_the_gate(tiny_model: Path, make_goal: MakeGoal, settings: Settings) -> None:
    benchmark = make_goal().with_name("physics.jsonl")
    asked: list[str] = []

    def decide(requests: list[postgrad.Request]) -> bool:
        asked.extend(request["purpose"] for request in requests)
        return True

    scored = postgrad.evaluate(tiny_model, benchmark, max_tokens=16, decide=decide)

    assert asked == ["evaluation"]
    assert (scored["benchmark"], scored["n"], scored["unit"], scored["epochs"]) == ("physics", 50, "fraction", 1)
    records = [json.loads(line) for line in Path(scored["items"]).read_text().splitlines()]
    assert scored["score"] == pytest.approx(sum(record["score"] for record in records) / 50)
    assert 0 < scored["stderr"] < 0.1
    evidence = gather(settings, Database.open(settings.database), scored["run_id"])
    assert scored["settings_digest"] in {result.settings_digest for result in evidence.results.values()}
    assert evidence.row.status == "succeeded"


@pytest.mark.usefixtures("noop_jobs")
def test_the_error_of_a_score_is_that_of_its_items_however_often_each_is_asked(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [
        {"question": f"What is {n} + 1?", "answer": str(n + 1), "category": "even" if n % 2 == 0 else "odd",
         "cluster": f"page {n // 4}"}
        for n in range(40)
    ]  # fmt: skip
    sums = tmp_path / "sums.jsonl"
    sums.write_text("".join(json.dumps(row) + "\n" for row in rows))

    scored = postgrad.evaluate(tiny_model, sums, epochs=3, limit=32, approve="auto")

    means: dict[str, list[float]] = {}
    clusters: dict[str, str] = {}
    for line in Path(scored["items"]).read_text().splitlines():
        row = json.loads(line)
        means.setdefault(row["id"], []).append(row["score"])
        clusters[row["id"]] = row["cluster"]
    items = {name: sum(scores) / 3 for name, scores in means.items()}
    mean = sum(items.values()) / 32
    # [Miller, arXiv 2411.00640, equation 4]: the squared sums of each cluster's residuals.
    residuals = {page: sum(items[n] - mean for n in items if clusters[n] == page) for page in set(clusters.values())}
    assert (scored["n"], scored["epochs"], scored["clusters"]) == (32, 3, len(residuals))
    assert scored["score"] == pytest.approx(mean)
    assert scored["stderr"] == pytest.approx(sum(each**2 for each in residuals.values()) ** 0.5 / 32, rel=0.1)
    assert sum(each["n"] for each in scored["by_part"].values()) == 32
    assert sum(each["n"] for each in scored["by_category"].values()) == 32
    assert scored["by_category"].keys() == {"even", "odd"}


@pytest.mark.usefixtures("noop_jobs")
def test_evaluate_takes_any_number_of_items_of_any_format(tiny_model: Path, questions: Path) -> None:
    questions.write_text("".join(questions.read_text().splitlines(keepends=True)[:4]))

    assert postgrad.evaluate(tiny_model, questions, approve="auto")["n"] == 3
    assert postgrad.evaluate(tiny_model, questions, metric="loss", approve="auto")["unit"] == "nats"


@pytest.mark.usefixtures("noop_jobs")
def test_an_evaluation_that_nobody_approves_says_how_to_go_on(tiny_model: Path, questions: Path) -> None:
    with pytest.raises(Conflict, match=r"waits for approval; give `decide`"):
        postgrad.evaluate(tiny_model, questions)
    with pytest.raises(postgrad.PostgradError, match="there is no score"):
        postgrad.evaluate(tiny_model, questions, decide=lambda requests: False)


@pytest.mark.slow
def test_eval_on_the_command_line(cli: Cli, tiny_model: Path, questions: Path) -> None:
    done = cli("eval", tiny_model, "--benchmark", questions, "--approve", "auto", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 40

    table = cli("eval", tiny_model, "--benchmark", questions, "--approve", "auto", "--epochs", 2, "--limit", 30)
    assert "on 30 items of sums, each asked 2 times" in table.stdout

    parked = cli("eval", tiny_model, "--benchmark", questions, "--json")
    assert parked.returncode == 3
    waiting = json.loads(parked.stdout)
    assert waiting == {"run_id": waiting["run_id"], "status": "waiting"}
    resumed = f"postgrad approve {waiting['run_id']}, then postgrad eval --resume {waiting['run_id']}"
    assert resumed in parked.stderr
    approved = cli("approve", waiting["run_id"])
    assert "The base model was scored; the goal asks for no experiment." in approved.stdout
    assert "No improvement" not in approved.stdout
    assert json.loads(cli("eval", "--resume", waiting["run_id"], "--json").stdout)["n"] == 40
    assert cli("eval", tiny_model).returncode == 2, "there is no benchmark"
    assert cli("eval", tiny_model, "--benchmark", "absent.csv").returncode == 2


# Compare


@pytest.fixture
def better_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that the stand-in evaluation scores at 60 %."""
    folder = tmp_path / "better"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "quality.json").write_text('{"quality": 0.6}')
    return folder


@pytest.mark.usefixtures("noop_jobs")
def test_compare_pairs_two_evaluations_item_by_item(tiny_model: Path, better_model: Path, questions: Path) -> None:
    a = postgrad.evaluate(tiny_model, questions, approve="auto")
    b = postgrad.evaluate(better_model, questions, approve="auto")

    compared = postgrad.compare(a["run_id"], "last")

    assert (compared["a"], compared["b"]) == (f"{a['run_id']}/baseline", f"{b['run_id']}/baseline")
    assert (compared["score_a"], compared["score_b"]) == pytest.approx((a["score"], b["score"]))
    assert compared["delta"] == pytest.approx(b["score"] - a["score"])
    assert compared["n"] == 40
    assert compared["ci_low"] > 0
    assert f"{compared['b']} is better than {compared['a']} on 40 items of sums" in compared["sentence"]
    reverse = postgrad.compare("last", a["run_id"])
    assert reverse["delta"] == pytest.approx(-compared["delta"])
    assert "is worse than" in reverse["sentence"]
    assert postgrad.compare(a["items"], b["items"]) == compared


@pytest.mark.usefixtures("noop_jobs")
def test_a_lower_loss_is_better(tiny_model: Path, better_model: Path, questions: Path) -> None:
    a = postgrad.evaluate(tiny_model, questions, metric="loss", approve="auto")
    postgrad.evaluate(better_model, questions, metric="loss", approve="auto")

    compared = postgrad.compare(a["run_id"], "last")

    assert compared["delta"] == pytest.approx(-0.4)
    assert "is better than" in compared["sentence"]
    assert "1.400 nats a token against 1.800 nats a token" in compared["sentence"]


@pytest.mark.usefixtures("noop_jobs")
def test_compare_refuses_what_was_measured_in_another_way(tiny_model: Path, questions: Path) -> None:
    first = postgrad.evaluate(tiny_model, questions, approve="auto")
    postgrad.evaluate(tiny_model, questions, approve="auto", max_tokens=32)
    with pytest.raises(BadInput, match="measured on sums with different settings"):
        postgrad.compare(first["run_id"], "last")

    other = questions.with_name("other.csv")
    other.write_text(questions.read_text())
    postgrad.evaluate(tiny_model, other, approve="auto")
    with pytest.raises(BadInput, match=r"scored on sums, .* on other"):
        postgrad.compare(first["run_id"], "last")


@pytest.mark.usefixtures("noop_jobs")
def test_an_experiment_is_compared_on_items_that_did_not_choose_it(make_goal: MakeGoal, recipe: Recipe) -> None:
    recipe()
    run = postgrad.run(make_goal(experiments=1))

    compared = postgrad.compare("last/baseline", "last")

    claim = run["champion"]["improvement"]["physics"]
    assert (compared["n"], compared["b"]) == (25, f"{run['run_id']}/e1")
    assert {key: compared[key] for key in ("delta", "ci_low", "ci_high", "p_value")} == {
        key: claim[key] for key in ("delta", "ci_low", "ci_high", "p_value")
    }
    with pytest.raises(BadInput, match=r"no score of `e9`; it has those of baseline, e1"):
        postgrad.compare("last", "last/e9")


def records(path: Path, *scores: float) -> Path:
    path.write_text("".join(json.dumps({"id": str(n), "score": score}) + "\n" for n, score in enumerate(scores)))
    return path


def test_files_of_unknown_origin_are_compared_with_that_doubt(tmp_path: Path) -> None:
    compared = postgrad.compare(
        records(tmp_path / "a.jsonl", *[0, 1] * 20), records(tmp_path / "b.jsonl", *[0, 1] * 19, 1, 1)
    )

    assert (compared["n"], compared["discordant"]) == (40, 1)
    assert "No difference between" in compared["sentence"]
    assert compared["sentence"].endswith("nothing tells whether both were measured in the same way.")


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([1.0], [], "holds no item"),
        ([1.0], None, "does not exist"),
    ],
)
def test_compare_of_something_that_is_not_there_is_one_line(
    tmp_path: Path, a: list[float], b: list[float] | None, said: str
) -> None:
    other = tmp_path / "b.jsonl"
    if b is not None:
        records(other, *b)

    with pytest.raises(BadInput, match=said):
        postgrad.compare(records(tmp_path / "a.jsonl", *a), other)


def test_one_item_shows_no_difference(tmp_path: Path) -> None:
    compared = postgrad.compare(records(tmp_path / "a.jsonl", 0), records(tmp_path / "b.jsonl", 1))

    assert "No difference between" in compared["sentence"]


def test_compare_on_the_command_line(tmp_path: Path) -> None:
    a, b = records(tmp_path / "a.jsonl", *[0] * 30), records(tmp_path / "b.jsonl", *[0] * 10, *[1] * 20)
    done = command("compare", a, b, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delta"] == pytest.approx(2 / 3)
    assert "is better than" in command("compare", a, b).stdout
    assert command("compare", a, "nothing").returncode == 2
