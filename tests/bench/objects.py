"""What judges say of every result of many ECGs: `python tests/bench/objects.py [NUMBER]`.

Prints a table by group of inputs (tests/varied_inputs.py), then each complaint, each false
positive that was set aside with its reason, and why inputs have no result. With a number, only
so many of the inputs are taken. Shared ECGs lie in `../shared` or where SINUSNODE_SHARED
says. Needs dciodvfy, dcentvfy, dsrdump and Orthanc. Exits with 1 where there is a complaint.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from object_judges import JUDGES, Archive, Verdict, judge
from peers import running_orthanc
from validators import FALSE_POSITIVES
from varied_inputs import every, spread

COLUMNS = ("inputs", "no result", "objects", *JUDGES)


def main(arguments: Sequence[str]) -> int:
    """Print everything; return the exit status."""
    inputs = spread(every(), int(arguments[0])) if arguments else every()
    started = time.monotonic()
    os.environ |= {"OMP_NUM_THREADS": "1", "TCP_NODELAY": "1"}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_orthanc(Path(folder, "orthanc"), node_port=1) as orthanc,
        ProcessPoolExecutor() as pool,
    ):
        archive = Archive(orthanc.address, orthanc.url)
        verdicts = list(pool.map(partial(judge, archive=archive), inputs, chunksize=4))
    _table(verdicts)
    _complaints(verdicts)
    _excused(verdicts)
    _refused(verdicts)
    print(f"\n{time.monotonic() - started:.0f} s.")
    return int(any(item.complaints for item in verdicts))


def _table(verdicts: Sequence[Verdict]) -> None:
    print(f"| group | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for group, members in groupby(verdicts, lambda item: item.group):
        _row(group, list(members))
    _row("all", verdicts)


def _row(group: str, verdicts: Sequence[Verdict]) -> None:
    objects = sum(len(item.objects) for item in verdicts)
    numbers = [len(verdicts), sum(bool(item.refused) for item in verdicts), objects]
    numbers += [sum(len(item.complaints.get(name, ())) for item in verdicts) for name in JUDGES]
    print(f"| {group} | {' | '.join(map(str, numbers))} |")


def _complaints(verdicts: Sequence[Verdict]) -> None:
    for item in verdicts:
        for name, lines in item.complaints.items():
            print(f"\n{item.group}, {item.name}: {name} complains")
            _counted(Counter(lines))


def _excused(verdicts: Sequence[Verdict]) -> None:
    print("\nSet aside as false:")
    counts: Counter[str] = sum((item.excused for item in verdicts), Counter())
    reasons = {f"{item.program}: {item.words}": item.why for item in FALSE_POSITIVES}
    _counted({f"{words} ({reasons[words]})": count for words, count in counts.items()})


def _refused(verdicts: Sequence[Verdict]) -> None:
    print("\nWithout a result:")
    _counted(Counter(item.refused for item in verdicts if item.refused))


def _counted(lines: Mapping[str, int]) -> None:
    for line, count in sorted(lines.items(), key=lambda item: -item[1]):
        print(f"  {count} x {line}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
