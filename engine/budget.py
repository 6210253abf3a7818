"""How many bytes a base, its slots, its KV cache and a step take: arithmetic on shapes, no tensors and no torch.

The engine asks it how much KV fits, `hotseat plan` prints it. `Transformer.memory_bytes` counts the real tensors, and
tests hold the two against each other.
"""

from dataclasses import dataclass, replace
from math import isqrt, prod

from engine.config import CPU_ONLY, EngineConfig
from engine.errors import BudgetTooSmall
from engine.model.config import DENSE_OUTPUTS, FOUR_BIT_GROUP, ModelConfig, fused_kind, num_scratch_blocks
from engine.model.triton import CHUNK, COLUMNS, RANK_BLOCK, SPLITS

DEFAULT_KV_BYTES = 2 << 30
SHORTEST_CONTEXT = 256
"""Positions below which a context that nobody asked for is of no use to anybody."""
FP32 = INT32 = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes on the device, but for the counts and the host's cache."""

    linears: int
    embedding: int
    head: int
    """0 where the head is the embedding itself."""
    norms: int
    rotary: int
    slot: int
    """What one slot reserves, whatever is in it."""
    num_slots: int
    kv_block: int
    kv_blocks: int
    scratch_blocks: int
    """Beside those of sequences."""
    block_size: int
    max_context: int
    activations: int
    """Of a full step, estimated from above; and of a recorded one, which keeps its memory."""
    gathered: int
    """Keys and values of one layer, copied for the decoding rows of a step, for a full batch of longest contexts; on
    CUDA for one row that reads its prompt."""
    host_cache: int
    """Host memory for lowered adapters, at most."""
    given: int
    """What the operator gives; 0 where nothing was said."""

    @property
    def weights(self) -> int:
        return self.linears + self.embedding + self.head + self.norms + self.rotary

    @property
    def slots(self) -> int:
        return self.slot * self.num_slots

    @property
    def kv(self) -> int:
        return self.kv_block * (self.kv_blocks + self.scratch_blocks)

    @property
    def step(self) -> int:
        return self.activations + self.gathered

    @property
    def total(self) -> int:
        return self.weights + self.slots + self.kv + self.step

    @property
    def free(self) -> int:
        """Of what was given."""
        return self.given - self.total

    @property
    def kv_tokens(self) -> int:
        return self.kv_blocks * self.block_size

    @property
    def num_contexts(self) -> int:
        """Sequences of the longest context that the cache holds together."""
        return self.kv_blocks // blocks_for(self.max_context, self.block_size)


def fitted(config: EngineConfig, model: ModelConfig) -> EngineConfig:
    """The configuration with `max_context` and `kv_blocks` decided.

    Without a budget the KV cache gets DEFAULT_KV_BYTES, with one what it leaves; and never more than a full batch of
    full contexts. Raises BudgetTooSmall, and ValueError for KV blocks that hold less than one context.
    """
    context = min(config.max_context or _longest_context(config, model), model.max_positions)
    config = replace(config, max_context=context)
    per_context = blocks_for(context, config.block_size)
    if not config.kv_blocks:
        blocks = min(per_context * config.max_batch, _affordable_blocks(config, model))
        config = replace(config, kv_blocks=max(per_context, blocks))
    if config.kv_blocks < per_context:
        raise ValueError(f"{config.kv_blocks} KV blocks of {config.block_size} hold less than one context of {context}")
    budget = budget_of(config, model)
    if config.memory_bytes and budget.free < 0:
        raise BudgetTooSmall(
            config.memory_bytes,
            budget.total,
            {
                "weights": budget.weights,
                f"{budget.num_slots} slots": budget.slots,
                f"KV of {budget.kv_tokens} positions": budget.kv,
                "a step": budget.step,
            },
        )
    return config


def budget_of(config: EngineConfig, model: ModelConfig) -> Budget:
    """Of a configuration whose `max_context` and `kv_blocks` are decided."""
    item = _itemsize(config)
    layer = sum(
        _linear_bytes(shape, config.quantization, _is_native(config, model)) for shape in model.linear_shapes.values()
    )
    norms = model.num_layers * sum(model.norm_widths.values()) + model.hidden_size
    return Budget(
        linears=model.num_layers * layer,
        embedding=model.vocab_size * model.hidden_size * model.embedding_itemsize,
        head=_head_bytes(config, model),
        norms=norms * item,
        rotary=2 * model.max_positions * model.head_dim * FP32,
        slot=slot_bytes(config, model),
        num_slots=config.num_slots,
        kv_block=kv_block_bytes(config, model),
        kv_blocks=config.kv_blocks,
        scratch_blocks=num_scratch_blocks(config, model),
        block_size=config.block_size,
        max_context=config.max_context,
        activations=_activation_bytes(config, model, config.max_step_tokens) + _recorded_bytes(config, model),
        gathered=config.max_context * _gathered_bytes_per_position(config, model),
        host_cache=config.adapter_cache_bytes,
        given=config.memory_bytes,
    )


