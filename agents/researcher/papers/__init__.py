"""Papers: search, describe, follow citations, and read by section. Plain functions over a Library.

    search.search(library, query, *, limit=10) -> Found
    search.snippets(library, query, *, papers=(), limit=10) -> tuple[Snippet, ...]
    describe.details(library, paper_id) -> Details
    citations.citing(library, paper_id, *, limit=20, offset=0) -> Citations
    citations.cited(library, paper_id, *, limit=20, offset=0) -> Citations
    reading.contents(library, paper_id) -> Contents
    reading.section(library, paper_id, name, *, offset=0, limit=8000) -> Passage
    quotations.normalise(text) -> str
    quotations.quotes(text, quotation) -> bool                 word for word, whatever the Markdown

A paper's id is `2402.03300` (with a version, an address of arXiv or `arXiv:…` as well), `DOI:10.…` or Semantic
Scholar's. All raise BadInput for an id, section or address that cannot be used (NotFound where a service says that it
has none), and Unavailable where no service answers; what one of several did not answer is in `missing`.
"""
