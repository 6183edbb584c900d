"""Everything that is asked of the results of one source: validators, our checker, round trips."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pydicom
import validators
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from varied_inputs import Input, results_of, source_of

from analysis.errors import Undecodable
from dicom_node.deliver import RESULTS
from dicom_node.link import Address, connect
from dicom_node.offline import Unusable
from dicom_node.pipeline import Quarantined
from dicom_node.reasons import Quarantine
from dicom_node.report import ResultObject, Role, check
from dicom_node.report.part10 import data_set
from dicom_node.report.shell import MAY_BE_EMPTY

JUDGES = ("dciodvfy", "dsrdump", "dcentvfy", "checker", "pydicom", "Orthanc")
REPORTS = (Role.SR, Role.TID1500, Role.ANNOTATION)


@dataclass(frozen=True, slots=True)
class Archive:
    """An Orthanc to send results to and to fetch them from."""

    address: Address
    url: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one input."""

    group: str
    name: str
    objects: tuple[str, ...] = ()
    """Their SOP Instance UIDs."""
    refused: str = ""
    """Why there are none, where the source holds no ECG that can be reported."""
    complaints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By judge; an empty mapping means that all is well."""
    excused: Counter[str] = field(default_factory=Counter)
    """False positives, by their words."""


def judge(item: Input, archive: Archive | None) -> Verdict:
    """Return what becomes of an input; the archive is optional."""
    try:
        data = source_of(item)
        made = results_of(item, data)
    except Quarantined as end:
        if end.reason == Quarantine.CHECKER:
            return Verdict(item.group, item.name, complaints={"checker": (end.message,)})
        return Verdict(item.group, item.name, refused=end.reason)
    except Undecodable as end:
        return Verdict(item.group, item.name, refused=end.reason)
    except Unusable as end:
        return Verdict(item.group, item.name, refused=str(end))
    return _judged(item, data, made, archive)


def _judged(
    item: Input, data: bytes, made: Sequence[ResultObject], archive: Archive | None
) -> Verdict:
    complaints: dict[str, tuple[str, ...]] = {
        "checker": tuple(fault for one in made for fault in check(parse(one.data))),
        "Orthanc": tuple(_not_archived(made, archive)) if archive else (),
    }
    excused: Counter[str] = Counter()
    for program, said in _said(data, made):
        lines = validators.complaints(program, said)
        complaints[program] = (*complaints.get(program, ()), *lines)
        known = (validators.excuse(program, line) for line in said.splitlines())
        excused.update(f"{found.program}: {found.words}" for found in known if found)
    return Verdict(
        item.group,
        item.name,
        objects=tuple(one.sop_instance_uid for one in made),
        complaints={judge: lines for judge, lines in complaints.items() if lines},
        excused=excused,
    )


def _said(data: bytes, made: Sequence[ResultObject]) -> Iterator[tuple[str, str]]:
    """Yield each validator and what it says."""
    yield "pydicom", "\n".join(_not_rewritten(made))
    with TemporaryDirectory() as folder:
        source = _written(folder, "source", data)
        for one in made:
            path = _written(folder, one.role, _renamed(one.data, validators.STAND_INS[:1]))
            yield "dciodvfy", validators.attributes(path, source)
        paths = [_written(folder, one.role, _renamed(one.data)) for one in made]
        for one, path in zip(made, paths, strict=True):
            if one.role in REPORTS:
                yield "dsrdump", validators.content_tree(path)
        whole = _written(folder, "whole", _renamed(_comparable(data)))
        yield "dcentvfy", validators.entities([whole, *paths])


def _written(folder: str, name: str, data: bytes) -> Path:
    path = Path(folder, f"{name}.dcm")
    path.write_bytes(data)
    return path


def _renamed(data: bytes, stand_ins: Sequence[tuple[str, str]] = validators.STAND_INS) -> bytes:
    """Return an object, and what it refers to, under classes that the validators know."""
    for unknown, known in stand_ins:
        data = data.replace(unknown.encode(), known.encode())
    return data


def _comparable(data: bytes) -> bytes:
    """Return a source as dcentvfy can compare it: not deflated, and with what type 2 asks for."""
    dataset = parse(data)
    lacking = [keyword for keyword in MAY_BE_EMPTY if keyword not in dataset]
    if not lacking and dataset.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return data
    for keyword in lacking:
        setattr(dataset, keyword, "")
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return _rewritten(dataset)


def _rewritten(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def parse(data: bytes) -> Dataset:
    """Return a file's data set."""
    return pydicom.dcmread(BytesIO(data))


def _not_rewritten(made: Sequence[ResultObject]) -> Iterator[str]:
    """Yield the objects that pydicom, once it has read every value, writes differently."""
    for one in made:
        again = _rewritten(_decoded(one.data))
        if again == one.data:
            continue
        same = parse(again) == parse(one.data) and _rewritten(_decoded(again)) == again
        yield f"{one.role} is {'padded' if same else 'written'} differently"


def _decoded(data: bytes) -> Dataset:
    dataset = parse(data)
    dataset.walk(lambda _, __: None)
    return dataset


def _not_archived(made: Sequence[ResultObject], archive: Archive) -> Iterator[str]:
    """Yield the objects that Orthanc does not take, or gives back differently."""
    link = connect(archive.address, "SINUSNODE", RESULTS, 60.0)
    try:
        for one in made:
            status = link.store(one.sop_class_uid, one.sop_instance_uid, data_set(one.data))
            if status != 0:
                yield f"{one.role} is answered with {status}"
            elif not _is_equal(_fetched(one.sop_instance_uid, archive), one.data):
                yield f"{one.role} comes back differently"
    finally:
        link.release()


def _is_equal(one: bytes, other: bytes) -> bool:
    """Return whether two files hold the same data set, byte for byte or value for value."""
    return data_set(one) == data_set(other) or parse(one) == parse(other)


def _fetched(sop_instance_uid: str, archive: Archive) -> bytes:
    with urlopen(f"{archive.url}/tools/lookup", sop_instance_uid.encode(), timeout=60) as answer:
        (found,) = json.load(answer)

    with urlopen(f"{archive.url}{found['Path']}/file", timeout=60) as answer:
        return bytes(answer.read())
