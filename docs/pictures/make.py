"""Make the README's pictures from a stored run: `python docs/pictures/make.py RUN`, after `specbench run`.

`run.svg` is what `specbench compare RUN` prints on a terminal of 80 columns, recorded by rich. `report.png` is
the first screen of the page that `specbench report RUN` writes, in chromium.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from specbench.cli import main
from specbench.render import console

HERE = Path(__file__).parent
COLUMNS = 80
SCREEN = "1280,900"
MOST_BYTES = 300_000


def record(run: str, command: str) -> str:
    """What the terminal shows of a run, as SVG without fonts of another host."""
    console.out = Console(record=True, width=COLUMNS, force_terminal=True, highlight=False, file=sys.stderr)
    try:
        sys.argv = ["specbench", "compare", run]
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    svg = console.out.export_svg(title=command, theme=DIMMED_MONOKAI)
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "monospace")


def photograph(run: str, picture: Path) -> None:
    """The first screen of a run's page, as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        subprocess.run(["specbench", "report", run, "--out", str(page)], check=True)
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={SCREEN}"]
        subprocess.run(["chromium", *options, f"--screenshot={picture}", page.as_uri()], check=True)
    if picture.stat().st_size > MOST_BYTES:
        sys.exit(f"{picture} has {picture.stat().st_size} bytes, and at most {MOST_BYTES} are wanted")


if __name__ == "__main__":
    asked = sys.argv[1]
    (HERE / "run.svg").write_text(record(asked, "specbench run speculative --profile default"))
    photograph(asked, HERE / "report.png")
