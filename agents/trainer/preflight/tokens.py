"""Checks of what the model reads, learns and stops at: context, template, loss mask, special tokens, decoding policy.

Most of them rest on what the smoke run saw: rows as the job's own tokenizer and trainer made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agents.trainer.preflight.case import Case
from agents.trainer.preflight.report import Check, fault, ok, skipped, warning

NOT_SEEN = "no smoke run looked at the rows that the trainer makes"
STATEFUL = ("mamba", "falcon_mamba", "rwkv", "jamba", "zamba", "bamba", "recurrent_gemma", "xlstm")
"""Beginnings of model types that carry a state from token to token, which no mask of attention resets."""
APART = 0.02
"""How much of what a row's neighbour could do to its logits may be left when rows are packed; rounding leaves 1e-4."""
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "typical_p": 1.0}
"""Numbers that only sampling uses → transformers' defaults."""


def context_window(case: Case) -> Check:
    """Answers and rows fit into the model's context [field fault 1]."""
    name = "context_window"
    context = case.model_config.get("max_position_embeddings")
    if not isinstance(context, int):
        return skipped(name, "the model's config.json is not at hand, or names no context")
    answer = case.facts.max_tokens
    if answer is not None and answer >= context:
        return fault(
            name, f"the evaluator lets an answer take {answer} tokens, and the model reads {context} in all",
            "set the benchmark's max_tokens lower",
        )  # fmt: skip
    length = case.config.get("max_length")
    if isinstance(length, int) and length > context:
        return warning(name, f"max_length {length} is beyond the model's context of {context}", "set max_length lower")
    if answer is None:
        return skipped(name, "the evaluator's max_tokens is not known")
    return ok(name, f"answers of {answer} tokens fit into {context}")


def template_matches(case: Case) -> Check:
    """The job renders a prompt as the evaluator does [field fault 3]."""
    name = "template_matches"
    if case.facts.evaluator_template is None:
        same = None if case.seen is None else case.seen.get("template_kept")
        if same is False:
            return fault(
                name, "the script changes the chat template, and the evaluator renders with the base model's",
                "leave the template as it is, or put the new one into the base's folder",
            )  # fmt: skip
        return ok(name, "the evaluator uses the model's own") if same else skipped(name, NOT_SEEN)
    if case.seen is None or case.seen.get("renderings_agree") is None:
        return skipped(name, NOT_SEEN)
    if case.seen["renderings_agree"]:
        return ok(name, "prompts are rendered as the evaluator renders them")
    return fault(
        name, f"the chat template differs from the evaluator's: {case.seen['rendering']}",
        "put the evaluator's template into the base's folder as chat_template.jinja",
    )  # fmt: skip


def stop_token_learned(case: Case) -> Check:
    """The token that ends an answer is in the loss [field fault 4]."""
    name = "stop_token_learned"
    rows = _rows_in_loss(case)
    if isinstance(rows, str):
        return skipped(name, rows)
    whole = [row for row in rows if not row["cut"]]
    stops = ", ".join(case.seen["stops"]) if case.seen else ""
    unlearned = [row for row in whole if not row["stops"]]
    if not whole:
        return skipped(name, "all rows of the smoke run are cut off")
    if not unlearned:
        return ok(name, f"rows end in {stops}, which is in the loss")
    what = f"no stop token ({stops or 'the model has none'}) is in the loss: a row's last learned tokens are "
    what += repr(unlearned[0]["end"])
    fix = "let rows end in the EOS token, do not mask it, and name it in generation_config.json as eos_token_id"
    if len(unlearned) == len(whole):
        return fault(name, what, fix)
    return warning(name, f"in {len(unlearned)} of {len(whole)} rows {what}", fix)


