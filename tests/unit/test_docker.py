"""The container files, held against the code they run: no Docker is needed to see them wrong."""

import json
import re
import shlex
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT
from test_ops import Port

from dicom_node.settings import CONFIG_VARIABLE, load

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if name.startswith("node")]
LINES = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in LINES if line.startswith(name + " ")]


def orthanc() -> dict[str, Any]:
    text = (DOCKER / "orthanc.json").read_text()
    values: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return values


def test_every_file_that_the_image_copies_exists() -> None:
    for line in instructions("COPY"):
        if "--from" not in line:
            *sources, _ = shlex.split(line)
            assert all((ROOT / source).exists() for source in sources), line


def test_the_image_runs_as_nobody_in_particular_and_says_whether_it_is_well() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert "/readyz" in instructions("HEALTHCHECK")[0]
    assert instructions("ENTRYPOINT") == ['["sinusnode"]']
    assert not any("latest" in line for line in instructions("FROM"))


def test_the_settings_of_the_image_load_and_fit_orthanc_and_the_ports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(DOCKER / "sinusnode.toml"))
    settings = load()
    (destination,) = settings.destinations
    modality = orthanc()["DicomModalities"]["sinusnode"]
    assert (modality["AET"], modality["Host"]) == (settings.dicom.ae_title, "node")
    assert modality["Port"] == settings.dicom.port
    assert (destination.ae_title, destination.host) == (orthanc()["DicomAet"], "orthanc")
    assert destination.port == orthanc()["DicomPort"]
    exposed = {int(port) for port in instructions("EXPOSE")[0].split()}
    assert exposed == {settings.dicom.port, settings.tls.port, settings.ops.port}
    subnet = COMPOSE["networks"]["ecg"]["ipam"]["config"][0]["subnet"]
    assert [peer.addresses for peer in settings.dicom.peers] == [(subnet,)]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_publishes_on_loopback_alone_and_has_no_password_of_its_own(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for key, value in service.get("environment", {}).items():
        if "PASSWORD" in key or "USERS" in key:
            assert value.startswith("/run/secrets/") or "${" in value or value == "false", key


@pytest.mark.parametrize("name", OURS)
def test_the_node_is_hardened_and_every_mounted_file_exists(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        if source.startswith(".") and not source.endswith("keys"):
            assert (DOCKER / source).is_file(), volume
        elif not source.startswith("."):
            assert source in COMPOSE["volumes"]


def test_every_variable_of_a_node_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = chain.from_iterable(SERVICES[name].get("environment", {}).items() for name in OURS)
    for key, value in variables:
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("SINUSNODE__STORAGE__DATABASE", "postgresql+psycopg://database/sinusnode")
    settings = load()
    assert settings.tls.enabled
    assert not settings.dicom.plain


def test_every_metric_of_the_dashboard_is_exported(tmp_path: Path) -> None:
    port = Port(tmp_path)
    exported = set(re.findall(r"^# TYPE (\w+)", port.get("/metrics")[1], re.MULTILINE))
    port.ledger.close()
    dashboard = json.loads((DOCKER / "grafana" / "sinusnode.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    for metric in re.findall(r"\b(ecg_\w+)", asked):
        assert metric.removesuffix("_sum").removesuffix("_count") in exported
