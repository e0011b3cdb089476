"""Real exports of every family that tiler names, held against the libraries that they come from.

Not a test that runs with the others, since it needs those libraries: torch, torchvision,
transformers, ultralytics, onnxscript; and, on the path, the packages yolov5 and yolox (of
pixeltable-yolox). The networks have random weights, and statistics of the images given, so that
their scores differ from place to place. Last run with torch 2.14.1, torchvision 0.29.1,
transformers 5.24.0, ultralytics 8.4.190, yolov5 7.0.14, pixeltable-yolox 0.4.3, onnxruntime 1.32.0.

    python -m tests.models.make_exports FOLDER IMAGE... [--only NAME]
"""

import argparse
import functools
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from tests.models.matching import matched
from tiler.geometry.instances import triples
from tiler.models import opened
from tiler.options import ModelOptions

os.environ["YOLO_OFFLINE"] = "1"

SIDE = 160
CONF, IOU, MOST = 0.05, 0.7, 300
YAMLS = {
    "v5": "yolov5n",
    "v8": "yolov8n",
    "v9": "yolov9t",
    "v10": "yolov10n",
    "11": "yolo11n",
    "12": "yolo12n",
    "26": "yolo26n",
}
TASKS = {
    "detect": ("", YAMLS),
    "segment": ("-seg", ("v8", "11", "12", "26")),
    "obb": ("-obb", ("v8", "11", "12", "26")),
    "pose": ("-pose", ("v8", "11", "12", "26")),
}


def families(folder, images):
    """Name, file, and what its own library finds on an image, of each export."""
    yield from of_ultralytics(folder, images)
    yield from of_transformers(folder, images)
    yield from of_torchvision(folder, images)
    yield from of_yolov5(folder, images)
    yield from of_yolox(folder, images)


def calibrated(network, images, side=SIDE, scale=255.0):
    """Set the statistics of batch norms to those of the images, whose scores then differ."""
    import torch

    squares = [np.asarray(Image.fromarray(image).resize((side, side))) for image in images]
    batch = torch.tensor(np.stack(squares)).permute(0, 3, 1, 2).float() / scale
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for part in norms:
        part.momentum = None
        part.reset_running_stats()
        part.train()
    with torch.no_grad():
        for _ in range(2):
            network(batch)
    return network.eval()


# --- Ultralytics


def of_ultralytics(folder, images):
    for task, (suffix, versions) in TASKS.items():
        for version in versions:
            yaml = f"{YAMLS[version]}{suffix}.yaml"
            dynamic = task != "obb"
            yield ultralytics(folder, images, f"{version}-{task}", yaml, nms=None, dynamic=dynamic)
            if version in ("11", "8"):
                name = f"{version}-{task}-nms"
                yield ultralytics(folder, images, name, yaml, nms=True, conf=CONF)
            if version in ("26", "v10"):
                yield ultralytics(folder, images, f"{version}-{task}-end2end", yaml, nms=False)
    yield ultralytics(folder, images, "11-half", "yolo11n.yaml", half=True)
    yield ultralytics(folder, images, "rtdetr", "rtdetr-l.yaml", imgsz=320)


def ultralytics(folder, images, name, yaml, **options):
    import torch
    from ultralytics import RTDETR, YOLO

    kind = RTDETR if "rtdetr" in yaml else YOLO
    path = folder / f"{name}.onnx"
    if not path.exists():
        torch.manual_seed(0)
        model = kind(yaml)
        side = options.setdefault("imgsz", SIDE)
        calibrated(model.model, images, side)
        head = model.model.model[-1]
        spread = 0.03 if "segment" in name else 0.15  # or many are sure, and tie
        for part in ("cv3", "one2one_cv3"):
            for branch in getattr(head, part, None) or []:
                torch.nn.init.normal_(branch[-1].weight, 0, spread)
                torch.nn.init.constant_(branch[-1].bias, -4)
        model.save(folder / f"{name}.pt")
        made = kind(folder / f"{name}.pt").export(format="onnx", simplify=False, **options)
        shutil.move(made, path)

    def reference(image):
        side = opened(path, ModelOptions()).size[0]
        (result,) = kind(path).predict(
            image[..., ::-1].copy(),
            rect=False,
            conf=CONF,
            iou=IOU,
            max_det=MOST,
            imgsz=side,
            verbose=False,
        )
        return of_results(result, image)

    return name, path, reference


