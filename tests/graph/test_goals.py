"""What people ask for beside a benchmark file: their own rows, preferences, several experiments at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from graph.intake import check_goal
from postgrad.decide import approve_all
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.goal import DataGoal, Goal
from shared_memory.ledger import Ledger
from shared_memory.settings import Settings
from tests.conftest import MakeGoal

SetRecipe = Callable[..., None]

pytestmark = pytest.mark.usefixtures("noop_jobs")

CITIES = ("Oslo", "Lima", "Rome", "Kyiv", "Bern", "Riga", "Cairo", "Quito", "Tunis", "Seoul")


@pytest.fixture
def doctors(tmp_path: Path) -> Path:
    """200 consultations in columns of their owner's naming."""
    path = tmp_path / "consultations.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient_query", "doctor_response"])
        for number in range(200):
            city = CITIES[number % 10]
            writer.writerow(
                [f"Since my journey number {number} to {city} I cough.", f"Rest for {number % 9 + 2} days."]
            )
    return path


@pytest.fixture
def data_goal(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """A goal that names data and no benchmark."""

    def write(data: Path, run: str = 'approve = "auto"', limits: str = "experiments = 2", more: str = "") -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(
            f'text = "fine-tune this model on my data"\nbase_model = "{tiny_model}"\n{more}\n'
            f'[data]\ntrain = ["{data}"]\n'
            f"[limits]\nusd = 0\nhours = 1.0\n{limits}\n[run]\nreport_to = []\n{run}\n",
            encoding="utf-8",
        )
        return path

    return write


def test_a_goal_with_data_and_no_benchmark_is_measured_on_rows_held_out_first(
    doctors: Path, data_goal: Callable[..., Path], settings: Settings, recipe: SetRecipe
) -> None:
    recipe()
    events = []
    summary = postgrad.run(data_goal(doctors), on_event=events.append)

    assert summary["status"] == "succeeded", summary["error"]
    assert summary["outcome"] == "improved"
    moves = [event.move for event in events if event.kind == "move"]
    assert moves[:2] == ["hold_out", "baseline"], "rows are held out before anything else"
    gain = summary["champion"]["improvement"]["holdout"]
    assert gain["delta"] < 0
    assert gain["ci_high"] < 0, "of a loss, lower is better"
    assert set(summary["baseline"]) == {"holdout", "holdout_exact"}, "short answers are compared word for word, too"

    held = {json.loads(line)["id"] for line in _data(settings, summary, "holdout.jsonl")}
    trained_on = json.loads(settings.run_paths(summary["run_id"]).report_json.read_text())["records"]["datasets"][0]
    assert trained_on["rows"] == 200 - len(held)
    assert any("patient_query" in step["note"] for step in trained_on["steps"]), "the report says how columns were read"
    report = settings.run_paths(summary["run_id"]).report_md.read_text()
    assert "held out" in report


def _data(settings: Settings, summary: dict[str, Any], name: str) -> list[str]:
    return (settings.run_paths(summary["run_id"]).data / name).read_text().splitlines()


def test_a_search_that_a_cap_cuts_short_still_measures_its_best_model_on_everything(
    doctors: Path, data_goal: Callable[..., Path], recipe: SetRecipe
) -> None:
    recipe()
    summary = postgrad.run(data_goal(doctors, limits="experiments = 5\njobs = 8"))

    assert summary["status"] == "over_budget"
    assert summary["spent"]["jobs"] <= 8
    assert set(summary["champion"]["improvement"]) == {"holdout", "holdout_exact"}


def test_preference_pairs_are_trained_on_by_dpo_and_measured_as_pairs(
    tmp_path: Path, data_goal: Callable[..., Path], settings: Settings
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    with pairs.open("w", encoding="utf-8") as stream:
        for number in range(150):
            row = {"prompt": f"Greet guest {number} from {CITIES[number % 10]}.", "chosen": f"Welcome, guest {number}!",
                   "rejected": "What do you want?"}  # fmt: skip
            stream.write(json.dumps(row) + "\n")
    summary = postgrad.run(data_goal(pairs, limits="experiments = 1"))

    assert summary["status"] == "succeeded", summary["error"]
    assert summary["experiments"][0]["recipe"]["method"] == "dpo"
    assert summary["champion"]["improvement"]["holdout"]["ci_low"] > 0
    dataset = json.loads(settings.run_paths(summary["run_id"]).report_json.read_text())["records"]["datasets"][0]
    assert {"prompt", "chosen", "rejected"} == set(json.loads(Path(dataset["path"]).read_text().splitlines()[0]))


def test_a_method_that_the_data_cannot_train_is_refused_before_anything_runs(
    doctors: Path, data_goal: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match="have no rejected reply, and dpo needs"):
        postgrad.run(data_goal(doctors, more='method = "dpo"'))


def test_the_methods_that_rows_can_train_are_told_and_others_are_refused(
    doctors: Path, tmp_path: Path, tiny_model: Path
) -> None:
    goal = Goal(text="x", base_model=str(tiny_model), data=DataGoal(train=(str(doctors),)))
    assert check_goal(goal).trains == ("sft", "grpo"), "short answers can be checked"
    unwanted = tmp_path / "unwanted.jsonl"
    row = {"prompt": "How far is it?", "completion": "Who cares.", "label": False}
    unwanted.write_text("".join(json.dumps(row | {"prompt": f"How far is {n}?"}) + "\n" for n in range(100)))
    with pytest.raises(BadInput, match=r"all 100 rows are labelled as unwanted: bring such rows, or change `method`"):
        check_goal(goal.model_copy(update={"data": DataGoal(train=(str(unwanted),))}))


def test_what_a_method_cannot_be_measured_on_or_learn_from_is_refused_before_anything_runs(
    tmp_path: Path, tiny_model: Path
) -> None:
    def refusal(method: str, rows: list[dict[str, Any]], **more: Any) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        goal = {"text": "x", "base_model": str(tiny_model), "method": method, "data": {"train": [str(path)]}, **more}
        with pytest.raises(BadInput) as refused:
            check_goal(Goal.model_validate(goal))
        return str(refused.value)

    asked = [{"prompt": f"How far is {n}?", "completion": "Far.", "label": n % 3 == 0} for n in range(200)]
    assert refusal("kto", asked).startswith("67 rows whose reply is wanted are too few to hold some out")
    passages = [_passage(n) for n in range(200)]
    assert "distillation compares replies" in refusal("distill", passages, distill_from=str(tiny_model))
    pairs = [{"prompt": f"How far is {n}?", "chosen": "Far.", "rejected": "No."} for n in range(200)]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"question": f"{n} + 1?", "answer": f"{n + 1}"}) + "\n" for n in range(99)))
    told = refusal("reward", pairs, benchmark=[{"path": str(questions)}])
    assert told.startswith("a reward model writes nothing, and benchmark questions is scored by exact")


