"""What a method is told of the profile."""

from __future__ import annotations

from dataclasses import dataclass

from specbench.config.profile import Decoding, Profile, Speculative


@dataclass(frozen=True)
class Options:
    """What the profile says about how to decode."""

    decoding: Decoding
    speculative: Speculative

    @classmethod
    def of(cls, profile: Profile) -> Options:
        """The options of a profile."""
        return cls(decoding=profile.decoding, speculative=profile.speculative)
