"""What mkdocs calls: the pages that are generated, those of the notebooks, and the sections of README that pages include.

A page includes a section of README by its heading, as in `<!-- README: The flow -->` on a line of its own.
"""

import re
from pathlib import Path

import claim_pages
import command_pages
import notebook_pages
import result_pages
import setting_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
EXECUTED = ROOT / "out" / "notebooks"
ROOMS = {
    "data": "Collections",
    "encoders": "Encoders and text pipelines",
    "encoders.reduce": "Reducers",
    "encoders.pooling": "Poolers",
    "codecs": "Codecs",
    "index": "Index",
    "index.importers": "Importers",
    "search": "Search",
    "evaluation": "Evaluation",
    "experiment": "Experiments",
    "sweep": "Sweeps",
    "ledger": "Ledger",
    "costs": "Costs",
    "kernels": "Kernels",
    "rag": "RAG",
    "integrations.langchain": "LangChain",
    "integrations.llama_index": "LlamaIndex",
    "integrations.pyterrier": "PyTerrier",
    "ragged": "Ragged arrays",
    "ranking": "Rankings",
    "config": "Configs",
    "threads": "Threads",
}
"""Modules with a page in the reference, and its title."""
INCLUDE = re.compile(r"^<!-- README: (.+) -->$", re.MULTILINE)
LEDGER = re.compile(r"^<!-- ledger of [^\n]* -->$.*^<!-- end of ledger -->$", re.MULTILINE | re.DOTALL)
"""A table in README that has a page of its own in the book."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add to the navigation what is not written there: one page for each module, one for each notebook of an ablation."""
    assert config.nav is not None
    parts = {name: pages for part in config.nav if isinstance(part, dict) for name, pages in part.items()}
    ablations = [notebook_pages.page_of(ROOT, path) for path in notebook_pages.ablations(ROOT)]
    parts["Results"] += [{"Ablations": ablations}] if ablations else []
    parts["Reference"].append({"Python": [api(name) for name in ROOMS]})
    return config


def api(module: str) -> str:
    """The page of a module, by its place in the book."""
    return f"reference/colbert_research.{module}.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages: dict[str, str | bytes] = {
        "reference/settings.md": setting_pages.settings(ROOT / "configs"),
        "reference/configs.md": setting_pages.configs(ROOT / "configs"),
        "reference/commands.md": command_pages.commands(),
        "reference/claims.md": claim_pages.claims(),
        **{api(name): f"# {title}\n\n::: colbert_research.{name}\n" for name, title in ROOMS.items()},
        **result_pages.pages(ROOT),
    }
    for path in notebook_pages.all_of(ROOT):
        pages |= notebook_pages.pages(ROOT, path, EXECUTED)
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    up = "../" * page.file.src_uri.count("/")
    return INCLUDE.sub(lambda found: section(readme, found[1], up), markdown)


def section(readme: str, heading: str, up: str) -> str:
    """The text under a `##` heading of README, or above the first one for the heading `top`; its links lead from a page `up`
    folders below the book's root. Raises PluginError for a heading that README does not have."""
    top, *parts = re.split(r"^## (.+)\n", readme, flags=re.MULTILINE)
    sections = {"top": top.partition("\n")[2], **dict(zip(parts[::2], parts[1::2], strict=True))}
    if heading not in sections:
        raise PluginError(f"README.md has no section {heading!r}; it has {', '.join(sections)}")
    text = LEDGER.sub(f"[the ledger of claims]({up}results/ledger.md).", sections[heading].strip())
    text = re.sub(r"^<!--.*-->\n", "", text, flags=re.MULTILINE)
    return result_pages.relinked(text, up)
