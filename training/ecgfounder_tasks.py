"""ECGFounder's 150 outputs, in order, and what may be said of each on a report.

They are phrases of a cart's statement library, cut from sentences. Only those that name one
finding of one tracing, and that the vocabulary knows, are ever reported. The others stay in
the net, for fine-tuning, and never reach a clinician; the table says why, output by output.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Standing(StrEnum):
    """What kind of phrase an output is."""

    FINDING = "finding"
    """A finding of one tracing, in the vocabulary."""
    UNCODED = "uncoded"
    """About one tracing, and not the same as any entry of the vocabulary."""
    SERIAL = "serial"
    """A comparison with an earlier tracing, which the net does not see."""
    FRAGMENT = "fragment"
    """Part of a sentence whose other part is another output, or none."""
    META = "meta"
    """About the reading or the reader, not about the heart."""


@dataclass(frozen=True, slots=True)
class Task:
    """One output."""

    name: str
    standing: Standing
    key: str | None
    """Of the vocabulary, where it may be reported."""
    reason: str
    """Why it is reported as that, or never."""


def _finding(name: str, key: str, reason: str = "the same finding") -> Task:
    return Task(name, Standing.FINDING, key, reason)


def _uncoded(name: str, reason: str = "the vocabulary has no such finding") -> Task:
    return Task(name, Standing.UNCODED, None, reason)


def _serial(name: str) -> Task:
    return Task(name, Standing.SERIAL, None, "compares with an earlier tracing")


def _fragment(name: str, reason: str) -> Task:
    return Task(name, Standing.FRAGMENT, None, reason)


def _meta(name: str, reason: str) -> Task:
    return Task(name, Standing.META, None, reason)


_SITE = "infarction of that wall"
_WALL = "ST elevation over that wall"
_PACED = "a rhythm made by a pacemaker"
_BEATS = "paced beats, not a paced rhythm"
_TWO = "two findings in one; each has an output of its own"
_NOT_SAID = "qualifies a rhythm that is another output"

TASKS: Final = (
    _meta("ABNORMAL ECG", "a verdict on the whole tracing, no finding"),
    _finding("NORMAL SINUS RHYTHM", "sinus_rhythm", "sinus rhythm at a normal rate"),
    _finding("NORMAL ECG", "normal"),
    _finding("SINUS RHYTHM", "sinus_rhythm"),
    _finding("SINUS BRADYCARDIA", "sinus_bradycardia"),
    _finding("ATRIAL FIBRILLATION", "atrial_fibrillation"),
    _finding("SINUS TACHYCARDIA", "sinus_tachycardia"),
    _meta("otherwise normal ecg", "a verdict beside findings that are not named"),
    _finding("LEFT AXIS DEVIATION", "left_axis"),
    _finding("PREMATURE VENTRICULAR COMPLEXES", "pvc"),
    _meta("BORDERLINE ECG", "a verdict on the whole tracing, no finding"),
    _finding("RIGHT BUNDLE BRANCH BLOCK", "rbbb"),
    _finding("SEPTAL INFARCT", "myocardial_infarction", _SITE),
    _finding("LEFT ATRIAL ENLARGEMENT", "lae"),
    _finding("NONSPECIFIC T WAVE ABNORMALITY", "st_t_abnormality", "a kind of it"),
    _finding("LOW VOLTAGE QRS", "low_voltage"),
    _finding("PREMATURE ATRIAL COMPLEXES", "pac"),
    _finding("ANTERIOR INFARCT", "myocardial_infarction", _SITE),
    _finding("INCOMPLETE RIGHT BUNDLE BRANCH BLOCK", "incomplete_rbbb"),
    _finding("PREMATURE SUPRAVENTRICULAR COMPLEXES", "pac", "the entry holds that code too"),
    _finding("LEFT BUNDLE BRANCH BLOCK", "lbbb"),
    _serial("NONSPECIFIC T WAVE ABNORMALITY NOW EVIDENT IN"),
    _serial("NONSPECIFIC T WAVE ABNORMALITY NO LONGER EVIDENT IN"),
    _serial("T WAVE INVERSION NOW EVIDENT IN"),
    _finding("LATERAL INFARCT", "myocardial_infarction", _SITE),
    _finding("NONSPECIFIC ST ABNORMALITY", "st_t_abnormality", "a kind of it"),
    _finding("LEFT VENTRICULAR HYPERTROPHY", "lvh"),
    _serial("T WAVE INVERSION NO LONGER EVIDENT IN"),
    _fragment("WITH RAPID VENTRICULAR RESPONSE", _NOT_SAID),
    _serial("QT HAS SHORTENED"),
    _serial("QT HAS LENGTHENED"),
    _uncoded("FUSION COMPLEXES"),
    _finding("ATRIAL FLUTTER", "atrial_flutter"),
    _finding("MARKED SINUS BRADYCARDIA", "sinus_bradycardia", "a degree of it"),
    _finding("WITH SINUS ARRHYTHMIA", "sinus_arrhythmia"),
    _finding("NONSPECIFIC ST AND T WAVE ABNORMALITY", "st_t_abnormality"),
    _finding("LEFT ANTERIOR FASCICULAR BLOCK", "lafb"),
    _finding("RIGHT AXIS DEVIATION", "right_axis"),
    _uncoded("ECTOPIC ATRIAL RHYTHM"),
    _meta("UNDETERMINED RHYTHM", "says that the rhythm was not understood"),
    _finding("ANTEROSEPTAL INFARCT", "myocardial_infarction", _SITE),
    _uncoded("RIGHTWARD AXIS", "borderline; the vocabulary means a deviation"),
    _serial("ST NOW DEPRESSED IN"),
    _uncoded("WITH SHORT PR", "a short PR alone is no pre-excitation"),
    _finding("WITH MARKED SINUS ARRHYTHMIA", "sinus_arrhythmia", "a degree of it"),
    _serial("ST NO LONGER DEPRESSED IN"),
    _serial("INVERTED T WAVES HAVE REPLACED NONSPECIFIC T WAVE ABNORMALITY IN"),
    _serial("NON-SPECIFIC CHANGE IN ST SEGMENT IN"),
    _serial("NONSPECIFIC T WAVE ABNORMALITY HAS REPLACED INVERTED T WAVES IN"),
    _uncoded("JUNCTIONAL RHYTHM"),
    _finding("ELECTRONIC ATRIAL PACEMAKER", "paced", _PACED),
    _uncoded("ABERRANT CONDUCTION"),
    _finding("ELECTRONIC VENTRICULAR PACEMAKER", "paced", _PACED),
    _serial("T WAVE INVERSION LESS EVIDENT IN"),
    _finding("ANTEROLATERAL INFARCT", "myocardial_infarction", _SITE),
    _fragment("WITH REPOLARIZATION ABNORMALITY", "qualifies a hypertrophy that is another output"),
    _uncoded("RSR' OR QR PATTERN IN V1 SUGGESTS RIGHT VENTRICULAR CONDUCTION DELAY"),
    _serial("T WAVE INVERSION MORE EVIDENT IN"),
    _uncoded("WIDE QRS RHYTHM"),
    _uncoded(
        "WITH PREMATURE VENTRICULAR OR ABERRANTLY CONDUCTED COMPLEXES",
        "names two causes and chooses none",
    ),
    _finding("RIGHT ATRIAL ENLARGEMENT", "rae"),
    _finding("INFERIOR INFARCT", "myocardial_infarction", _SITE),
    _finding("INCOMPLETE LEFT BUNDLE BRANCH BLOCK", "incomplete_lbbb"),
    _uncoded(
        "VOLTAGE CRITERIA FOR LEFT VENTRICULAR HYPERTROPHY", "voltage alone is no hypertrophy"
    ),
    _fragment("OR DIGITALIS EFFECT", "one half of an alternative"),
    _uncoded("BIFASCICULAR BLOCK", "does not say which fascicles"),
    _serial("ST NO LONGER ELEVATED IN"),
    _fragment("WITH SLOW VENTRICULAR RESPONSE", _NOT_SAID),
    _serial("ST ELEVATION NOW PRESENT IN"),
    _uncoded("PREMATURE ECTOPIC COMPLEXES", "leaves open where they come from"),
    _finding("LEFT POSTERIOR FASCICULAR BLOCK", "lpfb"),
    _serial("T WAVE AMPLITUDE HAS DECREASED IN"),
    _uncoded("WITH A COMPETING JUNCTIONAL PACEMAKER"),
    _uncoded("RIGHT SUPERIOR AXIS DEVIATION", "an axis that is neither left nor right"),
    _uncoded("BIATRIAL ENLARGEMENT", _TWO),
    _finding("VENTRICULAR-PACED RHYTHM", "paced", _PACED),
    _finding("ATRIAL-PACED RHYTHM", "paced", _PACED),
    _serial("T WAVE AMPLITUDE HAS INCREASED IN"),
    _fragment("WITH QRS WIDENING", "qualifies a hypertrophy that is another output"),
    _finding("WITH 1ST DEGREE AV BLOCK", "av_block_1"),
    _finding("PROLONGED QT", "long_qt"),
    _fragment("WITH PROLONGED AV CONDUCTION", _NOT_SAID),
    _finding("RIGHT VENTRICULAR HYPERTROPHY", "rvh"),
    _fragment(
        "WITH QRS WIDENING AND REPOLARIZATION ABNORMALITY",
        "qualifies a hypertrophy that is another output",
    ),
    _finding("ATRIAL-SENSED VENTRICULAR-PACED RHYTHM", "paced", _PACED),
    _finding("AV SEQUENTIAL OR DUAL CHAMBER ELECTRONIC PACEMAKER", "paced", _PACED),
    _uncoded("PULMONARY DISEASE PATTERN"),
    _finding("ACUTE MI / STEMI", "myocardial_infarction", "infarction; its age is not reported"),
    _finding("INFERIOR-POSTERIOR INFARCT", "myocardial_infarction", _SITE),
    _finding("NONSPECIFIC INTRAVENTRICULAR CONDUCTION DELAY", "ivcd"),
    _finding("PREMATURE VENTRICULAR AND FUSION COMPLEXES", "pvc", "the first of the two"),
    _fragment("IN A PATTERN OF BIGEMINY", "does not say which beats"),
    _finding("AV DUAL-PACED RHYTHM", "paced", _PACED),
    _finding("SUPRAVENTRICULAR TACHYCARDIA", "svt"),
    _uncoded("VENTRICULAR-PACED COMPLEXES", _BEATS),
    _uncoded("WIDE QRS TACHYCARDIA"),
    _uncoded("RSR' PATTERN IN V1"),
    _serial("ST LESS DEPRESSED IN"),
    _uncoded("VENTRICULAR TACHYCARDIA"),
    _uncoded("EARLY REPOLARIZATION"),
    _serial("ST MORE DEPRESSED IN"),
    _fragment("ANTEROLATERAL LEADS", "a place without a finding"),
    _finding("ELECTRONIC DEMAND PACING", "paced", _PACED),
    _uncoded("RBBB AND LEFT ANTERIOR FASCICULAR BLOCK", _TWO),
    _finding("LATERAL INJURY PATTERN", "st_elevation", _WALL),
    _finding("BIVENTRICULAR PACEMAKER DETECTED", "paced", _PACED),
    _uncoded("SUSPECT UNSPECIFIED PACEMAKER FAILURE", "a suspicion about the device"),
    _finding("WOLFF-PARKINSON-WHITE", "preexcitation"),
    _uncoded("WITH VENTRICULAR ESCAPE COMPLEXES"),
    _finding("INFERIOR INJURY PATTERN", "st_elevation", _WALL),
    _meta(
        "CONSIDER RIGHT VENTRICULAR INVOLVEMENT IN ACUTE INFERIOR INFARCT",
        "advice to the reader, to be settled by leads that are not there",
    ),
    _serial("ST ELEVATION HAS REPLACED ST DEPRESSION IN"),
    _finding("NONSPECIFIC INTRAVENTRICULAR BLOCK", "ivcd"),
    _fragment("MASKED BY FASCICULAR BLOCK", "does not say what is masked"),
    _meta("PEDIATRIC ECG ANALYSIS", "says which criteria a cart applied"),
    _fragment("BLOCKED", "does not say what is blocked"),
    _meta("WITH UNDETERMINED RHYTHM IRREGULARITY", "says that the rhythm was not understood"),
    _uncoded("LEFTWARD AXIS", "borderline; the vocabulary means a deviation"),
    _uncoded("WITH 2ND DEGREE SA BLOCK MOBITZ I"),
    _fragment("ACUTE", "does not say what is acute"),
    _finding("ABNORMAL LEFT AXIS DEVIATION", "left_axis"),
    _finding("WITH COMPLETE HEART BLOCK", "av_block_3"),
    _meta("NO P-WAVES FOUND", "says what a cart did not detect"),
    _serial("ST LESS ELEVATED IN"),
    _uncoded("WITH RETROGRADE CONDUCTION"),
    _serial("ST MORE ELEVATED IN"),
    _uncoded("JUNCTIONAL BRADYCARDIA"),
    _fragment("WITH VARIABLE AV BLOCK", _NOT_SAID),
    _finding("ANTERIOR INJURY PATTERN", "st_elevation", _WALL),
    _uncoded("WITH JUNCTIONAL ESCAPE COMPLEXES"),
    _finding("ACUTE MI", "myocardial_infarction", "infarction; its age is not reported"),
    _uncoded("ACUTE PERICARDITIS"),
    _finding("POSTERIOR INFARCT", "myocardial_infarction", _SITE),
    _uncoded("IDIOVENTRICULAR RHYTHM"),
    _uncoded("WITH 2ND DEGREE SA BLOCK MOBITZ II"),
    _fragment("R IN AVL", "one criterion of a hypertrophy that is another output"),
    _uncoded("SINUS/ATRIAL CAPTURE"),
    _uncoded("AV DUAL-PACED COMPLEXES", _BEATS),
    _finding("INFEROLATERAL INJURY PATTERN", "st_elevation", _WALL),
    _uncoded("RBBB AND LEFT POSTERIOR FASCICULAR BLOCK", _TWO),
    _finding("ANTEROLATERAL INJURY PATTERN", "st_elevation", _WALL),
    _uncoded("ATRIAL-PACED COMPLEXES", _BEATS),
    _uncoded("WITH SINUS PAUSE"),
    _uncoded("BIVENTRICULAR HYPERTROPHY", _TWO),
    _finding("ABNORMAL RIGHT AXIS DEVIATION", "right_axis"),
    _uncoded("SUPRAVENTRICULAR COMPLEXES", "does not say that they are premature"),
    _finding("WITH 2ND DEGREE AV BLOCK MOBITZ I", "av_block_2"),
    _fragment("WITH 2:1 AV CONDUCTION", "of flutter or of sinus rhythm: which is not said"),
    _uncoded("WITH AV DISSOCIATION"),
    _uncoded("MULTIFOCAL ATRIAL TACHYCARDIA"),
)
"""Every output, in the order of the released head."""
