"""Whether a model descends from the base that it is said to be trained from: what its files show, without torch.

Four things are looked at. Architecture and vocabulary have to be the base's, new tokens aside. The weights have to be
related to the base's at all: models that were trained apart have no more in common, row by row, than rows that do not
belong together [arXiv 2502.12292]. They have to lie as near as the training on record can have moved them, for distance
alone tells nothing: a base and its own instruct model differ by 2 % [arXiv 2505.12716], less than many a fine-tune. And
an adapter that was merged has to be all of the difference.

Of a big tensor some rows are read, always the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agents.evaluator.integrity.adapters import Adapter, read_adapter
from agents.evaluator.integrity.architecture import compare_vocabularies, config_of, faults_of_config
from agents.evaluator.integrity.distances import Sums, TensorDistance, rows_of, square_of, sums_of
from agents.evaluator.integrity.tensors import Weights, plain_name
from shared_memory.records import Record

RELATED = 4.0
"""Standard errors by which rows that belong together have to be more alike than rows that do not. Matrices of models
that were trained apart stay below it but for 1 in 30,000 (a normal tail; measured: -0.7 to 1.7); of a model that was
trained on they lie at 8 and more, even where they have moved by six times their own size (docs/measurements.md)."""
SUSTAINED, MOST = 1.0, 7.27
"""How far AdamW moves a weight in an update, in learning rates. MOST is never exceeded on average: by Cauchy-Schwarz
|m|/√v ≤ (1-β1) / √((1-β2)(1-β1²/β2)) for the moments of arXiv 1412.6980 with β = 0.9, 0.999. SUSTAINED is what a
gradient that always points the same way comes to; the root mean square over a tensor was 0.55 to 0.83 of it in real
trainings (docs/measurements.md)."""
SAME_WAY = 0.3
"""Cosine between the changes of two models above which one is on the other's way: at random it is 0."""


@dataclass(frozen=True)
class Training:
    """What is on record of how a model was trained, from the base on."""

    updates: int
    """Weight updates that its data and settings make, of all trainings on the way."""
    travel: float
    """The sum of the learning rates over them: how far AdamW can move a weight that is pushed one way."""
    rank: int = 0
    """Of the adapter; 0 where all weights were trained."""
    ours: bool = True
    """Whether our own script did it: another one may have had another optimizer."""
    new_head: bool = False
    """A reward model's head takes the place of the one that predicts tokens."""


class Lineage(Record):
    """What a comparison of a model with its base has come to."""

    model: str
    """What was compared: an `adapter`, or all `weights`."""
    tensors: int
    unchanged: int
    distance: float
    """Frobenius norm of the change over that of the base, all matrices together."""
    cosine: float | None
    """Between them; None of an adapter."""
    farthest: tuple[TensorDistance, ...] = ()
    travelled: float | None = None
    """The largest root mean square of a tensor's change over what the training on record can make; None without one."""
    faults: tuple[str, ...] = ()
    """Why it cannot be what it is said to be."""
    doubts: tuple[str, ...] = ()
    """What cannot be told, or is not as it should be."""

    @property
    def found(self) -> str:
        """In one line."""
        same = f", {self.unchanged} of {self.tensors} tensors not at all" if self.unchanged else ""
        near = f", {self.travelled:.0%} of what its training can move them" if self.travelled is not None else ""
        cosine = f" (cosine {self.cosine:.4f})" if self.cosine is not None else ""
        return f"{self.model} changed by {self.distance:.2%} of the base's{cosine}{same}{near}"


@dataclass
class _Notes:
    faults: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def lineage(
    base: Path,
    model: Path,
    *,
    names: Sequence[str] = (),
    training: Training | None = None,
    adapter: Path | None = None,
    others: Mapping[str, Path] | None = None,
) -> Lineage:
    """Compare a model, or an adapter, with its base.

    names: what the base may be called in an adapter's config, besides its folder. training: what is on record; without
    it nothing bounds the distance. adapter: what the model was merged from. others: models that this one may really be,
    by name. Raises BadInput where a folder cannot be read.
    """
    if (model / "adapter_config.json").is_file():
        return _of_adapter(base, read_adapter(model), names, training)
    notes = _Notes(faults_of_config(config_of(base), config_of(model)))
    wrong, untold = compare_vocabularies(base, model)
    notes.faults += wrong
    notes.doubts += untold
    weights = Weights(base), Weights(model)
    pairs = _pairs(*weights, notes, training, ties=bool(config_of(model).get("tie_word_embeddings")))
    merged = read_adapter(adapter) if adapter else None
    if merged is not None and merged.doubts:
        notes.doubts += merged.doubts
        merged = None
    sums = [sums_of(pair, weights, merged) for pair in pairs]
    if not list(weights[1]):
        notes.doubts = ["it holds no weights as safetensors, so nothing of it could be compared"]
    elif not sums:
        notes.faults.append("it has no tensor that can be compared with the base's")
    _judge_relation(sums, notes)
    bounded = training if merged is None and training is not None and not training.rank else None
    if bounded is not None:
        _judge_travel([(entry.name, entry.moved) for entry in sums], bounded, notes)
    if merged is not None:
        _judge_merge(sums, notes)
    for name, folder in (others or {}).items():
        _judge_other(name, Weights(folder), weights, pairs, notes)
    return _told(sums, bounded, notes)


