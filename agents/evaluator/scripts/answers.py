"""The answers of a job on disk: appended as they come, and taken over by whoever goes on after the job has died."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from job_config import Config
from prompts import Prompt

ANSWERS, SETTINGS = "answers.jsonl", "settings.json"
SYNC_SECONDS = 2.0
"""What a machine that loses its power may lose; a process that is killed loses nothing that it has written."""
FREE = ("micro_batch", "resume_from")
"""Settings that change no answer."""


@dataclass(frozen=True)
class Answer:
    """A line of answers.jsonl."""

    id: str
    epoch: int
    output: str
    output_tokens: int
    """Generated, the one that ends the turn included."""
    prompt_tokens: int
    truncated: bool
    """The limit was met before the model ended its turn."""


class Answers:
    """out/answers.jsonl: what is there already, and what is appended."""

    def __init__(self, config: Config, prompts: Sequence[Prompt], out: Path) -> None:
        """Takes over the answers in `config.resume_from` and in `out` itself, where they were given as asked now."""
        asked = {"config": {k: v for k, v in asdict(config).items() if k not in FREE}, "prompts": _digest(prompts)}
        settings = json.dumps(asked | {"chat_template": config.template}, sort_keys=True)
        self.given: dict[tuple[str, int], Answer] = {}
        for folder in ([Path(config.resume_from)] if config.resume_from else []) + [out]:
            if _fits(folder, settings):
                self.given |= {(each.id, each.epoch): each for each in _whole_lines(folder / ANSWERS)}
            elif (folder / ANSWERS).exists():
                print(f"{folder / ANSWERS} is of other prompts or settings, and is not taken over", flush=True)
        self.taken_over = len(self.given)
        _replace(out / ANSWERS, "".join(map(_line, self.given.values())))
        _replace(out / SETTINGS, settings)
        self._file = (out / ANSWERS).open("a", encoding="utf-8")
        self._synced = time.monotonic()

    def add(self, answers: Sequence[Answer]) -> None:
        """Whole lines, safe from the death of this process at once and from the machine's within SYNC_SECONDS."""
        self.given |= {(answer.id, answer.epoch): answer for answer in answers}
        self._file.write("".join(map(_line, answers)))
        self._file.flush()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def _fits(folder: Path, settings: str) -> bool:
    return (folder / SETTINGS).is_file() and (folder / SETTINGS).read_text(encoding="utf-8") == settings


def _digest(prompts: Sequence[Prompt]) -> str:
    return hashlib.sha256(json.dumps([prompt.asked for prompt in prompts], sort_keys=True).encode()).hexdigest()


def _line(answer: Answer) -> str:
    return json.dumps(asdict(answer)) + "\n"


def _whole_lines(path: Path) -> list[Answer]:
    """What a job that may have been killed has written; its last line may be torn."""
    if not path.is_file():
        return []
    answers = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            given: dict[str, Any] = json.loads(line)
            answers.append(Answer(**given))
        except (ValueError, TypeError):
            break
    return answers


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
