"""The HL7 message: read back by another library, identity verbatim, nothing said twice."""

import base64
import io
from dataclasses import replace

import pydicom
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message as Parsed
from hl7apy.parser import parse_message
from pydicom.dataset import Dataset
from report_samples import PAGE, cart_file, objects, result_for, simulated, varied

from analysis.result import Overall, Result
from dicom_node.report import SAFETY_SENTENCE, Message, ReportOptions
from dicom_node.report.oru import Address, addressed, control_id, oru_faults

HERE = Address(
    sending_application="SINUSNODE", sending_facility="HOSPITAL", receiving_application="EHR",
    receiving_facility="A|B", character_set="UNICODE UTF-8", page=True,
)  # fmt: skip


def message(source: Dataset, result: Result | None = None, **changes: object) -> bytes:
    only = {"options": ReportOptions(roles=()), "messages": (Message.HL7,)}
    made = objects(source, result, **(only | changes))[Message.HL7]
    assert made.faults == ()
    return made.data


def parsed(data: bytes, codec: str = "utf-8", address: Address = HERE) -> Parsed:
    text = addressed(data, address, codec).decode(codec)
    read = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT)
    read.validate()
    return read


def patient(read: Parsed) -> Parsed:
    return read.oru_r01_patient_result.oru_r01_patient.pid


def rows(read: Parsed) -> list[Parsed]:
    group = read.oru_r01_patient_result.oru_r01_order_observation
    return [item.obx for item in group.oru_r01_observation]


def value(row: Parsed) -> str:
    return str(row.obx_5.to_er7())


@pytest.mark.parametrize("name", varied())
def test_every_kind_of_result_is_a_valid_message_or_none(name: str) -> None:
    source, result, _ = varied()[name]
    data = message(source, result)
    if not source.get("PatientID"):
        assert data == b""
        return
    read = parsed(data)
    assert read.msh.msh_9.to_er7() == "ORU^R01^ORU_R01"
    assert {row.obx_11.to_er7() for row in rows(read)} == {"P"}
    order = read.oru_r01_patient_result.oru_r01_order_observation
    assert order.obr.obr_25.to_er7() == "P"
    notes = [note.nte_3.to_er7() for note in order.nte]
    assert notes[0] == SAFETY_SENTENCE


def test_measurements_bear_loinc_codes_and_ucum_units() -> None:
    _, result, _ = varied()["sinus rhythm"]
    read = parsed(message(*varied()["sinus rhythm"][:2]))
    numbers = {
        row.obx_3.obx_3_1.to_er7(): (float(value(row)), row.obx_6.obx_6_1.to_er7())
        for row in rows(read) if row.obx_2.to_er7() == "NM"
    }  # fmt: skip
    meas = result.measurements
    for code, quantity, unit in (
        ("8867-4", meas.heart_rate, "/min"),
        ("8625-6", meas.pr_interval, "ms"),
        ("8633-0", meas.qrs_duration, "ms"),
        ("8634-8", meas.qt_interval, "ms"),
        ("76634-5", meas.qtc_fridericia, "ms"),
        ("76635-2", meas.qtc_bazett, "ms"),
        ("8632-2", meas.qrs_axis, "deg"),
    ):
        assert numbers[code] == (pytest.approx(quantity.value, abs=0.051), unit)


def _is_loinc(code: str) -> bool:
    """Judge by the check digit (mod 10)."""
    number, digit = code.split("-")
    doubled = [int(n) * (2 if place % 2 == 0 else 1) for place, n in enumerate(reversed(number))]
    return -sum(n - 9 if n > 9 else n for n in doubled) % 10 == int(digit)


def test_every_loinc_code_has_its_check_digit() -> None:
    read = parsed(message(*varied()["normal"][:2]))
    codes = [row.obx_3 for row in rows(read) if row.obx_3.obx_3_3.to_er7() == "LN"]
    assert len(codes) > 8
    assert all(_is_loinc(code.obx_3_1.to_er7()) for code in codes)


