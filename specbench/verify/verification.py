"""One verification: what is asked, in which order, and what follows from it."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from specbench.errors import SpecbenchError
from specbench.results.records import Prompt
from specbench.servers.answers import Completion
from specbench.servers.base import HttpServer, Server
from specbench.verify import acceptance, conclusion, distribution, identity, prompts, sanity, speed
from specbench.verify.load import load
from specbench.verify.prompts import Asked
from specbench.verify.records import Result, Settings

logger = logging.getLogger(__name__)
STEADY_PROMPTS, STEADY_TIMES = 4, 3


class Verification:
    """Judges a server against a reference, or against itself.

    Args:
        reference: `None` holds the server against itself.
    """

    def __init__(
        self,
        server: Server,
        reference: Server | None,
        questions: Sequence[Prompt],
        settings: Settings,
    ) -> None:
        self._server, self._reference, self._other = server, reference or server, reference
        self._alone = reference is None
        self._questions, self._settings = questions, settings
        now = datetime.now(timezone.utc)
        self.result = Result(
            f"{now:%Y%m%d-%H%M%S-%f}",
            now.isoformat(timespec="seconds"),
            server.facts,
            reference.facts if reference else None,
            {**asdict(settings), "prompts": len(questions)},
        )

    def run(self) -> Result:
        """Ask and judge all; what was found before a server was lost is in `result`, and why it ended."""
        try:
            self._judge()
        except SpecbenchError as error:
            self.result.stopped = error.message
            raise
        except KeyboardInterrupt:
            self.result.stopped = "interrupted"
            raise
        finally:
            self.result.statement = conclusion.statement(self.result)
        return self.result

    def _judge(self) -> None:
        found = self.result
        asked, found.compared, templates = prompts.asked_as(
            self._questions, self._server, self._reference, self._settings.max_new_tokens
        )
        found.faults += templates
        logger.info("repeating %s prompts to see what varies by itself", min(len(asked), STEADY_PROMPTS))
        self._look_whether_steady(asked)
        if found.compared != prompts.TEXT:
            found.noise = identity.noise_of(self._reference, [each.question for each in asked])
            if found.noise is not None and found.noise > identity.LARGEST_NOISE:
                found.faults.append(
                    f"log-probabilities of {self._reference.url} move by {found.noise:.2g} between decoding "
                    "and reading a text anew, which rounding does not explain: nothing can be proven by them"
                )
        counters = self._counters()
        rows = self._identity(asked)
        timed = self._other if self._other and self._other.is_timed else None
        found.speeds += speed.speeds(self._server, timed, rows)
        self._acceptance(rows, counters)
        self._load(rows)
        pairs = [
            (0 if isinstance(each.question.prompt, str) else len(each.question.prompt), theirs, ours)
            for each, theirs, ours in rows
        ]
        faults, warnings = sanity.oddities(self._server, self._reference, pairs)
        found.faults += faults
        found.warnings += warnings
        if self._settings.samples:
            logger.info("drawing %s samples behind each of a few prefixes", self._settings.samples)
            shifts, notes = distribution.shifts(self._server, self._other, rows, self._settings)
            found.shifts += shifts
            found.warnings += notes
        self._note_retries()

    def _identity(self, asked: Sequence[Asked]) -> list[tuple[Asked, Completion, Completion]]:
        """Ask every prompt of both, in a seeded order, and judge each pair at once."""
        judge = identity.Judge(self._server, self._reference, self.result.noise)
        rows = []
        order = random.Random(self._settings.seed)
        asked = order.sample(list(asked), len(asked))
        earlier = {each.prompt_id: self._server.stream(each.question) for each in asked if self._alone}
        for number, each in enumerate(order.sample(asked, len(asked)) if self._alone else asked, start=1):
            if self._alone:
                theirs, ours = earlier[each.prompt_id], self._server.stream(each.question)
            elif order.random() < 0.5:
                theirs = self._reference.stream(each.question)
                ours = self._server.stream(each.question)
            else:
                ours = self._server.stream(each.question)
                theirs = self._reference.stream(each.question)
            rows.append((each, theirs, ours))
            verdict = judge.verdict(each, theirs, ours)
            self.result.verdicts.append(verdict)
            self._note_retries()
            logger.info("%s/%s %s: %s", number, len(asked), each.prompt_id, verdict.verdict)
        return rows

    def _look_whether_steady(self, asked: Sequence[Asked]) -> None:
        few = list(asked[:STEADY_PROMPTS])
        for server in dict.fromkeys((self._reference, self._server)):
            answers: dict[str, list[Completion]] = {each.prompt_id: [] for each in few}
            for time in range(STEADY_TIMES):
                for each in random.Random(f"{self._settings.seed}/{time}").sample(few, len(few)):
                    answers[each.prompt_id].append(server.stream(each.question))
            self.result.steadiness.append(identity.steadiness(server, list(answers.values())))

    def _acceptance(
        self, rows: Sequence[tuple[Asked, Completion, Completion]], before: dict[Server, dict[str, int]]
    ) -> None:
        after = self._counters()
        sides = {self._server: [ours for _, _, ours in rows]}
        if not self._alone:
            sides[self._reference] = [theirs for _, theirs, _ in rows]
        for server, answers in sides.items():
            counted = None
            if server in after:
                counted = {name: count - before[server].get(name, 0) for name, count in after[server].items()}
            found = acceptance.acceptance(server, answers, counted)
            if found:
                self.result.acceptance.append(found)

    def _load(self, rows: Sequence[tuple[Asked, Completion, Completion]]) -> None:
        """Both servers with several requests under way, one server after the other."""
        count = self._settings.concurrency
        sides = [(self._server, [(asked, ours) for asked, _, ours in rows])]
        if not self._alone:
            sides.insert(0, (self._reference, [(asked, theirs) for asked, theirs, _ in rows]))
        for server, alone in sides if count > 1 else ():
            if isinstance(server, HttpServer):
                logger.info("asking %s with %s requests at a time", server.url, count)
                self.result.loads.append(load(server, alone, count))

    def _counters(self) -> dict[Server, dict[str, int]]:
        """Of the servers that count all requests together."""
        found = {each: each.counters() for each in (self._server, self._reference)}
        return {each: counted for each, counted in found.items() if counted is not None}

    def _note_retries(self) -> None:
        servers = {each.url: each.retries for each in (self._server, self._reference)}
        self.result.retries = {url: count for url, count in servers.items() if count}
