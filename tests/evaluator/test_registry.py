"""Benchmarks by name: their data from a stand-in Hub in the real layouts, asked and scored as inspect-ai does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import postgrad
from agents.evaluator.benchmarks import benchmark as benchmarks
from agents.evaluator.benchmarks import inspect_tasks, published
from agents.evaluator.benchmarks.benchmark import load_benchmark
from agents.evaluator.benchmarks.registry import entries, named
from agents.evaluator.scoring.marking import Answer, mark, prompts_of
from graph.intake import check_goal
from shared_memory.errors import BadInput, PostgradError, Unavailable
from shared_memory.goal import BenchmarkGoal
from shared_memory.goal_reading import parse_goal
from shared_memory.records import Part
from tests.postgrad.test_cli import Cli, cli, environment
from tests.servers.hub import TOKEN, HubServer, client_environment, hub, point_client_at
from tests.servers.hub_benchmarks import N, gpqa_rows, serve
from tests.servers.hub_routes import Answer as Answered

__all__ = ["cli", "environment"]

SERVED = (
    "gpqa_main", "gpqa_diamond", "aime2025", "gsm8k", "humaneval", "bfcl", "mmlu", "mmlu_pro", "arc_easy",
    "arc_challenge", "truthfulqa",
)  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that serves all that can be scored here, and a process that has fetched nothing yet."""
    with hub() as served:
        serve(served, *SERVED)
        point_client_at(served, monkeypatch, tmp_path / "hf")
        forget()
        yield served
    forget()


def forget() -> None:
    """What another process would not know."""
    benchmarks._loaded.cache_clear()
    inspect_tasks._built.cache_clear()


def answers(prompts: list[dict[str, Any]], output: str) -> list[Answer]:
    return [
        Answer(id=row["id"], epoch=row["epoch"], output=output, output_tokens=3, truncated=False) for row in prompts
    ]


def test_entries_name_commits_and_those_that_inspect_evals_has_name_the_same_ones() -> None:
    for entry in entries().values():
        assert len(entry.prompt) > 10, entry.name
        if entry.reader == "task":
            module = sys.modules[named(entry.task).__module__]
            pinned = [value for name, value in vars(module).items() if name.endswith("_REVISION")]
            assert entry.revision in pinned, entry.name


@pytest.mark.parametrize("name", SERVED)
def test_every_name_becomes_items_of_both_parts_that_can_be_asked_and_marked(server: HubServer, name: str) -> None:
    benchmark, entry = load_benchmark(BenchmarkGoal(name=name)), entries()[name]
    prompts = prompts_of(benchmark, tuple(Part))
    records = mark(benchmark, answers(prompts[:4], "no idea"))

    assert (benchmark.max_tokens, benchmark.decoding, benchmark.epochs) == (entry.max_tokens, entry.decoding, 1)
    assert (benchmark.source, benchmark.revision) == (entry.source, entry.revision)
    assert {item.part for item in benchmark.items} == set(Part)
    assert len(prompts) == len(benchmark.items) >= N
    assert [(record["id"], record["score"]) for record in records] == [(row["id"], 0.0) for row in prompts[:4]]
    assert all(item.question for item in benchmark.items), "what training data is searched for"
    assert all(item.reference for item in benchmark.items) or benchmark.metric == "calls"


