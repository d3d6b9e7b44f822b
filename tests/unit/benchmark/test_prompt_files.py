"""Files that a line of a prompts file names."""

import pytest

from specbench.benchmark.prompt_files import read_turns
from specbench.errors import SpecbenchError
from specbench.models.media import MOST_BYTES
from specbench.prompts.describing import describe
from specbench.results.records import Prompt


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a\0b.png", "turn 1: image is no path"),
        ("~\0/b.png", "turn 1: image is no path"),
        ("\ud83d.png", "turn 1: image is no path"),
        ("/dev/null", "image /dev/null is no regular file"),
        ("large.png", "large.png has more than the 15 MB"),
        ("gone.png", "gone.png cannot be read: No such file"),
    ],
)
def test_what_is_no_file_of_an_image_is_refused_with_its_line(tmp_path, path, message):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(SpecbenchError, match=r"^line 3: ") as refused:
        read_turns([{"image": path}], "line 3", "", tmp_path)
    assert message in refused.value.message


def test_prompts_without_text_are_repeated_only_where_they_show_the_same_file(tmp_path):
    prompts = []
    for number, data in enumerate((b"first", b"second", b"first")):
        (tmp_path / f"{number}.wav").write_bytes(data)
        turns, files = read_turns([{"audio": f"{number}.wav"}], "", "", tmp_path)
        prompts.append(Prompt(str(number), "speech", turns, files=files))
    assert describe(prompts[:2], None, len, "characters").repeated == 0
    assert describe(prompts, None, len, "characters").repeated == 1
