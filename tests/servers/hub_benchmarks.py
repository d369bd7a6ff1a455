"""Published benchmarks as the Hub has them: their repositories' own layouts, at the commits that the registry pins,
with toy rows that say nothing about the real ones."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from agents.evaluator.benchmarks.registry import entries
from tests.servers.hub import HubServer
from tests.servers.hub_repos import Repo

N = 24
"""Rows of each split."""


def serve(server: HubServer, *names: str, **options: Any) -> None:
    """Adds the data sets of some benchmarks; `options` are the repositories' (`gated`)."""
    for source in {entries()[name].source for name in names}:
        revision = next(entry.revision for entry in entries().values() if entry.source == source)
        repo = server.add(source, LAYOUTS[source](), **options)
        _name_head(repo, revision)


def _name_head(repo: Repo, revision: str) -> None:
    """Gives the newest commit the name that the real one has."""
    head = repo.commits.pop(repo.refs["main"])
    repo.commits[revision] = replace(head, oid=revision)
    repo.refs["main"] = revision


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(list(rows), infer_schema_length=None).write_parquet(buffer)
    return buffer.getvalue()


def jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def card(*configs: tuple[str, Sequence[tuple[str, str]]]) -> str:
    """A README whose head says which files are which config's splits."""
    lines = ["configs:"]
    for name, splits in configs:
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits:
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "---\n" + "\n".join(lines) + "\n---\n# Toy\n"


def gpqa_rows(numbers: Sequence[int]) -> list[dict[str, str]]:
    return [
        {
            "Question": f"How many metres, with\na second line, are {n} m?",
            "Correct Answer": f"{n} m\n",
            "Incorrect Answer 1": f"{n + 1} m",
            "Incorrect Answer 2": f"{n + 2} m",
            "Incorrect Answer 3": f"{n + 3} m",
            "Record ID": f"rec{n:05}",
            "High-level domain": "Physics",
            "Subdomain": "Optics" if n % 3 else "Relativity",
        }
        for n in numbers
    ]


def _gpqa() -> dict[str, bytes | str]:
    main = pl.DataFrame(gpqa_rows(range(60)))
    configs = [(f"gpqa_{name}", [("train", f"gpqa_{name}.csv")]) for name in ("main", "diamond")]
    return {
        "README.md": card(*configs),
        "gpqa_main.csv": main.write_csv(),
        "gpqa_diamond.csv": main[1::2].write_csv(),
    }


def _gsm8k() -> dict[str, bytes | str]:
    def rows(start: int) -> list[dict[str, str]]:
        return [
            {"question": f"Ann has {n} pears and eats 2. How many are left?", "answer": f"{n}-2.\n#### {n - 2}"}
            for n in range(start, start + N)
        ]

    return {
        "README.md": card(("main", [("train", "main/train-*"), ("test", "main/test-*")])),
        "main/train-00000-of-00001.parquet": parquet(rows(1000)),
        "main/test-00000-of-00001.parquet": parquet(rows(10)),
    }


def _aime() -> dict[str, bytes | str]:
    rows = [{"problem": f"What is ${n}+70$?", "answer": str(n + 70), "id": str(n)} for n in range(30)]
    return {"README.md": "---\nlicense: apache-2.0\n---\n", "test.jsonl": jsonl(rows)}


def _humaneval() -> dict[str, bytes | str]:
    rows = [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f'def add_{n}(x):\n    """Add {n}."""\n',
            "canonical_solution": f"    return x + {n}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
            "entry_point": f"add_{n}",
        }
        for n in range(N)
    ]
    layout = card(("openai_humaneval", [("test", "openai_humaneval/test-*")]))
    return {"README.md": layout, "openai_humaneval/test-00000-of-00001.parquet": parquet(rows)}


def _bfcl() -> dict[str, bytes | str]:
    rows = [
        {
            "id": f"exec_simple_{n}",
            "question": [[{"role": "user", "content": f"How likely are {n} heads?"}]],
            "function": [
                {
                    "name": "likelihood",
                    "description": "Of heads.",
                    "parameters": {
                        "type": "dict",
                        "properties": {"heads": {"type": "integer"}, "p": {"type": "float"}},
                        "required": ["heads", "p"],
                    },
                }
            ],
            "execution_result_type": ["exact_match"],
            "ground_truth": [f"likelihood(heads={n}, p=0.5)"],
        }
        for n in range(N)
    ]
    return {
        "README.md": card(("exec_simple", [("train", "BFCL_v3_exec_simple.jsonl")])),
        "BFCL_v3_exec_simple.jsonl": jsonl(rows),
    }


