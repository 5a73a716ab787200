import numpy as np
import pytest

from multimodal_recall.data.boxes import box_fault, clip_boxes, relative_positions


def test_top_and_bottom_are_divided_by_the_height() -> None:
    # Given a box over the lower right quarter of an image of height 100 and width 200
    positions = relative_positions(np.array([[50.0, 100.0, 100.0, 200.0]]), np.array([100]), np.array([200]))
    # Then its sides are halves and wholes, whichever way the image is longer
    np.testing.assert_allclose(positions, [[0.5, 0.5, 1.0, 1.0, 0.25, 0.5]])


def test_a_box_without_width_has_a_shape() -> None:
    positions = relative_positions(np.array([[0.0, 10.0, 30.0, 10.0]]), np.array([100]), np.array([200]))
    np.testing.assert_allclose(positions[0, 4:], [0, 30])


def test_a_side_that_leaves_the_image_by_a_pixel_is_clipped() -> None:
    boxes = np.array([[0, 0, 100, 200], [-0.00002, -1, 100.0001, 201], [0, 0, 101.5, 200], [5, 5, 4, 9]], np.float32)
    fitting, clipped, faulty = clip_boxes(boxes, np.tile([100, 200], (4, 1)))
    assert fitting.dtype == np.float32
    np.testing.assert_array_equal(fitting[:2], [[0, 0, 100, 200]] * 2)
    np.testing.assert_array_equal(fitting[2:], boxes[2:])
    assert (clipped.tolist(), faulty.tolist()) == ([False, True, False, False], [False, False, True, True])


def test_full_image_boxes_that_were_scaled_in_float32_are_sound() -> None:
    # Given full boxes that a detector made on images resized to 800 pixels, scaled back as torchvision does
    sizes = np.arange(200, 4000)
    sides = np.float32(800) * (sizes.astype(np.float32) / np.float32(800))
    fitting, clipped, faulty = clip_boxes(
        np.column_stack([0 * sides, 0 * sides, sides, sides]), np.column_stack([sizes, sizes])
    )
    assert not faulty.any()
    assert clipped.any()
    assert (fitting[:, 2] <= sizes).all()


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([0, 0, 101.5, 200], "a box leaves the image of 100 x 200 pixels: bottom by 1.5 pixels "),
        ([-3, -7, 90, 90], "a box leaves the image of 100 x 200 pixels: left by 7 pixels "),
        ([0, 0, 9, np.inf], "a box leaves the image of 100 x 200 pixels: right by inf pixels "),
        ([5, 5, 4, 9], "a box has its sides out of order: [5.0, 5.0, 4.0, 9.0] "),
    ],
)
def test_a_faulty_box_is_told_with_side_and_distance(box: list[float], fault: str) -> None:
    assert box_fault(np.array(box, np.float32), 100, 200) == f"{fault}(top, left, bottom, right)"
