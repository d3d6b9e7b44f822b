"""Feed both frame decoders with random and damaged messages: `python tests/perf/fuzz_frames.py [N]`.

Prints how many were read and how many refused; any exception but ProtocolError ends it with a traceback.
"""

import random
import sys

from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.fields import ProtocolError

FRAMES = [
    protocol.Hello(1, protocol.VERSION, "a" * 64),
    protocol.Open(2, 1, {}, {"draft_length": 4}, True),
    protocol.Begin(3, 1, tuple(range(40)), 12, (1,), 2**62, None, None),
    protocol.Resume(3, 1, (5, 6, 7), 12, (1,), 5, ("regex", "[0-9]+", "1.9.1"), None, (8, 9), 3, 4),
    protocol.Verify(4, 1, (5, 6), (b"123456", b"abcdef")),
    protocol.Prove(4, 1, (5,), 9, (), 3, None, None, (6,), ((None, (6,), False), (4, (7, 8), True)), (7, 9)),
    protocol.Recompute(4, 1, (5,), 9, (), 3, None, None, (6, 7)),
    protocol.Close(9),
    answers.Refused(3, "no", True),
    answers.Committed(4, (5, 6), 1, 0, 100, 200, 12, 0, 0),
]


def message(rng: random.Random) -> bytes:
    """Random bytes, or a frame with some of its bytes changed, dropped, doubled or cut off."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(80))
    data = bytearray(protocol.encode(rng.choice(FRAMES)))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        data[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    return bytes(data if rng.random() < 0.8 else data[: rng.randrange(len(data) + 1)])


def main() -> None:
    """Run it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rng, read, refused = random.Random(0), 0, 0
    for _ in range(count):
        data = message(rng)
        for decode in (protocol.decode_up, protocol.decode_down):
            try:
                decode(data)
                read += 1
            except ProtocolError:
                refused += 1
    print(f"{count} messages through two decoders: {read} frames read, {refused} refused, nothing else")


if __name__ == "__main__":
    main()
