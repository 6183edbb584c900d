"""Bare tables: what they say, what the caller states, and never a guess in between."""

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from damage import damaged
from dicom_objects import TWELVE
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet
from scipy.io import savemat
from support import shared

import analysis
from analysis.ecg import ECG, Lead, Recording
from analysis.errors import Reason, Undecodable
from analysis.formats import writing

STATED: dict[str, Any] = {"sampling_frequency": 500, "unit": "uV"}
NAMED: dict[str, Any] = STATED | {"leads": ("V1", "V2")}


def refusal(data: bytes, **stated: Any) -> Reason:
    with pytest.raises(Undecodable) as caught:
        analysis.read(data, **stated)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def read(text: str, **stated: Any) -> Recording:
    return analysis.read(text.encode(), **stated)


def rows(recording: Recording) -> list[list[float]]:
    return recording.ecg.signal.tolist()


def saved(write: Callable[..., object], *parts: Any, **options: Any) -> bytes:
    file = BytesIO()
    write(file, *parts, **options)
    return file.getvalue()


# What is neither said nor stated


@pytest.mark.parametrize(
    ("unstated", "reason", "option"),
    [
        ("sampling_frequency", Reason.NO_RATE, "--rate"),
        ("unit", Reason.NO_SCALE, "--unit"),
        ("leads", Reason.NO_LEADS, "--leads"),
    ],
)
@pytest.mark.parametrize(
    "data",
    [
        b"5,2\n3,4\n5,7\n",
        saved(np.save, np.ones((2, 5))),
        saved(savemat, {"val": np.ones((2, 5))}),
        saved(savemat, {"val": np.ones((2, 5))}, format="4"),
    ],
    ids=["csv", "npy", "mat 5", "mat 4"],
)
def test_what_a_table_does_not_say_is_refused_with_the_option_that_states_it(
    data: bytes, unstated: str, reason: Reason, option: str
) -> None:
    stated = {name: value for name, value in NAMED.items() if name != unstated}
    with pytest.raises(Undecodable, match=option) as caught:
        analysis.read(data, **stated)
    assert caught.value.reason is reason
    assert analysis.read(data, **NAMED).ecg.leads == (Lead.V1, Lead.V2)


def test_nothing_is_guessed_from_amplitude() -> None:
    for peak in (1.0, 1000.0, 1e6):
        data = saved(np.save, np.full((2, 5), peak))
        assert refusal(data, sampling_frequency=500, leads=("V1", "V2")) is Reason.NO_SCALE


# What is said


@pytest.mark.parametrize(
    "head", ["V1 (mV),V2 (mV)", "V1 [mV],V2 [mV]", "V1_mV,V2_mV", "Lead V1 (mV),ECG V2 (mV)",
             "V1,V2\n(mV),mV".replace("(mV)", "mV"), "# V1 (mV),V2 (mV)", '"V1 (mV)","V2 (mV)"'],
)  # fmt: skip
def test_a_header_says_leads_and_unit(head: str) -> None:
    recording = read(f"{head}\n1,2\n3,4\n", sampling_frequency=500)
    assert recording.ecg.leads == (Lead.V1, Lead.V2)
    assert rows(recording) == [[1, 3], [2, 4]]


def test_each_column_may_have_its_own_unit() -> None:
    recording = read("V1 (mV),V2 (uV)\n1,2000\n3,4000\n", sampling_frequency=500)
    assert rows(recording) == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("name", "factor"),
    [("time (s)", 1), ("Time [ms]", 1e3), ("time_s", 1), ("Zeit (ms)", 1e3), ("seconds", 1),
     ("t (us)", 1e6)],
)  # fmt: skip
def test_a_time_column_says_the_rate(name: str, factor: float) -> None:
    lines = "".join(f"{factor * n / 250:.10g},{n}\n" for n in range(1000))
    recording = read(f"{name},V1 (mV)\n{lines}")
    assert recording.ecg.sampling_frequency == 250
    assert recording.ecg.leads == (Lead.V1,)