def of_results(result, image):
    found = result.boxes if result.obb is None else result.obb
    expected = {
        "cls": found.cls.numpy().astype(int),
        "conf": found.conf.numpy(),
        "xyxy": found.xyxy.numpy(),
    }
    if result.obb is not None:
        return expected | {"xyxyxyxy": found.xyxyxyxy.numpy()}
    expected["xyxy"] = clipped(expected["xyxy"], image)  # RT-DETR's are not
    if result.masks is not None:
        expected["masks"] = [filled(mask) for mask in result.masks.data.numpy()]
    if result.keypoints is not None:
        expected["keypoints"] = triples(result.keypoints.data.numpy().astype(float))
    return expected


def filled(mask):
    """A mask without holes, in whose outline it has none."""
    import cv2

    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), found, -1, 1, cv2.FILLED) > 0


def drawn(rings, shape):
    import cv2

    points = [np.rint(ring).astype(np.int32) for ring in rings]
    return cv2.drawContours(np.zeros(shape, np.uint8), points, -1, 1, cv2.FILLED) > 0


def clipped(boxes, image):
    height, width = image.shape[:2]
    return np.clip(boxes, 0, [width, height, width, height])


# --- transformers


def of_transformers(folder, images):
    import torch
    import transformers as hf

    kinds = {
        "rt_detr": (hf.RTDetrConfig, hf.RTDetrForObjectDetection),
        "rt_detr_v2": (hf.RTDetrV2Config, hf.RTDetrV2ForObjectDetection),
        "d_fine": (hf.DFineConfig, hf.DFineForObjectDetection),
    }
    for name, (config, kind) in kinds.items():
        here = folder / f"hf-{name}"
        path = here / "model.onnx"
        if not path.exists():
            torch.manual_seed(0)
            network = kind(config(num_labels=5, decoder_layers=2)).eval()
            network.save_pretrained(here)
            hf.RTDetrImageProcessor(size={"height": 256, "width": 256}).save_pretrained(here)

            class Outputs(torch.nn.Module):
                def __init__(self, network=network):
                    super().__init__()
                    self.network = network

                def forward(self, pixel_values):
                    output = self.network(pixel_values=pixel_values)
                    return output.logits, output.pred_boxes

            axes = {"pixel_values": {0: "b"}, "logits": {0: "b"}, "pred_boxes": {0: "b"}}
            exported(
                Outputs(),
                torch.rand(1, 3, 256, 256),
                path,
                input_names=["pixel_values"],
                output_names=["logits", "pred_boxes"],
                dynamic_axes=axes,
            )
        processor = hf.RTDetrImageProcessor.from_pretrained(here)

        def reference(image, path=path, processor=processor):
            inputs = processor(images=Image.fromarray(image), return_tensors="np")
            model = opened(path)
            ours = model.prepared(image)
            assert np.abs(inputs["pixel_values"][0] - ours).max() < 2.5 / 255
            # random weights choose other queries for a bit of difference: so ours, read by theirs
            logits, boxes = map(torch.tensor, model.session.run("pixel_values", ours[None]))
            (found,) = processor.post_process_object_detection(
                SimpleNamespace(logits=logits, pred_boxes=boxes),
                threshold=CONF,
                target_sizes=[image.shape[:2]],
            )
            return of_dict(found, image)

        yield f"hf-{name}", path, reference


