"""The same detections in every format of a detector.

Where the tool itself does not install in a test, its writer follows the documented form, which the
module that reads it names.
"""

import csv
import json
from pathlib import Path

SIDE = 512  # of a tile, so that parts of its side are exact
NAMES = ("car", "truck")


def sides(row):
    """x, y, width, height."""
    _, x0, y0, x1, y1, _ = row
    return [x0, y0, x1 - x0, y1 - y0]


def middle(row):
    """The centre's x and y, width and height."""
    x, y, w, h = sides(row)
    return [x + w / 2, y + h / 2, w, h]


def parts(values):
    return [value / SIDE for value in values]


def each(root, tiles, suffix, text):
    """One file for each tile."""
    for name, rows in tiles.items():
        Path(root, name + suffix).write_text(text(name, rows))
    return root


def one(root, name, text):
    path = Path(root, name)
    path.write_text(text)
    return path


def flat(tiles):
    return [(name, row) for name, rows in tiles.items() for row in rows]


def write_csv(root, name, header, rows):
    path = Path(root, name)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def yolo(root, tiles):
    def text(_, rows):
        lines = []
        for row in rows:
            numbers = [row[0], *parts(middle(row)), row[5]]
            lines.append(" ".join(map(repr, numbers)) + "\n")
        return "".join(lines)

    return each(root, tiles, ".txt", text)


def coco(root, tiles):
    entries = []
    for name, row in flat(tiles):
        entries.append(
            {"image_id": name, "category_id": row[0], "bbox": sides(row), "score": row[5]}
        )
    return one(root, "coco_instances_results.json", json.dumps(entries))


def detectron2_folder(root, tiles):
    coco(root, tiles)
    Path(root, "instances_predictions.pth").write_bytes(b"PK\x03\x04")
    Path(root, "metrics.json").write_text('{"bbox/AP": 0.5}')
    return root


def summaries(rows):
    """Ultralytics' `Results.summary`."""
    found = []
    for c, x0, y0, x1, y1, conf in rows:
        box = {"x1": x0, "y1": y0, "x2": x1, "y2": y1}
        found.append({"name": NAMES[c], "class": c, "confidence": conf, "box": box})
    return found


def ultralytics_json(root, tiles):
    return each(root, tiles, ".json", lambda _, rows: json.dumps(summaries(rows)))


def ultralytics_csv(root, tiles):
    for name, rows in tiles.items():
        found = [[*row.values()] for row in summaries(rows)]
        write_csv(root, name + ".csv", ["name", "class", "confidence", "box"], found)
    return root


def supervision_csv(root, tiles):
    head = ["x_min", "y_min", "x_max", "y_max", "class_id", "confidence", "tracker_id", "from"]
    rows = [[*row[1:5], row[0], row[5], "", f"/data/{name}.jpeg"] for name, row in flat(tiles)]
    return write_csv(root, "out.csv", head, rows)


def supervision_json(root, tiles):
    def text(_, rows):
        found = []
        for c, x0, y0, x1, y1, conf in rows:
            box = {"x_min": x0, "y_min": y0, "x_max": x1, "y_max": y1}
            found.append({**box, "class_id": c, "confidence": conf, "tracker_id": ""})
        return json.dumps(found)

    return each(root, tiles, ".json", text)


def columns(boxes, first):
    def text(_, rows):
        found = {
            boxes: [row[1:5] for row in rows],
            "labels": [row[0] + first for row in rows],
            "scores": [row[5] for row in rows],
        }
        return json.dumps(found)

    return text


def torchvision(root, tiles):
    return each(root, tiles, ".json", columns("boxes", 1))


def torchvision_by_name(root, tiles):
    found = {name: json.loads(columns("boxes", 1)(name, rows)) for name, rows in tiles.items()}
    return one(root, "all.json", json.dumps(found))


def mmdetection(root, tiles):
    return each(root, tiles, ".json", columns("bboxes", 0))


def roboflow(root, tiles):
    def text(_, rows):
        found = []
        for row in rows:
            box = dict(zip(("x", "y", "width", "height"), middle(row), strict=True))
            label = {"confidence": row[5], "class": NAMES[row[0]], "class_id": row[0]}
            found.append({**box, **label, "detection_id": "a-b"})
        return json.dumps({"image": {"width": SIDE, "height": SIDE}, "predictions": found})

    return each(root, tiles, ".json", text)