@example(rate=1638.9375, digits=4)
@given(rate=st.floats(50, 2000), digits=st.integers(3, 9))
def test_a_rate_of_times_is_as_exact_as_their_digits(rate: float, digits: int) -> None:
    lines = "".join(f"{n / rate:.{digits}f},{n % 7}\n" for n in range(5000))
    try:
        found = read(f"time (s),V1 (mV)\n{lines}").ecg.sampling_frequency
    except Undecodable as refused:
        assert refused.reason in {Reason.NO_RATE, Reason.AMBIGUOUS}  # noqa: PT017 - either is right
        assert 10.0**-digits * rate > 1e-2
    else:
        last = rate * 10.0**-digits / (4999 / rate)  # half of it is rounding, then a whole number
        assert abs(found - rate) <= 1.5 * last + 1e-9


def test_times_with_a_gap_or_too_few_digits_say_no_rate() -> None:
    gap = "".join(f"{(n + 50 * (n > 20)) / 250},{n}\n" for n in range(50))
    assert refusal(f"time (s),V1 (mV)\n{gap}".encode()) is Reason.AMBIGUOUS
    coarse = "0.000,1\n0.003,2\n0.006,3\n0.008,4\n0.011,5\n"
    assert refusal(f"time (s),V1 (mV)\n{coarse}".encode()) is Reason.NO_RATE
    recording = read(f"time (s),V1 (mV)\n{coarse}", sampling_frequency=360)
    assert recording.ecg.sampling_frequency == 360


def test_columns_of_no_lead_are_left_out_with_a_note() -> None:
    recording = read(",V1 (mV),Resp\n0,1,7\n1,3,8\n", sampling_frequency=500)
    assert recording.ecg.leads == (Lead.V1,)
    assert len(recording.notes) == 2
    assert refusal(b"Fp1,C3\n1,2\n3,4\n", **STATED) is Reason.NOT_AN_ECG


# What is said and stated


@pytest.mark.parametrize(
    "stated",
    [
        {"unit": "uV"},
        {"leads": ("V1", "V3")},
        {"leads": ("V1",)},
        {"leads": ("V1", "V2", "V3")},
        {"sampling_frequency": 1000},
    ],
)
def test_a_statement_that_contradicts_the_table_is_refused(stated: dict[str, Any]) -> None:
    lines = "".join(f"{n / 500},{n},{n}\n" for n in range(100))
    data = f"time (s),V1 (mV),V2 (mV)\n{lines}".encode()
    agreeing = {"unit": "mV", "leads": ("V1", "V2"), "sampling_frequency": 500}
    assert analysis.read(data, **agreeing).ecg.samples == 100
    assert refusal(data, **stated) is Reason.AMBIGUOUS


def test_names_that_are_no_leads_yield_to_those_stated() -> None:
    recording = read("ch1,ch2\n1,2\n3,4\n", **NAMED)
    assert recording.ecg.leads == (Lead.V1, Lead.V2)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
def test_the_leads_stated_tell_which_axis_is_time(shape: tuple[int, int]) -> None:
    matrix = np.arange(10).reshape(shape)
    recording = analysis.read(saved(np.save, matrix), **NAMED)
    expected = matrix if shape == (2, 5) else matrix.T
    assert np.allclose(recording.ecg.signal, expected / 1000)


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (2, 5, 2)])
def test_an_array_that_could_be_either_way_round_is_refused(shape: tuple[int, ...]) -> None:
    reason = Reason.AMBIGUOUS if len(shape) == 2 else Reason.UNSUPPORTED
    assert refusal(saved(np.save, np.ones(shape)), **NAMED) is reason


# Text


