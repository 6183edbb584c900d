"""What is wrong with an installation, in sentences: each says what to do."""

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from pydicom.uid import UID
from sqlalchemy.exc import SQLAlchemyError

from analysis.errors import ModelRejected
from analysis.model import load_model
from dicom_node import mllp, scu, tls
from dicom_node.commitment import STUDY_ROOT_FIND, STUDY_ROOT_MOVE
from dicom_node.deliver import OPTIONAL, RESULTS
from dicom_node.dicomweb import STUDY, Client
from dicom_node.fhir import Server
from dicom_node.ledger import Ledger, Part, SchemaMismatch, State
from dicom_node.link import Address, Insecure, NothingAccepted, Rejected, Unreachable
from dicom_node.models import ModelState, ModelStore
from dicom_node.operate import opened, stranded
from dicom_node.receive import WAVEFORMS, disk_is_low
from dicom_node.settings import (
    Destination,
    DicomServer,
    Fhir,
    Hl7,
    Peer,
    Settings,
    Tls,
    WebServer,
)

Line = tuple[bool, str]
"""Whether it is well, and a sentence."""

OVERDUE: Final = 600.0
"""Seconds past its end before a lease counts as forgotten."""
PATIENCE: Final = 5.0
"""Seconds that a peer is waited for."""
EXPIRES_SOON: Final = timedelta(days=30)
CLOCK_TOLERANCE: Final = 60.0
"""Seconds that the ledger may be ahead of the clock."""

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_OPEN: Final = ("0.0.0.0", "::")  # noqa: S104 - compared
_GENERAL_ECG: Final = WAVEFORMS[1]
_NEEDED: Final = dict(zip(("sr", "pdf"), RESULTS, strict=False)) | OPTIONAL | {"ecg": _GENERAL_ECG}


@dataclass(frozen=True, slots=True)
class Known:
    """A peer that the settings name: the node itself, a destination or a source."""

    name: str
    address: Address
    calling_ae: str
    secure: tls.Secure | None
    classes: tuple[str, ...]
    """What we would send or ask there."""
    itself: bool = False


def yes(sentence: str) -> Line:
    """Return a line on what is well."""
    return True, sentence


def no(sentence: str) -> Line:
    """Return a line on what is not, and what to do."""
    return False, sentence


def check(settings: Settings) -> list[Line]:
    """Return one line for each thing that was looked at."""
    parts = (_folder, _disk, _certificates, _exposure, _ledger, _destinations, _peers, _web,
             _messages)  # fmt: skip
    return [line for part in parts for line in part(settings)]


def known_peers(settings: Settings) -> list[Known]:
    """Return the node as its callers see it, then each destination and each source.

    Raises
    ------
    OSError
        If TLS is asked for and its files cannot be used.
    """
    results = tuple(dict.fromkeys(_NEEDED[name] for name in settings.report.objects))
    return [
        *_own(settings),
        *_called(settings, "destination", settings.destinations, results),
        *_called(settings, "source", settings.sources, (STUDY_ROOT_FIND, STUDY_ROOT_MOVE)),
    ]


def _own(settings: Settings) -> Iterator[Known]:
    """Yield the node's plain port and its TLS port, those that are open."""
    here = settings.dicom
    host = _LOOPBACK[0] if here.host in _OPEN else here.host
    if here.plain:
        address = Address(here.ae_title, host, here.port)
        yield Known("The node", address, here.ae_title, None, WAVEFORMS, itself=True)
    if settings.tls.enabled:
        address = Address(here.ae_title, host, settings.tls.port)
        secure = tls.secured(settings.tls, _certified(settings.tls, host))
        yield Known("The node over TLS", address, here.ae_title, secure, WAVEFORMS, itself=True)


def _certified(settings: Tls, host: str) -> str:
    """Return a name that the node's own certificate carries: `host`, if it does."""
    tls.server(settings)  # a file that cannot be used is an OSError
    certificate = x509.load_pem_x509_certificate((settings.certificate or Path()).read_bytes())
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return host
    found = [str(name.value) for name in named]
    return host if host in found else next(iter(found), host).replace("*", "node")


