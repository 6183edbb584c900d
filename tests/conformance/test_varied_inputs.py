"""Results of inputs of every kind stand before every judge; `tests/bench/objects.py` tells more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from object_judges import Archive, judge
from peers import running_orthanc
from support import shared
from varied_inputs import Input, every, spread

QUICKLY = 60
MAY_HOLD_NO_ECG = (
    "shared DICOM",
    "shared, other encodings",
    "data, multisource12",
    "carts without",
)


def _cases() -> Iterator[object]:
    inputs = every()
    quick = {item.name for item in spread(inputs, QUICKLY)}
    for item in inputs:
        marks = () if item.name in quick else pytest.mark.slow
        yield pytest.param(item, id=f"{item.group}: {item.name}", marks=marks)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder: Path = tmp_path_factory.mktemp("archive") / "orthanc"
    with running_orthanc(folder, node_port=1) as orthanc:
        yield Archive(orthanc.address, orthanc.url)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of odd values of the sources
@pytest.mark.parametrize("item", list(_cases()))
def test_every_judge_accepts_the_results(item: Input, archive: Archive) -> None:
    verdict = judge(item, archive)
    assert verdict.complaints == {}
    assert verdict.objects or item.group in MAY_HOLD_NO_ECG


def test_the_shared_ecgs_are_among_the_inputs() -> None:
    assert shared("ecg").is_dir()
    assert shared("data").is_dir()
    assert len(every()) >= 500
