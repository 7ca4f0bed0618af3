# SPDX-License-Identifier: Apache-2.0
"""A verb is one declaration and one handler: added to a copy of the tree, it is everywhere without another edit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from harness.until import until

ROOT = Path(__file__).parents[2]

DECLARATION = '''

@verb(kind=Kind.QUERY, needs=Privilege.HOST_READ, since="1.1", http="GET /host/greeting")
def get_greeting(name: Text, *, times: int = 1) -> list[str]:
    """Greet somebody, as often as wanted."""
'''
HANDLER = """

    @handles(host.get_greeting)
    async def get_greeting(self, ctx: Context, name: str, *, times: int = 1) -> list[str]:
        return [f"Hello, {name}!"] * times
"""


class Tree:
    """A copy of the sources with the verb in it, and a simulated daemon that runs them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        shutil.copytree(ROOT / "src/vdsm", home / "src/vdsm", ignore=shutil.ignore_patterns("__pycache__"))
        for file, text in (("contract/host.py", DECLARATION), ("core/host/host.py", HANDLER)):
            with (home / "src/vdsm" / file).open("a", encoding="utf-8") as source:
                source.write(text)
        self.socket = home / "run/api.sock"
        (home / "c.toml").write_text(
            f'[daemon]\nstate_directory = "{home}/state"\nrun_directory = "{home}/run"\n', encoding="utf-8"
        )
        self.env = os.environ | {
            "PYTHONPATH": str(home / "src"),
            "VDSM_URL": f"unix:{self.socket}",
            "XDG_CACHE_HOME": str(home / "cache"),
        }

    def python(self, *words: str) -> list[str]:
        return [sys.executable, *words]

    def run(self, *words: str) -> str:
        done = subprocess.run(self.python(*words), env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, path: str) -> str:
        connection = HTTPConnection("localhost")
        connection.sock = socket(AF_UNIX)
        connection.sock.connect(str(self.socket))
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    made = Tree(tmp_path_factory.mktemp("tree"))
    words = made.python("-m", "vdsm.daemon", "--config", str(made.home / "c.toml"), "--simulate", "0")
    with (made.home / "log").open("wb") as log, subprocess.Popen(words, env=made.env, stdout=log, stderr=log) as daemon:
        try:
            until("the daemon answers", lambda: made.socket.exists() and '"ok"' in made.get("/health"))
            yield made
        finally:
            daemon.terminate()


def test_it_is_a_route(tree: Tree) -> None:
    assert json.loads(tree.get("/api/v1/host/greeting?name=you&times=2")) == ["Hello, you!", "Hello, you!"]
    assert json.loads(tree.get("/api/v1/host/greeting?name=you&times=x"))["path"] == "$.times"


def test_it_is_in_the_openapi_document_and_on_its_page(tree: Tree) -> None:
    document = json.loads(tree.get("/api/v1/openapi.json"))
    operation = document["paths"]["/host/greeting"]["get"]
    assert operation["summary"] == "Greet somebody, as often as wanted."
    assert {p.get("name") for p in operation["parameters"]} >= {"name", "times"}
    assert "Host.getGreeting" in tree.get("/api/docs")


def test_it_is_a_command_with_help(tree: Tree) -> None:
    said = tree.run("-m", "vdsm.shell", "--output", "json", "host", "greeting", "--name", "you")
    assert json.loads(said) == ["Hello, you!"]
    assert "--times" in tree.run("-m", "vdsm.shell", "help", "host", "greeting")


def test_it_is_in_the_client(tree: Tree) -> None:
    script = "from vdsm.client import connect\nwith connect() as host: print(host.host.get_greeting('you'))"
    assert "Hello, you!" in tree.run("-c", script)


def test_it_is_a_method_on_the_bus(tree: Tree) -> None:
    script = (
        "import json\nfrom vdsm.bindings.qmf.schema import Schemata\nkind = Schemata().classes['Host'].schema\n"
        "(made,) = [m for m in kind.methods if m.name == 'getGreeting']\n"
        "print(json.dumps([str(kind.id.hash), made.description, {a.name: a.type for a in made.arguments}]))"
    )
    here, _, _ = json.loads(subprocess.check_output(tree.python("-c", script.replace("getGreeting", "echo"))))
    there, description, arguments = json.loads(tree.run("-c", script))
    assert description == "Greet somebody, as often as wanted."
    assert arguments == {"name": "TYPE_STRING", "times": "TYPE_INT", "result": "TYPE_LIST"}
    assert there != here


def test_it_is_in_the_documents(tree: Tree) -> None:
    tree.env["PYTHONPATH"] += os.pathsep + str(ROOT / "scripts")
    tree.run("-m", "generators", "--root", str(tree.home))
    assert "Host.getGreeting" in (tree.home / "docs/api.md").read_text(encoding="utf-8")
    assert "Host.getGreeting" in (tree.home / "docs/coverage.md").read_text(encoding="utf-8")


def test_without_its_handler_the_daemon_does_not_start(tree: Tree) -> None:
    script = (
        "from vdsm.contract import *\nfrom vdsm.contract import host\nfrom vdsm.core.entries import entries_of\n"
        "try: entries_of([])\nexcept ContractError as error: assert 'Host.getGreeting' in str(error)\n"
        "else: raise SystemExit('it started')"
    )
    tree.run("-c", script)
