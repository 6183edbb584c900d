"""The one settings tree of the house, read once and frozen.

Sources, the later winning: defaults < `sinusnode.toml` < environment
(``SINUSNODE__DICOM__AE_TITLE=ECGNODE``) < secret files (``/run/secrets/…``). Names follow
Orthanc where it has them: `destinations` are its `DicomModalities`, `peers` those that may
call. The defaults are a node on loopback that any AE title on this machine may call.
"""

import ipaddress
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "SINUSNODE_CONFIG"
DEFAULT_CONFIG = Path("sinusnode.toml")
SECRETS = Path("/run/secrets")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_AE_TITLE_LENGTH = 16
_WINDOW = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
_TOKEN_LENGTH = 16


def _ae_title(text: str) -> str:
    """Return a valid AE title (PS3.5 §6.2: 1-16 characters, no backslash, no control)."""
    title = text.strip()
    if not 0 < len(title) <= _AE_TITLE_LENGTH or "\\" in title or not title.isprintable():
        raise ValueError("an AE title has 1 to 16 printable characters and no backslash")
    return title


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]


LIVE = "live"
"""Marks a value that may be changed while everything runs: see :mod:`dicom_node.live`."""
LONGER = "longer"
"""Marks beside it an age that may then only be raised, 0 being for ever: nothing is lost by it."""


class Section(BaseModel):
    """A frozen section; an unknown key is an error, with its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Peer(Section):
    """Who may call the node. An AE title alone is no authentication: addresses count too."""

    ae_title: AETitle | Literal["*"] = "*"
    """Calling AE title, or `*` for any."""
    addresses: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that it may call from (CIDR)."""
    certificate: str | None = None
    """A name that its TLS certificate must carry; with it, the plain port is not enough."""
    port: Port | None = None
    """Where it hears storage commitment reports, if no destination has its AE title."""

    def admits(
        self, calling_ae: str, address: str, certificate: frozenset[str] = frozenset()
    ) -> bool:
        """Return whether this entry lets a caller in, given the names of its certificate."""
        if self.certificate is not None and self.certificate not in certificate:
            return False
        where = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        where = getattr(where, "ipv4_mapped", None) or where  # a dual-stack socket's peers
        return self.ae_title in ("*", calling_ae) and any(
            where in ipaddress.ip_network(network) for network in self.addresses
        )


class Dicom(Section):
    """The clinical port."""

    ae_title: AETitle = "SINUSNODE"
    host: str = "127.0.0.1"
    """Address to bind; `0.0.0.0` opens it to the network, then list `peers`."""
    port: Port = 11112
    peers: tuple[Peer, ...] = (Peer(),)
    require_called_ae_title: bool = True
    maximum_associations: Annotated[int, Field(ge=1)] = 256
    maximum_pdu: Annotated[int, Field(ge=4096, le=1 << 20)] = 128 * 1024
    """Bytes of one PDU, advertised and enforced."""
    maximum_object: Bytes = 32 * 2**20
    """Bytes of one C-STORE message."""
    pdu_deadline: Seconds = 10.0
    """Seconds for one whole PDU, whatever the drip rate."""
    handshake_deadline: Seconds = 10.0
    """Seconds for the A-ASSOCIATE-RQ, and for the TLS handshake."""
    idle_deadline: Seconds = 60.0
    """Seconds without a message before an association is aborted."""
    plain: bool = True
    """Whether this port without TLS is open; `false` leaves the port of section `tls` alone."""


class Tls(Section):
    """DICOM over TLS with certificates on both sides, beside the plain port.

    Files that are renewed count from the next connection, without a restart.
    """

    port: Port = 2762
    """On the host of section `dicom`."""
    certificate: Path | None = None
    """PEM file with the node's certificate and chain: with it, the TLS port is open."""
    private_key: Path | None = None
    trusted_certificates: Path | None = None
    """PEM file of the authorities whose certificates are trusted, of callers and called."""

    @property
    def enabled(self) -> bool:
        """Return whether there are certificates."""
        return self.certificate is not None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        files = (self.certificate, self.private_key, self.trusted_certificates)
        if any(files) and not all(files):
            raise ValueError("TLS needs certificate, private_key and trusted_certificates")
        return self