@pytest.mark.parametrize(
    "text",
    [
        "V1,V2\n1.5,2\n3,4\n",
        "V1;V2\r\n1,5;2\r\n3;4\r\n",
        "V1\tV2\n1.5\t2\n3\t4\n",
        "V1\tV2\n1,5\t2\n3\t4\n",
        "V1 V2\n  1.5   2\n  3     4\n",
        "\ufeffV1,V2\n1.5,2\n3,4",
        "some words\nV1,V2\n1.5,2\n3,4\n\n",
        'V1,V2\n"1.5","2"\n"3","4"\n',
        "V1,V2\n+1.5e0,2.\n3,4\n",
    ],
)
def test_text_is_read_as_laboratories_write_it(text: str) -> None:
    recording = read(text, **STATED)
    assert recording.ecg.leads == (Lead.V1, Lead.V2)
    assert np.allclose(recording.ecg.signal * 1000, [[1.5, 3], [2, 4]])


def test_utf_16_is_text_too() -> None:
    data = "V1 (µV)\tV2 (µV)\n1,5\t2\n3\t4\n".encode("utf-16")
    assert analysis.read(data, sampling_frequency=500).ecg.signal[0, 0] == np.float32(0.0015)


def test_empty_cells_hold_no_sample() -> None:
    recording = read("V1,V2,V3\n1,,3\n,5,NaN\nNA,8,\n", **STATED)
    nan = np.nan
    expected = [[1, nan, nan], [nan, 5, 8], [3, nan, nan]]
    assert np.allclose(recording.ecg.signal * 1000, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("V1,V2\n1,2\n3\n", Reason.DAMAGED),
        ("V1,V2\n1,2\n3,4,5\n", Reason.DAMAGED),
        ("V1,V2\n1,2\n3,x\n", Reason.DAMAGED),
        ("V1,V2\nx,2\n3,4\n", Reason.DAMAGED),
        ("V1,V2\n1,2\n\n3,4\n", Reason.DAMAGED),
        ("V1,V2\n1,2\ninf,4\n", Reason.DAMAGED),
        ("V1;V2\n1,5;2\n1.5;4\n", Reason.AMBIGUOUS),
        ("V1,V2,V3\n5,2\n3,4\n", Reason.NO_LEADS),
        ("0,1\n5,6\n7,8\n", Reason.AMBIGUOUS),
        ("1,2,3\n5,6,7\n7,8,9\n", Reason.AMBIGUOUS),
        ("V1,v1\n1,2\n3,4\n", Reason.AMBIGUOUS),
        ("only words\nand more of them\n", Reason.NOT_RECOGNISED),
        ("1," * 1500 + "1\n", Reason.TOO_LARGE),
    ],
)
def test_text_that_is_no_even_table_is_refused(text: str, reason: Reason) -> None:
    assert refusal(text.encode(), **STATED) is reason


def test_a_table_of_numbers_is_no_wfdb_header() -> None:
    text = "12 500 7500\n13 500 7400\n14 500 7300\n15 500 7200\n"
    recording = read(text, **STATED, leads=("V1", "V2", "V3"))
    assert recording.format == "text table"


def test_the_shared_text_is_refused_unless_all_is_stated() -> None:
    path = shared("ecg", "other", "cvrg_J123456_10sec.txt")
    with pytest.raises(Undecodable) as caught:
        analysis.read(path)
    assert caught.value.reason is Reason.NO_SCALE
    assert all(option in caught.value.message for option in ("--unit", "--rate", "--leads"))
    recording = analysis.read(path, **STATED, leads=TWELVE)
    assert (len(recording.ecg.leads), recording.ecg.samples) == (12, 5000)
    assert recording.ecg["I"][0] == np.float32(-0.068)


@pytest.mark.parametrize(
    "path",
    [
        ("other", "cvrg_DEM10000026.rdt"),
        ("contec_ecg", "contec_0000050.ECG"),
        ("contec_ecg", "contec_0000053.ECG"),
    ],
)
def test_files_without_a_mark_of_their_encoding_are_not_recognised(path: tuple[str, str]) -> None:
    assert refusal(shared("ecg", *path).read_bytes()) is Reason.NOT_RECOGNISED


