"""A language model that grades answers: what it takes, what is asked of it, and what it has said before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agents.asking import SIDE_BY_SIDE, heedless
from agents.evaluator.benchmarks.rubrics import KEY
from agents.hosting import is_hosted
from agents.llm import InvalidAnswer, LanguageModel, strict_schema
from agents.prompting import compact, conversation, fill
from agents.provider import Provider
from shared_memory.errors import BudgetSpent, ContextExhausted, Unavailable
from shared_memory.goal import Goal
from shared_memory.records import MICRO_USD, Estimate, JobSpec, Part, Record, canonical_digest
from shared_memory.run_paths import RunPaths, write_atomically

if TYPE_CHECKING:
    from agents.evaluator.benchmarks.benchmark import Benchmark

PROMPTS = Path(__file__).parent / "prompts"
TERMS = "judge.json"
"""File of an evaluation job that a judge grades: what is asked of it, so that the consent to the job covers it."""
SECONDS_A_REQUEST = 8.0
"""What a hosted model takes for a verdict; one that thinks, or runs on a CPU, takes longer."""
BYTES_A_TOKEN = 4
"""Of English text; others take more tokens for as many bytes."""
TOLD = 10
"""Times that progress is told of in one grading."""

R = TypeVar("R", bound=Record)


class Terms(Record):
    """What a judge will be asked about the answers of one job."""

    model: str
    hosted: bool
    """Whether questions and answers leave this machine for it."""
    requests: int
    """At most: what was graded before is not asked again."""
    tokens: int
    """About as many as it reads, without the answers that it grades."""
    usd_micro: int | None
    """Worst case; None where the model's price is unknown."""
    itself: bool
    """Whether it has the name of the model under test."""

    @property
    def told(self) -> str:
        """For the person at the gate, behind the title of the job."""
        leaves = ", for which questions and answers leave this machine" if self.hosted else ""
        cost = "price unknown" if self.usd_micro is None else f"at worst ${self.usd_micro / MICRO_USD:,.2f}"
        itself = "; it is the model under test, and models prefer their own answers" if self.itself else ""
        takes = f"{self.requests:,} requests, {self.tokens:,} tokens and the answers, {cost}"
        return f"; {self.model} grades the answers{leaves} ({takes}){itself}"

    def added_to(self, estimate: Estimate) -> Estimate:
        """What a job takes together with the judge, which is asked when the job has ended."""
        minutes = self.requests * SECONDS_A_REQUEST / SIDE_BY_SIDE / 60
        price = "; its price is unknown: tokens are counted, dollars are not" if self.usd_micro is None else ""
        basis = (
            f"{estimate.basis}; then {self.requests:,} requests to {self.model}, about {minutes:.0f} min, each held "
            f"against limits.usd and limits.llm_tokens{price}"
        )
        usd_micro = estimate.usd_micro + (self.usd_micro or 0)
        return estimate.model_copy(update={"basis": basis, "usd_micro": usd_micro})


def terms(benchmark: Benchmark, parts: Sequence[Part], goal: Goal) -> Terms:
    """What grading a model's answers to some parts of a benchmark takes.

    The worst case has every answer as long as it may be, a token for each byte of what is known already, and the
    judge's own answers as long as it is let.
    """
    model, api_base = goal.judge.model, goal.judge.api_base
    provider = Provider(model, api_base, "judge")
    requests, tokens, usd_micro = 0, 0, 0
    for item in benchmark.items:
        if item.part not in parts:
            continue
        metadata = getattr(item, "metadata", {})
        times = benchmark.epochs * (len(metadata[KEY]) if benchmark.metric == "rubric" else 2)
        known = len(compact([item.plain(), fill(PROMPTS / f"{benchmark.metric}.md")]).encode())
        each = provider.most_usd_micro(known + benchmark.max_tokens)
        requests += times
        tokens += times * known // BYTES_A_TOKEN
        usd_micro += times * (each or 0)
    return Terms(
        model=model,
        hosted=is_hosted(model, api_base),
        requests=requests,
        tokens=tokens,
        usd_micro=None if provider.most_usd_micro(1) is None else usd_micro,
        # Models prefer what they have written themselves [arXiv 2404.13076].
        itself=model == goal.base_model or model.endswith(f"/{goal.base_model}"),
    )


def terms_of(spec: JobSpec, paths: RunPaths) -> Terms | None:
    """What a job's consent says of its judge; None where no judge is needed."""
    digest = spec.files.get(TERMS)
    return Terms.model_validate_json(paths.stored(digest).read_text(encoding="utf-8")) if digest else None