@pytest.mark.slow
def test_prompts_and_scores_are_those_of_inspects_own_evaluation_of_the_same_data(
    server: HubServer, tmp_path: Path
) -> None:
    names = ("gsm8k", "aime2025", "mmlu", "mmlu_pro", "arc_challenge", "truthfulqa", "gpqa_main", "gpqa_diamond")
    caches = {"XDG_CACHE_HOME": str(tmp_path), "INSPECT_EVALS_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluator.inspect_reference", str(tmp_path / "logs"), *names],
        env=os.environ | client_environment(server, tmp_path / "other") | caches,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    reference = json.loads(done.stdout.splitlines()[-1])

    for name in names:
        benchmark = load_benchmark(BenchmarkGoal(name=name))
        theirs = {row["id"]: row for row in reference[name]}
        ours = {row["id"]: row["messages"] for row in prompts_of(benchmark, tuple(Part))}
        assert ours == {key: row["messages"] for key, row in theirs.items()}, name
        given = [
            Answer(id=key, epoch=1, output=row["output"], output_tokens=1, truncated=False)
            for key, row in theirs.items()
        ]
        scores = {record["id"]: record["score"] for record in mark(benchmark, given)}
        assert scores == {key: row["score"] for key, row in theirs.items()}, name
        assert 0 < sum(scores.values()) < len(scores), f"{name}: some are right and some are wrong"


def test_gsm8k_has_ten_examples_of_the_training_split_and_is_matched_by_number(server: HubServer) -> None:
    benchmark = load_benchmark(BenchmarkGoal(name="gsm8k"))
    [row, *_] = prompts_of(benchmark, tuple(Part))
    item = benchmark.items[0]

    assert [message["role"] for message in row["messages"]] == ["system", "user"]
    assert row["messages"][0]["content"].count("ANSWER: ") == 10
    assert item.question in row["messages"][1]["content"]
    right = f"Let me see.\nANSWER: ${item.reference}.00"
    assert [record["score"] for record in mark(benchmark, answers([row], right))] == [1.0]


def test_mmlu_drops_what_stands_there_twice_and_has_subjects_as_categories(server: HubServer) -> None:
    benchmark = load_benchmark(BenchmarkGoal(name="mmlu"))
    assert len(benchmark.items) == N
    assert {item.category for item in benchmark.items} > {"anatomy", "world_religions"}


def test_humaneval_is_given_what_its_tests_need_and_runs_them(server: HubServer) -> None:
    benchmark = load_benchmark(BenchmarkGoal(name="humaneval"))
    [first, *_] = prompts = prompts_of(benchmark, tuple(Part))

    assert benchmark.metric == "code"
    assert first["messages"][0]["content"].endswith('def add_0(x):\n    """Add 0."""\n')
    right = "```python\ndef add_0(x):\n    return x + 0\n```"
    assert [record["score"] for record in mark(benchmark, answers(prompts[:2], right))] == [1.0, 0.0]


def test_bfcl_shows_its_function_as_a_tool_and_wants_that_call(server: HubServer) -> None:
    benchmark = load_benchmark(BenchmarkGoal(name="bfcl"))
    prompts = prompts_of(benchmark, tuple(Part))

    schema = prompts[0]["tools"][0]["function"]["parameters"]
    assert (schema["type"], schema["properties"]["p"]["type"]) == ("object", "number")
    right = '<tool_call>\n{"name": "likelihood", "arguments": {"p": 0.5, "heads": 1}}\n</tool_call>'
    assert [record["score"] for record in mark(benchmark, answers(prompts[:3], right))] == [0.0, 1.0, 0.0]


def test_resamples_show_choices_in_another_order_and_the_right_one_moves_with_them(server: HubServer) -> None:
    benchmark = load_benchmark(BenchmarkGoal(name="truthfulqa", epochs=4))
    prompts = prompts_of(benchmark, tuple(Part))
    records = mark(benchmark, answers(prompts, "ANSWER: A"))

    assert len(prompts) == 4 * N
    shown = {row["epoch"]: row["messages"][0]["content"] for row in prompts if row["id"] == benchmark.items[-1].id}
    assert len(set(shown.values())) > 1
    right = {(record["id"], record["epoch"]) for record in records if record["score"]}
    for row in prompts:
        first = row["messages"][0]["content"].partition("\nA) ")[2].partition("\n")[0]
        item = next(item for item in benchmark.items if item.id == row["id"])
        assert ((row["id"], row["epoch"]) in right) == (first == item.reference)


