"""The weights: how they are loaded and held, what of them is trained, and how they are saved."""

import math
import os
import resource
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from progress import OUT
from settings import CHECKPOINT, RANK, Config, Distill, RewardModel, fail, problem

BASE_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*", "generation_config.json")
"""What a trained model takes over from its base byte for byte: tokenizer, chat template, decoding policy."""


def load(config: Any) -> tuple[Any, Any]:
    """Model and tokenizer, in the precision that the settings ask for. Exits 2 when they cannot be used."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, set_seed

    kind, head = AutoModelForCausalLM, {}
    if isinstance(config, RewardModel):
        kind, head = AutoModelForSequenceClassification, {"num_labels": 1}
        set_seed(config.seed)  # the new head's weights are random
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
        model: Any = kind.from_pretrained(config.model, revision=config.revision, **weights_of(config), **head)
        if config.adapter:
            model = PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
    except (OSError, ValueError) as error:
        fail(f"{config.adapter or config.model} cannot be loaded: {problem(error)}", "give a model folder or a Hub id")
    if config.adapter and (not config.lora or model.active_peft_config.r != config.lora.r):
        fail(f"the adapter {config.adapter} has rank {model.active_peft_config.r}", "set lora.r to it")
    if config.resume_from and not (Path(config.resume_from) / CHECKPOINT).is_file():
        fail(f"{config.resume_from} is no checkpoint", "name a folder checkpoint-N, or leave resume_from out")
    return model, tokenizer


def weights_of(config: Config) -> dict[str, Any]:
    """How the base's weights are held. Exits 2 for four bits where nothing can calculate with them."""
    import torch

    frozen = config.lora is not None and on_gpu()
    in_bf16 = config.precision == "bfloat16" or (config.precision == "mixed" and frozen)
    dtype = torch.bfloat16 if in_bf16 else torch.float32
    if not config.lora or config.lora.base == "16bit":
        return {"dtype": dtype}
    if not on_gpu():
        fail("lora.base nf4 needs a GPU, and there is none", "take 16bit, or a machine with a GPU")
    if not find_spec("bitsandbytes"):
        fail("lora.base nf4 needs the package bitsandbytes", "pip install bitsandbytes, or take 16bit")
    from transformers import BitsAndBytesConfig

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head", "score"],
    )
    own = int(os.environ.get("LOCAL_RANK", "0"))  # no process has chosen its GPU yet
    return {"dtype": dtype, "quantization_config": four_bits, "device_map": {"": own}}


def load_teacher(config: Distill, model: Any, tokenizer: Any) -> Any:
    """The teacher, which stays as it is. Exits 2 unless it has the student's vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if on_gpu() and config.precision != "float32" else torch.float32
    try:
        other = AutoTokenizer.from_pretrained(config.teacher)
        teacher = AutoModelForCausalLM.from_pretrained(config.teacher, dtype=dtype)
    except (OSError, ValueError) as error:
        fail(f"the teacher {config.teacher} cannot be loaded: {problem(error)}", "give a model folder or a Hub id")
    sizes = [of.config.get_text_config().vocab_size for of in (model, teacher)]
    if sizes[0] != sizes[1] or other.get_vocab() != tokenizer.get_vocab():
        what = f"the teacher {config.teacher} has another vocabulary ({sizes[1]}) than the model ({sizes[0]})"
        fail(what, "choose a larger model of the same family")
    return teacher


def new_adapter(config: Config) -> Any:
    if config.lora is None or config.adapter:
        return None
    from peft import LoraConfig

    lora = config.lora
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="SEQ_CLS" if isinstance(config, RewardModel) else "CAUSAL_LM",
    )


def suit_processor(trainer: Any) -> None:
    """Makes a CPU twice as fast (1.7 -> 0.8 s of one core per row of 170 tokens and 135M weights), at the same loss."""
    import trl.trainer.distillation_trainer
    import trl.trainer.utils

    if on_gpu():
        return
    # TRL projects only the tokens in the loss to the vocabulary where it has Triton; elsewhere it projects all of them,
    # so that compiled shapes stay the same. Nothing is compiled here, and most tokens belong to prompts.
    for module in (trl.trainer.utils, trl.trainer.distillation_trainer):
        vars(module)["_use_triton"] = lambda _device: True
    # While rows are short, the backward pass of the CPU's fused attention is slower than plain matrix products.
    names = ("input_ids", "chosen_ids", "rejected_ids", "completion_ids")
    columns = [name for name in names if name in trainer.train_dataset.column_names]
    prompts = trainer.train_dataset["prompt_ids"] if "prompt_ids" in trainer.train_dataset.column_names else [[]]
    replies = (len(ids) for name in columns for ids in trainer.train_dataset[name])
    if max(map(len, prompts)) + max(replies, default=math.inf) <= 512:
        trainer.model.set_attn_implementation("eager")


def save(trainer: Any, config: Config) -> Path:
    """Saves to out/adapter or out/model, from the first process, and returns which."""
    folder = OUT / ("adapter" if config.lora else "model")
    if RANK == 0 and config.lora:
        # The embeddings are the base's ("auto" asks the Hub); a reference may be an adapter beside the trained one.
        trainer.model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
    elif RANK == 0:
        from huggingface_hub import snapshot_download
        from transformers import AutoConfig

        dtype = AutoConfig.from_pretrained(config.model, revision=config.revision).dtype
        trainer.model.to(dtype).save_pretrained(folder)
        base = Path(config.model)
        if not base.is_dir():
            base = Path(snapshot_download(config.model, revision=config.revision, allow_patterns=list(BASE_FILES)))
        for file in (file for pattern in BASE_FILES for file in base.glob(pattern)):
            shutil.copyfile(file, folder / file.name)
    trainer.accelerator.wait_for_everyone()
    return folder


def calculates_in_bf16() -> bool:
    """Whether the device has instructions for bfloat16; a processor without them is many times slower in it."""
    import torch

    return on_gpu() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def peak_memory_gib() -> float:
    """The most memory this process held: the GPU's if it has one, else resident (getrusage counts KiB on Linux)."""
    import torch

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return (torch.cuda.max_memory_allocated() if on_gpu() else resident) / 2**30
