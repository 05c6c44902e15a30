"""cos-nodejs-sdk-v5 in a real node: the scenarios of node_sdk.js, through an address and through a proxy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cosfs.emulator import Credential, Emulator
from tests.emulator.clients.conftest import Program
from tests.emulator.clients.versions import NODE, NODE_PACKAGES

CLIENTS = ("cos-nodejs-sdk-v5", "node")
SCRIPT = Path(__file__).with_name("node_sdk.js")
NAMES = re.findall(r"^  async (\w+)\(cos, at\)", SCRIPT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module", params=["address", "proxy"])
def results(
    request: pytest.FixtureRequest, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Errors of all scenarios by name, from one run; empty where all went well."""
    home = tmp_path_factory.mktemp("node")
    node = Program([str(NODE), "--no-deprecation"], home, {"NODE_PATH": str(NODE_PACKAGES)})
    emulator.add_credential(Credential("AKIDnode", "secret", "token==", 4e9))
    temporary = {
        "TmpSecretId": "AKIDnode",
        "TmpSecretKey": "secret",
        "SecurityToken": "token==",
        "ExpiredTime": 4e9,
    }
    told = node(
        SCRIPT, request.param, emulator.endpoint_url, emulator.secret_id, emulator.secret_key,
        json.dumps(temporary), home,
    )  # fmt: skip
    lines = [json.loads(line) for line in told.splitlines() if line.startswith('{"name"')]
    return {line["name"]: line["error"] for line in lines}


@pytest.mark.parametrize("name", [*NAMES, "no public method is forgotten"])
def test_scenario(results: dict[str, str], name: str) -> None:
    assert not results[name]
