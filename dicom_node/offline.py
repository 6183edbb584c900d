"""`sinusnode analyse`: one file in, one document and the chosen files out, no server needed."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from pydicom.dataset import Dataset

import analysis
from analysis import paper
from analysis.formats import dicom
from analysis.formats.content import Stated
from analysis.model import shipped_models
from analysis.result import Explanation, Finding
from dicom_node import report
from dicom_node.plan import Plan
from dicom_node.reasons import Quarantine, sentence
from dicom_node.report import Unreportable
from dicom_node.report.uids import derive
from dicom_node.settings import Report, Settings

SCHEMA = 1
NO_IDENTITY: Final = (
    "The file has no DICOM identity: name one with --into SOURCE.dcm, or with --patient-id and "
    "--study-uid."
)


class Unusable(ValueError):
    """What was asked cannot be done; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Study:
    """The patient and study that an ECG without DICOM identity belongs to."""

    into: Path | None
    patient_id: str | None
    study_uid: str | None

    @classmethod
    def of(cls, into: Path | None, patient_id: str | None, study_uid: str | None) -> Self | None:
        """Return what was stated, or None where it is not enough.

        Raises
        ------
        Unusable
            If a patient is stated twice.
        """
        if into is not None and (patient_id or study_uid):
            raise Unusable("Name either --into, or --patient-id and --study-uid.")
        enough = into is not None or (patient_id and study_uid)
        return cls(into, patient_id, study_uid) if enough else None


@dataclass(frozen=True, slots=True)
class Outputs:
    """What to write, and where."""

    pdf: Path | None
    dicom: Path | None
    study: Study | None


def models(paths: Sequence[Path] | None) -> tuple[analysis.Model, ...]:
    """Return the models to use: those named, or the shipped ones.

    Raises
    ------
    Unusable
        If one is refused.
    """
    try:
        if not paths:
            return shipped_models()
        return tuple(analysis.load_model(path) for path in paths)
    except analysis.ModelRejected as error:
        raise Unusable(f"The model is refused ({error.reason}): {error.message}") from None


def analyse(
    file: Path, chosen: Sequence[analysis.Model], outputs: Outputs, stated: Stated
) -> dict[str, Any]:
    """Return the document of one file; write what was asked for."""
    try:
        recording = analysis.read(file, **asdict(stated))
        result = analysis.analyse(recording, chosen)
        _write(file, result, outputs)
    except analysis.Undecodable as error:
        return _refused(file, error.reason, error.message)
    except Unreportable as error:
        return _refused(file, "not-reportable", error.message)
    except Unusable as error:
        return _refused(file, "no-identity", str(error))
    return _document(file, result)


def _refused(file: Path, reason: str, message: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "file": str(file),
        "ok": False,
        "reason": reason,
        "message": message,
    }


def _document(file: Path, result: analysis.Result) -> dict[str, Any]:
    recording, ecg = result.recording, result.recording.ecg
    carried = {(item.model, item.key): item for item in result.explanations}
    return {
        "schema": SCHEMA,
        "file": str(file),
        "ok": True,
        "reason": None,
        "message": None,
        "format": recording.format,
        "patient": {"age": recording.patient.age, "sex": recording.patient.sex},
        "leads": list(ecg.leads),
        "sampling_frequency": ecg.sampling_frequency,
        "samples": ecg.samples,
        "quality": {
            "verdict": result.quality.verdict,
            "reasons": list(result.quality.reasons),
        },
        "measurements": {
            name: {"value": item.value, "unit": item.unit, "reason": item.reason}
            for name, item in result.measurements.quantities()
        },
        "statements": [
            {
                "key": item.key,
                "text": item.text,
                "code": list(item.code),
                "evidence": list(item.evidence),
            }
            for item in result.statements
        ],
        "findings": [
            {
                "key": item.key,
                "probability": item.probability,
                "threshold": item.threshold,
                "present": item.present,
                "origin": item.origin,
                "model": item.model,
                "reason": item.reason,
                "evidence": _evidence(item, carried.get((item.model or "", item.key))),
            }
            for item in result.findings
        ],
        "models": [
            {"name": item.name, "version": item.version, "digest": item.digest}
            for item in result.models
        ],
        "overall": result.overall,
        "notes": [*recording.notes, *result.not_assessed],
    }


def _evidence(finding: Finding, carried: Explanation | None) -> dict[str, Any]:
    """Return what a finding rests on: sentences, leads, and of a model's what each part weighs.

    A weight is the log-odds of the finding that are lost without the part
    (:class:`analysis.result.Explanation`).
    """
    told = {"sentences": list(finding.evidence), "leads": list(finding.leads)}
    if carried is None:
        return told
    return told | {
        "method": carried.method,
        "probability": carried.baseline,
        "lead_weights": carried.leads,
        "segments": [asdict(segment) for segment in carried.segments],
        "beats": [{"beat": beat, "weight": weight} for beat, weight in carried.beats],
        "rhythm_weight": carried.rhythm,
    }