def _mmlu() -> dict[str, bytes | str]:
    def rows(start: int) -> list[dict[str, Any]]:
        return [
            {
                "question": f"Which is {n}?",
                "subject": "anatomy" if n % 2 else "world_religions",
                "choices": [str(n + place) for place in (3, 0, 1, 2)],
                "answer": 1,
            }
            for n in range(start, start + N)
        ]

    twice = [*rows(0), {**rows(0)[0], "subject": "virology"}]
    splits = [("test", "all/test-*"), ("dev", "all/dev-*")]
    return {
        "README.md": card(("all", splits)),
        "all/test-00000-of-00001.parquet": parquet(twice),
        "all/dev-00000-of-00001.parquet": parquet(rows(1000)),
    }


def _mmlu_pro() -> dict[str, bytes | str]:
    rows = [
        {
            "question_id": n,
            "question": f"Which is {n}?",
            "options": [str(n + place - n % 4) for place in range(10 if n % 2 else 7)],
            "answer": "ABCD"[n % 4],
            "answer_index": n % 4,
            "cot_content": "",
            "category": "Physics" if n % 2 else "law",
            "src": "toy",
        }
        for n in range(N)
    ]
    splits = [("test", "data/test-*"), ("validation", "data/validation-*")]
    return {
        "README.md": card(("default", splits)),
        "data/test-00000-of-00001.parquet": parquet(rows),
        "data/validation-00000-of-00001.parquet": parquet(rows[:5]),
    }


def _arc() -> dict[str, bytes | str]:
    def rows(start: int) -> list[dict[str, Any]]:
        labels = [list("ABCD"), list("1234")]
        return [
            {
                "id": f"Toy_{n}",
                "question": f"Which is {n}?",
                "choices": {"text": [str(n + place) for place in (2, 0, 1, 3)], "label": labels[n % 2]},
                "answerKey": labels[n % 2][1],
            }
            for n in range(start, start + N)
        ]

    names = ("ARC-Challenge", "ARC-Easy")
    files: dict[str, bytes | str] = {"README.md": card(*((name, [("test", f"{name}/test-*")]) for name in names))}
    return files | {
        f"{name}/test-00000-of-00001.parquet": parquet(rows(100 * place)) for place, name in enumerate(names)
    }


def _truthfulqa() -> dict[str, bytes | str]:
    rows = [
        {
            "question": f"Which is {n}?",
            "mc1_targets": {"choices": [str(n + place) for place in range(size)], "labels": [1] + [0] * (size - 1)},
            "mc2_targets": {"choices": [str(n), str(n + 1)], "labels": [1, 0]},
        }
        for n, size in ((n, 2 + n % 12) for n in range(N))
    ]
    layout = card(("multiple_choice", [("validation", "multiple_choice/validation-*")]))
    return {"README.md": layout, "multiple_choice/validation-00000-of-00001.parquet": parquet(rows)}


def _ifeval() -> dict[str, bytes | str]:
    kwargs = {"num_words": None, "keywords": None}
    rows = [
        {
            "key": 1000 + n,
            "prompt": f"Write about {n}.",
            "instruction_id_list": ["toy:length", "toy:words"],
            "kwargs": [{**kwargs, "num_words": n}, {**kwargs, "keywords": ["pear"]}],
        }
        for n in range(1, N + 1)
    ]
    return {"README.md": "---\nlicense: apache-2.0\n---\n", "ifeval_input_data.jsonl": jsonl(rows)}


LAYOUTS = {
    "Idavidrein/gpqa": _gpqa,
    "openai/gsm8k": _gsm8k,
    "math-ai/aime25": _aime,
    "openai/openai_humaneval": _humaneval,
    "gorilla-llm/Berkeley-Function-Calling-Leaderboard": _bfcl,
    "cais/mmlu": _mmlu,
    "TIGER-Lab/MMLU-Pro": _mmlu_pro,
    "allenai/ai2_arc": _arc,
    "truthfulqa/truthful_qa": _truthfulqa,
    "google/IFEval": _ifeval,
}
"""Data set → its files."""