def _called(
    settings: Settings, what: str, servers: Iterable[object], classes: tuple[str, ...]
) -> Iterator[Known]:
    """Yield the DICOM servers among those that the node calls."""
    for item in servers:
        if isinstance(item, DicomServer):
            yield Known(
                f"The {what} {item.name}",
                Address(item.ae_title, item.host, item.port),
                item.calling_ae_title or settings.dicom.ae_title,
                tls.caller(settings.tls, item),
                classes,
            )


# The machine


def _folder(settings: Settings) -> Iterator[Line]:
    folder = settings.storage.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield no(
            f"The data folder {folder} cannot be written ({error.strerror}): create it, or give "
            "it to the user that runs the node."
        )
    else:
        yield yes(f"The data folder {folder} can be written.")


def _disk(settings: Settings) -> Iterator[Line]:
    if not settings.storage.folder.is_dir():
        return
    if disk_is_low(settings.storage):
        yield no(
            "The disk is below the watermark (storage.free_bytes, storage.free_fraction): "
            "objects would be refused with A700. Free space or lower the watermark."
        )
    else:
        yield yes("The disk is above the watermark.")


def _certificates(settings: Settings) -> Iterator[Line]:
    if not settings.tls.enabled:
        return
    try:
        tls.server(settings.tls)
    except OSError as error:
        yield no(f"The files of section tls cannot be used: {tls.describe(error)}.")
        return
    yield _validity(settings.tls.certificate or Path())


def _validity(path: Path) -> Line:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    now, end = datetime.now(UTC), certificate.not_valid_after_utc
    if now < certificate.not_valid_before_utc:
        start = certificate.not_valid_before_utc
        return no(f"The certificate {path} is not valid before {start:%Y-%m-%d %H:%M} UTC.")
    if now > end:
        return no(f"The certificate {path} expired on {end:%Y-%m-%d}: renew it in place.")
    if now + EXPIRES_SOON > end:
        return no(f"The certificate {path} expires on {end:%Y-%m-%d}: renew it in place.")
    return yes(f"The certificate {path} is valid until {end:%Y-%m-%d}.")


def _exposure(settings: Settings) -> Iterator[Line]:
    """Yield what stands open to more than this machine without need."""
    if settings.dicom.host not in _LOOPBACK and Peer() in settings.dicom.peers:
        yield no(
            "The DICOM port is open to the network, and dicom.peers names no cart: only this "
            "machine may call. List each cart's AE title and addresses."
        )
    wide = [peer for peer in settings.dicom.peers if _is_wide(peer)]
    if wide:
        yield no(
            "A peer in dicom.peers may call from anywhere under any AE title: name its AE title, "
            "its networks or its certificate."
        )
    if settings.ops.host not in _LOOPBACK:
        yield no(
            f"The management port is open on {settings.ops.host} and knows no passwords: bind it "
            "to 127.0.0.1, or keep a firewall in front."
        )


def _is_wide(peer: Peer) -> bool:
    anywhere = any(network.endswith("/0") for network in peer.addresses)
    return anywhere and peer.ae_title == "*" and peer.certificate is None


# The ledger


def _ledger(settings: Settings) -> Iterator[Line]:
    if not settings.storage.folder.is_dir():
        return
    try:
        with opened(settings) as ledger:
            yield from _models(settings, ledger)
            yield from _promises(ledger)
            yield from _clock(ledger)
            yield from _waiting(settings, ledger)
    except SchemaMismatch as error:
        yield no(f"{str(error).capitalize()}: start the version that wrote it, or move it.")
    except SQLAlchemyError as error:
        yield no(
            f"The ledger cannot be opened ({type(error).__name__}): compare storage.database "
            "with the database, and see that it runs."
        )


