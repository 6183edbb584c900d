"""storescu pushes a cart's file, storescp receives the results, other programs judge them."""

import subprocess
from pathlib import Path

import pytest
from cart import CART_FILE
from node import Node
from peers import running, storescp, storescu
from pydicom import dcmread
from pydicom.dataset import Dataset
from support import need_program

Results = dict[str, Path]
GENERAL_ECG = "1.2.840.10008.5.1.4.1.1.9.1.2"
FALSE_ERRORS = (
    # dciodvfy reads the condition of (0018,1068) as "only with a time synchronisation frame"
    "MultiplexGroupTimeOffset(0018,1068)> - Attribute present when condition unsatisfied",
)
FALSE_CONFLICTS = (
    # dcentvfy files (0008,0050) under Series in waveforms and PDFs, under Study in reports
    "Different information entities for attribute - Element=<AccessionNumber>",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What arrived at storescp: the path of each file by its modality."""
    folder = tmp_path_factory.mktemp("dcmtk")
    arrived = folder / "arrived"
    with (
        storescp(arrived) as pacs,
        running(Node(folder / "node", {pacs.ae_title: pacs.port})) as node,
    ):
        storescu(node.address, CART_FILE)
        assert node.settled(1)
    return {str(dcmread(path).Modality): path for path in arrived.iterdir()}


def test_report_page_and_annotated_ecg_arrive_in_the_sources_study(results: Results) -> None:
    assert sorted(results) == ["DOC", "ECG", "SR"]
    studies = {str(dcmread(path).StudyInstanceUID) for path in (CART_FILE, *results.values())}
    assert len(studies) == 1


@pytest.mark.parametrize("modality", ["SR", "DOC", "ECG"])
def test_dciodvfy_finds_no_error(results: Results, modality: str) -> None:
    lines = _said(need_program("dciodvfy"), "-new", results[modality])
    assert [line for line in _but(lines, FALSE_ERRORS) if line.startswith("Error")] == []


def test_dcentvfy_finds_source_and_results_consistent(results: Results) -> None:
    lines = _said(need_program("dcentvfy"), CART_FILE, *results.values())
    assert _but(lines, FALSE_CONFLICTS) == []


def test_dsrdump_reads_the_report(results: Results) -> None:
    command = [need_program("dsrdump"), "--quiet", results["SR"]]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_annotated_ecg_holds_the_sources_rhythm_bit_for_bit_under_another_uid(
    results: Results,
) -> None:
    source, copy = dcmread(CART_FILE), dcmread(results["ECG"])
    theirs, ours = source.WaveformSequence[0], copy.WaveformSequence[0]
    assert copy.SOPClassUID == GENERAL_ECG
    assert copy.SOPInstanceUID != source.SOPInstanceUID
    assert (theirs.MultiplexGroupLabel, ours.MultiplexGroupLabel) == ("RHYTHM", "RHYTHM")
    assert ours.WaveformData == theirs.WaveformData
    assert ours.SamplingFrequency == theirs.SamplingFrequency
    assert [_scale(channel) for channel in ours.ChannelDefinitionSequence] == [
        _scale(channel) for channel in theirs.ChannelDefinitionSequence
    ]


def _scale(channel: Dataset) -> tuple[object, ...]:
    return (
        channel.ChannelSensitivity,
        channel.ChannelSensitivityCorrectionFactor,
        channel.ChannelBaseline,
        channel.ChannelSensitivityUnitsSequence[0].CodeValue,
    )


def _said(*command: str | Path) -> list[str]:
    """Return the lines that a judge prints, on either stream."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


def _but(lines: list[str], known: tuple[str, ...]) -> list[str]:
    return [line for line in lines if not any(words in line for words in known)]
