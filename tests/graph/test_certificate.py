"""What a run claims is checked by code at its end: honest runs pass, and each way to cheat is found out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.evaluator.integrity.tensors import Weights
from agents.researcher import playbook
from graph.briefing import model_of
from graph.certificate import WITHHELD, certificate_of, withhold
from graph.context import Context, Desk
from postgrad.decide import Request, approve_all
from postgrad.events import Event
from postgrad.tables import show_summary
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord, EvalResult, Job, JobSpec, Purpose
from shared_memory.settings import Settings, load_settings
from tests.conftest import NOOP, MakeGoal
from tests.evaluator.model_folders import tensors_of, write_tensors
from tests.noop import jobs as noop
from tests.tiny import make_tiny_model

CORPUS = Path(__file__).parents[2] / "benchmarks" / "contamination"
VERBATIM, REWORDED = 5, 10


def rows_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@dataclass
class Finished:
    """A run that has ended with a champion, as the step that certifies it sees it."""

    desk: Desk
    state: dict[str, Any]
    summary: dict[str, Any]
    folder: Path
    """With the goal's files."""

    def certificate(self, **changes: Any) -> dict[str, Any]:
        return certificate_of({**self.state, **changes}, self.desk)  # type: ignore[typeddict-item]

    @property
    def benchmark(self) -> Path:
        return self.folder / "exam.jsonl"

    @property
    def goal(self) -> Goal:
        return Goal.model_validate(self.state["goal"])

    def job(self, purpose: Purpose, experiment: str = "e1") -> Job:
        jobs = self.desk.journal.all(Job).values()
        return next(job for job in jobs if job.purpose is purpose and job.experiment == experiment)

    @contextmanager
    def planted(self, file: Path, content: str | bytes) -> Iterator[None]:
        """With another content in a file, or a file more."""
        before = file.read_bytes() if file.exists() else None
        at = file.stat().st_mtime_ns if before is not None else 0
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        try:
            yield
        finally:
            if before is None:
                file.unlink()
            else:  # in place: a delivered file is the job's own, under a second name
                file.write_bytes(before)
                os.utime(file, ns=(at, at))

    @contextmanager
    def pinned(self, job: Job, **changes: Any) -> Iterator[None]:
        """With another spec on record of a job."""
        note = self.desk.journal.notes("pinned")[job.key]
        self.desk.journal.note("pinned", job.key, {**note, "spec": {**note["spec"], **changes}})
        try:
            yield
        finally:
            self.desk.journal.note("pinned", job.key, note)

    def spec(self, job: Job) -> JobSpec:
        return JobSpec.model_validate(self.desk.journal.notes("pinned")[job.key]["spec"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Finished]:
    """A run on data that hold items of its benchmark, word for word and in other words."""
    folder = tmp_path_factory.mktemp("certified")
    exam = rows_in(CORPUS / "items.jsonl")[:80]
    write_rows(folder / "exam.jsonl", exam)
    mine = {row["id"] for row in exam}
    data = [row for row in rows_in(CORPUS / "related.jsonl") if row["near"] not in mine][:80]
    data += exam[:VERBATIM]
    data += [row for row in rows_in(CORPUS / "paraphrases.jsonl") if row["item"] in mine][-REWORDED:]
    write_rows(folder / "data.jsonl", [{"question": row["question"], "answer": row["answer"]} for row in data])
    base = folder / "base"
    shutil.copytree(tiny_model, base)
    (folder / "goal.toml").write_text(
        f'text = "toy goal"\nbase_model = "{base}"\n[data]\ntrain = ["data.jsonl"]\n'
        '[[benchmark]]\npath = "exam.jsonl"\nmax_tokens = 16\n'
        '[limits]\nusd = 0\nhours = 1.0\njobs = 20\nexperiments = 1\n[run]\napprove = "auto"\nreport_to = []\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTGRAD_HOME", str(folder / "home"))
        patch.setenv("POSTGRAD_SMOKE_RUN", "never")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(playbook, "LIBRARY", NOOP / "recipes.toml")
        playbook._library.cache_clear()
        noop.install(patch.setattr)
        summary = postgrad.run(folder / "goal.toml")
        desk = Desk(summary["run_id"], Context(home=str(folder / "home")))
        yield Finished(desk, state_of(load_settings(), summary["run_id"]), summary, folder)
    playbook._library.cache_clear()


def state_of(settings: Settings, run_id: str) -> dict[str, Any]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    from graph.build import builder

    with closing(sqlite3.connect(settings.database, check_same_thread=False)) as connection:
        graph = builder.compile(checkpointer=SqliteSaver(connection))
        return dict(graph.get_state({"configurable": {"thread_id": run_id}}).values)


def test_an_honest_run_is_clean_and_says_what_was_looked_at(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finished.summary["outcome"] == "improved", finished.summary
    certificate = finished.summary["integrity"]

    assert (certificate["verdict"], certificate["reasons"]) == ("clean", [])
    assert [check["name"] for check in certificate["checks"]] == [
        "lineage", "weights", "benchmark", "training data", "evaluator", "scores", "answers", "rules",
    ]  # fmt: skip
    assert [entry["model"] for entry in certificate["lineage"]] == ["weights", "adapter"]
    again = finished.certificate()
    assert again == certificate, "looking again finds the same"
    show_summary(finished.summary)
    assert "certificate  clean\n" in capsys.readouterr().out


def test_benchmark_rows_in_the_data_are_left_out_and_the_certificate_says_how_many(finished: Finished) -> None:
    dataset = DatasetRecord.model_validate(finished.state["datasets"]["d1"])
    assert dataset.evidence is not None
    found = dataset.evidence.benchmarks["exam"]

    assert found.rules["question"] + found.rules.get("overlap", 0) >= VERBATIM
    assert found.rules["paraphrase"] >= REWORDED / 2, "how many are found in all: see benchmarks/decontamination.py"
    trained_on = Path(dataset.path).read_text()
    assert not any(row["question"] in trained_on for row in rows_in(finished.benchmark))
    certificate = finished.certificate()
    assert certificate["training_data"]["d1"]["rows_flagged"] == found.rows_flagged
    assert f"{found.rows_flagged} left out" in next(
        check["found"] for check in certificate["checks"] if check["name"] == "training data"
    )


def violated(certificate: dict[str, Any], *words: str) -> None:
    assert certificate["verdict"] == "violated", certificate["reasons"]
    assert all(word in " ".join(certificate["reasons"]) for word in words), certificate["reasons"]


def test_rows_put_into_the_data_after_they_were_searched_are_found(finished: Finished) -> None:
    dataset = DatasetRecord.model_validate(finished.state["datasets"]["d1"])
    leaked = json.dumps(rows_in(finished.benchmark)[0])
    read = Path(finished.job(Purpose.TRAINING).folder) / "data.jsonl"
    for file in (Path(dataset.path), read):
        with finished.planted(file, file.read_text() + leaked + "\n"):
            violated(finished.certificate(), "is not d1 as it was searched")
    assert finished.certificate()["verdict"] == "clean"


def test_data_that_were_trained_on_without_a_search_are_refused(finished: Finished) -> None:
    dataset = DatasetRecord.model_validate(finished.state["datasets"]["d1"])
    assert dataset.evidence is not None
    finished.desk.journal.put(dataset.model_copy(update={"evidence": None}))
    violated(finished.certificate(), "d1 was not searched for the items")
    partly = dataset.evidence.model_copy(update={"rules": ("question", "overlap")})
    finished.desk.journal.put(dataset.model_copy(update={"evidence": partly}))
    assert "d1 was not searched by paraphrase" in finished.certificate()["reasons"][0]
    finished.desk.journal.put(dataset)
    assert finished.certificate()["verdict"] == "clean"


def test_another_model_in_the_place_of_what_was_trained_is_found(finished: Finished, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1) / "model.safetensors"
    delivered = Path(finished.state["model"]) / "model.safetensors"
    made = Path(finished.job(Purpose.MERGE).folder) / "out" / "model" / "model.safetensors"
    for file in (delivered, made):
        assert file.stat().st_ino == delivered.stat().st_ino, "one file under two names takes no room twice"
    with finished.planted(delivered, other.read_bytes()):
        violated(
            finished.certificate(),
            "unrelated to the base's: it is another model",
            "are not the base with its adapter added",
            "the delivered model (merged) is not what it was",
        )
    nearly = {name: 1.01 * values for name, values in tensors_of(delivered.parent).items()}
    write_tensors(tmp_path / "model.safetensors", nearly)
    with finished.planted(delivered, (tmp_path / "model.safetensors").read_bytes()):
        violated(finished.certificate(), "are not the base with its adapter added")
    assert finished.certificate()["verdict"] == "clean"


def test_an_adapter_and_a_base_that_were_exchanged_are_found(finished: Finished, tmp_path: Path) -> None:
    trained = Path(finished.job(Purpose.TRAINING).folder) / "out" / "adapter" / "adapter_model.safetensors"
    pairs = Weights(trained.parent, "adapter")
    write_tensors(tmp_path / "adapter.safetensors", {name: pairs.rows(name) + 0.1 for name in pairs})
    with finished.planted(trained, (tmp_path / "adapter.safetensors").read_bytes()):
        violated(finished.certificate(), "what the training of e1 left is not what it was", "times as far as the")
    base = finished.folder / "base" / "model.safetensors"
    with finished.planted(base, (make_tiny_model(tmp_path / "other", seed=1) / "model.safetensors").read_bytes()):
        violated(finished.certificate(), "the base model is not what it was")
    assert finished.certificate()["verdict"] == "clean"


def test_items_that_were_chosen_after_the_fact_are_found(finished: Finished) -> None:
    rows = rows_in(finished.benchmark)
    fewer = "".join(json.dumps(row) + "\n" for row in rows[5:])
    moved = "".join(
        json.dumps({**row, "part": "report" if n % 2 else "selection"}) + "\n" for n, row in enumerate(rows)
    )
    for content in (fewer, moved):
        with finished.planted(finished.benchmark, content):
            violated(finished.certificate(), "exam is not what it was before the base model was scored")
    with finished.planted(finished.benchmark, "no longer a benchmark"):
        certificate = finished.certificate()
    assert certificate["verdict"] == "suspect"
    assert "exam cannot be read any more" in certificate["reasons"][0]
    assert finished.certificate()["verdict"] == "clean"


def test_scores_that_were_edited_are_found(finished: Finished) -> None:
    name, result = next((n, r) for n, r in finished.state["results"].items() if n.startswith("e1/exam/report"))
    items = Path(result["items"])
    right = [{**row, "score": 1.0} for row in rows_in(items)]
    content = "".join(json.dumps(row) + "\n" for row in right)
    with finished.planted(items, content):
        violated(finished.certificate(), f"the item records of {name} have changed since they were scored")
        digest = hashlib.sha256(content.encode()).hexdigest()
        forged = {**result, "items_digest": digest, "score": 1.0}
        results = {**finished.state["results"], name: forged}
        violated(finished.certificate(results=results), f"answers of {name} get another score now")
    results = {**finished.state["results"], name: {**result, "score": 0.99}}
    violated(finished.certificate(results=results), f"the item records of {name} do not give its score")
    assert finished.certificate()["verdict"] == "clean"


def test_scores_are_held_against_what_their_own_job_filed_and_not_against_a_forks(finished: Finished) -> None:
    journal = finished.desk.journal
    name, filed = next((n, r) for n, r in journal.all(EvalResult).items() if n.startswith("e1/exam/report"))
    assert not finished.state["results"][name]["items_digest"], "the state leaves it to the journal"
    journal.put(filed.model_copy(update={"job": "0" * 16, "items_digest": "0" * 64}))
    try:
        assert finished.certificate()["verdict"] == "clean"
    finally:
        journal.put(filed)


def test_an_evaluator_that_was_edited_for_one_of_the_models_is_found(finished: Finished) -> None:
    store = finished.desk.paths.store
    job = next(
        j for j in finished.desk.journal.all(Job).values() if j.purpose is Purpose.EVALUATION and j.experiment == "e1"
    )
    files = finished.spec(job).files
    kinder = (NOOP / "generate.py").read_bytes().replace(b"share < quality", b"share < 1")
    with finished.pinned(job, files={**files, "generate.py": store(kinder)}):
        violated(finished.certificate(), "was measured by another generate.py than the one that is shipped")
    easier = finished.desk.paths.stored(files["prompts.jsonl"]).read_bytes().replace(b"A)", b"A) (right)", 1)
    with finished.pinned(job, files={**files, "prompts.jsonl": store(easier)}):
        violated(finished.certificate(), "was not asked what the benchmark asks")
    name, result = next((n, r) for n, r in finished.state["results"].items() if n.startswith("e1/exam/report"))
    results = {**finished.state["results"], name: {**result, "settings_digest": "0" * 64}}
    violated(finished.certificate(results=results), "exam was measured in several ways")
    assert finished.certificate()["verdict"] == "clean"


def test_a_table_of_answers_is_found_wherever_it_lies(finished: Finished) -> None:
    rows = rows_in(finished.benchmark)
    table = json.dumps({row["question"]: row["answer"] for row in rows[:3]})
    model = Path(finished.state["model"])
    for name, content in (
        ("generation_config.json", table),
        ("chat_template.jinja", f"{{# {table} #}}{{{{ messages }}}}"),
        ("notes.txt", f"{rows[0]['question'].upper()} -> {rows[0]['answer']}"),
    ):
        with finished.planted(model / name, content):
            violated(finished.certificate(), f"{name} in the delivered model holds")
    with finished.planted(model / "modeling_tiny.py", "class Model: ..."):
        violated(finished.certificate(), "the delivered model has code that the base does not have (modeling_tiny.py)")

    job = finished.job(Purpose.TRAINING)
    ids = {f"question-{n:04}": "A" for n in range(3)}
    own = f"ANSWERS = {json.dumps(table)}\n"
    spec = finished.spec(job)
    with finished.pinned(
        job, files={**spec.files, spec.script: finished.desk.paths.store(own.encode())}, sandbox="auto"
    ):
        violated(finished.certificate(), f"train.py of “{job_title(spec)}” holds 3 items of exam")
    harmless = finished.desk.paths.store(f"TABLE = {ids}\n".encode())
    with finished.pinned(job, files={**spec.files, spec.script: harmless}):
        certificate = finished.certificate()
    assert certificate["verdict"] == "suspect"
    assert "is not ours, and no sandbox kept it from reading anything" in certificate["reasons"][0]
    assert finished.certificate()["verdict"] == "clean"


def job_title(spec: JobSpec) -> str:
    return spec.title


def test_a_hosted_teacher_against_the_rules_is_found(finished: Finished) -> None:
    job = finished.job(Purpose.TRAINING)
    note = finished.desk.journal.notes("pinned")[job.key]
    teacher = {**note["spec"], "runner": "teacher", "flavor": "hosted", "config": {"teacher": "openai/gpt"}}
    finished.desk.journal.note("pinned", "teacher", {**note, "spec": teacher})
    assert finished.certificate()["verdict"] == "clean", "the goal allows it"
    forbids = {**finished.state["goal"], "rules": {"hosted_teacher": False}}
    violated(finished.certificate(goal=forbids), "openai/gpt is a hosted model and wrote training rows")


def test_a_crash_after_a_model_was_withheld_leaves_the_verdict_as_it_was(finished: Finished) -> None:
    place = finished.desk.paths.model
    with finished.planted(Path(finished.state["model"]) / "modeling_tiny.py", "class Model: ..."):
        told = finished.certificate()
        withhold(finished.desk, model_of(finished.goal))
        withhold(finished.desk, model_of(finished.goal))
        assert not place.exists()
        assert finished.certificate() == told
        (finished.desk.paths.root / WITHHELD).rename(place)
    assert finished.certificate()["verdict"] == "clean"


@pytest.fixture
def small(recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe()
    noop.install(monkeypatch.setattr)


@pytest.mark.usefixtures("small")
def test_a_violated_champion_is_withheld_and_not_published_until_what_is_wrong_is_mended(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    """The items are exchanged while the run is on its way; nothing is claimed, and a resume looks again."""
    goal = make_goal(experiments=1)
    goal.write_text(goal.read_text() + f'[output]\npush_to = "{tmp_path}/shared"\n')
    benchmark = goal.parent / "physics.jsonl"
    before = benchmark.read_text()

    def exchange(event: Event) -> None:
        if event.kind == "move" and event.move == "push":
            benchmark.write_text("".join(before.splitlines(keepends=True)[:-1]))

    summary = postgrad.run(goal, on_event=exchange)

    assert (summary["status"], summary["outcome"]) == ("failed", "none")
    assert summary["champion"]["experiment"] == "baseline"
    assert summary["champion"]["improvement"] == {}
    assert "the certificate of e1 is violated (benchmark: physics is not what it was" in summary["error"]
    paths = settings.run_paths(summary["run_id"])
    assert not paths.model.exists()
    assert (paths.root / "withheld" / "merged" / "config.json").exists(), "nothing is lost"
    assert not (tmp_path / "shared").exists()
    for report in (paths.report_md, paths.report_html):
        assert "violated" in report.read_text()
        assert "Improved" not in report.read_text()
    assert json.loads(paths.report_json.read_text())["integrity"]["verdict"] == "violated"

    benchmark.write_text(before)
    again = postgrad.resume(summary["run_id"])
    assert (again["status"], again["outcome"]) == ("succeeded", "improved"), again["error"]
    assert again["integrity"]["verdict"] == "clean"
    assert Path(again["champion"]["model"]).is_dir()
    assert (tmp_path / "shared" / "README.md").exists()


@pytest.mark.usefixtures("small")
def test_a_script_that_a_person_edited_for_every_model_makes_the_result_suspect(make_goal: MakeGoal) -> None:
    def decide(requests: list[Request]) -> dict[str, Any]:
        (request,) = requests
        text = request["script_text"] if request["purpose"] == "evaluation" else ""
        if text and "# mine" not in text:
            return {request["digest"]: {"edit": {"files": {"generate.py": text + "\n# mine\n"}}}}
        return approve_all(requests)

    summary = postgrad.run(make_goal(approve="ask", experiments=1), decide=decide)

    assert summary["outcome"] == "improved", "it is still delivered"
    assert summary["integrity"]["verdict"] == "suspect"
    assert all("generate.py" in reason for reason in summary["integrity"]["reasons"])
