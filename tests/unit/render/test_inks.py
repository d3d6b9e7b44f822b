"""Colours: one for each method on every page, and each seen on its ground."""

import pytest
from comparisons import CONTROL

from specbench.render.report import inks


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(left, right):
    high, low = sorted((luminance(left), luminance(right)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [inks.LIGHT, inks.DARK], ids=["light", "dark"])
def test_words_and_marks_stand_out_from_their_ground(scheme):
    """WCAG 2.2: 4.5 for words, 3 for what a chart is made of."""
    for ground in ("paper", "band"):
        assert all(
            contrast(scheme[name], scheme[ground]) >= 4.5 for name in ("ink", "muted", "accent", "good", "bad")
        )
    marks = [
        name
        for name in scheme
        if name.startswith(("series", "step")) or name in ("control", "faster", "slower")
    ]
    assert {
        name: contrast(scheme[name], scheme["paper"])
        for name in marks
        if contrast(scheme[name], scheme["paper"]) < 3
    } == {}


def test_a_method_has_the_same_colour_whatever_stands_beside_it():
    alone = inks.of_methods([CONTROL, "prompt_lookup", "mine"], CONTROL)
    among = inks.of_methods(["speculative", "mine", "suffix", "prompt_lookup", CONTROL, "other"], CONTROL)
    assert {name: among[name] for name in alone} == alone
    assert len({inks.of_methods([name], CONTROL)[name][0] for name in inks.OWN}) == inks.SERIES
    rows = inks.of_methods(["m@r1", "m@r2"], CONTROL)
    assert rows["m@r1"][0] == inks.of_methods(["m"], CONTROL)["m"][0] != rows["m@r2"][0]
    assert {
        look for look, _ in inks.of_methods(["cloud_baseline", f"{CONTROL}@r1"], f"{CONTROL}@r1").values()
    } == {"control"}


def test_a_quantity_goes_from_light_to_dark_and_its_ends_have_the_ends_of_the_scale():
    names = [str(value) for value in range(inks.STEPS)]
    assert [color for color, _ in inks.of_steps(names).values()] == [
        f"step{index}" for index in range(inks.STEPS)
    ]
    assert inks.of_steps(["only"])["only"][0] == "step0"


def test_methods_keep_apart_by_colour_or_shape_however_many_there_are():
    names = [CONTROL, *(f"m{index}" for index in range(30))]
    looks = inks.of_methods(names, CONTROL)
    assert len(set(looks.values())) == len(looks) == len(names)
    assert looks[CONTROL][0] == "control"
