"""What papers are called: one form for every way to write an arXiv id, a DOI or Semantic Scholar's."""

from __future__ import annotations

import re

from shared_memory.errors import BadInput

ARXIV = re.compile(r"(\d{4}\.\d{4,5}|[a-z][a-z.-]*/\d{7})(v\d+)?", re.IGNORECASE)
DOI = re.compile(r"10\.\d{4,9}/\S+")
SHA = re.compile(r"[0-9a-f]{40}")
PREFIXES = re.compile(
    r"(https?://)?((www\.|export\.)?arxiv\.org/(abs|pdf|html)/|ar5iv\.(labs\.arxiv\.)?org/(abs|html)/"
    r"|alphaxiv\.org/abs/|huggingface\.co/papers/|arxiv\s*:\s*)",
    re.IGNORECASE,
)
DOI_PREFIXES = re.compile(r"(https?://)?(dx\.)?doi\.org/|doi\s*:\s*", re.IGNORECASE)
ARXIV_DOI = "10.48550/arxiv."
S2_PAGE = re.compile(r"https?://(www\.|api\.)?semanticscholar\.org/\S*?([0-9a-f]{40})", re.IGNORECASE)


def paper_id(text: str) -> str:
    """The house's form of a paper's id; raises BadInput where it is none."""
    name = text.strip().strip("<>").rstrip("/")
    if page := S2_PAGE.match(name):
        return page[2].lower()
    bare = PREFIXES.sub("", name, count=1) if PREFIXES.match(name) else name
    bare = bare.partition("#")[0].partition("?")[0].removesuffix(".pdf")
    if ARXIV.fullmatch(bare):
        return bare if "/" in bare else bare.lower()
    if DOI_PREFIXES.match(name) or DOI.fullmatch(name):
        doi = DOI_PREFIXES.sub("", name, count=1).lower()
        if doi.startswith(ARXIV_DOI):
            return doi.removeprefix(ARXIV_DOI)
        if DOI.fullmatch(doi):
            return f"DOI:{doi}"
    if SHA.fullmatch(name.lower()):
        return name.lower()
    if corpus := re.fullmatch(r"corpusid:\s*(\d+)", name, re.IGNORECASE):
        return f"CorpusId:{corpus[1]}"
    raise BadInput(f"`{text}` names no paper; write an arXiv id (2402.03300), DOI:10.… or Semantic Scholar's id")


def arxiv_id(name: str, version: bool = False) -> str:
    """The arXiv id in a paper's id; empty where it is another one."""
    match = ARXIV.fullmatch(name)
    if match is None:
        return ""
    return match[0] if version else match[1]


def semantic_scholar_id(name: str) -> str:
    """How Semantic Scholar's interface calls the paper."""
    found = arxiv_id(name)
    return f"ARXIV:{found}" if found else name


def doi_of(value: str | None) -> str:
    """A DOI in lower case; empty for none, and for those that arXiv gives to everything."""
    doi = DOI_PREFIXES.sub("", (value or "").strip(), count=1).lower()
    return "" if doi.startswith(ARXIV_DOI) else doi
