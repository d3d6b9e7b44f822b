"""What drafting, passes, the link and the edge itself take, as a loop has measured them."""

from __future__ import annotations

from bisect import bisect_left

from specbench.results.records import Round

NEWEST = 0.1  # weight of the newest time once there are some: machines and links change
WIDTH_SHARE = 0.05  # what one more token adds to a pass, as a share of a plain one, before it was seen ...
WIDTH_WEIGHT = 0.25  # ... weighing as much as so many tokens by which seen widths differ
WIDEST = 66
WIDE = 16  # tokens of a pass from which on it says what a tree takes ...
TREES = 3  # ... unless so many trees have led to no such pass


class Mean:
    """A mean that follows what it is the mean of."""

    def __init__(self) -> None:
        self.value, self.count = 0.0, 0

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, value: float) -> None:
        """One more."""
        self.count += 1
        self.value += max(NEWEST, 1 / self.count) * (value - self.value)


class Measured:
    """Costs of machines. They say nothing of a text, so a loop keeps them from one prompt to the next.

    Attributes:
        busy_step: milliseconds of a draft step while the target computes; `idle_step` while it waits. They
            differ where both share a machine.
        tree_node: of a node of a drafted tree, beside a step for each of its depths.
        own: of the edge for a proposal, beside drafting.
        alone: of a token that the target decodes alone, while the edge waits.
    """

    def __init__(self) -> None:
        self.busy_step, self.idle_step, self.own, self.alone = Mean(), Mean(), Mean(), Mean()
        self.tree_node = Mean()
        self._passes: tuple[dict[int, Mean], dict[int, Mean]] = {}, {}
        self._tables: dict[bool, list[float]] = {}

    def spend(self, draft_ms: float, steps: int, is_busy: bool) -> None:
        """What drafting so many tokens took."""
        if steps:
            (self.busy_step if is_busy else self.idle_step).add(draft_ms / steps)

    def spend_on_tree(self, draft_ms: float, depth: int, nodes: int, is_busy: bool) -> None:
        """What drafting a tree took."""
        if nodes:
            self.tree_node.add(max(0.0, draft_ms - depth * self.step_ms[is_busy]) / nodes)

    def tree_ms(self, depth: int, nodes: int, is_busy: bool) -> float:
        """What drafting a tree takes; a node as little as a token of a wider pass until one was drafted."""
        step_ms = self.step_ms[is_busy]
        return depth * step_ms + nodes * (self.tree_node.value if self.tree_node else WIDTH_SHARE * step_ms)

    def observe(self, part: Round, is_busy: bool) -> None:
        """What a pass took, beside the edge's drafting or not; one that others share is told of once."""
        width = part.pass_tokens if part.pass_tokens is not None else (part.drafted or 0) + 1
        if not width or part.verify_ms is None:
            return
        self._passes[is_busy].setdefault(min(width, WIDEST), Mean()).add(part.verify_ms)
        self._tables.clear()

    @property
    def asks_for_tree(self) -> bool:
        """Whether what a tree takes is unknown, so that one has to be drafted and read."""
        widest = max((width for known in self._passes for width in known), default=0)
        return not self.tree_node or (widest < WIDE and self.tree_node.count < TREES)

    @property
    def knows(self) -> bool:
        """Whether there is enough to choose by."""
        return any(self._passes) and bool(self.busy_step or self.idle_step)

    @property
    def step_ms(self) -> tuple[float, float]:
        """A draft step while the target waits, and while it computes."""
        idle, busy = self.idle_step or self.busy_step, self.busy_step or self.idle_step
        return idle.value, max(busy.value, idle.value)

    def alone_ms(self, is_busy: bool = False) -> float:
        """A token of the target alone, beside the edge's drafting or not; a plain pass until such were seen."""
        plain_ms = self.pass_ms(False)[1]
        alone_ms = self.alone.value or plain_ms
        return alone_ms + max(0.0, self.pass_ms(True)[1] - plain_ms) if is_busy else alone_ms

    def pass_ms(self, is_busy: bool) -> list[float]:
        """By width, milliseconds of a pass: as seen, between on a line, beyond by what tokens have added."""
        if is_busy not in self._tables:
            known = self._passes[is_busy] or self._passes[not is_busy]
            widths = sorted(known)
            times = [known[width].value for width in widths]
            self._tables[is_busy] = [0.0] + [_between(widths, times, width) for width in range(1, WIDEST + 1)]
        return self._tables[is_busy]


def _between(widths: list[int], known: list[float], width: int) -> float:
    at = bisect_left(widths, width)
    if at < len(widths) and widths[at] == width:
        return known[at]
    if 0 < at < len(widths):
        share = (width - widths[at - 1]) / (widths[at] - widths[at - 1])
        return known[at - 1] + share * (known[at] - known[at - 1])
    end = 0 if at == 0 else -1
    plain_ms = known[0] / (1 + WIDTH_SHARE * (widths[0] - 1))
    more_ms = max(0.0, known[-1] - known[0]) + WIDTH_WEIGHT * WIDTH_SHARE * plain_ms
    # Times that rise steeply would lead to less than nothing for a narrow pass.
    return max(plain_ms, known[end] + (width - widths[end]) * more_ms / (widths[-1] - widths[0] + WIDTH_WEIGHT))
