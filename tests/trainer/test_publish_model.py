"""Models published to a folder, and to the Hub by the real client over a local server that speaks its API."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agents.base_model import BaseModel, find_base_model
from agents.jobs.base import JobStatus
from agents.publishing.runner import PublishingRunner, fault_of_config
from agents.trainer import model_card, publish
from agents.trainer.model_card import ModelFacts
from shared_memory.errors import BadInput, Conflict, Unavailable
from shared_memory.goal import Goal
from shared_memory.recipes import SftRecipe
from shared_memory.records import (
    ComparisonResult,
    DatasetRecord,
    EvalResult,
    Experiment,
    JobSpec,
    JobState,
    Part,
    submission_key,
)
from shared_memory.run_paths import RunPaths
from tests.servers.hub import TOKEN, DiesAfter, Fails, HubServer, client_environment, hub, point_client_at

# The client's own upload warns about a keyword of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw:DeprecationWarning")

SECRET = "hf_" + "Ab3" * 11
TO = "anna/better"
MakeFacts = Callable[..., ModelFacts]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> BaseModel:
    """A base model with a card that states its licence, named as on the Hub."""
    folder = tmp_path / "cache" / "base"
    shutil.copytree(tiny_model, folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    found = find_base_model(str(folder), "")
    return found.model_copy(update={"name": "org/tiny", "revision": "c0ffee" * 6 + "beef"})


@pytest.fixture
def paths(tmp_path: Path, base: BaseModel) -> RunPaths:
    """A run that has delivered a merged model and its adapter, with what libraries leave beside them."""
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(base.folder, paths.model / "merged")
    adapter = paths.model / "adapter"
    adapter.mkdir()
    save_file({"lora": np.ones((4, 2), np.float32)}, adapter / "adapter_model.safetensors")
    config = {"base_model_name_or_path": base.folder, "peft_type": "LORA", "revision": None, "r": 4}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    for folder in (paths.model / "merged", adapter):
        (folder / "README.md").write_text(f"base_model: {base.folder}\n")
        (folder / "training_args.bin").write_bytes(b"pickle of /home/anna")
        (folder / "optimizer.safetensors").write_bytes(b"of no use")
    return paths


@pytest.fixture
def make_facts(base: BaseModel) -> MakeFacts:
    def make(**changes: Any) -> ModelFacts:
        common: dict[str, Any] = {
            "benchmark": "physics", "part": Part.REPORT, "n": 50, "answered": 1.0, "accuracy_given_answered": 0.5,
            "truncated": 0.0, "settings_digest": "cd" * 32, "items": "/home/anna/items.jsonl", "job": "k1",
            "seconds": 1.0,
        }  # fmt: skip
        values: dict[str, Any] = {
            "goal": Goal(text="better at physics", base_model=base.folder),
            "model": base,
            "experiment": Experiment(
                id="e1", parent="baseline", change="c", recipe=SftRecipe(id="r"), dataset="d1", model="/home/anna/j"
            ),
            "dataset": DatasetRecord(
                id="d1", source="/home/anna/private/rows.jsonl, org/more", path="d1.jsonl", digest="ab" * 32, rows=9,
                licence="cc-by-4.0", contamination={"physics": 0.02},
            ),
            "baseline": [EvalResult(experiment="baseline", score=0.5, stderr=0.071, **common)],
            "results": [EvalResult(experiment="e1", score=0.62, stderr=0.069, **common)],
            "claims": [
                ComparisonResult(
                    benchmark="physics", experiment="e1", delta=0.12, ci_low=0.02, ci_high=0.22, p_value=0.01, n=50
                )
            ],
            "benchmarks": {"physics": "ef" * 32},
        }  # fmt: skip
        return model_card.facts_of(**(values | changes))

    return make


def submitted(spec: JobSpec, paths: RunPaths) -> tuple[PublishingRunner, str]:
    """The job as the graph hands it over: its folder filled, then submitted."""
    key = submission_key("run", spec, 1)
    folder = paths.job(key)
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in spec.files.items():
        shutil.copyfile(paths.stored(digest), folder / name)
    (folder / "config.json").write_text(json.dumps(spec.config))
    ways = {"model": lambda config, job, heed: publish.carry_out(config, job, paths, heed)}
    runner = PublishingRunner(paths.jobs, ways)
    return runner, runner.submit(spec, key, folder)


def ended(runner: PublishingRunner, job: str) -> JobStatus:
    while not (status := runner.status(job)).state.terminal:
        time.sleep(0.01)
    return status


def publish_it(spec: JobSpec, paths: RunPaths) -> dict[str, Any]:
    """The result of carrying the job out at once; errors are raised."""
    folder = paths.job("direct")
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in spec.files.items():
        shutil.copyfile(paths.stored(digest), folder / name)
    return publish.carry_out(spec.config, folder, paths)


def held(server: HubServer, repo_id: str = TO) -> dict[str, bytes]:
    return {path: blob.content for path, blob in server.repos["models", repo_id].head.files.items()}


def test_the_card_says_what_a_stranger_needs_and_nothing_of_this_machine(make_facts: MakeFacts) -> None:
    goal = Goal(text=f"push it with {SECRET} from /home/anna/rows.csv")
    card = model_card.render_card(make_facts(goal=goal), TO, whole=True, has_adapter=True)
    said = card.replace("\\", "")
    assert card.startswith('---\nlicense: "apache-2.0"\nbase_model: "org/tiny"\nbase_model_relation: "finetune"\n')
    assert "# push it with [redacted] from rows.csv" in said
    assert f'AutoModelForCausalLM.from_pretrained("{TO}")' in card
    assert "| physics | report (n=50) | 0.500 ± 0.071 | 0.620 ± 0.069 |" in card
    assert "on the 50 report items of physics: +0.120 (95 % interval +0.020 to +0.220)." in said
    assert "- Licence: apache-2.0, as its card states it. It holds for this model too." in card
    assert "- 9 rows made from: rows.jsonl, org/more\n" in card
    assert "ab" * 32 in card
    assert "- Licence: cc-by-4.0" in card
    assert "| physics | 2.00% |" in card
    assert f"- Items of physics: `{'ef' * 32}`\n- Evaluation settings: `{'cd' * 32}`" in card
    assert '"learning_rate"' in card
    assert 'base_model = "org/tiny"\nrevision = "c0ffee' in card
    assert not [private for private in (SECRET, "/home", "anna/rows", "k1", "/run/") if private in card]


def test_what_is_not_known_is_said_to_be_unknown(make_facts: MakeFacts, base: BaseModel) -> None:
    (Path(base.folder) / "README.md").unlink()
    local = base.model_copy(update={"name": base.folder})
    facts = make_facts(model=local, dataset=None, results=[], claims=[])
    card = model_card.render_card(facts, "./merged", whole=True, has_adapter=False)
    assert 'license: "unknown"' in card
    assert "base_model" not in card.partition("---\n\n")[0], "the Hub refuses a base that it does not have"
    assert "**Licence: unknown.**" in card
    assert "**This model was not measured.**" in card
    assert "**The training data were not checked against any benchmark.**" in card


def test_a_licence_of_its_own_name_goes_on_to_the_model(make_facts: MakeFacts, base: BaseModel) -> None:
    named = "---\nlicense: other\nlicense_name: llama9\nlicense_link: https://example.org/l\n---\n"
    (Path(base.folder) / "README.md").write_text(named)
    card = model_card.render_card(make_facts(), TO, whole=False, has_adapter=True)
    assert '---\nlicense: "other"\nlicense_name: "llama9"\nlicense_link: "https://example.org/l"\n' in card
    assert 'base_model_relation: "adapter"\nlibrary_name: "peft"\n' in card


def test_a_delivered_folder_carries_the_same_card(make_facts: MakeFacts, paths: RunPaths) -> None:
    written = model_card.write_card(paths.model / "adapter", make_facts()).read_text()
    assert written.splitlines()[5:] != []
    published = model_card.render_card(make_facts(), "./adapter", whole=False, has_adapter=False)
    assert written == published


def test_a_job_says_what_leaves_and_for_whom(make_facts: MakeFacts, paths: RunPaths, base: BaseModel) -> None:
    spec = publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)
    assert spec.title == f"publish the merged model of e1: {TO}, private"
    assert (spec.runner, spec.flavor, spec.config["kind"]) == ("publisher", "hub", "model")
    assert f'from_pretrained("{TO}")' in paths.stored(spec.files["README.md"]).read_text()
    assert "licence of the base apache-2.0" in spec.estimate.basis
    open_to_all = publish.model_publishing_job(make_facts(dataset=None), TO, private=False, paths=paths)
    assert "for everybody to read; the licence of its training data is unknown; the card says so" in open_to_all.title
    assert open_to_all.title.endswith("; everybody will be able to read it")
    (Path(base.folder) / "README.md").write_text("---\nlicense: cc-by-nc-nd-4.0\n---\n")
    with pytest.raises(BadInput, match=r"the licence cc-by-nc-nd-4\.0 of org/tiny forbids sharing changed copies; ask"):
        publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)


def test_an_edited_publication_is_told_anew_and_a_folder_does_not_become_a_repository(
    make_facts: MakeFacts, paths: RunPaths
) -> None:
    spec = publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)
    edited = spec.model_copy(update={"config": {**spec.config, "to": "anna/other", "private": False}})
    told = publish.told_anew(edited, paths)
    assert "anna/other, for everybody to read" in told.title
    assert 'from_pretrained("anna/other")' in paths.stored(told.files["README.md"]).read_text()
    here = spec.model_copy(update={"config": {**spec.config, "to": "./here"}})
    assert "`to` was a hub and is one no longer" in fault_of_config(here, publish.ModelPublication)
    odd = spec.model_copy(update={"config": {**spec.config, "until": 3}})
    assert "its config is no publication (until: " in fault_of_config(odd, publish.ModelPublication)


def test_a_model_is_published_privately_with_only_what_loading_needs_and_read_back(
    server: HubServer, make_facts: MakeFacts, paths: RunPaths, base: BaseModel, tmp_path: Path
) -> None:
    from huggingface_hub import snapshot_download
    from transformers import AutoModelForCausalLM

    spec = publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)
    runner, job = submitted(spec, paths)
    status = ended(runner, job)
    assert status.state is JobState.SUCCEEDED, status.error
    repo = server.repos["models", TO]
    assert repo.private
    assert len(repo.commits) == 2, "the Hub's own first one, and ours"
    files = held(server)
    assert sorted(files) == [
        ".gitattributes", "README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "model.safetensors"):
        assert files[name] == (Path(base.folder) / name).read_bytes()
    adapter = json.loads(files["adapter/adapter_config.json"])
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("org/tiny", base.revision)
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    read = {request.path.rpartition("/")[2] for request in server.asked("GET /(lfs|anna/better/resolve)/")}
    assert {"config.json", "adapter_config.json", "tokenizer.json", repo.head.files["model.safetensors"].sha256} <= read
    folder = snapshot_download(TO, cache_dir=tmp_path / "elsewhere")
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() == base.parameters
    assert sorted(path.name for path in paths.root.iterdir()) == ["files", "jobs", "model"], "nothing is left behind"


def test_the_second_time_nothing_is_uploaded_again(server: HubServer, make_facts: MakeFacts, paths: RunPaths) -> None:
    spec = publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)
    first = publish_it(spec, paths)
    uploads = len(server.asked("PUT /lfs/"))
    again = publish_it(spec, paths)
    assert (again["revision"], again["changed"], first["changed"]) == (first["revision"], False, True)
    assert len(server.asked("PUT /lfs/")) == uploads
    assert len(server.asked("POST .*/commit/")) == 1


def test_another_model_replaces_the_files_of_the_one_before_and_leaves_other_files_alone(
    server: HubServer, make_facts: MakeFacts, paths: RunPaths
) -> None:
    publish_it(publish.model_publishing_job(make_facts(), TO, private=True, paths=paths), paths)
    server.push(server.repos["models", TO], {"notes.md": "mine", "model-q4.gguf": b"mine"})
    shutil.rmtree(paths.model / "merged")
    publish_it(publish.model_publishing_job(make_facts(), TO, private=True, paths=paths), paths)
    assert sorted(held(server)) == [
        ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "model-q4.gguf", "notes.md",
    ]  # fmt: skip


def test_somebody_elses_model_and_another_visibility_are_left_alone(
    server: HubServer, make_facts: MakeFacts, paths: RunPaths
) -> None:
    server.add("anna/poet", {"model.safetensors": b"verse", "README.md": "# Poet\n"}, kind="models", private=True)
    server.add("anna/open", {".gitattributes": ""}, kind="models")
    for to, reason in (
        ("anna/poet", "anna/poet holds a model that postgrad did not make; choose another name"),
        ("anna/open", "anna/open is public and this model was to stay private"),
        ("ben/better", "the token has no right to do this with ben/better"),
        ("no such name", "`no such name` is no Hub id"),
    ):
        with pytest.raises(BadInput, match=reason):
            publish_it(publish.model_publishing_job(make_facts(), to, private=True, paths=paths), paths)
    assert not server.asked("POST .*/commit/")


def test_an_upload_that_was_killed_is_gone_on_with_where_it_was(
    server: HubServer, make_facts: MakeFacts, paths: RunPaths, tmp_path: Path
) -> None:
    spec = publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)
    folder = paths.job("direct")
    folder.mkdir(parents=True)
    for name, digest in spec.files.items():
        shutil.copyfile(paths.stored(digest), folder / name)
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from agents.trainer.publish import carry_out\nfrom shared_memory.run_paths import RunPaths\n"
        "carry_out(json.loads(sys.argv[1]), Path(sys.argv[2]), RunPaths(Path(sys.argv[3])))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(spec.config), str(folder), str(paths.root)],
        cwd=Path(__file__).parents[2], env=client_environment(server, tmp_path / "killed"),
    ) as victim:  # fmt: skip
        server.afterwards = lambda request: victim.kill() if request.line.startswith("PUT /lfs/") else None
    assert victim.returncode == -signal.SIGKILL
    server.afterwards = lambda request: None
    publish_it(spec, paths)
    whole = [r.path for r in server.asked("PUT /lfs/") if r.path.endswith(hashlib.sha256(r.body).hexdigest())]
    assert len(whole) == len(set(whole)), "what is there whole is not sent again"
    assert held(server)["model.safetensors"] == (paths.model / "merged" / "model.safetensors").read_bytes()
    assert len(server.asked("POST .*/commit/")) == 1


@pytest.mark.parametrize(
    ("line", "trouble", "error", "words"),
    [
        ("GET /api/whoami", Fails(401), BadInput, "does not accept the token"),
        ("PUT /lfs/", Fails(403), BadInput, f"no right to do this with {TO}"),
        ("POST .*/commit/", Fails(412), Conflict, f"somebody else committed to {TO} at the same time; run again"),
        ("POST .*/commit/", DiesAfter(0, reset=True), Unavailable, rf"the connection to the Hub broke while {TO}"),
        ("GET /lfs/", DiesAfter(100), Unavailable, f"{TO}|came damaged"),
    ],
)
def test_what_goes_wrong_on_the_way_is_told_with_the_next_move(
    server: HubServer, make_facts: MakeFacts, paths: RunPaths, line: str, trouble: Any, error: type[Exception],
    words: str,
) -> None:  # fmt: skip
    spec = publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)
    server.trouble(line, trouble, times=20)
    with pytest.raises(error, match=words) as told:
        publish_it(spec, paths)
    assert "; " in str(told.value)
    server.calm()
    assert publish_it(spec, paths)["url"] == f"{server.endpoint}/{TO}"


def test_what_comes_back_otherwise_than_it_was_sent_is_a_failed_job(
    server: HubServer, make_facts: MakeFacts, paths: RunPaths
) -> None:
    def spoil(request: Any) -> None:
        if request.method == "PUT":
            sha256 = request.path.rpartition("/")[2]
            server.objects[sha256] = server.objects[sha256][:-1] + b"!"

    server.afterwards = spoil
    runner, job = submitted(publish.model_publishing_job(make_facts(), TO, private=True, paths=paths), paths)
    status = ended(runner, job)
    assert status.state is JobState.FAILED
    assert re.search(rf"{TO} at [0-9a-f]{{8}} does not hold what was sent; run again|LFS object", status.error)
    assert TOKEN not in runner.logs(job, 0)[0]


def test_a_model_that_has_changed_since_the_yes_does_not_leave(
    server: HubServer, make_facts: MakeFacts, paths: RunPaths
) -> None:
    spec = publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)
    adapter = paths.model / "adapter" / "adapter_model.safetensors"
    adapter.unlink()
    save_file({"lora": np.zeros((4, 2), np.float32)}, adapter)
    with pytest.raises(BadInput, match="is not the one that was approved; start the run again"):
        publish_it(spec, paths)
    assert not server.asked("POST .*")
    shutil.rmtree(paths.model)
    with pytest.raises(BadInput, match="holds no model; run the goal to its end"):
        publish.model_publishing_job(make_facts(), TO, private=True, paths=paths)


def test_a_folder_gets_the_model_and_is_never_taken_from_somebody_else(
    make_facts: MakeFacts, paths: RunPaths, tmp_path: Path
) -> None:
    to = tmp_path / "out" / "better"
    spec = publish.model_publishing_job(make_facts(), str(to), private=True, paths=paths)
    assert spec.flavor == "folder"
    assert publish_it(spec, paths)["url"] == str(to)
    assert load_file(to / "adapter" / "adapter_model.safetensors")["lora"].sum() == 8
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.is_file()}
    publish_it(spec, paths)
    assert {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.is_file()} == before
    assert not (to / "training_args.bin").exists()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_text("mine")
    other = publish.model_publishing_job(make_facts(), str(tmp_path / "theirs"), private=True, paths=paths)
    with pytest.raises(BadInput, match="theirs holds something else; name a new folder"):
        publish_it(other, paths)
