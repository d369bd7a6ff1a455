"""What the installed libraries are, read from their files: checked against the libraries themselves."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest

from agents.researcher.reference import installed, names
from agents.researcher.reference.fields import takes
from agents.researcher.reference.modules import Thing
from shared_memory.errors import BadInput, Unavailable


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_fields_of_a_config_are_told_with_defaults_of_this_release() -> None:
    text = installed.describe("trl.SFTConfig")
    assert text.startswith("trl.SFTConfig: class of trl 1.")
    assert line_of(text, "- max_length").startswith("- max_length: int | None = 1024 — Maximum length of the tokenized")
    assert line_of(text, "- learning_rate") == (
        "- learning_rate: float = 2e-05 [TrainingArguments: 5e-05] — The initial learning rate for AdamW."
    )
    assert "per_device_train_batch_size=8" in line_of(text, "Fields of transformers.training_args.TrainingArguments")
    assert "Deprecated" not in line_of(text, "- loss_type")
    assert "max_seq_length" not in text


def test_a_field_is_told_in_full_with_its_choices_and_its_line() -> None:
    text = installed.describe("trl.SFTConfig.loss_type")
    assert "loss_type: str = 'nll'\nChoices: nll, dft, chunked_nll\n" in text
    assert '- `"dft"`: Dynamic Fine-Tuning' in text
    number = int(text.splitlines()[0].rpartition(" ")[2])
    file = importlib.metadata.distribution("trl").locate_file("trl/trainer/sft_config.py")
    lines = Path(str(file)).read_text(encoding="utf-8").splitlines()
    assert lines[number - 1].strip().startswith("loss_type: str")


def test_a_name_of_an_earlier_release_leads_to_what_took_its_place() -> None:
    with pytest.raises(BadInput, match=r"`trl.SFTConfig` of trl 1\.\S+ has no `max_seq_length`; nearest: max_length"):
        installed.describe("trl.SFTConfig.max_seq_length")
    found = installed.search("trl", "max_seq_length")
    assert "no name has `max_seq_length`; nearest:" in found
    assert "- trl.SFTConfig.max_length: int | None = 1024" in found


def fields_of(name: str) -> dict[str, str | None]:
    """Name → default as written (None: it has to be given) of what a class or function takes."""
    thing = names.find(name)
    assert isinstance(thing, Thing)
    return {field.name: field.default for field in takes(thing)}


@pytest.mark.parametrize("name", ["trl.SFTConfig", "trl.GRPOConfig", "trl.DPOConfig", "transformers.TrainingArguments"])
def test_what_is_read_from_the_files_is_what_the_library_itself_says(name: str) -> None:
    import dataclasses

    import transformers
    import trl

    package, _, short = name.partition(".")
    real = {field.name: field for field in dataclasses.fields(getattr({"trl": trl}.get(package, transformers), short))}
    told = fields_of(name)
    assert set(told) == {key for key, field in real.items() if field.init}
    for key, written in told.items():
        try:
            value = ast.literal_eval(str(written))
        except ValueError:  # a name, or what a factory makes
            continue
        factory = real[key].default_factory
        assert value == (real[key].default if factory is dataclasses.MISSING else factory()), key


@pytest.mark.parametrize("library", ["trl", "peft"])  # the others, and their methods, in the slow tests
def test_every_class_and_function_of_a_library_takes_what_its_files_say(library: str) -> None:
    module = importlib.import_module(library)
    compared = 0
    for name in (name for name in dir(module) if not name.startswith("_")):
        thing = getattr(module, name)
        if not inspect.isroutine(thing) and (not inspect.isclass(thing) or issubclass(thing, Enum | Exception)):
            continue
        told = fields_of(f"{library}.{name}")
        real = inspect.signature(thing).parameters
        taken = (
            {key for key in told if key in real} if any(p.kind is p.VAR_KEYWORD for p in real.values()) else set(told)
        )
        assert taken == set(real), name
        compared += 1
    assert compared > 40


def test_a_lora_config_and_a_trainer_are_told_with_their_parameters() -> None:
    text = installed.describe("peft.LoraConfig")
    assert '- r: int = 8 — Lora attention dimension (the "rank").' in text
    assert "- target_modules:" in text
    text = installed.describe("trl.SFTTrainer")
    assert line_of(text, "SFTTrainer(model: ")
    assert line_of(text, "- processing_class:")
    assert "- tokenizer" not in text


def test_a_method_that_is_inherited_is_found_where_it_is_defined() -> None:
    text = installed.describe("trl.SFTTrainer.train")
    assert "method of transformers 5." in text
    assert "transformers/trainer.py line" in text
    assert "resume_from_checkpoint" in text


def test_keywords_that_only_the_documentation_names_are_told_too() -> None:
    assert "max_new_tokens: int, optional" in installed.describe("transformers.GenerationConfig.max_new_tokens")


def test_what_the_automatic_classes_say_once_they_are_imported_is_told() -> None:
    text = installed.describe("transformers.AutoModelForCausalLM.from_pretrained")
    assert "Instantiate one of the model classes of the library from a pretrained model." in text
    assert "- trust_remote_code: bool, optional, defaults to False" in text
    assert "In this case" in installed.describe("transformers.AutoModelForCausalLM.from_pretrained.state_dict")


def test_a_model_that_a_package_takes_from_five_hundred_others_is_found() -> None:
    assert "transformers/models/qwen3/configuration_qwen3.py" in installed.describe("transformers.Qwen3Config")
    assert "vocab_size: int = 151936 — Vocabulary size" in installed.describe("transformers.Qwen3Config")


def test_functions_of_the_other_libraries_are_told() -> None:
    assert "streaming: bool = False" in installed.describe("datasets.load_dataset")
    assert "project: str" in installed.describe("trackio.init")
    assert "gradient_accumulation_steps: int = 1" in installed.describe("accelerate.Accelerator")
    assert "num_parameters: str | None" in installed.describe("huggingface_hub.HfApi.list_models")
    assert "lr" in installed.describe("torch.optim.AdamW")


def test_source_is_numbered_as_in_the_file_and_read_on_by_offset() -> None:
    text = installed.source("trl.SFTConfig", limit=2)
    first = int(text.splitlines()[0].rpartition(" ")[2])
    assert text.splitlines()[2:4] == [f"{first:>5}  @dataclass", f"{first + 1:>5}  class SFTConfig(_BaseConfig):"]
    assert text.splitlines()[-1].endswith("more lines: offset 2")
    more = installed.source("trl.SFTConfig", offset=2, limit=1)
    assert more.splitlines()[2].startswith(f"{first + 2:>5}  ")
    with pytest.raises(BadInput, match="give a smaller offset"):
        installed.source("trl.SFTConfig", offset=100_000)


def test_a_search_finds_names_and_what_is_said_of_them() -> None:
    found = installed.search("trl.SFTConfig", "eval strategy")
    assert found.splitlines()[1].startswith("- trl.SFTConfig.eval_strategy: IntervalStrategy | str = 'no'")
    assert "- trl.SFTConfig.do_eval" in found
    assert "- trl.GRPOTrainer.reward_funcs" in installed.search("trl", "reward functions")


def test_an_object_says_what_is_near_when_it_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"nearest: SFTTrainer"):
        installed.describe("trl.SFTTrainr")
    with pytest.raises(BadInput, match="no library `no_such_library` is installed"):
        installed.describe("no_such_library.Thing")


def test_a_library_that_an_extra_brings_is_told_with_that_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "load", lambda name: None)
    with pytest.raises(Unavailable, match=r"trl is not installed; pip install 'postgrad\[train\]'"):
        installed.describe("trl.SFTConfig")


def test_nothing_is_imported_to_be_described() -> None:
    code = (
        "import sys; from agents.researcher.reference import installed; "
        "installed.describe('trl.SFTConfig'); installed.search('trl.SFTConfig', 'packing'); "
        "print([name for name in ('trl', 'torch', 'transformers', 'httpx', 'langchain') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path, as an installer leaves it: its files, and the metadata of its distribution."""
    folder = tmp_path / "site" / tmp_path.name  # another name for every test: a process reads a library once
    folder.mkdir(parents=True)
    metadata = folder.with_name(f"{folder.name}-3.2.1.dist-info") / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {folder.name}\nVersion: 3.2.1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


