"""Map boxes in pixels to the patches of the model's grid that they touch."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def box_array(boxes: ArrayLike) -> NDArray[np.float64]:
    """Return boxes as (K, 4): x1, y1, x2, y2; further columns, such as a score, are dropped.

    Raises:
        ValueError: another shape, a coordinate that is not finite, or exchanged corners.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] < 4:
        raise ValueError(f"boxes: the shape (K, 4) is expected, not {array.shape}")
    array = array[:, :4]
    for wrong, reason in (
        (~np.isfinite(array).all(1), "a coordinate is not finite"),
        (array[:, 2] < array[:, 0], "x2 is less than x1"),
        (array[:, 3] < array[:, 1], "y2 is less than y1"),
    ):
        if wrong.any():
            k = int(wrong.argmax())
            raise ValueError(f"boxes[{k}]: {reason} in x1, y1, x2, y2 = {array[k].tolist()}")
    return array


def turn(boxes: ArrayLike, width: float, height: float, orientation: int) -> NDArray[np.float64]:
    """Turn boxes (K, 4) of a stored picture of width × height to the upright picture.

    Args:
        orientation: EXIF orientation of the file, 1 to 8 (CIPA DC-008): from 5 on the axes are
            exchanged.
    """
    x1, y1, x2, y2 = box_array(boxes).T
    if orientation in (2, 3, 7, 8):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):
        y1, y2 = height - y2, height - y1
    return np.stack([y1, x1, y2, x2] if orientation >= 5 else [x1, y1, x2, y2], axis=1)


def outside(boxes: ArrayLike, width: float, height: float) -> NDArray[np.bool_]:
    """Return which boxes (K,) share nothing with a picture of width × height."""
    x1, y1, x2, y2 = box_array(boxes).T
    beside: NDArray[np.bool_] = (x1 >= width) | ((x1 < 0) & (x2 <= 0))
    above: NDArray[np.bool_] = (y1 >= height) | ((y1 < 0) & (y2 <= 0))
    return beside | above


def patch_mask(
    boxes: ArrayLike, width: float, height: float, rows: int, cols: int
) -> NDArray[np.bool_]:
    """Return the patches that each box touches, (K, rows · cols), row-major.

    The first patch is floor(x1 / patch width), the last floor(x2 / patch width), both clipped to
    the grid; a patch is width / cols wide (the mapping of the published VLE code). So a box without
    area has one patch, and a box outside the picture the nearest ones. K may be 0.

    Args:
        boxes: (K, 4) or (K, 5), x1, y1, x2, y2 in pixels; a fifth column (the score) is ignored.
        width, height: of the picture that the grid of rows × cols patches covers.
    """
    if not (width > 0 and height > 0 and rows > 0 and cols > 0):
        raise ValueError(
            f"a picture of {width} × {height} pixels with {rows} × {cols} patches: all must be "
            "positive"
        )
    patch = np.array([width / cols, height / rows] * 2)
    end = np.array([cols, rows] * 2) - 1
    x1, y1, x2, y2 = np.clip(np.floor(box_array(boxes) / patch), 0, end).T[:, :, None]
    column, row = np.arange(cols), np.arange(rows)
    in_columns = (column >= x1) & (column <= x2)  # (K, cols)
    in_rows = (row >= y1) & (row <= y2)  # (K, rows)
    touched: NDArray[np.bool_] = np.logical_and(in_rows[:, :, None], in_columns[:, None, :])
    return touched.reshape(len(in_rows), rows * cols)
