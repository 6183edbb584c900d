"""The closed vocabulary of findings, with its codes.

Models, criteria, labels and reports speak of findings by these keys and by no others. The
first code is what a DICOM report carries: PS3.16 CID 3230 or CID 3415 where they hold the
concept, else SNOMED CT as PhysioNet/CinC 2021 uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, auto
from types import MappingProxyType
from typing import Final

from analysis.ecg import Code, Lead


def _sct(value: str, meaning: str) -> Code:
    return Code("SCT", value, meaning)


def _mdc(value: str, meaning: str) -> Code:
    return Code("MDC", value, meaning)


class Needs(Flag):
    """What an ECG must be for a finding to be judged on it."""

    NOTHING = 0
    ADULT = auto()
    """A patient of 18 years or more."""
    NO_PACING = auto()
    LIMB_LEADS = auto()
    """Limb leads that are not suspected to be swapped."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finding of the vocabulary."""

    key: str
    name: str
    """As a clinician reads it."""
    code: Code
    scp: str | None = None
    """SCP-ECG statement acronym, as PTB-XL uses them."""
    snomed: tuple[str, ...] = ()
    """SNOMED CT "ECG:" findings that the CinC 2020/2021 labels use for it."""
    urgency: int = 5
    """Order of statements: 1 first."""
    needs: Needs = Needs.NOTHING
    """What must hold before it may be judged."""

    @property
    def adult_only(self) -> bool:
        """Whether its definition holds from 18 years on."""
        return Needs.ADULT in self.needs

    @property
    def not_when_paced(self) -> bool:
        """Whether it says nothing about a paced rhythm."""
        return Needs.NO_PACING in self.needs

    @property
    def not_when_reversed(self) -> bool:
        """Whether it says nothing where limb leads may be swapped."""
        return Needs.LIMB_LEADS in self.needs


_AGE, _PACED, _LIMBS = Needs.ADULT, Needs.NO_PACING, Needs.LIMB_LEADS

