"""Vector files made for tests, by pyogrio alone."""

import json
import warnings

import numpy as np
import shapely


def write(path, shapes, crs, **fields):
    """A vector file of shapes; `fields`: columns of the same length."""
    import pyogrio

    wkb = np.array([None if s is None else shapely.to_wkb(s) for s in shapes], object)
    kinds = {s.geom_type for s in shapes if s is not None}
    columns = [np.array(values, None if _plain(values) else object) for values in fields.values()]
    options = {"layer": path.stem} if path.suffix == ".gpkg" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyogrio.raw.write(
            path,
            wkb,
            columns,
            list(fields),
            geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
            crs=crs,
            encoding="UTF-8",
            **options,
        )
    return path


def _plain(values):
    return not any(value is None or isinstance(value, str) for value in values)


def feature(coordinates, kind="Polygon", **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def geojson(path, features, **members):
    """A GeoJSON with the numbers as they are; GDAL writes seven decimals."""
    content = {"type": "FeatureCollection", "features": features, **members}
    path.write_text(json.dumps(content))
    return path
