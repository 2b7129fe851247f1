"""What is asked over HTTP is answered as the retriever alone answers, and what cannot be answered is refused in a sentence."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from colbert_research.search import Retriever
from colbert_research.serving import guard
from colbert_research.serving.app import application
from colbert_research.serving.base import Answer
from colbert_research.serving.models import Limits
from tests.serving.served import WORDS, answering, built, client_of, current_of, until

TOKEN = "a-token-nobody-guesses"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return built(tmp_path_factory.mktemp("served") / "index")


@pytest.fixture(scope="module")
def retriever(path):
    return Retriever.open(path)


@pytest.fixture(scope="module")
def client(path):
    with client_of(current_of(path), Limits(k=50, queries=3, characters=400, body=2000)) as client:
        yield client


def expected(retriever, texts, **asked):
    """The results of the retriever alone, as the server tells them."""
    results = []
    for text, hits in zip(texts, retriever.search_many(texts, **asked), strict=True):
        told = [{"id": (one := asdict(hit)).pop("document_id"), **one} for hit in hits]
        results.append({"query": text, "hits": told})
    return results


def test_a_query_finds_what_the_retriever_finds(client, retriever):
    found = client.post("/search", json={"query": "damson note 13", "k": 3})
    assert found.status_code == 200
    reply = found.json()
    assert reply["results"] == expected(retriever, ["damson note 13"], k=3), "bit for bit: JSON keeps a float's digits"
    assert (reply["generation"], reply["answered"], reply["why"]) == (1, 1.0, "")
    assert reply["milliseconds"] > 0
    first = reply["results"][0]["hits"][0]
    assert (first["rank"], first["id"], first["metadata"]) == (1, "d13", {"number": 13, "even": False, "name": "é"})


def test_several_queries_a_filter_and_ids(client, retriever):
    asked = {"k": 5, "filter": {"even": True, "number": {"$lt": 20}}, "ids": [f"d{i}" for i in range(5, 30)]}
    reply = client.post("/search", json={"queries": WORDS[:3], **asked}).json()
    assert reply["results"] == expected(retriever, WORDS[:3], **asked)
    assert client.post("/search", json={"queries": []}).json()["results"] == []
    assert client.post("/search", json={"query": "fig", "ids": []}).json()["results"] == [{"query": "fig", "hits": []}]


def test_only_the_fields_that_are_asked_for(client):
    reply = client.post("/search", json={"query": "iris", "k": 1, "fields": ["title"]}).json()
    assert sorted(reply["results"][0]["hits"][0]) == ["id", "rank", "score", "title"]
    reply = client.post("/search", json={"query": "iris", "k": 1, "fields": []}).json()
    assert sorted(reply["results"][0]["hits"][0]) == ["id", "rank", "score"]


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ({}, 422, "give query, one text, or queries, a list of texts; given neither"),
        ({"query": "a", "queries": ["b"]}, 422, "given both"),
        ({"qurey": "a"}, 422, "unknown key 'qurey': did you mean 'query'?"),
        ({"query": 5}, 422, "query: Input should be a valid string (given 5)"),
        ({"queries": ["a", 5]}, 422, "queries.1: Input should be a valid string (given 5)"),
        ({"queries": "a"}, 422, "queries: expected a list, as [a, b] (given 'a')"),
        ({"query": " \n"}, 422, "a query needs at least one word; query 0 is ' \\n'"),
        ({"query": "a\ud800"}, 422, "query: 'a\\ud800' holds half a character (a lone surrogate)"),
        ({"query": "a", "ids": ["a\ud800"]}, 422, "ids.0: 'a\\ud800' holds half a character"),
        ({"query": "a", "filter": {"name": "a\ud800"}}, 422, "holds half a character"),
        ({"queries": ["a", "b" * 401]}, 422, "query 1 has 401 characters: this server takes at most 400 (its"),
        ({"queries": ["a", "b", "c", "d"]}, 422, "4 queries: this server takes at most 3 in one request (its --max-queries)"),
        ({"query": "a", "k": 51}, 422, "k=51: this server finds at most 50 documents for a query (its --max-k)"),
        ({"query": "a", "k": 0}, 422, "k: Input should be greater than or equal to 1 (given 0)"),
        ({"query": "a", "k": "10"}, 422, "k: Input should be a valid integer (given '10')"),
        ({"query": "a", "k": True}, 422, "k: expected a number; given True"),
        ({"query": "a", "k": None}, 422, "k: Input should be a valid integer (given None)"),
        ({"query": "a", "fields": ["txt"]}, 422, "fields.0: Input should be 'title', 'text' or 'metadata' (given 'txt')"),
        ({"query": "a", "deadline_ms": 0}, 422, "deadline_ms: Input should be greater than 0"),
        ({"query": "a", "ids": ["nowhere"]}, 422, "1 unknown document ids, such as ['nowhere']; the index has 30 documents"),
        ({"query": "a", "filter": {}}, 422, "an empty filter would admit every document"),
        ({"query": "a", "filter": {"numbr": 3}}, 422, "no document has a field 'numbr'; did you mean 'number'?"),
        ({"query": "a", "filter": {"number": {"$gt": "x"}}}, 422, "number"),
        (["a"], 422, 'expected an object, such as {"query": "green tea", "k": 10}; given ["a"]'),
        ({"query": "a", "K": 3}, 422, "unknown key 'K': did you mean 'k'?"),
        (b"", 400, "the body is not JSON in UTF-8: Expecting value"),
        (b"{", 400, "the body is not JSON"),
        (b'{"query": "a", "query": "b"}', 400, "'query' stands twice in one object"),
        (b'{"query": "a", "filter": {"number": 1, "number": 2}}', 400, "'number' stands twice in one object"),
        (b'{"query": "a", "deadline_ms": NaN}', 400, "NaN is no number of JSON"),
        (b'{"query": "\xff"}', 400, "the body is not JSON in UTF-8"),
        (b'{"query": ' + 900 * b"[" + 900 * b"]" + b"}", 422, "query: Input should be a valid string"),
        (b'{"filter": ' + 1900 * b"[" + b"}", 400, ""),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_in_a_sentence(client, asked, status, sentence):
    body = asked if isinstance(asked, bytes) else json.dumps(asked)
    found = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert (found.status_code, sorted(found.json())) == (status, ["error"])
    assert sentence in found.json()["error"]
    assert len(found.json()["error"]) <= 300


def test_what_is_not_said_to_be_json(client):
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        found = client.post("/search", content=b'{"query": "a"}', headers=headers)
        assert found.status_code == 415
        assert "send the body as JSON, with the header `Content-Type: application/json`" in found.json()["error"]
    content = {"content": b'{"query": "a"}', "headers": {"Content-Type": "Application/JSON; charset=utf-8"}}
    assert client.post("/search", **content).status_code == 200


def test_a_body_that_is_too_long(client):
    asked = {"query": "a" * 3000}
    found = client.post("/search", json=asked)
    assert (found.status_code, "longer than 2000 bytes" in found.json()["error"]) == (413, True)
    pieces = (json.dumps(asked)[i : i + 100].encode() for i in range(0, 4000, 100))  # of a length that is not said before
    found = client.post("/search", content=pieces, headers={"Content-Type": "application/json"})
    assert (found.status_code, "longer than 2000 bytes" in found.json()["error"]) == (413, True)


def asked_in_pieces(path, messages) -> tuple[int, dict]:
    """Status and answer to a request whose body comes as messages do; a number is seconds that pass before the next one."""
    scope = {"type": "http", "method": "POST", "path": "/search", "query_string": b"", "http_version": "1.1"}
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    left, sent = iter(messages), []

    async def receive():
        while isinstance(message := next(left), float):
            await asyncio.sleep(message)
        return message

    async def send(message):
        sent.append(message)

    asyncio.run(application(current_of(path), Limits())({**scope, "headers": headers}, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_body_that_comes_drop_by_drop(path, monkeypatch):
    """Each drop in time, and the whole not."""
    monkeypatch.setattr(guard, "SLOW", 0.2)
    drops = [part for _ in range(40) for part in (0.05, {"type": "http.request", "body": b" ", "more_body": True})]
    rest = {"type": "http.request", "body": b'{"query": "fig"}'}
    status, told = asked_in_pieces(path, [*drops, rest])
    assert (status, "did not arrive within" in told.get("error", "")) == (408, True)
    assert asked_in_pieces(path, [drops[1], rest])[0] == 200


def test_a_client_that_goes_while_it_sends_is_no_error_of_the_server(path, caplog):
    gone = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    assert asked_in_pieces(path, gone)[0] == 400
    assert not caplog.records


def test_there_is_nothing_else(client):
    for method, place, status in (("GET", "/docs", 404), ("GET", "/search", 405), ("POST", "/health", 405)):
        found = client.request(method, place)
        assert (found.status_code, sorted(found.json())) == (status, ["error"])
        assert f"there is no {method} {place}; there is POST /search, GET /health" in found.json()["error"]


def test_health_and_root(client):
    assert client.get("/health").json() == {"status": "ok", "generation": 1, "documents": 30, "fault": ""}
    assert client.get("/").json()["openapi"] == "/openapi.json"


def test_openapi_describes_what_is_taken_and_given(client):
    told = client.get("/openapi.json").json()
    search = told["paths"]["/search"]["post"]
    assert set(told["paths"]) == {"/search", "/health", "/metrics"}
    asked = search["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(asked) == {"query", "queries", "k", "filter", "ids", "deadline_ms", "fields"}
    assert {"200", "401", "413", "422", "503", "504"} <= set(search["responses"])
    for name in ("SearchReply", "Found", "FoundDocument"):
        assert told["components"]["schemas"][name]["description"]
    hit = client.post("/search", json={"query": "iris", "k": 1}).json()["results"][0]["hits"][0]
    assert set(told["components"]["schemas"]["FoundDocument"]["properties"]) == set(hit)


def test_a_token(path):
    with client_of(current_of(path), token=TOKEN) as client:
        for headers, told in (
            ({}, "no token was given; send the header `Authorization: Bearer TOKEN`"),
            ({"Authorization": "Bearer wrong"}, "the token is not this server's"),
            ({"Authorization": f"Basic {TOKEN}"}, "the token is not this server's"),
            ({"Authorization": f"Bearer {TOKEN}x"}, "the token is not this server's"),
        ):
            for place in ("/search", "/metrics", "/openapi.json", "/", "/nowhere"):
                found = client.get(place, headers=headers)
                assert (found.status_code, told in found.json()["error"]) == (401, True)
                assert found.headers["WWW-Authenticate"].startswith("Bearer realm=")
                assert TOKEN not in found.text
        assert client.get("/health").status_code == 200
        right = {"Authorization": f"bearer {TOKEN}", "Host": "search.example.org"}
        assert client.post("/search", json={"query": "fig"}, headers=right).status_code == 200


def test_without_a_token_a_page_of_another_site_has_no_way_in(client):
    for host in ("evil.example.org", "127.0.0.1.evil.example.org:8000", "10.0.0.1"):
        found = client.get("/health", headers={"Host": host})
        assert (found.status_code, repr(host) in found.json()["error"]) == (421, True)
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:8000"):
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_a_deadline_that_passed(client):
    found = client.post("/search", json={"query": "fig", "deadline_ms": 1e-6})
    assert (found.status_code, "passed before the search could begin" in found.json()["error"]) == (504, True)
    assert client.post("/search", json={"query": "fig", "deadline_ms": 60_000}).status_code == 200


def test_answers_in_part_are_said_to_be(path):
    def in_part(whole, texts, k, ids, filter, deadline):
        share = float(texts[0])
        return Answer(whole(texts, k).hits if share else [[]], share, "shard 3 did not answer")

    with answering(path, in_part) as client:
        reply = client.post("/search", json={"query": "0.75"}).json()
        assert (reply["answered"], reply["why"]) == (0.75, "shard 3 did not answer")
        found = client.post("/search", json={"query": "0.0", "deadline_ms": 50.0})
        assert found.status_code == 504
        assert found.json()["error"] == "nothing answered within 50 ms: shard 3 did not answer"
        counted = metrics(client)
        assert counted["colbert_research_answered_share_count"] == 2
        assert counted["colbert_research_answered_share_sum"] == 0.75


def test_an_error_of_the_server_is_logged_and_not_told(path, caplog):
    def broken(whole, *asked):
        raise ValueError("something inside of /a/secret/place")

    with answering(path, broken) as client:
        found = client.post("/search", json={"query": "fig"})
    assert found.status_code == 500
    assert "secret" not in found.text
    number = found.json()["error"].split()[-1]
    (record,) = (record for record in caplog.records if number in record.getMessage())
    assert "something inside of /a/secret/place" in record.exc_text or record.exc_info[1].args[0].startswith("something")


def test_a_line_that_is_full(path):
    begun, go = threading.Semaphore(0), threading.Event()

    def slow(whole, *asked):
        begun.release()
        assert go.wait(30)
        return whole(*asked)

    with answering(path, slow, Limits(running=1, waiting=1)) as client, ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(client.post, "/search", json={"query": "fig"})
            assert begun.acquire(timeout=30)
            waits = threads.submit(client.post, "/search", json={"query": "fig", "deadline_ms": 0.001})
            until(lambda: metrics(client)["colbert_research_in_flight"] == 2)
            refused = client.post("/search", json={"query": "fig"})
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["error"].startswith("2 searches run or wait, the most that this server takes")
        finally:
            go.set()
        assert first.result().status_code == 200
        assert waits.result().status_code == 504, "its deadline passed in line"
        assert metrics(client)["colbert_research_in_flight"] == 0
        assert client.post("/search", json={"query": "fig"}).status_code == 200


def metrics(client, label: str = "") -> dict[str, float]:
    """Sample -> value, of those with a label's value."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: sample.value for sample in samples if not label or label in sample.labels.values()}


