"""Brings what a job makes to a repository on the Hub, for machines whose disk is gone at the end."""

import sys
from pathlib import Path
from typing import Any

from settings import RANK, fail, problem

CARD = "README.md"
"""peft's draft of a card: it may name a local folder as the base, which the Hub refuses. Publishing writes a card."""


class Repository:
    """A model repository that this job may write to."""

    def __init__(self, name: str, private: bool) -> None:
        """Makes it where it is not there. Exits 2 where that is not allowed, or it is public against the settings."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        self.api, self.name = HfApi(), name
        self.under_way: Any = None
        try:
            self.api.create_repo(name, private=private, exist_ok=True)
            if private and not self.api.model_info(name).private:
                fail(f"the repository {name} is public", "set hub_private to false, or choose another hub_model_id")
        except (HfHubHTTPError, OSError, ValueError) as error:
            fail(f"{name} cannot be written to: {problem(error)}", "check hub_model_id, and that HF_TOKEN may write")

    def keep(self, checkpoint: Path) -> None:
        """Uploads a checkpoint as last-checkpoint/ while training goes on; waits for the one before."""
        self.wait()
        self.under_way = self.api.upload_folder(
            repo_id=self.name,
            folder_path=checkpoint,
            path_in_repo="last-checkpoint",
            ignore_patterns=CARD,
            delete_patterns="*",
            commit_message=checkpoint.name,
            run_as_future=True,
        )

    def deliver(self, folder: Path) -> str:
        """Uploads the trained model to the root, and returns repo@commit."""
        self.wait()
        commit = self.api.upload_folder(
            repo_id=self.name, folder_path=folder, ignore_patterns=CARD, commit_message="trained"
        )
        return f"{self.name}@{commit.oid}"

    def wait(self) -> None:
        """For the checkpoint under way. One that does not get there ends no training: the next takes its place."""
        under_way, self.under_way = self.under_way, None
        if under_way is not None and (error := under_way.exception()):
            print(f"warning: a checkpoint did not get to {self.name}: {problem(error)}", file=sys.stderr)


def uploading(repository: Repository) -> Any:
    """A callback that keeps every checkpoint."""
    from transformers import TrainerCallback

    class Uploading(TrainerCallback):
        def on_save(self, *event: Any, **_: Any) -> None:
            args, state = event[:2]
            if RANK == 0:
                repository.keep(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    return Uploading()