# NumPy, MATLAB, Parquet


def ecg(samples: int = 40) -> ECG:
    signal = np.sin(np.arange(2 * samples)).reshape(2, samples)
    return ECG(signal=signal.astype(np.float32), leads=(Lead.V1, Lead.V2), sampling_frequency=400.0)


def archive(**arrays: Any) -> bytes:
    parts = {"signal": ecg().signal, "leads": np.array(["V1", "V2"]), "fs": 400.0, "unit": "mV"}
    return saved(np.savez, **{k: v for k, v in (parts | arrays).items() if v is not None})


def test_an_archive_of_ours_needs_no_statement() -> None:
    recording = analysis.read(archive())
    assert recording.ecg.leads == (Lead.V1, Lead.V2)
    assert recording.ecg.sampling_frequency == 400
    assert np.array_equal(recording.ecg.signal, ecg().signal)


@pytest.mark.parametrize(
    ("unsaid", "reason"),
    [("unit", Reason.NO_SCALE), ("fs", Reason.NO_RATE), ("leads", Reason.NO_LEADS),
     ("signal", Reason.UNSUPPORTED)],
)  # fmt: skip
def test_an_archive_that_leaves_something_out_needs_a_statement(
    unsaid: str, reason: Reason
) -> None:
    assert refusal(archive(**{unsaid: None})) is reason


def test_objects_are_never_unpickled() -> None:
    for data in (
        saved(np.save, np.array([{}], dtype=object)),
        archive(signal=np.array([[None]], dtype=object)),
    ):
        assert refusal(data, **NAMED) is Reason.UNSUPPORTED


def test_a_size_that_lies_takes_no_memory() -> None:
    data = saved(np.save, np.ones((2, 50)))
    lying = data.replace(b"(2, 50), }        ", b"(2, 9999999999), }")
    assert lying != data
    assert refusal(lying, **NAMED) is Reason.DAMAGED


def test_an_archive_that_grows_beyond_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("arrays", "matlab"):
        monkeypatch.setattr(f"analysis.formats.{module}.MAX_INFLATED", 10_000)
    large = np.zeros((2, 5000))
    assert refusal(saved(np.savez_compressed, signal=large), **NAMED) is Reason.TOO_LARGE
    assert refusal(saved(savemat, {"val": large}, do_compression=True), **NAMED) is Reason.TOO_LARGE


def test_a_changed_sample_of_an_archive_is_refused() -> None:
    data = bytearray(archive())
    data[data.index(ecg().signal.tobytes()) + 100] ^= 1
    assert refusal(bytes(data)) is Reason.DAMAGED


def test_an_archive_of_something_else_is_not_recognised() -> None:
    file = BytesIO()
    with ZipFile(file, "w") as zipped:
        zipped.writestr("word/document.xml", "<x/>")
    assert refusal(file.getvalue()) is Reason.NOT_RECOGNISED


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_one_matrix_of_matlab_is_read_as_stated(options: dict[str, Any]) -> None:
    samples = np.arange(20, dtype=np.int16).reshape(2, 10)
    recording = analysis.read(saved(savemat, {"val": samples}, **options), **NAMED)
    assert np.allclose(recording.ecg.signal, samples / 1000)


def test_a_rate_in_matlab_is_the_rate() -> None:
    data = saved(savemat, {"ecg": np.ones((2, 10)), "Fs": 360.0, "note": "words"})
    stated = {"unit": "mV", "leads": ("V1", "V2")}
    assert analysis.read(data, **stated).ecg.sampling_frequency == 360
    assert refusal(data, **stated, sampling_frequency=500) is Reason.AMBIGUOUS


def test_several_matrices_are_ambiguous_and_none_is_no_waveform() -> None:
    two = {"a": np.ones((2, 10)), "b": np.ones((2, 10))}
    assert refusal(saved(savemat, two), **NAMED) is Reason.AMBIGUOUS
    assert refusal(saved(savemat, {"words": "only"}), **NAMED) is Reason.NO_WAVEFORM


