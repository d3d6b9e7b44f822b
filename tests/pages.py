"""A run whose every name and text is markup, and a reader of pages."""

from dataclasses import replace
from html.parser import HTMLParser

from comparisons import PROFILE, pair, run

from specbench.results.records import Ceiling, Divergence

EVIL = """</script><script>alert("1")</script><img src=x onerror='boom()'>&amp;"""


def evil_run():
    """Every word that a stranger can choose holds markup: method, prompt, category, model, text, command."""
    method, records = f"m{EVIL}", []
    for record in pair(12, 1.4, 0.05, method=f"m{EVIL}"):
        rounds = tuple(
            replace(part, draft_ms=2.0, verify_ms=5.0, drafted=2, accepted=1) for part in record.rounds
        )
        ours = record.method == method
        records.append(
            replace(record, prompt_id=f"p{record.prompt_id}{EVIL}", category=f"c{EVIL}", peak_rss_bytes=10**9,
                    text=f"same {EVIL}{'mine' if ours else 'theirs'}\x00\ud800",
                    rounds=rounds if ours else record.rounds, verification="greedy" if ours else None)
        )  # fmt: skip
    first = records[1]
    records[1] = replace(first, rounds=(*first.rounds[:-1], replace(first.rounds[-1], tokens=(99,))))
    proof = Divergence(method, first.prompt_id, 0, 0, 8, (8, 99), 0.1, 0.1, 0.2, 3, "tie")
    profile = {**PROFILE, "cloud": {"dtype": "float32", "model": f"hub/{EVIL}"}, "link": {"trace": EVIL}}
    return run(
        records, profile=profile, profile_name=f"profile{EVIL}", command=("run", EVIL), divergences=(proof,),
        turns={first.prompt_id: (f"what is {EVIL}?",)}, machine={"cpu": f"Xeon{EVIL}", "memory_bytes": 10**9},
        versions={"torch": EVIL}, ceilings={"cloud": Ceiling(10**8, 10**10)},
    )  # fmt: skip


class Tags(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data
