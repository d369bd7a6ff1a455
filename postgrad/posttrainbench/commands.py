"""The commands of `postgrad posttrainbench`: solve a task folder, and read results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from postgrad.options import JsonOption, print_json, say

app = typer.Typer(no_args_is_help=True, help="PostTrainBench: work on a task folder, and read results.")


@app.command()
def solve(
    folder: Annotated[Path, typer.Argument(help="The task folder: evaluate.py, timer.sh, templates/.")] = Path(),
    prompt: Annotated[str, typer.Option(envvar="PROMPT", help="What the harness tells its agent.")] = "",
    goal: Annotated[Path | None, typer.Option(help="A goal template: data, limits, brain, judge.")] = None,
    benchmark: Annotated[str, typer.Option(help="The benchmark, where the prompt does not name it.")] = "",
    model: Annotated[str, typer.Option(help="The base model, where the prompt does not name it.")] = "",
    brain: Annotated[str, typer.Option(help="The mind of the roles: playbook, or a LiteLLM model.")] = "",
    python: Annotated[str, typer.Option(help="The task's own Python, for evaluate.py.")] = "python3",
    as_json: JsonOption = False,
) -> None:
    """Post-train the task's model until its clock runs out; final_model holds the best one at every moment."""
    from postgrad.console import Console
    from postgrad.posttrainbench.solve import Stopped
    from postgrad.posttrainbench.solve import solve as work
    from shared_memory.settings import load_settings

    try:
        with Console() as console:
            told = work(
                folder, settings=load_settings(), tell=say, prompt=prompt, goal=goal, benchmark=benchmark, model=model,
                brain=brain, python=python, on_event=lambda event: console.render(event.model_dump()),
            )  # fmt: skip
    except Stopped:
        raise typer.Exit(143) from None  # 128 + SIGTERM, as a shell has it
    print_json(told) if as_json else _show_told(told)
    raise typer.Exit(1 if told["tampered"] or told["status"] == "failed" else 0)


@app.command()
def results(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Results of the harness, or of solve.")],
    baseline: Annotated[Path | None, typer.Option(help="Results of the base models, where measured.")] = None,
    name: Annotated[str, typer.Option(help="What our line is called.")] = "postgrad",
    as_json: JsonOption = False,
) -> None:
    """The weighted averages of v1 and v1.2, with ours in place on the leaderboard."""
    from postgrad.posttrainbench.results import results as read

    found = read(folders, baseline=baseline, name=name)
    print_json(found) if as_json else _show_results(found)


def _show_told(told: Mapping[str, Any]) -> None:
    from postgrad.tables import show_facts
    from postgrad.units import plus_minus

    official = told["official"]
    scored = (
        f"{plus_minus(official['score'], official['stderr'] or 0.0)} on all items (official, includes selection items)"
        if official["score"] is not None
        else f"none: {official['error']}"
    )
    facts = {
        "final_model": f"{told['final_model']} · {told['champion']}",
        **{
            f"score on {name}": f"{plus_minus(score['score'], score['stderr'], score['unit'])} on {score['n']} items"
            f" ({score['part']})"
            for name, score in told["scores"].items()
        },
        "evaluate.py": scored,
        "run": f"{told['run_id']} · {told['status'].replace('_', ' ')}",
    }
    if told["error"]:
        facts["because"] = told["error"]
    if told["tampered"]:
        facts["changed"] = f"{', '.join(told['tampered'])}: the task's own files are not what they were"
    show_facts(facts)


def _show_results(found: Mapping[str, Any]) -> None:
    from postgrad.tables import show_rows
    from postgrad.units import NONE, percent, plus_minus

    typer.echo(
        f"{found['measured']} of {found['of']} cells are measured; the others have the base model's score. "
        "± of ours is one standard error, of the items alone"
    )
    rows = [
        [cell["benchmark"], cell["model"], plus_minus(cell["score"], cell["stderr"]), cell["counted"], cell["why"]]
        for cell in found["cells"]
        if cell["sources"]
    ]
    show_rows(("benchmark", "model", "score", "", ""), rows)
    for version, average in found["averages"].items():
        benchmarks = next(list(line["scores"]) for line in average["leaderboard"] if line["ours"])
        typer.echo()
        show_rows(
            ("", version, "average", *benchmarks, "source"),
            [
                [
                    NONE if line["rank"] is None else str(line["rank"]),
                    f"→ {line['name']}" if line["ours"] else line["name"],
                    percent(line["average"]) if line["spread"] is None else plus_minus(line["average"], line["spread"]),
                    *(f"{100 * line['scores'][key]:.1f}" if line["scores"] else "" for key in benchmarks),
                    line["source"],
                ]
                for line in average["leaderboard"]
            ],
        )
