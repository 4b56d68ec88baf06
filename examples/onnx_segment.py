"""Segment one image with an exported model: python examples/onnx_segment.py model.onnx photo.jpg labels.png

Needs numpy, pillow and onnxruntime, and nothing of this project.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(model: str, photo: str, target: str) -> None:
    """Write the labels of all pixels as an 8-bit grey PNG, and print how large each is; a name is one label."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    notes = json.loads(session.get_modelmeta().custom_metadata_map["fs4"])
    image = Image.open(photo, formats=["JPEG", "PNG", "BMP", "WEBP", "TIFF"]).convert("RGB")
    factor = notes["resize"] / min(image.size)
    step = notes["multiple_of"]
    size = [max(step, round(side * factor / step) * step) for side in image.size]
    scaled = np.asarray(image.resize(size, Image.Resampling.BILINEAR))  # (h, w, 3)
    (labels,) = session.run(None, {"images": scaled.transpose(2, 0, 1)[None]})
    if labels.ndim == 4:  # the model gives logits
        labels = labels.argmax(1)
    named = np.array(notes["named_ids"], np.uint8)[labels[0]]
    found = Image.fromarray(named).resize(image.size, Image.Resampling.NEAREST)
    found.save(target)
    counts = np.bincount(np.asarray(found).ravel(), minlength=len(notes["names"]))
    for label, name in sorted(set(zip(notes["named_ids"], notes["names"], strict=True))):
        print(f"{100 * counts[label] / counts.sum():5.1f} %  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
