"""Retraining as routine: a candidate that passed the gate shadows by itself, and a person promotes.

One model shadows at a time. Whoever is at it is left alone, so that a nightly run does not end a
comparison before anybody has looked at it.
"""

from analysis.errors import ModelRejected
from dicom_node.models import ModelStore, NotAllowed


def let_shadow(store: ModelStore, digest: str, by: str, now: float) -> str:
    """Return the sentence that says whether a candidate shadows now, or why it does not.

    Parameters
    ----------
    digest
        Of the candidate, SHA-256.
    by
        Whose run made it.
    now
        UTC, seconds since the epoch.
    """
    shadowing = store.shadowing()
    if shadowing is not None and shadowing[0] != digest:
        return "It waits as a candidate: another model shadows."
    try:
        store.shadow(digest, now, by)
    except (LookupError, NotAllowed, ModelRejected) as error:
        return f"It does not shadow: {error}"
    return "It shadows from the next ECG on."
