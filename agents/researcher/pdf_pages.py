"""The text of a PDF, page by page; of papers and of the web alike."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from io import BytesIO

from shared_memory.errors import BadInput

MOST_PAGES = 150
"""Of one file that are read."""


@dataclass(frozen=True)
class Pages:
    title: str
    """As the file says it; often empty."""
    texts: tuple[str, ...]
    total: int
    """Pages of the file, those that are not read among them."""


def pages_of(content: bytes) -> Pages:
    """Raises BadInput for a file that cannot be read, or holds no text."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns about every file that is a little off
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise BadInput("this PDF is locked with a password; take another source")
        title = " ".join(str((reader.metadata and reader.metadata.title) or "").split())
        texts = tuple(page.extract_text() for page in reader.pages[:MOST_PAGES])
        total = len(reader.pages)
    except BadInput:
        raise
    except Exception as error:  # bytes from outside break a parser in any way they like
        raise BadInput(f"this PDF cannot be read ({type(error).__name__}); take another source") from error
    if not any(text.strip() for text in texts):
        raise BadInput("this PDF holds pictures of its text only; take another source")
    return Pages(title, texts, total)