def test_an_item_of_main_and_diamond_is_in_the_same_part_of_both(server: HubServer) -> None:
    """Whatever is drawn of them: who selects on one and reports on the other meets no item twice."""
    main = load_benchmark(BenchmarkGoal(name="gpqa_main"))
    parts = {item.id: item.part for item in main.items}
    for limit in (None, 20):
        diamond = load_benchmark(BenchmarkGoal(name="gpqa_diamond", limit=limit))
        assert {item.part for item in diamond.items} == set(Part)
        assert all(parts[item.id] == item.part for item in diamond.items)


def test_a_limit_draws_from_both_parts_and_a_larger_one_draws_the_same_and_more(server: HubServer) -> None:
    whole = load_benchmark(BenchmarkGoal(name="gpqa_main")).items
    few, more = (load_benchmark(BenchmarkGoal(name="gpqa_main", limit=limit)).items for limit in (10, 30))

    assert (len(few), len(more)) == (10, 30)
    assert set(few) < set(more) < set(whole)
    assert few != whole[:10]
    assert {item.part for item in few} == set(Part)
    assert [item for item in whole if item in few] == list(few)
    assert len({item.part for item in load_benchmark(BenchmarkGoal(name="gpqa_main", limit=2)).items}) == 2


def test_data_is_fetched_once_and_scoring_works_without_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with hub() as served:
        serve(served, "gsm8k")
        point_client_at(served, monkeypatch, tmp_path / "hf")
        forget()
        first = load_benchmark(BenchmarkGoal(name="gsm8k"))
        prompts = prompts_of(first, tuple(Part))
        asked = len(served.requests)
        forget()
        load_benchmark(BenchmarkGoal(name="gsm8k"))
        assert len(served.requests) == asked
    forget()
    again = load_benchmark(BenchmarkGoal(name="gsm8k"))
    assert again.digest == first.digest
    assert len(mark(again, answers(prompts, "ANSWER: 8"))) == N
    forget()


def test_a_hub_out_of_reach_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with hub() as gone:
        point_client_at(gone, monkeypatch, tmp_path / "hf")
    with pytest.raises(Unavailable, match=r"^[^\n]*or give a local copy: `path` beside name = 'arc_easy'$"):
        load_benchmark(BenchmarkGoal(name="arc_easy"))


def test_gated_items_say_how_to_get_access_and_a_local_copy_is_the_same_benchmark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(hub())
        serve(served, "gpqa_main", gated=True)
        point_client_at(served, monkeypatch, tmp_path / "hf")
        forget()
        with pytest.raises(BadInput, match=r"^Idavidrein/gpqa is gated; ask for access at [^\n]*give a local copy"):
            load_benchmark(BenchmarkGoal(name="gpqa_main"))
        local = tmp_path / "mine.csv"
        pl.DataFrame(gpqa_rows(range(60))).write_csv(local)
        copied = load_benchmark(BenchmarkGoal(name="gpqa_main", path=str(local)))

        served.users["hf_another"] = "bea"
        served.dataset("Idavidrein/gpqa").readers = frozenset({"bea"})
        point_client_at(served, monkeypatch, tmp_path / "hf", "hf_another")
        forget()
        fetched = load_benchmark(BenchmarkGoal(name="gpqa_main"))
    assert copied.items == fetched.items
    assert (copied.digest, copied.max_tokens, copied.decoding) == (fetched.digest, 16000, "model")
    assert (copied.source, copied.revision) == (str(local), "")
    assert TOKEN not in str(served.requests[-1].headers)


def test_a_local_folder_stands_in_for_a_data_set_and_its_examples(server: HubServer, tmp_path: Path) -> None:
    fetched = load_benchmark(BenchmarkGoal(name="gsm8k"))
    [kept] = (tmp_path / "hf" / "hub").glob("datasets--openai--gsm8k/snapshots/*")
    shutil.copytree(kept, tmp_path / "copy")
    shutil.rmtree(tmp_path / "hf")
    server.repos.clear()
    forget()

    copied = load_benchmark(BenchmarkGoal(name="gsm8k", path=str(tmp_path / "copy")))

    assert copied.items == fetched.items
    assert copied.digest == fetched.digest
    assert prompts_of(copied, (Part.REPORT,)) != []


