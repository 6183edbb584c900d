"""The stock recipe: what a competent developer glues together from the well-known libraries.

pynetdicom receives and sends, neurokit2 measures lead II, onnxruntime classifies, highdicom
writes a TID 1500 report, matplotlib draws the page, pydicom encapsulates it and annotates a
copy of the waveform. It is written for comparison and meant to be fair: the page is the tuned
form of matplotlib (one axes, line collections), the objects are built once, nothing waits.

Run it as ``python tests/bench/stock.py --help``.
"""

import argparse
import io
import signal
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import highdicom as hd
import neurokit2 as nk
import numpy as np
import numpy.typing as npt
import onnxruntime
from highdicom.sr import CodedConcept
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from scipy.signal import resample

Signal = npt.NDArray[np.float64]

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
ROWS = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
A4 = (11.69, 8.27)  # inches
MILLISECOND = CodedConcept("ms", "UCUM", "millisecond")
PER_MINUTE = CodedConcept("/min", "UCUM", "/min")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    port: int
    pacs_port: int
    model: Path
    folder: Path
    workers: int
    plain: bool


# Analysis


@dataclass(frozen=True, slots=True)
class Analysed:
    """What is reported of one ECG."""

    signal: Signal
    """``(leads, samples)``, mV."""
    rate: float
    """Hz."""
    values: dict[str, float]
    """Heart rate per minute, intervals in ms."""
    fiducials: dict[str, Signal]
    probabilities: Signal


def analyse(dataset: Dataset, model: Path) -> Analysed:
    """Return measurements and probabilities of an ECG object."""
    signal = dataset.waveform_array(0).T / 1000  # µV to mV
    rate = float(dataset.WaveformSequence[0].SamplingFrequency)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, info = nk.ecg_process(signal[1], sampling_rate=int(rate))
    marks = ("_Onsets", "_Offsets", "_Peaks")
    fiducials = {name: np.asarray(info[name], float) for name in info if name.endswith(marks)}
    return Analysed(
        signal=signal,
        rate=rate,
        values=intervals(fiducials, rate) | {"heart rate": float(table["ECG_Rate"].mean())},
        fiducials=fiducials,
        probabilities=classify(signal, rate, model),
    )


def intervals(fiducials: dict[str, Signal], rate: float) -> dict[str, float]:
    """Return the median PR, QRS and QT in ms."""
    spans = {
        "PR": ("ECG_P_Onsets", "ECG_R_Onsets"),
        "QRS": ("ECG_R_Onsets", "ECG_R_Offsets"),
        "QT": ("ECG_R_Onsets", "ECG_T_Offsets"),
    }
    found = {}
    for name, (start, end) in spans.items():
        lengths = fiducials[end] - fiducials[start]
        if np.isfinite(lengths).any():
            found[name] = float(np.nanmedian(lengths)) * 1000 / rate
    return found


