"""ONNX to torch and back, without losing or freezing anything on the way.

A file is vetted as any other (:mod:`analysis.vetting`), and refused with the names of its
operators if they cannot be trained. Then the graph is mended where exporters leave it unfit for
learning, cut into a backbone and the head that a graph search finds and names, and held against
the runtime. Going back, every export is held against torch before anyone gets it.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, fx, nn
from torch.jit._trace import TracerWarning

from analysis.errors import ModelReason, ModelRejected
from analysis.package import open_session
from analysis.vetting import parse, vet
from training.architectures import Net, linear_head
from training.mending import IR_VERSION, is_path, mend, put_to_rest, tidy
from training.operators import convert, untrainable

OPSET: Final = 17
INPUT: Final = "waveform"
OUTPUT: Final = "logits"
TOLERANCE: Final = 1e-4
"""Largest difference between torch and the runtime, as :class:`Parity` has it."""

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_TRIAL = 3
"""Records of noise that every conversion is tried on."""
_BATCH = 64

_KNOWN_WARNINGS = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed",
    "Exporting a model to ONNX with a batch_size other than 1",
    "Constant folding - Only steps=1 can be constant folded",
)
"""Of torch's exporter: it is the old one on purpose; the free batch is tried by parity."""

Array = npt.NDArray[np.float32]
Decide = Callable[[Array], npt.NDArray[np.bool_]]