def yolov5_csv(root, tiles):
    head = ["", "xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    for name, rows in tiles.items():
        found = [[i, *row[1:5], row[5], row[0], NAMES[row[0]]] for i, row in enumerate(rows)]
        write_csv(root, name + ".csv", head, found)
    return root


def deepforest_csv(root, tiles):
    head = ["xmin", "ymin", "xmax", "ymax", "label", "score", "image_path"]
    rows = [[*row[1:5], NAMES[row[0]], row[5], name + ".png"] for name, row in flat(tiles)]
    return write_csv(root, "predictions.csv", head, rows)


def megadetector(root, tiles):
    images = []
    for name, rows in tiles.items():
        found = []
        for row in rows:
            category = {"category": str(row[0] + 1), "conf": row[5]}
            found.append({**category, "bbox": parts(sides(row))})
        images.append({"file": f"tiles/{name}.jpg", "detections": found})
    names = {str(i): name for i, name in enumerate(NAMES, 1)}
    info = {"format_version": "1.4"}
    content = {"images": images, "detection_categories": names, "info": info}
    return one(root, "md.json", json.dumps(content))


def darknet_json(root, tiles):
    frames = []
    for i, (name, rows) in enumerate(tiles.items(), 1):
        found = []
        for row in rows:
            keys = ("center_x", "center_y", "width", "height")
            box = dict(zip(keys, parts(middle(row)), strict=True))
            label = {"class_id": row[0], "name": NAMES[row[0]], "confidence": row[5]}
            found.append({**label, "relative_coordinates": box})
        frames.append({"frame_id": i, "filename": f"data/{name}.jpg", "objects": found})
    return one(root, "result.json", json.dumps(frames))


def darknet_text(root, tiles):
    lines = [" Detection layer: 82 - type = 28 "]
    for name, rows in tiles.items():
        lines.append(f"Enter Image Path: data/{name}.jpg: Predicted in 25.3 milli-seconds.")
        for row in rows:
            places = zip(("left_x", "top_y", "width", "height"), sides(row), strict=True)
            place = "   ".join(f"{side}: {value:4.0f}" for side, value in places)
            lines.append(f"{NAMES[row[0]]}: {100 * row[5]:.0f}%\t({place})")
    return one(root, "result.txt", "\n".join(lines))


def voc(root, tiles):
    def text(name, rows):
        found = ""
        for row in rows:
            keys = ("xmin", "ymin", "xmax", "ymax")
            box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, row[1:5], strict=True))
            label = f"<name>{NAMES[row[0]]}</name><confidence>{row[5]}</confidence>"
            found += f"<object>{label}<bndbox>{box}</bndbox></object>"
        return f"<annotation><filename>{name}.jpg</filename>{found}</annotation>"

    return each(root, tiles, ".xml", text)


def labelme(root, tiles):
    def text(name, rows):
        shapes = []
        for c, x0, y0, x1, y1, conf in rows:
            points = {"points": [[x0, y0], [x1, y1]], "shape_type": "rectangle"}
            shapes.append({"label": NAMES[c], "score": conf, **points})
        size = {"imageWidth": SIDE, "imageHeight": SIDE}
        return json.dumps({"shapes": shapes, "imagePath": f"../{name}.jpg", **size})

    return each(root, tiles, ".json", text)


def kitti(root, tiles):
    def text(_, rows):
        lines = []
        for row in rows:
            box = " ".join(f"{value:.2f}" for value in row[1:5])
            lines.append(f"{NAMES[row[0]]} -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10 {row[5]}")
        return "\n".join(lines)

    return each(root, tiles, ".txt", text)


WRITERS = (
    yolo, coco, detectron2_folder, ultralytics_json, ultralytics_csv, supervision_csv,
    supervision_json, torchvision, torchvision_by_name, mmdetection, roboflow, yolov5_csv,
    deepforest_csv, megadetector, darknet_json, darknet_text, voc, labelme, kitti,
)  # fmt: skip