_ENTRIES = (
    Entry("normal", "Normal ECG", _sct("164854000", "Normal"), "NORM", (), 9, _AGE | _PACED | _LIMBS),
    Entry("sinus_rhythm", "Sinus rhythm", _mdc("10:9216", "Sinus Rhythm"), "SR", ("426783006",), 8),
    Entry("sinus_bradycardia", "Sinus bradycardia", _mdc("10:9248", "Sinus Bradycardia"), "SBRAD", ("426177001",), 5, _AGE),
    Entry("sinus_tachycardia", "Sinus tachycardia", _mdc("10:9264", "Sinus Tachycardia"), "STACH", ("427084000",), 4, _AGE),
    Entry("sinus_arrhythmia", "Sinus arrhythmia", _mdc("10:9280", "Sinus Arrhythmia"), "SARRH", ("427393009",), 7),
    Entry("atrial_fibrillation", "Atrial fibrillation", _sct("49436004", "Atrial Fibrillation"), "AFIB", ("164889003",), 2),
    Entry("atrial_flutter", "Atrial flutter", _mdc("10:9456", "Atrial flutter"), "AFLT", ("164890007",), 2),
    Entry("svt", "Supraventricular tachycardia", _sct("6456007", "Supraventricular tachycardia"), "SVTAC", ("426761007", "713422000"), 2),
    Entry("pac", "Atrial premature beats", _sct("284470004", "Atrial premature contraction"), "PAC", ("284470004", "63593006"), 5),
    Entry("pvc", "Ventricular premature beats", _sct("251175005", "Ventricular premature contraction"), "PVC", ("427172004", "17338001", "164884008"), 4),
    Entry("atrial_bigeminy", "Atrial bigeminy", _mdc("10:9376", "Atrial Bigeminy"), None, ("251173003",), 4),
    Entry("ventricular_bigeminy", "Ventricular bigeminy", _mdc("10:9920", "Ventricular Bigeminy"), None, ("11157007",), 4),
    Entry("paced", "Paced rhythm", _mdc("10:10240", "Ventricular Demand Mode Pacing"), "PACE", ("10370003",), 1),
    Entry("av_block_1", "First-degree AV block", _sct("270492004", "First degree Atrioventricular block"), "1AVB", ("270492004",), 4, _AGE | _PACED),
    Entry("av_block_2", "Second-degree AV block", _sct("195042002", "Second degree Atrioventricular block"), "2AVB", ("195042002", "426183003", "54016002"), 1, _PACED),
    Entry("av_block_3", "Third-degree AV block", _sct("27885002", "Third degree Atrioventricular block"), "3AVB", ("27885002",), 1, _PACED),
    Entry("lbbb", "Left bundle branch block", _sct("63467002", "Left bundle branch block"), "CLBBB", ("164909002", "733534002"), 2, _AGE | _PACED | _LIMBS),
    Entry("rbbb", "Right bundle branch block", _sct("59118001", "Right bundle branch block"), "CRBBB", ("59118001", "713427006"), 3, _AGE | _PACED | _LIMBS),
    Entry("incomplete_lbbb", "Incomplete left bundle branch block", _sct("251120003", "Incomplete Left bundle branch block"), "ILBBB", ("251120003",), 6, _AGE | _PACED | _LIMBS),
    Entry("incomplete_rbbb", "Incomplete right bundle branch block", _sct("251124007", "Incomplete Right bundle branch block"), "IRBBB", ("713426002",), 6, _AGE | _PACED | _LIMBS),
    Entry("lafb", "Left anterior fascicular block", _sct("37760005", "Left anterior fascicular block"), "LAFB", ("445118002",), 5, _AGE | _PACED | _LIMBS),
    Entry("lpfb", "Left posterior fascicular block", _sct("62026008", "Left posterior fascicular block"), "LPFB", ("445211001",), 5, _AGE | _PACED | _LIMBS),
    Entry("ivcd", "Nonspecific intraventricular conduction delay", _sct("4554005", "Intraventricular conduction disturbance"), "IVCD", ("698252002",), 4, _AGE | _PACED),
    Entry("left_axis", "Left axis deviation", _sct("39732003", "Left axis deviation"), "LAD", ("39732003",), 6, _AGE | _PACED | _LIMBS),
    Entry("right_axis", "Right axis deviation", _sct("47665007", "Right axis deviation"), "RAD", ("47665007",), 6, _AGE | _PACED | _LIMBS),
    Entry("low_voltage", "Low QRS voltage", _sct("251146004", "Low QRS voltage"), "LVOLT", ("251146004",), 6, _AGE | _PACED),
    Entry("lvh", "Left ventricular hypertrophy", _sct("164873001", "Left ventricular hypertrophy"), "LVH", ("164873001",), 4, _AGE | _PACED | _LIMBS),
    Entry("rvh", "Right ventricular hypertrophy", _sct("89792004", "Right ventricular hypertrophy"), "RVH", ("89792004",), 4, _AGE | _PACED | _LIMBS),
    Entry("lae", "Left atrial enlargement", _sct("67741000119109", "Left atrial enlargement"), "LAO/LAE", ("67741000119109",), 6, _AGE | _PACED | _LIMBS),
    Entry("rae", "Right atrial enlargement", _sct("446358003", "Right atrial enlargement"), "RAO/RAE", ("446358003", "446813000"), 6, _AGE | _PACED | _LIMBS),
    Entry("long_qt", "Prolonged QT interval", _sct("111975006", "Prolonged QT interval"), "LNGQT", ("111975006",), 3, _AGE | _PACED),
    Entry("short_qt", "Short QT interval", _sct("77867006", "Short QT interval"), None, ("77867006",), 4, _AGE | _PACED),
    Entry("preexcitation", "Ventricular pre-excitation", _sct("195060002", "Ventricular pre-excitation"), "WPW", ("74390002",), 2, _AGE | _PACED),
    Entry("st_elevation", "ST elevation", _sct("76388001", "ST elevation"), "STE_", ("164931005",), 1, _AGE | _PACED | _LIMBS),
    Entry("st_depression", "ST depression", _sct("26141007", "ST depression"), "STD_", ("429622005",), 2, _AGE | _PACED | _LIMBS),
    Entry("t_inversion", "T wave inversion", _sct("59931005", "Inverted T wave"), "INVT", ("59931005",), 4, _AGE | _PACED | _LIMBS),
    Entry("pathological_q", "Pathological Q waves", _sct("164917005", "Abnormal Q wave"), "QWAVE", ("164917005",), 3, _AGE | _PACED | _LIMBS),
    Entry("myocardial_infarction", "Myocardial infarction pattern", _sct("164865005", "Myocardial infarction"), "MI", ("164865005", "164867002", "164861001", "413844008"), 1, _AGE | _PACED | _LIMBS),
    Entry("conduction_disturbance", "Conduction disturbance", _sct("4554005", "Intraventricular conduction disturbance"), "CD", (), 4, _AGE | _PACED | _LIMBS),
    Entry("hypertrophy", "Hypertrophy pattern", _sct("164873001", "Left ventricular hypertrophy"), "HYP", (), 4, _AGE | _PACED | _LIMBS),
    Entry("st_t_abnormality", "ST-T abnormality", _sct("428750005", "Nonspecific ST-T abnormality"), "STTC", ("428750005", "55930002", "164934002", "55827005", "164930006"), 4, _AGE | _PACED | _LIMBS),
)  # fmt: skip

VOCABULARY: Final[Mapping[str, Entry]] = MappingProxyType({e.key: e for e in _ENTRIES})
"""Every finding key, with its entry."""

LEAD_CODES: Final[Mapping[Lead, Code]] = MappingProxyType(
    {
        lead: _mdc(f"2:{number}", f"Lead {lead}")
        for lead, number in {
            Lead.I: 1, Lead.II: 2, Lead.III: 61, Lead.aVR: 62, Lead.aVL: 63, Lead.aVF: 64,
            Lead.V1: 3, Lead.V2: 4, Lead.V3: 5, Lead.V4: 6, Lead.V5: 7, Lead.V6: 8,
            Lead.V7: 9, Lead.V8: 66, Lead.V9: 67, Lead.V3R: 11, Lead.V4R: 12, Lead.V5R: 13,
            Lead.V6R: 14, Lead.V7R: 15, Lead.V8R: 68, Lead.V9R: 69,
            Lead.X: 16, Lead.Y: 17, Lead.Z: 18,
        }.items()
    }
)  # fmt: skip
"""CID 3001. The SCPECG code of a lead is ``5.6.3-9-`` and the same number."""
