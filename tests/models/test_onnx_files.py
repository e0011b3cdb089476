import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import graphs
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.models import opened
from tiler.models.onnx_files import files_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed")


@pytest.fixture
def beside(tmp_path):
    """A model whose weights are in a file beside it."""
    model = onnx.load(graphs.detect(tmp_path / "m.onnx"))
    onnx.save(
        model,
        str(tmp_path / "m.onnx"),
        save_as_external_data=True,
        location="m.data",
        size_threshold=100,
    )
    return tmp_path / "m.onnx"


def moved(path, location):
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def test_weights_beside_the_model(beside):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    assert files_of(beside) == [beside, beside.parent / "m.data"]
    model = opened(beside)
    before = model.fingerprint
    weights = beside.parent / "m.data"
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    assert opened(beside).fingerprint != before


@pytest.mark.parametrize(
    "location", ["../m.data", "/etc/passwd", "a/../../m.data", "C:\\m.data", "..\\m.data", "", "."]
)
def test_weights_anywhere_else_are_not_opened(beside, location):
    moved(beside, location)
    with pytest.raises(TilerError, match="weights are outside its folder|weights are not there"):
        opened(beside)


def test_links_lead_nowhere_else(beside, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "m.data"
    os.replace(beside.parent / "m.data", elsewhere)
    (beside.parent / "m.data").symlink_to(elsewhere)
    with pytest.raises(TilerError, match="outside its folder"):
        opened(beside)


def test_weights_in_constants_and_branches_are_seen_too(tmp_path):
    helper = onnx.helper
    tensor = onnx.TensorProto(
        name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="../secret")
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [])
    node = helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch)
    model = helper.make_model(helper.make_graph([node], "graph", [], []))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(TilerError, match=r"outside its folder, in '\.\./secret'"):
        files_of(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"PK\x03\x04", b"\x3a\xff\xff\xff\xff\x0f", b"<"]
)
def test_what_is_no_model(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(TilerError, match=r"m.onnx"):
        opened(path)


@quick
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_no_bytes_make_another_error(tmp_path_factory, junk, at):
    folder = tmp_path_factory.mktemp("broken")
    content = bytearray(graphs.detect(folder / "m.onnx").read_bytes())
    content[at : at + len(junk)] = junk
    (folder / "m.onnx").write_bytes(content)
    try:
        assert files_of(folder / "m.onnx")[0] == folder / "m.onnx"
    except TilerError:
        pass


def test_a_file_that_cannot_be_run(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    graph = graphs.Graph(1)
    graph.output(graph.node("NoSuchThing", [graph.image]))
    with pytest.raises(TilerError, match="ONNX Runtime cannot load it"):
        opened(graph.save(tmp_path / "m.onnx"))


def test_what_takes_too_much_memory(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    graph = graphs.Graph(1)
    enormous = graph.constant([2**22, 2**22], np.int64)
    graph.output(graph.node("ConstantOfShape", [enormous]), shape=(None, None))
    with pytest.raises((MemoryError, TilerError)):
        opened(graph.save(tmp_path / "m.onnx"))
