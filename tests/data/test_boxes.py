import numpy as np

from multimodal_recall.data.boxes import relative_positions


def test_top_and_bottom_are_divided_by_the_height() -> None:
    # Given a box over the lower right quarter of an image of height 100 and width 200
    positions = relative_positions(np.array([[50.0, 100.0, 100.0, 200.0]]), np.array([100]), np.array([200]))
    # Then its sides are halves and wholes, whichever way the image is longer
    np.testing.assert_allclose(positions, [[0.5, 0.5, 1.0, 1.0, 0.25, 0.5]])


def test_a_box_without_width_has_a_shape() -> None:
    positions = relative_positions(np.array([[0.0, 10.0, 30.0, 10.0]]), np.array([100]), np.array([200]))
    np.testing.assert_allclose(positions[0, 4:], [0, 30])
