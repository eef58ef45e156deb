"""Flow colors against the Middlebury wheel (Baker et al., 2011), written down from its definition."""

import numpy as np
import pytest

from hf_usod.data.video import color_flow

# Hues from red over yellow, green, cyan, blue and magenta back to red; so many steps each
STEPS = [
    (15, (255, 0, 0), (255, 255, 0)),
    (6, (255, 255, 0), (0, 255, 0)),
    (4, (0, 255, 0), (0, 255, 255)),
    (11, (0, 255, 255), (0, 0, 255)),
    (13, (0, 0, 255), (255, 0, 255)),
    (6, (255, 0, 255), (255, 0, 0)),
]


def wheel_color(right: float, down: float) -> np.ndarray:
    """The color of a motion of length 0 to 1: white at rest, and the hue of its direction at 1."""
    wheel = [
        np.array(start) + (np.array(end) - start) * step / count for count, start, end in STEPS for step in range(count)
    ]
    place = (np.arctan2(-down, -right) / np.pi + 1) / 2 * (len(wheel) - 1)
    below = int(place)
    hue = wheel[below] + (place - below) * (wheel[(below + 1) % len(wheel)] - wheel[below])
    return 255 - np.hypot(right, down) * (255 - hue)


@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_colors_are_the_wheels(degrees):
    direction = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    lengths = np.linspace(0, 1, 9)
    # So many of each that the longest are the 99th percentile, which is shown in full
    flow = (6 * lengths[:, None] * direction)[None].repeat(200, axis=0).astype(np.float32)
    expected = np.stack([wheel_color(*(length * direction)) for length in lengths])
    assert np.abs(color_flow(flow)[0] - expected).max() <= 2
