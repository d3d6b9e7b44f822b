"""Profiles: what is merged, what is refused, and how the refusal reads."""

import typing
from pathlib import Path

import pytest

from specbench.errors import ExitCode, SpecbenchError
from specbench.forecast.over import parse_over
from specbench.profile import Profile, list_profiles, load_profile
from specbench.profile.part import Part
from specbench.profile.yaml_text import as_page, as_text, parse_value, read_mapping

PAIR = "edge: {model: ./a}\ncloud: {model: ./b}\n"


def choices(part):
    """Every key of a profile that takes one of several words, with each word."""
    for name, field in part.model_fields.items():
        for kind in (field.annotation, *typing.get_args(field.annotation)):
            if typing.get_origin(kind) is typing.Literal:
                yield from ((name, choice) for choice in typing.get_args(kind))
            elif isinstance(kind, type) and issubclass(kind, Part):
                yield from choices(kind)


@pytest.fixture
def write(tmp_path):
    def write(text, name="p.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize("name", list_profiles())
def test_every_shipped_profile_is_valid_and_float32_on_both_sides(name):
    profile = load_profile(name)
    assert (profile.edge.dtype, profile.cloud.dtype) == ("float32", "float32")
    # A quantised edge differs from its cloud on purpose, and must say so.
    assert profile.precision.parity == ("per_role" if profile.edge.quantization else "edge_cloud")


def test_memory_optimized_changes_memory_and_never_precision():
    default, lean = load_profile("default"), load_profile("memory_optimized")
    assert (lean.edge.dtype, lean.cloud.dtype, lean.precision) == (
        default.edge.dtype,
        default.cloud.dtype,
        default.precision,
    )
    assert lean.cloud.device_map == "auto"
    assert lean.cloud.offload_folder
    assert lean.workload.max_new_tokens < default.workload.max_new_tokens


def test_float32_is_the_default_where_the_profile_says_nothing(write):
    profile = load_profile(write(PAIR))
    assert (profile.edge.dtype, profile.cloud.dtype) == ("float32", "float32")


def test_a_draft_length_may_be_left_to_the_run(write):
    assert load_profile(write(PAIR), ["speculative.draft_length=auto"]).speculative.draft_length == "auto"


def test_extends_merges_key_by_key(write):
    write(PAIR + "workload: {limit: 5, seed: 9}\n", "base.yaml")
    profile = load_profile(write("extends: ./base.yaml\nworkload: {limit: 7}\n"))
    assert (profile.workload.limit, profile.workload.seed) == (7, 9)


def test_extends_in_a_circle_is_an_error(write):
    write("extends: ./b.yaml\n", "a.yaml")
    write("extends: ./a.yaml\n", "b.yaml")
    with pytest.raises(SpecbenchError, match=r"circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load_profile(write("extends: ./a.yaml\n"))


def test_set_overrides_one_key_and_reads_yaml(write):
    profile = load_profile(write(PAIR), ["cloud.dtype=bfloat16", "workload.limit=null"])
    assert profile.cloud.dtype == "bfloat16"
    assert profile.workload.limit is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "is a list, not a mapping"),
        ("", "is empty, not a mapping"),
        ("edge:\n\tmodel: a\n", "cannot start any token"),
        (PAIR + "edge: {model: c}\n", "key 'edge' appears twice"),
        ("a: &a [x, x]\nb: &b [*a, *a]\n", r"alias '\*a' is not allowed"),
        ("? [1, 2]\n: 3\n", "is not a name"),
        ("[" * 5000, "nested too deeply|not valid YAML"),
        (b"\xff\xfe", "is not UTF-8"),
        ("edge: {model: a}\n", "cloud: this key is needed and absent"),
        (PAIR + "clowd: {}\n", "clowd: there is no such key"),
        (PAIR + "decoding: {temperature: .nan}\n", r"decoding\.temperature: nan is refused"),
        ("edge: {model: a, dtype: float33}\ncloud: {model: b}\n", r"edge\.dtype: 'float33' is not one of"),
        ("edge: {model: a, device: tpu}\ncloud: {model: b}\n", r"edge\.device: 'tpu' is not a device"),
        (PAIR + "speculative: {draft_length: 0}\n", r"speculative\.draft_length: 0 is refused"),
        (
            PAIR + "speculative: {draft_length: '4'}\n",
            r"draft_length: '4' is refused: input should be a valid int",
        ),
        (PAIR + "speculative: {draft_length: 65}\n", r"draft_length: 65 is refused: .* from 1 to 64, or auto"),
        (PAIR + "speculative: {draft_length: true}\n", r"draft_length: True is refused"),
        (PAIR + "speculative: {draft_length: later}\n", r"draft_length: 'later' is refused: .* or auto"),
        (PAIR + "workload: {max_new_tokens: -5}\n", r"workload\.max_new_tokens: -5 is refused"),
        (PAIR + "workload: 12\n", r"workload: 12 is refused"),
        (PAIR + "decoding: {top_p: 0.5}\n", "no effect at temperature 0"),
        (PAIR + "decoding: {logit_bias: {'1': 2, 1: -3}}\n", "token 1 has two biases, 2 and -3"),
        (PAIR + "decoding: {logit_bias: {'1': 2, '01': 2}}\n", "token 1 has two biases"),
        ("edge: {model: a, threads: 1}\ncloud: {model: b, threads: 2}\n", "threads are shared"),
        ("edge: {model: a}\ncloud: {model: b, offload_folder: x}\n", "offload_folder needs a device_map"),
        ("edge: {model: a}\ncloud: {model: b, device_map: auto, device: cpu}\n", "both say where"),
        (
            "edge: {model: a}\ncloud: {model: b, parallel: {tensor: 2}, batch: {sessions: 4}}\n",
            "batch shares the passes of one process, and parallel splits them",
        ),
        ("extends: [a]\n", "extends is"),
        ("extends: nowhere\n", "there is no profile 'nowhere'"),
        ("extends: ./nowhere.yaml\n", "does not exist"),
    ],
)
def test_a_bad_profile_is_refused_in_one_sentence(write, text, message):
    with pytest.raises(SpecbenchError, match=message) as caught:
        load_profile(write(text))
    assert caught.value.exit_code == ExitCode.PROFILE
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("edge: {model: a, dtype: float33}\ncloud: {model: b}\n", "did you mean 'float32'?"),
        (PAIR + "workload: {limits: 3}\n", "did you mean 'limit'?"),
        (PAIR + "speculativ: {}\n", "did you mean 'speculative'?"),
    ],
)
def test_the_nearest_valid_name_is_offered(write, text, hint):
    with pytest.raises(SpecbenchError) as caught:
        load_profile(write(text))
    assert caught.value.hint == hint


