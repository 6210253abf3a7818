"""The base model: the Qwen3 dense family, quantized, with room for adapters in every linear layer."""