def _told(sums: Sequence[Sums], bounded: Training | None, notes: _Notes) -> Lineage:
    matrices = [entry for entry in sums if entry.related is not None] or sums
    base, model, product, change = (
        math.fsum(getattr(entry, of) for entry in matrices) for of in ("base", "model", "product", "change")
    )
    moved = max((entry.moved for entry in sums), default=0.0)
    farthest = sorted((entry.told for entry in sums if entry.change), key=lambda each: -each.distance)
    return Lineage(
        model="weights",
        tensors=len(sums),
        unchanged=sum(entry.change == 0 for entry in sums),
        distance=math.sqrt(change / base) if base else 0.0,
        cosine=product / math.sqrt(base * model) if base * model else 1.0,
        farthest=tuple(farthest[:3]),
        travelled=moved / bounded.travel if bounded is not None and bounded.travel else None,
        faults=tuple(notes.faults),
        doubts=tuple(notes.doubts),
    )


def _of_adapter(base: Path, adapter: Adapter, names: Sequence[str], training: Training | None) -> Lineage:
    """An adapter over the base is its descendant by making, as long as it says so, fits it, and is small enough."""
    notes = _Notes(doubts=list(adapter.doubts))
    if adapter.base and adapter.base not in (*names, str(base)) and Path(adapter.base).resolve() != base.resolve():
        notes.faults.append(f"it says that it is an adapter of {Path(adapter.base).name}, which is another model")
    weights = Weights(base)
    places = {plain_name(name): name for name in weights}
    strange = [name for name in adapter.pairs if plain_name(name) not in places]
    known = {name: places[plain_name(name)] for name in adapter.pairs if name not in strange}
    misfit = [name for name, place in known.items() if not adapter.fits(name, weights.shapes[place])]
    if not adapter.pairs:
        notes.doubts.append("it holds no matrices as safetensors, so nothing of it could be compared")
    elif misfit or not known:
        notes.faults.append(f"its matrices do not fit the base's ({', '.join([*misfit, *strange][:3])})")
    elif strange:
        notes.doubts.append(f"it adapts what the base does not have ({', '.join(strange[:3])})")
    moved = [*adapter.travels(), *_moved_whole(adapter, weights, places)]
    if training is not None:
        if training.rank and adapter.rank > training.rank:
            notes.faults.append(f"it has rank {adapter.rank}, and {training.rank} was trained")
        _judge_travel(moved, training, notes)
    squares = {
        name: (adapter.square(name), square_of(weights, place))
        for name, place in known.items()
        if name not in misfit and weights.can_be_read(place)
    }
    change, norm = (math.fsum(pair[which] for pair in squares.values()) for which in (0, 1))
    shares = {name: math.sqrt(square / of) for name, (square, of) in squares.items() if square and of}
    farthest = sorted(shares.items(), key=lambda each: -each[1])[:3]
    most = max((far for _, far in moved), default=0.0)
    return Lineage(
        model="adapter",
        tensors=len(adapter.pairs),
        unchanged=sum(not square for square, _ in squares.values()),
        distance=math.sqrt(change / norm) if norm else 0.0,
        cosine=None,
        farthest=tuple(TensorDistance(name=name, distance=round(share, 6)) for name, share in farthest),
        travelled=most / training.travel if training is not None and training.travel else None,
        faults=tuple(notes.faults),
        doubts=tuple(notes.doubts),
    )


