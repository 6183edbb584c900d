import base64
import json
import pickle
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support import shared
from tiny_model import ECGS, KEYS, RECIPE, card, graph, packed, with_card

from analysis import model as model_module
from analysis import vetting
from analysis.card import Activation, Card, Label
from analysis.errors import ModelReason, ModelRejected
from analysis.model import CARD_KEY, SELF_TEST_KEY, load_model, pack
from analysis.package import metadata, without_graph
from analysis.recipe import Baseline, Unit
from analysis.standardise import standardise


def refusal(content: bytes | Path) -> ModelRejected:
    with pytest.raises(ModelRejected) as caught:
        load_model(content)
    assert len(caught.value.message) < 400
    assert caught.value.message.endswith(".")
    return caught.value


def reason(content: bytes | Path) -> ModelReason:
    return refusal(content).reason


def repacked(change: Callable[[dict[str, Any]], object], key: str = CARD_KEY) -> bytes:
    """Return the tiny package with one of its JSON documents changed."""
    model = onnx.load_model_from_string(packed())
    for item in model.metadata_props:
        if item.key == key:
            document = json.loads(item.value)
            change(document)
            item.value = json.dumps(document)
    return model.SerializeToString()


# --- what is accepted


def test_a_package_loads_and_answers() -> None:
    model = load_model(packed())
    windows = standardise(ECGS[0], RECIPE).windows
    found = model.probabilities(windows)
    lead_ii = windows[:, 1].mean(axis=1)
    expected = 1 / (1 + np.exp(-np.outer(lead_ii, np.arange(1, len(KEYS) + 1))))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.card == card()


def test_the_identity_is_the_digest_of_the_file(tmp_path: Path) -> None:
    content = packed()
    (tmp_path / "tiny.onnx").write_bytes(content)
    from_file, other = load_model(tmp_path / "tiny.onnx"), load_model(packed(version="2"))
    assert from_file.identity == load_model(content).identity
    assert from_file.identity.digest != other.identity.digest
    assert (from_file.identity.name, from_file.identity.version) == ("Tiny", "1")


def test_packing_twice_gives_the_same_bytes() -> None:
    assert packed() == packed()


def test_packing_again_replaces_the_card_and_keeps_what_others_wrote() -> None:
    proto = onnx.load_model_from_string(packed())
    proto.metadata_props.add(key="author", value="someone")
    again = pack(proto.SerializeToString(), card(version="2"), ECGS)
    assert load_model(again).card.version == "2"
    keys = [item.key for item in onnx.load_model_from_string(again).metadata_props]
    assert sorted(keys) == sorted(["author", CARD_KEY, SELF_TEST_KEY])


@pytest.mark.parametrize("count", [0, 1, 2, 33])
def test_any_number_of_ecgs_is_read_in_one_call(count: int) -> None:
    batch = np.zeros((count, 12, 500), np.float32)
    assert load_model(packed()).probabilities(batch).shape == (count, len(KEYS))


def test_softmax_probabilities_add_up_to_one() -> None:
    model = load_model(packed(activation=Activation.SOFTMAX))
    found = model.probabilities(np.ones((2, 12, 500), np.float32))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


def test_a_batch_of_another_shape_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="the model reads"):
        load_model(packed()).probabilities(np.zeros((1, 12, 1000), np.float32))


def test_the_shipped_model_is_a_valid_package_for_adults() -> None:
    model = load_model()
    assert model.card.minimum_age == 18
    assert model.card.labels
    assert {metric.label for metric in model.card.metrics} >= {
        label.key for label in model.card.labels
    }


def test_the_shipped_card_for_people_names_the_file_it_describes() -> None:
    folder = Path(model_module.__file__).parent / "models"
    text = (folder / f"CARD-{Path(model_module.SHIPPED).stem}.md").read_text()
    identity = load_model().identity
    assert identity.digest in text
    for source in load_model().card.training_data:
        assert source.citation in text


