"""What this library refuses, and why.

Every refusal carries a reason from a closed list, used alike in logs, metrics, reports and
exit codes, and one sentence that says what to do.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a source cannot be read as an ECG. Closed: a new cause needs a new member."""

    UNREADABLE = "unreadable"
    """The file cannot be opened: it is absent, a folder, or not permitted."""
    NOT_RECOGNISED = "not-recognised"
    """The bytes are no encoding this library reads."""
    DAMAGED = "damaged"
    """The encoding is known, but the bytes are cut, contradictory or undecodable."""
    TOO_LARGE = "too-large"
    """A size, count or nesting depth exceeds what an ECG can have."""
    NOT_AN_ECG = "not-an-ecg"
    """The object is well formed and holds something else."""
    NO_WAVEFORM = "no-waveform"
    """The object is an ECG by name and holds no samples."""
    NO_SCALE = "no-scale"
    """Sensitivity or its unit is absent or absurd: amplitudes cannot be known."""
    NO_RATE = "no-rate"
    """The sampling frequency is absent or absurd."""
    NO_LEADS = "no-leads"
    """Which lead a channel holds cannot be known."""
    AMBIGUOUS = "ambiguous"
    """Two statements of the file contradict each other and neither may be preferred."""
    UNSUPPORTED = "unsupported"
    """Valid, and not supported by this version."""


class ModelReason(StrEnum):
    """Why a model package is not accepted."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too-large"
    EXTERNAL_DATA = "external-data"
    FORBIDDEN_OPERATOR = "forbidden-operator"
    NO_CARD = "no-card"
    INVALID_CARD = "invalid-card"
    WRONG_SHAPE = "wrong-shape"
    NOT_FINITE = "not-finite"
    SELF_TEST_FAILED = "self-test-failed"


class Undecodable(Exception):
    """The source cannot be read as an ECG; the only exception of :func:`analysis.read`.

    Parameters
    ----------
    reason
        Which of the closed list.
    message
        One sentence: what is wrong, and what to do. It never holds patient data.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type["Undecodable"], tuple[Reason, str]]:
        return type(self), (self.reason, self.message)


class ModelRejected(Exception):
    """The file is not a model package that may be run."""

    def __init__(self, reason: ModelReason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type["ModelRejected"], tuple[ModelReason, str]]:
        return type(self), (self.reason, self.message)
