"""What a profile may say of a vLLM cloud; everything else is refused before anything is reached."""

import pytest

from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import load_profile

VLLM = ("cloud.backend=vllm", "cloud.placement=http://127.0.0.1:8000")


def test_a_vllm_cloud_is_elsewhere_and_may_have_a_key_and_a_real_link():
    profile = load_profile("default", [*VLLM, "cloud.token_file=key", "link.kind=real"])
    assert profile.cloud.is_elsewhere
    assert load_profile("default").cloud.backend == "transformers"
    assert load_profile("default", [*VLLM, "decoding.ignore_eos=true"]).decoding.ignore_eos


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (VLLM[:1], "placement in_process is not where a vLLM server listens: http://host:port"),
        (["cloud.backend=vllm", "cloud.placement=ws://a:1"], "placement ws://a:1 is not where a vLLM server"),
        (VLLM[1:], "backend is transformers, and placement http://127.0.0.1:8000 is for backend: vllm"),
        ([*VLLM, "cloud.placement=http://a:99999"], "port 99999"),
        ([*VLLM, "cloud.placement=http://a:80/v1"], "is not a placement"),
        ([*VLLM, "decoding.temperature=0.7"], "vllm is greedy alone; decoding.temperature is 0.7"),
        ([*VLLM, "decoding.repetition_penalty=1.2"], "decoding.repetition_penalty is 1.2, and must be 1.0"),
        ([*VLLM, "decoding.presence_penalty=1"], "decoding.presence_penalty is 1.0, and must be 0.0"),
        ([*VLLM, "decoding.stop=END"], "decoding.stop is ('END',), and must be empty"),
        ([*VLLM, "decoding.min_new_tokens=3"], "decoding.min_new_tokens is 3, and must be 0"),
        ([*VLLM, "speculative.verification=coupled"], "verification is coupled, and must be greedy"),
        ([*VLLM, "speculative.gate={measure: entropy, threshold: 1}"], "gate is entropy, and must be null"),
        ([*VLLM, "cloud.layers=2"], "layers is the vLLM server's own"),
        ([*VLLM, "cloud.threads=2"], "threads is the vLLM server's own"),
        ([*VLLM, "cloud.parallel={tensor: 2}"], "parallel is the vLLM server's own"),
        ([*VLLM, "cloud.batch={sessions: 4}"], "batch is for 'specbench serve'"),
        ([*VLLM, "cloud.on_cloud_loss=wait"], "on_cloud_loss: wait is for a cloud of 'specbench serve'"),
        ([*VLLM, "link.rtt_ms=20"], "vllm has a real link, which is measured"),
    ],
)
def test_what_a_vllm_server_cannot_do_is_refused(overrides, message):
    with pytest.raises(SpecbenchError) as caught:
        load_profile("default", overrides)
    assert message in caught.value.message
    assert caught.value.exit_code == ExitCode.PROFILE


def test_specbench_serves_no_vllm_profile(specbench):
    done = specbench("serve", *[word for setting in VLLM for word in ("--set", setting)])
    assert done.code == ExitCode.USAGE
    assert "a server of its own" in done.err