class DicomServer(Section):
    """A DICOM server that the node calls: one entry of Orthanc's `DicomModalities`."""

    name: str = ""
    """Shown in queue and metrics; by default the AE title."""
    ae_title: AETitle
    host: str
    port: Port
    calling_ae_title: AETitle | None = None
    """What the node calls itself there; by default its own AE title."""
    tls: bool = False
    """Speak TLS with the certificates of section `tls`."""
    tls_name: str | None = None
    """The name that its certificate must carry; by default the host."""
    timeout: Seconds = 30.0
    """Seconds to wait for a connection or for an answer."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        return _with_name(values, lambda: str(values.get("ae_title", "")))


class WebServer(Section):
    """A DICOMweb server that the node calls.

    Secrets are read from their files at each call, so that a renewed one counts at once.
    """

    name: str = ""
    """Shown in queue and metrics; by default the host."""
    url: Annotated[str, Field(pattern=r"^https?://[^/?#]+[^?#]*$")]
    """Of the DICOMweb service, for example `https://pacs/dicom-web`."""
    token_file: Path | None = None
    """File with a bearer token."""
    username: str | None = None
    password_file: Path | None = None
    certificate: Path | None = None
    """PEM file with a client certificate and its chain."""
    private_key: Path | None = None
    trusted_certificates: Path | None = None
    """PEM file of the authorities that may vouch for the server; by default the system's."""
    timeout: Seconds = 30.0
    """Seconds to wait for a connection or for an answer."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        return _with_name(values, lambda: urlsplit(str(values.get("url", ""))).hostname or "")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together")
        if self.username is not None and self.token_file is not None:
            raise ValueError("it has a token_file or a username, not both")
        return self


def _with_name(values: Any, otherwise: Callable[[], str]) -> Any:
    if isinstance(values, dict) and not values.get("name"):
        return values | {"name": otherwise()}
    return values


class Outlet(Section):
    """How results are delivered: what every destination has."""

    name: str = ""
    active: Annotated[bool, LIVE] = True
    """Whether anything is sent there; while not, results for it wait."""
    commitment: bool = False
    """Ask for storage commitment; without an answer look by query, and send again what is lost."""
    commitment_wait: Seconds = 60.0
    """Seconds for its report on a storage commitment."""
    linger: Annotated[float, Field(ge=0)] = 2.0
    """Seconds that an idle association is kept for the next result."""
    retry_first: Seconds = 15.0
    """Seconds before the second attempt; doubled each time, with jitter."""
    retry_longest: Seconds = 300.0
    retry_for: Seconds = 7 * 86400.0
    """Seconds until delivery is given up, visibly, as FAILED."""


class Destination(Outlet, DicomServer):
    """Where results go by C-STORE."""


class WebDestination(Outlet, WebServer):
    """Where results go by STOW-RS; with `commitment`, QIDO-RS says whether they are there."""


class Hl7(Outlet):
    """Where results go as HL7 v2.5.1 messages ORU^R01, over MLLP."""

    name: str = ""
    """Shown in queue and metrics; by default host and port."""
    host: str
    port: Port
    sending_application: str = "SINUSNODE"
    """MSH-3; the next three are MSH-4 to MSH-6."""
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    character_set: Literal["UNICODE UTF-8", "8859/1", "8859/2", "8859/15", "ASCII"] = (
        "UNICODE UTF-8"
    )
    """MSH-18."""
    pdf: bool = True
    """Whether the page goes along."""
    tls: bool = False
    """Speak TLS with the certificates of section `tls`."""
    tls_name: str | None = None
    """The name that its certificate must carry; by default the host."""
    timeout: Seconds = 30.0
    """Seconds to wait for a connection or for an answer."""
    commitment: Literal[False] = False

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        return _with_name(values, lambda: f"{values.get('host')}:{values.get('port')}")


class Fhir(Outlet, WebServer):
    """Where results go as FHIR R4 transactions: `url` is the base of the server."""

    commitment: Literal[False] = False


class Pace(Section):
    """How gently past ECGs are fetched: what every source has."""

    ecgs_per_minute: Annotated[float, Field(gt=0)] = 60.0
    reports_per_minute: Annotated[float, Field(gt=0)] = 6.0
    """Instead, where their results are delivered (`sinusnode backfill --report`)."""
    batch: Annotated[int, Field(ge=1, le=100)] = 10
    """ECGs asked for at a time."""
    window: Annotated[str, Field(pattern=_WINDOW)] | None = None
    """Local time of day in which they are fetched, for example `20:00-06:00`."""


class Source(Pace, DicomServer):
    """Where past ECGs are by C-FIND and C-MOVE; it must know this node as a move destination."""


class WebSource(Pace, WebServer):
    """Where past ECGs are by QIDO-RS and WADO-RS."""


def _either(values: Any) -> Any:
    """Refuse, in one sentence, what is neither a DICOM nor a DICOMweb server, or both."""
    if isinstance(values, dict):
        dicom = values.keys() & {"ae_title", "host", "port"}
        if bool(dicom) == ("url" in values):
            raise ValueError("it has either a url (DICOMweb), or ae_title, host and port (DICOM)")
    return values


def _kind(values: Any) -> str:
    web = "url" in values if isinstance(values, dict) else isinstance(values, WebServer)
    return "web" if web else "dicom"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dicom")] | Annotated[WebDestination, Tag("web")],
    Discriminator(_kind),
    BeforeValidator(_either),
]
AnySource = Annotated[
    Annotated[Source, Tag("dicom")] | Annotated[WebSource, Tag("web")],
    Discriminator(_kind),
    BeforeValidator(_either),
]


class Work(Section):
    """The worker processes and the limits of one attempt."""

    workers: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: os.cpu_count() or 1)
    memory: Bytes = 2 * 2**30
    """Address space of a worker, bytes."""
    wall_time: Seconds = 60.0
    """Seconds of one attempt; then the worker is killed and the attempt counted."""
    attempts: Annotated[int, Field(ge=1)] = 3
    """Attempts that may crash before the object is quarantined."""
    retry_after: Annotated[tuple[Seconds, ...], Field(min_length=1)] = (1.0, 30.0, 300.0)
    """Seconds before each further attempt."""


class Storage(Section):
    """The data folder: spool, ledger, model slots."""

    folder: Path = Path("sinusnode-data")
    database: str | None = None
    """SQLAlchemy URL; by default SQLite in the folder."""
    free_bytes: Annotated[int, Field(ge=0)] = 5 * 10**9
    """Watermark: below it new objects are refused with A700 (out of resources)."""
    free_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.10
    """Watermark as a share of the volume; the larger of the two counts."""


Days = Annotated[float, Field(ge=0)]


class Retention(Section):
    """For how many days bytes are kept; 0 keeps them for ever. What is known of an ECG stays."""

    source_days: Annotated[Days, LIVE, LONGER] = 0.0
    """Of received objects, from when every destination had committed to the results."""
    results_days: Annotated[Days, LIVE, LONGER] = 0.0
    """The same, of the results."""
    quarantine_days: Annotated[Days, LIVE, LONGER] = 0.0
    """Of what was set aside, from its last attempt."""


class Report(Section):
    """What is written for each ECG."""

    objects: tuple[Literal["sr", "pdf", "ecg", "sc", "tid1500", "annotation"], ...] = (
        "sr",
        "pdf",
        "ecg",
    )
    """Also: page one as a picture, measurements after TID 1500, a Waveform Annotation SR."""
    series_number_sr: int = 901
    series_number_pdf: int = 902
    series_number_ecg: int = 903
    series_number_sc: int = 904
    series_number_tid1500: int = 905
    series_number_annotation: int = 906
    content_qualification: Literal["RESEARCH", "SERVICE", "PRODUCT"] = "RESEARCH"
    qtc_formula: Literal["bazett", "fridericia", "framingham", "hodges"] = "fridericia"
    utc_offset: Annotated[str, Field(pattern=r"^[+-]\d{4}$")] = "+0000"
    """Of content dates, where the source states none (0008,0201)."""


class Archive(Section):
    """De-identified recordings that are kept for learning, below the data folder."""

    keep: bool = False
    """Whether any are."""
    site: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,16}$")] = "here"
    """A coarse code that is kept with each."""
    key_file: Path | None = None
    """Of the pseudonyms; by default `archive.key` in the data folder, made when first needed."""


class Models(Section):
    """Which model speaks first; promotion happens in the ledger."""

    initial: Path | None = None
    """A model package for a new data folder; by default the shipped 12-lead model."""
    speak: Annotated[bool, LIVE] = True
    """Whether models speak; `false` leaves measurements and criteria to what is received."""


class Training(Section):
    """Training runs: where they lie, and what one of them may take."""

    worker: bool = True
    """Whether `sinusnode run` keeps a train worker going, where the extra `train` is installed."""
    folder: Path | None = None
    """A folder for each run; by default `runs` in the data folder."""
    memory: Bytes = 16 * 2**30
    """Resident memory of a run, bytes; beyond it, the run fails."""
    wall_time: Seconds = 24 * 3600.0
    """Seconds of one attempt at a run; beyond them, the run fails."""
    nice: Annotated[int, Field(ge=0, le=19)] = 19
    """How far a run gives way to everything else on this machine."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Processor threads of a run."""
    lease: Seconds = 60.0
    """Seconds after which a run is taken up again whose worker died."""


