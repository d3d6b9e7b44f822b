"""What a profile may say of a cloud on another engine; the rest is refused before anything is reached."""

import pytest

from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import load_profile

OPENAI = ("cloud.backend=openai", "cloud.placement=http://127.0.0.1:8000")


def test_a_cloud_of_another_engine_is_elsewhere_and_may_have_a_key_and_a_real_link():
    profile = load_profile("default", [*OPENAI, "cloud.token_file=key", "link.kind=real"])
    assert profile.cloud.is_elsewhere
    assert load_profile("default").cloud.backend == "transformers"
    assert load_profile("default", [*OPENAI, "decoding.ignore_eos=true"]).decoding.ignore_eos


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (OPENAI[:1], "placement in_process is not where such a server listens: http://host:port"),
        (["cloud.backend=openai", "cloud.placement=ws://a:1"], "placement ws://a:1 is not where such a server"),
        (OPENAI[1:], "backend is transformers, and placement http://127.0.0.1:8000 is for backend: openai"),
        ([*OPENAI, "cloud.placement=http://a:99999"], "port 99999"),
        ([*OPENAI, "cloud.placement=http://a:80/v1"], "is not a placement"),
        ([*OPENAI, "decoding.temperature=0.7"], "openai is greedy alone; decoding.temperature is 0.7"),
        ([*OPENAI, "decoding.repetition_penalty=1.2"], "decoding.repetition_penalty is 1.2, and must be 1.0"),
        ([*OPENAI, "decoding.presence_penalty=1"], "decoding.presence_penalty is 1.0, and must be 0.0"),
        ([*OPENAI, "decoding.stop=END"], "decoding.stop is ('END',), and must be empty"),
        ([*OPENAI, "decoding.min_new_tokens=3"], "decoding.min_new_tokens is 3, and must be 0"),
        ([*OPENAI, "speculative.verification=coupled"], "verification is coupled, and must be greedy"),
        ([*OPENAI, "speculative.gate={measure: entropy, threshold: 1}"], "gate is entropy, and must be null"),
        ([*OPENAI, "cloud.layers=2"], "layers is the server's own"),
        ([*OPENAI, "cloud.threads=2"], "threads is the server's own"),
        ([*OPENAI, "cloud.parallel={tensor: 2}"], "parallel is the server's own"),
        ([*OPENAI, "cloud.batch={sessions: 4}"], "batch is for 'specbench serve'"),
        ([*OPENAI, "cloud.on_cloud_loss=wait"], "on_cloud_loss: wait is for a cloud of 'specbench serve'"),
        ([*OPENAI, "link.rtt_ms=20"], "openai has a real link, which is measured"),
    ],
)
def test_what_such_a_server_cannot_do_is_refused(overrides, message):
    with pytest.raises(SpecbenchError) as caught:
        load_profile("default", overrides)
    assert message in caught.value.message
    assert caught.value.exit_code == ExitCode.PROFILE


def test_specbench_serves_no_such_profile(specbench):
    done = specbench("serve", *[word for setting in OPENAI for word in ("--set", setting)])
    assert done.code == ExitCode.USAGE
    assert "a server of its own" in done.err
