"""What a training job holds in memory at its peak, before it runs, from the model's config.json.

A step has a few moments that can be the peak: in the LM head at the end of the forward pass and at the beginning of
the backward pass, in a reference's forward pass, in the last block's backward pass, and when all gradients are there.
Each is a sum of what really is kept then, by TRL 1.16 and transformers 5.23; nothing is fitted. `benchmarks/memory.py`
compares the sums with what `scripts/exact_memory.py` sees in a real step.
"""

from __future__ import annotations

import math

from agents.trainer.activations import (
    Batch,
    Device,
    arithmetic_of,
    booleans,
    kept_by_a_block,
    kept_by_masks,
    passing,
)
from agents.trainer.methods import needs_reference, samples
from agents.trainer.shape import Shape
from shared_memory.recipes import GrpoRecipe, RlooRecipe
from shared_memory.records import Recipe, Record

GIB = 1024**3
RUNTIME_GIB = 0.9
"""Python, torch, transformers and TRL themselves, as measured on a CPU after import."""
CUDA_GIB = 0.8
"""Allowance for CUDA's context and cuBLAS's workspace, which no tensor holds."""
FRAGMENTATION = 0.03
"""Allowance for blocks that the caching allocator cannot use again, as a share of what comes and goes."""
HEAD_TOKENS, HEAD_WORDS = 4096, 32768
"""Tile of TRL's fused LM head, which never holds all logits [trl/kernels/chunked_logprob.py]."""
FOLDED_FORWARD, FOLDED_BACKWARD = 3.25, 7.25
"""Copies of that tile in float32 where there is no Triton: what `_forward_tile` and `_backward_tile` hold at once."""
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A weight in four bits: with a byte of scale for 64 of them, and four bytes for 256 scales [arXiv 2305.14314, § 3]."""
PAIRED = ("dpo", "reward")
"""Methods whose row is two sequences."""
SAMPLING = (GrpoRecipe, RlooRecipe)


class Memory(Record):
    """What one device holds at the peak of training, in GiB."""

    weights: float
    """What arithmetic is done with: copies in bfloat16 where the master is in float32, a frozen base, a reference or
    teacher."""
    master: float
    """The weights that the optimizer changes, where they are in float32."""
    gradients: float
    optimizer: float
    """AdamW's two moments."""
    activations: float
    """What the backward pass needs of the forward pass; keys and values while a model samples, if that is the peak."""
    logits: float
    """Tiles, copies and gradients of the LM head."""
    overhead: float
    """Libraries, and what the allocator cannot use."""

    @property
    def tensors(self) -> float:
        """All but the overhead."""
        return self.peak - self.overhead

    @property
    def peak(self) -> float:
        return math.fsum(self.plain().values())

    def parts(self) -> dict[str, float]:
        """Part → GiB, and the peak, rounded for people."""
        return {part: round(gib, 3) for part, gib in [*self.plain().items(), ("peak", self.peak)]}


class Setup(Record):
    """How a recipe is carried out."""

    micro_batch: int = 1
    activation_checkpointing: bool = False
    accumulation: int = 2
    """Micro-batches behind one weight update; with more than one, gradients are held while the next is computed."""
    device: Device = "gpu"
    bf16: bool = True
    """Whether the device calculates in bfloat16."""
    devices: int = 1
    length: int = 0
    """Tokens of the longest row, where it is known to be less than the recipe's `max_length`."""


def training_memory(shape: Shape, recipe: Recipe, setup: Setup, *, parameters: int = 0, teacher: int = 0) -> Memory:
    """Memory of one device at the moment at which it holds the most.

    parameters: all weights, where they are known better than `shape` tells. teacher: weights of a distillation's
    teacher; without them one of the same size is assumed.
    """
    step = _Step(shape, recipe, setup, parameters or shape.parameters, teacher)
    moments = [step.head_forward(), step.reference(), step.head_backward(), step.last_block(), step.all_gradients()]
    if samples(recipe.method, getattr(recipe, "on_policy", 0.0)):
        moments.append(step.sampling())
    held = {part: size / GIB for part, size in max(moments, key=lambda parts: sum(parts.values())).items()}
    come_and_go = held["activations"] + held["logits"]
    overhead = CUDA_GIB + FRAGMENTATION * come_and_go if setup.device == "gpu" else RUNTIME_GIB
    return Memory(**held, overhead=overhead)


def lora_parameters(shape: Shape, rank: int) -> int:
    """Weights of an adapter on all linear layers of the blocks: r × (inputs + outputs) each. Experts have none."""
    layers = shape.linear_widths[: -3 if shape.experts else None]
    return rank * shape.layers * sum(map(sum, layers))


