"""Small ONNX models whose outputs are known: each cell of 8 px is an anchor, and how red, green and
blue it is are the scores of three classes.
"""

import numpy as np

SIDE = 32
CELL = 8
COUNT = (SIDE // CELL) ** 2
NAMES = "{0: 'red', 1: 'green', 2: 'blue'}"


def centres(cell=CELL, side=SIDE):
    rows, columns = np.mgrid[: side // cell, : side // cell]
    return np.stack([columns.ravel(), rows.ravel()], axis=1) * cell + cell / 2


def boxes(width=6.0, height=4.0):
    """`(A, 4)` cxcywh of each cell."""
    xy = centres()
    return np.concatenate([xy, np.full_like(xy, (width, height))], axis=1)


def coloured(*cells, side=SIDE):
    """A black tile with some cells of a colour: (column, row, red, green, blue)."""
    tile = np.zeros((side, side, 3), np.uint8)
    for column, row, *colour in cells:
        tile[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = colour
    return tile


class Graph:
    """Nodes, constants and outputs, which become a file."""

    def __init__(self, batch="batch", sides=(SIDE, SIDE), dtype="FLOAT", name="images"):
        from onnx import TensorProto, helper

        self.helper = helper
        self.type = getattr(TensorProto, dtype)
        self.float = TensorProto.FLOAT
        shape = [3, *sides] if batch is None else [batch, 3, *sides]
        self.inputs = [helper.make_tensor_value_info(name, self.type, shape)]
        self.nodes, self.constants, self.outputs = [], [], []
        self.image = self.node("Cast", [name], to=self.float)

    def node(self, kind, inputs, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values, dtype=np.float32):
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        array = np.asarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def output(self, tensor, name="output0", shape=(None, None, None), kind=None):
        self.nodes.append(self.helper.make_node("Identity", [tensor], [name]))
        info = self.helper.make_tensor_value_info(name, kind or self.float, list(shape))
        self.outputs.append(info)

    def scores(self, times=1.0):
        """`(B, 3, A)`."""
        pooled = self.node(
            "AveragePool", [self.image], kernel_shape=[CELL, CELL], strides=[CELL, CELL]
        )
        scaled = self.node("Mul", [pooled, self.constant(times)])
        return self.node("Reshape", [scaled, self.constant([0, 3, -1], np.int64)])

    def rows(self, values):
        """`(B, C, A)` of constants `(A, C)`, for each tile."""
        constant = self.constant(np.asarray(values).T[None])
        first = self.node("Slice", [self.scores(), *self.bounds(1)])
        zero = self.node("Mul", [first, self.constant(0)])
        return self.node("Add", [zero, constant])

    def bounds(self, stop):
        return [self.constant([value], np.int64) for value in (0, stop, 1)]

    def joined(self, *tensors, axis=1):
        return self.node("Concat", list(tensors), axis=axis)

    def turned(self, tensor):
        return self.node("Transpose", [tensor], perm=[0, 2, 1])

    def save(self, path, **words):
        import onnx

        graph = self.helper.make_graph(
            self.nodes, "graph", self.inputs, self.outputs, self.constants
        )
        model = self.helper.make_model(
            graph, opset_imports=[self.helper.make_opsetid("", 17)], ir_version=8
        )
        for name, text in words.items():
            model.metadata_props.add(key=name, value=text)
        onnx.save(model, str(path))
        return path


def yolo(path, batch="batch", sides=(SIDE, SIDE), dtype="FLOAT", more=None, **words):
    """Ultralytics' rows: cxcywh, scores, and more."""
    graph = Graph(batch, sides, dtype)
    times = 1 / 255 if dtype == "UINT8" else 1.0
    parts = [graph.rows(boxes()), graph.scores(times)]
    if more is not None:
        parts.append(graph.rows(more))
    graph.output(graph.joined(*parts))
    return graph, path, words


def detect(path, **options):
    graph, path, words = yolo(path, **options)
    return graph.save(path, **({"task": "detect", "names": NAMES} | words))