def test_statements_are_codes_with_their_words_and_the_overall_finding_follows() -> None:
    read = parsed(message(cart_file()))
    said = [row for row in rows(read) if row.obx_3.obx_3_1.to_er7() == "8601-7"]
    assert [value(row) for row in said] == [
        "49436004^Atrial Fibrillation^SCT^^^^^^Atrial fibrillation.",
        "164873001^Left ventricular hypertrophy^SCT^^^^^^Left ventricular hypertrophy.",
    ]
    assert [row.obx_4.to_er7() for row in said] == ["1", "2"]
    (overall,) = [row for row in rows(read) if row.obx_3.obx_3_1.to_er7() == "18810-2"]
    assert value(overall) == "102594003^Abnormal ECG^SCT"


def test_a_poor_ecg_is_told_as_non_diagnostic_and_without_a_diagnosis() -> None:
    source = cart_file()
    read = parsed(message(source, result_for(source, Overall.NON_DIAGNOSTIC)))
    codes = [row.obx_3.obx_3_1.to_er7() for row in rows(read)]
    assert "8601-7" not in codes
    (overall,) = [row for row in rows(read) if row.obx_3.obx_3_1.to_er7() == "18810-2"]
    assert value(overall) == "122753^Non-diagnostic ECG^DCM"


def test_the_page_goes_along_in_base64_unless_a_destination_wants_none() -> None:
    data = message(cart_file())
    page = [row for row in rows(parsed(data)) if row.obx_2.to_er7() == "ED"]
    *how, data_of_page = value(page[0]).split("^")
    assert how == ["", "application", "pdf", "Base64"]
    assert base64.b64decode(data_of_page) == PAGE
    without = parsed(data, address=replace(HERE, page=False))
    assert "ED" not in {row.obx_2.to_er7() for row in rows(without)}
    assert len(rows(without)) == len(rows(parsed(data))) - 1


def test_the_message_says_who_sends_to_whom() -> None:
    header = parsed(message(cart_file())).msh
    assert header.msh_3.to_er7() == "SINUSNODE"
    assert header.msh_5.to_er7() == "EHR"
    assert header.msh_6.to_er7() == "A\\F\\B"
    assert header.msh_18.to_er7() == "UNICODE UTF-8"


# Identity


def test_identity_is_the_sources_verbatim() -> None:
    source = cart_file()
    source.PatientID = "00 1|2^3&4~5\\6"
    source.IssuerOfPatientID = "HOSPITAL"
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.3", "ISO"
    source.IssuerOfPatientIDQualifiersSequence = [qualifier]
    source.PatientName = "Doe^John^Q^Dr^MD"
    who = patient(parsed(message(source)))
    escaped = "00 1\\F\\2\\S\\3\\T\\4\\R\\5\\E\\6"
    assert who.pid_3.to_er7() == f"{escaped}^^^HOSPITAL&1.2.3&ISO^PI"
    assert who.pid_5.to_er7() == "Doe^John^Q^MD^Dr"
    assert (who.pid_7.to_er7(), who.pid_8.to_er7()) == ("19710123", "F")


def test_a_name_in_three_scripts_keeps_all_of_them() -> None:
    source = cart_file()
    source.SpecificCharacterSet = "ISO_IR 192"
    source.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    who = patient(parsed(message(source)))
    assert [name.to_er7() for name in who.pid_5] == [
        "Yamada^Tarou^^^^^^A", "山田^太郎^^^^^^I", "やまだ^たろう^^^^^^P",
    ]  # fmt: skip


@pytest.mark.parametrize("identifier", [None, "", "   "])
def test_without_a_patient_id_there_is_no_message(identifier: str | None) -> None:
    source = cart_file()
    source.PatientID = identifier
    assert message(source) == b""


