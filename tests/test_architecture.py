"""The house: imports only point downward, and starting up is quick."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "tiler").rglob("*.py"))
}
STARTS = ("tiler", "tiler.__main__")  # they name what they start


def room(module):
    """The package or module at the top level that a module is in."""
    return module.split(".")[1]


def drawn():
    """The layers of docs/internals.md, from the ground up."""
    drawing = (ROOT / "docs" / "internals.md").read_text().split("```text\n")[1].split("```")[0]
    layers = [[line.split()[0] for line in block.splitlines()] for block in drawing.split("\n\n")]
    return layers[::-1]


LAYERS = drawn()
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def imports(path):
    """Every module of ours that a file imports, wherever in it, also for annotations only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


IMPORTS = {module: sorted(set(imports(path))) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in STARTS])
def test_imports_only_point_downward(module):
    for other in IMPORTS[module]:
        if other != "tiler" and room(other) != room(module):
            assert HEIGHT[room(other)] < HEIGHT[room(module)], f"{module} imports {other}"


def test_no_modules_import_each_other():
    assert circle(IMPORTS) is None
    assert circle({"a": ["b"], "b": ["c"], "c": ["d", "b"], "d": []}) == ["b", "c", "b"]


def circle(graph):
    """The first way from a module back to itself, or None."""
    done = set()

    def search(module, way):
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return None
        for other in graph[module]:
            found = search(other, [*way, module])
            if found is not None:
                return found
        done.add(module)
        return None

    return next(filter(None, (search(module, []) for module in graph)), None)


def test_the_drawing_is_whole_and_small():
    assert {room(m) for m in MODULES if m not in STARTS} == set(HEIGHT)
    assert len(HEIGHT) <= 25
    assert len(LAYERS) <= 9


def test_no_two_classes_share_a_name():
    places = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(module)
    assert {name: of for name, of in places.items() if len(of) > 1} == {}


# What of shapely only asks or builds; all else makes new shapes of old ones, and may fail on some
HARMLESS = {
    "area",
    "bounds",
    "box",
    "from_geojson",
    "from_wkb",
    "from_wkt",
    "get_coordinates",
    "get_num_geometries",
    "get_num_interior_rings",
    "get_parts",
    "get_rings",
    "get_type_id",
    "is_ccw",
    "is_empty",
}
HARMLESS |= {
    "is_simple",
    "is_valid",
    "length",
    "linearrings",
    "linestrings",
    "multilinestrings",
    "polygons",
}
HARMLESS |= {"GEOSException", "Geometry", "Polygon", "STRtree", "to_wkb", "transform"}


def test_areas_are_made_of_others_in_one_place():
    for module, path in MODULES.items():
        if module == "tiler.geometry.overlay":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "shapely"
            ):
                assert node.attr in HARMLESS, (
                    f"{path}:{node.lineno} calls shapely.{node.attr}: see geometry.overlay"
                )


def test_no_private_part_of_the_command_line_library_is_used():
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] == "click" or n.startswith("typer._") for n in names), (
                path
            )


@pytest.mark.parametrize("arguments", [["--help"], ["split", "--help"], ["--version"]])
def test_help_loads_no_heavy_library(arguments):
    code = (
        "import sys; sys.argv = ['tiler', *%r]\n"
        "from tiler.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'shapely', 'joblib', 'PIL', 'msgspec'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    ) % (arguments,)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_public_names_are_there():
    import tiler

    for name in tiler.__all__:
        assert getattr(tiler, name) is not None
    with pytest.raises(AttributeError, match="splitt"):
        tiler.splitt  # noqa: B018
