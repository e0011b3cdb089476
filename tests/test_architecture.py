"""The house: imports only point downward, and starting up is quick."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# From the ground up; what stands on one line may not import its neighbours.
LAYERS = [
    ["errors", "lazy", "types", "version"],
    ["findings", "checks"],
    ["options"],
    ["boxes", "ragged"],
    ["neighbours"],
    ["areas"],
    ["polygons"],
    ["masks"],
    ["instances"],
    ["clipping", "foreign", "matching"],
    ["window", "fusing"],
    ["grids", "stitching", "evaluation"],
    ["formats"],
    ["images"],
    ["run"],
    ["datasets"],
    ["splitting", "merging", "scoring", "checking"],
    ["cli"],
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted((ROOT / "tiler").rglob("*.py"))


def room(path):
    return path.relative_to(ROOT / "tiler").parts[0].removesuffix(".py")


def imports(path):
    """(module, line) of every import of ours, wherever in the file, but for those of annotations only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tiler":
            names = [node.module] if "." in node.module else [f"tiler.{alias.name}" for alias in node.names]
            yield from ((name, node.lineno) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.startswith("tiler."))


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) not in ("__init__", "__main__")], ids=lambda p: p.stem)
def test_imports_only_point_downward(path):
    for module, line in imports(path):
        target = module.split(".")[1]
        if target == room(path):
            continue
        assert HEIGHT[target] < HEIGHT[room(path)], f"{path}:{line} imports {module}"


def test_every_room_has_its_place():
    assert {room(p) for p in MODULES} - {"__init__", "__main__"} == set(HEIGHT)


# What of shapely only asks or builds; all else makes new shapes of old ones, and may fail on some
HARMLESS = {
    "area",
    "bounds",
    "box",
    "get_coordinates",
    "get_num_geometries",
    "get_parts",
    "get_rings",
    "get_type_id",
    "is_ccw",
    "is_empty",
}
HARMLESS |= {"is_simple", "is_valid", "length", "linearrings", "linestrings", "multilinestrings", "polygons"}
HARMLESS |= {"Polygon", "STRtree", "to_wkb"}


def test_areas_are_made_of_others_in_one_place():
    for path in MODULES:
        if room(path) == "areas":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "shapely":
                assert node.attr in HARMLESS, f"{path}:{node.lineno} calls shapely.{node.attr}: see geometry.overlay"


def test_no_private_part_of_the_command_line_library_is_used():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] == "click" or n.startswith("typer._") for n in names), path


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