def _models(settings: Settings, ledger: Ledger) -> Iterator[Line]:
    store = ModelStore(settings.storage.folder / "models", ledger)
    speaking, entries = store.speaking(), store.list()
    for entry in entries:
        if entry.digest in speaking:
            yield _model(f"The model that speaks ({entry.digest[:12]})", store.path(entry.digest))
        if entry.state is ModelState.SHADOW:
            yield yes(f"The model {entry.name} {entry.version} shadows: see `models compare`.")
        if entry.refused:
            yield no(
                f"The model {entry.name} {entry.version} ({entry.digest[:12]}) was refused: "
                f"{entry.refused} Promote another, or add its package again."
            )
    if speaking:
        return
    if entries:
        yield no("No model speaks: results come from measurement and criteria alone.")
    elif settings.models.initial is None:
        yield yes("No model is installed yet; the first start installs the shipped one.")
    else:
        yield _model(f"The model {settings.models.initial}", settings.models.initial)


def _model(what: str, path: Path) -> Line:
    try:
        identity = load_model(path).identity
    except ModelRejected as error:
        return no(f"{what} is refused: {error.message}")
    return yes(f"{what}, {identity.name} {identity.version}, passes its self-test.")


def _promises(ledger: Ledger) -> Iterator[Line]:
    broken = ledger.violations(time.time(), OVERDUE)
    for line in broken:
        yield no(f"The ledger breaks a promise: {line}.")
    if not broken:
        yield yes("The ledger keeps its promises.")


def _clock(ledger: Ledger) -> Iterator[Line]:
    newest = max((row["received_at"] for row in ledger.rows(limit=1)), default=0.0)
    if newest > time.time() + CLOCK_TOLERANCE:
        last = datetime.fromtimestamp(newest, UTC)
        yield no(
            f"The clock stands before the last object received ({last:%Y-%m-%d %H:%M} UTC): set "
            "it, or times in reports are wrong."
        )


def _waiting(settings: Settings, ledger: Ledger) -> Iterator[Line]:
    counts = ledger.counts()
    settled = {
        State.QUARANTINED: ledger.purged().get((State.QUARANTINED, Part.SOURCE), 0),
        State.FAILED: ledger.dropped(),
    }
    for state, by_now in settled.items():
        if count := counts[state] - by_now:
            yield no(f"{count} objects are {state}: see `sinusnode queue`.")
    yield from map(no, stranded(settings, ledger))


# The peers


def _destinations(settings: Settings) -> Iterator[Line]:
    if not settings.outlets:
        yield no("No destination is set: results are made and go nowhere.")
    own = {settings.dicom.port, settings.tls.port if settings.tls.enabled else None}
    for item in (item for item in settings.destinations if isinstance(item, Destination)):
        if item.host in (*_LOOPBACK, settings.dicom.host) and item.port in own:
            yield no(
                f"The destination {item.name} is this node itself: name the PACS's host and port."
            )


def _peers(settings: Settings) -> Iterator[Line]:
    try:
        peers = known_peers(settings)
    except OSError:
        return  # said by _certificates
    for peer in peers:
        yield from _peer(peer)


def _peer(peer: Known) -> Iterator[Line]:
    try:
        accepted = ask(peer, PATIENCE)
    except Unreachable as error:
        yield no(f"{peer.name}: {error}. {_cure(error, peer)}")
        return
    yield yes(f"{peer.name} answers at {peer.address}.")
    if accepted is None:
        return
    for name in _missing(accepted, peer.classes):
        stored = "Storage" in name
        cure = "enable this SOP class there, or leave the object out of report.objects"
        other = f"allow {peer.calling_ae} to query and retrieve there"
        yield no(f"{peer.name} does not accept {name}: {cure if stored else other}.")


def ask(peer: Known, timeout: float) -> tuple[str, ...] | None:
    """Return the SOP classes that a peer accepts of those we would send, after a C-ECHO.

    None says that it is this node, which answers, and its own AE title is none of its callers'.

    Raises
    ------
    Unreachable
        If it does not answer.
    """
    try:
        return scu.echo(
            peer.address, peer.calling_ae, timeout, secure=peer.secure, classes=peer.classes
        )
    except Rejected as error:
        if peer.itself and error.unrecognised:
            return None
        raise


