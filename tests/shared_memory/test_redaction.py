from __future__ import annotations

import hashlib
import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shared_memory.redaction
from shared_memory.redaction import REDACTED, redact, redact_plain

HF = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
HEX40 = hashlib.sha1(b"x").hexdigest()
TOKENS = [
    HF,
    "hf_" + "a" * 34,
    "sk-" + "aB3" * 16,
    "sk-proj-" + "aB3_" * 12,
    "sk-ant-" + "api03-" + "aB3-" * 20,
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ghp_" + "a1" * 18,
    "github_pat_" + "11AAAA_" + "b2" * 20,
    "glpat-" + "x1Y2" * 5,
    "xoxb-" + "123456789012-abcdefABCDEF",
    "xoxp-" + "123456789012-abcdefABCDEF",
    "AIza" + "S" * 35,
    "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "rk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "SG." + "aB3-" * 5 + "xY" + "." + "aB3_" * 10 + "xYz",
    "npm_" + "a1B2" * 9,
    "pypi-" + "AgEIcHlwaS5vcmc" + "aB3_" * 20,
    "123456789:" + "AAE" + "aB3_" * 8,
    "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + "." + "aB3-" * 10,
]
AWS = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
PLACES = ["{}", "token={}", '"{}"', "({})", "x {}, y", "<{}>", "?t={}&u=1", "https://{}@host/x.git", "a:{};", "'{}'."]
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,12AB\n\n"
    f"{'MIIEabc+/' * 7}\nabcdef==\n-----END RSA PRIVATE KEY-----"
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:8])
def test_tokens_are_removed_wherever_they_stand(token: str, place: str) -> None:
    assert redact(place.format(token)) == place.format(REDACTED)


@pytest.mark.parametrize(
    "text",
    [
        "tokenizer.pad_token = tokenizer.eos_token",
        'PAD_TOKEN = "<|endoftext|>"; HF_TOKEN = os.environ["HF_TOKEN"]',
        f"sha256 {hashlib.sha256(b'x').hexdigest()} and commit {HEX40}",
        f'"spec_digest": "{hashlib.sha256(b"x").hexdigest()}", "key": "{"ab" * 16}"',
        "from transformers import hf_argparser; hf_hub_download_with_a_long_name(1); hf_automodelforcausallmloader()",
        "ask-someone-about-task-2-of-the-plan-please, sk-learn-contrib-imbalanced",
        "see https://example.org:8080/a@b and git@github.com:me/repo.git, ratio 3://4",
        "-----BEGIN CERTIFICATE-----",
        'if text.startswith("-----BEGIN PRIVATE KEY-----"):',
        '{"step": 12, "loss": 1.23, "max_tokens": 256}',
        "def login(user: str, password: str = DEFAULT_PASSWORD_2) -> None: ...",
        "usage: tool [--password PASSWORD] [--passwd-file /etc/passwd]",
        'password = getpass("Password of user 1: "); password=os.environ["DB_PASSWORD_1"]',
        "connect(host=host, password=password2, user=user); connect(password=settings.db1.password)",
        '{"password": "Must be at least 8 characters", "confirm_password": "required"}',
        'DB_PASSWORD="${DB_PASSWORD_1}"; password: "{{ vault.password1 }}"; password = "<your-password-1>"',
        'headers = {"Authorization": f"Bearer {token}"}; curl -H "Authorization: Bearer $HF_TOKEN"',
        "the bearer of internationalisation-of-things, Bearer authentication",
        "npm_config_registry npm_package_json npm_lifecycle_event; SG.Component.render(); eyJ.eyJ.x",
        "AWS_SECRET_ACCESS_KEY=$(aws configure get aws_secret_access_key)",
        f"aws_secret_access_key: {'x' * 41}; AccountKey=<key>; 2024-01-01 12:34:56,789 [INFO] 12345678: done",
        "1700000000:0123456789abcdef0123456789abcdef012; sk_live_ is what Stripe's keys start with",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_real_source_code_is_left_alone() -> None:
    source = inspect.getsource(hashlib) + inspect.getsource(json) + inspect.getsource(pytest)
    assert redact(source) == source


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:pa:ss@w0rd@host/x", f"https://{REDACTED}@host/x"),
        ("postgresql://:secret@db:5432/x?a=b@c", f"postgresql://{REDACTED}@db:5432/x?a=b@c"),
        (f"WANDB_API_KEY={HEX40}", f"WANDB_API_KEY={REDACTED}"),
        (f'{{"api_key": "{HEX40}"}}', f'{{"api_key": "{REDACTED}"}}'),
        (f'wandb.login(key="{HEX40}")', f'wandb.login(key="{REDACTED}")'),
        (f"wandb login {HEX40}", f"wandb login {REDACTED}"),
        (f"AWS_SECRET_ACCESS_KEY={AWS}", f"AWS_SECRET_ACCESS_KEY={REDACTED}"),
        (
            f'"SecretAccessKey": 1, aws_secret_access_key = "{AWS}"',
            f'"SecretAccessKey": 1, aws_secret_access_key = "{REDACTED}"',
        ),
        (f"AccountName=x;AccountKey={'aB3+' * 21}aB==;Suffix=y", f"AccountName=x;AccountKey={REDACTED};Suffix=y"),
        (f"Authorization: Bearer {'aB3.' * 10}", f"Authorization: Bearer {REDACTED}"),
        (f'{{"Authorization": "Bearer {"ab3-" * 10}"}}', f'{{"Authorization": "Bearer {REDACTED}"}}'),
        ('{"password": "hunter2!hunter"}', f'{{"password": "{REDACTED}"}}'),
        ("db.password = 'correct-horse-7'", f"db.password = '{REDACTED}'"),
        ("PGPASSWORD=hunter2hunter psql", f"PGPASSWORD={REDACTED} psql"),
        ("?user=me&password=hunter2hunter&x=1", f"?user=me&password={REDACTED}&x=1"),
        (f"before {PEM} after", f"before {REDACTED} after"),
        (json.dumps({"key": PEM}), json.dumps({"key": REDACTED})),
        (PEM[:90], REDACTED),
    ],
)
def test_secrets_without_a_shape_of_their_own_are_known_by_their_place(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_values_in_use_are_removed_and_short_or_harmless_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct.horse+battery")
    monkeypatch.setenv("LONGER_TOKEN", "correct.horse+battery-staple")
    monkeypatch.setenv("DB_PASSWORD", "tea")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "sometimes")
    text = "correct.horse+battery-staple correct.horse+battery correctXhorse+battery tea sometimes"
    assert redact(text) == f"{REDACTED} {REDACTED} correctXhorse+battery tea sometimes"


def test_plain_data_is_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_KEY", "in-use-value")
    value = {"a": [HF, 1, None, True, {"b": f"x {HF}"}], "c": ("in-use-value", 2.5), HF: ""}
    assert redact_plain(value) == {
        "a": [REDACTED, 1, None, True, {"b": f"x {REDACTED}"}],
        "c": [REDACTED, 2.5],
        REDACTED: "",
    }


@given(st.text(), st.sampled_from(TOKENS), st.text())
def test_redacting_twice_changes_nothing_more(before: str, token: str, after: str) -> None:
    once = redact(f"{before} {token} {after}")
    assert token not in once
    assert redact(once) == once


def test_our_own_module_is_left_alone() -> None:
    source = inspect.getsource(shared_memory.redaction)
    assert redact(source) == source
