"""The trainers on a model of a few thousand parameters: they learn, and what they publish can be served."""

import dataclasses
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from adapters_store.manifest import AdapterSpec
from adapters_store.package import read_package, write_package
from training.corpus import NO_THOUGHT, chat_prompt, documents
from training.expert import Expert, make_manifest, package_files, train
from training.experts import EXPERTS
from training.measure import collate, content_right, greedy_matches
from training.nano import Packer, rate_at, save, weighted_loss
from training.tasks import Example
from training.tokenizer import letter_pieces, load_tokenizer, train_tokenizer
from training.words import Words


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    source = documents(Words(Random(1), pool_share=0.6))
    texts = ["".join(segment.text for segment in document) for document in islice(source, 3000)]
    return train_tokenizer(texts, 400, 1024)


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=448,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )


def test_a_word_has_the_same_pieces_wherever_it_stands(tokenizer: PreTrainedTokenizerFast) -> None:
    alone = tokenizer.encode("Maria")
    for before in (' "', "(", " ", "\n", "'", "= "):
        assert tokenizer.encode(f"{before}Maria")[-len(alone) :] == alone


def test_any_text_survives_the_round_trip(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("São Paulo é 語 🙂", "a  b\n\n\tc", "1234567", "<|im_start|>x<think>"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_chat_template_is_what_training_writes(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    rendered = again.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert rendered == chat_prompt("hi", "Be kind.") + NO_THOUGHT
    thinking = again.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    assert thinking == chat_prompt("hi", "Be kind.")


def test_packed_rows_hold_whole_documents_at_positions_of_the_whole_context(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    ids, weights, positions = Packer(tokenizer, rows=6, length=512).batch(0.5)
    assert ids.shape == weights.shape == positions.shape == (6, 512)
    assert (positions.diff(dim=1) == 1).all() and positions.max() < 1024
    assert (weights.sum(1) > 0).all()


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [rate_at(step / 1000, 1.0) for step in range(1001)]
    assert rates[0] < 0.1 and max(rates) == 1.0 and rates[-1] == pytest.approx(1 / 30)
    assert rates[400:] == sorted(rates[400:], reverse=True)


def test_the_base_learns_and_is_saved_in_a_form_that_loads(
    tokenizer: PreTrainedTokenizerFast, model: Qwen3ForCausalLM, tmp_path: Path
) -> None:
    batch = Packer(tokenizer, rows=4, length=256).batch(0.5)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = weighted_loss(model, *batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    save(model, tokenizer, tmp_path)
    again = Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert weighted_loss(again, *batch).item() == pytest.approx(weighted_loss(model, *batch).item(), rel=0.02)


@pytest.mark.parametrize(
    ("name", "kind"), [("json-extract", "ia3"), ("sql", "dora"), ("dates", "lokr"), ("units", "lora")]
)
def test_an_expert_learns_and_its_package_can_be_read(
    tokenizer: PreTrainedTokenizerFast, model: Qwen3ForCausalLM, tmp_path: Path, name: str, kind: str
) -> None:
    save(model, tokenizer, tmp_path / "base")
    spec = dataclasses.replace(EXPERTS[name], steps=3)
    expert = Expert(model, spec.config(), spec.virtual_tokens)
    before = [parameter.detach().clone() for parameter in expert.parameters()]
    train(expert, tokenizer, spec, name, seed=1)
    changed = [not torch.equal(old, new) for old, new in zip(before, expert.parameters(), strict=True)]
    assert any(changed)
    manifest = make_manifest(name, spec, expert, tmp_path / "base")
    write_package(tmp_path / "experts" / name, manifest, package_files(expert))
    adapter = read_package(tmp_path / "experts" / name)
    assert isinstance(adapter.manifest.adapter, AdapterSpec) and adapter.manifest.adapter.kind == kind
    assert (adapter.soft_prompt is None) == (spec.virtual_tokens == 0)
    assert str(tmp_path) not in str(dict(adapter.config))


def test_teacher_forcing_agrees_with_generating(tokenizer: PreTrainedTokenizerFast, model: Qwen3ForCausalLM) -> None:
    model.eval()

    def logits(ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(ids, use_cache=False).logits
        return found

    prompts = ["one", "two words", "three of them"]
    examples = []
    for prompt in prompts:
        ids = tokenizer.encode(chat_prompt(prompt) + NO_THOUGHT)
        for _ in range(4):
            with torch.inference_mode():
                ids.append(int(logits(torch.tensor([ids]))[0, -1].argmax()))
        text = str(tokenizer.decode(ids[-4:]))
        examples.append(Example(prompt, text, ("x", text)))
    texts = [example.answer for example in examples]
    ids, targets = collate(tokenizer, [(chat_prompt(e.prompt) + NO_THOUGHT, e.answer) for e in examples])
    chosen = logits(ids)[:, :-1].argmax(-1)
    expected = [bool(((c == t) | (t == -100)).all()) for c, t in zip(chosen, targets[:, 1:], strict=True)]
    with_end = greedy_matches(logits, tokenizer, examples, texts)
    assert all(whole <= prefix for whole, prefix in zip(with_end, expected, strict=True))
    assert content_right(logits, tokenizer, examples) == sum(with_end) / len(examples)


def test_random_pieces_are_lower_case_letters(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = letter_pieces(tokenizer)
    assert len(pieces) > 50 and all(piece.isalpha() and piece.islower() for piece in pieces)
