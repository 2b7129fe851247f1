"""A stand-in for Wikipedia, and what a notebook needs of the machine that it was written on."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

from tests.conftest import ROOT

SHARED = ROOT / "data" / "ghibli"
FILES = {"Hayao_Miyazaki": SHARED / "miyazaki_wikipedia.txt", "Studio_Ghibli": SHARED / "Studio_Ghibli_wikipedia.txt"}


def texts() -> dict[str, str]:
    """The pages by their titles in an address: the real ones where they are, else the bundled ones."""
    if all(path.is_file() for path in FILES.values()):
        return {title: path.read_text(encoding="utf-8") for title, path in FILES.items()}
    from colbert_research.rag.utils import PAGES, demo_pages

    bundled = demo_pages("bundled")
    return {address: bundled[title] for address, title in PAGES.items()}


@contextmanager
def served(pages: dict[str, str]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of an API that answers as MediaWiki's does, and what it was asked: queries, with the user agent."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = {name: values[0] for name, values in parse_qs(urlparse(self.path).query).items()}
            asked.append({**query, "agent": self.headers["User-Agent"]})
            title = query["titles"]
            if title == "Broken":
                body = b"<html>503</html>"
            elif title in pages:
                body = json.dumps({"query": {"pages": {"7": {"title": title, "extract": pages[title]}}}}).encode()
            else:
                body = json.dumps({"query": {"pages": {"-1": {"title": title, "missing": ""}}}}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/w/api.php", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