def of_dict(found, image):
    order = np.argsort(-found["scores"].numpy(), kind="stable")[:MOST]
    expected = {
        "cls": found["labels"].numpy()[order],
        "conf": found["scores"].numpy()[order],
        "xyxy": clipped(found["boxes"].numpy()[order], image),
    }
    if "masks" in found:
        expected["masks"] = found["masks"].numpy()[order, 0] >= 0.5
    return expected


def exported(network, example, path, **options):
    import torch

    with torch.no_grad():
        torch.onnx.export(network, (example,), str(path), dynamo=False, opset_version=17, **options)


# --- torchvision


def of_torchvision(folder, images):
    import torch
    from torchvision.models import detection as tv

    kinds = {
        "fasterrcnn": (tv.fasterrcnn_mobilenet_v3_large_320_fpn, "box_score_thresh", 320),
        "maskrcnn": (tv.maskrcnn_resnet50_fpn, "box_score_thresh", SIDE),
        "retinanet": (tv.retinanet_resnet50_fpn, "score_thresh", SIDE),
        "ssdlite": (tv.ssdlite320_mobilenet_v3_large, "score_thresh", None),
    }
    for name, (kind, threshold, side) in kinds.items():
        path = folder / f"torchvision-{name}.onnx"
        sides = {} if side is None else {"min_size": side, "max_size": side}
        torch.manual_seed(0)
        network = kind(
            weights=None, weights_backbone=None, num_classes=4, **{threshold: CONF}, **sides
        ).eval()
        if "rcnn" not in name:
            calibrated(network.backbone, images)
        if name == "retinanet":
            torch.nn.init.normal_(network.head.classification_head.cls_logits.weight, 0, 0.003)
        names = list(network([torch.rand(3, 99, 99)])[0])
        if not path.exists():
            exported(
                network,
                [torch.rand(3, 200, 240)],
                path,
                input_names=["image"],
                output_names=names,
                dynamic_axes={"image": {1: "height", 2: "width"}},
            )

        def reference(image, network=network):
            tensor = torch.tensor(image.copy()).permute(2, 0, 1).float() / 255
            with torch.no_grad():
                (found,) = network([tensor])
            return of_dict(found, image)

        yield f"torchvision-{name}", path, reference


# --- YOLOv5 of its own repository, and YOLOX


def of_yolov5(folder, images):
    import onnx
    import torch
    from yolov5.models import yolo
    from yolov5.utils.general import non_max_suppression

    configs = Path(yolo.__file__).parent
    for name, kind, config in (
        ("yolov5n", yolo.DetectionModel, configs / "yolov5n.yaml"),
        ("yolov5n-seg", yolo.SegmentationModel, configs / "segment" / "yolov5n-seg.yaml"),
    ):
        torch.manual_seed(0)
        network = calibrated(kind(str(config), nc=3).eval(), images)
        head = network.model[-1]
        for branch in head.m:
            torch.nn.init.normal_(branch.weight, 0, 0.1)
            torch.nn.init.constant_(branch.bias, -0.5)
        head.export, head.inplace, head.dynamic = True, False, True
        path = folder / f"{name}.onnx"
        outputs = ["output0", "output1"][: 1 + name.endswith("seg")]
        axes = {"images": {0: "batch"}} | {output: {0: "batch"} for output in outputs}
        network(torch.rand(1, 3, SIDE, SIDE))
        exported(
            network,
            torch.rand(1, 3, SIDE, SIDE),
            path,
            input_names=["images"],
            output_names=outputs,
            dynamic_axes=axes,
        )
        model = onnx.load(path)
        for key, value in {"stride": 32, "names": {0: "a", 1: "b", 2: "c"}}.items():
            model.metadata_props.add(key=key, value=str(value))
        onnx.save(model, path)

        masks = name.endswith("seg")

        def reference(image, network=network, masks=masks):
            from ultralytics.engine.results import Results
            from ultralytics.utils import ops

            tensor = letterboxed(image) / 255
            with torch.no_grad():
                output = network(tensor)
            rows = output[0]
            (found,) = non_max_suppression(rows, CONF, IOU, max_det=MOST, nm=32 if masks else 0)
            drawn = None
            if masks:
                size = tensor.shape[2:]
                drawn = ops.process_mask(output[1][0], found[:, 6:], found[:, :4], size, True)
                found, drawn = found[drawn.amax((-2, -1)) > 0], drawn[drawn.amax((-2, -1)) > 0]
            boxes = ops.scale_boxes(tensor.shape[2:], found[:, :6], image.shape)
            return of_results(Results(image, "", {0: "a", 1: "b", 2: "c"}, boxes, drawn), image)

        yield name, path, reference


