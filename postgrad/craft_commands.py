"""The commands of each role's craft: audit, plan, eval and compare, with their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from postgrad.audit_command import audit
from postgrad.options import JsonOption, print_json, say
from postgrad.plan_command import plan


class Approve(StrEnum):
    ASK = "ask"
    PAID = "paid"
    AUTO = "auto"


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub id or folder; with --on api, its LiteLLM name.")
    ] = "",
    benchmark: Annotated[str, typer.Option(help="A name, a file of items, or a data set on the Hub.")] = "",
    resume: Annotated[
        str, typer.Option(metavar="RUN", help="Show what an earlier eval, by now approved, scored.")
    ] = "",
    on: Annotated[str | None, typer.Option(help="local | hf | slurm | api: where the model is asked.")] = None,
    api_base: Annotated[str | None, typer.Option(help="Address of a server that has the model.")] = None,
    path: Annotated[
        str | None, typer.Option(help="A local copy of a named benchmark's data; of lighteval, a file of tasks.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="choice | exact | numeric | regex | calls | rubric | loss | preference.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens that an answer may take.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Times that every item is asked.")] = None,
    limit: Annotated[int | None, typer.Option(help="Items to ask, drawn by a hash of their ids.")] = None,
    decoding: Annotated[str | None, typer.Option(help="greedy | model: its own generation_config.json.")] = None,
    chat_template: Annotated[str | None, typer.Option(help="A Jinja file in place of the model's template.")] = None,
    engine: Annotated[str | None, typer.Option(help="inspect | lighteval: what asks and scores.")] = None,
    judge: Annotated[str | None, typer.Option(help="LiteLLM model that grades what no rule can.")] = None,
    judge_api_base: Annotated[str | None, typer.Option(help="Address of a server that has the judge.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of the model on the Hub.")] = None,
    flavor: Annotated[str | None, typer.Option(help="Hardware, as it is called where the job runs.")] = None,
    sandbox: Annotated[str | None, typer.Option(help="auto | none: what code that is not ours runs in.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Cap in dollars.")] = None,
    llm_tokens: Annotated[int | None, typer.Option(help="Cap on tokens of served models and judges.")] = None,
    approve: Annotated[Approve, typer.Option(help="Who answers the gate.")] = Approve.ASK,
    as_json: JsonOption = False,
) -> None:
    """Score a model on all items of a benchmark."""
    from postgrad import api
    from postgrad.attach import can_ask, follow
    from postgrad.crafts import evaluation_goal, evaluation_of, evaluation_run
    from shared_memory.errors import BadInput
    from shared_memory.settings import load_settings

    if bool(resume) == bool(model) or bool(model) != bool(benchmark):
        raise BadInput("give MODEL and --benchmark, or --resume RUN for what an earlier eval has scored")
    settings = load_settings()
    if resume:
        run_id = evaluation_run(settings, resume)
    else:
        goal = evaluation_goal(
            model, benchmark, path=path, metric=metric, max_tokens=max_tokens, epochs=epochs, limit=limit,
            decoding=decoding, chat_template=chat_template, engine=engine, judge=judge, judge_api_base=judge_api_base,
            on=on, api_base=api_base, revision=revision, flavor=flavor, sandbox=sandbox, usd=budget_usd,
            llm_tokens=llm_tokens, approve=approve.value,
        )  # fmt: skip
        run_id = api.open_run(goal, settings)
        say(f"run {run_id} · {settings.run_paths(run_id).root}")
        api.start_worker(settings, run_id)
    code = follow(settings, run_id, ask=can_ask(), from_start=not resume)
    if code == 3:
        say(f"the run waits for your approval: postgrad approve {run_id}, then postgrad eval --resume {run_id}")
        if as_json:
            print_json({"run_id": run_id, "status": "waiting"})
    if code:
        raise typer.Exit(code)
    _show(evaluation_of(settings, run_id), as_json, _show_evaluation)


def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="A B...", help="Runs, RUN/EXPERIMENT, or items.jsonl files; A is the baseline."),
    ],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the differences: .svg, .png or .pdf.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How B (and each further model) differs from A, paired on the items that both were scored on."""
    from postgrad.comparison import compare as compare_items
    from postgrad.comparison_table import save_plot, show_comparison
    from shared_memory.errors import BadInput

    if len(models) < 2:
        raise BadInput("give at least two models: A, the baseline, and B")
    compared = compare_items(*models)
    if plot is not None:
        save_plot(compared, plot)
    _show(compared, as_json, show_comparison)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in (("audit", audit), ("plan", plan), ("eval", evaluate), ("compare", compare)):
        app.command(name)(command)


def _show(result: Mapping[str, Any], as_json: bool, table: Callable[[Mapping[str, Any]], None]) -> None:
    print_json(result) if as_json else table(result)


def _show_evaluation(scored: Mapping[str, Any]) -> None:
    from postgrad.tables import show_facts, show_rows
    from postgrad.units import duration, percent, plus_minus

    def of(each: Mapping[str, Any]) -> str:
        return plus_minus(each["score"], each["stderr"], scored["unit"])

    times = f", each asked {scored['epochs']} times" if scored["epochs"] > 1 else ""
    cut_off = f"cut off {percent(scored['truncated'])}"
    if scored["truncated"] and scored["completed"] is not None and scored["unit"] == "fraction":
        cut_off += f" (of the others {percent(scored['completed'])} are right)"
    facts = {
        "score": f"{of(scored)} on {scored['n']} items of {scored['benchmark']}{times}",
        "model": scored["model"],
        "answered": f"{percent(scored['answered'])} · {cut_off} · without an answer {percent(scored['unparsed'])}",
        "judge": scored["judge"],
        "time": duration(scored["seconds"]),
        "items": scored["items"],
        "run": scored["run_id"],
    }
    show_facts({key: value for key, value in facts.items() if value})
    if scored["by_category"]:
        rows = [[name or "(none)", of(each), str(each["n"])] for name, each in scored["by_category"].items()]
        show_rows(("category", "score", "items"), rows)