def loss_mask(case: Case) -> Check:
    """Of a row with a completion, that and not the prompt is learned; of no row is nothing learned [field fault 5]."""
    name = "loss_mask"
    rows = _rows_in_loss(case)
    if isinstance(rows, str):
        return skipped(name, rows)
    nothing = sum(row["learned"] == 0 for row in rows)
    everything = sum(row["prompt"] for row in rows)
    if nothing:
        what = f"{nothing} of {len(rows)} rows have no token in the loss"
        return fault(
            name, what, "raise max_length above their prompts, or mend the mask: the reply's marker is not found"
        )
    share = sum(row["learned"] for row in rows) / sum(row["tokens"] for row in rows)
    if not everything:
        return ok(name, f"{100 * share:.0f} % of the tokens are in the loss")
    if case.seen and case.seen["replies_only"]:
        return fault(
            name, f"tokens of the prompt are in the loss, in {everything} of {len(rows)} rows",
            "set completion_only_loss (prompt and completion), or assistant_only_loss (messages)",
        )  # fmt: skip
    if any("text" in row for row in case.rows[:1]):
        return ok(name, "texts are in the loss as a whole")
    return warning(
        name, "the tokens of what is asked are in the loss, too",
        "set assistant_only_loss, or give rows of prompt and completion",
    )  # fmt: skip


def pad_is_not_stop(case: Case) -> Check:
    """Padding is masked, and with it any EOS token that is the same one [field fault 10]."""
    name = "pad_is_not_stop"
    fix = "give padding a token of its own (pad_token), or mask by length"
    rows = _rows_in_loss(case)
    if isinstance(rows, str) or case.seen is None:
        try:
            tokens = case.of_model("tokenizer_config.json")
        except ValueError:
            tokens = None
        if tokens is None:
            return skipped(name, NOT_SEEN)
        if tokens.get("pad_token") and tokens.get("pad_token") == tokens.get("eos_token"):
            return warning(name, f"the tokenizer pads with its EOS token, and {NOT_SEEN}", fix)
        return ok(name, "the tokenizer pads with a token of its own, or none")
    if not case.seen["pad_is_stop"]:
        return ok(name, "padding has a token of its own")
    if any(row["stops"] for row in rows if not row["cut"]):
        return ok(name, "padding is an EOS token, and the one that ends a row is in the loss nevertheless")
    return fault(name, "padding is the EOS token, and masked: the end of a row is never learned", fix)


def new_tokens_trained(case: Case) -> Check:
    """Special tokens that are new have embeddings that are trained and saved [field fault 11]."""
    name = "new_tokens_trained"
    fix = "add them to lora's modules_to_save (embed_tokens, lm_head) or trainable_token_indices, or train all weights"
    calls = list(case.script.called("add_special_tokens", "add_tokens", "resize_token_embeddings"))
    if case.seen is not None and "added" in case.seen:
        added = case.seen["added"]
        if added and not case.seen["embeddings_trained"]:
            return fault(name, f"{added} tokens are new, and the adapter leaves their embeddings random", fix)
        if added:
            return ok(name, f"{added} tokens are new, and their embeddings are trained")
        if not case.facts.new_tokens:
            return ok(name, "no token is new")
    adapts = case.config.get("lora") is not None or any(case.script.called("LoraConfig"))
    if not (calls or case.facts.new_tokens):
        if case.facts.new_tokens is None and case.spec.custom and case.seen is None:
            return skipped(name, "whether tokens are new is not known without a smoke run")
        return ok(name, "no token is new")
    kept = [str(module.value) for key in ("modules_to_save", "trainable_token_indices") for module in _given(case, key)]
    if adapts and not kept:
        told = f"line {calls[0].lineno} adds tokens" if calls else f"{', '.join(case.facts.new_tokens or ())} is new"
        return fault(name, f"{told}, and the adapter leaves their embeddings random", fix)
    return ok(name, "tokens are new, and their embeddings are trained")


def _given(case: Case, key: str) -> Iterator[Any]:
    """What the script or the config gives for a keyword of LoraConfig, if anything."""
    for call in case.script.calls:
        yield from (keyword for keyword in call.keywords if keyword.arg == key)
    lora = case.config.get("lora")
    if isinstance(lora, dict) and lora.get(key):
        yield lora


