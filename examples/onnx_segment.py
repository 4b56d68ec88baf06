"""Segment one image with an exported model: python examples/onnx_segment.py model.onnx photo.jpg labels.png

Needs numpy, pillow and onnxruntime, and nothing of this project.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, photo: str, target: str) -> None:
    """Write the labels of all pixels as a grey PNG, and print how large each is; a name is one label."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    notes = json.loads(session.get_modelmeta().custom_metadata_map["fs4"])
    opened = Image.open(photo, formats=["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
    image = ImageOps.exif_transpose(opened).convert("RGB")  # upright, as the camera was held
    factor = notes["resize"] / min(image.size)
    step = notes["multiple_of"]
    size = [max(step, round(side * factor / step) * step) for side in image.size]
    scaled = np.asarray(image.resize(size, Image.Resampling.BILINEAR))  # (h, w, 3)
    (labels,) = session.run(None, {"images": scaled.transpose(2, 0, 1)[None]})
    if labels.ndim == 4:  # the model gives logits
        labels = labels.argmax(1)
    ids = np.array(notes["named_ids"])
    named = ids.astype(np.uint8 if ids.max() < 256 else np.uint16)[labels[0]]
    found = Image.fromarray(named).resize(image.size, Image.Resampling.NEAREST)
    found.save(target)
    counts = np.bincount(np.asarray(found).ravel(), minlength=len(notes["names"]))
    for label, name in sorted(set(zip(notes["named_ids"], notes["names"], strict=True))):
        print(f"{100 * counts[label] / counts.sum():5.1f} %  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