def test_what_only_github_has_is_fetched_from_there_at_its_commit_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    entry = entries()["healthbench_easy"]
    row = {
        "prompt": [{"role": "user", "content": "Is this a cold?"}],
        "rubrics": [{"criterion": "Asks how long", "points": 5, "tags": []}],
        "example_tags": ["theme:context_seeking"],
    }
    rows = "".join(json.dumps({**row, "prompt_id": f"p{n}"}) + "\n" for n in range(60))
    path = f"/{entry.source}/{entry.revision}/{entry.folder}/healthbench.jsonl"
    with hub() as served:
        served.services.append(lambda request: Answered(rows.encode()) if request.path == path else None)
        monkeypatch.setattr(published, "GITHUB", served.endpoint)
        forget()
        items = load_benchmark(BenchmarkGoal(name="healthbench_easy")).items
        assert not served.requests[0].token
    forget()
    assert load_benchmark(BenchmarkGoal(name="healthbench_easy")).items == items
    assert (len(items), items[0].category) == (60, "context_seeking")
    with pytest.raises(Unavailable, match=r"question.jsonl could not be fetched .*or give a local copy"):
        load_benchmark(BenchmarkGoal(name="arena_hard_writing"))
    with pytest.raises(BadInput, match=r"is no folder that holds question\.jsonl and model_answer"):
        load_benchmark(BenchmarkGoal(name="arena_hard_writing", path=str(tmp_path)))


def test_a_data_set_on_the_hub_is_a_benchmark_of_ones_own(server: HubServer) -> None:
    rows = {split: "".join(json.dumps({"question": f"{split} {n}?", "answer": str(n)}) + "\n" for n in range(50))
            for split in ("train", "test")}  # fmt: skip
    repo = server.add("anna/sums", {f"{split}.jsonl": text for split, text in rows.items()})

    benchmark = load_benchmark(BenchmarkGoal(path="anna/sums"))

    assert (benchmark.source, benchmark.revision, len(benchmark.items)) == ("anna/sums", repo.head.oid, 50)
    assert {item.question.split()[0] for item in benchmark.items} == {"test"}


def test_ifeval_counts_what_was_followed_strictly_once_its_package_is_there(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, "ifeval")
    with pytest.raises(BadInput, match=r"ifeval cannot be scored here: .*pip install 'git\+https"):
        load_benchmark(BenchmarkGoal(name="ifeval"))
    package = tmp_path / "site" / "instruction_following_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "evaluation.py").write_text(
        "from dataclasses import dataclass, field\n\n@dataclass\nclass InputExample:\n"
        "    key: object\n    instruction_id_list: list\n    prompt: str\n    kwargs: dict\n\n"
        "@dataclass\nclass Followed:\n    follow_all_instructions: bool\n    follow_instruction_list: list\n\n"
        "def ensure_nltk_resource():\n    pass\n\n"
        "def test_instruction_following(example, reply, strict):\n"
        "    found = ['pear' in reply, strict is False or 'exactly' in reply]\n"
        "    return Followed(all(found), found)\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    forget()

    benchmark = load_benchmark(BenchmarkGoal(name="ifeval"))
    prompts = prompts_of(benchmark, tuple(Part))

    assert prompts[0]["messages"] == [{"role": "user", "content": "Write about 1."}]
    assert [record["score"] for record in mark(benchmark, answers(prompts[:1], "a pear"))] == [0.0]
    assert [record["score"] for record in mark(benchmark, answers(prompts[:1], "exactly a pear"))] == [1.0]