def describe(document: dict[str, Any]) -> str:
    """Return the document as a few lines for a person."""
    if not document["ok"]:
        return f"{document['file']}: refused ({document['reason']}). {document['message']}"
    said = "; ".join(item["text"] for item in document["statements"])
    lines = [
        f"{document['file']}: {said or document['overall']}",
        f"  quality {document['quality']['verdict']}"
        + "".join(f", {reason}" for reason in document["quality"]["reasons"]),
        *(
            f"  {item['text']}: {'; '.join(item['evidence'])}"
            for item in document["statements"]
            if item["evidence"]
        ),
        "  " + ", ".join(_value(name, item) for name, item in document["measurements"].items()),
        *(f"  {note}" for note in document["notes"]),
        "  AI result, not verified by a clinician. For research use.",
    ]
    return "\n".join(lines)


def _value(name: str, item: dict[str, Any]) -> str:
    words = name.replace("_", " ")
    return f"{words} –" if item["value"] is None else f"{words} {item['value']:.4g} {item['unit']}"


def _write(file: Path, result: analysis.Result, outputs: Outputs) -> None:
    if outputs.pdf is None and outputs.dicom is None:
        return
    plan = Plan.of(
        Settings.model_construct(report=Report()),
        models=tuple(model.digest for model in result.models),
    )
    page = paper.render(result, "pdf", version=plan.software)
    if outputs.pdf is not None:
        _put(outputs.pdf / f"{file.stem}.pdf", page)
    if outputs.dicom is None:
        return
    data = file.read_bytes()
    made = report.build(
        source=_source(data, result.recording, outputs.study, written_at(file)),
        source_sha256=hashlib.sha256(data).hexdigest(),
        result=result,
        plan_digest=plan.digest,
        received_at=written_at(file),
        device=plan.device,
        options=plan.report_options,
        page=page,
    )
    if faults := [fault for item in made for fault in item.faults]:
        raise Unusable(f"{sentence(Quarantine.CHECKER)} ({faults[0]})")
    for item in made:
        _put(outputs.dicom / f"{file.stem}.{item.role}.dcm", item.data)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def written_at(file: Path) -> datetime:
    """Return when the file was written: it stands in for the time of receipt, run after run."""
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _source(
    data: bytes, recording: analysis.Recording, study: Study | None, at: datetime
) -> Dataset:
    """Return the DICOM object that the reports speak of.

    Raises
    ------
    Unusable
        If the ECG has no DICOM identity and none was stated.
    """
    if recording.format.startswith("DICOM"):
        return dicom.parse(data)
    if study is None:
        raise Unusable(NO_IDENTITY)
    return adopted(data, recording, study, at)


def _host(into: Path) -> Dataset:
    """Return the object whose patient and study are to be taken over.

    Raises
    ------
    Unusable
        If it is none, or names no study.
    """
    try:
        host = dicom.parse(into.read_bytes())
    except (OSError, analysis.Undecodable):
        raise Unusable(f"{into} (--into) is no DICOM object that can be read.") from None
    if "StudyInstanceUID" not in host:
        raise Unusable(f"{into} names no study to go into.")
    return host


def adopted(data: bytes, recording: analysis.Recording, study: Study, at: datetime) -> Dataset:
    """Return the ECG of some bytes as a General ECG object in the stated patient's study.

    Where a study is taken over, so is its patient, and nothing of the other's identity remains.

    Raises
    ------
    Unusable
        If the study cannot be read, or a General ECG cannot hold the ECG.
    """
    host, patient = Dataset(), recording.patient
    if study.into is not None:
        host = _host(study.into)
        patient = replace(patient, identifier=None, name=None, birth_date=None)
    digest = hashlib.sha256(data).hexdigest()
    identity = dicom.Identity(
        study_instance_uid=study.study_uid or str(host.StudyInstanceUID),
        series_instance_uid=derive("adopted", digest, "series"),
        sop_instance_uid=derive("adopted", digest, "instance"),
        created_at=at,
    )
    try:
        made = dicom.encode(
            recording.ecg,
            identity=identity,
            patient=patient,
            acquisition=recording.acquisition,
        )
    except ValueError as error:
        raise Unusable(f"The ECG does not fit a DICOM General ECG: {error}.") from None
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate",
                    "StudyTime", "StudyID", "AccessionNumber", "IssuerOfPatientID"):  # fmt: skip
        if keyword in host:
            made[keyword] = host[keyword]
    if study.patient_id is not None:
        made.PatientID = study.patient_id
    return made
