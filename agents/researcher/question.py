"""A question about the literature that belongs to no run: what it is about, and a language model's answer to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field, create_model

from agents.brain import Role
from agents.loop import work
from agents.prompting import conversation, fill
from agents.researcher.attribution import KNOWN_BENCHMARKS
from agents.researcher.findings import Notebook
from agents.researcher.proposal import Evidence, facts_of, recipes_of
from agents.researcher.team import limited
from agents.researcher.tools import tools
from agents.workbench import Workbench
from shared_memory.recipes import Recipe
from shared_memory.records import Finding, Record

PROMPTS = Path(__file__).parent / "prompts"
MOST_RECIPES = 6
USUAL_METHODS = ("sft", "dpo", "grpo")
"""Whose recipes are asked for where a question names no method: the schema of each is sent with every request."""
CITED = re.compile(r"\[([a-z0-9][a-z0-9., -]*)\]")
"""Ids of findings in a summary."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
LIKE_AN_ID = re.compile(r"[a-z0-9][a-z0-9.-]*-[0-9a-f]{6}")
"""As the notebook makes them."""

_WORDS_OF_METHODS = {
    "sft": r"sft|supervised|instruction[- ]tun\w*|fine-?tun\w*", "dpo": r"dpo|direct preference\w*",
    "kto": r"kto|kahneman\w*", "reward": r"reward model\w*", "grpo": r"grpo|group[- ]relative\w*",
    "rloo": r"rloo|leave[- ]one[- ]out", "distill": r"distil\w*|on-policy distil\w*",
}  # fmt: skip
_ONLINE = re.compile(r"\b(?:rl|rlvr|rlhf|reinforcement learning)\b", re.IGNORECASE)
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?-?([bm])\b", re.IGNORECASE)
_SMALL = re.compile(r"\b(?:small|tiny)\b", re.IGNORECASE)
SMALL_MILLIONS = 4000.0
"""Parameters below which a model is called small here."""
_NO_BENCHMARKS = re.compile(
    r"(?:Q?LoRA|DoRA|PEFT|TRL|PPO|RLHF|RLVR|RLAIF|RL|LLMs?|SLMs?|VLMs?|[CG]PUs?|HF|AI|ML|NLP|KL|CoT|MoE|API|VRAM|OOM|"
    r"SFT|DPO|KTO|GRPO|RLOO|GKD|AdamW|GPT|BERT|DAPO|ORPO|SimPO|OK|PDF|US|UK|GB|TB|FP\d+|BF\d+|INT\d+|\d.*)"
)
_BENCHMARK_LIKE = re.compile(r"(?<![\w/-])(?=[\w-]*[A-Z][\w-]*[A-Z])[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*(?![\w/])")
_MODELS = re.compile(
    r"qwen|llama|gemma|mistral|phi-|smollm|olmo|deepseek|gpt|claude|gemini|granite|falcon", re.IGNORECASE
)


@dataclass(frozen=True)
class Question:
    """What a person wants to know, with what code can tell of it."""

    text: str

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that it names; empty for any. What trains by trial counts as GRPO and RLOO."""
        named = [
            method for method, words in _WORDS_OF_METHODS.items() if re.search(rf"\b(?:{words})\b", self.text, re.I)
        ]
        if "sft" in named and len(named) > 1 and not re.search(r"\b(?:sft|supervised)\b", self.text, re.I):
            named.remove("sft")  # `fine-tuning with GRPO` is about GRPO
        if not named and _ONLINE.search(self.text):
            named = ["grpo", "rloo"]
        return tuple(named)

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """What it names that results are measured on, as far as spelling tells."""
        known = list(KNOWN_BENCHMARKS.finditer(self.text))
        found = [match[0] for match in known]
        found += [
            match[0]
            for match in _BENCHMARK_LIKE.finditer(self.text)
            if not _NO_BENCHMARKS.fullmatch(match[0])
            and not _MODELS.search(match[0])
            and not any(each.start() <= match.start() and match.end() <= each.end() for each in known)
        ]
        first = {each.casefold(): each for each in reversed(found)}
        return tuple(first[key] for key in dict.fromkeys(each.casefold() for each in found))

    @property
    def millions(self) -> tuple[float, float]:
        """Parameters of the model that it is about, from and to (inclusive)."""
        sizes = [float(number) * (1000 if unit in "bB" else 1) for number, unit in _SIZE.findall(self.text)]
        if sizes:
            return min(sizes), max(sizes)
        return (0.0, SMALL_MILLIONS) if _SMALL.search(self.text) else (0.0, float("inf"))


class Answer(Record):
    """What is handed in for a question."""

    summary: str = Field(min_length=1, max_length=4000)
    """At most ten sentences, each with the ids of its findings in brackets."""
    findings: tuple[Finding, ...] = ()
    """Those of the library that it rests on, and what is remembered without a source; those that were filed need only
    be named."""
    recipes: tuple[Recipe, ...] = Field(default=(), max_length=MOST_RECIPES)
    """Best first; each names the findings it rests on."""


def answer(
    question: Question, bench: Workbench, notebook: Notebook, findings: dict[str, Finding], recipes: dict[str, Recipe]
) -> Answer:
    """A model's answer with findings and recipes as code knows them; findings and recipes are the library's that fit.

    Raises what `agents.loop.work` raises; what was filed until then is in the notebook.
    """
    evidence = Evidence(findings, recipes, notebook, bench.model.name)
    methods = question.methods or USUAL_METHODS
    kind = create_model(
        "Answer", __base__=Answer, recipes=(recipes_of(methods), Field(default=(), max_length=MOST_RECIPES))
    )
    facts = {
        "methods": list(methods),
        "benchmarks": list(question.benchmarks),
        "library": facts_of(findings, recipes),
    }
    system, task = fill(PROMPTS / "system.md"), fill(PROMPTS / "question.md")
    messages = partial(conversation, system, task, facts, {"question": question.text}, kind)

    def fault(given: Answer) -> str:
        return evidence.fault(given.findings, given.recipes) or _fault_of_summary(given, notebook, findings)

    bench = limited(bench)
    reading = [*tools(bench, notebook), *bench.tools]
    said = Answer.model_validate(work(bench, str(Role.RESEARCHER), kind, messages, reading, fault).plain())
    found = evidence.findings(said.findings, said.recipes)
    return Answer(summary=said.summary, findings=found, recipes=evidence.recipes(said.recipes, found))


def cited_in(summary: str) -> list[str]:
    """The ids of findings that a summary names, in its order."""
    return [name.strip() for group in CITED.findall(summary) for name in group.split(",") if name.strip()]


def _fault_of_summary(given: Answer, notebook: Notebook, library: dict[str, Finding]) -> str:
    known = {**library, **{each.id: each for each in given.findings}}
    known |= {filed.finding.id: filed.finding for filed in notebook.all()}
    strange = [name for name in cited_in(given.summary) if name not in known and LIKE_AN_ID.fullmatch(name)]
    if strange:
        return f"the summary cites {strange[0]!r}, which is no finding; cite the ids that `record_finding` gave back"
    why = notebook.fault_of_expectation(CITED.sub("", given.summary), list(known.values()))
    if why:
        return why.replace("`expected`", "`summary`").replace("none of its findings", "no finding")
    for sentence in _SENTENCE.split(given.summary):
        cited = [known[name] for name in cited_in(sentence) if name in known]
        if notebook.fault_of_expectation(CITED.sub("", sentence), cited):
            return f"the summary says {sentence[:120]!r} without the id of the finding that has this figure"
    return ""
