"""What the card of the delineator says in words, and its form for people."""

from analysis.delineator import BEFORE, SAMPLES, SAMPLING_FREQUENCY, Delineator

INTENDED_USE = (
    "Research use. Marks P, QRS and T on the median beat of one to twelve or more leads, for the "
    "measurements of resting ECGs, which a physician reviews."
)
LIMITS = (
    "It learned from 140 subjects of one database and from simulated hearts, and marks as its "
    "cardiologists did. It always gives nine marks per lead: whether a wave is there is decided "
    "by its answer for P, by the rhythm and by what the beats have in common. Flat or biphasic "
    "T waves, P waves within T, flutter and coarse fibrillation are marked least surely. Paced "
    "beats, children and recordings during movement were few or absent."
)


def write_card(delineator: Delineator, size: int) -> str:
    """Return the card as Markdown; every number in it comes from the package itself."""
    card = delineator.card
    errors = "\n".join(
        f"| {item.kind} | {item.mean:+.1f} | {item.deviation:.1f} | {item.marks} |"
        for item in card.errors
    )
    sources = "\n".join(
        f"| {item.name} | {item.records} | {item.licence} | {item.citation} |"
        for item in card.training_data
    )
    return f"""\
# {card.name} {card.version}

SHA-256 `{delineator.identity.digest}`, {size // 1000} kB, made {card.created}.

**Use.** {card.intended_use}

**Limits.** {card.limits}

**Input.** The median beat of one shape, `(leads, {SAMPLES})` in mV at {SAMPLING_FREQUENCY:g} Hz,
R at sample {BEFORE}, in the pass band of `analysis.beats`; any leads in any order and of any scale.
**Output.** `(leads + 1, 9)` marks in samples, the last row of all leads together (from the
second-earliest onset to the second-latest offset), and how sure it is of a P wave (from
{card.p_threshold:g} on there is one).

**Network.** A U-net along time of some 150 000 weights, the same for every lead; leads meet in
the mean and the maximum over them (`training/delineator_net.py`). A mark is the mean of a
distribution over time.

## Errors on subjects not trained on

Five networks, each judged on the fifth of the subjects that it had not seen; ms, per beat and
lead, against the marks of the cardiologists. The shipped network learned from all subjects and
is not measured itself. `analysis/ACCURACY.md` has what becomes of it in the measurements.

| mark | mean | SD | marks |
|---|---|---|---|
{errors}

## Training data

| source | subjects | licence | citation |
|---|---|---|---|
{sources}

Beside it simulated hearts with exact marks (`analysis.synthetic`): about one batch in seven, and
every other one in the last hundreds of steps, almost four times as many for the shipped network,
their intervals then spread evenly from narrow to wide. By what its global marks were late on
such hearts in the end, 2 ms at most, they are set earlier. From which answer on there is a P
wave was chosen on the subjects learned from.

## Again

`python -m training.delineator --data ../shared/data --out analysis/models/delineator.onnx
--created {card.created}`. The same versions give the same weights; those shipped were fitted and
polished in two runs of the same steps, which may differ from one run by rounding, and with beats
found as `analysis.beats` did on {card.created}, before its classes were told anew.
"""
