"""Packed documents against each alone through Transformers' own eager attention, for every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from weft.errors import ModelError
from weft.losses.nll import linear_nll
from weft.models.attention.documents import NAME, attention
from weft.models.load import enable_checkpointing, load_model, register_attention
from weft.models.objective import Objective, self_test

EXACT = (
    "llama",
    "llama-tied",
    "qwen2",
    "qwen3",
    "mistral-sliding",
    "gpt2",
    "gpt-neox",
    "starcoder2",
    "gemma",
    "granite",
    "phi3",
)
REFUSED = ("gemma2", "bloom")
"""Gemma 2 caps its logits behind the head; Bloom ignores attention that is not its own."""
LENGTHS = {
    "uneven": [1, 7, 13, 2, 8],
    "even, within the window": [5, 5, 5],
    "even, beyond the window": [9, 9],
    "one": [11],
    "ones": [1, 1, 1],
}

_SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
OTHERS: dict[str, Callable[[], Any]] = {
    "gpt-oss": lambda: transformers.GptOssConfig(
        **_SMALL,
        head_dim=8,
        sliding_window=6,
        num_local_experts=2,
        num_experts_per_tok=1,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "gemma2 without a capped head": lambda: transformers.Gemma2Config(
        **_SMALL, head_dim=8, sliding_window=6, final_logit_softcapping=None, attn_logit_softcapping=5.0
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_SMALL, head_dim=8, sliding_window=6),
    "cohere": lambda: transformers.CohereConfig(**_SMALL, logit_scale=0.25),
    "olmo2": lambda: transformers.Olmo2Config(**_SMALL),
    "phi": lambda: transformers.PhiConfig(**_SMALL),  # its head has a bias
    "opt": lambda: transformers.OPTConfig(
        vocab_size=50, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
        max_position_embeddings=64, dropout=0.0, pad_token_id=0, bos_token_id=None, eos_token_id=1,
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4),
}  # fmt: skip


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("model")
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(OTHERS[kind]())
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(0, 0.2 if parameter.ndim > 1 else 0.5)
            model.save_pretrained(made[kind])
        return made[kind]

    return make


@pytest.fixture(scope="session")
def folder_of(model_folder: Callable[[str], Path], other_folder: Callable[[str], Path]) -> Callable[[str], Path]:
    return lambda kind: other_folder(kind) if kind in OTHERS else model_folder(kind)


def objective_of(folder: Path) -> Objective:
    model = load_model(str(folder), torch.float32, torch.device("cpu"), register_attention("auto"))
    return Objective(model, linear_nll).eval()


def ids_of(number: int, seed: int = 0) -> Tensor:
    return torch.randint(2, 50, (number,), generator=torch.Generator().manual_seed(seed))


def packed(objective: Objective, documents: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The loss (every token's coefficient is 1) and each document's nll, all in one row; as training does it."""
    lengths = [len(document) for document in documents]
    trained, labels, start = [], [], 0
    for document in documents:
        trained += range(start, start + len(document) - 1)
        labels.append(document[1:])
        start += len(document)
    loss, nll, _ = objective(
        torch.cat(documents),
        torch.cat([torch.arange(length) for length in lengths]),
        lengths,
        torch.tensor(trained, dtype=torch.long),
        torch.cat(labels),
        torch.ones(len(trained)),
    )
    return loss, list(nll.split([length - 1 for length in lengths]))


