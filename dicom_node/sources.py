"""Where past ECGs are: the same questions by C-FIND and C-MOVE, and by QIDO-RS and WADO-RS.

Days, then studies, series and objects are asked for one level after the other, as every server
can answer; the patient is never asked for. Whatever narrows them further is judged here, for few
servers match it alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from io import BytesIO
from itertools import groupby
from typing import Final, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.backfills import Place
from dicom_node.check import Known
from dicom_node.commitment import STUDY_ROOT_FIND, STUDY_ROOT_MOVE
from dicom_node.dicomweb import IMAGE, SERIES, STUDY, Client, File, NoFile, opened
from dicom_node.link import (
    Address,
    Link,
    NothingAccepted,
    Rejected,
    Unanswered,
    Unreachable,
    connect,
)
from dicom_node.receive import WAVEFORMS
from dicom_node.report.annotated import DESCRIPTION
from dicom_node.report.objects import PRODUCT, UNREADABLE
from dicom_node.report.uids import is_uid
from dicom_node.scu import encoded
from dicom_node.settings import Source
from dicom_node.tls import Secure

ECG: Final = "ECG"
"""Modality (0008,0060)."""

FILTERS: Final = ("StationName", "ManufacturerModelName", "RetrieveAETitle")
"""What a back-fill may be narrowed by, beside the study date."""


_FOR_GOOD: Final = (0x0122, 0x0124, 0xA801)
"""SOP class not supported, not authorised, move destination unknown (PS3.4 §C.4.2.1.5)."""
_ONE_OBJECT: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.GONE)


def is_for_good(error: Unreachable) -> bool:
    """Return whether a failure of an archive is one that time does not mend."""
    if isinstance(error, Unanswered):
        status = error.status or 0
        return status in _FOR_GOOD or status // 100 == HTTPStatus.BAD_REQUEST // 100
    return isinstance(error, NothingAccepted) or (isinstance(error, Rejected) and error.permanent)


class Archive(Protocol):
    """A place that holds past ECGs. Its methods raise `Unreachable` where it does not answer."""

    def search(self, level: str, **keys: str) -> Iterator[Dataset]:
        """Yield what matches; the empty keys are only to be returned."""
        ...

    def fetch(self, places: Sequence[Place]) -> None:
        """Have these objects sent to this node; which came is seen in the ledger."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(slots=True)
class Looked:
    """What one day holds."""

    found: list[Place]
    skipped: int = 0
    """Series that hold no ECG of a cart, or not one that is asked for."""


def look(archive: Archive, day: str, filters: Mapping[str, str]) -> Looked:
    """Return the ECGs of one study date (YYYYMMDD).

    Raises
    ------
    Unreachable
        If the archive does not answer.
    """
    looked = Looked([])
    studies = archive.search(STUDY, StudyDate=day, ModalitiesInStudy=ECG, StudyInstanceUID="")
    for study in list(studies):
        if ECG in _words(study, "ModalitiesInStudy", ECG) and _uid(study, "StudyInstanceUID"):
            _look_at_study(archive, _uid(study, "StudyInstanceUID"), filters, looked)
        else:
            looked.skipped += 1
    return looked


def _look_at_study(
    archive: Archive, study: str, filters: Mapping[str, str], looked: Looked
) -> None:
    asked = dict.fromkeys((*FILTERS, "SeriesInstanceUID", "SeriesDescription"), "")
    series = archive.search(SERIES, StudyInstanceUID=study, Modality=ECG, **asked)
    for item in list(series):
        uid = _uid(item, "SeriesInstanceUID")
        places = _of_series(archive, study, uid) if uid and _is_wanted(item, filters) else []
        looked.found += places
        looked.skipped += not places


def _of_series(archive: Archive, study: str, series: str) -> list[Place]:
    images = archive.search(
        IMAGE,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        SOPInstanceUID="",
        SOPClassUID="",
    )
    return [
        Place(study, series, uid)
        for image in images
        if (uid := _uid(image, "SOPInstanceUID"))
        and str(image.get("SOPClassUID") or WAVEFORMS[0]) in WAVEFORMS
    ]


def _is_wanted(series: Dataset, filters: Mapping[str, str]) -> bool:
    """Return whether a series is of a cart, as far as it says, and of one that is asked for."""
    own = (
        _word(series, "SeriesDescription") == DESCRIPTION
        or _word(series, "ManufacturerModelName").casefold() == PRODUCT.casefold()
    )
    named = all(fnmatchcase(_word(series, key), value) for key, value in filters.items())
    return not own and named and _word(series, "Modality") in ("", ECG)


def _words(item: Dataset, keyword: str, otherwise: str) -> list[str]:
    value = item.get(keyword) or otherwise
    return [value] if isinstance(value, str) else [str(word) for word in value]


def _word(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "").strip(" \0")


def _uid(item: Dataset, keyword: str) -> str:
    """Return a UID, or "" where there is none: an answer's words reach no path unseen."""
    value = _word(item, keyword)
    return value if is_uid(value) else ""


