"""Prompts with images and sounds: the target reads them, the draft reads them or the text around them."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from builders import PLAIN, speculated
from media import (
    AUDIO_TOKEN,
    IMAGE_TOKEN,
    text_draft,
    tiny_llava,
    tiny_qwen2_audio,
    tokenizer,
    write_picture,
    write_sound,
)
from specbench.plugins.cloud_baseline import CloudBaseline

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.errors import SpecbenchError
from specbench.models.media import Media, places_by_image, reader_of
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.speculation.sampling import Scorer
from specbench.testing import answer, tokens_of

# In float64 a wide pass and single steps agree to about 1e-15, so no tie can hide a bug.
DTYPE = "float64"
COUPLED = Options(Decoding(temperature=0.8), Speculative(verification="coupled"))
KINDS = {
    "image": (tiny_llava, write_picture, IMAGE_TOKEN),
    "audio": (tiny_qwen2_audio, write_sound, AUDIO_TOKEN),
}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    """A target that reads files of a kind, two drafts that do and do not, and two such files."""
    if kind == "image":
        pytest.importorskip("PIL")
    build, write, _ = KINDS[kind]
    folder = tmp_path_factory.mktemp(kind)
    build(folder / "target")
    build(folder / "near", shaken=0.05)
    text_draft(folder / "text")
    for seed in (1, 2):
        write(folder / f"file{seed}", seed)
    return folder


@pytest.fixture(scope="module")
def cloud(folder):
    return CloudModel(CloudSpec(model=str(folder / "target"), device="cpu", dtype=DTYPE))


def edge_of(folder, name):
    return EdgeModel(EdgeSpec(model=str(folder / name), dtype=DTYPE))


def asked(folder, kind, files=(1,), drafted=False, seed=7):
    """A request that shows these files, each before a question."""
    data = [(kind, (folder / f"file{number}").read_bytes()) for number in files]
    said = tokenizer()
    content = [{"type": kind}, {"type": "text", "text": "what is this?"}]
    text = said.apply_chat_template(
        [{"role": "user", "content": content}] * len(files), add_generation_prompt=True, tokenize=False
    )
    reader = reader_of(folder / "target")
    ids = reader.tokens(text, data)
    media = Media.of(reader, data, drafted)
    return Request(tuple(ids), 24, frozenset(), seed, media=media)


def alone(cloud, request, options=PLAIN):
    target = cloud.target(options)
    rounds = [target.begin(request)]
    if rounds[0].finish_reason is None:
        rounds += target.decode()
    return [token for part in rounds for token in part.tokens]


def test_the_target_says_what_transformers_says_of_the_same_file(folder, kind, cloud):
    request = asked(folder, kind, files=(1, 2))
    ours = alone(cloud, request)
    model = cloud.engine.loaded.model
    shown = reader_of(folder / "target").inputs(request.media, request.prompt_ids)
    ids = torch.tensor([request.prompt_ids])
    for token in ours:  # each by a pass over all of it, without a cache and with the model's own positions
        files = {
            name: part.to(torch.float64) if part.is_floating_point() else part for name, part in shown.items()
        }
        row = model(input_ids=ids, use_cache=False, **files).logits[0, -1]
        row[list(request.media.placeholder_ids)] = -torch.inf
        assert int(row.argmax()) == token
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)


def test_another_file_has_another_answer(folder, kind, cloud):
    first, second = asked(folder, kind), asked(folder, kind, files=(2,))
    assert first.prompt_ids == second.prompt_ids
    assert alone(cloud, first) != alone(cloud, second)


@pytest.mark.parametrize("options", [PLAIN, COUPLED], ids=["greedy", "coupled"])
@pytest.mark.parametrize("drafted", [False, True], ids=["text alone", "the file too"])
def test_every_draft_leads_to_the_controls_text(folder, kind, cloud, options, drafted):
    request = asked(folder, kind, files=(1, 2), drafted=drafted)
    edge = edge_of(folder, "near" if drafted else "text")
    assert speculated(edge, cloud.verifier(options), options, request) == alone(cloud, request, options)


def test_generate_says_the_same(folder, kind, cloud):
    request = asked(folder, kind)
    rounds = answer(CloudBaseline().open(None, cloud, PLAIN), request)
    assert list(tokens_of(rounds)) == alone(cloud, request)


@pytest.mark.slow
def test_a_draft_that_reads_the_file_agrees_more_often_than_on_the_text_alone(folder, kind, cloud):
    edge, target = edge_of(folder, "near"), cloud.verifier(COUPLED)

    def accepted(drafted):
        found = 0
        for seed in range(6):
            request, drafter = asked(folder, kind, drafted=drafted, seed=seed), edge.drafter(COUPLED)
            drafter.begin(request)
            drafter.commit(target.begin(request).tokens, 0)
            found += target.verify(drafter.propose(4)).accepted
        return found

    assert accepted(drafted=True) > accepted(drafted=False)


def test_a_draft_of_text_reads_no_placeholder_and_draws_with_the_targets_noise(folder, kind):
    request = asked(folder, kind)
    read = request.as_read_by("edge")
    assert read.media is None
    assert not request.media.placeholder_ids & set(read.prompt_ids)
    assert len(read.prompt_ids) + read.left_out == len(request.prompt_ids)
    logits = torch.randn(1, 96)
    theirs = Scorer.of(COUPLED, replace(request, media=None)).compared(logits, len(request.prompt_ids))
    assert torch.equal(Scorer.of(COUPLED, read).compared(logits, len(read.prompt_ids)), theirs)
    assert request.as_read_by("cloud") is request


def test_an_answer_holds_no_placeholder(folder, kind, cloud):
    said = [alone(cloud, asked(folder, kind, seed=seed), COUPLED) for seed in range(3)]
    assert not {KINDS[kind][2]} & {token for answer in said for token in answer}


def test_a_rollback_keeps_the_file_and_does_not_end_within_it(folder, kind, cloud):
    request = asked(folder, kind)
    session = cloud.engine.session()
    session.show(request.media)
    session.prefill(request.prompt_ids)
    end = request.media.end_in(request.prompt_ids)
    wanted = session.extend([5, 6, 7])
    with pytest.raises(ValueError, match="stands for an image or a sound"):
        session.truncate(end - 1)
    session.truncate(end)
    again = session.extend([*request.prompt_ids[end:], 5, 6, 7])[-3:]
    assert torch.allclose(again, wanted, atol=1e-9)
    session.truncate(0)
    session.prefill(request.prompt_ids)  # from the begin, the file is read again
    assert torch.allclose(session.extend([5, 6, 7]), wanted, atol=1e-9)


def test_a_text_that_was_lost_is_taken_up_with_its_file(folder, kind, cloud):
    request = asked(folder, kind, files=(1, 2))
    whole, target = alone(cloud, request), cloud.target(PLAIN)
    target.resume(request, whole[:5], (0, 0, 0))
    assert [token for part in target.decode() for token in part.tokens] == whole[5:]


def test_a_step_reads_no_weights_of_what_reads_the_file(kind, cloud):
    model = cloud.engine.loaded.model
    tower = model.get_encoder(modality=kind)
    everything = sum(part.nbytes for part in model.parameters())
    table = model.get_input_embeddings().weight.nbytes  # one row of it
    assert tower is not model
    (projector,) = (part for name, part in model.named_modules() if name.endswith("multi_modal_projector"))
    unread = [*tower.parameters(), *projector.parameters()]
    assert cloud.engine.weight_bytes == everything - table - sum(part.nbytes for part in unread)


def test_a_prompt_with_other_placeholders_than_its_file_takes_is_refused(folder, kind, cloud):
    request = asked(folder, kind)
    (token,) = request.media.placeholder_ids
    cut = tuple(each for each in request.prompt_ids if each != token)
    for ids, there in ((cut, 0), ((*cut, token), 1), ((*request.prompt_ids, token), None)):
        with pytest.raises(SpecbenchError, match=f"the prompt has {'' if there is None else there}"):
            cloud.target(PLAIN).begin(replace(request, prompt_ids=ids))


def test_images_that_are_counted_by_rows_and_columns_are_refused(folder, kind, tmp_path):
    shutil.copytree(folder / "target", tmp_path / "target")
    described = json.loads((tmp_path / "target" / "config.json").read_text())
    described["text_config"]["rope_parameters"] |= {"mrope_section": [1, 1, 2]}
    (tmp_path / "target" / "config.json").write_text(json.dumps(described))
    reader = reader_of(tmp_path / "target")
    if kind == "audio":  # one behind the other all the same
        assert reader.placeholder_id(kind) == AUDIO_TOKEN
        return
    with pytest.raises(SpecbenchError, match="rows and columns"):
        Media.of(reader, [(kind, b"")])


def test_more_or_larger_files_than_a_prompt_shows_are_refused(folder, kind):
    for files in ([(kind, b"")] * 17, [(kind, bytes(8_000_000))] * 2):
        with pytest.raises(SpecbenchError, match="at most 16 of 15 MB are read"):
            Media.of(reader_of(folder / "target"), files)


def test_sounds_stand_one_behind_the_other_for_qwen_omni_too():
    """Its positions have rows and columns, and those of a sound are all alike."""
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    text = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    audio = {
        "encoder_layers": 1, "encoder_attention_heads": 2, "d_model": 32, "encoder_ffn_dim": 32,
        "output_dim": 32, "num_mel_bins": 16,
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    tokens = {"vision_start_token_id": 90, "audio_start_token_id": 91, "audio_token_id": AUDIO_TOKEN}
    config = Qwen2_5OmniThinkerConfig(text_config=text, audio_config=audio, vision_config=vision, **tokens)
    torch.manual_seed(1)
    model = Qwen2_5OmniThinkerForConditionalGeneration(config).double().eval()
    assert places_by_image(config)
    ids = torch.tensor([[5, 6, 91, *[AUDIO_TOKEN] * 12, 92, 7, 91, *[AUDIO_TOKEN] * 25, 92, 9, 10]])
    sounds = torch.arange(100) < torch.tensor([[50], [100]])
    shown = {"input_features": torch.randn(2, 16, 100).double(), "feature_attention_mask": sounds.long()}
    with torch.inference_mode():
        own = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **shown).logits
        plain = model(input_ids=ids, position_ids=torch.arange(ids.shape[1])[None], use_cache=False, **shown)
    assert torch.equal(own, plain.logits)
