"""The plan: everything that decides what becomes of an object, pinned when it is received.

Its digest enters every UID, and the objects are built from it alone, so a promotion, a changed
setting or a retry in between changes nothing for an object that is already here.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Self

from analysis.analyse import ALGORITHM_REVISION, Options
from dicom_node.report import Device, Qualification, ReportOptions, Role
from dicom_node.report.uids import derive
from dicom_node.settings import Settings

REPORT_REVISION = "3"
"""Raised whenever the same result may give other objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to analyse and report; plain values only, so that it can be stored."""

    models: tuple[str, ...]
    """SHA-256 of each model that speaks."""
    algorithm: str
    report: str
    software: str
    station_name: str
    settings: dict[str, Any]
    """The section `report` of the settings."""

    @classmethod
    def of(cls, settings: Settings, *, models: tuple[str, ...]) -> Self:
        """Return the plan for objects that are received now."""
        return cls(
            models=models,
            algorithm=ALGORITHM_REVISION,
            report=REPORT_REVISION,
            software=version("sinusnode"),
            station_name=settings.dicom.ae_title,
            settings=settings.report.model_dump(mode="json"),
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the plan that :attr:`text` holds."""
        values = json.loads(text)
        return cls(**values | {"models": tuple(values["models"])})

    def without_models(self) -> Self:
        """Return the plan for an ECG that no model shall classify."""
        return replace(self, models=())

    @property
    def text(self) -> str:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def options(self) -> Options:
        """What the analysis may choose."""
        return Options(qtc_formula=self.settings["qtc_formula"])

    @property
    def device(self) -> Device:
        """Return this installation, as the objects name it."""
        return Device(
            device_uid=derive("node", self.station_name),
            software_version=self.software,
            station_name=self.station_name,
            serial_number=self.station_name,
        )

    @property
    def report_options(self) -> ReportOptions:
        """What the objects look like."""
        values = self.settings
        roles = tuple(Role(name) for name in values["objects"])
        return ReportOptions(
            roles=roles,
            series_numbers={role: values[f"series_number_{role}"] for role in roles},
            qualification=Qualification(values["content_qualification"]),
            utc_offset=_offset(values["utc_offset"]),
        )


def _offset(text: str) -> timedelta:
    moment = datetime.strptime(text, "%z")
    return moment.utcoffset() or timedelta(0)
