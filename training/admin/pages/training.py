"""The form that starts a run: every choice of a plan, with what it means and a sensible default."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from training.admin.pages.holdings import Holdings
from training.admin.pages.words import finding_name
from training.labels import TAUGHT_BY_DEFAULT, Origin, Value
from training.plan import (
    FIND,
    Augment,
    Balance,
    Calibration,
    Loss,
    Mode,
    Optimiser,
    Plan,
    Schedule,
    Task,
)
from training.splits import Way

ARCHITECTURES: Final = {
    "inceptiontime": "InceptionTime: 0.5 million weights, several kernel lengths at once",
    "xceptiontime": "XceptionTime: 0.4 million weights, the quickest",
    "xresnet1d": "xresnet1d: the reference of the PTB-XL benchmark",
    "se-wide-resnet": "Wide residual net with attention (PhysioNet challenge)",
    "net1d": "Net1D of ECGFounder: 31 million weights, wants an accelerator",
}
"""What can be learned from random weights; a test holds it against the ones there are."""

_FEWEST: Final = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to a question of the form."""

    value: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One field of a plan as the form asks for it."""

    name: str
    """Of the field, with dots for a field within a field."""
    title: str
    help: str
    kind: str = "number"
    """number, text, choice, check or several."""
    value: Any = None
    """The default."""
    choices: tuple[Choice, ...] = ()
    step: str = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A finding that could be learned, and what there is to learn it from."""

    key: str
    name: str
    present: int
    absent: int

    @property
    def enough(self) -> bool:
        """Whether it could be told from its absence at all."""
        return min(self.present, self.absent) >= _FEWEST


def targets(found: Holdings) -> tuple[Target, ...]:
    """Return every finding that the labels speak of, those with the most positives first."""
    counts: dict[str, list[int]] = {}
    table = found.labels.select(origins=TAUGHT_BY_DEFAULT)
    for record in found.ids:
        for key in found.said.get(record, ()):
            value = table.value(record, key)
            if value is not Value.UNKNOWN:
                counts.setdefault(key, [0, 0])[value is Value.ABSENT] += 1
    listed = [
        Target(key=key, name=finding_name(key), present=present, absent=absent)
        for key, (present, absent) in counts.items()
    ]
    return tuple(sorted(listed, key=lambda item: (not item.enough, -item.present, item.key)))


def _choices(kind: Any, texts: Sequence[str]) -> tuple[Choice, ...]:
    return tuple(Choice(str(item), text) for item, text in zip(kind, texts, strict=True))


_DEFAULT: Final = Plan(name="a", keys=("a",))
_AUGMENT: Final = Augment()


def bases(models: Sequence[Choice]) -> Question:
    """Return the question what is learned from; `models` are those that can be, the best first."""
    fresh = [Choice(name, text) for name, text in ARCHITECTURES.items()]
    choices = (*models, *fresh)
    return Question(
        name="base",
        title="Learn from",
        kind="choice",
        value=choices[0].value,
        help="A model that knows ECGs already needs fewer recordings than one that begins anew.",
        choices=choices,
    )


def mode(base: Question) -> Question:
    """Return the question what learns, its default that of the base."""
    fresh = base.value in ARCHITECTURES
    return replace(_MODE, value=Mode.SCRATCH if fresh else Mode.HEAD)


_MODE: Final = Question(
    name="mode", title="What learns", kind="choice", value=Mode.HEAD,
    help="With few recordings begin with the head; with thousands let all of it learn.",
    choices=_choices(Mode, (
        "Everything, from random weights (choose an architecture above)",
        "A new head alone: minutes on a small machine, everything else stays as it is",
        "A new head first, then the layers before it, gently",
        "Everything, from where the model stopped; the same findings",
    )),
)  # fmt: skip

BUDGET: Final = (
    Question(name="epochs", title="Epochs", value=_DEFAULT.epochs, step="1",
             help="Rounds through all recordings; it stops earlier if nothing gets better."),
    Question(name="minutes", title="Minutes at most", value=60.0,
             help="Then the best epoch so far is taken."),
    Question(name="threshold_purpose", title="Threshold", kind="text", value="f-max",
             help="f-max, or for example “sensitivity 0.90” or “specificity 0.95”; set on the "
                  "validation part and stored in the model."),
)  # fmt: skip

