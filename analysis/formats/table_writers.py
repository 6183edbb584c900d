"""ECGs as tables that say their leads, unit and rate: CSV, NumPy archives and Parquet.

They hold the rhythm and nothing else. `analysis.read` reads each of them without a statement.
"""

from collections.abc import Mapping
from io import BytesIO

import numpy as np

from analysis.ecg import Recording


def encode_csv(recording: Recording, stem: str) -> Mapping[str, bytes]:
    """Return a CSV file by its name: the time in seconds, then each lead in mV.

    Numbers have as many digits as float32 needs; an empty cell says that no sample was recorded.
    """
    ecg = recording.ecg
    times = (np.arange(ecg.samples) / ecg.sampling_frequency).astype("U24")
    cells = np.where(np.isnan(ecg.signal), "", ecg.signal.astype("U16"))
    head = ",".join(["time (s)", *(f"{lead} (mV)" for lead in ecg.leads)])
    lines = map(",".join, np.vstack([times, cells]).T.tolist())
    return {f"{stem}.csv": "\n".join([head, *lines, ""]).encode()}


def encode_npz(recording: Recording, stem: str) -> Mapping[str, bytes]:
    """Return a NumPy archive by its name: `signal` (leads, samples), `leads`, `fs` and `unit`."""
    ecg = recording.ecg
    file = BytesIO()
    np.savez(
        file,
        signal=ecg.signal,
        leads=np.array([str(lead) for lead in ecg.leads]),
        fs=np.float64(ecg.sampling_frequency),
        unit=np.array("mV"),
    )
    return {f"{stem}.npz": file.getvalue()}


def encode_parquet(recording: Recording, stem: str) -> Mapping[str, bytes]:
    """Return a Parquet file by its name: a column for each lead, rate and unit in its metadata.

    Raises
    ------
    ValueError
        Where pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - of the extra
        from pyarrow import parquet  # noqa: PLC0415 - of the extra
    except ImportError:
        raise ValueError("Parquet needs the extra: pip install 'sinusnode[formats]'") from None
    ecg = recording.ecg
    table = pa.table({str(lead): row for lead, row in zip(ecg.leads, ecg.signal, strict=True)})
    said = {"sampling_frequency": repr(ecg.sampling_frequency), "unit": "mV"}
    file = BytesIO()
    parquet.write_table(table.replace_schema_metadata(said), file, write_page_checksum=True)
    return {f"{stem}.parquet": file.getvalue()}
