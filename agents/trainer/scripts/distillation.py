"""A trainer that learns a teacher's next-token distribution [GKD, arXiv 2306.13649], of rows or of its own writing."""

from typing import Any


def learning_from_rows(distillation_trainer: type[Any]) -> type[Any]:
    """TRL's DistillationTrainer, which has the student write every completion, taught to read them from rows, too.

    Rows need `prompt_ids` and `completion_ids`. What is compared, and how, stays TRL's: the divergence of both models'
    distributions at every token of the completion, computed in chunks without all logits in memory.
    """

    class RowDistillationTrainer(distillation_trainer):
        on_policy = 0.0
        """Share of weight updates whose completions the student writes."""

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
            self.rows = inputs
            return super()._generate_and_score_completions(inputs)

        def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
            return [row["prompt_ids"] for row in self.rows], None, {}

        def _generate_single_turn(self, *prompts: Any, **options: Any) -> list[list[int]]:
            if self.writes_itself(self.state.global_step):
                return super()._generate_single_turn(*prompts, **options)
            return [row["completion_ids"] for row in self.rows]

        def writes_itself(self, update: int) -> bool:
            """Spread evenly over the updates, and the same again after a resume and in every process."""
            return int((update + 1) * self.on_policy) > int(update * self.on_policy)

    return RowDistillationTrainer
