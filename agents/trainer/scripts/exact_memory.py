# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0",
#   "trackio==0.43.0", "pydantic==2.14.3", "math-verify==0.9.0",
# ]
# ///
"""What a training job holds in memory at its peak, without its weights, its data or its GPU.

`python exact_memory.py --config config.json ... [--device gpu|cpu]` takes configs of jobs that train.py would run, and
lies beside it. The real trainer does one real weight update of it, on tensors that have shapes and no content
[torch.distributed._tools.mem_tracker under FakeTensorMode], with rows as long as `max_length` all of whose tokens are
in the loss. `gpu` has them made as they are on CUDA: flash and memory-efficient attention, TRL's Triton kernels, fused
dropout. Prints `{"result": {"parts": {...}, "peak": ...}}` in GiB, a line a config; exit status 2, with one line on
standard error, for what cannot be told in this way: methods that sample, four-bit weights.
"""

import argparse
import io
import json
import os
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import train
import weights
from settings import PROCESSES, fail, problem, read_config

GIB = 2**30
PARTS = {
    "Parameter": "weights", "Buffer": "weights", "Gradient": "gradients", "Optstate": "optimizer",
    "Activation": "activations", "Temp": "activations", "Other": "activations",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Tells the peak memory of training jobs.")
    parser.add_argument("--config", type=Path, required=True, nargs="+")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    given = parser.parse_args()
    configs = [checked(path) for path in given.config]
    warnings.simplefilter("ignore")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    for config in configs:
        with redirect_stdout(io.StringIO()):
            held = peak(config, given.device)
        print(json.dumps({"result": held}), flush=True)


def checked(path: Path) -> Any:
    """The config. Exits 2 for one whose memory cannot be told."""
    config = read_config(path, {name: method.settings for name, method in train.METHODS.items()})
    if config.method not in BATCHES:
        fail(f"the memory of {config.method} depends on what is sampled or taught", f"choose {', '.join(BATCHES)}")
    if config.lora and config.lora.base == "nf4":
        fail("four-bit weights need their GPU's own kernels", "take lora.base 16bit, and subtract from it")
    return config


def peak(config: Any, device: str) -> dict[str, Any]:
    """GiB by part, at the moment of one weight update at which the most is held."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    train.on_gpu = weights.on_gpu = lambda: device == "gpu"
    tracker = tracker_of_memory()
    # One micro-batch is like any other, once there are gradients of an earlier one.
    one = {"use_cpu": True, "dataloader_pin_memory": False, "gradient_accumulation_steps": 1, "max_steps": 1}
    with tempfile.TemporaryDirectory() as folder, FakeTensorMode():
        suit(config, device)
        trainer = trainer_without_weights(config, folder, one)
        if device == "cpu" and config.max_length <= 512:
            trainer.model.set_attn_implementation("eager")  # as weights.suit_processor does
        trainer.add_callback(after_earlier_updates(tracker, config))
        tracker.track_external(trainer.model)
        with tracker:
            trainer.train()
    parts: dict[str, float] = dict.fromkeys(PARTS.values(), 0.0)
    for kind, size in tracker.highest.items():
        parts[PARTS[kind.value]] += size / GIB
    return {"parts": {part: round(size, 4) for part, size in parts.items()}, "peak": round(sum(parts.values()), 4)}


def trainer_without_weights(config: Any, folder: str, changes: dict[str, Any]) -> Any:
    """The trainer that the job would have, over a model that only its config describes and batches of one shape.

    changes: of the trainer's arguments. Models are made as the caller's modes and defaults say.
    """
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.initialization import no_init_weights

    method = train.METHODS[config.method]
    kind, head = AutoModelForCausalLM, {}
    if config.method == "reward":
        kind, head = AutoModelForSequenceClassification, {"num_labels": 1}

    def model() -> Any:
        with no_init_weights():
            made = kind.from_config(model_config(config.model, head), **weights.weights_of(config))
        made.tie_weights()
        return made

    rows = Dataset.from_list([ROW[config.method]] * config.batch * 2)
    arguments = train.shared_arguments(config) | method.arguments(config, rows) | changes
    arguments |= {"output_dir": folder, "report_to": [], "save_strategy": "no", "train_sampling_strategy": "sequential"}
    arguments |= {"packing": False} if config.method == "sft" else {}  # the batches are made already
    reference = {} if config.method != "dpo" or config.lora else {"ref_model": model()}
    return getattr(trl, f"{method.trl}Trainer")(
        model=model(),
        args=getattr(trl, f"{method.trl}Config")(**arguments),
        train_dataset=rows,
        processing_class=words(),
        peft_config=weights.new_adapter(config),
        data_collator=lambda rows: BATCHES[config.method](config),
        **reference,
    )


def model_config(folder: str, changes: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, **changes)
    except (OSError, ValueError, KeyError) as error:
        fail(f"{folder} has no config.json that transformers knows ({problem(error)})", "give a model folder")


def words() -> Any:
    """A tokenizer that is there for the trainer to have one: the batches are made without it."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokens = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<eos>"))  # noqa: S106
    return PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<eos>")  # noqa: S106


ROW: dict[str, dict[str, Any]] = {
    "sft": {"text": "a b"},
    "dpo": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "reward": {"chosen": "a b", "rejected": "a c"},
}