def alone(folder: Path, documents: list[Tensor]) -> tuple[Tensor, list[Tensor], Any]:
    """The reference: the model as Transformers loads it, eager attention, full logits, one document at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    found = [
        cross_entropy(model(input_ids=d[None], use_cache=False).logits[0, :-1].float(), d[1:], reduction="none")
        for d in documents
    ]
    return torch.cat(found).sum(), found, model


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    "kind", [*EXACT, "gpt-oss", "gemma2 without a capped head", "gemma3", "cohere", "olmo2", "phi"]
)
def test_packed_documents_have_the_losses_of_each_alone(
    folder_of: Callable[[str], Path], kind: str, lengths: str
) -> None:
    documents = list(ids_of(sum(LENGTHS[lengths])).split(LENGTHS[lengths]))
    with torch.no_grad():
        _, found = packed(objective_of(folder_of(kind)), documents)
        _, expected, _ = alone(folder_of(kind), documents)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*EXACT, "gpt-oss", "gemma2", "gemma2 without a capped head", "gemma3"])
def test_packed_documents_have_the_hidden_states_of_each_alone(folder_of: Callable[[str], Path], kind: str) -> None:
    lengths = LENGTHS["uneven"]
    documents = list(ids_of(sum(lengths)).split(lengths))
    positions = torch.cat([torch.arange(length) for length in lengths])
    with torch.no_grad():
        found = objective_of(folder_of(kind)).hidden(torch.cat(documents), positions, lengths).split(lengths)
        _, _, model = alone(folder_of(kind), documents)
        for a, document in zip(found, documents, strict=True):
            b = model.get_decoder()(input_ids=document[None], use_cache=False).last_hidden_state[0]
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*EXACT, "gpt-oss", "gemma3"])
def test_changing_a_document_leaves_the_others_alone(folder_of: Callable[[str], Path], kind: str) -> None:
    """FAULTS.md 46."""
    objective = objective_of(folder_of(kind))
    for lengths in ([7, 13, 4], [8, 8, 8]):
        documents = list(ids_of(sum(lengths)).split(lengths))
        for changed in range(3):
            others = [ids_of(len(d), 9) if i == changed else d for i, d in enumerate(documents)]
            with torch.no_grad():
                _, before = packed(objective, documents)
                _, after = packed(objective, others)
            for i in range(3):
                difference = (before[i] - after[i]).abs().max().item()
                assert difference > 1e-3 if i == changed else difference <= 1e-6


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", EXACT)
def test_gradients_are_those_of_each_alone(folder_of: Callable[[str], Path], kind: str, recompute: bool) -> None:
    documents = list(ids_of(31).split(LENGTHS["uneven"]))
    objective = objective_of(folder_of(kind))
    if recompute:
        enable_checkpointing(objective.model)
        objective.train()
    loss, _ = packed(objective, documents)
    loss.backward()
    expected_loss, _, model = alone(folder_of(kind), documents)
    expected_loss.backward()
    found = {name: p.grad for name, p in objective.model.named_parameters()}
    expected = {name: p.grad for name, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max() + 1), msg=name
        )


@pytest.mark.parametrize("kind", [*EXACT, "gpt-oss", "cohere", "phi"])
def test_an_exact_kind_passes_its_self_test(folder_of: Callable[[str], Path], kind: str) -> None:
    objective = objective_of(folder_of(kind))
    self_test(objective, NAME, tolerance=1e-4)
    assert objective.model.config._attn_implementation == NAME, "what was set stays set"
    assert not objective.training


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_can_not_be_exact_is_refused(folder_of: Callable[[str], Path], kind: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.base: {kind}: "):
        self_test(objective_of(folder_of(kind)), NAME, tolerance=2e-3)


def test_a_kind_whose_attention_can_not_be_exchanged_is_refused(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="falcon.* attention of their own that can't be exchanged"):
        objective_of(folder_of("falcon"))


def test_a_model_in_training_mode_stays_in_it(
    folder_of: Callable[[str], Path],
) -> None:
    objective = objective_of(folder_of("llama")).train()
    self_test(objective, NAME, tolerance=1e-4)
    assert objective.training


# the function itself


def by_the_book(
    q: Tensor, k: Tensor, v: Tensor, lengths: list[int], window: int | None, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """Every pair of tokens by itself, in double precision."""
    q, k, v = q[0].double(), k[0].double(), v[0].double()
    heads, total, width = q.shape
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    out = torch.zeros(total, heads, width, dtype=torch.float64)
    for head in range(heads):
        mine = head // (heads // len(k))
        for i in range(total):
            seen = [j for j in range(i + 1) if document[j] == document[i] and (window is None or i - j < window)]
            scores = k[mine, seen] @ q[head, i] / width**0.5
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            if sinks is not None:
                scores = torch.cat([scores, sinks[head : head + 1].double()])
            out[i, head] = scores.softmax(0)[: len(seen)] @ v[mine, seen]
    return out.float()


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 1, 6])
@pytest.mark.parametrize(("softcap", "with_sinks"), [(None, False), (2.0, False), (None, True), (2.0, True)])
def test_attention_is_that_of_the_book(
    lengths: list[int], kv_heads: int, window: int | None, softcap: float | None, with_sinks: bool
) -> None:
    torch.manual_seed(0)
    total = sum(lengths)
    q, k, v = (torch.randn(1, heads, total, 8) for heads in (4, kv_heads, kv_heads))
    sinks = torch.randn(4) if with_sinks else None
    found, weights = attention(
        torch.nn.Module(), q, k, v, None, sliding_window=window, softcap=softcap, s_aux=sinks, document_lengths=lengths
    )
    assert weights is None
    assert found.shape == (1, total, 4, 8)
    torch.testing.assert_close(found[0], by_the_book(q, k, v, lengths, window, softcap, sinks), rtol=1e-5, atol=1e-5)


def test_a_scale_of_ones_own_is_used() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 8) for _ in range(3))
    for lengths in ([5], [2, 3]):
        for softcap in (None, 1e6):
            found, _ = attention(torch.nn.Module(), q, k, v, None, 0.7, softcap=softcap, document_lengths=lengths)
            expected = by_the_book(q * 0.7 * 8**0.5, k, v, lengths, None, None, None)
            torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)


def test_a_call_without_lengths_or_with_a_mask_is_refused() -> None:
    q = torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match="document_lengths"):
        attention(torch.nn.Module(), q, q, q, None)
    with pytest.raises(ValueError, match="no attention mask"):
        attention(torch.nn.Module(), q, q, q, torch.ones(1, 4), document_lengths=[4])


def test_lengths_that_do_not_add_up_are_refused() -> None:
    q = torch.randn(1, 2, 4, 8)
    for lengths in ([2, 3], [3, 3], [1, 2]):
        with pytest.raises(ValueError, match=f"add up to {sum(lengths)}, but the row has 4"):
            attention(torch.nn.Module(), q, q, q, None, document_lengths=lengths)
