"""`specbench show`: an answer with its authors."""


def test_show_prints_an_answer_and_who_wrote_it(specbench, profile):
    run = specbench("run", "speculative", "--profile", profile(), "--limit", "2", "--max-new-tokens", "4",
                    "--set", "workload.prefill=Well")  # fmt: skip
    assert run.code == 0, run.err
    shown = specbench("show", "latest", "--method", "speculative")
    assert shown.out.startswith("speculative, prompt ")
    assert "4 tokens: " in shown.out
    found = specbench("show", "--json").json["answers"]
    assert {each["method"] for each in found} == {"speculative"}
    assert {(each["prefill"], each["score"]) for each in found} == {("Well", None)}
    assert [sum(len(piece["tokens"]) for piece in each["pieces"]) for each in found] == [4, 4]  # two turns
    missing = specbench("show", "latest", "--prompt", "nowhere")
    assert missing.code == 2
    assert "has no prompt nowhere" in missing.err


def test_show_lists_the_answers_that_are_wrong(specbench, profile, tmp_path):
    (tmp_path / "asked.jsonl").write_text(
        '{"question_id": 1, "category": "a", "turns": ["b"], "score": "contains", "answer": "nowhere"}\n'
        '{"question_id": 2, "category": "a", "turns": ["c"]}\n'
    )
    run = specbench("run", "speculative", "--only", "--profile", profile(), "--max-new-tokens", "3",
                    "--prompts", tmp_path / "asked.jsonl")  # fmt: skip
    assert run.code == 0, run.err
    shown = specbench("show", "--wrong")
    assert "1 answers are checked and not right" in shown.err
    assert "Score 0 (wrong): contains nowhere." in shown.out
    assert [each["prompt_id"] for each in specbench("show", "--wrong", "--json").json["answers"]] == ["1"]
    assert specbench("show", "--wrong", "--prompt", "1").code == 2
