"""A real target at the end of the longest link, or of none: how much there is time to draft ahead."""

from specbench.cloud import LocalCloud


class Unhurried:
    """A real verification, whose verdict is not there before somebody waits for it: the longest round trip."""

    is_done = False

    def __init__(self, target, proposal):
        self.result = lambda: target.verify(proposal)


class Hurried:
    """A real verification, whose verdict is there as soon as it was asked for: no time to draft ahead."""

    is_done = True

    def __init__(self, target, proposal):
        commit = target.verify(proposal)
        self.result = lambda: commit


class Far:
    """A real target at the end of a link that takes as long as the draft needs, or no time."""

    def __init__(self, target, pending, rtt_ms):
        self._target, self._pending, self.rtt_ms = target, pending, rtt_ms

    def __getattr__(self, name):
        return getattr(self._target, name)

    def submit(self, proposal):
        return self._pending(self._target, proposal)


class FarCloud(LocalCloud):
    """A cloud whose verifier stands at the end of such a link."""

    pending, rtt_ms = Unhurried, 1e9

    def verifier(self, *asked):
        return Far(super().verifier(*asked), self.pending, self.rtt_ms)
