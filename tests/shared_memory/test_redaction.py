from __future__ import annotations

import base64
import hashlib
import html
import importlib.util
import inspect
import json
import random
import re
import string
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_memory import redaction, secret_shapes, tokens_in_use
from shared_memory.redaction import REDACTED, redact, redact_plain, suspect
from shared_memory.secret_shapes import SUSPECT

ROOT = Path(__file__).parents[2]
SIGNS = string.ascii_letters + string.digits


def signs(count: int, alphabet: str = SIGNS, seed: int = 0) -> str:
    """What a key is made of: signs drawn at random, digits among them."""
    drawn = random.Random(f"{seed}{alphabet}{count}")
    return "".join(drawn.choices(alphabet, k=count - 3)) + "7q9"


HEX = "0123456789abcdef"
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
    "api_org_" + signs(34),
    "sk-svcacct-" + signs(74),
    "sk-or-" + "v1-" + "0a" * 32,
    "csk-" + signs(48, string.ascii_lowercase + string.digits),
    "gsk_" + signs(52),
    "xai-" + signs(80),
    "r8_" + signs(37),
    "pplx-" + signs(48),
    "nvapi-" + signs(64),
    "ASIA" + "IOSFODNN7EXAMPLE",
    "GOCSPX-" + signs(28),
    "ya29." + signs(60),
    "gho_" + signs(36),
    "ghs_" + signs(36),
    "gldt-" + signs(20),
    "xoxe." + "xoxp-1-" + signs(40),
    "xapp-" + "1-A0123456789-1234567890123-" + signs(60, HEX),
    "wandb_v1_" + signs(60),
    "dckr_pat_" + signs(27),
    "hvs." + signs(90),
    "dapi" + "0a" * 16,
    "AQ." + "Ab8RN6" + signs(44),
    "jina_" + signs(32, HEX) + signs(28),
    "lsv2_" + "pt_" + "0a" * 16 + "_" + "1b" * 5,
    base64.b64encode(b"123456789012345678").decode() + ".Gabcd7." + signs(38),
]
KEY, BASIC = signs(40), base64.b64encode(b"someone:correct horse").decode()
AWS = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
PLACES = [
    "{}", "token={}", '"{}"', "({})", "x {}, y", "<{}>", "?t={}&u=1", "https://{}@host/x.git", "a:{};", "'{}'.",
    '{{"token": "{}"}}', "{{'HF_TOKEN': '{}', 'a': 1}}",
    "export A_TOKEN={}\nB=1", '-H "Authorization: Bearer {}"', "--token {} --x", "token%3D{}%26a", r'"line\n{}\n"',
    "| {} |", "`{}`", "[{}]", "{},", "HTTP_TOKEN: {}\r", "\x1b[1;32m{}\x1b[0m", "[32m{}[0m", r"\x1b[32m{}\x1b[0m",
    r"\u003c{}\u003e", "missing key: {}", "&quot;{}&quot;",
]  # fmt: skip
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,12AB\n\n"
    f"{'MIIEabc+/' * 7}\nabcdef==\n-----END RSA PRIVATE KEY-----"
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:8])
def test_tokens_are_removed_wherever_they_stand(token: str, place: str) -> None:
    text, clean = place.format(token), place.format(REDACTED)
    assert redact(text) == clean
    assert re.search(SUSPECT, text)


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
        (f"git clone https://user:{HF}@huggingface.co/org/m", f"git clone https://{REDACTED}@huggingface.co/org/m"),
        (f"https://{HF}:x-oauth-basic@host/m.git", f"https://{REDACTED}@host/m.git"),
        (f"https://x-access-token:{signs(40)}@github.com/me/r", f"https://{REDACTED}@github.com/me/r"),
        (r"https:\/\/me:hunter2@host\/x", rf"https:\/\/{REDACTED}@host\/x"),
        (f"https://{signs(32, HEX)}@o1.ingest.sentry.io/2", f"https://{REDACTED}@o1.ingest.sentry.io/2"),
        (f"MISTRAL_API_KEY={KEY}\nHOME=/home/me", f"MISTRAL_API_KEY={REDACTED}\nHOME=/home/me"),
        (f"ZHIPU_API_KEY={signs(32, HEX)}.{signs(16)}", f"ZHIPU_API_KEY={REDACTED}"),
        (f'export COHERE_API_KEY="{KEY}"', f'export COHERE_API_KEY="{REDACTED}"'),
        (f"docker run -e A_TOKEN={KEY} image", f"docker run -e A_TOKEN={REDACTED} image"),
        (f"environ({{'SOME_SECRET': '{KEY}', 'A': 'b'}})", f"environ({{'SOME_SECRET': '{REDACTED}', 'A': 'b'}})"),
        (f'{{"api_key": "{KEY}", "model": "m"}}', f'{{"api_key": "{REDACTED}", "model": "m"}}'),
        (
            json.dumps({"arguments": json.dumps({"apiKey": KEY})}),
            json.dumps({"arguments": json.dumps({"apiKey": REDACTED})}),
        ),
        (f"api_key: {KEY}", f"api_key: {REDACTED}"),
        (f"x-api-key: {KEY}", f"x-api-key: {REDACTED}"),
        (f"{{'x-api-key': '{KEY}'}}", f"{{'x-api-key': '{REDACTED}'}}"),
        (f"(b'x-api-key', b'{KEY}')", f"(b'x-api-key', b'{REDACTED}')"),
        (f'curl -H "api-key: {KEY}" https://x', f'curl -H "api-key: {REDACTED}" https://x'),
        (f"tool --api-key {KEY} run", f"tool --api-key {REDACTED} run"),
        (f"missing key: api_key={KEY}", f"missing key: api_key={REDACTED}"),
        (f"cache_key=next_token:api_token={KEY}", f"cache_key=next_token:api_token={REDACTED}"),
        (f"os.environ['API_TOKEN'] = '{KEY}'", f"os.environ['API_TOKEN'] = '{REDACTED}'"),
        (f"ENV API_TOKEN {KEY}", f"ENV API_TOKEN {REDACTED}"),
        (f"API_TOKEN     | {KEY}", f"API_TOKEN     | {REDACTED}"),
        (f"- name: API_TOKEN\n  value: {KEY}", f"- name: API_TOKEN\n  value: {REDACTED}"),
        (f'{{"key": "API_TOKEN", "value": "{KEY}"}}', f'{{"key": "API_TOKEN", "value": "{REDACTED}"}}'),
        (f"<api_key>{KEY}</api_key>", f"<api_key>{REDACTED}</api_key>"),
        (f"?q=api_key%3D{KEY}", f"?q=api_key%3D{REDACTED}"),
        (f"X-Api-Key%3A%20{KEY}", f"X-Api-Key%3A%20{REDACTED}"),
        (f"&quot;api_key&quot;: &quot;{KEY}&quot;", f"&quot;api_key&quot;: &quot;{REDACTED}&quot;"),
        (f"API_TOKEN\x1b[0m=\x1b[32m{KEY}\x1b[0m", f"API_TOKEN\x1b[0m=\x1b[32m{REDACTED}\x1b[0m"),
        (f"DB_PASS={KEY}", f"DB_PASS={REDACTED}"),
        (f"passphrase: {KEY}", f"passphrase: {REDACTED}"),
        ("password = hunter2hunter\nuser = me", f"password = {REDACTED}\nuser = me"),
        (f"?access_token={KEY}&x=1", f"?access_token={REDACTED}&x=1"),
        (f"client_secret = '{KEY}'", f"client_secret = '{REDACTED}'"),
        (f'client = Client(api_key="{KEY}")', f'client = Client(api_key="{REDACTED}")'),
        (f"Authorization: token {KEY}", f"Authorization: token {REDACTED}"),
        (f"authorization: {KEY}", f"authorization: {REDACTED}"),
        (f"(b'Authorization', b'Bearer {KEY}')", f"(b'Authorization', b'Bearer {REDACTED}')"),
        (f"Authorization: Basic {BASIC}", f"Authorization: Basic {REDACTED}"),
        (f'{{"auths": {{"x.io": {{"auth": "{BASIC}"}}}}}}', f'{{"auths": {{"x.io": {{"auth": "{REDACTED}"}}}}}}'),
        (
            f"machine api.wandb.ai\n  login user\n  password {HEX40}",
            f"machine api.wandb.ai\n  login user\n  password {REDACTED}",
        ),
        ("machine h login me password correcthorse\nmachine b", f"machine h login me password {REDACTED}\nmachine b"),
        ("curl -u me:hunter2hunter https://x", f"curl -u me:{REDACTED} https://x"),
        (f"Cookie: session={KEY}; a=b", f"Cookie: {REDACTED}"),
        ("password: hunter2hunter\nuser: me", f"password: {REDACTED}\nuser: me"),
        (f"https://hooks.slack.com/services/T0/B0/{signs(24)}", f"https://hooks.slack.com/services/{REDACTED}"),
        (f"https://discord.com/api/webhooks/1234567/{signs(68)}", f"https://discord.com/api/webhooks/{REDACTED}"),
        (
            f"https://a.blob.core.windows.net/b?se=1&sig={signs(43)}%3D",
            f"https://a.blob.core.windows.net/b?se=1&sig={REDACTED}",
        ),
        (f"aws_session_token = {signs(200)}", f"aws_session_token = {REDACTED}"),
        (f"the rest {PEM[80:]} after", f"the rest {REDACTED} after"),
        (repr(PEM), f"'{REDACTED}'"),
        (json.dumps(json.dumps({"private_key": PEM})), json.dumps(json.dumps({"private_key": REDACTED}))),
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
    assert re.search(SUSPECT, text)


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


