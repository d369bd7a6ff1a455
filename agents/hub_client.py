"""The Hub's own client as the roles use it: patient, checking what it brings, with errors of the house."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shared_memory.errors import BadInput, Conflict, PostgradError, Unavailable

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

CARD = "README.md"
LARGEST_CARD = 1_000_000
"""Bytes; a larger one is not read."""
AT_ONCE = 4
"""Downloads."""
RETRIES = 3
LONGEST_WAIT = 60
"""Seconds of `Retry-After` that are waited for; who is sent away for longer runs again later."""
LOG_IN = "log in with `hf auth login`"
KEPT = "run again, what is whole is kept"

Kind = Literal["dataset", "model"]
"""Of a repository."""
NOUNS: Mapping[Kind, str] = {"dataset": "data set", "model": "model"}

T = TypeVar("T")


def tree_of(api: HfApi, repo_id: str, revision: str, kind: Kind = "dataset") -> dict[str, RepoFile]:
    """Path → file, of a repository at a commit."""
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=kind)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def read_card(api: HfApi, repo_id: str, tree: Mapping[str, RepoFile], revision: str, kind: Kind = "dataset") -> str:
    """The card of a repository; empty where it has none."""
    if CARD not in tree or tree[CARD].size > LARGEST_CARD:
        return ""
    (path,) = fetch(api, repo_id, [tree[CARD]], revision, kind=kind)
    return path.read_text(encoding="utf-8", errors="replace")


def front_matter(card: str) -> dict[str, Any]:
    """The YAML between the `---` at the head of a card; empty where there is none that can be read."""
    import yaml

    lines = card.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        return {}
    try:
        value = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except (yaml.YAMLError, RecursionError, ValueError):  # ValueError: a date that does not exist
        return {}
    return value if isinstance(value, dict) else {}


def fetch(
    api: HfApi,
    repo_id: str,
    files: Sequence[RepoFile],
    revision: str,
    cache: Path | None = None,
    kind: Kind = "dataset",
) -> list[Path]:
    """The files in the client's cache or another; each as long as the Hub says, and a new one of its digest.

    Raises what the client raises, and Unavailable for a file that came damaged; it is fetched anew the next time.
    """
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        futures = [pool.submit(_fetch_one, api, repo_id, file, revision, cache, kind) for file in files]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch_one(api: HfApi, repo_id: str, file: RepoFile, revision: str, cache: Path | None, kind: Kind) -> Path:
    from huggingface_hub import try_to_load_from_cache

    known = isinstance(try_to_load_from_cache(repo_id, file.path, cache, revision, kind), str)
    path = Path(api.hf_hub_download(repo_id, file.path, revision=revision, repo_type=kind, cache_dir=cache))
    if not (path.stat().st_size == file.size if known else holds(file, path)):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise Unavailable(f"{file.path} of {repo_id} came damaged; run again, it is fetched anew")
    return path


def _expected(file: RepoFile) -> str:
    return str(file.lfs.sha256 if file.lfs else file.blob_id)


def holds(file: RepoFile | None, path: Path) -> bool:
    """Whether a file on the Hub is the one at `path`, byte for byte."""
    return file is not None and path.stat().st_size == file.size and _digest(path, file) == _expected(file)


def _digest(path: Path, file: RepoFile) -> str:
    """sha256 of a file in LFS, git's sha1 of any other."""
    if file.lfs:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def patiently(call: Callable[[], T]) -> T:
    """What `call` returns; a Hub that is busy (429, 5xx) is asked again, up to RETRIES times, when it says."""
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(RETRIES):
        try:
            return call()
        except HfHubHTTPError as error:
            wait = retry_after(error, 2.0**attempt)
            if not _is_busy(error) or wait > LONGEST_WAIT:
                raise
            time.sleep(wait)
    return call()


def _is_busy(error: HfHubHTTPError) -> bool:
    return error.response.status_code == 429 or error.response.status_code >= 500


def reason_of(error: HfHubHTTPError) -> str:
    """What the Hub says about it, in one short line."""
    return "".join(filter(str.isprintable, error.server_message or "no reason given"))[:200]


def retry_after(error: HfHubHTTPError, otherwise: float) -> float:
    """Seconds that the Hub asks to wait; `otherwise` where it does not say."""
    value = error.response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else otherwise


def page_of(repo_id: str, endpoint: str, kind: Kind) -> str:
    """Where a person looks at a repository."""
    return f"{endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"


@contextmanager
def hub_errors(
    repo_id: str, *, revision: str = "", endpoint: str = "https://huggingface.co", kind: Kind = "dataset"
) -> Iterator[None]:
    """Turns what the Hub's client raises about a repository into errors of the house.

    Raises BadInput for what the person can mend (name, revision, access), Conflict where somebody else committed, and
    Unavailable for the rest.
    """
    from huggingface_hub import errors

    try:
        yield
    except PostgradError:
        raise
    except errors.HFValidationError as error:
        raise BadInput(f"`{repo_id}` is no Hub id; write it as owner/name") from error
    except errors.GatedRepoError as error:
        page = page_of(repo_id, endpoint, kind)
        raise BadInput(f"{repo_id} is gated; ask for access at {page}, then {LOG_IN} as that account") from error
    except errors.RevisionNotFoundError as error:
        raise BadInput(f"{repo_id} has no revision `{revision}`; leave it out for the newest") from error
    except errors.RepositoryNotFoundError as error:
        raise BadInput(
            f"the Hub has no {NOUNS[kind]} `{repo_id}` that you may read; check the name, or {LOG_IN} if it is private"
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise BadInput(f"the Hub has to know who you are; {LOG_IN}, or set HF_TOKEN") from error
    except errors.OfflineModeIsEnabled as error:
        raise Unavailable(
            f"{repo_id} is on the Hub and HF_HUB_OFFLINE is set; unset it, or give local files"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _of_status(repo_id, error) from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise _of_status(repo_id, cause) from error
        raise Unavailable(f"the Hub is out of reach while {repo_id} was asked for; run again when it is not") from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # httpx's or httpx2's, as the client has it
        what = f"the connection to the Hub broke while {repo_id} was transferred ({type(error).__name__})"
        raise Unavailable(f"{what}; {KEPT}") from error
    except OSError as error:
        what = error.strerror or str(error).splitlines()[0]
        raise Unavailable(f"{repo_id} could not be transferred whole ({what}); {KEPT}") from error
    except RuntimeError as error:  # what the client makes of an upload that failed
        with hub_errors(repo_id, revision=revision, endpoint=endpoint, kind=kind):
            raise error.__cause__ or OSError(str(error)) from error


def _of_status(repo_id: str, error: HfHubHTTPError) -> BadInput | Conflict | Unavailable:
    status = error.response.status_code
    if status == 401:
        return BadInput(f"the Hub does not accept the token that {repo_id} was asked with; {LOG_IN} again")
    if status == 403:
        return BadInput(f"the token has no right to do this with {repo_id}; {LOG_IN} with one that has")
    if status == 412:
        return Conflict(f"somebody else committed to {repo_id} at the same time; run again")
    reason = reason_of(error)
    if status == 400:
        return BadInput(f"the Hub refuses what was sent to {repo_id} ({reason}); mend that and run again")
    return Unavailable(f"the Hub answers {status} for {repo_id} ({reason}); {KEPT}")
