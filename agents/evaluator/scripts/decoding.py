"""Writes the answers to many prompts side by side, with transformers.

Texts leave the batch as they end and waiting prompts take their places, and what prompts begin with in common is read
once. With answers of different lengths, long templates and few-shot examples that is several times faster than
`generate`, whose batch lasts until its longest answer, and token for token the same. It needs a cache of plain full
attention; other models (sliding windows, state spaces) go through `generate`, a batch at a time.
"""

import gc
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from sampling import Policy, processors_of
from slots import Slots, has_plain_cache
from texts import Text, in_order, shared
from transformers import DynamicCache, GenerationConfig

REFILL = 8
"""New prompts join when an eighth of the batch is free: read together they cost less than one by one."""
READ_TOKENS = 4096
"""Of prompts that are read at once, padding included: more is no faster, and takes memory."""
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Decoder:
    """A model that writes answers."""

    def __init__(self, model: Any, ends: set[int], policy: Policy, micro_batch: int) -> None:
        """ends: tokens that end an answer. micro_batch: texts side by side at most, fewer once memory has run out."""
        self.model, self.ends, self.policy, self.most = model, ends, policy, micro_batch
        self.plain_cache = has_plain_cache(model)
        self.processors = processors_of(policy)
        # What a checkpoint brings along of penalties and the like is the policy's to decide on.
        model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=min(ends, default=0))
        self._forget()

    def _forget(self) -> None:
        self.live: list[Text] = []
        self.slots = Slots(self.model, self.most)
        self.prefix, self.prefix_ids = DynamicCache(config=self.model.config), list[int]()

    @torch.inference_mode()
    def write(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        """Texts as they end, step by step. Raises what memory raises where a single one is too much for it."""
        waiting = deque(in_order(texts))
        while waiting or self.live:
            joining = self._joining(waiting)
            try:
                for _, group in groupby(joining, key=lambda text: text.group if self.plain_cache else 0):
                    self._read(list(group))
                ended = self._step() if self.plain_cache else self._generate()
            except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
                lost = self.live + [text for text in joining if text not in self.live]
                if not _is_out_of_memory(error) or len(lost) < 2:
                    raise
                self.most = len(lost) // 2
            else:
                yield ended
                continue
            # Here the exception is gone, and with it what its traceback held on to.
            print(f"out of memory with {len(lost)} prompts at a time: going on with {self.most}", flush=True)
            waiting.extendleft(reversed(lost))
            self._forget()
            gc.collect()
            torch.cuda.empty_cache()

    def _joining(self, waiting: deque[Text]) -> list[Text]:
        """The prompts to read now: as many as there is room for, once it is worth it."""
        free = self.most - len(self.live)
        worth = min(len(waiting), max(1, self.most // REFILL))
        return [waiting.popleft() for _ in range(min(free, len(waiting)))] if free >= worth else []

    def _read(self, group: list[Text]) -> None:
        """Texts join the batch: all but their last token is read, which the next step begins with."""
        if not self.plain_cache:
            self.live += group
            return
        group = sorted(group, key=lambda text: len(text.ids))
        prefix = shared(text.ids[:-1] for text in group)
        self._keep_prefix(group[0].ids[:prefix])
        while group:
            count = 1
            while count < len(group) and (count + 1) * (len(group[count].ids) - prefix) <= READ_TOKENS:
                count += 1
            self._read_on([text.ids[prefix:-1] for text in group[:count]])
            self.live += group[:count]
            group = group[count:]

    def _keep_prefix(self, ids: list[int]) -> None:
        """What comes next begins with these tokens; what it has in common with the last is not read again."""
        kept = shared((self.prefix_ids, ids))
        if kept < len(self.prefix_ids):
            self.prefix.crop(kept - len(self.prefix_ids))
        if kept < len(ids):
            self._forward(torch.tensor([ids[kept:]]), self.prefix)
        self.prefix_ids = ids

    def _read_on(self, rests: list[list[int]]) -> None:
        """Reads what follows the prefix, padded on the right: no token looks that way."""
        longest, prefix = max(map(len, rests)), len(self.prefix_ids)
        cache = DynamicCache(config=self.model.config)
        if prefix:
            for layer, source in zip(cache.layers, self.prefix.layers, strict=True):
                layer.update(*(part.expand(len(rests), -1, -1, -1) for part in (source.keys, source.values)))
        if longest:
            self._forward(torch.tensor([rest + [0] * (longest - len(rest)) for rest in rests]), cache)
        self.slots.add(cache, [prefix + len(rest) for rest in rests])

    def _forward(self, ids: torch.Tensor, cache: Any, **more: Any) -> torch.Tensor:
        """Logits of the last column, (rows, vocabulary)."""
        ids = ids.to(self.model.device)
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **more).logits
        return logits[:, -1]

    def _step(self) -> list[Text]:
        """One token more for every text; those that it ends leave."""
        positions, mask = self.slots.begin_step(self.model.device)
        ids = torch.tensor([[(text.tokens or text.asked.ids)[-1]] for text in self.live])
        logits = self._forward(ids, self.slots.cache, attention_mask=mask, position_ids=positions)
        chosen = self._choose(logits)
        self.slots.end_step()
        ended = []
        for row, token in reversed([*enumerate(chosen)]):
            text = self.live[row]
            text.tokens.append(token)
            if token in self.ends or len(text.tokens) == text.asked.limit:
                ended.append(text)
                self.slots.drop(row)
                self.live[row] = self.live[-1]
                self.live.pop()
        return ended

    def _choose(self, logits: torch.Tensor) -> list[int]:
        """The next token of every live text."""
        if self.processors:
            ids = [text.ids for text in self.live]
            width = max(map(len, ids))
            # Padded with a token that is there anyway, so that no other is penalised.
            padded = torch.tensor([[row[0]] * (width - len(row)) + row for row in ids], device=logits.device)
            logits = self.processors(padded, logits.float())
        if self.policy.is_greedy:
            return list(logits.argmax(-1).tolist())
        sums = logits.double().softmax(-1).cumsum(-1)
        drawn = torch.tensor([[text.random()] for text in self.live], dtype=torch.float64, device=sums.device)
        chosen = torch.searchsorted(sums, drawn * sums[:, -1:], right=True).squeeze(-1)
        return list(chosen.clamp(max=sums.shape[-1] - 1).tolist())

    def _generate(self) -> list[Text]:
        """The live texts to their ends, for models whose cache is of another kind."""
        longest = max(len(text.asked.ids) for text in self.live)
        padding = [longest - len(text.asked.ids) for text in self.live]
        ids = [[text.ids[0]] * pad + text.ids for pad, text in zip(padding, self.live, strict=True)]
        mask = [[0] * pad + [1] * (longest - pad) for pad in padding]
        torch.manual_seed(self.live[0].seed)
        sampling = {"do_sample": False} if self.policy.is_greedy else {"do_sample": True, "top_k": 0}
        generated = self.model.generate(
            torch.tensor(ids, device=self.model.device),
            attention_mask=torch.tensor(mask, device=self.model.device),
            max_new_tokens=max(text.asked.limit for text in self.live),
            logits_processor=self.processors,
            **sampling,
        )
        for text, row in zip(self.live, generated[:, longest:].tolist(), strict=True):
            end = next((place for place, token in enumerate(row, 1) if token in self.ends), len(row))
            text.tokens = row[: min(end, text.asked.limit)]
        ended, self.live = self.live, []
        return ended


def _is_out_of_memory(error: Exception) -> bool:
    known = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, known) or any(words in str(error) for words in OUT_OF_MEMORY)