# --- what is no ONNX model


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04" + bytes(100), b"not a model", pickle.dumps({"a": print}), bytes(5000)],
    ids=["empty", "zip", "text", "pickle", "zeros"],
)
def test_other_bytes_renamed_to_onnx_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert reason(path) is ModelReason.UNREADABLE


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    assert reason(pickle.dumps(Bomb())) is ModelReason.UNREADABLE
    assert not (tmp_path / "exploded").exists()


def test_a_truncated_package_is_refused() -> None:
    content = packed()
    for size in range(1, len(content), len(content) // 50):
        refusal(content[:size])


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert reason(tmp_path) is ModelReason.UNREADABLE
    assert reason(tmp_path / "absent.onnx") is ModelReason.UNREADABLE
    assert reason(Path("/dev/zero")) is ModelReason.UNREADABLE


def test_an_oversized_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2 * 2**30)
    assert reason(path) is ModelReason.TOO_LARGE


def test_oversized_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed()
    monkeypatch.setattr(vetting, "MAX_BYTES", len(content) - 1)
    assert reason(content) is ModelReason.TOO_LARGE


def _field(number: int, content: bytes) -> bytes:
    size = len(content)
    varint = bytearray()
    while size >= 128:
        varint.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *varint, size]) + content


@pytest.mark.parametrize(
    "graph_field",
    [b"\x0a\x00", b"\x0a\x02\x0a\x00", b"\x5a\x00"],
    ids=["nodes", "nodes with an input", "inputs"],
)
def test_a_crowd_of_empty_parts_is_refused_before_it_fills_the_memory(graph_field: bytes) -> None:
    crowd = _field(7, graph_field * 4_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reason(crowd) is ModelReason.TOO_LARGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024


def test_packed_numbers_that_grow_when_parsed_are_refused() -> None:
    tensor = _field(7, bytes(1_000_000))  # int64_data, one byte each
    assert reason(_field(7, _field(5, tensor))) is ModelReason.TOO_LARGE


# --- what reaches outside, or does more than arithmetic


@pytest.mark.parametrize(
    "location", ["../../etc/passwd", "/etc/passwd", "weights.bin"], ids=["up", "absolute", "beside"]
)
def test_weights_in_another_file_are_refused(location: str) -> None:
    tensor = TensorProto(name="bias", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    model = graph()
    del model.graph.initializer[1]
    model.graph.initializer.append(tensor)
    assert reason(with_card(model)) is ModelReason.EXTERNAL_DATA


def test_weights_in_another_file_are_found_inside_a_subgraph() -> None:
    tensor = TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[1])
    tensor.external_data.add(key="location", value="/etc/passwd")
    body = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "b", [], [])
    loop = helper.make_node("Loop", ["", "", "mean"], ["flat"], body=body)
    assert reason(with_card(graph(nodes=[loop]))) is ModelReason.EXTERNAL_DATA


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Evil", ["mean"], ["flat"], domain="com.example"),
        helper.make_node("FusedGemm", ["mean"], ["flat"], domain="com.microsoft"),
        helper.make_node("NoSuchOperator", ["mean"], ["flat"]),
        helper.make_node("RandomNormalLike", ["mean"], ["flat"]),
        helper.make_node("Dropout", ["mean"], ["flat"], training_mode=1),
    ],
    ids=lambda node: f"{node.domain}.{node.op_type}",
)
def test_an_operator_beyond_the_list_is_refused(node: onnx.NodeProto) -> None:
    domains = [node.domain] if node.domain else []
    content = with_card(graph(nodes=[node], domains=domains))
    assert reason(content) is ModelReason.FORBIDDEN_OPERATOR


