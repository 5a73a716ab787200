"""The descriptor without weights: it knows colours and edges, which drawn products show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.models.vision.embedder import Embedder
from multimodal_recall.models.vision.weak import EmbedderAndWeak, WeakDescriptor
from tests.conftest import forced_hardware
from tests.tiny_vision import clip, save_checkpoint

WEAK = WeakDescriptor()
STRIPES = {"plain": None, "upright": (8, 0), "level": (0, 8)}


def product(colour: str, stripes: str = "plain", size: tuple[int, int] = (120, 160)) -> Image.Image:
    """A block of a colour on white, perhaps with black stripes."""
    picture = Image.new("RGB", size, "white")
    drawing = ImageDraw.Draw(picture)
    drawing.rectangle((20, 20, size[0] - 20, size[1] - 20), fill=colour)
    for place in range(24, max(size) - 24, 16):
        if stripes == "upright":
            drawing.rectangle((place, 20, place + 5, size[1] - 20), fill="black")
        if stripes == "level":
            drawing.rectangle((20, place, size[0] - 20, place + 5), fill="black")
    return picture


def cosines(*pictures: Image.Image) -> np.ndarray:
    vectors = WEAK.embed(pictures, 8)
    return vectors @ vectors.T


def test_the_name_says_that_it_is_weak() -> None:
    assert DescribeOptions().descriptor.startswith("weak descriptor")


def test_features_have_length_one_and_depend_on_no_batch() -> None:
    pictures = [product(colour) for colour in ("red", "blue", "white")]
    together, alone = WEAK.embed(pictures, 8), np.concatenate([WEAK.embed([one], 1) for one in pictures])
    assert together.shape == (3, WEAK.width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(together, alone)
    assert WEAK.embed([], 8).shape == (0, WEAK.width)


@pytest.mark.parametrize("colour", ["#c01818", "#1830c0", "#20a040", "#d0b020", "#303030"])
def test_a_shade_of_a_colour_is_nearer_than_other_colours(colour: str) -> None:
    shade = Image.eval(product(colour), lambda level: round(level * 0.96))
    others = [product(other) for other in ("#c01818", "#1830c0", "#20a040", "#d0b020", "#303030") if other != colour]
    near, *far = cosines(product(colour), shade, *others)[0, 1:]
    assert near > max(far) + 0.05


def test_stripes_that_run_alike_are_nearer_than_others() -> None:
    found = cosines(product("red", "upright"), product("blue", "upright"), product("blue", "level"), product("blue"))
    assert found[0, 1] > max(found[0, 2:]) + 0.05


def test_the_size_of_a_photo_hardly_matters() -> None:
    large = product("red", "upright").resize((480, 640))
    assert cosines(product("red", "upright"), large)[0, 1] > 0.97


def test_an_even_picture_has_a_feature_without_edges() -> None:
    assert np.isfinite(WEAK.embed([Image.new("RGB", (1, 1), "red")], 1)).all()


def test_an_embedders_feature_goes_before_colours_and_edges(tmp_path: Path) -> None:
    embedder = Embedder("describe.embedder", str(save_checkpoint(clip, tmp_path)), forced_hardware())
    both, pictures = EmbedderAndWeak(embedder), [product(colour) for colour in ("red", "blue", "white")]
    vectors = both.embed(iter(pictures), 2)
    assert vectors.shape == (3, both.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.sqrt(2) * vectors[:, : embedder.width], embedder.embed(pictures, 3), atol=0.02)
    np.testing.assert_allclose(np.sqrt(2) * vectors[:, embedder.width :], WEAK.embed(pictures, 3), atol=1e-6)
    assert both.embed([], 2).shape == (0, both.width)
    assert both.facts() == f"CLIPModel: features of 24 numbers, and texts; with colours and edges {both.width} numbers"