class Imported(nn.Module):
    """A net that came as ONNX, in the shape of :class:`training.architectures.Net`.

    ``head`` begins as what the file had: the layer called ``head_name`` and all behind it. After
    :func:`replace_head` it is a linear layer on the embedding. Where ``head`` is linear, logits
    are ``head(embed(waveform))``, so that embeddings can be kept.
    """

    features = 0

    def __init__(
        self, backbone: nn.Module, head: nn.Module, *, head_name: str, layer: nn.Module
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.head_name = head_name
        self.channel = -1 if isinstance(layer, nn.Linear) else 1
        self.width = _inputs(layer)

    def embed(self, waveform: Tensor) -> Tensor:
        """Return the embedding, ``(batch, width)``: the head's input, its mean over time."""
        maps: Tensor = self.backbone(waveform)
        channel = self.channel % maps.ndim
        others = [axis for axis in range(1, maps.ndim) if axis != channel]
        return maps.mean(dim=others) if others else maps

    def forward(self, waveform: Tensor) -> Tensor:
        """Return logits, ``(batch, outputs)``, from ``(batch, leads, samples)``."""
        linear = isinstance(self.head, nn.Linear)
        logits: Tensor = self.head(self.embed(waveform) if linear else self.backbone(waveform))
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far two runtimes of one net are apart."""

    records: int
    difference: float
    """Largest of any logit; of one beyond ±1, as a share of it."""
    flipped: int
    """Decisions that differ."""


class NotTheSame(ArithmeticError):
    """Two runtimes of one net disagree; it must not be used."""


def to_torch(content: bytes) -> Imported:
    """Return the ONNX model as a net that can be trained, every learnable number a parameter.

    Raises
    ------
    ModelRejected
        As :func:`analysis.vetting.vet`; FORBIDDEN_OPERATOR with the names of operators that
        cannot be trained; WRONG_SHAPE unless there are one input and one output, and one last
        layer before it.
    NotTheSame
        If torch and the runtime give different logits for noise.
    """
    model = parse(content)
    put_to_rest(model)
    model = vet(model.SerializeToString())
    if names := untrainable(model):
        raise ModelRejected(
            ModelReason.FORBIDDEN_OPERATOR, f"It cannot be trained: {', '.join(names)}."
        )
    leads, samples = _ends(model.graph)
    as_it_came = model.SerializeToString()
    mend(model)
    net = _split(convert(model)).eval()
    try:
        parity(net, as_it_came, _noise(leads, samples))
    except ModelRejected:  # some sizes are only known once it is mended
        parity(net, model.SerializeToString(), _noise(leads, samples))
    return net


def to_onnx(net: nn.Module, *, leads: int, samples: int) -> bytes:
    """Return the net as one ONNX file: opset 17, IR 10, free batch, BatchNorm kept.

    Parameters
    ----------
    net
        From ``(batch, leads, samples)`` to logits; left as it was found.
    leads, samples
        Size of its input.

    Raises
    ------
    NotTheSame
        If the runtime gives other logits than torch for noise.
    ValueError
        If the net reads measurements too, or torch cannot export it.
    """
    if getattr(net, "features", 0):
        raise ValueError("A package has no input for measurements yet; build without features.")
    at_rest = copy.deepcopy(net).cpu().eval()
    content = _export(at_rest, leads, samples)
    parity(at_rest, content, _noise(leads, samples))
    return content


def parity(
    net: nn.Module,
    content: bytes,
    waveforms: Array,
    *,
    decide: Decide | None = None,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Return how far torch and ONNX Runtime are apart; a gate.

    Parameters
    ----------
    net, content
        The net, in evaluation mode and on the CPU, and its ONNX form.
    waveforms
        ``(records, leads, samples)``; the first is also read alone.
    decide
        From logits to what counts as present; without it no decisions are compared.
    tolerance
        Largest difference that passes.

    Raises
    ------
    NotTheSame
        If any logit differs by more, is no number, or any decision differs.
    """
    session = open_session(content, onnx.load_model_from_string(content))
    entry = session.get_inputs()[0].name
    difference, flipped = 0.0, 0
    for batch in _batches(waveforms):
        with torch.no_grad():
            ours = net(torch.from_numpy(batch)).numpy()
        theirs = session.run(None, {entry: batch})[0]
        apart = np.abs(ours - theirs) / np.maximum(1, np.abs(ours))
        difference = max(difference, float(apart.max()))
        flipped += 0 if decide is None else int((decide(ours) != decide(theirs)).sum())
        if not np.isfinite(ours).all() or not np.isfinite(theirs).all():
            difference = float("inf")
    found = Parity(records=len(waveforms), difference=difference, flipped=flipped)
    if difference > tolerance or flipped:
        raise NotTheSame(
            f"On {found.records} records torch and the runtime differ by up to "
            f"{difference:.2g} and in {flipped} decisions; {tolerance:g} and none are allowed."
        )
    return found


def replace_head(net: Net | Imported, outputs: int) -> str:
    """Return the name of the head that was replaced by a new linear one of ``outputs``.

    What followed an imported head (activations, BatchNorm, pooling) goes with it, so that the
    new outputs are logits. No other tensor of the net is touched.
    """
    name = net.head_name if isinstance(net, Imported) else "head"
    head = linear_head(net.width + net.features, outputs)
    net.head = head.to(next(net.parameters()).device)
    if isinstance(net, Imported):
        net.head_name = "head"
    return name


def fingerprints(net: nn.Module) -> Mapping[str, str]:
    """Return the SHA-256 of every tensor of the net, by name."""
    return {name: _digest(values) for name, values in net.state_dict().items()}


def _noise(leads: int, samples: int) -> Array:
    shape = (_TRIAL, leads, samples)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _digest(values: Tensor) -> str:
    return sha256(values.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _batches(waveforms: Array) -> Iterator[Array]:
    """Yield the first alone, then all, so that more than one size of batch is tried."""
    yield waveforms[:1]
    for at in range(0, len(waveforms), _BATCH):
        yield waveforms[at : at + _BATCH]


def _ends(graph: Any) -> tuple[int, int]:
    """Return leads and samples of the graph's one input."""
    weights = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelRejected(
            ModelReason.WRONG_SHAPE, "It must have one input, the ECG, and one output."
        )
    sizes = [item.dim_value for item in inputs[0].type.tensor_type.shape.dim]
    if len(sizes) != 3 or not all(sizes[1:]):  # noqa: PLR2004 - batch, leads, samples
        raise ModelRejected(
            ModelReason.WRONG_SHAPE,
            "Its input must be (batch, leads, samples), the last two fixed.",
        )
    return sizes[1], sizes[2]


def _split(module: fx.GraphModule) -> Imported:
    """Return the net, cut before its last layer."""
    output: Any = next(item for item in module.graph.nodes if item.op == "output").args[0]
    last: Any = _last_layer(module, output)
    layer = module.get_submodule(last.target)
    entry = last.args[0]
    behind = _heard_by(output, unless=entry)
    if any(node.op == "placeholder" for node in behind):
        raise ModelRejected(ModelReason.WRONG_SHAPE, "Its head hears more than its last layer.")
    alone = isinstance(layer, nn.Linear) and output is last
    return Imported(
        _part(module, _heard_by(entry), entry, role="backbone"),
        layer if alone else _part(module, behind, output, role="head", entry=entry),
        head_name=_dotted(last.target).removeprefix("head."),
        layer=layer,
    )


def _last_layer(module: fx.GraphModule, output: Any) -> Any:
    """Return the one linear layer or convolution through which the output hears everything."""
    found: dict[Any, None] = {}
    pending = [output]
    while pending:
        node = pending.pop()
        if node.op == "call_module" and isinstance(module.get_submodule(node.target), _LAYERS):
            found[node] = None
        else:
            pending += node.all_input_nodes
    if len(found) != 1:
        raise ModelRejected(
            ModelReason.WRONG_SHAPE, "No single last layer can be found that would be its head."
        )
    return next(iter(found))


def _heard_by(end: fx.Node, *, unless: fx.Node | None = None) -> set[fx.Node]:
    """Return ``end`` and all it depends on, but for what it hears through ``unless``."""
    heard: set[fx.Node] = set()
    pending = [end]
    while pending:
        node = pending.pop()
        if node is not unless and node not in heard:
            heard.add(node)
            pending += node.all_input_nodes
    return heard


def _part(
    module: fx.GraphModule,
    nodes: set[fx.Node],
    end: fx.Node,
    *,
    role: str,
    entry: fx.Node | None = None,
) -> fx.GraphModule:
    """Return these nodes as a module of its own, from ``entry`` to ``end``.

    What the module will be called falls away from the names of its layers, so that a net has the
    same names however often it comes and goes.
    """
    graph = fx.Graph()
    copies = {} if entry is None else {entry: graph.placeholder("maps")}
    owned: dict[str, Any] = {}
    for node in module.graph.nodes:
        if node in nodes:
            copy = copies[node] = graph.node_copy(node, copies.__getitem__)
            if isinstance(node.target, str) and node.op in ("call_module", "get_attr"):
                name = _dotted(node.target).removeprefix(f"{role}.")
                copy.target = node.target if name in owned else name
                owned[copy.target] = attrgetter(node.target)(module)
    graph.output(copies[end])
    return fx.GraphModule(owned, graph)


def _dotted(target: str) -> str:
    """Return the path of a layer, as it was before the converter wrote slashes for dots."""
    path = target.replace("/", ".")
    return path if is_path(path) else target


def _inputs(layer: nn.Module) -> int:
    if isinstance(layer, nn.Linear):
        return layer.in_features
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.in_channels
    raise TypeError(f"{type(layer).__name__} is no head")


def _export(net: nn.Module, leads: int, samples: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", TracerWarning)  # parity tries other batches
        for known in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", known)
        try:
            torch.onnx.export(
                net,
                (torch.zeros(2, leads, samples),),
                file,  # type: ignore[arg-type]  # the signature forgets file objects
                dynamo=False,
                opset_version=OPSET,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"This net cannot be exported: {reason}") from None
    model = onnx.load_model_from_string(file.getvalue())
    model.ir_version = IR_VERSION
    tidy(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
