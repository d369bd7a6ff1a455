"""Texts made to keep redaction busy, and texts that look like secrets from afar."""

from __future__ import annotations

import base64
import hashlib
import random
import uuid
from collections.abc import Callable

import pytest

from shared_memory.redaction import redact

BASE64_LINE = base64.b64encode(b"no key at all, but lines of one, again and again").decode()
AGAIN = [
    "Cookie:", "Cookie: a=", "-eyJ", "-eyJaaaaaaaa", "eyJaaaaaaaa.", "password=a1", "password: a1 ", "key=",
    "api_key=a1", "token:", "API_TOKEN ", f"{BASE64_LINE}\n", f"{BASE64_LINE}\\n", "-----BEGIN PRIVATE KEY-----",
    "login a password ", "://a:", " -u a:", "_hf_a", "-sk-", "Authorization=a1", "\n", " ", "\\", "\x1b[", '"',
]  # fmt: skip
"""What a stranger may repeat in a row or a log, so that an expression looks at all of it from every place in it."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", AGAIN)
@pytest.mark.parametrize("end", ["", "!"], ids=["to the end", "then a sign"])
def test_no_text_is_looked_at_again_and_again(piece: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In time that grows with the square of its length, half a megabyte takes minutes."""
    monkeypatch.setenv("SOMEBODYS_TOKEN", "q7ZkM2xVb9RtYw3LpDs8HnCj4GfE6aUo")
    text = "login password key token Cookie: PRIVATE KEY://" + piece * (500_000 // len(piece)) + end
    assert redact(text).startswith("login password key token")


def test_a_secret_many_times_in_one_block_of_base64_goes_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_TOKEN", "hunter-two-hunter")
    coded = base64.b64encode(b"hunter-two-hunter " * 50_000).decode()
    assert redact(f"x {coded} y") == "x [redacted] y"


def drawn(count: int, alphabet: str, dice: random.Random) -> str:
    return "".join(dice.choices(alphabet, k=count))


LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
HARMLESS: tuple[Callable[[random.Random], str], ...] = (
    lambda dice: f"commit {hashlib.sha1(dice.randbytes(8)).hexdigest()}",
    lambda dice: f"index {drawn(11, LOWER[26:] + 'abcdef', dice)}..{drawn(11, LOWER[26:] + 'abcdef', dice)} 100644",
    lambda dice: f"'sha256': '{dice.randbytes(32).hex()}', etag: \"{dice.randbytes(20).hex()}\"",
    lambda dice: f'{{"key": "{dice.randbytes(16).hex()}", "spec_digest": "{dice.randbytes(32).hex()}"}}',
    lambda dice: f"request_id={uuid.UUID(bytes=dice.randbytes(16))} took {dice.random():.3f} s",
    lambda dice: f"data:image/png;base64,{base64.b64encode(dice.randbytes(600)).decode()}",
    lambda dice: (
        f"wandb: Run data is saved locally in wandb/run-20261130_1244{dice.randint(10, 59)}-{drawn(8, LOWER, dice)}"
    ),
    lambda dice: f"https://wandb.ai/somebody/project/runs/{drawn(8, LOWER, dice)}?nw=nwuser{drawn(5, LOWER, dice)}",
    lambda dice: f"loading org/Model-{dice.randint(1, 400)}B-Instruct-v0.{dice.randint(1, 9)}-{drawn(6, LOWER, dice)}",
    lambda dice: f"snapshots/{dice.randbytes(20).hex()}/model-0000{dice.randint(1, 9)}-of-00009.safetensors",
    lambda dice: (
        f"{{'loss': {dice.random():.4f}, 'grad_norm': {dice.random()}, 'num_tokens': {dice.randint(1, 10**9)}.0}}"
    ),
    lambda dice: f"pad_token_id={dice.randint(0, 151_935)}, eos_token_id: [{dice.randint(0, 151_935)}, 151645]",
    lambda dice: "tokenizer.pad_token = tokenizer.eos_token",
    lambda dice: (
        f"tokens: {dice.randint(1, 10**9):,} | max_tokens={dice.randint(1, 4096)} | key: v_{drawn(4, LOWER, dice)}"
    ),
    lambda dice: (
        f"{{'prompt': 'What is {dice.randint(1, 10**6)} times {dice.random()}?', 'completion': '{dice.random()}'}}"
    ),
)


def test_digests_images_and_names_of_runs_and_models_are_left_alone() -> None:
    dice = random.Random(0)
    lines = [HARMLESS[number % len(HARMLESS)](dice) for number in range(10_000)]
    assert [line for line in lines if redact(line) != line] == []