def test_a_task_that_asks_again_is_refused(server: HubServer) -> None:
    from inspect_ai.solver import chain, generate

    benchmark = load_benchmark(BenchmarkGoal(name="aime2025"))
    task = inspect_tasks.inspect_task("aime2025")
    task.solver = chain(task.solver, generate())
    with pytest.raises(PostgradError, match="goes on after the first answer"):
        mark(benchmark, answers([{"id": "0", "epoch": 1}], "ANSWER: 70"))


def test_names_and_metrics_that_do_not_fit_are_one_line_each() -> None:
    with pytest.raises(BadInput, match=r"no benchmark `gsmk8`: did you mean `gsm8k`\? `postgrad benchmarks` lists"):
        load_benchmark(BenchmarkGoal(name="gsmk8"))
    with pytest.raises(BadInput, match="gsm8k has a scorer of its own; leave `metric` out"):
        load_benchmark(BenchmarkGoal(name="gsm8k", metric="exact"))


def test_intake_asks_for_room_for_the_prompt_and_takes_a_published_set_as_small_as_it_is(
    server: HubServer, tiny_model: Path
) -> None:
    def goal(**benchmark: Any) -> dict[str, Any]:
        table = {"name": "aime2025", **benchmark}
        return {"text": "t", "base_model": str(tiny_model), "benchmark": [table], "data": {"generator": __file__}}

    with pytest.raises(BadInput, match="an answer take 16,000 tokens, and the model reads 1,024 in all"):
        check_goal(parse_goal(goal(), Path.cwd()))
    assert len(check_goal(parse_goal(goal(max_tokens=512), Path.cwd())).benchmarks["aime2025"].items) == 30
    with pytest.raises(BadInput, match="has 10 selection items; give it at least 20"):
        check_goal(parse_goal(goal(max_tokens=512, limit=20), Path.cwd()))


def test_without_inspect_ai_a_benchmark_says_what_to_install(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "sums.jsonl"
    own.write_text("".join(json.dumps({"question": f"{n}?", "answer": str(n)}) + "\n" for n in range(90)))
    monkeypatch.setitem(sys.modules, "inspect_ai", None)  # type: ignore[arg-type]
    for table in ({"path": str(own)}, {"name": "aime2025"}):
        goal = {"text": "t", "base_model": str(tiny_model), "benchmark": [table], "limits": {"experiments": 0}}
        with pytest.raises(BadInput, match=r"^[^\n]*inspect.ai[^\n]* not installed; pip install 'postgrad\[eval\]'$"):
            check_goal(parse_goal(goal, Path.cwd()))


@pytest.mark.usefixtures("noop_jobs")
def test_a_model_is_scored_on_a_named_benchmark_and_data_is_searched_for_it(
    server: HubServer, tiny_model: Path, tmp_path: Path
) -> None:
    scored = postgrad.evaluate(tiny_model, "arc_challenge", max_tokens=16, approve="auto")

    assert (scored["benchmark"], scored["n"]) == ("arc_challenge", N)
    records = [json.loads(line) for line in Path(scored["items"]).read_text().splitlines()]
    assert scored["score"] == pytest.approx(sum(record["score"] for record in records) / N)
    rows = [
        {"question": "Which is 5?", "answer": "5"},
        {"question": "What is the capital of France?", "answer": "Paris"},
    ]
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert postgrad.audit(data, benchmark="arc_challenge")["contamination"][0]["flagged"] == 1


def test_the_command_lists_all_of_them_and_why_some_cannot_be_scored(cli: Cli) -> None:
    done = cli("benchmarks", "--json")
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}

    assert {*SERVED, "ifeval"} <= set(listed)
    assert listed["gpqa_main"]["needs"] == ["terms accepted on the Hub"]
    assert listed["gsm8k"]["available"] is True
    assert "pip install" in listed["ifeval"]["why_not"]
    table = cli("benchmarks").stdout
    assert "not available: ifeval: its scorer stands on" in table
