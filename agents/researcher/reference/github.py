"""Code on GitHub: examples found in a repository's files, and files read by line, at one commit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from agents.researcher.addresses import base
from agents.researcher.keys import headers_for
from agents.researcher.library import DAY, Library, NotFound, Page
from agents.researcher.reference.conversion import notebook_text
from agents.researcher.reference.pages import Piece, numbered
from shared_memory.errors import BadInput, Unavailable

KNOWN = {
    "verl": "volcengine/verl", "lm-evaluation-harness": "EleutherAI/lm-evaluation-harness",
    "inspect_ai": "UKGovernmentBEIS/inspect_ai", "inspect_evals": "UKGovernmentBEIS/inspect_evals",
    "open-instruct": "allenai/open-instruct", "unsloth": "unslothai/unsloth", "axolotl": "axolotl-ai-cloud/axolotl",
    "vllm": "vllm-project/vllm", "LLaMA-Factory": "hiyouga/LLaMA-Factory", "open-r1": "huggingface/open-r1",
}  # fmt: skip
"""Names without an owner; any other is huggingface's."""
FOLDERS = ("examples", "example", "scripts", "notebooks", "recipes", "cookbook", "tutorials", "docs", "training")
"""Where examples lie."""
ENDINGS = (".py", ".ipynb", ".md", ".mdx", ".sh", ".yaml", ".yml", ".toml")
LOOKED_INTO = 12
"""Files of which the content is read to find the best."""
AT_ONCE = 4
LARGEST = 400_000
"""Bytes; a larger file is not looked into."""
MOST_LISTED = 300
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Commit:
    """A repository at one commit."""

    repo: str
    sha: str
    files: dict[str, int]
    """Path → bytes."""
    is_whole: bool
    """Whether the listing has all of them."""

    @property
    def head(self) -> str:
        return f"{self.repo} at {self.sha[:12]}"


def find_examples(library: Library, repo: str, words: str, limit: int = 10) -> str:
    """Scripts and notebooks of `owner/name` (or `trl`, `peft` …) that fit `words`, best first, with what fits in them.

    Raises BadInput for a repository that is not there.
    """
    commit = _commit(library, repo)
    tokens = re.findall(r"\w+", words.lower())
    ranked = sorted((-_by_name(path, tokens), path) for path in commit.files if _is_example(path))
    named = [path for _, path in ranked]
    chosen = list(dict.fromkeys([*_by_search(library, commit, words), *named]))
    small = [path for path in chosen if commit.files[path] <= LARGEST][:LOOKED_INTO]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        texts = dict(zip(small, pool.map(lambda path: _text(library, commit, path), small), strict=True))
    scored = {path: _by_name(path, tokens) + _by_content(texts.get(path, ""), tokens) for path in chosen}
    best = [path for path in sorted(chosen, key=lambda path: (-scored[path], path)) if scored[path] > 1 or not tokens]
    if not best:
        folders = sorted({path.partition("/")[0] for path in named})
        return (
            f"{commit.head}: no example fits `{words}` among {len(named)} files in {', '.join(folders) or 'no folder'}"
        )
    lines = [line for path in best[:limit] for line in _told(path, commit.files[path], texts.get(path, ""), tokens)]
    more = [f"… and {len(best) - limit} more that fit less"] if len(best) > limit else []
    return "\n".join([f"{commit.head}: {len(named)} examples, {len(texts)} looked into", *lines, *more])