def _web(settings: Settings) -> Iterator[Line]:
    """Yield whether each DICOMweb server answers a query, and keeps our credentials secret."""
    for item in (*settings.destinations, *settings.sources):
        if isinstance(item, WebServer):
            yield from _web_server(item)


def _web_server(server: WebServer) -> Iterator[Line]:
    yield from _exposed(server)
    client = Client(server.model_copy(update={"timeout": PATIENCE}))
    try:
        next(client.search(STUDY, StudyInstanceUID=""), None)
    except Insecure as error:
        yield no(f"{error}. Compare its certificate with trusted_certificates, and the host name.")
    except Rejected as error:
        yield no(f"{error}. Renew token, password or certificate.")
    except Unreachable as error:
        yield no(f"{error}. See that it runs and that the url ends where its /studies begins.")
    else:
        yield yes(f"{server.name} answers at {server.url}.")
    finally:
        client.close()


def _messages(settings: Settings) -> Iterator[Line]:
    """Yield whether each receiver of messages answers."""
    for receiver in settings.hl7:
        yield from _receiver(settings, receiver)
    for server in settings.fhir:
        yield from _fhir_server(server)


def _receiver(settings: Settings, receiver: Hl7) -> Iterator[Line]:
    waited = receiver.model_copy(update={"timeout": PATIENCE})
    try:
        mllp.connect(waited, tls.caller(settings.tls, receiver)).close()
    except Insecure as error:
        yield no(f"{error}. Compare both certificates, their authorities and tls_name.")
    except Unreachable as error:
        yield no(f"{error}. Compare host and port; delivery is tried again once it answers.")
    except OSError:
        return  # said by _certificates
    else:
        yield yes(f"{receiver.name} takes connections at {receiver.host}:{receiver.port}.")


def _fhir_server(server: Fhir) -> Iterator[Line]:
    yield from _exposed(server)
    called = Server(server.model_copy(update={"timeout": PATIENCE}))
    try:
        status = called.describe()
    except Unreachable as error:
        yield no(f"{error}. See that it runs, and compare url, token and certificate.")
    else:
        well = status == HTTPStatus.OK
        cure = "" if well else " See that the url ends where its /metadata begins."
        yield well, f"{server.name} answers {status} at {server.url}/metadata.{cure}"
    finally:
        called.close()


def _exposed(server: WebServer) -> Iterator[Line]:
    host = urlsplit(server.url).hostname
    if server.url.startswith("http:") and host not in _LOOPBACK and _has_secret(server):
        yield no(
            f"The credentials of {server.name} cross the network as they are: use an https url."
        )


def _has_secret(server: WebServer) -> bool:
    return server.token_file is not None or server.password_file is not None


def _missing(accepted: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [name for uid in wanted if (name := UID(uid).name) not in accepted]


def _cure(error: Unreachable, peer: Known) -> str:
    if isinstance(error, Insecure):
        own = "Have tls.trusted_certificates vouch for the node's own certificate too."
        return own if peer.itself else "Compare both certificates, their authorities and tls_name."
    if isinstance(error, NothingAccepted):
        return "Register this node's AE title there for storage."
    if isinstance(error, Rejected) and peer.itself:
        return f"Another DICOM program uses the port: choose another {_port(peer)}."
    if isinstance(error, Rejected):
        return (
            f"Compare the called AE title {peer.address.ae_title} with the peer's own, and "
            f"register {peer.calling_ae} there."
        )
    if peer.itself and _taken(peer.address):
        return f"Another program uses the port: choose another {_port(peer)}."
    return "Start the node." if peer.itself else "Delivery is tried again once it answers."


def _port(peer: Known) -> str:
    return "tls.port" if peer.secure else "dicom.port"


def _taken(address: Address) -> bool:
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex((address.host, address.port)) == 0