def test_a_loop_of_2_to_the_40_is_refused_before_it_starts() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["again"]),
            helper.make_node("Identity", ["old"], ["new"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("old", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("new", TensorProto.FLOAT, None),
        ],
    )
    count = numpy_helper.from_array(np.array(2**40), "count")
    loop = helper.make_node("Loop", ["count", "", "mean"], ["flat"], body=body)
    content = with_card(graph(nodes=[loop], weights=[count]))
    assert reason(content) is ModelReason.FORBIDDEN_OPERATOR


def test_a_declared_foreign_domain_is_refused_even_if_unused() -> None:
    assert reason(with_card(graph(domains=["ai.onnx.ml"]))) is ModelReason.FORBIDDEN_OPERATOR


def test_a_function_of_its_own_is_refused() -> None:
    model = graph()
    model.functions.add(name="Identity", domain="")
    assert reason(with_card(model)) is ModelReason.FORBIDDEN_OPERATOR


@pytest.mark.parametrize("size", [2**28, 2**40])
def test_a_graph_that_expands_to_gigabytes_is_refused_before_it_runs(size: int) -> None:
    shape = numpy_helper.from_array(np.array([size], np.int64), "shape")
    bomb = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"]),
        helper.make_node("Add", ["mean", "sum"], ["flat"]),
    ]
    content = with_card(graph(nodes=bomb, weights=[shape]))
    assert reason(content) is ModelReason.TOO_LARGE


def test_a_graph_that_multiplies_itself_up_is_refused() -> None:
    times = numpy_helper.from_array(np.array([1, 10_000_000], np.int64), "times")
    bomb = [
        helper.make_node("Tile", ["mean", "times"], ["many"]),
        helper.make_node("ReduceMean", ["many"], ["sum"], axes=[1]),
        helper.make_node("Add", ["mean", "sum"], ["flat"]),
    ]
    assert reason(with_card(graph(nodes=bomb, weights=[times]))) is ModelReason.TOO_LARGE


def test_a_size_that_the_data_decide_is_refused() -> None:
    bomb = [
        helper.make_node("Cast", ["mean"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "line"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["flat"]),
    ]
    line = numpy_helper.from_array(np.array([-1], np.int64), "line")
    assert reason(with_card(graph(nodes=bomb, weights=[line]))) is ModelReason.WRONG_SHAPE


def test_a_size_that_the_file_claims_is_not_believed() -> None:
    shape = numpy_helper.from_array(np.array([2**40], np.int64), "shape")
    bomb = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["flat"]),
    ]
    model = graph(nodes=bomb, weights=[shape])
    model.graph.value_info.append(helper.make_tensor_value_info("zeros", TensorProto.FLOAT, [1]))
    assert reason(with_card(model)) is ModelReason.TOO_LARGE


def test_weights_listed_as_inputs_as_old_exporters_do_are_weights() -> None:
    model = graph()
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [3]))
    assert load_model(pack(model.SerializeToString(), card(), ECGS)).card == card()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    bad = numpy_helper.from_array(np.full(12, value, np.float32), "bad")
    add = helper.make_node("Add", ["mean", "bad"], ["flat"])
    assert reason(with_card(graph(nodes=[add], weights=[bad]))) is ModelReason.NOT_FINITE


def test_a_tensor_with_fewer_bytes_than_it_declares_is_refused() -> None:
    short = TensorProto(name="bad", data_type=TensorProto.FLOAT, dims=[10**9], raw_data=bytes(48))
    add = helper.make_node("Add", ["mean", "bad"], ["flat"])
    assert reason(with_card(graph(nodes=[add], weights=[short]))) is ModelReason.UNREADABLE


def test_answers_that_are_no_numbers_are_refused_when_packing() -> None:
    root = helper.make_node("Log", ["low"], ["flat"])
    low = helper.make_node("Sub", ["mean", "ten"], ["low"])
    ten = numpy_helper.from_array(np.full(12, 10, np.float32), "ten")
    with pytest.raises(ModelRejected) as caught:
        pack(graph(nodes=[low, root], weights=[ten]).SerializeToString(), card(), ECGS)
    assert caught.value.reason is ModelReason.NOT_FINITE


# --- what does not fit its card


