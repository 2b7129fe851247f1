"""Pages to try things on."""

import json
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from colbert_research.data import BeirConfig

PAGES = {"Hayao_Miyazaki": "Hayao Miyazaki", "Studio_Ghibli": "Studio Ghibli"}
"""The pages of RAGatouille's demonstration: title in an address, and title."""
WIKIPEDIA = "https://en.wikipedia.org/w/api.php"
USER_AGENT = "colbert_research/0.1 (late-interaction retrieval; get_wikipedia_page)"
TIMEOUT = 20.0  # seconds


def get_wikipedia_page(title: str) -> str:
    """The whole text of a page of the English Wikipedia, by its title, as in `Hayao_Miyazaki`; redirects are followed.

    Raises ConnectionError without a network, LookupError for a page that there is not.
    """
    wanted = {"action": "query", "format": "json", "prop": "extracts", "explaintext": 1, "redirects": 1, "titles": title}
    request = Request(f"{WIKIPEDIA}?{urlencode(wanted)}", headers={"User-Agent": USER_AGENT})
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            pages = json.load(answer)["query"]["pages"]
    except (OSError, HTTPException, ValueError, LookupError) as error:
        raise ConnectionError(
            f"Wikipedia's page {title!r} could not be fetched ({type(error).__name__}: {error}). A network is needed; any "
            "text will do as well, such as pathlib.Path('page.txt').read_text()"
        ) from error
    for page in pages.values():
        if page.get("extract"):
            return str(page["extract"])
    raise LookupError(f"Wikipedia has no page {title!r}; titles are written as in its address, such as 'Hayao_Miyazaki'")


def demo_pages(pages: str = "bundled") -> dict[str, str]:
    """The demonstration's two pages by title, `bundled` (short, written for this package) or from `wikipedia`; or the texts
    `*_wikipedia.txt`, or else `*.txt`, of a folder. Raises FileNotFoundError for one without, and as `get_wikipedia_page`."""
    if pages == "wikipedia":
        return {title: get_wikipedia_page(address) for address, title in PAGES.items()}
    if pages == "bundled":
        bundled = BeirConfig(path="bundled").load()
        parts = [(metadata["page"], text) for metadata, text in zip(bundled.metadata, bundled.texts, strict=True)]
        return {title: "\n\n".join(text for page, text in parts if page == title) for title in PAGES.values()}
    found = sorted(Path(pages).glob("*_wikipedia.txt")) or sorted(Path(pages).glob("*.txt"))
    if not found:
        raise FileNotFoundError(f"no *.txt in {pages!r}; give a folder of texts, 'bundled' or 'wikipedia'")
    return {path.stem.removesuffix("_wikipedia"): path.read_text(encoding="utf-8") for path in found}
