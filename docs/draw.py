"""Draws the graphs, as LangGraph knows them, for docs/studio.md: `python -m docs.draw`. Graphviz lays them out."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from langchain_core.runnables.graph import Edge, Graph

from agents.brain import Role
from graph import alone, build

PICTURES = Path(__file__).parent / "graphs"
GRAPHS = {
    "postgrad": build.graph.get_graph(xray=True),
    **{role.value: getattr(alone, role).get_graph() for role in Role},
}

STYLE = """\
graph [fontname="Helvetica,Arial,sans-serif", fontsize=12, nodesep=0.35, ranksep=0.45, pad=0.3]
node [fontname="Helvetica,Arial,sans-serif", fontsize=12, height=0.35, margin="0.14,0.06", shape=box]
node [style="rounded,filled"]
edge [fontname="Helvetica,Arial,sans-serif", fontsize=10, arrowsize=0.7]"""
SHAPES = {
    "router": 'class="choice", shape=diamond, style=filled',
    "gate": 'class="person", shape=hexagon, style=filled',
    "start": 'class="end", shape=oval, margin=0',
    "end": 'class="end", shape=oval, margin=0',
}
"""What a node looks like that is no plain step."""

LIGHT = {
    "paper": "#ffffff", "ink": "#1f2328", "line": "#59636e", "step": "#f6f8fa", "end": "#d1d9e0", "choice": "#fff3c4",
    "person": "#ffd8d3", "researcher": "#dbe9ff", "data_engineer": "#d9f2e0", "trainer": "#fde3c8",
    "evaluator": "#eadcff",
}  # fmt: skip
DARK = {
    "paper": "#0d1117", "ink": "#e6edf3", "line": "#9198a1", "step": "#212830", "end": "#3d444d", "choice": "#4d3f0d",
    "person": "#67201b", "researcher": "#12325c", "data_engineer": "#12402a", "trainer": "#54320f",
    "evaluator": "#3a2463",
}  # fmt: skip


def source(drawn: Graph) -> str:
    """The graph in Graphviz's language: a colour for each role, a frame around a subgraph, conditions as words."""
    plain = [_node(node) for node in drawn.nodes if ":" not in node]
    door = [_node(node) for node in drawn.nodes if ":" in node]
    if door:
        frame = 'label="jobs: the one door to compute"; labelloc=b; labeljust=l; style=rounded; margin=14'
        door = [f'subgraph "cluster_jobs" {{ {frame}', *door, "}"]
    return "\n".join(["digraph {", STYLE, *plain, *door, *map(_edge, drawn.edges), "}"])


def _node(node: str) -> str:
    label = node.rpartition(":")[2].strip("_")
    role = next((role.value for role in Role if label.startswith(role)), "")
    shown = f"{role}\\n{label.removeprefix(f'{role}_')}" if role else label
    look = SHAPES.get(label, f'class="{role or "step"}"')
    return f'"{node}" [label="{shown.replace("_", " ")}", {look}]'


def _edge(edge: Edge) -> str:
    ends, looks = [edge.source, edge.target], ["style=dashed"] if edge.conditional else []
    if edge.data:
        looks.append(f'label=" {edge.data} "')
    if edge.target == "router" and edge.source != "intake":
        looks.append("dir=back")  # laid out the other way round, so that the picture reads from the goal downwards
        ends.reverse()
    return f'"{ends[0]}" -> "{ends[1]}" [{", ".join(looks)}]'


def style_sheet(colours: dict[str, str]) -> str:
    """The rules of one colour scheme; they go before the colours that Graphviz writes on every shape."""
    line = colours["line"]
    rules = [
        f".graph > polygon {{ fill: {colours['paper']} }}",
        f".node path, .node polygon, .node ellipse, .edge path {{ stroke: {line} }}",
        f".cluster path {{ stroke: {line}; stroke-width: 0.5; fill: none }}",
        f".edge polygon {{ fill: {line}; stroke: {line} }}",
        f"text {{ fill: {colours['ink']} }}",
        f".edge text {{ fill: {line} }}",
    ]
    for kind in colours.keys() - {"paper", "ink", "line"}:
        rules.append(f".{kind} path, .{kind} polygon, .{kind} ellipse {{ fill: {colours[kind]} }}")
    return "\n".join(sorted(rules))


def stamp(dot: str) -> str:
    """What a picture says of its source, by which a test knows whether it is still true."""
    return f"<!-- drawn by docs/draw.py from {hashlib.sha256(dot.encode()).hexdigest()} -->"


def picture(dot: str) -> str:
    """The laid-out graph as SVG that follows the reader's light or dark scheme."""
    svg = subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, text=True, check=True).stdout
    rules = f"{style_sheet(LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{style_sheet(DARK)}\n}}"
    return svg.replace('<g id="graph0"', f'{stamp(dot)}\n<style>\n{rules}\n</style>\n<g id="graph0"', 1)


def main() -> None:
    if shutil.which("dot") is None:
        sys.exit("Graphviz is not installed; apt-get install graphviz, or brew install graphviz")
    PICTURES.mkdir(exist_ok=True)
    for name, drawn in GRAPHS.items():
        (PICTURES / f"{name}.svg").write_text(picture(source(drawn)), encoding="utf-8")


if __name__ == "__main__":
    main()
