"""The container files, held against the code they run: no Docker is needed to see them wrong."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Run
from support import ROOT
from test_ops import Port

from dicom_node.settings import CONFIG_VARIABLE, Settings, load
from training.admin.access import Office
from training.admin.policy import POLICY

IMAGES = ("node", "admin", "trainer")
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = [name for name in SERVICES if name.startswith("node")]
OURS = [*NODES, "admin", "trainer"]
DATA = Path("/var/lib/sinusnode")


def stages() -> dict[str, list[str]]:
    """Return the instructions of each stage; one that is made from another repeats none of it."""
    found: dict[str, list[str]] = {"": []}
    stage = ""
    for line in (DOCKER / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        if line.startswith("FROM "):
            stage = line.rpartition(" ")[2]
            found[stage] = []
        found[stage].append(line)
    return found


STAGES = stages()
LINES = [line for lines in STAGES.values() for line in lines]


def instructions(name: str, lines: list[str] | None = None) -> list[str]:
    every = LINES if lines is None else lines
    return [line.partition(" ")[2].strip() for line in every if line.startswith(name + " ")]


def volumes(name: str) -> dict[str, str]:
    """Return what is mounted in a service, by its place."""
    split = (volume.split(":", 1) for volume in SERVICES[name]["volumes"])
    return {place: source for source, place in split}


def orthanc() -> dict[str, Any]:
    text = (DOCKER / "orthanc.json").read_text()
    values: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return values


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings that the images hold."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(DOCKER / "sinusnode.toml"))
    return load()


def test_every_file_that_the_image_copies_exists() -> None:
    for line in instructions("COPY"):
        if "--from" not in line:
            *sources, _ = shlex.split(line)
            assert all((ROOT / source).exists() for source in sources), line


@pytest.mark.parametrize("target", IMAGES)
def test_an_image_runs_as_nobody_in_particular_and_says_whether_it_is_well(
    target: str, run: Run
) -> None:
    lines = STAGES[target]
    assert instructions("USER", lines)[-1] == "10001:10001"
    assert len(instructions("HEALTHCHECK", lines)) == 1
    (command,) = instructions("CMD", lines)
    assert run(*json.loads(command), "--help").status == 0


def test_what_an_image_asks_itself_is_there(run: Run) -> None:
    asked = {name: "".join(instructions("HEALTHCHECK", STAGES[name])) for name in IMAGES}
    assert "/readyz" in asked["node"]
    (path,) = re.findall(r"https://127\.0\.0\.1:8105(/\w+)", asked["admin"])
    assert POLICY["GET", path].roles is None  # nobody is signed in
    words = json.loads(asked["trainer"].partition("CMD ")[2])
    assert run(*words[1:], "--help").status == 0


def test_every_extra_is_one_and_what_is_installed_was_fetched_before() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    fetched = {name: set(found("pip wheel", STAGES[name])) for name in STAGES}
    for target in IMAGES:
        source = "wheels" if target == "node" else f"{target}-wheels"
        assert f"from={source}," in "".join(STAGES[target])
        installed = set(found("pip install", STAGES[target]))
        assert installed <= extras.keys()
        assert installed == fetched[source]


def found(command: str, lines: list[str]) -> Iterator[str]:
    """Yield the extras that a command of a stage names."""
    for names in re.findall(rf"{command}[^&]*'[^']*\[([\w,]+)\]'", " ".join(lines)):
        yield from names.split(",")


def test_a_service_is_built_from_its_stage_with_the_arguments_that_the_stages_take() -> None:
    taken = {name for line in STAGES["wheels"] if line.startswith("ARG") for name in line.split()}
    for name in IMAGES:
        build = SERVICES[name]["build"]
        assert (build["target"], ROOT / build["dockerfile"]) == (name, DOCKER / "Dockerfile")
        assert set(build["args"]) <= taken


def test_no_line_names_a_package_index_or_an_image_without_its_version() -> None:
    assert not any(re.search(r"https?://(?!127\.0\.0\.1)", line) for line in LINES)
    assert not any("latest" in line for line in instructions("FROM"))
    assert all(":" in service["image"] for service in SERVICES.values())


def test_the_folders_that_are_volumes_are_those_of_the_code_and_of_the_image(
    settings: Settings,
) -> None:
    assert settings.storage.folder == DATA
    assert settings.runs_folder == DATA / "runs"
    assert settings.archive.key_file == DATA / "keys" / "archive.key"
    office = Office(settings=settings, ledger=None)  # type: ignore[arg-type] # only asked for a path
    assert office.corpus == DATA / "corpus"
    made = re.search(r"for part in ([^;]+);", " ".join(STAGES["node"]))
    assert made is not None
    parts = {str(DATA / part) for part in made[1].split()}
    for name in ("node", "admin", "trainer"):
        inside = {place.removesuffix(":ro") for place in volumes(name)}
        assert {place for place in inside if place.startswith(str(DATA))} <= parts


def test_the_trainer_reaches_nobody_and_sees_neither_identities_nor_the_key() -> None:
    service = SERVICES["trainer"]
    assert service["network_mode"] == "none"
    assert "ports" not in service
    assert {str(DATA / "spool"), str(DATA / "keys")} <= set(service["tmpfs"])
    assert volumes("trainer")[f"{DATA / 'archive'}:ro"] == "archive"
    assert "node-keys" not in volumes("trainer").values()
    memory = int(service["environment"]["SINUSNODE__TRAINING__MEMORY"])
    assert memory < int(service["mem_limit"].removesuffix("g")) * 2**30
    assert (service["mem_limit"], service["cpu_shares"]) == ("8g", 64)


def test_the_admin_service_shares_the_nodes_data_and_is_open_over_tls_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dicom_node.settings.SECRETS", tmp_path)  # where compose puts them
    for secret in SERVICES["admin"]["secrets"]:
        (tmp_path / secret).write_text("no setting of that name")
    assert set(volumes("node").items()) <= set(volumes("admin").items())
    for key, value in SERVICES["admin"]["environment"].items():
        monkeypatch.setenv(key, value)
    admin = load(DOCKER / "sinusnode.toml").admin
    assert admin.host == "0.0.0.0"
    named = {f"/run/secrets/{name}" for name in SERVICES["admin"]["secrets"]}
    assert {str(admin.certificate), str(admin.private_key)} == named
    assert SERVICES["admin"]["ports"] == [f"127.0.0.1:{admin.port}:{admin.port}"]
    assert instructions("EXPOSE", STAGES["admin"]) == [str(admin.port)]


@pytest.mark.parametrize("name", SERVICES)
def test_every_secret_and_volume_that_a_service_takes_is_declared(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert source.startswith(".") or source in COMPOSE["volumes"], volume
    assert set(service.get("depends_on", ())) <= SERVICES.keys()


def test_the_settings_of_the_image_load_and_fit_orthanc_and_the_ports(settings: Settings) -> None:
    (destination,) = settings.destinations
    modality = orthanc()["DicomModalities"]["sinusnode"]
    assert (modality["AET"], modality["Host"]) == (settings.dicom.ae_title, "node")
    assert modality["Port"] == settings.dicom.port
    assert (destination.ae_title, destination.host) == (orthanc()["DicomAet"], "orthanc")
    assert destination.port == orthanc()["DicomPort"]
    exposed = {int(port) for port in instructions("EXPOSE", STAGES["node"])[0].split()}
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
def test_a_service_of_ours_is_hardened_and_every_mounted_file_exists(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        if source.startswith(".") and not source.endswith("keys"):
            assert (DOCKER / source).is_file(), volume


def test_every_variable_of_a_node_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = chain.from_iterable(SERVICES[name].get("environment", {}).items() for name in NODES)
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
