"""Runs a training script for two updates of a random tiny model, and tells what its trainer did with the rows.

    python probe.py order.json

The order names the script and its arguments, the folder that it works in, the folder of the model (whose weights are
made here), the most updates, and where to tell. What is seen is written even where the script fails.
"""

import atexit
import json
import os
import runpy
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_ROWS = 64
END = 4
"""Learned tokens at the end of a row among which the stop token must be: templates put a line end after it."""
Row = dict[str, Any]


class Watch:
    """Sees what the trainer is given and gives the model."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.began = time.monotonic()
        self.trainer: Any = None
        self.told: dict[str, Any] = {"rows": [], "updates": 0, "packed": None, "renderings_agree": None}

    def stops(self) -> set[int]:
        """What generation stops at: the model's own, the tokenizer's, and what the evaluator adds."""
        tokenizer, model = self.tokenizer, self.trainer.model
        ids: set[int] = set()
        # What the base brings counts too: it is handed on beside the trained weights.
        for value in (
            *self.order["stop_ids"],
            *(tokenizer.convert_tokens_to_ids(token) for token in self.order["stop_tokens"]),
            tokenizer.eos_token_id,
            getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        ):
            ids |= set(value) if isinstance(value, list) else {value}
        return {value for value in ids if isinstance(value, int)}

    @property
    def tokenizer(self) -> Any:
        processor = self.trainer.processing_class
        return getattr(processor, "tokenizer", processor)

    def look(self, trainer: Any, inputs: Any) -> None:
        """At a batch before its step. What cannot be looked at is no fault of the script."""
        try:
            if self.trainer is not trainer:
                self.begin(trainer)
            self.batch(inputs)
        except Exception as error:  # noqa: BLE001 - the script's run goes on, whatever is strange about it
            self.told.setdefault("trouble", f"{type(error).__name__}: {error}"[:300])

    def begin(self, trainer: Any) -> None:
        """Once, before the first update."""
        self.trainer = trainer
        tokenizer, base = self.tokenizer, base_tokenizer(self.order["model"])
        stops = self.stops() if tokenizer is not None else set()
        self.told |= {
            "stops": [tokenizer.convert_ids_to_tokens(value) for value in sorted(stops)] if tokenizer else [],
            "pad_is_stop": bool(tokenizer) and tokenizer.pad_token_id in stops,
            "added": max(0, len(tokenizer) - len(base)) if tokenizer else 0,
            "embeddings_trained": embeddings_trained(trainer.model),
            "replies_only": replies_only(trainer),
        }
        if tokenizer is not None:
            self.told["template_kept"] = tokenizer.chat_template == base.chat_template
            self.compare_renderings(tokenizer)

    def compare_renderings(self, tokenizer: Any) -> None:
        """The prompts of the first rows, as this tokenizer renders them and as the evaluator's template does."""
        theirs = self.order["evaluator_template"]
        if theirs is None:
            return
        for prompt in self.order["prompts"]:
            try:
                ours, asked = (
                    tokenizer.apply_chat_template(prompt, chat_template=t, tokenize=False, add_generation_prompt=True)
                    for t in (tokenizer.chat_template, theirs)
                )
            except Exception as error:  # noqa: BLE001 - a template may raise anything
                self.told |= {"renderings_agree": False, "rendering": f"one of them fails ({str(error)[:150]})"}
                return
            if ours != asked:
                at = next((i for i, (a, b) in enumerate(zip(ours, asked)) if a != b), min(len(ours), len(asked)))  # noqa: B905
                shown = f"{ours[at : at + 40]!r} where it has {asked[at : at + 40]!r}"
                self.told |= {"renderings_agree": False, "rendering": shown}
                return
            self.told["renderings_agree"] = True

    def batch(self, inputs: Any) -> None:
        """The rows of a batch, with what of each is in the loss."""
        if not isinstance(inputs, Mapping) or "input_ids" not in inputs or len(self.told["rows"]) >= MOST_ROWS:
            return
        ids = inputs["input_ids"]
        if "labels" in inputs:
            learned = inputs["labels"] != -100
        elif "completion_mask" in inputs and inputs["completion_mask"].shape == ids.shape:
            learned = inputs["completion_mask"] != 0
        else:
            return
        if learned.shape != ids.shape:
            return
        self.told["rows"] += [self.row(*row) for row in rows_of(inputs, ids, learned)]
        if self.told["packed"] is None and "position_ids" in inputs:
            self.told["packed"] = self.compare_packed(inputs)

    def row(self, ids: list[int], learned: list[bool]) -> Row:
        kept = [value for value, counts in zip(ids, learned, strict=True) if counts]
        longest = getattr(self.trainer.args, "max_length", None)
        return {
            "tokens": len(ids),
            "learned": len(kept),
            "prompt": any(learned[1:4]),
            "stops": bool(self.stops() & set(kept[-END:])),
            "cut": longest is not None and len(ids) >= longest,
            "end": self.tokenizer.decode(kept[-END:]) if self.tokenizer else "",
        }

    def compare_packed(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """How much of what a neighbour can do to a row's logits is left when both are packed.

        That is the difference of packed and separate logits, over the one that full attention makes.
        """
        import torch

        positions = inputs["position_ids"][0]
        starts = (positions == 0).nonzero().flatten().tolist()
        if len(starts) < 2:
            return None
        first, second, end = [*starts, len(positions)][:3]
        ids = inputs["input_ids"][:, first:end]
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        was_training = model.training
        passed = self.forward_arguments(inputs)
        model.eval()
        with torch.no_grad():

            def logits(ids: Any, **more: Any) -> Any:
                return model(input_ids=ids, **passed, **more).logits[0, second - first :].float()

            packed = logits(ids, position_ids=inputs["position_ids"][:, first:end])
            full = logits(ids)
            alone = model(input_ids=inputs["input_ids"][:, second:end], **passed).logits[0].float()
        model.train(was_training)
        spread = (full - alone).abs().mean().item()
        share = (packed - alone).abs().mean().item() / max(spread, 1e-9)
        return {"rows": 2, "share": share, "use_cache": passed.get("use_cache", model.config.use_cache) is True}

    def forward_arguments(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Whether the trainer passes `use_cache`: seen in a forward pass of its own loss."""
        import torch

        seen: dict[str, Any] = {}

        class Seen(Exception):
            pass

        def look(_model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
            seen.update(kwargs)
            raise Seen

        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        handle = model.register_forward_pre_hook(look, with_kwargs=True)
        try:
            with torch.no_grad():
                self.trainer.compute_loss(self.trainer.model, dict(inputs))
        except Seen:
            pass
        finally:
            handle.remove()
        return {"use_cache": seen["use_cache"]} if "use_cache" in seen else {}

    def tell(self) -> None:
        self.told["seconds"] = time.monotonic() - self.began
        Path(self.order["tell"]).write_text(json.dumps(self.told))


def rows_of(inputs: Mapping[str, Any], ids: Any, learned: Any) -> list[tuple[list[int], list[bool]]]:
    """Token ids and whether each is in the loss, a pair for every row, without padding."""
    found = []
    if "position_ids" in inputs and "attention_mask" not in inputs:
        starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
        for start, end in zip(starts, [*starts[1:], ids.shape[1]], strict=True):
            found.append((ids[0, start:end].tolist(), learned[0, start:end].tolist()))
        return found
    mask = inputs.get("attention_mask")
    for number in range(ids.shape[0]):
        real = mask[number].bool() if mask is not None else slice(None)
        found.append((ids[number][real].tolist(), learned[number][real].tolist()))
    return found


def embeddings_trained(model: Any) -> bool:
    """Whether new rows of the embeddings can be learned: all weights are, or the adapter has them."""
    adapters = getattr(model, "peft_config", None)
    if not adapters:
        return True
    for config in adapters.values():
        modules = config.modules_to_save or []
        targets = config.target_modules if isinstance(config.target_modules, (set, list)) else []
        if getattr(config, "trainable_token_indices", None) or any(
            name.rpartition(".")[2].startswith(("embed", "wte", "lm_head")) for name in (*modules, *targets)
        ):
            return True
    return False


def replies_only(trainer: Any) -> bool:
    """Whether the job means to learn replies alone: it says so, or its rows have a prompt apart."""
    arguments = trainer.args
    if getattr(arguments, "assistant_only_loss", False) or getattr(arguments, "completion_only_loss", False):
        return True
    columns = getattr(trainer.train_dataset, "column_names", None) or []
    return "completion_mask" in columns or "completion" in columns


def base_tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def make_weights(folder: str) -> None:
    """Random weights for the config in `folder`, the same every time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float().save_pretrained(folder)


def watch_trainers(watch: Watch, most: int) -> None:
    """Every transformers Trainer, and TRL's are such, shows its batches, and stops after `most` updates."""
    from transformers import Trainer, TrainerCallback

    class Ends(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.told["updates"] = state.global_step
            if state.global_step >= most:
                control.should_training_stop = True

    set_up, step = Trainer.__init__, Trainer.training_step

    def watched_set_up(self: Any, *args: Any, **kwargs: Any) -> None:
        set_up(self, *args, **kwargs)
        self.add_callback(Ends())

    def watched_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        watch.look(self, inputs)
        return step(self, model, inputs, *args, **kwargs)

    Trainer.__init__, Trainer.training_step = watched_set_up, watched_step


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    os.environ |= order["environment"]
    policy = Path(order["model"]) / "generation_config.json"
    kept = policy.read_bytes() if policy.exists() else None
    make_weights(order["model"])
    if kept is not None:
        policy.write_bytes(kept)
    else:
        policy.unlink(missing_ok=True)
    watch = Watch(order)
    atexit.register(watch.tell)
    watch_trainers(watch, order["updates"])
    sys.argv = [order["script"], *order["arguments"]]
    sys.path[0] = str(Path(order["script"]).parent)
    os.chdir(order["work"])
    runpy.run_path(order["script"], run_name="__main__")


if __name__ == "__main__":
    main()