DETAILS: Final = (
    Question(name="task", title="Kind of answer", kind="choice", value=_DEFAULT.task,
             help="Several findings may stand together in one ECG: multi-label.",
             choices=_choices(Task, ("Each finding for itself", "Exactly one of them",
                                     "A number"))),
    Question(name="origins", title="Whose labels teach", kind="several",
             value=tuple(map(str, TAUGHT_BY_DEFAULT)), help="An AI result is never among them.",
             choices=_choices(Origin, ("Physicians' over-reads", "Reviewers here",
                                       "The cart's program", "Diagnosis codes"))),
    Question(name="split.way", title="Split", kind="choice", value=Way.STRATIFIED,
             help="Always by patient: nobody is in two parts. The test part is read once.",
             choices=_choices(Way, ("Alike in all parts", "The latest patients judge",
                                    "Other sites judge"))),
    Question(name="seed", title="Seed", value=_DEFAULT.seed, step="1",
             help="The same seed on the same machine gives the same model."),
    Question(name="learning_rate", title="Learning rate", kind="text", value=FIND,
             help="A number, or “find”: looked for on the training part alone."),
    Question(name="schedule", title="Its course", kind="choice", value=_DEFAULT.schedule,
             help="One cycle suits nearly always.",
             choices=_choices(Schedule, ("One cycle", "Exponential", "Down at a plateau",
                                         "Constant"))),
    Question(name="optimiser", title="Optimiser", kind="choice", value=_DEFAULT.optimiser,
             help="AdamW unless you know why not.",
             choices=_choices(Optimiser, ("AdamW", "Adam", "NAdam", "RMSprop", "SGD"))),
    Question(name="batch_size", title="Batch", value=_DEFAULT.batch_size, step="1",
             help="Recordings per step; fewer need less memory."),
    Question(name="weight_decay", title="Weight decay", value=_DEFAULT.weight_decay,
             help="Keeps weights small."),
    Question(name="loss", title="Loss", kind="choice", value=_DEFAULT.loss,
             help="Focal where nearly everything is easy.",
             choices=_choices(Loss, ("Cross entropy", "Focal"))),
    Question(name="class_weights", title="Rare findings weigh more", kind="check",
             value=_DEFAULT.class_weights, help="So that the rare is not forgotten."),
    Question(name="balance", title="Who is compared", kind="choice", value=_DEFAULT.balance,
             help="Of those without the finding; for one finding alone.",
             choices=_choices(Balance, ("All", "As many as have it",
                                        "As many, alike in age and sex"))),
    Question(name="patience", title="Patience", value=_DEFAULT.patience, step="1",
             help="Epochs without getting better before it stops; 0 = never."),
    Question(name="calibration", title="Calibration", kind="choice", value=_DEFAULT.calibration,
             help="Makes 0.8 mean eight of ten.",
             choices=_choices(Calibration, ("Temperature", "Isotonic: needs many", "None"))),
)  # fmt: skip

AUGMENTATION: Final = (
    Question(name="augment.lead_dropout", title="Silence a lead", value=_AUGMENT.lead_dropout,
             help="Probability per lead."),
    Question(name="augment.lead_subset", title="Few leads only", value=_AUGMENT.lead_subset,
             help="Probability that only some leads stay, down to one."),
    Question(name="augment.time_shift", title="Shift, s", value=_AUGMENT.time_shift,
             help="At most so many seconds."),
    Question(name="augment.amplitude", title="Amplitude", value=_AUGMENT.amplitude,
             help="Largest relative change."),
    Question(name="augment.wander", title="Wander", value=_AUGMENT.wander,
             help="A slow baseline, as a share of the recording."),
    Question(name="augment.noise", title="Noise", value=_AUGMENT.noise, help="The same for noise."),
    Question(name="augment.mixup", title="Mixup", value=_AUGMENT.mixup,
             help="Alpha of the mixture of two recordings; 0 = off."),
)  # fmt: skip


def questions(base: Question) -> Iterator[Question]:
    """Yield every question."""
    yield from (base, mode(base), *BUDGET, *DETAILS, *AUGMENTATION)
