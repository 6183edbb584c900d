"""Model slots: packages on disk by their digest, and which of them speaks, in the ledger.

A package is verified before it is installed and stays on disk as long as any open row names
it. Promotion is one transaction; the previous model stays at hand for one-step rollback.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from analysis.model import Model, load_model
from dicom_node.ledger import Ledger


@dataclass(frozen=True, slots=True)
class ModelStore:
    """The packages below one folder, and the slots of one ledger."""

    folder: Path
    ledger: Ledger

    def install(self, data: bytes, now: float) -> str:
        """Return the digest of a package, verified, stored and known to the ledger.

        Raises
        ------
        analysis.ModelRejected
            If it is none.
        """
        model = load_model(data)
        digest = hashlib.sha256(data).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(digest)
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
        self.ledger.add_model(digest, model.identity.name, model.identity.version, now)
        return digest

    def path(self, digest: str) -> Path:
        """Return where the package with this digest lies."""
        return self.folder / f"{digest}.onnx"

    def load(self, digest: str) -> Model:
        """Return the model with this digest, verified again.

        Raises
        ------
        analysis.ModelRejected
            If the file is no longer what was installed.
        """
        return load_model(self.path(digest))

    def current(self) -> tuple[str, ...]:
        """Return the digests of the models that speak."""
        digest = self.ledger.slots().get("current")
        return () if digest is None else (digest,)

    def promote(self, digest: str, now: float) -> None:
        """Make this installed model the one that speaks; keep the one before for rollback."""
        self.ledger.promote(digest, now)

    def roll_back(self, now: float) -> str:
        """Return the digest of the previous model, which speaks again from now on.

        Raises
        ------
        LookupError
            If there is none.
        """
        previous = self.ledger.slots().get("previous")
        if previous is None:
            raise LookupError("there is no previous model to roll back to")
        self.ledger.promote(previous, now)
        return previous
