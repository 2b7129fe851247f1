"""The book builds without a warning; every link in it leads somewhere, and nothing in it is loaded from a network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page names, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append(given[LOADED[tag]])
        if tag == "link" and given.get("href") and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given["href"])


def faults_of(site: Path) -> list[str]:
    """Links that lead nowhere, and what would be fetched from elsewhere."""
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html") if file.name != "404.html"}
    faults = []
    for file, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    faults.append(f"{file.relative_to(site)} loads {link}")
            elif not target.is_file():
                faults.append(f"{file.relative_to(site)} -> {link}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                faults.append(f"{file.relative_to(site)} -> {link}: no such place")
    for sheet in site.rglob("*.css"):
        faults += [
            f"{sheet.name} loads {url}" for url in re.findall(r"(?:@import|url\()\s*[\"']?(https?:[^\"')]+)", sheet.read_text())
        ]
    return faults


def test_faults_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="top">a</h1><a href="b.html">b</a><a href="#low">c</a><a href="a.html#top">d</a>')
    (tmp_path / "c.html").write_text('<script src="https://example.org/x.js"></script><a href="https://example.org">fine</a>')
    assert sorted(faults_of(tmp_path)) == [
        "a.html -> #low: no such place",
        "a.html -> b.html: no such file",
        "c.html loads https://example.org/x.js",
    ]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs the extra docs")
def test_the_book_builds_and_its_links_hold(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "book")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert faults_of(tmp_path / "book") == []
    assert (tmp_path / "book" / "figures" / "tradeoff.png").is_file()
