"""Damaged DICOM files: an answer or a refusal, quickly, and never a silent change."""

import random
import resource
from collections.abc import Iterator

import numpy as np
import pytest
from dicom_objects import dataset, group, synthetic, written
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from analysis.ecg import Recording
from analysis.errors import Undecodable
from analysis.formats import read
from analysis.formats.dicom import decode, parse

MUTANTS = 4000
LIMB_CHANNELS = 6


def flip(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] = chance.randrange(256)


def cut(data: bytearray, at: int, _: random.Random) -> None:
    del data[at:]


def repeat(data: bytearray, at: int, chance: random.Random) -> None:
    data[at:at] = data[at : at + chance.randrange(1, 64)]


def remove(data: bytearray, at: int, chance: random.Random) -> None:
    del data[at : at + chance.randrange(1, 16)]


def blank(data: bytearray, at: int, _: random.Random) -> None:
    data[at : at + 4] = bytes(4)


def lie(data: bytearray, at: int, chance: random.Random) -> None:
    data[at : at + 4] = chance.choice((2**31, 2**32 - 1, 2**32 - 2, 65535)).to_bytes(4, "little")


MUTATIONS = (flip, overwrite, cut, repeat, remove, blank, lie)


def mutants(data: bytes, region: range, number: int, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(number):
        mutant = bytearray(data)
        chance.choice(MUTATIONS)(mutant, chance.choice(region), chance)
        yield bytes(mutant)


def outcome(data: bytes) -> Recording | None:
    """Return the recording, or None for a refusal; any other exception fails the test."""
    try:
        return read(data)
    except Undecodable:
        return None


def same(one: Recording, other: Recording) -> bool:
    return (
        one.ecg.leads == other.ecg.leads
        and one.ecg.signal.shape == other.ecg.signal.shape
        and np.array_equal(one.ecg.signal, other.ecg.signal, equal_nan=True)
    )


def ecg_file(syntax: str | None = None) -> bytes:
    rhythm = group(synthetic(seconds=1.0), step=0.004)
    beat = group(synthetic(seconds=0.4), step=0.004, originality="DERIVED", label="MEDIAN BEAT")
    item = dataset([rhythm, beat])
    return written(item, syntax) if syntax else written(item)


def headers(data: bytes) -> range:
    """Return where everything stands but the samples of the first group."""
    return range(data.index(b"\x10\x10OW\0\0") + 10)


@pytest.mark.parametrize("seed", range(2))
def test_damage_before_the_samples_never_changes_microvolts_without_a_note(seed: int) -> None:
    data = ecg_file()
    original = read(data)
    for mutant in mutants(data, headers(data), MUTANTS, seed):
        result = outcome(mutant)
        if result is not None and not same(result, original):
            assert result.notes, mutant[:2000]


def test_damage_to_the_limb_leads_is_noted_by_their_laws() -> None:
    data = ecg_file()
    start = headers(data).stop
    chance = random.Random(5)
    for _ in range(300):
        mutant = bytearray(data)
        sample, lead = chance.randrange(500), chance.randrange(LIMB_CHANNELS)
        mutant[start + 2 * (12 * sample + lead)] ^= 1 << chance.randrange(4, 8)
        notes = read(bytes(mutant)).notes
        assert any("limb leads contradict" in note for note in notes)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_damage_in_other_transfer_syntaxes_is_an_answer_or_a_refusal(syntax: str) -> None:
    data = ecg_file(syntax)
    for mutant in mutants(data, range(len(data)), 1500, seed=7):
        outcome(mutant)


def test_a_damaged_file_that_parses_can_be_read_element_by_element() -> None:
    data = ecg_file()
    for mutant in mutants(data, headers(data), 150, seed=11):
        try:
            parsed = parse(mutant)
        except Undecodable:
            continue
        for element in parsed.iterall():
            str(element.value)
        try:
            decode(parsed)
        except Undecodable:
            continue


def test_damaged_files_do_not_take_memory() -> None:
    data = ecg_file()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for mutant in mutants(data, range(len(data)), 1000, seed=3):
        outcome(mutant)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB
