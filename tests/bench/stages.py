"""Where the time of one ECG goes, in process: the stages of Sinusnode and of the stock recipe."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import median

import stock
from pydicom import dcmread

from analysis import paper
from analysis.analyse import analyse
from analysis.classify import classify
from analysis.explain import explain_all
from analysis.features import measure_features
from analysis.formats import dicom
from analysis.measure import measure
from analysis.model import load_model
from analysis.quality import assess
from dicom_node import report
from dicom_node.report import Device, ReportOptions

_ROUNDS = 15

Times = dict[str, float]
"""Stage → milliseconds of processor time, which other programs on the machine disturb least."""


def sinusnode(file: Path, model: Path) -> Times:
    """Return the stages as the worker runs them."""
    data, loaded = file.read_bytes(), load_model(model)
    source = dicom.parse(data)
    recording = dicom.read(data)
    result = analyse(recording, loaded)
    page = paper.render(result, "pdf")
    known = measure_features(recording.ecg)
    found = [item.key for item in result.explanations]

    def build() -> tuple[report.ResultObject, ...]:
        return report.build(
            source=source,
            source_sha256=sha256(data).hexdigest(),
            result=result,
            plan_digest="0" * 64,
            received_at=datetime(2026, 1, 1, tzinfo=UTC),
            device=Device(
                device_uid="2.25.1", software_version="1", station_name="BENCH", serial_number="1"
            ),
            options=ReportOptions(),
            page=page,
        )

    return {
        "decode": _took(lambda: (dicom.parse(data), dicom.read(data))),
        "quality, measure": _took(
            lambda: (assess(recording.ecg), measure(recording.ecg, recording.patient))
        ),
        "classify": _took(lambda: classify([loaded], [recording.ecg], tables=[known])),
        "explain": _took(
            lambda: explain_all(loaded, recording.ecg, result.measurements, found, known)
        ),
        "render the page": _took(lambda: paper.render(result, "pdf")),
        "build and check the objects": _took(build),
    }


def stock_recipe(file: Path, model: Path) -> Times:
    """Return the same stages of the stock recipe, which checks nothing."""
    source = stock.complete(dcmread(file))
    found = stock.analyse(source, model)
    whole = _took(lambda: stock.analyse(source, model))
    classified = _took(lambda: stock.classify(found.signal, found.rate, model))
    page = stock.page(found)
    return {
        "decode": _took(lambda: dcmread(file).waveform_array(0)),
        "quality, measure": whole - classified,
        "classify": classified,
        "render the page": _took(lambda: stock.page(found)),
        "build and check the objects": _took(
            lambda: [
                stock.report(source, found),
                stock.encapsulated(source, page),
                stock.annotated(source, found),
            ]
        ),
    }


def _took(stage: Callable[[], object]) -> float:
    """Return the median milliseconds of processor time of a stage, warm."""
    stage()
    times = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        stage()
        times.append(1e3 * (time.process_time() - start))
    return median(times)