class DicomArchive:
    """A PACS, by C-FIND and C-MOVE on one association.

    Parameters
    ----------
    source
        Its address.
    node_ae
        This node's AE title: the move destination, and our name unless the source has another.
    secure
        Turns the connection into TLS.
    """

    def __init__(self, source: Source, node_ae: str, secure: Secure | None) -> None:
        self._source = source
        self._node_ae = node_ae
        self._secure = secure
        self._link: Link | None = None

    def search(self, level: str, **keys: str) -> Iterator[Dataset]:
        """Yield what matches a C-FIND identifier (PS3.4 §C.4.1)."""
        return self._connected().find(STUDY_ROOT_FIND, _identifier(level, **keys))

    def fetch(self, places: Sequence[Place]) -> None:
        """Have objects moved to this node, one C-MOVE for each series (PS3.4 §C.4.2).

        Raises
        ------
        Unreachable
            If not one of them succeeds, or the association breaks.
        """
        refusals, moves = [], 0
        in_series = sorted(places, key=_series_of)
        for (study, series), group in groupby(in_series, _series_of):
            identifier = _identifier(IMAGE, StudyInstanceUID=study, SeriesInstanceUID=series)
            identifier.SOPInstanceUID = [place.sop_instance_uid for place in group]
            moves += 1
            refusals += self._refusals(identifier)
        if refusals and len(refusals) == moves:
            raise Unanswered(
                f"{self._source.name} moves nothing here ({refusals[0]}): is {self._node_ae} "
                "registered there with this node's host and port?",
                refusals[0].status,
            )

    def _refusals(self, identifier: Dataset) -> list[Unanswered]:
        """Return why a C-MOVE was refused, if it was."""
        try:
            for _ in self._connected().move(STUDY_ROOT_MOVE, self._node_ae, identifier):
                pass
        except Unanswered as error:
            if error.status is None:
                raise
            return [error]
        return []

    def close(self) -> None:
        """Release the association."""
        if self._link is not None:
            self._link.release()
        self._link = None

    def _connected(self) -> Link:
        if self._link is None or not self._link.established:
            here = self._source.calling_ae_title or self._node_ae
            where = Address(self._source.ae_title, self._source.host, self._source.port)
            classes = (STUDY_ROOT_FIND, STUDY_ROOT_MOVE)
            self._link = connect(where, here, classes, self._source.timeout, self._secure)
        missing = {STUDY_ROOT_FIND, STUDY_ROOT_MOVE} - self._link.accepted.keys()
        if missing:
            raise Unanswered(f"{self._source.name} does not offer C-FIND and C-MOVE", 0x0122)
        return self._link


def _series_of(place: Place) -> tuple[str, str]:
    return place.study_instance_uid, place.series_instance_uid


def _identifier(level: str, **keys: str) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


class WebArchive:
    """A DICOMweb server, by QIDO-RS and WADO-RS.

    What is retrieved goes to the node's own port, as a C-MOVE would bring it: one way in.

    Parameters
    ----------
    client
        Of the server.
    node
        This node, as its callers see it.
    largest
        Bytes of one object.
    timeout
        Seconds that the node is waited for.
    """

    def __init__(self, client: Client, node: Known, largest: int, timeout: float) -> None:
        self._client = client
        self._node = node
        self._largest = largest
        self._timeout = timeout
        self._link: Link | None = None

    def search(self, level: str, **keys: str) -> Iterator[Dataset]:
        """Yield what matches a QIDO-RS query."""
        return self._client.search(level, **keys)

    def fetch(self, places: Sequence[Place]) -> None:
        """Retrieve objects, and store them to this node one by one."""
        for place in places:
            try:
                data = self._client.retrieve(
                    place.study_instance_uid,
                    place.series_instance_uid,
                    place.sop_instance_uid,
                    self._largest,
                )
                self._pass_on(opened(data), data)
            except NoFile:
                continue  # it does not arrive, and counts as missed; so does the next
            except Unanswered as error:
                if error.status not in _ONE_OBJECT:
                    raise

    def close(self) -> None:
        """Let go of both connections."""
        self._client.close()
        if self._link is not None:
            self._link.release()
        self._link = None

    def _pass_on(self, file: File, data: bytes) -> None:
        link = self._connected()
        context = link.accepted.get(file.sop_class_uid)
        if context is None:
            return
        data_set = file.data_set
        if context.transfer_syntax[0] != file.transfer_syntax:
            try:
                data_set = encoded(dcmread(BytesIO(data)), context)
            except UNREADABLE:
                return
        originator = self._node.calling_ae
        if link.store(file.sop_class_uid, file.sop_instance_uid, data_set, originator) is None:
            raise Unanswered("this node stopped answering")

    def _connected(self) -> Link:
        if self._link is None or not self._link.established:
            node = self._node
            self._link = connect(
                node.address, node.calling_ae, WAVEFORMS, self._timeout, node.secure
            )
        return self._link