class Judge:
    """A language model whose verdicts are typed, and kept by what was asked, for all runs of a home."""

    def __init__(
        self,
        model: LanguageModel,
        kept: Path,
        answers: int,
        heed: Callable[[], None] = heedless,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """kept: folder of the verdicts. answers: how many will be graded. `heed` is called before every request, and
        ends the grading by raising; `tell` is told how far it is."""
        self.name = model.name
        self.asked = 0
        """Verdicts that the model was asked for."""
        self.reused = 0
        """Verdicts on the same words that were there already."""
        self.compared = 0
        """Answers that were compared with a baseline's, in both orders."""
        self.flipped = 0
        """Those of them where each order prefers the answer in the same place: the place decided."""
        self.battles = (0.0, 0.0)
        """Of these comparisons: points won, and how many there were to win."""
        self._judged = 0
        self._told = 0
        self._began: float | None = None
        self._model = model
        self._kept = kept
        self._answers = answers
        self._heed = heed
        self._tell = tell
        self._limiter: Any = None
        self._locks: dict[str, Any] = {}

    async def verdict(self, kind: type[R], task: str, words: Mapping[str, Any]) -> R:
        """What the judge says of `words`, which others wrote, by the prompt called `task`.

        Raises Unavailable where it gives no usable verdict even when it is asked again, or cannot be asked, and
        BudgetSpent where a cap leaves no room: then there is no score at all, and what was graded is kept.
        """
        import anyio

        messages = conversation(fill(PROMPTS / "system.md"), fill(PROMPTS / f"{task}.md"), {}, words, kind)
        asked = {
            "model": self.name,
            "api_base": self._model.api_base,
            "messages": messages,
            "schema": strict_schema(kind),
        }
        digest = canonical_digest(asked)
        file = self._kept / f"{digest}.json"
        self._limiter = self._limiter or anyio.CapacityLimiter(SIDE_BY_SIDE)
        self._began = self._began or time.monotonic()
        async with self._locks.setdefault(digest, anyio.Lock()):
            if file.exists():
                self.reused += 1
                return kind.model_validate_json(file.read_text(encoding="utf-8"))
            async with self._limiter:
                self._heed()
                verdict = await anyio.to_thread.run_sync(self._ask, kind, messages)
            self._kept.mkdir(parents=True, exist_ok=True)
            write_atomically(file, verdict.model_dump_json().encode())
            self.asked += 1
            return verdict

    def _ask(self, kind: type[R], messages: Sequence[Mapping[str, str]]) -> R:
        try:
            return self._model.ask(kind, messages)
        except InvalidAnswer as error:
            self._model.forget(error)
            raise Unavailable(
                f"{self._so_far}: {error}; `postgrad resume` asks anew, or start a new run with another [judge] model"
            ) from error
        except (BudgetSpent, ContextExhausted, Unavailable) as error:
            raise type(error)(f"{self._so_far}: {error}") from error

    @property
    def _so_far(self) -> str:
        return f"{self.name} has graded {self._judged} of {self._answers} answers, which is kept"

    def done(self) -> None:
        """Count an answer as graded, and tell now and then how far it is, where that takes requests."""
        self._judged += 1
        step = max(1, math.ceil(self._answers / TOLD))
        if self._judged % step == 0 and self.asked > self._told:
            self._told = self.asked
            self._tell(f"{self.name} judged {self._judged} of {self._answers} answers")

    @property
    def seconds(self) -> float:
        """Since the first verdict was wanted."""
        return time.monotonic() - self._began if self._began else 0.0

    @property
    def notes(self) -> dict[str, Any]:
        """What is worth knowing of a grading that has ended."""
        plain = {"judge": self.name, "answers": self._judged, "asked": self.asked, "reused": self.reused}
        if not self.compared:
            return plain
        won, of = self.battles
        return plain | {"compared": self.compared, "flipped": self.flipped / self.compared, "win_rate": won / of}

    @property
    def told(self) -> str:
        """The same in a line."""
        text = f"{self.name} graded {self._judged} answers: {self.asked} verdicts asked for, {self.reused} known before"
        if not self.compared:
            return text
        won, of = self.battles
        return (
            f"{text}; {self.flipped / self.compared:.1%} of the comparisons were decided by which answer came first; "
            f"win rate {won / of:.1%} where a clear win counts thrice"
        )
