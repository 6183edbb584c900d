"""Models between sites, by way of a WebDAV server (RFC 4918) that neither has to trust.

A model lies there as `NAME.onnx`, with `NAME.json` beside it: digest, size, name, version and,
where the site that pushed it has a key, an Ed25519 signature (RFC 8032) of the digest. What is
pulled counts only if its bytes have that digest; where the settings name keys that are trusted,
one of them must have signed it. A file without such a description, as ExChanGeAI leaves them, is
taken by its bytes alone, and only where no key is asked for.

No patient data is in a model package, and nothing else is pushed.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit
from xml.etree.ElementTree import ParseError

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from dicom_node.dicomweb import Client, body_of
from dicom_node.link import Rejected, Unanswered, Unreachable
from dicom_node.settings import Exchange

SUFFIX: Final = ".onnx"
_ABOUT: Final = ".json"
_PART: Final = ".part"
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,119}\.onnx")
_NOT_SAFE: Final = re.compile(r"[^A-Za-z0-9._+-]+")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LISTING: Final = 8 * 2**20  # bytes
_DESCRIPTION: Final = 64 * 1024  # bytes
_MOST: Final = 500
"""Models that a listing tells of."""
_DAV: Final = "{DAV:}"
_ASK: Final = (
    b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getcontentlength/></prop></propfind>'
)
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)
_SIGNED: Final = b"sinusnode model 1\n"


class Refused(ValueError):
    """What is on the server is not what it should be; the message is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What lies beside a model, as the site says that pushed it."""

    digest: str
    """SHA-256 of the file, hexadecimal."""
    size: int
    """Bytes."""
    name: str
    version: str
    signature: str = ""
    """Base64; empty where nobody signed."""

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the description that :meth:`to_json` wrote. Raises Refused on anything else."""
        try:
            document = json.loads(text)
            found = cls(**{name: document[name] for name in cls.__dataclass_fields__})
            texts = (found.digest, found.name, found.version, found.signature)
            well = all(isinstance(item, str) for item in texts) and _DIGEST.fullmatch(found.digest)
        except (ValueError, TypeError, KeyError, RecursionError):
            well = None
        if not well or type(found.size) is not int or not found.size > 0:
            raise Refused("Its description cannot be read.")
        return found

    def to_json(self) -> bytes:
        """Return the stored form."""
        return json.dumps({"schema": 1, **asdict(self)}, indent=1).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One model on a server."""

    file: str
    size: int | None
    """Bytes, as the server says."""
    description: Description | None
    """None where there is none, or none that can be read."""
    signed_by: str | None
    """Fingerprint of the trusted key that signed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A model that was fetched and is what its description says."""

    content: bytes
    digest: str
    signed_by: str | None
    resumed: int
    """Bytes that were there from an earlier attempt."""


class Shelf(Client):
    """The models on one WebDAV server; keeps its connection until closed.

    Parameters
    ----------
    server
        Its address, our credentials and the keys.

    Raises
    ------
    Refused
        If a key of the settings cannot be read.
    """

    def __init__(self, server: Exchange) -> None:
        super().__init__(server)
        self._exchange = server
        self._trusted = {_fingerprint(key): key for key in map(_public, server.trusted_keys)}

    # What is there

    def list(self) -> tuple[Offer, ...]:
        """Return every model with what is said of it.

        Raises
        ------
        Unreachable
            If the server does not answer, or not with a listing.
        """
        sizes = self._sizes()
        names = sorted(name for name in sizes if _SAFE_NAME.fullmatch(name))[:_MOST]
        return tuple(self._offer(name, sizes) for name in names)

    def _offer(self, name: str, sizes: Mapping[str, int | None]) -> Offer:
        about = None
        if _beside(name) in sizes:
            try:
                about = self._description(name)
            except Refused:
                about = None
        signer = self._signer(about) if about else None
        return Offer(file=name, size=sizes[name], description=about, signed_by=signer)

    def _sizes(self) -> dict[str, int | None]:
        """Return the size that the server states of each file of the folder (RFC 4918 §9.1)."""
        headers = {"Depth": "1", "Content-Type": "application/xml"}
        with self._answer("PROPFIND", "/", content=_ASK, headers=headers) as answer:
            if answer.status_code != HTTPStatus.MULTI_STATUS:
                raise self._wrong(answer)
            body = body_of(answer, _LISTING)
        try:
            return dict(_listed(body))
        except (ParseError, DefusedXmlException, ValueError):
            raise Unanswered(f"{self._exchange.name} sends no WebDAV listing") from None

    def _description(self, name: str) -> Description:
        with self._answer("GET", _path(_beside(name))) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise Refused("It has no description.")
            return Description.from_json(body_of(answer, _DESCRIPTION))

    # There and back

    def push(self, content: bytes, name: str, version: str) -> Offer:
        """Return the model as it lies there now; one that is there already is not sent again.

        It is sent under another name, its size is asked for, and only then it gets its own.

        Raises
        ------
        Refused
            If another model has that place, or the server did not keep it whole.
        Unreachable
            If the server does not answer, or does not take it.
        """
        about = self._described(content, name, version)
        file = f"{_NOT_SAFE.sub('-', f'{name}-{version}')[:80]}-{about.digest[:12]}{SUFFIX}"
        if not self._is_there(file, about):
            draft = f"{file}.{secrets.token_hex(4)}{_PART}"
            self._expect_done("PUT", draft, content=content)
            if self._sizes().get(draft) not in {None, len(content)}:
                self._expect_done("DELETE", draft)
                raise Refused(f"{self._exchange.name} did not keep the whole file.")
            target = {"Destination": self._address(file), "Overwrite": "T"}
            self._expect_done("MOVE", draft, headers=target)
            self._expect_done("PUT", _beside(file), content=about.to_json())
        return Offer(file=file, size=about.size, description=about, signed_by=self._signer(about))

    def _described(self, content: bytes, name: str, version: str) -> Description:
        digest = hashlib.sha256(content).hexdigest()
        signature = ""
        if self._exchange.signing_key is not None:
            key = _private(self._exchange.signing_key)
            signature = base64.b64encode(key.sign(_SIGNED + digest.encode())).decode()
        return Description(
            digest=digest, size=len(content), name=name, version=version, signature=signature
        )

    def _is_there(self, file: str, about: Description) -> bool:
        sizes = self._sizes()
        if sizes.get(file) != about.size or _beside(file) not in sizes:
            return False
        try:
            return self._description(file) == about
        except Refused:
            return False

    def pull(self, file: str, folder: Path) -> Pulled:
        """Return a model, fetched from where an earlier attempt ended, and found to be whole.

        Parameters
        ----------
        file
            As :meth:`list` calls it.
        folder
            Where what has come so far is kept until all is there.

        Raises
        ------
        Refused
            If it is too large, or not what its description says.
        Unreachable
            If the server goes away; what came is kept for the next attempt.
        """
        about = self._about(file)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{about.digest if about else secrets.token_hex(8)}{_PART}"
        resumed = part.stat().st_size if part.exists() else 0
        self._fetch(file, part, self._room(about))
        if about is not None and (have := part.stat().st_size) < about.size:
            raise Unanswered(
                f"{self._exchange.name} went away after {have} of {about.size} bytes; "
                "the next attempt goes on from there"
            )
        content = part.read_bytes()
        part.unlink()
        signer = self._judge(content, about)
        digest = hashlib.sha256(content).hexdigest()
        return Pulled(content=content, digest=digest, signed_by=signer, resumed=resumed)

    def verify(self, file: str) -> str:
        """Return the digest of a model on the server, whose bytes were read and found right.

        Raises
        ------
        Refused
            If they are not what the description says, or there is none.
        Unreachable
            If the server does not answer.
        """
        about = self._about(file)
        if about is None:
            raise Refused("It has no description to hold it against.")
        found, size = hashlib.sha256(), 0
        headers = {"Accept-Encoding": "identity"}
        with self._answer("GET", _path(file), headers=headers) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise self._wrong(answer)
            for chunk in answer.iter_raw():
                size += len(chunk)
                self._bound(size, self._room(about))
                found.update(chunk)
        self._compare(found.hexdigest(), size, about)
        self._signed(about)
        return about.digest

    def _about(self, file: str) -> Description | None:
        """Return the description of a file; None where it has none and none is needed."""
        if not _SAFE_NAME.fullmatch(file):
            raise Refused("This is no name of a model.")
        if _beside(file) not in self._sizes():
            if self._trusted:
                raise Refused("Nobody signed it, and the settings ask for a trusted signature.")
            return None
        about = self._description(file)
        self._signed(about)
        return about

    def _room(self, about: Description | None) -> int:
        most = self._exchange.maximum_model
        if about is not None and about.size > most:
            raise Refused(f"It has {about.size} bytes; at most {most} are taken.")
        return about.size if about else most

    def _fetch(self, file: str, part: Path, room: int) -> None:
        """Bring the file to where an earlier attempt left off; start anew where that is refused."""
        have = part.stat().st_size if part.exists() else 0
        if have and have >= room:
            if have > room:
                part.unlink()
                self._fetch(file, part, room)
            return
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with self._answer("GET", _path(file), headers=headers) as answer:
            begun = answer.status_code == HTTPStatus.PARTIAL_CONTENT and _starts_at(answer, have)
            if not begun and answer.status_code != HTTPStatus.OK:
                part.unlink(missing_ok=True)
                raise self._wrong(answer)
            size = have if begun else 0
            with part.open("ab" if begun else "wb") as out:
                for chunk in answer.iter_raw():
                    size += len(chunk)
                    self._bound(size, room, part)
                    out.write(chunk)

    def _bound(self, size: int, room: int, part: Path | None = None) -> None:
        if size > room:
            if part is not None:
                part.unlink(missing_ok=True)
            raise Refused(f"{self._exchange.name} sends more than it said: over {room} bytes.")

    # Whether it is right

    def _judge(self, content: bytes, about: Description | None) -> str | None:
        if about is None:
            return None
        self._compare(hashlib.sha256(content).hexdigest(), len(content), about)
        return self._signer(about)

    def _compare(self, digest: str, size: int, about: Description) -> None:
        if size != about.size:
            raise Refused(
                f"{self._exchange.name} sent {size} bytes, and its description says {about.size}."
            )
        if digest != about.digest:
            raise Refused("Its bytes are not those that were described: the digest differs.")

    def _signed(self, about: Description) -> None:
        if self._trusted and self._signer(about) is None:
            raise Refused("No key that the settings trust has signed it.")

    def _signer(self, about: Description) -> str | None:
        """Return the fingerprint of the trusted key that signed a description."""
        try:
            signature = base64.b64decode(about.signature, validate=True)
        except ValueError:
            return None
        for fingerprint, key in self._trusted.items():
            try:
                key.verify(signature, _SIGNED + about.digest.encode())
            except InvalidSignature:
                continue
            return fingerprint
        return None

    # Requests

    def _address(self, name: str) -> str:
        return self._exchange.url.rstrip("/") + _path(name)

    def _expect_done(self, method: str, name: str, **how: Any) -> None:
        with self._answer(method, _path(name), **how) as answer:
            if answer.status_code not in _DONE:
                raise self._wrong(answer)

    def _wrong(self, answer: httpx.Response) -> Unreachable:
        status, name = answer.status_code, self._exchange.name
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return Rejected(f"{name} refuses our credentials (HTTP {status})", permanent=True)
        if status == HTTPStatus.NOT_FOUND:
            return Unanswered(f"{name} has no such file or folder", status)
        return Unanswered(f"{name} answers HTTP {status}", status)


def _listed(body: bytes) -> Iterator[tuple[str, int | None]]:
    """Yield name and size of each member of a multi-status answer (RFC 4918 §13)."""
    root = fromstring(body)
    if root.tag != f"{_DAV}multistatus":
        raise ValueError("no multistatus")
    for item in root.iter(f"{_DAV}response"):
        path = urlsplit(item.findtext(f"{_DAV}href", "")).path
        name = unquote(path.rsplit("/", 1)[-1])
        size = item.findtext(f".//{_DAV}getcontentlength") or ""
        if name:
            yield name, int(size) if size.isdecimal() else None


def _path(name: str) -> str:
    return f"/{quote(name)}"


def _beside(name: str) -> str:
    return name.removesuffix(SUFFIX) + _ABOUT


def _starts_at(answer: httpx.Response, have: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


# Keys


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Refused(f"{path} holds no public Ed25519 key.")
    return key


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Refused(f"{path} holds no private Ed25519 key without a password.")
    return key


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
