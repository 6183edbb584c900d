"""Every refusal has one sentence of its own, whatever list it stands in."""

from itertools import chain

from dicom_node.reasons import SENTENCES, Delivery, Quarantine, Refusal, sentence

EVERY = list(chain(Refusal, Quarantine, Delivery))


def test_no_two_reasons_share_a_word_and_so_a_sentence() -> None:
    assert len(set(map(str, EVERY))) == len(EVERY)


def test_every_reason_has_a_whole_sentence() -> None:
    for reason in EVERY:
        assert sentence(reason).endswith("."), reason
    assert set(SENTENCES) == set(EVERY)
