"""Vision checkpoints of transformers with random weights, which take no time to save, load and run."""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["red", "blue", "shirt", "shoe", "bag", "."]
SIDE = {"height": 32, "width": 32}
TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = {**TOWER, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
TEXT = {**TOWER, "intermediate_size": 64, "vocab_size": 16, "max_position_embeddings": 8}
CLIP_TEXT = {**TEXT, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
Part = hf.PreTrainedModel | hf.PreTrainedTokenizerFast | hf.ImageProcessingMixin


def tokenizer() -> hf.PreTrainedTokenizerFast:
    """One token a word, between [CLS] and [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate([*special, *WORDS])}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [("[CLS]", 2), ("[SEP]", 3)]
    words.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=words, **names)


def siglip2() -> list[Part]:
    # The kind of google/siglip2-base-patch16-224.
    config = hf.SiglipConfig(text_config={**TEXT, "projection_size": 32}, vision_config=VIT)
    return [hf.SiglipModel(config), hf.SiglipImageProcessorPil(size=SIDE), tokenizer()]


def siglip2_of_any_shape() -> list[Part]:
    vision = {**VIT, "num_patches": 16}
    config = hf.Siglip2Config(text_config={**TEXT, "projection_size": 32}, vision_config=vision)
    return [hf.Siglip2Model(config), hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16), tokenizer()]


def clip() -> list[Part]:
    config = hf.CLIPConfig(text_config=CLIP_TEXT, vision_config=VIT, projection_dim=24)
    processor = hf.CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size=SIDE)
    return [hf.CLIPModel(config), processor, tokenizer()]


def dinov2() -> list[Part]:
    config = hf.Dinov2Config(**TOWER, mlp_ratio=2, image_size=28, patch_size=14)
    crop = {"height": 28, "width": 28}
    return [hf.Dinov2Model(config), hf.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop)]


def vit() -> list[Part]:
    """A classifier, as google/vit-base-patch16-224: it has no weights for the pooling."""
    return [hf.ViTForImageClassification(hf.ViTConfig(**VIT)), hf.ViTImageProcessorPil(size=SIDE)]


def convnext() -> list[Part]:
    config = hf.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    return [hf.ConvNextForImageClassification(config), hf.ConvNextImageProcessorPil(size={"shortest_edge": 32})]


def mobilenet() -> list[Part]:
    processor = hf.MobileNetV2ImageProcessorPil(size={"shortest_edge": 36}, crop_size=SIDE)
    return [settled(hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(depth_multiplier=0.25))), processor]


def efficientnet() -> list[Part]:
    config = hf.EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320)
    return [settled(hf.EfficientNetForImageClassification(config)), hf.EfficientNetImageProcessorPil(size=SIDE)]


def settled(model: hf.PreTrainedModel) -> hf.PreTrainedModel:
    """Draw larger weights, and let batch normalisation see noise: else nothing of a picture reaches the last layer."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(torch.randn(16, 3, 64, 64))
    return model.eval()


def dfine() -> list[Part]:
    four = {
        f"stage_{name}": [value] * 4
        for name, value in {
            "in_channels": 16,
            "mid_channels": 16,
            "out_channels": 16,
            "num_blocks": 1,
            "light_block": False,
            "kernel_size": 3,
            "numb_of_layers": 1,
        }.items()
    }
    stages = ["stage2", "stage3", "stage4"]
    backbone = hf.HGNetV2Config(
        **four, stage_downsample=[False, True, True, True], stem_channels=[3, 16, 16], depths=[1] * 4,
        hidden_sizes=[16] * 4, embedding_size=16, out_features=stages,
    )  # fmt: skip
    small = ("encoder_hidden_dim", "encoder_ffn_dim", "d_model", "decoder_ffn_dim")
    config = hf.DFineConfig(
        backbone_config=backbone, **dict.fromkeys(small, 32), encoder_in_channels=[16] * 3, decoder_layers=2,
        decoder_in_channels=[32] * 3, encoder_attention_heads=2, decoder_attention_heads=2, num_queries=20,
        hidden_expansion=0.5, id2label=dict(enumerate(["shirt", "shoe", "bag"])), eval_size=None,
    )  # fmt: skip
    return [hf.DFineForObjectDetection(config), hf.RTDetrImageProcessorPil(size={"height": 64, "width": 64})]


def yolos() -> list[Part]:
    config = hf.YolosConfig(
        **{**VIT, "image_size": [64, 64], "patch_size": 16}, num_detection_tokens=8, id2label={0: "shirt", 1: "bag"}
    )
    sizes = {"shortest_edge": 64, "longest_edge": 96}
    return [hf.YolosForObjectDetection(config), hf.YolosImageProcessorPil(size=sizes)]


def owlv2() -> list[Part]:
    config = hf.Owlv2Config(text_config=CLIP_TEXT, vision_config=VIT, projection_dim=32)
    return [hf.Owlv2ForObjectDetection(config), hf.Owlv2ImageProcessorPil(size=SIDE), tokenizer()]


def grounding_dino() -> list[Part]:
    stages = ["stage2", "stage3", "stage4"]
    heads = {"depths": [1] * 4, "num_heads": [1] * 4}
    swin = hf.SwinConfig(image_size=128, embed_dim=8, **heads, window_size=2, out_features=stages)
    bert = hf.BertConfig(vocab_size=16, **{**TOWER, "num_hidden_layers": 1}, intermediate_size=32)
    small = ("encoder_ffn_dim", "decoder_ffn_dim", "d_model")
    config = hf.GroundingDinoConfig(
        backbone_config=swin, text_config=bert, **dict.fromkeys(small, 32), encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=10, max_text_len=32,
    )  # fmt: skip
    sizes = {"shortest_edge": 128, "longest_edge": 160}
    return [hf.GroundingDinoForObjectDetection(config), hf.GroundingDinoImageProcessorPil(size=sizes), tokenizer()]


EMBEDDERS: list[Callable[[], list[Part]]] = [
    siglip2, siglip2_of_any_shape, clip, dinov2, vit, convnext, mobilenet, efficientnet,
]  # fmt: skip
OWN_LABELS: list[Callable[[], list[Part]]] = [dfine, yolos]
SHOP_LABELS: list[Callable[[], list[Part]]] = [owlv2, grounding_dino]


def save_checkpoint(kind: Callable[[], list[Part]], folder: Path) -> Path:
    """Save a checkpoint with weights that depend on its kind alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in kind():
            part.save_pretrained(folder)
    return folder
