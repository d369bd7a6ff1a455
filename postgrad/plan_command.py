"""`postgrad plan`: what training a model would take, in a terminal or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from postgrad.options import JsonOption, print_json

SHOWN = 10
"""Alternatives that a terminal is told of."""


class On(StrEnum):
    """Where `plan --on` looks for hardware."""

    LOCAL = "local"
    HF = "hf"
    SLURM = "slurm"


def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id or folder.")],
    method: Annotated[
        str, typer.Option(help="auto (by the data) | sft | dpo | kto | reward | grpo | rloo | distill.")
    ] = "auto",
    data: Annotated[list[str] | None, typer.Option(help="Training data, for time and price; may be repeated.")] = None,
    revision: Annotated[str, typer.Option(help="Of the model on the Hub.")] = "",
    on: Annotated[On, typer.Option(help="Where to look for hardware.")] = On.LOCAL,
    exact: Annotated[
        bool, typer.Option("--exact", help="Also take one real training step without weights, to see what it holds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What training a model would take: memory by part, hardware, batch, time and price."""
    from postgrad.planning import plan as plan_training

    planned = plan_training(model, method, data or None, revision=revision, on=on.value, exact=exact)
    print_json(planned) if as_json else _show(planned)


def _show(planned: Mapping[str, Any]) -> None:
    from postgrad.tables import show_facts, show_rows
    from postgrad.units import dollars, duration

    recipe, memory = planned["recipe"], planned["memory"]
    lora = recipe["lora"]
    adapter = f"LoRA r{lora['r']}" + (" on four bits" if lora["base"] == "nf4" else "") if lora else "all weights"
    facts = {
        "model": f"{planned['model']} · {planned['parameters'] / 1e6:,.0f} M parameters",
        "recipe": f"{recipe['method'].upper()}, {adapter}, lr {recipe['learning_rate']:g} ({recipe['id']})",
        "memory": f"{memory['peak']:.2f} GiB at the peak",
        **{f"  {part}": f"{gib:.2f}" for part, gib in memory.items() if part != "peak"},
    }
    if exact := planned.get("exact"):
        parts = " + ".join(f"{part} {gib:.2f}" for part, gib in exact["parts"].items())
        facts["exact"] = f"{exact['peak']:.2f} GiB of tensors = {parts}"
    facts |= {
        "hardware": _hardware(planned["hardware"]),
        "batch": _batch(planned),
        "time": duration(3600 * planned["hours"]) if planned["hours"] is not None else "not known",
    }
    if planned["usd"]:
        facts["price"] = f"{dollars(planned['usd'])} · {planned['prices']}"
    show_facts(facts)
    if others := planned["alternatives"]:
        typer.echo()
        show_rows(("or on", "batch", "peak", "time", "price", ""), [_row(other) for other in others[:SHOWN]])
        if len(others) > SHOWN:
            typer.echo(f"… and {len(others) - SHOWN} more, which --json lists")
    for warning in planned["warnings"]:
        typer.echo(f"note: {warning}")


def _hardware(hardware: Mapping[str, Any]) -> str:
    price = f", ${hardware['usd_per_hour']:g}/h" if hardware["usd_per_hour"] else ""
    return f"{hardware['count']} × {hardware['name']}, {hardware['vram_gib']:.1f} GiB{price}"


def _batch(planned: Mapping[str, Any]) -> str:
    batch = planned["batch"]
    devices = batch["effective"] // (batch["per_device"] * batch["accumulation"])
    split = f"{batch['effective']} = {batch['per_device']} at once × {batch['accumulation']}"
    split += f" × {devices} devices" if devices > 1 else ""
    return f"{split}, with activation checkpointing" if planned["activation_checkpointing"] else split


def _row(other: Mapping[str, Any]) -> list[str]:
    from postgrad.units import dollars, duration

    time = duration(3600 * other["hours"]) if other["hours"] is not None else ""
    price = dollars(other["usd"]) if other["usd"] else f"${other['usd_per_hour']:g}/h" if other["usd_per_hour"] else ""
    return [
        _hardware(other).partition(", $")[0],
        _batch(other),
        f"{other['peak']:.1f} GiB",
        time,
        price,
        other["why_not"],
    ]