def letterboxed(image):
    import torch
    from ultralytics.data.augment import LetterBox

    square = LetterBox((SIDE, SIDE))(image=image)
    return torch.tensor(square.copy()).permute(2, 0, 1).float()[None]


def of_yolox(folder, images):
    import torch
    from yolox.data import ValTransform
    from yolox.models import YoloPafpn, YoloxHead, YoloxModule
    from yolox.utils import postprocess

    for name, decoded in (("yolox", False), ("yolox-decoded", True)):
        torch.manual_seed(0)
        network = YoloxModule(YoloPafpn(0.33, 0.25), YoloxHead(4, 0.25)).eval()
        calibrated(network, images, scale=1.0)
        for branch in (*network.head.cls_preds, *network.head.obj_preds):
            torch.nn.init.normal_(branch.weight, 0, 0.02)
            torch.nn.init.constant_(branch.bias, -1)
        network.head.decode_in_inference = decoded
        path = folder / f"{name}.onnx"
        exported(
            network,
            torch.rand(1, 3, SIDE, SIDE),
            path,
            input_names=["images"],
            output_names=["output"],
        )

        def reference(image, network=network):
            network.head.decode_in_inference = True
            values, _ = ValTransform()(image[..., ::-1], None, (SIDE, SIDE))
            with torch.no_grad():
                output = network(torch.tensor(values)[None])
            (found,) = postprocess(output, 4, CONF, IOU)
            found = found.numpy()[:MOST]
            ratio = min(SIDE / image.shape[0], SIDE / image.shape[1])
            return {
                "cls": found[:, 6].astype(int),
                "conf": found[:, 4] * found[:, 5],
                "xyxy": clipped(found[:, :4] / ratio, image),
            }

        yield name, path, reference


def compared(path, reference, images):
    """How many detections there are on the images; an error if ours are others."""
    model = opened(path, ModelOptions(conf=CONF, nms_iou=IOU, max_det=MOST))
    total = 0
    if model.task == "segment":  # masks are compared in pixels, so without a letterbox
        images = [image[:SIDE, :SIDE] for image in images]
    for image in images:
        expected = reference(image)
        size = image.shape[1], image.shape[0]
        (found,) = model.detections(model.run([model.prepared(image)]), [size])
        scale = 1.0 if model.size is None else min(model.size[0] / size[0], model.size[1] / size[1])
        least = CONF
        if len(expected["conf"]) >= MOST:  # the last of them may be others
            least = float(np.min(expected["conf"]))
        if "masks" in expected:
            expected["drawn"] = functools.partial(drawn, shape=image.shape[:2])
        matched(found, expected, scale, least)
        total += len(found)
    return model.title, total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    images = [np.asarray(Image.open(path).convert("RGB")) for path in given.images]
    for name, path, reference in families(given.folder, images):
        if not any(part in name for part in given.only.split(",")):
            continue
        try:
            title, count = compared(path, reference, images)
            print(f"{name:20} {count:5} detections, the same: {title}", flush=True)
        except Exception as error:
            print(f"{name:20} DIFFERENT: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
