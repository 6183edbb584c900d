"""Hundreds of ECGs that differ in whatever an ECG can differ in, and the results they come to.

Real ones of the shared folder, and generated ones: hearts, leads, signals, patients, settings.
Each is a source as a cart would send it; the way to its results is that of the live path.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from io import BytesIO
from itertools import chain, combinations, cycle, product
from pathlib import Path
from random import Random
from typing import Any, Final, get_args

import numpy as np
import pydicom
from cart import CART_FILE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from support import SHARED

import analysis
from analysis.ecg import CHEST, ECG, LIMB, STANDARD_12, Acquisition, Lead, Patient, Sex
from analysis.formats import dicom
from analysis.result import Result
from analysis.synthetic import Kind, simulate
from dicom_node import pipeline
from dicom_node.offline import Study, adopted
from dicom_node.plan import Plan
from dicom_node.report import NoComparison, Previous, ResultObject
from dicom_node.report.uids import derive
from dicom_node.settings import Report, Settings

RECEIVED_AT: Final = 1774745999.25  # seconds since the epoch: a second before a change of clocks
_RECORDED_AT: Final = datetime(2026, 3, 29, 1, 58, tzinfo=timezone(timedelta(hours=1)))
PREVIOUS: Final = Previous(
    study_instance_uid="2.25.11",
    series_instance_uid="2.25.12",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.9.1.1",
    sop_instance_uid="2.25.13",
    acquired_at="20120229235959.123+0100",
    measurements={"heart_rate": 58.0, "qrs_duration": 92.0, "qrs_axis": -170.0},
)

_MAN: Final = Patient(identifier="P1", name="Doe^John", age=70.0, sex=Sex.MALE)

Choices = Mapping[str, Any]
"""Of the section `report` of the settings."""
Spoil = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heart:
    """A simulated ECG."""

    kind: Kind = Kind.SINUS
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of :func:`analysis.synthetic.simulate`."""
    leads: tuple[Lead, ...] = STANDARD_12
    """One that is none of the twelve holds the signal of one that is."""
    spoil: Spoil | None = None
    patient: Patient = _MAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One source, and what is asked for."""

    group: str
    name: str
    source: Path | Heart
    """A DICOM file is taken as it is; another encoding is adopted into a study."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """Attributes to set, or with None to delete; a path of keywords reaches into every item."""
    choices: Choices = field(default_factory=dict)
    previous: Previous | NoComparison = NoComparison.NOT_ASKED


def choices_of(name: str) -> tuple[Any, ...]:
    """Return what a setting of the section `report` may be."""
    annotation = Report.model_fields[name].annotation
    values = get_args(annotation)
    return get_args(values[0]) if name == "objects" else values


OBJECTS: Final = choices_of("objects")
EVERYTHING: Final[Choices] = {"objects": OBJECTS}


# Sources


def source_of(item: Input) -> bytes:
    """Return the file that a cart would send.

    Raises
    ------
    Undecodable, Unusable
        If there is no ECG in it, or none that DICOM can hold.
    """
    if isinstance(item.source, Heart):
        data = _file(_simulated(item.source, item.name))
    else:
        data = _real(item.source)
    return _edited(data, item.edits) if item.edits else data


def _file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _simulated(heart: Heart, name: str) -> Dataset:
    ecg = _with_leads(simulate(heart.kind, **heart.arguments).ecg, heart.leads)
    if heart.spoil is not None:
        ecg = replace(ecg, signal=heart.spoil(ecg.signal.copy()))
    return dicom.encode(
        ecg,
        identity=dicom.Identity(
            study_instance_uid=derive("varied", name, "study"),
            series_instance_uid=derive("varied", name, "series"),
            sop_instance_uid=derive("varied", name, "instance"),
            created_at=_RECORDED_AT,
            study_at=_RECORDED_AT,
        ),
        patient=heart.patient,
        acquisition=Acquisition(manufacturer="Carts & Co.", model="K12"),
    )


def _with_leads(ecg: ECG, leads: Sequence[Lead]) -> ECG:
    stand_in = cycle(CHEST)
    rows = [ecg[lead if lead in ecg else next(stand_in)] for lead in leads]
    return ECG(signal=np.stack(rows), leads=tuple(leads), sampling_frequency=ecg.sampling_frequency)


def _real(path: Path) -> bytes:
    recording, data = analysis.read(path), path.read_bytes()
    if recording.format.startswith("DICOM"):
        return data
    study = Study(CART_FILE, None, None)
    if path.is_relative_to(SHARED / "data"):
        study = Study(None, path.stem, derive("varied", str(path), "study"))
    return _file(adopted(data, recording, study, datetime.fromtimestamp(RECEIVED_AT, UTC)))


def _edited(data: bytes, edits: Mapping[str, Any]) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    for path, value in edits.items():
        *sequences, keyword = path.split(".")
        for item in _items(dataset, sequences):
            if value is None:
                item.pop(Tag(keyword), None)
            else:
                item[keyword] = _element(keyword, value)
    return _file(dataset)


def _element(keyword: str, value: Any) -> DataElement:
    """Return an element with a value, whatever the standard says of it."""
    vr = pydicom.datadict.dictionary_VR(keyword)
    return DataElement(Tag(keyword), vr, value, validation_mode=pydicom.config.IGNORE)


def _items(dataset: Dataset, sequences: Sequence[str]) -> Iterator[Dataset]:
    if not sequences:
        yield dataset
        return
    for item in dataset.get(sequences[0]) or ():
        yield from _items(item, sequences[1:])


# Results


def results_of(item: Input, data: bytes) -> Sequence[ResultObject]:
    """Return the objects of a source, made as a worker makes them.

    Raises
    ------
    Quarantined
        If there are to be none.
    """
    meta = pydicom.dcmread(BytesIO(data), specific_tags=["SOPInstanceUID"])
    source, recording = pipeline.read(data, str(meta.get("SOPInstanceUID", "")))
    model = _model()
    settings = Settings.model_construct(report=Report(**item.choices))
    plan = Plan.of(settings, models=(model.identity.digest,))
    result = analysis.analyse(recording, model, options=plan.options)
    return pipeline.build(
        source,
        Result.from_json(result.to_json(), recording),
        plan,
        sha256=hashlib.sha256(data).hexdigest(),
        plan_digest=plan.digest,
        received_at=RECEIVED_AT,
        previous=item.previous,
    )


@cache
def _model() -> analysis.Model:
    return analysis.load_model()


# The inputs


def every() -> tuple[Input, ...]:
    """Return all inputs, in an order that never changes; the real ones where they are."""
    return (*real(), *generated())


def generated() -> tuple[Input, ...]:
    """Return those that need nothing from outside."""
    made = chain(_hearts(), _leads(), _signals(), _patients(), _carts(), _settings())
    return tuple(_asking_for_more(made))


def real() -> tuple[Input, ...]:
    """Return the real ones: none where the shared folder is absent."""
    return tuple(_asking_for_more(chain(_files(), _records())))


def _asking_for_more(inputs: Iterable[Input]) -> Iterator[Input]:
    """Yield the inputs; every sixth of those without choices asks for every object."""
    for number, item in enumerate(inputs):
        wants = number % 6 == 0 and not item.choices
        yield replace(item, choices=EVERYTHING) if wants else item


_COMPANIONS: Final = ("manifest.csv", "truth.json", ".raw", ".mat", ".dat", ".readme.txt")
_EACH: Final = 25


def _files() -> Iterator[Input]:
    paths = [path for path in sorted((SHARED / "ecg").rglob("*")) if path.is_file()]
    for path in sorted(paths, key=lambda path: path.suffix != ".dcm"):
        if not path.name.endswith(_COMPANIONS):
            group = "shared DICOM" if path.suffix == ".dcm" else "shared, other encodings"
            yield Input(group=group, name=str(path.relative_to(SHARED)), source=path)


def _records() -> Iterator[Input]:
    """Yield records of each labelled database, from its beginning to its end."""
    for folder in sorted((SHARED / "data").glob("*/")):
        records = sorted(folder.rglob("*.hea"))
        for path in records[:: max(1, len(records) // _EACH)]:
            name = str(path.relative_to(SHARED))
            yield Input(group=f"data, {folder.name}", name=name, source=path)


def _hearts() -> Iterator[Input]:
    for number, kind in zip(range(120), cycle(Kind), strict=False):
        draw = Random(number)
        arguments = {
            "seed": number,
            "sampling_frequency": draw.choice((200.0, 240.0, 250.0, 360.0, 500.0, 977.0, 1000.0)),
            "duration": draw.choice((5.0, 8.0, 10.0, 10.0, 10.0, 12.0, 30.0)),
            "heart_rate": draw.choice((None, None, 28.0, 55.0, 140.0, 210.0)),
            "noise": draw.choice((0.0, 0.01, 0.03, 0.1)),
            "mains": draw.choice((0.0, 0.0, 0.05)),
            "wander": draw.choice((0.0, 0.0, 0.3)),
        }
        told = ", ".join(f"{word} {value}" for word, value in arguments.items())
        yield Input(
            group="hearts", name=f"{kind}, {told}", source=Heart(kind=kind, arguments=arguments)
        )


def _leads() -> Iterator[Input]:
    sets = [
        *((lead,) for lead in Lead),
        *((Lead.I, lead) for lead in (*LIMB[1:], *CHEST[:2])),
        LIMB,
        CHEST,
        (*LIMB[:2], *CHEST),
        tuple(reversed(STANDARD_12)),
        STANDARD_12[:-1],
        (Lead.II, Lead.V1, Lead.V5),
        (Lead.X, Lead.Y, Lead.Z),
        (*STANDARD_12, Lead.V7, Lead.V8, Lead.V9),
        (*STANDARD_12, Lead.V3R, Lead.V4R, Lead.X, Lead.Y, Lead.Z),
        tuple(Lead)[:24],
    ]
    for leads in sets:
        yield Input(group="leads", name=" ".join(leads), source=Heart(leads=tuple(leads)))


def _signals() -> Iterator[Input]:
    for spoil, kind in product(SPOILS, (Kind.SINUS, Kind.ATRIAL_FIBRILLATION)):
        name = f"{spoil.__name__.strip('_').replace('_', ' ')}, {kind}"
        yield Input(group="signals", name=name, source=Heart(kind=kind, spoil=spoil))
    for seconds in (0.004, 0.1, 0.5, 1.0, 2.0, 3.0, 60.0, 300.0):
        heart = Heart(arguments={"duration": seconds})
        yield Input(group="signals", name=f"{seconds} s", source=heart)


def _flat(signal: np.ndarray) -> np.ndarray:
    return np.zeros_like(signal)


def _constant(signal: np.ndarray) -> np.ndarray:
    return np.full_like(signal, 1.5)


def _without_samples(signal: np.ndarray) -> np.ndarray:
    return np.full_like(signal, np.nan)


def _with_a_gap(signal: np.ndarray) -> np.ndarray:
    signal[:, signal.shape[1] // 3 : signal.shape[1] // 2] = np.nan
    return signal


def _half_a_lead(signal: np.ndarray) -> np.ndarray:
    signal[-1, signal.shape[1] // 2 :] = np.nan
    return signal


def _clipped(signal: np.ndarray) -> np.ndarray:
    return np.clip(signal, -0.3, 0.3)


def _tiny(signal: np.ndarray) -> np.ndarray:
    return signal / 100


def _huge(signal: np.ndarray) -> np.ndarray:
    return signal * 30


def _upside_down(signal: np.ndarray) -> np.ndarray:
    return -signal


def _arms_swapped(signal: np.ndarray) -> np.ndarray:
    signal[[0, 1, 2, 3, 4]] = -signal[0], signal[2], signal[1], signal[4], signal[3]
    return signal


def _drifting(signal: np.ndarray) -> np.ndarray:
    return signal + np.linspace(-20, 20, signal.shape[1], dtype=np.float32)


SPOILS: Final[tuple[Spoil, ...]] = (
    _flat, _constant, _without_samples, _with_a_gap, _half_a_lead, _clipped, _tiny, _huge,
    _upside_down, _arms_swapped, _drifting,
)  # fmt: skip


def _patients() -> Iterator[Input]:
    for age, sex in product((None, 0.0, 0.1, 4.0, 17.9, 18.0, 55.0, 90.0, 119.0), (None, *Sex)):
        heart = Heart(patient=replace(_MAN, age=age, sex=sex))
        yield Input(group="patients", name=f"age {age}, sex {sex}", source=heart)
    for name, edits in _identities().items():
        yield Input(group="patients", name=name, source=Heart(), edits=edits)


def _identities() -> dict[str, Mapping[str, Any]]:
    named = {
        f"name in {charset}": {"SpecificCharacterSet": charset, "PatientName": name}
        for charset, name in NAMES.items()
    }
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
    return named | {
        "no character set": {"SpecificCharacterSet": None},
        "longest name": {"PatientName": "=".join(["^".join(["Ab" * 6] * 5)] * 3)},
        "name without end": {"PatientName": "N" * 400},
        "name of signs": {"PatientName": "^^^^"},
        "blank name": {"PatientName": "   "},
        "longest identifier": {"PatientID": "X" * 64},
        "identifier with signs": {"PatientID": "<&\"'>/..:*?|%00"},
        "no identifier": {"PatientID": None},
        "issuer": {"IssuerOfPatientID": "H1", "IssuerOfPatientIDQualifiersSequence": [issuer]},
        "age in days": {"PatientAge": "003D"},
        "age in weeks": {"PatientAge": "011W"},
        "age that is none": {"PatientAge": "old"},
        "sex that is none": {"PatientSex": "X"},
        "birth date that is none": {"PatientBirthDate": "19990230"},
        "birth date after the ECG": {"PatientBirthDate": "20990101"},
        "long words": {"StudyDescription": "S" * 64, "InstitutionName": "I" * 64},
        "accession number": {"AccessionNumber": "A" * 16, "StudyID": "S" * 16},
        "acquired in UTC": {"AcquisitionDateTime": "20260329005800+0000"},
        "acquired by day": {"AcquisitionDateTime": "20260329"},
        "acquired to the microsecond": {"AcquisitionDateTime": "20260329015800.123456"},
        "time zone east": {"TimezoneOffsetFromUTC": "+1400"},
        "time zone west": {"TimezoneOffsetFromUTC": "-0930"},
        "de-identified": {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand"},
    }  # fmt: skip


NAMES: Final[Mapping[str, str]] = {
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 101": "Łukasz^Żaneta",
    "ISO_IR 109": "Ħamrun^Ġorġ",
    "ISO_IR 110": "Ķirsis^Ģirts",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 144": "Люкceмбypг",
    "ISO_IR 148": "Çavuşoğlu^Şule",
    "ISO_IR 166": "สมชาย^ใจดี",
    "ISO_IR 192": "Wang^XiaoDong=王^小東",
    "GB18030": "Wang^XiaoDong=王^小东",
    "GBK": "Wang^XiaoDong=王^小东",
    r"\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎",
    r"\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
}


MISSING: Final = (
    "SpecificCharacterSet", "InstanceCreationDate", "StudyDate", "StudyTime", "ContentDate",
    "ContentTime", "AcquisitionDateTime", "AccessionNumber", "Modality", "Manufacturer",
    "ManufacturerModelName", "InstitutionName", "ReferringPhysicianName", "StudyDescription",
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "SoftwareVersions", "AcquisitionContextSequence",
    "StudyID", "SeriesNumber", "InstanceNumber", "WaveformAnnotationSequence",
    "WaveformSequence.MultiplexGroupTimeOffset", "WaveformSequence.MultiplexGroupLabel",
    "WaveformSequence.WaveformOriginality",
    "WaveformSequence.ChannelDefinitionSequence.ChannelSourceSequence",
    "WaveformSequence.ChannelDefinitionSequence.ChannelSampleSkew",
    "WaveformSequence.ChannelDefinitionSequence.ChannelSensitivityCorrectionFactor",
    "WaveformSequence.ChannelDefinitionSequence.ChannelBaseline",
    "WaveformSequence.ChannelDefinitionSequence.WaveformBitsStored",
    "WaveformSequence.ChannelDefinitionSequence.FilterLowFrequency",
    "WaveformSequence.ChannelDefinitionSequence.FilterHighFrequency",
)  # fmt: skip
"""What carts leave out; each on its own, and all that are not indispensable together."""


def _carts() -> Iterator[Input]:
    for keyword in MISSING:
        yield _cart(f"no {keyword}", {keyword: None})
    bare = [
        word for word in MISSING
        if word not in ("AcquisitionDateTime", "WaveformSequence.WaveformOriginality")
        and not word.endswith("ChannelSourceSequence")
    ]  # fmt: skip
    yield _cart("next to nothing", dict.fromkeys(bare))
    yield _cart("empty type 2", dict.fromkeys(("PatientName", "PatientID", "StudyID"), ""))
    for path, value in ODD:
        yield Input(
            group="odd carts", name=f"{path} {value!r:.20}", source=CART_FILE,
            edits={path: value}, choices=EVERYTHING,
        )  # fmt: skip


def _cart(name: str, edits: Mapping[str, Any]) -> Input:
    return Input(group="carts without", name=name, source=CART_FILE, edits=edits)


ODD: Final = (
    ("StudyDate", "2026.03.29"), ("StudyID", "S" * 40), ("AccessionNumber", "A" * 40),
    ("StudyDescription", "S" * 200), ("ReferringPhysicianName", "R" * 200),
    ("InstitutionName", "I" * 200), ("StationName", "S" * 50), ("OperatorsName", "O" * 100),
    ("SoftwareVersions", ["1", "2" * 80]), ("Modality", "OT"),
    ("Laterality", "L"), ("Laterality", "X"), ("ContentDate", "2026"), ("ContentTime", "99"),
    ("AcquisitionDateTime", "2026"), ("InstanceNumber", ""),
    ("SynchronizationTrigger", "NO TRIGGER"), ("SynchronizationFrameOfReferenceUID", "1.2.3"),
    ("WaveformSequence.MultiplexGroupLabel", "L" * 99),
    ("WaveformSequence.MultiplexGroupTimeOffset", ""),
    ("WaveformSequence.WaveformOriginality", "derived"),
    ("WaveformSequence.ChannelDefinitionSequence.ChannelLabel", "L" * 30),
    ("WaveformSequence.ChannelDefinitionSequence.ChannelStatus", "DISCONNECTED"),
    ("WaveformSequence.ChannelDefinitionSequence.ChannelTimeSkew", "0"),
    ("WaveformSequence.ChannelDefinitionSequence.ChannelTimeSkew", "0.001"),
    ("WaveformSequence.ChannelDefinitionSequence.WaveformBitsStored", 12),
    ("WaveformSequence.ChannelDefinitionSequence.NotchFilterFrequency", ""),
    ("WaveformSequence.ChannelDefinitionSequence.ChannelSensitivityUnitsSequence.CodeMeaning", ""),
    ("WaveformSequence.ChannelDefinitionSequence.ChannelSourceSequence.CodeMeaning", ""),
    ("WaveformAnnotationSequence.AnnotationGroupNumber", None),
    ("WaveformAnnotationSequence.ReferencedWaveformChannels", None),
    ("WaveformAnnotationSequence.UnformattedTextValue", "T" * 5000),
)  # fmt: skip
"""What a cart may say and the standard forbids, or hardly anybody says."""


def _settings() -> Iterator[Input]:
    """Yield few ECGs under each choice alone, and the choices that meet in one object together."""
    hearts = {kind: Heart(kind=kind) for kind in (Kind.SINUS, Kind.LBBB, Kind.NOISE)}
    sources = {"cart": CART_FILE, **hearts}
    for (name, source), choices in product(sources.items(), _choices()):
        told = ", ".join(f"{word} {value}" for word, value in choices.items())
        yield Input(group="settings", name=f"{name}, {told}", source=source, choices=choices)
    earlier = [*NoComparison, PREVIOUS, replace(PREVIOUS, same_algorithm=False)]
    for (name, source), (number, previous) in product(sources.items(), enumerate(earlier)):
        yield Input(
            group="prior ECG", name=f"{name}, prior {number}", source=source,
            edits={"StudyDescription": f"prior {number}"}, choices=EVERYTHING, previous=previous,
        )  # fmt: skip


def _choices() -> Iterator[Choices]:
    for count in (1, len(OBJECTS) - 1):
        yield from ({"objects": chosen} for chosen in combinations(OBJECTS, count))
    yield {"objects": tuple(reversed(OBJECTS))}
    for formula in choices_of("qtc_formula"):
        yield {"objects": OBJECTS, "qtc_formula": formula}
    for qualification in choices_of("content_qualification"):
        yield {"content_qualification": qualification}
    for offset in ("-1200", "-0930", "+0545", "+1400"):
        yield {"utc_offset": offset}
    yield {f"series_number_{name}": 2**31 - 1 - n for n, name in enumerate(OBJECTS)}


def spread(inputs: Sequence[Input], count: int) -> tuple[Input, ...]:
    """Return so many of the inputs, at equal distances."""
    return tuple(inputs[number * len(inputs) // count] for number in range(count))
