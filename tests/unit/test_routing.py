"""Routes: the first that fits decides, by sender, device and department."""

import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset

from dicom_node.routing import EVERYWHERE, allowed, route_of
from dicom_node.settings import Destination, Route, Settings


def ecg(device: str | None = None, department: str | None = None) -> Dataset:
    made = Dataset()
    if device is not None:
        made.ManufacturerModelName = device
    if department is not None:
        made.InstitutionalDepartmentName = department
    return made


EMERGENCY = Route(calling_ae_title="ED*", destinations=("FAST",))
CHILDREN = Route(department="*paediatric*", classify=False)
OLD = Route(device="EL?50", destinations=())
ROUTES = (EMERGENCY, CHILDREN, OLD)


@pytest.mark.parametrize(
    ("calling_ae", "source", "route"),
    [
        ("ED3", ecg(), EMERGENCY),
        ("ed3", ecg("EL250"), EMERGENCY),
        ("WARD", ecg("PageWriter", "Cardiology"), EVERYWHERE),
        ("WARD", ecg("PageWriter", "PAEDIATRIC cardiology"), CHILDREN),
        ("WARD", ecg("EL250"), OLD),
        ("WARD", ecg("EL2500"), EVERYWHERE),
        ("WARD", ecg(), EVERYWHERE),
    ],
)
def test_the_first_route_that_fits_counts(calling_ae: str, source: Dataset, route: Route) -> None:
    assert route_of(ROUTES, calling_ae, source) == route


def test_a_route_leads_everywhere_nowhere_or_to_what_it_names() -> None:
    assert allowed(EVERYWHERE, ("FAST", "SLOW")) == ("FAST", "SLOW")
    assert allowed(EMERGENCY, ("FAST", "SLOW")) == ("FAST",)
    assert allowed(OLD, ("FAST", "SLOW")) == ()


def test_a_route_to_an_unknown_place_is_refused_by_name() -> None:
    pacs = Destination(ae_title="PACS", host="h", port=104)
    with pytest.raises(ValidationError, match="a route leads to PACS2"):
        Settings(destinations=(pacs,), routes=(Route(destinations=("PACS", "PACS2")),))
