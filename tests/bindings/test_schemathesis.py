# SPDX-License-Identifier: Apache-2.0
"""Generated requests, good and bad, against everything the OpenAPI document describes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from harness.rest_server import OWN_ROLES, Server
from vdsm.bindings.options import RestOptions
from vdsm.contract import VERBS
from vdsm.contract.errors import MethodNotImplemented

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def levels() -> Iterator[None]:
    """One of the verbs sets log levels, of this process as well."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    before = [(logger, logger.level) for logger in loggers]
    yield
    for logger, level in before:
        logger.setLevel(level)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, levels: None) -> Iterator[Server]:
    home: Path = tmp_path_factory.mktemp("rest")
    made = Server(home, RestOptions(grace=1.0), OWN_ROLES)
    made.create("a")
    made.create("b")
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(shared: Server) -> Any:
    token = shared.request("POST", "/api/v1/tokens", {"name": "fuzz", "role": "admin"}).json["token"]
    port = shared.listen(None)
    headers = {"Authorization": f"Bearer {token}"}
    loaded = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/api/v1/openapi.json", headers=headers)
    loaded.config.headers = headers
    # What is too large is refused before it is looked at, and a plain request for a stream whatever is in it.
    expected = loaded.config.checks.negative_data_rejection.expected_statuses
    loaded.config.checks.negative_data_rejection.expected_statuses = [*expected, 413, 426, 431]
    return loaded


GOOD, BAD = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
# Without "events", which never ends; "health" and "metrics" take nothing that could be bad.
NEVER = {name for name, verb in VERBS.items() if verb.raises == (MethodNotImplemented,)}  # 501, whatever is sent
CASES = [
    *((name, GOOD) for name in VERBS if name not in NEVER), *((name, BAD) for name in VERBS), ("health", GOOD),
    ("metrics", GOOD),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mode"), CASES, ids=lambda part: getattr(part, "value", part))
def test_whatever_is_sent(api: Any, name: str, mode: GenerationMode) -> None:
    strategy = api.find_operation_by_id(name).as_strategy(generation_mode=mode)

    @given(strategy)
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    send()
