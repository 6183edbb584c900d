"""Settings: one frozen tree; a wrong value is named, and never half believed."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node import operate
from dicom_node import settings as module
from dicom_node.settings import Destination, Peer, Settings, load


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SINUSNODE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(module.CONFIG_VARIABLE, "")
    monkeypatch.delenv(module.CONFIG_VARIABLE)
    monkeypatch.chdir(tmp_path)


def written(text: str) -> Path:
    path = Path("site.toml")
    path.write_text(text)
    return path


def problem(text: str) -> str:
    """Return what is said of a wrong settings file."""
    with pytest.raises(ValidationError) as caught:
        load(written(text))
    return "; ".join(f"{item['loc']} {item['msg']}" for item in caught.value.errors())


def test_defaults_listen_on_loopback_and_admit_this_machine_only() -> None:
    settings = load()
    assert settings.dicom.host == settings.ops.host == "127.0.0.1"
    (peer,) = settings.dicom.peers
    assert peer.admits("ANY", "127.0.0.1")
    assert peer.admits("ANY", "::1")
    assert not peer.admits("ANY", "10.0.0.1")


def test_environment_beats_the_file_which_beats_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SINUSNODE__DICOM__PORT", "4000")
    settings = load(written('[dicom]\nport = 3000\nae_title = "NODE"\n'))
    assert (settings.dicom.port, settings.dicom.ae_title) == (4000, "NODE")
    assert settings.dicom.maximum_pdu == Settings.model_fields["dicom"].default.maximum_pdu


def test_template_holds_the_defaults() -> None:
    text = operate.template()
    assert tomllib.loads(text)
    assert load(written(text)) == Settings()


def test_examples_in_the_template_work_when_they_are_uncommented() -> None:
    head, mark, examples = operate.template().partition("# [[dicom.peers]]")
    lines = (mark + examples).splitlines()
    text = "\n".join(line.removeprefix("# ") for line in lines if "=" in line or "[" in line)
    settings = load(written(head + text))
    assert [item.name for item in settings.destinations] == ["ORTHANC"]
    assert settings.dicom.peers == (Peer(ae_title="CART1", addresses=("10.1.2.0/24",)),)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[dicom]\nprot = 1\n", "prot"),
        ("[dicm]\nport = 1\n", "dicm"),
        ("[dicom]\nport = 70000\n", "port"),
        ('[dicom]\nae_title = "SEVENTEEN LETTERS"\n', "ae_title"),
        ('[dicom]\nae_title = "A\\\\B"\n', "ae_title"),
        ('[dicom]\nae_title = "  "\n', "ae_title"),
        ('[tls]\ncertificate = "a.pem"\n', "private_key"),
        ("[dicom]\nplain = false\n", "section tls"),
        ('[[destinations]]\nae_title = "A"\nhost = "h"\nport = 104\ntls = true\n', "section tls"),
        ('[[dicom.peers]]\naddresses = ["10.0.0.300"]\n', "addresses"),
        ("[work]\nworkers = 0\n", "workers"),
        ("[work]\nretry_after = []\n", "retry_after"),
        ("[storage]\nfree_fraction = 1.5\n", "free_fraction"),
        ('[[destinations]]\nae_title = "A"\nhost = "h"\n', "port"),
        ('[report]\nutc_offset = "CET"\n', "utc_offset"),
        ('[report]\nobjects = ["sr", "xml"]\n', "objects"),
    ],
)
def test_wrong_setting_is_refused_and_named(text: str, named: str) -> None:
    assert named in problem(text)


def test_two_destinations_of_one_name_are_refused() -> None:
    entry = '[[destinations]]\nae_title = "PACS"\nhost = "h"\nport = 104\n'
    assert "same name" in problem(2 * entry)
    named = entry + 'name = "second"\n'
    settings = load(written(entry + named))
    assert [item.name for item in settings.destinations] == ["PACS", "second"]


@pytest.mark.parametrize(
    ("variable", "named"),
    [("SINUSNODE__DICOM__PROT", "prot"), ("SINUSNODE__DICM__PORT", "dicm")],
)
def test_mistyped_variable_is_refused_and_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, named: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ValidationError, match=named):
        load()


def test_named_file_that_is_absent_is_an_error_and_the_default_one_is_not() -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        load(Path("absent.toml"))


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.dicom.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("peer", "calling", "address", "admitted"),
    [
        ({"ae_title": "CART"}, "CART", "127.0.0.9", True),
        ({"ae_title": "CART"}, "cart", "127.0.0.1", False),
        ({"ae_title": "CART", "addresses": ["10.1.2.0/24"]}, "CART", "10.1.2.255", True),
        ({"ae_title": "CART", "addresses": ["10.1.2.0/24"]}, "CART", "10.1.3.0", False),
        ({"addresses": ["10.1.2.3"]}, "", "10.1.2.3", True),
        ({"addresses": ["10.1.2.0/24"]}, "CART", "::ffff:10.1.2.3", True),
        ({"addresses": ["fe80::/10"]}, "CART", "fe80::1%eth0", True),
        ({"addresses": []}, "CART", "127.0.0.1", False),
    ],
)
def test_peer_admits_its_title_from_its_networks(
    peer: dict[str, Any], calling: str, address: str, *, admitted: bool
) -> None:
    assert Peer(**peer).admits(calling, address) is admitted


def test_destination_is_called_by_its_ae_title_unless_named() -> None:
    assert Destination(ae_title="PACS", host="h", port=104).name == "PACS"
    assert Destination(name="main", ae_title="PACS", host="h", port=104).name == "main"