def test_code_of_a_library_is_never_run(a_library: Path) -> None:
    mark = a_library / "ran"
    write(a_library, __init__=f"open({str(mark)!r}, 'w')\ndef f(x: int = 1):\n    '''Does it.'''\n")
    assert "f(x: int = 1)" in installed.describe(f"{a_library.name}.f")
    assert f"{a_library.name} 3.2.1" in installed.describe(f"{a_library.name}.f")
    assert not mark.exists()


def test_packages_that_import_in_circles_and_hand_names_on_are_followed(a_library: Path) -> None:
    own = a_library.name
    write(
        a_library,
        __init__=(
            "from typing import TYPE_CHECKING\n_structure = {'late': ['Late']}\n"
            f"from .first import *\nfrom {own} import first\n"
        ),
        first="from .second import *\nfrom . import second\nA = 1\n",
        second="from .first import *\nclass Base:\n    def go(self, way: str): '''Goes one way.'''\nOther = Base\n",
        late=f"from {own}.second import Other\nclass Late(Other):\n    def go(self, way): ...\n",
    )
    assert f"Inherits from {own}.second.Base" in installed.describe(f"{own}.Late")
    assert "Goes one way." in installed.describe(f"{own}.Late.go")
    assert f"{own}/second.py" in installed.describe(f"{own}.Other")
    with pytest.raises(BadInput, match="has no `Nowhere`"):
        installed.describe(f"{own}.Nowhere")


def test_methods_that_a_class_imports_and_makers_that_are_no_init_are_found(a_library: Path) -> None:
    own = a_library.name
    write(
        a_library,
        __init__=(
            "class Base:\n    from .helpers import log\n"
            "class Trainer(Base): ...\n"
            "class Rows:\n    def __new__(cls, feature=None, *, length: int = -1): ...\n"
        ),
        helpers="def log(self, split: str, metrics: dict): 'Writes them down.'\n",
    )
    text = installed.describe(f"{own}.Trainer.log")
    assert "log(split: str, metrics: dict)" in text
    assert "Writes them down." in text
    assert f"{own}/helpers.py line 1" in text
    assert "Rows(feature=None, length: int = -1)" in installed.describe(f"{own}.Rows")


@pytest.mark.parametrize("name", ["", ".", "trl..x", "../secrets", "trl.SFTConfig.max_length.more", "os.environ.get()"])
def test_a_name_that_is_none_is_refused_in_one_line(name: str) -> None:
    try:
        text = installed.describe(name)
    except (BadInput, Unavailable) as error:
        text = str(error)
        assert "\n" not in text
    assert "secret" not in text or "no library" in text


def test_modules_of_the_persons_own_folder_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_settings.py").write_text("TOKEN = 'hf_0123456789'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadInput, match="no library `my_settings` is installed"):
        installed.describe("my_settings.TOKEN")
