"""The ECG: from any encoding to findings. A library that can be imported alone.

``read`` an ECG, ``analyse`` it, ``draw`` it, ``write`` it; nothing here knows a network, a
database or a clock.
"""

from analysis.analyse import Options, analyse
from analysis.codes import VOCABULARY
from analysis.ecg import ECG, Acquisition, Code, Lead, Patient, Recording, Sex
from analysis.errors import ModelReason, ModelRejected, Reason, Undecodable
from analysis.formats import read
from analysis.formats.writing import write
from analysis.measure import measure
from analysis.model import Model, load_model
from analysis.paper import draw
from analysis.recipe import Recipe
from analysis.result import (
    Finding,
    Measurements,
    ModelIdentity,
    Origin,
    Overall,
    Quality,
    QualityReason,
    Quantity,
    Result,
    Statement,
    Verdict,
)
from analysis.standardise import Standardised, standardise

__all__ = [
    "ECG",
    "VOCABULARY",
    "Acquisition",
    "Code",
    "Finding",
    "Lead",
    "Measurements",
    "Model",
    "ModelIdentity",
    "ModelReason",
    "ModelRejected",
    "Options",
    "Origin",
    "Overall",
    "Patient",
    "Quality",
    "QualityReason",
    "Quantity",
    "Reason",
    "Recipe",
    "Recording",
    "Result",
    "Sex",
    "Standardised",
    "Statement",
    "Undecodable",
    "Verdict",
    "analyse",
    "draw",
    "load_model",
    "measure",
    "read",
    "standardise",
    "write",
]