@cache
def session(model: Path) -> onnxruntime.InferenceSession:
    """Return the model, loaded once per process."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def classify(signal: Signal, rate: float, model: Path) -> Signal:
    """Return the probabilities of the model, which reads 100 Hz."""
    runtime = session(model)
    wanted, *others = runtime.get_inputs()
    samples = wanted.shape[2]
    whole = resample(signal, round(signal.shape[1] * 100 / rate), axis=1)
    window = whole[:, :samples].astype(np.float32)
    unmeasured = {item.name: np.full((1, item.shape[1]), np.nan, np.float32) for item in others}
    (logits,) = runtime.run(None, {wanted.name: window[np.newaxis]} | unmeasured)
    return cast("Signal", 1 / (1 + np.exp(-logits[0].astype(float))))


# The three objects


def report(source: Dataset, found: Analysed) -> Dataset:
    """Return a structured report by TID 1500."""
    measurements = [
        hd.sr.Measurement(
            name=CodedConcept(name, "99STOCK", name),
            value=round(value, 1),
            unit=PER_MINUTE if name == "heart rate" else MILLISECOND,
        )
        for name, value in found.values.items()
    ]
    measurements += [
        hd.sr.Measurement(
            name=CodedConcept(f"P{number}", "99STOCK", f"Probability {number}"),
            value=round(float(value), 4),
            unit=codes.UCUM.NoUnits,
        )
        for number, value in enumerate(found.probabilities)
    ]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "ECG"),
        measurements=measurements,
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(
                observer_type=codes.DCM.Device,
                observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                    uid=hd.UID()
                ),
            )
        ),
        procedure_reported=CodedConcept("29303009", "SCT", "Electrocardiographic procedure"),
        imaging_measurements=[group],
    )
    return hd.sr.ComprehensiveSR(
        evidence=[source],
        content=content[0],
        series_number=901,
        series_instance_uid=hd.UID(),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Stock",
    )


def page(found: Analysed) -> bytes:
    """Return a 12-lead page as a PDF: one axes, the grid and the traces as line collections."""
    figure = Figure(figsize=A4)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 297), ylim=(0, 210))
    axes.axis("off")
    axes.add_collection(LineCollection(grid(1), colors="#f4c7c3", linewidths=0.2))
    axes.add_collection(LineCollection(grid(5), colors="#e58f88", linewidths=0.4))
    axes.add_collection(LineCollection(traces(found), colors="black", linewidths=0.5))
    for row, names in enumerate(ROWS):
        for column, name in enumerate(names):
            axes.text(24 + 62.5 * column, 172 - 36 * row, name, fontsize=8)
    axes.text(24, 195, words(found), fontsize=8)
    return saved(figure)


def grid(step: int) -> list[Signal]:
    """Return the lines of ECG paper, in mm."""
    upright = [np.array([[x, 20.0], [x, 185.0]]) for x in range(20, 281, step)]
    level = [np.array([[20.0, y], [280.0, y]]) for y in range(20, 186, step)]
    return upright + level


def traces(found: Analysed) -> list[Signal]:
    """Return the 3×4 leads and the rhythm strip, in mm: 25 mm/s, 10 mm/mV."""
    lines, quarter = [], round(2.5 * found.rate)
    for row, names in enumerate(ROWS):
        for column, name in enumerate(names):
            part = found.signal[LEADS.index(name), column * quarter : (column + 1) * quarter]
            lines.append(trace(part, found.rate, 24 + 62.5 * column, 160 - 36 * row))
    strip = found.signal[1, : 4 * quarter]
    return [*lines, trace(strip, found.rate, 24, 40)]


def trace(signal: Signal, rate: float, left: float, level: float) -> Signal:
    """Return one lead's points, ``(samples, 2)``, in mm."""
    return np.column_stack([left + 25 * np.arange(len(signal)) / rate, level + 10 * signal])


def plain_page(found: Analysed) -> bytes:
    """Return the page as matplotlib's tutorials draw it: one axes with ticks for each lead."""
    figure = Figure(figsize=A4)
    seconds = np.arange(found.signal.shape[1]) / found.rate
    for axes, name, lead in zip(figure.subplots(6, 2).flat, LEADS, found.signal, strict=True):
        axes.plot(seconds, lead, "k", linewidth=0.5)
        axes.set_xticks(np.arange(0, seconds[-1], 0.2))
        axes.set_yticks(np.arange(-1.5, 1.6, 0.5))
        axes.tick_params(labelbottom=False, labelleft=False)
        axes.grid(visible=True, color="#e58f88", linewidth=0.3)
        axes.set_ylabel(name)
    figure.suptitle(words(found))
    return saved(figure)


def words(found: Analysed) -> str:
    """Return one line of numbers."""
    return "  ".join(f"{name} {value:.0f}" for name, value in found.values.items())


def saved(figure: Figure) -> bytes:
    """Return a figure as PDF bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf")
    return buffer.getvalue()


def encapsulated(source: Dataset, document: bytes) -> Dataset:
    """Return the page as an Encapsulated PDF in the source's study."""
    made = in_study(source, EncapsulatedPDFStorage, "DOC", 902)
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = "ECG"
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(document)
    made.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return made


