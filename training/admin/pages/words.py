"""Words that several pages use."""

from analysis.codes import VOCABULARY


def finding_name(key: str) -> str:
    """Return how a clinician reads a finding; a free name as it is."""
    return VOCABULARY[key].name if key in VOCABULARY else key
