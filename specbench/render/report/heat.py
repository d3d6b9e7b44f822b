"""The heat maps of a grid as charts: which method wins where, and how fast each one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log2

from specbench.forecast.grid import Row, best, winner
from specbench.render.forecasts import ALONE, UNDECIDED, cell_text, drafting, where
from specbench.render.modelled import choice_figure, chosen_by, label, method_name, other_objectives
from specbench.render.report.inks import WIDE_PX, Ink, alt, legend_of, of_methods
from specbench.render.report.marks import Drawing, data, layered, side_by_side, titled
from specbench.results.records import CONTROL

FULL = 2.0  # speed-ups from here on, and slow-downs down to its inverse, have the full colour
TILE_PX = 46
TILE_LETTER_PX = 6.2
ASIDE_PX = 110  # of a panel, for the names of its rows
DEEPEST = 0.6  # opacity of the full colour under a text
MOST_ACROSS = 4  # tiles, where two panels stand beside each other
# From by-method rows of one condition: whose colour, how deep it is, and what is written on it.
Tile = Callable[[dict[str, Row]], tuple[str, float, str]]


def map_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """The maps of these rows; none where nothing was varied."""
    if not rows or not rows[0].condition:
        return []
    methods, looks = looks_in(rows)

    def fastest(found: dict[str, Row]) -> tuple[str, float, str]:
        row = winner(found)
        if row is None:
            return UNDECIDED, 0.0, "?"
        return (ALONE, DEEPEST, "") if row.method == CONTROL else (row.method, DEEPEST, cell_text(row))

    colors = {ALONE: looks[CONTROL][0], **{method: looks[method][0] for method in methods}}
    drawings = [_tiles("winner", "Where each method wins", rows, fastest, colors, legend=True)]
    for objective in other_objectives(rows):
        title = f"The {objective} method ({label(rows)})"
        tile = _least_of(objective, rows)
        drawings.append(
            _tiles(objective, title, rows, tile, colors, legend=True, label=f"{objective}, {label(rows)}")
        )
    shades = {"faster": "faster", "slower": "slower"}
    for method in methods:
        title = f"{method}: speed per token against the cloud alone"
        drawings.append(_tiles(method, title, rows, _shade_of(method), shades, legend=False))
    return drawings


def facets(rows: Sequence[Row]) -> Iterator[tuple[str, list[str], dict[tuple, dict[str, Row]]]]:
    """For each value of all keys but the first two: its name, the two keys, and methods by their values."""
    keys = list(rows[0].condition)
    facets: dict[tuple, dict[tuple, dict[str, Row]]] = {}
    for by_method in best(rows):
        values = [str(value) for value in next(iter(by_method.values())).condition.values()]
        facets.setdefault(tuple(values[2:]), {})[tuple(values[:2])] = by_method
    for others, found in facets.items():
        yield where(dict(zip(keys[2:], others, strict=True))), keys[:2], found


def looks_in(rows: Sequence[Row]) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """The methods that draft, and the look of each and of the control."""
    methods = drafting(rows)
    return methods, of_methods([CONTROL, *methods], CONTROL)


def _least_of(objective: str, rows: Sequence[Row]) -> Tile:
    """The best by energy or money under each condition, which need not be the fastest draft length."""
    chosen = chosen_by(rows, objective)

    def least(by_method: dict[str, Row]) -> tuple[str, float, str]:
        choice = chosen(by_method)
        if choice is None:
            return UNDECIDED, 0.0, "?"
        return method_name(choice), DEEPEST, choice_figure(choice, objective)

    return least


def _shade_of(method: str) -> Tile:
    def shade(found: dict[str, Row]) -> tuple[str, float, str]:
        row = found.get(method)
        if row is None or row.is_open or not row.competes or row.speedup <= 0:
            return "faster", 0.0, cell_text(row)
        depth = min(1.0, abs(log2(row.speedup)) / log2(FULL)) * DEEPEST
        return ("faster" if row.speedup > 1 else "slower"), depth, cell_text(row)

    return shade


def _tiles(
    name: str, title: str, rows: Sequence[Row], tile: Tile, colors: dict[str, str], legend: bool,
    label: str = "",
) -> Drawing:  # fmt: skip
    """A tile a condition: the first key goes down, the second across; a panel for each value of the others.

    Args:
        label: stands above each panel, before its values.
    """
    parts = [
        (", ".join(filter(None, (label, heading))), keys, _places(keys, found, tile))
        for heading, keys, found in facets(rows)
    ]
    told = "; ".join(f"{place['where']}: {place['label']}" for _, _, places in parts for place in places)

    def draw(ink: Ink, width: int) -> alt.ConcatChart:
        scale = alt.Scale(domain=list(colors), range=[ink[color] for color in colors.values()])
        shown = legend_of(width, opacity=DEEPEST) if legend else None
        charts = {}
        widest = max(len({place["across"] for place in places}) for _, _, places in parts)
        columns = 2 if len(parts) > 1 and width >= WIDE_PX and widest <= MOST_ACROSS else 1
        for heading, keys, places in parts:
            across = list(dict.fromkeys(place["across"] for place in places))
            fits = (width / columns - ASIDE_PX) / max(1, len(across)) / TILE_LETTER_PX
            base = alt.Chart(
                data([{**place, "text": _fitting(place["text"], fits), "figures": None} for place in places])
            )
            x = alt.X("across:N", sort=across, title=titled(keys[1], width) if keys[1:] else None,
                      axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False))  # fmt: skip
            down = list(dict.fromkeys(place["down"] for place in places))
            y = alt.Y("down:N", sort=down, title=keys[0], axis=alt.Axis(ticks=False, domain=False))
            color = alt.Color("whose:N", scale=scale, legend=shown, title=None)
            square = base.mark_rect(stroke=ink["grid"], strokeWidth=1).encode(
                x=x, y=y, color=color, description="label:N",
                fillOpacity=alt.FillOpacity("depth:Q", scale=None),
            )  # fmt: skip
            text = base.mark_text(color=ink["ink"], fontSize=11, lineBreak="\n", baseline="middle").encode(
                x=x, y=y, text="text:N"
            )
            charts[heading] = layered(square, text).properties(height=TILE_PX * len(down))
        return side_by_side(charts, ink, width, columns, aside=ASIDE_PX)

    return Drawing(name, title, told, draw, tuple(place["figures"] for _, _, each in parts for place in each))


def _places(keys: list[str], found: dict[tuple, dict[str, Row]], tile: Tile) -> list[dict]:
    places = []
    for values, by_method in found.items():
        whose, depth, text = tile(by_method)
        place = where(dict(zip(keys, values, strict=True)))
        down, across = (*values, "")[:2]
        figures = {**next(iter(by_method.values())).condition, "shown": whose, "value": text.replace("\n", " ")}
        places.append({"down": down, "across": across, "whose": whose, "depth": depth, "text": text,
                       "where": place, "label": f"{whose} {text}".strip(), "figures": figures})  # fmt: skip
    return places


def _fitting(text: str, letters: float) -> str:
    """A speed-up and its draft length, in two lines where one has no room."""
    return text if len(text) <= letters else text.replace(" at ", "\nat ")
