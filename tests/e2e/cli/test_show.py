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