def imitated(config: Any) -> dict[str, Any]:
    """Of SFT: rows side by side, or one after another in a single one where they are packed."""
    import torch

    if config.packing:
        length = config.micro_batch * config.max_length
        ids = torch.full((1, length), 1)
        places = torch.arange(length)[None] % config.max_length
        return {"input_ids": ids, "labels": ids.clone(), "position_ids": places % (config.max_length // 2)}
    ids = torch.full((config.micro_batch, config.max_length), 1)
    return {"input_ids": ids, "labels": ids.clone(), "attention_mask": all_but_one(ids)}


def paired(config: Any) -> dict[str, Any]:
    """Of DPO and of reward models: what is chosen, and below it what is rejected."""
    import torch

    ids = torch.full((2 * config.micro_batch, config.max_length), 1)
    batch = {"input_ids": ids, "attention_mask": all_but_one(ids)}
    return batch | ({"completion_mask": torch.ones_like(ids)} if config.method == "dpo" else {})


def all_but_one(ids: Any) -> Any:
    """A mask: rows after the first end a token earlier, for rows seldom have one length."""
    import torch

    mask = torch.ones_like(ids)
    mask[1:, -1:] = 0
    return mask


BATCHES = {"sft": imitated, "dpo": paired, "reward": paired}


def after_earlier_updates(tracker: Any, config: Any) -> Any:
    """A callback that gives the update what earlier ones leave behind: moments, and gradients where they add up."""
    import torch
    from transformers import TrainerCallback

    class Earlier(TrainerCallback):
        def on_step_begin(self, *event: Any, **parts: Any) -> None:
            for weight in parts["model"].parameters():
                weight.grad = torch.empty_like(weight) if weight.requires_grad else None
            parts["optimizer"].step()
            if config.batch == config.micro_batch * PROCESSES:
                parts["optimizer"].zero_grad()
            tracker.begin()

    return Earlier()


def tracker_of_memory() -> Any:
    """A MemTracker that keeps to totals, answers for tensors without content, and knows frozen weights."""
    import torch
    from torch.distributed._tools.mem_tracker import _TOTAL_KEY, MemTracker

    class Silent:
        def remove(self) -> None:
            """Nothing was registered."""

    class Tracker(MemTracker):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.begin()

        def begin(self) -> None:
            self.highest, self.most = {}, 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.prim.device.default:  # asked for all the time, and allocates nothing
                return func(*args, **kwargs or {})
            if func is torch.ops.aten._local_scalar_dense.default:  # what is logged
                return args[0].dtype.is_floating_point or 1
            if func is torch.ops.aten.index.Tensor and args[1][0].dtype == torch.bool:  # for a metric; all are meant
                mask = args[1][0]
                return args[0].new_empty((mask.numel(), *args[0].shape[mask.ndim :]))
            return super().__torch_dispatch__(func, types, args, kwargs)

        def _pre_fw_hook(self, module: Any, inputs: Any) -> None:
            if not self._mod_tracker.is_bw:  # a reference may be the same model, with its adapter switched off
                self.memory_tracking.pop(module, None)
            super()._pre_fw_hook(module, inputs)

        def _track_module_params_and_buffers(self, module: Any, install_grad_hooks: bool = True) -> Any:
            for weight in module.parameters():
                if not weight.requires_grad:  # would refuse the hook
                    self._param_to_grad_hook_handles[weight] = (Silent(), Silent())
            return super()._track_module_params_and_buffers(module, install_grad_hooks)

        def _update_peak_stats(self, peak_state: Any) -> None:
            for held in self._curr_mem_snap.values():
                if held[_TOTAL_KEY] > self.most:
                    self.most = held[_TOTAL_KEY]
                    self.highest = {kind: size for kind, size in held.items() if kind != _TOTAL_KEY}

    return Tracker()


def suit(config: Any, device: str) -> None:
    """Replaces what reads content, and for `gpu` what allocates otherwise than on CUDA."""
    import torch
    import transformers.masking_utils
    import trl.kernels.chunked_logprob as head
    import trl.trainer.utils  # noqa: F401  # keeps its own idea of the device, by which it scores all tokens
    from torch._subclasses.fake_tensor import FakeTensorMode

    uneven = config.micro_batch > 1 or config.method != "sft"

    def without_mask(padding: Any, q_length: int, kv_length: int, q: Any, kv: Any, window: int | None = None) -> bool:
        """Whether rows are all of one length, as transformers finds out from the mask's content."""
        return not uneven and not (window is not None and kv_length >= window)

    transformers.masking_utils._ignore_causal_mask_sdpa = without_mask
    torch.nn.Module.to = lambda self, *_, **__: self  # there is nothing to move
    FakeTensorMode.__deepcopy__ = lambda self, _: self  # peft copies a reward model's head
    if device == "cpu":
        return

    class InPlace:
        """A kernel that writes into what it is given."""

        def __getitem__(self, grid: Any) -> Any:
            return lambda *_, **__: None

    head._use_triton = lambda _device: True
    head._forward_kernel = head._backward_kernel = InPlace()
    head._addmm_fp32 = lambda total, a, b: None
    head.triton = type("Triton", (), {"cdiv": staticmethod(lambda a, b: -(-a // b))})
    functional = torch.nn.functional
    functional.scaled_dot_product_attention = attention_on_cuda
    functional.dropout = dropout_on_cuda


def dropout_on_cuda(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Fused: the backward pass needs a byte an element."""
    import torch

    return torch.native_dropout(input, p, training)[0] if p else input


def attention_on_cuda(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """What torch takes on CUDA: flash attention, or where there is a mask the memory-efficient kind."""
    import torch

    if torch.is_autocast_enabled("cpu"):
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    if attn_mask is None and query.dtype != torch.float32:
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return flash(query, key, value, dropout_p, is_causal, scale=scale)[0]
    bias = None
    if attn_mask is not None:
        bias = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(attn_mask.logical_not(), -torch.inf)
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    return efficient(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]


if __name__ == "__main__":
    main()