def _passage(n: int) -> dict[str, Any]:
    return {"text": f"Report {n}. On day {n} the ship from {CITIES[n % 10]} was seen, with {n * 3} men aboard."}


def _called(n: int) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": CITIES[n % 10], "day": n}}}
    return {
        "messages": [
            {"role": "user", "content": f"Will it rain in {CITIES[n % 10]} on day {n}?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    }


@pytest.mark.parametrize(("row", "columns"), [(_passage, {"text"}), (_called, {"prompt", "completion", "tools"})])
def test_passages_and_calls_of_tools_are_held_out_and_trained_on_as_they_are(
    tmp_path: Path, data_goal: Callable[..., Path], settings: Settings, row: Callable[[int], Any], columns: set[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row(n)) + "\n" for n in range(150)))
    summary = postgrad.run(data_goal(path, limits="experiments = 1"))

    assert summary["status"] == "succeeded", summary["error"]
    assert set(summary["baseline"]) == {"holdout"}
    held = [json.loads(line) for line in _data(settings, summary, "holdout.jsonl")]
    dataset = json.loads(settings.run_paths(summary["run_id"]).report_json.read_text())["records"]["datasets"][0]
    trained = [json.loads(line) for line in Path(dataset["path"]).read_text().splitlines()]
    assert set(held[0]) - {"id", "part"} == set(trained[0]) == columns
    rows = [{column: each[column] for column in columns} for each in (*held, *trained)]
    assert len({json.dumps(each, sort_keys=True) for each in rows}) == 150


def test_too_few_rows_to_hold_some_out_are_refused_with_the_way_out(
    tmp_path: Path, data_goal: Callable[..., Path]
) -> None:
    few = tmp_path / "few.csv"
    few.write_text("question,answer\n" + "".join(f"What is {n}?,It is {n}\n" for n in range(30)))
    with pytest.raises(BadInput, match=r"too few .* give a \[\[benchmark\]\]"):
        postgrad.run(data_goal(few))


def test_a_goal_of_no_experiments_only_scores_the_base_model(make_goal: MakeGoal) -> None:
    summary = postgrad.run(make_goal(experiments=0))

    assert (summary["status"], summary["outcome"]) == ("succeeded", "none")
    assert summary["experiments"] == []
    assert summary["baseline"]["physics"]["n"] == 25


def recipes_toml(count: int) -> str:
    blocks = [
        f'[[recipe]]\nid = "r{n}"\nfits = {{ min_m = 0, max_m = 1000 }}\nmethod = "sft"\nfindings = ["f"]\n'
        f"learning_rate = {(n + 1) * 1e-4}\nbatch = 8\nmicro_batch = 8\ntrain_rows = 40\n"
        for n in range(count)
    ]
    return "".join(blocks) + '[[finding]]\nid = "f"\nclaim = "c"\nsource = "this test"\n'


@pytest.fixture
def three_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.researcher import playbook

    library = tmp_path / "recipes.toml"
    library.write_text(recipes_toml(3))
    monkeypatch.setattr(playbook, "LIBRARY", library)
    playbook._library.cache_clear()


@pytest.mark.usefixtures("three_recipes")
def test_a_pilot_goes_first_and_the_others_pass_one_gate_together(make_goal: MakeGoal, settings: Settings) -> None:
    asked: list[list[tuple[str, str]]] = []

    def decide(requests: list[Any]) -> Any:
        asked.append([(request["purpose"], request["experiment"]) for request in requests])
        return approve_all(requests)

    goal = make_goal(approve="ask", experiments=5)
    goal.write_text(goal.read_text().replace("[run]", "[run]\nparallel = 3"))
    summary = postgrad.run(goal, decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    trainings = [[name for _, name in gate] for gate in asked if gate[0][0] == "training"]
    assert trainings == [["e1"], ["e2", "e3"], ["e4", "e5"]]
    assert [("evaluation", "e2"), ("evaluation", "e3")] in asked, "candidates are scored together, too"
    actions = Ledger(Database.open(settings.database), summary["run_id"]).actions()
    assert len(actions) == len({action.spec_digest for action in actions})


@pytest.mark.usefixtures("three_recipes")
def test_of_a_list_some_are_approved_and_some_refused_and_the_reason_is_kept(
    make_goal: MakeGoal, settings: Settings
) -> None:
    def decide(requests: list[Any]) -> Any:
        no = {"approved": False, "reason": "the rate is too high"}
        refuse = {request["digest"] for request in requests if request["experiment"] == "e2"}
        return {request["digest"]: no if request["digest"] in refuse else {"approved": True} for request in requests}

    goal = make_goal(approve="ask", experiments=3)
    goal.write_text(goal.read_text().replace("[run]", "[run]\nparallel = 3"))
    summary = postgrad.run(goal, decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    verdicts = {experiment["id"]: experiment["verdict"] for experiment in summary["experiments"]}
    assert verdicts["e2"] == "discard"
    assert verdicts["e3"] in ("keep", "discard")
    assert "the rate is too high" in settings.run_paths(summary["run_id"]).report_md.read_text()
    jobs = Ledger(Database.open(settings.database), summary["run_id"]).actions()
    assert not [job for job in jobs if job.experiment == "e2"], "what was refused never reached a runner"


def test_an_answer_to_other_jobs_is_refused_and_the_gate_asks_again(make_goal: MakeGoal) -> None:
    asked: list[str] = []

    def decide(requests: list[Any]) -> Any:
        asked.append(requests[0]["digest"])
        return {"0" * 64: {"approved": True}}

    with pytest.raises(ValueError, match="not asked"):
        postgrad.run(make_goal(approve="ask", experiments=1), decide=decide)
    resumed = postgrad.resume("last", decide=approve_all)
    assert resumed["status"] == "succeeded"


def test_out_of_memory_is_mended_within_the_consent_and_diverging_asks_again(
    make_goal: MakeGoal, settings: Settings, recipe: SetRecipe
) -> None:
    asked: list[tuple[str, int, float]] = []

    def decide(requests: list[Any]) -> Any:
        for request in requests:
            if request["purpose"] == "training":
                config = request["config"]
                asked.append((request["experiment"], config["micro_batch"], config["learning_rate"]))
        return approve_all(requests)

    recipe(max_length=8192, micro_batch=8)
    mended = postgrad.run(make_goal(approve="ask", experiments=1), decide=decide)
    assert mended["status"] == "succeeded", mended["error"]
    assert asked == [("e1", 4, 1e-3)], "less memory for the same mathematics is covered by the first yes"
    assert mended["experiments"][0]["recipe"]["micro_batch"] == 2
    decisions = Ledger(Database.open(settings.database), mended["run_id"]).decisions()
    (derived,) = [decision for decision in decisions if decision.by == "policy"]
    assert derived.parent in {decision.spec_digest for decision in decisions if decision.by == "person"}

    asked.clear()
    recipe(learning_rate=2.0)
    changed = postgrad.run(make_goal(approve="ask", experiments=2), decide=decide)
    assert changed["status"] == "succeeded", changed["error"]
    assert [name for name, _, _ in asked] == ["e1", "e2"], "another learning rate is another job: it is asked about"
    assert changed["experiments"][0]["verdict"] == "crash"
    assert changed["experiments"][1]["parent"] == "e1"