class Ops(Section):
    """The management port: health, readiness, metrics. Not the clinical port."""

    host: str = "127.0.0.1"
    port: Port = 8104


class Stow(Section):
    """STOW-RS in, at the management port; off without a token.

    On loopback alone, or behind a proxy that speaks TLS: the token crosses the wire as it is.
    """

    token: SecretStr | None = None
    """What a caller shows as its bearer token, at least 16 characters."""
    token_file: Path | None = None
    """The file that holds it instead; a renewed one counts at once."""
    maximum_body: Bytes = 256 * 2**20
    """Bytes of one request; each object is bounded by `dicom.maximum_object`."""
    maximum_parts: Annotated[int, Field(ge=1)] = 200
    """Objects of one request."""
    maximum_requests: Annotated[int, Field(ge=1)] = 4
    """At a time; more are told to come again."""
    deadline: Seconds = 120.0
    """Seconds for one request."""

    @property
    def enabled(self) -> bool:
        """Return whether there is a token."""
        return self.token is not None or self.token_file is not None

    @field_validator("token")
    @classmethod
    def _is_long(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < _TOKEN_LENGTH:
            raise ValueError(f"a token has at least {_TOKEN_LENGTH} characters")
        return token


class Role(StrEnum):
    """What somebody may do in the admin service; none includes another (RELIABILITY §5)."""

    VIEWER = "viewer"
    """Queue, states and counts; no patient data."""
    OPERATOR = "operator"
    """Identified recordings; retry, release from quarantine."""
    REVIEWER = "reviewer"
    """Pseudonymous recordings and their labels."""
    TRAINER = "trainer"
    """Pseudonymous recordings; plans, runs and candidate models."""
    ADMIN = "admin"
    """Models in service, users, keys, settings and the audit trail."""


class Admin(Section):
    """The admin service: an API and pages, in a process of its own."""

    host: str = "127.0.0.1"
    """Address to bind; any but loopback needs a certificate."""
    port: Port = 8105
    companion: bool = True
    """Whether `sinusnode run` keeps it going beside the node."""
    certificate: Path | None = None
    """PEM file with the certificate and chain: with it, the service speaks TLS alone."""
    private_key: Path | None = None
    names: tuple[str, ...] = ()
    """Further host names that it answers to, beside `host` and this machine's own."""
    corpus: Path | None = None
    """Folder of the corpus; by default `corpus` in the data folder."""
    session_idle: Seconds = 3600.0
    """Seconds without a request after which a session ends."""
    session_longest: Seconds = 12 * 3600.0
    key_days: Annotated[int, Field(ge=1, le=365)] = 90
    """Days that an API key lasts where nobody says; at most 365."""
    failures_per_address: Annotated[int, Field(ge=1)] = 5
    """Failed sign-ins within a minute from one address; then it is locked out."""
    failures_per_account: Annotated[int, Field(ge=1)] = 20
    """The same for one account or key, from anywhere."""
    lock_out: Seconds = 300.0
    """Seconds of a lock-out."""
    requests_per_minute: Annotated[int, Field(ge=1), LIVE] = 1200
    """Of one account or key; more are told to come again."""
    maximum_body: Bytes = 2 * 2**20
    """Bytes of one request."""
    maximum_upload: Bytes = 512 * 2**20
    """Bytes of one request that brings files or a model."""
    deadline: Seconds = 120.0
    """Seconds for the body of one request."""

    @model_validator(mode="after")
    def _is_closed_or_secret(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together")
        if self.certificate is None and self.host not in LOOPBACK:
            raise ValueError(
                f"the admin service would be open on {self.host} without TLS: name certificate and "
                "private_key, or bind 127.0.0.1"
            )
        return self


class Oidc(Section):
    """Sign-in to the admin service by an OpenID Connect provider; off without an issuer."""

    issuer: Annotated[
        str,
        Field(pattern=r"^(https://[^/?#]+[^?#]*|http://(127\.0\.0\.1|localhost)(:\d+)?[^?#]*)?$"),
    ] = ""
    """Its address, for example `https://login.hospital/realms/cardiology`."""
    client_id: str = "sinusnode"
    client_secret_file: Path | None = None
    name_claim: str = "preferred_username"
    """What the audit trail calls somebody."""
    roles_claim: str = "roles"
    roles: dict[str, tuple[Role, ...]] = {}
    """Our roles by each value of that claim; what is not named gives none."""
    trusted_certificates: Path | None = None
    """PEM file of the authorities that may vouch for it; by default the system's."""


class Syslog(Section):
    """Where the admin service sends audit messages, by RFC 5424 over TCP; off without a host."""

    host: str = ""
    port: Port = 6514
    tls: bool = True
    """Over TLS (RFC 5425); without it only within a network that nobody else reads."""
    trusted_certificates: Path | None = None
    """PEM file of the authorities that may vouch for the server; by default the system's."""
    timeout: Seconds = 10.0
    """Seconds to wait for it."""


class Drift(Section):
    """From when on the admin service says that what comes in has changed."""

    significance: Annotated[float, Field(gt=0, lt=1), LIVE] = 0.001
    """Level of the tests, all questions together."""
    share: Annotated[float, Field(gt=0, le=1), LIVE] = 0.05
    """Change of a share that is worth a sentence."""


class Exchange(WebServer):
    """A WebDAV server where sites exchange models."""

    signing_key: Path | None = None
    """PEM file with an Ed25519 key that signs what is pushed."""
    trusted_keys: tuple[Path, ...] = ()
    """PEM files of the public keys whose models are taken; without any, the digest alone counts."""
    maximum_model: Bytes = 512 * 2**20
    """Bytes of one model."""


class Log(Section):
    """Structured logs on standard error; never patient data."""

    level: Annotated[Literal["debug", "info", "warning", "error"], LIVE] = "info"
    json_lines: bool = False
    """JSON lines; otherwise, and on a terminal, text."""


class Route(Section):
    """Which results of which ECGs are made, and where they go; the first route that fits counts.

    An ECG that fits none goes everywhere and is classified.
    """

    calling_ae_title: str = "*"
    """Of who sent it; `*` and `?` stand for any characters, as in all patterns here."""
    device: str = "*"
    """Manufacturer's Model Name (0008,1090)."""
    department: str = "*"
    """Institutional Department Name (0008,1040)."""
    destinations: tuple[str, ...] | None = None
    """Names under `destinations`, `hl7` and `fhir`; by default all, `[]` for none."""
    classify: bool = True
    """Whether models speak; `false` leaves measurements and criteria."""


class Settings(BaseSettings):
    """Everything, frozen."""

    model_config = SettingsConfigDict(
        env_prefix="SINUSNODE__",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    dicom: Dicom = Dicom()
    tls: Tls = Tls()
    destinations: tuple[AnyDestination, ...] = ()
    hl7: tuple[Hl7, ...] = ()
    fhir: tuple[Fhir, ...] = ()
    routes: tuple[Route, ...] = ()
    sources: tuple[AnySource, ...] = ()
    storage: Storage = Storage()
    work: Work = Work()
    retention: Retention = Retention()
    report: Report = Report()
    archive: Archive = Archive()
    models: Models = Models()
    training: Training = Training()
    ops: Ops = Ops()
    stow: Stow = Stow()
    admin: Admin = Admin()
    oidc: Oidc = Oidc()
    syslog: Syslog = Syslog()
    drift: Drift = Drift()
    exchanges: tuple[Exchange, ...] = ()
    log: Log = Log()

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        for what, servers in (("destinations", self.outlets), ("sources", self.sources)):
            names = [server.name for server in servers]
            if len(set(names)) != len(names):
                raise ValueError(f"two {what} have the same name")
        return self

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        known = {outlet.name for outlet in self.outlets}
        named = {name for route in self.routes for name in route.destinations or ()}
        if unknown := sorted(named - known):
            raise ValueError(f"a route leads to {unknown[0]}, which is no destination")
        return self

    @model_validator(mode="after")
    def _tls_has_certificates(self) -> Self:
        servers = (*self.outlets, *self.sources)
        if not self.tls.enabled and any(getattr(server, "tls", False) for server in servers):
            raise ValueError(
                "a destination or source speaks TLS, and section tls names no certificate"
            )
        if not self.tls.enabled and not self.dicom.plain:
            raise ValueError("dicom.plain is false, and section tls names no certificate")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - own folder below
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the strongest first."""
        return (
            init_settings,
            *_secrets(),
            env_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=_config_file()),
        )

    @property
    def outlets(self) -> tuple[AnyDestination | Hl7 | Fhir, ...]:
        """Return every place where results go."""
        return (*self.destinations, *self.hl7, *self.fhir)

    @property
    def runs_folder(self) -> Path:
        """Return the folder that holds a folder for each training run."""
        return self.training.folder or self.storage.folder / "runs"

    @property
    def ledger_file(self) -> Path:
        """Return the ledger's file, where it is no other database."""
        return self.storage.folder / "ledger.sqlite"

    @property
    def database_url(self) -> str:
        """Return the ledger's SQLAlchemy URL."""
        return self.storage.database or f"sqlite:///{self.ledger_file}"


def _config_file() -> Path:
    return Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))


def load(config: Path | None = None) -> Settings:
    """Return the settings of this process; the only place where they are read.

    Raises
    ------
    FileNotFoundError
        If a file was named and does not exist.
    pydantic.ValidationError
        If a value or key is wrong; it names the key.
    """
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    path = _config_file()
    if path != DEFAULT_CONFIG and not path.is_file():
        raise FileNotFoundError(f"the settings file {path} does not exist")
    return Settings(**_unknown_sections())


def origins() -> dict[str, str]:
    """Return where each stated value comes from, by its dotted key; what is absent is a default."""
    return {
        key: name
        for name, source in (
            ("file", TomlConfigSettingsSource(Settings, toml_file=_config_file())),
            ("environment", EnvSettingsSource(Settings)),
            *(("secret", item) for item in _secrets()),
        )
        for key in leaves(source())
    }


def leaves(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested document by their dotted keys; lists stay whole."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _secrets() -> tuple[PydanticBaseSettingsSource, ...]:
    return (SecretsSettingsSource(Settings, secrets_dir=SECRETS),) if SECRETS.is_dir() else ()


def _unknown_sections() -> dict[str, Any]:
    """Return what the environment sets outside every section, for the model to refuse by name."""
    prefix = Settings.model_config["env_prefix"]
    names = (name.removeprefix(prefix) for name in os.environ if name.startswith(prefix))
    sections = {name.split("__")[0].lower() for name in names}
    return dict.fromkeys(sections - Settings.model_fields.keys())