def list_files(library: Library, repo: str, folder: str = "", ref: str = "") -> str:
    """Files and folders of a repository's folder, with sizes, at a branch, tag or commit (empty: the newest)."""
    commit = _commit(library, repo, ref)
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    inside = {path.removeprefix(prefix): size for path, size in commit.files.items() if path.startswith(prefix)}
    if not inside:
        raise BadInput(f"{commit.head} has no folder `{folder}`; list the folder above it")
    below: dict[str, int] = {}
    for path in inside:
        if "/" in path:
            name = path.partition("/")[0]
            below[name] = below.get(name, 0) + 1
    lines = [f"{name}/ ({count} files)" for name, count in sorted(below.items())]
    lines += [f"{path} ({size:,} bytes)" for path, size in sorted(inside.items()) if "/" not in path]
    more = [f"… and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []
    note = [] if commit.is_whole else ["(GitHub lists a part of this large repository only)"]
    return "\n".join([f"{commit.head}: {prefix or '/'}", *note, *lines[:MOST_LISTED], *more])


def read_file(library: Library, repo: str, path: str, first: int = 1, last: int = 0, ref: str = "") -> Piece:
    """Lines `first` to `last` (0: as many as fit) of a file, numbered, with the commit that they are of.

    A notebook comes as Markdown: cells in fences, their text outputs cut short. Raises BadInput for what is not there.
    """
    commit = _commit(library, repo, ref)
    path = path.strip("/")
    if path not in commit.files and commit.is_whole:
        raise BadInput(f"{commit.head} has no file `{path}`; {_nearest(commit, path)}")
    text = _raw(library, commit, path)
    if path.endswith(".ipynb"):
        text = notebook_text(text)
    lines = text.splitlines()
    if first < 1 or first > max(len(lines), 1) or (last and last < first):
        raise BadInput(f"{path} has {len(lines)} lines; give a first and last line among them")
    shown, end = numbered(lines, first, last or len(lines))
    more = [f"… {len(lines) - end} more lines: from line {end + 1}"] if end < len(lines) else []
    head = f"{commit.head}: {path}, lines {first}–{end} of {len(lines)}"
    return Piece("\n".join([head, "", shown, *more]), shown.own)


def _commit(library: Library, repo: str, ref: str = "") -> Commit:
    """What `ref` names today; what lies at a commit never changes."""
    name = repo.strip("/ ")
    name = name if "/" in name else KNOWN.get(name, f"huggingface/{name}")
    if not _REPO.fullmatch(name) or ".." in ref:
        raise BadInput(f"`{repo}` is no repository on GitHub; write it as owner/name")
    api = f"{base('github_api')}/repos/{name}"
    try:
        sha = ref
        if not re.fullmatch(r"[0-9a-f]{40}", ref):
            sha = library.understood(_sha, f"{api}/commits/{quote(ref or 'HEAD', safe='')}", fresh_for=DAY)
        files, is_whole = library.understood(_files, f"{api}/git/trees/{sha}", {"recursive": "1"})
    except NotFound as error:
        where = f" at `{ref}`" if ref else ""
        raise BadInput(f"GitHub has no public repository {name}{where}; check the owner and the name") from error
    return Commit(name, sha, files, is_whole)


def _sha(page: Page) -> str:
    return re.fullmatch(r"[0-9a-f]{40,64}", page.json()["sha"])[0]  # type: ignore[index]


def _files(page: Page) -> tuple[dict[str, int], bool]:
    """Path → bytes, and whether these are all."""
    tree = page.json()
    files = {str(each["path"]): int(each.get("size") or 0) for each in tree["tree"] if each.get("type") == "blob"}
    return files, not tree.get("truncated")


def _raw(library: Library, commit: Commit, path: str) -> str:
    address = f"{base('github_raw')}/{commit.repo}/{commit.sha}/{quote(path)}"
    try:
        page = library.get(address)
    except NotFound as error:
        raise BadInput(f"{commit.head} has no file `{path}`; list the folder that it should be in") from error
    if b"\0" in page.content[:4096]:
        raise BadInput(f"{path} is no text; read another file")
    return page.text


def _text(library: Library, commit: Commit, path: str) -> str:
    """The text of a file that is looked into; empty where it cannot be had: the others are still worth a look."""
    try:
        text = _raw(library, commit, path)
        return notebook_text(text) if path.endswith(".ipynb") else text
    except (BadInput, Unavailable):
        return ""


def _by_search(library: Library, commit: Commit, words: str) -> list[str]:
    """Paths that GitHub's own search finds, which needs a token."""
    address = f"{base('github_api')}/search/code"
    if not headers_for(address) or not words.strip():
        return []
    try:
        query = {"q": f"{words} repo:{commit.repo}", "per_page": "20"}
        paths = library.understood(_found_paths, address, query, fresh_for=DAY)
    except (BadInput, Unavailable):
        return []
    return [path for path in paths if path in commit.files and path.endswith(ENDINGS)]


def _found_paths(page: Page) -> list[str]:
    return [str(each["path"]) for each in page.json()["items"]]


def _is_example(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return path.endswith(ENDINGS) and any(part.lower() in FOLDERS for part in parts[:-1]) and "tests" not in parts


def _by_name(path: str, tokens: Sequence[str]) -> float:
    """Words that a path has, those of the file's own name above all; a script or notebook before prose."""
    low, own = path.lower(), PurePosixPath(path).name.lower()
    runs = 0.5 if path.endswith((".py", ".ipynb")) else 0.0
    folder = 0.5 if path.partition("/")[0] in FOLDERS[:4] else 0.0
    return sum(3.0 * (token in own) + (token in low) for token in tokens) + runs + folder


def _by_content(text: str, tokens: Sequence[str]) -> float:
    low = text.lower()
    return sum(min(low.count(token), 4) * 0.5 + (token in low) for token in tokens)


def _told(path: str, size: int, text: str, tokens: Sequence[str]) -> list[str]:
    """A file, and the lines in which it has most of the words."""
    lines = text.splitlines()
    scores = {
        number: sum(token in line.lower() for token in tokens)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith(("# Copyright", "# Licensed"))
    }
    best = sorted((number for number in scores if scores[number]), key=lambda number: (-scores[number], number))[:3]
    return [f"- {path} ({size:,} bytes)", *(f"  {n}: {lines[n - 1].strip()[:160]}" for n in sorted(best))]


def _nearest(commit: Commit, path: str) -> str:
    name = PurePosixPath(path).name
    same = [each for each in commit.files if PurePosixPath(each).name == name][:4]
    near = same or difflib.get_close_matches(path, list(commit.files), 4, 0.6)
    return f"nearest: {', '.join(near)}" if near else "list the folder that it should be in"