def annotated(source: Dataset, found: Analysed) -> Dataset:
    """Return a copy of the waveform with findings and fiducials as annotations."""
    made = deepcopy(source)
    made.SOPInstanceUID = generate_uid()
    made.SeriesInstanceUID = generate_uid()
    made.SeriesNumber = 903
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    items = [text_item(f"{name} {value:.0f}") for name, value in found.values.items()]
    items += [
        point_item(name, int(sample))
        for name, samples in found.fiducials.items()
        for sample in samples[np.isfinite(samples)]
    ]
    made.WaveformAnnotationSequence = [*made.get("WaveformAnnotationSequence", []), *items]
    return made


def text_item(text: str) -> Dataset:
    """Return one annotation of the whole recording."""
    item = Dataset()
    item.UnformattedTextValue = text
    item.ReferencedWaveformChannels = [1, 0]
    item.AnnotationGroupNumber = 1
    return item


def point_item(name: str, sample: int) -> Dataset:
    """Return one fiducial."""
    code = Dataset()
    code.CodeValue = name[4:20]
    code.CodingSchemeDesignator = "99STOCK"
    code.CodeMeaning = name
    item = Dataset()
    item.ConceptNameCodeSequence = [code]
    item.TemporalRangeType = "POINT"
    item.ReferencedSamplePositions = sample + 1
    item.ReferencedWaveformChannels = [1, 2]
    item.AnnotationGroupNumber = 2
    return item


def in_study(source: Dataset, sop_class: str, modality: str, series_number: int) -> Dataset:
    """Return a new object of a class, in a series of its own in the source's study."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(io.BytesIO(), {}, file_meta=meta, preamble=bytes(128))
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
        "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
    ):  # fmt: skip
        setattr(made, keyword, source.get(keyword))
    now = datetime.now(UTC)
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID = generate_uid()
    made.Modality = modality
    made.SeriesNumber = series_number
    made.InstanceNumber = 1
    made.ContentDate = now.strftime("%Y%m%d")
    made.ContentTime = now.strftime("%H%M%S")
    made.Manufacturer = "Stock"
    return made


# The service


def work(path: Path, options: Options) -> None:
    """Analyse one stored file and send its three results on one association."""
    source = complete(dcmread(path))
    found = analyse(source, options.model)
    drawn = plain_page(found) if options.plain else page(found)
    results = [report(source, found), encapsulated(source, drawn), annotated(source, found)]
    deliver(results, options.pacs_port)


def complete(source: Dataset) -> Dataset:
    """Return the source with what highdicom asks of evidence."""
    for keyword in ("PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        if keyword not in source:
            setattr(source, keyword, "")
    return source


def deliver(results: list[Dataset], port: int) -> None:
    """Store objects at the PACS."""
    ae = AE("STOCK")
    for uid in {item.SOPClassUID for item in results}:
        ae.add_requested_context(uid, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="PACS")
    for item in results:
        association.send_c_store(item)
    association.release()


def serve(options: Options) -> None:
    """Receive and work until terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    pool = workers(options)

    def store(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        path = options.folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        pool.submit(work, path, options)
        return 0x0000

    ae = AE("STOCK")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.start_server(("127.0.0.1", options.port), evt_handlers=[(evt.EVT_C_STORE, store)])


def workers(options: Options) -> ProcessPoolExecutor:
    """Return worker processes, warm."""
    pool = ProcessPoolExecutor(options.workers, mp_context=get_context("spawn"))
    list(pool.map(abs, range(options.workers)))
    return pool


def options() -> Options:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="The stock recipe as a service.")
    parser.add_argument("--port", type=int, required=True, help="where it listens, as STOCK")
    parser.add_argument("--pacs-port", type=int, required=True, help="of PACS@127.0.0.1")
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file")
    parser.add_argument("--folder", type=Path, required=True, help="where it stores what it gets")
    parser.add_argument("--workers", type=int, default=1, help="processes that analyse")
    parser.add_argument("--plain", action="store_true", help="draw one axes for each lead")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    serve(options())