@pytest.mark.parametrize("start", [b"MATLAB 7.3 MAT-file", b"\x89HDF\r\n\x1a\n"])
def test_matlab_7_3_is_refused_with_what_to_do(start: bytes) -> None:
    with pytest.raises(Undecodable, match="-v7") as caught:
        analysis.read(start.ljust(512, b"\0"))
    assert caught.value.reason is Reason.UNSUPPORTED


def test_the_mat_of_physionet_has_no_scale_of_its_own() -> None:
    path = shared("ecg", "wfdb", "A0001.mat")
    assert refusal(path.read_bytes()) is Reason.NO_SCALE
    recording = analysis.read(path, **STATED, leads=TWELVE)
    truth = analysis.read(path.with_suffix(".hea"))
    assert np.allclose(recording.ecg.signal, truth.ecg.signal, atol=1e-7)


def table(**columns: npt.NDArray[Any]) -> pa.Table:
    return pa.table(columns or {"V1": ecg()["V1"], "V2": ecg()["V2"]})


def test_parquet_says_rate_and_unit_in_its_metadata() -> None:
    said = {"sampling_frequency": "400.0", "unit": "mV"}
    data = saved(lambda file: parquet.write_table(table().replace_schema_metadata(said), file))
    recording = analysis.read(data)
    assert np.array_equal(recording.ecg.signal, ecg().signal)
    assert refusal(data, unit="uV") is Reason.AMBIGUOUS


def test_parquet_without_metadata_is_a_bare_table() -> None:
    data = saved(lambda file: parquet.write_table(table(), file))
    assert refusal(data) is Reason.NO_SCALE
    assert np.allclose(analysis.read(data, **STATED).ecg.signal, ecg().signal / 1000)
    words = saved(lambda file: parquet.write_table(table(V1=np.array(["a", "b"])), file))
    assert refusal(words, **STATED) is Reason.DAMAGED


def test_nulls_of_parquet_hold_no_sample() -> None:
    data = saved(
        lambda file: parquet.write_table(pa.table({"V1": [1.0, None, 3.0], "V2": [1, 2, 3]}), file)
    )
    row = analysis.read(data, **STATED).ecg["V1"]
    assert np.allclose(row * 1000, [1, np.nan, 3], equal_nan=True)


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.parquet"])
def test_damage_gives_an_answer_or_a_refusal(name: str) -> None:
    (data,) = writing.encode(Recording(ecg=ecg(), format="x"), name).values()
    for mutant in damaged(data, 400, seed=4):
        with suppress(Undecodable):
            analysis.read(mutant, **NAMED)


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_damaged_matlab_gives_an_answer_or_a_refusal(options: dict[str, Any]) -> None:
    data = saved(savemat, {"val": ecg().signal, "fs": 400.0}, **options)
    for mutant in damaged(data, 300, seed=5, region=range(min(len(data), 400))):
        with suppress(Undecodable):
            analysis.read(mutant, unit="mV", leads=("V1", "V2"))


def test_recognisers_stand_any_bytes() -> None:
    chance = np.random.default_rng(6)
    starts = (b"", b"\x93NUMPY", b"PK\3\4", b"MATLAB 5.0", b"PAR1", b"V1,V2\n", b"ALIVE\0\0\0",
              b"\xffBIOSEMI", b"0       ", struct.pack("<5i", 0, 2, 2, 0, 4))  # fmt: skip
    for start in starts:
        for length in (0, 1, 7, 300):
            with suppress(Undecodable):
                analysis.read(start + chance.bytes(length))


def test_refusals_of_tables_name_no_value_of_the_file() -> None:
    with pytest.raises(Undecodable) as caught:
        read("V1,V2\n1,2\n3,Doe\n", **STATED)
    assert not re.search("Doe", caught.value.message)