def _moved_whole(adapter: Adapter, weights: Weights, places: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """How far those tensors of the base have moved that were trained as a whole, as root mean squares."""
    for name, trained in adapter.whole.items():
        place = places.get(plain_name(name))
        if place is not None and weights.can_be_read(place):
            before = weights.rows(place)
            rows = min(len(before), len(trained))
            change = trained[:rows].astype(np.float64) - before[:rows]
            yield name, math.sqrt(float(np.mean(change**2)))


def _judge_relation(sums: Sequence[Sums], notes: _Notes) -> None:
    apart = [entry.name for entry in sums if entry.related is not None and entry.related < RELATED]
    matrices = sum(entry.related is not None for entry in sums)
    what = f"{len(apart)} of {matrices} matrices are unrelated to the base's"
    if len(apart) > matrices / 2:
        notes.faults.append(f"{what}: it is another model")
    elif apart:
        notes.doubts.append(f"{what} ({', '.join(apart[:3])})")


def _judge_travel(moved: Sequence[tuple[str, float]], training: Training, notes: _Notes) -> None:
    """Hold what was moved against what the training on record can move."""
    name, most = max(moved, key=lambda each: each[1], default=("", 0.0))
    if training.travel <= 0 or most <= SUSTAINED * training.travel:
        return
    times = f"{most / training.travel:.1f} times as far as the {training.updates} updates of its training go"
    beyond = most > MOST * training.travel
    (notes.faults if beyond and training.ours else notes.doubts).append(f"{name} has moved {times}")


def _judge_merge(sums: Sequence[Sums], notes: _Notes) -> None:
    odd = [entry.name for entry in sums if entry.excess]
    if odd:
        some = f"{', '.join(odd[:3])}{' …' if len(odd) > 3 else ''}"
        notes.faults.append(f"{len(odd)} of {len(sums)} tensors are not the base with its adapter added ({some})")


def _judge_other(
    name: str, other: Weights, weights: tuple[Weights, Weights], pairs: Sequence[tuple[str, str]], notes: _Notes
) -> None:
    """Whether the model is on the way from another one: nearer to it than to the base, and changed as it is."""
    places = {plain_name(each): each for each in other}
    change = away = theirs = product = 0.0
    for old, new in pairs:
        place = places.get(plain_name(old), "")
        shapes = {weights[0].shapes[old], weights[1].shapes[new], other.shapes.get(place, ())}
        if len(shapes) > 1 or not other.can_be_read(place):
            continue
        chosen, scale = rows_of(old, weights[0].shapes[old])
        a, b, c = (
            of.rows(at, chosen).astype(np.float64) for of, at in ((weights[0], old), (weights[1], new), (other, place))
        )
        change += scale * float(np.sum((b - a) ** 2))
        away += scale * float(np.sum((b - c) ** 2))
        theirs += scale * float(np.sum((c - a) ** 2))
        product += scale * float(np.sum((b - a) * (c - a)))
    if away < change and product > SAME_WAY * math.sqrt(change * theirs):
        share = math.sqrt(away / change)
        notes.faults.append(
            f"it is nearer to {name} than to the base ({share:.0%} of the distance), and changed in its direction"
        )


def _pairs(
    base: Weights, model: Weights, notes: _Notes, training: Training | None, *, ties: bool
) -> list[tuple[str, str]]:
    """Names of the tensors that can be compared: in both, of one shape but for the rows that new tokens have added."""
    new_head = training is not None and training.new_head
    places = {plain_name(name): name for name in model}
    found, misfit, quantised, gone = [], [], 0, []
    for name in base:
        place = places.pop(plain_name(name), None)
        if place is None:
            if plain_name(name) != "lm_head.weight" or not (ties or new_head):
                gone.append(name)
            continue
        ours, theirs = base.shapes[name], model.shapes[place]
        grown = _is_of_tokens(name) and theirs[1:] == ours[1:] and theirs[:1] > ours[:1]
        if ours != theirs and not grown:
            misfit.append(name)
        elif base.can_be_read(name) and model.can_be_read(place):
            found.append((name, place))
        else:
            quantised += 1
    new = [name for name in places if name != "lm_head.weight" and not (new_head and name == "score.weight")]
    if misfit:
        notes.faults.append(f"{len(misfit)} tensors have another shape than the base's ({', '.join(misfit[:3])})")
    if quantised:
        notes.doubts.append(f"{quantised} tensors are quantised, and were not compared")
    for what, names in (("lacks", gone), ("has tensors that the base does not have:", new)):
        if names:
            notes.doubts.append(f"it {what} {len(names)} ({', '.join(names[:3])})")
    return found


def _is_of_tokens(name: str) -> bool:
    """Whether a tensor has a row a token."""
    return any(part in name for part in ("embed", "lm_head", "wte"))