@pytest.mark.parametrize("module", [redaction, secret_shapes, tokens_in_use])
def test_our_own_modules_are_left_alone(module: ModuleType) -> None:
    source = inspect.getsource(module)
    assert redact(source) == source


ODD = 'pass/word+with "quotes" & späces'


@pytest.mark.parametrize(
    "written",
    [
        ODD, json.dumps({"a": ODD}), json.dumps({"a": ODD}, ensure_ascii=False), json.dumps(json.dumps([ODD])),
        repr(["it's", ODD]), f"https://x/?q={urllib.parse.quote(ODD)}", urllib.parse.urlencode({"q": ODD}),
        f"<td>{html.escape(ODD)}</td>", ODD.encode().hex(),
        *(base64.b64encode(f"{'u' * before}:{ODD}".encode()).decode() for before in range(3)),
        base64.urlsafe_b64encode(f"??>>{ODD}".encode()).decode(),
    ],
)  # fmt: skip
def test_a_value_in_use_is_removed_however_it_is_written(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert redact(f"before {written} after") == f"before {written} after", "nobody knows it by its shape"
    monkeypatch.setenv("POSTGRAD_SOMETHING_KEY", ODD)
    clean = redact(f"before {written} after")
    assert REDACTED in clean
    assert re.search(suspect(), written)
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    for form in (ODD, "pass/word", "pass%2Fword", "späces", base64.b64encode(ODD.encode()).decode()[4:-8]):
        assert form not in clean


def test_a_key_block_in_the_environment_is_known_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [signs(64, seed=number) for number in range(3)]
    monkeypatch.setenv("DEPLOY_KEY", "\n".join(lines))
    assert redact(f"said: {lines[1]}") == f"said: {REDACTED}"


def test_the_saved_token_is_known_as_long_as_it_is_the_one_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    said = "the password is correct.horse+battery, and not battery.staple"
    assert redact(said) == said
    (tmp_path / "token").write_text("correct.horse+battery\n")
    (tmp_path / "stored_tokens").write_text("[mine]\nhf_token = battery.staple\n")
    assert redact(said) == f"the password is {REDACTED}, and not {REDACTED}"
    (tmp_path / "token").unlink()
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").write_bytes(b"\xff\xfe")
    (tmp_path / "stored_tokens").unlink()
    assert redact(said) == said


def test_what_was_cleaned_before_is_cleaned_anew_once_more_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a long text with hunter-two-hunter in it, said again at every turn. " * 10
    assert redact(text) == text
    monkeypatch.setenv("A_TOKEN", "hunter-two-hunter")
    assert "hunter" not in redact(text)


def real_lines() -> Iterator[str]:
    """Code of libraries that train, as installed, and what jobs have printed."""
    for name in ("trl", "transformers", "peft", "datasets", "accelerate"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        for file in sorted(Path(spec.origin).parent.rglob("*.py"))[::9]:
            yield from file.read_text(encoding="utf-8", errors="replace").splitlines()
    for file in [
        *sorted((ROOT / "tests" / "trainer" / "failures").glob("*.log")),
        *sorted((ROOT / "docs").glob("*.md")),
    ]:
        yield from file.read_text(encoding="utf-8", errors="replace").splitlines()


def test_no_more_than_one_in_a_thousand_lines_of_real_code_and_logs_is_touched() -> None:
    lines = [line for line in real_lines() if line.strip()]
    chosen = random.Random(0).sample(lines, 10_000)
    assert len([line for line in chosen if redact(line) != line]) <= 10
