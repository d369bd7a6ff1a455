"""The papers that the literature server knows: invented ones, in the shapes in which the services describe papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

GRPO, RECIPES, PUBLISHED = "2402.03300", "2506.04178", "10.1000/journal.77"
"""Two on arXiv, one only at a publisher."""
SHA = {name: f"{index:040x}" for index, name in enumerate((GRPO, RECIPES, PUBLISHED), 10)}
"""Semantic Scholar's ids."""

TITLES = {
    GRPO: "Group Rewards for Small Reasoners",
    RECIPES: "Data Recipes for Open Reasoning Models",
    PUBLISHED: "On the Variance of Group Baselines in Policy Optimization",
}
ABSTRACTS = {
    GRPO: "We train a model of 1.7B parameters with group rewards. It reaches 36.1% on GPQA.",
    RECIPES: "We ablate 1,000 data recipes and find that two good sources beat a broad mix.",
    PUBLISHED: "We bound the variance of baselines that are averages of a group.",
}
AUTHORS = {GRPO: ["Ada Lang", "Bo Zhu"], RECIPES: ["Cy Ode"], PUBLISHED: ["Di Meer"]}
DATES = {GRPO: "2024-02-05", RECIPES: "2025-06-04", PUBLISHED: "2023-01-01"}


def hub_paper(name: str) -> dict[str, Any]:
    """As in the list of `GET /api/papers/search`, inside its `paper`."""
    return {
        "id": name,
        "authors": [{"_id": "65c1a9", "name": author, "hidden": False} for author in AUTHORS[name]],
        "publishedAt": f"{DATES[name]}T18:55:32.000Z",
        "title": TITLES[name],
        "summary": ABSTRACTS[name],
        "upvotes": 41,
        "discussionId": "65c1aa",
    }  # fmt: skip


def hub_found(name: str) -> dict[str, Any]:
    """An element of `GET /api/papers/search`."""
    paper = hub_paper(name)
    return {
        "paper": paper, "publishedAt": "2024-02-06T01:02:03.000Z", "title": paper["title"], "summary": paper["summary"],
        "thumbnail": "https://example.org/t.png", "numComments": 3, "isAuthorParticipating": False,
    }  # fmt: skip


def hub_page(name: str) -> dict[str, Any]:
    """`GET /api/papers/{id}`."""
    common = {"lastModified": "2025-01-01T00:00:00.000Z", "private": False, "gated": False, "author": "lab"}
    return hub_paper(name) | {
        "githubRepo": "https://github.com/lab/group-rewards",
        "githubStars": 12,
        "linkedModels": [
            {"_id": "1", "id": "lab/reasoner-1.7b", "likes": 9, "downloads": 1200, "tags": ["grpo"], **common}
        ],
        "numTotalModels": 1,
        "linkedDatasets": [
            {"_id": "2", "id": "lab/science-traces", "likes": 4, "downloads": 300, "tags": [], **common}
        ],
        "numTotalDatasets": 1,
        "linkedSpaces": [],
    }


def scholar_paper(name: str, **more: Any) -> dict[str, Any]:
    """As Semantic Scholar describes a paper, with the fields that are asked for."""
    outside = {"CorpusId": 7, **({"DOI": name.upper()} if name.startswith("10.") else {"ArXiv": name})}
    return {
        "paperId": SHA[name], "externalIds": outside, "title": TITLES[name], "abstract": ABSTRACTS[name],
        "authors": [{"authorId": "1", "name": author} for author in AUTHORS[name]], "year": int(DATES[name][:4]),
        "publicationDate": None if name == PUBLISHED else DATES[name], "venue": "ICML" if name == GRPO else "",
        "citationCount": 812, "influentialCitationCount": 97, "openAccessPdf": None,
    } | more  # fmt: skip


def citing_rows(count: int) -> list[dict[str, Any]]:
    """Of `GET /graph/v1/paper/{id}/citations`: every fourth builds on the paper; the service's own order is by id."""
    return [
        {
            "contexts": [f"We follow the group rewards of Lang and Zhu ({index})."] if index % 4 == 0 else [],
            "intents": ["methodology"] if index % 4 == 0 else ["background"],
            "isInfluential": index % 4 == 0,
            "citingPaper": {
                "paperId": f"{1000 + index:040x}", "externalIds": {"ArXiv": f"2501.{index:05d}"},
                "title": f"Follow-up number {index}", "authors": [{"authorId": "3", "name": "Ed Vu"}], "year": 2025,
                "publicationDate": f"2025-{index % 12 + 1:02d}-01", "venue": "", "citationCount": index,
                "influentialCitationCount": 0,
            },
        }
        for index in range(count)
    ]  # fmt: skip


def cited_rows() -> list[dict[str, Any]]:
    """Of `GET /graph/v1/paper/{id}/references`; the last is one that the service knows by its title only."""
    return [
        {
            "contexts": ["The bound of Meer is used throughout."], "intents": ["background", "result"],
            "isInfluential": False, "citedPaper": scholar_paper(PUBLISHED),
        },
        {
            "contexts": None, "intents": None, "isInfluential": False,
            "citedPaper": {"paperId": None, "title": "A technical report", "authors": [], "year": None},
        },
    ]  # fmt: skip


def snippet(name: str) -> dict[str, Any]:
    """Of `GET /graph/v1/snippet/search`."""
    text = "Completion-only loss is worth 4.2 points on GPQA for the smallest model."
    return {
        "snippet": {
            "text": text, "snippetKind": "body", "section": "Ablations",
            "snippetOffset": {"start": 10, "end": 10 + len(text)},
            "annotations": {"sentences": [{"start": 0, "end": len(text)}], "refMentions": None},
        },
        "score": 0.62,
        "paper": {
            "corpusId": "7", "title": TITLES[name], "authors": AUTHORS[name],
            "openAccessInfo": {
                "license": "CCBY", "status": "GREEN",
                "disclaimer": "Notice: This snippet is extracted from the open access paper or abstract available at "
                f"https://arxiv.org/abs/{name}, which is subject to the license by the author.",
            },
        },
    }  # fmt: skip


def atom(names: list[str]) -> str:
    """`GET /api/query`: arXiv's Atom feed."""
    entries = "".join(
        f"""<entry><id>http://arxiv.org/abs/{name}v3</id><updated>2024-04-27T15:25:53Z</updated>
<published>{DATES[name]}T18:55:32Z</published><title>{TITLES[name].replace(" for", chr(10) + "  for")}</title>
<summary>  {ABSTRACTS[name]}
</summary>{"".join(f"<author><name>{author}</name></author>" for author in AUTHORS[name])}
<arxiv:comment xmlns:arxiv="http://arxiv.org/schemas/atom">12 pages</arxiv:comment>
<link href="http://arxiv.org/abs/{name}v3" rel="alternate" type="text/html"/></entry>"""
        for name in names
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom"><title>ArXiv Query</title>'
        '<opensearch:totalResults xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">'
        f"{len(names)}</opensearch:totalResults>"
        f"{entries}</feed>"
    )


PAPER_HTML = (Path(__file__).parent / "literature_paper.html").read_text(encoding="utf-8")
"""`GET /html/{id}`: LaTeXML's structure."""

ABSTRACT_PAGE = """<!DOCTYPE html><html><body><div id="abs"><h1 class="title">Data Recipes</h1>
<blockquote class="abstract">We ablate data recipes.</blockquote></div></body></html>"""
"""What ar5iv leads to for a paper that it could not convert."""
