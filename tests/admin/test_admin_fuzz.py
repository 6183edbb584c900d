"""Whatever is asked, the service answers; its document says what."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from installed import Installation, simulated
from node import free_port
from office import FREE
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from analysis.synthetic import Kind
from dicom_node.settings import Role, Settings, Storage
from training.admin.app import create_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Service(NamedTuple):
    """A running service."""

    address: str
    headers: dict[str, str]
    document: dict[str, Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service with an ECG, and a key that may do everything."""
    folder = tmp_path_factory.mktemp("fuzz")
    made = Installation(folder)
    made.receive([simulated(Kind.SINUS, 1)])
    made.close()
    storage = Storage(folder=folder, free_bytes=0, free_fraction=0.0)
    app = create_app(Settings(storage=storage, admin=FREE))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    key = app.state.office.accounts.add_key("all", list(Role), app.state.office.clock())[1]
    yield Service(f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}, app.openapi())
    server.should_exit = True
    thread.join()


def routes() -> list[tuple[str, str]]:
    """Return every operation of the document."""
    document = create_app(Settings(storage=Storage(folder=Path("unused")))).openapi()
    return sorted((path, method) for path, item in document["paths"].items() for method in item)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), routes())
def test_no_request_brings_it_down(service: Service, path: str, method: str) -> None:
    operation = schemathesis.openapi.from_dict(service.document)[path][method.upper()]

    @settings(
        max_examples=8, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: Any) -> None:
        case.call_and_validate(
            base_url=service.address, headers=service.headers, checks=CHECKS, timeout=60
        )

    given(case=operation.as_strategy())(ask)()


def test_document_describes_every_refusal_and_names_each_operation_once() -> None:
    document = create_app(Settings(storage=Storage(folder=Path("unused")))).openapi()
    assert document["openapi"].startswith("3.1")
    names = [
        operation["operationId"] for item in document["paths"].values()
        for operation in item.values()
    ]  # fmt: skip
    assert len(names) == len(set(names))
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["summary"]
            assert operation["description"]
            refusal = operation["responses"]["403"]["content"]["application/problem+json"]
            assert refusal["schema"]["$ref"] == "#/components/schemas/ProblemDocument"
    assert "ProblemDocument" in document["components"]["schemas"]
