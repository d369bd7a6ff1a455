"""What an answering job can be told: config.json, checked before anything heavy is loaded."""

from dataclasses import dataclass
from pathlib import Path

from job import DTYPES, JobError, be_positive, be_there, read_settings

CHOICES = {"decoding": ("greedy", "model"), "dtype": DTYPES, "engine": ("auto", "transformers", "vllm")}


@dataclass(frozen=True)
class Config:
    model: str
    """Folder or Hub id."""
    prompts: str
    """JSONL file."""
    revision: str | None = None
    adapter: str | None = None
    """Folder or Hub id of a PEFT adapter over the model."""
    chat_template: str | None = None
    """Jinja file in place of the model's own template."""
    decoding: str = "greedy"
    """`greedy` takes the likeliest token each time; `model` samples as the model's generation_config.json says."""
    max_tokens: int = 256
    """Of an answer; fewer where prompt and answer together would exceed the model's context."""
    micro_batch: int = 64
    """Prompts that are answered at a time, at most: halved when memory runs out."""
    seed: int = 0
    """Of sampling; every prompt has random numbers of its own, whatever it shares a batch with."""
    dtype: str = "auto"
    """auto: the checkpoint's own on an accelerator; on a CPU bfloat16 where it calculates in it, else float32."""
    engine: str = "auto"
    """auto: vLLM on a GPU where it is installed, else transformers."""
    resume_from: str | None = None
    """Folder of an earlier try's answers.jsonl, which are taken over."""

    @property
    def template(self) -> str | None:
        """The text of `chat_template`. Raises JobError where it cannot be read."""
        try:
            return Path(self.chat_template).read_text(encoding="utf-8") if self.chat_template else None
        except (OSError, ValueError) as e:
            raise JobError(f"cannot read the chat template {self.chat_template}: {e}; give a Jinja file") from e


def read_config(path: Path) -> Config:
    """Raises JobError for anything that is not exactly the documented settings."""
    config = read_settings(path, Config, CHOICES)
    be_there(config.model, config.adapter, config.resume_from)
    be_positive(config, "max_tokens", "micro_batch")
    return config