def generation_config(case: Case) -> Check:
    """The base's decoding policy is valid, and handed on [field fault 12]."""
    name = "generation_config"
    if case.model_folder is None:
        return skipped(name, "the model's files are not at hand")
    try:
        policy = case.of_model("generation_config.json")
    except ValueError as error:
        return fault(name, f"generation_config.json cannot be read ({error})", "fetch the model again")
    if policy is None:
        return ok(name, "the base has none to hand on")
    if wrong := invalid_value(policy):
        return fault(name, f"generation_config.json has {wrong}", "mend it: nothing can be generated with it")
    if case.seen is not None and case.seen.get("generation_config_lost"):
        return fault(
            name, "the trained model has no generation_config.json, and the base has one",
            "copy it into the model's folder: it is the decoding policy",
        )  # fmt: skip
    unused = next((key for key in SAMPLING if policy.get(key) is not None and not policy.get("do_sample")), "")
    if unused and policy[unused] != SAMPLING[unused]:
        what = f"generation_config.json has {unused} = {policy[unused]} without do_sample: it is not used"
        return warning(name, what, "set do_sample, or take it out: transformers 4 does not save a model with it")
    return ok(name, "generation_config.json is valid" + ("" if case.seen is None else ", and handed on"))


def invalid_value(policy: dict[str, Any]) -> str:
    """The first value of a decoding policy that generation refuses; empty where there is none.

    By transformers' `GenerationConfig.validate` and the processors of its `generation/logits_process.py`.
    """
    bounds: dict[str, tuple[float, float]] = {
        "top_k": (0, float("inf")), "top_p": (1e-9, 1), "min_p": (0, 1), "typical_p": (1e-9, 1),
        "temperature": (0, float("inf")), "repetition_penalty": (1e-9, float("inf")), "pad_token_id": (0, float("inf")),
        "max_new_tokens": (1, float("inf")), "num_beams": (1, float("inf")),
    }  # fmt: skip
    for key, (least, most) in bounds.items():
        value = policy.get(key)
        if value is not None and (not isinstance(value, int | float) or not least <= value <= most):
            return f"{key} = {value}"
    if policy.get("do_sample") is True and policy.get("temperature") == 0:
        return "do_sample with temperature = 0"
    return ""


def packing_keeps_rows_apart(case: Case) -> Check:
    """Packed rows do not see one another [field fault 6]."""
    name = "packing_keeps_rows_apart"
    given = [constant.value for constant in case.script.constants("packing")]
    if not case.config.get("packing") and not any(value is True for value in given):
        return ok(name, "rows are not packed")
    for strategy in [constant.value for constant in case.script.constants("packing_strategy")]:
        if strategy == "wrapped":
            return fault(
                name, "packing_strategy `wrapped` cuts rows in two, and lets them see one another",
                "leave it out: `bfd` keeps rows whole",
            )  # fmt: skip
    model_type = str(case.model_config.get("model_type", ""))
    packed = (case.seen or {}).get("packed")
    if packed is None:
        if model_type.startswith(STATEFUL):
            return fault(name, f"a {model_type} carries its state from row to row", "set packing = false")
        return skipped(name, "no smoke run compared packed rows with separate ones")
    if packed["share"] > APART:
        why = "use_cache is on" if packed["use_cache"] else f"no mask keeps them apart in this {model_type or 'model'}"
        what = f"packed rows see one another ({why}): logits differ from those of separate rows"
        return fault(name, what, "set use_cache=False" if packed["use_cache"] else "set packing = false")
    return ok(name, f"packed and separate logits agree ({packed['rows']} rows)")


def _rows_in_loss(case: Case) -> list[dict[str, Any]] | str:
    """The rows as the trainer made them; a text where none were seen."""
    if not case.trains:
        return "no training"
    if case.seen is None:
        return NOT_SEEN
    rows: list[dict[str, Any]] = case.seen.get("rows", [])
    return rows or "the trainer makes its rows of what the model writes"