Parts = dict[str, float]


class _Step:
    """The moments of a training step, each as part → bytes."""

    def __init__(self, shape: Shape, recipe: Recipe, setup: Setup, parameters: int, teacher: int) -> None:
        self.shape, self.recipe, self.setup = shape, recipe, setup
        self.scores = recipe.method != "reward"  # tokens of the vocabulary; a reward model has another head
        self.tied = shape.tied and self.scores
        self.parameters = parameters - shape.embeddings * (not self.scores and not shape.tied)
        self.how = arithmetic_of(recipe, setup.device, setup.bf16)
        self.full = recipe.lora is None
        self.lora = lora_parameters(shape, recipe.lora.r) if recipe.lora else 0
        self.trained = self.lora if recipe.lora else self.parameters - shape.elsewhere
        self.gradient = self.how.weight if self.full else self.how.adapter
        self.batch = self._batch()
        self.hidden = float(self.batch.tokens * shape.hidden)
        self.table = float(self.gradient * shape.embeddings) if self.full else 0.0
        self.anchored = needs_reference(recipe.method, not self.full, getattr(recipe, "beta", 0.0))
        self.other = self._other_model(teacher or parameters)

    def head_forward(self) -> Parts:
        """The last tile of the LM head's forward pass: autocast's copies of the weights are still there."""
        tile, chunk, states = self._tiles()
        kept = self._kept() + self._around()
        logits = tile + chunk / 2 + states + self._folded(FOLDED_FORWARD)
        return self._parts(copies=self._copies(self.shape.layers), activations=kept, logits=logits)

    def head_backward(self) -> Parts:
        """The LM head's backward pass, which sums up in float32."""
        tile, chunk, states = self._tiles()
        sums = 4.0 * self.scores * (self._scored() * self.shape.hidden + self.shape.embeddings * self.full)
        returned = sums / 2 if self.how.weight == 2 else 0.0  # cast to the type of what they are gradients of
        kept = self._kept() + self._around()
        logits = sums + tile + max(chunk + states + self._folded(FOLDED_BACKWARD), returned)
        copies = 0.0 if self.setup.activation_checkpointing else self._copies(self.shape.layers)
        return self._parts(copies=copies, activations=kept, logits=logits)

    def reference(self) -> Parts:
        """The forward pass of a reference that is a model of its own, after the model's: autocast copies it, too."""
        if not self.anchored:
            return {}
        tile, chunk, states = self._tiles()
        copies = self._copies(self.shape.layers)
        kept = 0.0 if self.setup.activation_checkpointing else copies
        logits = tile + chunk / 2 + states + self._folded(FOLDED_FORWARD)
        return self._parts(copies=copies + kept, activations=self._kept() + self._around(), logits=logits)

    def last_block(self) -> Parts:
        """The last block's backward pass; with checkpointing, all that it keeps has been computed again."""
        shape, checkpointing = self.shape, self.setup.activation_checkpointing
        masked, mask = kept_by_masks(shape, self.how, self.batch, self.setup.device)
        block = kept_by_a_block(shape, self.recipe, self.how, expanded=masked > 0) * self.batch.tokens + mask * (
            masked > 0
        )
        weights = 6 * max(a * b for a, b in shape.linear_widths) * self.full
        passes = passing(shape, self.recipe, self.how) * self.batch.tokens
        kept = self._kept() + booleans(shape, self.batch) + 4 * self.hidden + max(passes, weights)
        return self._parts(
            copies=self._copies(1 if checkpointing else shape.layers) + self._dequantised(),
            activations=kept + block * checkpointing,
            logits=self.table * (self.tied and self._held()),
            gradients=self.table * (not self._held()),
        )

    def all_gradients(self) -> Parts:
        """The embeddings' backward pass, the last. Its gradient is dense, and summed up with the LM head's if tied."""
        gradients = self.gradient * self.trained * (not self._held())
        tables = (2 if self.tied else 0) + self._held()
        return self._parts(gradients=gradients, logits=self.table * tables)

    def sampling(self) -> Parts:
        """The end of a generation: all completions of a weight update that are this device's, side by side."""
        rows = self.setup.micro_batch * self.setup.accumulation
        cache = rows * self.batch.length * self.shape.layers * self.shape.values * (self.how.weight + self.how.math)
        return self._parts(activations=cache, logits=rows * self.shape.words * (4 + self.how.math))

    def _batch(self) -> Batch:
        recipe, setup = self.recipe, self.setup
        length = min(setup.length or recipe.max_length, recipe.max_length)
        if recipe.method == "sft" and recipe.packing:
            return Batch(rows=1, length=setup.micro_batch * recipe.max_length, uneven=True)
        rows = setup.micro_batch * (2 if recipe.method in PAIRED else 1)
        return Batch(rows=rows, length=length, uneven=rows > 1)

    def _other_model(self, teacher: int) -> float:
        """Of a reference that is a model of its own, or of a teacher."""
        recipe = self.recipe
        if recipe.method == "distill":
            return teacher * (2 if self.setup.device == "gpu" and recipe.precision != "float32" else 4)
        return float(self.how.weight * self.parameters * self.anchored)

    def _held(self) -> bool:
        """Whether gradients of an earlier micro-batch are there."""
        return self.setup.accumulation > 1

    def _base(self) -> float:
        """The weights as they are loaded, but those that the optimizer changes in float32."""
        if self.full:
            return 2.0 * self.parameters if self.how.weight == 2 else 0.0
        if self.recipe.lora and self.recipe.lora.base == "nf4":
            linear = self.shape.linear * self.shape.layers
            return NF4_BYTES * linear + self.how.weight * (self.parameters - linear)
        return float(self.how.weight * self.parameters)

    def _master(self) -> float:
        if self.full:
            return 4.0 * self.parameters if self.how.weight == 4 else 0.0
        return float(self.how.adapter * self.lora)

    def _copies(self, layers: int) -> float:
        """Autocast's, in bfloat16, of the matrices of so many blocks and their adapters."""
        if not self.how.cast:
            return 0.0
        base = 2 * self.shape.linear if self.how.weight == 4 else 0
        return layers * (base + 2 * self.lora / self.shape.layers)

    def _dequantised(self) -> float:
        """The one matrix of a base in four bits that is multiplied with."""
        nf4 = self.recipe.lora is not None and self.recipe.lora.base == "nf4"
        return 2.0 * max(a * b for a, b in self.shape.linear_widths) * nf4

    def _kept(self) -> float:
        """By all blocks: everything, or with checkpointing their inputs."""
        shape, tokens = self.shape, self.batch.tokens
        if self.setup.activation_checkpointing:
            return shape.layers * self.hidden * self.how.weight
        masked, mask = kept_by_masks(shape, self.how, self.batch, self.setup.device)
        under, plain = (kept_by_a_block(shape, self.recipe, self.how, expanded=masked) for masked in (True, False))
        return masked * (under * tokens + mask) + (shape.layers - masked) * plain * tokens

    def _around(self) -> float:
        """By the last norm, its output, the output without the last token, and the masks."""
        factor = (4 if self.shape.norms == 4 else self.how.weight) * self.full
        outputs = self.how.weight * (2 if self.batch.rows > 1 else 1)
        return self.hidden * (4 + factor + outputs) + booleans(self.shape, self.batch)

    def _scored(self) -> int:
        """Tokens that the LM head scores: all, or a sample's completion."""
        if isinstance(self.recipe, SAMPLING):
            return self.batch.rows * self.recipe.max_completion_length
        return self.batch.tokens

    def _tiles(self) -> tuple[float, float, float]:
        """Bytes of the LM head's tile of logits, and of its copies of the weights and of the hidden states."""
        shape, how, scored = self.shape, self.how, min(self._scored(), HEAD_TOKENS)
        if not self.scores:
            return 0.0, 0.0, 0.0
        both = 2 if self.recipe.method == "distill" else 1  # the teacher's tile, too
        tile = both * how.math * scored * HEAD_WORDS
        if how.weight == how.math:
            return tile, 0.0, 0.0
        words = min(HEAD_WORDS, shape.words) + min(HEAD_WORDS, max(0, shape.words - HEAD_WORDS))
        return tile, 2.0 * shape.hidden * words, 2.0 * shape.hidden * scored

    def _folded(self, copies: float) -> float:
        """Bytes that a processor takes to fold a tile of logits into states."""
        if self.setup.device == "gpu" or not self.scores:
            return 0.0
        return 4.0 * copies * min(self._scored(), HEAD_TOKENS) * min(self.shape.words, HEAD_WORDS)

    def _parts(
        self, *, copies: float = 0.0, activations: float = 0.0, logits: float = 0.0, gradients: float = 0.0
    ) -> Parts:
        """With what is there all the time; several devices exchange copies of their gradients."""
        each = self.gradient * self.trained
        return {
            "weights": self._base() + self.other + copies,
            "master": self._master(),
            "gradients": each * (self._held() + (self.setup.devices > 1)) + gradients,
            "optimizer": 2 * each,
            "activations": activations,
            "logits": logits,
        }