def slot_bytes(config: EngineConfig, model: ModelConfig) -> int:
    """A slot has room for the largest rank, a Kronecker factor and both diagonals on every linear layer."""
    shapes = model.linear_shapes.values()
    low_rank = sum(config.max_rank * (out + inner) for out, inner in shapes)
    small = sum(isqrt(out) * isqrt(inner) + out + inner for out, inner in shapes)
    # What a slot holds, as the GPU's kernels read it: three integers.
    sizes = 3 * INT32 * len(shapes) if fused_kind(config, model) == "triton" else 0
    prompt = config.max_virtual_tokens * model.hidden_size * _itemsize(config)
    parts = low_rank * low_rank_itemsize(config, model) + small * _itemsize(config) + sizes
    return model.num_layers * parts + prompt


def low_rank_itemsize(config: EngineConfig, model: ModelConfig) -> int:
    """Bytes of a value of A and B in a slot."""
    return 2 if _is_native(config, model) else _itemsize(config)


def kv_block_bytes(config: EngineConfig, model: ModelConfig) -> int:
    """Keys and values of a block's positions in all layers."""
    return config.block_size * model.num_layers * _kv_bytes_per_position(config, model)


def blocks_for(positions: int, block_size: int) -> int:
    return -(-positions // block_size)


def adapter_itemsize(quantization: str) -> int:
    """Bytes of a value of the activations and, without fused kernels, of slots and KV: fp32 around int8 and int4, else
    bf16."""
    return FP32 if quantization in (*CPU_ONLY, "fp32") else 2


def _itemsize(config: EngineConfig) -> int:
    return adapter_itemsize(config.quantization)


def _is_native(config: EngineConfig, model: ModelConfig) -> bool:
    return fused_kind(config, model) == "native"


def _linear_bytes(shape: tuple[int, int], quantization: str, fused: bool) -> int:
    """One linear layer as its kernel holds it."""
    values = prod(shape)
    if quantization == "int8":
        # A scale for each output channel, and a zero point (int64) or, fused, the sum that takes its place (int32).
        return values + shape[0] * (FP32 + (FP32 if fused else 8))
    if quantization == "int4":
        groups = shape[0] * -(-shape[1] // FOUR_BIT_GROUP)
        return groups * (FOUR_BIT_GROUP // 2 + 1) + shape[0] * FP32
    if quantization == "nf4":
        blocks = -(-values // 64)
        return -(-values // 2) + blocks + -(-blocks // 256) * FP32  # int8 scales, and theirs (Dettmers et al. 2023)
    return values * (FP32 if quantization == "fp32" else 2)


def _head_bytes(config: EngineConfig, model: ModelConfig) -> int:
    """A tied head of the embedding's own dtype is the embedding; NF4 leaves the head in bf16."""
    quantization = "bf16" if config.quantization == "nf4" else config.quantization
    is_dense = quantization not in CPU_ONLY
    if model.tied_embeddings and is_dense and _itemsize(config) == model.embedding_itemsize:
        return 0
    return _linear_bytes((model.vocab_size, model.hidden_size), quantization, _is_native(config, model))


def _kv_bytes_per_position(config: EngineConfig, model: ModelConfig) -> int:
    """Of one layer; int8 has a scale for each head."""
    if config.kv_dtype == "int8":
        return 2 * model.num_kv_heads * (model.head_dim + FP32)
    return 2 * model.num_kv_heads * model.head_dim * low_rank_itemsize(config, model)


def _gathered_bytes_per_position(config: EngineConfig, model: ModelConfig) -> int:
    """The fused kernels read the blocks in place; on a GPU only those of decoding rows."""
    kind = fused_kind(config, model)
    if kind == "native":
        return 0
    rows = 1 if kind == "triton" else config.max_batch
    if config.kv_dtype == "int8":
        return rows * 2 * model.num_kv_heads * model.head_dim * (_itemsize(config) + 1)
    return rows * _kv_bytes_per_position(config, model)


def _longest_context(config: EngineConfig, model: ModelConfig) -> int:
    """Positions of a sequence that may have the whole cache to itself, in whole blocks."""
    size = config.block_size
    if not config.memory_bytes:
        return max(DEFAULT_KV_BYTES // kv_block_bytes(config, model), 1) * size
    per_block = kv_block_bytes(config, model) + size * _gathered_bytes_per_position(config, model)
    left = config.memory_bytes - budget_of(replace(config, max_context=0, kv_blocks=0), model).total
    return max(left // per_block, blocks_for(SHORTEST_CONTEXT, size)) * size


def _affordable_blocks(config: EngineConfig, model: ModelConfig) -> int:
    left = DEFAULT_KV_BYTES
    if config.memory_bytes:
        left = config.memory_bytes - budget_of(replace(config, kv_blocks=0), model).total
    return max(left, 0) // kv_block_bytes(config, model)


def _recorded_bytes(config: EngineConfig, model: ModelConfig) -> int:
    """Recorded steps have a pool of their own, which is that of the largest, and share one result."""
    if fused_kind(config, model) != "triton":
        return 0
    return _activation_bytes(config, model, config.max_batch) + config.max_batch * model.vocab_size * FP32


def _adapter_bytes(config: EngineConfig, model: ModelConfig, tokens: int) -> int:
    """Beside the widest layer."""
    shapes, item = model.linear_shapes.values(), _itemsize(config)
    # The slots' factors side by side, and each token's products with them.
    rank = config.num_slots * config.max_rank
    plain = item * (rank * max(map(sum, shapes)) + 3 * tokens * rank)
    kind = fused_kind(config, model)
    if kind == "native":
        # Three layers at once; K's products with A are as wide as the layer at most, before K and after.
        return plain + tokens * FP32 * 3 * max(map(sum, shapes))
    if kind is None:
        return plain
    # Each token's scaled input, and its sums with A of as many experts as there are slots. Adapters that the kernels
    # have no room for take the plain way beside that.
    inner = max(inner for _, inner in shapes)
    sums = -(-inner // CHUNK) * -(-config.max_rank // RANK_BLOCK) * COLUMNS * RANK_BLOCK
    return plain + tokens * (item * inner + FP32 * config.num_slots * sums)


def _activation_bytes(config: EngineConfig, model: ModelConfig, tokens: int) -> int:
    """The widest moments of a layer, of the adapters beside it and of the head, as if they came together.

    They do not, but an allocator that keeps what it once had in pieces makes up for that.
    """
    item, shapes = _itemsize(config), model.linear_shapes.values()
    dequantized = item * max(map(prod, shapes)) if config.quantization == "nf4" else 0
    if config.quantization == "int4" and not _is_native(config, model):
        # Codes, as bytes and as indices, levels and weights of a part of a layer's outputs.
        dequantized = DENSE_OUTPUTS * max(inner for _, inner in shapes) * (1 + INT32 + 2 * FP32)
    adapters = _adapter_bytes(config, model, tokens)
    logits = config.max_batch * model.vocab_size * (item + FP32)
    mask = tokens * min(config.max_context or model.max_positions, model.max_positions)
    return tokens * _block_bytes(config, model) + dequantized + adapters + logits + mask


def _block_bytes(config: EngineConfig, model: ModelConfig) -> int:
    """Of one token at the widest moment of a layer, without adapters."""
    item, hidden, inner = _itemsize(config), model.hidden_size, model.intermediate_size
    query, key = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    if _is_native(config, model):
        # In the kernels' own memory a layer's input as fp32, rounded in two terms, and these packed with their groups'
        # sums: once for each layer that scales it, of which up to three have the hidden values as their input.
        rounded = 2 + 3
        own = max(hidden * (FP32 + 3 * rounded), max(inner, query) * (FP32 + rounded))
        return FP32 * (2 * hidden + model.block_room) + own
    # Residual, normed input and its fp32 form; then query, key, value and output, with the rotation in fp32.
    attention = item * (3 * hidden + 3 * query + 3 * key) + FP32 * (2 * hidden + 2 * query)
    # Residual, normed input and output; then gate, up and what becomes of them.
    mlp = item * (4 * hidden + 4 * inner) + FP32 * 2 * hidden
    if config.quantization in CPU_ONLY:
        mlp += FP32 * 4 * inner  # the rows before, during and after rounding
    if fused_kind(config, model) == "triton":
        # The parts of each context in paged attention.
        attention += FP32 * SPLITS * model.num_heads * (model.head_dim + 2)
    return max(attention, mlp)


def slots_that_fit(config: EngineConfig, model: ModelConfig, memory_bytes: int, slot: int | None = None) -> int:
    """Slots beside the weights, a step and the KV of one sequence of `max_context`; 0 where not even those fit.

    `slot` is the size of one in bytes, as reserved unless told otherwise.
    """
    alone = replace(config, kv_blocks=blocks_for(config.max_context, config.block_size), num_slots=1)
    one, two = budget_of(alone, model), budget_of(replace(alone, num_slots=2), model)
    each = two.total - one.total  # a slot and what a step needs for it
    rest = memory_bytes - (one.total - each)
    return max(rest // (each if slot is None else each - one.slot + slot), 0)