def test_the_order_is_named_as_far_as_the_source_names_it() -> None:
    source = cart_file()
    request = Dataset()
    request.PlacerOrderNumberImagingServiceRequest = "P-77"
    source.RequestAttributesSequence = [request]
    source.AccessionNumber = "A-1"
    read = parsed(message(source))
    order = read.oru_r01_patient_result.oru_r01_order_observation.obr
    assert (order.obr_2.to_er7(), order.obr_18.to_er7()) == ("P-77", "A-1")
    assert order.obr_4.obr_4_1.to_er7() == "11524-6"
    (study,) = [row for row in rows(read) if row.obx_3.obx_3_1.to_er7() == "113014"]
    assert value(study) == source.StudyInstanceUID


@pytest.mark.parametrize(
    ("moment", "zone", "written"),
    [
        ("20260329005800.123456+0100", None, "20260329005800.1234+0100"),
        ("20260329005800", "-0500", "20260329005800-0500"),
        ("20260329005800", None, "20260329005800"),
        ("20260329", "+0100", "20260329"),
    ],
)
def test_the_time_of_the_ecg_is_what_the_source_says(
    moment: str, zone: str | None, written: str
) -> None:
    source = cart_file()
    source.AcquisitionDateTime = moment
    if zone:
        source.TimezoneOffsetFromUTC = zone
    order = parsed(message(source)).oru_r01_patient_result.oru_r01_order_observation
    assert order.obr.obr_7.to_er7() == written


def test_a_character_set_that_cannot_write_the_name_is_refused_and_not_guessed() -> None:
    source = cart_file()
    source.SpecificCharacterSet = "ISO_IR 192"
    source.PatientName = "Дж^Иван"
    data = message(source)
    with pytest.raises(UnicodeEncodeError):
        addressed(data, HERE, "iso-8859-1")
    assert patient(parsed(data)).pid_5.to_er7() == "Дж^Иван"


# Sameness


def test_the_same_row_gives_the_same_message_and_another_plan_another_control_id() -> None:
    first, again = message(cart_file()), message(cart_file())
    assert first == again
    assert len(control_id(first)) == 20
    assert control_id(first) != control_id(message(cart_file(), plan_digest="2f" * 32))


def test_line_ends_and_control_characters_of_a_statement_break_no_segment() -> None:
    source, result = simulated()
    said = replace(result, not_assessed=("one\rOBX|99\n\x0b\x1c", "two"))
    read = parsed(message(source, said))
    notes = read.oru_r01_patient_result.oru_r01_order_observation.nte
    assert any(note.nte_3.to_er7().startswith("oneOBX\\F\\99") for note in notes)


def test_our_own_words_fit_every_character_set() -> None:
    source, result = simulated()
    said = replace(result, not_assessed=("ST ≥ 100 µV at −30°",))
    plain = addressed(message(source, said), HERE, "ascii")
    assert b"ST >= 100 uV at -30 deg" in plain


# Our own checker


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("|P|2.5.1", "|P|2.5.1\rZZZ|1"),
        ("ORU^R01^ORU_R01", "ORU^R30^ORU_R30"),
        ("642341^^^^PI", "^^^^PI"),
        ("|EC|P", "|EC|F"),
        ("||P|||", "||F|||"),
        (SAFETY_SENTENCE, "A result."),
        ("8867-4^Heart rate^LN", ""),
        ("||61.2|", "|||"),
    ],
)
def test_each_defect_of_a_message_is_refused(before: str, after: str) -> None:
    text = message(cart_file()).decode()
    assert before in text
    assert list(oru_faults(text.replace(before, after, 1).encode()))


def test_a_real_cart_file_needs_no_more_than_it_holds() -> None:
    source = pydicom.dcmread(io.BytesIO(_bare()))
    assert patient(parsed(message(source))).pid_3.to_er7() == "X^^^^PI"


def _bare() -> bytes:
    source = cart_file()
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"):
        del source[keyword]
    source.PatientID = "X"
    buffer = io.BytesIO()
    source.save_as(buffer)
    return buffer.getvalue()