def test_metrics(path):
    with client_of(current_of(path)) as client:
        client.post("/search", json={"queries": ["fig", "iris"], "k": 4})
        client.post("/search", json={"query": ""})
        client.get("/nowhere/at/all")
        found = client.get("/metrics")
        assert found.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        counted = metrics(client)
        assert (counted["colbert_research_queries_total"], counted["colbert_research_hits_total"]) == (2, 8)
        assert (counted["colbert_research_documents"], counted["colbert_research_generation"]) == (30, 1)
        assert (counted["colbert_research_behind"], counted["colbert_research_in_flight"]) == (0, 0)
        assert metrics(client, "422")["colbert_research_requests_total"] == 1
        assert metrics(client, "404")["colbert_research_requests_total"] == 1
        assert metrics(client, "other")["colbert_research_request_seconds_count"] == 1, "no name that a client chose"
        assert metrics(client, "/search")["colbert_research_request_seconds_count"] == 2
        assert "/nowhere" not in found.text


@pytest.mark.parametrize("together", [1, 16])
def test_eight_threads_get_what_the_retriever_alone_gives(path, retriever, together):
    asked = [{"query": f"{word} note {i}", "k": 1 + i % 7} for i in range(6) for word in WORDS]
    alone = [expected(retriever, [each["query"]], k=each["k"]) for each in asked]
    with client_of(current_of(path, together)) as client, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda each: client.post("/search", json=each).json()["results"], asked))
    assert found == alone
