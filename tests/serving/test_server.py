"""The command: what it refuses before it listens, and that it ends as it should."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from colbert_research.cli import main
from colbert_research.serving import server
from colbert_research.settings import ConfigError
from tests.conftest import ROOT
from tests.serving.served import built

TOKEN = "a-token-nobody-guesses"
SLOW = """
import os
import time
from typing import Literal
from colbert_research.search import Exhaustive

class Slow(Exhaustive):
    kind: Literal["slow_search:Slow"] = "slow_search:Slow"

    def _search(self, index, queries, k, scope, trace):
        if "forever" in queries.texts[0]:
            os.write(1, b"begun\\n")
            time.sleep(600)
        if "slowly" in queries.texts[0]:
            os.write(1, b"begun\\n")  # whole, whatever other threads write
            time.sleep(0.7)
        return super()._search(index, queries, k, scope, trace)
"""


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv(server.TOKEN, raising=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return built(tmp_path_factory.mktemp("served") / "index")


def test_a_token_is_read_from_a_file_or_the_environment(tmp_path, monkeypatch):
    assert server.token_of(None) is None
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert server.token_of(file) == TOKEN
    monkeypatch.setenv(server.TOKEN, TOKEN)
    assert server.token_of(None) == TOKEN
    with pytest.raises(ConfigError, match=r"leave one of them out"):
        server.token_of(file)
    monkeypatch.delenv(server.TOKEN)
    with pytest.raises(ConfigError, match=r"the token in .*nowhere cannot be read: No such file or directory"):
        server.token_of(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "has 0 characters, and could be guessed; use 16 or more: python -c"),
        ("short", "has 5 characters"),
        ("sixteen characters and a blank", "characters that a header cannot hold"),
        ("sixteen-characters-é", "characters that a header cannot hold"),
    ],
)
def test_a_token_that_would_not_do(monkeypatch, given, told):
    monkeypatch.setenv(server.TOKEN, given)
    with pytest.raises(ConfigError, match=told):
        server.token_of(None)


def test_it_listens_to_this_machine_alone_unless_there_is_a_token():
    for host in ("127.0.0.1", "localhost"):
        with server.bound(host, 0, None) as listener:
            assert server.url_of(listener).rpartition(":")[0] in ("http://127.0.0.1", "http://[::1]")
    for host in ("0.0.0.0", "", "10.0.0.1", "::"):
        with pytest.raises(ConfigError, match=r"without a token, everyone who reaches .* could read the index: set"):
            server.bound(host, 0, None)
    with server.bound("0.0.0.0", 0, TOKEN) as listener:
        assert server.url_of(listener).startswith("http://0.0.0.0:")


def test_a_port_that_is_taken():
    with server.bound("127.0.0.1", 0, None) as listener:
        listener.listen()
        with pytest.raises(ConfigError, match=r"cannot listen on 127.0.0.1, port .*choose another --host or --port"):
            server.bound("127.0.0.1", listener.getsockname()[1], None)
    with pytest.raises(ConfigError, match=r"cannot listen on no-such-host.invalid"):
        server.bound("no-such-host.invalid", 0, TOKEN)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "without a token, everyone who reaches 0.0.0.0"),
        (["--strategy", "plad"], "did you mean 'plaid'"),
        (["--strategy", "plaid ncells=900"], "ncells=900, but the index has 8 centroids"),
        (["--token-file", "/nowhere/token"], "No such file or directory"),
        (["--import", "no_such_module"], "No module named 'no_such_module'"),
        (["--model", "/nowhere"], "reads no model"),
        (["--replicas", "2"], "--executor, --replicas and --hedge are of --shards"),
        (["--shards", "2", "--executor", "ray adress=x"], "adress"),
        (["--shards", "2", "--strategy", "weighted"], "which no shard knows"),
        (["--shards", "2", "--executor", "inline", "--replicas", "3"], "replicas=3 of a shard are on as many workers"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(path, arguments, told):
    done = CliRunner().invoke(main, ["serve", str(path), "--port", "0", *arguments])
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
    assert told in done.output


def test_no_index(tmp_path):
    done = CliRunner().invoke(main, ["serve", str(tmp_path / "nowhere"), "--port", "0"])
    assert (done.exit_code, "no finished index in" in done.output) == (1, True)


def ask(url: str, query: str) -> dict:
    request = urllib.request.Request(
        f"{url}/search", json.dumps({"query": query, "k": 1}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks a process to end by a signal")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_after_what_it_has_begun(path, tmp_path, number):
    (tmp_path / "slow_search.py").write_text(SLOW)
    command = [sys.executable, "-m", "colbert_research", "serve", str(path), "--port", "0"]
    command += ["--import", "slow_search", "--strategy", "slow_search:Slow"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            line = process.stderr.readline()
            url = line.split()[-1]
            assert url.startswith("http://127.0.0.1:"), line + process.stderr.read()
            assert ask(url, "note 7")["results"][0]["hits"][0]["id"] == "d7"
            too_long = f"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**40}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":")[-1])), timeout=30) as raw:
                raw.sendall(too_long.encode() + b"{")
                assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")
            with ThreadPoolExecutor(3) as threads:
                slow = [threads.submit(ask, url, f"slowly note {i}") for i in range(3)]
                for _ in slow:
                    assert process.stdout.readline() == "begun\n"
                process.send_signal(number)
                assert [each.result()["results"][0]["hits"][0]["id"] for each in slow] == ["d0", "d1", "d2"]
            assert process.wait(30) == 0
            assert process.stderr.read() == ""
            with pytest.raises(urllib.error.URLError):
                ask(url, "note 7")
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks a process to end by a signal")
def test_it_does_not_wait_for_ever(path, tmp_path):
    """What is not done in the time that is given to it ends with the process."""
    (tmp_path / "slow_search.py").write_text(f"{SLOW}\nfrom colbert_research.serving import server\nserver.FINISH = 1\n")
    command = [sys.executable, "-m", "colbert_research", "serve", str(path), "--port", "0"]
    command += ["--import", "slow_search", "--strategy", "slow_search:Slow"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            port, body = int(process.stderr.readline().rsplit(":")[-1]), b'{"query": "forever"}'
            head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
                raw.sendall(head.encode() + body)
                assert process.stdout.readline() == "begun\n"
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
                assert b" 200 " not in raw.recv(4096)
        finally:
            process.kill()