@pytest.mark.parametrize(
    "model",
    [graph(leads=8), graph(samples=1000), graph(batch=1), graph(outputs=4)],
    ids=["leads", "samples", "fixed batch", "outputs"],
)
def test_a_graph_of_another_shape_than_its_card_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(ModelRejected) as caught:
        pack(model.SerializeToString(), card(), ECGS)
    assert caught.value.reason is ModelReason.WRONG_SHAPE


@pytest.mark.parametrize("change", [{"input": "x"}, {"output": "y"}])
def test_a_graph_without_the_named_input_or_output_is_refused(change: dict[str, str]) -> None:
    assert reason(repacked(lambda found: found.update(change))) is ModelReason.WRONG_SHAPE


def test_a_graph_that_lets_one_patient_change_anothers_answer_is_refused() -> None:
    mix = [
        helper.make_node("ReduceMean", ["mean"], ["all"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["mean", "all"], ["own"]),
        helper.make_node("Mul", ["own", "gain"], ["flat"]),
    ]
    gain = numpy_helper.from_array(np.float32(1000.0), "gain")
    ecgs = [replace(ECGS[0], signal=ECGS[0].signal * np.linspace(0, 5, ECGS[0].samples))]
    with pytest.raises(ModelRejected) as caught:
        pack(graph(nodes=mix, weights=[gain]).SerializeToString(), card(), ecgs)
    assert caught.value.reason is ModelReason.WRONG_SHAPE


# --- the card


def test_the_card_is_read_without_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(packed())
    found = without_graph(path)
    whole = onnx.load_model_from_string(packed())
    assert metadata(found, CARD_KEY) == metadata(whole, CARD_KEY)
    assert not found.HasField("graph")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cut=st.integers(1, 9999), flips=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)))
)
def test_a_damaged_file_is_no_model_and_no_other_error(
    tmp_path: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    content = bytearray(with_card(graph())[:cut])
    for place, value in flips:
        content[place % len(content)] = value
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with suppress(ValueError, LookupError):
        without_graph(path)


def test_a_model_without_a_card_is_refused() -> None:
    assert reason(graph().SerializeToString()) is ModelReason.NO_CARD


def test_a_card_that_stands_twice_is_refused() -> None:
    model = onnx.load_model_from_string(packed())
    model.metadata_props.add(key=CARD_KEY, value="{}")
    assert reason(model.SerializeToString()) is ModelReason.INVALID_CARD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "{" * 100_000,
        "[" * 100_000,
        '{"name":"a","name":"b"}',
        "__import__('os').system('touch exploded')",
        "['CD','HYP','MI','STTC']",
    ],
    ids=["empty", "null", "list", "nothing", "braces", "deep", "twice", "code", "python list"],
)
def test_a_card_that_is_no_card_is_refused_and_nothing_in_it_runs(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason(with_card(graph(), text)) is ModelReason.INVALID_CARD
    assert not list(tmp_path.iterdir())


def test_code_in_other_metadata_is_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = onnx.load_model_from_string(packed())
    model.metadata_props.add(key="target_keys", value="__import__('os').mkdir('exploded')")
    assert load_model(model.SerializeToString()).card == card()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"schema": 2},
        {"name": "<script>alert(1)</script>"},
        {"name": "a" * 65},
        {"name": 7},
        {"version": "1\n2"},
        {"created": "yesterday"},
        {"activation": "relu"},
        {"minimum_age": -1},
        {"minimum_age": "18"},
        {"labels": []},
        {"labels": 5},
        {"labels": [{"key": "broken_heart", "code": ["SCT", "1", "x"], "threshold": 0.5}]},
        {"labels": [{"key": "lbbb", "code": ["SCT", "1", "x"], "threshold": 0.5}]},
        {"labels": [{"key": "lbbb", "threshold": 0.5}]},
        {"recipe": {}},
        {"recipe": None},
        {"intended_use": ""},
        {"limits": "x" * 10_000},
        {"training_data": [{"name": "a"}]},
        {"metrics": [None]},
    ],
    ids=str,
)
def test_a_card_with_one_wrong_word_is_refused(change: dict[str, Any]) -> None:
    assert reason(repacked(lambda found: found.update(change))) is ModelReason.INVALID_CARD


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan"), True, "0.5"])
def test_a_threshold_that_is_no_probability_is_refused(threshold: object) -> None:
    def change(found: dict[str, Any]) -> None:
        found["labels"][0]["threshold"] = threshold

    assert reason(repacked(change)) is ModelReason.INVALID_CARD


