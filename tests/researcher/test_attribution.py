"""A number is filed under the benchmark that its source gives it for, and under no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.researcher.findings import Filed, Notebook
from agents.researcher.question import Question
from agents.researcher.shelf import Reading
from agents.researcher.survey import results_in
from shared_memory.records import Finding

TABLE = """| Method | GPQA | GPQA | GSM8K | MATH-500 |
| --- | --- | --- | --- | --- |
| Method | main | diamond | 0-shot | 0-shot |
| SFT | 30.4 | 28.0 | 71.2 | .412 |
| SFT \\| group | 36.1 ± 0.8 | 33.5 | 85.3 | .455 |
| trained on GSM8K | 27.5 | 26.0 | 88.0 | .430 |"""
TURNED = """| Benchmark | Base | Ours |
| --- | --- | --- |
| GPQA | 28.0 | 36.1 |
| GSM8K | 71.2 | 85.3 |
| AIME24 | 3.3 | 13.3 |"""
WORDS = (
    "It reaches 36.1% on GPQA and 85.3% on the GSM8K test. On AIME 2024 it solves 46.7 per cent of the problems. "
    "The small model has .397 for IFEval. Our own exam is passed by 52.5 per cent."
)
YEARS = "| Method | AIME24 | MMLU-Pro | MMLU |\n| --- | --- | --- | --- |\n| SFT | 43.3 | 45.1 | 66.6 |"
LIST = "On IFBench we reach 60, on HumanEval 41. It has 44.4 on MMLU-Pro."
SECTIONS = {"Table 4": TABLE, "Table 6": YEARS, "Table 5": TURNED, "Abstract": WORDS, "B": LIST}


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    made = Notebook(tmp_path)
    for section, text in SECTIONS.items():
        made.shelf.put(Reading(source="arXiv 2402.03300", text=text, section=section, fetched=1.7e9))
    return made


def file(notebook: Notebook, number: float, benchmark: str, quotation: str, section: str = "") -> Filed | str:
    told: dict[str, Any] = {"id": "", "claim": "it was measured", "source": "2402.03300"}
    return notebook.file(Finding(**told, quotation=quotation, number=number, benchmark=benchmark, section=section))


@pytest.mark.parametrize(
    ("number", "benchmark", "quotation"),
    [
        (30.4, "gpqa_main", "| SFT | 30.4 | 28.0 | 71.2 | .412 |"),
        (28.0, "GPQA diamond", "SFT 30.4 28.0 71.2 .412"),
        (36.1, "GPQA", "| SFT | group | 36.1 ± 0.8 | 33.5 | 85.3 | .455 |"),
        (27.5, "GPQA main", "| trained on GSM8K | 27.5 | 26.0 | 88.0 | .430 |"),
        (0.412, "MATH", "| SFT | 30.4 | 28.0 | 71.2 | .412 |"),
        (85.3, "GSM8K", "| GSM8K | 71.2 | 85.3 |"),
        (85.3, "GSM8K", "It reaches 36.1% on GPQA and 85.3% on the GSM8K test"),
        (46.7, "AIME24", "On AIME 2024 it solves 46.7 per cent of the problems"),
        (0.397, "ifeval", "The small model has .397 for IFEval"),
        (43.3, "AIME 2024", "| SFT | 43.3 | 45.1 | 66.6 |"),
        (45.1, "mmlu_pro", "| SFT | 43.3 | 45.1 | 66.6 |"),
        (60, "IFBench", "On IFBench we reach 60, on HumanEval 41"),
        (44.4, "MMLU-Pro", "It has 44.4 on MMLU-Pro"),
        (52.5, "exam", "Our own exam is passed by 52.5 per cent"),
    ],
)
def test_a_number_is_filed_under_the_name_of_its_column_or_of_its_sentence(
    notebook: Notebook, number: float, benchmark: str, quotation: str
) -> None:
    notebook.shelf.put(Reading(source="arXiv 2402.03300", text="AIME24 is AIME 2024.", section="B", fetched=1.7e9))
    filed = file(notebook, number, benchmark, quotation)
    assert isinstance(filed, Filed), filed


@pytest.mark.parametrize(
    ("number", "benchmark", "quotation", "section", "reason"),
    [
        (71.2, "GPQA", "| SFT | 30.4 | 28.0 | 71.2 | .412 |", "", "71.2 stands under 'GSM8K 0-shot' there"),
        (0.412, "GSM8K", "| SFT | 30.4 | 28.0 | 71.2 | .412 |", "", "0.412 stands under 'MATH-500 0-shot' there"),
        (30.4, "GPQA diamond", "| SFT | 30.4 | 28.0 | 71.2 | .412 |", "", "not under GPQA diamond"),
        (33.5, "GSM8K", "It reaches 36.1% on GPQA and 85.3%", "Table 4", "33.5 stands under 'GPQA diamond' there"),
        (85.3, "GPQA", "It reaches 36.1% on GPQA and 85.3% on the GSM8K test", "", "has 85.3 on GSM8K, not on GPQA"),
        (46.7, "GSM8K", "On AIME 2024 it solves 46.7 per cent", "", "speaks of AIME 2024, not of GSM8K"),
        (
            43.3,
            "AIME 2025",
            "| SFT | 43.3 | 45.1 | 66.6 |",
            "",
            "43.3 stands under 'AIME24' there, not under AIME 2025",
        ),
        (45.1, "MMLU", "| SFT | 43.3 | 45.1 | 66.6 |", "", "45.1 stands under 'MMLU-Pro' there, not under MMLU"),
        (44.4, "MMLU", "It has 44.4 on MMLU-Pro", "", "has 44.4 on MMLU-Pro, not on MMLU"),
        (46.7, "AIME 2025", "On AIME 2024 it solves 46.7 per cent", "", "speaks of AIME 2024, not of AIME 2025"),
        (13.3, "AIME 2025", "| AIME24 | 3.3 | 13.3 |", "", "speaks of AIME24, not of AIME 2025"),
        (71.2, "IFEval", "| GSM8K | 71.2 | 85.3 |", "", "speaks of GSM8K, not of IFEval"),
    ],
)
def test_a_number_of_another_benchmark_is_refused_with_the_one_that_it_is_of(
    notebook: Notebook, number: float, benchmark: str, quotation: str, section: str, reason: str
) -> None:
    told = file(notebook, number, benchmark, quotation, section)
    assert isinstance(told, str)
    assert reason in told
    assert notebook.all() == []


@pytest.mark.parametrize(
    ("question", "text", "numbers"),
    [
        ("SFT on GSM8K", "We gain 3.1% over the base and reach 85.3% on GSM-8K.", [85.3]),
        ("SFT on AIME 2025", YEARS, []),
        ("SFT on AIME 2024", YEARS, [43.3]),
        ("SFT on MMLU", YEARS, [66.6]),
    ],
)
def test_without_a_model_the_result_is_the_one_of_the_questions_benchmark(
    question: str, text: str, numbers: list[float]
) -> None:
    kept = Reading(source="arXiv 2402.03300", text=text, section="Results", fetched=1.7e9)
    assert [each.number for each in results_in(Question(question), kept)] == numbers
