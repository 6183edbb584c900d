"""A small installation for the pages' tests: ECGs through the node's pipeline, and its accounts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from analysis.synthetic import Kind
from dicom_node.demo import generated
from dicom_node.ledger import Ledger, Received
from dicom_node.models import ModelStore
from dicom_node.pipeline import Pipeline, Quarantined
from dicom_node.plan import Plan
from dicom_node.settings import Admin, Role, Settings, Storage
from dicom_node.spool import Spool
from training.admin import tables
from training.admin.accounts import Accounts

NOW = 1_800_000_000.0
PASSWORD = "a long enough password"


def cart_ecg(**changes: Any) -> Dataset:
    """Return pydicom's own 12-lead ECG, with other attributes."""
    source = dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    for keyword, value in changes.items():
        setattr(source, keyword, value)
    return source


def encoded(source: Dataset) -> bytes:
    buffer = BytesIO()
    source.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class Installation:
    """One data folder, filled without a network."""

    folder: Path
    database: str | None = None
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = Settings(
            storage=Storage(folder=self.folder, database=self.database), admin=Admin()
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.settings.database_url)
        self.ledger.create()
        tables.create(self.ledger)
        self.spool = Spool(self.folder / "spool")
        self.spool.prepare(())
        self.store = ModelStore(self.folder / "models", self.ledger)
        self.accounts = Accounts(self.ledger, self.settings.admin)
        shipped = files("analysis").joinpath("models/twelve-lead.onnx").read_bytes()
        self.model = self.store.install(shipped, NOW)
        self.ledger.promote(self.model, NOW)

    def close(self) -> None:
        self.ledger.close()

    def user(self, name: str, *roles: Role) -> None:
        self.accounts.add_user(name, roles, NOW, password=PASSWORD)

    def receive(self, sources: Iterable[bytes], at: float = NOW) -> None:
        """Bring objects in, and as far as a worker brings them."""
        plan = Plan.of(self.settings, models=(self.model,))
        pipeline = Pipeline(
            ledger=self.ledger,
            spool=self.spool,
            model=self.store.load,
            destinations=(),
            clock=lambda: at + 0.4,
        )
        for number, data in enumerate(sources):
            blob = self.spool.write(data)
            self.spool.sync([blob])
            source = dcmread(BytesIO(data)) if data[128:132] == b"DICM" else Dataset()
            item = Received(
                sop_class_uid=str(source.get("SOPClassUID", "1.2.3")),
                sop_instance_uid=str(source.get("SOPInstanceUID", f"1.2.3.{number}")),
                blob=blob,
                calling_ae="CART1",
                called_ae="SINUSNODE",
                address="127.0.0.1",
                received_at=at + 60.0 * number,
            )
            self.ledger.receive([item], plan.text, plan.digest)
            lease = self.ledger.lease("test", at + 1e6, at + 2e6)
            assert lease is not None
            try:
                pipeline.process(lease)
            except Quarantined as error:
                self.ledger.quarantine(lease, error.reason, error.message)


def simulated(kind: Kind, number: int, **changes: Any) -> bytes:
    source = generated(kind, age=50.0 + number % 40, number=number)
    for keyword, value in changes.items():
        setattr(source, keyword, value)
    return encoded(source)