def test_a_card_survives_its_json_form() -> None:
    assert Card.from_json(card().to_json()) == card()


# --- the self-test


def test_a_package_without_a_self_test_is_refused() -> None:
    assert reason(with_card(graph())) is ModelReason.SELF_TEST_FAILED


def test_a_forged_self_test_is_refused() -> None:
    def forge(cases: Any) -> None:
        cases[0]["probabilities"][0][0] += 0.01

    assert reason(repacked(forge, SELF_TEST_KEY)) is ModelReason.SELF_TEST_FAILED


def test_changed_weights_are_found() -> None:
    model = onnx.load_model_from_string(packed())
    other = graph(gain=2.0)
    model.graph.CopyFrom(other.graph)
    assert reason(model.SerializeToString()) is ModelReason.SELF_TEST_FAILED


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "uV"},
        {"baseline": "median"},
        {"leads": ["II", "I", *RECIPE.leads[2:]]},
        {"high_pass": 5.0},
    ],
    ids=str,
)
def test_a_changed_unit_lead_order_or_filter_is_found(change: dict[str, Any]) -> None:
    content = repacked(lambda found: found["recipe"].update(change))
    assert reason(content) is ModelReason.SELF_TEST_FAILED


@pytest.mark.parametrize(
    "change",
    [
        {"signal": "!!!"},
        {"signal": ""},
        {"signal": base64.b64encode(bytes(4 * 13)).decode()},
        {"leads": ["I"]},
        {"leads": ["left"]},
        {"sampling_frequency": 0},
        {"sampling_frequency": 1e-9},
        {"probabilities": []},
        {"probabilities": "high"},
        {"probabilities": [[0.1], [0.1, 0.2]]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_self_test_that_cannot_be_read_is_refused(change: dict[str, Any]) -> None:
    content = repacked(lambda cases: cases[0].update(change), SELF_TEST_KEY)
    assert reason(content) is ModelReason.SELF_TEST_FAILED


def test_third_party_models_without_a_card_are_refused_with_a_reason() -> None:
    found = {path.name: reason(path) for path in shared("models").glob("*.onnx")}
    assert found.pop("xc_super_pretrained.onnx") is ModelReason.NO_CARD
    # Their BatchNorm is in training mode: each answer would depend on the batch.
    assert set(found.values()) == {ModelReason.FORBIDDEN_OPERATOR}


def test_a_third_party_model_becomes_a_package_once_it_has_a_card() -> None:
    content = shared("models", "xc_super_pretrained.onnx").read_bytes()
    keys = ("conduction_disturbance", "hypertrophy", "myocardial_infarction", "st_t_abnormality")
    foreign = card(
        input="arg0",
        output="self_1_1",
        recipe=replace(
            RECIPE,
            samples=1000,
            stride=1000,
            unit=Unit.MICROVOLT,
            baseline=Baseline.MOVING_MEDIAN,
        ),
        activation=Activation.SOFTMAX,
        labels=tuple(Label.of(key, 0.5) for key in keys),
    )
    model = load_model(pack(content, foreign, ECGS))
    assert model.probabilities(np.zeros((2, 12, 1000), np.float32)).shape == (2, 4)


def test_no_damaged_package_raises_anything_but_a_refusal() -> None:
    content = np.frombuffer(packed(), np.uint8)
    random = np.random.default_rng(16)
    refused = 0
    for _ in range(400):
        damaged = content.copy()
        places = random.integers(len(damaged), size=random.integers(1, 4))
        damaged[places] = random.integers(256, size=places.size)
        try:
            load_model(damaged.tobytes())
        except ModelRejected:
            refused += 1
    assert refused