def test_an_unknown_profile_name_offers_the_nearest():
    with pytest.raises(SpecbenchError, match="no profile 'defualt'") as caught:
        load_profile("defualt")
    assert caught.value.hint == "did you mean 'default'?"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cloud.dtpe=float16", r"no key 'cloud\.dtpe'"),
        ("nonsense", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("cloud.dtype=[1", "is not a YAML value"),
    ],
)
def test_a_bad_override_is_a_usage_error(write, override, message):
    with pytest.raises(SpecbenchError, match=message) as caught:
        load_profile(write(PAIR), [override])
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("cloud.quantization", "did you mean 'edge.quantization'?"),
        ("draft_length", "did you mean 'speculative.draft_length'?"),
        ("dtype", "did you mean 'edge.dtype' or 'cloud.dtype'?"),
        ("cloud.dtpe", "did you mean 'cloud.dtype'?"),
        (
            "workload.concurrency",
            "an edge answers one request at a time; 'specbench load --edges 4' measures several",
        ),
    ],
)
def test_a_key_that_is_not_there_offers_the_one_that_has_its_name(write, key, hint):
    with pytest.raises(SpecbenchError, match="no key") as caught:
        load_profile(write(PAIR), [f"{key}=int8"])
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("address", "reason"),
    [("ws://cloud:0", "port 0"), ("ws://cloud:65536", "port 65536"), ("wss://a..b:80", "a..b is no name"),
     ("ws://[1::2::3]:80", "1::2::3")],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused(write, address, reason):
    with pytest.raises(SpecbenchError, match="placement") as refused:
        load_profile(write(PAIR), [f"cloud.placement={address}"])
    assert reason in refused.value.message
    assert load_profile(write(PAIR), ["cloud.placement=ws://[::1]:65535"]).cloud.is_elsewhere


@pytest.mark.parametrize(
    "value",
    [
        *(0.00001, 1e300, "1e-05", "1e-3", "0o17", "010", "null", "off", "a: b", "...", "1:30", None, True),
        *([1, "2"], {"0": "x\ny", "off": "1e5"}),
    ],
)
def test_what_is_written_down_is_read_back_as_it_was(value):
    for text in (as_text(value), as_page({"value": value}).removeprefix("value:")):
        assert parse_value(text) == value
        assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1", -1), ("010", 10), ("0o17", 15),
     ("0x1F", 31), ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"), ("=", "="),
     ("2026-01-02", "2026-01-02"),
     ("off", "off"), ("on", "on"), ("no", "no"), ("Yes", "Yes"), ("True", True), ("~", None), ("", None)],
)  # fmt: skip
def test_values_are_read_as_yaml_1_2_in_files_and_in_options(write, text, value):
    found = [parse_value(text), parse_over([f"k=[{text}]"])["k"][0][0] if text else None]
    found.append(read_mapping(Path(write(f"k: {text}\n")))["k"])
    assert found == [value] * 3
    assert {type(each) for each in found} == {type(value)}


@pytest.mark.parametrize(("key", "choice"), list(choices(Profile)))
def test_every_choice_of_every_key_can_be_typed_without_quotes(write, key, choice):
    text = choice if isinstance(choice, str) else str(choice).lower()
    assert parse_value(text) == choice
    assert read_mapping(Path(write(f"{key}: {text}\n"))) == {key: choice}
    assert parse_over([f"{key}={text}"]) == {key: [choice]}


def test_parity_off_is_a_setting_and_is_read_back_from_what_is_shown(write, specbench):
    assert load_profile(write(PAIR), ["precision.parity=off"]).precision.parity == "off"
    path = write(PAIR + "precision: {parity: off}\ndecoding: {temperature: 1e-3}\n")
    shown = specbench("profiles", "show", path)
    assert load_profile(write(shown.out, "shown.yaml")) == load_profile(path)


@pytest.mark.parametrize(
    ("override", "hint"),
    [("precision.allow_tf32=off", "write true or false"), ("edge.revision=12e7", "needs quotes")],
)
def test_a_value_that_is_read_as_another_kind_says_how_to_write_it(write, override, hint):
    with pytest.raises(SpecbenchError, match="is refused") as caught:
        load_profile(write(PAIR), [override])
    assert hint in caught.value.hint


def test_every_key_that_is_refused_is_named(write):
    with pytest.raises(SpecbenchError, match=r"is not one of .* \(also refused: link\.rtt, link\.delay\)$"):
        load_profile(write("edge: {model: a}\ncloud: {model: b, dtype: x}\nlink: {rtt: 1, delay: 2}\n"))
